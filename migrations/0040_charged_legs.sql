-- After a start the node reads what the legs of the last days used of daily budgets.
CREATE INDEX call_events_leg_answered ON call_events (call_id) WHERE name = 'leg_answered';
