-- There are more types of events than the 64 that an endpoint could name.
ALTER TABLE webhook_endpoints
    DROP CONSTRAINT webhook_endpoints_events_check,
    ADD CONSTRAINT webhook_endpoints_events_check CHECK (cardinality(events) BETWEEN 1 AND 128);
