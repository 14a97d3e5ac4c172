//! Requests from sources that no trunk trusts.

use crate::node::Home;
use crate::node::wait_for;
use crate::phone::Phone;
use crate::rows;
use crate::talk::Peer;
use serde_json::json;

const NUMBER: &str = "+15550140";
const COUNTER: &str = "sip_requests_unknown_source_total";

#[tokio::test]
async fn a_stranger_hears_nothing_or_403_as_the_listener_says_and_is_counted() {
    let polite =
        "[[listener]]\nname = \"polite\"\nbind = \"127.0.0.1:0\"\nunknown_source = \"refuse\"\n";
    let node = Home::with("127.0.0.1:0", 100, polite).start().await;
    node.put(&[
        rows::tenant(1, 0),
        rows::trunk(2, "127.0.0.1/32"),
        rows::profile(3, 1, json!({"kind": "tone"})),
        rows::number(4, 1, 3, NUMBER),
    ])
    .await;
    let known = Peer::at("127.0.0.1", node.sip()).await;
    assert_eq!(known.options().await.status(), 200);
    assert_eq!(node.metric(COUNTER).await, 0);

    let stranger = Peer::at("127.0.0.9", node.sip()).await;
    stranger.send("OPTIONS", "ping").await;
    stranger.send("INVITE", NUMBER).await;
    wait_for("both are counted", async || (node.metric(COUNTER).await == 2).then_some(())).await;
    stranger.send("INVITE", NUMBER).await;
    assert!(stranger.hears_nothing().await, "a stranger was answered");

    let polite = Peer::at("127.0.0.9", node.listener("polite", "udp")).await;
    assert_eq!(polite.invite(NUMBER).await.refusal(), (403, "unknown_source", false));
    assert_eq!(polite.options().await.status(), 403);
    assert_eq!(node.metric("calls_received_total").await, 0);

    // One record a source and minute: the rest is counted in the next.
    let other = Peer::at("127.0.0.10", node.listener("polite", "udp")).await;
    assert_eq!(other.invite(NUMBER).await.status(), 403);
    for (of, count) in [
        ("source LIKE '127.0.0.9:%' AND sip_status IS NULL", 1),
        ("source LIKE '127.0.0.10:%' AND sip_status = 403", 1),
        (
            "decision::text LIKE '%at listener public%' AND decision::text LIKE '%no trunk lists%'",
            1,
        ),
        ("true", 2),
    ] {
        let found = format!(
            "SELECT count(*) FROM calls WHERE cause = 'unknown_source' AND ended_by = 'switch' \
             AND tenant_id IS NULL AND transport = 'udp' AND dialled_text = '{NUMBER}' \
             AND caller <> '' AND {of}"
        );
        wait_for(of, async || (node.count(&found).await == count).then_some(())).await;
    }
}

#[tokio::test]
async fn a_scanner_gets_silence() {
    let node = Home::with("127.0.0.1:0", 100, "").start().await;
    node.put(&[
        rows::tenant(1, 0),
        rows::trunk(2, "127.0.0.1/32"),
        rows::profile(3, 1, json!({"kind": "tone"})),
        rows::number(4, 1, 3, NUMBER),
    ])
    .await;
    assert_eq!(Peer::at("127.0.0.1", node.sip()).await.options().await.status(), 200);
    let mut scanner = Phone::new([127, 0, 0, 9].into(), node.sip(), NUMBER).await;
    let name = "User-Agent: friendly-scanner\r\n";
    for method in ["OPTIONS", "REGISTER", "INVITE", "BYE", "SUBSCRIBE"] {
        let request = scanner.request(method, name, "");
        scanner.send(request).await;
    }
    let name = "sip_scanner_messages_total{signature=\"friendly-scanner\"}";
    let counted = async || (node.metric(name).await == 5).then_some(());
    wait_for("it is known for what it is", counted).await;
    assert!(scanner.hear_within(crate::phone::SILENCE).await.is_none(), "a scanner was answered");
    assert_eq!(node.metric("calls_received_total").await, 0);
}
