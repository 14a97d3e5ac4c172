-- A trunk or a routing profile that is in use stays with its tenant. What uses it is checked where it
-- is written; this is the other side: given to another tenant, it would go on carrying the calls of
-- the one before. Made shared it may be: all may use it then.
CREATE FUNCTION tandem_check_still_owned() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
    AS $$
BEGIN
    IF NEW.tenant_id IS NULL OR NEW.tenant_id IS NOT DISTINCT FROM OLD.tenant_id THEN
        RETURN NEW;
    END IF;
    IF TG_TABLE_NAME = 'trunks' AND (
        EXISTS (
            SELECT FROM phone_numbers
            WHERE NEW.id IN (trunk_id, outbound_trunk_id) AND tenant_id <> NEW.tenant_id
        ) OR EXISTS (
            SELECT FROM tenants WHERE outbound_trunk_id = NEW.id AND id <> NEW.tenant_id
        ) OR EXISTS (
            SELECT FROM routing_profiles
            WHERE NEW.id IN (outbound_trunk_id, inbound_trunk_id)
                AND tenant_id IS DISTINCT FROM NEW.tenant_id
        )
    ) THEN
        RAISE EXCEPTION 'the trunk is used by another tenant'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'trunk_in_use';
    END IF;
    IF TG_TABLE_NAME = 'routing_profiles' AND EXISTS (
        SELECT FROM phone_numbers
        WHERE routing_profile_id = NEW.id AND tenant_id <> NEW.tenant_id
    ) THEN
        RAISE EXCEPTION 'the routing profile is used by another tenant'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'routing_profile_in_use';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER check_still_owned BEFORE UPDATE OF tenant_id ON trunks
    FOR EACH ROW EXECUTE FUNCTION tandem_check_still_owned();
CREATE TRIGGER check_still_owned BEFORE UPDATE OF tenant_id ON routing_profiles
    FOR EACH ROW EXECUTE FUNCTION tandem_check_still_owned();

-- tandem_check_still_owned() runs as the owner, who is bound by the policies as well.
CREATE POLICY owner ON phone_numbers FOR SELECT TO CURRENT_USER USING (true);
CREATE POLICY owner ON tenants FOR SELECT TO CURRENT_USER USING (true);

-- Written and read by nobody yet: one node keeps what it must know of itself in its data directory.
COMMENT ON TABLE nodes IS 'Nodes of a cluster; unused while there is one node.';
