//! Who calls: the test caller for calls with media, and bare requests for everything before.

use crate::node::PATIENCE;
use crate::node::wait_for;
use std::net::SocketAddr;
use std::time::Duration;
use tandem::caller;
use tandem::caller::CallError;
use tandem::caller::CallPlan;
use tandem::caller::CallSummary;
use tandem::caller::Control;
use tandem::caller::Phase;
use tandem::caller::Progress;
use tandem::caller::Speech;
use tandem::clock;
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// The caller's number.
pub(crate) const CALLER: &str = "+15550177";
/// What the caller says, in Hz.
pub(crate) const CALLER_HZ: u16 = 440;
/// When a request is repeated that was not answered.
const REPEAT: Duration = Duration::from_millis(500);
/// How long silence is listened to before it counts as one.
const SILENCE: Duration = Duration::from_millis(300);

/// A call that says a tone to `number` until it is ended.
pub(crate) fn plan(switch: SocketAddr, number: &str) -> CallPlan {
    let mut plan = CallPlan::new(format!("sip:{number}@{switch}").parse().unwrap());
    plan.from_user = CALLER.to_owned();
    plan.speech = Speech::Tone { hz: CALLER_HZ };
    plan.duration = PATIENCE;
    plan
}

/// A running call.
pub(crate) struct Talk {
    stop: watch::Sender<bool>,
    progress: watch::Receiver<Progress>,
    task: JoinHandle<Result<CallSummary, CallError>>,
}

impl Talk {
    pub(crate) fn dial(plan: CallPlan) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (told, progress) = watch::channel(Progress::default());
        let control = Control { stop: stopped, progress: told };
        Self { stop, progress, task: tokio::spawn(caller::place_controlled(plan, control)) }
    }

    /// Dials and waits for the answer.
    pub(crate) async fn answered(plan: CallPlan) -> Self {
        let mut talk = Self::dial(plan);
        talk.until(|progress| progress.phase == Phase::Talking).await;
        talk
    }

    /// Waits until the call is so far.
    pub(crate) async fn until(&mut self, so_far: impl Fn(&Progress) -> bool) {
        let reached = timeout(PATIENCE, self.progress.wait_for(so_far)).await;
        let reached = reached.expect("the call goes on in time").is_ok();
        assert!(reached, "the call ended: {:?}", (&mut self.task).await);
    }

    /// Waits for `count` more packets of audio.
    pub(crate) async fn hear(&mut self, count: u64) {
        let due = self.progress.borrow().received + count;
        self.until(|progress| progress.received >= due).await;
    }

    /// Hangs up.
    pub(crate) async fn hang_up(self) -> CallSummary {
        self.stop.send_replace(true);
        self.over().await
    }

    /// Waits until the other side has ended the call. The header of every packet of the switch must have been as it
    /// should.
    pub(crate) async fn over(self) -> CallSummary {
        let over = timeout(PATIENCE, self.task).await.expect("the call ends");
        let summary = over.unwrap().unwrap();
        let headers = summary.media.headers;
        assert_eq!(headers.total(), 0, "RTP of the switch is wrong: {headers:?}");
        // But for a few on their way when it was told to send from elsewhere.
        assert!(summary.media.judged + 5 >= summary.media.received, "{:?}", summary.media);
        summary
    }
}

/// A SIP peer that sends bare requests over UDP.
pub(crate) struct Peer {
    socket: UdpSocket,
    switch: SocketAddr,
}

/// A response, as it came.
#[derive(Debug)]
pub(crate) struct Response(String);

impl Response {
    pub(crate) fn status(&self) -> u16 {
        self.0.split(' ').nth(1).unwrap().parse().unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.0.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Status, the cause in `Reason`, and whether there is a `Retry-After`.
    pub(crate) fn refusal(&self) -> (u16, &str, bool) {
        let text = self.header("Reason").and_then(|reason| reason.split_once("text=\""));
        let cause = text.map_or("", |(_, text)| text.trim_end_matches('"'));
        (self.status(), cause, self.header("Retry-After").is_some())
    }
}

impl Peer {
    pub(crate) async fn at(address: &str, switch: SocketAddr) -> Self {
        Self { socket: UdpSocket::bind((address, 0)).await.unwrap(), switch }
    }

    /// Sends an INVITE without an offer; its final response, which is acknowledged.
    pub(crate) async fn invite(&self, number: &str) -> Response {
        let call = Call::new(self, number);
        let response = self.exchange(&call.request("INVITE", "")).await;
        let to = response.header("To").unwrap();
        let ack = call.request("ACK", to.split_once(";tag=").map_or("", |(_, tag)| tag));
        self.socket.send_to(ack.as_bytes(), self.switch).await.unwrap();
        response
    }

    pub(crate) async fn options(&self) -> Response {
        self.exchange(&Call::new(self, "ping").request("OPTIONS", "")).await
    }

    /// Sends one request and nothing more.
    pub(crate) async fn send(&self, method: &str, number: &str) {
        let request = Call::new(self, number).request(method, "");
        self.socket.send_to(request.as_bytes(), self.switch).await.unwrap();
    }

    /// Whether nothing comes.
    pub(crate) async fn hears_nothing(&self) -> bool {
        timeout(SILENCE, self.socket.recv(&mut [0; 1])).await.is_err()
    }

    /// How many messages have come, until no more do.
    pub(crate) async fn count_answers(&self) -> u64 {
        let mut count = 0;
        while timeout(SILENCE, self.socket.recv(&mut [0; 1])).await.is_ok() {
            count += 1;
        }
        count
    }

    /// Sends a request until its final response is there.
    async fn exchange(&self, request: &str) -> Response {
        let mut buffer = vec![0; 65_536];
        let sent = async || self.socket.send_to(request.as_bytes(), self.switch).await.unwrap();
        sent().await;
        wait_for("a final response", async || {
            match timeout(REPEAT, self.socket.recv(&mut buffer)).await {
                Ok(length) => {
                    let text = String::from_utf8_lossy(&buffer[..length.unwrap()]).into_owned();
                    Some(Response(text)).filter(|response| response.status() >= 200)
                }
                Err(_) => {
                    sent().await;
                    None
                }
            }
        })
        .await
    }
}

/// What the requests of one call share.
struct Call {
    local: SocketAddr,
    target: String,
    id: u64,
}

impl Call {
    fn new(peer: &Peer, number: &str) -> Self {
        let local = peer.socket.local_addr().unwrap();
        Self { local, target: format!("sip:{number}@{}", peer.switch), id: clock::random_u64() }
    }

    fn request(&self, method: &str, to_tag: &str) -> String {
        let Self { local, target, id } = self;
        let tag = if to_tag.is_empty() { String::new() } else { format!(";tag={to_tag}") };
        format!(
            "{method} {target} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bK{id:x}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:{CALLER}@{local}>;tag=f{id:x}\r\nTo: <{target}>{tag}\r\n\
             Call-ID: {id:x}@end-to-end\r\nCSeq: 1 {method}\r\nContact: <sip:{local}>\r\n\
             Content-Length: 0\r\n\r\n"
        )
    }
}
