-- A call belongs to the node that carries it. The journal of that node says how it ended; of one that does not come back
-- another node says that its calls are over.

-- The node whose journal the record comes from; null: written by a version that did not say so.
ALTER TABLE calls ADD COLUMN node_id uuid;

-- Calls that are not known to be over are few among all: who looks for them reads no others.
CREATE INDEX calls_open ON calls (id) WHERE ended_at IS NULL;

-- When the calls were closed that the node left open, after it was seen last.
ALTER TABLE nodes ADD COLUMN calls_closed_at timestamptz;

-- A record that others closed has still the revision that its node gave it, and the event of its end the place of the
-- node's next event. Where the node comes back all the same, what it says takes the place of that, and is told.
CREATE FUNCTION tandem_take_back_end() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM call_events WHERE call_id = NEW.id AND seq >= OLD.rev;
    DELETE FROM webhook_outbox WHERE call_id = NEW.id AND seq >= OLD.rev AND state = 'pending';
    RETURN NULL;
END
$$;
CREATE TRIGGER take_back_end AFTER UPDATE ON calls
    FOR EACH ROW WHEN (OLD.cause = 'interrupted' AND NEW.rev > OLD.rev)
    EXECUTE FUNCTION tandem_take_back_end();
