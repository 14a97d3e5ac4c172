//! The way a request of a trunk takes to one of its gateways' addresses.

use crate::net::connect::Destination;
use crate::net::connect::TlsTo;
use crate::routing::trunk::TrunkPath;
use crate::sip::locate::Target;
use crate::types::transport::Transport;
use std::sync::Arc;

/// Where requests of a trunk go for `target`; `listener` is the index of the one that Via and Contact
/// name.
#[must_use]
pub fn destination(path: &TrunkPath, target: &Target, listener: u16) -> Destination {
    Destination {
        local: path.local.clone(),
        tls: (target.transport == Transport::Tls).then(|| TlsTo {
            server_name: target.server_name.clone(),
            settings: Arc::clone(&path.tls),
        }),
        keepalive: path.keepalive,
        ..Destination::plain(target.transport, target.address, listener)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::transport::LocalEnd;
    use std::time::Duration;

    #[test]
    fn a_gateway_is_reached_as_its_trunk_says() {
        let local = LocalEnd { address: "192.0.2.9".parse().ok(), interface: None };
        let keepalive = Some(Duration::from_secs(30));
        let path = TrunkPath { local: local.clone(), keepalive, ..TrunkPath::default() };
        let target = |transport| Target {
            transport,
            address: "198.51.100.7:5061".parse().unwrap(),
            server_name: "carrier.example".to_owned(),
        };
        let secure = destination(&path, &target(Transport::Tls), 3);
        assert_eq!((secure.listener, secure.keepalive), (3, keepalive));
        assert_eq!(secure.local, local);
        let tls = secure.tls.unwrap();
        assert!(Arc::ptr_eq(&tls.settings, &path.tls) && tls.server_name == "carrier.example");
        assert_eq!(destination(&path, &target(Transport::Udp), 3).tls, None);
    }
}
