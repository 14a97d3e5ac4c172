-- Webhooks are told of whatever applications follow live, and of what comes when a call is over.

-- What an event of a call is called outside; NULL: it is not told by webhooks. Those are the inside of the switch:
-- routing, signalling and packets, which the record and the trace have.
CREATE OR REPLACE FUNCTION tandem_webhook_type(name text, is_ringing boolean, is_answered boolean) RETURNS text
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
        ELSE CASE WHEN name IN (
            'answered', 'held', 'resumed', 'hold_begun', 'hold_ended', 'muted', 'unmuted', 'play_begun',
            'play_ended', 'keys_sent', 'variables_set', 'agent_ready', 'agent_failed', 'agent_attached',
            'agent_asked', 'script_noted', 'agent_replaced', 'answer_asked', 'fallback_started',
            'transfer_failed', 'transfer_refused', 'leg_answered',
            'leg_failed', 'leg_ended', 'bridged', 'recording_started', 'recording_paused', 'recording_resumed',
            'recording_stopped', 'recording_ready', 'recording_failed', 'transcript_added'
        ) THEN 'call.' || name END
    END
    $$;

-- Adds an event to a call whose record is closed, behind all that its switch told of it. No row: the record is
-- not closed yet, and its switch may have more to tell. A row of NULLs: as many came already as are kept.
CREATE FUNCTION tandem_note_after_end(of_tenant uuid, of_call uuid, event text, what jsonb)
    RETURNS TABLE (new_seq integer, new_at timestamptz)
    LANGUAGE plpgsql
    AS $$
DECLARE
    told integer;
BEGIN
    -- Whoever else adds one waits here.
    SELECT c.rev INTO told FROM calls c
    WHERE c.id = of_call AND c.tenant_id = of_tenant AND c.ended_at IS NOT NULL FOR UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT greatest(told, max(e.seq) + 1) INTO new_seq FROM call_events e WHERE e.call_id = of_call;
    IF new_seq >= told + 512 THEN
        new_seq := NULL;
        RETURN NEXT;
        RETURN;
    END IF;
    -- In the milliseconds in which the identity of an event has its time, so that lists go on behind it.
    new_at := date_trunc('milliseconds', clock_timestamp());
    INSERT INTO call_events (call_id, seq, tenant_id, at, name, detail)
    VALUES (of_call, new_seq, of_tenant, new_at, event, what);
    RETURN NEXT;
END
$$;
