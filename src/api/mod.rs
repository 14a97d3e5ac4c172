//! The HTTP interface: health, metrics, calls.
