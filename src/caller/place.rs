//! Places a call: the shell of the test caller, with sockets, files and the clock.

use crate::caller::call::CallSetup;
use crate::caller::call::Caller;
use crate::caller::call::Input;
use crate::caller::call::Output;
use crate::caller::call::State;
use crate::caller::call::local_media;
use crate::caller::line::Line;
use crate::caller::plan::CallPlan;
use crate::caller::plan::Speech;
use crate::caller::sockets;
use crate::caller::sockets::MediaPorts;
use crate::caller::sockets::SipArrival;
use crate::caller::sockets::SipWay;
use crate::caller::sockets::url_host;
use crate::caller::summary::CallSummary;
use crate::caller::voice::Voice;
use crate::clock;
use crate::engine::wav;
use crate::engine::wav::Recorder;
use crate::engine::wav::WavError;
use crate::net::bind::BindError;
use crate::net::end::ConnectFailure;
use crate::sdp::SrtpTerms;
use crate::sip::digest::client::Account;
use crate::sip::endpoint::Endpoint;
use crate::sip::endpoint::config::EndpointConfig;
use crate::sip::endpoint::config::Timers;
use crate::sip::endpoint::outbound::OutboundInvite;
use crate::sip::endpoint::policy::DialogPolicy;
use crate::types::limit::RTP_PACKET_BYTES_MAX;
use crate::types::moment::Moment;
use crate::types::transport::DatagramRule;
use crate::types::transport::Oversize;
use bytes::Bytes;
use std::io;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep_until;

/// How long SIP is answered after the end: a BYE of the other side may come twice, and what waits to
/// be written to a connection goes out.
const LINGER: Duration = Duration::from_millis(200);
/// Where nothing comes from.
const NOBODY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
/// How often progress is told.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// A call could not be placed, for a reason on this side.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The name of the target has no address.
    #[error("{0} has no address")]
    UnknownHost(String, #[source] io::Error),
    /// There is no way to the target.
    #[error("there is no way to {0}")]
    NoRoute(SocketAddr, #[source] io::Error),
    /// The SIP port cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The target does not take the connection.
    #[error("cannot connect to {0}")]
    Connect(SocketAddr, #[source] io::Error),
    /// The target does not prove who it is, or does not speak TLS.
    #[error("no TLS with {0}")]
    Tls(SocketAddr, #[source] ConnectFailure),
    /// The system gives no sockets.
    #[error("cannot open sockets")]
    Sockets(#[source] io::Error),
    /// What to say cannot be read, or what was heard not written.
    #[error("{0}")]
    Wav(#[from] WavError),
}

/// Where a call stands, for who watches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Nobody answered yet.
    #[default]
    Calling,
    /// Both may speak.
    Talking,
    /// It is being ended, or over.
    Ending,
}

/// How far a call is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Where it stands.
    pub phase: Phase,
    /// Since the answer; zero before.
    pub talked: Duration,
    /// RTP packets sent.
    pub sent: u64,
    /// RTP packets received.
    pub received: u64,
}

/// The strings of a running call.
#[derive(Debug)]
pub struct Control {
    /// Becomes true when the call shall end; a sender that is gone never ends it.
    pub stop: watch::Receiver<bool>,
    /// Is told how far the call is, ten times a second.
    pub progress: watch::Sender<Progress>,
}

/// Calls, talks, hangs up, and tells how it went.
///
/// # Errors
///
/// When the call could not be placed at all, or its recording not be written. A call that failed is a
/// summary with a problem.
pub async fn place(plan: CallPlan) -> Result<CallSummary, CallError> {
    let (_stop, stop) = watch::channel(false);
    let (progress, _progress) = watch::channel(Progress::default());
    place_controlled(plan, Control { stop, progress }).await
}

/// Like [`place`], for one who watches and may end the call.
///
/// # Errors
///
/// Those of [`place`].
pub async fn place_controlled(plan: CallPlan, control: Control) -> Result<CallSummary, CallError> {
    let voice = match &plan.speech {
        Speech::Silence => Voice::Silent,
        Speech::Tone { hz } => Voice::tone(*hz),
        Speech::Wav(path) => Voice::samples(wav::read(path)?),
    };
    let recorder = plan.record.as_deref().map(Recorder::create).transpose()?;
    let remote = sockets::resolve(&plan).await?;
    let local = sockets::local_address(&plan, remote).await;
    let local = local.map_err(|error| CallError::NoRoute(remote, error))?;
    let ports = MediaPorts::bind(local).await.map_err(CallError::Sockets)?;
    let way = SipWay::open(&plan, local, remote).await?;
    let mut out = Vec::new();
    let caller = dial(&plan, voice, (&way, &ports), &mut out)?;
    let mut running = Running { caller, way, ports, recorder, broken: None, out };
    running.talk(control).await;
    running.finish().await
}

fn dial(
    plan: &CallPlan,
    voice: Voice,
    (way, ports): (&SipWay, &MediaPorts),
    out: &mut Vec<Output>,
) -> Result<Caller, CallError> {
    let endpoint = Endpoint::new(EndpointConfig {
        seed: clock::random_u64(),
        product: concat!("tandem-call/", env!("CARGO_PKG_VERSION")).to_owned(),
        listeners: vec![way.advertised()],
        timers: Timers::default(),
        policy: DialogPolicy::default(),
        takes_replaces: false,
    });
    let rtp = ports.rtp.local_addr().map_err(CallError::Sockets)?;
    let rtcp = ports.rtcp.local_addr().map_err(CallError::Sockets)?;
    let account = plan.account.as_ref();
    let from = format!("sip:{}@{}", plan.from_user, url_host(rtp.ip()));
    // A tool for tests sends what it has by the way it was told.
    let datagrams = DatagramRule { oversize: Oversize::Fragment, ..DatagramRule::default() };
    let setup = CallSetup {
        invite: OutboundInvite {
            contact_user: plan.from_user.clone(),
            accounts: account
                .map(|account| Account::new(&account.user, account.password.clone()))
                .into_iter()
                .collect(),
            policy: DialogPolicy { datagrams, ..DialogPolicy::default() },
            ..OutboundInvite::new(way.flow, plan.target.uri(), &from)
        },
        // RFC 8866 §5.2: a number that is 64 bits wide, and 63 for parsers with signed ones.
        media: local_media(rtp, rtcp.port(), clock::random_u64() >> 1),
        codecs: plan.codecs.clone(),
        // A tool for tests tries keys over any transport.
        srtp: SrtpTerms {
            policy: plan.srtp,
            keys: plan.srtp_suites.iter().map(|suite| clock::new_srtp_key(*suite)).collect(),
            exposed: false,
        },
        duration: plan.duration,
        answer_limit: plan.answer_limit,
        needs_sound: plan.needs_sound,
        has_keys: !plan.digits.is_empty(),
    };
    let line = Line::new(clock::random_u64(), voice, &plan.digits);
    Ok(Caller::dial(clock::now(), (endpoint, line), setup, out))
}

/// A call and what it runs on.
struct Running {
    caller: Caller,
    way: SipWay,
    ports: MediaPorts,
    recorder: Option<Recorder>,
    /// The first fault of the recording; the call goes on without it.
    broken: Option<WavError>,
    out: Vec<Output>,
}

impl Running {
    async fn talk(&mut self, mut control: Control) {
        let mut rtp = vec![0; RTP_PACKET_BYTES_MAX];
        let mut rtcp = vec![0; RTP_PACKET_BYTES_MAX];
        let mut told = Moment::START;
        let mut stopped = false;
        self.perform().await;
        while self.caller.state() != State::Done {
            let deadline = self.caller.deadline();
            let input = tokio::select! {
                arrival = self.way.arrivals.recv() => match arrival {
                    Some(arrival) => input(arrival),
                    None => Input::HangUp,
                },
                read = self.ports.rtp.recv_from(&mut rtp) => media(read, &rtp),
                read = self.ports.rtcp.recv_from(&mut rtcp) => media(read, &rtcp),
                () = until(deadline) => Input::DeadlineReached,
                () = told_to_stop(&mut control.stop), if !stopped => {
                    stopped = true;
                    Input::HangUp
                }
            };
            let now = clock::now();
            self.caller.handle(now, input, &mut self.out);
            self.perform().await;
            if now.since(told) >= PROGRESS_INTERVAL {
                told = now;
                control.progress.send_replace(self.progress(now));
            }
        }
        control.progress.send_replace(self.progress(clock::now()));
    }

    /// Answers SIP a little longer, completes the recording, and tells how it went.
    async fn finish(mut self) -> Result<CallSummary, CallError> {
        let end = Some(clock::now() + LINGER);
        loop {
            let arrival = tokio::select! {
                arrival = self.way.arrivals.recv() => arrival,
                () = until(end) => None,
            };
            let Some(arrival) = arrival else { break };
            self.caller.handle(clock::now(), input(arrival), &mut self.out);
            self.perform().await;
        }
        let finished = self.recorder.take().map_or(Ok(()), Recorder::finish);
        match self.broken.take() {
            Some(error) => Err(error.into()),
            None => finished.map(|()| self.caller.summary()).map_err(CallError::from),
        }
    }

    fn progress(&self, now: Moment) -> Progress {
        let phase = match self.caller.state() {
            State::Calling { .. } => Phase::Calling,
            State::Talking { .. } => Phase::Talking,
            State::Cancelling { .. } | State::Leaving { .. } | State::Done => Phase::Ending,
        };
        let talked = self.caller.answered().map_or(Duration::ZERO, |answered| now.since(answered));
        let (sent, received) = self.caller.packets();
        Progress { phase, talked, sent, received }
    }

    /// Does what the call wants. What cannot be sent is lost, as the network may lose it.
    async fn perform(&mut self) {
        for output in self.out.drain(..) {
            match output {
                Output::Sip { flow, bytes } => drop(self.way.flows.send(&flow, bytes)),
                Output::Rtp { bytes, to } => drop(self.ports.rtp.send_to(&bytes, to).await),
                Output::Rtcp { bytes, to } => drop(self.ports.rtcp.send_to(&bytes, to).await),
                Output::Heard(frame) => {
                    let written = self.recorder.as_mut().map(|recorder| recorder.write(&frame));
                    if let Some(Err(error)) = written {
                        self.broken.get_or_insert(error);
                        self.recorder = None;
                    }
                }
            }
        }
    }
}

fn input(arrival: SipArrival) -> Input {
    match arrival {
        SipArrival::Message(flow, message) => Input::Sip { flow, message },
        SipArrival::Closed(id) => Input::FlowClosed(id),
    }
}

/// A datagram of a media port. An error is a report about something sent before, and is nothing.
fn media(read: io::Result<(usize, SocketAddr)>, buffer: &[u8]) -> Input {
    let (length, from) = read.unwrap_or((0, NOBODY));
    let datagram = Bytes::copy_from_slice(buffer.get(..length).unwrap_or(&[]));
    Input::Media { from, datagram }
}

async fn until(moment: Option<Moment>) {
    match moment {
        Some(moment) => sleep_until(clock::instant(moment).into()).await,
        None => std::future::pending().await,
    }
}

async fn told_to_stop(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending().await
    }
}
