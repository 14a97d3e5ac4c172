-- What the API needs to manage tenants' things: secrets of their own, and pages in the order of identities.

-- Secrets of a trunk or an AI profile, by name: AES-256-GCM under a key that is not in the database, bound
-- to the row and the name, so that one copied into another row opens nothing. "sealed:NAME" in the same
-- row's overrides or agent means one of these.
ALTER TABLE trunks
    ADD COLUMN sealed jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(sealed) = 'object');
ALTER TABLE ai_profiles
    ADD COLUMN sealed jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(sealed) = 'object');

CREATE INDEX phone_numbers_page ON phone_numbers (tenant_id, id DESC);
CREATE INDEX audit_log_page ON audit_log (tenant_id, id DESC);
-- The last call of a trunk.
CREATE INDEX calls_trunk_newest ON calls (trunk_id, id DESC);

-- A tenant's own key puts numbers on trunks of the tenant's own, and routes them by routing profiles of its
-- own. On a shared trunk it could claim a number of somebody else's; those are the platform's to give. For
-- the same reason the tenant's trunk does not go while numbers are on it: they would fall to shared ones.
CREATE FUNCTION tandem_check_own_trunk() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
    AS $$
DECLARE
    old_trunk    uuid;
    old_outbound uuid;
    old_profile  uuid;
BEGIN
    -- No tenant is set where the platform or the switch writes; rows of others are refused by the policies.
    IF tandem_tenant() IS DISTINCT FROM NEW.tenant_id THEN
        RETURN NEW;
    END IF;
    IF TG_OP = 'UPDATE' THEN
        old_trunk := OLD.trunk_id;
        old_outbound := OLD.outbound_trunk_id;
        old_profile := OLD.routing_profile_id;
    END IF;
    IF (TG_OP = 'INSERT' OR NEW.trunk_id IS DISTINCT FROM old_trunk) AND NOT EXISTS (
        SELECT FROM trunks WHERE id = NEW.trunk_id AND tenant_id = NEW.tenant_id
    ) THEN
        RAISE EXCEPTION 'the number is not on a trunk of its tenant'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'number_own_trunk';
    END IF;
    IF NEW.outbound_trunk_id IS NOT NULL AND NEW.outbound_trunk_id IS DISTINCT FROM old_outbound
        AND NOT EXISTS (
            SELECT FROM trunks WHERE id = NEW.outbound_trunk_id AND tenant_id = NEW.tenant_id
        ) THEN
        RAISE EXCEPTION 'the trunk is not of the tenant'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'number_own_outbound_trunk';
    END IF;
    IF NEW.routing_profile_id IS NOT NULL AND NEW.routing_profile_id IS DISTINCT FROM old_profile
        AND NOT EXISTS (
            SELECT FROM routing_profiles
            WHERE id = NEW.routing_profile_id AND tenant_id = NEW.tenant_id
        ) THEN
        RAISE EXCEPTION 'the routing profile is not of the tenant'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'number_own_routing_profile';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER check_own_trunk BEFORE INSERT OR UPDATE ON phone_numbers
    FOR EACH ROW EXECUTE FUNCTION tandem_check_own_trunk();
