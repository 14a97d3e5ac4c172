-- What applications say of calls, and the requests that are answered once however often they come.

-- What a call was told to pass on, and what came of it. The switch writes the variables with the call's birth
-- and never again; the rest, and changes, are the API's, during the call and after.
ALTER TABLE calls
    ADD COLUMN variables   jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(variables) = 'object'),
    ADD COLUMN disposition text CHECK (length(disposition) BETWEEN 1 AND 64),
    ADD COLUMN outcome     text CHECK (length(outcome) BETWEEN 1 AND 64),
    ADD COLUMN summary     text CHECK (length(summary) BETWEEN 1 AND 10000);
CREATE INDEX calls_disposition ON calls (tenant_id, disposition, id DESC) WHERE disposition IS NOT NULL;

GRANT UPDATE (variables, disposition, outcome, summary) ON calls TO tandem_api;

-- A request to place a call that names itself: it is carried out once. The answer is null until it is done.
CREATE TABLE idempotency_keys (
    tenant_id  uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    key        text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
    -- SHA-256 of what was asked.
    asked      bytea NOT NULL CHECK (length(asked) = 32),
    -- The call it places. No reference: its record comes later.
    call_id    uuid NOT NULL,
    -- Until when whoever began it may be at it.
    busy_until timestamptz NOT NULL,
    status     smallint CHECK (status BETWEEN 200 AND 599),
    answer     jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, key),
    CHECK ((status IS NULL) = (answer IS NULL))
);
CREATE INDEX idempotency_keys_created ON idempotency_keys (tenant_id, created_at);

ALTER TABLE idempotency_keys ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY node ON idempotency_keys TO tandem_node USING (true) WITH CHECK (true);
CREATE POLICY tenant ON idempotency_keys TO tandem_api
    USING (tenant_id = tandem_tenant()) WITH CHECK (tenant_id = tandem_tenant());

GRANT SELECT, INSERT, UPDATE, DELETE ON idempotency_keys TO tandem_node, tandem_api;
