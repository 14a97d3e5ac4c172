//! What webhook endpoints are told, in the document.

use crate::store::webhooks::EVENT_TYPES;
use serde_json::Value;
use serde_json::json;

/// The part `webhooks` of the document.
pub(super) fn webhooks() -> Value {
    let header = |name: &str, about: &str| {
        json!({"name": name, "in": "header", "required": true, "description": about,
               "schema": {"type": "string"}})
    };
    json!({
        "call": {
            "post": {
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
                    "content": {
                        "application/json": {"schema": {"$ref": "#/components/schemas/CallEvent"}},
                    },
                },
                "responses": {
                    "2XX": {"description": "It is taken, and told no more."},
                    "default": {"description": "It is told again later."},
                },
            },
        },
    })
}

/// The body of such an event.
pub(super) fn call_event() -> Value {
    let id = json!({"type": "string", "format": "uuid"});
    let time = json!({"type": "string", "format": "date-time"});
    let text_or_null = json!({"type": ["string", "null"]});
    json!({
        "type": "object",
        "required": ["id", "type", "at", "tenant_id", "call_id", "seq", "call", "data"],
        "properties": {
            "id": id, "type": {"type": "string", "enum": EVENT_TYPES}, "at": time,
            "tenant_id": id, "call_id": id,
            "seq": {"type": "integer", "minimum": 0, "description": "Its place in the call."},
            "call": {
                "type": "object",
                "required": ["direction", "caller", "dialled", "number_id", "ai_profile_id", "arrived_at"],
                "properties": {
                    "direction": {"type": "string", "enum": ["inbound", "outbound"]},
                    "caller": {"type": "string"}, "dialled": text_or_null, "number_id": text_or_null,
                    "ai_profile_id": text_or_null, "arrived_at": time,
                },
            },
            "data": {"type": "object", "description": "What belongs to its type."},
        },
    })
}

/// What who follows events hears: of a call, or that something is missing or over.
pub(super) fn live_event() -> Value {
    let id = json!({"type": "string", "format": "uuid"});
    let time = json!({"type": "string", "format": "date-time"});
    let types: Vec<_> = EVENT_TYPES.iter().filter(|name| **name != "*").collect();
    let told = json!({
        "type": "object",
        "required": ["id", "type", "at", "tenant_id", "call_id", "seq", "state", "data"],
        "additionalProperties": false,
        "properties": {
            "id": id, "type": {"type": "string", "description": "What happened, as webhooks name it.", "examples": types},
            "at": time, "tenant_id": id, "call_id": id,
            "seq": {"type": "integer", "minimum": 0, "description": "Its place in the call."},
            "state": {
                "type": ["string", "null"],
                "enum": ["initiated", "ringing", "answered", "ended", "failed", null],
                "description": "How far the call got with it; null: it is told as it was stored.",
            },
            "data": {"type": "object", "description": "What belongs to its type."},
        },
    });
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
