//! `RoutingTable`: tenants, profiles, numbers and trunks in memory, cheap to clone and to change.

pub use crate::routing::campaign::Campaign;
pub use crate::routing::contents::AiProfile;
pub use crate::routing::contents::Bar;
pub use crate::routing::contents::Change;
pub use crate::routing::contents::Contents;
pub use crate::routing::contents::Number;
pub use crate::routing::contents::RoutingProfile;
pub use crate::routing::contents::SourceNames;
pub use crate::routing::contents::Tenant;
pub use crate::routing::contents::TenantOutbound;
pub use crate::routing::contents::TenantStatus;
pub use crate::routing::routing_profiles::Followed;
pub use crate::routing::trunk::DidSource;
pub use crate::routing::trunk::DigestAccount;
pub use crate::routing::trunk::DigestAlgorithm;
pub use crate::routing::trunk::ResponseMap;
pub use crate::routing::trunk::RtcpMode;
pub use crate::routing::trunk::Trunk;
pub use crate::routing::trunk::TrunkMedia;

use crate::routing::routing_profiles::RoutingProfiles;
use crate::routing::shards::NumberKey;
use crate::routing::shards::ShardedMap;
use crate::routing::sources::TrunkIndex;
use crate::types::country::Country;
use crate::types::id::AiProfileId;
use crate::types::id::CampaignId;
use crate::types::id::NumberId;
use crate::types::id::TenantId;
use crate::types::id::TrunkId;
use crate::types::kept_ports::KeptPorts;
use crate::types::limit::ROUTING_NUMBERS_MAX;
use crate::types::number::E164;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// The table holds as many numbers as it may; the change was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the routing table is full: it holds {ROUTING_NUMBERS_MAX} numbers")]
pub struct TableFull;

/// Everything routing needs to know, in memory.
///
/// A clone is a few reference counts and does not see later changes; a change copies one shard of
/// 4096. Shells keep the current table in an `ArcSwap`, clone it, apply a change and store it.
#[derive(Clone, Default)]
pub struct RoutingTable {
    numbers: ShardedMap<NumberKey, Arc<Number>>,
    /// Where each number of `numbers` and `ranges` stands, so that it can be moved and removed.
    places: ShardedMap<NumberId, Place>,
    /// By their first number. They do not overlap: the database excludes it.
    ranges: Arc<BTreeMap<E164, Arc<Number>>>,
    tenants: ShardedMap<TenantId, Arc<Tenant>>,
    ai_profiles: ShardedMap<AiProfileId, Arc<AiProfile>>,
    trunks: Arc<TrunkIndex>,
    routing_profiles: Arc<RoutingProfiles>,
    campaigns: Arc<BTreeMap<CampaignId, Arc<Campaign>>>,
    /// The first numbers of the numbers and ranges that campaigns have.
    campaign_numbers: Arc<BTreeMap<CampaignId, BTreeSet<E164>>>,
    is_trunks_only: bool,
}

#[derive(Clone, Copy)]
enum Place {
    Single(E164),
    Range(E164),
}

impl RoutingTable {
    /// A table of `contents`. Numbers beyond `ROUTING_NUMBERS_MAX` are left out.
    #[must_use]
    pub fn new(contents: Contents) -> Self {
        let mut table = Self { is_trunks_only: contents.is_trunks_only, ..Self::default() };
        for tenant in contents.tenants {
            table.tenants.insert(tenant.id, Arc::new(tenant));
        }
        for profile in contents.ai_profiles {
            table.ai_profiles.insert(profile.id, Arc::new(profile));
        }
        for number in contents.numbers {
            if table.put_number(number).is_err() {
                break;
            }
        }
        table.trunks =
            Arc::new(TrunkIndex::new(contents.trunks.into_iter().map(Arc::new), Arc::default()));
        table.routing_profiles = Arc::new(RoutingProfiles::new(contents.routing_profiles));
        let campaigns = contents.campaigns.into_iter();
        table.campaigns =
            Arc::new(campaigns.map(|campaign| (campaign.id, Arc::new(campaign))).collect());
        table
    }

    /// Applies one change.
    ///
    /// # Errors
    ///
    /// `TableFull` when a new number finds no room; the table is as before.
    pub fn apply(&mut self, change: Change) -> Result<(), TableFull> {
        match change {
            Change::Tenant(tenant) => drop(self.tenants.insert(tenant.id, Arc::new(tenant))),
            Change::TenantGone(id) => drop(self.tenants.remove(id)),
            Change::AiProfile(profile) => {
                drop(self.ai_profiles.insert(profile.id, Arc::new(*profile)));
            }
            Change::AiProfileGone(id) => drop(self.ai_profiles.remove(id)),
            Change::Number(number) => return self.put_number(number),
            Change::NumberGone(id) => self.remove_number(id),
            Change::Trunk(trunk) => self.trunks = Arc::new(self.trunks.with(Arc::new(*trunk))),
            Change::TrunkGone(id) => self.trunks = Arc::new(self.trunks.without(id)),
            Change::RoutingProfile(profile) => {
                Arc::make_mut(&mut self.routing_profiles).put(profile);
            }
            Change::RoutingProfileGone(id) => {
                Arc::make_mut(&mut self.routing_profiles).remove(id);
            }
            Change::Campaign(campaign) => {
                let campaigns = Arc::make_mut(&mut self.campaigns);
                campaigns.insert(campaign.id, Arc::new(campaign));
            }
            Change::CampaignGone(id) => drop(Arc::make_mut(&mut self.campaigns).remove(&id)),
            Change::SourceNames(names) => {
                self.trunks = Arc::new(self.trunks.named(Arc::new(names)))
            }
            Change::Replace(contents) => {
                // What names stand for is no row of anybody's.
                let names = self.trunks.names();
                *self = Self::new(*contents);
                self.trunks = Arc::new(self.trunks.named(names));
            }
        }
        Ok(())
    }

    /// The number or range that holds `dialled`; a single number comes before a range.
    #[must_use]
    pub fn number(&self, dialled: E164) -> Option<&Arc<Number>> {
        self.numbers.get(dialled.into()).or_else(|| {
            let (_, range) = self.ranges.range(..=dialled).next_back()?;
            (dialled <= range.last && dialled.digits() == range.first.digits()).then_some(range)
        })
    }

    /// A tenant.
    #[must_use]
    pub fn tenant(&self, id: TenantId) -> Option<&Arc<Tenant>> {
        self.tenants.get(id)
    }

    /// An AI profile.
    #[must_use]
    pub fn ai_profile(&self, id: AiProfileId) -> Option<&Arc<AiProfile>> {
        self.ai_profiles.get(id)
    }

    /// All AI profiles, in no order. There may be very many.
    pub fn ai_profiles(&self) -> impl Iterator<Item = &Arc<AiProfile>> {
        self.ai_profiles.values()
    }

    /// A trunk.
    #[must_use]
    pub fn trunk(&self, id: TrunkId) -> Option<&Arc<Trunk>> {
        self.trunks.get(id)
    }

    /// The trunk that `text` names for a tenant, by its identity or name: one of its own, else a shared one. Names are
    /// each tenant's own affair, so that of another says nothing.
    #[must_use]
    pub fn trunk_named(&self, tenant: TenantId, text: &str) -> Option<&Arc<Trunk>> {
        let id = text.parse().ok();
        let is_named = |trunk: &&Arc<Trunk>| Some(trunk.id) == id || trunk.name == text;
        let may = |trunk: &&Arc<Trunk>| trunk.tenant.is_none_or(|owner| owner == tenant);
        let named = self.trunks().filter(may).filter(is_named);
        named.min_by_key(|trunk| (Some(trunk.id) != id, trunk.tenant.is_none(), trunk.id))
    }

    /// The addresses that a name of a trunk's `source_names` stands for; `None` while that is not known.
    #[must_use]
    pub fn addresses_of(&self, name: &str) -> Option<&[IpAddr]> {
        self.trunks.addresses_of(name)
    }

    /// All trunks, in no order.
    pub fn trunks(&self) -> impl Iterator<Item = &Arc<Trunk>> {
        self.trunks.all()
    }

    /// A campaign of a tenant. One of another tenant counts as none.
    #[must_use]
    pub fn campaign(&self, tenant: TenantId, id: CampaignId) -> Option<&Arc<Campaign>> {
        self.campaigns.get(&id).filter(|campaign| campaign.tenant == tenant)
    }

    /// The numbers that a campaign calls out by, in order; of a range its first.
    pub fn numbers_of(&self, id: CampaignId) -> impl Iterator<Item = E164> {
        let own = self.campaign_numbers.get(&id).into_iter().flatten().copied();
        own.filter(|number| self.number(*number).is_some_and(|number| number.in_service()))
    }

    /// Names of headers whose values are secrets of some trunk: what peers have to show us, and what we show
    /// them.
    #[must_use]
    pub fn secret_headers(&self) -> &Arc<[Box<str>]> {
        self.trunks.secret_headers()
    }

    /// The RTP ports to which calls of some trunk keep: others have them once no others are free.
    #[must_use]
    pub fn kept_ports(&self) -> &KeptPorts {
        self.trunks.kept_ports()
    }

    /// The routing profile that a number follows: the one it names, where that is not another tenant's, else the
    /// one that is for its tenant's plan and its country.
    #[must_use]
    pub fn routing_profile(&self, number: &Number) -> Option<Followed<'_>> {
        self.routing_profiles.of(number, self.tenant(number.tenant).map(|tenant| &**tenant))
    }

    /// The countries whose national numbers a trunk brings.
    #[must_use]
    pub fn countries_of(&self, trunk: TrunkId) -> &[Country] {
        self.routing_profiles.countries(trunk)
    }

    /// Whether `number` may be called on `trunk`: on the trunk it names, else on that of its routing
    /// profile, else on any shared trunk and on its tenant's own. Never on another tenant's trunk.
    #[must_use]
    pub fn belongs(&self, number: &Number, trunk: &Trunk) -> bool {
        let profile = || self.routing_profile(number)?.profile.inbound_trunk;
        trunk.tenant.is_none_or(|owner| owner == number.tenant)
            && number.trunk.or_else(profile).is_none_or(|own| own == trunk.id)
    }

    /// How many numbers and ranges it holds.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.places.len()
    }

    /// True when it holds no number.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// True when it says nothing about numbers: a number it does not hold may well exist.
    #[must_use]
    pub const fn is_trunks_only(&self) -> bool {
        self.is_trunks_only
    }

    /// The trunks whose source list holds `source`, by priority.
    pub(crate) fn trunks_from(&self, source: IpAddr) -> impl Iterator<Item = &Arc<Trunk>> {
        self.trunks.by_source(source)
    }

    /// True when any trunk's source list holds `source` and `accept` takes that trunk.
    pub(crate) fn any_trunk_from(&self, source: IpAddr, accept: impl Fn(&Trunk) -> bool) -> bool {
        self.trunks.any_by_source(source, accept)
    }

    /// True when some trunk asks for more than an address.
    pub(crate) fn wants_proof(&self) -> bool {
        self.trunks.wants_proof()
    }

    fn put_number(&mut self, number: Number) -> Result<(), TableFull> {
        let id = number.id;
        let place = if number.is_range() {
            Place::Range(number.first)
        } else {
            Place::Single(number.first)
        };
        match self.places.get(id).copied() {
            Some(old) => self.vacate(id, old),
            None if self.len() >= ROUTING_NUMBERS_MAX => return Err(TableFull),
            None => {}
        }
        self.places.insert(id, place);
        if let Some(campaign) = number.campaign {
            let numbers = Arc::make_mut(&mut self.campaign_numbers);
            numbers.entry(campaign).or_default().insert(number.first);
        }
        let number = Arc::new(number);
        match place {
            Place::Single(at) => drop(self.numbers.insert(at.into(), number)),
            Place::Range(at) => drop(Arc::make_mut(&mut self.ranges).insert(at, number)),
        }
        Ok(())
    }

    fn remove_number(&mut self, id: NumberId) {
        if let Some(place) = self.places.remove(id) {
            self.vacate(id, place);
        }
    }

    /// Empties `place` if it is still that of `id`: another row may have taken it over already.
    fn vacate(&mut self, id: NumberId, place: Place) {
        match place {
            Place::Single(at) => {
                let own = self.numbers.get(at.into()).filter(|number| number.id == id).cloned();
                if let Some(own) = own {
                    self.numbers.remove(at.into());
                    self.leave_campaign(&own);
                }
            }
            Place::Range(at) => {
                let own = self.ranges.get(&at).filter(|number| number.id == id).cloned();
                if let Some(own) = own {
                    Arc::make_mut(&mut self.ranges).remove(&at);
                    self.leave_campaign(&own);
                }
            }
        }
    }

    fn leave_campaign(&mut self, number: &Number) {
        if let Some(campaign) = number.campaign {
            let numbers = Arc::make_mut(&mut self.campaign_numbers);
            if let Some(own) = numbers.get_mut(&campaign) {
                own.remove(&number.first);
                if own.is_empty() {
                    numbers.remove(&campaign);
                }
            }
        }
    }
}

impl fmt::Debug for RoutingTable {
    /// Counts only: a million numbers are of no use in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoutingTable")
            .field("numbers", &self.len())
            .field("tenants", &self.tenants.len())
            .field("trunks", &self.trunks.all().count())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn number(id: u128, first: &str, last: &str) -> Number {
        Number {
            id: NumberId::from_uuid(Uuid::from_u128(id)),
            tenant: TenantId::from_uuid(Uuid::from_u128(1)),
            first: first.parse().unwrap(),
            last: last.parse().unwrap(),
            trunk: None,
            outbound_trunk: None,
            routing_profile: None,
            ai_profile: None,
            campaign: None,
            active: true,
            barred: None,
            record: None,
        }
    }

    fn found(table: &RoutingTable, dialled: &str) -> Option<u128> {
        table.number(dialled.parse().unwrap()).map(|number| number.id.uuid().as_u128())
    }

    fn table(numbers: Vec<Number>) -> RoutingTable {
        RoutingTable::new(Contents { numbers, ..Contents::default() })
    }

    #[test]
    fn a_name_means_a_trunk_of_the_tenant_before_a_shared_one_and_none_of_another() {
        let [tenant, other] = [1, 2].map(|id| TenantId::from_uuid(Uuid::from_u128(id)));
        let trunk = |id: u128, name: &str, tenant| Trunk {
            tenant,
            ..Trunk::new(TrunkId::from_uuid(Uuid::from_u128(id)), name, Vec::new())
        };
        let trunks = vec![
            trunk(1, "main", None),
            trunk(2, "main", Some(tenant)),
            trunk(3, "own", Some(other)),
            trunk(4, "shared", None),
        ];
        let table = RoutingTable::new(Contents { trunks, ..Contents::default() });
        let named = |tenant, text: &str| {
            table.trunk_named(tenant, text).map(|trunk| trunk.id.uuid().as_u128())
        };
        assert_eq!((named(tenant, "main"), named(other, "main")), (Some(2), Some(1)));
        assert_eq!((named(tenant, "own"), named(other, "own")), (None, Some(3)));
        assert_eq!((named(tenant, "shared"), named(tenant, "none")), (Some(4), None));
        let by_id = |tenant, id| named(tenant, &Uuid::from_u128(id).to_string());
        assert_eq!((by_id(tenant, 1), by_id(tenant, 3)), (Some(1), None));
    }

    #[test]
    fn a_single_number_comes_before_the_range_around_it() {
        let table = table(vec![
            number(1, "+15550100", "+15550199"),
            number(2, "+15550150", "+15550150"),
            number(3, "+155502000", "+155502999"),
        ]);
        assert_eq!(found(&table, "+15550149"), Some(1));
        assert_eq!(found(&table, "+15550150"), Some(2));
        assert_eq!(found(&table, "+15550199"), Some(1));
        assert_eq!(found(&table, "+15550200"), None);
        assert_eq!(found(&table, "+15550099"), None);
        assert_eq!(found(&table, "+155501500"), None);
        assert_eq!(found(&table, "+155502000"), Some(3));
    }

    #[test]
    fn a_number_moves_with_its_row() {
        let mut table = table(vec![number(1, "+15550100", "+15550100")]);
        table.apply(Change::Number(number(1, "+15550101", "+15550101"))).unwrap();
        assert_eq!((found(&table, "+15550100"), found(&table, "+15550101")), (None, Some(1)));
        table.apply(Change::Number(number(1, "+15550100", "+15550109"))).unwrap();
        assert_eq!((found(&table, "+15550101"), found(&table, "+15550109")), (Some(1), Some(1)));
        assert_eq!(table.len(), 1);
        table.apply(Change::NumberGone(number(1, "+999", "+999").id)).unwrap();
        assert_eq!((found(&table, "+15550101"), table.len()), (None, 0));
    }

    #[test]
    fn a_late_removal_does_not_take_the_number_from_its_new_row() {
        for (first, last) in [("+15550100", "+15550100"), ("+15550100", "+15550109")] {
            let mut table = table(vec![number(1, first, last)]);
            table.apply(Change::Number(number(2, first, last))).unwrap();
            table.apply(Change::NumberGone(number(1, first, last).id)).unwrap();
            assert_eq!(found(&table, "+15550100"), Some(2));
        }
    }

    #[test]
    fn a_campaign_has_the_active_numbers_that_name_it() {
        let id = CampaignId::from_uuid(Uuid::from_u128(9));
        let of =
            |n, first: &str, last: &str, campaign| Number { campaign, ..number(n, first, last) };
        let mut table = table(vec![
            of(1, "+15550100", "+15550100", Some(id)),
            of(2, "+15550110", "+15550119", Some(id)),
            of(3, "+15550120", "+15550120", None),
        ]);
        let numbers = |table: &RoutingTable| -> Vec<String> {
            table.numbers_of(id).map(|number| number.to_string()).collect()
        };
        assert_eq!(numbers(&table), ["+15550100", "+15550110"]);
        table.apply(Change::Number(of(1, "+15550100", "+15550100", None))).unwrap();
        let off = Number { active: false, ..of(3, "+15550120", "+15550120", Some(id)) };
        table.apply(Change::Number(off)).unwrap();
        assert_eq!(numbers(&table), ["+15550110"]);
        table.apply(Change::NumberGone(NumberId::from_uuid(Uuid::from_u128(2)))).unwrap();
        assert!(numbers(&table).is_empty());
    }

    #[test]
    fn a_clone_keeps_what_it_held() {
        let mut table = table(vec![number(1, "+15550100", "+15550100")]);
        let before = table.clone();
        table.apply(Change::Replace(Box::default())).unwrap();
        assert_eq!((found(&before, "+15550100"), found(&table, "+15550100")), (Some(1), None));
    }
}
