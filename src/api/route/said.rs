//! The routes of what is heard and said in calls: recordings and transcripts.

use crate::api::recordings;
use crate::api::recordings::Recordings;
use crate::api::resource;
use crate::api::resource::Noun;
use crate::api::route::Access;
use crate::api::route::Route;
use crate::api::route::Shape;
use crate::api::route::asks;
use crate::api::route::route;
use crate::api::steer;
use crate::api::transcripts;
use crate::store::api_keys::KeyRole;
use axum::routing::delete;
use axum::routing::get;
use axum::routing::post;

const VIEWER: KeyRole = KeyRole::Viewer;
const OPERATOR: KeyRole = KeyRole::Operator;
const ADMIN: KeyRole = KeyRole::Admin;

/// A command about the recording of a running call.
macro_rules! command {
    ($name:literal, $about:literal, $handler:path) => {
        route(
            ("POST", concat!("/api/v1/tenants/{tenant_id}/calls/{id}/record/", $name)),
            Access::Tenant(OPERATOR),
            asks(None, 200, "CallStanding"),
            $about,
            || post($handler),
        )
    };
}

pub(super) const RECORDING: [Route; 8] = [
    command!("start", "Begins to record the caller and what it hears.", steer::start_recording),
    command!("stop", "Ends the recording.", steer::stop_recording),
    command!("pause", "Records silence until the recording is resumed.", steer::pause_recording),
    command!("resume", "Records sound again.", steer::resume_recording),
    route(
        ("GET", "/api/v1/tenants/{tenant_id}/recordings"),
        Access::Tenant(VIEWER),
        Shape::List(Recordings::RESOURCE),
        "Lists recordings, the newest first.",
        || get(resource::list::<Recordings>),
    ),
    route(
        ("GET", "/api/v1/tenants/{tenant_id}/recordings/{id}"),
        Access::Tenant(VIEWER),
        Shape::Show(Recordings::RESOURCE),
        "Shows a recording.",
        || get(resource::show::<Recordings>),
    ),
    route(
        ("GET", "/api/v1/tenants/{tenant_id}/recordings/{id}/audio"),
        Access::Tenant(OPERATOR),
        Shape::Other { takes: None, status: 200, gives: ("audio/wav", "Bytes") },
        "Gives a recording as a WAV, decrypted, or the part that `Range` asks for: on the left what the \
         caller said, on the right what was sent to it. `format` or `Accept` may ask for Opus or MP3.",
        || get(recordings::audio),
    ),
    route(
        ("DELETE", "/api/v1/tenants/{tenant_id}/recordings/{id}"),
        Access::Tenant(ADMIN),
        Shape::Delete(Recordings::RESOURCE),
        "Deletes a recording and its file.",
        || delete(recordings::delete),
    ),
];

pub(super) const TRANSCRIPTS: [Route; 4] = [
    route(
        ("GET", "/api/v1/tenants/{tenant_id}/transcripts"),
        Access::Tenant(VIEWER),
        asks(None, 200, "TranscriptPage"),
        "Lists transcripts, those of the newest calls first.",
        || get(transcripts::list),
    ),
    route(
        ("GET", "/api/v1/tenants/{tenant_id}/calls/{id}/transcript"),
        Access::Tenant(VIEWER),
        asks(None, 200, "Transcript"),
        "Shows what was said in a call.",
        || get(transcripts::show),
    ),
    route(
        ("POST", "/api/v1/tenants/{tenant_id}/calls/{id}/transcript"),
        Access::Tenant(OPERATOR),
        asks(Some("TurnsWish"), 200, "TurnsStored"),
        "Adds turns of what was said. Each has a number of its own: sent again it changes nothing, but one \
         that was not final gives way.",
        || post(transcripts::add),
    ),
    route(
        ("DELETE", "/api/v1/tenants/{tenant_id}/calls/{id}/transcript"),
        Access::Tenant(ADMIN),
        Shape::Gone,
        "Deletes what was said in a call.",
        || delete(transcripts::delete),
    ),
];
