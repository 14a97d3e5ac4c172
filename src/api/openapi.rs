//! The OpenAPI document, made of the table of routes and the descriptions of resources, and a page to read it.

mod agents;
mod answers;
mod codes;
mod shared;
mod told;

use crate::api::RequestId;
use crate::api::auth::CALL_PATH;
use crate::api::error::ApiError;
use crate::api::error::ErrorKind;
use crate::api::route;
use crate::api::route::Access;
use crate::api::route::Route;
use crate::api::route::Shape;
use crate::api::twilio;
use crate::api::webhooks::DELIVERY_STATES;
use crate::store::api_keys::KeyRole;
use crate::store::resource::Members;
use crate::store::resource::Resource;
use crate::store::resource::field::Field;
use crate::store::resource::field::Form;
use crate::store::resource::field::Given;
use crate::store::resource::field::Kind;
use crate::store::resource::read::PAGE_MAX;
use axum::Extension;
use axum::Json;
use axum::extract::Path;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::LazyLock;
use utoipa_swagger_ui::Config;

/// Where the document is.
pub(super) const DOCUMENT_PATH: &str = "/api/v1/openapi.json";
/// Where the page is.
pub(super) const PAGE_PATH: &str = "/docs/";

static DOCUMENT: LazyLock<Value> = LazyLock::new(document);

/// Bodies that are no resource. Their form is beside the code that reads and writes them; a test holds
/// answers against it.
const SCHEMAS: &str = include_str!("openapi/schemas.json");

/// The document as it is served.
#[must_use]
pub fn document() -> Value {
    let mut schemas = fixed_schemas();
    let of_trunks = schemas.remove("TrunkLive").unwrap_or_default();
    let of_profiles = schemas.remove("AiProfileLive").unwrap_or_default();
    schemas.extend(agents::schemas());
    schemas.extend(told::schemas());
    if let Some(code) =
        schemas.get_mut("Problem").and_then(|own| own.pointer_mut("/properties/code"))
    {
        code["enum"] = json!(codes::all());
    }
    let mut paths = Members::new();
    let mut seen = BTreeSet::new();
    for route in route::all() {
        if let Some(resource) = route.shape.resource().filter(|own| seen.insert(own.table)) {
            let live = match resource.table {
                "trunks" => Some(&of_trunks),
                "ai_profiles" => Some(&of_profiles),
                _ => None,
            };
            schemas.extend(resource_schemas(resource, live));
        }
        let operations = paths.entry(route.path).or_insert_with(|| json!({}));
        if let Some(operations) = operations.as_object_mut() {
            operations.insert(route.method.to_lowercase(), operation(route));
        }
    }
    let refusals = shared::refusals(&mut paths);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Tandem",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Tenants, numbers, trunks, AI profiles and calls of a Tandem switch. Answers name all \
                            members there are; later versions may have more, so clients leave out what they do not know.",
        },
        "security": [{"bearer": []}, {"header": []}],
        "paths": paths,
        "webhooks": told::webhooks(),
        "components": {
            "securitySchemes": {
                "bearer": {
                    "type": "http", "scheme": "bearer",
                    "description": "An API key (tdm_...), or a call token (tct_...) for what it opens.",
                },
                "call_token": {"type": "apiKey", "in": "query", "name": "token"},
                "header": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
                "account": {"type": "http", "scheme": "basic"},
            },
            "responses": refusals,
            "schemas": schemas,
        },
    })
}

fn fixed_schemas() -> Members {
    // A test reads it, so that it is never empty here.
    serde_json::from_str(SCHEMAS).unwrap_or_default()
}

impl Shape {
    const fn resource(self) -> Option<&'static Resource> {
        match self {
            Self::List(resource)
            | Self::Show(resource)
            | Self::Create(resource)
            | Self::Change(resource)
            | Self::Delete(resource) => Some(resource),
            Self::Other { .. } | Self::Gone => None,
        }
    }
}

fn operation(route: &Route) -> Value {
    let (whose, least) = match route.access {
        Access::Platform(least) => ("the platform", least),
        Access::Tenant(least) => ("the tenant or the platform", least),
    };
    let role = match least {
        KeyRole::Viewer => "that reads",
        KeyRole::Operator => "of an operator or admin",
        KeyRole::Admin => "of an admin",
    };
    let about = match route.is_twilios() {
        true => format!("{} The account and a key of its tenant {role} open it.", route.about),
        false => format!("{} A key of {whose} {role} opens it.", route.about),
    };
    let mut operation = json!({
        "summary": route.about.split(". ").next().unwrap_or_default().trim_end_matches('.'),
        "description": about,
        "operationId": operation_id(route),
        "tags": [tag(route.path)],
        "parameters": parameters(route),
        "responses": answers::responses(route),
    });
    let body = match route.shape {
        Shape::Create(resource) => Some(("application/json", format!("{}New", camel(resource)))),
        Shape::Change(resource) => Some(("application/json", format!("{}Change", camel(resource)))),
        Shape::Other { takes: Some((kind, name)), .. } => Some((kind, name.to_owned())),
        Shape::Other { takes: None, .. }
        | Shape::List(_)
        | Shape::Show(_)
        | Shape::Delete(_)
        | Shape::Gone => None,
    };
    if let Some(members) = operation.as_object_mut() {
        if let Some((kind, name)) = body {
            let mut content = json!({kind: {"schema": reference(&name)}});
            if route.method == "PATCH" {
                content["application/merge-patch+json"] = json!({"schema": reference(&name)});
            }
            let body = json!({"required": !may_be_bodiless(route), "content": content});
            members.insert("requestBody".to_owned(), body);
        }
        let ways = json!([{"bearer": []}, {"header": []}, {"call_token": []}]);
        match route {
            route if route.is_twilios() => {
                members.insert("security".to_owned(), json!([{"account": []}]));
            }
            route if follows(route) && is_of_call(route) => {
                members.insert("security".to_owned(), ways);
            }
            _ => {}
        }
    }
    operation
}

/// The method and the words of the path: `get_tenants_numbers_one`.
fn operation_id(route: &Route) -> String {
    if route.is_twilios() {
        let one = if route.path.contains("{call_sid}") { "_one" } else { "" };
        return format!("{}_twilio_calls{one}", route.method.to_lowercase());
    }
    let words = route.path.trim_start_matches("/api/v1/").split('/');
    let words = words.filter(|word| *word != "{tenant_id}");
    let words: Vec<_> = words.map(|word| if word == "{id}" { "one" } else { word }).collect();
    let is_tenant = route.path.ends_with("{tenant_id}");
    let end = if is_tenant { "_one" } else { "" };
    format!("{}_{}{end}", route.method.to_lowercase(), words.join("_")).replace('-', "_")
}

fn tag(path: &str) -> &str {
    if path.starts_with(twilio::ROOT) {
        return "twilio";
    }
    let rest = path.trim_start_matches("/api/v1/");
    let mut words = rest.split('/').filter(|word| !word.starts_with('{'));
    let first = words.next().unwrap_or_default();
    words.next().filter(|_| first == "tenants").unwrap_or(first)
}

/// Parameters that stand in the path.
fn in_path(route: &Route) -> Vec<Value> {
    let mut all = Vec::new();
    for name in ["tenant_id", "id"] {
        if route.path.contains(&format!("{{{name}}}")) {
            let schema = json!({"type": "string", "format": "uuid"});
            all.push(json!({"name": name, "in": "path", "required": true, "schema": schema}));
        }
    }
    for (name, prefix) in [("account_sid", "AC"), ("call_sid", "CA")] {
        if route.path.contains(&format!("{{{name}}}")) {
            let schema = json!({"type": "string", "pattern": format!("^{prefix}[0-9a-f]{{32}}$")});
            all.push(json!({"name": name, "in": "path", "required": true, "schema": schema}));
        }
    }
    all
}

/// Whether it gives the audio of a recording.
fn is_audio(route: &Route) -> bool {
    matches!(route.shape, Shape::Other { gives: ("audio/wav", "Bytes"), .. })
}

/// Beside these the form in which a recording is given.
fn with_form(route: &Route, mut all: Vec<Value>) -> Vec<Value> {
    if is_audio(route) {
        let forms = json!({"type": "string", "enum": ["wav", "ogg", "mp3"], "default": "wav"});
        let about = "The form; else what `Accept` names first.";
        all.push(json!({"name": "format", "in": "query", "schema": forms, "description": about}));
    }
    all
}

fn parameters(route: &Route) -> Value {
    let mut all = with_form(route, in_path(route));
    let mut query = |name: &str, schema: Value, about: &str| {
        all.push(json!({"name": name, "in": "query", "schema": schema, "description": about}));
    };
    if matches!(route.shape, Shape::Other { gives: (_, "DeliveryPage"), .. }) {
        let limit = json!({"type": "integer", "minimum": 1, "maximum": PAGE_MAX, "default": 50});
        query("limit", limit, "Most of one page.");
        let id = json!({"type": "string", "format": "uuid"});
        query("cursor", id.clone(), "`next` of the page before.");
        query("call_id", id, "Of this call.");
        query("state", schema_of(Kind::Choice(&DELIVERY_STATES)), "In this state.");
    }
    if follows(route) {
        let text = json!({"type": "string"});
        query("after", text.clone(), "The last event that was heard; those after it follow.");
        if is_of_call(route) {
            query("token", text, "A call token, where no header can be given.");
        }
    }
    let is_calls = matches!(route.shape, Shape::Other { gives: (_, "CallPage"), .. });
    let is_refused = matches!(route.shape, Shape::Other { gives: (_, "RefusedSourcePage"), .. });
    if is_calls || is_refused || matches!(route.shape, Shape::List(_)) {
        let limit = json!({"type": "integer", "minimum": 1, "maximum": PAGE_MAX, "default": 50});
        query("limit", limit, "Most of one page.");
        let cursor = json!({"type": "string", "format": "uuid"});
        query("cursor", cursor, "`next` of the page before.");
    }
    if matches!(route.shape, Shape::Other { gives: (_, "Transcript" | "TranscriptPage"), .. }) {
        let limit = json!({"type": "integer", "minimum": 1, "maximum": PAGE_MAX, "default": 50});
        query("limit", limit, "Most of one page.");
        query("cursor", json!({"type": "string"}), "`next` of the page before.");
    }
    if is_calls {
        for (name, schema, about) in of_calls() {
            query(name, schema, about);
        }
    }
    if let Shape::List(resource) = route.shape {
        for field in resource.fields.iter().filter(|field| field.is_filter) {
            query(field.name, schema_of(field.kind), field.about);
        }
        if resource.table == "phone_numbers" {
            query(
                "number",
                schema_of(Kind::Number),
                "The number or the range that holds this one.",
            );
        }
    }
    all.extend(request_headers(route));
    Value::Array(all)
}

fn request_headers(route: &Route) -> Vec<Value> {
    let mut all = Vec::new();
    if is_placing(route) {
        let schema = json!({"type": "string", "minLength": 1, "maxLength": 255});
        let about = "Names the request, so that it is carried out once however often it is sent.";
        all.push(json!({
            "name": "Idempotency-Key", "in": "header", "schema": schema, "description": about,
        }));
    }
    if has_tag(route) {
        let about = "Tags of which it must still have one, else 412.";
        let schema = json!({"type": "string"});
        all.push(
            json!({"name": "If-Match", "in": "header", "schema": schema, "description": about}),
        );
    }
    let mut header = |name: &str, about: &str| {
        let schema = json!({"type": "string"});
        all.push(json!({"name": name, "in": "header", "schema": schema, "description": about}));
    };
    if is_kept(route) {
        header(
            "If-None-Match",
            "Tags of what the client has: of one of them it is not sent again.",
        );
    }
    if is_audio(route) {
        header("Range", "The part of the WAV that is wanted, such as `bytes=0-1023`.");
    }
    if follows(route) {
        header(
            "Last-Event-ID",
            "The same as `after`, as browsers give it that come back; it leads.",
        );
    }
    all
}

/// True where events are followed.
fn follows(route: &Route) -> bool {
    matches!(route.shape, Shape::Other { gives: ("text/event-stream", _), .. })
}

/// True below one call.
fn is_of_call(route: &Route) -> bool {
    route.path.starts_with(CALL_PATH)
}

/// True where who has a thing is not sent it again: it is shown with nothing but its row.
fn is_kept(route: &Route) -> bool {
    matches!(route.shape, Shape::Show(resource) if !["trunks", "ai_profiles"].contains(&resource.table))
}

/// What a list of calls may be narrowed by.
fn of_calls() -> [(&'static str, Value, &'static str); 7] {
    let text = || json!({"type": "string"});
    let time = || json!({"type": "string", "format": "date-time"});
    let live = "Those that run: of this node as it knows them, of others at its database as they are stored; \
                taken with limit and cursor alone.";
    [
        ("caller", text(), "The caller, as claimed."),
        ("dialled", text(), "The dialled number, in the international form."),
        ("cause", text(), "Why it ended, by its code."),
        ("disposition", text(), "How it was filed."),
        ("from", time(), "Arrived at or after."),
        ("until", time(), "Arrived before."),
        ("live", json!({"type": "boolean"}), live),
    ]
}

/// True where a tag may be asked for: resources, their secrets, what is said of calls, transcripts.
fn has_tag(route: &Route) -> bool {
    matches!(route.shape, Shape::Change(_) | Shape::Delete(_))
        || matches!(route.shape, Shape::Other { takes: Some((_, "CallNotes")), .. })
        || (route.method == "DELETE" && route.path.ends_with("/transcript"))
        || route.path.ends_with("/rotate")
        || route.path.ends_with("/rotate-secret")
}

/// True where a body only says which one is meant.
const fn may_be_bodiless(route: &Route) -> bool {
    matches!(route.shape, Shape::Other { takes: Some((_, name)), .. } if matches!(name.as_bytes(), b"SupervisionEnd"))
}

/// True for the route that places calls.
const fn is_placing(route: &Route) -> bool {
    matches!(route.shape, Shape::Other { takes: Some((_, name)), .. } if matches!(name.as_bytes(), b"CallWish"))
}

/// The schemas of a resource: as it is shown, made, changed and listed.
fn resource_schemas(resource: &Resource, live: Option<&Value>) -> Vec<(String, Value)> {
    let name = camel(resource);
    let mut shown = Members::from_iter([("id".to_owned(), schema_of(Kind::Id))]);
    shown.extend(resource.fields.iter().map(|field| (field.name.to_owned(), shown_as(field))));
    if resource.has_secrets {
        let about = "The names of its secrets.";
        let names = json!({"type": "array", "items": {"type": "string"}, "description": about});
        shown.insert("secrets".to_owned(), names);
    }
    shown.insert("etag".to_owned(), json!({"type": "string", "description": "For If-Match."}));
    shown.extend(live.and_then(Value::as_object).cloned().unwrap_or_default());
    let shown = agents::with_kinds(resource, shown);
    let page = json!({
        "type": "object",
        "required": [resource.plural, "next"],
        "additionalProperties": false,
        "properties": {
            resource.plural: {"type": "array", "items": reference(&name)},
            "next": {"type": ["string", "null"], "description": "The cursor of the next page; null at the end."},
        },
    });
    let mut schemas = vec![(format!("{name}Page"), page)];
    if let Some((once, about)) = shown_once(resource) {
        let mut made = shown.clone();
        made.insert(once.to_owned(), json!({"type": "string", "description": about}));
        schemas.push((format!("{name}Made"), object(made, None)));
    }
    schemas.push((name.clone(), object(shown, None)));
    let new: Vec<_> = given(resource, true);
    if !new.is_empty() {
        let is_required =
            |field: &&&Field| matches!(field.given, Given::Required | Given::RequiredOnce);
        let required: Vec<_> = new.iter().filter(is_required).map(|field| field.name).collect();
        let members = agents::with_kinds(resource, taken(resource, &new));
        let body = object(members, Some(required));
        schemas.push((format!("{name}New"), body));
    }
    // Keys and the log do not change.
    let change = given(resource, false);
    if !change.is_empty() {
        let members = agents::with_part(resource, taken(resource, &change));
        schemas.push((format!("{name}Change"), object(members, Some(Vec::new()))));
    }
    schemas
}

/// What is shown of a new one, and never again.
fn shown_once(resource: &Resource) -> Option<(&'static str, &'static str)> {
    match resource.table {
        "api_keys" => Some(("key", "The key itself, shown this once.")),
        "webhook_endpoints" => Some(("secret", "What signs its events, shown this once.")),
        _ => None,
    }
}

/// The fields that may be given for a new one, or for a change.
fn given(resource: &Resource, is_new: bool) -> Vec<&'static Field> {
    let is_given = |field: &&'static Field| match field.given {
        Given::Required | Given::Optional => true,
        Given::RequiredOnce | Given::OptionalOnce => is_new,
        Given::Never => false,
    };
    resource.fields.iter().filter(is_given).collect()
}

fn taken(resource: &Resource, fields: &[&'static Field]) -> Members {
    let mut members: Members =
        fields.iter().map(|field| (field.name.to_owned(), shown_as(field))).collect();
    if resource.has_secrets {
        let about = "Secrets by name: each is sealed and never shown again; null takes one away.";
        let secrets = json!({
            "type": "object", "description": about, "writeOnly": true,
            "propertyNames": {"pattern": "^[A-Za-z0-9_.-]{1,64}$"},
            "additionalProperties": {"type": ["string", "null"]},
        });
        members.insert("secrets".to_owned(), secrets);
    }
    members
}

/// An object of these members; all of them are there unless it says which are required.
fn object(members: Members, required: Option<Vec<&str>>) -> Value {
    let all = || members.keys().map(String::as_str).collect();
    let required = required.unwrap_or_else(all);
    json!({
        "type": "object", "required": required, "additionalProperties": false, "properties": members,
    })
}

fn shown_as(field: &Field) -> Value {
    let mut schema = schema_of(field.kind);
    if let Some(members) = schema.as_object_mut() {
        members.insert("description".to_owned(), Value::from(field.about));
        if field.is_nullable {
            let of = members.get("type").cloned().unwrap_or_default();
            members.insert("type".to_owned(), json!([of, "null"]));
            if let Some(Value::Array(words)) = members.get_mut("enum") {
                words.push(Value::Null);
            }
        }
    }
    schema
}

fn schema_of(kind: Kind) -> Value {
    match kind {
        Kind::Id => json!({"type": "string", "format": "uuid"}),
        Kind::Text(least, most) => json!({"type": "string", "minLength": least, "maxLength": most}),
        Kind::Choice(words) => json!({"type": "string", "enum": words}),
        Kind::Integer(least, most) => json!({"type": "integer", "minimum": least, "maximum": most}),
        Kind::Flag => json!({"type": "boolean"}),
        Kind::Number => json!({"type": "string", "pattern": "^\\+[1-9][0-9]{2,14}$"}),
        Kind::Pattern(form) => text_of(form),
        Kind::Patterns(most, form) => {
            json!({"type": "array", "maxItems": most, "items": text_of(form)})
        }
        Kind::Object => json!({"type": "object"}),
        Kind::Objects => json!({"type": "array", "items": {"type": "object"}}),
        Kind::Time => json!({"type": "string", "format": "date-time"}),
    }
}

fn text_of(form: Form) -> Value {
    if form.pattern.is_empty() {
        return json!({"type": "string"});
    }
    json!({"type": "string", "pattern": form.pattern})
}

/// `AI profile` as the name of a schema: `AiProfile`.
fn camel(resource: &Resource) -> String {
    let word = |word: &str| {
        let mut letters = word.chars();
        let first = letters.next().map(|letter| letter.to_ascii_uppercase());
        first
            .into_iter()
            .chain(letters.map(|letter| letter.to_ascii_lowercase()))
            .collect::<String>()
    };
    resource.name.split(' ').map(word).collect()
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

pub(super) async fn show() -> Json<&'static Value> {
    Json(&DOCUMENT)
}

/// The page and its parts, all of them out of the program.
pub(super) async fn page(
    Extension(id): Extension<RequestId>,
    file: Option<Path<String>>,
) -> Result<Response, ApiError> {
    static PAGE: LazyLock<Arc<Config<'static>>> =
        LazyLock::new(|| Arc::new(Config::from(DOCUMENT_PATH)));
    let file = file.map(|Path(file)| file).unwrap_or_default();
    let missing = || ErrorKind::NotFound("the page has no such part").of(&id);
    let found = utoipa_swagger_ui::serve(&file, Arc::clone(&PAGE)).map_err(|_| missing())?;
    let found = found.ok_or_else(missing)?;
    // Nothing of it comes from, or goes, elsewhere.
    let policy = "default-src 'self'; img-src 'self' data:";
    let headers = [
        (header::CONTENT_TYPE, found.content_type),
        (header::CONTENT_SECURITY_POLICY, policy.to_owned()),
    ];
    Ok((headers, found.bytes.into_owned()).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;
    use regex::Regex;

    #[test]
    fn the_pattern_of_a_field_says_what_its_judge_says() {
        let samples = [
            "",
            "*",
            "+",
            "+44",
            "44",
            "+4a",
            "IN",
            "in",
            "USD",
            "usd",
            "09:00",
            "9:00",
            "23:59",
            "24:00",
            "12:60",
            "mon",
            "Mon",
            "monday",
            "a-b",
            "A-B",
            "_base",
            "__base",
            "x",
            "call.ended",
            "call",
            "call.",
            ".ended",
            "call.ended.late",
            "a b",
            "ä",
        ];
        let fields = route::all().filter_map(|route| route.shape.resource());
        let mut judged = 0;
        for field in fields.flat_map(|resource| resource.fields) {
            let (Kind::Pattern(form) | Kind::Patterns(_, form)) = field.kind else { continue };
            if form.pattern.is_empty() {
                continue;
            }
            let pattern = Regex::new(form.pattern).unwrap();
            for sample in samples {
                let is_good = (form.is_good)(sample);
                assert_eq!(pattern.is_match(sample), is_good, "{}: {sample:?}", field.name);
                judged += usize::from(is_good);
            }
        }
        assert!(judged > 10, "{judged}");
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_operation_has_a_name_of_its_own() {
        fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
            match value {
                Value::Object(members) => {
                    if let Some(to) = members.get("$ref").and_then(Value::as_str) {
                        found.insert(to);
                    }
                    members.values().for_each(|value| references(value, found));
                }
                Value::Array(list) => list.iter().for_each(|value| references(value, found)),
                _ => {}
            }
        }
        let document = document();
        let schemas = document["components"]["schemas"].as_object().unwrap();
        assert!(schemas.len() > 25, "{}", schemas.len());
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        for to in found {
            let there = to.strip_prefix('#').and_then(|pointer| document.pointer(pointer));
            assert!(there.is_some_and(Value::is_object), "{to}");
        }
        let paths = document["paths"].as_object().unwrap();
        let operations = paths.values().flat_map(|path| path.as_object().unwrap().values());
        let ids: Vec<_> = operations.map(|one| one["operationId"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), route::all().count());
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "{ids:?}");
    }
}
