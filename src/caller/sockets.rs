//! The test caller's sockets: one way for SIP, a pair of ports for media.

use crate::caller::place::CallError;
use crate::caller::plan::CallPlan;
use crate::net::connect::TlsTo;
use crate::net::flow::FlowLimits;
use crate::net::flow::Flows;
use crate::net::flow::Ingress;
use crate::net::tcp;
use crate::net::udp;
use crate::net::udp::UdpListener;
use crate::sip::endpoint::config::ListenerAddress;
use crate::sip::endpoint::flow::Flow;
use crate::sip::endpoint::flow::FlowId;
use crate::types::transport::Transport;
use bytes::Bytes;
use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpSocket;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// How long a TCP connection may take to open.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// SIP messages that wait to be handled. Over it: dropped, as the network may.
const QUEUE_MAX: usize = 256;
/// Pairs of ports tried before media are given up.
const PORT_ATTEMPTS: usize = 64;

/// What came by SIP.
pub(super) enum SipArrival {
    Message(Flow, Bytes),
    Closed(FlowId),
}

/// The way to the other side.
pub(super) struct SipWay {
    pub(super) flow: Flow,
    pub(super) flows: Flows,
    pub(super) arrivals: mpsc::Receiver<SipArrival>,
    /// Receives as long as it is held.
    _listener: Option<UdpListener>,
}

struct Inbox(mpsc::Sender<SipArrival>);

impl Ingress for Inbox {
    fn receive(&self, flow: Flow, message: Bytes) {
        // A full queue drops what came: over UDP it comes again, and nobody fills it by calling.
        drop(self.0.try_send(SipArrival::Message(flow, message)));
    }

    fn flow_closed(&self, id: FlowId) {
        drop(self.0.try_send(SipArrival::Closed(id)));
    }
}

impl SipWay {
    /// Opens the way to `remote` from `local`.
    pub(super) async fn open(
        plan: &CallPlan,
        local: IpAddr,
        remote: SocketAddr,
    ) -> Result<Self, CallError> {
        let (queue, arrivals) = mpsc::channel(QUEUE_MAX);
        let ingress: Arc<dyn Ingress> = Arc::new(Inbox(queue));
        let flows = Flows::new(FlowLimits::default());
        match plan.target.transport() {
            Transport::Udp => {
                let bound = udp::bind(SocketAddr::new(local, plan.local_port), 1)?;
                let listener = bound.start(0, &flows, &ingress).map_err(CallError::Sockets)?;
                let flow = listener.flow_to(remote);
                Ok(Self { flow, flows, arrivals, _listener: Some(listener) })
            }
            transport @ (Transport::Tcp | Transport::Tls) => {
                let unreachable = |error| CallError::Connect(remote, error);
                let socket =
                    if local.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
                let socket = socket.map_err(CallError::Sockets)?;
                socket.bind(SocketAddr::new(local, 0)).map_err(CallError::Sockets)?;
                let stream = timeout(CONNECT_LIMIT, socket.connect(remote)).await;
                let stream = stream.map_err(|_| unreachable(io::ErrorKind::TimedOut.into()))?;
                let stream = stream.map_err(unreachable)?;
                let flow = if transport == Transport::Tls {
                    let to = tls_to(plan);
                    let secured = tcp::adopt_tls(stream, &to, (0, &flows, &ingress)).await;
                    secured.map_err(|failure| CallError::Tls(remote, failure))?
                } else {
                    tcp::adopt(stream, 0, &flows, &ingress).map_err(unreachable)?
                };
                Ok(Self { flow, flows, arrivals, _listener: None })
            }
        }
    }

    /// What Via and Contact say.
    pub(super) fn advertised(&self) -> ListenerAddress {
        let local = self.flow.local;
        ListenerAddress { host: url_host(local.ip()), port: local.port() }
    }
}

/// Whom the call expects at the other end of TLS.
fn tls_to(plan: &CallPlan) -> TlsTo {
    let server_name = plan.server_name.as_deref().unwrap_or(plan.target.host()).to_owned();
    TlsTo { server_name, settings: Arc::clone(&plan.tls) }
}

/// An address as it stands in a URI.
pub(super) fn url_host(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// The address of `target`; where a name has several, the first of the family of `local`.
pub(super) async fn resolve(plan: &CallPlan) -> Result<SocketAddr, CallError> {
    let (host, port) = (plan.target.host(), plan.target.port());
    let unknown = |error| CallError::UnknownHost(host.to_owned(), error);
    let mut found = tokio::net::lookup_host((host, port)).await.map_err(unknown)?;
    let fits = |address: &SocketAddr| plan.local.is_none_or(|l| l.is_ipv4() == address.is_ipv4());
    found.find(fits).ok_or_else(|| unknown(io::ErrorKind::AddrNotAvailable.into()))
}

/// The local address of the way to `remote`.
pub(super) async fn local_address(plan: &CallPlan, remote: SocketAddr) -> io::Result<IpAddr> {
    if let Some(local) = plan.local {
        return Ok(local);
    }
    let any: SocketAddr = if remote.is_ipv4() {
        (std::net::Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (std::net::Ipv6Addr::UNSPECIFIED, 0).into()
    };
    // Connecting a datagram socket sends nothing; it only chooses the way.
    let probe = UdpSocket::bind(any).await?;
    probe.connect(remote).await?;
    Ok(probe.local_addr()?.ip())
}

/// The sockets of RTP and RTCP.
pub(super) struct MediaPorts {
    pub(super) rtp: UdpSocket,
    pub(super) rtcp: UdpSocket,
}

impl MediaPorts {
    /// Binds an even port and the next one.
    pub(super) async fn bind(local: IpAddr) -> io::Result<Self> {
        let mut last = io::ErrorKind::AddrInUse.into();
        for _ in 0..PORT_ATTEMPTS {
            let rtp = UdpSocket::bind(SocketAddr::new(local, 0)).await?;
            let port = rtp.local_addr()?.port();
            if port % 2 == 1 {
                continue;
            }
            match UdpSocket::bind(SocketAddr::new(local, port + 1)).await {
                Ok(rtcp) => return Ok(Self { rtp, rtcp }),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}
