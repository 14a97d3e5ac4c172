//! Every statement that the program sends, so that a test can let the database check each.

use crate::store::ai_profiles;
use crate::store::api_keys;
use crate::store::audit_log;
use crate::store::calls;
use crate::store::calls::CallFilter;
use crate::store::changes;
use crate::store::database;
use crate::store::demo;
use crate::store::migrate;
use crate::store::numbers;
use crate::store::past_calls;
use crate::store::routing_profiles;
use crate::store::snapshot;
use crate::store::tenants;
use crate::store::trunks;
use crate::types::id::CallId;
use crate::types::id::TenantId;
use jiff::Timestamp;
use uuid::Uuid;

/// Every statement that can be prepared.
#[must_use]
pub fn all() -> Vec<String> {
    let fixed = [
        database::SET_TENANT,
        migrate::TABLE_EXISTS,
        migrate::APPLIED,
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
        snapshot::LAST_SEQ,
        changes::SPAN,
        changes::AFTER,
        changes::PRUNE,
        calls::SELECT_ONE.as_str(),
        calls::SELECT_EVENTS,
        calls::UPSERT.as_str(),
        calls::INSERT_EVENTS,
        past_calls::ENDED,
        api_keys::INSERT,
        api_keys::VERIFY,
        api_keys::REVOKE,
        audit_log::INSERT,
        demo::PUT_TENANT,
        demo::PUT_PROFILE,
        demo::PUT_TRUNK,
        demo::PUT_NUMBER,
    ];
    let mut all: Vec<String> = fixed.map(str::to_owned).into();
    all.extend(list_forms());
    all
}

/// The list of calls without a filter, and with all of them.
fn list_forms() -> [String; 2] {
    let tenant = TenantId::from_uuid(Uuid::nil());
    let text = Some(String::new());
    let time = Some(Timestamp::UNIX_EPOCH);
    let every = CallFilter {
        caller: text.clone(),
        dialled: text.clone(),
        cause: text,
        from: time,
        until: time,
    };
    let after = Some(CallId::from_uuid(Uuid::nil()));
    [(CallFilter::default(), None), (every, after)].map(|(filter, after)| {
        calls::list_query(tenant, &filter, after, 1).sql().as_str().to_owned()
    })
}
