-- A number is found where it stands as a whole, in signalling as well: not where another, longer one holds its digits.
-- Erasing it would take away, and exporting it tell, what is somebody else's.

-- What a number looks like, given all its digits: as it is, or behind what is dialled before it at home and abroad.
-- What stands before it and is kept is \1\2 of the match.
CREATE FUNCTION tandem_number_pattern(of_digits text) RETURNS text
    LANGUAGE sql IMMUTABLE
    AS $$ SELECT '(^|[^0-9])(0|00|011)?' || of_digits || '(?![0-9])' $$;

CREATE OR REPLACE FUNCTION tandem_calls_of_number(of_tenant uuid, of_digits text) RETURNS SETOF uuid
    LANGUAGE sql STABLE SET search_path FROM CURRENT
    AS $$
    SELECT c.id FROM calls c
    WHERE c.tenant_id = of_tenant AND to_jsonb(c)::text ~ tandem_number_pattern(of_digits)
    UNION SELECT e.call_id FROM call_events e
    WHERE e.tenant_id = of_tenant AND e.detail::text ~ tandem_number_pattern(of_digits)
    UNION SELECT m.call_id FROM sip_messages m
    WHERE m.tenant_id = of_tenant AND encode(m.message, 'escape') ~ tandem_number_pattern(of_digits)
    $$;

-- As before, by the number as a whole.
CREATE OR REPLACE FUNCTION tandem_erase_said(of_tenant uuid, of_digits text) RETURNS bigint
    LANGUAGE plpgsql SET search_path FROM CURRENT
    AS $$
DECLARE
    ids   uuid[] := ARRAY(SELECT tandem_calls_of_number(of_tenant, of_digits));
    gone  bigint;
    total bigint := 0;
BEGIN
    DELETE FROM recordings WHERE tenant_id = of_tenant AND call_id = ANY (ids);
    GET DIAGNOSTICS gone = ROW_COUNT;
    total := total + gone;
    DELETE FROM transcripts WHERE tenant_id = of_tenant AND call_id = ANY (ids);
    GET DIAGNOSTICS gone = ROW_COUNT;
    total := total + gone;
    DELETE FROM call_news WHERE tenant_id = of_tenant AND call_id = ANY (ids);
    DELETE FROM idempotency_keys WHERE tenant_id = of_tenant AND key ~ tandem_number_pattern(of_digits);
    GET DIAGNOSTICS gone = ROW_COUNT;
    total := total + gone;
    UPDATE audit_log SET detail = tandem_without_said(detail)
        WHERE tenant_id = of_tenant AND subject = 'call' AND subject_id = ANY (ids)
            AND detail <> tandem_without_said(detail);
    GET DIAGNOSTICS gone = ROW_COUNT;
    -- The calls are named, the number is not.
    PERFORM pg_notify('tandem_erased', string_agg(chunk.id::text, ','))
    FROM unnest(ids) WITH ORDINALITY AS chunk (id, place) GROUP BY (chunk.place - 1) / 200;
    RETURN total + gone;
END
$$;

-- As before, by the number as a whole. In the number's own calls its digits go wherever they stand: a carrier may
-- write more before them.
CREATE OR REPLACE FUNCTION tandem_erase_number(of_tenant uuid, of_digits text) RETURNS bigint
    LANGUAGE plpgsql SET search_path FROM CURRENT
    AS $$
DECLARE
    pattern text := tandem_number_pattern(of_digits);
    ending  text := of_digits || '(?![0-9])';
    -- Nines are a text and a number alike: what was JSON stays it.
    nines   text := repeat('9', length(of_digits));
    ids     uuid[] := ARRAY(SELECT tandem_calls_of_number(of_tenant, of_digits));
    place   record;
    gone    bigint;
    total   bigint := 0;
BEGIN
    -- In these the number may stand in another form as well: as a carrier writes it at home.
    DELETE FROM sip_messages WHERE tenant_id = of_tenant AND call_id = ANY (ids);
    GET DIAGNOSTICS gone = ROW_COUNT;
    total := total + gone;
    UPDATE calls SET
        caller = CASE WHEN caller ~ ending THEN 'erased' ELSE caller END,
        dialled_text = CASE WHEN dialled_text ~ ending OR dialled = '+' || of_digits
                            THEN 'erased' ELSE dialled_text END,
        dialled = nullif(dialled, '+' || of_digits),
        -- What was said of the person, who is more than a number.
        variables = '{}',
        disposition = NULL,
        outcome = NULL,
        summary = NULL,
        decision = '[{"what": "privacy", "detail": "erased"}]'
    WHERE tenant_id = of_tenant AND id = ANY (ids);
    GET DIAGNOSTICS gone = ROW_COUNT;
    total := total + gone;
    UPDATE call_events SET detail = regexp_replace(detail::text, ending, nines, 'g')::jsonb
    WHERE tenant_id = of_tenant AND call_id = ANY (ids) AND detail::text ~ ending;
    GET DIAGNOSTICS gone = ROW_COUNT;
    total := total + gone;
    FOR place IN SELECT * FROM tandem_personal_columns() LOOP
        EXECUTE format(
            'UPDATE %I SET %I = regexp_replace(%I::text, $2, $3, ''g'')::%s '
            'WHERE tenant_id = $1 AND %I::text ~ $2',
            place.of_table, place.of_column, place.of_column, place.of_type, place.of_column)
            USING of_tenant, pattern, '\1\2' || nines;
        GET DIAGNOSTICS gone = ROW_COUNT;
        total := total + gone;
    END LOOP;
    RETURN total;
END
$$;

-- As before, by the number as a whole.
CREATE OR REPLACE FUNCTION tandem_export_rows(of_tenant uuid, of_digits text)
    RETURNS TABLE (of_table text, shown jsonb)
    LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
    AS $$
DECLARE
    pattern text := tandem_number_pattern(of_digits);
    ids     uuid[] := ARRAY(SELECT tandem_calls_of_number(of_tenant, of_digits));
    place   record;
BEGIN
    RETURN QUERY SELECT 'calls', to_jsonb(c)
        FROM calls c WHERE c.tenant_id = of_tenant AND c.id = ANY (ids) ORDER BY c.id;
    RETURN QUERY SELECT 'call_events', to_jsonb(e)
        FROM call_events e WHERE e.tenant_id = of_tenant AND e.call_id = ANY (ids) ORDER BY e.call_id, e.seq;
    RETURN QUERY SELECT 'sip_messages',
            to_jsonb(m) || jsonb_build_object('message', encode(m.message, 'escape'))
        FROM sip_messages m WHERE m.tenant_id = of_tenant AND m.call_id = ANY (ids) ORDER BY m.call_id, m.seq;
    RETURN QUERY SELECT 'recordings', to_jsonb(r)
        FROM recordings r WHERE r.tenant_id = of_tenant AND r.call_id = ANY (ids) ORDER BY r.id;
    RETURN QUERY SELECT 'transcripts', to_jsonb(s)
        FROM transcripts s WHERE s.tenant_id = of_tenant AND (s.call_id = ANY (ids) OR s.text ~ pattern)
        ORDER BY s.call_id, s.seq;
    RETURN QUERY SELECT 'audit_log', to_jsonb(a)
        FROM audit_log a WHERE a.tenant_id = of_tenant
            AND (to_jsonb(a)::text ~ pattern OR a.subject IN ('call', 'transcript') AND a.subject_id = ANY (ids))
        ORDER BY a.id;
    FOR place IN SELECT DISTINCT p.of_table AS name FROM tandem_personal_columns() p
        WHERE p.of_table NOT IN
            ('calls', 'call_events', 'sip_messages', 'recordings', 'transcripts', 'audit_log')
        ORDER BY 1 LOOP
        RETURN QUERY EXECUTE format(
            'SELECT $3, to_jsonb(t) FROM %I t WHERE tenant_id = $1 AND to_jsonb(t)::text ~ $2', place.name)
            USING of_tenant, pattern, place.name;
    END LOOP;
END
$$;
