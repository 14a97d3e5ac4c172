//! Routing profiles: rows of `routing_profiles` as routing reads them.

use crate::routing::table::RoutingProfile;
use crate::types::id::RoutingProfileId;
use crate::types::id::TenantId;
use crate::types::id::TrunkId;
use serde::Deserialize;
use serde::Serialize;
use uuid::Uuid;

/// A row of `routing_profiles`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, sqlx::FromRow)]
pub(crate) struct RoutingProfileRow {
    pub(crate) id: Uuid,
    pub(crate) tenant_id: Option<Uuid>,
    pub(crate) name: String,
    pub(crate) outbound_trunk_id: Option<Uuid>,
    pub(crate) inbound_trunk_id: Option<Uuid>,
}

pub(crate) const ALL: &str =
    "SELECT id, tenant_id, name, outbound_trunk_id, inbound_trunk_id FROM routing_profiles";

pub(crate) const SOME: &str = "SELECT id, tenant_id, name, outbound_trunk_id, inbound_trunk_id \
     FROM routing_profiles WHERE id = ANY($1)";

impl RoutingProfileRow {
    /// The profile of this row.
    pub(crate) fn routing_profile(self) -> RoutingProfile {
        RoutingProfile {
            id: RoutingProfileId::from_uuid(self.id),
            tenant: self.tenant_id.map(TenantId::from_uuid),
            name: self.name,
            outbound_trunk: self.outbound_trunk_id.map(TrunkId::from_uuid),
            inbound_trunk: self.inbound_trunk_id.map(TrunkId::from_uuid),
        }
    }
}
