//! Logs and metrics: set-up and all names.
