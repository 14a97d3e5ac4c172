//! Gateways of trunks that call out, asked by OPTIONS whether they live: SIPp answers, or is gone.

use crate::kamailio::own_address;
use crate::node::Home;
use crate::node::Node;
use crate::node::wait_for;
use crate::rows;
use crate::sipp::Running;
use crate::sipp::Sipp;
use serde_json::json;
use std::net::IpAddr;

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
    });
    node.put(&[rows::tenant(1, 0), rows::trunk_with(2, overrides)]).await;
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

    let _second = gateway(local, &node, "1000");
    counted(&node, "ready", 1).await;
    counted(&node, "down", 0).await;
}
