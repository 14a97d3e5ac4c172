//! One node, and at once an agent of every kind that misbehaves: each call has its cause in its record, nothing of it
//! stays behind, and the call of an agent that does as it should is none the worse.

use crate::bot::BOT_HZ;
use crate::bot::Bot;
use crate::bot::Stream;
use crate::node::Home;
use crate::node::Node;
use crate::node::PATIENCE;
use crate::node::Record;
use crate::node::wait_for;
use crate::rows;
use crate::talk;
use crate::talk::Talk;
use futures_util::StreamExt;
use serde_json::json;
use std::net::SocketAddr;
use std::time::Duration;
use tandem::caller::CallSummary;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio::time::timeout;
use tokio_tungstenite::accept_async;

/// The longest message that an agent may send, in bytes.
const MESSAGE_MAX: usize = 16 * 1024 * 1024;
/// What one says in single bytes, in ms.
const CRUMBS_MS: usize = 1_000;
/// Much faster than it is played: this much, in messages of 20 ms, as fast as they are taken.
const FLOOD_MS: usize = 30_000;
/// Senseless messages that are borne.
const BORNE: usize = 50;

#[derive(Clone, Copy, Debug)]
enum Bad {
    /// Nobody listens there.
    Refuses,
    /// Takes the connection, and answers the handshake only after a while.
    AcceptsSlowly,
    /// Takes the connection, and never says anything.
    HangsAtOnce,
    /// Breaks off in mid-sentence.
    BreaksOff,
    /// Sends its audio byte by byte.
    SendsCrumbs,
    /// Sends one message that is too long.
    SendsTooMuch,
    /// Sends binary messages between those of text.
    MixesKinds,
    /// Sends more in a moment than is played in half a minute, and takes it back.
    Floods,
    /// Reads nothing, so that no ping of ours is ever answered.
    NeverReads,
}

const ALL: [Bad; 9] = [
    Bad::Refuses,
    Bad::AcceptsSlowly,
    Bad::HangsAtOnce,
    Bad::BreaksOff,
    Bad::SendsCrumbs,
    Bad::SendsTooMuch,
    Bad::MixesKinds,
    Bad::Floods,
    Bad::NeverReads,
];

impl Bad {
    /// What became of its call: cause, and who ended it.
    const fn end(self) -> (&'static str, &'static str) {
        match self {
            Self::Refuses | Self::HangsAtOnce => ("agent_unreachable", "switch"),
            Self::BreaksOff | Self::NeverReads => ("agent_lost", "switch"),
            Self::SendsTooMuch => ("agent_garbage", "switch"),
            Self::AcceptsSlowly | Self::SendsCrumbs | Self::MixesKinds | Self::Floods => {
                ("normal", "agent")
            }
        }
    }

    fn number(self) -> String {
        format!("+1555014{}", self as usize)
    }

    /// Does what it does to the next call.
    async fn behave(self, bot: Bot) {
        match self {
            Self::Refuses => {}
            Self::AcceptsSlowly => {
                let listener = bot.into_listener();
                let (socket, _) = listener.accept().await.unwrap();
                sleep(Duration::from_millis(700)).await;
                let mut socket = accept_async(socket).await.unwrap();
                socket.next().await.unwrap().unwrap();
                socket.close(None).await.unwrap();
                while socket.next().await.is_some_and(|it| it.is_ok()) {}
            }
            Self::HangsAtOnce => {
                let listener = bot.into_listener();
                loop {
                    let (mut socket, _) = listener.accept().await.unwrap();
                    // Until the switch lets go of it.
                    let mut taken = Vec::new();
                    drop(socket.read_to_end(&mut taken).await);
                }
            }
            Self::BreaksOff => {
                let mut stream = bot.accept().await;
                stream.say(5_000).await;
                stream.hear(25).await;
                drop(stream);
            }
            Self::SendsCrumbs => {
                let mut stream = bot.accept().await;
                for _ in 0..CRUMBS_MS * 8 {
                    stream.say_bytes(&[0x20]).await;
                }
                leave(stream).await;
            }
            Self::SendsTooMuch => {
                let (listener, end) = (bot.into_listener(), [b'x'; 1_024]);
                let (socket, _) = listener.accept().await.unwrap();
                let socket = accept_async(socket).await.unwrap();
                // A frame of text, not masked, of so many bytes (RFC 6455 section 5.2).
                let mut raw = socket.into_inner();
                let mut head = vec![0x81, 127];
                head.extend((MESSAGE_MAX as u64 + 1).to_be_bytes());
                raw.write_all(&head).await.unwrap();
                while raw.write_all(&end).await.is_ok() {}
            }
            Self::MixesKinds => {
                let mut stream = bot.accept().await;
                for _ in 0..BORNE {
                    stream.send_binary(vec![0x20; 160]).await;
                    stream.say(20).await;
                }
                leave(stream).await;
            }
            Self::Floods => {
                let mut stream = bot.accept().await;
                for _ in 0..FLOOD_MS / 20 {
                    stream.say(20).await;
                }
                stream.clear().await;
                leave(stream).await;
            }
            Self::NeverReads => {
                let stream = bot.accept().await;
                // Longer than the switch bears it.
                sleep(Duration::from_secs(90)).await;
                drop(stream);
            }
        }
    }
}

/// Says goodbye once all was heard.
async fn leave(mut stream: Stream) {
    stream.mark("end").await;
    stream.until_marks(1).await;
    stream.close(1_000).await;
    stream.until_closed().await;
}

async fn node(urls: &[(Bad, String)], good: &str) -> Node {
    let node = Home::new().start().await;
    let mut all = vec![rows::tenant(1, 0), rows::trunk(2, "127.0.0.1/32")];
    let twilio = |url: &str| json!({"kind": "twilio", "url": url, "connect_timeout_ms": 2_000, "reconnects": 0});
    for (at, (bad, url)) in (10..).zip(urls) {
        all.push(rows::profile(at, 1, twilio(url)));
        all.push(rows::number(at + 100, 1, at, &bad.number()));
    }
    all.push(rows::profile(3, 1, twilio(good)));
    all.push(rows::number(4, 1, 3, "+15550139"));
    node.put(&all).await;
    node
}

fn call(switch: SocketAddr, number: &str) -> Talk {
    Talk::dial(talk::plan(switch, number))
}

/// What is known of a call with such an agent once it is over.
fn check(bad: Bad, summary: &CallSummary, record: &Record) {
    let (cause, ended_by) = bad.end();
    assert_eq!(summary.problem, None, "{bad:?}");
    let said = (record.cause.as_str(), record.ended_by.as_str());
    assert_eq!(said, (cause, ended_by), "{bad:?}");
    let failed = (cause != "normal").then_some(cause);
    assert_eq!(record.agent_failure.as_deref(), failed, "{bad:?}");
    assert_eq!(record.has_fallback, failed.is_some(), "{bad:?}: {record:?}");
}

#[tokio::test]
async fn agents_that_misbehave_each_in_its_way_end_their_own_calls_at_most() {
    let good = Bot::bind().await;
    let (mut agents, mut urls) = (JoinSet::new(), Vec::new());
    for bad in ALL {
        let bot = Bot::bind().await;
        urls.push((bad, bot.url()));
        agents.spawn(bad.behave(bot));
    }
    let node = node(&urls, &good.url()).await;
    let mut calm = call(node.sip(), "+15550139");
    let mut stream = good.accept().await;
    // All that it will say: whoever holds the switch up is heard in it as a gap.
    stream.say(90_000).await;
    let listens = tokio::spawn(async move {
        stream.until_closed().await;
        stream.heard_frames() as u64
    });
    let sip = node.sip();
    let mut calls = JoinSet::new();
    for bad in ALL {
        calls.spawn(async move { (bad, call(sip, &bad.number()).over().await) });
    }
    while let Some(over) = calls.join_next().await {
        let (bad, summary) = over.unwrap();
        check(bad, &summary, &node.record(&summary.call_id).await);
    }
    calm.hear(10).await;
    let summary = calm.hang_up().await;
    let heard = timeout(PATIENCE, listens).await.expect("its stream ends").unwrap();
    assert!(summary.heard.is_tone(BOT_HZ), "{:?}", summary.heard);
    assert_eq!(node.record(&summary.call_id).await.cause, "normal");
    let gaps = format!(
        "SELECT count(*) FROM call_events e JOIN calls c ON c.id = e.call_id WHERE \
         c.signalling_id = '{}' AND e.name = 'underrun' AND e.detail->>'late' = 'agent'",
        summary.call_id
    );
    assert_eq!(node.count(&gaps).await, 0, "a gap was heard");
    let talked = summary.talked.as_millis() as u64 / 20;
    assert!(heard.abs_diff(talked) <= 50, "it heard {heard} frames in {talked} ticks");
    assert_eq!(node.metric("agent_messages_malformed_total{what=\"binary\"}").await, BORNE as u64);
    wait_for("nobody is connected any more", async || {
        (node.metric("agents_connected").await == 0).then_some(())
    })
    .await;
    agents.shutdown().await;
}
