-- Who may speak to the API, and what they did.

CREATE TABLE api_keys (
    id           uuid PRIMARY KEY,
    -- NULL: a key of the operator, for all tenants.
    tenant_id    uuid REFERENCES tenants ON DELETE CASCADE,
    role         text NOT NULL CHECK (role IN ('admin', 'operator', 'viewer')),
    label        text NOT NULL DEFAULT '' CHECK (length(label) <= 200),
    -- SHA-256 of 256 random bits: nothing to guess, so no slow hash is needed; the key itself is
    -- shown once and never stored.
    hash         bytea NOT NULL UNIQUE CHECK (length(hash) = 32),
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz,
    revoked_at   timestamptz
);
CREATE INDEX api_keys_tenant ON api_keys (tenant_id);

CREATE TABLE audit_log (
    id         uuid PRIMARY KEY,
    tenant_id  uuid REFERENCES tenants ON DELETE SET NULL,
    at         timestamptz NOT NULL DEFAULT now(),
    -- Who: an API key, or a program of ours by name.
    api_key_id uuid REFERENCES api_keys ON DELETE SET NULL,
    actor      text NOT NULL CHECK (actor <> ''),
    action     text NOT NULL CHECK (action <> ''),
    subject    text NOT NULL,
    subject_id uuid,
    -- What changed; secrets never enter it.
    detail     jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX audit_log_tenant ON audit_log (tenant_id, at DESC);
CREATE INDEX audit_log_api_key ON audit_log (api_key_id);

ALTER TABLE api_keys ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE audit_log ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY node ON api_keys TO tandem_node USING (true) WITH CHECK (true);
CREATE POLICY node ON audit_log TO tandem_node USING (true) WITH CHECK (true);
-- A key is made, read and revoked by the switch's own role: who holds a tenant's key must not be able
-- to read hashes or to make himself a stronger one. No policy and no grant: tandem_api sees none.
CREATE POLICY tenant ON audit_log TO tandem_api
    USING (tenant_id = tandem_tenant()) WITH CHECK (tenant_id = tandem_tenant());

GRANT SELECT, INSERT, UPDATE, DELETE ON api_keys TO tandem_node;
-- A log that can be changed is none.
GRANT SELECT, INSERT ON audit_log TO tandem_node, tandem_api;
