-- Keys of the API are followed like what routing reads, so that a node that lost its database still knows
-- who may hang a call up, and no longer knows who was revoked.

ALTER TABLE routing_changes DROP CONSTRAINT routing_changes_kind_check;
ALTER TABLE routing_changes ADD CONSTRAINT routing_changes_kind_check CHECK (kind IN (
    'tenant', 'ai_profile', 'number', 'trunk', 'routing_profile', 'campaign', 'api_key', 'resync'
));

CREATE TRIGGER routing_insert AFTER INSERT ON api_keys REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION tandem_routing_changed('api_key');
CREATE TRIGGER routing_update AFTER UPDATE ON api_keys REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION tandem_routing_changed('api_key');
CREATE TRIGGER routing_delete AFTER DELETE ON api_keys REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION tandem_routing_changed('api_key');
CREATE TRIGGER routing_truncate AFTER TRUNCATE ON api_keys
    FOR EACH STATEMENT EXECUTE FUNCTION tandem_routing_truncated();
