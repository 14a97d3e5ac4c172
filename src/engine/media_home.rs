//! Where the media of a leg live: what their sockets are bound to, and the address its peer is told.

use crate::engine::media_thread::RtpLocal;
use crate::engine::switch::SwitchListener;
use crate::routing::trunk::Trunk;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::sync::Arc;

/// Where the media of a leg live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MediaHome {
    /// What their sockets are bound to.
    pub(super) local: RtpLocal,
    /// The address its peer is told.
    pub(super) advertised: IpAddr,
}

impl MediaHome {
    /// The home of a leg whose signalling goes by `listener`, one of `all`, and by `trunk`, to a peer that
    /// is reached over IPv6 or not.
    ///
    /// It is the listener's, or that of the first one of the peer's family. A trunk that says where its
    /// media are takes them to the source address and the interface of its requests, if it names them: on a
    /// private hand-off the listener's address is nobody's.
    pub(super) fn of(
        all: &[Arc<SwitchListener>],
        listener: &SwitchListener,
        trunk: Option<&Trunk>,
        is_ipv6: bool,
    ) -> Self {
        let said = trunk.and_then(|trunk| trunk.media.advertise_rtp);
        let is_ipv6 = said.map_or(is_ipv6, |address| address.is_ipv6());
        let fits = |own: &&SwitchListener| own.rtp_address.is_ipv6() == is_ipv6;
        let own = std::iter::once(listener)
            .chain(all.iter().map(Arc::as_ref))
            .find(fits)
            .unwrap_or(listener);
        let advertised = said.unwrap_or(own.rtp_address);
        let of_family = |address: &IpAddr| address.is_ipv6() == advertised.is_ipv6();
        let end = trunk.map(|trunk| &trunk.path.local).filter(|_| said.is_some());
        let interface = end.and_then(|end| end.interface.clone());
        // The address of a listener may be on another interface.
        let of_listener = Some(own.bind).filter(|_| interface.is_none());
        let source = end.and_then(|end| end.address).or(of_listener);
        let address = source.filter(of_family).unwrap_or_else(|| any_like(advertised));
        Self { local: RtpLocal { address, interface }, advertised }
    }
}

const fn any_like(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::id::TrunkId;
    use crate::types::transport::LocalEnd;
    use uuid::Uuid;

    fn listener(name: &str, bind: &str, rtp: &str) -> Arc<SwitchListener> {
        Arc::new(SwitchListener {
            name: name.parse().unwrap(),
            sip_host: rtp.to_owned(),
            bind: bind.parse().unwrap(),
            rtp_address: rtp.parse().unwrap(),
            transports: Vec::new(),
        })
    }

    /// A trunk with source address, interface and media address; empty: none.
    fn trunk(said: [&str; 3]) -> Trunk {
        let mut trunk = Trunk::new(TrunkId::from_uuid(Uuid::from_u128(3)), "t", Vec::new());
        let [address, interface, advertised] = said;
        trunk.path.local =
            LocalEnd { address: address.parse().ok(), interface: interface.parse().ok() };
        trunk.media.advertise_rtp = advertised.parse().ok();
        trunk
    }

    #[test]
    fn media_live_where_the_signalling_of_their_leg_goes_out() {
        let all = [
            listener("public", "0.0.0.0", "203.0.113.10"),
            listener("private", "10.1.1.2", "10.1.1.2"),
            listener("six", "2001:db8::1", "2001:db8::1"),
        ];
        let [public, private, six] = &all;
        let check =
            |listener: &Arc<SwitchListener>, said: Option<[&str; 3]>, is_ipv6, expected: &str| {
                let trunk = said.map(trunk);
                let home = MediaHome::of(&all, listener, trunk.as_ref(), is_ipv6);
                let by = home.local.interface.map(|name| format!("%{name}")).unwrap_or_default();
                let text = format!("{}{by} {}", home.local.address, home.advertised);
                assert_eq!(text, expected, "{listener:?} {said:?} {is_ipv6}");
            };
        let nothing = Some(["", "", ""]);
        check(public, None, false, "0.0.0.0 203.0.113.10");
        check(private, nothing, false, "10.1.1.2 10.1.1.2");
        check(six, nothing, true, "2001:db8::1 2001:db8::1");
        // A peer of another family than the listener that its requests name.
        check(public, nothing, true, "2001:db8::1 2001:db8::1");
        check(six, None, false, "0.0.0.0 203.0.113.10");
        // What a trunk says of itself; a NAT stands before an address that is said alone.
        check(public, Some(["", "", "198.51.100.7"]), false, "0.0.0.0 198.51.100.7");
        check(private, Some(["", "", "198.51.100.7"]), false, "10.1.1.2 198.51.100.7");
        check(public, Some(["10.8.0.2", "", "10.8.0.2"]), false, "10.8.0.2 10.8.0.2");
        check(private, Some(["10.8.0.2", "eth1", "10.8.0.2"]), false, "10.8.0.2%eth1 10.8.0.2");
        check(private, Some(["", "eth1", "10.8.0.2"]), false, "0.0.0.0%eth1 10.8.0.2");
        // Without its own media address it has the listener's, on whatever interface that is.
        check(private, Some(["10.8.0.2", "eth1", ""]), false, "10.1.1.2 10.1.1.2");
        // The address that is said decides the family, also where nothing else is of it.
        check(private, Some(["10.8.0.2", "", "2001:db8::9"]), false, ":: 2001:db8::9");
        let lonely = MediaHome::of(&all[1..2], private, None, true);
        assert_eq!(lonely.advertised, private.rtp_address, "nothing else is there");
    }
}
