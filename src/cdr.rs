//! The call record, folded from call events.
