//! Trunks that register with their carrier: Kamailio is the registrar, and SIPp where it must refuse.

use crate::call_out::place;
use crate::carrier::CALLED;
use crate::carrier::key;
use crate::kamailio::Kamailio;
use crate::kamailio::own_address;
use crate::node::Home;
use crate::node::Node;
use crate::node::wait_for;
use crate::rows;
use crate::sipp::Sipp;
use crate::talk;
use crate::talk::Talk;
use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;
use std::net::SocketAddr;
use tandem::clock;
use tandem::store::api_keys::KeyRole;

const NUMBER: &str = "+15550195";

/// A registrar that wants a password, and a proxy to what is registered with it.
async fn registrar() -> Kamailio {
    Kamailio::start(include_str!("registrar.cfg")).await
}

/// A node with a trunk that registers at `registrar` over `transport`, as far as `more` does not say
/// otherwise.
async fn node(registrar: SocketAddr, transport: &str, more: Value) -> Node {
    let home = Home::new();
    home.write("password", "s3cret");
    let node = home.start().await;
    let mut registration = json!({
        "enabled": true,
        "registrar": "sip:carrier.example",
        "proxy": format!("sip:{registrar};transport={transport};lr"),
        "aor": format!("sip:{NUMBER}@carrier.example"),
        "contact_user": "pilot",
        "username": NUMBER,
        "password_ref": "file:password",
        "expires_s": 30,
        "refresh_ratio": 0.1,
        "retry_s": [1],
    });
    for (key, value) in more.as_object().unwrap() {
        registration[key] = value.clone();
    }
    // The carrier writes our Contact into the Request-URI: the number is in To.
    let inbound = json!({ "source_cidrs": [registrar.ip()], "did_sources": ["to"] });
    let overrides = json!({ "inbound": inbound, "registration": registration });
    node.put(&[
        rows::tenant(1, 0),
        rows::profile(2, 1, json!({"kind": "tone"})),
        rows::number(3, 1, 2, NUMBER),
        rows::trunk_with(4, overrides),
    ])
    .await;
    node
}

/// Waits until the only trunk stands so.
async fn stands(node: &Node, state: &str) -> Value {
    wait_for(state, async || {
        let trunk = node.trunk(rows::tenant_id(1)).await;
        (trunk["registration"]["state"] == state).then_some(trunk)
    })
    .await
}

/// How the only trunk stands, as `tandem trunks` prints it: in the list, and by itself.
async fn commanded(node: &Node) -> (String, String) {
    let key = node.operator_key().await;
    let mut printed = Vec::new();
    for args in [&["trunks", "list"][..], &["trunks", "show", "trunk-4"]] {
        let said = node.ask(&key, args).await;
        assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{said:?}");
        printed.push(said.out);
    }
    let facts = printed.pop().unwrap();
    (printed.pop().unwrap(), facts)
}

#[tokio::test]
async fn kamailio_takes_a_trunks_registration_sends_its_calls_and_is_told_of_the_end() {
    let kamailio = registrar().await;
    let mut node = node(kamailio.address, "udp", json!({})).await;
    let trunk = stands(&node, "registered").await;
    assert_eq!(trunk["registration"]["status"], 200, "{trunk}");
    assert_eq!(trunk["registration"]["registrar"], "carrier.example", "{trunk}");
    let until: Timestamp = trunk["registration"]["until"].as_str().unwrap().parse().unwrap();
    assert!(until > clock::wall_now(), "{trunk}");
    let (list, facts) = commanded(&node).await;
    assert!(list.contains("  registered  "), "{list}");
    for (fact, said) in [
        ("registration", "registered"),
        ("registrar", "carrier.example"),
        ("last status", "200"),
        ("bound until", "Z"),
    ] {
        let line = facts.lines().find(|line| line.starts_with(fact)).expect(fact);
        assert!(line.ends_with(said), "{line}");
    }
    let metric = "trunk_registrations{state=\"registered\"}";
    wait_for("the figure", async || (node.metric(metric).await == 1).then_some(())).await;

    let mut talk = Talk::answered(talk::plan(kamailio.address, NUMBER)).await;
    talk.hear(5).await;
    talk.hang_up().await;

    // Two more, on the strength of the first challenge.
    wait_for("refreshes", async || (kamailio.noted("BOUND").len() >= 3).then_some(())).await;
    let bound = kamailio.noted("BOUND");
    let calls: Vec<_> = bound.iter().map(|line| line.split(' ').next().unwrap()).collect();
    assert!(calls.iter().all(|call| *call == calls[0]), "one Call-ID: {bound:?}");
    let numbers: Vec<u32> =
        bound.iter().map(|line| line.split(' ').nth(1).unwrap().parse().unwrap()).collect();
    assert!(numbers.is_sorted_by(|one, next| one < next), "CSeq rises: {bound:?}");
    assert_eq!(kamailio.noted("CHALLENGED").len(), 1, "{}", kamailio.log());

    node.signal("TERM");
    assert_eq!(node.ended().await.code(), Some(0));
    let last = kamailio.noted("BOUND").pop().unwrap();
    assert!(last.ends_with(" 0"), "the binding was not taken away: {last}");
}

/// A node that called out by the connection of its registration; what the registrar noted of the call.
async fn called_out(kamailio: &Kamailio, more: Value) -> String {
    let node = node(kamailio.address, "tcp", more).await;
    stands(&node, "registered").await;
    // A gateway where nobody is: calls that reach the registrar have taken the registered way.
    let more = json!({
        "outbound": {
            "enabled": true,
            "via_registered_flow": true,
            "gateway": [{ "name": "sbc", "uri": "sip:192.0.2.99:5060;transport=udp" }],
        },
        "security": { "allow_destinations": ["+1"] },
    });
    let trunk = rows::uuid(4);
    node.put(&[
        format!("UPDATE trunks SET overrides = overrides || '{more}'"),
        format!("UPDATE tenants SET outbound_trunk_id = '{trunk}'"),
    ])
    .await;
    let key = key(&node, 1, KeyRole::Operator).await;
    place(&node, &key, json!({ "to": CALLED, "from": NUMBER })).await;
    let invited = async || kamailio.noted("INVITED").pop();
    wait_for("the call", invited).await
}

#[tokio::test]
async fn invite_uses_the_proxy_and_the_socket_of_its_register() {
    let kamailio = registrar().await;
    let invited = called_out(&kamailio, json!({ "refresh_ratio": 0.9 })).await;
    let address = kamailio.address;
    let by = kamailio.noted("BY").pop().unwrap();
    assert_eq!(invited, format!("{by} <sip:{address};lr>"));
    assert_eq!(
        kamailio.noted("BY").len(),
        1,
        "a change of how it calls out is none of how it registers"
    );
}

#[tokio::test]
async fn a_call_out_leaves_the_service_route_of_the_registration_where_the_trunk_says_so() {
    let kamailio = registrar().await;
    let more = json!({ "refresh_ratio": 0.9, "use_service_route": false });
    let invited = called_out(&kamailio, more).await;
    let by = kamailio.noted("BY").pop().unwrap();
    assert!(invited.starts_with(&by) && !invited.contains("sip:"), "{invited}");
}

#[tokio::test]
async fn a_trunk_that_is_not_registered_calls_out_only_where_it_need_not_be() {
    let carrier = std::net::UdpSocket::bind("127.0.0.11:0").unwrap();
    let nobody = carrier.local_addr().unwrap();
    drop(carrier);
    let node = node(nobody, "udp", json!({})).await;
    let mut far = crate::carrier::carrier(&node, "127.0.0.12").await;
    let gateway = json!({ "name": "sbc", "uri": format!("sip:{}", far.local()), "dns": "fixed" });
    let more = json!({
        "outbound": { "enabled": true, "gateway": [gateway] },
        "security": { "allow_destinations": ["+1"] },
    });
    node.put(&[
        format!("UPDATE trunks SET overrides = overrides || '{more}'"),
        format!("UPDATE tenants SET outbound_trunk_id = '{}'", rows::uuid(4)),
    ])
    .await;
    stands(&node, "failed").await;
    let key = key(&node, 1, KeyRole::Operator).await;
    let wish = json!({ "to": CALLED, "from": NUMBER });
    let refused = node.post(&crate::carrier::calls(1, ""), &key, &wish).await;
    assert_eq!((refused.status, refused.json()["code"].as_str()), (503, Some("no_gateway")));
    let sql = "SELECT count(*) FROM calls WHERE cause = 'no_gateway' \
               AND decision::text LIKE '%is not registered%'";
    wait_for("the record", async || (node.count(sql).await == 1).then_some(())).await;

    let eased = "UPDATE trunks SET overrides = \
                 jsonb_set(overrides, '{registration,needed_for_outbound}', 'false')";
    node.put(&[eased.to_owned()]).await;
    place(&node, &key, wish).await;
    crate::carrier::answer(&mut far).await;
    far.hang_up().await;
}

#[tokio::test]
async fn a_lost_connection_is_a_lost_registration_until_the_registrar_is_back() {
    let mut kamailio = registrar().await;
    let node = node(kamailio.address, "tcp", json!({ "refresh_ratio": 0.9 })).await;
    stands(&node, "registered").await;
    kamailio.end().await;
    let trunk = stands(&node, "failed").await;
    assert!(trunk["registration"]["until"].is_null(), "{trunk}");
    assert!(node.log().contains("the connection of a registration is lost"));
    kamailio.launch().await;
    stands(&node, "registered").await;
}

#[tokio::test]
async fn a_trunk_obeys_a_registrar_that_wants_more_time_and_leaves_it_alone_when_it_is_refused() {
    let address = SocketAddr::new(own_address(), 5060);
    let here = SocketAddr::from(([127, 0, 0, 1], 9));
    let registrar =
        Sipp::new("registrar", address.ip(), here, NUMBER).args(&["-p", "5060"]).start();
    let more = json!({ "auth_username": "login", "send_path": true });
    let node = node(address, "udp", more).await;
    let trunk = stands(&node, "failed").await;
    let report = registrar.report().await;
    assert_eq!((report.successful, report.failed), (1, 0), "{}", report.text);
    assert_eq!(trunk["registration"]["status"], 403, "{trunk}");
    let (list, facts) = commanded(&node).await;
    assert!(list.contains("  failed"), "{list}");
    assert!(facts.contains("last status") && facts.contains("  403\n"), "{facts}");
    assert!(facts.contains("asks again") && !facts.contains("bound until"), "{facts}");
    let next: Timestamp = trunk["registration"]["next_at"].as_str().unwrap().parse().unwrap();
    let wait = next.duration_since(clock::wall_now()).as_secs();
    assert!((800..=1_200).contains(&wait), "{wait} s: a registrar that refused is asked too soon");
}

#[tokio::test]
async fn a_trunk_that_is_disabled_takes_its_binding_away() {
    let kamailio = registrar().await;
    let node = node(kamailio.address, "udp", json!({})).await;
    stands(&node, "registered").await;
    node.put(&["UPDATE trunks SET enabled = false".to_owned()]).await;
    let gone = async || kamailio.noted("BOUND").pop().filter(|last| last.ends_with(" 0"));
    wait_for("the removal", gone).await;
    let trunk = node.trunk(rows::tenant_id(1)).await;
    assert!(trunk["registration"].is_null(), "{trunk}");
}

#[tokio::test]
async fn a_trunk_behind_a_proxy_that_puts_itself_into_the_path_is_called_by_it() {
    let kamailio = Kamailio::start(include_str!("path.cfg")).await;
    let edge = SocketAddr::new(kamailio.address.ip(), 5_070);
    let proxy = format!("sip:{edge};transport=udp;lr");
    // The registrar takes nobody that does not know of paths.
    let node = node(edge, "udp", json!({ "proxy": proxy, "send_path": false })).await;
    wait_for("420", async || {
        let trunk = node.trunk(rows::tenant_id(1)).await;
        (trunk["registration"]["status"] == 420).then_some(())
    })
    .await;
    let change = "UPDATE trunks SET overrides = \
                  jsonb_set(overrides, '{registration,send_path}', 'true')";
    node.put(&[change.to_owned()]).await;
    stands(&node, "registered").await;
    let bound = kamailio.noted("BOUND").pop().unwrap();
    let path = format!("<sip:{edge};lr");
    assert!(bound.contains(&path), "{bound}");

    let mut talk = Talk::answered(talk::plan(kamailio.address, NUMBER)).await;
    talk.hear(5).await;
    talk.hang_up().await;
    let passed = kamailio.noted("PASSED");
    assert_eq!(passed.len(), 1, "{passed:?}");
    assert!(passed[0].starts_with("INVITE sip:pilot@"), "{passed:?}");
    let answered = "SELECT count(*) FROM calls WHERE answered_at IS NOT NULL AND cause = 'normal'";
    wait_for("the record", async || (node.count(answered).await == 1).then_some(())).await;
}
