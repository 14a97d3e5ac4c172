//! `Resource`: a table as the API manages it, described once; what is checked, stored, shown and documented
//! follows from the description.

pub mod change;
pub mod field;
pub mod read;

use crate::store::api_keys::KeyHolder;
use crate::store::api_keys::KeyScope;
use crate::store::database::Database;
use crate::store::resource::field::Field;
use crate::types::id::TenantId;
use serde_json::Map;
use serde_json::Value;
use sqlx::FromRow;
use sqlx::PgConnection;
use sqlx::Postgres;
use sqlx::QueryBuilder;
use sqlx::Row as _;
use sqlx::Transaction;
use sqlx::postgres::PgRow;
use uuid::Uuid;

/// The members of a JSON object.
pub type Members = Map<String, Value>;

/// A kind of thing that the API manages.
#[derive(Debug)]
pub struct Resource {
    /// One of them, in paths, messages and the audit log: `number`.
    pub name: &'static str,
    /// Several, as lists are headed: `numbers`.
    pub plural: &'static str,
    /// The table.
    pub table: &'static str,
    /// What clients see of a row, beside `id`.
    pub fields: &'static [Field],
    /// The flag that is true for exactly one row of a tenant.
    pub exclusive: Option<&'static str>,
    /// Whether rows have secrets of their own, sealed.
    pub has_secrets: bool,
    /// Whether the switch's own role reads and writes it for tenants too.
    pub is_switchs: bool,
    /// A deleted row stays: this field gets this value instead.
    pub deactivates: Option<(&'static str, &'static str)>,
}

/// Whose rows are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Those of one tenant.
    Of(TenantId),
    /// Those of one tenant and those that all tenants share.
    OfAndShared(TenantId),
    /// Those that belong to no tenant.
    Shared,
    /// All there are; of a table whose rows are tenants, or for the platform.
    All,
}

impl Place {
    /// The tenant that new rows belong to, and whose changes are logged.
    #[must_use]
    pub const fn tenant(self) -> Option<TenantId> {
        match self {
            Self::Of(tenant) | Self::OfAndShared(tenant) => Some(tenant),
            Self::Shared | Self::All => None,
        }
    }
}

/// A row as clients may see it.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its identity.
    pub id: Uuid,
    /// Another one whenever the row was written.
    pub tag: String,
    /// Its fields, `id` first; secrets are not among them.
    pub members: Members,
    /// Its secrets, sealed, by name.
    pub sealed: Members,
}

/// Why a request for rows is not answered with them.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// There is no such row.
    #[error("there is no such {0}")]
    Missing(&'static str),
    /// The row was changed by somebody else in the meantime.
    #[error("it was changed in the meantime: read it again")]
    Stale,
    /// It goes against what is there.
    #[error("{why}")]
    Conflict {
        /// The field, where one is to blame.
        field: Option<&'static str>,
        /// How.
        why: String,
    },
    /// A value cannot be used.
    #[error("`{field}`: {why}")]
    Invalid {
        /// The path of the value.
        field: String,
        /// What is wrong with it.
        why: String,
    },
    /// A field that the platform alone sets.
    #[error("`{0}` is the platform's to set")]
    Forbidden(String),
    /// The database failed.
    #[error("the database failed")]
    Database(#[source] sqlx::Error),
}

impl Fault {
    /// A value that cannot be used.
    pub fn invalid(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), why: why.into() }
    }
}

impl From<sqlx::Error> for Fault {
    /// What the schema refuses is the request's fault, all else the database's.
    fn from(error: sqlx::Error) -> Self {
        let Some(refusal) = error.as_database_error() else { return Self::Database(error) };
        let constraint = refusal.constraint().unwrap_or_default();
        let conflict = |field, why: &str| Self::Conflict { field, why: why.to_owned() };
        match (refusal.code().as_deref().unwrap_or_default(), constraint) {
            ("23505", "ai_profiles_one_default") => {
                conflict(Some("is_default"), "another profile was made the default at this moment")
            }
            ("23505", name) if name.contains("name") => conflict(Some("name"), "the name is taken"),
            ("23505", _) => conflict(None, "it exists already"),
            ("23P01", _) => conflict(
                Some("first_number"),
                "the number, or one of the range, is somebody's already",
            ),
            ("23514", "phone_numbers_range") => Self::invalid(
                "last_number",
                "a range goes from its first number up to its last, and both have as many digits",
            ),
            ("23514", name) => match over_most(name) {
                Some(why) => conflict(None, why),
                None => Self::invalid(foreign_field(name), refused_as(name)),
            },
            ("23503", name) => Self::invalid(foreign_field(name), "there is no such thing"),
            (code, _) if is_of_data(code) => Self::invalid("", UNSTORABLE),
            _ => Self::Database(error),
        }
    }
}

/// What is said of a value that PostgreSQL cannot take: a NUL in a text, a time out of its range.
pub(crate) const UNSTORABLE: &str = "a value cannot be stored";

/// Whether it is about a value that came with a request (class 22 of SQLSTATE, data exception).
pub(crate) fn is_of_data(code: &str) -> bool {
    code.starts_with("22")
}

/// The field that a constraint is about.
fn foreign_field(constraint: &str) -> &'static str {
    // Longest first: one name may hold another.
    const FIELDS: [(&str, &str); 15] = [
        ("number_range", "last_number"),
        ("ai_profiles_fallback", "fallback_profiles"),
        ("webhook_endpoints_events", "events"),
        ("outbound_trunk", "outbound_trunk_id"),
        ("inbound_trunk", "inbound_trunk_id"),
        ("routing_profile", "routing_profile_id"),
        ("phone_numbers_profile", "ai_profile_id"),
        ("phone_numbers_campaign", "campaign_id"),
        ("campaigns_profile", "ai_profile_id"),
        ("campaigns_window", "window_until"),
        ("trunk", "trunk_id"),
        ("allow_destinations", "allow_destinations"),
        ("daily_spend_currency", "daily_spend_currency"),
        ("system_prompt", "system_prompt"),
        ("tenant_id", "tenant_id"),
    ];
    let found = FIELDS.iter().find(|(part, _)| constraint.contains(part));
    found.map_or("", |(_, field)| field)
}

/// That a tenant has as many of a thing as it may.
fn over_most(constraint: &str) -> Option<&'static str> {
    Some(match constraint {
        "api_keys_max" => "a tenant has at most 100 API keys that open something: revoke one",
        "trunks_max" => "a tenant has at most 200 trunks",
        "ai_profiles_max" => "a tenant has at most 1000 AI profiles",
        "numbers_max" => {
            "with a tenant's key a tenant comes to 10000 numbers and ranges, and 100000 numbers in all; more are the \
             platform's to give"
        }
        "campaigns_max" => "a tenant has at most 1000 campaigns",
        _ => return None,
    })
}

/// A thing of another tenant is answered like one that is not there.
fn refused_as(constraint: &str) -> &'static str {
    match constraint {
        "phone_numbers_trunk_tenant" | "outbound_trunk_tenant" | "routing_profile_tenant" => {
            "there is no such thing"
        }
        "number_own_trunk" => {
            "with a tenant's key a number is on a trunk of the tenant's own; others are the platform's to \
             give"
        }
        "number_range_max" => {
            "with a tenant's key a range has at most 10000 numbers; wider ones are the platform's to give"
        }
        "number_own_outbound_trunk" | "number_own_routing_profile" => {
            "there is no such thing of the tenant's own"
        }
        "campaigns_window" => {
            "`window_from` and `window_until` are both given, and differ, or neither"
        }
        "ai_profiles_fallback_known" => "each is another profile of the tenant, given once",
        "ai_profiles_fallback_self" => "a profile does not take over from itself",
        "trunk_in_use" | "routing_profile_in_use" => "another tenant uses it",
        "webhook_endpoints_max" => "a tenant has at most 32 webhook endpoints",

        _ => "the value is not allowed",
    }
}

/// Begins a transaction that sees what `holder` may see: a tenant's key its tenant, the platform all.
pub(crate) async fn begin(
    database: &Database,
    holder: &KeyHolder,
    resource: &Resource,
) -> sqlx::Result<Transaction<'static, Postgres>> {
    match holder.scope {
        KeyScope::Tenant(tenant) if !resource.is_switchs => database.begin(tenant).await,
        KeyScope::Tenant(_) | KeyScope::AllTenants => database.begin_all_tenants().await,
    }
}

/// Adds the condition that a row lies in `place`. Row-level security says the same again for tenants.
fn push_place(query: &mut QueryBuilder<Postgres>, resource: &Resource, place: Place) {
    let is_tenants = resource.table == "tenants";
    let column = if is_tenants { "t.id" } else { "t.tenant_id" };
    match place {
        Place::Of(tenant) => {
            query.push(format!(" AND {column} = ")).push_bind(tenant.uuid());
        }
        Place::OfAndShared(tenant) => {
            query.push(format!(" AND ({column} = ")).push_bind(tenant.uuid());
            query.push(format!(" OR {column} IS NULL)"));
        }
        Place::Shared => {
            query.push(format!(" AND {column} IS NULL"));
        }
        Place::All => {}
    }
}

/// A row as the database has it; `to_jsonb` of all its columns.
struct Stored {
    id: Uuid,
    tag: String,
    row: Value,
}

impl FromRow<'_, PgRow> for Stored {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self { id: row.try_get("id")?, tag: row.try_get("tag")?, row: row.try_get("row")? })
    }
}

impl Resource {
    /// The field of a name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// Keeps of a stored row what clients may see, in the order of the description.
    fn show(&self, stored: Stored) -> Row {
        let Value::Object(mut columns) = stored.row else {
            let members = Members::new();
            return Row { id: stored.id, tag: stored.tag, members, sealed: Members::new() };
        };
        let mut members = Members::new();
        members.insert("id".to_owned(), Value::String(stored.id.to_string()));
        for field in self.fields {
            let value = columns.remove(field.column()).unwrap_or(Value::Null);
            members.insert(field.name.to_owned(), field.kind.shown(value));
        }
        let sealed = match columns.remove("sealed") {
            Some(Value::Object(sealed)) if self.has_secrets => sealed,
            _ => Members::new(),
        };
        Row { id: stored.id, tag: stored.tag, members, sealed }
    }
}

/// What is read of each row.
const ROW: &str = "t.id, t.xmin::text AS tag, to_jsonb(t) AS row";

async fn one(
    query: &mut QueryBuilder<Postgres>,
    connection: &mut PgConnection,
) -> sqlx::Result<Option<Stored>> {
    query.build_query_as().fetch_optional(connection).await
}
