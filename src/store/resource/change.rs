//! Creation, change and deletion of rows, each with its entry in the audit log.

use crate::store::api_keys::KeyHolder;
use crate::store::audit_log;
use crate::store::audit_log::Entry;
use crate::store::database::Database;
use crate::store::resource;
use crate::store::resource::Fault;
use crate::store::resource::Members;
use crate::store::resource::Place;
use crate::store::resource::ROW;
use crate::store::resource::Resource;
use crate::store::resource::Row;
use crate::store::resource::read;
use crate::types::id::TenantId;
use serde_json::Value;
use serde_json::json;
use sqlx::PgConnection;
use sqlx::Postgres;
use sqlx::QueryBuilder;
use uuid::Uuid;

/// Looks at a change within its transaction before it is written: refuses it, or adds columns to it.
pub struct Draft<'a> {
    /// The identity of the row.
    pub id: Uuid,
    /// The row as it stands; `None`: it is about to be made.
    pub before: Option<&'a Row>,
    /// What is given; columns may be added.
    pub given: &'a mut Members,
}

impl Draft<'_> {
    /// The value that a field will have; null where the schema's default will stand.
    #[must_use]
    pub fn after(&self, name: &str) -> Value {
        let before = || self.before.and_then(|row| row.members.get(name));
        self.given.get(name).or_else(before).cloned().unwrap_or_default()
    }
}

/// Makes a row of `place` of what was given and checked.
///
/// # Errors
///
/// What `amend` or the schema refuses, or the database's failure; then nothing is changed.
pub async fn create(
    (database, holder): (&Database, &KeyHolder),
    (resource, place): (&Resource, Place),
    (id, given): (Uuid, Members),
    amend: impl FnOnce(&mut Draft<'_>) -> Result<(), Fault>,
) -> Result<Row, Fault> {
    let mut transaction = resource::begin(database, holder, resource).await?;
    let row = insert(&mut transaction, holder, (resource, place), (id, given), amend).await?;
    transaction.commit().await?;
    Ok(row)
}

/// Makes many rows, each for itself: what is refused does not keep the others out. One transaction.
///
/// # Errors
///
/// When the database fails; then none is made.
pub async fn create_many(
    (database, holder): (&Database, &KeyHolder),
    (resource, place): (&Resource, Place),
    many: Vec<(Uuid, Members)>,
    mut amend: impl FnMut(&mut Draft<'_>) -> Result<(), Fault>,
) -> Result<Vec<Result<Row, Fault>>, Fault> {
    let mut transaction = resource::begin(database, holder, resource).await?;
    let mut made = Vec::with_capacity(many.len());
    for one in many {
        sqlx::query(SAVEPOINT).execute(&mut *transaction).await?;
        let row = insert(&mut transaction, holder, (resource, place), one, &mut amend).await;
        let after = match &row {
            Ok(_) => RELEASE,
            Err(Fault::Database(_)) => return row.map(|_| Vec::new()),
            Err(_) => ROLL_BACK,
        };
        sqlx::query(after).execute(&mut *transaction).await?;
        made.push(row);
    }
    transaction.commit().await?;
    Ok(made)
}

const SAVEPOINT: &str = "SAVEPOINT one";
const RELEASE: &str = "RELEASE SAVEPOINT one";
const ROLL_BACK: &str = "ROLLBACK TO SAVEPOINT one";

async fn insert(
    connection: &mut PgConnection,
    holder: &KeyHolder,
    (resource, place): (&Resource, Place),
    (id, mut given): (Uuid, Members),
    amend: impl FnOnce(&mut Draft<'_>) -> Result<(), Fault>,
) -> Result<Row, Fault> {
    if let Some((flag, tenant)) = resource.exclusive.zip(place.tenant()) {
        lock(connection, tenant).await?;
        let is_wanted = given.get(flag) == Some(&Value::Bool(true));
        if is_wanted {
            unset(connection, resource, flag, tenant).await?;
        } else if !is_any(connection, resource, tenant, id).await? {
            // The first is the one.
            given.insert(flag.to_owned(), Value::Bool(true));
        }
    }
    amend(&mut Draft { id, before: None, given: &mut given })?;
    let mut query = insert_query(resource, place, id, &given);
    let stored = resource::one(&mut query, connection).await?;
    let row = stored.map(|stored| resource.show(stored)).ok_or(Fault::Missing(resource.name))?;
    let detail = json!({ "after": row.members });
    note(connection, holder, (resource, place), ("create", id, detail)).await?;
    Ok(row)
}

/// Changes a row of `place`; what is not given stays. `expected` has the tags of which it must still have one.
///
/// # Errors
///
/// What `amend` or the schema refuses, another tag, or the database's failure; then nothing is changed.
pub async fn update(
    (database, holder): (&Database, &KeyHolder),
    (resource, place): (&Resource, Place),
    (id, mut given): (Uuid, Members),
    expected: Option<&[String]>,
    amend: impl FnOnce(&mut Draft<'_>) -> Result<(), Fault>,
) -> Result<Row, Fault> {
    let mut transaction = resource::begin(database, holder, resource).await?;
    // Before the row: who takes both in another order would wait for us for ever.
    if let Some(tenant) = resource.exclusive.and(place.tenant()) {
        lock(&mut transaction, tenant).await?;
    }
    let before = read::row(&mut transaction, (resource, place), id, true).await?;
    if expected.is_some_and(|expected| !expected.contains(&before.tag)) {
        return Err(Fault::Stale);
    }
    if let Some((flag, tenant)) = resource.exclusive.zip(place.tenant()) {
        let is_set = before.members.get(flag) == Some(&Value::Bool(true));
        match given.get(flag) {
            Some(Value::Bool(true)) if !is_set => {
                unset(&mut transaction, resource, flag, tenant).await?;
            }
            Some(Value::Bool(false)) if is_set => return Err(only_one(resource, flag)),
            _ => {}
        }
    }
    for (name, value) in &mut given {
        if let Some(Value::Object(old)) = before.members.get(name) {
            *value = merged(Value::Object(old.clone()), std::mem::take(value));
        }
    }
    amend(&mut Draft { id, before: Some(&before), given: &mut given })?;
    if given.is_empty() {
        return Ok(before);
    }
    let mut query = update_query((resource, place), id, &given);
    let stored = resource::one(&mut query, &mut transaction).await?;
    let row = stored.map(|stored| resource.show(stored)).ok_or(Fault::Missing(resource.name))?;
    let mut detail = json!({ "before": before.members, "after": row.members });
    // That a secret was changed is said; which it was and is, never.
    if before.sealed != row.sealed
        && let Some(detail) = detail.as_object_mut()
    {
        detail.insert("secrets".to_owned(), json!("changed"));
    }
    note(&mut transaction, holder, (resource, place), ("update", id, detail)).await?;
    transaction.commit().await?;
    Ok(row)
}

/// Deletes a row of `place`, or deactivates it where such rows stay. `expected` has the tags of which it must
/// still have one.
///
/// # Errors
///
/// What the schema refuses, another tag, or the database's failure; then nothing is changed.
pub async fn delete(
    (database, holder): (&Database, &KeyHolder),
    (resource, place): (&Resource, Place),
    id: Uuid,
    expected: Option<&[String]>,
) -> Result<(), Fault> {
    if let Some((field, value)) = resource.deactivates {
        let given = Members::from_iter([(field.to_owned(), Value::from(value))]);
        let ends = (id, given);
        update((database, holder), (resource, place), ends, expected, |_| Ok(())).await?;
        return Ok(());
    }
    let mut transaction = resource::begin(database, holder, resource).await?;
    if let Some(tenant) = resource.exclusive.and(place.tenant()) {
        lock(&mut transaction, tenant).await?;
    }
    let before = read::row(&mut transaction, (resource, place), id, true).await?;
    if expected.is_some_and(|expected| !expected.contains(&before.tag)) {
        return Err(Fault::Stale);
    }
    if let Some((flag, tenant)) = resource.exclusive.zip(place.tenant())
        && before.members.get(flag) == Some(&Value::Bool(true))
        && is_any(&mut transaction, resource, tenant, id).await?
    {
        return Err(only_one(resource, flag));
    }
    let deleted = delete_query((resource, place), id).build().execute(&mut *transaction).await;
    deleted.map_err(|error| match Fault::from(error) {
        // What the schema refuses of a deletion is that others need the row.
        Fault::Invalid { .. } => {
            let why = format!("this {} is in use", resource.name);
            Fault::Conflict { field: None, why }
        }
        fault => fault,
    })?;
    let detail = json!({ "before": before.members });
    note(&mut transaction, holder, (resource, place), ("delete", id, detail)).await?;
    transaction.commit().await?;
    Ok(())
}

/// A value with a change laid over it (RFC 7396): members that are not named stay, null takes one away.
fn merged(old: Value, change: Value) -> Value {
    let Value::Object(change) = change else { return change };
    let mut members = match old {
        Value::Object(members) => members,
        _ => Members::new(),
    };
    for (name, value) in change {
        match value {
            Value::Null => {
                members.remove(&name);
            }
            value => {
                let old = members.remove(&name).unwrap_or_default();
                members.insert(name, merged(old, value));
            }
        }
    }
    Value::Object(members)
}

fn only_one(resource: &Resource, flag: &'static str) -> Fault {
    let why =
        format!("this {} is the one with `{flag}`: give it to another one first", resource.name);
    Fault::Conflict { field: Some(flag), why }
}

/// Lets changes of which row has the exclusive flag follow each other.
async fn lock(connection: &mut PgConnection, tenant: TenantId) -> sqlx::Result<()> {
    sqlx::query(LOCK).bind(tenant.uuid()).execute(connection).await?;
    Ok(())
}

pub(crate) const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtextextended($1::uuid::text, 7))";

async fn unset(
    connection: &mut PgConnection,
    resource: &Resource,
    flag: &str,
    tenant: TenantId,
) -> sqlx::Result<()> {
    unset_query(resource, flag, tenant).build().execute(connection).await?;
    Ok(())
}

/// Whether the tenant has another row than `id`.
async fn is_any(
    connection: &mut PgConnection,
    resource: &Resource,
    tenant: TenantId,
    id: Uuid,
) -> sqlx::Result<bool> {
    any_query(resource, tenant, id).build_query_scalar().fetch_one(connection).await
}

pub(crate) fn unset_query(
    resource: &Resource,
    flag: &str,
    tenant: TenantId,
) -> QueryBuilder<Postgres> {
    let table = resource.table;
    let text = format!(
        "UPDATE {table} SET {flag} = false, updated_at = now() WHERE {flag} AND tenant_id = "
    );
    let mut query = QueryBuilder::new(text);
    query.push_bind(tenant.uuid());
    query
}

pub(crate) fn any_query(resource: &Resource, tenant: TenantId, id: Uuid) -> QueryBuilder<Postgres> {
    let text = format!("SELECT EXISTS (SELECT FROM {} WHERE tenant_id = ", resource.table);
    let mut query = QueryBuilder::new(text);
    query.push_bind(tenant.uuid()).push(" AND id <> ").push_bind(id).push(")");
    query
}

pub(crate) fn insert_query(
    resource: &Resource,
    place: Place,
    id: Uuid,
    given: &Members,
) -> QueryBuilder<Postgres> {
    let table = resource.table;
    let has_owner = table != "tenants";
    let owner = if has_owner { ", tenant_id" } else { "" };
    let names: String = given.keys().map(|name| format!(", {name}")).collect();
    let mut query =
        QueryBuilder::new(format!("INSERT INTO {table} AS t (id{owner}{names}) SELECT "));
    query.push_bind(id);
    if has_owner {
        query.push(", ").push_bind(place.tenant().map(TenantId::uuid));
    }
    for name in given.keys() {
        query.push(format!(", r.{name}"));
    }
    query
        .push(format!(" FROM jsonb_populate_record(NULL::{table}, "))
        .push_bind(Value::Object(given.clone()));
    query.push(format!(") r RETURNING {ROW}"));
    query
}

pub(crate) fn update_query(
    (resource, place): (&Resource, Place),
    id: Uuid,
    given: &Members,
) -> QueryBuilder<Postgres> {
    let table = resource.table;
    let mut query = QueryBuilder::new(format!("UPDATE {table} AS t SET updated_at = now()"));
    for name in given.keys() {
        query.push(format!(", {name} = r.{name}"));
    }
    query
        .push(format!(" FROM jsonb_populate_record(NULL::{table}, "))
        .push_bind(Value::Object(given.clone()));
    query.push(") r WHERE t.id = ").push_bind(id);
    resource::push_place(&mut query, resource, place);
    query.push(format!(" RETURNING {ROW}"));
    query
}

pub(crate) fn delete_query(
    (resource, place): (&Resource, Place),
    id: Uuid,
) -> QueryBuilder<Postgres> {
    let mut query = QueryBuilder::new(format!("DELETE FROM {} t WHERE t.id = ", resource.table));
    query.push_bind(id);
    resource::push_place(&mut query, resource, place);
    query
}

async fn note(
    connection: &mut PgConnection,
    holder: &KeyHolder,
    (resource, place): (&Resource, Place),
    (action, id, detail): (&'static str, Uuid, Value),
) -> sqlx::Result<()> {
    // What happens to a tenant is of that tenant.
    let of_itself = (resource.table == "tenants").then(|| TenantId::from_uuid(id));
    let entry = Entry {
        tenant: place.tenant().or(of_itself),
        key: Some(holder.id),
        action,
        subject: resource.name,
        subject_id: Some(id),
        detail,
    };
    audit_log::note(connection, &entry).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_an_object_keeps_what_it_does_not_name() {
        let old = json!({"kind": "twilio", "url": "ws://a", "parameters": {"a": "1", "b": "2"}});
        let change = json!({"url": "ws://b", "parameters": {"b": null, "c": {"d": null}}});
        let expected =
            json!({"kind": "twilio", "url": "ws://b", "parameters": {"a": "1", "c": {}}});
        assert_eq!(merged(old, change), expected);
    }
}
