//! Routing profiles: rows of `routing_profiles` as routing reads them.

use crate::routing::table::RoutingProfile;
use crate::store::resource::Resource;
use crate::store::resource::field::Field;
use crate::store::resource::field::Form;
use crate::store::resource::field::Given;
use crate::store::resource::field::Kind;
use crate::types::country::Country;
use crate::types::id::RoutingProfileId;
use crate::types::id::TenantId;
use crate::types::id::TrunkId;
use crate::types::tenant_plan::TenantPlan;
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
    // Files written by an earlier version lack these.
    #[serde(default)]
    pub(crate) plan: Option<String>,
    #[serde(default)]
    pub(crate) country: Option<String>,
}

pub(crate) const ALL: &str = "SELECT id, tenant_id, name, outbound_trunk_id, inbound_trunk_id, plan, country FROM routing_profiles";

pub(crate) const SOME: &str = "SELECT id, tenant_id, name, outbound_trunk_id, inbound_trunk_id, plan, country \
     FROM routing_profiles WHERE id = ANY($1)";

impl RoutingProfileRow {
    /// The profile of this row.
    pub(crate) fn routing_profile(self) -> RoutingProfile {
        let plan = self.plan.as_deref().map(str::parse::<TenantPlan>).transpose();
        let country = self.country.as_deref().map(str::parse::<Country>).transpose();
        RoutingProfile {
            fits_by_itself: plan.is_ok() && country.is_ok(),
            plan: plan.unwrap_or_default(),
            country: country.unwrap_or_default(),
            id: RoutingProfileId::from_uuid(self.id),
            tenant: self.tenant_id.map(TenantId::from_uuid),
            name: self.name,
            outbound_trunk: self.outbound_trunk_id.map(TrunkId::from_uuid),
            inbound_trunk: self.inbound_trunk_id.map(TrunkId::from_uuid),
        }
    }
}

/// Routing profiles as the API manages them.
pub const ROUTING_PROFILES: Resource = Resource {
    name: "routing profile",
    plural: "routing_profiles",
    table: "routing_profiles",
    fields: &[
        Field::new("tenant_id", Kind::Id, "Whose numbers may use it; null: all.")
            .given(Given::Never)
            .nullable(),
        Field::new("name", Kind::Text(1, 200), "Its name.").given(Given::Required).filter(),
        Field::new(
            "plan",
            Kind::Choice(&["starter", "growth", "custom"]),
            "The plan of the tenants whose numbers follow it without naming it; null: any.",
        )
        .nullable()
        .filter(),
        Field::new(
            "country",
            Kind::Pattern(Form::new(is_country, "^[A-Z]{2}$", "a country's two letters, such as IN")),
            "The country of the numbers that follow it without naming it; null: any. Numbers written in its \
             national form are read by it.",
        )
        .nullable()
        .filter(),
        Field::new("outbound_trunk_id", Kind::Id, "The trunk calls out go by.").nullable(),
        Field::new("inbound_trunk_id", Kind::Id, "The only trunk calls in come by.").nullable(),
        Field::new("created_at", Kind::Time, "When it was made.").given(Given::Never),
        Field::new("updated_at", Kind::Time, "When it was last changed.").given(Given::Never),
    ],
    exclusive: None,
    has_secrets: false,
    is_switchs: false,
    deactivates: None,
};

fn is_country(text: &str) -> bool {
    text.parse::<Country>().is_ok()
}
