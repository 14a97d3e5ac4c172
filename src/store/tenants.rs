//! Tenants: rows of `tenants` as routing reads them.

use crate::routing::destination::Micros;
use crate::routing::destination::Prefix;
use crate::routing::table::Tenant;
use crate::routing::table::TenantOutbound;
use crate::routing::table::TenantStatus;
use crate::store::database::Database;
use crate::store::resource::Resource;
use crate::store::resource::field::Field;
use crate::store::resource::field::Form;
use crate::store::resource::field::Given;
use crate::store::resource::field::Kind;
use crate::store::snapshot::RowFault;
use crate::types::id::AiProfileId;
use crate::types::id::TenantId;
use crate::types::id::TrunkId;
use crate::types::recording::RecordPolicy;
use serde::Deserialize;
use serde::Serialize;
use uuid::Uuid;

/// Whether there is such a tenant, whatever its status.
///
/// # Errors
///
/// When the database fails.
pub(crate) async fn is_there(database: &Database, tenant: TenantId) -> sqlx::Result<bool> {
    let mut transaction = database.begin_all_tenants().await?;
    let found = sqlx::query(THERE).bind(tenant.uuid()).fetch_optional(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(found.is_some())
}

pub(crate) const THERE: &str = "SELECT 1 FROM tenants WHERE id = $1";

/// A row of `tenants`, with its default profile beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, sqlx::FromRow)]
pub(crate) struct TenantRow {
    pub(crate) id: Uuid,
    pub(crate) name: String,
    pub(crate) status: String,
    pub(crate) calls_max: i32,
    pub(crate) cps_max: i32,
    pub(crate) default_profile: Option<Uuid>,
    // Files written by an earlier version lack these.
    #[serde(default)]
    pub(crate) outbound_trunk_id: Option<Uuid>,
    #[serde(default)]
    pub(crate) allow_destinations: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) calls_out_max: i32,
    #[serde(default)]
    pub(crate) daily_minutes: i32,
    #[serde(default)]
    pub(crate) daily_spend_micros: i64,
    #[serde(default)]
    pub(crate) daily_spend_currency: String,
    #[serde(default)]
    pub(crate) record: String,
    #[serde(default)]
    pub(crate) plan: String,
}

/// All tenants, those too that routing only knows in order to refuse them.
pub(crate) const ALL: &str = "SELECT t.id, t.name, t.status, t.plan, t.calls_max, t.cps_max, \
     p.id AS default_profile, t.outbound_trunk_id, t.allow_destinations, t.calls_out_max, \
     t.daily_minutes, t.daily_spend_micros, t.daily_spend_currency, t.record FROM tenants t \
     LEFT JOIN ai_profiles p ON p.tenant_id = t.id AND p.is_default";

pub(crate) const SOME: &str = "SELECT t.id, t.name, t.status, t.plan, t.calls_max, t.cps_max, \
     p.id AS default_profile, t.outbound_trunk_id, t.allow_destinations, t.calls_out_max, \
     t.daily_minutes, t.daily_spend_micros, t.daily_spend_currency, t.record FROM tenants t \
     LEFT JOIN ai_profiles p ON p.tenant_id = t.id AND p.is_default WHERE t.id = ANY($1)";

impl TenantRow {
    /// The tenant of this row.
    pub(crate) fn tenant(self) -> Result<Tenant, RowFault> {
        let fault = |why: &str| RowFault::new("tenants", self.id, &self.name, why);
        let status = match self.status.as_str() {
            "active" => TenantStatus::Active,
            "suspended" => TenantStatus::Suspended,
            "deleted" => TenantStatus::Deleted,
            _ => return Err(fault("unknown status")),
        };
        let outbound = TenantOutbound {
            trunk: self.outbound_trunk_id.map(TrunkId::from_uuid),
            destinations: self
                .allow_destinations
                .as_ref()
                .map(|texts| texts.iter().map(|text| text.parse()).collect())
                .transpose()
                .map_err(|_| fault("allow_destinations has what is no prefix"))?,
            calls_max: u32::try_from(self.calls_out_max).map_err(|_| fault("calls_out_max < 0"))?,
            daily_minutes: u32::try_from(self.daily_minutes)
                .map_err(|_| fault("daily_minutes < 0"))?,
            daily_spend: u64::try_from(self.daily_spend_micros)
                .map(Micros)
                .map_err(|_| fault("daily_spend_micros < 0"))?,
            currency: self.daily_spend_currency.clone(),
        };
        Ok(Tenant {
            status,
            plan: self.plan.parse().ok(),
            calls_max: u32::try_from(self.calls_max).map_err(|_| fault("calls_max < 0"))?,
            cps_max: u32::try_from(self.cps_max).map_err(|_| fault("cps_max < 0"))?,
            id: TenantId::from_uuid(self.id),
            name: self.name,
            default_profile: self.default_profile.map(AiProfileId::from_uuid),
            outbound,
            record: RecordPolicy::of(&self.record).unwrap_or_default(),
        })
    }
}

/// Tenants as the API manages them.
pub const TENANTS: Resource = Resource {
    name: "tenant",
    plural: "tenants",
    table: "tenants",
    fields: &[
        Field::new("name", Kind::Text(1, 200), "Its name; no two tenants share one.")
            .given(Given::Required)
            .filter(),
        Field::new(
            "status",
            Kind::Choice(&["active", "suspended", "deleted"]),
            "A suspended tenant's calls are refused; the keys of a deleted one open nothing.",
        )
        .filter(),
        Field::new("plan", Kind::Choice(&["starter", "growth", "custom"]), PLAN).filter(),
        Field::new("calls_max", COUNT, "Calls at once; 0: no limit of its own."),
        Field::new("cps_max", COUNT, "New calls a second; 0: no limit of its own."),
        Field::new("outbound_trunk_id", Kind::Id, "The trunk of calls whose number names none.")
            .nullable(),
        Field::new(
            "allow_destinations",
            Kind::Patterns(
                256,
                Form::new(
                    is_destination,
                    "^\\+([1-9][0-9]{0,14})?$",
                    "a prefix such as +44, or + for all",
                ),
            ),
            "What may be called; null: whatever the trunk allows; an empty list: nothing.",
        )
        .nullable(),
        Field::new("calls_out_max", COUNT, "Calls out at once; 0: no limit of its own."),
        Field::new("daily_minutes", COUNT, "Minutes of calls out in a day (UTC); 0: no limit."),
        Field::new(
            "daily_spend_micros",
            Kind::Integer(0, i64::MAX),
            "Spend on calls out in a day (UTC), in millionths of the currency; 0: no limit.",
        ),
        Field::new(
            "daily_spend_currency",
            Kind::Pattern(Form::new(is_currency, "^[A-Z]{3}$", "three capitals, such as USD")),
            "The currency of `daily_spend_micros`.",
        ),
        Field::new(
            "keep_calls_days",
            DAYS,
            "Days its call records are kept, with their events, signalling, recordings and transcripts; 0: for \
             ever.",
        ),
        Field::new(
            "keep_traces_days",
            DAYS,
            "Days the signalling of its calls is kept, where that is less than the node keeps it; 0: as \
             long as the node.",
        ),
        Field::new(
            "record",
            Kind::Choice(&["all", "off"]),
            "Whether its calls are recorded where neither number nor profile says.",
        ),
        Field::new(
            "keep_recordings_days",
            DAYS,
            "Days recordings of its calls are kept; 0: as long as the record of the call, else until somebody deletes \
             them.",
        ),
        Field::new(
            "keep_transcripts_days",
            DAYS,
            "Days transcripts of its calls are kept; 0: as long as the record of the call, else until somebody \
             deletes them.",
        ),
        Field::new("keep_audit_days", DAYS, "Days its audit log is kept; 0: for ever."),
        Field::new("created_at", Kind::Time, "When it was made.").given(Given::Never),
        Field::new("updated_at", Kind::Time, "When it was last changed.").given(Given::Never),
    ],
    exclusive: None,
    has_secrets: false,
    is_switchs: false,
    deactivates: Some(("status", "deleted")),
};

const PLAN: &str =
    "What it has bought; numbers that name no routing profile follow the one that is for it.";
const DAYS: Kind = Kind::Integer(0, 36_500);
const COUNT: Kind = Kind::Integer(0, i32::MAX as i64);

fn is_destination(text: &str) -> bool {
    text.parse::<Prefix>().is_ok()
}

fn is_currency(text: &str) -> bool {
    text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_uppercase())
}
