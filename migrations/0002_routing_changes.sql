-- What changed in the tables that routing reads, in commit order, for every node to follow.

CREATE TABLE routing_changes (
    seq        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- 'resync' stands for "read everything again"; its row_id is NULL.
    kind       text NOT NULL
               CHECK (kind IN ('tenant', 'ai_profile', 'number', 'trunk', 'resync')),
    row_id     uuid,
    changed_at timestamptz NOT NULL DEFAULT now(),
    CHECK ((kind = 'resync') = (row_id IS NULL))
);
CREATE INDEX routing_changes_age ON routing_changes (changed_at);

-- The lock is held to the end of the transaction, so a node that has read up to `seq` never misses a
-- lower one that commits later. The notification is empty and therefore folded into one a
-- transaction; the table is the truth, and a node that missed a notification reads it all the same.
CREATE FUNCTION tandem_note_change(kind text, ids uuid[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
    AS $$
BEGIN
    IF cardinality(ids) = 0 THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock(7230112024);
    -- A bulk import is cheaper to read anew than row by row.
    IF cardinality(ids) > 1000 THEN
        INSERT INTO routing_changes (kind) VALUES ('resync');
    ELSE
        INSERT INTO routing_changes (kind, row_id) SELECT kind, unnest(ids);
    END IF;
    NOTIFY tandem_routing;
END
$$;
REVOKE ALL ON FUNCTION tandem_note_change(text, uuid[]) FROM PUBLIC;

-- One function for all tables: the trigger's argument names the kind. SECURITY DEFINER because who
-- changes a number may not write routing_changes directly.
CREATE FUNCTION tandem_routing_changed() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
    AS $$
DECLARE
    ids uuid[];
BEGIN
    IF TG_OP = 'DELETE' THEN
        SELECT coalesce(array_agg(id), '{}') INTO ids FROM old_rows;
    ELSE
        SELECT coalesce(array_agg(id), '{}') INTO ids FROM new_rows;
    END IF;
    PERFORM tandem_note_change(TG_ARGV[0], ids);
    RETURN NULL;
END
$$;

CREATE FUNCTION tandem_routing_truncated() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
    AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(7230112024);
    INSERT INTO routing_changes (kind) VALUES ('resync');
    NOTIFY tandem_routing;
    RETURN NULL;
END
$$;

-- A trigger with transition tables takes one event each.
DO $$
DECLARE
    watched text[];
BEGIN
    FOREACH watched SLICE 1 IN ARRAY ARRAY[
        ['tenants', 'tenant'], ['ai_profiles', 'ai_profile'],
        ['trunks', 'trunk'], ['phone_numbers', 'number']
    ] LOOP
        EXECUTE format(
            'CREATE TRIGGER routing_insert AFTER INSERT ON %I REFERENCING NEW TABLE AS new_rows
             FOR EACH STATEMENT EXECUTE FUNCTION tandem_routing_changed(%L)', watched[1], watched[2]);
        EXECUTE format(
            'CREATE TRIGGER routing_update AFTER UPDATE ON %I REFERENCING NEW TABLE AS new_rows
             FOR EACH STATEMENT EXECUTE FUNCTION tandem_routing_changed(%L)', watched[1], watched[2]);
        EXECUTE format(
            'CREATE TRIGGER routing_delete AFTER DELETE ON %I REFERENCING OLD TABLE AS old_rows
             FOR EACH STATEMENT EXECUTE FUNCTION tandem_routing_changed(%L)', watched[1], watched[2]);
        EXECUTE format(
            'CREATE TRIGGER routing_truncate AFTER TRUNCATE ON %I
             FOR EACH STATEMENT EXECUTE FUNCTION tandem_routing_truncated()', watched[1]);
    END LOOP;
END
$$;

-- Holds identities only, nothing of a tenant, and only nodes may read it.
GRANT SELECT, DELETE ON routing_changes TO tandem_node;
