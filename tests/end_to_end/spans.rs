//! Traces of calls at a collector that takes them, refuses them, or is not there.

use crate::bot::Bot;
use crate::node::Home;
use crate::node::Node;
use crate::node::PATIENCE;
use crate::node::wait_for;
use crate::rows;
use crate::talk;
use crate::talk::CALLER;
use crate::talk::Talk;
use crate::web::Page;
use crate::web::Web;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use serde_json::Value;
use serde_json::json;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::Ordering;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::time::timeout;

const NUMBER: &str = "+15550136";
/// Takes what it is sent and never answers.
const SILENT: u16 = 0;

/// What was posted: the head of the request, and its body.
type Posted = (String, Vec<u8>);

/// A collector of traces.
struct Collector {
    address: SocketAddr,
    status: Arc<AtomicU16>,
    posted: Arc<Mutex<Vec<Posted>>>,
}

impl Collector {
    async fn start(status: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (status, posted) = (Arc::new(AtomicU16::new(status)), Arc::new(Mutex::default()));
        let own = (Arc::clone(&status), Arc::clone(&posted));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, own.clone()));
            }
        });
        Self { address, status, posted }
    }

    fn posts(&self) -> usize {
        self.posted.lock().unwrap().len()
    }

    /// The spans of all posts so far.
    fn spans(&self) -> Vec<Span> {
        let posted = self.posted.lock().unwrap();
        let requests = posted.iter().map(|(_, body)| {
            ExportTraceServiceRequest::decode(body.as_slice()).expect("protobuf of OTLP")
        });
        let resources = requests.flat_map(|request| request.resource_spans);
        let scopes = resources.flat_map(|resource| resource.scope_spans);
        scopes.flat_map(|scope| scope.spans).collect()
    }
}

async fn converse(
    mut stream: TcpStream,
    (status, posted): (Arc<AtomicU16>, Arc<Mutex<Vec<Posted>>>),
) {
    let mut bytes = Vec::new();
    let head_end = loop {
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
        if let Some(end) = bytes.windows(4).position(|part| part == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.unwrap().trim().parse().unwrap();
    while bytes.len() < head_end + length {
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
    }
    posted.lock().unwrap().push((head, bytes[head_end..].to_vec()));
    let status = status.load(Ordering::SeqCst);
    if status == SILENT {
        drop(stream.read_buf(&mut Vec::new()).await);
        return;
    }
    let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    drop(stream.write_all(answer.as_bytes()).await);
}

/// A node that posts to `collector`, and answers `NUMBER` with this agent.
async fn node(collector: SocketAddr, agent: Value) -> Node {
    let otlp = format!(
        "[otlp]\nendpoint = \"http://{collector}\"\nauthorization_ref = \"file:token\"\n\
         service_name = \"switch-7\"\n\
         [webhooks]\nallow_http = true\nallow_networks = ['127.0.0.0/8']\n"
    );
    let home = Home::with("127.0.0.1:0", 100, &otlp);
    home.write("token", "Bearer of-the-collector");
    let node = home.start().await;
    node.put(&[
        rows::tenant(1, 0),
        rows::trunk(2, "127.0.0.1/32"),
        rows::profile(3, 1, agent),
        rows::number(4, 1, 3, NUMBER),
    ])
    .await;
    node
}

async fn call(node: &Node) {
    let mut talk = Talk::answered(talk::plan(node.sip(), NUMBER)).await;
    talk.hear(10).await;
    let summary = talk.hang_up().await;
    assert_eq!(summary.problem, None);
    assert_eq!(node.record(&summary.call_id).await.cause, "normal");
}

#[tokio::test]
async fn a_web_server_that_leads_a_call_is_told_of_its_trace() {
    let collector = Collector::start(200).await;
    let mut web = Web::start().await;
    let agent = json!({
        "kind": "twiml", "url": web.url("/voice"), "status_callback_url": web.url("/status"),
    });
    let node = node(collector.address, agent).await;
    web.put("/voice", Page::twiml("<Redirect>/next</Redirect>"));
    web.put("/next", Page::twiml("<Pause length='60'/>"));
    let talk = Talk::dial(talk::plan(node.sip(), NUMBER));
    let mut contexts = Vec::new();
    for path in ["/voice", "/next", "/status"] {
        let asked = web.asked(path).await;
        // The trace has the identity of the call.
        let call = asked.value("CallSid").trim_start_matches("CA").to_owned();
        contexts.push((asked.traceparent.unwrap_or_default(), call));
    }
    talk.hang_up().await;
    for (context, call) in &contexts {
        let is_of_call = context.starts_with(&format!("00-{call}-")) && context.ends_with("-01");
        assert!(is_of_call && call.len() == 32, "{contexts:?}");
        assert_eq!(context, &contexts[0].0);
    }
}

fn attribute<'a>(span: &'a Span, key: &str) -> Option<&'a str> {
    let own = span.attributes.iter().find(|own| own.key == key)?;
    match own.value.as_ref()?.value.as_ref()? {
        any_value::Value::StringValue(text) => Some(text),
        _ => None,
    }
}

#[tokio::test]
async fn a_call_is_one_trace_of_which_its_agent_is_told() {
    let collector = Collector::start(200).await;
    let bot = Bot::bind().await;
    let node = node(collector.address, json!({"kind": "twilio", "url": bot.url()})).await;
    let talk = Talk::dial(talk::plan(node.sip(), NUMBER));
    let mut stream = bot.accept().await;
    stream.hear(20).await;
    let summary = talk.hang_up().await;
    stream.until_closed().await;
    node.record(&summary.call_id).await;
    let ended = || collector.spans().iter().any(|span| span.name == "hangup");
    wait_for("the trace comes", async || ended().then_some(())).await;

    let spans = collector.spans();
    let of: HashMap<&str, &Span> = spans.iter().map(|span| (span.name.as_str(), span)).collect();
    let mut names: Vec<_> = of.keys().copied().collect();
    names.sort_unstable();
    assert_eq!(names, ["agent.connect", "answer", "call", "hangup", "route", "talk"]);
    let root = of["call"];
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let id = attribute(root, "tandem.call.id").unwrap();
    assert_eq!(hex(&root.trace_id), id.replace('-', ""));
    assert_eq!(attribute(root, "tandem.cause"), Some("normal"));
    assert_eq!(attribute(root, "tandem.ended_by"), Some("caller"));
    for span in &spans {
        assert_eq!(span.trace_id, root.trace_id, "{span:?}");
        assert!(span.name == "call" || span.parent_span_id == root.span_id, "{span:?}");
        assert!(span.start_time_unix_nano >= root.start_time_unix_nano, "{span:?}");
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano, "{span:?}");
        assert!(span.end_time_unix_nano <= root.end_time_unix_nano, "{span:?}");
    }
    let told = format!("00-{}-{}-01", hex(&root.trace_id), hex(&root.span_id));
    assert_eq!(stream.traceparent.as_deref(), Some(told.as_str()));
    assert_eq!(stream.start["start"]["customParameters"]["traceparent"], told);

    // The log names the call and its trunk, too.
    let log = node.log();
    let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let over = lines.find(|line| line["message"] == "call ends").expect("a line of the end");
    assert_eq!((&over["span"]["id"], &over["span"]["trunk"]), (&json!(id), &json!("trunk-2")));

    let (head, body) = collector.posted.lock().unwrap()[0].clone();
    assert!(head.starts_with("post /v1/traces http/1.1\r\n"), "{head}");
    assert!(head.contains("\r\ncontent-type: application/x-protobuf\r\n"), "{head}");
    assert!(head.contains("\r\nauthorization: bearer of-the-collector\r\n"), "{head}");
    let text = String::from_utf8_lossy(&body).into_owned();
    assert!(text.contains("switch-7"), "the resource names the node");
    for number in [NUMBER, CALLER] {
        assert!(!text.contains(number.trim_start_matches('+')), "a number in a trace");
    }
    wait_for("the spans are counted", async || {
        (node.metric("spans_exported_total").await == 6).then_some(())
    })
    .await;
    for stage in [
        "invite_trying_seconds_count",
        "routing_seconds_count",
        "call_ringing_seconds_count{direction=\"inbound\"}",
        "call_setup_seconds_count{direction=\"inbound\"}",
        "agent_connect_seconds_count{outcome=\"connected\"}",
    ] {
        assert_eq!(node.metric(stage).await, 1, "{stage}");
    }
    assert!(node.metric("record_stored_seconds_count").await >= 1);
    wait_for("nothing waits any more", async || {
        let waiting = node.metric("journal_waiting_bytes").await
            + node.metric("journal_queue_reports").await
            + node.metric("agents_connected").await;
        (waiting == 0).then_some(())
    })
    .await;
    let connections = node.metric("database_connections{state=\"idle\"}").await
        + node.metric("database_connections{state=\"busy\"}").await;
    assert!(connections >= 1, "PostgreSQL is connected");
}

#[tokio::test]
async fn a_collector_that_is_away_for_a_while_gets_the_trace_later() {
    let collector = Collector::start(503).await;
    let node = node(collector.address, json!({"kind": "tone"})).await;
    call(&node).await;
    wait_for("it was tried", async || (collector.posts() >= 1).then_some(())).await;
    collector.status.store(200, Ordering::SeqCst);
    wait_for("it was tried again", async || {
        (node.metric("spans_exported_total").await >= 5).then_some(())
    })
    .await;
    assert!(collector.posts() >= 2);
    // What a collector does not want is not brought again.
    collector.status.store(400, Ordering::SeqCst);
    call(&node).await;
    wait_for("what it refused is counted", async || {
        (node.metric("spans_lost_total{why=\"refused\"}").await >= 5).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_dead_collector_touches_neither_calls_nor_the_end() {
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let hanging = Collector::start(SILENT).await;
    for address in [dead, hanging.address] {
        let mut node = node(address, json!({"kind": "tone"})).await;
        for _ in 0..3 {
            call(&node).await;
        }
        node.signal("TERM");
        let status = timeout(PATIENCE, node.ended()).await.unwrap();
        assert!(status.success(), "{status}\n{}", node.log());
    }
    assert!(hanging.posts() >= 1);
}

#[tokio::test]
async fn without_a_collector_nobody_is_told_of_a_trace() {
    let bot = Bot::bind().await;
    let node = Home::new().start().await;
    node.put(&[
        rows::tenant(1, 0),
        rows::trunk(2, "127.0.0.1/32"),
        rows::profile(3, 1, json!({"kind": "twilio", "url": bot.url()})),
        rows::number(4, 1, 3, NUMBER),
    ])
    .await;
    let talk = Talk::dial(talk::plan(node.sip(), NUMBER));
    let mut stream = bot.accept().await;
    assert_eq!(stream.traceparent, None);
    assert!(stream.start["start"]["customParameters"].get("traceparent").is_none());
    stream.hear(5).await;
    drop(talk.hang_up().await);
}
