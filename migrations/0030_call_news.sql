-- What is stored of a call beside its events and is to be told as one of them: the end of a recording, turns of a
-- transcript. A call that runs tells it itself; what it did not come to, since it was over or its process was
-- killed, is told from here, behind its end.

CREATE TABLE call_news (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id  uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    -- No reference: the call's record comes later, and may go earlier.
    call_id    uuid NOT NULL,
    -- The event, as its call calls it.
    name       text NOT NULL CHECK (length(name) BETWEEN 1 AND 64),
    detail     jsonb NOT NULL CHECK (jsonb_typeof(detail) = 'object'),
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX call_news_call ON call_news (call_id);
CREATE INDEX call_news_tenant ON call_news (tenant_id);
CREATE INDEX call_news_created ON call_news (created_at);

ALTER TABLE call_news ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY node ON call_news TO tandem_node USING (true) WITH CHECK (true);
CREATE POLICY tenant ON call_news TO tandem_api
    USING (tenant_id = tandem_tenant()) WITH CHECK (tenant_id = tandem_tenant());
GRANT SELECT, INSERT, DELETE ON call_news TO tandem_node;
GRANT INSERT ON call_news TO tandem_api;

-- Whether an event tells what is in the news. A recording ends once, whatever is said of how.
CREATE FUNCTION tandem_tells(event_name text, event_detail jsonb, name text, detail jsonb) RETURNS boolean
    LANGUAGE sql IMMUTABLE
    AS $$
    SELECT CASE
        WHEN name IN ('recording_ready', 'recording_failed') THEN
            event_name IN ('recording_ready', 'recording_failed')
            AND event_detail -> 'recording_id' = detail -> 'recording_id'
        ELSE event_name = name AND event_detail @> detail
    END
    $$;

-- Tells what calls whose records are closed did not tell themselves: their events are all there by then. So many
-- calls at once; those that somebody else is at are left to him.
CREATE FUNCTION tandem_tell_news(most integer)
    RETURNS TABLE (of_tenant uuid, of_call uuid, told_name text, told_detail jsonb, new_seq integer,
                   new_at timestamptz)
    LANGUAGE plpgsql
    AS $$
DECLARE
    closed record;
    news   record;
BEGIN
    -- Most often there is nothing; asked without a look at the calls.
    IF NOT EXISTS (SELECT FROM call_news) THEN
        RETURN;
    END IF;
    FOR closed IN
        SELECT c.id, c.tenant_id AS owner FROM calls c
        WHERE c.id IN (SELECT n.call_id FROM call_news n) AND c.ended_at IS NOT NULL
            AND c.tenant_id IS NOT NULL
        ORDER BY c.id LIMIT most FOR UPDATE SKIP LOCKED
    LOOP
        FOR news IN
            WITH gone AS (
                DELETE FROM call_news n WHERE n.call_id = closed.id AND n.tenant_id = closed.owner
                RETURNING n.id, n.name, n.detail
            )
            SELECT g.name, g.detail, count(*) - (
                SELECT count(*) FROM call_events e
                WHERE e.call_id = closed.id AND tandem_tells(e.name, e.detail, g.name, g.detail)
            ) AS untold
            FROM gone g GROUP BY g.name, g.detail ORDER BY min(g.id)
        LOOP
            FOR turn IN 1 .. news.untold LOOP
                FOR new_seq, new_at IN
                    SELECT t.new_seq, t.new_at
                    FROM tandem_note_after_end(closed.owner, closed.id, news.name, news.detail) t
                LOOP
                    IF new_seq IS NOT NULL THEN
                        of_tenant := closed.owner;
                        of_call := closed.id;
                        told_name := news.name;
                        told_detail := news.detail;
                        RETURN NEXT;
                    END IF;
                END LOOP;
            END LOOP;
        END LOOP;
    END LOOP;
    -- Of calls whose records are gone nothing is told.
    DELETE FROM call_news n WHERE n.created_at < now() - interval '7 days'
        AND NOT EXISTS (SELECT FROM calls c WHERE c.id = n.call_id);
END
$$;

-- As before; news name recordings and turns by their identities and numbers alone.
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
                                 'webhook_endpoints', 'api_keys', 'call_news')
        AND (c.table_name <> 'audit_log' OR c.column_name = 'detail')
        AND (c.table_name, c.column_name) <> ('calls', 'dialled')
    ORDER BY 1, 2
    $$;

-- As before; and what was not told yet of the calls is not told any more, and every node hears which calls they are:
-- each has something of them in memory.
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
    DELETE FROM call_news WHERE tenant_id = of_tenant AND call_id = ANY (ids);
    -- The calls are named, the number is not.
    PERFORM pg_notify('tandem_erased', string_agg(chunk.id::text, ','))
    FROM unnest(ids) WITH ORDINALITY AS chunk (id, place) GROUP BY (chunk.place - 1) / 200;
    RETURN total + gone;
END
$$;
