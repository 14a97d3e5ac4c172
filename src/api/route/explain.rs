//! The routes that tell why a call is carried, or is not.

use crate::api::explain;
use crate::api::refused_sources;
use crate::api::route::Access;
use crate::api::route::Route;
use crate::api::route::VIEWER;
use crate::api::route::asks;
use crate::api::route::route;
use axum::routing::get;
use axum::routing::post;

pub(super) const EXPLANATIONS: [Route; 3] = [
    route(
        ("POST", "/api/v1/tenants/{tenant_id}/explain"),
        Access::Tenant(VIEWER),
        asks(Some("ExplainWish"), 200, "Explanation"),
        "Tells step by step what would happen to a call in or out, without a call. It goes by the configuration: a campaign \
         that is paused or closed refuses, while gateways are taken to be up, and budgets and limits of calls at once to \
         have room.",
        || post(explain::explain_call),
    ),
    route(
        ("POST", "/api/v1/explain"),
        Access::Platform(VIEWER),
        asks(Some("ExplainWish"), 200, "Explanation"),
        "The same for a call of any tenant.",
        || post(explain::explain_call),
    ),
    route(
        ("GET", "/api/v1/refused-sources"),
        Access::Platform(VIEWER),
        asks(None, 200, "RefusedSourcePage"),
        "Lists INVITEs of sources that no trunk lists, the newest first: one a source a minute. `hint` names \
         the trunk to which the source most likely belongs.",
        || get(refused_sources::list),
    ),
];
