//! A telephone written from the RFCs and nothing of ours: one dialog over UDP, message by message.

#![allow(dead_code, reason = "each test program uses a part")]
#![allow(unreachable_pub, reason = "shared by several test programs")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed check may panic")]
#![allow(clippy::string_slice, clippy::indexing_slicing, reason = "a failed check may panic")]

#[path = "media.rs"]
pub mod media;

use media::Media;
use media::agreed::Side;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;
use tandem::clock;
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// Longest wait for an answer.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How long silence is listened to before it counts as one.
pub const SILENCE: Duration = Duration::from_millis(400);

/// A message from the switch.
#[derive(Clone, Debug)]
pub struct Heard {
    pub start: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Heard {
    /// Reads a message.
    ///
    /// # Panics
    ///
    /// When it has no head.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {text}"));
        let mut lines = head.split("\r\n");
        let start = lines.next().unwrap().to_owned();
        let header = |line: &str| {
            let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("{line} in {text}"));
            (name.trim().to_lowercase(), value.trim().to_owned())
        };
        Self { start, headers: lines.map(header).collect(), body: body.to_owned() }
    }

    /// The status of a response; 0 for a request.
    #[must_use]
    pub fn status(&self) -> u16 {
        let status = self.start.strip_prefix("SIP/2.0 ").and_then(|rest| rest.get(..3));
        status.map_or(0, |status| status.parse().unwrap())
    }

    /// The first header of that lower-case name; empty without one.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.all(name).into_iter().next().unwrap_or_default()
    }

    /// All headers of that lower-case name.
    #[must_use]
    pub fn all(&self, name: &str) -> Vec<&str> {
        let own = self.headers.iter().filter(|(own, _)| own == name);
        own.map(|(_, value)| value.as_str()).collect()
    }

    /// The port of the audio line of its session description.
    #[must_use]
    pub fn audio_port(&self) -> u16 {
        let line = self.body.lines().find_map(|line| line.strip_prefix("m=audio "));
        line.and_then(|line| line.split(' ').next()?.parse().ok()).unwrap_or_default()
    }
}

/// Two ports in a row, for RTP and RTCP.
async fn media_ports(local: IpAddr) -> (UdpSocket, UdpSocket) {
    for _ in 0..100 {
        let media = UdpSocket::bind((local, 0)).await.unwrap();
        let Some(next) = media.local_addr().unwrap().port().checked_add(1) else { continue };
        if let Ok(reports) = UdpSocket::bind((local, next)).await {
            return (media, reports);
        }
    }
    panic!("no two free ports in a row at {local}");
}

/// One telephone with one dialog.
#[derive(Debug)]
pub struct Phone {
    pub socket: UdpSocket,
    pub switch: SocketAddr,
    /// Where it takes RTP, each packet of which is checked.
    pub media: Media,
    /// The port after that one, to which the reports go (RFC 3550 section 11): were it free, they would reach whatever
    /// other telephone comes to sit there.
    reports: UdpSocket,
    pub call_id: String,
    tag: String,
    user: String,
    /// The switch's tag, as `;tag=...`.
    to_tag: String,
    target: String,
    pub cseq: u32,
    /// The Via of the INVITE that had its final response: what comes with it again was repeated meanwhile.
    settled: Mutex<String>,
}

impl Phone {
    /// A telephone at `local` that is about to call `user` at `switch`.
    pub async fn new(local: IpAddr, switch: SocketAddr, user: &str) -> Self {
        let random = clock::random_u64();
        let (media, reports) = media_ports(local).await;
        Self {
            socket: UdpSocket::bind((local, 0)).await.unwrap(),
            switch,
            media: Media::new(media),
            reports,
            call_id: format!("{random:016x}@{local}"),
            tag: format!("t{random:x}"),
            user: user.to_owned(),
            to_tag: String::new(),
            target: format!("sip:{user}@{switch}"),
            cseq: 0,
            settled: Mutex::default(),
        }
    }

    /// Takes its media elsewhere, on ports of this address.
    pub async fn move_media(&mut self, local: IpAddr) {
        let (media, reports) = media_ports(local).await;
        (self.media, self.reports) = (Media::instead_of(media, &self.media), reports);
    }

    /// The address it signals from.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    /// An offer or answer with a-law, mu-law and telephone events.
    #[must_use]
    pub fn sdp(&self) -> String {
        let media = self.media.local_addr().unwrap();
        let family = if media.is_ipv4() { "IP4" } else { "IP6" };
        format!(
            "v=0\r\no=- 1 1 IN {2} {0}\r\ns=-\r\nc=IN {2} {0}\r\nt=0 0\r\n\
             m=audio {1} RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\n",
            media.ip(),
            media.port(),
            family
        )
    }

    /// A request of this dialog with the next sequence number, but for ACK and CANCEL.
    pub fn request(&mut self, method: &str, headers: &str, body: &str) -> String {
        if !matches!(method, "ACK" | "CANCEL") {
            self.cseq += 1;
        }
        self.request_as(method, &format!("z9hG4bK{:x}", clock::random_u64()), headers, body)
    }

    /// The same with a given branch and the sequence number of now. `headers` end with CRLF each.
    #[must_use]
    pub fn request_as(&self, method: &str, branch: &str, headers: &str, body: &str) -> String {
        let (local, Self { tag, user, to_tag, target, switch, .. }) = (self.local(), self);
        let mut text = format!(
            "{method} {target} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch={branch}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:+15557702@{local}>;tag={tag}\r\n\
             To: <sip:{user}@{switch}>{to_tag}\r\nCall-ID: {}\r\nCSeq: {} {method}\r\n\
             Contact: <sip:phone@{local}>\r\n{headers}",
            self.call_id, self.cseq
        );
        if body.starts_with("v=0") {
            text += "Content-Type: application/sdp\r\n";
        }
        text + &format!("Content-Length: {}\r\n\r\n{body}", body.len())
    }

    /// Sends bytes as they are.
    pub async fn send(&self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        self.media.signalled(Side::Telephone, &String::from_utf8_lossy(bytes));
        self.socket.send_to(bytes, self.switch).await.unwrap();
    }

    /// The next message within `limit`.
    pub async fn hear_within(&self, limit: Duration) -> Option<Heard> {
        let mut buffer = vec![0; 65_535];
        let mut message = async || loop {
            let (length, _) = self.socket.recv_from(&mut buffer).await.unwrap();
            // Media of a call of somebody else, whose telephone sat here before: its first byte says so (RFC 7983).
            if !(128..=191).contains(buffer.first().unwrap_or(&0)) || length == 0 {
                let text = String::from_utf8_lossy(&buffer[..length]);
                self.media.signalled(Side::Switch, &text);
                return Heard::read(&text);
            }
        };
        timeout(limit, message()).await.ok()
    }

    /// The next message.
    pub async fn hear(&self) -> Heard {
        self.hear_within(PATIENCE).await.expect("the switch said nothing")
    }

    /// The final response to the request of now with `method`.
    pub async fn outcome(&self, method: &str) -> Heard {
        let own = format!("{} {method}", self.cseq);
        loop {
            let heard = self.hear().await;
            if heard.status() >= 200 && heard.header("cseq") == own {
                return heard;
            }
        }
    }

    /// Sends a request and waits for its final response.
    pub async fn ask(&mut self, method: &str, headers: &str, body: &str) -> Heard {
        let request = self.request(method, headers, body);
        self.send(request).await;
        self.outcome(method).await
    }

    /// Calls, and acknowledges the answer.
    ///
    /// # Panics
    ///
    /// When the call is refused.
    pub async fn call(&mut self, headers: &str) -> Heard {
        let offer = self.sdp();
        let answer = self.ask("INVITE", headers, &offer).await;
        assert_eq!(answer.status(), 200, "{answer:?}");
        self.confirm(&answer);
        self.acknowledge().await;
        answer
    }

    /// Calls, is refused or challenged, and acknowledges that.
    pub async fn call_in_vain(&mut self, headers: &str, body: &str) -> Heard {
        let branch = format!("z9hG4bK{:x}", clock::random_u64());
        self.cseq += 1;
        self.send(self.request_as("INVITE", &branch, headers, body)).await;
        let refusal = self.outcome("INVITE").await;
        self.send(self.ack_of_refusal(&refusal, &branch)).await;
        refusal
    }

    /// Sends the ACK of the INVITE of now. That of a refusal should have the INVITE's branch: see
    /// [`Phone::ack_of_refusal`].
    pub async fn acknowledge(&mut self) {
        let ack = self.request("ACK", "", "");
        self.send(ack).await;
    }

    /// The ACK of a refused INVITE with `branch`.
    #[must_use]
    pub fn ack_of_refusal(&self, refusal: &Heard, branch: &str) -> String {
        let ack = self.request_as("ACK", branch, "", "");
        let to = format!("To: <sip:{}@{}>", self.user, self.switch);
        let at = refusal.header("to").find(";tag=").unwrap_or_default();
        ack.replace(&to, &format!("{to}{}", &refusal.header("to")[at..]))
    }

    /// Takes the dialog from an answer.
    pub fn confirm(&mut self, answer: &Heard) {
        let to = answer.header("to");
        let at = to.find(";tag=").unwrap_or_else(|| panic!("no tag: {to}"));
        to[at..].clone_into(&mut self.to_tag);
        let contact = answer.header("contact");
        let uri = contact.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
        uri.unwrap_or_else(|| panic!("no contact: {answer:?}")).0.clone_into(&mut self.target);
    }

    /// Call-ID, the switch's tag and its own, of its dialog.
    #[must_use]
    pub fn dialog(&self) -> [&str; 3] {
        [&self.call_id, self.to_tag.trim_start_matches(";tag="), &self.tag]
    }

    /// Hangs up.
    pub async fn hang_up(&mut self) {
        assert_eq!(self.ask("BYE", "", "").await.status(), 200);
    }

    /// Answers a request of the switch.
    pub async fn answer(&self, request: &Heard, status: &str) {
        self.send(Self::response(request, status, "")).await;
    }

    /// Answers a request of the switch with a session description.
    pub async fn answer_with(&self, request: &Heard, status: &str, sdp: &str) {
        let headers =
            format!("Contact: <sip:phone@{}>\r\nContent-Type: application/sdp\r\n", self.local());
        let response = Self::response(request, status, &headers);
        let head = response.replace("Content-Length: 0", &format!("Content-Length: {}", sdp.len()));
        self.send(head + sdp).await;
    }

    /// Takes the dialog of an INVITE of the switch.
    ///
    /// # Panics
    ///
    /// When it has no Contact.
    pub fn take(&mut self, invite: &Heard) {
        invite.header("call-id").clone_into(&mut self.call_id);
        let from = invite.header("from");
        let at = from.find(";tag=").unwrap_or_else(|| panic!("no tag: {from}"));
        from[at..].clone_into(&mut self.to_tag);
        let contact = invite.header("contact");
        let uri = contact.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
        uri.unwrap_or_else(|| panic!("no contact: {invite:?}")).0.clone_into(&mut self.target);
    }

    /// Answers an INVITE of the switch as the party called.
    pub async fn respond(&self, invite: &Heard, status: &str, headers: &str, sdp: &str) {
        if !status.starts_with('1') {
            invite.header("via").clone_into(&mut self.settled.lock().unwrap());
        }
        let own = format!("Contact: <sip:phone@{}>\r\n", self.local());
        let contact = if headers.contains("Contact:") { "" } else { &own };
        let kind = if sdp.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let response = Self::response(invite, status, &format!("{contact}{headers}{kind}"));
        let to = format!("to: {}\r\n", invite.header("to"));
        let tagged = format!("to: {};tag={}\r\n", invite.header("to"), self.tag);
        let length = format!("Content-Length: {}", sdp.len());
        let response = response.replace(&to, &tagged).replace("Content-Length: 0", &length);
        self.send(response + sdp).await;
    }

    /// The next message that begins so; whatever else comes is passed over, and so is the INVITE that was answered last,
    /// where a busy machine let it be repeated.
    pub async fn expect(&self, start: &str) -> Heard {
        loop {
            let heard = self.hear().await;
            let is_settled = heard.start.starts_with("INVITE ")
                && heard.header("via") == *self.settled.lock().unwrap();
            if heard.start.starts_with(start) && !is_settled {
                return heard;
            }
        }
    }

    /// A response without a body; `headers` end with CRLF each.
    #[must_use]
    pub fn response(request: &Heard, status: &str, headers: &str) -> String {
        let mut text = format!("SIP/2.0 {status}\r\n");
        for name in ["via", "record-route", "from", "to", "call-id", "cseq"] {
            for value in request.all(name) {
                text += &format!("{name}: {value}\r\n");
            }
        }
        text + headers + "Content-Length: 0\r\n\r\n"
    }

    /// Waits for so many packets of media.
    ///
    /// # Panics
    ///
    /// When they do not come.
    pub async fn hear_media(&self, packets: usize) {
        for _ in 0..packets {
            assert!(self.hears_media_within(PATIENCE).await, "no media");
        }
    }

    /// True when a packet of media comes.
    pub async fn hears_media_within(&self, limit: Duration) -> bool {
        let mut buffer = [0; 2_048];
        timeout(limit, self.media.recv_from(&mut buffer)).await.is_ok()
    }

    /// Takes what has come, when more comes all the time.
    pub async fn drain_media_now(&self) {
        let mut buffer = [0; 2_048];
        while timeout(Duration::ZERO, self.media.recv_from(&mut buffer)).await.is_ok() {}
    }

    /// Takes what is on its way, until no more comes.
    pub async fn drain_media(&self) {
        let mut buffer = [0; 2_048];
        while timeout(SILENCE, self.media.recv_from(&mut buffer)).await.is_ok() {}
    }

    /// True while the switch answers somebody with an OPTIONS of a call of its own.
    pub async fn is_served(&self) -> bool {
        let other = Self::new(self.local().ip(), self.switch, "ping").await;
        other.pings().await
    }

    async fn pings(mut self) -> bool {
        // One may be lost where the switch is flooded.
        for _ in 0..5 {
            let options = self.request("OPTIONS", "", "");
            self.send(options).await;
            let answer = self.hear_within(Duration::from_secs(1)).await;
            if answer.is_some_and(|answer| answer.status() == 200) {
                return true;
            }
        }
        false
    }
}
