//! The `agent` and the `answer_webhook` of AI profiles, in the document: a schema for each kind of agent, of the keys
//! that its reader takes.

use crate::api::openapi::reference;
use crate::store::agent_form::keys;
use crate::store::resource::Members;
use crate::store::resource::Resource;
use serde_json::Value;
use serde_json::json;
use std::iter;

/// What each key may be, where kinds differ in that, and what they need. A test holds the reader against it.
const FORMS: &str = include_str!("agents.json");
/// Keys that may be left out, but are not null.
const NEVER_NULL: [&str; 2] = ["answer", "barge_in"];

fn forms() -> Value {
    // A test reads it, so that it is never empty here.
    serde_json::from_str(FORMS).unwrap_or_default()
}

/// `Agent`, the kinds of which it is one, and what stands in them.
pub(super) fn schemas() -> Members {
    let forms = forms();
    let mut all = forms["schemas"].as_object().cloned().unwrap_or_default();
    let (mut kinds, mut mapping) = (Vec::new(), Members::new());
    for (kind, keys) in keys::of_kinds() {
        let schema = reference(&name_of(kind));
        mapping.insert(kind.to_owned(), schema["$ref"].clone());
        kinds.push(schema);
        all.insert(name_of(kind), of_kind(&forms, kind, &keys));
    }
    let agent = json!({
        "description": "How an agent is reached, and when the call is answered: one of these kinds.",
        "oneOf": kinds,
        "discriminator": {"propertyName": "kind", "mapping": mapping},
    });
    all.insert("Agent".to_owned(), agent);
    all
}

/// `chan_websocket` as the name of a schema: `AgentChanWebsocket`.
fn name_of(kind: &str) -> String {
    let mut name = "Agent".to_owned();
    for word in kind.split('_') {
        let mut letters = word.chars();
        name.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        name.push_str(letters.as_str());
    }
    name
}

fn of_kind(forms: &Value, kind: &str, keys: &[&str]) -> Value {
    let own = &forms["kinds"][kind];
    let needed = own["required"].as_array();
    let is_needed = |key: &str| needed.is_some_and(|all| all.iter().any(|one| one == key));
    let this = json!({"type": "string", "enum": [kind]});
    let mut properties = Members::from_iter([("kind".to_owned(), this)]);
    for key in keys {
        let schema = match &own["keys"][*key] {
            Value::Null => &forms["keys"][*key],
            special => special,
        };
        let is_never_null = is_needed(key) || NEVER_NULL.contains(key);
        let schema = if is_never_null { schema.clone() } else { or_null(schema) };
        properties.insert((*key).to_owned(), schema);
    }
    let required = keys.iter().copied().filter(|key| is_needed(key));
    let required: Vec<_> = iter::once("kind").chain(required).collect();
    let mut schema = json!({
        "type": "object", "description": own["about"], "required": required,
        "additionalProperties": false, "properties": properties,
    });
    if let (Some(members), Some(more)) = (schema.as_object_mut(), own["more"].as_object()) {
        members.extend(more.clone());
    }
    schema
}

/// The same, or null, which is nothing given.
fn or_null(schema: &Value) -> Value {
    let mut own = schema.clone();
    let Some(kind) = schema["type"].as_str() else {
        return json!({"anyOf": [own, {"type": "null"}]});
    };
    own["type"] = json!([kind, "null"]);
    if let Some(Value::Array(words)) = own.get_mut("enum") {
        words.push(Value::Null);
    }
    own
}

/// The members of an AI profile, whose `agent` is one of the kinds and whose `answer_webhook` has a form of its own;
/// those of other resources as they are.
pub(super) fn with_kinds(resource: &Resource, mut members: Members) -> Members {
    if resource.table != "ai_profiles" {
        return members;
    }
    if let Some(agent) = members.get_mut("agent") {
        let about = agent["description"].take();
        *agent = reference("Agent");
        agent["description"] = about;
    }
    has_form(&mut members, "answer_webhook", "AnswerWebhook");
    members
}

/// The same of what changes it: a part of an agent, and of an answer webhook.
pub(super) fn with_part(resource: &Resource, mut members: Members) -> Members {
    if resource.table != "ai_profiles" {
        return members;
    }
    if let Some(agent) = members.get_mut("agent") {
        let about = agent["description"].as_str().unwrap_or_default();
        let laid = "Laid over what is there (RFC 7396): null takes a key away, and what comes of it is an `Agent`.";
        agent["description"] = Value::from(format!("{about} {laid}"));
    }
    has_form(&mut members, "answer_webhook", "AnswerWebhookPart");
    members
}

/// The member is of that schema, or null.
fn has_form(members: &mut Members, member: &str, schema: &str) {
    if let Some(own) = members.get_mut(member) {
        let about = own["description"].take();
        *own = json!({"description": about, "anyOf": [reference(schema), {"type": "null"}]});
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::openapi::SCHEMAS;
    use crate::store::agent_form::parse_agent;
    use crate::store::answer_hooks;
    use crate::types::secret::Secret;
    use std::collections::BTreeSet;

    /// What the reader says of an agent; every reference leads to a secret.
    fn read(agent: &Value) -> Result<(), String> {
        parse_agent(agent, &|_| Ok(Secret::new("secret".to_owned()))).map(|_| ())
    }

    /// A value that a schema allows.
    fn sample(key: &str, schema: &Value) -> Value {
        let heard = json!({"say": "Hello."});
        match key {
            "url" if schema["pattern"] == "^https?://[^/]" => json!("https://bot.example/"),
            "fallback_url" | "status_callback_url" => json!("https://bot.example/more"),
            "url" => json!("wss://bot.example/"),
            "address" => json!("bot.example:9092"),
            "uri" => json!("sips:bot@agents.example"),
            "to" => json!("+15550142"),
            "hold_music" => json!("moments.wav"),
            "turn_detection" => json!({"type": "semantic_vad"}),
            "menu" => json!({"prompt": heard, "keys": {"1": "hang_up"}}),
            "mailbox" | "script" => json!({"greeting": heard}),
            "answer" => json!({"after_ms": 100}),
            "headers" | "parameters" => json!({"X-Room": "7"}),
            "pass_headers" => json!(["X-Room"]),
            "transfer_to" => json!(["+15550142"]),
            _ => match &schema["enum"] {
                Value::Array(words) => words.first().cloned().unwrap_or_default(),
                _ => match schema["type"].as_str().or(schema["type"][0].as_str()) {
                    Some("integer") => schema["minimum"].clone(),
                    Some("boolean") => json!(false),
                    Some("array") => json!([]),
                    _ => json!("text"),
                },
            },
        }
    }

    /// An agent of a kind, with what the kind needs and what `key` needs beside it.
    fn agent_with(all: &Members, kind: &str, key: &str, value: Value) -> Value {
        let schema = &all[&name_of(kind)];
        let mut agent = json!({"kind": kind});
        for name in schema["required"].as_array().unwrap().iter().filter_map(Value::as_str) {
            if name != "kind" {
                agent[name] = sample(name, &schema["properties"][name]);
            }
        }
        if kind == "chan_websocket" {
            agent["url"] = json!("wss://bot.example/");
        }
        match key {
            "incoming" if value == true => agent["url"] = Value::Null,
            "username" => agent["password_ref"] = json!("sealed:p"),
            "password_ref" => agent["username"] = json!("u"),
            "barge_in_least_ms" | "barge_in_confirm_ms" => agent["barge_in"] = json!("pause"),
            "reconnect_pause_ms" => agent["reconnects"] = json!(1),
            _ => {}
        }
        agent[key] = value;
        agent
    }

    #[test]
    fn what_the_schema_of_a_kind_has_is_what_its_reader_takes() {
        let (all, forms) = (schemas(), forms());
        let every: BTreeSet<_> = keys::of_kinds().flat_map(|(_, keys)| keys).collect();
        for (kind, _) in keys::of_kinds() {
            let schema = &all[&name_of(kind)];
            assert!(schema["description"].is_string(), "{kind}");
            for key in &every {
                let own = &schema["properties"][*key];
                let form = if own.is_null() { &forms["keys"][*key] } else { own };
                let agent = agent_with(&all, kind, key, sample(key, form));
                let said = read(&agent);
                if own.is_null() {
                    let why = said.unwrap_err();
                    assert!(why.contains("does not belong"), "{agent}: {why}");
                    continue;
                }
                // No secret of a test is a certificate: that it is judged as one is enough.
                if !key.starts_with("client_") {
                    assert_eq!(said, Ok(()), "{agent}");
                }
                let is_needed = schema["required"].as_array().unwrap().contains(&json!(key));
                let bare = agent_with(&all, kind, key, Value::Null);
                let is_url = kind == "chan_websocket" && *key == "url";
                let null_is_good = !is_needed && !NEVER_NULL.contains(key) && !is_url;
                // One of a pair is wrong without the other, whatever it is.
                if !["username", "password_ref"].contains(key) {
                    assert_eq!(read(&bare).is_ok(), null_is_good, "{bare}: {:?}", read(&bare));
                }
            }
        }
    }

    #[test]
    fn every_word_and_every_bound_of_the_schemas_is_the_readers() {
        let all = schemas();
        let mut tried = 0;
        for (kind, keys) in keys::of_kinds() {
            for key in keys {
                let own = &all[&name_of(kind)]["properties"][key];
                let is_good = |value: Value| read(&agent_with(&all, kind, key, value)).is_ok();
                for word in own["enum"].as_array().into_iter().flatten() {
                    assert!(is_good(word.clone()), "{kind}: {key}: {word}");
                    tried += 1;
                }
                if own["enum"].is_array() {
                    assert!(!is_good(json!("no such word")), "{kind}: {key}");
                }
                if let (Some(least), Some(most)) =
                    (own["minimum"].as_i64(), own["maximum"].as_i64())
                {
                    for (value, expected) in
                        [(least - 1, false), (least, true), (most, true), (most + 1, false)]
                    {
                        assert_eq!(is_good(json!(value)), expected, "{kind}: {key}: {value}");
                        tried += 1;
                    }
                }
            }
        }
        assert!(tried > 200, "{tried}");
        // Realtime takes fewer forms of audio than there are.
        assert!(read(&agent_with(&all, "realtime", "audio", json!("l16_16k"))).is_err());
        assert!(read(&agent_with(&all, "audiosocket", "audio", json!("ulaw"))).is_err());
    }

    #[test]
    fn the_schema_of_an_answer_webhook_is_what_its_reader_takes() {
        let all: Members = serde_json::from_str(SCHEMAS).unwrap();
        let reads = |hook: &Value| {
            answer_hooks::parse(hook, &|_| Ok(Secret::new("secret".to_owned()))).is_ok()
        };
        let whole =
            json!({"url": "https://crm.example/", "secret_ref": "sealed:hook", "timeout_ms": 500});
        assert!(reads(&whole));
        let own = &all["AnswerWebhook"];
        let keys = own["properties"].as_object().unwrap();
        assert!(keys.keys().eq(whole.as_object().unwrap().keys()), "{keys:?}");
        assert!(all["AnswerWebhookPart"]["properties"].as_object().unwrap().keys().eq(keys.keys()));
        assert_eq!(own["additionalProperties"], false);
        for (key, schema) in keys {
            let with = |value: Value| {
                let mut hook = whole.clone();
                hook[key] = value;
                reads(&hook)
            };
            let may_be_null = schema["type"].as_array().is_some_and(|kinds| kinds.len() == 2);
            assert_eq!(with(Value::Null), may_be_null, "{key}");
            let mut without = whole.clone();
            without.as_object_mut().unwrap().remove(key);
            let is_needed = own["required"].as_array().unwrap().contains(&json!(key));
            assert_eq!(reads(&without), !is_needed, "{key}");
            if let (Some(least), Some(most)) =
                (schema["minimum"].as_i64(), schema["maximum"].as_i64())
            {
                assert!(with(json!(least)) && with(json!(most)), "{key}");
                assert!(!with(json!(least - 1)) && !with(json!(most + 1)), "{key}");
            }
        }
        let mut more = whole;
        more["colour"] = json!(1);
        assert!(!reads(&more));
    }
}
