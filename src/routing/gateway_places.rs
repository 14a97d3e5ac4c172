//! `GatewayPlaces`: at which addresses the operator's gateways are, so that whose an address is takes one look-up.

use crate::routing::gateway_addresses::GatewayAddress;
use crate::routing::gateway_board::GatewayKey;
use crate::types::id::TrunkId;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Gateways by the addresses they have. An IPv4 address counts as what it is, in whatever form it is written.
#[derive(Debug)]
pub(super) struct GatewayPlaces(BTreeMap<IpAddr, BTreeSet<GatewayKey>>);

impl GatewayPlaces {
    /// Without any gateway.
    pub(super) const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// A gateway is at this address.
    pub(super) fn put(&mut self, key: &GatewayKey, address: IpAddr) {
        let keys = self.0.entry(address.to_canonical()).or_default();
        // As a rule it is there: no copy is made for that.
        if !keys.contains(key) {
            keys.insert(key.clone());
        }
    }

    /// A gateway that was at `old` is at `new`.
    pub(super) fn move_on(
        &mut self,
        key: &GatewayKey,
        old: &[GatewayAddress],
        new: &[GatewayAddress],
    ) {
        for gone in old.iter().map(|own| own.address.ip()) {
            if !new.iter().any(|own| own.address.ip() == gone) {
                self.remove(key, gone.to_canonical());
            }
        }
        for own in new {
            self.put(key, own.address.ip());
        }
    }

    fn remove(&mut self, key: &GatewayKey, address: IpAddr) {
        let Some(keys) = self.0.get_mut(&address) else { return };
        keys.remove(key);
        if keys.is_empty() {
            self.0.remove(&address);
        }
    }

    /// The trunks that have a gateway there, each as often as it has.
    pub(super) fn trunks_at(&self, address: IpAddr) -> impl Iterator<Item = TrunkId> {
        let keys = self.0.get(&address.to_canonical()).into_iter().flatten();
        keys.map(|key| key.trunk)
    }
}
