-- What is erased reaches every node that keeps something on a disk or in memory, however long it was cut off; and what
-- applications said of an erased call goes out of the log as well.

COMMENT ON TABLE nodes IS 'Nodes that were connected in the last 30 days: each has a journal of its own.';

-- Numbers whose personal data a tenant had erased, for nodes that have not yet erased what they keep themselves: a row
-- each, deleted by its node once that is done. A node that stays away for 30 days is not waited for any longer.
CREATE TABLE erasures (
    id        uuid NOT NULL,
    node_id   uuid NOT NULL REFERENCES nodes ON DELETE CASCADE,
    tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    digits    text NOT NULL CHECK (digits ~ '^[0-9]{1,15}$'),
    -- The calls in which the number had a part.
    calls     uuid[] NOT NULL DEFAULT '{}',
    at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (node_id, id)
);
CREATE INDEX erasures_tenant ON erasures (tenant_id, digits);

ALTER TABLE erasures ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY node ON erasures TO tandem_node USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON erasures TO tandem_node;

-- As before; the list of what is left to erase is not erased by itself.
CREATE OR REPLACE FUNCTION tandem_personal_columns()
    RETURNS TABLE (of_table text, of_column text, of_type text)
    LANGUAGE sql STABLE SET search_path FROM CURRENT
    AS $$
    SELECT c.table_name::text, c.column_name::text, c.data_type::text
    FROM information_schema.columns c
    JOIN information_schema.columns t
        ON t.table_schema = c.table_schema AND t.table_name = c.table_name AND t.column_name = 'tenant_id'
    WHERE c.table_schema = current_schema() AND c.data_type IN ('text', 'character varying', 'jsonb')
        AND c.table_name NOT IN ('phone_numbers', 'trunks', 'ai_profiles', 'routing_profiles', 'campaigns',
                                 'webhook_endpoints', 'api_keys', 'call_news', 'erasures')
        AND (c.table_name <> 'audit_log' OR c.column_name = 'detail')
        AND (c.table_name, c.column_name) <> ('calls', 'dialled')
    ORDER BY 1, 2
    $$;

-- An entry of the log about a call, without what applications said of the call before and after.
CREATE FUNCTION tandem_without_said(detail jsonb) RETURNS jsonb
    LANGUAGE sql IMMUTABLE
    AS $$
    SELECT coalesce(jsonb_object_agg(side.key, CASE
        WHEN side.key IN ('before', 'after') AND jsonb_typeof(side.value) = 'object' THEN (
            SELECT coalesce(jsonb_object_agg(said.key, CASE
                WHEN said.key IN ('disposition', 'outcome', 'summary', 'variables')
                    AND said.value NOT IN ('null', '{}') THEN '"erased"'
                ELSE said.value END), '{}')
            FROM jsonb_each(side.value) said)
        ELSE side.value END), '{}')
    FROM jsonb_each(detail) side
    $$;

-- As before; and what the log has of what was said of these calls. How a request named itself goes too: another number
-- erased later would come to the same name.
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
    DELETE FROM idempotency_keys WHERE tenant_id = of_tenant AND key ~ (of_digits || '(?![0-9])');
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

-- As before; and what applications said of these calls in their own words goes wholly.
CREATE OR REPLACE FUNCTION tandem_erase_number(of_tenant uuid, of_digits text) RETURNS bigint
    LANGUAGE plpgsql SET search_path FROM CURRENT
    AS $$
DECLARE
    pattern text := of_digits || '(?![0-9])';
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
        caller = CASE WHEN caller ~ pattern THEN 'erased' ELSE caller END,
        dialled_text = CASE WHEN dialled_text ~ pattern OR dialled = '+' || of_digits
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
    FOR place IN SELECT * FROM tandem_personal_columns() LOOP
        EXECUTE format(
            'UPDATE %I SET %I = regexp_replace(%I::text, $2, $3, ''g'')::%s '
            'WHERE tenant_id = $1 AND %I::text ~ $2',
            place.of_table, place.of_column, place.of_column, place.of_type, place.of_column)
            -- Nines are a text and a number alike: what was JSON stays it.
            USING of_tenant, pattern, repeat('9', length(of_digits));
        GET DIAGNOSTICS gone = ROW_COUNT;
        total := total + gone;
    END LOOP;
    RETURN total;
END
$$;

-- Whether somebody had the data of this call erased: nothing of it that comes later is kept.
CREATE FUNCTION tandem_is_erased(of_call uuid) RETURNS boolean
    LANGUAGE sql STABLE SET search_path FROM CURRENT
    AS $$
    SELECT EXISTS (SELECT FROM calls WHERE id = of_call
                   AND decision = '[{"what": "privacy", "detail": "erased"}]')
    $$;

-- Everything of a tenant in which a number stands, a row each, in the order of the tables.
CREATE FUNCTION tandem_export_rows(of_tenant uuid, of_digits text)
    RETURNS TABLE (of_table text, shown jsonb)
    LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
    AS $$
DECLARE
    pattern text := of_digits || '(?![0-9])';
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
