//! The test caller over real sockets, against an endpoint that answers and echoes.

#![expect(clippy::unwrap_used, reason = "a failed check may panic")]

use bytes::Bytes;
use std::future::pending;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Output;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tandem::caller::Account;
use tandem::caller::CallPlan;
use tandem::caller::CallProblem;
use tandem::caller::Control;
use tandem::caller::EndedBy;
use tandem::caller::Phase;
use tandem::caller::Progress;
use tandem::caller::Speech;
use tandem::caller::Target;
use tandem::caller::place;
use tandem::caller::place_controlled;
use tandem::clock;
use tandem::net::flow::FlowLimits;
use tandem::net::flow::Flows;
use tandem::net::flow::Ingress;
use tandem::net::tcp;
use tandem::net::tcp::TcpListener;
use tandem::net::udp;
use tandem::net::udp::UdpListener;
use tandem::sdp;
use tandem::sdp::AnswerOrder;
use tandem::sdp::Capabilities;
use tandem::sdp::Direction;
use tandem::sdp::LocalMedia;
use tandem::sdp::SrtpTerms;
use tandem::sip::digest::Algorithm;
use tandem::sip::digest::server::Server;
use tandem::sip::endpoint::Endpoint;
use tandem::sip::endpoint::config::EndpointConfig;
use tandem::sip::endpoint::config::ListenerAddress;
use tandem::sip::endpoint::config::Timers;
use tandem::sip::endpoint::event::Command;
use tandem::sip::endpoint::event::Event;
use tandem::sip::endpoint::event::Input;
use tandem::sip::endpoint::event::Invitation;
use tandem::sip::endpoint::event::Output as SipOutput;
use tandem::sip::endpoint::event::Refusal;
use tandem::sip::endpoint::flow::Flow;
use tandem::sip::endpoint::flow::FlowId;
use tandem::sip::endpoint::policy::DialogPolicy;
use tandem::sip::message::name::HeaderName;
use tandem::types::cause::HangupCause;
use tandem::types::codec::Codec;
use tandem::types::codec::PayloadType;
use tandem::types::codec::Ptime;
use tandem::types::secret::Secret;
use tandem::types::transport::Transport;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::time::sleep_until;

const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

enum Arrival {
    Message(Flow, Bytes),
    Closed(FlowId),
}

struct Inbox(mpsc::Sender<Arrival>);

impl Ingress for Inbox {
    fn receive(&self, flow: Flow, message: Bytes) {
        drop(self.0.try_send(Arrival::Message(flow, message)));
    }

    fn flow_closed(&self, id: FlowId) {
        drop(self.0.try_send(Arrival::Closed(id)));
    }
}

/// What the called side does with a call, by the user part that is dialled.
///
/// `echo` answers and echoes, `mute` answers and says nothing, `busy` refuses, `guarded` challenges
/// and then echoes, `ring` never answers.
struct Called {
    udp: SocketAddr,
    tcp: SocketAddr,
    /// Calls that were answered and acknowledged.
    acknowledged: watch::Receiver<u32>,
    _listeners: (UdpListener, TcpListener),
}

impl Called {
    async fn start() -> Self {
        let (queue, arrivals) = mpsc::channel(256);
        let ingress: Arc<dyn Ingress> = Arc::new(Inbox(queue));
        let flows = Flows::new(FlowLimits::default());
        let any = SocketAddr::new(LOOPBACK, 0);
        let udp = udp::bind(any, 1).unwrap().start(0, &flows, &ingress).unwrap();
        let tcp = tcp::bind(any).unwrap().start(1, &flows, &ingress).unwrap();
        let listener = |address: SocketAddr| ListenerAddress {
            host: address.ip().to_string(),
            port: address.port(),
        };
        let endpoint = Endpoint::new(EndpointConfig {
            seed: clock::random_u64(),
            product: "called".to_owned(),
            listeners: vec![listener(udp.local()), listener(tcp.local())],
            timers: Timers::default(),
            policy: DialogPolicy::default(),
            takes_replaces: false,
        });
        let media = UdpSocket::bind(any).await.unwrap();
        let digest = Server::new([1; 32]);
        let (counter, acknowledged) = watch::channel(0);
        let side = Side { endpoint, flows, media, digest, echoes: true, acknowledged: counter };
        tokio::spawn(side.serve(arrivals));
        Self { udp: udp.local(), tcp: tcp.local(), acknowledged, _listeners: (udp, tcp) }
    }

    fn target(&self, user: &str) -> Target {
        format!("sip:{user}@{}", self.udp).parse().unwrap()
    }
}

struct Side {
    endpoint: Endpoint,
    flows: Flows,
    media: UdpSocket,
    digest: Server,
    echoes: bool,
    acknowledged: watch::Sender<u32>,
}

impl Side {
    async fn serve(mut self, mut arrivals: mpsc::Receiver<Arrival>) {
        let mut packet = [0; 2_000];
        loop {
            let deadline = self.endpoint.deadline();
            let due = async move {
                match deadline {
                    Some(due) => sleep_until(clock::instant(due).into()).await,
                    None => pending().await,
                }
            };
            let input = tokio::select! {
                arrival = arrivals.recv() => match arrival {
                    Some(Arrival::Message(flow, message)) => Input::Received { flow, message },
                    Some(Arrival::Closed(id)) => Input::FlowClosed(id),
                    None => return,
                },
                read = self.media.recv_from(&mut packet) => {
                    let (length, from) = read.unwrap();
                    if self.echoes {
                        let bytes = packet.get(..length).unwrap_or(&[]);
                        drop(self.media.send_to(bytes, from).await);
                    }
                    continue;
                }
                () = due => Input::DeadlineReached,
            };
            self.handle(input);
        }
    }

    fn handle(&mut self, input: Input) {
        let mut out = Vec::new();
        self.endpoint.handle(clock::now(), input, &mut out);
        for output in out {
            match output {
                SipOutput::Transmit { flow, bytes } => drop(self.flows.send(&flow, bytes)),
                SipOutput::Event(Event::Invited(invitation)) => self.invited(&invitation),
                SipOutput::Event(Event::Acknowledged { .. }) => {
                    self.acknowledged.send_modify(|count| *count += 1);
                }
                SipOutput::Event(_)
                | SipOutput::Burden(..)
                | SipOutput::Locate(_)
                | SipOutput::Counted(_) => {}
            }
        }
    }

    fn invited(&mut self, invitation: &Invitation) {
        let dialog = invitation.dialog;
        let user = invitation.request.uri.user().unwrap_or_default();
        let refuse = |status, cause, headers| {
            let retry_after_s = None;
            let refusal = Refusal { status, cause, retry_after_s, headers, is_passed_on: false };
            Input::Command(Command::Refuse { dialog, refusal })
        };
        self.echoes = user != b"mute";
        let is_guarded = user == b"guarded"
            && invitation.request.headers.first(HeaderName::Authorization).is_none();
        if is_guarded {
            let source = invitation.flow.remote.ip();
            let algorithms = [Algorithm::Sha256, Algorithm::Md5];
            let values = self.digest.challenges(clock::now(), source, "tandem", &algorithms);
            let headers = values.into_iter().map(|value| ("WWW-Authenticate".into(), value));
            return self.handle(refuse(401, HangupCause::BadCredentials, headers.collect()));
        }
        if user == b"busy" {
            return self.handle(refuse(486, HangupCause::Busy, Vec::new()));
        }
        self.handle(Input::Command(Command::Progress { dialog, status: 180, body: None }));
        if user != b"ring" {
            let body = self.answer(invitation);
            self.handle(Input::Command(Command::Accept { dialog, body }));
        }
    }

    fn answer(&self, invitation: &Invitation) -> Bytes {
        let offer = sdp::parse(&invitation.body.as_ref().unwrap().bytes).unwrap();
        let capabilities = Capabilities {
            codecs: vec![Codec::Pcma, Codec::Pcmu],
            order: AnswerOrder::Remote,
            dtmf_flash: false,
            dtmf: PayloadType::new(101),
            ptime: Ptime::MS_20,
            ptime_max: Ptime::MS_20,
            rtcp_mux: false,
            asks_metrics: false,
            single_codec: true,
            annex_b: false,
            srtp: SrtpTerms::default(),
        };
        let port = self.media.local_addr().unwrap().port();
        let local = LocalMedia {
            address: LOOPBACK,
            rtp_port: port,
            rtcp_port: port,
            session_id: 1,
            version: 1,
            direction: Direction::SendReceive,
        };
        sdp::answer(&offer, &capabilities, &local).unwrap().0.into()
    }
}

fn plan(target: Target) -> CallPlan {
    let mut plan = CallPlan::new(target);
    plan.speech = Speech::Tone { hz: 440 };
    plan.duration = Duration::from_millis(600);
    plan
}

#[tokio::test]
async fn a_call_over_udp_hears_its_own_tone() {
    let called = Called::start().await;
    let summary = place(plan(called.target("echo"))).await.unwrap();
    assert_eq!(summary.problem, None);
    assert!(summary.heard.is_tone(440), "{:?}", summary.heard);
    assert!(summary.media.sent >= 28 && summary.media.received >= 25, "{:?}", summary.media);
    assert_eq!(summary.media.codec, Some(Codec::Pcmu));
    assert_eq!(summary.media.headers.total(), 0, "{:?}", summary.media.headers);
    assert!(summary.media.judged + 5 >= summary.media.received, "{:?}", summary.media);
    assert!(summary.setup.ringing.is_some() && summary.setup.answered.is_some());
    assert_eq!(summary.ended_by, Some(EndedBy::Us));
}

#[tokio::test]
async fn a_call_over_tcp_leaves_from_the_address_that_is_given() {
    let called = Called::start().await;
    let target: Target = format!("sip:echo@{};transport=tcp", called.tcp).parse().unwrap();
    let mut plan = plan(target);
    plan.local = Some(IpAddr::from([127, 0, 0, 3]));
    let summary = place(plan).await.unwrap();
    assert_eq!(summary.problem, None);
    assert!(summary.heard.is_tone(440), "{:?}", summary.heard);
}

#[tokio::test]
async fn a_challenge_is_answered() {
    let called = Called::start().await;
    let mut plan = plan(called.target("guarded"));
    let user = "demo".to_owned();
    plan.account = Some(Account { user, password: Secret::new("demo".to_owned()) });
    assert_eq!(place(plan.clone()).await.unwrap().problem, None);
    plan.account = None;
    let problem = place(plan).await.unwrap().problem;
    assert!(matches!(problem, Some(CallProblem::Refused { status: 401, .. })), "{problem:?}");
}

#[tokio::test]
async fn a_wav_file_is_spoken_and_what_is_heard_is_recorded() {
    let called = Called::start().await;
    let name =
        |what| std::env::temp_dir().join(format!("tandem-{what}-{}.wav", std::process::id()));
    let (said, heard): (PathBuf, PathBuf) = (name("said"), name("heard"));
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 16_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(&said, spec).unwrap();
    for n in 0..16_000_u16 {
        let turns = f32::from(n) * 1_000.0 / 16_000.0;
        writer.write_sample(((turns * std::f32::consts::TAU).sin() * 8_000.0) as i16).unwrap();
    }
    writer.finalize().unwrap();
    let mut plan = plan(called.target("echo"));
    plan.speech = Speech::Wav(said.clone());
    plan.record = Some(heard.clone());
    let summary = place(plan).await.unwrap();
    let recorded = hound::WavReader::open(&heard).unwrap();
    let (spec, samples) = (recorded.spec(), recorded.duration());
    std::fs::remove_file(&said).unwrap();
    std::fs::remove_file(&heard).unwrap();
    assert_eq!(summary.problem, None);
    assert!(summary.heard.is_tone(1_000), "{:?}", summary.heard);
    assert_eq!((spec.sample_rate, spec.channels), (8_000, 1));
    assert!((4_000..=5_600).contains(&samples), "{samples}");
}

#[tokio::test]
async fn the_one_who_watches_sees_progress_and_may_stop_the_call() {
    let called = Called::start().await;
    let (stop, stopping) = watch::channel(false);
    let (progress, mut watched) = watch::channel(Progress::default());
    let mut plan = plan(called.target("echo"));
    plan.duration = Duration::from_secs(3_600);
    let control = Control { stop: stopping, progress };
    let call = tokio::spawn(place_controlled(plan, control));
    let talking = |progress: &Progress| progress.phase == Phase::Talking && progress.received > 3;
    watched.wait_for(talking).await.unwrap();
    stop.send_replace(true);
    let summary = call.await.unwrap().unwrap();
    assert_eq!((summary.problem, summary.ended_by), (None, Some(EndedBy::Us)));
}

#[tokio::test]
async fn a_target_that_takes_no_connection_is_an_error() {
    let gone = std::net::TcpListener::bind(SocketAddr::new(LOOPBACK, 0)).unwrap();
    let address = gone.local_addr().unwrap();
    drop(gone);
    let target: Target = format!("sip:echo@{address}").parse().unwrap();
    let error = place(plan(target.by(Transport::Tcp).unwrap())).await.err();
    assert!(error.is_some_and(|error| error.to_string().contains("cannot connect")));
}

async fn tandem(args: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_tandem");
    tokio::process::Command::new(program).args(args).output().await.unwrap()
}

#[tokio::test]
async fn the_command_prints_a_verdict_and_exits_by_it() {
    let called = Called::start().await;
    let uri = |user: &str| format!("sip:{user}@{}", called.udp);
    let talk = ["--tone", "440", "--duration", "0.5"];
    for (user, more, code, says) in [
        ("echo", &["--require-sound"][..], 0, "verdict   passed"),
        ("mute", &[], 1, "verdict   failed: no audio was received"),
        (
            "busy",
            &[],
            1,
            "verdict   failed: refused with 486 Busy Here (Q.850;cause=17;text=\"busy\")",
        ),
        ("ring", &["--answer-within", "0.3"], 1, "verdict   failed: no answer in time"),
        ("guarded", &["--user", "demo", "--password", "demo"], 0, "verdict   passed"),
    ] {
        let uri = uri(user);
        let output = tandem(&[&["call", uri.as_str()], &talk[..], more].concat()).await;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(code), "{user}: {text}");
        assert!(text.trim_end().ends_with(says), "{user}: {text}");
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(errors.is_empty(), code == 0, "{user}: {errors}");
    }
}

#[tokio::test]
async fn the_command_prints_json_for_programs() {
    let called = Called::start().await;
    let uri = format!("sip:echo@{}", called.udp);
    let output = tandem(&["call", &uri, "--tone", "440", "--duration", "0.5", "--json"]).await;
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value.get("passed"), Some(&true.into()), "{value}");
    let hz = value.pointer("/heard/frequency_hz").and_then(serde_json::Value::as_f64);
    assert!(hz.is_some_and(|hz| (hz - 440.0).abs() < 5.0), "{value}");
}

#[tokio::test]
async fn ctrl_c_hangs_up_and_the_summary_is_printed() {
    let mut called = Called::start().await;
    let uri = format!("sip:echo@{}", called.udp);
    let child = tokio::process::Command::new(env!("CARGO_BIN_EXE_tandem"))
        .args(["call", &uri, "--tone", "440", "--duration", "3600"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    called.acknowledged.wait_for(|count| *count == 1).await.unwrap();
    let id = child.id().unwrap().to_string();
    let killed = tokio::process::Command::new("kill").args(["-INT", &id]).status().await.unwrap();
    assert!(killed.success());
    let output = child.wait_with_output().await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // Whether a first packet had come by then is chance, so the verdict may be either.
    assert!(text.contains(" by us\n"), "{text}");
}
