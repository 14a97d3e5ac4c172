-- How tenants call out: routing profiles, default trunks, what may be called and how much of it.

-- Which trunks the numbers of a plan and a country use.
CREATE TABLE routing_profiles (
    id                uuid PRIMARY KEY,
    -- NULL: numbers of all tenants may use it.
    tenant_id         uuid REFERENCES tenants ON DELETE CASCADE,
    name              text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    -- For people who assign numbers; NULL: any.
    plan              text CHECK (plan IN ('starter', 'growth', 'custom')),
    country           text CHECK (country ~ '^[A-Z]{2}$'),
    -- The trunk calls out go by, and the only one calls in come by.
    outbound_trunk_id uuid REFERENCES trunks ON DELETE SET NULL,
    inbound_trunk_id  uuid REFERENCES trunks ON DELETE SET NULL,
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX routing_profiles_tenant ON routing_profiles (tenant_id);
CREATE INDEX routing_profiles_outbound_trunk ON routing_profiles (outbound_trunk_id);
CREATE INDEX routing_profiles_inbound_trunk ON routing_profiles (inbound_trunk_id);
CREATE UNIQUE INDEX routing_profiles_name ON routing_profiles
    (coalesce(tenant_id, '00000000-0000-0000-0000-000000000000'), name);

ALTER TABLE tenants
    -- The trunk of calls whose caller's number names none; NULL: such calls are refused.
    ADD COLUMN outbound_trunk_id  uuid REFERENCES trunks ON DELETE SET NULL,
    -- Prefixes; NULL: whatever the trunk allows, an empty list: nothing.
    ADD COLUMN allow_destinations text[]
        CHECK (array_position(allow_destinations, NULL) IS NULL
               AND array_to_string(allow_destinations, ' ') ~ '^(\+([1-9][0-9]{0,14})?( |$))*$'),
    -- 0: no limit of its own.
    ADD COLUMN calls_out_max      integer NOT NULL DEFAULT 0 CHECK (calls_out_max >= 0),
    ADD COLUMN daily_minutes      integer NOT NULL DEFAULT 0 CHECK (daily_minutes >= 0),
    -- In millionths of the currency.
    ADD COLUMN daily_spend_micros bigint NOT NULL DEFAULT 0 CHECK (daily_spend_micros >= 0),
    ADD COLUMN daily_spend_currency text NOT NULL DEFAULT 'USD'
        CHECK (daily_spend_currency ~ '^[A-Z]{3}$');
CREATE INDEX tenants_outbound_trunk ON tenants (outbound_trunk_id);

ALTER TABLE phone_numbers
    ADD COLUMN routing_profile_id uuid REFERENCES routing_profiles ON DELETE SET NULL,
    -- The trunk it calls out by; NULL: trunk_id, else that of its routing profile.
    ADD COLUMN outbound_trunk_id  uuid REFERENCES trunks ON DELETE SET NULL;
CREATE INDEX phone_numbers_routing_profile ON phone_numbers (routing_profile_id);
CREATE INDEX phone_numbers_outbound_trunk ON phone_numbers (outbound_trunk_id);

-- A trunk of one tenant never carries calls of another, and a routing profile of one tenant never routes
-- another's numbers.
CREATE FUNCTION tandem_check_outbound() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
    AS $$
DECLARE
    owner uuid;
    used  uuid[];
BEGIN
    CASE TG_TABLE_NAME
        WHEN 'tenants' THEN
            owner := NEW.id;
            used := ARRAY[NEW.outbound_trunk_id];
        WHEN 'phone_numbers' THEN
            owner := NEW.tenant_id;
            used := ARRAY[NEW.outbound_trunk_id];
            IF EXISTS (
                SELECT FROM routing_profiles
                WHERE id = NEW.routing_profile_id AND tenant_id <> NEW.tenant_id
            ) THEN
                RAISE EXCEPTION 'the routing profile belongs to another tenant'
                    USING ERRCODE = 'check_violation', CONSTRAINT = 'routing_profile_tenant';
            END IF;
        ELSE
            owner := NEW.tenant_id;
            used := ARRAY[NEW.outbound_trunk_id, NEW.inbound_trunk_id];
    END CASE;
    IF EXISTS (
        SELECT FROM trunks WHERE id = ANY(used) AND tenant_id IS NOT NULL
            AND tenant_id IS DISTINCT FROM owner
    ) THEN
        RAISE EXCEPTION 'the trunk belongs to another tenant'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'outbound_trunk_tenant';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER check_outbound BEFORE INSERT OR UPDATE OF outbound_trunk_id ON tenants
    FOR EACH ROW EXECUTE FUNCTION tandem_check_outbound();
CREATE TRIGGER check_outbound
    BEFORE INSERT OR UPDATE OF outbound_trunk_id, routing_profile_id, tenant_id ON phone_numbers
    FOR EACH ROW EXECUTE FUNCTION tandem_check_outbound();
CREATE TRIGGER check_outbound
    BEFORE INSERT OR UPDATE OF outbound_trunk_id, inbound_trunk_id, tenant_id ON routing_profiles
    FOR EACH ROW EXECUTE FUNCTION tandem_check_outbound();

ALTER TABLE routing_profiles ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY node ON routing_profiles TO tandem_node USING (true) WITH CHECK (true);
-- tandem_check_outbound() runs as the owner.
CREATE POLICY owner ON routing_profiles FOR SELECT TO CURRENT_USER USING (true);
CREATE POLICY tenant ON routing_profiles TO tandem_api
    USING (tenant_id = tandem_tenant()) WITH CHECK (tenant_id = tandem_tenant());
GRANT SELECT, INSERT, UPDATE, DELETE ON routing_profiles TO tandem_node;
-- By which carrier a tenant's calls go is the operator's choice.
GRANT SELECT ON routing_profiles TO tandem_api;

ALTER TABLE routing_changes DROP CONSTRAINT routing_changes_kind_check;
ALTER TABLE routing_changes ADD CONSTRAINT routing_changes_kind_check
    CHECK (kind IN ('tenant', 'ai_profile', 'number', 'trunk', 'routing_profile', 'resync'));

CREATE TRIGGER routing_insert AFTER INSERT ON routing_profiles REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION tandem_routing_changed('routing_profile');
CREATE TRIGGER routing_update AFTER UPDATE ON routing_profiles REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION tandem_routing_changed('routing_profile');
CREATE TRIGGER routing_delete AFTER DELETE ON routing_profiles REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION tandem_routing_changed('routing_profile');
CREATE TRIGGER routing_truncate AFTER TRUNCATE ON routing_profiles
    FOR EACH STATEMENT EXECUTE FUNCTION tandem_routing_truncated();
