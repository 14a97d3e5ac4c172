//! Trunks of the database: rows of `trunks`, each a profile and what differs from it.

use crate::config::profile;
use crate::routing::table::Trunk;
use crate::store::snapshot::Composer;
use crate::store::snapshot::RowFault;
use crate::types::id::TenantId;
use crate::types::id::TrunkId;
use serde::Deserialize;
use serde::Serialize;
use uuid::Uuid;

/// A row of `trunks`. Its secrets are references, so a copy of it on disk holds none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, sqlx::FromRow)]
pub(crate) struct TrunkRow {
    pub(crate) id: Uuid,
    pub(crate) tenant_id: Option<Uuid>,
    pub(crate) name: String,
    pub(crate) profile: String,
    pub(crate) overrides: serde_json::Value,
    pub(crate) enabled: bool,
}

pub(crate) const ALL: &str = "SELECT id, tenant_id, name, profile, overrides, enabled FROM trunks";

pub(crate) const SOME: &str =
    "SELECT id, tenant_id, name, profile, overrides, enabled FROM trunks WHERE id = ANY($1)";

impl TrunkRow {
    /// The trunk of this row.
    pub(crate) fn trunk(&self, composer: &Composer) -> Result<Trunk, RowFault> {
        let row = profile::TrunkRow {
            id: TrunkId::from_uuid(self.id),
            name: &self.name,
            tenant: self.tenant_id.map(TenantId::from_uuid),
            enabled: self.enabled,
            profile: &self.profile,
            overrides: &self.overrides,
        };
        composer
            .profiles
            .compose(&row)
            .map_err(|problems| RowFault::new("trunks", self.id, &self.name, &problems.to_string()))
    }
}
