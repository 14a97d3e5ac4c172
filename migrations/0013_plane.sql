-- Keys of the API are followed like what routing reads, so that a node that lost its database still knows
-- who may hang a call up, and no longer knows who was revoked.

ALTER TABLE routing_changes DROP CONSTRAINT routing_changes_kind_check;
ALTER TABLE routing_changes ADD CONSTRAINT routing_changes_kind_check CHECK (kind IN (
    'tenant', 'ai_profile', 'number', 'trunk', 'routing_profile', 'campaign', 'api_key', 'resync'
));

CREATE TRIGGER routing_insert AFTER INSERT ON api_keys REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION tandem_routing_changed('api_key');
CREATE TRIGGER routing_update AFTER UPDATE ON api_keys REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION tandem_routing_changed('api_key');
CREATE TRIGGER routing_delete AFTER DELETE ON api_keys REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION tandem_routing_changed('api_key');
CREATE TRIGGER routing_truncate AFTER TRUNCATE ON api_keys
    FOR EACH STATEMENT EXECUTE FUNCTION tandem_routing_truncated();

-- Campaigns: calls out by numbers of their own, within a window of the day and so many at once.
CREATE TABLE campaigns (
    id            uuid PRIMARY KEY,
    tenant_id     uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    name          text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    status        text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'paused')),
    -- NULL: the profile of the caller's number, else the tenant's default.
    ai_profile_id uuid,
    time_zone     text NOT NULL DEFAULT 'UTC' CHECK (length(time_zone) BETWEEN 1 AND 64),
    -- Times of the day in that zone; both NULL: the whole day. A window may span midnight.
    window_from   text CHECK (window_from ~ '^([01][0-9]|2[0-3]):[0-5][0-9]$'),
    window_until  text CHECK (window_until ~ '^([01][0-9]|2[0-3]):[0-5][0-9]$'),
    weekdays      text[] NOT NULL DEFAULT '{mon,tue,wed,thu,fri,sat,sun}'
                  CHECK (weekdays <@ ARRAY['mon','tue','wed','thu','fri','sat','sun']),
    -- 0: no limit of its own.
    calls_max     integer NOT NULL DEFAULT 0 CHECK (calls_max >= 0),
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, name),
    UNIQUE (tenant_id, id),
    CONSTRAINT campaigns_window CHECK (
        (window_from IS NULL) = (window_until IS NULL) AND window_from IS DISTINCT FROM window_until
        OR (window_from IS NULL AND window_until IS NULL)
    ),
    CONSTRAINT campaigns_profile FOREIGN KEY (tenant_id, ai_profile_id)
        REFERENCES ai_profiles (tenant_id, id) ON DELETE SET NULL (ai_profile_id)
);
CREATE INDEX campaigns_page ON campaigns (tenant_id, id DESC);
CREATE INDEX campaigns_ai_profile ON campaigns (ai_profile_id);

-- A number of a campaign calls out for it alone. A campaign that has numbers is not deleted: they would be
-- free of its window without anybody's wish.
ALTER TABLE phone_numbers
    ADD COLUMN campaign_id uuid,
    ADD CONSTRAINT phone_numbers_campaign
        FOREIGN KEY (tenant_id, campaign_id) REFERENCES campaigns (tenant_id, id);
CREATE INDEX phone_numbers_campaign ON phone_numbers (campaign_id) WHERE campaign_id IS NOT NULL;

ALTER TABLE campaigns ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY node ON campaigns TO tandem_node USING (true) WITH CHECK (true);
CREATE POLICY tenant ON campaigns TO tandem_api
    USING (tenant_id = tandem_tenant()) WITH CHECK (tenant_id = tandem_tenant());
GRANT SELECT, INSERT, UPDATE, DELETE ON campaigns TO tandem_node, tandem_api;

CREATE TRIGGER routing_insert AFTER INSERT ON campaigns REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION tandem_routing_changed('campaign');
CREATE TRIGGER routing_update AFTER UPDATE ON campaigns REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION tandem_routing_changed('campaign');
CREATE TRIGGER routing_delete AFTER DELETE ON campaigns REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION tandem_routing_changed('campaign');
CREATE TRIGGER routing_truncate AFTER TRUNCATE ON campaigns
    FOR EACH STATEMENT EXECUTE FUNCTION tandem_routing_truncated();

-- How long what happened is kept, in days; 0: until somebody deletes it.
ALTER TABLE tenants
    ADD COLUMN keep_calls_days  integer NOT NULL DEFAULT 0 CHECK (keep_calls_days BETWEEN 0 AND 36500),
    ADD COLUMN keep_traces_days integer NOT NULL DEFAULT 0 CHECK (keep_traces_days BETWEEN 0 AND 36500),
    ADD COLUMN keep_audit_days  integer NOT NULL DEFAULT 0 CHECK (keep_audit_days BETWEEN 0 AND 36500);

-- The least UUIDv7 of a time: identities are in the order of time, and indexed by tenant.
CREATE FUNCTION tandem_id_floor(at timestamptz) RETURNS uuid
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT rpad(lpad(to_hex(greatest(floor(extract(epoch FROM at) * 1000), 0)::bigint), 12, '0'), 32, '0')::uuid $$;

-- Deletes a batch of what is over its time; one node at a time, and none waits for another. Records of nobody,
-- such as those of refused sources, go after `nobodys_days`.
CREATE FUNCTION tandem_forget(batch integer, nobodys_days integer)
    RETURNS TABLE (what text, deleted bigint)
    LANGUAGE plpgsql AS $$
DECLARE
    gone bigint;
BEGIN
    IF NOT pg_try_advisory_xact_lock(7230112026) THEN
        RETURN;
    END IF;
    DELETE FROM calls WHERE id IN (
        SELECT old.id FROM tenants t CROSS JOIN LATERAL (
            SELECT c.id FROM calls c
            WHERE c.tenant_id = t.id AND c.ended_at IS NOT NULL
                AND c.id < tandem_id_floor(now() - make_interval(days => t.keep_calls_days))
            ORDER BY c.id LIMIT batch
        ) old WHERE t.keep_calls_days > 0 LIMIT batch
    );
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN QUERY SELECT 'calls', gone;
    DELETE FROM calls WHERE id IN (
        SELECT c.id FROM calls c
        WHERE c.tenant_id IS NULL AND c.ended_at IS NOT NULL
            AND c.id < tandem_id_floor(now() - make_interval(days => nobodys_days))
        LIMIT batch
    );
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN QUERY SELECT 'refused', gone;
    DELETE FROM sip_messages WHERE ctid = ANY (ARRAY(
        SELECT old.ctid FROM tenants t CROSS JOIN LATERAL (
            SELECT m.ctid FROM sip_messages m
            WHERE m.tenant_id = t.id AND m.at < now() - make_interval(days => t.keep_traces_days)
            LIMIT batch
        ) old WHERE t.keep_traces_days > 0 LIMIT batch
    ));
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN QUERY SELECT 'traces', gone;
    DELETE FROM audit_log WHERE id IN (
        SELECT old.id FROM tenants t CROSS JOIN LATERAL (
            SELECT a.id FROM audit_log a
            WHERE a.tenant_id = t.id AND a.at < now() - make_interval(days => t.keep_audit_days)
            LIMIT batch
        ) old WHERE t.keep_audit_days > 0 LIMIT batch
    );
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN QUERY SELECT 'audit', gone;
END
$$;

-- Deleting what is old and erasing a person's number are all that is ever done to the log.
GRANT DELETE, UPDATE (detail) ON audit_log TO tandem_node;
GRANT UPDATE ON sip_messages TO tandem_node;

-- The columns in which a number of somebody may stand: those of every table that has a tenant, but for what
-- tenants configure, which names numbers on purpose. A table that is made later is among them by itself.
CREATE FUNCTION tandem_personal_columns()
    RETURNS TABLE (of_table text, of_column text, of_type text)
    LANGUAGE sql STABLE SET search_path FROM CURRENT
    AS $$
    SELECT c.table_name::text, c.column_name::text, c.data_type::text
    FROM information_schema.columns c
    JOIN information_schema.columns t
        ON t.table_schema = c.table_schema AND t.table_name = c.table_name AND t.column_name = 'tenant_id'
    WHERE c.table_schema = current_schema() AND c.data_type IN ('text', 'character varying', 'jsonb')
        AND c.table_name NOT IN ('phone_numbers', 'trunks', 'ai_profiles', 'routing_profiles', 'campaigns',
                                 'webhook_endpoints', 'api_keys')
        AND (c.table_name <> 'audit_log' OR c.column_name = 'detail')
        AND (c.table_name, c.column_name) <> ('calls', 'dialled')
    ORDER BY 1, 2
    $$;

-- The calls of a tenant in which a number has a part. `of_digits` are those of the number, all of them; what is
-- dialled may have more before them, and never more behind.
CREATE FUNCTION tandem_calls_of_number(of_tenant uuid, of_digits text) RETURNS SETOF uuid
    LANGUAGE sql STABLE SET search_path FROM CURRENT
    AS $$
    SELECT c.id FROM calls c
    WHERE c.tenant_id = of_tenant AND to_jsonb(c)::text ~ (of_digits || '(?![0-9])')
    UNION SELECT e.call_id FROM call_events e
    WHERE e.tenant_id = of_tenant AND e.detail::text ~ (of_digits || '(?![0-9])')
    UNION SELECT m.call_id FROM sip_messages m
    WHERE m.tenant_id = of_tenant AND position(convert_to(of_digits, 'UTF8') IN m.message) > 0
    $$;

-- Takes a number out of everything that happened to a tenant; how many rows were changed or deleted.
CREATE FUNCTION tandem_erase_number(of_tenant uuid, of_digits text) RETURNS bigint
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

-- Everything of a tenant in which a number stands, by table: so many rows of each at most.
CREATE FUNCTION tandem_export_number(of_tenant uuid, of_digits text, most integer) RETURNS jsonb
    LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
    AS $$
DECLARE
    pattern text := of_digits || '(?![0-9])';
    ids     uuid[] := ARRAY(SELECT tandem_calls_of_number(of_tenant, of_digits) LIMIT most);
    place   record;
    rows    jsonb;
    found   jsonb;
BEGIN
    SELECT coalesce(jsonb_agg(to_jsonb(c) ORDER BY c.id), '[]') INTO rows
        FROM calls c WHERE c.tenant_id = of_tenant AND c.id = ANY (ids);
    found := jsonb_build_object('calls', rows);
    SELECT coalesce(jsonb_agg(to_jsonb(e) ORDER BY e.call_id, e.seq), '[]') INTO rows
        FROM (SELECT * FROM call_events WHERE tenant_id = of_tenant AND call_id = ANY (ids) LIMIT most) e;
    found := found || jsonb_build_object('call_events', rows);
    SELECT coalesce(jsonb_agg(m.shown), '[]') INTO rows FROM (
        SELECT to_jsonb(s) || jsonb_build_object('message', encode(s.message, 'escape')) AS shown
        FROM sip_messages s WHERE s.tenant_id = of_tenant AND s.call_id = ANY (ids) LIMIT most) m;
    found := found || jsonb_build_object('sip_messages', rows);
    FOR place IN SELECT DISTINCT of_table FROM tandem_personal_columns()
        WHERE of_table NOT IN ('calls', 'call_events', 'sip_messages') LOOP
        EXECUTE format(
            'SELECT coalesce(jsonb_agg(shown), ''[]'') FROM (SELECT to_jsonb(t) AS shown FROM %I t '
            'WHERE tenant_id = $1 AND to_jsonb(t)::text ~ $2 LIMIT $3) found', place.of_table)
            INTO rows USING of_tenant, pattern, most;
        found := found || jsonb_build_object(place.of_table, rows);
    END LOOP;
    RETURN found;
END
$$;
