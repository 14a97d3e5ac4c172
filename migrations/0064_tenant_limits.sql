-- One tenant does not take the room of all: what its admins make has a bound. What is there already stays.

CREATE FUNCTION tandem_check_tenant_max() RETURNS trigger
    LANGUAGE plpgsql SET search_path FROM CURRENT
    AS $$
DECLARE
    most integer := TG_ARGV[0];
    have bigint;
BEGIN
    IF NEW.tenant_id IS NULL THEN
        RETURN NEW;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended(NEW.tenant_id::text || TG_TABLE_NAME, 64));
    IF TG_TABLE_NAME = 'api_keys' THEN
        -- One that ends another at once takes its room.
        IF current_setting('tandem.rotates', true) = 'swap' THEN
            RETURN NEW;
        END IF;
        -- One that takes the place of another is made beside it.
        IF current_setting('tandem.rotates', true) = 'on' THEN
            most := most * 2;
        END IF;
        -- One that opens nothing any more takes no room.
        SELECT count(*) INTO have FROM api_keys
            WHERE tenant_id = NEW.tenant_id AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now());
    ELSE
        EXECUTE format('SELECT count(*) FROM %I WHERE tenant_id = $1', TG_TABLE_NAME)
            INTO have USING NEW.tenant_id;
    END IF;
    IF have >= most THEN
        RAISE EXCEPTION 'a tenant has at most % of %', most, TG_TABLE_NAME
            USING ERRCODE = 'check_violation', CONSTRAINT = TG_TABLE_NAME || '_max';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER check_max BEFORE INSERT ON api_keys
    FOR EACH ROW EXECUTE FUNCTION tandem_check_tenant_max(100);
CREATE TRIGGER check_max BEFORE INSERT ON trunks
    FOR EACH ROW EXECUTE FUNCTION tandem_check_tenant_max(200);
CREATE TRIGGER check_max BEFORE INSERT ON ai_profiles
    FOR EACH ROW EXECUTE FUNCTION tandem_check_tenant_max(1000);
CREATE TRIGGER check_max BEFORE INSERT ON campaigns
    FOR EACH ROW EXECUTE FUNCTION tandem_check_tenant_max(1000);

-- A tenant's own key claims numbers that nobody has yet: as many as a tenant may need, not the numbering of a country,
-- which others would find taken. More are the platform's to give.
CREATE FUNCTION tandem_check_own_numbers() RETURNS trigger
    LANGUAGE plpgsql SET search_path FROM CURRENT
    AS $$
DECLARE
    range_most   CONSTANT bigint := 10000;
    entries_most CONSTANT bigint := 10000;
    numbers_most CONSTANT bigint := 100000;
    width   bigint;
    entries bigint;
    numbers numeric;
BEGIN
    -- No tenant is set where the platform or the switch writes.
    IF tandem_tenant() IS DISTINCT FROM NEW.tenant_id THEN
        RETURN NEW;
    END IF;
    width := tandem_number_rank(NEW.last_number) - tandem_number_rank(NEW.first_number) + 1;
    IF width > range_most THEN
        RAISE EXCEPTION 'the range has more than % numbers', range_most
            USING ERRCODE = 'check_violation', CONSTRAINT = 'number_range_max';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended(NEW.tenant_id::text || 'phone_numbers', 64));
    SELECT count(*), coalesce(sum(tandem_number_rank(last_number) - tandem_number_rank(first_number) + 1), 0)
        INTO entries, numbers
        FROM (SELECT first_number, last_number FROM phone_numbers
              WHERE tenant_id = NEW.tenant_id AND id <> NEW.id LIMIT entries_most) AS own;
    IF entries >= entries_most OR numbers + width > numbers_most THEN
        RAISE EXCEPTION 'the tenant has as many numbers as it may claim'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'numbers_max';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER check_own_numbers BEFORE INSERT OR UPDATE OF first_number, last_number ON phone_numbers
    FOR EACH ROW EXECUTE FUNCTION tandem_check_own_numbers();

-- A name is taken within a tenant, or among those that all share: that it is another tenant's is nobody's to know, nor to
-- hinder.
ALTER TABLE trunks DROP CONSTRAINT trunks_name_key;
CREATE UNIQUE INDEX trunks_name_shared ON trunks (name) WHERE tenant_id IS NULL;
CREATE UNIQUE INDEX trunks_name_own ON trunks (tenant_id, name) WHERE tenant_id IS NOT NULL;
