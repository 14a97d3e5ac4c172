-- A call may be ended by whom it was forwarded or transferred to.
ALTER TABLE calls DROP CONSTRAINT calls_ended_by_check;
ALTER TABLE calls ADD CONSTRAINT calls_ended_by_check
    CHECK (ended_by IN ('caller', 'far', 'agent', 'switch', 'operator'));
