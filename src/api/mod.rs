//! The HTTP interface: health, metrics, calls.

mod auth;
mod calls;
mod connections;
mod control;
mod error;
mod health;
mod trace;
mod trunks;
mod views;

pub use crate::api::health::Readiness;

use crate::api::connections::HttpLimits;
use crate::clock;
use crate::engine::originate::CallControl;
use crate::engine::trace::Traces;
use crate::engine::trunk_states::TrunkStates;
use crate::store::database::Database;
use crate::telemetry::metric;
use crate::telemetry::metric::Counter;
use crate::telemetry::metric::Histogram;
use crate::telemetry::metric::Metrics;
use axum::Router;
use axum::extract::Request;
use axum::http::HeaderValue;
use axum::middleware;
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::get;
use axum::routing::post;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// The header that names a request in answers and logs.
const REQUEST_ID: &str = "x-request-id";

/// What the handlers work with.
#[derive(Clone)]
pub struct Context {
    /// The database.
    pub database: Database,
    /// The metrics; `None` where the process has no recorder.
    pub metrics: Option<Metrics>,
    /// How the node fares at this moment.
    pub readiness: Arc<dyn Fn() -> Readiness + Send + Sync>,
    /// The signalling of calls.
    pub traces: Traces,
    /// The calls; `None` where the process carries none.
    pub calls: Option<CallControl>,
    /// How trunks stand.
    pub trunks: TrunkStates,
}

/// The identity of a request.
#[derive(Clone, Debug)]
struct RequestId(String);

/// The whole interface.
pub fn router(context: Context) -> Router {
    Router::new()
        .route("/healthz", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .route("/api/v1/tenants/{tenant_id}/calls", get(calls::list).post(control::place))
        .route("/api/v1/tenants/{tenant_id}/calls/{call_id}", get(calls::show))
        .route("/api/v1/tenants/{tenant_id}/calls/{call_id}/hangup", post(control::hang_up))
        .route("/api/v1/tenants/{tenant_id}/calls/{call_id}/transfer", post(control::transfer))
        .route("/api/v1/tenants/{tenant_id}/calls/{call_id}/trace", get(trace::show))
        .route("/api/v1/tenants/{tenant_id}/calls/{call_id}/trace/ladder", get(trace::ladder))
        .route("/api/v1/tenants/{tenant_id}/calls/{call_id}/trace/pcap", get(trace::pcap))
        .route("/api/v1/tenants/{tenant_id}/trunks", get(trunks::list))
        .fallback(error::no_such_path)
        .method_not_allowed_fallback(error::no_such_method)
        .layer(middleware::from_fn(observe))
        .with_state(context)
}

/// Serves until `stop` turns true, then lets running requests finish, however long their clients take.
/// Whoever waits for that bounds it; dropping this cuts them.
pub async fn serve(listener: TcpListener, context: Context, stop: watch::Receiver<bool>) {
    connections::serve(listener, router(context), HttpLimits::default(), stop).await;
}

/// Names, counts and times each request.
async fn observe(mut request: Request, next: Next) -> Response {
    let began = clock::now();
    let id = clock::new_uuid().to_string();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    request.extensions_mut().insert(RequestId(id.clone()));
    let mut response = next.run(request).await;
    let status = response.status();
    let took = clock::now().since(began);
    metric::labelled(Counter::ApiRequests, status_class(status.as_u16())).increment(1);
    metric::observe(Histogram::ApiLatency, took);
    tracing::debug!(request_id = %id, %method, path, status = status.as_u16(), "request");
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

const fn status_class(status: u16) -> &'static str {
    match status {
        0..200 => "1xx",
        200..300 => "2xx",
        300..400 => "3xx",
        400..500 => "4xx",
        500.. => "5xx",
    }
}
