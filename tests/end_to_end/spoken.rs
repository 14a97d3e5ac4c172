//! The bots of `examples/agents/` in conversations: real Pipecat, and plain Python. The caller's words are made by
//! `flite`, the bots understand and speak by themselves.

use crate::between::Between;
use crate::carrier::key;
use crate::line::Line;
use crate::node::Home;
use crate::node::Node;
use crate::node::wait_for;
use crate::phone::Phone;
use crate::rows;
use serde_json::json;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tandem::store::api_keys::KeyRole;
use tokio::io::AsyncBufReadExt;
use tokio::io::BufReader;
use tokio::io::Lines;
use tokio::process::Child;
use tokio::process::ChildStdout;
use tokio::process::Command;
use tokio::time::timeout;

const NUMBER: &str = "+15550125";
/// Longest wait for anything of a bot: its start loads models, on a machine that may be busy.
const PATIENCE: Duration = Duration::from_secs(150);
/// Ticks with words of a bot after the one in which its clear was read: one that was being played meanwhile, and the next,
/// in which they fall away.
const TICKS_WITH_WORDS_MAX: i64 = 2;
/// What a caller takes its leave with. Not "Goodbye": alone, these ears take that for something else as often as not, by
/// where in the silence before it the voice detector cuts, whatever reached them.
const LAST_WORDS: &str = "No, that is all.";
/// Longest pause between its words, in ticks.
const PAUSE_MAX: i64 = 40;

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

/// A caller who talks with one of the bots.
struct Conversation {
    node: Node,
    bot: Program,
    between: Between,
    phone: Phone,
    line: Line,
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
        let between = Between::stand(&bot.url).await;
        let agent = json!({"kind": "twilio", "url": between.url, "connect_timeout_ms": 20_000});
        node.put(&[rows::profile(3, 1, agent), rows::number(4, 1, 3, NUMBER)]).await;
        let mut phone = Phone::new("127.0.0.1".parse().unwrap(), node.sip(), NUMBER).await;
        let answer = phone.call("").await;
        let to = (node.sip().ip(), answer.audio_port()).into();
        let line = Line::open(phone.media.for_thread(), to);
        Self { node, bot, between, phone, line }
    }

    async fn say(&self, text: &str) {
        self.line.say(self.node.home.folder(), text).await;
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
        drop(self.line);
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

    talk.say("What are your opening hours on Saturday?").await;
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
    talk.between.watch();
    talk.say(LAST_WORDS).await;
    talk.bot.told("CLEARED").await;
    let cleared = timeout(PATIENCE, talk.between.cleared()).await.expect("the clear is read");
    let ticks = cleared.ticks_with_words(&talk.line.heard());
    let expected = -PAUSE_MAX..=TICKS_WITH_WORDS_MAX;
    assert!(expected.contains(&ticks), "{ticks} ticks with words: {cleared:?}");
    let heard = talk.bot.told("HEARD").await;
    assert!(heard.contains("that is all"), "{heard}");
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
        ("On Monday please.", "monday", "Monday at ten is free"),
        (LAST_WORDS, "that is all", "Goodbye"),
    ] {
        talk.say(sentence).await;
        let (heard, said) = talk.bot.heard_and_said().await;
        assert!(heard.contains(expected), "{sentence} was heard as {heard}");
        assert!(said.contains(answer), "{said}");
        talk.bot.told("PLAYED").await;
    }
    assert_eq!(talk.over().await, "agent", "it closes its stream");
}
