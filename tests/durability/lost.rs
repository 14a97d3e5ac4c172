//! A node that dies with its disk, and one that lives, at one database.

use crate::ANSWERED;
use crate::Client;
use crate::calls;
use crate::demo_path;
use crate::postgres;
use crate::switch::Switch;
use serde_json::json;
use tandem::store::lost_calls;

#[tokio::test]
async fn calls_of_a_node_that_never_comes_back_are_closed_by_another() {
    let first = Switch::start().await;
    let login = first.database.owner_options().clone();
    let mut lost = Switch::start_beside(&first, login).await;
    first.wait_for_count("SELECT count(*) FROM nodes", 2).await;
    let (_cut, _held) = (calls(&lost, 1, 1, 120_000).start(), calls(&first, 1, 1, 120_000).start());
    first.wait_for_count(ANSWERED, 2).await;
    let id = std::fs::read_to_string(lost.data_dir().join("node-id")).unwrap();
    lost.kill().await;
    std::fs::remove_dir_all(lost.data_dir()).unwrap();
    let of_lost = format!("node_id = '{}'", id.trim());
    let call = first.text(&format!("SELECT id::text FROM calls WHERE {of_lost}")).await;
    let client = Client::of(&first).await;
    let hold = client.ask(("POST", &demo_path(&format!("calls/{call}/hold"))), "").await;
    assert_eq!((hold.status, &hold.json()["code"]), (503, &json!("call_away")), "{}", hold.body);
    // A day later, for it and for its call.
    let day_later = format!(
        "UPDATE nodes SET seen_at = seen_at - interval '25 hours' WHERE id = '{}'; \
         UPDATE calls SET arrived_at = arrived_at - interval '25 hours', \
             answered_at = answered_at - interval '25 hours' WHERE {of_lost}; \
         UPDATE call_events SET at = at - interval '25 hours' WHERE call_id = '{call}'",
        id.trim()
    );
    postgres::execute(&first.database, &day_later).await.unwrap();
    // As every node does, but for the time it gives others after its start.
    let closed = lost_calls::close_all_tenants(&first.database).await.unwrap();
    assert_eq!(closed, 1);
    let interrupted =
        format!("SELECT count(*) FROM calls WHERE {of_lost} AND cause = 'interrupted'");
    assert_eq!(first.count(&interrupted).await, 1);
    let path = demo_path(&format!("calls/{call}"));
    let record = client.ask(("GET", &path), "").await.json();
    assert_eq!((&record["cause"], &record["ended_by"]), (&json!("interrupted"), &json!("switch")));
    let last = record["events"].as_array().and_then(|events| events.last()).cloned().unwrap();
    assert_eq!(last["name"], "ended", "{record}");
    // The call of the node that lives goes on.
    assert_eq!(first.count("SELECT count(*) FROM calls WHERE ended_at IS NULL").await, 1);
    let over = client.ask(("POST", &demo_path(&format!("calls/{call}/hold"))), "").await;
    assert_eq!((over.status, &over.json()["code"]), (409, &json!("call_over")), "{}", over.body);
}
