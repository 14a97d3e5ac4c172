//! The HTTP interface over real connections to a real PostgreSQL.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed check may panic")]

mod access;
mod bench;
mod calls;
mod changed;
mod document;
#[path = "../support/follower.rs"]
mod follower;
#[path = "../support/http.rs"]
mod http;
mod import;
mod live;
mod narrowed;
#[path = "../support/postgres.rs"]
mod postgres;
mod privacy;
#[path = "../support/receiver.rs"]
mod receiver;
mod resources;
mod said;
#[path = "../support/schema.rs"]
mod schema;
mod secrets;
#[path = "../support/sipp.rs"]
mod sipp;
mod standing;
#[path = "../support/switch.rs"]
mod switch;
mod told;
mod webhooks;
