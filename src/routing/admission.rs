//! Admission: calls at once and calls per second of node, tenant and trunk.

use crate::routing::contents::Tenant;
use crate::routing::gateway::Gateway;
use crate::routing::gateway_board::GatewayKey;
use crate::routing::outbound_trunk::OutboundLimits;
use crate::routing::trunk::Trunk;
use crate::types::cause::HangupCause;
use crate::types::id::TenantId;
use crate::types::id::TrunkId;
use crate::types::limit::PACED_ADDRESSES_MAX;
use crate::types::moment::Moment;
use std::collections::HashMap;
use std::net::IpAddr;
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
    /// The gateway of a call out.
    gateway: Option<GatewayKey>,
}

/// The right to try a call out at one gateway.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a permit that is not released counts for ever"]
pub struct OutboundPermit {
    /// To be released when the try is over, or the call it became.
    pub permit: Permit,
    /// Its turn: the INVITE is sent then, not before.
    pub start: Moment,
}

/// Who asks for a try at a gateway.
#[derive(Clone, Copy, Debug)]
pub struct OutboundAsk<'a> {
    /// The tenant that calls.
    pub tenant: &'a Tenant,
    /// The trunk.
    pub trunk: &'a Trunk,
    /// The gateway.
    pub gateway: &'a Gateway,
    /// True for the first try of a call: later ones count neither for the node nor for the tenant's
    /// pace, since it is the same call.
    pub first: bool,
}

/// Counts calls and paces new ones. A call is counted everywhere or, when any limit stands against
/// it, nowhere.
#[derive(Debug, Default)]
pub struct Admission {
    node: Meter,
    tenants: HashMap<TenantId, Meter>,
    trunks: HashMap<TrunkId, Meter>,
    gateways: HashMap<GatewayKey, Meter>,
    addresses: HashMap<IpAddr, Meter>,
}

/// Calls and pace of one of them.
#[derive(Clone, Copy, Debug, Default)]
struct Meter {
    calls: u32,
    /// Those of `calls` that are calls out.
    calls_out: u32,
    /// When a steady stream at the limit would have placed the calls so far (a token bucket that
    /// holds one second's calls, in one number).
    paced: Moment,
    /// The same for calls out.
    paced_out: Moment,
}

impl Meter {
    const fn has_room(&self, calls_max: u32) -> bool {
        calls_max == 0 || self.calls < calls_max
    }

    const fn has_room_in(&self, calls_in_max: u32) -> bool {
        calls_in_max == 0 || self.calls.saturating_sub(self.calls_out) < calls_in_max
    }

    const fn has_room_out(&self, calls_out_max: u32) -> bool {
        calls_out_max == 0 || self.calls_out < calls_out_max
    }

    fn is_in_pace(&self, now: Moment, cps_max: u32) -> bool {
        turn(self.paced, now, cps_max) <= now
    }

    fn take(&mut self, now: Moment, cps_max: u32) {
        self.calls = self.calls.saturating_add(1);
        pace(&mut self.paced, now, cps_max);
    }

    fn take_out(&mut self) {
        self.calls = self.calls.saturating_add(1);
        self.calls_out = self.calls_out.saturating_add(1);
    }

    fn give_back(&mut self, out: bool) {
        self.calls = self.calls.saturating_sub(1);
        self.calls_out = self.calls_out.saturating_sub(u32::from(out));
    }
}

/// The time between calls at a rate.
fn gap(cps: u32) -> Duration {
    Duration::from_nanos(1_000_000_000 / u64::from(cps.max(1)))
}

/// When the next call may go: now, while the second's bucket holds one, else later.
fn turn(paced: Moment, now: Moment, cps_max: u32) -> Moment {
    if cps_max == 0 {
        return now;
    }
    let full = paced.max(now) + gap(cps_max);
    now.max(full - Duration::from_secs(1))
}

fn pace(paced: &mut Moment, now: Moment, cps_max: u32) {
    if cps_max > 0 {
        *paced = (*paced).max(now) + gap(cps_max);
    }
}

impl Admission {
    /// Counts a new call of `tenant` that came in by `trunk`.
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
        if !trunk_meter.has_room_in(trunk.calls_in_max) {
            return Err(HangupCause::TrunkLimit);
        }
        self.node.take(now, node.cps_max);
        tenant_meter.take(now, tenant.cps_max);
        trunk_meter.take(now, trunk.cps_max);
        Ok(Permit { tenant: tenant.id, trunk: trunk.id, gateway: None })
    }

    /// Counts a try of a call out. Where the trunk lets calls wait for their turn, the permit says
    /// when it is: the turn is taken, so waiting calls are bounded by the pace times the longest wait.
    ///
    /// # Errors
    ///
    /// The cause of the first limit that stands against it: of the node, the tenant, the trunk or the
    /// gateway (`TrunkLimit` too).
    pub fn admit_out(
        &mut self,
        now: Moment,
        ask: &OutboundAsk<'_>,
        limits: OutboundLimits,
        node: NodeLimits,
    ) -> Result<OutboundPermit, HangupCause> {
        let start = self.check_out(now, ask, limits, node)?;
        let (tenant, trunk, gateway) = (ask.tenant, ask.trunk, ask.gateway);
        let key = GatewayKey { trunk: trunk.id, gateway: gateway.name.clone() };
        let mine = self.tenants.entry(tenant.id).or_default();
        let trunks = self.trunks.entry(trunk.id).or_default();
        let gateways = self.gateways.entry(key.clone()).or_default();
        if ask.first {
            pace(&mut self.node.paced, now, node.cps_max);
            pace(&mut mine.paced, now, tenant.cps_max);
        }
        pace(&mut trunks.paced_out, now, limits.cps_max);
        pace(&mut gateways.paced_out, now, gateway.cps_max);
        for meter in [&mut self.node, mine, trunks, gateways] {
            meter.take_out();
        }
        let permit = Permit { tenant: tenant.id, trunk: trunk.id, gateway: Some(key) };
        Ok(OutboundPermit { permit, start })
    }

    /// Whether [`Self::admit_out`] would admit this try, and when its turn would be. Counts nothing.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn check_out(
        &self,
        now: Moment,
        ask: &OutboundAsk<'_>,
        limits: OutboundLimits,
        node: NodeLimits,
    ) -> Result<Moment, HangupCause> {
        let (tenant, trunk, gateway) = (ask.tenant, ask.trunk, ask.gateway);
        let key = GatewayKey { trunk: trunk.id, gateway: gateway.name.clone() };
        let mine = self.tenants.get(&tenant.id).copied().unwrap_or_default();
        let trunks = self.trunks.get(&trunk.id).copied().unwrap_or_default();
        let gateways = self.gateways.get(&key).copied().unwrap_or_default();
        if !self.node.has_room(node.calls_max)
            || (ask.first && !self.node.is_in_pace(now, node.cps_max))
        {
            return Err(HangupCause::NodeLimit);
        }
        if !mine.has_room(tenant.calls_max)
            || !mine.has_room_out(tenant.outbound.calls_max)
            || (ask.first && !mine.is_in_pace(now, tenant.cps_max))
        {
            return Err(HangupCause::TenantLimit);
        }
        let start = turn(trunks.paced_out, now, limits.cps_max).max(turn(
            gateways.paced_out,
            now,
            gateway.cps_max,
        ));
        if !trunks.has_room(trunk.calls_max)
            || !trunks.has_room_out(limits.calls_max)
            || !gateways.has_room_out(gateway.calls_max)
            || start.since(now) > limits.queue
        {
            return Err(HangupCause::TrunkLimit);
        }
        Ok(start)
    }

    /// Takes a turn at one address of a carrier, known only after its name was looked up.
    ///
    /// # Errors
    ///
    /// `TrunkLimit` when the turn would come later than the trunk lets calls wait.
    pub fn pace_address(
        &mut self,
        now: Moment,
        address: IpAddr,
        limits: OutboundLimits,
    ) -> Result<Moment, HangupCause> {
        let most = limits.cps_per_address;
        if most == 0 {
            return Ok(now);
        }
        if self.addresses.len() >= PACED_ADDRESSES_MAX {
            self.addresses.retain(|_, meter| meter.paced_out > now);
        }
        let meter = self.addresses.entry(address.to_canonical()).or_default();
        let start = turn(meter.paced_out, now, most);
        if start.since(now) > limits.queue {
            return Err(HangupCause::TrunkLimit);
        }
        pace(&mut meter.paced_out, now, most);
        Ok(start)
    }

    /// Gives a call back.
    pub fn release(&mut self, permit: Permit) {
        let out = permit.gateway.is_some();
        self.node.give_back(out);
        if let Some(meter) = self.tenants.get_mut(&permit.tenant) {
            meter.give_back(out);
        }
        if let Some(meter) = self.trunks.get_mut(&permit.trunk) {
            meter.give_back(out);
        }
        if let Some(meter) = permit.gateway.and_then(|key| self.gateways.get_mut(&key)) {
            meter.give_back(out);
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

    /// Calls out now at a gateway.
    #[must_use]
    pub fn calls_of_gateway(&self, key: &GatewayKey) -> u32 {
        self.gateways.get(key).map_or(0, |meter| meter.calls)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::contents::TenantOutbound;
    use crate::routing::contents::TenantStatus;
    use crate::routing::gateway::Lookup;
    use uuid::Uuid;

    fn tenant(id: u128, calls_max: u32, cps_max: u32) -> Tenant {
        Tenant {
            id: TenantId::from_uuid(Uuid::from_u128(id)),
            name: "t".into(),
            status: TenantStatus::Active,
            calls_max,
            cps_max,
            default_profile: None,
            outbound: TenantOutbound::default(),
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

    fn gateway(name: &str, calls_max: u32, cps_max: u32) -> Gateway {
        Gateway {
            name: name.parse().unwrap(),
            uri: "sip:carrier.example".parse().unwrap(),
            proxy: None,
            lookup: Lookup::Srv,
            priority: 1,
            weight: 1,
            calls_max,
            cps_max,
        }
    }

    #[test]
    fn calls_in_and_out_have_limits_of_their_own_and_one_together() {
        let tenant = tenant(1, 0, 0);
        let mut trunk = trunk(1, 3, 0);
        trunk.calls_in_max = 2;
        let limits = OutboundLimits { calls_max: 2, ..OutboundLimits::default() };
        let gateway = gateway("a", 0, 0);
        let ask = OutboundAsk { tenant: &tenant, trunk: &trunk, gateway: &gateway, first: true };
        let mut admission = Admission::default();
        let now = Moment::START;
        let one = admission.admit_out(now, &ask, limits, FREE).unwrap();
        let _two = admission.admit_out(now, &ask, limits, FREE).unwrap();
        let third = admission.admit_out(now, &ask, limits, FREE);
        assert_eq!(third, Err(HangupCause::TrunkLimit));
        let _in = admission.admit(now, &tenant, &trunk, FREE).unwrap();
        assert_eq!(admission.admit(now, &tenant, &trunk, FREE), Err(HangupCause::TrunkLimit));
        admission.release(one.permit);
        let _second_in = admission.admit(now, &tenant, &trunk, FREE).unwrap();
        assert_eq!(admission.admit(now, &tenant, &trunk, FREE), Err(HangupCause::TrunkLimit));
        assert_eq!(admission.calls_of_trunk(trunk.id), 3);
        let key = GatewayKey { trunk: trunk.id, gateway: gateway.name.clone() };
        assert_eq!(admission.calls_of_gateway(&key), 1);
    }

    #[test]
    fn calls_out_wait_for_their_turn_as_long_as_the_trunk_lets_them() {
        let (tenant, trunk, gateway) = (tenant(1, 0, 0), trunk(1, 0, 0), gateway("a", 0, 0));
        let ask = OutboundAsk { tenant: &tenant, trunk: &trunk, gateway: &gateway, first: true };
        let queue = Duration::from_secs(2);
        let limits = OutboundLimits { cps_max: 2, queue, ..OutboundLimits::default() };
        let mut admission = Admission::default();
        let now = Moment::from_millis(10_000);
        let starts: Vec<_> = (0..7)
            .map(|_| admission.admit_out(now, &ask, limits, FREE).map(|p| p.start.as_millis()))
            .collect();
        let turns = [10_000, 10_000, 10_500, 11_000, 11_500, 12_000].map(Ok);
        assert_eq!(starts.split_last(), Some((&Err(HangupCause::TrunkLimit), turns.as_slice())));
        // Without a queue, the call over the pace is refused at once.
        let limits = OutboundLimits { cps_max: 2, ..OutboundLimits::default() };
        let mut admission = Admission::default();
        let taken = (0..9).filter(|_| admission.admit_out(now, &ask, limits, FREE).is_ok()).count();
        assert_eq!((taken, admission.calls()), (2, 2));
    }

    #[test]
    fn a_second_try_of_a_call_does_not_pay_the_tenants_pace_again() {
        let (tenant, trunk) = (tenant(1, 0, 1), trunk(1, 0, 0));
        let (a, b) = (gateway("a", 0, 0), gateway("b", 1, 0));
        let ask = OutboundAsk { tenant: &tenant, trunk: &trunk, gateway: &a, first: true };
        let (mut admission, now) = (Admission::default(), Moment::START);
        let limits = OutboundLimits::default();
        let first = admission.admit_out(now, &ask, limits, FREE).unwrap();
        let other = admission.admit_out(now, &ask, limits, FREE);
        assert_eq!(other, Err(HangupCause::TenantLimit));
        admission.release(first.permit);
        let ask = OutboundAsk { gateway: &b, first: false, ..ask };
        let _second = admission.admit_out(now, &ask, limits, FREE).unwrap();
        let full = admission.admit_out(now, &ask, limits, FREE);
        assert_eq!(full, Err(HangupCause::TrunkLimit));
    }

    #[test]
    fn one_address_of_a_carrier_is_paced_whatever_trunk_it_is_called_by() {
        let limits = OutboundLimits { cps_per_address: 1, ..OutboundLimits::default() };
        let mut admission = Admission::default();
        let one: IpAddr = "192.0.2.1".parse().unwrap();
        let now = Moment::from_millis(5_000);
        assert_eq!(admission.pace_address(now, one, limits), Ok(now));
        let mapped = "::ffff:192.0.2.1".parse().unwrap();
        let twice = admission.pace_address(now, mapped, limits);
        assert_eq!(twice, Err(HangupCause::TrunkLimit));
        let other = "192.0.2.2".parse().unwrap();
        assert_eq!(admission.pace_address(now, other, limits), Ok(now));
        let later = now + Duration::from_secs(1);
        assert_eq!(admission.pace_address(later, one, limits), Ok(later));
    }
}
