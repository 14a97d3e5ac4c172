//! Several nodes at one database: what is asked of a call is done where the call runs.

use crate::ANSWERED;
use crate::BOUND;
use crate::Client;
use crate::ECHO;
use crate::POLL;
use crate::calls;
use crate::demo_path;
use crate::follower::Follower;
use crate::http;
use crate::postgres;
use crate::receiver::Receiver;
use crate::sipp::Sipp;
use crate::switch::Switch;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use serde_json::json;
use std::time::Duration;
use tandem::agent::twiml;
use tandem::store::api_keys;
use tandem::store::api_keys::KeyRole;
use tandem::store::api_keys::KeyScope;
use tandem::store::demo;
use tandem::types::id::CallId;
use tandem::types::limit::COMMANDS_ASKED_MAX;

/// How often a node looks for what others stored.
const LOOK: Duration = Duration::from_secs(1);
/// A call that no node has.
const NOWHERE: &str = "01900000-0000-7000-8000-000000000001";

#[tokio::test]
async fn what_is_asked_of_a_call_is_done_once_by_the_node_where_it_runs() {
    let first = Switch::start().await;
    let login = first.database.owner_options().clone();
    let second = Switch::start_beside(&first, login).await;
    let client = Client::of(&first).await;
    first.wait_for_count("SELECT count(*) FROM nodes", 2).await;
    let held = calls(&second, 1, 1, 120_000).start();
    first.wait_for_count(ANSWERED, 1).await;
    let call = first.text("SELECT id::text FROM calls").await;
    let ask = async |call: &str, name: &str, wish: &str| {
        client.ask(("POST", &demo_path(&format!("calls/{call}/{name}"))), wish).await
    };
    let done = ask(&call, "hold", "").await;
    assert_eq!((done.status, &done.json()["on_hold"]), (200, &Value::from(true)), "{}", done.body);
    // Refusals come back as they are there.
    let again = ask(&call, "hold", "").await;
    assert_eq!(again.status, 409, "{}", again.body);
    let wrong = ask(&call, "dtmf", "{\"digits\": \"x\"}").await;
    let problem = wrong.json();
    assert_eq!((wrong.status, &problem["field"]), (400, &Value::from("digits")), "{problem}");
    assert_eq!(problem["request_id"].as_str(), wrong.header("x-request-id"));
    // One that runs nowhere, though the database has no end of it, is not said to be over.
    let nobodys = format!(
        "INSERT INTO calls (id, rev, tenant_id, direction, signalling_id, caller, dialled_text, decision, arrived_at) \
         VALUES ('{}', 1, '{}', 'inbound', 'x', 'x', 'x', '[]', now())",
        NOWHERE,
        demo::TENANT
    );
    postgres::execute(&first.database, &nobodys).await.unwrap();
    let away = ask(NOWHERE, "hold", "").await;
    assert_eq!(
        (away.status, &away.json()["code"]),
        (503, &Value::from("call_away")),
        "{}",
        away.body
    );
    assert_eq!(away.header("retry-after"), Some("1"));
    let over = ask(&call, "hangup", "").await;
    assert_eq!(over.status, 202, "{}", over.body);
    drop(held);
    let ended = format!("SELECT count(*) FROM calls WHERE id = '{call}' AND ended_by = 'operator'");
    first.wait_for_count(&ended, 1).await;
    let noted = format!(
        "SELECT count(*) FROM audit_log WHERE subject_id = '{call}' AND action IN ('hold', 'hangup') \
         AND api_key_id IS NOT NULL"
    );
    first.wait_for_count(&noted, 2).await;
    assert_eq!(first.count("SELECT count(*) FROM call_commands").await, 0);
}

#[tokio::test]
async fn what_happens_to_a_call_is_told_in_order_and_once_at_every_node_and_turns_are_taken_there()
{
    let first = Switch::start().await;
    let second = Switch::start_beside(&first, first.database.owner_options().clone()).await;
    first.wait_for_count("SELECT count(*) FROM nodes", 2).await;
    let client = Client::of(&first).await;
    let bearer = format!("Bearer {}", client.key);
    let auth = ("authorization", bearer.as_str());
    let mut all = Follower::open(first.http, &demo_path("events"), &[auth]).await;
    let mut all_there = Follower::open(second.http, &demo_path("events"), &[auth]).await;
    let _held = calls(&second, 1, 1, 120_000).start();
    first.wait_for_count(ANSWERED, 1).await;
    let call = first.text("SELECT id::text FROM calls").await;
    let of_call = |below: &str| demo_path(&format!("calls/{call}{below}"));
    let own = of_call("/events?after=-1");
    let mut one = Follower::open(first.http, &own, &[auth]).await;
    let mut there = Follower::open(second.http, &own, &[auth]).await;
    let has = |kind: &str| {
        let line = format!("event: call.{kind}\n");
        move |text: &str| text.contains(&line) && text.ends_with("\n\n")
    };
    let turns = async |seq: u32| {
        let turn = json!({"turns": [{"seq": seq, "speaker": "caller", "text": "hello"}]});
        client.ask(("POST", &of_call("/transcript")), &turn.to_string()).await
    };
    // Turns go to the call, which tells of them while it runs.
    let stored = turns(0).await;
    assert_eq!((stored.status, stored.json()), (200, json!({"stored": 1})), "{}", stored.body);
    let muted = client.ask(("POST", &of_call("/mute")), r#"{"party": "caller"}"#).await;
    assert_eq!(muted.status, 200, "{}", muted.body);
    for follower in [&mut all, &mut one, &mut there] {
        assert!(follower.until("the turns", has("transcript_added")).await, "{}", follower.text);
        assert!(follower.until("that it is muted", has("muted")).await, "{}", follower.text);
    }
    let over = client.ask(("POST", &of_call("/hangup")), "").await;
    assert_eq!(over.status, 202, "{}", over.body);
    all.ended(1).await;
    one.drain().await;
    there.drain().await;
    // The same events wherever they are told, each once, in the order of the call.
    assert_eq!(one.ids(), there.ids(), "{}", one.text);
    let told = one.events();
    let seqs: Vec<_> = told.iter().map(|(_, event)| event["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (0..seqs.len() as u64).collect::<Vec<_>>(), "{}", one.text);
    assert_eq!(told.last().unwrap().1["type"], "call.ended");
    assert_eq!(all.ids(), one.ids(), "{}", all.text);
    // Turns of a call that is over are any node's to store, and told at every one.
    assert_eq!(turns(1).await.json(), json!({"stored": 1}));
    for follower in [&mut all, &mut all_there] {
        let twice = |text: &str| {
            text.matches("event: call.transcript_added\n").count() == 2 && text.ends_with("\n\n")
        };
        assert!(follower.until("turns after the end", twice).await, "{}", follower.text);
        assert_eq!(follower.text.matches("event: call.ended\n").count(), 1, "{}", follower.text);
    }
    // What happens here is not told twice, though it is in the records as well.
    let own = async || {
        Sipp::new("bye-at-once", first.caller(3), first.udp, ECHO).succeeds().await;
    };
    own().await;
    all.ended(2).await;
    first.wait_for_count("SELECT count(*) FROM calls WHERE ended_at IS NOT NULL", 2).await;
    tokio::time::sleep(3 * LOOK).await;
    own().await;
    all.ended(3).await;
    let mut ids = all.ids();
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count, "{}", all.text);
}

/// The identities of all running calls that the pages of a node tell, which have so many each.
async fn listed(client: &Client, limit: usize) -> Vec<String> {
    let (mut ids, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = demo_path(&format!("calls?live=true&limit={limit}{cursor}"));
        let page = client.ask(("GET", &path), "").await;
        assert_eq!(page.status, 200, "{}", page.body);
        let page = page.json();
        let calls = page["calls"].as_array().unwrap();
        ids.extend(calls.iter().map(|call| call["id"].as_str().unwrap().to_owned()));
        assert!(calls.len() <= limit && ids.len() < 20, "{page}");
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return ids,
        }
    }
}

#[tokio::test]
async fn the_list_of_running_calls_has_those_of_every_node_at_each_of_them() {
    let first = Switch::start().await;
    let second = Switch::start_beside(&first, first.database.owner_options().clone()).await;
    first.wait_for_count("SELECT count(*) FROM nodes", 2).await;
    let client = Client::of(&first).await;
    let there = Client { http: second.http, key: client.key.clone() };
    let _here = calls(&first, 2, 1, 120_000).start();
    let _there = calls(&second, 2, 1, 120_000).start();
    first.wait_for_count(ANSWERED, 4).await;
    let ids = "SELECT string_agg(id::text, ' ' ORDER BY id DESC) FROM calls WHERE ended_at IS NULL";
    let running = first.text(ids).await;
    for (client, limit) in [(&client, 1), (&client, 3), (&there, 2), (&there, 4), (&there, 50)] {
        assert_eq!(listed(client, limit).await.join(" "), running, "{limit}");
    }
    let whole = client.ask(("GET", &demo_path("calls?live=true")), "").await.json();
    let mut calls_of_both = whole["calls"].as_array().unwrap().iter();
    assert!(calls_of_both.all(|call| call["status"] == "answered"), "{whole}");
    // One that is over is in no list any more.
    let over = running.split(' ').next().unwrap();
    let hangup = demo_path(&format!("calls/{over}/hangup"));
    let ended = client.ask(("POST", &hangup), "").await;
    assert_eq!(ended.status, 202, "{}", ended.body);
    first.wait_for_count(ANSWERED, 3).await;
    let running = first.text(ids).await;
    for client in [&client, &there] {
        let gone = async {
            while listed(client, 50).await.join(" ") != running {
                tokio::time::sleep(POLL).await;
            }
        };
        assert!(tokio::time::timeout(BOUND, gone).await.is_ok(), "{over} is still listed");
    }
    // Nor is one of a node that has not been seen for so long that its calls are closed.
    let gone = format!(
        "WITH node AS (INSERT INTO nodes (id, name, version, seen_at) \
                       VALUES (gen_random_uuid(), 'gone', '', now() - interval '25 hours') RETURNING id) \
         INSERT INTO calls (id, rev, tenant_id, direction, signalling_id, caller, dialled_text, decision, arrived_at, \
                            answered_at, node_id) \
         SELECT '{NOWHERE}', 1, '{}', 'inbound', 'x', 'x', 'x', '[]', now(), now(), node.id FROM node",
        demo::TENANT
    );
    postgres::execute(&first.database, &gone).await.unwrap();
    assert_eq!(listed(&client, 50).await.join(" "), running);
}

#[tokio::test]
async fn a_call_is_shown_as_it_stands_and_told_of_its_variables_from_any_node() {
    let first = Switch::start().await;
    let second = Switch::start_beside(&first, first.database.owner_options().clone()).await;
    first.wait_for_count("SELECT count(*) FROM nodes", 2).await;
    let client = Client::of(&first).await;
    let there = Client { http: second.http, key: client.key.clone() };
    let _held = calls(&second, 1, 1, 120_000).start();
    first.wait_for_count(ANSWERED, 1).await;
    let call = first.text("SELECT id::text FROM calls").await;
    let path = demo_path(&format!("calls/{call}"));
    let shown = client.ask(("GET", &path), "").await;
    let live = &shown.json()["live"];
    assert_eq!((shown.status, &live["state"]), (200, &json!("answered")), "{}", shown.body);
    assert_eq!(live["legs"][0]["leg"], "near", "{live}");
    let tag = shown.header("etag").unwrap().to_owned();
    let change = r#"{"variables": {"lead": "2"}}"#;
    let if_match = [("if-match", tag)];
    let changed = client.ask_with(("PATCH", &path), &if_match, change).await;
    assert_eq!(changed.status, 200, "{}", changed.body);
    assert_eq!(changed.json()["live"]["variables"], json!({"lead": "2"}), "{}", changed.body);
    let told = there.ask(("GET", &path), "").await.json();
    assert_eq!(told["live"]["variables"], json!({"lead": "2"}), "{told}");
    assert_eq!(told["variables"], json!({"lead": "2"}), "{told}");
    let stale = client.ask_with(("PATCH", &path), &if_match, change).await;
    assert_eq!(stale.status, 412, "{}", stale.body);
    let gone = client.ask(("PATCH", &path), r#"{"variables": {"lead": null}}"#).await;
    assert_eq!(gone.json()["live"]["variables"], json!({}), "{}", gone.body);
}

#[tokio::test]
async fn what_may_have_been_done_elsewhere_is_not_said_to_be_put_off() {
    let first = Switch::start().await;
    let second = Switch::start_beside(&first, first.database.owner_options().clone()).await;
    first.wait_for_count("SELECT count(*) FROM nodes", 2).await;
    let client = Client::of(&first).await;
    let _held = calls(&second, 1, 1, 120_000).start();
    first.wait_for_count(ANSWERED, 1).await;
    let call = first.text("SELECT id::text FROM calls").await;
    // Answers do not come through.
    let slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
            PERFORM pg_sleep(30); RETURN NEW; END $$; \
        CREATE TRIGGER slow BEFORE UPDATE ON call_commands FOR EACH ROW \
            WHEN (NEW.status IS NOT NULL) EXECUTE FUNCTION slow()";
    postgres::execute(&first.database, slow).await.unwrap();
    let keys = demo_path(&format!("calls/{call}/dtmf"));
    let sent = client.ask(("POST", &keys), r#"{"digits": "4"}"#).await;
    let code = sent.json()["code"].clone();
    assert_eq!((sent.status, code), (503, json!("command_unsure")), "{}", sent.body);
    assert_eq!(sent.header("retry-after"), None);
    let there = Client { http: second.http, key: client.key.clone() };
    let shown = there.ask(("GET", &demo_path(&format!("calls/{call}"))), "").await.json();
    let events = shown["events"].as_array().unwrap().iter();
    assert_eq!(events.filter(|event| event["name"] == "keys_sent").count(), 1, "{shown}");
}

/// Keeps every command that passes through the table, as it stood there.
const KEEP_COMMANDS: &str = "CREATE TABLE kept (what text); \
    CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN \
        INSERT INTO kept VALUES (NEW::text || encode(NEW.body, 'escape') || coalesce(encode(NEW.answer, 'escape'), '')); \
        RETURN NEW; END $$; \
    CREATE TRIGGER keep BEFORE INSERT OR UPDATE ON call_commands FOR EACH ROW EXECUTE FUNCTION keep()";

/// Nothing more is stored of what is said: the disk is full.
const NO_ROOM: &str = "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
        RAISE EXCEPTION 'no room' USING ERRCODE = '53100'; END $$; \
    CREATE TRIGGER no_room BEFORE INSERT ON transcripts FOR EACH ROW EXECUTE FUNCTION no_room()";

#[tokio::test]
async fn a_refusal_that_comes_from_another_node_says_when_to_try_again() {
    let first = Switch::start().await;
    let second = Switch::start_beside(&first, first.database.owner_options().clone()).await;
    first.wait_for_count("SELECT count(*) FROM nodes", 2).await;
    let client = Client::of(&first).await;
    let _held = calls(&second, 1, 1, 120_000).start();
    first.wait_for_count(ANSWERED, 1).await;
    let call = first.text("SELECT id::text FROM calls").await;
    postgres::execute(&first.database, KEEP_COMMANDS).await.unwrap();
    postgres::execute(&first.database, NO_ROOM).await.unwrap();
    let turns = r#"{"turns": [{"seq": 0, "speaker": "caller", "text": "hello"}]}"#;
    let refused =
        client.ask(("POST", &demo_path(&format!("calls/{call}/transcript"))), turns).await;
    let code = refused.json()["code"].clone();
    assert_eq!((refused.status, code), (503, json!("database_unavailable")), "{}", refused.body);
    assert_eq!(refused.header("retry-after"), Some("5"));
    // It was refused there, and its answer came through the table: asked, taken and answered.
    assert!(first.count("SELECT count(*) FROM kept").await >= 3);
}

#[tokio::test]
async fn bots_and_browsers_steer_a_call_from_a_node_where_it_does_not_run() {
    let first = Switch::start().await;
    let second = Switch::start_beside(&first, first.database.owner_options().clone()).await;
    first.wait_for_count("SELECT count(*) FROM nodes", 2).await;
    postgres::execute(&first.database, KEEP_COMMANDS).await.unwrap();
    let client = Client::of(&first).await;
    let _held = calls(&second, 1, 1, 120_000).start();
    first.wait_for_count(ANSWERED, 1).await;
    let call: CallId = first.text("SELECT id::text FROM calls").await.parse().unwrap();
    // A browser: its token is made here, and opens the call as if it ran here.
    let of_call = |below: &str| demo_path(&format!("calls/{call}{below}"));
    let made = client.ask(("POST", &of_call("/tokens")), r#"{"may": ["watch", "steer"]}"#).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let browser = Client { http: first.http, key: made.json()["token"].as_str().unwrap().into() };
    assert_eq!(browser.ask(("GET", &of_call("")), "").await.status, 200);
    let muted = browser.ask(("POST", &of_call("/mute")), r#"{"party": "caller"}"#).await;
    assert_eq!((muted.status, &muted.json()["caller_muted"]), (200, &Value::Bool(true)));
    let keys = browser.ask(("POST", &of_call("/dtmf")), r#"{"digits": "4711"}"#).await;
    assert_eq!(keys.status, 200, "{}", keys.body);
    // A bot written for Twilio: the server that it names is asked by the other node, signed with the bot's token.
    let web = Receiver::start(200).await;
    web.answer_with(200, "<Response><Pause length=\"90\"/></Response>");
    let tenant = demo::TENANT;
    let scope = KeyScope::Tenant(tenant);
    let key = api_keys::create(&first.database, scope, KeyRole::Operator, "", None).await.unwrap();
    let bot = async |form: &str| {
        let pair = format!("{}:{}", tenant.account_sid(), key.key.expose());
        let headers = [
            ("authorization", format!("Basic {}", STANDARD.encode(pair))),
            ("content-type", "application/x-www-form-urlencoded".to_owned()),
        ];
        let account = tenant.account_sid();
        let path = format!("/2010-04-01/Accounts/{account}/Calls/{}.json", call.call_sid());
        http::request_as(first.http, ("POST", &path), &headers, form).await
    };
    let led = bot(&format!("Url={}", web.url())).await;
    assert_eq!((led.status, &led.json()["status"]), (200, &json!("in-progress")), "{}", led.body);
    web.wait("the script is asked for", |told| !told.is_empty()).await;
    let asked = web.told().remove(0);
    let form: Vec<(String, String)> =
        form_urlencoded::parse(asked.text.as_bytes()).into_owned().collect();
    let signed = twiml::signature(&key.key, &web.url(), &form);
    assert_eq!(asked.headers.get("x-twilio-signature"), signed.as_ref(), "{asked:?}");
    let wrong = bot("Status=bliss").await;
    assert_eq!((wrong.status, &wrong.json()["code"]), (400, &json!(20001)), "{}", wrong.body);
    let ended = bot("Status=completed").await;
    assert_eq!(ended.status, 200, "{}", ended.body);
    let over = format!("SELECT count(*) FROM calls WHERE id = '{call}' AND ended_by = 'operator'");
    first.wait_for_count(&over, 1).await;
    // It is over for both of them, wherever they ask.
    assert_eq!(bot("Status=completed").await.status, 404);
    for switch in [&first, &second] {
        let browser = Client { http: switch.http, key: browser.key.clone() };
        assert_eq!(browser.ask(("GET", &of_call("")), "").await.status, 401);
    }
    // Nobody who reads the table reads what passed through it.
    assert!(first.count("SELECT count(*) FROM kept").await >= 10);
    for word in ["4711", "Pause", &web.address.to_string(), key.key.expose(), "caller_muted"] {
        let kept = format!("SELECT count(*) FROM kept WHERE strpos(what, '{word}') > 0");
        assert_eq!(first.count(&kept).await, 0, "{word}");
    }
}

#[tokio::test]
async fn a_node_waits_for_others_with_so_many_commands_and_puts_off_the_rest() {
    let switch = Switch::start().await;
    let client = Client::of(&switch).await;
    let nobodys = format!(
        "INSERT INTO nodes (id, name, version) VALUES (gen_random_uuid(), 'beside', ''); \
         INSERT INTO calls (id, rev, tenant_id, direction, signalling_id, caller, dialled_text, decision, arrived_at) \
         VALUES ('{}', 1, '{}', 'inbound', 'x', 'x', 'x', '[]', now())",
        NOWHERE,
        demo::TENANT
    );
    postgres::execute(&switch.database, &nobodys).await.unwrap();
    let path = demo_path(&format!("calls/{NOWHERE}/hold"));
    let asked = (0..3 * COMMANDS_ASKED_MAX).map(|_| client.ask(("POST", &path), ""));
    let answers = futures_util::future::join_all(asked).await;
    let mut busy = 0;
    for answer in answers {
        let body = answer.json();
        assert_eq!((answer.status, answer.header("retry-after").is_some()), (503, true), "{body}");
        match body["code"].as_str().unwrap() {
            "node_busy" => busy += 1,
            code => assert_eq!(code, "call_away", "{body}"),
        }
    }
    assert!((1..=2 * COMMANDS_ASKED_MAX).contains(&busy), "{busy}");
    // Everybody gets a turn again.
    let later = client.ask(("POST", &path), "").await;
    assert_eq!(later.json()["code"], "call_away", "{}", later.body);
}

#[tokio::test]
async fn who_looks_at_calls_of_a_node_that_died_puts_off_no_command() {
    let switch = Switch::start().await;
    let client = Client::of(&switch).await;
    let nobodys = format!(
        "INSERT INTO nodes (id, name, version) VALUES (gen_random_uuid(), 'beside', ''); \
         INSERT INTO calls (id, rev, tenant_id, direction, signalling_id, caller, dialled_text, decision, arrived_at) \
         VALUES ('{}', 1, '{}', 'inbound', 'x', 'x', 'x', '[]', now())",
        NOWHERE,
        demo::TENANT
    );
    postgres::execute(&switch.database, &nobodys).await.unwrap();
    let path = demo_path(&format!("calls/{NOWHERE}"));
    let hold = format!("{path}/hold");
    let looks = (0..2 * COMMANDS_ASKED_MAX).map(|_| client.ask(("GET", &path), ""));
    let looks = futures_util::future::join_all(looks);
    let commands = (0..8).map(|_| client.ask(("POST", &hold), ""));
    let (shown, done) = tokio::join!(looks, futures_util::future::join_all(commands));
    for away in done {
        assert_eq!(away.json()["code"], "call_away", "{}", away.body);
    }
    for shown in shown {
        assert_eq!((shown.status, shown.json()["live"].is_null()), (200, true), "{}", shown.body);
    }
    // What is stored is not said to be put off.
    let untold = client.ask(("PATCH", &path), r#"{"variables": {"lead": "2"}}"#).await;
    let code = untold.json()["code"].clone();
    assert_eq!((untold.status, code), (503, json!("command_unsure")), "{}", untold.body);
    assert_eq!(untold.header("retry-after"), None);
    let shown = client.ask(("GET", &path), "").await.json();
    assert_eq!(shown["variables"], json!({"lead": "2"}), "{shown}");
}
