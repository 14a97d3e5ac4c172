//! The `twilio` package for Python as a client: it places, reads and ends calls of a running switch.

use crate::call_out;
use crate::carrier;
use crate::carrier::CALLED;
use crate::carrier::NUMBER;
use crate::carrier::hear_bye;
use crate::carrier::pick_up;
use crate::node::Node;
use crate::node::PATIENCE;
use crate::node::wait_for;
use crate::python;
use crate::rows;
use crate::web::Asked;
use serde_json::Value;
use serde_json::json;
use std::process::Stdio;
use tandem::store::api_keys::KeyRole;
use tandem::types::id::CallId;
use tokio::io::AsyncBufReadExt;
use tokio::io::AsyncWriteExt;
use tokio::io::BufReader;
use tokio::io::Lines;
use tokio::process::Child;
use tokio::process::ChildStdin;
use tokio::process::ChildStdout;
use tokio::time::timeout;

/// How often an answer and a wish to cancel cross.
const CROSSINGS: usize = 10;

/// A bot that was written for Twilio.
pub(crate) struct Client {
    _child: Child,
    asked: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Client {
    /// A bot with the account of a tenant and a token.
    pub(crate) fn new(node: &Node, tenant: u128, token: &str) -> Self {
        let mut command = python::program("python");
        command.arg(python::script("twilio_bot.py"));
        command.env("TANDEM", format!("http://{}", node.http()));
        command.env("TWILIO_ACCOUNT_SID", rows::tenant_id(tenant).account_sid());
        command.env("TWILIO_AUTH_TOKEN", token);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let asked = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { _child: child, asked, answers }
    }

    async fn ask(&mut self, wish: Value) -> Value {
        self.asked.write_all(format!("{wish}\n").as_bytes()).await.unwrap();
        let line = timeout(PATIENCE, self.answers.next_line()).await.expect("it answers");
        serde_json::from_str(&line.unwrap().expect("it lives")).unwrap()
    }

    pub(crate) async fn create(&mut self, with: Value) -> Value {
        self.ask(json!({"do": "create", "with": with})).await
    }

    async fn fetch(&mut self, sid: &str) -> Value {
        self.ask(json!({"do": "fetch", "sid": sid})).await
    }

    /// Lets a document lead a running call.
    pub(crate) async fn lead(&mut self, sid: &str, with: Value) -> Value {
        self.ask(json!({"do": "update", "sid": sid, "with": with})).await
    }

    /// Whether the package takes the signature of a request for one by this token.
    pub(crate) async fn validates(&mut self, asked: &Asked, token: &str) -> bool {
        // What is asked by GET has all in its address.
        let form = if asked.method == "GET" { &[][..] } else { &asked.form };
        let form: Value = form.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        let with =
            json!({"token": token, "url": asked.url, "form": form, "signature": asked.signature});
        self.ask(json!({"do": "validate", "with": with})).await["valid"] == true
    }

    async fn update(&mut self, sid: &str, status: &str) -> Value {
        self.ask(json!({"do": "update", "sid": sid, "with": {"status": status}})).await
    }

    pub(crate) async fn wait_for(&mut self, sid: &str, status: &str) -> Value {
        wait_for(status, async || {
            let call = self.fetch(sid).await;
            (call["status"] == status).then_some(call)
        })
        .await
    }
}

fn check_refused(answer: &Value, status: u16, code: u32) {
    assert_eq!((&answer["refused"], &answer["code"]), (&json!(status), &json!(code)), "{answer}");
    assert!(answer["message"].as_str().is_some_and(|text| text.len() > 10), "{answer}");
}

#[tokio::test]
async fn a_bot_written_for_twilio_places_reads_and_ends_calls() {
    let (node, mut far, token) = call_out::node(json!({"kind": "echo"}), json!({})).await;
    let mut bot = Client::new(&node, 1, &token);
    let placed = bot.create(json!({"to": CALLED, "from_": NUMBER, "time_limit": 600})).await;
    let sid = placed["sid"].as_str().unwrap_or_else(|| panic!("{placed}")).to_owned();
    assert_eq!(placed["account_sid"], rows::tenant_id(1).account_sid());
    assert_eq!(
        (&placed["status"], &placed["direction"]),
        (&json!("queued"), &json!("outbound-api"))
    );
    assert_eq!((&placed["to"], &placed["from"]), (&json!(CALLED), &json!(NUMBER)));
    assert!(placed["date_created"].is_string() && placed["start_time"].is_null(), "{placed}");
    // The call is the one of our own API.
    let call = CallId::from_call_sid(&sid).unwrap().to_string();
    let invite = far.expect("INVITE ").await;
    far.respond(&invite, "180 Ringing", "", "").await;
    bot.wait_for(&sid, "ringing").await;
    pick_up(&mut far, &invite).await;
    let running = bot.wait_for(&sid, "in-progress").await;
    assert!(running["start_time"].is_string() && running["end_time"].is_null(), "{running}");
    check_refused(&bot.update(&sid, "canceled").await, 400, 21220);
    let ended = bot.update(&sid, "completed").await;
    assert_eq!(ended["sid"], sid, "{ended}");
    hear_bye(&far).await;
    let over = bot.wait_for(&sid, "completed").await;
    assert!(over["duration"].as_str().is_some_and(|text| text.parse::<u32>().is_ok()), "{over}");
    assert!(over["end_time"].is_string() && over["answered_by"].is_null(), "{over}");
    assert!(over["uri"].as_str().unwrap().ends_with(&format!("/Calls/{sid}.json")), "{over}");
    // A call that is over is not found to be ended, which bots take for what they wanted.
    check_refused(&bot.update(&sid, "completed").await, 404, 20404);
    let record = carrier::shown(&node, 1, &call, &token).await;
    assert_eq!((&record["cause"], &record["ended_by"]), (&json!("normal"), &json!("operator")));

    // One that nobody answers is cancelled.
    let placed = bot.create(json!({"to": CALLED, "from_": NUMBER})).await;
    let sid = placed["sid"].as_str().unwrap_or_else(|| panic!("{placed}")).to_owned();
    let invite = far.expect("INVITE ").await;
    far.respond(&invite, "180 Ringing", "", "").await;
    bot.wait_for(&sid, "ringing").await;
    bot.update(&sid, "canceled").await;
    let cancel = far.expect("CANCEL ").await;
    far.answer(&cancel, "200 OK").await;
    far.take(&invite);
    far.respond(&invite, "487 Request Terminated", "", "").await;
    far.expect("ACK ").await;
    bot.wait_for(&sid, "canceled").await;
}

#[tokio::test]
async fn a_bot_cancels_no_call_that_is_answered_at_the_same_moment() {
    let (node, mut far, token) = call_out::node(json!({"kind": "echo"}), json!({})).await;
    let mut bot = Client::new(&node, 1, &token);
    for _ in 0..CROSSINGS {
        let placed = bot.create(json!({"to": CALLED, "from_": NUMBER})).await;
        let sid = placed["sid"].as_str().unwrap_or_else(|| panic!("{placed}")).to_owned();
        let invite = far.expect("INVITE ").await;
        far.respond(&invite, "180 Ringing", "", "").await;
        bot.wait_for(&sid, "ringing").await;
        far.take(&invite);
        let sdp = far.sdp();
        let answered = far.respond(&invite, "200 OK", "", &sdp);
        let (said, ()) = tokio::join!(bot.update(&sid, "canceled"), answered);
        // Whichever came first, the bot is told what became of it, and that is so.
        if said["refused"].is_null() {
            hear_bye(&far).await;
            bot.wait_for(&sid, "canceled").await;
            continue;
        }
        check_refused(&said, 400, 21220);
        assert_eq!(bot.fetch(&sid).await["status"], "in-progress", "it goes on");
        bot.update(&sid, "completed").await;
        hear_bye(&far).await;
        bot.wait_for(&sid, "completed").await;
    }
}

#[tokio::test]
async fn a_call_of_a_bot_is_given_up_after_its_timeout() {
    let (node, mut far, token) = call_out::node(json!({"kind": "echo"}), json!({})).await;
    let mut bot = Client::new(&node, 1, &token);
    let placed = bot
        .create(json!({
            "to": CALLED, "from_": NUMBER, "timeout": 1,
            "status_callback_event": ["initiated", "completed"],
        }))
        .await;
    let sid = placed["sid"].as_str().unwrap_or_else(|| panic!("{placed}")).to_owned();
    let invite = far.expect("INVITE ").await;
    far.respond(&invite, "180 Ringing", "", "").await;
    let cancel = far.expect("CANCEL ").await;
    far.answer(&cancel, "200 OK").await;
    far.take(&invite);
    far.respond(&invite, "487 Request Terminated", "", "").await;
    far.expect("ACK ").await;
    bot.wait_for(&sid, "no-answer").await;
}

#[tokio::test]
async fn a_bot_is_refused_what_is_not_its_own_and_what_is_not_done() {
    let (node, mut far, token) = call_out::node(json!({"kind": "echo"}), json!({})).await;
    node.put(&[carrier::tenant(5, 4)]).await;
    let other = carrier::key(&node, 5, KeyRole::Operator).await;
    let viewer = carrier::key(&node, 1, KeyRole::Viewer).await;
    let plain = json!({"to": CALLED, "from_": NUMBER});
    let mut bot = Client::new(&node, 1, &token);
    let with = |key: &str, value: &str| {
        let mut wish = plain.clone();
        wish[key] = json!(value);
        wish
    };
    for (wish, status, code) in [
        (with("url", "bot.example"), 400, 21205),
        (with("twiml", "<Response>"), 400, 20001),
        (with("record", "true"), 400, 20001),
        (with("to", "nobody"), 400, 21211),
        (with("to", "+4420555"), 403, 21215),
        (json!({"to": CALLED, "from_": ""}), 400, 21212),
    ] {
        check_refused(&bot.create(wish).await, status, code);
    }
    let placed = bot.create(plain.clone()).await;
    let sid = placed["sid"].as_str().unwrap_or_else(|| panic!("{placed}")).to_owned();
    let invite = far.expect("INVITE ").await;
    pick_up(&mut far, &invite).await;
    bot.wait_for(&sid, "in-progress").await;

    let mut stranger = Client::new(&node, 5, &other);
    check_refused(&stranger.fetch(&sid).await, 404, 20404);
    check_refused(&stranger.update(&sid, "completed").await, 404, 20404);
    for wrong in ["nothing", &other] {
        check_refused(&Client::new(&node, 1, wrong).fetch(&sid).await, 401, 20003);
    }
    let mut reader = Client::new(&node, 1, &viewer);
    assert_eq!(reader.fetch(&sid).await["status"], "in-progress");
    check_refused(&reader.update(&sid, "completed").await, 403, 20403);
    assert_eq!(bot.fetch(&sid).await["status"], "in-progress", "nobody else ended it");

    // The token is changed: the old one opens nothing, and who changed it is on record.
    let admin = carrier::key(&node, 1, KeyRole::Admin).await;
    let keys = format!("/api/v1/tenants/{}/api-keys", rows::uuid(1));
    let all = node.read(&keys, &admin).await;
    let all = all["api_keys"].as_array().unwrap();
    let old = all.iter().find(|key| key["role"] == "tenant-operator").unwrap();
    let (old, tenant) = (old["id"].as_str().unwrap(), rows::tenant_id(1));
    let said = node.ask(&admin, &["keys", "rotate", old, "--twilio"]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    let (account, token) = said.out.trim().split_once('\n').unwrap();
    assert_eq!(account, format!("TWILIO_ACCOUNT_SID={}", tenant.account_sid()));
    let token = token.strip_prefix("TWILIO_AUTH_TOKEN=").unwrap();
    check_refused(&bot.fetch(&sid).await, 401, 20003);
    let mut bot = Client::new(&node, 1, token);
    bot.update(&sid, "completed").await;
    hear_bye(&far).await;
    bot.wait_for(&sid, "completed").await;
    let log = node.read(&format!("/api/v1/tenants/{tenant}/audit-log?action=rotate"), &admin).await;
    let entry = &log["entries"][0];
    assert_eq!((&entry["subject"], &entry["subject_id"]), (&json!("api_key"), &json!(old)));
    assert!(!log.to_string().contains("tdm_"), "{log}");
}
