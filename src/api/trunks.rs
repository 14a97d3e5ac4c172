//! How the trunks of a tenant stand on this node: registrations and gateways.

use crate::api::Context;
use crate::api::RequestId;
use crate::api::auth;
use crate::api::error::ApiError;
use crate::clock;
use crate::engine::registry::RegistrationState;
use crate::engine::trunk_states::TrunkState;
use crate::routing::health::Availability;
use crate::store::api_keys::KeyScope;
use axum::Extension;
use axum::Json;
use axum::extract::Path;
use axum::extract::State;
use axum::http::HeaderMap;
use jiff::Timestamp;
use serde::Serialize;

#[derive(Serialize)]
pub(super) struct TrunksView {
    trunks: Vec<TrunkView>,
}

#[derive(Serialize)]
struct TrunkView {
    id: String,
    name: String,
    enabled: bool,
    /// True for a trunk of the platform.
    shared: bool,
    /// Calls in progress on this node, both ways.
    calls: u32,
    /// Null for a trunk that does not register.
    registration: Option<RegistrationView>,
    gateways: Vec<GatewayView>,
}

#[derive(Serialize)]
struct RegistrationView {
    /// `registering`, `registered` or `failed`.
    state: &'static str,
    registrar: String,
    /// The status of the last answer; null before the first.
    status: Option<u16>,
    /// When the binding ends unless it is refreshed.
    until: Option<Timestamp>,
    /// When the registrar is asked next; null while it is being asked.
    next_at: Option<Timestamp>,
}

#[derive(Serialize)]
struct GatewayView {
    name: String,
    /// `ready`, `trial`, `cooling`, `throttled`, `down` or `disabled`.
    state: &'static str,
    /// The end of its rest.
    until: Option<Timestamp>,
}

pub(super) async fn list(
    State(context): State<Context>,
    Extension(id): Extension<RequestId>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
) -> Result<Json<TrunksView>, ApiError> {
    let (tenant, scope) = auth::open_scope(&context, &headers, &tenant, &id).await?;
    // A tenant is not shown the carriers of the platform.
    let shared = scope == KeyScope::AllTenants;
    let trunks = context.trunks.of(tenant, shared).into_iter().map(TrunkView::of).collect();
    Ok(Json(TrunksView { trunks }))
}

impl TrunkView {
    fn of(state: TrunkState) -> Self {
        let trunk = state.trunk;
        Self {
            id: trunk.id.to_string(),
            name: trunk.name.clone(),
            enabled: trunk.enabled,
            shared: trunk.tenant.is_none(),
            calls: state.calls,
            registration: state.registration.map(RegistrationView::of),
            gateways: state.gateways.into_iter().map(GatewayView::of).collect(),
        }
    }
}

impl RegistrationView {
    fn of(state: RegistrationState) -> Self {
        Self {
            state: state.as_str(),
            status: state.status,
            until: state.until().map(clock::wall),
            next_at: state.next.map(clock::wall),
            registrar: state.registrar,
        }
    }
}

impl GatewayView {
    fn of((name, state): (String, Availability)) -> Self {
        let until = match state {
            Availability::Cooling(until) | Availability::Throttled(until) => Some(until),
            Availability::Ready
            | Availability::Trial
            | Availability::Down
            | Availability::Disabled => None,
        };
        Self { name, state: state.as_str(), until: until.map(clock::wall) }
    }
}
