//! Departures: from which address of ours what we send by a flow leaves. The system chooses one where nothing
//! else is said, and whoever looks at the signalling wants to see it.

use crate::clock;
use crate::net::flow::Flows;
use crate::net::source;
use crate::sip::endpoint::flow::Flow;
use crate::sip::endpoint::flow::FlowId;
use crate::types::limit::SIP_DEPARTURES_MAX;
use crate::types::moment::Moment;
use crate::types::transport::Transport;
use std::collections::HashMap;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

/// How long the system's choice is believed: routes change.
const BELIEVED: Duration = Duration::from_secs(60);

/// What the system chose for the datagrams of a socket that is bound to every address, by where they go.
#[derive(Debug, Default)]
pub(crate) struct Departures(Mutex<HashMap<(FlowId, IpAddr), (IpAddr, Moment)>>);

impl Departures {
    fn known(&self, now: Moment, of: (FlowId, IpAddr)) -> Option<IpAddr> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&of).filter(|(_, at)| now.since(*at) < BELIEVED).map(|(address, _)| *address)
    }

    fn keep(&self, now: Moment, of: (FlowId, IpAddr), address: IpAddr) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= SIP_DEPARTURES_MAX && !all.contains_key(&of) {
            all.clear();
        }
        all.insert(of, (address, now));
    }
}

impl Flows {
    /// Our address on a flow, as its peer sees it where nothing in between writes another; that of the flow
    /// itself, where that names one or nobody can say.
    #[must_use]
    pub fn local_of(&self, flow: &Flow) -> SocketAddr {
        if !flow.local.ip().is_unspecified() {
            return flow.local;
        }
        match flow.transport {
            Transport::Udp => {
                let address = self.departure(flow).unwrap_or(flow.local.ip());
                SocketAddr::new(address, flow.local.port())
            }
            Transport::Tcp | Transport::Tls => self.local_of_stream(flow.id).unwrap_or(flow.local),
        }
    }

    fn departure(&self, flow: &Flow) -> Option<IpAddr> {
        let (now, of) = (clock::now(), (flow.id, flow.remote.ip()));
        if let Some(known) = self.departures().known(now, of) {
            return Some(known);
        }
        let interface = self.read().ways.interface_of(flow.id);
        let address = source::departure(flow.remote, interface.as_ref())?;
        self.departures().keep(now, of, address);
        Some(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::connect::Destination;
    use crate::net::flow::FlowLimits;
    use crate::net::flow::tests::Collector;
    use crate::net::flow::tests::Seen;
    use crate::net::udp;
    use bytes::Bytes;
    use tokio::io::AsyncWriteExt;

    const EVERYWHERE: [&str; 2] = ["0.0.0.0:0", "[::]:0"];
    const HERE: [&str; 2] = ["127.0.0.1:0", "[::1]:0"];

    #[tokio::test]
    async fn what_leaves_a_socket_on_every_address_is_known_by_the_address_its_peer_sees() {
        for (everywhere, here) in EVERYWHERE.into_iter().zip(HERE) {
            let flows = Flows::new(FlowLimits::default());
            let (ingress, mut seen) = Collector::connected();
            let bound = udp::bind(everywhere.parse().unwrap(), 1).unwrap();
            let listener = bound.start(0, &flows, &ingress).unwrap();
            let peer = tokio::net::UdpSocket::bind(here).await.unwrap();
            let flow = listener.flow_to(peer.local_addr().unwrap());
            for _ in 0..2 {
                flows.send(&flow, Bytes::from_static(b"OPTIONS")).unwrap();
                let (_, from) = peer.recv_from(&mut [0; 64]).await.unwrap();
                assert_eq!(flows.local_of(&flow), from);
                // So does what comes back say.
                peer.send_to(b"SIP/2.0 200 OK", from).await.unwrap();
                let Some(Seen::Message(answer, _)) = seen.recv().await else { panic!("no answer") };
                assert_eq!(flows.local_of(&answer), from);
            }
        }
    }

    #[tokio::test]
    async fn a_connection_of_ours_is_known_by_the_address_its_peer_sees_from_the_beginning() {
        for here in HERE {
            let flows = Flows::new(FlowLimits::default());
            let (ingress, mut seen) = Collector::connected();
            flows.attach(&ingress);
            let peer = tokio::net::TcpListener::bind(here).await.unwrap();
            let remote = peer.local_addr().unwrap();
            let flow = flows.connect(&Destination::plain(Transport::Tcp, remote, 0)).unwrap();
            let before = flows.local_of(&flow);
            let (mut stream, from) = peer.accept().await.unwrap();
            assert_eq!((before, flows.local_of(&flow)), (from, from));
            let answer = b"SIP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(answer).await.unwrap();
            let Some(Seen::Message(came, _)) = seen.recv().await else { panic!("no answer") };
            assert_eq!(flows.local_of(&came), from);
        }
    }

    #[test]
    fn choices_are_forgotten_in_time_and_never_too_many() {
        let departures = Departures::default();
        let address = IpAddr::from([192, 0, 2, 1]);
        let at = |ms| Moment::from_millis(ms);
        let of = |n: u64| (FlowId(n), address);
        departures.keep(at(0), of(0), address);
        assert_eq!(departures.known(at(59_999), of(0)), Some(address));
        assert_eq!(departures.known(at(60_000), of(0)), None);
        for n in 0..3 * SIP_DEPARTURES_MAX as u64 {
            departures.keep(at(n), of(n), address);
        }
        assert!(departures.0.lock().unwrap().len() <= SIP_DEPARTURES_MAX);
    }
}
