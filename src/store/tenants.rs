//! Tenants: rows of `tenants` as routing reads them.

use crate::routing::destination::Micros;
use crate::routing::table::Tenant;
use crate::routing::table::TenantOutbound;
use crate::routing::table::TenantStatus;
use crate::store::snapshot::RowFault;
use crate::types::id::AiProfileId;
use crate::types::id::TenantId;
use crate::types::id::TrunkId;
use serde::Deserialize;
use serde::Serialize;
use uuid::Uuid;

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
}

/// All tenants, those too that routing only knows in order to refuse them.
pub(crate) const ALL: &str = "SELECT t.id, t.name, t.status, t.calls_max, t.cps_max, \
     p.id AS default_profile, t.outbound_trunk_id, t.allow_destinations, t.calls_out_max, \
     t.daily_minutes, t.daily_spend_micros, t.daily_spend_currency FROM tenants t \
     LEFT JOIN ai_profiles p ON p.tenant_id = t.id AND p.is_default";

pub(crate) const SOME: &str = "SELECT t.id, t.name, t.status, t.calls_max, t.cps_max, \
     p.id AS default_profile, t.outbound_trunk_id, t.allow_destinations, t.calls_out_max, \
     t.daily_minutes, t.daily_spend_micros, t.daily_spend_currency FROM tenants t \
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
            calls_max: u32::try_from(self.calls_max).map_err(|_| fault("calls_max < 0"))?,
            cps_max: u32::try_from(self.cps_max).map_err(|_| fault("cps_max < 0"))?,
            id: TenantId::from_uuid(self.id),
            name: self.name,
            default_profile: self.default_profile.map(AiProfileId::from_uuid),
            outbound,
        })
    }
}
