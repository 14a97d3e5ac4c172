//! How the endpoints of a tenant's agents fare on this node.

use crate::agent::breaker;
use crate::agent::breaker::Circuit;
use crate::api::Context;
use crate::api::auth::Caller;
use crate::api::error::ApiError;
use crate::clock;
use crate::routing::table::AiProfile;
use axum::Extension;
use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::Serialize;
use std::sync::Arc;

/// The agents of a tenant that are connected to.
#[derive(Serialize)]
pub(super) struct EndpointsView {
    agents: Vec<AgentView>,
}

#[derive(Serialize)]
struct AgentView {
    ai_profile_id: String,
    name: String,
    #[serde(flatten)]
    endpoint: EndpointView,
}

/// How one endpoint stands.
#[derive(Serialize)]
pub(super) struct EndpointView {
    /// Without user, password and query.
    endpoint: String,
    /// `closed`, `open` or `half_open`.
    state: &'static str,
    /// Until when no call is tried; null unless open.
    until: Option<Timestamp>,
    failures_in_a_row: u32,
    served_last_minute: u32,
    failed_last_minute: u32,
    last_failure_at: Option<Timestamp>,
    last_failure: Option<&'static str>,
}

impl EndpointView {
    /// That of a profile's agent; `None` where nothing is connected to.
    pub(super) fn of(context: &Context, profile: &AiProfile) -> Option<Self> {
        let endpoint = breaker::endpoint_of(&profile.agent.kind)?;
        let state = context.trunks.agent_health().state(profile.tenant, &endpoint);
        let until = match state.circuit {
            Circuit::Open(until) => Some(clock::wall(until)),
            Circuit::Closed | Circuit::HalfOpen => None,
        };
        Some(Self {
            endpoint,
            state: state.circuit.as_str(),
            until,
            failures_in_a_row: state.failures_in_a_row,
            served_last_minute: state.served,
            failed_last_minute: state.failed,
            last_failure_at: state.last_failure.map(|(at, _)| clock::wall(at)),
            last_failure: state.last_failure.map(|(_, cause)| cause.code()),
        })
    }
}

pub(super) async fn list(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<EndpointsView>, ApiError> {
    let table = context.trunks.table();
    let own = |profile: &&Arc<AiProfile>| Some(profile.tenant) == caller.tenant;
    let mut profiles: Vec<_> = table.ai_profiles().filter(own).collect();
    profiles.sort_by(|one, other| (&one.name, one.id).cmp(&(&other.name, other.id)));
    let view = |profile: &Arc<AiProfile>| {
        Some(AgentView {
            ai_profile_id: profile.id.to_string(),
            name: profile.name.clone(),
            endpoint: EndpointView::of(&context, profile)?,
        })
    };
    Ok(Json(EndpointsView { agents: profiles.into_iter().filter_map(view).collect() }))
}
