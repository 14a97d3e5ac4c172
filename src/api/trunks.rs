//! Trunks: what they are, and how they stand on this node.

use crate::api::Context;
use crate::api::auth::Caller;
use crate::api::resource::Noun;
use crate::api::secrets;
use crate::clock;
use crate::engine::registry::RegistrationState;
use crate::engine::trunk_states::GatewayState;
use crate::engine::trunk_states::TrunkState;
use crate::routing::gateway_addresses::GatewayAddress;
use crate::routing::health::Availability;
use crate::store::resource::Fault;
use crate::store::resource::Place;
use crate::store::resource::Resource;
use crate::store::resource::Row;
use crate::store::resource::change::Draft;
use crate::store::trunks;
use crate::store::trunks::TRUNKS;
use crate::types::id::TenantId;
use axum::Extension;
use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use serde_json::json;
use std::collections::HashMap;
use std::net::IpAddr;
use std::net::SocketAddr;
use uuid::Uuid;

pub(super) struct Trunks;

impl Noun for Trunks {
    const RESOURCE: &'static Resource = &TRUNKS;
    const IS_LIVE: bool = true;

    /// The platform is shown the shared trunks beside a tenant's; a tenant is not shown the carriers of the
    /// platform.
    fn seen(caller: &Caller) -> Place {
        match caller.tenant {
            Some(tenant) if caller.is_platform() => Place::OfAndShared(tenant),
            Some(tenant) => Place::Of(tenant),
            None => Place::Shared,
        }
    }

    /// The trunk is made on trial, as it would be made for calls.
    fn amend(context: &Context, caller: &Caller, draft: &mut Draft<'_>) -> Result<(), Fault> {
        // What the platform named in it stays with the profile it was named for.
        let is_changed = |name: &str| {
            let before = draft.before.and_then(|row| row.members.get(name));
            draft.given.get(name).is_some_and(|given| Some(given) != before)
        };
        if !caller.is_platform() && (is_changed("overrides") || is_changed("profile")) {
            secrets::check_references("overrides", &draft.after("overrides"))?;
        }
        let composer = context.composer.borrow().clone();
        let sealed = secrets::sealed(draft);
        trunks::check((&composer, &context.agents), caller.tenant, draft, &sealed)
    }

    async fn complete(
        context: &Context,
        caller: &Caller,
        mut rows: Vec<Row>,
    ) -> Result<Vec<Row>, Fault> {
        let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
        let newest = trunks::newest_calls(&context.database, &caller.holder, &ids).await?;
        let mut states = states(context, caller.tenant, true);
        for row in &mut rows {
            let state = states.remove(&row.id).map(StateView::of);
            let is_shared = row.members.get("tenant_id").is_none_or(Value::is_null);
            let live = [
                ("shared", json!(is_shared)),
                ("calls", json!(state.as_ref().map_or(0, |state| state.calls))),
                ("last_invite_at", json!(newest.get(&row.id))),
                (
                    "registration",
                    json!(state.as_ref().and_then(|state| state.registration.as_ref())),
                ),
                ("sources", json!(state.as_ref().map_or(&[][..], |state| &state.sources))),
                ("gateways", json!(state.as_ref().map_or(&[][..], |state| &state.gateways))),
            ];
            row.members.extend(live.map(|(name, value)| (name.to_owned(), value)));
        }
        Ok(rows)
    }
}

fn states(context: &Context, tenant: Option<TenantId>, shared: bool) -> HashMap<Uuid, TrunkState> {
    let nobody = TenantId::from_uuid(Uuid::nil());
    let states = context.trunks.of(tenant.unwrap_or(nobody), shared);
    states.into_iter().map(|state| (state.trunk.id.uuid(), state)).collect()
}

/// How the trunks of the platform stand, those of profile files among them.
#[derive(Serialize)]
pub(super) struct StatesView {
    trunks: Vec<StateView>,
}

#[derive(Serialize)]
struct StateView {
    id: String,
    name: String,
    enabled: bool,
    /// Calls in progress on this node, both ways.
    calls: u32,
    /// Null for a trunk that does not register.
    registration: Option<RegistrationView>,
    /// The names of `inbound.source_dns`, and what they stand for on this node.
    sources: Vec<SourceView>,
    gateways: Vec<GatewayView>,
}

#[derive(Serialize)]
struct SourceView {
    name: String,
    /// Empty while DNS has none.
    addresses: Vec<IpAddr>,
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
    /// Those of its addresses that are not ready, while others may be.
    addresses: Vec<AddressView>,
}

#[derive(Serialize)]
struct AddressView {
    address: SocketAddr,
    /// `udp`, `tcp` or `tls`.
    transport: String,
    /// `trial`, `cooling` or `throttled`.
    state: &'static str,
    /// The end of its rest.
    until: Option<Timestamp>,
}

pub(super) async fn shared_states(
    State(context): State<Context>,
    Extension(_): Extension<Caller>,
) -> Json<StatesView> {
    let nobody = TenantId::from_uuid(Uuid::nil());
    let trunks = context.trunks.of(nobody, true).into_iter().map(StateView::of).collect();
    Json(StatesView { trunks })
}

impl StateView {
    fn of(state: TrunkState) -> Self {
        let trunk = state.trunk;
        Self {
            id: trunk.id.to_string(),
            name: trunk.name.clone(),
            enabled: trunk.enabled,
            calls: state.calls,
            registration: state.registration.map(RegistrationView::of),
            sources: state
                .sources
                .into_iter()
                .map(|(name, addresses)| SourceView { name, addresses })
                .collect(),
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
    fn of(gateway: GatewayState) -> Self {
        let GatewayState { name, state, addresses } = gateway;
        let addresses = addresses.into_iter().map(AddressView::of).collect();
        Self { name, state: state.as_str(), until: until(state), addresses }
    }
}

impl AddressView {
    fn of((own, state): (GatewayAddress, Availability)) -> Self {
        let transport = own.transport.to_string();
        Self { address: own.address, transport, state: state.as_str(), until: until(state) }
    }
}

fn until(state: Availability) -> Option<Timestamp> {
    match state {
        Availability::Cooling(until) | Availability::Throttled(until) => Some(clock::wall(until)),
        Availability::Ready | Availability::Trial | Availability::Down => None,
    }
}
