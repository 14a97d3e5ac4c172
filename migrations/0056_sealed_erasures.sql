-- Numbers that nodes have still to erase do not stand in clear for a node that is away: they are sealed with its key, and
-- nobody else opens them.

-- What is sealed for the node is sealed with this (X25519). One whose times differ was registered last by a version that
-- seals nothing: for that the number goes into the table that it reads.
ALTER TABLE nodes ADD COLUMN public_key bytea CHECK (octet_length(public_key) = 32);
ALTER TABLE nodes ADD COLUMN public_key_at timestamptz;

-- As `erasures`, for nodes with a key.
CREATE TABLE sealed_erasures (
    id        uuid NOT NULL,
    node_id   uuid NOT NULL REFERENCES nodes ON DELETE CASCADE,
    tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    digits    bytea NOT NULL CHECK (octet_length(digits) <= 200),
    -- The calls in which the number had a part.
    calls     uuid[] NOT NULL DEFAULT '{}',
    at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (node_id, id)
);
CREATE INDEX sealed_erasures_tenant ON sealed_erasures (tenant_id);
CREATE INDEX sealed_erasures_id ON sealed_erasures (id);

ALTER TABLE sealed_erasures ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY node ON sealed_erasures TO tandem_node USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON sealed_erasures TO tandem_node;
