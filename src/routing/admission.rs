//! Admission: calls at once and calls per second of node, tenant and trunk.

use crate::routing::contents::Tenant;
use crate::routing::trunk::Trunk;
use crate::types::cause::HangupCause;
use crate::types::id::TenantId;
use crate::types::id::TrunkId;
use crate::types::moment::Moment;
use std::collections::HashMap;
use std::time::Duration;

/// Limits of this node; 0 is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeLimits {
    /// Most calls at once.
    pub calls_max: u32,
    /// Most new calls per second.
    pub cps_max: u32,
}

/// The right to one call, given back with [`Admission::release`]. Not to be copied: each permit is
/// released once.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a permit that is not released counts for ever"]
pub struct Permit {
    tenant: TenantId,
    trunk: TrunkId,
}

/// Counts calls and paces new ones. A call is counted everywhere or, when any limit stands against
/// it, nowhere.
#[derive(Debug, Default)]
pub struct Admission {
    node: Meter,
    tenants: HashMap<TenantId, Meter>,
    trunks: HashMap<TrunkId, Meter>,
}

/// Calls and pace of one of the three.
#[derive(Clone, Copy, Debug, Default)]
struct Meter {
    calls: u32,
    /// When a steady stream at the limit would have placed the calls so far (a token bucket that
    /// holds one second's calls, in one number).
    paced: Moment,
}

impl Meter {
    const fn has_room(&self, calls_max: u32) -> bool {
        calls_max == 0 || self.calls < calls_max
    }

    fn is_in_pace(&self, now: Moment, cps_max: u32) -> bool {
        cps_max == 0 || self.paced.since(now) + gap(cps_max) <= Duration::from_secs(1)
    }

    fn take(&mut self, now: Moment, cps_max: u32) {
        self.calls = self.calls.saturating_add(1);
        if cps_max > 0 {
            self.paced = self.paced.max(now) + gap(cps_max);
        }
    }
}

/// The time between calls at a rate.
fn gap(cps: u32) -> Duration {
    Duration::from_nanos(1_000_000_000 / u64::from(cps.max(1)))
}

impl Admission {
    /// Counts a new call of `tenant` by `trunk`.
    ///
    /// # Errors
    ///
    /// The cause of the first limit that stands against it: of the node, the tenant or the trunk.
    pub fn admit(
        &mut self,
        now: Moment,
        tenant: &Tenant,
        trunk: &Trunk,
        node: NodeLimits,
    ) -> Result<Permit, HangupCause> {
        let tenant_meter = self.tenants.entry(tenant.id).or_default();
        let trunk_meter = self.trunks.entry(trunk.id).or_default();
        for (meter, calls_max, cps_max, cause) in [
            (&self.node, node.calls_max, node.cps_max, HangupCause::NodeLimit),
            (&*tenant_meter, tenant.calls_max, tenant.cps_max, HangupCause::TenantLimit),
            (&*trunk_meter, trunk.calls_max, trunk.cps_max, HangupCause::TrunkLimit),
        ] {
            if !meter.has_room(calls_max) || !meter.is_in_pace(now, cps_max) {
                return Err(cause);
            }
        }
        self.node.take(now, node.cps_max);
        tenant_meter.take(now, tenant.cps_max);
        trunk_meter.take(now, trunk.cps_max);
        Ok(Permit { tenant: tenant.id, trunk: trunk.id })
    }

    /// Gives a call back.
    #[expect(clippy::needless_pass_by_value, reason = "the permit ends here")]
    pub fn release(&mut self, permit: Permit) {
        self.node.calls = self.node.calls.saturating_sub(1);
        if let Some(meter) = self.tenants.get_mut(&permit.tenant) {
            meter.calls = meter.calls.saturating_sub(1);
        }
        if let Some(meter) = self.trunks.get_mut(&permit.trunk) {
            meter.calls = meter.calls.saturating_sub(1);
        }
    }

    /// Calls now on the node.
    #[must_use]
    pub const fn calls(&self) -> u32 {
        self.node.calls
    }

    /// Calls now of a tenant.
    #[must_use]
    pub fn calls_of_tenant(&self, tenant: TenantId) -> u32 {
        self.tenants.get(&tenant).map_or(0, |meter| meter.calls)
    }

    /// Calls now on a trunk.
    #[must_use]
    pub fn calls_of_trunk(&self, trunk: TrunkId) -> u32 {
        self.trunks.get(&trunk).map_or(0, |meter| meter.calls)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::contents::TenantStatus;
    use uuid::Uuid;

    fn tenant(id: u128, calls_max: u32, cps_max: u32) -> Tenant {
        Tenant {
            id: TenantId::from_uuid(Uuid::from_u128(id)),
            name: "t".into(),
            status: TenantStatus::Active,
            calls_max,
            cps_max,
            default_profile: None,
        }
    }

    fn trunk(id: u128, calls_max: u32, cps_max: u32) -> Trunk {
        let mut trunk = Trunk::new(TrunkId::from_uuid(Uuid::from_u128(id)), "t", Vec::new());
        trunk.calls_max = calls_max;
        trunk.cps_max = cps_max;
        trunk
    }

    const FREE: NodeLimits = NodeLimits { calls_max: 0, cps_max: 0 };

    #[test]
    fn each_limit_has_its_own_cause_and_a_release_makes_room() {
        let node = NodeLimits { calls_max: 3, cps_max: 0 };
        let (small, large) = (tenant(1, 1, 0), tenant(2, 0, 0));
        let (narrow, wide) = (trunk(1, 1, 0), trunk(2, 0, 0));
        let mut admission = Admission::default();
        let now = Moment::START;
        let first = admission.admit(now, &small, &wide, node).unwrap();
        assert_eq!(admission.admit(now, &small, &wide, node), Err(HangupCause::TenantLimit));
        let _second = admission.admit(now, &large, &narrow, node).unwrap();
        assert_eq!(admission.admit(now, &large, &narrow, node), Err(HangupCause::TrunkLimit));
        let _third = admission.admit(now, &large, &wide, node).unwrap();
        assert_eq!(admission.admit(now, &large, &wide, node), Err(HangupCause::NodeLimit));
        assert_eq!(admission.calls(), 3);
        admission.release(first);
        assert_eq!(admission.calls_of_tenant(small.id), 0);
        let again = admission.admit(now, &small, &wide, node).unwrap();
        assert_eq!(admission.calls_of_trunk(wide.id), 2);
        admission.release(again);
    }

    #[test]
    fn a_second_holds_as_many_calls_as_the_limit_and_refills_evenly() {
        let (tenant, trunk) = (tenant(1, 0, 4), trunk(1, 0, 0));
        let mut admission = Admission::default();
        let mut admitted =
            |ms: u64| admission.admit(Moment::from_millis(ms), &tenant, &trunk, FREE).is_ok();
        let burst: Vec<bool> = (0..6).map(|_| admitted(5_000)).collect();
        assert_eq!(burst, [true, true, true, true, false, false]);
        assert!(!admitted(5_249));
        assert!(admitted(5_250));
        assert!(!admitted(5_251));
        let burst: Vec<bool> = (0..6).map(|_| admitted(60_000)).collect();
        assert_eq!(burst, [true, true, true, true, false, false]);
    }

    #[test]
    fn a_refused_call_costs_no_pace_anywhere() {
        let node = NodeLimits { calls_max: 0, cps_max: 2 };
        let (tenant, full, open) = (tenant(1, 0, 0), trunk(1, 0, 1), trunk(2, 0, 0));
        let mut admission = Admission::default();
        let now = Moment::START;
        assert!(admission.admit(now, &tenant, &full, node).is_ok());
        for _ in 0..10 {
            assert_eq!(admission.admit(now, &tenant, &full, node), Err(HangupCause::TrunkLimit));
        }
        assert!(admission.admit(now, &tenant, &open, node).is_ok());
        assert_eq!(admission.admit(now, &tenant, &open, node), Err(HangupCause::NodeLimit));
    }

    #[test]
    fn one_call_per_second_means_one() {
        let (tenant, trunk) = (tenant(1, 0, 1), trunk(1, 0, 0));
        let mut admission = Admission::default();
        assert!(admission.admit(Moment::from_millis(10), &tenant, &trunk, FREE).is_ok());
        assert!(admission.admit(Moment::from_millis(1_009), &tenant, &trunk, FREE).is_err());
        assert!(admission.admit(Moment::from_millis(1_010), &tenant, &trunk, FREE).is_ok());
    }
}
