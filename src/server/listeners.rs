//! Binding every listener of the configuration, and starting them when the shards are there.

use crate::api::Tls;
use crate::config::node::Listener;
use crate::config::node::NodeConfig;
use crate::config::node::UnknownSource;
use crate::config::tls::TlsSource;
use crate::engine::ingress::Dispatcher;
use crate::engine::ingress::Gate;
use crate::engine::ingress::Stranger;
use crate::engine::shards::Shards;
use crate::engine::switch::Switch;
use crate::engine::switch::SwitchListener;
use crate::net::bind::BindError;
use crate::net::flow::Ingress;
use crate::net::tcp;
use crate::net::tcp::TcpBound;
use crate::net::tcp::TcpListener;
use crate::net::tls::server::TlsServer;
use crate::net::udp;
use crate::net::udp::UdpBound;
use crate::net::udp::UdpListener;
use crate::server::Addresses;
use crate::server::StartError;
use crate::server::certificates::Certificates;
use crate::server::certificates::Shown;
use crate::sip::endpoint::config::ListenerAddress;
use crate::types::transport::Transport;
use std::net::SocketAddr;
use std::sync::Arc;

/// Most UDP sockets of one listener by default. The kernel spreads senders over them by a hash of both
/// addresses, so a peer stays with its socket, and a carrier of few addresses fills few of them.
const UDP_SOCKETS_MAX: usize = 4;

/// With port 0 the system gives a port that is free for the first transport; where another program has it for the
/// next, another one is tried, so many in all.
const ANY_PORT_TRIES: usize = 16;

/// Where HTTP is heard, and what is shown there over TLS.
pub(super) type HttpSocket = (tokio::net::TcpListener, Option<Tls>);

/// Every socket of the node, bound but not heard yet.
pub(super) struct Bound {
    listeners: Vec<BoundListener>,
    http: tokio::net::TcpListener,
    http_tls: Option<(TlsServer, TlsSource)>,
}

struct BoundListener {
    udp: Option<UdpBound>,
    tcp: Option<TcpBound>,
    tls: Option<(TcpBound, TlsServer, TlsSource)>,
    dscp: u8,
}

/// The running listeners; dropping this ends them.
#[derive(Default)]
pub(super) struct Listening {
    udp: Vec<UdpListener>,
    streams: Vec<TcpListener>,
    certificates: Certificates,
}

impl Listening {
    /// What the TLS listeners show.
    pub(super) fn certificates(&self) -> &Certificates {
        &self.certificates
    }
}

impl Bound {
    /// Binds all sockets, or none.
    pub(super) async fn open(node: &NodeConfig) -> Result<Self, StartError> {
        let mut listeners = Vec::new();
        for listener in &node.listeners {
            let tries = if listener.bind.port() == 0 { ANY_PORT_TRIES } else { 1 };
            listeners.push(first_free(tries, || BoundListener::open(listener))?);
        }
        let http_tls = match &node.http.tls {
            Some(tls) => {
                let server = TlsServer::new(&tls.settings).map_err(StartError::HttpTls)?;
                Some((server, tls.source.clone()))
            }
            None => None,
        };
        let address = node.http.bind;
        let http = tokio::net::TcpListener::bind(address)
            .await
            .map_err(|source| StartError::Http { address, source })?;
        Ok(Self { listeners, http, http_tls })
    }

    /// What the shards write into Via and Contact.
    pub(super) fn advertised(&self, node: &NodeConfig) -> Vec<ListenerAddress> {
        node.listeners
            .iter()
            .zip(&self.listeners)
            .map(|(listener, bound)| ListenerAddress {
                host: listener.advertise_host.clone(),
                port: listener.advertise_port.unwrap_or_else(|| bound.port()),
            })
            .collect()
    }

    pub(super) fn switch_listeners(&self, node: &NodeConfig) -> Vec<Arc<SwitchListener>> {
        node.listeners
            .iter()
            .map(|listener| SwitchListener {
                name: listener.name.clone(),
                sip_host: listener.advertise_host.clone(),
                bind: listener.bind.ip(),
                rtp_address: listener.advertise_rtp,
                transports: listener.transports.clone(),
            })
            .map(Arc::new)
            .collect()
    }

    pub(super) fn gates(&self, node: &NodeConfig) -> Vec<Gate> {
        node.listeners
            .iter()
            .map(|listener| Gate {
                name: listener.name.clone(),
                stranger: match listener.unknown_source {
                    UnknownSource::Drop => Stranger::Silence,
                    UnknownSource::Refuse => Stranger::Refuse,
                },
            })
            .collect()
    }

    /// Starts every listener; from now on messages reach the shards.
    pub(super) fn start(
        self,
        switch: &Switch,
        gates: Vec<Gate>,
        shards: Shards,
    ) -> Result<(Addresses, Listening, HttpSocket), StartError> {
        let system = |what| move |source| StartError::System { what, source };
        let names: Vec<_> = gates.iter().map(|gate| gate.name.clone()).collect();
        let dispatcher = Dispatcher::new(switch, gates, shards);
        let ingress: Arc<dyn Ingress> = Arc::new(dispatcher);
        switch.flows.attach(&ingress);
        let mut sip = Vec::new();
        let mut listening = Listening::default();
        let mut shown = Vec::new();
        for ((index, bound), name) in (0_u16..).zip(self.listeners).zip(names) {
            switch.flows.classify(index, bound.dscp);
            if let Some(udp) = bound.udp {
                sip.push((name.clone(), Transport::Udp, udp.local()));
                let running = udp.start(index, &switch.flows, &ingress);
                listening.udp.push(running.map_err(system("receive datagrams"))?);
            }
            if let Some(tcp) = bound.tcp {
                sip.push((name.clone(), Transport::Tcp, tcp.local()));
                let running = tcp.start(index, &switch.flows, &ingress);
                listening.streams.push(running.map_err(system("accept connections"))?);
            }
            if let Some((tls, server, source)) = bound.tls {
                sip.push((name.clone(), Transport::Tls, tls.local()));
                let running = tls.start_tls(index, &switch.flows, &ingress, server.clone());
                listening.streams.push(running.map_err(system("accept connections"))?);
                shown.push(Shown::new(Some(name), server, source));
            }
        }
        let tls = self.http_tls.map(|(server, source)| {
            shown.push(Shown::new(None, server.clone(), source));
            let tls: Tls = Arc::new(move || server.shown());
            tls
        });
        listening.certificates = Certificates::new(shown);
        let http: SocketAddr = self.http.local_addr().map_err(system("name the HTTP socket"))?;
        Ok((Addresses { sip, http }, listening, (self.http, tls)))
    }
}

impl BoundListener {
    fn open(listener: &Listener) -> Result<Self, StartError> {
        let speaks = |transport| listener.transports.contains(&transport);
        let udp = match speaks(Transport::Udp) {
            true => Some(udp::bind(listener.bind, udp_sockets(listener))?),
            false => None,
        };
        // With port 0 both transports shall have the same one, as peers expect.
        let bind = udp.as_ref().map_or(listener.bind, UdpBound::local);
        let tcp = match speaks(Transport::Tcp) {
            true => Some(tcp::bind(bind)?),
            false => None,
        };
        let tls = match &listener.tls {
            Some(tls) => {
                let name = || listener.name.clone();
                let server = TlsServer::new(&tls.settings)
                    .map_err(|source| StartError::Tls { listener: name(), source })?;
                Some((tcp::bind_for(Transport::Tls, bind)?, server, tls.source.clone()))
            }
            None => None,
        };
        Ok(Self { udp, tcp, tls, dscp: listener.dscp })
    }

    fn port(&self) -> u16 {
        let udp = self.udp.as_ref().map(UdpBound::local);
        let tcp = self.tcp.as_ref().map(TcpBound::local);
        let tls = self.tls.as_ref().map(|(bound, ..)| bound.local());
        udp.or(tcp).or(tls).map_or(0, |local| local.port())
    }
}

/// Binds until that meets no address in use, at most so many times.
fn first_free<T>(
    tries: usize,
    mut bind: impl FnMut() -> Result<T, StartError>,
) -> Result<T, StartError> {
    for _ in 1..tries {
        match bind() {
            Err(StartError::Bind(BindError::InUse { .. })) => {}
            bound => return bound,
        }
    }
    bind()
}

fn udp_sockets(listener: &Listener) -> usize {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    listener.udp_sockets.unwrap_or(processors.min(UDP_SOCKETS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(outcomes: Vec<Result<u16, StartError>>, tries: usize) -> (Option<u16>, usize) {
        let (mut outcomes, mut asked) = (outcomes.into_iter(), 0);
        let bound = first_free(tries, || {
            asked += 1;
            outcomes.next().expect("no further try")
        });
        (bound.ok(), asked)
    }

    fn taken() -> Result<u16, StartError> {
        let (transport, address) = (Transport::Tcp, SocketAddr::from(([127, 0, 0, 1], 5_060)));
        Err(BindError::InUse { transport, address }.into())
    }

    fn forbidden() -> Result<u16, StartError> {
        let (transport, address) = (Transport::Tcp, SocketAddr::from(([127, 0, 0, 1], 506)));
        Err(BindError::Forbidden { transport, address }.into())
    }

    #[test]
    fn a_port_that_another_program_has_is_given_up_for_another_a_few_times() {
        assert_eq!(bind(vec![taken(), taken(), Ok(7)], 16), (Some(7), 3));
        assert_eq!(bind(vec![taken(), taken(), taken()], 3), (None, 3));
        assert_eq!(bind(vec![taken()], 1), (None, 1), "a port that was asked for");
        assert_eq!(bind(vec![forbidden()], 16), (None, 1), "what does not pass is not tried again");
    }
}
