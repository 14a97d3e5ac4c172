//! Gateways of a trunk: where a call out is sent, and in which order they are tried.

use crate::routing::template::is_host;
use crate::types::name::GatewayName;
use crate::types::random::Random;
use crate::types::transport::Transport;
use std::fmt;
use std::str::FromStr;

/// Where a request is sent, apart from what stands in its Request-URI.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NextHop {
    /// A name, or an address (IPv6 in brackets).
    pub host: String,
    /// The port; `None`: by DNS, else the transport's own.
    pub port: Option<u16>,
    /// The transport; `None`: by DNS, else UDP.
    pub transport: Option<Transport>,
    /// How `host` becomes addresses.
    pub lookup: Lookup,
}

impl fmt::Display for NextHop {
    /// For people: `sbc.example:5070 over tcp (srv)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        if let Some(transport) = self.transport {
            write!(f, " over {transport}")?;
        }
        f.write_str(match self.lookup {
            Lookup::Srv => " (srv)",
            Lookup::AllAddresses => " (all its addresses)",
            Lookup::Fixed => "",
        })
    }
}

/// How the host of a next hop becomes addresses (RFC 3263).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Lookup {
    /// NAPTR, SRV, then addresses, as far as port and transport leave a choice.
    #[default]
    Srv,
    /// Addresses alone; all of them are tried.
    AllAddresses,
    /// It is an address.
    Fixed,
}

/// A SIP URI without a user, as profiles name gateways and proxies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HopUri {
    /// A name, or an address (IPv6 in brackets).
    pub host: String,
    /// The port, if one is given.
    pub port: Option<u16>,
    /// The value of `;transport=`.
    pub transport: Option<Transport>,
    /// `;lr`: it is also to stand in a Route header.
    pub loose_route: bool,
}

/// The text is no SIP URI of a gateway.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HopUriError {
    /// Another scheme.
    #[error("write sip:host or sip:host:port")]
    Scheme,
    /// RFC 5630 §3.3: a `sips:` URI asks for TLS on every hop, which no carrier promises.
    #[error("write sip: and ;transport=tls instead of sips:")]
    Sips,
    /// A user part.
    #[error("a gateway is a host: leave out the part before @")]
    User,
    /// The host.
    #[error("{0:?} is no host")]
    Host(String),
    /// The port.
    #[error("{0:?} is no port")]
    Port(String),
    /// A parameter.
    #[error("{0:?} is no parameter of a gateway: there are transport=udp, tcp or tls, and lr")]
    Parameter(String),
}

impl FromStr for HopUri {
    type Err = HopUriError;

    fn from_str(text: &str) -> Result<Self, HopUriError> {
        let scheme = text.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase());
        let rest = match scheme.as_deref() {
            Some("sip") => text.get(4..).unwrap_or_default(),
            Some("sips") => return Err(HopUriError::Sips),
            _ => return Err(HopUriError::Scheme),
        };
        let mut fields = rest.split(';');
        let place = fields.next().unwrap_or_default();
        if place.contains('@') {
            return Err(HopUriError::User);
        }
        let port_at = match place.rfind(']') {
            Some(end) => place.get(end..).and_then(|tail| tail.find(':')).map(|at| end + at),
            None => place.find(':'),
        };
        let (host, port) = match port_at.map(|at| place.split_at(at)) {
            Some((host, port)) => (host, Some(port.get(1..).unwrap_or_default())),
            None => (place, None),
        };
        if !is_host(host) {
            return Err(HopUriError::Host(host.to_owned()));
        }
        let port = match port {
            Some(text) => match text.parse() {
                Ok(port) if port != 0 => Some(port),
                _ => return Err(HopUriError::Port(text.to_owned())),
            },
            None => None,
        };
        let mut uri = Self { host: host.to_owned(), port, transport: None, loose_route: false };
        for field in fields {
            match field.split_once('=') {
                Some((name, value)) if name.eq_ignore_ascii_case("transport") => {
                    let transport = value.parse();
                    let wrong = |_| HopUriError::Parameter(field.to_owned());
                    uri.transport = Some(transport.map_err(wrong)?);
                }
                None if field.eq_ignore_ascii_case("lr") => uri.loose_route = true,
                _ => return Err(HopUriError::Parameter(field.to_owned())),
            }
        }
        Ok(uri)
    }
}

impl fmt::Display for HopUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sip:{}", self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        if let Some(transport) = self.transport {
            write!(f, ";transport={transport}")?;
        }
        if self.loose_route { f.write_str(";lr") } else { Ok(()) }
    }
}

/// A gateway of a trunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Its name, unique within the trunk.
    pub name: GatewayName,
    /// The carrier's host: `{gateway.host}` of templates, and the next hop unless there is a proxy.
    pub uri: HopUri,
    /// What requests are sent to instead.
    pub proxy: Option<HopUri>,
    /// How the next hop's host becomes addresses.
    pub lookup: Lookup,
    /// The lowest is tried first.
    pub priority: u16,
    /// Among gateways of one priority, the share of calls that try it first.
    pub weight: u16,
    /// Most calls out at once; 0 is no limit.
    pub calls_max: u32,
    /// Most new calls out per second; 0 is no limit.
    pub cps_max: u32,
}

impl Gateway {
    /// Where requests to it are sent.
    #[must_use]
    pub fn next_hop(&self) -> NextHop {
        let hop = self.proxy.as_ref().unwrap_or(&self.uri);
        NextHop {
            host: hop.host.clone(),
            port: hop.port,
            transport: hop.transport.or(self.uri.transport),
            lookup: self.lookup,
        }
    }

    /// The value of the Route header, where the proxy wants to be one (`;lr`).
    #[must_use]
    pub fn route(&self) -> Option<String> {
        let proxy = self.proxy.as_ref().filter(|proxy| proxy.loose_route)?;
        Some(format!("<{proxy}>"))
    }
}

/// The order of the gateways of one trunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// By priority; within one, at random by weight (RFC 2782).
    #[default]
    PriorityWeight,
    /// By priority; within one, each is first in turn.
    RoundRobin,
    /// By priority; within one, the one with the fewest calls is first.
    LeastCalls,
}

/// What the order of a gateway depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its place in the trunk's list.
    pub index: usize,
    /// See [`Gateway::priority`].
    pub priority: u16,
    /// See [`Gateway::weight`].
    pub weight: u16,
    /// Calls out it carries now.
    pub calls: u32,
}

/// Puts gateways into the order in which they are tried. `turn` counts the calls of the trunk.
pub fn order(strategy: Strategy, standings: &mut [Standing], turn: u64, random: &mut Random) {
    standings.sort_by_key(|standing| (standing.priority, standing.index));
    for group in standings.chunk_by_mut(|a, b| a.priority == b.priority) {
        match strategy {
            Strategy::PriorityWeight => by_weight(group, random),
            Strategy::RoundRobin => {
                let shift = usize::try_from(turn % group.len().max(1) as u64).unwrap_or(0);
                group.rotate_left(shift);
            }
            Strategy::LeastCalls => {
                // Shuffled first, so that equals share.
                by_weight(group, random);
                group.sort_by_key(|standing| standing.calls);
            }
        }
    }
}

/// RFC 2782: each place goes to one of the rest, with a chance of its weight. A weight of 0 counts as
/// a hundredth of 1, so that it is last but for luck.
fn by_weight(mut rest: &mut [Standing], random: &mut Random) {
    let weight = |standing: &Standing| (u64::from(standing.weight) * 100).max(1);
    while rest.len() > 1 {
        let sum: u64 = rest.iter().map(weight).sum();
        let mut chance = random.below(sum);
        let chosen = rest.iter().position(|standing| {
            let own = weight(standing);
            let hit = chance < own;
            chance = chance.saturating_sub(own);
            hit
        });
        rest.swap(0, chosen.unwrap_or(0));
        let Some((_, tail)) = rest.split_first_mut() else { return };
        rest = tail;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::any;
    use proptest::prop_assert;
    use proptest::prop_assert_eq;
    use proptest::proptest;

    fn standing(index: usize, priority: u16, weight: u16, calls: u32) -> Standing {
        Standing { index, priority, weight, calls }
    }

    fn indices(standings: &[Standing]) -> Vec<usize> {
        standings.iter().map(|standing| standing.index).collect()
    }

    proptest! {
        #[test]
        fn every_gateway_is_tried_once_and_a_lower_priority_first(
            list in proptest::collection::vec((0_u16..4, any::<u16>(), 0_u32..9), 0..12),
            seed in any::<u64>(),
            turn in any::<u64>(),
        ) {
            for strategy in [Strategy::PriorityWeight, Strategy::RoundRobin, Strategy::LeastCalls] {
                let mut standings: Vec<_> = list.iter().enumerate()
                    .map(|(index, (priority, weight, calls))| standing(index, *priority, *weight, *calls))
                    .collect();
                order(strategy, &mut standings, turn, &mut Random::from_seed(seed));
                prop_assert!(standings.is_sorted_by_key(|standing| standing.priority));
                let mut seen = indices(&standings);
                seen.sort_unstable();
                prop_assert_eq!(seen, (0..list.len()).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn calls_are_shared_by_weight() {
        let mut random = Random::from_seed(1);
        let mut first = [0_u32; 3];
        for _ in 0..10_000 {
            let mut standings =
                [standing(0, 1, 75, 0), standing(1, 1, 25, 0), standing(2, 1, 0, 0)];
            order(Strategy::PriorityWeight, &mut standings, 0, &mut random);
            if let Some(count) = standings.first().and_then(|s| first.get_mut(s.index)) {
                *count += 1;
            }
        }
        let [a, b, c] = first;
        assert!((7_200..7_800).contains(&a) && (2_200..2_800).contains(&b) && c < 20, "{first:?}");
    }

    #[test]
    fn round_robin_takes_turns_and_least_calls_looks_at_the_load() {
        let mut random = Random::from_seed(1);
        let list = [
            standing(0, 1, 1, 5),
            standing(1, 1, 1, 2),
            standing(2, 1, 1, 9),
            standing(3, 2, 1, 0),
        ];
        for (turn, expected) in
            [(0, [0, 1, 2, 3]), (1, [1, 2, 0, 3]), (2, [2, 0, 1, 3]), (3, [0, 1, 2, 3])]
        {
            let mut standings = list;
            order(Strategy::RoundRobin, &mut standings, turn, &mut random);
            assert_eq!(indices(&standings), expected);
        }
        let mut standings = list;
        order(Strategy::LeastCalls, &mut standings, 0, &mut random);
        assert_eq!(indices(&standings), [1, 0, 2, 3]);
    }

    #[test]
    fn the_next_hop_is_the_proxy_where_there_is_one() {
        let mut gateway = Gateway {
            name: "sbc".parse().unwrap(),
            uri: "sip:ka.ims.example;transport=udp".parse().unwrap(),
            proxy: None,
            lookup: Lookup::Fixed,
            priority: 1,
            weight: 1,
            calls_max: 0,
            cps_max: 0,
        };
        assert_eq!((gateway.next_hop().host.as_str(), gateway.route()), ("ka.ims.example", None));
        gateway.proxy = Some("sip:10.5.70.19:5060;lr".parse().unwrap());
        let hop = gateway.next_hop();
        assert_eq!((hop.host.as_str(), hop.port), ("10.5.70.19", Some(5060)));
        assert_eq!(hop.transport, Some(Transport::Udp));
        assert_eq!(gateway.route().as_deref(), Some("<sip:10.5.70.19:5060;lr>"));
    }

    #[test]
    fn a_gateway_uri_is_a_host_with_port_and_transport() {
        for good in [
            "sip:a.example",
            "sip:10.0.0.1:5070;transport=tcp",
            "sip:[2001:db8::1]:5061;transport=tls;lr",
        ] {
            assert_eq!(good.parse::<HopUri>().map(|uri| uri.to_string()), Ok(good.to_owned()));
        }
        for bad in [
            "a.example",
            "sips:a.example",
            "tel:+1555",
            "sip:x@a.example",
            "sip:",
            "sip:a:0",
            "sip:a:b",
            "sip:a;transport=sctp",
            "sip:a;user=phone",
            "sip:a b",
            "sip:a?X=y",
            "sip:[::1",
            "sip:a\r\n",
        ] {
            assert!(bad.parse::<HopUri>().is_err(), "{bad}");
        }
    }
}
