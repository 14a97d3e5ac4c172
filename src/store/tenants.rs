//! Tenants: rows of `tenants` as routing reads them.

use crate::routing::table::Tenant;
use crate::routing::table::TenantOutbound;
use crate::routing::table::TenantStatus;
use crate::store::snapshot::RowFault;
use crate::types::id::AiProfileId;
use crate::types::id::TenantId;
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
}

/// All tenants, those too that routing only knows in order to refuse them.
pub(crate) const ALL: &str = "SELECT t.id, t.name, t.status, t.calls_max, t.cps_max, \
     p.id AS default_profile FROM tenants t \
     LEFT JOIN ai_profiles p ON p.tenant_id = t.id AND p.is_default";

pub(crate) const SOME: &str = "SELECT t.id, t.name, t.status, t.calls_max, t.cps_max, \
     p.id AS default_profile FROM tenants t \
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
        Ok(Tenant {
            status,
            calls_max: u32::try_from(self.calls_max).map_err(|_| fault("calls_max < 0"))?,
            cps_max: u32::try_from(self.cps_max).map_err(|_| fault("cps_max < 0"))?,
            id: TenantId::from_uuid(self.id),
            name: self.name,
            default_profile: self.default_profile.map(AiProfileId::from_uuid),
            outbound: TenantOutbound::default(),
        })
    }
}
