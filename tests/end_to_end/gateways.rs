//! Gateways of trunks that call out, asked by OPTIONS whether they live: SIPp answers, or is gone.

use crate::call_out::place;
use crate::carrier;
use crate::carrier::CALLED;
use crate::carrier::NUMBER;
use crate::carrier::calls;
use crate::carrier::shown;
use crate::carrier::steps;
use crate::kamailio::own_address;
use crate::node::Home;
use crate::node::Node;
use crate::node::wait_for;
use crate::phone::PATIENCE;
use crate::phone::SILENCE;
use crate::rows;
use crate::sipp::Running;
use crate::sipp::Sipp;
use serde_json::json;
use std::net::IpAddr;
use std::net::SocketAddr;
use tandem::store::api_keys::KeyRole;
use tokio::net::UdpSocket;

/// Waits until so many gateways stand so.
async fn counted(node: &Node, state: &str, expected: u64) {
    let metric = format!("gateways{{state=\"{state}\"}}");
    wait_for(&metric, async || (node.metric(&metric).await == expected).then_some(())).await;
}

/// SIPp as a gateway at `local`, for so many probes.
fn gateway(local: IpAddr, node: &Node, probes: &str) -> Running {
    let args = ["-p", "5060", "-m", probes];
    Sipp::new("options-server", local, node.sip(), "ping").args(&args).start()
}

#[tokio::test]
async fn a_gateway_that_goes_away_is_down_until_it_answers_again() {
    let node = Home::new().start().await;
    let local = own_address();
    let first = gateway(local, &node, "1");
    let overrides = json!({
        "inbound": { "enabled": false },
        "outbound": {
            "enabled": true,
            "gateway": [{ "name": "sbc", "uri": format!("sip:{local}:5060;transport=udp") }],
        },
        "options": { "interval_s": 15, "timeout_s": 1, "down_after": 1, "up_after": 1,
                     "alive_codes": "2xx", "request_user": "ping" },
        "security": { "allow_destinations": ["+1555"] },
        "caller_id": { "default": NUMBER },
    });
    node.put(&[
        rows::trunk_with(2, overrides),
        carrier::tenant(1, 2),
        rows::profile(3, 1, json!({"kind": "echo"})),
        rows::number(4, 1, 3, NUMBER),
    ])
    .await;
    let key = carrier::key(&node, 1, KeyRole::Operator).await;
    counted(&node, "ready", 1).await;
    let trunk = node.trunk(rows::tenant_id(1)).await;
    assert_eq!(trunk["gateways"][0]["state"], "ready", "{trunk}");
    let report = first.report().await;
    assert_eq!((report.successful, report.failed), (1, 0), "{}", report.text);

    counted(&node, "down", 1).await;
    counted(&node, "ready", 0).await;
    assert!(node.log().contains("a gateway does not answer"), "it is logged");
    let trunk = node.trunk(rows::tenant_id(1)).await;
    assert_eq!(trunk["gateways"][0]["state"], "down", "{trunk}");
    // It gets no calls.
    let wish = json!({"to": CALLED, "from": NUMBER});
    let refused = node.post(&calls(1, ""), &key, &wish).await;
    assert_eq!((refused.status, refused.json()["code"].as_str()), (503, Some("no_gateway")));
    let sql = "SELECT count(*) FROM calls WHERE cause = 'no_gateway' \
               AND decision::text LIKE '%sbc is down%'";
    wait_for("the record", async || (node.count(sql).await == 1).then_some(())).await;

    let _second = gateway(local, &node, "1000");
    counted(&node, "ready", 1).await;
    counted(&node, "down", 0).await;
    let call = place(&node, &key, wish).await;
    let path = calls(1, &format!("/{call}/hangup"));
    assert_eq!(node.post(&path, &key, &json!({})).await.status, 202);
    let steps = steps(&shown(&node, 1, &call, &key).await);
    assert!(steps.contains("gateway: 1: sbc of trunk-2"), "{steps}");
}

#[tokio::test]
async fn nothing_is_sent_to_peers_of_a_tenants_trunk_where_agents_may_not_be() {
    let mut home = Home::new();
    home.set("TANDEM_AGENTS_ALLOW_NETWORKS", "192.0.2.0/24");
    let node = home.start().await;
    let service = UdpSocket::bind(SocketAddr::new(own_address(), 0)).await.unwrap();
    let at = service.local_addr().unwrap();
    let gateway = json!([{ "name": "sbc", "uri": format!("sip:{at};transport=udp") }]);
    let calls_out = json!({
        "inbound": { "enabled": false },
        "outbound": { "enabled": true, "gateway": gateway },
        "options": { "interval_s": 0 },
        "security": { "allow_destinations": ["+1555"] },
        "caller_id": { "default": NUMBER },
    });
    let mut watched = calls_out.clone();
    watched["options"] = json!({ "interval_s": 15, "timeout_s": 1, "down_after": 1 });
    watched["network"] = json!({ "keepalive": { "udp_s": 1 } });
    watched["registration"] = json!({
        "enabled": true, "registrar": format!("sip:{at}"), "aor": "sip:u@carrier.example", "retry_s": [1],
    });
    node.put(&[
        rows::trunk_with(2, calls_out),
        rows::trunk_with(5, watched),
        carrier::tenant(1, 2),
        rows::profile(3, 1, json!({"kind": "echo"})),
        // One change of each thing is told of.
        format!(
            "{}; UPDATE trunks SET tenant_id = '{}'",
            rows::number(4, 1, 3, NUMBER),
            rows::uuid(1)
        ),
    ])
    .await;
    let key = carrier::key(&node, 1, KeyRole::Operator).await;
    counted(&node, "down", 1).await;
    let call = place(&node, &key, json!({"to": CALLED, "from": NUMBER})).await;
    let sql = format!(
        "SELECT count(*) FROM calls WHERE id = '{call}' AND cause = 'agent_forbidden' AND ended_at IS NOT NULL"
    );
    wait_for("the record", async || (node.count(&sql).await == 1).then_some(())).await;
    let mut heard = [0; 2_048];
    let nothing = tokio::time::timeout(SILENCE, service.recv_from(&mut heard)).await;
    assert!(nothing.is_err(), "something was sent: {nothing:?}");
    // An operator's trunk goes where the operator wants.
    node.put(&["UPDATE trunks SET tenant_id = NULL".to_owned()]).await;
    let heard = tokio::time::timeout(PATIENCE, service.recv_from(&mut heard)).await;
    assert!(heard.is_ok(), "nothing is sent");
}
