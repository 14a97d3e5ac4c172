//! The simulated carriers of `tandem certify` against baresip: what they say and want is understood by
//! software that is none of ours.

use crate::kamailio::own_address;
use crate::node::PATIENCE;
use crate::postgres::Scratch;
use bytes::Bytes;
use std::fs;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;
use tandem::clock;
use tandem::simulator::carrier::Carrier;
use tandem::simulator::carrier::Subscription;
use tandem::simulator::description::Description;
use tandem::simulator::description::Seen;
use tandem::simulator::model::model_of;
use tandem::simulator::speak::CallIn;
use tandem::sip::message::Message;
use tandem::sip::message::Response;
use tandem::sip::message::method::Method;
use tandem::types::secret::Secret;
use tandem::types::transport::Transport;
use tokio::net::UdpSocket;
use tokio::process::Child;
use tokio::process::Command;
use tokio::time::timeout;

/// baresip's number, and somebody it talks with.
const NUMBER: &str = "+15550100";
const PERSON: &str = "+15550123";
/// The password of its account.
pub(crate) const PASSWORD: &str = "s3cret";
/// How long a socket is listened to before time is looked at.
const TICK: Duration = Duration::from_millis(10);

/// baresip. Dropping it kills it.
struct Baresip {
    child: Child,
    folder: Scratch,
}

impl Baresip {
    /// Starts it at `address` with one account, and lets it dial where that is wanted.
    fn start(address: SocketAddr, account: &str, dial: Option<&str>) -> Self {
        let folder = Scratch::new();
        let modules = ["account", "menu", "g711", "aufile", "uuid"];
        let modules: String = modules.iter().map(|name| format!("module {name}.so\n")).collect();
        let path = folder.path().join("tone.wav");
        let (channels, bits_per_sample, sample_format) = (1, 16, hound::SampleFormat::Int);
        let spec = hound::WavSpec { channels, sample_rate: 8_000, bits_per_sample, sample_format };
        let mut wav = hound::WavWriter::create(&path, spec).unwrap();
        (0..80_000_i32).for_each(|sample| wav.write_sample((sample % 40) as i16 * 100).unwrap());
        wav.finalize().unwrap();
        let config = format!(
            "module_path /usr/lib/baresip/modules\n{modules}sip_listen {address}\n\
             net_interface {}\naudio_source aufile,{}\naudio_player aufile,{}\n",
            address.ip(),
            path.display(),
            folder.path().join("heard.wav").display(),
        );
        fs::write(folder.path().join("config"), config).unwrap();
        fs::write(folder.path().join("accounts"), format!("{account}\n")).unwrap();
        fs::write(folder.path().join("contacts"), "").unwrap();
        let mut command = Command::new("baresip");
        command.args(["-4", "-f"]).arg(folder.path());
        if let Some(dial) = dial {
            command.args(["-e", &format!("/dial {dial}")]);
        }
        let log = fs::File::create(folder.path().join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.kill_on_drop(true).spawn().expect("baresip is installed");
        Self { child, folder }
    }

    /// Asks it to end: it hangs up and takes its registration away.
    fn quit(&self) {
        let process = self.child.id().expect("it runs");
        let command = format!("kill -TERM {process}");
        let status = std::process::Command::new("sh").args(["-c", &command]).status();
        assert!(status.unwrap().success(), "{command}");
    }
}

impl Drop for Baresip {
    #[expect(clippy::print_stderr, reason = "a failed check shows what baresip said")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            eprintln!("--- baresip said:\n{log}");
        }
    }
}

/// A simulated carrier with a socket and the real time.
pub(crate) struct Line {
    pub(crate) carrier: Carrier,
    socket: UdpSocket,
    pub(crate) edge: SocketAddr,
    peer: SocketAddr,
}

impl Line {
    /// The carrier of this name, whose customer is to be at the address given.
    async fn new(model: &str) -> Self {
        Self::towards(model, NUMBER, SocketAddr::new(own_address(), 5060)).await
    }

    /// The carrier of this name, with a customer of one number, which it reaches at `peer`.
    pub(crate) async fn towards(model: &str, number: &str, peer: SocketAddr) -> Self {
        let socket = UdpSocket::bind((own_address(), 0)).await.unwrap();
        let edge = socket.local_addr().unwrap();
        let subscription = Subscription {
            numbers: vec![number.to_owned()],
            username: "pilot".to_owned(),
            password: Secret::new(PASSWORD.to_owned()),
            given: None,
            suite: None,
            address: peer.ip(),
            media: SocketAddr::new(edge.ip(), 30_000),
            transport: Transport::Udp,
        };
        let carrier = Carrier::new(model_of([model]), subscription);
        assert_eq!(carrier.model().name, model);
        Self { carrier, socket, edge, peer }
    }

    /// Where its customer is reached.
    pub(crate) const fn customer(&self) -> SocketAddr {
        self.peer
    }

    /// Its customer is reached at another address now.
    pub(crate) fn moved_to(&mut self, peer: SocketAddr) {
        self.peer = peer;
    }

    /// Lets the carrier hear and speak until `fits`.
    pub(crate) async fn until(&mut self, what: &str, fits: impl Fn(&Carrier) -> bool) {
        let deadline = clock::now() + PATIENCE;
        let mut buffer = vec![0; 65_535];
        loop {
            for sending in self.carrier.take_due(clock::now()) {
                self.socket.send_to(&sending.bytes, self.peer).await.unwrap();
            }
            if fits(&self.carrier) {
                return;
            }
            let heard = || format!("{:#?}\n{:?}", self.carrier.heard(), self.carrier.complaints());
            assert!(clock::now() < deadline, "waited in vain: {what}\n{}", heard());
            if let Ok(received) = timeout(TICK, self.socket.recv_from(&mut buffer)).await {
                let (length, source) = received.unwrap();
                let bytes = Bytes::copy_from_slice(&buffer[..length]);
                self.carrier.receive(clock::now(), (self.edge, source), &bytes);
            }
        }
    }

    fn call(&mut self, offers: bool) {
        self.call_with(offers, &[]);
    }

    /// Calls its customer, with more header lines.
    pub(crate) fn call_with(&mut self, offers: bool, more: &[&str]) {
        let called = self.carrier.subscription().numbers[0].clone();
        let (caller, headers) = (Some(PERSON), &[]);
        let call = CallIn { edge: self.edge, called: &called, caller, offers, headers, more };
        self.carrier.call(clock::now(), &call);
    }

    /// The final response to what the carrier sent last with this method; until then nothing of the kind.
    async fn outcome(&mut self, method: &Method, before: usize) -> Response {
        let of = method.clone();
        let fits = move |carrier: &Carrier| last(carrier, &of, before).is_some();
        self.until("a final response", fits).await;
        last(&self.carrier, method, before).unwrap()
    }

    pub(crate) async fn within(
        &mut self,
        method: Method,
        description: Option<&Description>,
        lines: &[&str],
    ) -> Response {
        let before = self.carrier.heard().len();
        self.carrier.within(clock::now(), &method, description, lines);
        self.outcome(&method, before).await
    }

    pub(crate) fn offer(&self, direction: &'static str) -> Description {
        let last = self.carrier.description().expect("there is a call");
        let version = last.version + 1;
        Description { version, direction, ..Description::offer(last.media, None) }
    }

    pub(crate) async fn until_over(&mut self) {
        self.until("the end of the call", |carrier| !carrier.is_in_call()).await;
        assert!(self.carrier.complaints().is_empty(), "{:?}", self.carrier.complaints());
    }
}

/// The last final response to a method among what was heard after the first `before` messages.
pub(crate) fn last(carrier: &Carrier, method: &Method, before: usize) -> Option<Response> {
    carrier.heard().iter().skip(before).rev().find_map(|heard| match &heard.message {
        Message::Response(response)
            if response.status >= 200 && response.headers.cseq().method == *method =>
        {
            Some(response.clone())
        }
        Message::Response(_) | Message::Request(_) => None,
    })
}

/// Waits until baresip answers at all.
async fn ready(line: &mut Line) {
    for _ in 0..600 {
        let before = line.carrier.heard().len();
        line.carrier.probe(clock::now(), line.edge);
        let sent = line.carrier.take_due(clock::now());
        let mut buffer = vec![0; 65_535];
        for sending in sent {
            line.socket.send_to(&sending.bytes, line.peer).await.unwrap();
        }
        let wait = Duration::from_millis(100);
        if let Ok(Ok((length, source))) = timeout(wait, line.socket.recv_from(&mut buffer)).await {
            let bytes = Bytes::copy_from_slice(&buffer[..length]);
            line.carrier.receive(clock::now(), (line.edge, source), &bytes);
            // It may know nobody of the name that is probed.
            let answer = last(&line.carrier, &Method::Options, before);
            assert!(answer.is_some(), "no answer to OPTIONS");
            return;
        }
    }
    panic!("baresip does not answer");
}

#[tokio::test]
async fn a_simulated_carrier_calls_baresip_changes_the_call_and_is_hung_up_along_its_route() {
    let mut line = Line::new("generic").await;
    let account = format!("<sip:{NUMBER}@{}>;regint=0;answermode=auto", line.peer);
    let baresip = Baresip::start(line.peer, &account, None);
    ready(&mut line).await;
    line.call(true);
    line.until("the answer", Carrier::is_acknowledged).await;
    // As after fifteen minutes.
    let timer = ["Supported: timer", "Session-Expires: 1800;refresher=uac"];
    let again = line.offer("sendrecv");
    assert_eq!(line.within(Method::Invite, Some(&again), &timer).await.status, 200);
    for (direction, answered) in
        [("sendonly", "recvonly"), ("inactive", "inactive"), ("sendrecv", "sendrecv")]
    {
        let offer = line.offer(direction);
        let response = line.within(Method::Invite, Some(&offer), &[]).await;
        assert_eq!(response.status, 200, "{direction}");
        let seen = Seen::of(&response.body).expect("an answer with audio");
        assert_eq!(seen.direction, answered);
    }
    let offered = line.within(Method::Invite, None, &[]).await;
    let seen = Seen::of(&offered.body).expect("an offer with audio");
    assert_eq!((offered.status, seen.codecs.len()), (200, 2), "all codecs are offered");
    // Its BYE has the private Contact as it was given, and comes by the Record-Route.
    baresip.quit();
    line.until_over().await;
}

#[tokio::test]
async fn a_simulated_carrier_calls_baresip_without_an_offer_and_hangs_up() {
    let mut line = Line::new("generic").await;
    let account = format!("<sip:{NUMBER}@{}>;regint=0;answermode=auto", line.peer);
    let _baresip = Baresip::start(line.peer, &account, None);
    ready(&mut line).await;
    line.call(false);
    line.until("the answer", Carrier::is_acknowledged).await;
    let offered = last(&line.carrier, &Method::Invite, 0).unwrap();
    assert!(Seen::of(&offered.body).is_some(), "the answer has an offer");
    assert_eq!(line.within(Method::Bye, None, &[]).await.status, 200);
    line.until_over().await;
}

#[tokio::test]
async fn a_simulated_carrier_cancels_its_call_to_baresip() {
    let mut line = Line::new("generic").await;
    let account = format!("<sip:{NUMBER}@{}>;regint=0;answermode=manual", line.peer);
    let _baresip = Baresip::start(line.peer, &account, None);
    ready(&mut line).await;
    line.call(true);
    let rings = |carrier: &Carrier| {
        carrier.heard().iter().any(
            |heard| matches!(&heard.message, Message::Response(response) if response.status == 180),
        )
    };
    line.until("it rings", rings).await;
    line.carrier.cancel(clock::now());
    assert_eq!(line.outcome(&Method::Cancel, 0).await.status, 200);
    assert_eq!(line.outcome(&Method::Invite, 0).await.status, 487);
    line.until_over().await;
}

#[tokio::test]
async fn baresip_calls_a_simulated_carrier_and_follows_its_route() {
    let mut line = Line::new("generic").await;
    let account = format!("<sip:{NUMBER}@{}>;regint=0", line.peer);
    let to = format!("sip:{PERSON}@{}", line.edge);
    let baresip = Baresip::start(line.peer, &account, Some(&to));
    line.until("the ACK", Carrier::is_acknowledged).await;
    let again = line.offer("sendrecv");
    assert_eq!(line.within(Method::Invite, Some(&again), &[]).await.status, 200);
    baresip.quit();
    line.until_over().await;
}

#[tokio::test]
async fn baresip_registers_with_simulated_carriers_and_takes_its_binding_away() {
    for model in ["tata-registered", "airtel-ims"] {
        let mut line = Line::new(model).await;
        let account = format!(
            "<sip:pilot@carrier.example>;auth_pass={PASSWORD};regint=60;outbound=\"sip:{}\"",
            line.edge
        );
        let baresip = Baresip::start(line.peer, &account, None);
        line.until("a binding", |carrier| carrier.is_registered(clock::now())).await;
        baresip.quit();
        line.until("its removal", |carrier| !carrier.is_registered(clock::now())).await;
        assert!(line.carrier.complaints().is_empty(), "{:?}", line.carrier.complaints());
    }
}
