//! API keys: made, checked, revoked. The key itself is shown once and stored nowhere.

use crate::clock;
use crate::store::audit_log;
use crate::store::audit_log::Entry;
use crate::store::database::Database;
use crate::store::resource::Fault;
use crate::store::resource::Place;
use crate::store::resource::Resource;
use crate::store::resource::Row;
use crate::store::resource::field::Field;
use crate::store::resource::field::Given;
use crate::store::resource::field::Kind;
use crate::store::resource::read;
use crate::store::time::Time;
use crate::types::id::ApiKeyId;
use crate::types::id::TenantId;
use crate::types::secret::Secret;
use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use serde_json::json;
use sqlx::Postgres;
use sqlx::Transaction;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;
use uuid::Uuid;

/// Begins each key, so that leaked ones are found by a search.
const PREFIX: &str = "tdm_";
const RANDOM_BYTES: usize = 32;

/// What the holder of a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyRole {
    /// Read.
    Viewer,
    /// Read, and act on calls.
    Operator,
    /// Everything.
    Admin,
}

impl KeyRole {
    /// The spelling of the database and of APIs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

/// The text names no role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a role is viewer, operator or admin")]
pub struct NotARole;

impl FromStr for KeyRole {
    type Err = NotARole;

    fn from_str(text: &str) -> Result<Self, NotARole> {
        [Self::Viewer, Self::Operator, Self::Admin]
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or(NotARole)
    }
}

/// Whose calls and settings a key opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyScope {
    /// One tenant's.
    Tenant(TenantId),
    /// Every tenant's: a key of the operator.
    AllTenants,
}

impl KeyScope {
    const fn tenant(self) -> Option<TenantId> {
        match self {
            Self::Tenant(tenant) => Some(tenant),
            Self::AllTenants => None,
        }
    }

    /// True when the key opens what is `tenant`'s.
    #[must_use]
    pub fn opens(self, tenant: TenantId) -> bool {
        self.tenant().is_none_or(|own| own == tenant)
    }
}

/// A key that was just made.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// Its identity, for revoking it.
    pub id: ApiKeyId,
    /// The key; this is the only time it is seen.
    pub key: Secret<String>,
}

/// Who holds a key that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyHolder {
    /// The key.
    pub id: ApiKeyId,
    /// Whose settings it opens.
    pub scope: KeyScope,
    /// What its holder may do.
    pub role: KeyRole,
}

/// Makes a key.
///
/// # Errors
///
/// When the database fails or the tenant is not there.
pub async fn create(
    database: &Database,
    scope: KeyScope,
    role: KeyRole,
    label: &str,
    expires: Option<Timestamp>,
) -> sqlx::Result<NewKey> {
    let wish = KeyWish { scope, role, label, expires };
    let mut transaction = database.node().begin().await?;
    let made = make(&mut transaction, &wish, None).await?;
    transaction.commit().await?;
    Ok(made)
}

/// A key that is asked for.
#[derive(Clone, Debug)]
pub struct KeyWish<'a> {
    /// Whose things it is to open.
    pub scope: KeyScope,
    /// What its holder may do.
    pub role: KeyRole,
    /// For people; at most 200 characters.
    pub label: &'a str,
    /// When it ends.
    pub expires: Option<Timestamp>,
}

/// The same, on behalf of the holder of another key, and its row. What cannot be shown is not made: nobody sees a key
/// later.
///
/// # Errors
///
/// When the database fails or the tenant is not there; then there is no key.
pub async fn create_by(
    database: &Database,
    wish: &KeyWish<'_>,
    by: Option<ApiKeyId>,
) -> Result<(NewKey, Row), Fault> {
    let mut transaction = database.begin_all_tenants().await?;
    let made = make(&mut transaction, wish, by).await?;
    let row = row_of(&mut transaction, wish.scope, made.id).await?;
    transaction.commit().await?;
    Ok((made, row))
}

/// The row of a key of `scope` itself.
async fn row_of(
    transaction: &mut Transaction<'_, Postgres>,
    scope: KeyScope,
    id: ApiKeyId,
) -> Result<Row, Fault> {
    let place = scope.tenant().map_or(Place::Shared, Place::Of);
    read::row(transaction, (&API_KEYS, place), id.uuid(), false).await
}

/// Makes a key, and notes that.
async fn make(
    transaction: &mut Transaction<'_, Postgres>,
    wish: &KeyWish<'_>,
    by: Option<ApiKeyId>,
) -> sqlx::Result<NewKey> {
    let made = insert(transaction, wish).await?;
    let detail = json!({ "after": Shown::of(wish) });
    let id = made.id.uuid();
    note(transaction, (wish.scope.tenant(), by), "create", id, detail).await?;
    Ok(made)
}

async fn insert(
    transaction: &mut Transaction<'_, Postgres>,
    wish: &KeyWish<'_>,
) -> sqlx::Result<NewKey> {
    let KeyWish { scope, role, label, expires } = *wish;
    let mut random = [0; RANDOM_BYTES];
    clock::fill_random(&mut random);
    let key = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
    let id = clock::new_uuid();
    sqlx::query(INSERT)
        .bind(id)
        .bind(scope.tenant().map(TenantId::uuid))
        .bind(role.as_str())
        .bind(label)
        .bind(hash(&key))
        .bind(expires.map(Time))
        .execute(&mut **transaction)
        .await?;
    Ok(NewKey { id: ApiKeyId::from_uuid(id), key: Secret::new(key) })
}

/// A key as the audit log shows it.
#[derive(Clone, Debug, Serialize)]
struct Shown {
    role: &'static str,
    label: String,
    expires_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
}

impl Shown {
    fn of(wish: &KeyWish<'_>) -> Self {
        Self {
            role: KeyHolder::role_name(wish.scope, wish.role),
            label: wish.label.to_owned(),
            expires_at: wish.expires,
            revoked_at: None,
        }
    }
}

/// A key that is about to end.
#[derive(sqlx::FromRow)]
struct EndingRow {
    role: String,
    label: String,
    expires_at: Option<Time>,
    tag: String,
}

/// The ends of a key.
#[derive(sqlx::FromRow)]
struct EndsRow {
    expires_at: Option<Time>,
    revoked_at: Option<Time>,
}

/// Finds a key of `scope` itself that still opens something, where it has one of the tags of `expected`, and keeps it
/// from changing meanwhile.
async fn hold(
    transaction: &mut Transaction<'_, Postgres>,
    query: &'static str,
    (scope, id): (KeyScope, ApiKeyId),
    expected: Option<&[String]>,
) -> Result<(KeyRole, EndingRow), Fault> {
    let held: Option<EndingRow> = sqlx::query_as(query)
        .bind(id.uuid())
        .bind(scope.tenant().map(TenantId::uuid))
        .fetch_optional(&mut **transaction)
        .await?;
    let held = held.ok_or(Fault::Missing(API_KEYS.name))?;
    if expected.is_some_and(|expected| !expected.contains(&held.tag)) {
        return Err(Fault::Stale);
    }
    let role = held.role.parse().map_err(|_| Fault::Missing(API_KEYS.name))?;
    Ok((role, held))
}

/// Ends a key after so many seconds; how it stands then.
async fn end(
    transaction: &mut Transaction<'_, Postgres>,
    (id, keep_s): (ApiKeyId, i64),
    before: &Shown,
) -> sqlx::Result<Shown> {
    let ends: EndsRow =
        sqlx::query_as(END).bind(id.uuid()).bind(keep_s).fetch_one(&mut **transaction).await?;
    Ok(Shown {
        expires_at: ends.expires_at.map(|time| time.0),
        revoked_at: ends.revoked_at.map(|time| time.0),
        ..before.clone()
    })
}

/// Gives whoever holds a key of `scope` itself another one with the same rights, and ends the old one after `keep`; the
/// new one, and its row.
/// `expected` has the tags of which it must still have one.
///
/// # Errors
///
/// When there is none of the identity that is still valid, another tag, or the database's failure; then nothing is
/// changed.
pub async fn rotate_by(
    database: &Database,
    (scope, id): (KeyScope, ApiKeyId),
    (keep, expected): (Duration, Option<&[String]>),
    by: Option<ApiKeyId>,
) -> Result<(NewKey, Row), Fault> {
    let mut transaction = database.begin_all_tenants().await?;
    let (role, held) = hold(&mut transaction, HOLD_VALID, (scope, id), expected).await?;
    let expires = held.expires_at.map(|time| time.0);
    let wish = KeyWish { scope, role, label: &held.label, expires };
    let keep_s = i64::try_from(keep.as_secs()).unwrap_or(i64::MAX);
    let how = if keep_s == 0 { "swap" } else { "on" };
    sqlx::query(ROTATES).bind(how).execute(&mut *transaction).await?;
    let made = insert(&mut transaction, &wish).await?;
    let before = Shown::of(&wish);
    let after = end(&mut transaction, (id, keep_s), &before).await?;
    let detail = json!({
        "before": before, "after": after, "new_id": made.id.to_string(), "new": before, "keep_s": keep_s,
    });
    note(&mut transaction, (scope.tenant(), by), "rotate", id.uuid(), detail).await?;
    let row = row_of(&mut transaction, scope, made.id).await?;
    transaction.commit().await?;
    Ok((made, row))
}

/// Who holds `key`; `None` when it is unknown, revoked or expired, or its tenant is not served.
///
/// # Errors
///
/// When the database fails.
pub async fn verify_all_tenants(database: &Database, key: &str) -> sqlx::Result<Option<KeyHolder>> {
    // What cannot be a key need not trouble the database.
    if !is_key(key) {
        return Ok(None);
    }
    // Found by its hash: how long that takes says nothing about the key.
    let found: Option<(Uuid, Option<Uuid>, String)> =
        sqlx::query_as(VERIFY).bind(hash(key)).fetch_optional(database.node()).await?;
    Ok(found.and_then(|(id, tenant, role)| holder(id, tenant, &role)))
}

/// Who holds the key of this identity, if it opens anything.
pub(crate) async fn holder_all_tenants(
    database: &Database,
    key: ApiKeyId,
) -> sqlx::Result<Option<KeyHolder>> {
    let found: Option<(Uuid, Option<Uuid>, String)> =
        sqlx::query_as(HOLDER).bind(key.uuid()).fetch_optional(database.node()).await?;
    Ok(found.and_then(|(id, tenant, role)| holder(id, tenant, &role)))
}

/// Who holds the key of a row.
pub(crate) fn holder(id: Uuid, tenant: Option<Uuid>, role: &str) -> Option<KeyHolder> {
    let of = |tenant| KeyScope::Tenant(TenantId::from_uuid(tenant));
    Some(KeyHolder {
        id: ApiKeyId::from_uuid(id),
        scope: tenant.map_or(KeyScope::AllTenants, of),
        role: role.parse().ok()?,
    })
}

/// Revokes a key of `scope` itself from now on; false when it has none of the identity that was not revoked.
///
/// # Errors
///
/// When the database fails.
pub async fn revoke(database: &Database, scope: KeyScope, id: ApiKeyId) -> sqlx::Result<bool> {
    match revoke_by(database, (scope, id), None, None).await {
        Ok(()) => Ok(true),
        Err(Fault::Database(error)) => Err(error),
        Err(_) => Ok(false),
    }
}

/// The same, on behalf of the holder of another key. `expected` has the tags of which it must still have one.
///
/// # Errors
///
/// When there is none of the identity that was not revoked, another tag, or the database's failure; then nothing is
/// changed.
pub async fn revoke_by(
    database: &Database,
    (scope, id): (KeyScope, ApiKeyId),
    expected: Option<&[String]>,
    by: Option<ApiKeyId>,
) -> Result<(), Fault> {
    let mut transaction = database.begin_all_tenants().await?;
    let (role, held) = hold(&mut transaction, HOLD, (scope, id), expected).await?;
    let expires = held.expires_at.map(|time| time.0);
    let before = Shown::of(&KeyWish { scope, role, label: &held.label, expires });
    let after = end(&mut transaction, (id, 0), &before).await?;
    let detail = json!({ "before": before, "after": after });
    note(&mut transaction, (scope.tenant(), by), "revoke", id.uuid(), detail).await?;
    transaction.commit().await?;
    Ok(())
}

async fn note(
    transaction: &mut Transaction<'_, Postgres>,
    (tenant, by): (Option<TenantId>, Option<ApiKeyId>),
    action: &'static str,
    key: Uuid,
    detail: Value,
) -> sqlx::Result<()> {
    let subject_id = Some(key);
    let entry = Entry { tenant, key: by, action, subject: "api_key", subject_id, detail };
    audit_log::note(transaction, &entry).await
}

pub(crate) const INSERT: &str = "INSERT INTO api_keys (id, tenant_id, role, label, hash, expires_at) \
     VALUES ($1, $2, $3, $4, $5, $6)";

pub(crate) const VERIFY: &str = "SELECT k.id, k.tenant_id, k.role FROM api_keys k \
     LEFT JOIN tenants t ON t.id = k.tenant_id \
     WHERE k.hash = $1 AND k.revoked_at IS NULL \
       AND (k.expires_at IS NULL OR k.expires_at > now()) \
       AND (k.tenant_id IS NULL OR t.status <> 'deleted')";

/// The same by its identity.
pub(crate) const HOLDER: &str = "SELECT k.id, k.tenant_id, k.role FROM api_keys k \
     LEFT JOIN tenants t ON t.id = k.tenant_id \
     WHERE k.id = $1 AND k.revoked_at IS NULL \
       AND (k.expires_at IS NULL OR k.expires_at > now()) \
       AND (k.tenant_id IS NULL OR t.status <> 'deleted')";

/// The keys that open something: those of the platform first, then of each tenant the newest, so that none pushes out
/// those of others.
pub(crate) const VALID: &str = "SELECT k.id, k.tenant_id, k.role, k.hash, k.expires_at FROM api_keys k \
     LEFT JOIN tenants t ON t.id = k.tenant_id \
     WHERE k.revoked_at IS NULL \
       AND (k.expires_at IS NULL OR k.expires_at > now()) \
       AND (k.tenant_id IS NULL OR t.status <> 'deleted') \
     ORDER BY (k.tenant_id IS NOT NULL), \
         row_number() OVER (PARTITION BY k.tenant_id ORDER BY k.id DESC), k.id DESC LIMIT $1";

/// For this transaction: a tenant may have a key more than it may make, since the old one ends; where that is at once
/// (`swap`) it has no more than before, however many those are.
pub(crate) const ROTATES: &str = "SELECT set_config('tandem.rotates', $1, true)";

/// A key that was not revoked, kept from changing meanwhile: of a tenant, or of the platform itself.
pub(crate) const HOLD: &str = "SELECT role, label, expires_at, xmin::text AS tag FROM api_keys \
     WHERE id = $1 AND revoked_at IS NULL AND tenant_id IS NOT DISTINCT FROM $2 FOR UPDATE";

/// The same of one that opens something.
pub(crate) const HOLD_VALID: &str = "SELECT role, label, expires_at, xmin::text AS tag FROM api_keys \
     WHERE id = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now()) \
       AND tenant_id IS NOT DISTINCT FROM $2 FOR UPDATE";

/// Ends a key so many seconds from now, or when it ends anyway.
pub(crate) const END: &str = "UPDATE api_keys \
     SET revoked_at = CASE WHEN $2::bigint = 0 THEN now() END, \
         expires_at = CASE WHEN $2::bigint = 0 THEN expires_at \
             ELSE least(expires_at, now() + make_interval(secs => $2::bigint)) END \
     WHERE id = $1 RETURNING expires_at, revoked_at";

/// The roles of keys of the API: of the platform, and of one tenant. Keys of either may only read.
const ROLES: [&str; 5] =
    ["platform-admin", "platform-operator", "tenant-admin", "tenant-operator", "read-only"];

impl KeyHolder {
    /// The name of the holder's role, one of those the API knows.
    #[must_use]
    pub const fn role_name(scope: KeyScope, role: KeyRole) -> &'static str {
        match (scope, role) {
            (KeyScope::AllTenants, KeyRole::Admin) => "platform-admin",
            (KeyScope::AllTenants, KeyRole::Operator) => "platform-operator",
            (KeyScope::Tenant(_), KeyRole::Admin) => "tenant-admin",
            (KeyScope::Tenant(_), KeyRole::Operator) => "tenant-operator",
            (_, KeyRole::Viewer) => "read-only",
        }
    }
}

impl KeyScope {
    /// The role of a name, for keys of this scope; `None` where such keys have no such role.
    #[must_use]
    pub fn role_of(self, name: &str) -> Option<KeyRole> {
        [KeyRole::Viewer, KeyRole::Operator, KeyRole::Admin]
            .into_iter()
            .find(|role| KeyHolder::role_name(self, *role) == name)
    }
}

/// API keys as the API shows them. The key itself and its hash are not among the fields.
pub const API_KEYS: Resource = Resource {
    name: "API key",
    plural: "api_keys",
    table: "api_keys",
    fields: &[
        Field::new("tenant_id", Kind::Id, "Whose things it opens; null: everybody's.")
            .given(Given::Never)
            .nullable(),
        Field::new(
            "role",
            Kind::Choice(&ROLES),
            "read-only: reads, but no keys, audit log or recorded sound; -operator: also places and steers \
             calls, hears recordings, makes AI profiles and campaigns, changes numbers, replays webhooks; \
             -admin: everything of the tenant, or of the platform.",
        )
        .given(Given::RequiredOnce),
        Field::new("label", Kind::Text(0, 200), "For people.").given(Given::OptionalOnce).filter(),
        Field::new("expires_at", Kind::Time, "When it stops to open anything; null: never.")
            .given(Given::OptionalOnce)
            .nullable(),
        Field::new("created_at", Kind::Time, "When it was made.").given(Given::Never),
        Field::new("revoked_at", Kind::Time, "When it was revoked.").given(Given::Never).nullable(),
    ],
    exclusive: None,
    has_secrets: false,
    is_switchs: true,
    deactivates: None,
};

fn is_key(text: &str) -> bool {
    let random = text.strip_prefix(PREFIX).map(|rest| URL_SAFE_NO_PAD.decode(rest));
    matches!(random, Some(Ok(bytes)) if bytes.len() == RANDOM_BYTES)
}

/// What is stored of a key.
pub(crate) fn hash(key: &str) -> Vec<u8> {
    digest::digest(&digest::SHA256, key.as_bytes()).as_ref().to_vec()
}

impl fmt::Display for KeyRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_a_key_is_told_from_one_that_can() {
        let good = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode([7; RANDOM_BYTES]));
        assert!(is_key(&good));
        let cut: String = good.chars().skip(1).collect();
        for bad in ["", "tdm_", "tdm_AAAA", &cut, &format!("{good}A")] {
            assert!(!is_key(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_tenants_key_opens_that_tenant_alone() {
        let tenant = |n| TenantId::from_uuid(Uuid::from_u128(n));
        assert!(KeyScope::Tenant(tenant(1)).opens(tenant(1)));
        assert!(!KeyScope::Tenant(tenant(1)).opens(tenant(2)));
        assert!(KeyScope::AllTenants.opens(tenant(2)));
        assert!(KeyRole::Viewer < KeyRole::Admin);
    }
}
