-- What applications ask of a call at a node where it does not run, on its way to the node where it does, and the answer
-- on its way back. Rows live for seconds: whoever was asked takes them away again.

CREATE UNLOGGED TABLE call_commands (
    id         uuid PRIMARY KEY,
    tenant_id  uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    call_id    uuid NOT NULL,
    -- The request, its body as it came. Bytes, so that they are no text in which a number is looked for.
    path       text NOT NULL CHECK (length(path) BETWEEN 1 AND 400),
    kind       text CHECK (length(kind) <= 200),
    body       bytea NOT NULL,
    -- Whose key it was, as it was judged where it was given.
    key_id     uuid NOT NULL,
    is_platform boolean NOT NULL,
    role       text NOT NULL CHECK (role IN ('admin', 'operator', 'viewer')),
    request_id text NOT NULL CHECK (length(request_id) <= 64),
    asked_at   timestamptz NOT NULL DEFAULT now(),
    -- The node that is at it: it is done once, or not at all.
    taken_by   uuid,
    status     smallint CHECK (status BETWEEN 200 AND 599),
    answer     bytea
);
CREATE INDEX call_commands_call ON call_commands (call_id);
CREATE INDEX call_commands_tenant ON call_commands (tenant_id);

ALTER TABLE call_commands ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY node ON call_commands TO tandem_node USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON call_commands TO tandem_node;
