//! The bots of `examples/agents/` in conversations: real Pipecat, and plain Python. The caller's words are made by
//! `flite`, the bots understand and speak by themselves.

use crate::carrier::key;
use crate::node::Home;
use crate::node::Node;
use crate::node::wait_for;
use crate::phone::Phone;
use crate::rows;
use crate::rtp::audio;
use serde_json::json;
use std::collections::VecDeque;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use tandem::audio::g711;
use tandem::engine::wav;
use tandem::store::api_keys::KeyRole;
use tokio::io::AsyncBufReadExt;
use tokio::io::BufReader;
use tokio::io::Lines;
use tokio::net::UdpSocket;
use tokio::process::Child;
use tokio::process::ChildStdout;
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio::time::interval;
use tokio::time::timeout;

const NUMBER: &str = "+15550125";
/// Longest wait for anything of a bot: its start loads models, on a machine that may be busy.
const PATIENCE: Duration = Duration::from_secs(150);
const FRAME: usize = 160;
/// A packet with a sample louder than this has somebody's words in it.
const LOUD: i16 = 1_000;
/// Packets with the bot's words that may still come once it has cleared. Its own process says so, and is read, on a
/// busy machine; that the switch is silent in the next tick is for its own tests.
const LATE_PACKETS_MAX: usize = 25;

/// One of the bots, running.
struct Program {
    _child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    url: String,
}

impl Program {
    async fn start(name: &str, variables: &[(&str, String)]) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        // That environment has what both want.
        let python = folder.join("target/agents/pipecat/bin/python");
        assert!(python.exists(), "{} is missing: run scripts/setup test", python.display());
        let mut command = Command::new(python);
        command.arg(folder.join("examples/agents").join(name).join("bot.py")).args(["--port", "0"]);
        command.env_clear().env("PYTHONDONTWRITEBYTECODE", "1").env("OMP_NUM_THREADS", "1");
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut program = Self { _child: child, lines, url: String::new() };
        program.url = program.told("LISTENING").await;
        program
    }

    /// Waits until it tells something of this kind; what that is.
    async fn told(&mut self, kind: &str) -> String {
        let told = async {
            loop {
                let line = self.lines.next_line().await.unwrap().expect("it lives");
                if let Some(rest) = line.strip_prefix(kind) {
                    break rest.trim().to_owned();
                }
            }
        };
        timeout(PATIENCE, told).await.unwrap_or_else(|_| panic!("the bot never told: {kind}"))
    }

    /// What it heard and what it answers.
    async fn heard_and_said(&mut self) -> (String, String) {
        (self.told("HEARD").await, self.told("SAID").await)
    }
}

/// What the caller's telephone sends and takes, all the time.
#[derive(Clone, Default)]
struct Line {
    to_say: Arc<Mutex<VecDeque<[u8; FRAME]>>>,
    /// Packets with the other side's words so far.
    loud: Arc<Mutex<usize>>,
}

impl Line {
    fn open(&self, socket: Arc<UdpSocket>, to: std::net::SocketAddr) -> JoinHandle<()> {
        let line = self.clone();
        tokio::spawn(async move {
            let mut beat = interval(Duration::from_millis(20));
            beat.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let (mut number, mut buffer) = (0_u16, [0; 2_048]);
            loop {
                tokio::select! {
                    _ = beat.tick() => {
                        let said = line.to_say.lock().unwrap().pop_front().unwrap_or([0xff; FRAME]);
                        let mut packet = vec![0x80, 0];
                        packet.extend(number.to_be_bytes());
                        packet.extend((u32::from(number) * 160).to_be_bytes());
                        packet.extend([0, 0, 0, 7]);
                        packet.extend(said);
                        drop(socket.send_to(&packet, to).await);
                        number = number.wrapping_add(1);
                    }
                    taken = socket.recv_from(&mut buffer) => {
                        let Ok((length, _)) = taken else { continue };
                        let samples = audio(&buffer[..length]).iter();
                        if samples.map(|byte| g711::ulaw_decode(*byte).abs()).any(|it| it > LOUD) {
                            *line.loud.lock().unwrap() += 1;
                        }
                    }
                }
            }
        })
    }

    fn loud(&self) -> usize {
        *self.loud.lock().unwrap()
    }

    /// Speaks a sentence.
    fn say(&self, folder: &Path, text: &str) {
        let path = folder.join("sentence.wav");
        let mut command = std::process::Command::new("flite");
        let status = command.args(["-voice", "slt", "-t", text, "-o"]).arg(&path).status();
        assert!(status.expect("flite is installed: scripts/setup test").success(), "{text}");
        let samples = wav::read(&path).unwrap();
        let frames = samples.chunks_exact(FRAME).map(|chunk| {
            let mut frame = [0xff; FRAME];
            for (byte, sample) in frame.iter_mut().zip(chunk) {
                *byte = g711::ulaw_encode(*sample);
            }
            frame
        });
        self.to_say.lock().unwrap().extend(frames);
    }
}

/// A caller who talks with one of the bots.
struct Conversation {
    node: Node,
    bot: Program,
    phone: Phone,
    line: Line,
    sending: JoinHandle<()>,
}

impl Conversation {
    async fn begin(name: &str) -> Self {
        let node = Home::new().start().await;
        node.put(&[rows::tenant(1, 0), rows::trunk(2, "127.0.0.1/32")]).await;
        let token = key(&node, 1, KeyRole::Operator).await;
        let bot = Program::start(
            name,
            &[
                ("TANDEM", format!("http://{}", node.http())),
                ("TWILIO_ACCOUNT_SID", rows::tenant_id(1).account_sid()),
                ("TWILIO_AUTH_TOKEN", token),
            ],
        )
        .await;
        let agent = json!({"kind": "twilio", "url": bot.url, "connect_timeout_ms": 20_000});
        node.put(&[rows::profile(3, 1, agent), rows::number(4, 1, 3, NUMBER)]).await;
        let mut phone = Phone::new("127.0.0.1".parse().unwrap(), node.sip(), NUMBER).await;
        let answer = phone.call("").await;
        let line = Line::default();
        let other = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let media = Arc::new(std::mem::replace(&mut phone.media, other));
        let sending = line.open(media, (node.sip().ip(), answer.audio_port()).into());
        Self { node, bot, phone, line, sending }
    }

    fn say(&self, text: &str) {
        self.line.say(self.node.home.folder(), text);
    }

    async fn press(&mut self, digit: char) {
        let relay = "Content-Type: application/dtmf-relay\r\n";
        let body = format!("Signal={digit}\r\nDuration=160\r\n");
        assert_eq!(self.phone.ask("INFO", relay, &body).await.status(), 200);
    }

    /// Waits until the switch hangs up; who wanted that.
    async fn over(self) -> String {
        let ended = async {
            loop {
                let Some(heard) = self.phone.hear_within(PATIENCE).await else { continue };
                if heard.start.starts_with("BYE ") {
                    break self.phone.answer(&heard, "200 OK").await;
                }
            }
        };
        timeout(PATIENCE, ended).await.expect("the bot hangs up");
        self.sending.abort();
        let record = self.node.record(&self.phone.call_id).await;
        assert_eq!(record.cause, "normal");
        record.ended_by
    }
}

#[tokio::test]
async fn a_pipecat_bot_greets_understands_answers_takes_keys_is_interrupted_and_hangs_up() {
    let mut talk = Conversation::begin("pipecat").await;
    // The mark behind the greeting comes back once it was heard.
    assert_eq!(talk.bot.told("PLAYED").await, "said-1");
    let greeting = talk.line.loud();
    assert!(greeting > 50, "{greeting} packets of a greeting of three seconds");

    talk.say("What are your opening hours on Saturday?");
    let (heard, said) = talk.bot.heard_and_said().await;
    assert!(heard.contains("opening hours on saturday"), "{heard}");
    assert!(said.contains("nine to five"), "{said}");
    assert_eq!(talk.bot.told("PLAYED").await, "said-2");
    assert!(talk.line.loud() > greeting + 50, "the answer is heard");

    talk.press('1').await;
    assert_eq!(talk.bot.told("KEY").await, "1");
    assert!(talk.bot.told("SAID").await.contains("nine to five"));
    let before = talk.line.loud();
    wait_for("it speaks", async || (talk.line.loud() >= before + 10).then_some(())).await;
    // Spoken over it: Pipecat's own detector notices, and clears.
    talk.say("Goodbye.");
    talk.bot.told("CLEARED").await;
    let cleared = talk.line.loud();
    let heard = talk.bot.told("HEARD").await;
    let after = talk.line.loud() - cleared;
    assert!(after <= LATE_PACKETS_MAX, "{after} packets with its words after the clear");
    assert!(heard.contains("bye"), "{heard}");
    assert!(talk.bot.told("SAID").await.contains("Goodbye"));
    assert_eq!(talk.over().await, "operator", "it hangs up by the REST API");
}

#[tokio::test]
async fn a_bot_in_plain_python_holds_a_conversation_and_hangs_up() {
    let mut talk = Conversation::begin("plain").await;
    assert!(talk.bot.told("SAID").await.contains("How can I help you?"));
    assert_eq!(talk.bot.told("PLAYED").await, "1");
    let greeting = talk.line.loud();
    assert!(greeting > 50, "{greeting} packets of a greeting of three seconds");
    for (sentence, expected, answer) in [
        ("I need an appointment.", "appointment", "Which day"),
        ("On Tuesday please.", "tuesday", "Tuesday at ten is free"),
        ("No, that is all.", "that is all", "Goodbye"),
    ] {
        talk.say(sentence);
        let (heard, said) = talk.bot.heard_and_said().await;
        assert!(heard.contains(expected), "{sentence} was heard as {heard}");
        assert!(said.contains(answer), "{said}");
        talk.bot.told("PLAYED").await;
    }
    assert_eq!(talk.over().await, "agent", "it closes its stream");
}
