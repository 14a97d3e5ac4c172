//! Rows that routing reads, as SQL.

use serde_json::Value;
use serde_json::json;
use tandem::types::id::TenantId;
use uuid::Uuid;

pub(crate) fn uuid(id: u128) -> Uuid {
    Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + id)
}

/// The identity of [`tenant`].
pub(crate) fn tenant_id(id: u128) -> TenantId {
    TenantId::from_uuid(uuid(id))
}

/// A tenant that may have `calls_max` calls; 0: as many as it likes.
pub(crate) fn tenant(id: u128, calls_max: u32) -> String {
    format!(
        "INSERT INTO tenants (id, name, calls_max) VALUES ('{}', 'tenant {id}', {calls_max})",
        uuid(id)
    )
}

/// A trunk for all tenants that trusts `source`.
pub(crate) fn trunk(id: u128, source: &str) -> String {
    trunk_with(id, json!({"inbound": {"source_cidrs": [source]}}))
}

pub(crate) fn trunk_with(id: u128, overrides: Value) -> String {
    format!(
        "INSERT INTO trunks (id, name, profile, overrides) \
         VALUES ('{}', 'trunk-{id}', 'generic', '{overrides}')",
        uuid(id)
    )
}

/// An AI profile with this agent.
pub(crate) fn profile(id: u128, tenant: u128, agent: Value) -> String {
    format!(
        "INSERT INTO ai_profiles (id, tenant_id, name, system_prompt, agent) \
         VALUES ('{}', '{}', 'profile {id}', 'You answer.', '{agent}')",
        uuid(id),
        uuid(tenant)
    )
}

pub(crate) fn number(id: u128, tenant: u128, profile: u128, number: &str) -> String {
    format!(
        "INSERT INTO phone_numbers (id, tenant_id, first_number, last_number, ai_profile_id) \
         VALUES ('{}', '{}', '{number}', '{number}', '{}')",
        uuid(id),
        uuid(tenant),
        uuid(profile)
    )
}
