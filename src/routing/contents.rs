//! What the routing table is made of: tenants, AI profiles, numbers, and changes to them.

use crate::routing::campaign::Campaign;
use crate::routing::destination::Micros;
use crate::routing::destination::Prefix;
use crate::routing::trunk::Trunk;
use crate::types::agent::AgentSettings;
use crate::types::answer_hook::AnswerHook;
use crate::types::country::Country;
use crate::types::id::AiProfileId;
use crate::types::id::CampaignId;
use crate::types::id::NumberId;
use crate::types::id::RoutingProfileId;
use crate::types::id::TenantId;
use crate::types::id::TrunkId;
use crate::types::number::E164;
use crate::types::recording::RecordPolicy;
use crate::types::tenant_plan::TenantPlan;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// Whether a tenant is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TenantStatus {
    /// Served.
    Active,
    /// Known, but refused until it is active again.
    Suspended,
    /// Gone; its numbers are refused.
    Deleted,
}

/// A customer of the switch. Tenants never see each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Its identity.
    pub id: TenantId,
    /// Its name, for operators.
    pub name: String,
    /// Whether it is served.
    pub status: TenantStatus,
    /// What it has bought; `None`: a table's file of an earlier version does not say.
    pub plan: Option<TenantPlan>,
    /// Most calls at once; 0 is no limit.
    pub calls_max: u32,
    /// Most new calls per second; 0 is no limit.
    pub cps_max: u32,
    /// The AI profile of numbers that have none of their own.
    pub default_profile: Option<AiProfileId>,
    /// How it calls out.
    pub outbound: TenantOutbound,
    /// Whether its calls are recorded where neither number nor profile says.
    pub record: RecordPolicy,
}

/// How a tenant calls out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TenantOutbound {
    /// The trunk of calls whose caller's number names none; `None`: they are refused.
    pub trunk: Option<TrunkId>,
    /// What it may call of what a trunk allows; `None`: all of that.
    pub destinations: Option<Vec<Prefix>>,
    /// Most calls out at once; 0 is no limit of its own.
    pub calls_max: u32,
    /// Minutes a day; 0 is no limit of its own.
    pub daily_minutes: u32,
    /// Money a day; 0 is no limit of its own.
    pub daily_spend: Micros,
    /// The currency of it.
    pub currency: String,
}

/// A routing profile: which trunks the numbers of a plan and a country use, and how these are written nationally.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutingProfile {
    /// Its identity.
    pub id: RoutingProfileId,
    /// The tenant whose numbers may use it; `None`: those of all.
    pub tenant: Option<TenantId>,
    /// Its name, for operators.
    pub name: String,
    /// The plan of the tenants whose numbers follow it without naming it; `None`: any.
    pub plan: Option<TenantPlan>,
    /// The country of the numbers that follow it without naming it; `None`: any. Numbers in its national form are
    /// read where the profile is followed.
    pub country: Option<Country>,
    /// Whether numbers follow it that do not name it; else plan and country are not all known.
    pub fits_by_itself: bool,
    /// The trunk its numbers call out by.
    pub outbound_trunk: Option<TrunkId>,
    /// The only trunk on which its numbers may be called.
    pub inbound_trunk: Option<TrunkId>,
}

/// An AI profile: who answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AiProfile {
    /// Its identity.
    pub id: AiProfileId,
    /// The tenant that owns it; no other tenant's number can use it.
    pub tenant: TenantId,
    /// Its name, for operators.
    pub name: String,
    /// How the agent is reached and behaves.
    pub agent: AgentSettings,
    /// Whose agents take over in turn where this one is not reached or is lost.
    pub fallback: Vec<AiProfileId>,
    /// Whether its calls are recorded; `None`: the tenant says.
    pub record: Option<RecordPolicy>,
    /// Who is asked which profile answers a call in; `None`: nobody, this one does.
    pub ask: Option<Arc<AnswerHook>>,
}

/// A number or a range of numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Number {
    /// Its identity: one row of `phone_numbers`.
    pub id: NumberId,
    /// The tenant that owns it.
    pub tenant: TenantId,
    /// The number, or the first of the range.
    pub first: E164,
    /// The last of the range, of as many digits as `first`; equal to it for a single number.
    pub last: E164,
    /// The only trunk on which it may be called; `None`: that of its routing profile, else any shared
    /// trunk and the tenant's own.
    pub trunk: Option<TrunkId>,
    /// The trunk it calls out by; `None`: `trunk`, else that of its routing profile.
    pub outbound_trunk: Option<TrunkId>,
    /// Its routing profile.
    pub routing_profile: Option<RoutingProfileId>,
    /// Who answers; `None`: the tenant's default.
    pub ai_profile: Option<AiProfileId>,
    /// The campaign it calls out for, and for nothing else.
    pub campaign: Option<CampaignId>,
    /// Whether its calls are recorded; `None`: the profile says, else the tenant.
    pub record: Option<RecordPolicy>,
    /// False: known, but not in service.
    pub active: bool,
    /// Why it is not in service although it is active.
    pub barred: Option<Bar>,
}

/// Why a number is neither called nor calling, whether it is active or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bar {
    /// Its regulatory check is not over.
    CompliancePending,
    /// It did not pass its regulatory check.
    ComplianceRejected,
    /// It is kept for somebody.
    Reserved,
    /// It is given back.
    Released,
}

impl fmt::Display for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CompliancePending => "its regulatory check is pending",
            Self::ComplianceRejected => "its regulatory check was not passed",
            Self::Reserved => "it is reserved",
            Self::Released => "it is released",
        })
    }
}

/// Whether a call is recorded: its number says, else the profile it is with, else the tenant.
#[must_use]
pub fn is_recorded(tenant: &Tenant, number: Option<&Number>, profile: &AiProfile) -> bool {
    let of_number = number.and_then(|number| number.record);
    of_number.or(profile.record).unwrap_or(tenant.record) == RecordPolicy::All
}

impl Number {
    /// Whether it may be called, and call.
    #[must_use]
    pub const fn in_service(&self) -> bool {
        self.active && self.barred.is_none()
    }

    /// True for a range of more than one number.
    #[must_use]
    pub fn is_range(&self) -> bool {
        self.first != self.last
    }
}

/// Everything a routing table holds, as it is loaded.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// All tenants, deleted ones too as long as they have numbers.
    pub tenants: Vec<Tenant>,
    /// All AI profiles.
    pub ai_profiles: Vec<AiProfile>,
    /// All numbers and ranges.
    pub numbers: Vec<Number>,
    /// All trunks, of the database and of profile files.
    pub trunks: Vec<Trunk>,
    /// All routing profiles.
    pub routing_profiles: Vec<RoutingProfile>,
    /// All campaigns.
    pub campaigns: Vec<Campaign>,
    /// Only the trunks of profile files are here: what the database holds was never read.
    pub is_trunks_only: bool,
}

/// What names in DNS stand for, by the name in lower case.
pub type SourceNames = BTreeMap<String, Vec<IpAddr>>;

/// One change to a routing table. Each replaces the thing of the same identity, or adds it.
#[derive(Clone, Debug)]
pub enum Change {
    /// What the names of `source_names` stand for.
    SourceNames(SourceNames),
    /// A tenant is new or different.
    Tenant(Tenant),
    /// A tenant is no more.
    TenantGone(TenantId),
    /// An AI profile is new or different.
    AiProfile(Box<AiProfile>),
    /// An AI profile is no more.
    AiProfileGone(AiProfileId),
    /// A number is new or different.
    Number(Number),
    /// A number is no more.
    NumberGone(NumberId),
    /// A trunk is new or different.
    Trunk(Box<Trunk>),
    /// A trunk is no more.
    TrunkGone(TrunkId),
    /// A routing profile is new or different.
    RoutingProfile(RoutingProfile),
    /// A routing profile is no more.
    RoutingProfileGone(RoutingProfileId),
    /// A campaign is new or different.
    Campaign(Campaign),
    /// A campaign is no more.
    CampaignGone(CampaignId),
    /// Everything is read anew.
    Replace(Box<Contents>),
}
