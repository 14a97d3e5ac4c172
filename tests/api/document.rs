//! The OpenAPI document: it is the one that is checked in, and answers are what it says.

use crate::bench::Bench;
use crate::schema::check;
use crate::schema::fault;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeSet;
use std::path::Path;
use tandem::api::openapi;

const PLATFORM: usize = 2;
/// The document as it is checked in.
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");

#[test]
fn the_document_that_is_checked_in_is_the_one_that_is_served() {
    let served = openapi::document();
    if std::env::var_os("TANDEM_WRITE_OPENAPI").is_some() {
        let text = serde_json::to_string_pretty(&served).unwrap();
        std::fs::write(FILE, text + "\n").unwrap();
    }
    let file = std::fs::read_to_string(Path::new(FILE)).unwrap_or_default();
    let kept: Value = serde_json::from_str(&file).unwrap_or_default();
    assert!(
        kept == served,
        "openapi.json is not what is served: write it anew with TANDEM_WRITE_OPENAPI=1 \
         cargo test --features outer-tests --test api document"
    );
}

#[tokio::test]
async fn answers_are_what_the_document_says() {
    let bench = Bench::new().await;
    let document = bench.read("/api/v1/openapi.json", PLATFORM).await;
    let schemas = &document["components"]["schemas"];
    let trunk = json!({"name": "t", "profile": "generic", "overrides": {"inbound": {}}});
    let profile = json!({"name": "x", "system_prompt": "x", "agent": {"kind": "echo"}});
    let mut kinds = BTreeSet::new();
    for (path, schema, body) in [
        ("/api/v1/tenants".to_owned(), "Tenant", json!({"name": "new"})),
        (bench.path(0, "ai-profiles"), "AiProfile", profile),
        (bench.path(0, "numbers"), "Number", json!({"first_number": "+15550100"})),
        (bench.path(0, "trunks"), "Trunk", trunk),
        (bench.path(0, "campaigns"), "Campaign", json!({"name": "c", "weekdays": ["mon"]})),
        (bench.path(0, "routing-profiles"), "RoutingProfile", json!({"name": "r"})),
    ] {
        check(&document, &schemas[format!("{schema}New")], &body, schema);
        let made = bench.make(&path, PLATFORM, body).await;
        check(&document, &schemas[schema], &made, schema);
        let page = bench.read(&path, PLATFORM).await;
        check(&document, &schemas[format!("{schema}Page")], &page, schema);
        kinds.insert(schema);
    }
    let path = bench.path(0, "api-keys");
    let made = bench.make(&path, PLATFORM, json!({"role": "read-only"})).await;
    check(&document, &schemas["ApiKeyMade"], &made, "key");
    let page = bench.read(&path, PLATFORM).await;
    check(&document, &schemas["ApiKeyPage"], &page, "keys");
    let log = bench.read(&bench.path(0, "audit-log"), PLATFORM).await;
    check(&document, &schemas["AuditLogEntryPage"], &log, "log");
    let call = bench.call(bench.tenants[0], "+15557701").await;
    let page = bench.read(&bench.path(0, "calls"), PLATFORM).await;
    check(&document, &schemas["CallPage"], &page, "calls");
    let call = bench.read(&bench.path(0, &format!("calls/{call}")), PLATFORM).await;
    check(&document, &schemas["CallDetail"], &call, "call");
    let path = bench.path(0, "webhooks");
    let made = bench.make(&path, PLATFORM, json!({"url": "https://hooks.example/"})).await;
    check(&document, &schemas["WebhookEndpointMade"], &made, "webhook");
    bench.call(bench.tenants[0], "+15557701").await;
    let path = format!("{path}/{}/deliveries", made["id"].as_str().unwrap());
    let page = bench.read(&path, PLATFORM).await;
    assert_eq!(page["deliveries"].as_array().unwrap().len(), 3, "{page}");
    check(&document, &schemas["DeliveryPage"], &page, "deliveries");
    let states = bench.read("/api/v1/trunk-states", PLATFORM).await;
    check(&document, &schemas["TrunkStates"], &states, "states");
    let refused = bench.get("/api/v1/nothing", None).await.json();
    check(&document, &schemas["Problem"], &refused, "problem");
    assert_eq!(kinds.len(), 6);
}

#[tokio::test]
async fn an_agent_that_fits_no_kind_of_the_document_is_refused_and_one_that_fits_is_taken() {
    let bench = Bench::new().await;
    let document = bench.read("/api/v1/openapi.json", PLATFORM).await;
    let schema = &document["components"]["schemas"]["Agent"];
    assert_eq!(schema["oneOf"].as_array().unwrap().len(), 14, "{schema}");
    let menu = json!({"prompt": {"say": "Press 1."}, "keys": {"1": {"menu": {
        "prompt": {"asset": "more.wav"}, "keys": {"0": "voicemail"}, "retries": null}}}});
    let agents = [
        (json!({"kind": "echo"}), true),
        (json!({"kind": "echo", "answer": {"after_ms": 10}, "hold_music": null}), true),
        (json!({"kind": "chan_websocket", "incoming": true}), true),
        (json!({"kind": "dtmf_ivr", "menu": menu, "mailbox": {"max_length_s": 9}}), true),
        (json!({"kind": "forward", "to": "+15550142", "ring_timeout_ms": 300_000}), true),
        (json!({"kind": "robot"}), false),
        (json!({}), false),
        (json!({"kind": "echo", "hz": 440}), false),
        (json!({"kind": "echo", "answer": null}), false),
        (json!({"kind": "chan_websocket"}), false),
        (json!({"kind": "chan_websocket", "incoming": false}), false),
        (json!({"kind": "realtime", "url": "wss://x.example/", "audio": "l16_16k"}), false),
        (json!({"kind": "receptionist", "script": {"keys": {"0": "voicemail"}}}), false),
        (json!({"kind": "forward"}), false),
    ];
    for (at, (agent, is_good)) in agents.iter().enumerate() {
        let wrong = fault(&document, schema, agent, "agent");
        assert_eq!(wrong.is_none(), *is_good, "{agent}: {wrong:?}");
        let body = json!({"name": format!("p{at}"), "system_prompt": "x", "agent": agent});
        let path = bench.path(0, "ai-profiles");
        let answer = bench.send(("POST", &path), PLATFORM, &body).await;
        assert_eq!(answer.status, if *is_good { 201 } else { 400 }, "{agent}: {}", answer.body);
        if *is_good {
            check(
                &document,
                &document["components"]["schemas"]["AiProfile"],
                &answer.json(),
                "profile",
            );
        }
    }
    // A client made of all kinds at once says null where a kind has no such key; shown, the agent is of its kind alone.
    let body =
        json!({"name": "flat", "system_prompt": "x", "agent": {"kind": "echo", "url": null}});
    let made = bench.make(&bench.path(0, "ai-profiles"), PLATFORM, body).await;
    check(&document, &document["components"]["schemas"]["AiProfile"], &made, "flat");
    assert_eq!(made["agent"], json!({"kind": "echo"}));
}

#[tokio::test]
async fn the_page_comes_whole_out_of_the_program() {
    let bench = Bench::new().await;
    let page = bench.get("/docs/", None).await;
    assert_eq!(page.status, 200, "{}", page.body);
    assert!(page.header("content-type").is_some_and(|kind| kind.starts_with("text/html")));
    for part in ["src=\"", "href=\""] {
        for link in page.body.split(part).skip(1) {
            let link = link.split('"').next().unwrap();
            assert!(!link.contains("//"), "{link} is elsewhere");
            let part = bench.get(&format!("/docs/{}", link.trim_start_matches("./")), None).await;
            assert_eq!(part.status, 200, "{link}");
        }
    }
    let start = bench.get("/docs/swagger-initializer.js", None).await;
    assert!(start.body.contains("/api/v1/openapi.json"), "{}", start.body);
    assert_eq!(bench.get("/docs/nothing.js", None).await.status, 404);
}
