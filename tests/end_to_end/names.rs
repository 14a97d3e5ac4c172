//! Callers and gateways that are known by names: what DNS says of them, late, wrong or not at all.

use crate::call_out::place;
use crate::carrier;
use crate::carrier::CALLED;
use crate::carrier::NUMBER;
use crate::carrier::answer;
use crate::carrier::calls;
use crate::carrier::carrier;
use crate::carrier::hear_bye;
use crate::carrier::key;
use crate::carrier::refuse;
use crate::carrier::shown;
use crate::carrier::steps;
use crate::name_server::NameServer;
use crate::name_server::Says;
use crate::node::Home;
use crate::node::Node;
use crate::node::wait_for;
use crate::phone::Heard;
use crate::phone::Phone;
use crate::rows;
use crate::talk::Peer;
use serde_json::Value;
use serde_json::json;
use tandem::store::api_keys::KeyRole;
use tokio::net::UdpSocket;

const CALLER: &str = "sip.carrier.test";

/// A node that asks `names`, with a number that is answered.
async fn node(names: &NameServer) -> Node {
    let node = Home::with("127.0.0.1:0", 100, &names.line()).start().await;
    node.put(&[
        rows::tenant(1, 0),
        rows::profile(2, 1, json!({"kind": "echo"})),
        rows::number(3, 1, 2, NUMBER),
    ])
    .await;
    node
}

#[tokio::test]
async fn a_caller_known_by_a_name_is_followed_where_dns_says_and_kept_while_dns_fails() {
    let names = NameServer::start().await;
    names.says(CALLER, Says::Address([127, 0, 0, 21].into()));
    let node = node(&names).await;
    let inbound = json!({"inbound": {"source_cidrs": [], "source_dns": [CALLER]}});
    node.put(&[rows::trunk_with(4, inbound)]).await;
    let (old, new) =
        (Peer::at("127.0.0.21", node.sip()).await, Peer::at("127.0.0.22", node.sip()).await);
    // Asked until it is answered.
    assert_eq!(old.options().await.status(), 200);
    let mut phone = Phone::new([127, 0, 0, 21].into(), node.sip(), NUMBER).await;
    phone.call("").await;
    new.send("OPTIONS", "ping").await;
    assert!(new.hears_nothing().await, "an address that no name stands for was answered");

    names.says(CALLER, Says::Address([127, 0, 0, 22].into()));
    assert_eq!(new.options().await.status(), 200);
    // The call from where the name led before goes on, and may end.
    phone.hang_up().await;
    wait_for("the call is over", async || (node.metric("calls_open").await == 0).then_some(()))
        .await;

    names.says(CALLER, Says::Failure);
    let before = names.asked(CALLER);
    wait_for("DNS fails", async || (names.asked(CALLER) > before + 2).then_some(())).await;
    assert_eq!(new.options().await.status(), 200);
    let refused = Peer::at("127.0.0.23", node.sip()).await;
    refused.send("INVITE", NUMBER).await;
    assert!(refused.hears_nothing().await, "a stranger was answered");
}

/// A trunk that calls by gateways of these URIs.
fn by_names(id: u128, source: &str, gateways: &[Value]) -> String {
    let more = json!({"outbound": {"gateway": gateways},
                      "calls": {"setup_timeout_s": 60, "no_reply_timeout_ms": 20_000}});
    carrier::trunk(id, source, &[], more)
}

#[tokio::test]
async fn a_gateway_that_dns_does_not_find_delays_no_other_trunk_and_gives_way_to_the_next() {
    let names = NameServer::start().await;
    names.says("slow.test", Says::Silence);
    names.says("quick.test", Says::Address([127, 0, 0, 31].into()));
    let node = node(&names).await;
    let (mut quick, mut spare) =
        (carrier(&node, "127.0.0.31").await, carrier(&node, "127.0.0.32").await);
    let gateway = |name: &str, uri: String, dns: &str, rank: u8| json!({"name": name, "uri": uri, "dns": dns, "priority": rank});
    let spared = gateway("spare", format!("sip:{}", spare.local()), "fixed", 2);
    let port = quick.local().port();
    node.put(&[
        by_names(
            4,
            "127.0.0.31/32",
            &[gateway("slow", "sip:slow.test".into(), "srv", 1), spared.clone()],
        ),
        by_names(
            5,
            "127.0.0.31/32",
            &[gateway("quick", format!("sip:quick.test:{port}"), "a_all", 1)],
        ),
        by_names(6, "127.0.0.31/32", &[gateway("none", "sip:none.test".into(), "srv", 1), spared]),
        by_names(7, "127.0.0.31/32", &[gateway("none", "sip:none.test:5060".into(), "a_all", 1)]),
    ])
    .await;
    let key = key(&node, 1, KeyRole::Operator).await;
    let wish = |trunk: &str| json!({"to": CALLED, "from": NUMBER, "trunk": trunk});

    let waiting = place(&node, &key, wish("trunk-4")).await;
    wait_for("DNS is asked", async || (names.asked("slow.test") > 0).then_some(())).await;
    // While that search goes on, seconds, a call by another name is there and over.
    let call = place(&node, &key, wish("trunk-5")).await;
    answer(&mut quick).await;
    let hang_up = async |call: &str, far: &Phone| {
        let path = calls(1, &format!("/{call}/hangup"));
        assert_eq!(node.post(&path, &key, &json!({})).await.status, 202);
        hear_bye(far).await;
        steps(&shown(&node, 1, call, &key).await)
    };
    let decided = hang_up(&call, &quick).await;
    assert!(decided.contains("quick of trunk-5"), "{decided}");
    answer(&mut spare).await;
    let decided = hang_up(&waiting, &spare).await;
    assert!(
        decided.contains("slow of trunk-4") && decided.contains("cannot be reached"),
        "{decided}"
    );
    let order = format!(
        "SELECT count(*) FROM calls AS slow, calls AS quick WHERE slow.id = '{waiting}' \
         AND quick.id = '{call}' AND quick.answered_at < slow.answered_at"
    );
    assert_eq!(node.count(&order).await, 1, "the call by the name that is found waited");

    // A name that is none is no reason to wait.
    let call = place(&node, &key, wish("trunk-6")).await;
    answer(&mut spare).await;
    let decided = hang_up(&call, &spare).await;
    assert!(decided.contains("none of trunk-6") && decided.contains("spare"), "{decided}");
    let call = place(&node, &key, wish("trunk-7")).await;
    let record = shown(&node, 1, &call, &key).await;
    assert_eq!(record["cause"], "carrier_timeout", "{}", steps(&record));
    assert!(record["times"]["answered"].is_null());
}

#[tokio::test]
async fn a_503_moves_to_the_next_target() {
    let names = NameServer::start().await;
    names.says("many.test", Says::Addresses([[127, 0, 0, 51].into(), [127, 0, 0, 52].into()]));
    let node = node(&names).await;
    let mut asked = carrier(&node, "127.0.0.51").await;
    let mut other = carrier(&node, "127.0.0.52").await;
    let port = asked.local().port();
    other.socket = UdpSocket::bind(("127.0.0.52", port)).await.unwrap();
    let gateway = json!({"name": "many", "uri": format!("sip:many.test:{port}"), "dns": "a_all",
                         "priority": 1});
    node.put(&[by_names(4, "127.0.0.51/32", &[gateway])]).await;
    let key = key(&node, 1, KeyRole::Operator).await;
    let wish = json!({"to": CALLED, "from": NUMBER, "trunk": "trunk-4"});

    let call = place(&node, &key, wish.clone()).await;
    let invite = whichever_is_asked(&mut asked, &mut other).await;
    refuse(&asked, &invite, "503 Service Unavailable", "").await;
    let again = answer(&mut other).await;
    assert_ne!(invite.header("via"), again.header("via"), "a new transaction");
    assert_eq!(invite.start, again.start, "to the same host");
    let path = calls(1, &format!("/{call}/hangup"));
    assert_eq!(node.post(&path, &key, &json!({})).await.status, 202);
    hear_bye(&other).await;
    let decided = steps(&shown(&node, 1, &call, &key).await);
    assert!(decided.contains("503 Service Unavailable of 127.0.0.5"), "{decided}");
    assert!(decided.contains("answered") && !decided.contains("try: 2"), "{decided}");

    // Who is called has said what it wants: that is nobody else's to say.
    let call = place(&node, &key, wish).await;
    let mut known = vec![invite.header("call-id").to_owned(), again.header("call-id").to_owned()];
    let invite = next_call(&other, &mut known).await;
    refuse(&other, &invite, "486 Busy Here", "").await;
    assert_eq!(shown(&node, 1, &call, &key).await["cause"], "busy");
    assert!(is_left_alone(&asked, known.first()), "the other was asked too");
}

/// The INVITE of the next call, not one that comes again.
async fn next_call(phone: &Phone, known: &mut Vec<String>) -> Heard {
    loop {
        let invite = phone.expect("INVITE ").await;
        let call_id = invite.header("call-id").to_owned();
        if !known.contains(&call_id) {
            known.push(call_id);
            return invite;
        }
    }
}

/// Whether all that has come to a telephone is of this call.
fn is_left_alone(phone: &Phone, call_id: Option<&String>) -> bool {
    let mut buffer = vec![0; 65_535];
    while let Ok((length, _)) = phone.socket.try_recv_from(&mut buffer) {
        let heard = Heard::read(&String::from_utf8_lossy(&buffer[..length]));
        if Some(heard.header("call-id")) != call_id.map(String::as_str) {
            return false;
        }
    }
    true
}

#[tokio::test]
async fn an_address_that_wants_no_calls_or_is_dead_rests_while_its_gateway_goes_on() {
    let names = NameServer::start().await;
    names.says("many.test", Says::Addresses([[127, 0, 0, 53].into(), [127, 0, 0, 54].into()]));
    let node = node(&names).await;
    let mut asked = carrier(&node, "127.0.0.53").await;
    let mut other = carrier(&node, "127.0.0.54").await;
    let port = asked.local().port();
    other.socket = UdpSocket::bind(("127.0.0.54", port)).await.unwrap();
    let gateway = json!({"name": "many", "uri": format!("sip:many.test:{port}"), "dns": "a_all",
                         "priority": 1});
    let more = json!({"outbound": {"gateway": [gateway]}, "failover": {"gateway_cooldown_s": 600},
                      "calls": {"setup_timeout_s": 60, "no_reply_timeout_ms": 8_000}});
    node.put(&[carrier::trunk(4, "127.0.0.53/32", &[], more)]).await;
    let (key, operator) = (key(&node, 1, KeyRole::Operator).await, node.operator_key().await);
    let wish = json!({"to": CALLED, "from": NUMBER, "trunk": "trunk-4"});
    let gateway = async || {
        let path = format!("/api/v1/tenants/{}/trunks", rows::uuid(1));
        node.read(&path, &operator).await["trunks"][0]["gateways"][0].clone()
    };
    let resting = |gateway: &Value, state: &str, at: &Phone| {
        let addresses = gateway["addresses"].as_array().unwrap();
        addresses.iter().any(|own| {
            own["address"] == at.local().to_string()
                && own["state"] == state
                && own["transport"] == "udp"
                && own["until"].is_string()
        })
    };

    // The first says when it wants calls again: that is of itself.
    let call = place(&node, &key, wish.clone()).await;
    let invite = whichever_is_asked(&mut asked, &mut other).await;
    refuse(&asked, &invite, "503 Service Unavailable", "Retry-After: 900\r\n").await;
    let mut known = vec![invite.header("call-id").to_owned()];
    let again = next_call(&other, &mut known).await;
    refuse(&other, &again, "486 Busy Here", "").await;
    assert_eq!(shown(&node, 1, &call, &key).await["cause"], "busy");
    let stands = gateway().await;
    assert_eq!(stands["state"], "ready", "{stands}");
    assert!(resting(&stands, "throttled", &asked), "{stands}");

    // However often there is a call, and in whatever order DNS has the two.
    for _ in 0..6 {
        let call = place(&node, &key, wish.clone()).await;
        let invite = next_call(&other, &mut known).await;
        refuse(&other, &invite, "486 Busy Here", "").await;
        let record = shown(&node, 1, &call, &key).await;
        assert_eq!(record["cause"], "busy");
        let left_out = format!("{} over udp is throttled", asked.local());
        assert!(steps(&record).contains(&left_out), "{}", steps(&record));
    }
    assert!(is_left_alone(&asked, known.first()), "who wants no calls was asked");

    // The second falls silent: now the gateway has nobody.
    let call = place(&node, &key, wish.clone()).await;
    next_call(&other, &mut known).await;
    assert_eq!(shown(&node, 1, &call, &key).await["cause"], "carrier_timeout");
    let stands = gateway().await;
    assert_eq!(stands["state"], "cooling", "{stands}");
    assert!(resting(&stands, "throttled", &asked), "{stands}");
    assert!(resting(&stands, "cooling", &other), "{stands}");
    let answer = node.post(&calls(1, ""), &key, &wish).await;
    assert!(answer.body.contains("no_gateway"), "{}", answer.body);
    let listed = node.ask(&operator, &["trunks", "show", "trunk-4"]).await;
    let line = format!("{} udp", other.local());
    assert!(listed.out.contains(&line), "{listed:?}");
}

/// The next INVITE; `asked` is who got it.
async fn whichever_is_asked(asked: &mut Phone, other: &mut Phone) -> Heard {
    let (is_other, invite) = tokio::select! {
        invite = asked.expect("INVITE ") => (false, invite),
        invite = other.expect("INVITE ") => (true, invite),
    };
    if is_other {
        std::mem::swap(asked, other);
    }
    invite
}

#[tokio::test]
async fn a_trunk_that_names_its_hosts_is_called_by_those_and_no_others() {
    let names = NameServer::start().await;
    let node = node(&names).await;
    let inbound = json!({"source_cidrs": ["127.0.0.41/32"],
                         "accept_ruri_hosts": ["sip.acme.test", "2001:db8::7"]});
    node.put(&[rows::trunk_with(4, json!({"inbound": inbound}))]).await;
    let call_at = async |host: &str| {
        let mut phone = Phone::new([127, 0, 0, 41].into(), node.sip(), NUMBER).await;
        let offer = phone.sdp();
        let invite = phone.request("INVITE", "", &offer);
        let (_, rest) = invite.split_once("\r\n").unwrap();
        phone.send(format!("INVITE sip:{NUMBER}@{host} SIP/2.0\r\n{rest}")).await;
        (phone.outcome("INVITE").await, phone)
    };
    let own = node.sip().to_string();
    for host in ["sip.acme.test", "SIP.acme.test:5060", "[2001:db8::7]", &own] {
        let (answer, mut phone) = call_at(host).await;
        assert_eq!(answer.status(), 200, "{host}: {answer:?}");
        phone.confirm(&answer);
        phone.acknowledge().await;
        phone.hang_up().await;
    }
    let (refusal, phone) = call_at("evil.test").await;
    assert_eq!(refusal.status(), 404, "{refusal:?}");
    assert!(refusal.header("reason").contains("foreign_host"), "{refusal:?}");
    let sql = format!(
        "SELECT count(*) FROM calls WHERE signalling_id = '{}' AND cause = 'foreign_host' \
         AND decision::text LIKE '%`evil.test` is none that trunk-4 answers for%'",
        phone.call_id
    );
    wait_for("the record", async || (node.count(&sql).await == 1).then_some(())).await;
}
