-- Which node began to place the call of a request that names itself. It alone knows whether it did, until the call's
-- record is stored: no other takes such a request over. NULL: begun by an earlier version; nobody takes it over.
ALTER TABLE idempotency_keys ADD COLUMN node_id uuid;
