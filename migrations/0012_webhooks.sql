-- Webhooks: where tenants want to hear of their calls, and what waits to be told there.

CREATE TABLE webhook_endpoints (
    id          uuid PRIMARY KEY,
    tenant_id   uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    url         text NOT NULL CHECK (length(url) BETWEEN 1 AND 2048),
    description text NOT NULL DEFAULT '' CHECK (length(description) <= 200),
    -- Types of events; '*' stands for all.
    events      text[] NOT NULL DEFAULT '{*}' CHECK (cardinality(events) BETWEEN 1 AND 64),
    is_active   boolean NOT NULL DEFAULT true,
    -- The secrets that sign, as in trunks: `signing`, and `previous` after a rotation.
    sealed      jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(sealed) = 'object'),
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    -- Lets other tables reference an endpoint together with its tenant.
    UNIQUE (tenant_id, id)
);
CREATE INDEX webhook_endpoints_page ON webhook_endpoints (tenant_id, id DESC);

-- Each event is written once for each endpoint, whoever is slow or dead.
CREATE FUNCTION tandem_check_webhook_endpoints() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended(NEW.tenant_id::text, 12));
    IF (SELECT count(*) FROM webhook_endpoints WHERE tenant_id = NEW.tenant_id) >= 32 THEN
        RAISE EXCEPTION 'a tenant has at most 32 webhook endpoints'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'webhook_endpoints_max';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER check_count BEFORE INSERT ON webhook_endpoints
    FOR EACH ROW EXECUTE FUNCTION tandem_check_webhook_endpoints();

-- What is to be told, or was. The body is made of the call and its event when it is sent, so a row is small.
CREATE TABLE webhook_outbox (
    endpoint_id     uuid NOT NULL,
    -- The same at every endpoint, and for live events: receivers know doubles by it.
    event_id        uuid NOT NULL,
    tenant_id       uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    call_id         uuid NOT NULL REFERENCES calls ON DELETE CASCADE,
    seq             integer NOT NULL CHECK (seq >= 0),
    -- Tells that the record of the call is complete; it follows the call's last event.
    is_record       boolean NOT NULL DEFAULT false,
    type            text NOT NULL,
    at              timestamptz NOT NULL,
    state           text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'dead')),
    attempts        integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    last_status     smallint,
    last_error      text,
    last_attempt_at timestamptz,
    settled_at      timestamptz,
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (endpoint_id, event_id),
    FOREIGN KEY (tenant_id, endpoint_id)
        REFERENCES webhook_endpoints (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX webhook_outbox_tenant ON webhook_outbox (tenant_id);
CREATE INDEX webhook_outbox_call ON webhook_outbox (call_id);
CREATE INDEX webhook_outbox_waiting ON webhook_outbox (endpoint_id, call_id, seq, is_record)
    WHERE state = 'pending';
CREATE INDEX webhook_outbox_state ON webhook_outbox (endpoint_id, state, event_id DESC);
CREATE INDEX webhook_outbox_settled ON webhook_outbox (settled_at) WHERE settled_at IS NOT NULL;

-- The calls that have something waiting for an endpoint, a row each: who holds the row's lease tells the
-- call's events one after the other. So events of a call never overtake each other, and a call whose
-- endpoint is dead costs one row of search, however many events it has.
CREATE TABLE webhook_queues (
    endpoint_id uuid NOT NULL,
    call_id     uuid NOT NULL REFERENCES calls ON DELETE CASCADE,
    tenant_id   uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    -- When it may be taken: after a pause, or when whoever took it is taken for dead.
    due_at      timestamptz NOT NULL DEFAULT now(),
    lease       uuid,
    PRIMARY KEY (endpoint_id, call_id),
    FOREIGN KEY (tenant_id, endpoint_id)
        REFERENCES webhook_endpoints (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX webhook_queues_due ON webhook_queues (endpoint_id, due_at);
CREATE INDEX webhook_queues_call ON webhook_queues (call_id);
CREATE INDEX webhook_queues_tenant ON webhook_queues (tenant_id);

-- The identity of an event: a UUIDv7 of its time and of what it is, so that whoever makes it makes the same.
CREATE FUNCTION tandem_event_id(call_id uuid, seq integer, is_record boolean, at timestamptz) RETURNS uuid
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$
    SELECT encode(
        set_byte(set_byte(parts.bytes, 6, (get_byte(parts.bytes, 6) & 15) | 112),
                 8, (get_byte(parts.bytes, 8) & 63) | 128), 'hex')::uuid
    FROM (
        SELECT decode(lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0'), 'hex')
            || substr(sha256(convert_to(
                   call_id || ':' || seq || CASE WHEN is_record THEN ':record' ELSE '' END, 'UTF8')), 1, 10)
            AS bytes
    ) parts
    $$;

-- What an event of a call is called outside; NULL: it is not told by webhooks.
CREATE FUNCTION tandem_webhook_type(name text, is_ringing boolean, is_answered boolean) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
    SELECT CASE name
        WHEN 'arrived' THEN 'call.initiated'
        WHEN 'ringing' THEN CASE WHEN is_ringing THEN 'call.ringing' END
        WHEN 'progressed' THEN CASE WHEN is_ringing THEN 'call.ringing' END
        WHEN 'ended' THEN CASE WHEN is_answered THEN 'call.ended' ELSE 'call.failed' END
        WHEN 'digit' THEN 'call.dtmf'
        WHEN 'transfer_begun' THEN 'call.transfer_started'
        WHEN 'transfer_completed' THEN 'call.transferred'
        WHEN 'answered' THEN 'call.answered'
        WHEN 'held' THEN 'call.held'
        WHEN 'resumed' THEN 'call.resumed'
        WHEN 'agent_ready' THEN 'call.agent_ready'
        WHEN 'agent_failed' THEN 'call.agent_failed'
        WHEN 'fallback_started' THEN 'call.fallback_started'
        WHEN 'transfer_failed' THEN 'call.transfer_failed'
        ELSE CASE WHEN name LIKE 'recording%' THEN 'call.' || name END
    END
    $$;

-- An event enters the outbox in the transaction in which it enters the database, and call_events takes each
-- once: so none is lost and none doubled, whatever is carried again after a crash.
CREATE FUNCTION tandem_queue_webhooks() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM webhook_endpoints WHERE is_active) THEN
        RETURN NULL;
    END IF;
    WITH told AS (
        SELECT e.tenant_id, e.call_id, e.seq, e.at, r.is_record,
               CASE WHEN r.is_record THEN 'call.record_written'
                    ELSE tandem_webhook_type(e.name, e.at = c.ringing_at, c.answered_at IS NOT NULL) END AS type
        FROM fresh e
        JOIN calls c ON c.id = e.call_id
        CROSS JOIN (VALUES (false), (true)) AS r(is_record)
        WHERE e.tenant_id IS NOT NULL AND (NOT r.is_record OR e.name = 'ended')
    ), queued AS (
        INSERT INTO webhook_outbox (endpoint_id, event_id, tenant_id, call_id, seq, is_record, type, at)
        SELECT w.id, tandem_event_id(t.call_id, t.seq, t.is_record, t.at), t.tenant_id, t.call_id, t.seq,
               t.is_record, t.type, t.at
        FROM told t
        JOIN webhook_endpoints w ON w.tenant_id = t.tenant_id AND w.is_active
            AND w.events && ARRAY['*', t.type]
        WHERE t.type IS NOT NULL
        -- An endpoint that is being deleted waits, or is not seen: the record of a call never fails by it.
        FOR KEY SHARE OF w
        ON CONFLICT DO NOTHING
        RETURNING endpoint_id, call_id, tenant_id
    )
    INSERT INTO webhook_queues (endpoint_id, call_id, tenant_id)
    SELECT DISTINCT q.endpoint_id, q.call_id, q.tenant_id FROM queued q ORDER BY 1, 2
    -- Changes nothing but takes the row's lock: whoever is about to drop it as empty waits, and finds these.
    ON CONFLICT (endpoint_id, call_id) DO UPDATE SET due_at = webhook_queues.due_at;
    RETURN NULL;
END
$$;
CREATE TRIGGER queue_webhooks AFTER INSERT ON call_events
    REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION tandem_queue_webhooks();

ALTER TABLE webhook_endpoints ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE webhook_outbox ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE webhook_queues ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY node ON webhook_endpoints TO tandem_node USING (true) WITH CHECK (true);
CREATE POLICY node ON webhook_outbox TO tandem_node USING (true) WITH CHECK (true);
CREATE POLICY node ON webhook_queues TO tandem_node USING (true) WITH CHECK (true);
CREATE POLICY tenant ON webhook_endpoints TO tandem_api
    USING (tenant_id = tandem_tenant()) WITH CHECK (tenant_id = tandem_tenant());
CREATE POLICY tenant ON webhook_outbox TO tandem_api
    USING (tenant_id = tandem_tenant()) WITH CHECK (tenant_id = tandem_tenant());
CREATE POLICY tenant ON webhook_queues TO tandem_api
    USING (tenant_id = tandem_tenant()) WITH CHECK (tenant_id = tandem_tenant());

GRANT SELECT, INSERT, UPDATE, DELETE ON webhook_endpoints, webhook_outbox, webhook_queues TO tandem_node;
GRANT SELECT, INSERT, UPDATE, DELETE ON webhook_endpoints TO tandem_api;
-- A tenant replays what was told; it tells nothing new.
GRANT SELECT, UPDATE ON webhook_outbox TO tandem_api;
GRANT SELECT, INSERT, UPDATE ON webhook_queues TO tandem_api;

-- Live events are read again by tenant and time.
CREATE INDEX call_events_tenant_at ON call_events (tenant_id, at);
