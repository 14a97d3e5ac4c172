-- What was heard and said in a call goes with its record at the latest: by the record alone it is known whose it is, when
-- a person asks for what is kept of them, or for its erasure. The record goes last.

-- As before; and what was heard and said in calls that are over the time of their records. Identities of calls are in
-- the order of time, so that is found without the record, which may be gone already.
CREATE OR REPLACE FUNCTION tandem_forget_said(batch integer) RETURNS TABLE (what text, deleted bigint)
    LANGUAGE plpgsql AS $$
DECLARE
    of_itself bigint;
    of_call   bigint;
BEGIN
    IF NOT pg_try_advisory_xact_lock(7230112026) THEN
        RETURN;
    END IF;
    DELETE FROM recordings WHERE id IN (
        SELECT old.id FROM tenants t CROSS JOIN LATERAL (
            SELECT r.id FROM recordings r
            WHERE r.tenant_id = t.id AND r.status <> 'recording'
                AND r.id < tandem_id_floor(now() - make_interval(days => t.keep_recordings_days))
            ORDER BY r.id LIMIT batch
        ) old WHERE t.keep_recordings_days > 0 LIMIT batch
    );
    GET DIAGNOSTICS of_itself = ROW_COUNT;
    DELETE FROM recordings WHERE id IN (
        SELECT old.id FROM tenants t CROSS JOIN LATERAL (
            SELECT r.id FROM recordings r
            WHERE r.tenant_id = t.id
                AND r.call_id < tandem_id_floor(now() - make_interval(days => t.keep_calls_days))
                AND NOT EXISTS (SELECT FROM calls c WHERE c.id = r.call_id AND c.ended_at IS NULL)
            LIMIT batch
        ) old WHERE t.keep_calls_days > 0 LIMIT batch
    );
    GET DIAGNOSTICS of_call = ROW_COUNT;
    RETURN QUERY SELECT 'recordings', of_itself + of_call;
    DELETE FROM transcripts WHERE ctid = ANY (ARRAY(
        SELECT old.ctid FROM tenants t CROSS JOIN LATERAL (
            SELECT s.ctid FROM transcripts s
            WHERE s.tenant_id = t.id
                AND s.created_at < now() - make_interval(days => t.keep_transcripts_days)
            LIMIT batch
        ) old WHERE t.keep_transcripts_days > 0 LIMIT batch
    ));
    GET DIAGNOSTICS of_itself = ROW_COUNT;
    DELETE FROM transcripts WHERE ctid = ANY (ARRAY(
        SELECT old.ctid FROM tenants t CROSS JOIN LATERAL (
            SELECT s.ctid FROM transcripts s
            WHERE s.tenant_id = t.id
                AND s.call_id < tandem_id_floor(now() - make_interval(days => t.keep_calls_days))
                AND NOT EXISTS (SELECT FROM calls c WHERE c.id = s.call_id AND c.ended_at IS NULL)
            LIMIT batch
        ) old WHERE t.keep_calls_days > 0 LIMIT batch
    ));
    GET DIAGNOSTICS of_call = ROW_COUNT;
    RETURN QUERY SELECT 'transcripts', of_itself + of_call;
END
$$;

-- As before; a record of which anything is kept that was heard or said waits until that is gone.
CREATE OR REPLACE FUNCTION tandem_forget(batch integer, nobodys_days integer)
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
                AND NOT EXISTS (SELECT FROM recordings r WHERE r.tenant_id = t.id AND r.call_id = c.id)
                AND NOT EXISTS (SELECT FROM transcripts s WHERE s.tenant_id = t.id AND s.call_id = c.id)
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
