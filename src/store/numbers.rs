//! Numbers: rows of `phone_numbers` as routing reads them.

use crate::routing::table::Number;
use crate::store::snapshot::RowFault;
use crate::types::id::AiProfileId;
use crate::types::id::NumberId;
use crate::types::id::RoutingProfileId;
use crate::types::id::TenantId;
use crate::types::id::TrunkId;
use serde::Deserialize;
use serde::Serialize;
use uuid::Uuid;

/// A row of `phone_numbers`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, sqlx::FromRow)]
pub(crate) struct NumberRow {
    pub(crate) id: Uuid,
    pub(crate) tenant_id: Uuid,
    pub(crate) first_number: String,
    pub(crate) last_number: String,
    pub(crate) trunk_id: Option<Uuid>,
    pub(crate) ai_profile_id: Option<Uuid>,
    pub(crate) is_active: bool,
    // Files written by an earlier version lack these.
    #[serde(default)]
    pub(crate) outbound_trunk_id: Option<Uuid>,
    #[serde(default)]
    pub(crate) routing_profile_id: Option<Uuid>,
}

pub(crate) const ALL: &str = "SELECT id, tenant_id, first_number, last_number, trunk_id, \
     ai_profile_id, is_active, outbound_trunk_id, routing_profile_id FROM phone_numbers";

pub(crate) const SOME: &str = "SELECT id, tenant_id, first_number, last_number, trunk_id, \
     ai_profile_id, is_active, outbound_trunk_id, routing_profile_id FROM phone_numbers WHERE id = ANY($1)";

impl NumberRow {
    /// The number or range of this row.
    pub(crate) fn number(&self) -> Result<Number, RowFault> {
        // The row is named by its identity: numbers do not enter logs.
        let fault = |why: &str| RowFault::new("phone_numbers", self.id, "", why);
        Ok(Number {
            id: NumberId::from_uuid(self.id),
            tenant: TenantId::from_uuid(self.tenant_id),
            first: self.first_number.parse().map_err(|_| fault("first_number is not E.164"))?,
            last: self.last_number.parse().map_err(|_| fault("last_number is not E.164"))?,
            trunk: self.trunk_id.map(TrunkId::from_uuid),
            outbound_trunk: self.outbound_trunk_id.map(TrunkId::from_uuid),
            routing_profile: self.routing_profile_id.map(RoutingProfileId::from_uuid),
            ai_profile: self.ai_profile_id.map(AiProfileId::from_uuid),
            active: self.is_active,
        })
    }
}
