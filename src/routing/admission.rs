//! Admission: calls at once and calls per second of node, tenant and trunk.

use crate::routing::contents::Tenant;
use crate::routing::gateway::Gateway;
use crate::routing::gateway_board::GatewayKey;
use crate::routing::outbound_trunk::OutboundLimits;
use crate::routing::pace::Pace;
use crate::routing::pace::SECOND;
use crate::routing::pace::SECOND_OF_CARRIER;
use crate::routing::trunk::Trunk;
use crate::types::cause::HangupCause;
use crate::types::id::TenantId;
use crate::types::id::TrunkId;
use crate::types::id_map::IdMap;
use crate::types::limit::PACED_ADDRESSES_MAX;
use crate::types::moment::Moment;
use std::collections::HashMap;
use std::net::IpAddr;

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

impl OutboundAsk<'_> {
    fn key(&self) -> GatewayKey {
        GatewayKey { trunk: self.trunk.id, gateway: self.gateway.name.clone() }
    }
}

/// Counts calls and paces new ones. A call is counted everywhere or, when any limit stands against
/// it, nowhere.
#[derive(Debug, Default)]
pub struct Admission {
    node: Meter,
    tenants: IdMap<TenantId, Meter>,
    trunks: IdMap<TrunkId, Meter>,
    gateways: HashMap<GatewayKey, Meter>,
    addresses: HashMap<IpAddr, Pace>,
}

/// Calls and pace of one of them.
#[derive(Debug, Default)]
struct Meter {
    calls: u32,
    /// Those of `calls` that are calls out.
    calls_out: u32,
    /// When the last calls began: those in, and of the node and of tenants all.
    begun: Pace,
    /// When those out began, as the carrier counts them.
    begun_out: Pace,
}

/// One without a call.
static NEW: Meter = Meter { calls: 0, calls_out: 0, begun: Pace::new(), begun_out: Pace::new() };

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
        self.begun.turn(now, cps_max, SECOND) <= now
    }

    fn take(&mut self, now: Moment, cps_max: u32) {
        self.calls = self.calls.saturating_add(1);
        self.begun.take(now, now, (cps_max, SECOND));
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

    /// Counts a try of a call out, which takes its turn with [`Self::turn_out`] once it is known where
    /// it goes.
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
    ) -> Result<Permit, HangupCause> {
        self.check_out(now, ask, limits, node)?;
        let (tenant, trunk) = (ask.tenant, ask.trunk);
        let key = ask.key();
        let mine = self.tenants.entry(tenant.id).or_default();
        let trunks = self.trunks.entry(trunk.id).or_default();
        let gateways = self.gateways.entry(key.clone()).or_default();
        if ask.first {
            self.node.begun.take(now, now, (node.cps_max, SECOND));
            mine.begun.take(now, now, (tenant.cps_max, SECOND));
        }
        for meter in [&mut self.node, mine, trunks, gateways] {
            meter.take_out();
        }
        Ok(Permit { tenant: tenant.id, trunk: trunk.id, gateway: Some(key) })
    }

    /// Whether [`Self::admit_out`] would admit this try now, and a turn would come in time. Counts
    /// nothing.
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
    ) -> Result<(), HangupCause> {
        let (tenant, trunk, gateway) = (ask.tenant, ask.trunk, ask.gateway);
        let mine = self.tenants.get(&tenant.id).unwrap_or(&NEW);
        let trunks = self.trunks.get(&trunk.id).unwrap_or(&NEW);
        let gateways = self.gateways.get(&ask.key()).unwrap_or(&NEW);
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
        if !trunks.has_room(trunk.calls_max)
            || !trunks.has_room_out(limits.calls_max)
            || !gateways.has_room_out(gateway.calls_max)
        {
            return Err(HangupCause::TrunkLimit);
        }
        self.next_turn(now, ask, limits).map(|_| ())
    }

    /// The turn of the trunk and of the gateway that comes next.
    fn next_turn(
        &self,
        now: Moment,
        ask: &OutboundAsk<'_>,
        limits: OutboundLimits,
    ) -> Result<Moment, HangupCause> {
        let trunks = self.trunks.get(&ask.trunk.id).unwrap_or(&NEW);
        let gateways = self.gateways.get(&ask.key()).unwrap_or(&NEW);
        let of_trunk = trunks.begun_out.turn(now, limits.cps_max, SECOND_OF_CARRIER);
        let most = ask.gateway.cps_max;
        let start = of_trunk.max(gateways.begun_out.turn(now, most, SECOND_OF_CARRIER));
        if start.since(now) > limits.queue { Err(HangupCause::TrunkLimit) } else { Ok(start) }
    }

    /// The turn of an INVITE to one address of a carrier: it is sent then, not before. It is taken, so
    /// waiting calls are bounded by the pace times the longest wait.
    ///
    /// # Errors
    ///
    /// `TrunkLimit` when the turn of the trunk, of the gateway or of the address would come later than
    /// the trunk lets calls wait. Nothing is taken then.
    pub fn turn_out(
        &mut self,
        now: Moment,
        ask: &OutboundAsk<'_>,
        address: IpAddr,
        limits: OutboundLimits,
    ) -> Result<Moment, HangupCause> {
        let mut start = self.next_turn(now, ask, limits)?;
        let of_address = (limits.cps_per_address, SECOND_OF_CARRIER);
        if of_address.0 > 0 {
            if self.addresses.len() >= PACED_ADDRESSES_MAX {
                self.addresses.retain(|_, pace| !pace.is_over(now, SECOND_OF_CARRIER));
            }
            let pace = self.addresses.entry(address.to_canonical()).or_default();
            start = start.max(pace.turn(now, of_address.0, of_address.1));
            if start.since(now) > limits.queue {
                return Err(HangupCause::TrunkLimit);
            }
            pace.take(now, start, of_address);
        }
        let trunks = self.trunks.entry(ask.trunk.id).or_default();
        trunks.begun_out.take(now, start, (limits.cps_max, SECOND_OF_CARRIER));
        let gateways = self.gateways.entry(ask.key()).or_default();
        gateways.begun_out.take(now, start, (ask.gateway.cps_max, SECOND_OF_CARRIER));
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
    use std::net::Ipv4Addr;
    use std::time::Duration;
    use uuid::Uuid;

    fn tenant(id: u128, calls_max: u32, cps_max: u32) -> Tenant {
        Tenant {
            id: TenantId::from_uuid(Uuid::from_u128(id)),
            name: "t".into(),
            status: TenantStatus::Active,
            plan: None,
            calls_max,
            cps_max,
            default_profile: None,
            outbound: TenantOutbound::default(),
            record: Default::default(),
        }
    }

    fn trunk(id: u128, calls_max: u32, cps_max: u32) -> Trunk {
        let mut trunk = Trunk::new(TrunkId::from_uuid(Uuid::from_u128(id)), "t", Vec::new());
        trunk.calls_max = calls_max;
        trunk.cps_max = cps_max;
        trunk
    }

    const PLACE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
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
    fn no_second_holds_more_calls_than_the_limit() {
        let (tenant, trunk) = (tenant(1, 0, 4), trunk(1, 0, 0));
        let mut admission = Admission::default();
        let mut admitted =
            |ms: u64| admission.admit(Moment::from_millis(ms), &tenant, &trunk, FREE).is_ok();
        let burst: Vec<bool> = (0..6).map(|_| admitted(5_000)).collect();
        assert_eq!(burst, [true, true, true, true, false, false]);
        assert!(!admitted(5_250) && !admitted(5_999));
        assert!(admitted(6_000) && admitted(6_300));
        let burst: Vec<bool> = (0..4).map(|_| admitted(6_999)).collect();
        assert_eq!(burst, [true, true, false, false]);
        assert!(admitted(7_000) && !admitted(7_001));
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
        admission.release(one);
        let _second_in = admission.admit(now, &tenant, &trunk, FREE).unwrap();
        assert_eq!(admission.admit(now, &tenant, &trunk, FREE), Err(HangupCause::TrunkLimit));
        assert_eq!(admission.calls_of_trunk(trunk.id), 3);
        let key = GatewayKey { trunk: trunk.id, gateway: gateway.name.clone() };
        assert_eq!(admission.calls_of_gateway(&key), 1);
    }

    #[test]
    fn calls_in_have_a_limit_of_their_own_whatever_goes_out_beside_them() {
        let (tenant, mut trunk, gateway) = (tenant(1, 0, 0), trunk(1, 0, 0), gateway("a", 0, 0));
        trunk.calls_in_max = 1;
        let ask = OutboundAsk { tenant: &tenant, trunk: &trunk, gateway: &gateway, first: true };
        let mut admission = Admission::default();
        let now = Moment::START;
        let out = |admission: &mut Admission| {
            admission.admit_out(now, &ask, OutboundLimits::default(), FREE).unwrap()
        };
        let _first_out = out(&mut admission);
        let first = admission.admit(now, &tenant, &trunk, FREE).unwrap();
        let _second_out = out(&mut admission);
        assert_eq!(admission.admit(now, &tenant, &trunk, FREE), Err(HangupCause::TrunkLimit));
        admission.release(first);
        assert!(admission.admit(now, &tenant, &trunk, FREE).is_ok());
    }

    #[test]
    fn calls_out_wait_for_their_turn_as_long_as_the_trunk_lets_them() {
        let (tenant, trunk, gateway) = (tenant(1, 0, 0), trunk(1, 0, 0), gateway("a", 0, 0));
        let ask = OutboundAsk { tenant: &tenant, trunk: &trunk, gateway: &gateway, first: true };
        let queue = Duration::from_secs(2);
        let limits = OutboundLimits { cps_max: 2, queue, ..OutboundLimits::default() };
        let mut admission = Admission::default();
        let now = Moment::from_millis(10_000);
        let mut start = |now: Moment| {
            let admitted = admission.admit_out(now, &ask, limits, FREE);
            admitted
                .and_then(|_| admission.turn_out(now, &ask, PLACE, limits))
                .map(Moment::as_millis)
        };
        let starts: Vec<_> = (0..5).map(|_| start(now)).collect();
        let turns = [10_000, 10_000, 11_020, 11_020].map(Ok);
        assert_eq!(starts.split_last(), Some((&Err(HangupCause::TrunkLimit), turns.as_slice())));
        // Those that wait count: whoever comes later waits for them.
        assert_eq!(start(Moment::from_millis(11_000)), Ok(12_040));
        assert_eq!(start(Moment::from_millis(12_100)), Ok(12_100));
        // Without a queue, the call over the pace is refused at once.
        let limits = OutboundLimits { cps_max: 2, ..OutboundLimits::default() };
        let mut admission = Admission::default();
        let mut taken = 0;
        for _ in 0..9 {
            let Ok(_permit) = admission.admit_out(now, &ask, limits, FREE) else { continue };
            taken += u32::from(admission.turn_out(now, &ask, PLACE, limits).is_ok());
        }
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
        admission.release(first);
        let ask = OutboundAsk { gateway: &b, first: false, ..ask };
        let _second = admission.admit_out(now, &ask, limits, FREE).unwrap();
        let full = admission.admit_out(now, &ask, limits, FREE);
        assert_eq!(full, Err(HangupCause::TrunkLimit));
    }

    #[test]
    fn one_address_of_a_carrier_is_paced_whatever_trunk_it_is_called_by() {
        let limits = OutboundLimits { cps_per_address: 1, ..OutboundLimits::default() };
        let (tenant, one, other) = (tenant(1, 0, 0), trunk(1, 0, 0), trunk(2, 0, 0));
        let gateway = gateway("a", 0, 0);
        let by = |trunk| OutboundAsk { tenant: &tenant, trunk, gateway: &gateway, first: true };
        let mut admission = Admission::default();
        let now = Moment::from_millis(5_000);
        assert_eq!(admission.turn_out(now, &by(&one), PLACE, limits), Ok(now));
        let mapped = "::ffff:192.0.2.1".parse().unwrap();
        let twice = admission.turn_out(now, &by(&other), mapped, limits);
        assert_eq!(twice, Err(HangupCause::TrunkLimit));
        let elsewhere = "192.0.2.2".parse().unwrap();
        assert_eq!(admission.turn_out(now, &by(&other), elsewhere, limits), Ok(now));
        let later = now + SECOND_OF_CARRIER;
        assert_eq!(admission.turn_out(later, &by(&one), PLACE, limits), Ok(later));
    }

    #[test]
    fn a_turn_that_comes_too_late_at_the_address_is_not_taken_of_the_trunk() {
        let queue = Duration::from_millis(500);
        let limits =
            OutboundLimits { cps_max: 2, cps_per_address: 1, queue, ..OutboundLimits::default() };
        let (tenant, trunk, gateway) = (tenant(1, 0, 0), trunk(1, 0, 0), gateway("a", 0, 0));
        let ask = OutboundAsk { tenant: &tenant, trunk: &trunk, gateway: &gateway, first: true };
        let (mut admission, now) = (Admission::default(), Moment::from_millis(5_000));
        assert_eq!(admission.turn_out(now, &ask, PLACE, limits), Ok(now));
        for _ in 0..3 {
            assert!(admission.turn_out(now, &ask, PLACE, limits).is_err());
        }
        let elsewhere = "192.0.2.2".parse().unwrap();
        assert_eq!(admission.turn_out(now, &ask, elsewhere, limits), Ok(now));
    }
}
