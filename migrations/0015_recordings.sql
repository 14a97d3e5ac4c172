-- Recordings and transcripts of calls, and how long they are kept.

ALTER TABLE tenants
    ADD COLUMN record                text NOT NULL DEFAULT 'off' CHECK (record IN ('all', 'off')),
    ADD COLUMN keep_recordings_days  integer NOT NULL DEFAULT 0 CHECK (keep_recordings_days BETWEEN 0 AND 36500),
    ADD COLUMN keep_transcripts_days integer NOT NULL DEFAULT 0 CHECK (keep_transcripts_days BETWEEN 0 AND 36500);
-- NULL: what is less near to the call says; number, profile, tenant.
ALTER TABLE ai_profiles ADD COLUMN record text CHECK (record IN ('all', 'off'));
ALTER TABLE phone_numbers ADD COLUMN record text CHECK (record IN ('all', 'off'));

-- A recording. Its audio is a file of the node whose folder it names.
CREATE TABLE recordings (
    id           uuid PRIMARY KEY,
    tenant_id    uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    -- No reference: the call's record comes later, and may go earlier.
    call_id      uuid NOT NULL,
    folder       uuid NOT NULL,
    status       text NOT NULL DEFAULT 'recording'
                 CHECK (status IN ('recording', 'ready', 'failed', 'interrupted')),
    why          text CHECK (length(why) BETWEEN 1 AND 64),
    sample_rate  integer NOT NULL CHECK (sample_rate > 0),
    is_encrypted boolean NOT NULL,
    started_at   timestamptz NOT NULL,
    ended_at     timestamptz,
    duration_ms  bigint CHECK (duration_ms >= 0),
    data_bytes   bigint CHECK (data_bytes >= 0),
    sha256       text CHECK (sha256 ~ '^([0-9a-f]{64})?$'),
    lost_ms      bigint CHECK (lost_ms >= 0),
    markers      jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(markers) = 'array'),
    created_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX recordings_page ON recordings (tenant_id, id DESC);
CREATE INDEX recordings_call ON recordings (tenant_id, call_id);

-- Files whose recordings are gone, for the node that has them.
CREATE TABLE recording_removals (
    id     uuid PRIMARY KEY,
    owner  uuid NOT NULL,
    folder uuid NOT NULL,
    at     timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX recording_removals_folder ON recording_removals (folder, at);

CREATE FUNCTION tandem_recording_removed() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
    AS $$
BEGIN
    INSERT INTO recording_removals (id, owner, folder) VALUES (OLD.id, OLD.tenant_id, OLD.folder)
        ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;
CREATE TRIGGER removed AFTER DELETE ON recordings
    FOR EACH ROW EXECUTE FUNCTION tandem_recording_removed();

-- What was said in a call, turn by turn, as whoever listened has it.
CREATE TABLE transcripts (
    tenant_id  uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    -- No reference, as above.
    call_id    uuid NOT NULL,
    seq        integer NOT NULL CHECK (seq BETWEEN 0 AND 9999),
    speaker    text NOT NULL CHECK (speaker IN ('caller', 'agent', 'other')),
    text       text NOT NULL CHECK (length(text) BETWEEN 1 AND 4000),
    at         timestamptz NOT NULL,
    -- From the call's answer, where whoever listened counts so.
    at_ms      bigint CHECK (at_ms >= 0),
    -- One that is not final may be said again under its number.
    is_final   boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, call_id, seq)
);
CREATE INDEX transcripts_created ON transcripts (tenant_id, created_at);

ALTER TABLE recordings ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE transcripts ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY node ON recordings TO tandem_node USING (true) WITH CHECK (true);
CREATE POLICY node ON transcripts TO tandem_node USING (true) WITH CHECK (true);
CREATE POLICY tenant ON recordings TO tandem_api
    USING (tenant_id = tandem_tenant()) WITH CHECK (tenant_id = tandem_tenant());
CREATE POLICY tenant ON transcripts TO tandem_api
    USING (tenant_id = tandem_tenant()) WITH CHECK (tenant_id = tandem_tenant());
GRANT SELECT, INSERT, UPDATE, DELETE ON recordings, transcripts, recording_removals TO tandem_node;
-- FOR UPDATE, without which a deletion cannot be judged, asks for the right to update something.
GRANT SELECT, DELETE, UPDATE (why) ON recordings TO tandem_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON transcripts TO tandem_api;

-- Deletes a batch of recordings and transcripts that are over their time; see tandem_forget().
CREATE FUNCTION tandem_forget_said(batch integer) RETURNS TABLE (what text, deleted bigint)
    LANGUAGE plpgsql AS $$
DECLARE
    gone bigint;
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
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN QUERY SELECT 'recordings', gone;
    DELETE FROM transcripts WHERE ctid = ANY (ARRAY(
        SELECT old.ctid FROM tenants t CROSS JOIN LATERAL (
            SELECT s.ctid FROM transcripts s
            WHERE s.tenant_id = t.id
                AND s.created_at < now() - make_interval(days => t.keep_transcripts_days)
            LIMIT batch
        ) old WHERE t.keep_transcripts_days > 0 LIMIT batch
    ));
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN QUERY SELECT 'transcripts', gone;
END
$$;

-- Takes the recordings and transcripts of a number's calls away, before tandem_erase_number() takes away by what
-- they are found. A number that somebody says in another call is taken out of the text by that.
CREATE FUNCTION tandem_erase_said(of_tenant uuid, of_digits text) RETURNS bigint
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
    RETURN total + gone;
END
$$;

-- The recordings (their audio is fetched by their identities) and transcripts of a number's calls, and other turns
-- in which it is said.
CREATE FUNCTION tandem_export_said(of_tenant uuid, of_digits text, most integer) RETURNS jsonb
    LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
    AS $$
DECLARE
    ids   uuid[] := ARRAY(SELECT tandem_calls_of_number(of_tenant, of_digits) LIMIT most);
    heard jsonb;
    said  jsonb;
BEGIN
    SELECT coalesce(jsonb_agg(to_jsonb(r) ORDER BY r.id), '[]') INTO heard
        FROM (SELECT * FROM recordings WHERE tenant_id = of_tenant AND call_id = ANY (ids) LIMIT most) r;
    SELECT coalesce(jsonb_agg(to_jsonb(t) ORDER BY t.call_id, t.seq), '[]') INTO said
        FROM (SELECT * FROM transcripts WHERE tenant_id = of_tenant
              AND (call_id = ANY (ids) OR text ~ (of_digits || '(?![0-9])')) LIMIT most) t;
    RETURN jsonb_build_object('recordings', heard, 'transcripts', said);
END
$$;
