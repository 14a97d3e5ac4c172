//! `TrunkIndex`: trunks by the networks their calls come from.

use crate::routing::contents::SourceNames;
use crate::routing::trunk::Trunk;
use crate::types::id::TrunkId;
use crate::types::id_map::IdMap;
use crate::types::kept_ports::KeptPorts;
use ipnet::IpNet;
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

/// Trunks by source network. Built whole at each change: trunks are few and change rarely, while
/// every datagram asks.
#[derive(Default)]
pub(crate) struct TrunkIndex {
    by_id: BTreeMap<TrunkId, Arc<Trunk>>,
    names: Arc<SourceNames>,
    by_net: IdMap<IpNet, Vec<Arc<Trunk>>>,
    /// The prefix lengths in use: one look-up in `by_net` each.
    v4_prefixes: Vec<u8>,
    v6_prefixes: Vec<u8>,
    secret_headers: Arc<[Box<str>]>,
    kept_ports: KeptPorts,
    /// Some trunk asks for more than an address.
    wants_proof: bool,
}

impl TrunkIndex {
    pub(crate) fn new(trunks: impl Iterator<Item = Arc<Trunk>>, names: Arc<SourceNames>) -> Self {
        let mut index = Self { names: Arc::clone(&names), ..Self::default() };
        for trunk in trunks {
            index.by_id.insert(trunk.id, trunk);
        }
        for trunk in index.by_id.values().filter(|trunk| trunk.enabled) {
            index.wants_proof |= trunk.wants_proof();
            let named = trunk.source_names.iter().filter_map(|name| names.get(name)).flatten();
            let named = named.map(|address| IpNet::from(address.to_canonical()));
            for net in trunk.sources.iter().copied().chain(named) {
                let net = net.trunc();
                let prefixes = match net {
                    IpNet::V4(_) => &mut index.v4_prefixes,
                    IpNet::V6(_) => &mut index.v6_prefixes,
                };
                if !prefixes.contains(&net.prefix_len()) {
                    prefixes.push(net.prefix_len());
                }
                let trunks = index.by_net.entry(net).or_default();
                if !trunks.iter().any(|other| other.id == trunk.id) {
                    trunks.push(Arc::clone(trunk));
                }
            }
        }
        let secrets: BTreeSet<&str> =
            index.by_id.values().flat_map(|trunk| trunk.secret_headers()).collect();
        index.secret_headers = secrets.into_iter().map(Box::from).collect();
        let enabled = index.by_id.values().filter(|trunk| trunk.enabled);
        index.kept_ports = KeptPorts::new(enabled.filter_map(|trunk| trunk.media.ports.clone()));
        index
    }

    /// Names of headers whose values are secrets of some trunk.
    pub(crate) const fn secret_headers(&self) -> &Arc<[Box<str>]> {
        &self.secret_headers
    }

    /// The RTP ports to which calls of some trunk keep.
    pub(crate) const fn kept_ports(&self) -> &KeptPorts {
        &self.kept_ports
    }

    /// Whether any trunk that is in use asks for more than an address.
    pub(crate) const fn wants_proof(&self) -> bool {
        self.wants_proof
    }

    pub(crate) fn with(&self, trunk: Arc<Trunk>) -> Self {
        let trunks = self.by_id.values().map(Arc::clone).chain(std::iter::once(trunk));
        Self::new(trunks, self.names())
    }

    pub(crate) fn without(&self, id: TrunkId) -> Self {
        let trunks = self.by_id.values().filter(|trunk| trunk.id != id).map(Arc::clone);
        Self::new(trunks, self.names())
    }

    /// The same trunks, whose names stand for other addresses.
    pub(crate) fn named(&self, names: Arc<SourceNames>) -> Self {
        Self::new(self.by_id.values().map(Arc::clone), names)
    }

    pub(crate) fn names(&self) -> Arc<SourceNames> {
        Arc::clone(&self.names)
    }

    pub(crate) fn addresses_of(&self, name: &str) -> Option<&[IpAddr]> {
        self.names.get(name).map(Vec::as_slice)
    }

    pub(crate) fn get(&self, id: TrunkId) -> Option<&Arc<Trunk>> {
        self.by_id.get(&id)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Trunk>> {
        self.by_id.values()
    }

    /// Each trunk whose source list holds `source` once, by priority, then by name.
    pub(crate) fn by_source(&self, source: IpAddr) -> impl Iterator<Item = &Arc<Trunk>> {
        let mut found: SmallVec<[&Arc<Trunk>; 8]> = self.nets(source).flatten().collect();
        let order = |trunk: &Arc<Trunk>| (trunk.priority, trunk.id);
        found.sort_by(|a, b| (a.priority, &a.name, a.id).cmp(&(b.priority, &b.name, b.id)));
        found.dedup_by_key(|trunk| order(trunk));
        found.into_iter()
    }

    pub(crate) fn any_by_source(&self, source: IpAddr, accept: impl Fn(&Trunk) -> bool) -> bool {
        self.nets(source).flatten().any(|trunk| accept(trunk))
    }

    /// The trunk lists of every network that holds `source`. An IPv4 peer on an IPv6 socket counts
    /// as what it is.
    fn nets(&self, source: IpAddr) -> impl Iterator<Item = &Vec<Arc<Trunk>>> {
        let source = source.to_canonical();
        let prefixes = if source.is_ipv4() { &self.v4_prefixes } else { &self.v6_prefixes };
        prefixes.iter().filter_map(move |prefix| {
            let net = IpNet::new(source, *prefix).ok()?.trunc();
            self.by_net.get(&net)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::secret::Secret;
    use uuid::Uuid;

    fn trunk(id: u128, priority: u32, sources: &[&str]) -> Arc<Trunk> {
        let sources = sources.iter().map(|net| net.parse().unwrap()).collect();
        let id = TrunkId::from_uuid(Uuid::from_u128(id));
        let mut trunk = Trunk::new(id, "t", sources);
        trunk.priority = priority;
        Arc::new(trunk)
    }

    fn ids(index: &TrunkIndex, source: &str) -> Vec<u128> {
        index.by_source(source.parse().unwrap()).map(|t| t.id.uuid().as_u128()).collect()
    }

    #[test]
    fn every_network_that_holds_the_source_counts_once_by_priority() {
        let index = TrunkIndex::new(
            [
                trunk(1, 100, &["192.0.2.0/24", "192.0.2.7/32"]),
                trunk(2, 50, &["192.0.2.0/24"]),
                trunk(3, 100, &["192.0.2.7/32", "2001:db8::/32"]),
                trunk(4, 1, &["198.51.100.0/24"]),
                trunk(5, 1, &["192.0.3.9/24"]),
            ]
            .into_iter(),
            Arc::default(),
        );
        assert_eq!(ids(&index, "192.0.2.7"), [2, 1, 3]);
        assert_eq!(ids(&index, "::ffff:192.0.2.8"), [2, 1]);
        assert_eq!(ids(&index, "2001:db8::1"), [3]);
        assert_eq!(ids(&index, "192.0.3.1"), [5]);
        assert_eq!(ids(&index, "203.0.113.1"), [0; 0]);
    }

    #[test]
    fn a_changed_trunk_replaces_itself_and_a_disabled_one_matches_nothing() {
        let index = TrunkIndex::new([trunk(1, 1, &["192.0.2.0/24"])].into_iter(), Arc::default());
        let moved = index.with(trunk(1, 1, &["198.51.100.0/24"]));
        assert_eq!(ids(&moved, "192.0.2.1"), [0; 0]);
        assert_eq!(ids(&moved, "198.51.100.1"), [1]);
        let mut off = Trunk::clone(&trunk(1, 1, &["192.0.2.0/24"]));
        off.enabled = false;
        let off = index.with(Arc::new(off));
        assert_eq!((ids(&off, "192.0.2.1").len(), off.all().count()), (0, 1));
        let id = TrunkId::from_uuid(Uuid::from_u128(1));
        assert!(off.without(id).get(id).is_none());
    }

    #[test]
    fn proof_is_wanted_as_long_as_a_trunk_in_use_asks_for_it() {
        let index = TrunkIndex::new([trunk(1, 1, &["192.0.2.0/24"])].into_iter(), Arc::default());
        assert!(!index.wants_proof());
        let mut asking = Trunk::clone(&trunk(2, 1, &["198.51.100.0/24"]));
        asking.required_headers = vec![("X-Token".to_owned(), Secret::new("t".to_owned()))];
        let with = index.with(Arc::new(asking.clone()));
        assert!(with.wants_proof() && with.named(Arc::default()).wants_proof());
        assert!(!with.without(asking.id).wants_proof());
        asking.enabled = false;
        assert!(!index.with(Arc::new(asking)).wants_proof());
    }

    #[test]
    fn the_addresses_of_a_trunks_names_are_its_sources_too() {
        let mut named = Trunk::clone(&trunk(1, 1, &["192.0.2.0/24"]));
        named.source_names = vec!["sip.example".to_owned()];
        let stands_for = |addresses: &[&str]| {
            let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
            Arc::new(SourceNames::from([("sip.example".to_owned(), addresses)]))
        };
        let index = TrunkIndex::new([Arc::new(named)].into_iter(), Arc::default());
        assert_eq!(ids(&index, "198.51.100.7"), [0; 0]);
        let index = index.named(stands_for(&["198.51.100.7", "2001:db8::7"]));
        for source in ["198.51.100.7", "2001:db8::7", "192.0.2.1"] {
            assert_eq!(ids(&index, source), [1], "{source}");
        }
        assert_eq!(ids(&index, "198.51.100.8"), [0; 0]);
        // It stays through changes of other trunks, and moves with the name.
        let index = index.with(trunk(2, 1, &["203.0.113.0/24"]));
        assert_eq!(ids(&index, "198.51.100.7"), [1]);
        let index = index.named(stands_for(&["198.51.100.8"]));
        assert_eq!(ids(&index, "198.51.100.7"), [0; 0]);
        assert_eq!(ids(&index, "198.51.100.8"), [1]);
    }

    #[test]
    fn ports_are_kept_for_trunks_that_are_in_use() {
        let with = |id: u128, ports: Option<std::ops::RangeInclusive<u16>>, enabled: bool| {
            let mut trunk = Trunk::clone(&trunk(id, 1, &[]));
            trunk.media.ports = ports;
            trunk.enabled = enabled;
            Arc::new(trunk)
        };
        let trunks = [
            with(1, Some(20_000..=20_003), true),
            with(2, None, true),
            with(3, Some(20_010..=20_013), false),
        ];
        let index = TrunkIndex::new(trunks.into_iter(), Arc::default());
        let kept = |index: &TrunkIndex| {
            (20_000..20_020).filter(|port| index.kept_ports().contains(*port)).collect::<Vec<_>>()
        };
        assert_eq!(kept(&index), [20_000, 20_001, 20_002, 20_003]);
        let index = index.with(with(3, Some(20_010..=20_011), true));
        assert_eq!(kept(&index), [20_000, 20_001, 20_002, 20_003, 20_010, 20_011]);
        let gone = index.without(TrunkId::from_uuid(Uuid::from_u128(1)));
        assert_eq!(kept(&gone), [20_010, 20_011]);
    }
}
