-- Whether a number is available or assigned follows from what it is assigned to, whoever assigns it, and also where that
-- is deleted. `reserved` and `released` are said by the platform, and stay until it says otherwise.
CREATE FUNCTION tandem_number_assignment() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF NEW.assignment_status IN ('available', 'assigned') THEN
        NEW.assignment_status := CASE
            WHEN num_nonnulls(NEW.trunk_id, NEW.outbound_trunk_id, NEW.routing_profile_id,
                              NEW.ai_profile_id, NEW.campaign_id) > 0 THEN 'assigned'
            ELSE 'available'
        END;
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER follow_assignment BEFORE INSERT OR UPDATE ON phone_numbers
    FOR EACH ROW EXECUTE FUNCTION tandem_number_assignment();

-- The owner sees no row of it.
SET LOCAL ROLE tandem_node;
UPDATE phone_numbers SET assignment_status = 'available'
WHERE assignment_status = 'assigned'
  AND num_nonnulls(trunk_id, outbound_trunk_id, routing_profile_id, ai_profile_id, campaign_id) = 0;
RESET ROLE;
