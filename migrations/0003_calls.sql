-- What happened: nodes, call records and their events.

CREATE TABLE nodes (
    id         uuid PRIMARY KEY,
    name       text NOT NULL,
    version    text NOT NULL DEFAULT '',
    started_at timestamptz NOT NULL DEFAULT now(),
    seen_at    timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE calls (
    id               uuid PRIMARY KEY,
    -- How many events are folded in; a row is only ever replaced by one with a higher revision.
    rev              integer NOT NULL CHECK (rev >= 0),
    -- NULL only where the call reached no tenant.
    tenant_id        uuid REFERENCES tenants ON DELETE CASCADE,
    -- The trunk as routed. It may be a profile file without a row in trunks, so no reference; trunk_id
    -- is the row, as long as it exists.
    trunk_ref        uuid,
    trunk_id         uuid REFERENCES trunks ON DELETE SET NULL,
    number_id        uuid REFERENCES phone_numbers ON DELETE SET NULL,
    ai_profile_id    uuid REFERENCES ai_profiles ON DELETE SET NULL,
    direction        text NOT NULL CHECK (direction IN ('inbound', 'outbound')),
    signalling_id    text NOT NULL,
    source           text,
    transport        text CHECK (transport IN ('udp', 'tcp', 'tls')),
    caller           text NOT NULL,
    dialled_text     text NOT NULL,
    dialled          text CHECK (dialled ~ '^\+[1-9][0-9]{2,14}$'),
    decision         jsonb NOT NULL CHECK (jsonb_typeof(decision) = 'array'),
    arrived_at       timestamptz NOT NULL,
    decided_at       timestamptz,
    ringing_at       timestamptz,
    agent_ready_at   timestamptz,
    answered_at      timestamptz,
    acknowledged_at  timestamptz,
    first_media_at   timestamptz,
    fallback_at      timestamptz,
    ended_at         timestamptz,
    -- From the answer to the end by the monotonic clock: a step of the system clock does not move it.
    duration_ms      bigint NOT NULL DEFAULT 0 CHECK (duration_ms >= 0),
    codec            text,
    holds            integer NOT NULL DEFAULT 0,
    digits           integer NOT NULL DEFAULT 0,
    sip_status       smallint CHECK (sip_status BETWEEN 100 AND 699),
    cause            text,
    q850             smallint CHECK (q850 BETWEEN 1 AND 127),
    ended_by         text CHECK (ended_by IN ('caller', 'agent', 'switch', 'operator')),
    agent_failure    text,
    packets_in       bigint,
    packets_out      bigint,
    octets_in        bigint,
    octets_out       bigint,
    lost_in          bigint,
    late_in          bigint,
    lost_out         bigint,
    jitter_in_ms     double precision,
    jitter_out_ms    double precision,
    round_trip_ms    double precision,
    mos_in           double precision,
    mos_out          double precision,
    foreign_packets  bigint,
    underruns        integer,
    CHECK ((ended_at IS NULL) = (cause IS NULL))
);
-- The identity is a UUIDv7, so its order is the order of arrival: newest first, page by page.
CREATE INDEX calls_tenant ON calls (tenant_id, id DESC);
CREATE INDEX calls_trunk ON calls (trunk_id);
CREATE INDEX calls_number ON calls (number_id);
CREATE INDEX calls_ai_profile ON calls (ai_profile_id);

CREATE TABLE call_events (
    call_id   uuid NOT NULL REFERENCES calls ON DELETE CASCADE,
    seq       integer NOT NULL CHECK (seq >= 0),
    tenant_id uuid REFERENCES tenants ON DELETE CASCADE,
    at        timestamptz NOT NULL,
    name      text NOT NULL,
    detail    jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (call_id, seq)
);
CREATE INDEX call_events_tenant ON call_events (tenant_id);

ALTER TABLE calls ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE call_events ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY node ON calls TO tandem_node USING (true) WITH CHECK (true);
CREATE POLICY node ON call_events TO tandem_node USING (true) WITH CHECK (true);
CREATE POLICY tenant ON calls TO tandem_api USING (tenant_id = tandem_tenant());
CREATE POLICY tenant ON call_events TO tandem_api USING (tenant_id = tandem_tenant());

GRANT SELECT, INSERT, UPDATE, DELETE ON nodes, calls, call_events TO tandem_node;
-- Records are written by the switch alone.
GRANT SELECT ON calls, call_events TO tandem_api;
