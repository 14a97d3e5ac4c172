-- Keys of the API are followed like what routing reads, so that a node that lost its database still knows
-- who may hang a call up, and no longer knows who was revoked.

ALTER TABLE routing_changes DROP CONSTRAINT routing_changes_kind_check;
ALTER TABLE routing_changes ADD CONSTRAINT routing_changes_kind_check CHECK (kind IN (
    'tenant', 'ai_profile', 'number', 'trunk', 'routing_profile', 'campaign', 'api_key', 'resync'
));

CREATE TRIGGER routing_insert AFTER INSERT ON api_keys REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION tandem_routing_changed('api_key');
CREATE TRIGGER routing_update AFTER UPDATE ON api_keys REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION tandem_routing_changed('api_key');
CREATE TRIGGER routing_delete AFTER DELETE ON api_keys REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION tandem_routing_changed('api_key');
CREATE TRIGGER routing_truncate AFTER TRUNCATE ON api_keys
    FOR EACH STATEMENT EXECUTE FUNCTION tandem_routing_truncated();

-- Campaigns: calls out by numbers of their own, within a window of the day and so many at once.
CREATE TABLE campaigns (
    id            uuid PRIMARY KEY,
    tenant_id     uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    name          text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    status        text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'paused')),
    -- NULL: the profile of the caller's number, else the tenant's default.
    ai_profile_id uuid,
    time_zone     text NOT NULL DEFAULT 'UTC' CHECK (length(time_zone) BETWEEN 1 AND 64),
    -- Times of the day in that zone; both NULL: the whole day. A window may span midnight.
    window_from   text CHECK (window_from ~ '^([01][0-9]|2[0-3]):[0-5][0-9]$'),
    window_until  text CHECK (window_until ~ '^([01][0-9]|2[0-3]):[0-5][0-9]$'),
    weekdays      text[] NOT NULL DEFAULT '{mon,tue,wed,thu,fri,sat,sun}'
                  CHECK (weekdays <@ ARRAY['mon','tue','wed','thu','fri','sat','sun']),
    -- 0: no limit of its own.
    calls_max     integer NOT NULL DEFAULT 0 CHECK (calls_max >= 0),
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, name),
    UNIQUE (tenant_id, id),
    CONSTRAINT campaigns_window CHECK (
        (window_from IS NULL) = (window_until IS NULL) AND window_from IS DISTINCT FROM window_until
        OR (window_from IS NULL AND window_until IS NULL)
    ),
    CONSTRAINT campaigns_profile FOREIGN KEY (tenant_id, ai_profile_id)
        REFERENCES ai_profiles (tenant_id, id) ON DELETE SET NULL (ai_profile_id)
);
CREATE INDEX campaigns_page ON campaigns (tenant_id, id DESC);
CREATE INDEX campaigns_ai_profile ON campaigns (ai_profile_id);

-- A number of a campaign calls out for it alone. A campaign that has numbers is not deleted: they would be
-- free of its window without anybody's wish.
ALTER TABLE phone_numbers
    ADD COLUMN campaign_id uuid,
    ADD CONSTRAINT phone_numbers_campaign
        FOREIGN KEY (tenant_id, campaign_id) REFERENCES campaigns (tenant_id, id);
CREATE INDEX phone_numbers_campaign ON phone_numbers (campaign_id) WHERE campaign_id IS NOT NULL;

ALTER TABLE campaigns ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY node ON campaigns TO tandem_node USING (true) WITH CHECK (true);
CREATE POLICY tenant ON campaigns TO tandem_api
    USING (tenant_id = tandem_tenant()) WITH CHECK (tenant_id = tandem_tenant());
GRANT SELECT, INSERT, UPDATE, DELETE ON campaigns TO tandem_node, tandem_api;

CREATE TRIGGER routing_insert AFTER INSERT ON campaigns REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION tandem_routing_changed('campaign');
CREATE TRIGGER routing_update AFTER UPDATE ON campaigns REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION tandem_routing_changed('campaign');
CREATE TRIGGER routing_delete AFTER DELETE ON campaigns REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION tandem_routing_changed('campaign');
CREATE TRIGGER routing_truncate AFTER TRUNCATE ON campaigns
    FOR EACH STATEMENT EXECUTE FUNCTION tandem_routing_truncated();
