-- Webhooks can be told of everything that is told live. Whoever wants all ('*') is not told of the inside of the
-- switch: routing, signalling, packets and the single turns of a talk; whoever names these is.

-- What an event of a call is called outside.
CREATE OR REPLACE FUNCTION tandem_webhook_type(name text, is_ringing boolean, is_answered boolean) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
    SELECT 'call.' || CASE name
        WHEN 'arrived' THEN 'initiated'
        WHEN 'ringing' THEN CASE WHEN is_ringing THEN 'ringing' ELSE 'progressed' END
        WHEN 'progressed' THEN CASE WHEN is_ringing THEN 'ringing' ELSE 'progressed' END
        WHEN 'ended' THEN CASE WHEN is_answered THEN 'ended' ELSE 'failed' END
        WHEN 'digit' THEN 'dtmf'
        WHEN 'transfer_begun' THEN 'transfer_started'
        WHEN 'transfer_completed' THEN 'transferred'
        ELSE name
    END
    $$;

-- Whether a type is told to those alone who name it.
CREATE FUNCTION tandem_webhook_is_inside(type text) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
    SELECT type IN (
        'call.decided', 'call.refused', 'call.ignored', 'call.acknowledged', 'call.first_media', 'call.dialled',
        'call.sent', 'call.attempted', 'call.progressed', 'call.reoffer_refused', 'call.replaced', 'call.turn',
        'call.barge_in', 'call.underrun', 'call.leg_media', 'call.media'
    )
    $$;

-- As before, but for what an endpoint that wants all is told.
CREATE OR REPLACE FUNCTION tandem_queue_webhooks() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM webhook_endpoints WHERE is_active) THEN
        RETURN NULL;
    END IF;
    WITH told AS (
        SELECT e.tenant_id, e.call_id, e.seq, e.at, r.is_record,
               CASE WHEN r.is_record THEN 'call.record_written'
                    ELSE tandem_webhook_type(e.name, e.at IS NOT DISTINCT FROM c.ringing_at,
                                             c.answered_at IS NOT NULL) END AS type
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
            AND (t.type = ANY (w.events)
                 OR '*' = ANY (w.events) AND NOT tandem_webhook_is_inside(t.type))
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
