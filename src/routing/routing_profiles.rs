//! `RoutingProfiles`: which routing profile a number follows, and which countries' numbers a trunk brings.

use crate::routing::contents::Number;
use crate::routing::contents::RoutingProfile;
use crate::routing::contents::Tenant;
use crate::types::country::Country;
use crate::types::id::RoutingProfileId;
use crate::types::id::TenantId;
use crate::types::id::TrunkId;
use crate::types::tenant_plan::TenantPlan;
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The routing profiles of a table.
///
/// Few, and rarely changed: each change makes the indexes anew.
#[derive(Clone, Debug, Default)]
pub(super) struct RoutingProfiles {
    all: BTreeMap<RoutingProfileId, Arc<RoutingProfile>>,
    /// Those that name a plan or a country, by whom they fit; of two alike the older.
    fitting: BTreeMap<Fit, Arc<RoutingProfile>>,
    /// The countries whose national numbers a trunk brings.
    countries: BTreeMap<TrunkId, SmallVec<[Country; 2]>>,
}

/// Whose numbers a profile is for: of one tenant or all, of one plan or any, of one country or any.
type Fit = (Option<TenantId>, Option<Country>, Option<TenantPlan>);

/// The profile that a number follows.
#[derive(Clone, Copy, Debug)]
pub struct Followed<'t> {
    /// It.
    pub profile: &'t Arc<RoutingProfile>,
    /// The number names it; else it is the one that fits best.
    pub is_named: bool,
}

impl RoutingProfiles {
    pub(super) fn new(profiles: impl IntoIterator<Item = RoutingProfile>) -> Self {
        let all = profiles.into_iter().map(|profile| (profile.id, Arc::new(profile))).collect();
        let mut profiles = Self { all, ..Self::default() };
        profiles.index();
        profiles
    }

    pub(super) fn put(&mut self, profile: RoutingProfile) {
        self.all.insert(profile.id, Arc::new(profile));
        self.index();
    }

    pub(super) fn remove(&mut self, id: RoutingProfileId) {
        self.all.remove(&id);
        self.index();
    }

    fn index(&mut self) {
        self.fitting.clear();
        self.countries.clear();
        // By identity, which is by age.
        for profile in self.all.values() {
            if profile.fits_by_itself && (profile.plan.is_some() || profile.country.is_some()) {
                let fit = (profile.tenant, profile.country, profile.plan);
                self.fitting.entry(fit).or_insert_with(|| Arc::clone(profile));
            }
            if let Some((trunk, country)) = profile.inbound_trunk.zip(profile.country) {
                let countries = self.countries.entry(trunk).or_default();
                if !countries.contains(&country) {
                    countries.push(country);
                }
            }
        }
    }

    /// The profile that a number of `tenant` follows: the one it names, else the one that fits best. The tenant's
    /// own come before shared ones, then a country before a plan, and both before one of them.
    pub(super) fn of(&self, number: &Number, tenant: Option<&Tenant>) -> Option<Followed<'_>> {
        if let Some(id) = number.routing_profile {
            let own = self.all.get(&id);
            let own = own.filter(|p| p.tenant.is_none_or(|owner| owner == number.tenant));
            return own.map(|profile| Followed { profile, is_named: true });
        }
        if self.fitting.is_empty() {
            return None;
        }
        let country = Country::of(number.first);
        let plan = tenant.and_then(|tenant| tenant.plan);
        let of_owner = |owner: Option<TenantId>| {
            let fits = [(country, plan), (country, None), (None, plan)];
            fits.into_iter().find_map(|(country, plan)| self.fitting.get(&(owner, country, plan)))
        };
        let profile = of_owner(Some(number.tenant)).or_else(|| of_owner(None))?;
        Some(Followed { profile, is_named: false })
    }

    /// The countries whose national numbers `trunk` brings, as routing profiles say that call it their inbound trunk.
    pub(super) fn countries(&self, trunk: TrunkId) -> &[Country] {
        self.countries.get(&trunk).map_or(&[], |countries| countries)
    }
}

impl fmt::Display for Followed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RoutingProfile { name, plan, country, .. } = &**self.profile;
        if self.is_named {
            return write!(f, "{name}, which the number names");
        }
        match (plan, country) {
            (Some(plan), Some(country)) => {
                write!(f, "{name}, for numbers of {country} with the plan {plan}")
            }
            (None, Some(country)) => write!(f, "{name}, for numbers of {country}"),
            (Some(plan), None) => write!(f, "{name}, for the plan {plan}"),
            (None, None) => f.write_str(name),
        }
    }
}
