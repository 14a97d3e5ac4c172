//! Tenants, profiles, numbers, trunks, routing profiles: made, read, changed, deleted.

use crate::bench::Bench;
use crate::bench::check_error;
use crate::bench::check_field;
use crate::http::Answer;
use crate::postgres;
use serde_json::Value;
use serde_json::json;

/// The place of the first tenant's key, the second's, and the platform's.
const A: usize = 0;
const B: usize = 1;
const PLATFORM: usize = 2;

fn agent() -> Value {
    json!({"name": "Front desk", "system_prompt": "You answer.", "agent": {"kind": "parrot"}})
}

fn with(mut value: Value, more: Value) -> Value {
    let more = more.as_object().unwrap().clone();
    value.as_object_mut().unwrap().extend(more);
    value
}

#[tokio::test]
async fn a_tenant_is_made_changed_and_given_up_by_the_platform() {
    let bench = Bench::new().await;
    let made =
        bench.make("/api/v1/tenants", PLATFORM, json!({"name": "new", "calls_max": 5})).await;
    assert_eq!((&made["status"], &made["plan"]), (&json!("active"), &json!("starter")));
    let path = format!("/api/v1/tenants/{}", made["id"].as_str().unwrap());
    let change = json!({"status": "suspended", "allow_destinations": ["+1555"]});
    let changed = bench.send(("PATCH", &path), PLATFORM, &change).await.json();
    assert_eq!((&changed["status"], &changed["calls_max"]), (&json!("suspended"), &json!(5)));
    assert_ne!(changed["etag"], made["etag"]);
    let cleared =
        bench.send(("PATCH", &path), PLATFORM, &json!({"allow_destinations": null})).await;
    assert_eq!(cleared.json()["allow_destinations"], Value::Null);

    let answer = bench.send(("DELETE", &path), PLATFORM, &Value::Null).await;
    assert_eq!(answer.status, 204, "{}", answer.body);
    assert_eq!(bench.read(&path, PLATFORM).await["status"], "deleted");
    let list = bench.read("/api/v1/tenants?status=deleted", PLATFORM).await;
    assert_eq!(list["tenants"].as_array().unwrap().len(), 1);
    let taken = bench.send(("POST", "/api/v1/tenants"), PLATFORM, &json!({"name": "a"})).await;
    check_field(&taken, 409, "conflict", "name");
}

#[tokio::test]
async fn exactly_one_profile_of_a_tenant_is_the_default() {
    let bench = Bench::new().await;
    let path = bench.path(0, "ai-profiles");
    let first = bench.make(&path, A, agent()).await;
    assert_eq!(first["is_default"], true, "the first is it by itself");
    let second = bench.make(&path, A, with(agent(), json!({"name": "Sales"}))).await;
    assert_eq!(second["is_default"], false);
    let of = |profile: &Value| format!("{path}/{}", profile["id"].as_str().unwrap());
    let answer = bench.send(("PATCH", &of(&second)), A, &json!({"is_default": true})).await;
    assert_eq!(answer.json()["is_default"], true);
    assert_eq!(bench.read(&of(&first), A).await["is_default"], false);
    let answer = bench.send(("PATCH", &of(&second)), A, &json!({"is_default": false})).await;
    check_field(&answer, 409, "conflict", "is_default");
    let answer = bench.send(("DELETE", &of(&second)), A, &Value::Null).await;
    check_field(&answer, 409, "conflict", "is_default");
    let third = bench.make(&path, A, with(agent(), json!({"name": "3", "is_default": true}))).await;
    assert_eq!(bench.read(&of(&second), A).await["is_default"], false);
    for profile in [&first, &second, &third] {
        let answer = bench.send(("DELETE", &of(profile)), A, &Value::Null).await;
        assert_eq!(answer.status, 204, "{}", answer.body);
    }
}

#[tokio::test]
async fn many_that_want_the_default_at_once_leave_one() {
    let bench = Bench::new().await;
    let path = bench.path(0, "ai-profiles");
    let make = |name: usize| {
        let body = with(agent(), json!({"name": name.to_string(), "is_default": true}));
        let path = &path;
        let bench = &bench;
        async move { bench.make(path, A, body).await }
    };
    tokio::join!(make(1), make(2), make(3), make(4), make(5));
    let sql = "SELECT count(*) FROM ai_profiles WHERE is_default";
    assert_eq!(postgres::count(&bench.database, sql).await, 1);
}

#[tokio::test]
async fn who_takes_over_from_an_agent_is_named_in_an_order_that_is_kept() {
    let bench = Bench::new().await;
    let path = bench.path(0, "ai-profiles");
    let named = |name: &str| with(agent(), json!({"name": name}));
    let first = bench.make(&path, A, named("1")).await;
    assert_eq!(first["fallback_profiles"], json!([]));
    let second = bench.make(&path, A, named("2")).await["id"].clone();
    let third = bench.make(&path, A, named("3")).await["id"].clone();
    let foreign = bench.make(&bench.path(1, "ai-profiles"), B, agent()).await["id"].clone();
    let item = format!("{path}/{}", first["id"].as_str().unwrap());
    // Neither the order of their names and ids nor that of their making.
    let order = json!([third, second]);
    for change in [json!({"fallback_profiles": order}), json!({"role": "sales"})] {
        let answer = bench.send(("PATCH", &item), A, &change).await;
        assert_eq!(answer.status, 200, "{change}: {}", answer.body);
        assert_eq!(answer.json()["fallback_profiles"], order, "{change}");
        assert_eq!(bench.read(&item, A).await["fallback_profiles"], order, "{change}");
    }
    let five = [(); 5].map(|()| tandem::clock::new_uuid().to_string());
    for wrong in [
        json!([first["id"]]),
        json!([foreign]),
        json!([second, second]),
        json!(five),
        json!(["third"]),
    ] {
        let change = json!({"fallback_profiles": wrong});
        let answer = bench.send(("PATCH", &item), A, &change).await;
        check_field(&answer, 400, "invalid_value", "fallback_profiles");
    }
    assert_eq!(bench.read(&item, A).await["fallback_profiles"], order, "nothing was changed");
    let answer = bench.send(("PATCH", &item), A, &json!({"fallback_profiles": []})).await;
    assert_eq!(answer.json()["fallback_profiles"], json!([]), "{}", answer.body);
}

#[tokio::test]
async fn an_agent_is_judged_as_it_will_be_read_for_calls() {
    let bench = Bench::new().await;
    let path = bench.path(0, "ai-profiles");
    for (change, field) in [
        (json!({"agent": {"kind": "twilio"}}), "agent.url"),
        (json!({"agent": {"kind": "twilio", "url": "https://x"}}), "agent.url"),
        (json!({"agent": {"kind": "tone", "hz": 9}}), "agent.hz"),
        (json!({"agent": {"kind": "tone", "hz": 99_999}}), "agent.hz"),
        (json!({"agent": {"kind": "robot"}}), "agent.kind"),
        (json!({"agent": {"kind": "parrot", "colour": 1}}), "agent.colour"),
        // Where no agent may be on this node, as far as its text tells.
        (json!({"agent": {"kind": "twilio", "url": "ws://10.0.0.1:8080/x"}}), "agent.url"),
        (json!({"agent": {"kind": "realtime", "url": "wss://[::1]/?model=m"}}), "agent.url"),
        (json!({"agent": {"kind": "chan_websocket", "url": "wss://u@127.0.0.1"}}), "agent.url"),
        (
            json!({"agent": {"kind": "audiosocket", "address": "169.254.169.254:80"}}),
            "agent.address",
        ),
        (json!({"system_prompt": " "}), "system_prompt"),
        (json!({"role": "chef"}), "role"),
        (json!({"colour": 1}), "colour"),
    ] {
        let answer = bench.send(("POST", &path), A, &with(agent(), change)).await;
        check_field(&answer, 400, "invalid_value", field);
    }
    // A change is laid over the agent; what it makes of it is judged.
    let made = bench.make(&path, A, agent()).await;
    let path = format!("{path}/{}", made["id"].as_str().unwrap());
    let answer = bench.send(("PATCH", &path), A, &json!({"agent": {"hangup_after_ms": 500}})).await;
    let expected = json!({"kind": "parrot", "hangup_after_ms": 500});
    assert_eq!(answer.json()["agent"], expected, "{}", answer.body);
    let answer = bench.send(("PATCH", &path), A, &json!({"agent": {"hz": 440}})).await;
    check_field(&answer, 400, "invalid_value", "agent.hz");
}

#[tokio::test]
async fn a_number_belongs_to_one_tenant_alone_or_within_a_range() {
    let bench = Bench::new().await;
    let (of_a, of_b) = (bench.path(0, "numbers"), bench.path(1, "numbers"));
    let range = json!({"first_number": "+15550100", "last_number": "+15550109"});
    let made = bench.make(&of_a, PLATFORM, range).await;
    let one = json!({"first_number": "+15550105"});
    let answer = bench.send(("POST", &of_b), PLATFORM, &one).await;
    check_field(&answer, 409, "conflict", "first_number");
    let found = bench.read(&format!("{of_a}?number=%2B15550107"), A).await;
    assert_eq!(found["numbers"][0]["id"], made["id"]);
    let single = bench.make(&of_b, PLATFORM, json!({"first_number": "+15550110"})).await;
    assert_eq!(single["last_number"], "+15550110");
    for (body, field) in [
        (json!({"first_number": "0100"}), "first_number"),
        (json!({"first_number": "+15550120", "last_number": "+15550119"}), "last_number"),
        (json!({"label": "x"}), "first_number"),
        (json!({"first_number": "+15550120", "ai_profile_id": made["id"]}), "ai_profile_id"),
        (json!({"first_number": "+15550120", "trunk_id": made["id"]}), "trunk_id"),
    ] {
        let answer = bench.send(("POST", &of_b), PLATFORM, &body).await;
        check_field(&answer, 400, "invalid_value", field);
    }
    let path = format!("{of_a}/{}", made["id"].as_str().unwrap());
    let answer = bench.send(("PATCH", &path), A, &json!({"first_number": "+15550100"})).await;
    check_field(&answer, 400, "invalid_value", "first_number");
    let answer = bench.send(("PATCH", &path), A, &json!({"is_active": false, "label": "x"})).await;
    assert_eq!(answer.json()["is_active"], false, "{}", answer.body);
    let answer = bench.send(("PATCH", &path), A, &json!({"compliance_state": "approved"})).await;
    check_field(&answer, 403, "platforms_only", "compliance_state");
}

#[tokio::test]
async fn a_tenants_key_puts_numbers_on_trunks_of_its_own_alone() {
    let bench = Bench::new().await;
    let trunk = json!({"name": "own", "profile": "generic"});
    let own = bench.make(&bench.path(0, "trunks"), A, trunk).await;
    let shared = json!({"name": "shared", "profile": "generic"});
    let shared = bench.make("/api/v1/trunks", PLATFORM, shared).await;
    let path = bench.path(0, "numbers");
    let number = |trunk: &Value| json!({"first_number": "+15550100", "trunk_id": trunk});
    for trunk in [&Value::Null, &shared["id"]] {
        let answer = bench.send(("POST", &path), A, &number(trunk)).await;
        check_field(&answer, 400, "invalid_value", "trunk_id");
    }
    let made = bench.make(&path, A, number(&own["id"])).await;
    let item = format!("{path}/{}", made["id"].as_str().unwrap());
    let answer = bench.send(("PATCH", &item), A, &json!({"trunk_id": null})).await;
    check_field(&answer, 400, "invalid_value", "trunk_id");
    let answer = bench.send(("PATCH", &item), A, &json!({"outbound_trunk_id": shared["id"]})).await;
    check_field(&answer, 400, "invalid_value", "outbound_trunk_id");
    // It would fall to the shared trunks.
    let trunk = format!("{}/{}", bench.path(0, "trunks"), own["id"].as_str().unwrap());
    let answer = bench.send(("DELETE", &trunk), A, &Value::Null).await;
    check_error(&answer, 409, "conflict");
    let answer = bench.send(("PATCH", &item), PLATFORM, &json!({"trunk_id": shared["id"]})).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let answer = bench.send(("DELETE", &trunk), A, &Value::Null).await;
    assert_eq!(answer.status, 204, "{}", answer.body);
}

#[tokio::test]
async fn a_trunk_is_judged_in_the_schema_of_profiles() {
    let bench = Bench::new().await;
    let path = bench.path(0, "trunks");
    let trunk =
        |overrides: Value| json!({"name": "t", "profile": "generic", "overrides": overrides});
    for (body, field) in [
        (trunk(json!({"inbound": {"source_cidrs": ["x"]}})), "overrides.inbound.source_cidrs[0]"),
        (trunk(json!({"inbound": {"colour": 1}})), "overrides.inbound.colour"),
        (json!({"name": "t", "profile": "nobody"}), "profile"),
        (json!({"name": "T T", "profile": "generic"}), "name"),
        (trunk(json!({"tls": {"ca_file": "/etc/passwd"}})), "overrides.tls.ca_file"),
        (
            trunk(json!({"inbound": {"digest": {"password_ref": "env:CARRIER"}}})),
            "overrides.inbound.digest.password_ref",
        ),
    ] {
        let answer = bench.send(("POST", &path), A, &body).await;
        check_error(&answer, 400, "invalid_value");
        let said = answer.json();
        assert_eq!(said["field"], field, "{said}");
    }
    let made =
        bench.make(&path, A, trunk(json!({"inbound": {"source_cidrs": ["192.0.2.1"]}}))).await;
    assert_eq!((&made["enabled"], &made["shared"]), (&json!(true), &json!(false)));
    assert_eq!((&made["calls"], &made["last_invite_at"]), (&json!(0), &Value::Null));
    let answer = bench.send(("POST", &path), A, &trunk(json!({}))).await;
    check_field(&answer, 409, "conflict", "name");
    // What others call theirs is not told, and hinders nobody.
    let same = trunk(json!({"inbound": {"source_cidrs": ["192.0.2.1"]}}));
    bench.make(&bench.path(1, "trunks"), B, same.clone()).await;
    bench.make("/api/v1/trunks", PLATFORM, same.clone()).await;
    let answer = bench.send(("POST", "/api/v1/trunks"), PLATFORM, &same).await;
    check_field(&answer, 409, "conflict", "name");
}

#[tokio::test]
async fn a_tenants_trunk_takes_no_secret_of_the_node_from_its_profile() {
    let bench = Bench::new().await;
    let path = bench.path(0, "trunks");
    let gateway = json!([{"name": "own", "uri": "sip:gateway.example"}]);
    let telnyx = |digest: Value| {
        let mut outbound = json!({"gateway": gateway});
        outbound["digest"] = digest;
        json!({"name": "t", "profile": "telnyx", "enabled": true,
            "overrides": {"vars": {"username": "u"}, "outbound": outbound},
            "secrets": {"password": "hunter2"}})
    };
    // Whether the node has them or not: it is not looked up.
    for body in [json!({"name": "t", "profile": "telnyx"}), telnyx(json!({"username": "u"}))] {
        for key in [A, PLATFORM] {
            let answer = bench.send(("POST", &path), key, &body).await;
            check_field(&answer, 400, "invalid_value", "profile");
            assert!(answer.body.contains("`outbound.digest.password_ref`"), "{}", answer.body);
            assert!(!answer.body.contains("TELNYX"), "{}", answer.body);
        }
    }
    let made = bench.make(&path, A, telnyx(json!({"password_ref": "sealed:password"}))).await;
    let item = format!("{path}/{}", made["id"].as_str().unwrap());
    let answer = bench.send(("PATCH", &item), A, &json!({"profile": "twilio"})).await;
    check_field(&answer, 400, "invalid_value", "profile");
    // What the platform names in the trunk itself is meant for it, and for no other profile.
    let mut named = telnyx(json!({"password_ref": "env:CARRIER"}));
    named["name"] = json!("named");
    let answer = bench.send(("POST", &path), A, &named).await;
    check_field(&answer, 400, "invalid_value", "overrides.outbound.digest.password_ref");
    let named = bench.make(&path, PLATFORM, named).await;
    let item = format!("{path}/{}", named["id"].as_str().unwrap());
    let answer = bench.send(("PATCH", &item), A, &json!({"profile": "generic"})).await;
    check_field(&answer, 400, "invalid_value", "overrides.outbound.digest.password_ref");
    let answer = bench.send(("PATCH", &item), A, &json!({"enabled": false})).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
}

#[tokio::test]
async fn peers_of_a_tenants_trunk_are_where_agents_may_be() {
    let bench = Bench::new().await;
    let path = bench.path(0, "trunks");
    let trunk = |gateway: Value, registration: Value| {
        let outbound =
            json!({"enabled": true, "gateway": [{"name": "ok", "uri": "sip:8.8.8.8"}, gateway]});
        json!({"name": "t", "profile": "generic", "enabled": false,
            "overrides": {"outbound": outbound, "registration": registration}})
    };
    let gateway = |uri: &str| json!({"name": "g", "uri": uri});
    let no = json!({});
    let registers = |registrar: &str| json!({"enabled": true, "registrar": registrar, "aor": "sip:u@x.example"});
    let good = gateway("sip:gateway.example");
    let behind = json!({"name": "g", "uri": "sip:carrier.example", "proxy": "sip:10.0.0.5;lr"});
    let mut by_proxy = registers("sip:registrar.example");
    by_proxy["proxy"] = json!("sip:127.0.0.1:5432;transport=tcp");
    for (body, field) in [
        (trunk(gateway("sip:10.0.0.5:5432;transport=tcp"), no.clone()), "outbound.gateway[1].uri"),
        (trunk(gateway("sip:[::1]"), no.clone()), "outbound.gateway[1].uri"),
        (trunk(behind, no.clone()), "outbound.gateway[1].proxy"),
        (trunk(good.clone(), registers("sip:169.254.169.254")), "registration.registrar"),
        (trunk(good.clone(), by_proxy), "registration.proxy"),
    ] {
        for key in [A, PLATFORM] {
            let answer = bench.send(("POST", &path), key, &body).await;
            check_field(&answer, 400, "invalid_value", &format!("overrides.{field}"));
        }
    }
    let made = bench.make(&path, A, trunk(good, registers("sip:registrar.example"))).await;
    let item = format!("{path}/{}", made["id"].as_str().unwrap());
    // One that was made before is judged when something is sent, and can be disabled.
    let moved = "UPDATE trunks SET overrides = jsonb_set(overrides, '{outbound,gateway,1,uri}', '\"sip:10.0.0.5\"')";
    postgres::execute(&bench.database, moved).await.unwrap();
    let answer = bench.send(("PATCH", &item), A, &json!({"enabled": false})).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let variables = json!({"vars": {"sbc": "10.0.0.5"}, "outbound": {"gateway": [{"name": "v", "uri": "sip:{vars.sbc}"}]}});
    let answer = bench.send(("PATCH", &item), A, &json!({"overrides": variables})).await;
    check_field(&answer, 400, "invalid_value", "overrides.outbound.gateway[0].uri");
    let shared = json!({"name": "shared", "profile": "generic", "enabled": false,
        "overrides": {"outbound": {"enabled": true, "gateway": [{"name": "g", "uri": "sip:10.0.0.5"}]}}});
    bench.make("/api/v1/trunks", PLATFORM, shared).await;
}

#[tokio::test]
async fn a_trunk_says_when_its_last_call_came() {
    let bench = Bench::new().await;
    let path = bench.path(0, "trunks");
    let made = bench.make(&path, A, json!({"name": "t", "profile": "generic"})).await;
    let call = bench.call(bench.tenants[0], "+15557701").await;
    let trunk = made["id"].as_str().unwrap();
    let sql = format!("UPDATE calls SET trunk_id = '{trunk}' WHERE id = '{call}'");
    postgres::execute(&bench.database, &sql).await.unwrap();
    let call = bench.read(&bench.path(0, &format!("calls/{call}")), A).await;
    let trunk = bench.read(&format!("{path}/{trunk}"), A).await;
    assert_eq!(trunk["last_invite_at"], call["times"]["arrived"]);
}

#[tokio::test]
async fn shared_trunks_are_the_platforms_and_not_shown_to_tenants() {
    let bench = Bench::new().await;
    let made = json!({"name": "shared", "profile": "generic"});
    let made = bench.make("/api/v1/trunks", PLATFORM, made).await;
    assert_eq!((&made["shared"], &made["tenant_id"]), (&json!(true), &Value::Null));
    for (key, count) in [(A, 0), (PLATFORM, 1)] {
        let list = bench.read(&bench.path(0, "trunks"), key).await;
        assert_eq!(list["trunks"].as_array().unwrap().len(), count);
    }
    let item = format!("{}/{}", bench.path(0, "trunks"), made["id"].as_str().unwrap());
    check_error(&bench.get(&item, Some(&bench.keys[A])).await, 404, "not_found");
    // Through a tenant's path it is seen, not changed.
    assert_eq!(bench.read(&item, PLATFORM).await["id"], made["id"]);
    let answer = bench.send(("DELETE", &item), PLATFORM, &Value::Null).await;
    check_error(&answer, 404, "not_found");
    check_error(&bench.get("/api/v1/trunks", Some(&bench.keys[A])).await, 403, "platforms_only");
}

#[tokio::test]
async fn routing_profiles_are_the_platforms_to_make_and_their_tenants_to_read() {
    let bench = Bench::new().await;
    let trunk = json!({"name": "t", "profile": "generic"});
    let trunk = bench.make(&bench.path(0, "trunks"), A, trunk).await;
    let path = bench.path(0, "routing-profiles");
    let body = json!({"name": "India", "country": "IN", "outbound_trunk_id": trunk["id"]});
    check_error(&bench.send(("POST", &path), A, &body).await, 403, "platforms_only");
    let made = bench.make(&path, PLATFORM, body.clone()).await;
    assert_eq!(bench.read(&path, A).await["routing_profiles"][0]["id"], made["id"]);
    // Another tenant's trunk is like one that is not there.
    let other = bench.path(1, "routing-profiles");
    let answer = bench.send(("POST", &other), PLATFORM, &body).await;
    check_field(&answer, 400, "invalid_value", "outbound_trunk_id");
    let answer =
        bench.send(("POST", &path), PLATFORM, &json!({"name": "x", "country": "in"})).await;
    check_field(&answer, 400, "invalid_value", "country");
}

#[tokio::test]
async fn two_who_change_one_thing_at_once_do_not_undo_each_other() {
    let bench = Bench::new().await;
    let path = bench.path(0, "ai-profiles");
    let made = bench.make(&path, A, agent()).await;
    let path = format!("{path}/{}", made["id"].as_str().unwrap());
    let tag = made["etag"].as_str();
    let first = bench.send_if(("PATCH", &path), A, &json!({"role": "sales"}), tag).await;
    assert_eq!(first.status, 200, "{}", first.body);
    let second = bench.send_if(("PATCH", &path), A, &json!({"role": "support"}), tag).await;
    check_error(&second, 412, "changed_meanwhile");
    check_error(
        &bench.send_if(("DELETE", &path), A, &Value::Null, tag).await,
        412,
        "changed_meanwhile",
    );
    let shown = bench.get(&path, Some(&bench.keys[A])).await;
    assert_eq!(
        (&shown.json()["role"], shown.header("etag")),
        (&json!("sales"), first.header("etag"))
    );
    // How it stands at this moment is shown beside it, which no tag tells.
    let again = get_if_changed(&bench, &path, shown.header("etag").unwrap()).await;
    assert_eq!((again.status, again.header("etag")), (200, shown.header("etag")));
}

/// Reads a thing of the first tenant unless it still has this tag.
async fn get_if_changed(bench: &Bench, path: &str, tag: &str) -> Answer {
    let known =
        [("authorization", format!("Bearer {}", bench.keys[A])), ("if-none-match", tag.to_owned())];
    crate::http::request(bench.address, "GET", path, &known).await
}

#[tokio::test]
async fn who_has_a_thing_is_not_sent_it_again_unless_it_is_shown_with_how_it_stands() {
    let bench = Bench::new().await;
    let number = json!({"first_number": "+15550100"});
    for (noun, body, status) in [
        ("numbers", number, 304),
        ("campaigns", json!({"name": "c"}), 304),
        ("trunks", json!({"name": "t", "profile": "generic"}), 200),
        ("ai-profiles", agent(), 200),
    ] {
        let made = bench.make(&bench.path(0, noun), PLATFORM, body).await;
        let path = bench.path(0, &format!("{noun}/{}", made["id"].as_str().unwrap()));
        let tag = made["etag"].as_str().unwrap();
        let again = get_if_changed(&bench, &path, tag).await;
        assert_eq!((again.status, again.header("etag")), (status, Some(tag)), "{noun}");
        let other = get_if_changed(&bench, &path, "\"1\"").await;
        assert_eq!(other.status, 200, "{noun}");
    }
}

#[tokio::test]
async fn what_takes_nothing_refuses_what_it_is_given() {
    let bench = Bench::new().await;
    let call = bench.call(bench.tenants[0], "+15557701").await;
    let hook = json!({"url": "https://hooks.example/"});
    let hook = bench.make(&bench.path(0, "webhooks"), A, hook).await;
    let rotate = format!("webhooks/{}/rotate-secret", hook["id"].as_str().unwrap());
    let commands = ["hangup", "hold", "resume", "play/stop", "record/start", "supervise/stop"];
    let commands = commands.map(|command| format!("calls/{call}/{command}"));
    for path in commands.iter().chain([&rotate]) {
        let path = bench.path(0, path);
        let given = bench.send(("POST", &path), A, &json!({"cause": 1})).await;
        check_field(&given, 400, "invalid_value", "cause");
        check_error(&bench.send(("POST", &path), A, &json!([])).await, 400, "bad_body");
        // The process of this bench carries no calls.
        let status = if path.ends_with("secret") { 200 } else { 503 };
        for nothing in [json!({}), Value::Null] {
            let answer = bench.send(("POST", &path), A, &nothing).await;
            assert_eq!(answer.status, status, "{path}: {}", answer.body);
        }
    }
}

#[tokio::test]
async fn lists_go_page_by_page_and_are_narrowed() {
    let bench = Bench::new().await;
    let path = bench.path(1, "numbers");
    for last in 0..5 {
        let label = if last % 2 == 0 { "even" } else { "odd" };
        let body = json!({"first_number": format!("+1555010{last}"), "label": label});
        bench.make(&path, PLATFORM, body).await;
    }
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = bench.read(&format!("{path}?limit=2{cursor}"), B).await;
        let numbers = page["numbers"].as_array().unwrap().clone();
        seen.extend(numbers.iter().map(|number| number["first_number"].clone()));
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    seen.reverse();
    assert_eq!(seen, (0..5).map(|last| json!(format!("+1555010{last}"))).collect::<Vec<_>>());
    let even = bench.read(&format!("{path}?label=even&is_active=true"), B).await;
    assert_eq!(even["numbers"].as_array().unwrap().len(), 3);
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("cursor=x", "cursor"),
        ("is_active=maybe", "is_active"),
        ("number=0100", "number"),
        ("trunk_id=x", "trunk_id"),
        ("colour=red", "colour"),
    ] {
        let answer = bench.get(&format!("{path}?{query}"), Some(&bench.keys[B])).await;
        check_field(&answer, 400, "invalid_value", field);
    }
}

#[tokio::test]
async fn bodies_are_json_objects_of_a_bounded_length() {
    let bench = Bench::new().await;
    let path = bench.path(0, "ai-profiles");
    let key = ("x-api-key", bench.keys[A].clone());
    let send = async |content: &str| {
        crate::http::request_with(
            bench.address,
            ("POST", &path),
            std::slice::from_ref(&key),
            content,
        )
        .await
    };
    for body in ["[1]", "{", "nonsense", "\u{0}"] {
        check_error(&send(body).await, 400, "bad_body");
    }
    let broken = send("{\n\"name\": }").await;
    check_error(&broken, 400, "bad_body");
    assert!(broken.body.contains("line 2, column 9"), "{}", broken.body);
    check_error(&send("").await, 415, "unsupported_type");
    let long = json!({"name": "x".repeat(300_000)}).to_string();
    check_error(&send(&long).await, 413, "too_large");
    let nul = json!({"name": "a\u{0}"});
    check_field(&bench.send(("POST", &path), A, &nul).await, 400, "invalid_value", "name");
}

#[tokio::test]
async fn every_change_is_in_the_audit_log_with_before_and_after() {
    let bench = Bench::new().await;
    let path = bench.path(0, "ai-profiles");
    let made = bench.make(&path, A, agent()).await;
    let item = format!("{path}/{}", made["id"].as_str().unwrap());
    bench.send(("PATCH", &item), A, &json!({"role": "sales"})).await;
    // What is refused leaves no trace.
    bench.send(("PATCH", &item), A, &json!({"agent": {"kind": "robot"}})).await;
    bench.send(("DELETE", &item), A, &Value::Null).await;
    let log = bench.read(&bench.path(0, "audit-log?subject=AI%20profile"), A).await;
    let entries = log["entries"].as_array().unwrap();
    let actions: Vec<_> = entries.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["delete", "update", "create"]);
    let change = &entries[1]["detail"];
    assert_eq!(change["before"]["role"], "receptionist");
    assert_eq!(change["after"]["role"], "sales");
    assert!(entries.iter().all(|entry| entry["subject_id"] == made["id"]));
    assert!(entries.iter().all(|entry| entry["api_key_id"].is_string()), "{log}");
    let other = bench.read(&bench.path(1, "audit-log?action=create"), B).await;
    let of_a = |entry: &Value| entry["subject_id"] == made["id"];
    assert!(!other["entries"].as_array().unwrap().iter().any(of_a));
}

#[tokio::test]
async fn a_campaign_has_a_whole_window_or_none_and_a_zone_that_is_one() {
    let bench = Bench::new().await;
    let path = bench.path(0, "campaigns");
    for (field, more) in [
        ("window_until", json!({"window_from": "09:00"})),
        ("window_until", json!({"window_from": "09:00", "window_until": "09:00"})),
        ("window_from", json!({"window_from": "9 o'clock"})),
        ("time_zone", json!({"time_zone": "Mars/Olympus"})),
        ("weekdays", json!({"weekdays": ["someday"]})),
        ("ai_profile_id", json!({"ai_profile_id": tandem::clock::new_uuid()})),
    ] {
        let answer = bench.send(("POST", &path), A, &with(json!({"name": "c"}), more)).await;
        check_field(&answer, 400, "invalid_value", field);
    }
    let window = json!({"name": "c", "window_from": "22:00", "window_until": "06:00"});
    let made = bench.make(&path, A, window).await;
    assert_eq!((&made["status"], &made["time_zone"]), (&json!("active"), &json!("UTC")));
    let item = format!("{path}/{}", made["id"].as_str().unwrap());
    let whole = json!({"window_from": null, "window_until": null});
    let answer = bench.send(("PATCH", &item), A, &whole).await;
    assert_eq!(answer.json()["window_from"], Value::Null, "{}", answer.body);
    // Nobody puts a number into the campaign of another tenant.
    let number = json!({"first_number": "+15550100"});
    let number = bench.make(&bench.path(1, "numbers"), PLATFORM, number).await;
    let number = bench.path(1, &format!("numbers/{}", number["id"].as_str().unwrap()));
    let foreign = json!({"campaign_id": made["id"]});
    let answer = bench.send(("PATCH", &number), B, &foreign).await;
    check_field(&answer, 400, "invalid_value", "campaign_id");
}

#[tokio::test]
async fn tenants_trunks_and_campaigns_leave_what_they_were_and_are_in_the_audit_log() {
    let bench = Bench::new().await;
    let trunk = json!({"name": "own", "profile": "generic"});
    let trunk = bench.make(&bench.path(0, "trunks"), A, trunk).await;
    let campaign = bench.make(&bench.path(0, "campaigns"), A, json!({"name": "c"})).await;
    let item = |rest: &str, made: &Value| {
        bench.path(0, &format!("{rest}/{}", made["id"].as_str().unwrap()))
    };
    let tenant = format!("/api/v1/tenants/{}", bench.tenants[0]);
    let secret =
        json!({"secrets": {"word": "hunter2"}, "overrides": {"limits": {"channels_in": 3}}});
    for (path, key, change, subject, field, before, after) in [
        (
            item("trunks", &trunk),
            A,
            secret,
            "trunk",
            "overrides",
            json!({}),
            json!({"limits": {"channels_in": 3}}),
        ),
        (
            item("campaigns", &campaign),
            A,
            json!({"status": "paused"}),
            "campaign",
            "status",
            json!("active"),
            json!("paused"),
        ),
        (tenant, PLATFORM, json!({"calls_max": 7}), "tenant", "calls_max", json!(0), json!(7)),
    ] {
        let answer = bench.send(("PATCH", &path), key, &change).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        let log = bench
            .read(&bench.path(0, &format!("audit-log?action=update&subject={subject}")), A)
            .await;
        let entry = &log["entries"][0];
        let detail = &entry["detail"];
        assert_eq!((&detail["before"][field], &detail["after"][field]), (&before, &after), "{log}");
        assert!(!log.to_string().contains("hunter2"), "{log}");
    }
    let log = bench.read(&bench.path(0, "audit-log?subject=trunk&action=update"), A).await;
    assert_eq!(log["entries"][0]["detail"]["secrets"], "changed", "{log}");
}
