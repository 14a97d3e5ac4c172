//! Logs, metrics and spans: set-up, all names, and their form on the wire.

pub mod logging;
pub mod metric;
pub mod span;
