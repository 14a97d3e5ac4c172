//! Hints: to which trunk the address of a refused source most likely belongs.

use crate::routing::table::RoutingTable;
use crate::routing::trunk::Trunk;
use crate::types::number::E164;
use ipnet::IpNet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// Addresses that differ no more than this are neighbours: networks of carriers are no smaller.
const V4_NEIGHBOURS: u8 = 24;
const V6_NEIGHBOURS: u8 = 48;

/// A trunk to which an address may have to be added.
#[derive(Clone, Debug)]
pub struct Hint {
    /// The trunk.
    pub trunk: Arc<Trunk>,
    /// What speaks for it.
    pub why: HintReason,
}

/// What speaks for a trunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HintReason {
    /// The trunk lists the address, for another listener or transport.
    Listed,
    /// The trunk calls out to that very address.
    Gateway,
    /// The dialled number is bound to it.
    Number,
    /// It lists addresses beside this one.
    Neighbour,
}

impl HintReason {
    /// The spelling of the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Listed => "listed",
            Self::Gateway => "gateway",
            Self::Number => "number",
            Self::Neighbour => "neighbour",
        }
    }
}

impl fmt::Display for HintReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Listed => "it lists this address, but for another listener or transport",
            Self::Gateway => "it calls out to this address",
            Self::Number => "the dialled number is bound to it",
            Self::Neighbour => "it lists addresses beside this one",
        })
    }
}

/// The trunk that a refused call from `source` to `dialled` most likely came by; `None`: nothing speaks for
/// any. A guess for people: nothing is let in by it.
#[must_use]
pub fn likely_trunk(table: &RoutingTable, source: IpAddr, dialled: Option<E164>) -> Option<Hint> {
    let source = source.to_canonical();
    let first = |fits: &dyn Fn(&Trunk) -> bool| {
        table.trunks().filter(|trunk| fits(trunk)).min_by_key(|trunk| (trunk.priority, trunk.id))
    };
    let number = dialled.and_then(|dialled| table.number(dialled));
    let bound = number.and_then(|number| number.trunk).and_then(|trunk| table.trunk(trunk));
    let found = first(&|trunk| trunk.sources.iter().any(|own| own.contains(&source)))
        .map(|trunk| (trunk, HintReason::Listed))
        .or_else(|| first(&|trunk| calls(trunk, source)).map(|trunk| (trunk, HintReason::Gateway)))
        .or_else(|| bound.map(|trunk| (trunk, HintReason::Number)))
        .or_else(|| {
            let near = first(&|trunk| trunk.sources.iter().any(|own| is_near(*own, source)));
            near.map(|trunk| (trunk, HintReason::Neighbour))
        });
    found.map(|(trunk, why)| Hint { trunk: Arc::clone(trunk), why })
}

/// True when one of the trunk's gateways is this address.
fn calls(trunk: &Trunk, source: IpAddr) -> bool {
    let gateways = trunk.outbound.iter().flat_map(|outbound| outbound.gateways.iter());
    let mut hops = gateways.map(|gateway| gateway.next_hop());
    hops.any(|hop| hop.host.trim_matches(['[', ']']).parse() == Ok(source))
}

/// True when both are in one network of the usual size.
fn is_near(own: IpNet, source: IpAddr) -> bool {
    let size = if source.is_ipv4() { V4_NEIGHBOURS } else { V6_NEIGHBOURS };
    IpNet::new(source, size).is_ok_and(|network| network.contains(&own.addr()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::contents::Contents;
    use crate::routing::contents::Number;
    use crate::types::id::NumberId;
    use crate::types::id::TenantId;
    use crate::types::id::TrunkId;
    use uuid::Uuid;

    fn trunk(id: u128, source: &str) -> Trunk {
        let sources = vec![source.parse().unwrap()];
        Trunk::new(TrunkId::from_uuid(Uuid::from_u128(id)), format!("t{id}"), sources)
    }

    #[test]
    fn the_strongest_sign_names_the_trunk() {
        let trunks = vec![trunk(1, "192.0.2.8/30"), trunk(2, "2001:db8:1::/64")];
        let numbers = vec![Number {
            id: NumberId::from_uuid(Uuid::from_u128(5)),
            tenant: TenantId::from_uuid(Uuid::from_u128(6)),
            first: "+15550100".parse().unwrap(),
            last: "+15550100".parse().unwrap(),
            trunk: Some(TrunkId::from_uuid(Uuid::from_u128(2))),
            outbound_trunk: None,
            routing_profile: None,
            campaign: None,
            ai_profile: None,
            active: true,
            barred: None,
            record: None,
        }];
        let table = RoutingTable::new(Contents { trunks, numbers, ..Contents::default() });
        let hint = |source: &str, dialled: Option<&str>| {
            let dialled = dialled.map(|text| text.parse().unwrap());
            let hint = likely_trunk(&table, source.parse().unwrap(), dialled)?;
            Some((hint.trunk.name.clone(), hint.why))
        };
        let is = |name: &str, why: HintReason| Some((name.to_owned(), why));
        assert_eq!(hint("192.0.2.9", None), is("t1", HintReason::Listed));
        assert_eq!(hint("::ffff:192.0.2.9", None), is("t1", HintReason::Listed));
        assert_eq!(hint("192.0.2.77", None), is("t1", HintReason::Neighbour));
        assert_eq!(hint("192.0.2.77", Some("+15550100")), is("t2", HintReason::Number));
        assert_eq!(hint("2001:db8:1:7::1", None), is("t2", HintReason::Neighbour));
        assert_eq!(hint("198.51.100.7", Some("+15550199")), None);
    }
}
