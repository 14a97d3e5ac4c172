//! Explanations: what would happen to a call, and what strangers were refused.

use crate::call_out;
use crate::carrier;
use crate::carrier::CALLED;
use crate::carrier::NUMBER;
use crate::carrier::steps;
use crate::node::wait_for;
use crate::rows;
use crate::talk::Peer;
use serde_json::Value;
use serde_json::json;
use tandem::store::api_keys::KeyRole;

#[tokio::test]
async fn a_call_is_explained_without_a_call_and_to_its_own_tenant_alone() {
    let (node, far, _) = call_out::node(json!({"kind": "echo"}), json!({})).await;
    node.put(&[carrier::tenant(5, 4)]).await;
    let (own, other) = (
        carrier::key(&node, 1, KeyRole::Viewer).await,
        carrier::key(&node, 5, KeyRole::Viewer).await,
    );
    let operator = node.operator_key().await;
    let ask = async |path: &str, key: &str, wish: &Value| {
        let answer = node.post(path, key, wish).await;
        assert_eq!(answer.status, 200, "{wish}: {}", answer.body);
        answer.json()
    };
    let path = |tenant: u128| format!("/api/v1/tenants/{}/explain", rows::uuid(tenant));
    let call_in =
        json!({"direction": "inbound", "source": "127.0.0.9", "from": "+15550177", "to": NUMBER});
    for (path, key) in
        [(path(1), &own), (path(1), &operator), ("/api/v1/explain".to_owned(), &operator)]
    {
        let told = ask(&path, key, &call_in).await;
        assert_eq!((&told["accepted"], &told["cause"]), (&json!(true), &Value::Null), "{told}");
        assert_eq!(told["tenant_id"], rows::uuid(1).to_string());
        assert_eq!(told["ai_profile_id"], rows::uuid(2).to_string());
        assert!(steps(&told).contains("trunk: trunk-4: matches"), "{told}");
    }
    // Another tenant learns that the call is not its own, and nothing of whose it is.
    let told = ask(&path(5), &other, &call_in).await;
    assert_eq!((&told["accepted"], &told["trunk_id"]), (&json!(false), &Value::Null), "{told}");
    assert!(!steps(&told).contains("trunk-4") && !told.to_string().contains(NUMBER), "{told}");
    let mut stranger = call_in.clone();
    stranger["source"] = json!("192.0.2.1");
    let told = ask("/api/v1/explain", &operator, &stranger).await;
    assert_eq!((&told["cause"], &told["sip_status"]), (&json!("unknown_source"), &Value::Null));

    let call_out = json!({"direction": "outbound", "from": NUMBER, "to": CALLED});
    for (path, key) in [(path(1), &own), ("/api/v1/explain".to_owned(), &operator)] {
        let told = ask(&path, key, &call_out).await;
        assert_eq!((&told["accepted"], &told["trunk_id"]), (&json!(true), &json!(rows::uuid(4))));
        assert!(steps(&told).contains("invite: INVITE sip:+15550142@"), "{told}");
    }
    let told = ask(&path(1), &own, &json!({"direction": "outbound", "to": "+4420555"})).await;
    assert_eq!((&told["accepted"], &told["cause"]), (&json!(false), &json!("destination_denied")));
    for (wish, field) in [
        (json!({"direction": "inbound", "to": NUMBER}), "source"),
        (json!({"direction": "inbound", "to": NUMBER, "source": "home"}), "source"),
        (json!({"direction": "outbound", "to": CALLED, "source": "127.0.0.9"}), "source"),
        (json!({"direction": "outbound", "to": CALLED, "trunk": "nobody's"}), "trunk"),
        (json!({"direction": "outbound", "to": ""}), "to"),
    ] {
        let answer = node.post(&path(1), &own, &wish).await;
        assert_eq!((answer.status, answer.json()["field"].as_str()), (400, Some(field)), "{wish}");
    }
    let unknown = json!({"direction": "inbound", "to": NUMBER, "colour": "blue"});
    assert_eq!(node.post(&path(1), &own, &unknown).await.status, 400);
    assert!(far.hear_within(crate::phone::SILENCE).await.is_none(), "nothing was sent");
}

#[tokio::test]
async fn a_refused_source_is_listed_with_the_trunk_it_most_likely_belongs_to() {
    let (node, _far, _) = call_out::node(json!({"kind": "echo"}), json!({})).await;
    let operator = node.operator_key().await;
    let near = Peer::at("127.0.0.77", node.sip()).await;
    near.send("INVITE", NUMBER).await;
    let elsewhere = Peer::at("127.9.9.9", node.sip()).await;
    elsewhere.send("INVITE", "+15550199").await;
    let path = "/api/v1/refused-sources";
    let listed = wait_for("both are listed", async || {
        let page = node.read(path, &operator).await;
        let all = page["refused_sources"].as_array().unwrap();
        (all.len() == 2).then(|| all.clone())
    })
    .await;
    let of = |address: &str| {
        let source = |one: &&Value| one["source"].as_str().unwrap().starts_with(address);
        listed.iter().find(source).unwrap()
    };
    let hint = &of("127.0.0.77:")["hint"];
    assert_eq!(
        (&hint["trunk"], &hint["reason"]),
        (&json!("trunk-4"), &json!("neighbour")),
        "{hint}"
    );
    assert!(hint["advice"].as_str().unwrap().contains("127.0.0.77/32"), "{hint}");
    let far = of("127.9.9.9:");
    assert_eq!((&far["hint"], &far["answered"]), (&Value::Null, &json!(false)), "{far}");
    assert!(steps(far).contains("no trunk lists this source address"), "{far}");
    let first = node.read(&format!("{path}?limit=1"), &operator).await;
    let next = first["next"].as_str().unwrap();
    let second = node.read(&format!("{path}?limit=1&cursor={next}"), &operator).await;
    assert!(
        second["next"].is_null() && second["refused_sources"][0] != first["refused_sources"][0]
    );
    for (bad, field) in [
        ("?limit=0", Some("limit")),
        ("?limit=201", Some("limit")),
        ("?limit=x", Some("limit")),
        ("?cursor=x", Some("cursor")),
        ("?colour=blue", None),
    ] {
        let key = [("x-api-key", operator.clone())];
        let answer = crate::http::request(node.http(), "GET", &format!("{path}{bad}"), &key).await;
        assert_eq!((answer.status, answer.json()["field"].as_str()), (400, field), "{bad}");
    }
}
