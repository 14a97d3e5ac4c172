//! PostgreSQL, the journal of call records, and the routing table's file.
