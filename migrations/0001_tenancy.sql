-- Who may use the switch, and what a routing decision reads: tenants, AI profiles, trunks, numbers.

-- Two roles own nothing. Every table is under FORCE ROW LEVEL SECURITY, so even its owner sees only
-- what a policy shows him: a forgotten WHERE clause gives an empty list, never another tenant's rows.
--   tandem_api   the HTTP API, one tenant at a time: set_config('tandem.tenant_id', ..., true)
--   tandem_node  the switch itself, which routes calls of all tenants
-- The program logs in as the owner and takes one of the roles at once. A login that may not create
-- roles needs them made beforehand and granted to it.
DO $$
DECLARE
    role_name text;
BEGIN
    FOREACH role_name IN ARRAY ARRAY['tandem_api', 'tandem_node'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role_name) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN NOSUPERUSER NOBYPASSRLS', role_name);
        END IF;
        IF NOT EXISTS (
            SELECT FROM pg_auth_members m
            JOIN pg_roles granted ON granted.oid = m.roleid
            JOIN pg_roles member ON member.oid = m.member
            WHERE granted.rolname = role_name AND member.rolname = current_user
        ) THEN
            EXECUTE format('GRANT %I TO CURRENT_USER', role_name);
        END IF;
    END LOOP;
END
$$;

-- The tenant on whose behalf this session speaks; NULL, which equals no row, when none was set.
CREATE FUNCTION tandem_tenant() RETURNS uuid
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ SELECT nullif(current_setting('tandem.tenant_id', true), '')::uuid $$;

CREATE TABLE tenants (
    id         uuid PRIMARY KEY,
    name       text NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 200),
    status     text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended', 'deleted')),
    plan       text NOT NULL DEFAULT 'starter' CHECK (plan IN ('starter', 'growth', 'custom')),
    -- 0: no limit of its own; the node's limits hold all the same.
    calls_max  integer NOT NULL DEFAULT 0 CHECK (calls_max >= 0),
    cps_max    integer NOT NULL DEFAULT 0 CHECK (cps_max >= 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE ai_profiles (
    id            uuid PRIMARY KEY,
    tenant_id     uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    name          text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    role          text NOT NULL DEFAULT 'receptionist'
                  CHECK (role IN ('receptionist', 'sales', 'support', 'dispatcher', 'custom')),
    system_prompt text NOT NULL CHECK (btrim(system_prompt) <> ''),
    is_default    boolean NOT NULL DEFAULT false,
    -- How the agent is reached and when the call is answered; checked by the switch when it reads it.
    agent         jsonb NOT NULL CHECK (jsonb_typeof(agent) = 'object'),
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, name),
    -- Lets other tables reference a profile together with its tenant.
    UNIQUE (tenant_id, id)
);
CREATE UNIQUE INDEX ai_profiles_one_default ON ai_profiles (tenant_id) WHERE is_default;

CREATE TABLE trunks (
    id         uuid PRIMARY KEY,
    -- NULL: shared by all tenants.
    tenant_id  uuid REFERENCES tenants ON DELETE CASCADE,
    name       text NOT NULL UNIQUE CHECK (name ~ '^[a-z0-9-]{1,64}$'),
    -- The file of sip-profiles/ that this trunk extends.
    profile    text NOT NULL CHECK (profile ~ '^_?[a-z0-9-]{1,63}$'),
    -- Keys of the profile schema. Secrets are references (env:, file:), never values.
    overrides  jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(overrides) = 'object'),
    enabled    boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX trunks_tenant ON trunks (tenant_id);

-- Orders numbers by length, then value, as one integer, so that a range of numbers is an int8range:
-- the largest, 16 * 10^15, fits, and no extension is needed for the exclusion constraint.
CREATE FUNCTION tandem_number_rank(number text) RETURNS bigint
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$ SELECT length(number)::bigint * 1000000000000000 + substr(number, 2)::bigint $$;

CREATE TABLE phone_numbers (
    id                 uuid PRIMARY KEY,
    tenant_id          uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    -- One number, or a range of numbers of one length; both ends belong to it.
    first_number       text NOT NULL CHECK (first_number ~ '^\+[1-9][0-9]{2,14}$'),
    last_number        text NOT NULL CHECK (last_number ~ '^\+[1-9][0-9]{2,14}$'),
    -- NULL: any shared trunk, and any trunk of the same tenant, may bring calls for it.
    trunk_id           uuid REFERENCES trunks ON DELETE SET NULL,
    -- NULL: the tenant's default profile answers.
    ai_profile_id      uuid,
    provider           text NOT NULL DEFAULT '',
    label              text NOT NULL DEFAULT '' CHECK (length(label) <= 200),
    assignment_status  text NOT NULL DEFAULT 'assigned'
                       CHECK (assignment_status IN ('available', 'assigned', 'reserved', 'released')),
    compliance_state   text NOT NULL DEFAULT 'not_required'
                       CHECK (compliance_state IN ('not_required', 'pending', 'approved', 'rejected')),
    is_active          boolean NOT NULL DEFAULT true,
    created_at         timestamptz NOT NULL DEFAULT now(),
    updated_at         timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT phone_numbers_range
        CHECK (length(first_number) = length(last_number) AND first_number <= last_number COLLATE "C"),
    -- A number answers with a profile of its own tenant, or with none. Only the profile is set to
    -- NULL when it goes; the number stays the tenant's.
    CONSTRAINT phone_numbers_profile
        FOREIGN KEY (tenant_id, ai_profile_id) REFERENCES ai_profiles (tenant_id, id)
        ON DELETE SET NULL (ai_profile_id),
    -- A number belongs to one tenant, alone or within a range.
    CONSTRAINT phone_numbers_no_overlap EXCLUDE USING gist (
        int8range(tandem_number_rank(first_number), tandem_number_rank(last_number), '[]') WITH &&
    )
);
CREATE INDEX phone_numbers_tenant ON phone_numbers (tenant_id);
CREATE INDEX phone_numbers_trunk ON phone_numbers (trunk_id);
CREATE INDEX phone_numbers_ai_profile ON phone_numbers (ai_profile_id);

-- A trunk of one tenant never carries a number of another.
CREATE FUNCTION tandem_check_number_trunk() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
    AS $$
BEGIN
    IF NEW.trunk_id IS NOT NULL AND EXISTS (
        SELECT FROM trunks WHERE id = NEW.trunk_id AND tenant_id <> NEW.tenant_id
    ) THEN
        RAISE EXCEPTION 'the trunk belongs to another tenant'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'phone_numbers_trunk_tenant';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER check_trunk BEFORE INSERT OR UPDATE OF trunk_id, tenant_id ON phone_numbers
    FOR EACH ROW EXECUTE FUNCTION tandem_check_number_trunk();

ALTER TABLE tenants ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE ai_profiles ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE trunks ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE phone_numbers ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

CREATE POLICY node ON tenants TO tandem_node USING (true) WITH CHECK (true);
CREATE POLICY node ON ai_profiles TO tandem_node USING (true) WITH CHECK (true);
CREATE POLICY node ON trunks TO tandem_node USING (true) WITH CHECK (true);
CREATE POLICY node ON phone_numbers TO tandem_node USING (true) WITH CHECK (true);

-- tandem_check_number_trunk() runs as the owner, who is bound by the policies as well.
CREATE POLICY owner ON trunks FOR SELECT TO CURRENT_USER USING (true);

CREATE POLICY tenant ON tenants TO tandem_api
    USING (id = tandem_tenant()) WITH CHECK (id = tandem_tenant());
CREATE POLICY tenant ON ai_profiles TO tandem_api
    USING (tenant_id = tandem_tenant()) WITH CHECK (tenant_id = tandem_tenant());
-- A tenant sees its own trunks; shared ones are the operator's.
CREATE POLICY tenant ON trunks TO tandem_api
    USING (tenant_id = tandem_tenant()) WITH CHECK (tenant_id = tandem_tenant());
CREATE POLICY tenant ON phone_numbers TO tandem_api
    USING (tenant_id = tandem_tenant()) WITH CHECK (tenant_id = tandem_tenant());

GRANT SELECT, INSERT, UPDATE, DELETE ON tenants, ai_profiles, trunks, phone_numbers TO tandem_node;
-- Tenants are made, suspended and limited by the operator only.
GRANT SELECT ON tenants TO tandem_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON ai_profiles, trunks, phone_numbers TO tandem_api;
