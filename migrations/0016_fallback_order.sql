-- Which agents take over, in order, where that of a profile cannot be reached or is lost.

ALTER TABLE ai_profiles
    -- Other profiles of the tenant. Only this list counts for a call, not those of the profiles in it: so
    -- there is no circle.
    ADD COLUMN fallback_profiles uuid[] NOT NULL DEFAULT '{}'
        CONSTRAINT ai_profiles_fallback_max CHECK (cardinality(fallback_profiles) <= 4),
    ADD CONSTRAINT ai_profiles_fallback_self CHECK (NOT id = ANY (fallback_profiles));

-- With the rights of who writes: a tenant's key finds its own profiles alone.
CREATE FUNCTION tandem_check_fallback() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
DECLARE
    found integer;
BEGIN
    IF cardinality(NEW.fallback_profiles) = 0 THEN
        RETURN NEW;
    END IF;
    -- The lock keeps them from being deleted before this is committed.
    SELECT count(*) INTO found FROM (
        SELECT FROM ai_profiles
        WHERE id = ANY (NEW.fallback_profiles) AND tenant_id = NEW.tenant_id
        FOR KEY SHARE
    ) known;
    -- Fewer are found, too, where one is given twice.
    IF found <> cardinality(NEW.fallback_profiles) THEN
        RAISE EXCEPTION 'a profile is not there, not of the tenant, or given twice'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'ai_profiles_fallback_known';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER check_fallback BEFORE INSERT OR UPDATE OF fallback_profiles, tenant_id ON ai_profiles
    FOR EACH ROW EXECUTE FUNCTION tandem_check_fallback();

-- Who is deleted takes over from nobody.
CREATE FUNCTION tandem_forget_fallback() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    UPDATE ai_profiles SET fallback_profiles = array_remove(fallback_profiles, OLD.id)
    WHERE tenant_id = OLD.tenant_id AND OLD.id = ANY (fallback_profiles);
    RETURN NULL;
END
$$;
CREATE TRIGGER forget_fallback AFTER DELETE ON ai_profiles
    FOR EACH ROW EXECUTE FUNCTION tandem_forget_fallback();

-- Pages of calls, newest first: from any moment on it is a walk along this index, however many are newer.
CREATE INDEX calls_page ON calls (tenant_id, arrived_at DESC, id DESC);
