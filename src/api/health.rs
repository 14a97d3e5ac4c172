//! Whether the node lives, whether it takes calls, and its metrics.

use crate::api::Context;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use serde::Serialize;

/// How the node fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// It takes no new call because it is shutting down.
    pub draining: bool,
    /// The routing table was loaded, from the database or its file.
    pub routing: bool,
    /// The database answers and every change in it is in force.
    pub database: bool,
    /// The disk takes call records.
    pub journal: bool,
    /// Every SIP shard runs: nobody serves the calls of one that stays down after faults again and again, or hangs.
    pub signalling: bool,
    /// A media thread runs: one that met faults again and again stays down.
    pub media: bool,
    /// Calls in progress.
    pub calls: usize,
}

impl Readiness {
    /// True when new calls should come here. A database that is away does not stop calls.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        !self.draining && self.routing && self.signalling && self.media
    }
}

#[derive(Serialize)]
struct ReadinessView {
    ready: bool,
    #[serde(flatten)]
    readiness: Readiness,
}

pub(super) async fn live() -> &'static str {
    "ok\n"
}

pub(super) async fn ready(State(context): State<Context>) -> Response {
    let readiness = (context.readiness)();
    let ready = readiness.is_ready();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(ReadinessView { ready, readiness })).into_response()
}

pub(super) async fn metrics(State(context): State<Context>) -> Response {
    let Some(metrics) = &context.metrics else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], metrics.render()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_database_leaves_the_node_ready_and_a_drain_does_not() {
        let well = Readiness {
            draining: false,
            routing: true,
            database: true,
            journal: true,
            signalling: true,
            media: true,
            calls: 0,
        };
        assert!(well.is_ready());
        assert!(Readiness { database: false, ..well }.is_ready());
        assert!(!Readiness { draining: true, ..well }.is_ready());
        assert!(!Readiness { routing: false, ..well }.is_ready());
        assert!(!Readiness { signalling: false, ..well }.is_ready());
        assert!(!Readiness { media: false, ..well }.is_ready());
    }
}
