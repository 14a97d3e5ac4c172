//! One stream connection: reading by frames, writing from a queue, keep-alives; over TCP or TLS.

use crate::clock;
use crate::net::end::ConnectFailure;
use crate::net::end::FlowEnd;
use crate::net::flow::FlowLimits;
use crate::net::flow::Flows;
use crate::net::flow::Ingress;
use crate::net::flow::StreamEnd;
use crate::net::tls;
use crate::sip::endpoint::flow::Flow;
use crate::sip::framing::Frame;
use crate::sip::framing::Framer;
use crate::sip::framing::PING;
use crate::sip::framing::PONG;
use crate::telemetry::metric;
use crate::telemetry::metric::Counter;
use crate::types::moment::Moment;
use bytes::Bytes;
use futures_util::FutureExt;
use socket2::SockRef;
use socket2::TcpKeepalive;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio::time::timeout_at;

/// Bytes read at once.
const READ_BYTES: usize = 4_096;
/// Messages written in one go are gathered up to this many bytes.
const WRITE_BYTES: usize = 16_384;
/// Silence after which the operating system asks whether the peer still lives.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// Longest time the operating system waits for the peer to acknowledge data: a peer that vanished is
/// noticed when something is sent to it.
#[cfg(target_os = "linux")]
const USER_TIMEOUT: Duration = Duration::from_secs(30);
/// Wait for what is queued to be written after the peer has closed its side.
const LINGER: Duration = Duration::from_secs(1);

/// What a connection is plugged into.
#[derive(Clone)]
pub(crate) struct Plug {
    pub(crate) listener: u16,
    pub(crate) flows: Flows,
    pub(crate) ingress: Arc<dyn Ingress>,
}

/// Sets what every SIP connection has: no delay, and an end to peers that vanished.
pub(crate) fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    Ok(())
}

/// What reader and keep-alive know of each other.
#[derive(Default)]
struct Pulse {
    /// How often anything was read.
    reads: AtomicU64,
    awaits_pong: AtomicBool,
    /// The peer has answered a ping.
    pongs: AtomicBool,
}

/// Serves an open connection to its end.
pub(crate) async fn serve<R, W>((read_half, write_half): (R, W), end: StreamEnd, plug: Plug)
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    let (flow, closing) = (end.flow, end.closing);
    let limits = *plug.flows.limits();
    let pulse = Pulse::default();
    let mut writer = std::pin::pin!(write(write_half, end.queue, limits.write_timeout));
    let why = guarded(async {
        tokio::select! {
            why = read(read_half, flow, &plug, &pulse) => why,
            why = &mut writer => why,
            why = beat(flow, end.keepalive, &plug, &pulse) => why,
            () = closing.notified() => FlowEnd::Told,
        }
    });
    let why = why.await.unwrap_or_else(|fault| fault);
    // Forgetting the flow ends the writer's queue; what is queued by then may still go out.
    plug.flows.remove_stream(flow.id, why);
    if matches!(why, FlowEnd::PeerClosed | FlowEnd::Garbage) {
        // Its outcome does not matter any more: the flow is closed either way.
        drop(timeout(LINGER, writer).await);
    }
    plug.ingress.flow_closed(flow.id);
    metric::count(Counter::SipFlowsClosed, why.as_str());
    tracing::debug!(remote = %flow.remote, why = why.as_str(), "a SIP connection ended");
}

/// Does what a connection is for. A fault of our own in it ends that connection alone, and ends it wholly: else its place
/// would be taken for good, and nobody learn that what waits for it waits in vain.
pub(crate) async fn guarded<T>(doing: impl Future<Output = T>) -> Result<T, FlowEnd> {
    let done = AssertUnwindSafe(doing).catch_unwind().await;
    done.map_err(|_| {
        tracing::error!("a fault of our own ended a SIP connection");
        FlowEnd::Fault
    })
}

/// Pings the peer as often as `pace` says, and ends when one that has answered before does not answer any more.
async fn beat(
    flow: Flow,
    pace: Option<watch::Receiver<Option<Duration>>>,
    plug: &Plug,
    pulse: &Pulse,
) -> FlowEnd {
    let Some(mut pace) = pace else { return std::future::pending().await };
    let patience = plug.flows.limits().pong_timeout;
    loop {
        // RFC 5626 §4.4: between 80 and 100 % of the interval, so that a thousand connections do
        // not beat as one.
        let share = 80 + u32::try_from(clock::random_u64() % 21).unwrap_or(0);
        let every = *pace.borrow_and_update();
        let wait = async {
            match every {
                Some(every) => tokio::time::sleep(every * share / 100).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = wait => {}
            // Somebody wants it more often; when nobody is left to say so, it ends from elsewhere.
            Ok(()) = pace.changed() => continue,
        }
        let before = pulse.reads.load(Ordering::Relaxed);
        pulse.awaits_pong.store(true, Ordering::Relaxed);
        if plug.flows.send(&flow, Bytes::from_static(PING)).is_err() {
            return FlowEnd::WriteTimeout;
        }
        tokio::time::sleep(patience).await;
        let silent = pulse.reads.load(Ordering::Relaxed) == before;
        if silent && pulse.pongs.load(Ordering::Relaxed) {
            return FlowEnd::NoPong;
        }
        pulse.awaits_pong.store(false, Ordering::Relaxed);
    }
}

impl Pulse {
    /// Notes what was read; true when it was the answer to a ping of ours and nothing else.
    fn read(&self, bytes: &[u8], between_messages: bool) -> bool {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let is_pong =
            between_messages && bytes == PONG && self.awaits_pong.swap(false, Ordering::Relaxed);
        if is_pong {
            self.pongs.store(true, Ordering::Relaxed);
        }
        is_pong
    }
}

/// When the next bytes are due.
fn read_deadline(message: Option<Moment>, silent_since: Moment, limits: &FlowLimits) -> Moment {
    let idle = silent_since + limits.idle_timeout;
    message.unwrap_or(idle).min(idle)
}

async fn read(mut half: impl AsyncRead + Unpin, flow: Flow, plug: &Plug, pulse: &Pulse) -> FlowEnd {
    let limits = plug.flows.limits();
    let mut framer = Framer::new();
    let mut buffer = [0; READ_BYTES];
    // A peer that connected has to say something; one we called speaks when we ask it.
    let mut spoken = plug.flows.is_ours(flow.id);
    // A message, begun or awaited for the first time, has a fixed deadline: bytes that trickle in
    // do not move it.
    let mut message_deadline = (!spoken).then(|| clock::now() + limits.message_timeout);
    let mut silent_since = clock::now();
    loop {
        let due = read_deadline(message_deadline, silent_since, limits);
        let bytes = match timeout_at(clock::instant(due).into(), half.read(&mut buffer)).await {
            Err(_) if message_deadline.is_some() => return FlowEnd::MessageTimeout,
            Err(_) if plug.ingress.needs(&flow) => {
                silent_since = clock::now();
                continue;
            }
            Err(_) => return FlowEnd::Idle,
            Ok(Err(error)) if tls::refuses_certificate(&error) => {
                return FlowEnd::Failed(ConnectFailure::CertificateRefused);
            }
            Ok(Err(_)) => return FlowEnd::Broken,
            Ok(Ok(0)) => return FlowEnd::PeerClosed,
            Ok(Ok(len)) => buffer.get(..len).unwrap_or(&[]),
        };
        // That the peer lives is no use of the connection: one that is of a trunk no more would never end.
        if pulse.read(bytes, !framer.is_within_message()) {
            continue;
        }
        silent_since = clock::now();
        framer.push(bytes);
        match take(&mut framer, flow, plug) {
            Ok(0) => {}
            Ok(_) => {
                spoken = true;
                message_deadline = None;
            }
            Err(why) => return why,
        }
        if framer.is_within_message() || !spoken {
            message_deadline.get_or_insert(clock::now() + limits.message_timeout);
        } else {
            message_deadline = None;
        }
    }
}

/// Takes every whole frame; says how many there were.
fn take(framer: &mut Framer, flow: Flow, plug: &Plug) -> Result<usize, FlowEnd> {
    let mut frames = 0;
    loop {
        match framer.next() {
            Ok(None) => return Ok(frames),
            Ok(Some(Frame::Message(message))) => plug.ingress.receive(flow, message),
            Ok(Some(Frame::Ping)) => {
                if plug.flows.send(&flow, Bytes::from_static(PONG)).is_err() {
                    return Err(FlowEnd::Told);
                }
            }
            Err(error) => {
                metric::count(Counter::SipStreamsUnframed, flow.transport.as_str());
                if let Some(answer) = error.answer(flow.remote)
                    && plug.flows.send(&flow, answer).is_err()
                {
                    metric::count(Counter::SipMessagesUnsent, "closing");
                }
                plug.ingress.unframed(flow, &error);
                return Err(FlowEnd::Garbage);
            }
        }
        frames += 1;
    }
}

async fn write(
    mut half: impl AsyncWrite + Unpin,
    mut queue: mpsc::Receiver<Bytes>,
    wait: Duration,
) -> FlowEnd {
    let mut gathered = Vec::new();
    while let Some(first) = queue.recv().await {
        gathered.clear();
        gathered.extend_from_slice(&first);
        while gathered.len() < WRITE_BYTES
            && let Ok(next) = queue.try_recv()
        {
            gathered.extend_from_slice(&next);
        }
        let written = timeout(wait, async {
            half.write_all(&gathered).await?;
            // TLS keeps back what the socket did not take.
            half.flush().await
        });
        match written.await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return FlowEnd::Broken,
            Err(_) => return FlowEnd::WriteTimeout,
        }
    }
    FlowEnd::Told
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A check that takes longer has failed.
    const PATIENCE: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_peer_that_takes_nothing_is_waited_for_so_long_and_no_longer() {
        let (half, _peer) = tokio::io::duplex(8);
        let (queued, queue) = mpsc::channel(1);
        queued.try_send(Bytes::from_static(b"more than it takes")).unwrap();
        let ended = timeout(PATIENCE, write(half, queue, Duration::from_millis(20))).await;
        assert_eq!(ended.ok(), Some(FlowEnd::WriteTimeout));
    }
}
