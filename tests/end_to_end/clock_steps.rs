//! The clock of the machine is set, an hour on and back, while calls are up.

use crate::node::Home;
use crate::node::Node;
use crate::node::wait_for;
use crate::phone::Phone;
use crate::rows;
use crate::talk;
use crate::talk::Talk;
use serde_json::Value;
use serde_json::json;
use sqlx::ConnectOptions;
use std::path::PathBuf;
use std::time::Duration;
use tandem::clock;
use tandem::store::migrate;
use tandem::store::private_cluster::PrivateCluster;

const NUMBER: &str = "+15550171";
/// By how much the clock of the machine is off, for libfaketime.
const OFFSET: &str = "offset";
const HOUR_S: i64 = 3_600;

/// libfaketime for programs with threads. It moves the clock of the wall alone, as an operator does; the
/// time since the start goes on.
fn faketime() -> String {
    let folders = ["/usr/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"];
    let library = |folder: &&str| PathBuf::from(folder).join("faketime/libfaketimeMT.so.1");
    let found = folders.iter().map(library).find(|path| path.exists());
    found.expect("faketime is needed (Debian: faketime)").display().to_string()
}

/// A node whose clock can be set, and its database, whose clock cannot.
async fn node() -> (Node, PrivateCluster) {
    let mut home = Home::new();
    let cluster = home.cluster();
    migrate::apply(&cluster.database()).await.unwrap();
    let url = cluster.database().owner_options().to_url_lossy();
    let listener = "[[listener]]\nname = \"public\"\nbind = \"127.0.0.1:0\"\n";
    let database = format!("database = \"{url}\"");
    home.write("tandem.toml", &home.configuration(&database, 100, listener));
    home.write(OFFSET, "+0");
    home.set("LD_PRELOAD", &faketime());
    home.set("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    home.set("FAKETIME_NO_CACHE", "1");
    home.point("FAKETIME_TIMESTAMP_FILE", OFFSET);
    let node = home.start().await;
    node.put(&[
        rows::tenant(1, 0),
        rows::trunk(2, "127.0.0.1/32"),
        rows::profile(3, 1, json!({"kind": "tone"})),
        rows::number(4, 1, 3, NUMBER),
    ])
    .await;
    (node, cluster)
}

/// How far the clock of the newest line of the log is from ours, in seconds.
fn ahead_s(node: &Node) -> Option<i64> {
    let log = node.log();
    let line: Value = serde_json::from_str(log.lines().last()?).ok()?;
    let said: jiff::Timestamp = line["timestamp"].as_str()?.parse().ok()?;
    Some(said.as_second() - clock::wall_now().as_second())
}

/// Sets the clock, and waits until the node's log says so.
async fn step(node: &Node, by_s: i64) {
    node.home.write(OFFSET, &format!("{by_s:+}"));
    wait_for("the clock is set", async || {
        node.signal("HUP");
        ahead_s(node).filter(|ahead| (ahead - by_s).abs() < HOUR_S / 2)
    })
    .await;
}

#[tokio::test]
async fn a_clock_that_is_set_by_an_hour_moves_no_timer_and_no_duration() {
    let (mut node, cluster) = node().await;
    for by_s in [HOUR_S, -HOUR_S] {
        step(&node, 0).await;
        let dialled = clock::now();
        let mut talk = Talk::answered(talk::plan(node.sip(), NUMBER)).await;
        let answered = clock::now();
        // An answer that is not acknowledged goes on being repeated, twice as late each time.
        let mut mute = Phone::new("127.0.0.1".parse().unwrap(), node.sip(), NUMBER).await;
        let offer = mute.sdp();
        let unacknowledged = mute.ask("INVITE", "", &offer).await;
        assert_eq!(unacknowledged.status(), 200);
        step(&node, by_s).await;
        for _ in 0..2 {
            assert_eq!(mute.hear().await.status(), 200);
        }
        mute.confirm(&unacknowledged);
        mute.hang_up().await;
        // Audio goes on, and so does who calls next.
        talk.hear(50).await;
        let mut next = Talk::answered(talk::plan(node.sip(), NUMBER)).await;
        next.hear(5).await;
        assert_eq!(next.hang_up().await.problem, None);
        let least = clock::now().since(answered);
        let summary = talk.hang_up().await;
        let most = clock::now().since(dialled);
        assert_eq!(summary.problem, None);
        node_record(&cluster, &summary.call_id, least, most).await;
    }
    node.signal("TERM");
    assert_eq!(node.ended().await.code(), Some(0));
    cluster.stop().unwrap();
}

/// The record of the call is closed and says that it took no less and no more.
async fn node_record(cluster: &PrivateCluster, call_id: &str, least: Duration, most: Duration) {
    let database = cluster.database();
    let record = crate::node::record(&database, call_id).await;
    assert_eq!((record.cause.as_str(), record.ended_by.as_str()), ("normal", "caller"));
    let honest = format!(
        "SELECT count(*) FROM calls WHERE signalling_id = '{call_id}' \
         AND duration_ms BETWEEN {} AND {} \
         AND abs(extract(epoch FROM ended_at - answered_at) * 1000 - duration_ms) < 10000 \
         AND abs(extract(epoch FROM ended_at - now())) < {}",
        least.as_millis(),
        most.as_millis(),
        HOUR_S / 2
    );
    let count = crate::postgres::count(&database, &honest).await;
    let text = format!(
        "SELECT concat_ws(' ', duration_ms, answered_at, ended_at, now()) FROM calls \
         WHERE signalling_id = '{call_id}'"
    );
    assert_eq!(
        count,
        1,
        "{least:?} to {most:?}: {}",
        crate::postgres::text(&database, &text).await
    );
}
