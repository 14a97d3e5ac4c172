-- When a command to a call at another node may be tried again, as the node that has the call says.
ALTER TABLE call_commands ADD COLUMN retry_after_s integer CHECK (retry_after_s BETWEEN 0 AND 86400);
