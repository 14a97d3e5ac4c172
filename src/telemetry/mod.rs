//! Logs and metrics: set-up and all names.

pub mod logging;
pub mod metric;
