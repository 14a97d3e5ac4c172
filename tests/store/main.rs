//! The store against a real PostgreSQL: schema, tenancy, changes, journal, private cluster.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::string_slice,
    reason = "a failed check may panic"
)]

mod access;
mod call_commands;
mod changes;
mod cluster;
mod exports;
mod journal;
mod lost_calls;
mod pages;
#[path = "../support/postgres.rs"]
mod postgres;
mod rows;
mod schema;
mod secrets;
mod tenancy;
mod traces;
