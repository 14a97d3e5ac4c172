//! How often keys may ask a running switch, and call tokens in their name.

use crate::call_out::place;
use crate::carrier;
use crate::carrier::CALLED;
use crate::carrier::NUMBER;
use crate::carrier::answer;
use crate::carrier::calls;
use crate::carrier::carrier;
use crate::http;
use crate::http::Answer;
use crate::node::Home;
use crate::node::Node;
use crate::node::wait_for;
use crate::phone::Phone;
use crate::postgres;
use crate::rows;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::json;
use std::net::SocketAddr;
use tandem::store::api_keys::KeyRole;

/// Asked at once: more than a key has in any two seconds.
const MANY: usize = 16;
/// Keys that are asked for in turn, as long as the machine is too busy to tell anything.
const TRIES: u8 = 5;
/// Who waits for what the test has locked.
const LOOKUPS_WAITING: &str = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
    AND query LIKE '%FROM api_keys%'";

/// A node at which a key has one request a second, and a carrier.
async fn node() -> (Node, Phone) {
    let mut home = Home::new();
    home.set("TANDEM_HTTP_REQUESTS_PER_S", "1");
    let node = home.start().await;
    let far = carrier(&node, "127.0.0.9").await;
    node.put(&[
        carrier::trunk(4, "127.0.0.9/32", &[far.local()], json!({})),
        carrier::tenant(1, 4),
        rows::profile(2, 1, json!({"kind": "echo"})),
        rows::number(3, 1, 2, NUMBER),
    ])
    .await;
    (node, far)
}

async fn get(address: SocketAddr, path: &str, key: &str) -> Answer {
    let headers = [("authorization", format!("Bearer {key}"))];
    http::request(address, "GET", path, &headers).await
}

/// The first of many requests that is refused for its pace.
async fn refused(node: &Node, path: &str, key: &str) -> Answer {
    for _ in 0..100 {
        let mut answers: FuturesUnordered<_> =
            (0..MANY).map(|_| get(node.http(), path, key)).collect();
        while let Some(answer) = answers.next().await {
            if answer.status == 429 {
                return answer;
            }
        }
    }
    panic!("none was refused");
}

fn check(refused: &Answer) {
    assert_eq!(refused.json()["code"], "rate_limited", "{}", refused.body);
    assert_eq!(refused.header("retry-after"), Some("1"));
}

#[tokio::test]
async fn a_key_that_is_known_is_refused_for_its_pace_before_the_database_is_asked() {
    let (node, _far) = node().await;
    let known = carrier::key(&node, 1, KeyRole::Viewer).await;
    // What is in force after the key: the node has seen that.
    node.put(&["UPDATE tenants SET cps_max = 77".to_owned()]).await;
    // From now on every look-up hangs.
    let mut owner = postgres::owner(&node.database()).await;
    sqlx::raw_sql("BEGIN; LOCK TABLE api_keys IN ACCESS EXCLUSIVE MODE")
        .execute(&mut owner)
        .await
        .unwrap();
    let path = calls(1, "");
    for attempt in 0..TRIES {
        let waiting = node.count(LOOKUPS_WAITING).await;
        let unknown = format!("tdm_{}", URL_SAFE_NO_PAD.encode([attempt; 32]));
        let (address, asked) = (node.http(), path.clone());
        let hanging = tokio::spawn(async move { get(address, &asked, &unknown).await });
        wait_for("a look-up hangs", async || {
            (node.count(LOOKUPS_WAITING).await > waiting).then_some(())
        })
        .await;
        // It is given up after 2 s; who would have to be looked up as well is answered after that one. A machine that takes
        // as long for so few requests says nothing.
        tokio::select! {
            biased;
            _ = hanging => {},
            refused = refused(&node, &path, &known) => return check(&refused),
        }
    }
    panic!("the database was asked before the pace");
}

#[tokio::test]
async fn a_call_token_asks_at_the_pace_of_the_key_in_whose_name_it_is() {
    let (node, mut far) = node().await;
    let operator = carrier::key(&node, 1, KeyRole::Operator).await;
    let call = place(&node, &operator, json!({"to": CALLED, "from": NUMBER})).await;
    answer(&mut far).await;
    let viewer = carrier::key(&node, 1, KeyRole::Viewer).await;
    let tokens = calls(1, &format!("/{call}/tokens"));
    let made = node.post(&tokens, &viewer, &json!({"may": ["watch"]})).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let token = made.json()["token"].as_str().unwrap().to_owned();
    let path = calls(1, &format!("/{call}"));
    let shown = get(node.http(), &path, &token).await;
    assert_eq!(shown.status, 200, "{}", shown.body);
    check(&refused(&node, &path, &token).await);
    // Another key's pace is its own.
    assert_eq!(get(node.http(), &path, &operator).await.status, 200);
}
