-- The webhook of an AI profile that is asked who answers a call: {"url", "secret_ref", "timeout_ms"}.
ALTER TABLE ai_profiles
    ADD COLUMN answer_webhook jsonb CHECK (jsonb_typeof(answer_webhook) = 'object');

-- The variables that it set are beside those of the call from the moment its event comes, once. What applications
-- set meanwhile is newer. They are not kept with the event: of an erased call they have to go.
CREATE FUNCTION tandem_take_variables() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    UPDATE calls SET variables = (NEW.detail -> 'variables') || variables WHERE id = NEW.call_id;
    NEW.detail := NEW.detail - 'variables';
    RETURN NEW;
END
$$;
CREATE TRIGGER take_variables BEFORE INSERT ON call_events
    FOR EACH ROW WHEN (NEW.name = 'answer_asked' AND jsonb_typeof(NEW.detail -> 'variables') = 'object')
    EXECUTE FUNCTION tandem_take_variables();
