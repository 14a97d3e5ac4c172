//! Every statement that the program sends, so that a test can let the database check each.

use crate::store::ai_profiles;
use crate::store::api_keys;
use crate::store::audit_log;
use crate::store::audit_queue;
use crate::store::call_commands;
use crate::store::call_notes;
use crate::store::calls;
use crate::store::calls::CallFilter;
use crate::store::campaigns;
use crate::store::changes;
use crate::store::database;
use crate::store::demo;
use crate::store::erasures;
use crate::store::idempotency;
use crate::store::live_events;
use crate::store::lost_calls;
use crate::store::migrate;
use crate::store::numbers;
use crate::store::past_calls;
use crate::store::privacy;
use crate::store::recordings;
use crate::store::refused_sources;
use crate::store::reseal;
use crate::store::resource::Members;
use crate::store::resource::Place;
use crate::store::resource::Resource;
use crate::store::resource::change;
use crate::store::resource::field::Given;
use crate::store::resource::field::Kind;
use crate::store::resource::read;
use crate::store::resource::read::Filter;
use crate::store::routing_profiles;
use crate::store::snapshot;
use crate::store::tenants;
use crate::store::traces;
use crate::store::transcripts;
use crate::store::trunks;
use crate::store::webhooks;
use crate::store::webhooks::deliveries;
use crate::types::id::CallId;
use crate::types::id::TenantId;
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

/// Every statement that can be prepared.
#[must_use]
pub fn all() -> Vec<String> {
    let fixed = [
        database::SET_TENANT,
        database::TAKE_TIME,
        audit_queue::INSERT,
        migrate::TABLE_EXISTS,
        migrate::APPLIED,
        tenants::THERE,
        tenants::ALL,
        tenants::SOME,
        ai_profiles::ALL,
        ai_profiles::SOME,
        numbers::ALL,
        numbers::SOME,
        trunks::ALL,
        trunks::SOME,
        routing_profiles::ALL,
        routing_profiles::SOME,
        campaigns::ALL,
        campaigns::SOME,
        snapshot::LAST_SEQ,
        changes::SPAN,
        changes::AFTER,
        changes::PRUNE,
        calls::SELECT_ONE.as_str(),
        calls::RUNNING_ELSEWHERE.as_str(),
        calls::SELECT_EVENTS,
        calls::ARRIVAL,
        calls::UPSERT.as_str(),
        calls::INSERT_EVENTS,
        lost_calls::LOST,
        lost_calls::CLOSE,
        lost_calls::CLOSED,
        past_calls::ENDED,
        past_calls::LEGS,
        trunks::NEWEST_CALLS,
        refused_sources::LIST,
        change::LOCK,
        demo::PUT_TENANT,
        demo::PUT_PROFILE,
        demo::PUT_TRUNK,
        demo::PUT_NUMBER,
    ];
    let mut all: Vec<String> = fixed.map(str::to_owned).into();
    all.extend(OF_CALLS.map(str::to_owned));
    all.extend(access_and_privacy().map(str::to_owned));
    all.extend(OF_EVENTS.map(str::to_owned));
    all.extend(OF_WHAT_IS_SAID.map(str::to_owned));
    all.extend(list_forms());
    let resources = [
        &tenants::TENANTS,
        &ai_profiles::AI_PROFILES,
        &numbers::NUMBERS,
        &trunks::TRUNKS,
        &routing_profiles::ROUTING_PROFILES,
        &campaigns::CAMPAIGNS,
        &api_keys::API_KEYS,
        &audit_log::AUDIT_LOG,
        &webhooks::WEBHOOKS,
        &recordings::RECORDINGS,
    ];
    all.extend(resources.into_iter().flat_map(resource_forms));
    all.extend(reseal::TABLES.into_iter().flat_map(|of| [reseal::select(of), reseal::update(of)]));
    all
}

/// What is said of calls, asked once, and kept of their signalling.
const OF_CALLS: [&str; 21] = [
    traces::RECORDED,
    traces::INSERT,
    traces::SELECT,
    traces::DELETE,
    call_notes::SELECT,
    call_notes::UPDATE,
    idempotency::PRUNE,
    idempotency::BEGIN,
    idempotency::SELECT,
    idempotency::ANSWER,
    idempotency::FORGET,
    call_commands::ELSEWHERE,
    call_commands::OTHERS,
    call_commands::ASK,
    call_commands::TELL,
    call_commands::PROGRESS,
    call_commands::TAKE_BACK,
    call_commands::FORGET,
    call_commands::FORGET_OLD,
    call_commands::TAKE,
    call_commands::ANSWER,
];

/// Who may ask, what they did, and what is kept of people.
const fn access_and_privacy() -> [&'static str; 23] {
    [
        api_keys::INSERT,
        api_keys::VERIFY,
        api_keys::ROTATES,
        api_keys::HOLDER,
        api_keys::VALID,
        api_keys::HOLD,
        api_keys::HOLD_VALID,
        api_keys::END,
        audit_log::INSERT,
        privacy::FORGET,
        privacy::CALLS,
        privacy::EXPORT,
        privacy::ERASE,
        privacy::RUNS,
        privacy::NAMED,
        erasures::REGISTER,
        erasures::FORGET_NODES,
        erasures::NODES,
        erasures::NOTE,
        erasures::NOTE_SEALED,
        erasures::NOTE_LATE,
        erasures::OF_NODE,
        erasures::DONE,
    ]
}

/// What is sent for events and who is told of them.
const OF_EVENTS: [&str; 21] = [
    live_events::ADD_AFTER_END,
    live_events::CLOSED,
    live_events::OF_CALL,
    live_events::OF_TENANT,
    live_events::RECORDED,
    live_events::TELL_NEWS,
    webhooks::CLAIM,
    webhooks::WAITING,
    webhooks::DELIVERED,
    webhooks::FAILED,
    webhooks::HOLD,
    webhooks::DROP_QUEUE,
    webhooks::FREE_QUEUE,
    webhooks::WAKE,
    webhooks::BACKLOG,
    webhooks::FORGET,
    webhooks::SEALED,
    webhooks::SEAL,
    deliveries::LIST,
    deliveries::REPLAY,
    deliveries::THERE,
];

/// Recordings and transcripts.
const OF_WHAT_IS_SAID: [&str; 12] = [
    recordings::PUT,
    recordings::FIND,
    recordings::REMOVED,
    recordings::FORGET_REMOVED,
    transcripts::PUT,
    transcripts::ADD_NEWS,
    transcripts::GET,
    transcripts::LIST,
    transcripts::TAG,
    transcripts::DELETE,
    privacy::ERASE_SAID,
    erasures::TELL_NODES,
];

/// What is sent for a resource, with every field and filter it has.
fn resource_forms(resource: &'static Resource) -> Vec<String> {
    let (id, tenant) = (Uuid::nil(), TenantId::from_uuid(Uuid::nil()));
    let mut filter = Filter::default();
    for field in resource.fields.iter().filter(|field| field.is_filter) {
        let text = match field.kind {
            Kind::Id => id.to_string(),
            Kind::Flag => "true".to_owned(),
            Kind::Choice(words) => words.first().copied().unwrap_or_default().to_owned(),
            Kind::Text(..)
            | Kind::Integer(..)
            | Kind::Number
            | Kind::Pattern(..)
            | Kind::Patterns(..)
            | Kind::Object
            | Kind::Objects
            | Kind::Time => String::new(),
        };
        // A filter that cannot be used is left out here and found by a test.
        drop(filter.equal(field, &text));
    }
    if resource.table == "phone_numbers" {
        filter.holds = "+15550100".parse().ok();
    }
    let place = Place::OfAndShared(tenant);
    let mut queries = vec![
        read::list_query((resource, place), filter, Some(id), 1),
        read::list_query((resource, Place::Of(tenant)), Filter::default(), None, 1),
        read::get_query((resource, Place::Shared), id, true),
    ];
    let given = |given: Given| !matches!(given, Given::Never);
    let fields = resource.fields.iter().filter(|field| given(field.given));
    let mut members: Members = fields.map(|field| (field.name.to_owned(), Value::Null)).collect();
    if resource.has_secrets {
        members.insert("sealed".to_owned(), Value::Null);
    }
    // Keys and the log have statements of their own.
    if !resource.is_switchs && !members.is_empty() {
        queries.push(change::insert_query(resource, place, id, &members));
        queries.push(change::update_query((resource, place), id, &members));
        queries.push(change::delete_query((resource, place), id));
    }
    if let Some(flag) = resource.exclusive {
        queries.push(change::unset_query(resource, flag, tenant));
        queries.push(change::any_query(resource, tenant, id));
    }
    queries.into_iter().map(|query| query.sql().as_str().to_owned()).collect()
}

/// The list of calls without a filter, and with all of them.
fn list_forms() -> [String; 3] {
    let tenant = TenantId::from_uuid(Uuid::nil());
    let text = Some(String::new());
    let time = Some(Timestamp::UNIX_EPOCH);
    let every = CallFilter {
        caller: text.clone(),
        dialled: text.clone(),
        cause: text.clone(),
        disposition: text,
        from: time,
        until: time,
    };
    let after = Some((Timestamp::UNIX_EPOCH, CallId::from_uuid(Uuid::nil())));
    let within = CallFilter { from: time, until: time, ..CallFilter::default() };
    [(CallFilter::default(), None), (every, after), (within, after)].map(|(filter, after)| {
        calls::list_query(tenant, &filter, after, 1).sql().as_str().to_owned()
    })
}
