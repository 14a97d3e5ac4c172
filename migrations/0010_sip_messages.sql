-- The signalling of calls that ended, for whoever must explain them later: written in batches behind the
-- call, deleted when trace.keep_s is over. Secrets are masked before they come here.
CREATE TABLE sip_messages (
    call_id   uuid NOT NULL REFERENCES calls ON DELETE CASCADE,
    seq       integer NOT NULL CHECK (seq >= 0),
    tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    at        timestamptz NOT NULL,
    way       text NOT NULL CHECK (way IN ('in', 'out')),
    transport text NOT NULL CHECK (transport IN ('udp', 'tcp', 'tls')),
    local     text NOT NULL,
    remote    text NOT NULL,
    message   bytea NOT NULL CHECK (length(message) <= 65536),
    -- Messages of the call that were not kept; on its first row alone.
    left_out  integer NOT NULL DEFAULT 0 CHECK (left_out >= 0),
    PRIMARY KEY (call_id, seq)
);
CREATE INDEX sip_messages_tenant ON sip_messages (tenant_id);
CREATE INDEX sip_messages_at ON sip_messages (at);

ALTER TABLE sip_messages ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY node ON sip_messages TO tandem_node USING (true) WITH CHECK (true);
CREATE POLICY tenant ON sip_messages TO tandem_api USING (tenant_id = tandem_tenant());

GRANT SELECT, INSERT, DELETE ON sip_messages TO tandem_node;
-- Signalling is written by the switch alone.
GRANT SELECT ON sip_messages TO tandem_api;
