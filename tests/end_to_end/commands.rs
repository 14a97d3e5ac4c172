//! The commands that ask the API of a running node: what they print and what they exit with.

use crate::call_out::node;
use crate::call_out::place;
use crate::carrier::CALLED;
use crate::carrier::NUMBER;
use crate::carrier::answer;
use crate::carrier::hear_bye;
use crate::carrier::key;
use crate::carrier::shown;
use crate::node::Said;
use crate::node::wait_for;
use serde_json::Value;
use serde_json::json;
use tandem::store::api_keys::KeyRole;

#[track_caller]
fn done(said: Said) -> String {
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{said:?}");
    said.out
}

fn parsed(said: Said) -> Value {
    serde_json::from_str(&done(said)).unwrap()
}

#[tokio::test]
async fn an_operator_follows_a_call_by_commands_and_hangs_it_up() {
    let (node, mut far, key) = node(json!({"kind": "echo"}), json!({})).await;
    let call = place(&node, &key, json!({"to": CALLED, "from": NUMBER})).await;
    answer(&mut far).await;
    wait_for("the call is answered", async || {
        let list = done(node.ask(&key, &["calls", "list"]).await);
        let line = list.lines().find(|line| line.contains(&call))?;
        assert!(line.contains(NUMBER) && line.contains(CALLED), "{list}");
        line.contains("  answered  ").then_some(())
    })
    .await;

    // A shared trunk is seen by a key of the operator alone.
    assert_eq!(done(node.ask(&key, &["trunks", "list"]).await).lines().count(), 1);
    let all = node.operator_key().await;
    let list = done(node.ask(&all, &["trunks", "list"]).await);
    let words: Vec<_> = list.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(words, ["trunk-4", "all", "tenants", "yes", "1", "-", "g1", "ready"], "{list}");
    let trunk = done(node.ask(&all, &["trunks", "show", "trunk-4"]).await);
    assert!(trunk.contains("\ncalls    1\n") && trunk.contains("\ng1       ready"), "{trunk}");
    let trunk = parsed(node.ask(&all, &["trunks", "show", "trunk-4", "--json"]).await);
    assert_eq!((&trunk["name"], &trunk["calls"]), (&json!("trunk-4"), &json!(1)));

    let said = done(node.ask(&key, &["calls", "hangup", &call]).await);
    assert_eq!(said, format!("call {call} is ending\n"));
    hear_bye(&far).await;
    shown(&node, 1, &call, &key).await;
    let record = done(node.ask(&key, &["calls", "show", &call]).await);
    for fact in
        ["\ncause        normal\n", "\nended by     operator\n", "g1 of trunk-4", "answered"]
    {
        assert!(record.contains(fact), "{fact} is not in:\n{record}");
    }
    let record = parsed(node.ask(&key, &["calls", "show", &call, "--json"]).await);
    assert_eq!(record["cause"], "normal");
}

#[tokio::test]
async fn the_signalling_of_a_call_is_drawn_printed_and_written_by_a_command() {
    let (node, mut far, key) = node(json!({"kind": "echo"}), json!({})).await;
    let call = place(&node, &key, json!({"to": CALLED, "from": NUMBER})).await;
    answer(&mut far).await;
    done(node.ask(&key, &["calls", "hangup", &call]).await);
    hear_bye(&far).await;
    shown(&node, 1, &call, &key).await;
    let ladder = done(node.ask(&key, &["calls", "trace", &call]).await);
    assert_eq!(ladder, done(node.ask(&key, &["calls", "trace", &call, "--ladder"]).await));
    for arrow in
        ["|-- INVITE +body (1 INVITE) ", "|<-- 180 Ringing (1 INVITE) ", "|-- BYE (2 BYE) "]
    {
        assert!(ladder.contains(arrow), "{arrow} is not in:\n{ladder}");
    }
    let messages = done(node.ask(&key, &["calls", "trace", &call, "--messages"]).await);
    let place = format!("{} -> {} over udp\nINVITE sip:{CALLED}@", node.sip(), far.local());
    assert!(messages.starts_with("--- ") && messages.contains(&place), "{messages}");
    let trace = parsed(node.ask(&key, &["calls", "trace", &call, "--json"]).await);
    assert_eq!(trace["messages"][0]["way"], "out");
    let pcap = ["calls", "trace", &call, "--pcap", "call.pcap"];
    assert_eq!(done(node.ask(&key, &pcap).await), "");
    let file = std::fs::read(node.home.folder().join("call.pcap")).unwrap();
    assert_eq!(file[..4], 0xa1b2_c3d4_u32.to_le_bytes());
    assert!(file.windows(7).any(|part| part == b"INVITE "), "the messages are in it");
}

#[tokio::test]
async fn a_command_that_is_refused_says_whose_fault_it_is_and_exits_so() {
    let (node, _far, operator) = node(json!({"kind": "echo"}), json!({})).await;
    let viewer = key(&node, 1, KeyRole::Viewer).await;
    let nobody = "01900000-0000-7000-8000-0000000000ff";
    for (key, args, code, words) in [
        (&operator, &["calls", "show", nobody][..], 1, "not found: "),
        (&operator, &["calls", "hangup", nobody], 1, "not found: "),
        (&operator, &["calls", "trace", nobody], 1, "not found: "),
        (&operator, &["trunks", "show", "none"], 1, "no trunk `none`"),
        (&operator, &["calls", "list", "--tenant", nobody], 2, "the key may not do that: "),
        (&viewer, &["calls", "hangup", nobody], 2, "a key of role operator or admin"),
        (&"tdm_unknown".to_owned(), &["calls", "list"], 2, "does not know this key"),
        (&String::new(), &["calls", "list"], 2, "no API key"),
        (&operator, &["calls", "list", "--cursor", "x y"], 2, "the request is wrong: "),
        (&operator, &["calls", "show", "seven"], 2, "invalid value 'seven'"),
        (&operator, &["calls", "list", "--api", "http://127.0.0.1:1"], 1, "nothing listens there"),
        (&operator, &["calls", "list", "--api-key-file", "none"], 0, ""),
    ] {
        let said = node.ask(key, args).await;
        assert_eq!(said.code, Some(code), "{args:?}: {said:?}");
        assert!(said.err.contains(words), "{args:?}: {said:?}");
        let all = format!("{}{}", said.out, said.err);
        assert!(key.is_empty() || !all.contains(key.as_str()), "the key is shown: {all}");
    }
}
