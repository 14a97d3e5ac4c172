//! What routes answer, in the document: what they give, and how they refuse.

use crate::api::openapi::camel;
use crate::api::openapi::codes;
use crate::api::openapi::follows;
use crate::api::openapi::has_tag;
use crate::api::openapi::is_audio;
use crate::api::openapi::is_kept;
use crate::api::openapi::is_placing;
use crate::api::openapi::reference;
use crate::api::openapi::shown_once;
use crate::api::route::Route;
use crate::api::route::Shape;
use crate::store::resource::Members;
use serde_json::Value;
use serde_json::json;

/// What may go wrong with any request, beside what its method can meet.
const REFUSALS: [(u16, &str); 8] = [
    (400, "A parameter or a value cannot be used."),
    (401, "There is no API key, or it opens nothing."),
    (403, "The key does not open this."),
    (404, "There is no such thing."),
    (414, "The address is longer than it may be."),
    (429, "The key asks too often; see Retry-After."),
    (431, "The headers are longer than they may be."),
    (
        503,
        "The database does not answer, or the node has no calls; see Retry-After, where there is one.",
    ),
];

pub(super) fn responses(route: &Route) -> Value {
    let mut all = Members::new();
    let json_of = |name: &str| json!({"application/json": {"schema": reference(name)}});
    let etag = json!({"ETag": {"schema": {"type": "string"}}});
    let (status, answer) = match route.shape {
        Shape::List(resource) => {
            let content = json_of(&format!("{}Page", camel(resource)));
            (200, json!({"description": "A page.", "content": content}))
        }
        Shape::Show(resource) | Shape::Change(resource) => {
            let content = json_of(&camel(resource));
            (200, json!({"description": "It.", "headers": etag, "content": content}))
        }
        Shape::Create(resource) => {
            let made = if shown_once(resource).is_some() { "Made" } else { "" };
            let content = json_of(&format!("{}{made}", camel(resource)));
            (201, json!({"description": "It was made.", "headers": etag, "content": content}))
        }
        Shape::Delete(_) | Shape::Gone => (204, json!({"description": "It is gone."})),
        Shape::Other { status, gives: (kind, name), .. } => {
            let content = json!({kind: {"schema": reference(name)}});
            let mut done = json!({"description": "Done.", "content": content});
            if matches!(name, "CallDetail" | "Transcript") {
                done["headers"] = etag;
            }
            (status, done)
        }
    };
    all.insert(status.to_string(), answer);
    if is_audio(route) {
        if let Some(content) = all.get_mut("200").and_then(|done| done.get_mut("content")) {
            content["audio/ogg"] = json!({"schema": reference("Bytes")});
            content["audio/mpeg"] = json!({"schema": reference("Bytes")});
        }
        let about = "The part of the WAV that `Range` asks for.";
        let content = json!({"audio/wav": {"schema": reference("Bytes")}});
        let headers = headers(&["Content-Range", "Accept-Ranges", "ETag", "Cache-Control"]);
        let part = json!({"description": about, "headers": headers, "content": content});
        all.insert("206".to_owned(), part);
    }
    if is_kept(route) {
        all.insert(
            "304".to_owned(),
            json!({"description": "It has one of the tags of `If-None-Match`."}),
        );
    }
    if follows(route) {
        let about = "The same over a WebSocket, where that is asked for.";
        all.insert("101".to_owned(), json!({ "description": about }));
    }
    if is_placing(route)
        && let Some(placed) = all.get_mut("201")
    {
        placed["headers"] = headers(&["Idempotency-Replayed"]);
    }
    all.extend(refusals(route));
    for answer in all.values_mut() {
        let mut own = headers(&["X-Request-Id"]);
        if let (Some(known), Some(own)) =
            (answer.get("headers").and_then(Value::as_object), own.as_object_mut())
        {
            own.extend(known.clone());
        }
        answer["headers"] = own;
    }
    Value::Object(all)
}

/// What a route may refuse with, all in the form of its API.
fn refusals(route: &Route) -> Members {
    let mut all = Members::new();
    let mut refuse = |status: u16, about: &str| {
        let content = json!({"application/json": {"schema": problem(route, status)}});
        let mut refusal = json!({"description": about, "content": content});
        if matches!(status, 429 | 503) {
            refusal["headers"] = headers(&["Retry-After"]);
        }
        all.insert(status.to_string(), refusal);
    };
    for (status, about) in REFUSALS {
        refuse(status, about);
    }
    if is_audio(route) {
        refuse(409, "It is still recorded.");
        refuse(416, "`Range` asks for what is not there.");
    }
    if is_placing(route) {
        refuse(
            422,
            "Another request came with this `Idempotency-Key` before, or the campaign is not there or \
             has not that number.",
        );
    }
    if is_placing(route) {
        refuse(
            409,
            "It goes against what is there. With `idempotency_key_busy` and `idempotency_key_unsettled` it may be \
             sent again after Retry-After, with all others not as it is.",
        );
    } else if route.method != "GET" {
        refuse(409, "It goes against what is there, or how the call stands: the code says how.");
    }
    if has_tag(route) {
        refuse(412, "It was changed since it was read.");
    }
    if matches!(route.shape, Shape::Create(_) | Shape::Change(_))
        || matches!(route.shape, Shape::Other { takes: Some(_), .. })
    {
        refuse(415, "The body is of another type.");
    }
    if !matches!(route.method, "GET" | "DELETE") {
        refuse(408, "The body did not come in time.");
        refuse(413, "The body is too long.");
    }
    all
}

/// How a refusal looks: a problem of one of the codes that the route can meet, or what Twilio's clients read. What is
/// refused before its path is read is in our form there too.
fn problem(route: &Route, status: u16) -> Value {
    if route.is_twilios() && !matches!(status, 414 | 431) {
        return reference("TwilioProblem");
    }
    let of_route = json!({"properties": {"code": {"enum": codes::of(route, status)}}});
    json!({"allOf": [reference("Problem"), of_route]})
}

/// Headers of an answer, and what they say.
fn headers(names: &[&str]) -> Value {
    let header = |name: &&str| {
        let about = match *name {
            "Retry-After" => {
                "Seconds after which it may be tried again; without it that is no use."
            }
            "X-Request-Id" => "The request, as logs and problems name it.",
            "Idempotency-Replayed" => "`true`: the call was placed by an earlier request.",
            _ => "As RFC 9110 has it.",
        };
        ((*name).to_owned(), json!({"schema": {"type": "string"}, "description": about}))
    };
    Value::Object(names.iter().map(header).collect())
}
