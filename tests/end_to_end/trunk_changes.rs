//! Calls that outlive their trunk: it is changed or removed while they run.

use crate::node::Home;
use crate::node::wait_for;
use crate::phone::Phone;
use crate::phone::SILENCE;
use crate::rows;
use crate::talk::Peer;
use serde_json::json;
use std::time::Duration;

const NUMBER: &str = "+15550180";

/// A trunk file that trusts `source`.
fn file(source: &str) -> String {
    format!(
        "schema_version = 1\nid = \"carrier\"\nextends = [\"generic\"]\nenabled = true\n\
         [inbound]\nsource_cidrs = [\"{source}\"]\n"
    )
}

/// Holds the call, takes it back, and hangs up: each by a request within the dialog.
async fn goes_on_to_its_end(phone: &mut Phone) {
    phone.drain_media_now().await;
    phone.hear_media(10).await;
    let offer = phone.sdp();
    let held = format!("{offer}a=inactive\r\n");
    let answer = phone.ask("INVITE", "", &held).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert!(answer.body.contains("a=inactive"), "{}", answer.body);
    phone.acknowledge().await;
    phone.drain_media().await;
    assert!(!phone.hears_media_within(Duration::from_millis(200)).await, "media while held");
    assert_eq!(phone.ask("INVITE", "", &offer).await.status(), 200);
    phone.acknowledge().await;
    phone.hear_media(10).await;
    phone.hang_up().await;
}

#[tokio::test]
async fn calls_go_on_when_their_trunks_are_changed_disabled_or_removed() {
    let home = Home::new();
    home.write("sip-profiles/carrier.toml", &file("127.0.0.2/32"));
    let node = home.start().await;
    node.put(&[
        rows::tenant(1, 0),
        rows::profile(2, 1, json!({"kind": "tone"})),
        rows::number(3, 1, 2, NUMBER),
        rows::trunk(4, "127.0.0.3/32"),
        rows::trunk(5, "127.0.0.4/32"),
        rows::trunk(6, "127.0.0.5/32"),
    ])
    .await;
    let mut phones = Vec::new();
    for local in ["127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"] {
        let mut phone = Phone::new(local.parse().unwrap(), node.sip(), NUMBER).await;
        phone.call("").await;
        phone.hear_media(5).await;
        phones.push(phone);
    }

    node.home.write("sip-profiles/carrier.toml", &file("127.0.0.6/32"));
    node.signal("HUP");
    let reloaded = Peer::at("127.0.0.6", node.sip()).await;
    assert_eq!(reloaded.options().await.status(), 200, "the new file is in force");
    let elsewhere = json!({"inbound": {"source_cidrs": ["127.0.0.7/32"]}});
    node.put(&[
        format!("UPDATE trunks SET overrides = '{elsewhere}' WHERE name = 'trunk-4'"),
        "UPDATE trunks SET enabled = false WHERE name = 'trunk-5'".to_owned(),
        "DELETE FROM trunks WHERE name = 'trunk-6'".to_owned(),
    ])
    .await;

    for phone in &mut phones {
        // What belongs to the call is heard; a new call is not taken any more.
        let source = phone.local().ip().to_string();
        let mut again = Phone::new(phone.local().ip(), node.sip(), NUMBER).await;
        let offer = again.sdp();
        let invite = again.request("INVITE", "", &offer);
        again.send(invite).await;
        assert!(
            again.hear_within(SILENCE).await.is_none(),
            "{source} is a stranger, but for its call"
        );
        goes_on_to_its_end(phone).await;
        let record = node.record(&phone.call_id).await;
        assert_eq!((record.cause.as_str(), record.ended_by.as_str()), ("normal", "caller"));
    }
    let held = "SELECT count(*) FROM calls WHERE holds = 1 AND packets_out > 20";
    wait_for("four whole calls", async || (node.count(held).await == 4).then_some(())).await;
}
