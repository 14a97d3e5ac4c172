//! `tandem run` with configurations that are right, wrong, and changed while it runs.

use crate::node;
use crate::node::Home;
use crate::node::Node;
use crate::node::wait_for;
use crate::postgres;
use crate::rows;
use crate::talk;
use crate::talk::Peer;
use crate::talk::Talk;
use serde_json::json;
use sqlx::ConnectOptions;
use std::net::UdpSocket;
use tandem::store::migrate;
use tandem::store::private_cluster::PrivateCluster;
use tandem::store::table_file;

const NUMBER: &str = "+15550170";
const UNKNOWN: &str = "+15550171";

/// A socket that a node wants, too.
fn taken() -> (UdpSocket, String) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    (socket, address)
}

/// A trunk file that trusts `source` and answers `status` for numbers that are not in service.
fn trunk(source: &str, status: u16) -> String {
    format!(
        "schema_version = 1\nid = \"carrier\"\nextends = [\"generic\"]\nenabled = true\n\
         [inbound]\nsource_cidrs = [\"{source}\"]\nunknown_did = {status}\n"
    )
}

#[tokio::test]
async fn without_a_database_it_ends_before_any_socket() {
    let (_taken, address) = taken();
    let home = Home::new();
    let listener = format!("[[listener]]\nname = \"public\"\nbind = \"{address}\"\n");
    home.write("tandem.toml", &home.configuration("", 100, &listener));
    let said = home.fail().await;
    assert_eq!((said.code, said.out.as_str()), (Some(2), ""), "{said:?}");
    assert!(said.err.contains("no database is configured"), "{}", said.err);
    assert!(!said.err.contains(&address), "a socket was tried: {}", said.err);
}

#[tokio::test]
async fn a_wrong_trunk_file_ends_it_with_the_place_before_any_socket() {
    let (_taken, address) = taken();
    let home = Home::with(&address, 100, "");
    home.write("sip-profiles/carrier.toml", &trunk("127.0.0.1/32", 4_040));
    let said = home.fail().await;
    assert_eq!((said.code, said.out.as_str()), (Some(2), ""), "{said:?}");
    assert!(said.err.contains("sip-profiles/carrier.toml:7:15"), "{}", said.err);
    assert!(!said.err.contains(&address), "a socket was tried: {}", said.err);
    assert!(!home.data_dir().exists(), "data were made for a configuration that cannot run");
}

#[tokio::test]
async fn a_taken_sip_port_is_said_and_nothing_is_left_running() {
    let (_taken, address) = taken();
    let home = Home::with(&address, 100, "");
    let said = home.fail().await;
    assert_eq!((said.code, said.out.as_str()), (Some(1), ""), "{said:?}");
    assert!(said.err.contains(&address), "{}", said.err);
    assert!(said.err.contains("in use"), "{}", said.err);
    assert!(PrivateCluster::running(&home.data_dir()).is_none(), "PostgreSQL was left running");
}

#[tokio::test]
async fn a_schema_that_is_not_ours_ends_it() {
    let mut node = Home::new().start().await;
    let altered = "UPDATE _sqlx_migrations SET checksum = '\\x00' WHERE version = 1";
    postgres::execute(&node.database(), altered).await.unwrap();
    node.signal("TERM");
    assert_eq!(node.ended().await.code(), Some(0));
    let said = node.home.fail().await;
    assert_eq!((said.code, said.out.as_str()), (Some(2), ""), "{said:?}");
    assert!(said.err.contains("schema"), "{}", said.err);
    let data_dir = node.home.data_dir();
    assert!(PrivateCluster::running(&data_dir).is_none(), "PostgreSQL was left running");
}

/// Waits until the log holds `text` so many times.
async fn logged(node: &Node, text: &str, times: usize) {
    wait_for(text, async || (node.log().matches(text).count() >= times).then_some(())).await;
}

#[tokio::test]
async fn a_hang_up_signal_reloads_trunks_and_keeps_the_old_ones_when_the_new_are_wrong() {
    let home = Home::new();
    home.write("sip-profiles/carrier.toml", &trunk("127.0.0.2/32", 410));
    let node = home.start().await;
    let rows = [
        rows::tenant(1, 0),
        rows::profile(2, 1, json!({"kind": "tone"})),
        rows::number(3, 1, 2, NUMBER),
    ];
    node.put(&rows).await;
    let old = Peer::at("127.0.0.2", node.sip()).await;
    let new = Peer::at("127.0.0.3", node.sip()).await;
    assert_eq!(old.invite(UNKNOWN).await.refusal(), (410, "unknown_number", false));

    node.home.write("sip-profiles/carrier.toml", &trunk("127.0.0.3/32", 4_040));
    node.signal("HUP");
    logged(&node, "the old one stays in force", 1).await;
    logged(&node, "sip-profiles/carrier.toml:7:15", 1).await;
    let log = node.log();
    let fault = log.lines().find(|line| line.contains("carrier.toml:7:15")).unwrap();
    assert!(
        fault.starts_with('{') && fault.ends_with('}'),
        "a line of JSON like the others: {fault}"
    );
    assert_eq!(old.invite(UNKNOWN).await.refusal(), (410, "unknown_number", false));
    new.send("OPTIONS", "ping").await;
    assert!(new.hears_nothing().await, "a wrong configuration is in force");

    let file = node.home.folder().join("tandem.toml");
    let configuration = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    node.signal("HUP");
    logged(&node, "the old one stays in force", 2).await;
    node.home.write("tandem.toml", &configuration);

    node.home.write("sip-profiles/carrier.toml", &trunk("127.0.0.3/32", 604));
    node.signal("HUP");
    assert_eq!(new.invite(UNKNOWN).await.refusal(), (604, "unknown_number", false));
    old.send("OPTIONS", "ping").await;
    assert!(old.hears_nothing().await, "the old trunk is still in force");
}

#[tokio::test]
async fn a_first_start_without_its_database_refuses_with_a_reason_until_it_is_there() {
    let mut node = Home::new().start().await;
    let url = node.database().owner_options().to_url_lossy();
    // Said a moment after it is ready; what is counted below begins with it.
    logged(&node, "in step with the database", 1).await;
    node.signal("TERM");
    assert_eq!(node.ended().await.code(), Some(0));
    std::fs::remove_file(node.home.data_dir().join(table_file::NAME)).unwrap();
    node.home.write("sip-profiles/carrier.toml", &trunk("127.0.0.2/32", 410));
    let listener = "[[listener]]\nname = \"public\"\nbind = \"127.0.0.1:0\"\n";
    let away = node.home.configuration(&format!("database = \"{url}\""), 100, listener);
    node.home.write("tandem.toml", &away);
    node.launch().await;

    let carrier = Peer::at("127.0.0.2", node.sip()).await;
    let refused = carrier.invite(UNKNOWN).await;
    assert_eq!(refused.refusal(), (503, "no_routing_table", true));
    assert_eq!(node.get("/readyz").await.status, 503);

    let cluster = node.home.cluster();
    let call_id = refused.header("Call-ID").unwrap();
    let record = node::record(&cluster.database(), call_id).await;
    assert_eq!((record.cause.as_str(), record.is_answered), ("no_routing_table", false));
    logged(&node, "in step with the database", 2).await;
    assert_eq!(carrier.invite(UNKNOWN).await.refusal(), (410, "unknown_number", false));
    node.signal("TERM");
    assert_eq!(node.ended().await.code(), Some(0));
    cluster.stop().unwrap();
}

#[tokio::test]
async fn trunks_are_reloaded_while_the_database_is_away_those_of_its_rows_too() {
    let home = Home::new();
    let cluster = home.cluster();
    migrate::apply(&cluster.database()).await.unwrap();
    let url = cluster.database().owner_options().to_url_lossy();
    let listener = "[[listener]]\nname = \"public\"\nbind = \"127.0.0.1:0\"\n";
    home.write("tandem.toml", &home.configuration(&format!("database = \"{url}\""), 100, listener));
    home.write("sip-profiles/carrier.toml", &trunk("127.0.0.2/32", 410));
    let mut node = home.start().await;
    let of_row = json!({"inbound": {"source_cidrs": ["127.0.0.4/32"]}});
    let of_row = rows::trunk_with(4, of_row).replace("'generic'", "'carrier'");
    node.put(&[
        rows::tenant(1, 0),
        rows::profile(2, 1, json!({"kind": "tone"})),
        rows::number(3, 1, 2, NUMBER),
        of_row,
    ])
    .await;
    let old = Peer::at("127.0.0.2", node.sip()).await;
    let new = Peer::at("127.0.0.3", node.sip()).await;
    let row = Peer::at("127.0.0.4", node.sip()).await;
    for peer in [&old, &row] {
        assert_eq!(peer.invite(UNKNOWN).await.refusal(), (410, "unknown_number", false));
    }

    cluster.crash().unwrap();
    let is_away = async || (node.get("/readyz").await.json()["database"] == false).then_some(());
    wait_for("the database is away", is_away).await;
    node.home.write("sip-profiles/carrier.toml", &trunk("127.0.0.3/32", 604));
    node.signal("HUP");
    for peer in [&new, &row] {
        wait_for("the new profile is in force", async || {
            (peer.invite(UNKNOWN).await.refusal() == (604, "unknown_number", false)).then_some(())
        })
        .await;
    }
    old.send("OPTIONS", "ping").await;
    assert!(old.hears_nothing().await, "the old trunk is still in force");
    // Numbers are routed as before.
    let mut plan = talk::plan(node.sip(), NUMBER);
    plan.local = "127.0.0.4".parse().ok();
    let mut talk = Talk::answered(plan).await;
    talk.hear(5).await;
    let answered = talk.hang_up().await;
    assert_eq!(answered.problem, None);

    // What is left of the one that crashed may be in the way for a moment.
    wait_for("PostgreSQL starts", async || cluster.restart().ok()).await;
    let is_back = async || (node.get("/readyz").await.json()["database"] == true).then_some(());
    wait_for("the database is back", is_back).await;
    assert_eq!(new.invite(UNKNOWN).await.refusal(), (604, "unknown_number", false));
    let record = node::record(&cluster.database(), &answered.call_id).await;
    assert_eq!((record.cause.as_str(), record.is_answered), ("normal", true));
    node.signal("TERM");
    assert_eq!(node.ended().await.code(), Some(0));
    cluster.stop().unwrap();
}
