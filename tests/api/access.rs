//! Who may do what: roles, tenants, keys, pace.

use crate::bench::Bench;
use crate::bench::check_error;
use crate::bench::check_field;
use crate::http;
use crate::postgres;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use serde_json::json;
use sqlx::Connection;
use sqlx::PgConnection;
use std::time::Duration;
use tandem::api::route;
use tandem::api::route::Access;
use tandem::store::api_keys::KeyRole;
use tandem::store::api_keys::KeyScope;
use tandem::types::id::CallId;
use tandem::types::id::TenantId;

const A: usize = 0;
const B: usize = 1;
const PLATFORM: usize = 2;

#[tokio::test]
async fn no_route_of_a_tenant_opens_to_another_tenants_key() {
    let bench = Bench::new().await;
    let item = bench.call(bench.tenants[0], "+15557701").await;
    let mut tried = 0;
    for (method, path, access) in route::table() {
        if path.starts_with("/2010-04-01/") {
            check_pair(&bench, (method, path), &item).await;
            tried += 1;
            continue;
        }
        let path =
            path.replace("{tenant_id}", &bench.tenants[0].to_string()).replace("{id}", &item);
        let answer = bench.send((method, &path), B, &json!({})).await;
        let code = match access {
            Access::Tenant(_) => "forbidden",
            Access::Platform(_) => "platforms_only",
        };
        check_error(&answer, 403, code);
        let answer = http::request(bench.address, method, &path, &[]).await;
        check_error(&answer, 401, "unauthorized");
        tried += 1;
    }
    assert!(tried > 40, "{tried} routes");
}

/// Routes in Twilio's form open to the account of the path and one of its keys.
async fn check_pair(bench: &Bench, (method, path): (&str, &str), item: &str) {
    let accounts = bench.tenants.map(TenantId::account_sid);
    let call = item.parse::<CallId>().unwrap().call_sid();
    let path = path.replace("{account_sid}", &accounts[A]).replace("{call_sid}", &call);
    let own_path = path.replace(&accounts[A], &accounts[B]);
    let ask = async |path: &str, pair: Option<(&str, &str)>, origin: Option<&str>| {
        let pair = pair.map(|(account, key)| STANDARD.encode(format!("{account}:{key}")));
        let mut headers: Vec<_> =
            pair.map(|pair| ("authorization", format!("Basic {pair}"))).into_iter().collect();
        headers.extend(origin.map(|origin| ("origin", origin.to_owned())));
        http::request(bench.address, method, path, &headers).await
    };
    let (a, b) = ((&*accounts[A], &*bench.keys[A]), (&*accounts[B], &*bench.keys[B]));
    let is_of_calls = path.ends_with(&format!("{call}.json"));
    // The process of this bench carries no calls: who may ask is told so, or shown the record.
    let allowed = if method == "GET" { 200 } else { 503 };
    for (path, pair, origin, status, code) in [
        (&path, None, None, 401, 20003),
        (&path, Some((a.0, b.1)), None, 401, 20003),
        (&path, Some(("AC1", b.1)), None, 401, 20003),
        (&path, Some(b), None, 404, 20404),
        (&path, Some(a), Some("https://evil.example"), 403, 20403),
        (&path, Some(a), Some("https://app.example"), allowed, 20503),
        (&path, Some(a), None, allowed, 20503),
        (&own_path, Some(b), None, if is_of_calls && method == "GET" { 404 } else { 503 }, 0),
    ] {
        let answer = ask(path, pair, origin).await;
        let body = answer.json();
        assert_eq!(answer.status, status, "{method} {path} {pair:?}: {body}");
        if status >= 400 && code > 0 {
            assert_eq!((&body["code"], &body["status"]), (&json!(code), &json!(status)), "{body}");
        }
    }
    let key = [("authorization", format!("Bearer {}", bench.keys[A]))];
    let answer = http::request(bench.address, method, &path, &key).await;
    assert_eq!(answer.status, 401, "{}", answer.body);
    assert!(answer.header("www-authenticate").is_some_and(|how| how.starts_with("Basic")));
}

#[tokio::test]
async fn a_key_is_rotated_and_its_forerunner_ends_at_once_or_later() {
    let bench = Bench::new().await;
    let path = bench.path(0, "api-keys");
    let made = bench.make(&path, A, json!({"role": "tenant-operator", "label": "bot"})).await;
    let rotate = async |id: &Value, body: Value| {
        let path = format!("{path}/{}/rotate", id.as_str().unwrap());
        bench.send(("POST", &path), A, &body).await
    };
    let opens =
        async |key: &Value| bench.get(&bench.path(0, "numbers"), key.as_str()).await.status == 200;
    for bad in [json!({"keep_s": -1}), json!({"keep_s": 604_801}), json!({"keep": 1})] {
        check_error(&rotate(&made["id"], bad).await, 400, "invalid_value");
    }
    assert!(opens(&made["key"]).await);
    let second = rotate(&made["id"], json!({})).await;
    assert_eq!((second.status, second.header("cache-control")), (201, Some("no-store")));
    let second = second.json();
    assert_eq!((&second["role"], &second["label"]), (&made["role"], &made["label"]));
    assert!(opens(&second["key"]).await && !opens(&made["key"]).await);
    check_error(&rotate(&made["id"], json!({})).await, 404, "not_found");
    let third = rotate(&second["id"], json!({"keep_s": 3600})).await.json();
    assert!(opens(&third["key"]).await && opens(&second["key"]).await);
    let kept = bench.read(&format!("{path}/{}", second["id"].as_str().unwrap()), A).await;
    assert!(kept["expires_at"].is_string() && kept["revoked_at"].is_null(), "{kept}");
    let log = bench.read(&bench.path(0, "audit-log?action=rotate"), A).await;
    let ids: Vec<_> = log["entries"].as_array().unwrap().iter().map(|e| &e["subject_id"]).collect();
    assert_eq!(ids, [&second["id"], &made["id"]]);
    assert!(!log.to_string().contains("tdm_"), "{log}");
    // The platform's own path knows the platform's own keys.
    let platform = format!("/api/v1/api-keys/{}/rotate", third["id"].as_str().unwrap());
    check_error(&bench.send(("POST", &platform), PLATFORM, &json!({})).await, 404, "not_found");
    let platform = platform.replace("/rotate", "");
    check_error(&bench.send(("DELETE", &platform), PLATFORM, &Value::Null).await, 404, "not_found");
    assert!(opens(&third["key"]).await);
}

/// Connections of the API to its database.
const API_CONNECTIONS: i64 = 8;

#[tokio::test]
async fn a_key_whose_successor_cannot_be_shown_opens_what_it_did() {
    let bench = Bench::new().await;
    let path = bench.path(0, "api-keys");
    let made = bench.make(&path, A, json!({"role": "tenant-admin"})).await;
    let keys = "SELECT count(*) FROM api_keys";
    let before = postgres::count(&bench.database, keys).await;
    // Slow lists have all connections of the API.
    let mut owner = PgConnection::connect_with(bench.database.owner_options()).await.unwrap();
    sqlx::raw_sql("BEGIN; LOCK TABLE phone_numbers IN ACCESS EXCLUSIVE MODE")
        .execute(&mut owner)
        .await
        .unwrap();
    let numbers = bench.path(0, "numbers");
    let slow = [(); 16].map(|()| bench.get(&numbers, Some(&bench.keys[A])));
    let rotate = format!("{path}/{}/rotate", made["id"].as_str().unwrap());
    let waiting = "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database \
        WHERE NOT l.granted AND d.datname = current_database()";
    let rotating = async {
        while postgres::count(&bench.database, waiting).await < API_CONNECTIONS {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bench.send(("POST", &rotate), A, &json!({})).await
    };
    let (_, rotated) =
        futures_util::future::join(futures_util::future::join_all(slow), rotating).await;
    sqlx::raw_sql("ROLLBACK").execute(&mut owner).await.unwrap();
    check_error(&rotated, 503, "database_unavailable");
    assert_eq!(bench.get(&path, made["key"].as_str()).await.status, 200);
    assert_eq!(postgres::count(&bench.database, keys).await, before);
}

#[tokio::test]
async fn two_who_end_a_key_at_once_do_not_undo_each_other_and_the_log_tells_how_it_stood() {
    let bench = Bench::new().await;
    let path = bench.path(0, "api-keys");
    let ends = "2999-01-01T00:00:00Z";
    let body = json!({"role": "tenant-operator", "label": "bot", "expires_at": ends});
    let answer = bench.send(("POST", &path), A, &body).await;
    let made = answer.json();
    let (first, id) = (made["etag"].as_str(), made["id"].as_str().unwrap());
    assert_eq!((answer.status, answer.header("etag")), (201, first));
    let item = format!("{path}/{id}");
    let rotate = format!("{item}/rotate");
    let keep = json!({"keep_s": 3600});
    let rotated = bench.send_if(("POST", &rotate), A, &keep, first).await;
    assert_eq!(rotated.status, 201, "{}", rotated.body);
    for (method, path, body) in [("POST", &rotate, keep), ("DELETE", &item, Value::Null)] {
        let stale = bench.send_if((method, path), A, &body, first).await;
        check_error(&stale, 412, "changed_meanwhile");
    }
    let kept = bench.read(&item, A).await;
    assert!(kept["revoked_at"].is_null(), "{kept}");
    let gone = bench.send_if(("DELETE", &item), A, &Value::Null, kept["etag"].as_str()).await;
    assert_eq!(gone.status, 204, "{}", gone.body);
    let gone = bench.read(&item, A).await;
    let log = bench.read(&bench.path(0, &format!("audit-log?subject_id={id}")), A).await;
    let detail = |action: &str| {
        let entries = log["entries"].as_array().unwrap();
        entries.iter().find(|entry| entry["action"] == action).unwrap()["detail"].clone()
    };
    let key = |expires: &Value, revoked: &Value| json!({"role": "tenant-operator", "label": "bot", "expires_at": expires, "revoked_at": revoked});
    let new = key(&json!(ends), &Value::Null);
    assert_eq!(detail("create"), json!({ "after": new }));
    let after = key(&kept["expires_at"], &Value::Null);
    assert_ne!(new, after);
    let new_id = rotated.json()["id"].clone();
    assert_eq!(
        detail("rotate"),
        json!({"before": new, "after": after, "new": new, "new_id": new_id, "keep_s": 3600})
    );
    let revoked = key(&kept["expires_at"], &gone["revoked_at"]);
    assert_eq!(detail("revoke"), json!({"before": after, "after": revoked}));
    assert!(gone["revoked_at"].is_string() && !log.to_string().contains("tdm_"), "{log}");
}

/// What changes a thing, as the table of routes has it: the methods, and the paths below `base`.
pub(crate) fn changes_below(base: &str) -> Vec<(&'static str, &'static str)> {
    let of_things = route::table().filter_map(|(method, path, _)| {
        let below = path.strip_prefix(base)?;
        let is_change = method != "GET" && below.contains("/{id}") && !below.starts_with("calls");
        is_change.then_some((method, below))
    });
    of_things.collect()
}

/// Whatever route changes these things of the first tenant finds none of them below the second's path.
async fn find_nothing_to_change(bench: &Bench, items: &[String]) {
    let changes = changes_below("/api/v1/tenants/{tenant_id}/");
    for item in items {
        let (noun, id) = item.split_once('/').unwrap();
        let own: Vec<_> = changes.iter().filter(|(_, path)| path.starts_with(noun)).collect();
        assert!(own.len() >= 2, "{noun}: {own:?}");
        for (method, path) in own {
            let body = match (*method, noun) {
                ("PATCH", "numbers") => json!({"label": "theirs"}),
                ("PATCH", "webhooks") => json!({"is_active": false}),
                ("PATCH", _) => json!({"name": "theirs"}),
                ("POST", _) if path.ends_with("/replay") => json!({"state": "dead"}),
                ("POST", _) => json!({}),
                _ => Value::Null,
            };
            let path = bench.path(1, &path.replace("{id}", id));
            for key in [B, PLATFORM] {
                let answer = bench.send((method, &path), key, &body).await;
                // What only the platform changes is refused before it is looked for.
                let is_refused = key == B && noun == "routing-profiles";
                let expected =
                    if is_refused { (403, "platforms_only") } else { (404, "not_found") };
                check_error(&answer, expected.0, expected.1);
            }
        }
    }
}

#[tokio::test]
async fn no_thing_of_another_tenant_is_found_under_ones_own_path() {
    let bench = Bench::new().await;
    let profile = json!({"name": "x", "system_prompt": "x", "agent": {"kind": "echo"}});
    let trunk = json!({"name": "t", "profile": "generic"});
    let (key, campaign) = (json!({"role": "read-only"}), json!({"name": "c"}));
    let routing = json!({"name": "r"});
    let mut items = Vec::new();
    for (noun, body) in [
        ("ai-profiles", profile),
        ("trunks", trunk),
        ("numbers", json!({"first_number": "+15550100"})),
        ("routing-profiles", routing),
        ("campaigns", campaign),
        ("api-keys", key),
        ("webhooks", json!({"url": "https://hooks.example/"})),
    ] {
        let made = bench.make(&bench.path(0, noun), PLATFORM, body).await;
        items.push(format!("{noun}/{}", made["id"].as_str().unwrap()));
    }
    let mut stood = Vec::new();
    for item in &items {
        stood.push(bench.read(&bench.path(0, item), A).await);
    }
    find_nothing_to_change(&bench, &items).await;
    for (item, stood) in items.iter().zip(stood) {
        assert_eq!(bench.read(&bench.path(0, item), A).await, stood, "{item}");
    }
    for item in &items {
        let path = bench.path(1, item);
        for key in [B, PLATFORM] {
            check_error(&bench.get(&path, Some(&bench.keys[key])).await, 404, "not_found");
            let answer = bench.send(("DELETE", &path), key, &Value::Null).await;
            assert!([403, 404].contains(&answer.status), "{path}: {}", answer.body);
        }
    }
    // Whatever route there is shows the second tenant nothing of the first.
    for (method, path, _) in route::table().filter(|(method, ..)| *method == "GET") {
        let path = path.replace("{tenant_id}", &bench.tenants[1].to_string());
        for item in &items {
            let id = item.split('/').nth(1).unwrap();
            let answer = bench.send((method, &path.replace("{id}", id)), B, &Value::Null).await;
            let shown = answer.status == 200 && answer.body.contains(id);
            assert!(!shown, "{path}: {}", answer.body);
        }
    }
    for item in &items {
        assert_eq!(
            bench.get(&bench.path(0, item), Some(&bench.keys[A])).await.status,
            200,
            "{item}"
        );
    }
}

#[tokio::test]
async fn a_role_is_enough_for_its_routes_and_no_more() {
    let bench = Bench::new().await;
    let item = bench.call(bench.tenants[0], "+15557701").await;
    let call = item.parse::<CallId>().unwrap().call_sid();
    let account = bench.tenants[0].account_sid();
    for role in [KeyRole::Viewer, KeyRole::Operator, KeyRole::Admin] {
        let tenants = KeyScope::Tenant(bench.tenants[0]);
        let keys = [bench.key(tenants, role).await, bench.key(KeyScope::AllTenants, role).await];
        for (method, path, access) in route::table() {
            let (key, least) = match access {
                Access::Tenant(least) => (&keys[0], least),
                Access::Platform(least) => (&keys[1], least),
            };
            // Only refusals are of interest: nothing shall be made.
            if role >= least && method != "GET" {
                continue;
            }
            let path =
                path.replace("{tenant_id}", &bench.tenants[0].to_string()).replace("{id}", &item);
            let path = path.replace("{account_sid}", &account).replace("{call_sid}", &call);
            let pair = STANDARD.encode(format!("{account}:{key}"));
            let headers = [("x-api-key", key.clone()), ("authorization", format!("Basic {pair}"))];
            let answer = http::request_with(bench.address, (method, &path), &headers, "{}").await;
            let is_refused = answer.status == 403;
            assert_eq!(is_refused, role < least, "{role} {method} {path}: {}", answer.body);
        }
    }
}

#[tokio::test]
async fn a_key_is_shown_once_opens_its_tenant_and_is_revoked() {
    let bench = Bench::new().await;
    let path = bench.path(0, "api-keys");
    let answer = bench.send(("POST", &path), A, &json!({"role": "read-only", "label": "x"})).await;
    assert_eq!((answer.status, answer.header("cache-control")), (201, Some("no-store")));
    let made = answer.json();
    let key = made["key"].as_str().unwrap();
    let item = format!("{path}/{}", made["id"].as_str().unwrap());
    for path in [&path, &item] {
        let shown = bench.read(path, A).await.to_string();
        assert!(shown.contains("read-only") && !shown.contains("tdm_"), "{shown}");
        assert!(!shown.contains("hash"), "{shown}");
    }
    assert_eq!(bench.get(&bench.path(0, "numbers"), Some(key)).await.status, 200);
    check_error(&bench.get(&path, Some(key)).await, 403, "role_too_low");
    let answer = bench.send(("DELETE", &item), A, &Value::Null).await;
    assert_eq!(answer.status, 204, "{}", answer.body);
    check_error(&bench.get(&bench.path(0, "numbers"), Some(key)).await, 401, "unauthorized");
    assert!(bench.read(&item, A).await["revoked_at"].is_string());
    check_error(&bench.send(("DELETE", &item), A, &Value::Null).await, 404, "not_found");
}

#[tokio::test]
async fn a_tenants_admin_makes_no_key_stronger_than_its_own() {
    let bench = Bench::new().await;
    for role in ["platform-admin", "platform-operator", "admin", "king"] {
        let answer =
            bench.send(("POST", &bench.path(0, "api-keys")), A, &json!({"role": role})).await;
        check_field(&answer, 400, "invalid_value", "role");
    }
    let platform = json!({"role": "platform-admin"});
    check_error(
        &bench.send(("POST", "/api/v1/api-keys"), A, &platform).await,
        403,
        "platforms_only",
    );
    let made = bench.make("/api/v1/api-keys", PLATFORM, platform).await;
    assert_eq!((&made["role"], &made["tenant_id"]), (&json!("platform-admin"), &Value::Null));
    let over = json!({"role": "read-only", "expires_at": "2020-01-01T00:00:00Z"});
    let answer = bench.send(("POST", &bench.path(0, "api-keys")), A, &over).await;
    check_field(&answer, 400, "invalid_value", "expires_at");
}

#[tokio::test]
async fn things_of_a_tenant_that_is_not_there_are_not_made() {
    let bench = Bench::new().await;
    let path = format!("/api/v1/tenants/{}/numbers", tandem::clock::new_uuid());
    let answer = bench.send(("POST", &path), PLATFORM, &json!({"first_number": "+15550100"})).await;
    check_error(&answer, 404, "not_found");
    // Nor is there a list of them, whatever is asked for.
    for (_, path, _) in route::table().filter(|(method, ..)| *method == "GET") {
        let nobodys = tandem::clock::new_uuid().to_string();
        if path.contains("{tenant_id}") {
            let path = path.replace("{tenant_id}", &nobodys).replace("{id}", &nobodys);
            check_error(&bench.get(&path, Some(&bench.keys[PLATFORM])).await, 404, "not_found");
        }
    }
}

#[tokio::test]
async fn a_key_that_asks_too_often_waits() {
    too_often(Bench::with_rate(1).await).await;
    too_often(Bench::with_rate_of_known_keys(1).await).await;
}

async fn too_often(bench: Bench) {
    let path = bench.path(0, "numbers");
    let mut refused = None;
    // A second gives one more: on a machine this slow the end comes later, but it comes.
    for _ in 0..1_000 {
        let answers = [(); 8].map(|()| bench.get(&path, Some(&bench.keys[A])));
        let answers = futures_util::future::join_all(answers).await;
        refused = answers.into_iter().find(|answer| answer.status == 429);
        if refused.is_some() {
            break;
        }
    }
    let refused = refused.unwrap();
    check_error(&refused, 429, "rate_limited");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(bench.get(&bench.path(1, "numbers"), Some(&bench.keys[B])).await.status, 200);
}

#[tokio::test]
async fn a_pair_of_account_and_token_that_asks_too_often_waits_and_is_told_so_in_twilios_form() {
    let bench = Bench::with_rate(1).await;
    let ask = async |at: usize| {
        let account = bench.tenants[at].account_sid();
        let pair = STANDARD.encode(format!("{account}:{}", bench.keys[at]));
        let path = format!("/2010-04-01/Accounts/{account}/Calls/CA{}.json", "0".repeat(32));
        let headers = [("authorization", format!("Basic {pair}"))];
        http::request(bench.address, "GET", &path, &headers).await
    };
    let mut refused = None;
    // As above.
    for _ in 0..1_000 {
        let answers = futures_util::future::join_all([(); 8].map(|()| ask(A))).await;
        refused = answers.into_iter().find(|answer| answer.status == 429);
        if refused.is_some() {
            break;
        }
    }
    let refused = refused.unwrap();
    let body = refused.json();
    assert_eq!((&body["code"], &body["status"]), (&json!(20_429), &json!(429)), "{body}");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(ask(B).await.status, 404, "each has its own pace");
}

#[tokio::test]
async fn keys_that_nobody_knows_leave_the_switch_its_connections() {
    let bench = Bench::new().await;
    let mut owner = PgConnection::connect_with(bench.database.owner_options()).await.unwrap();
    // Every look-up hangs.
    sqlx::raw_sql("BEGIN; LOCK TABLE api_keys IN ACCESS EXCLUSIVE MODE")
        .execute(&mut owner)
        .await
        .unwrap();
    let path = bench.path(0, "numbers");
    let wrong = format!("tdm_{}", URL_SAFE_NO_PAD.encode([7; 32]));
    let asked = [(); 24].map(|()| bench.get(&path, Some(&wrong)));
    let asked = futures_util::future::join_all(asked);
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                   AND wait_event_type = 'Lock' AND query LIKE '%FROM api_keys%'";
    let mut most = 0;
    // Before the first gives up, after 2 s: the server goes on with what nobody waits for any more.
    let watch = tokio::time::timeout(Duration::from_millis(1_500), async {
        loop {
            // Within a transaction it is read once, and kept.
            sqlx::query("SELECT pg_stat_clear_snapshot()").execute(&mut owner).await.unwrap();
            let count: i64 = sqlx::query_scalar(waiting).fetch_one(&mut owner).await.unwrap();
            most = most.max(count);
        }
    });
    let (answers, never): (_, Result<(), _>) = futures_util::future::join(asked, watch).await;
    assert!(never.is_err() && (1..=3).contains(&most), "{most}");
    for answer in answers {
        check_error(&answer, 503, "database_unavailable");
    }
}

#[tokio::test]
async fn pages_of_listed_origins_may_ask_and_others_are_not_told_so() {
    let bench = Bench::new().await;
    let path = bench.path(0, "numbers");
    let ask = async |method: &str, origin: &str| {
        let headers = [
            ("origin", origin.to_owned()),
            ("access-control-request-method", "PATCH".to_owned()),
            ("x-api-key", bench.keys[A].clone()),
        ];
        http::request(bench.address, method, &path, &headers).await
    };
    let preflight = ask("OPTIONS", "https://app.example").await;
    assert_eq!(preflight.status, 204, "{}", preflight.body);
    let allowed = preflight.header("access-control-allow-headers").unwrap();
    // What a page gives to go on with events, and to have part of a recording, is among it.
    for header in ["authorization", "if-match", "last-event-id", "range"] {
        assert!(allowed.split(", ").any(|own| own == header), "{header}: {allowed}");
    }
    assert!(preflight.header("access-control-allow-methods").unwrap().contains("PATCH"));
    let asked = ask("GET", "https://app.example").await;
    assert_eq!(asked.status, 200, "{}", asked.body);
    assert_eq!(asked.header("access-control-allow-origin"), Some("https://app.example"));
    assert_eq!(asked.header("vary"), Some("origin"));
    let shown = asked.header("access-control-expose-headers").unwrap();
    for header in ["etag", "retry-after", "content-range", "accept-ranges"] {
        assert!(shown.split(", ").any(|own| own == header), "{header}: {shown}");
    }
    for (method, origin) in
        [("OPTIONS", "https://evil.example"), ("GET", "https://app.example.evil")]
    {
        let answer = ask(method, origin).await;
        assert_eq!(answer.header("access-control-allow-origin"), None, "{origin}");
    }
    check_error(&ask("OPTIONS", "https://evil.example").await, 405, "method_not_allowed");
}

#[tokio::test]
async fn a_path_that_is_no_text_is_refused_like_everything_else() {
    let bench = Bench::new().await;
    let path = bench.path(0, "numbers/%ff");
    check_error(&bench.get(&path, Some(&bench.keys[A])).await, 400, "bad_parameter");
}

#[tokio::test]
async fn a_request_has_so_many_headers_and_no_more() {
    let bench = Bench::new().await;
    let path = bench.path(0, "numbers");
    let many = vec![("x-more", "1".to_owned()); 100];
    let answer = http::request(bench.address, "GET", &path, &many).await;
    check_error(&answer, 431, "headers_too_large");
    // A single one may be too long, too, and what is no request at all is told so in the same form.
    let long = [("x-more", "1".repeat(300_000))];
    check_error(&http::request(bench.address, "GET", &path, &long).await, 431, "headers_too_large");
    check_error(&http::request(bench.address, "G@T", &path, &[]).await, 400, "bad_request");
    let answer = http::request(bench.address, "GET", &path, &[("x more", "1".to_owned())]).await;
    check_error(&answer, 400, "bad_request");
}
