//! What webhook endpoints and those who follow events are told, in the document.

use crate::api::openapi::reference;
use crate::call::side::LegSide;
use crate::call::side::Seat;
use crate::store::resource::Members;
use crate::store::webhooks::EVENT_TYPES;
use crate::types::cause::HangupCause;
use crate::types::cause::Party;
use crate::types::codec::Codec;
use serde_json::Value;
use serde_json::json;

/// What belongs to which types of events. `tests/api/told.rs` holds what calls tell against it.
const EVENTS: &str = include_str!("events.json");
/// What is told by webhooks alone: that the record of a call is in the database.
const RECORD_WRITTEN: &str = "call.record_written";

/// The part `webhooks` of the document.
pub(super) fn webhooks() -> Value {
    json!({"call": {"post": event()}, "answering": {"post": answering()}})
}

fn event() -> Value {
    let header = |name: &str, about: &str| {
        json!({"name": name, "in": "header", "required": true, "description": about,
               "schema": {"type": "string"}})
    };
    json!({
        "operationId": "call_event",
        "summary": "Something happened to a call",
        "description": "Told at least once to each endpoint that wants its type, in the order of the \
                        call. Any status of 2xx takes it.",
        "tags": ["webhooks"],
        "parameters": [
            header("Tandem-Signature", "t=SECONDS,v1=HEX: HMAC-SHA256 of the seconds, a dot and the \
                                        body, under the endpoint's secret. After a rotation there \
                                        are two v1."),
            header("Tandem-Event-Id", "The same at every attempt; doubles are known by it."),
            header("Tandem-Event-Type", "What happened."),
            header("Tandem-Attempt", "From 1."),
        ],
        "requestBody": {
            "required": true,
            "content": {"application/json": {"schema": reference("CallEvent")}},
        },
        "responses": {
            "2XX": {"description": "It is taken, and told no more."},
            "default": {"description": "It is told again later."},
        },
    })
}

fn answering() -> Value {
    json!({
        "operationId": "call_answering",
        "summary": "Who speaks?",
        "description": "Asked of the `answer_webhook` of an AI profile, once and for its `timeout_ms`, before \
                        a call in is answered and once a call out was. Whatever goes wrong lets that profile \
                        speak.",
        "tags": ["webhooks"],
        "parameters": [
            {"name": "Tandem-Signature", "in": "header", "required": false,
             "description": "As events have it, under the secret of `secret_ref`, where there is one.",
             "schema": {"type": "string"}},
        ],
        "requestBody": {
            "required": true,
            "content": {"application/json": {"schema": reference("AnsweringQuestion")}},
        },
        "responses": {
            "2XX": {
                "description": "Who speaks, and variables beside those of the call; nothing: that profile.",
                "content": {"application/json": {"schema": reference("AnsweringAnswer")}},
            },
            "default": {"description": "That profile speaks."},
        },
    })
}

/// The schemas of events: what webhook endpoints and followers are told, and what belongs to each type.
pub(super) fn schemas() -> Members {
    let mut all = Members::new();
    let mut kinds = Vec::new();
    for form in forms() {
        let Some(name) = form["name"].as_str() else { continue };
        let types: Vec<_> = types_of(&form).collect();
        kinds.push(json!({
            "type": "object",
            "required": ["type", "data"],
            "properties": {"type": {"type": "string", "enum": types}, "data": reference(name)},
        }));
        all.insert(name.to_owned(), data_of(&form));
    }
    let about = "What belongs to each type of event.";
    all.insert("EventOfType".to_owned(), json!({"description": about, "oneOf": kinds}));
    for (name, about, words) in [
        ("Cause", "Why a call, or a part of it, was refused or ended.", causes()),
        ("CodecName", "A codec.", Codec::ALL.map(Codec::name).to_vec()),
        ("LegName", "A leg of a call.", LegSide::ALL.map(LegSide::as_str).to_vec()),
        ("SupervisorLeg", "The leg of a supervisor.", Seat::ALL.map(Seat::leg_name).to_vec()),
        ("PartyName", "Who ended it.", Party::ALL.map(Party::as_str).to_vec()),
    ] {
        let schema = json!({"type": "string", "description": about, "enum": words});
        all.insert(name.to_owned(), schema);
    }
    all.insert("ToldEvent".to_owned(), told_event());
    all.insert("FollowedEvent".to_owned(), followed_event());
    all.insert(
        "CallEvent".to_owned(),
        of_its_type("What webhook endpoints are told.", "ToldEvent"),
    );
    all.insert("LiveEvent".to_owned(), live_event());
    all.insert("AnsweringQuestion".to_owned(), answering_question());
    all
}

/// What stands in the data of events, and of which types.
fn forms() -> Vec<Value> {
    // A test reads it, so that it is never empty here.
    serde_json::from_str(EVENTS).unwrap_or_default()
}

/// The types of one of them, by their full names.
fn types_of(form: &Value) -> impl Iterator<Item = String> {
    let words = form["types"].as_array().into_iter().flatten();
    words.filter_map(Value::as_str).map(|word| format!("call.{word}"))
}

fn data_of(form: &Value) -> Value {
    let properties = form["properties"].as_object().cloned().unwrap_or_default();
    let optional = form["optional"].as_array();
    let is_optional = |name: &str| optional.is_some_and(|all| all.iter().any(|one| one == name));
    let required: Vec<_> = properties.keys().filter(|name| !is_optional(name)).cloned().collect();
    let mut schema = json!({
        "type": "object", "required": required, "additionalProperties": false, "properties": properties,
    });
    if let Some(about) = form["about"].as_str() {
        schema["description"] = json!(about);
    }
    schema
}

fn causes() -> Vec<&'static str> {
    HangupCause::all().map(HangupCause::code).collect()
}

/// An event of that form, with the data of its type.
fn of_its_type(about: &str, form: &str) -> Value {
    json!({"description": about, "allOf": [reference(form), reference("EventOfType")]})
}

/// The call that an event is of, or that is asked about.
fn of_call() -> Value {
    let text_or_null = json!({"type": ["string", "null"]});
    json!({
        "type": "object",
        "required": ["direction", "caller", "dialled", "number_id", "ai_profile_id", "arrived_at"],
        "properties": {
            "direction": {"type": "string", "enum": ["inbound", "outbound"]},
            "caller": {"type": "string"}, "dialled": text_or_null, "number_id": text_or_null,
            "ai_profile_id": text_or_null, "arrived_at": {"type": "string", "format": "date-time"},
        },
    })
}

/// What all events have that webhook endpoints are told.
fn told_event() -> Value {
    let id = json!({"type": "string", "format": "uuid"});
    json!({
        "type": "object",
        "required": ["id", "type", "at", "tenant_id", "call_id", "seq", "call", "data"],
        "properties": {
            "id": id, "type": {"type": "string", "enum": EVENT_TYPES},
            "at": {"type": "string", "format": "date-time"}, "tenant_id": id, "call_id": id,
            "seq": {"type": "integer", "minimum": 0, "description": "Its place in the call."},
            "call": of_call(),
            "data": {"type": "object", "description": "What belongs to its type."},
        },
    })
}

/// What all events have that are followed.
fn followed_event() -> Value {
    let id = json!({"type": "string", "format": "uuid"});
    let types: Vec<_> = EVENT_TYPES.iter().filter(|name| **name != RECORD_WRITTEN).collect();
    json!({
        "type": "object",
        "required": ["id", "type", "at", "tenant_id", "call_id", "seq", "state", "data"],
        "additionalProperties": false,
        "properties": {
            "id": id,
            "type": {"type": "string", "description": "What happened, as webhooks name it.", "enum": types},
            "at": {"type": "string", "format": "date-time"}, "tenant_id": id, "call_id": id,
            "seq": {"type": "integer", "minimum": 0, "description": "Its place in the call."},
            "state": {
                "type": ["string", "null"],
                "enum": ["initiated", "ringing", "answered", "ended", "failed", null],
                "description": "How far the call got with it; null: it is told as it was stored.",
            },
            "data": {"type": "object", "description": "What belongs to its type."},
        },
    })
}

/// What who follows events hears: of a call, or that something is missing or over.
fn live_event() -> Value {
    let told = of_its_type("Something happened to a call.", "FollowedEvent");
    let gap = json!({
        "type": "object",
        "required": ["type", "after", "reason"],
        "additionalProperties": false,
        "properties": {
            "type": {"type": "string", "enum": ["gap"]},
            "after": {"type": ["integer", "null"], "description": "The place in the call behind which some are missing."},
            "reason": {"type": "string"},
        },
    });
    let dropped = json!({
        "type": "object",
        "required": ["type", "reason"],
        "additionalProperties": false,
        "properties": {
            "type": {"type": "string", "enum": ["dropped"]},
            "reason": {"type": "string", "description": "Why the connection ends, such as `too_slow` or `key_ended`."},
        },
    });
    json!({"description": "The data of an event that is followed.", "oneOf": [told, gap, dropped]})
}

/// What an answer webhook is asked.
fn answering_question() -> Value {
    let id = json!({"type": "string", "format": "uuid"});
    json!({
        "type": "object",
        "required": ["type", "at", "tenant_id", "call_id", "call", "variables"],
        "properties": {
            "type": {"type": "string", "enum": ["call.answering"]},
            "at": {"type": "string", "format": "date-time"}, "tenant_id": id, "call_id": id,
            "call": of_call(),
            "variables": {"type": "object", "additionalProperties": {"type": "string"}},
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_type_of_event_has_one_form_of_data_and_each_form_a_type() {
        let forms = forms();
        let told: Vec<_> = forms.iter().flat_map(types_of).collect();
        let each: BTreeSet<_> = told.iter().map(String::as_str).collect();
        assert_eq!(told.len(), each.len(), "{told:?}");
        assert_eq!(each, EVENT_TYPES.iter().copied().collect::<BTreeSet<_>>());
        for form in &forms {
            assert!(types_of(form).next().is_some(), "{form}");
            let known = form["properties"].as_object().unwrap();
            let optional = form["optional"].as_array().into_iter().flatten();
            for name in optional.filter_map(Value::as_str) {
                assert!(known.contains_key(name), "{name}: {form}");
            }
        }
        let names: BTreeSet<_> = forms.iter().filter_map(|form| form["name"].as_str()).collect();
        assert_eq!(names.len(), forms.len());
    }
}
