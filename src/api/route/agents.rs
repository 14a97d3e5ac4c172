//! The routes of how agents fare.

use crate::api::agent_endpoints;
use crate::api::route::Access;
use crate::api::route::Route;
use crate::api::route::asks;
use crate::api::route::route;
use crate::store::api_keys::KeyRole;
use axum::routing::get;

pub(super) const AGENTS: [Route; 1] = [route(
    ("GET", "/api/v1/tenants/{tenant_id}/agent-endpoints"),
    Access::Tenant(KeyRole::Viewer),
    asks(None, 200, "AgentEndpoints"),
    "Shows where the agents of the tenant's AI profiles are, and how the circuit of each stands on this node.",
    || get(agent_endpoints::list),
)];
