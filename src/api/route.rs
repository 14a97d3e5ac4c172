//! The table of routes: what there is, who may ask for it, and what it takes and gives. The router, the
//! document of the interface and the test of who opens what are made of it.

mod agents;
mod explain;
mod said;
mod twilio;

use crate::api::Context;
use crate::api::ai_profiles::AiProfiles;
use crate::api::audit_log::AuditLog;
use crate::api::call_notes;
use crate::api::calls;
use crate::api::campaigns::Campaigns;
use crate::api::control;
use crate::api::keys;
use crate::api::keys::Keys;
use crate::api::live;
use crate::api::numbers;
use crate::api::numbers::Numbers;
use crate::api::originate;
use crate::api::privacy;
use crate::api::resource;
use crate::api::resource::Noun;
use crate::api::routing_profiles::RoutingProfiles;
use crate::api::steer;
use crate::api::supervise;
use crate::api::tenants;
use crate::api::tenants::Tenants;
use crate::api::token;
use crate::api::trace;
use crate::api::trunks;
use crate::api::trunks::Trunks;
use crate::api::twilio::ROOT as TWILIO_ROOT;
use crate::api::webhooks;
use crate::api::webhooks::Webhooks;
use crate::store::api_keys::KeyRole;
use crate::store::resource::Resource;
use crate::types::limit::IMPORT_BYTES_MAX;
use axum::extract::DefaultBodyLimit;
use axum::routing::MethodRouter;
use axum::routing::delete;
use axum::routing::get;
use axum::routing::patch;
use axum::routing::post;

/// Whose keys open a route, and the least role they need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Keys of the platform.
    Platform(KeyRole),
    /// Keys of the tenant in the path, and of the platform.
    Tenant(KeyRole),
}

impl Access {
    /// The least role.
    #[must_use]
    pub const fn least(self) -> KeyRole {
        match self {
            Self::Platform(least) | Self::Tenant(least) => least,
        }
    }
}

/// One route.
pub(super) struct Route {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) access: Access,
    /// What it takes and gives.
    pub(super) shape: Shape,
    pub(super) about: &'static str,
    pub(super) handler: fn() -> MethodRouter<Context>,
}

impl Route {
    /// Whether it has the form of Twilio's API.
    pub(super) fn is_twilios(&self) -> bool {
        self.path.starts_with(TWILIO_ROOT)
    }

    /// The path as the router takes it: a parameter is a whole part there.
    pub(super) fn served_at(&self) -> &'static str {
        self.path
            .strip_suffix("}.json")
            .map_or(self.path, |rest| self.path.get(..=rest.len()).unwrap_or(self.path))
    }
}

/// What a route takes and gives.
#[derive(Clone, Copy)]
pub(super) enum Shape {
    /// A page of a resource.
    List(&'static Resource),
    /// One of it.
    Show(&'static Resource),
    /// One is made.
    Create(&'static Resource),
    /// One is changed.
    Change(&'static Resource),
    /// One goes.
    Delete(&'static Resource),
    /// Something goes that is no resource.
    Gone,
    /// Bodies by their names in the document: what is sent (if anything), and the status and body of the
    /// answer.
    Other {
        takes: Option<(&'static str, &'static str)>,
        status: u16,
        gives: (&'static str, &'static str),
    },
}

const VIEWER: KeyRole = KeyRole::Viewer;
const OPERATOR: KeyRole = KeyRole::Operator;
const ADMIN: KeyRole = KeyRole::Admin;
const JSON: &str = "application/json";

const fn route(
    (method, path): (&'static str, &'static str),
    access: Access,
    shape: Shape,
    about: &'static str,
    handler: fn() -> MethodRouter<Context>,
) -> Route {
    Route { method, path, access, shape, about, handler }
}

/// What is made of a body named `takes`, answered with one named `gives`.
const fn asks(takes: Option<&'static str>, status: u16, gives: &'static str) -> Shape {
    let takes = match takes {
        Some(takes) => Some((JSON, takes)),
        None => None,
    };
    Shape::Other { takes, status, gives: (JSON, gives) }
}

/// The five routes of a resource under a path.
macro_rules! resource_routes {
    ($noun:ty, $path:literal, $read:expr, $change:expr, $make:expr) => {
        [
            route(("GET", $path), $read, Shape::List(<$noun>::RESOURCE), "Lists them.", || {
                get(resource::list::<$noun>)
            }),
            route(("POST", $path), $make, Shape::Create(<$noun>::RESOURCE), "Makes one.", || {
                post(resource::create::<$noun>)
            }),
            route(
                ("GET", concat!($path, "/{id}")),
                $read,
                Shape::Show(<$noun>::RESOURCE),
                "Shows one.",
                || get(resource::show::<$noun>),
            ),
            route(
                ("PATCH", concat!($path, "/{id}")),
                $change,
                Shape::Change(<$noun>::RESOURCE),
                "Changes what is given of one; the rest stays.",
                || patch(resource::update::<$noun>),
            ),
            route(
                ("DELETE", concat!($path, "/{id}")),
                $make,
                Shape::Delete(<$noun>::RESOURCE),
                "Deletes one.",
                || delete(resource::delete::<$noun>),
            ),
        ]
    };
}

const TENANTS: [Route; 5] = [
    route(
        ("GET", "/api/v1/tenants"),
        Access::Platform(VIEWER),
        Shape::List(Tenants::RESOURCE),
        "Lists tenants.",
        || get(resource::list::<Tenants>),
    ),
    route(
        ("POST", "/api/v1/tenants"),
        Access::Platform(ADMIN),
        Shape::Create(Tenants::RESOURCE),
        "Makes a tenant.",
        || post(resource::create::<Tenants>),
    ),
    route(
        ("GET", "/api/v1/tenants/{tenant_id}"),
        Access::Tenant(VIEWER),
        Shape::Show(Tenants::RESOURCE),
        "Shows a tenant.",
        || get(tenants::show),
    ),
    route(
        ("PATCH", "/api/v1/tenants/{tenant_id}"),
        Access::Platform(ADMIN),
        Shape::Change(Tenants::RESOURCE),
        "Changes what is given of a tenant; the rest stays.",
        || patch(tenants::update),
    ),
    route(
        ("DELETE", "/api/v1/tenants/{tenant_id}"),
        Access::Platform(ADMIN),
        Shape::Delete(Tenants::RESOURCE),
        "Gives a tenant the status deleted: its keys open nothing and its calls are refused. Its records stay.",
        || delete(tenants::delete),
    ),
];

const AI_PROFILES: [Route; 5] = resource_routes!(
    AiProfiles,
    "/api/v1/tenants/{tenant_id}/ai-profiles",
    Access::Tenant(VIEWER),
    Access::Tenant(OPERATOR),
    Access::Tenant(OPERATOR)
);

const NUMBERS: [Route; 5] = resource_routes!(
    Numbers,
    "/api/v1/tenants/{tenant_id}/numbers",
    Access::Tenant(VIEWER),
    Access::Tenant(OPERATOR),
    Access::Tenant(ADMIN)
);

const TRUNKS: [Route; 5] = resource_routes!(
    Trunks,
    "/api/v1/tenants/{tenant_id}/trunks",
    Access::Tenant(VIEWER),
    Access::Tenant(ADMIN),
    Access::Tenant(ADMIN)
);

const SHARED_TRUNKS: [Route; 5] = resource_routes!(
    Trunks,
    "/api/v1/trunks",
    Access::Platform(VIEWER),
    Access::Platform(ADMIN),
    Access::Platform(ADMIN)
);

const ROUTING_PROFILES: [Route; 5] = resource_routes!(
    RoutingProfiles,
    "/api/v1/tenants/{tenant_id}/routing-profiles",
    Access::Tenant(VIEWER),
    Access::Platform(ADMIN),
    Access::Platform(ADMIN)
);

const CAMPAIGNS: [Route; 5] = resource_routes!(
    Campaigns,
    "/api/v1/tenants/{tenant_id}/campaigns",
    Access::Tenant(VIEWER),
    Access::Tenant(OPERATOR),
    Access::Tenant(OPERATOR)
);

const SHARED_ROUTING_PROFILES: [Route; 5] = resource_routes!(
    RoutingProfiles,
    "/api/v1/routing-profiles",
    Access::Platform(VIEWER),
    Access::Platform(ADMIN),
    Access::Platform(ADMIN)
);

/// The five routes of API keys under a path.
macro_rules! key_routes {
    ($path:literal, $access:expr) => {
        [
            route(("GET", $path), $access, Shape::List(Keys::RESOURCE), "Lists keys.", || {
                get(resource::list::<Keys>)
            }),
            route(
                ("POST", $path),
                $access,
                Shape::Create(Keys::RESOURCE),
                "Makes a key. The answer's `key` is the key itself, shown this once.",
                || post(keys::create),
            ),
            route(
                ("GET", concat!($path, "/{id}")),
                $access,
                Shape::Show(Keys::RESOURCE),
                "Shows a key, without the key itself.",
                || get(resource::show::<Keys>),
            ),
            route(
                ("DELETE", concat!($path, "/{id}")),
                $access,
                Shape::Delete(Keys::RESOURCE),
                "Revokes a key; it stays in lists.",
                || delete(keys::revoke),
            ),
            route(
                ("POST", concat!($path, "/{id}/rotate")),
                $access,
                asks(Some("KeyRotation"), 201, "ApiKeyMade"),
                "Makes a key with the rights of this one, shown this once, and ends this one.",
                || post(keys::rotate),
            ),
        ]
    };
}

const KEYS: [Route; 5] = key_routes!("/api/v1/tenants/{tenant_id}/api-keys", Access::Tenant(ADMIN));
const PLATFORM_KEYS: [Route; 5] = key_routes!("/api/v1/api-keys", Access::Platform(ADMIN));

const CALLS: [Route; 8] = [
    route(
        ("GET", "/api/v1/tenants/{tenant_id}/calls"),
        Access::Tenant(VIEWER),
        asks(None, 200, "CallPage"),
        "Lists calls, the newest first.",
        || get(calls::list),
    ),
    route(
        ("POST", "/api/v1/tenants/{tenant_id}/calls"),
        Access::Tenant(OPERATOR),
        asks(Some("CallWish"), 201, "CallState"),
        "Places a call. Sent again with the same `Idempotency-Key`, it places no other within a day.",
        || post(originate::place),
    ),
    route(
        ("GET", "/api/v1/tenants/{tenant_id}/calls/{id}"),
        Access::Tenant(VIEWER),
        asks(None, 200, "CallDetail"),
        "Shows a call with its decision and events.",
        || get(calls::show),
    ),
    route(
        ("PATCH", "/api/v1/tenants/{tenant_id}/calls/{id}"),
        Access::Tenant(OPERATOR),
        asks(Some("CallNotes"), 200, "CallDetail"),
        "Says something of a call, running or over; what is not given stays, null clears.",
        || patch(call_notes::update),
    ),
    route(
        ("POST", "/api/v1/tenants/{tenant_id}/calls/{id}/hangup"),
        Access::Tenant(OPERATOR),
        asks(None, 202, "CallStanding"),
        "Hangs a call up, and answers how it stands then.",
        || post(control::hang_up),
    ),
    route(
        ("POST", "/api/v1/tenants/{tenant_id}/calls/{id}/transfer"),
        Access::Tenant(OPERATOR),
        asks(Some("TransferWish"), 202, "CallStanding"),
        "Transfers a call, and answers how it stands then; how the transfer goes is told by its events.",
        || post(control::transfer),
    ),
    route(
        ("GET", "/api/v1/tenants/{tenant_id}/calls/{id}/trace"),
        Access::Tenant(VIEWER),
        asks(None, 200, "Trace"),
        "Shows the signalling of a call.",
        || get(trace::show),
    ),
    route(
        ("GET", "/api/v1/tenants/{tenant_id}/calls/{id}/trace/ladder"),
        Access::Tenant(VIEWER),
        Shape::Other { takes: None, status: 200, gives: ("text/plain", "Text") },
        "Draws the signalling of a call as text.",
        || get(trace::ladder),
    ),
];

const EVENTS: [Route; 3] = [
    route(
        ("GET", "/api/v1/tenants/{tenant_id}/events"),
        Access::Tenant(VIEWER),
        Shape::Other { takes: None, status: 200, gives: ("text/event-stream", "Events") },
        "Follows what happens to all calls, as server-sent events, or over a WebSocket if asked for \
         one. `after`, or Last-Event-ID, is the `id` of the last event that was heard. It ends with the key.",
        || get(live::of_tenant),
    ),
    route(
        ("GET", "/api/v1/tenants/{tenant_id}/calls/{id}/events"),
        Access::Tenant(VIEWER),
        Shape::Other { takes: None, status: 200, gives: ("text/event-stream", "Events") },
        "Follows what happens to a call until it ends, as server-sent events, or over a WebSocket if \
         asked for one. `after`, or Last-Event-ID, is the `seq` of the last event that was heard; -1: all. It \
         ends with the key or the token.",
        || get(live::of_call),
    ),
    route(
        ("POST", "/api/v1/tenants/{tenant_id}/calls/{id}/tokens"),
        Access::Tenant(VIEWER),
        asks(Some("TokenWish"), 201, "CallToken"),
        "Makes a token for one running call, for a browser: an hour at most, and worth nothing once the call \
         is over. A token renews itself here.",
        || post(token::create),
    ),
];

const WEBHOOKS: [Route; 8] = [
    route(
        ("GET", "/api/v1/tenants/{tenant_id}/webhooks"),
        Access::Tenant(VIEWER),
        Shape::List(Webhooks::RESOURCE),
        "Lists webhook endpoints.",
        || get(resource::list::<Webhooks>),
    ),
    route(
        ("POST", "/api/v1/tenants/{tenant_id}/webhooks"),
        Access::Tenant(ADMIN),
        Shape::Create(Webhooks::RESOURCE),
        "Makes a webhook endpoint. The answer's `secret` signs its events, and is shown this once.",
        || post(webhooks::create),
    ),
    route(
        ("GET", "/api/v1/tenants/{tenant_id}/webhooks/{id}"),
        Access::Tenant(VIEWER),
        Shape::Show(Webhooks::RESOURCE),
        "Shows a webhook endpoint, without its secret.",
        || get(resource::show::<Webhooks>),
    ),
    route(
        ("PATCH", "/api/v1/tenants/{tenant_id}/webhooks/{id}"),
        Access::Tenant(ADMIN),
        Shape::Change(Webhooks::RESOURCE),
        "Changes what is given of a webhook endpoint; the rest stays.",
        || patch(resource::update::<Webhooks>),
    ),
    route(
        ("DELETE", "/api/v1/tenants/{tenant_id}/webhooks/{id}"),
        Access::Tenant(ADMIN),
        Shape::Delete(Webhooks::RESOURCE),
        "Deletes a webhook endpoint, with what waits for it.",
        || delete(resource::delete::<Webhooks>),
    ),
    route(
        ("POST", "/api/v1/tenants/{tenant_id}/webhooks/{id}/rotate-secret"),
        Access::Tenant(ADMIN),
        asks(None, 200, "WebhookSecret"),
        "Gives a webhook endpoint a new secret, shown this once. The one before signs beside it until the \
         next rotation.",
        || post(webhooks::rotate),
    ),
    route(
        ("GET", "/api/v1/tenants/{tenant_id}/webhooks/{id}/deliveries"),
        Access::Tenant(VIEWER),
        asks(None, 200, "DeliveryPage"),
        "Lists events and how far each was told to the endpoint, the newest first.",
        || get(webhooks::deliveries),
    ),
    route(
        ("POST", "/api/v1/tenants/{tenant_id}/webhooks/{id}/replay"),
        Access::Tenant(OPERATOR),
        asks(Some("ReplayWish"), 202, "Replayed"),
        "Tells events once more. Each keeps its id, and those of one call their order.",
        || post(webhooks::replay),
    ),
];

/// A command to a running call.
macro_rules! command {
    ($name:literal, $takes:expr, $about:literal, $handler:path) => {
        route(
            ("POST", concat!("/api/v1/tenants/{tenant_id}/calls/{id}/", $name)),
            Access::Tenant(OPERATOR),
            asks($takes, 200, "CallStanding"),
            $about,
            || post($handler),
        )
    };
}

const STEERING: [Route; 11] = [
    command!("hold", None, "Puts the caller on hold.", steer::hold),
    command!("resume", None, "Takes the caller back from hold.", steer::resume),
    command!(
        "play",
        Some("PlayWish"),
        "Lets the caller hear a sound of the node, or a tone, instead of whom it talks with, or beside. What its \
         agent says meanwhile waits, or not.",
        steer::play
    ),
    command!("play/stop", None, "Ends what is played.", steer::stop_playing),
    command!("dtmf", Some("KeysWish"), "Sends keys to the peer of a leg.", steer::send_keys),
    command!(
        "mute",
        Some("MuteWish"),
        "Lets silence be heard in place of one side; keys pass all the same.",
        steer::mute
    ),
    command!("unmute", Some("MuteWish"), "Lets a muted side be heard again.", steer::unmute),
    command!(
        "attach",
        Some("AttachWish"),
        "Puts the agent of another AI profile in place of the present one. The caller hears ringing until \
         it is there.",
        steer::attach
    ),
    command!(
        "supervise",
        Some("SuperviseWish"),
        "Calls one more supervisor, of four at most. From its answer on it hears both sides and is heard by nobody \
         (listen), by whom the caller talks with (whisper), or by both (barge). The call's events tell of its leg.",
        supervise::begin
    ),
    command!(
        "supervise/mode",
        Some("SupervisionWish"),
        "Changes who hears a supervisor.",
        supervise::change
    ),
    command!("supervise/stop", Some("SupervisionEnd"), "Hangs a supervisor up.", supervise::end),
];

const REST: [Route; 7] = [
    route(
        ("POST", "/api/v1/tenants/{tenant_id}/privacy/export"),
        Access::Tenant(ADMIN),
        asks(Some("NumberWish"), 200, "PersonalData"),
        "Gives everything that happened to the tenant in which a number stands, row by row, however much it is.",
        || post(privacy::export),
    ),
    route(
        ("POST", "/api/v1/tenants/{tenant_id}/privacy/erase"),
        Access::Tenant(ADMIN),
        asks(Some("NumberWish"), 200, "Erased"),
        "Takes a number out of everything that happened to the tenant; what it was called for and how it went stays.",
        || post(privacy::erase),
    ),
    route(
        ("GET", "/api/v1/tenants/{tenant_id}/calls/{id}/trace/pcap"),
        Access::Tenant(VIEWER),
        Shape::Other { takes: None, status: 200, gives: ("application/vnd.tcpdump.pcap", "Bytes") },
        "Gives the signalling of a call as a capture for Wireshark.",
        || get(trace::pcap),
    ),
    route(
        ("POST", "/api/v1/tenants/{tenant_id}/numbers/import"),
        Access::Tenant(ADMIN),
        Shape::Other { takes: Some(("text/csv", "Text")), status: 200, gives: (JSON, "Import") },
        "Makes the numbers of a table, whose heading has names of fields. Each row is judged for itself: what \
         is wrong with one does not keep the others out.",
        || post(numbers::import).layer(DefaultBodyLimit::max(IMPORT_BYTES_MAX)),
    ),
    route(
        ("GET", "/api/v1/trunk-states"),
        Access::Platform(VIEWER),
        asks(None, 200, "TrunkStates"),
        "Shows how the platform's trunks stand on this node, those of profile files among them.",
        || get(trunks::shared_states),
    ),
    route(
        ("GET", "/api/v1/tenants/{tenant_id}/audit-log"),
        Access::Tenant(ADMIN),
        Shape::List(AuditLog::RESOURCE),
        "Lists who changed what of a tenant, the newest first.",
        || get(resource::list::<AuditLog>),
    ),
    route(
        ("GET", "/api/v1/audit-log"),
        Access::Platform(ADMIN),
        Shape::List(AuditLog::RESOURCE),
        "Lists who changed what, the newest first.",
        || get(resource::list::<AuditLog>),
    ),
];

const ALL: [&[Route]; 20] = [
    &TENANTS,
    &AI_PROFILES,
    &agents::AGENTS,
    &NUMBERS,
    &TRUNKS,
    &SHARED_TRUNKS,
    &ROUTING_PROFILES,
    &SHARED_ROUTING_PROFILES,
    &CAMPAIGNS,
    &KEYS,
    &PLATFORM_KEYS,
    &CALLS,
    &EVENTS,
    &WEBHOOKS,
    &STEERING,
    &twilio::TWILIO,
    &explain::EXPLANATIONS,
    &said::RECORDING,
    &said::TRANSCRIPTS,
    &REST,
];

/// All routes that a key opens.
pub(super) fn all() -> impl Iterator<Item = &'static Route> {
    ALL.iter().flat_map(|routes| routes.iter())
}

/// The method, path and access of every route that a key opens.
pub fn table() -> impl Iterator<Item = (&'static str, &'static str, Access)> {
    all().map(|route| (route.method, route.path, route.access))
}
