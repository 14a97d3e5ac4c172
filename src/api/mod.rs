//! The HTTP interface: health, metrics, what tenants have, calls.

mod agent_endpoints;
mod agent_media;
mod ai_profiles;
mod audit_log;
mod auth;
mod bodiless;
mod call_notes;
mod calls;
mod campaigns;
mod connections;
mod control;
mod cors;
mod csv;
mod elsewhere;
mod error;
mod explain;
mod health;
mod keys;
mod live;
mod live_view;
mod numbers;
pub mod openapi;
mod originate;
mod placing;
mod privacy;
mod rate;
mod recordings;
mod refused_sources;
mod resource;
pub mod route;
mod routing_profiles;
mod secrets;
mod slow;
mod stall;
mod steer;
mod steered;
mod supervise;
mod tenants;
mod token;
mod trace;
mod transcripts;
mod trunks;
mod turns;
mod twilio;
mod views;
mod webhooks;
mod wish;
mod worded;

pub use crate::api::elsewhere::carry_out;
pub use crate::api::health::Readiness;
pub use crate::api::live::EventHub;
pub use crate::api::placing::Placing;
pub use crate::api::rate::KeyRate;
pub use crate::api::token::TokenKeys;
pub use crate::api::turns::Turns;

use crate::api::auth::Gate;
use crate::api::connections::HttpLimits;
use crate::api::route::Route;
use crate::clock;
use crate::engine::originate::CallControl;
use crate::engine::trace::Traces;
use crate::engine::trunk_states::TrunkStates;
use crate::store::audit_queue::AuditQueue;
use crate::store::database::Database;
use crate::store::key_ring::KeyRing;
use crate::store::snapshot::Composer;
use crate::telemetry::metric;
use crate::telemetry::metric::Counter;
use crate::telemetry::metric::Histogram;
use crate::telemetry::metric::Metrics;
use crate::types::limit::HTTP_BODY_BYTES_MAX;
use crate::types::reach::Reach;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::extract::Request;
use axum::http::HeaderValue;
use axum::middleware;
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::MethodRouter;
use axum::routing::get;
use rustls::ServerConfig;
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
    /// The keys, for when the database is away.
    pub keys: Arc<KeyRing>,
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
    /// What makes rows of the database usable: with it changes are judged.
    pub composer: watch::Receiver<Composer>,
    /// How often keys may ask.
    pub rate: Arc<KeyRate>,
    /// The origins whose pages may ask.
    pub origins: Arc<[String]>,
    /// Who follows events.
    pub events: EventHub,
    /// What signs call tokens.
    pub tokens: TokenKeys,
    /// Where URLs of tenants may lead.
    pub reach: Arc<Reach>,
    /// Where agents may be.
    pub agents: Arc<Reach>,
    /// What notes who steered calls.
    pub audit: AuditQueue,
    /// Which calls were placed by requests that name themselves.
    pub placing: Arc<Placing>,
    /// What few may do at once.
    pub turns: Arc<Turns>,
}

/// The identity of a request.
#[derive(Clone, Debug, Default)]
struct RequestId(String);

/// The whole interface.
pub fn router(context: Context) -> Router {
    let mut router = Router::new()
        .route("/healthz", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .route(agent_media::PATH, get(agent_media::enter))
        .route(openapi::DOCUMENT_PATH, get(openapi::show))
        .route(openapi::PAGE_PATH, get(openapi::page))
        .route(&format!("{}{{*file}}", openapi::PAGE_PATH), get(openapi::page));
    for route in route::all() {
        let gate = Gate::of(&context, route);
        let guarded =
            handled(&context, route).route_layer(middleware::from_fn_with_state(gate, auth::pass));
        router = router.route(route.served_at(), guarded);
    }
    router
        .fallback(error::no_such_path)
        .method_not_allowed_fallback(error::no_such_method)
        .layer(DefaultBodyLimit::max(HTTP_BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(slow::Patience::default(), slow::in_time))
        .layer(middleware::from_fn_with_state(Arc::clone(&context.origins), cors::allow))
        .layer(middleware::from_fn(observe))
        .with_state(context)
}

/// What stands behind the gate of a route. Commands to calls go to the node where the call runs.
fn handled(context: &Context, route: &Route) -> MethodRouter<Context> {
    let mut handler = (route.handler)();
    if elsewhere::is_command(route) {
        let passed = middleware::from_fn_with_state(context.clone(), elsewhere::pass);
        handler = handler.route_layer(passed);
    }
    // Before it goes anywhere.
    if bodiless::is_meant(route) {
        handler = handler.route_layer(middleware::from_fn(bodiless::pass));
    }
    handler
}

/// What is shown over TLS to a connection that begins; asked for each, so that a certificate can be renewed.
pub type Tls = Arc<dyn Fn() -> Arc<ServerConfig> + Send + Sync>;

/// Serves until `stop` turns true, then lets running requests finish, however long their clients take.
/// Whoever waits for that bounds it; dropping this cuts them.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    context: Context,
    stop: watch::Receiver<bool>,
) {
    let limits = HttpLimits::default();
    connections::serve((listener, tls), router(context), limits, stop).await;
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
