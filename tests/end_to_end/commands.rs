//! The commands that ask the API of a running node: what they print and what they exit with.

use crate::call_out::node;
use crate::call_out::place;
use crate::carrier;
use crate::carrier::CALLED;
use crate::carrier::NUMBER;
use crate::carrier::answer;
use crate::carrier::hear_bye;
use crate::carrier::key;
use crate::carrier::refuse;
use crate::carrier::shown;
use crate::node::Home;
use crate::node::Node;
use crate::node::Said;
use crate::node::wait_for;
use crate::postgres;
use crate::rows;
use crate::transfers::talking;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use serde_json::json;
use std::fs;
use tandem::store::api_keys::KeyRole;
use tandem::store::seal::Sealer;
use tandem::types::secret::Secret;

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

    let live = done(node.ask(&key, &["calls", "list", "--live"]).await);
    assert!(live.contains(&call), "{live}");

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
    let is_its = said.starts_with(&format!("call {call} is "));
    assert!(is_its && said.ends_with(", ending\n"), "{said}");
    hear_bye(&far).await;
    shown(&node, 1, &call, &key).await;
    wait_for("the call runs no more", async || {
        let live = done(node.ask(&key, &["calls", "list", "--live"]).await);
        (!live.contains(&call)).then_some(())
    })
    .await;
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
async fn an_operator_steers_a_call_by_commands_and_files_it() {
    let (node, mut far, key) = node(json!({"kind": "echo"}), json!({})).await;
    let call = place(&node, &key, json!({"to": CALLED, "from": NUMBER})).await;
    answer(&mut far).await;
    let ask = async |args: &[&str]| {
        let args = [&["calls", args[0], &call], &args[1..]].concat();
        node.ask(&key, &args).await
    };
    let stands = |more: &str| format!("call {call} is answered, with_agent{more}, agent ready\n");
    assert_eq!(done(ask(&["mute", "caller"]).await), stands(", caller muted"));
    assert_eq!(done(ask(&["unmute", "caller"]).await), stands(""));
    assert_eq!(done(ask(&["dtmf", "12"]).await), stands(""));
    let folder = node.home.data_dir().join("assets");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("hold.ulaw"), [0x2a; 8_000]).unwrap();
    let played = done(ask(&["play", "hold.ulaw", "--repeat", "100"]).await);
    assert_eq!(played, stands(", playing hold.ulaw"));
    assert_eq!(done(ask(&["play", "--stop"]).await), stands(""));
    assert_eq!(done(ask(&["hold"]).await), stands(", on hold"));
    assert_eq!(done(ask(&["resume"]).await), stands(""));
    let said = ask(&["attach", "01900000-0000-7000-8000-0000000000ff"]).await;
    assert!(said.code == Some(2) && said.err.contains("ai_profile_id"), "{said:?}");
    let said = ask(&["resume"]).await;
    assert!(said.code == Some(1) && said.err.contains("not on hold"), "{said:?}");
    let said = done(ask(&["disposition", "sold", "--summary", "two"]).await);
    assert_eq!(said, format!("call {call} is filed as sold\n"));
    far.hang_up().await;
    let record = shown(&node, 1, &call, &key).await;
    assert_eq!((&record["disposition"], &record["summary"]), (&json!("sold"), &json!("two")));
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
        (&viewer, &["calls", "hangup", nobody], 2, "the key may not do that: "),
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

#[tokio::test]
async fn the_signalling_of_a_call_outlives_the_node_for_as_long_as_it_is_kept() {
    let (mut node, mut far, key) = node(json!({"kind": "echo"}), json!({})).await;
    let call = place(&node, &key, json!({"to": CALLED, "from": NUMBER})).await;
    answer(&mut far).await;
    done(node.ask(&key, &["calls", "hangup", &call]).await);
    hear_bye(&far).await;
    shown(&node, 1, &call, &key).await;
    let ladder = done(node.ask(&key, &["calls", "trace", &call]).await);
    assert!(ladder.contains("|-- BYE (2 BYE) "), "{ladder}");
    let stored = format!("SELECT count(*) FROM sip_messages WHERE call_id = '{call}'");
    wait_for("it is stored", async || (node.count(&stored).await > 0).then_some(())).await;
    assert_eq!(node.metric("sip_traces_lost_total").await, 0);

    node.signal("TERM");
    node.ended().await;
    node.launch().await;
    assert_eq!(node.metric("sip_traces_stored_total").await, 0, "this run stored none");
    let text = done(node.ask(&key, &["calls", "trace", &call, "--messages"]).await);
    assert!(text.contains("INVITE sip:") && text.contains("BYE sip:"), "{text}");
    let again = done(node.ask(&key, &["calls", "trace", &call]).await);
    assert!(
        again.contains("|-- INVITE +body (1 INVITE) ") && again.contains("|-- BYE (2 BYE) "),
        "{again}"
    );
    let pcap = ["calls", "trace", &call, "--pcap", "call.pcap"];
    done(node.ask(&key, &pcap).await);
    let other = "SELECT count(*) FROM sip_messages m JOIN calls c ON c.id = m.call_id \
                 WHERE m.tenant_id IS DISTINCT FROM c.tenant_id";
    assert_eq!(node.count(other).await, 0, "a message is its call's tenant's");

    let file = node.home.folder().join("tandem.toml");
    let text = std::fs::read_to_string(file).unwrap();
    node.home.write("tandem.toml", &format!("{text}\n[trace]\nkeep_s = 0\n"));
    node.signal("TERM");
    node.ended().await;
    node.launch().await;
    wait_for("it is deleted", async || (node.count(&stored).await == 0).then_some(())).await;
    let said = node.ask(&key, &["calls", "trace", &call]).await;
    assert!(said.code == Some(1) && said.err.contains("not kept any more"), "{said:?}");
}

#[tokio::test]
async fn a_trunk_may_keep_the_signalling_of_its_calls_out_of_the_database() {
    let more = json!({"calls": {"trace": "memory"}});
    let (mut node, mut far, key) = node(json!({"kind": "echo"}), more).await;
    let call = place(&node, &key, json!({"to": CALLED, "from": NUMBER})).await;
    answer(&mut far).await;
    done(node.ask(&key, &["calls", "hangup", &call]).await);
    hear_bye(&far).await;
    shown(&node, 1, &call, &key).await;
    let ladder = done(node.ask(&key, &["calls", "trace", &call]).await);
    assert!(ladder.contains("|-- BYE (2 BYE) "), "{ladder}");
    // What is left when the node ends is carried then.
    node.signal("TERM");
    node.ended().await;
    node.launch().await;
    assert_eq!(node.count("SELECT count(*) FROM sip_messages").await, 0);
    let said = node.ask(&key, &["calls", "trace", &call]).await;
    assert!(said.code == Some(1) && said.err.contains("in memory alone"), "{said:?}");
}

/// Waits until the signalling of a call is told no more.
async fn trace_is_over(node: &Node, key: &str, call: &str) {
    wait_for("its time is over", async || {
        let said = node.ask(key, &["calls", "trace", call]).await;
        (said.code == Some(1)).then(|| assert!(said.err.contains("not kept any more"), "{said:?}"))
    })
    .await;
}

#[tokio::test]
async fn the_signalling_of_a_call_is_told_while_it_runs_and_until_its_time_is_over() {
    let node = Home::with("127.0.0.1:0", 100, "[trace]\nlife_s = 1\n").start().await;
    let mut far = carrier::carrier(&node, "127.0.0.9").await;
    let more = json!({"calls": {"trace": "memory"}});
    node.put(&[
        carrier::trunk(4, "127.0.0.9/32", &[far.local()], more),
        carrier::tenant(1, 4),
        rows::profile(2, 1, json!({"kind": "echo"})),
        rows::number(3, 1, 2, NUMBER),
    ])
    .await;
    let key = key(&node, 1, KeyRole::Operator).await;
    let mut placed = Vec::new();
    for _ in 0..2 {
        placed.push(place(&node, &key, json!({"to": CALLED, "from": NUMBER})).await);
        answer(&mut far).await;
    }
    let [long, short] = placed.as_slice() else { panic!("{placed:?}") };
    done(node.ask(&key, &["calls", "hangup", short]).await);
    hear_bye(&far).await;
    shown(&node, 1, short, &key).await;
    trace_is_over(&node, &key, short).await;
    // By then the other was silent for as long, and it runs.
    let ladder = done(node.ask(&key, &["calls", "trace", long]).await);
    assert!(ladder.contains("INVITE") && !ladder.contains("BYE"), "{ladder}");
    done(node.ask(&key, &["calls", "hangup", long]).await);
    hear_bye(&far).await;
    shown(&node, 1, long, &key).await;
    trace_is_over(&node, &key, long).await;
}

#[tokio::test]
async fn the_last_calls_of_a_node_leave_their_signalling_when_it_stops() {
    let (mut node, mut far, key) = node(json!({"kind": "echo"}), json!({})).await;
    let call = place(&node, &key, json!({"to": CALLED, "from": NUMBER})).await;
    answer(&mut far).await;
    done(node.ask(&key, &["calls", "hangup", &call]).await);
    hear_bye(&far).await;
    node.signal("TERM");
    node.ended().await;
    node.launch().await;
    let ladder = done(node.ask(&key, &["calls", "trace", &call]).await);
    assert!(ladder.contains("|-- BYE (2 BYE) "), "{ladder}");
}

/// Whom a command has called may not want the call: that comes to light behind the command's back.
#[tokio::test]
async fn what_a_command_only_asks_for_is_said_to_be_asked_for_and_where_it_is_told_how_that_went() {
    let (node, _far, key) = node(json!({"kind": "echo"}), json!({})).await;
    let (mut phone, _, call) = talking(&node).await;
    let desk = carrier::carrier(&node, "127.0.0.12").await;
    let uri = format!("sip:desk@{}", desk.local());
    let failures = [
        ("transfer", "the transfer", "transfer_failed"),
        ("supervise", "the supervisor", "\"leg\":\"supervisor\",\"status\":486"),
    ];
    for (command, what, failed) in failures {
        // A transfer that failed is cleared away first.
        let said = wait_for(command, async || {
            let said = node.ask(&key, &["calls", command, &call, "--uri", &uri]).await;
            (said.code == Some(0)).then_some(said)
        })
        .await;
        assert!(said.out.starts_with(&format!("call {call} is answered, ")), "{said:?}");
        let told = format!(
            "{what} is asked for: how it goes is among the events of `tandem calls show {call}`\n"
        );
        assert_eq!(said.err, told);
        let invite = desk.expect("INVITE ").await;
        refuse(&desk, &invite, "486 Busy Here", "").await;
        wait_for(failed, async || {
            let record = done(node.ask(&key, &["calls", "show", &call]).await);
            record.contains(failed).then_some(())
        })
        .await;
    }
    phone.hang_up().await;
}

#[tokio::test]
async fn a_platform_is_set_up_by_commands_from_the_first_key_on() {
    let node = Home::new().start().await;
    let create = ["keys", "create", "--role"];
    let first = [&create[..], &["platform-admin", "--platform", "--in-database"]].concat();
    let said = node.ask("", &first).await;
    assert!(said.code == Some(0) && said.err.contains("shown this once"), "{said:?}");
    let first = said.out.trim().to_owned();
    let tenant = parsed(node.ask(&first, &["tenants", "create", "Example", "--json"]).await);
    let tenant = tenant["id"].as_str().unwrap();
    let list = done(node.ask(&first, &["tenants", "list"]).await);
    assert!(list.lines().any(|line| line.contains(tenant) && line.contains("Example")), "{list}");
    assert!(done(node.ask(&first, &["tenants", "show", tenant]).await).contains("Example"));

    let role = ["tenant-admin", "--label", "desk", "--tenant", tenant];
    let said = node.ask(&first, &[&create[..], &role].concat()).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    let own = said.out.trim().to_owned();
    assert!(own.starts_with("tdm_") && !said.err.contains(&own), "{said:?}");
    let keys = parsed(node.ask(&own, &["keys", "list", "--json", "--tenant", tenant]).await);
    assert_eq!(keys["api_keys"][0]["label"], "desk");
    let list = done(node.ask(&own, &["keys", "list", "--tenant", tenant]).await);
    assert!(list.contains("tenant-admin") && !list.contains(&own), "{list}");

    let of = ["--tenant", tenant];
    let add = ["numbers", "add", "+442079460000", "+442079460099", "--label", "desk"];
    let added = done(node.ask(&first, &[&add[..], &of].concat()).await);
    let id = added.lines().next().unwrap().split_whitespace().nth(1).unwrap().to_owned();
    let find = ["numbers", "list", "--number", "+442079460042"];
    let found = done(node.ask(&own, &[&find[..], &of].concat()).await);
    assert!(found.contains(&id) && found.contains("+442079460099"), "{found}");
    let show = done(node.ask(&own, &[&["numbers", "show", &id][..], &of].concat()).await);
    assert!(show.contains("desk"), "{show}");
    // Any number of a range shows it, but takes away none of its neighbours.
    let by_number =
        done(node.ask(&own, &[&["numbers", "show", "+442079460042"][..], &of].concat()).await);
    assert_eq!(by_number, show);
    let one = ["numbers", "remove", "+442079460042"];
    let said = node.ask(&own, &[&one[..], &of].concat()).await;
    assert!(said.code == Some(1) && said.err.contains(&format!("numbers remove {id}")), "{said:?}");
    let gone = node.ask(&own, &[&["numbers", "remove", &id][..], &of].concat()).await;
    assert_eq!(done(gone), format!("number {id} is gone\n"));
    let found = done(node.ask(&own, &[&find[..], &of].concat()).await);
    assert!(!found.contains(&id), "{found}");
    let said = node.ask(&own, &[&one[..], &of].concat()).await;
    let missing = "the tenant has no number +442079460042";
    assert!(said.code == Some(1) && said.err.contains(missing), "{said:?}");
    let single = ["numbers", "add", "+442079460200"];
    done(node.ask(&first, &[&single[..], &of].concat()).await);
    let gone = node.ask(&own, &[&["numbers", "remove", "+442079460200"][..], &of].concat()).await;
    assert_eq!(done(gone), "number +442079460200 is gone\n");

    node.home.write(
        "numbers.csv",
        "number,label\n+442079460101,one\n12,two\n+442079460103,\"three, of them\"\n",
    );
    let file = node.home.folder().join("numbers.csv");
    let import = ["numbers", "import", file.to_str().unwrap()];
    let said = node.ask(&first, &[&import[..], &of].concat()).await;
    assert!(said.code == Some(1) && said.err.contains("a row was refused"), "{said:?}");
    let lines: Vec<_> = said.out.lines().collect();
    assert_eq!((lines.len(), lines[4]), (5, "2 created, 1 refused"), "{said:?}");
    assert!(lines[1].starts_with("2     +442079460101  "), "{said:?}");
    assert!(lines[2].starts_with("3     ") && lines[2].contains("`first_number`: "), "{said:?}");
    let find = ["numbers", "list", "--number", "+442079460103"];
    let found = done(node.ask(&own, &[&find[..], &of].concat()).await);
    assert!(found.contains("three, of them"), "{found}");

    let id = keys["api_keys"][0]["id"].as_str().unwrap();
    let revoked = node.ask(&first, &[&["keys", "revoke", id][..], &of].concat()).await;
    assert_eq!(done(revoked), format!("key {id} is revoked\n"));
    let said = node.ask(&own, &[&["numbers", "list"][..], &of].concat()).await;
    assert!(said.code == Some(2) && said.err.contains("does not know this key"), "{said:?}");
    let said =
        node.ask("", &["keys", "create", "--role", "king", "--platform", "--in-database"]).await;
    assert!(said.code == Some(2) && said.err.contains("--role"), "{said:?}");
}

#[tokio::test]
async fn secrets_are_sealed_again_after_a_change_of_keys_and_the_old_key_may_go() {
    let keys = [1_u8, 2].map(|byte| STANDARD.encode([byte; 32]));
    let home = Home::with("127.0.0.1:0", 100, "[secrets]\nkey_ref = \"file:1.key\"\n");
    for (name, key) in ["1.key", "2.key"].into_iter().zip(&keys) {
        home.write(name, key);
    }
    let file = home.folder().join("tandem.toml");
    let node = home.start().await;
    node.put(&[rows::tenant(1, 0), rows::trunk(2, "192.0.2.1/32")]).await;
    let [old, new] = keys.map(|key| Sealer::new([&Secret::new(key)]).unwrap());
    let sealed = old.seal(rows::uuid(2), "carrier", &Secret::new("hunter2".to_owned())).unwrap();
    let sealed = json!({"carrier": sealed});
    node.put(&[format!("UPDATE trunks SET sealed = '{sealed}'")]).await;

    let config = fs::read_to_string(&file).unwrap();
    let both = "key_ref = \"file:2.key\"\nold_key_ref = \"file:1.key\"";
    fs::write(&file, config.replace("key_ref = \"file:1.key\"", both)).unwrap();
    let reseal = async |check: &[&str]| {
        let args = [&["secrets", "reseal", "--config", "tandem.toml"], check].concat();
        node.ask("", &args).await
    };
    let said = reseal(&["--check"]).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.out.contains("trunks: 1 to seal again, 0 under the new key before"), "{said:?}");
    let said = done(reseal(&[]).await);
    assert!(said.contains("trunks: 1 sealed again, 0 under the new key before"), "{said}");
    let stored = postgres::text(&node.database(), "SELECT sealed->>'carrier' FROM trunks").await;
    let opened = new.open(rows::uuid(2), "carrier", &stored).expect("the new key opens it");
    assert_eq!(opened.expose(), "hunter2");

    fs::write(&file, config.replace("1.key", "2.key")).unwrap();
    let said = done(reseal(&["--check"]).await);
    assert!(said.contains("trunks: 0 to seal again, 1 under the new key before"), "{said}");
    // The wrong key alone opens nothing, and says which.
    fs::write(&file, config).unwrap();
    let said = reseal(&[]).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("no configured key opens secret `carrier`"), "{said:?}");
    assert!(!said.err.contains("hunter2") && !said.out.contains("hunter2"), "{said:?}");
}
