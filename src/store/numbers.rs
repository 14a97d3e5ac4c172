//! Numbers: rows of `phone_numbers` as routing reads them.

use crate::routing::table::Bar;
use crate::routing::table::Number;
use crate::store::resource::Resource;
use crate::store::resource::field::Field;
use crate::store::resource::field::Given;
use crate::store::resource::field::Kind;
use crate::store::snapshot::RowFault;
use crate::types::id::AiProfileId;
use crate::types::id::CampaignId;
use crate::types::id::NumberId;
use crate::types::id::RoutingProfileId;
use crate::types::id::TenantId;
use crate::types::id::TrunkId;
use crate::types::recording::RecordPolicy;
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
    #[serde(default)]
    pub(crate) campaign_id: Option<Uuid>,
    #[serde(default)]
    pub(crate) record: Option<String>,
    #[serde(default)]
    pub(crate) assignment_status: String,
    #[serde(default)]
    pub(crate) compliance_state: String,
}

pub(crate) const ALL: &str = "SELECT id, tenant_id, first_number, last_number, trunk_id, \
     ai_profile_id, is_active, outbound_trunk_id, routing_profile_id, campaign_id, record, assignment_status, \
     compliance_state FROM phone_numbers";

pub(crate) const SOME: &str = "SELECT id, tenant_id, first_number, last_number, trunk_id, \
     ai_profile_id, is_active, outbound_trunk_id, routing_profile_id, campaign_id, record, assignment_status, \
     compliance_state FROM phone_numbers \
     WHERE id = ANY($1)";

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
            campaign: self.campaign_id.map(CampaignId::from_uuid),
            record: self.record.as_deref().and_then(RecordPolicy::of),
            active: self.is_active,
            barred: bar(&self.assignment_status, &self.compliance_state),
        })
    }
}

/// Why a number may not be used, as its columns say.
#[must_use]
pub fn bar(assignment_status: &str, compliance_state: &str) -> Option<Bar> {
    match (assignment_status, compliance_state) {
        ("released", _) => Some(Bar::Released),
        ("reserved", _) => Some(Bar::Reserved),
        (_, "rejected") => Some(Bar::ComplianceRejected),
        (_, "pending") => Some(Bar::CompliancePending),
        _ => None,
    }
}

/// Numbers and ranges as the API manages them.
pub const NUMBERS: Resource = Resource {
    name: "number",
    plural: "numbers",
    table: "phone_numbers",
    fields: &[
        Field::new("tenant_id", Kind::Id, "Whose it is.").given(Given::Never),
        Field::new("first_number", Kind::Number, "The number, or the first of a range.")
            .given(Given::RequiredOnce)
            .filter(),
        Field::new("last_number", Kind::Number, "The last of a range; left out: one number.")
            .given(Given::OptionalOnce),
        Field::new(
            "trunk_id",
            Kind::Id,
            "The only trunk that brings calls for it. Null: that of its routing profile, else any shared trunk and any \
             of the tenant's.",
        )
        .nullable()
        .filter(),
        Field::new("outbound_trunk_id", Kind::Id, "The trunk it calls out by; null: `trunk_id`.")
            .nullable()
            .filter(),
        Field::new(
            "routing_profile_id",
            Kind::Id,
            "Which trunks it uses where it names none; null: that for its tenant's plan and its country.",
        )
        .nullable()
            .filter(),
        Field::new("ai_profile_id", Kind::Id, "Who answers; null: the tenant's default profile.")
            .nullable()
            .filter(),
        Field::new(
            "campaign_id",
            Kind::Id,
            "The campaign it calls out for: within its window, and for nothing else; null: none.",
        )
        .nullable()
        .filter(),
        Field::new("provider", Kind::Text(0, 100), "Whom it was bought from.").platforms().filter(),
        Field::new("label", Kind::Text(0, 200), "For people.").filter(),
        Field::new(
            "assignment_status",
            Kind::Choice(&["available", "assigned", "reserved", "released"]),
            "Where it stands in the stock of numbers. `available` or `assigned` follows from what it is assigned \
             to; `reserved` and `released` take it out of service.",
        )
        .platforms()
        .filter(),
        Field::new(
            "compliance_state",
            Kind::Choice(&["not_required", "pending", "approved", "rejected"]),
            "Where its regulatory check stands: while it is `pending`, and when it was `rejected`, the number is \
             out of service.",
        )
        .platforms()
        .filter(),
        Field::new(
            "record",
            Kind::Choice(&["all", "off"]),
            "Whether its calls are recorded; null: the profile says, else the tenant.",
        )
        .nullable(),
        Field::new("is_active", Kind::Flag, "Whether it may be called, and call.").filter(),
        Field::new("created_at", Kind::Time, "When it was made.").given(Given::Never),
        Field::new("updated_at", Kind::Time, "When it was last changed.").given(Given::Never),
    ],
    exclusive: None,
    has_secrets: false,
    is_switchs: false,
    deactivates: None,
};
