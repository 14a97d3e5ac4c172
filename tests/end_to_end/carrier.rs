//! Who is called: a telephone as a carrier or an agent, and who calls it through the switch.

use crate::node::Node;
use crate::node::wait_for;
use crate::phone::Heard;
use crate::phone::PATIENCE;
use crate::phone::Phone;
use crate::rows;
use crate::rtp::Stream;
use crate::rtp::audio;
use serde_json::Value;
use serde_json::json;
use std::net::SocketAddr;
use tandem::store::api_keys;
use tandem::store::api_keys::KeyRole;
use tandem::store::api_keys::KeyScope;
use tandem::types::id::TenantId;
use tokio::time::timeout;

/// The tenant's number.
pub(crate) const NUMBER: &str = "+15550110";
/// A number that is called.
pub(crate) const CALLED: &str = "+15550142";

/// A telephone at `local` that waits for calls of the node.
pub(crate) async fn carrier(node: &Node, local: &str) -> Phone {
    Phone::new(local.parse().unwrap(), node.sip(), CALLED).await
}

/// A trunk that takes calls from `source` and places them by these gateways, with more overrides.
pub(crate) fn trunk(id: u128, source: &str, gateways: &[SocketAddr], more: Value) -> String {
    let gateways: Vec<Value> = gateways
        .iter()
        .zip(1..)
        .map(|(at, rank)| {
            json!({"name": format!("g{rank}"), "uri": format!("sip:{at}"),
                                 "dns": "fixed", "priority": rank})
        })
        .collect();
    let mut overrides = json!({
        "inbound": {"source_cidrs": [source]},
        "outbound": {"enabled": true, "gateway": gateways},
        "security": {"allow_destinations": ["+1555"], "max_calls_per_destination_per_min": 0},
        "caller_id": {"default": NUMBER},
    });
    merge(&mut overrides, more);
    rows::trunk_with(id, overrides)
}

pub(crate) fn merge(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more,
    }
}

/// A tenant whose way out is this trunk, which is there already.
pub(crate) fn tenant(id: u128, trunk: u128) -> String {
    let (tenant, trunk) = (rows::uuid(id), rows::uuid(trunk));
    format!(
        "INSERT INTO tenants (id, name, outbound_trunk_id) \
         VALUES ('{tenant}', 'tenant {id}', '{trunk}')"
    )
}

/// A key of the tenant.
pub(crate) async fn key(node: &Node, tenant: u128, role: KeyRole) -> String {
    let scope = KeyScope::Tenant(TenantId::from_uuid(rows::uuid(tenant)));
    let made = api_keys::create(&node.database(), scope, role, "", None).await.unwrap();
    made.key.expose().clone()
}

/// The path of the tenant's calls, or of something below.
pub(crate) fn calls(tenant: u128, below: &str) -> String {
    format!("/api/v1/tenants/{}/calls{below}", rows::uuid(tenant))
}

/// Answers with the telephone's own description; gives the INVITE back once it is acknowledged.
pub(crate) async fn answer(phone: &mut Phone) -> Heard {
    let invite = phone.expect("INVITE ").await;
    phone.respond(&invite, "180 Ringing", "", "").await;
    pick_up(phone, &invite).await;
    invite
}

/// Answers an INVITE that was heard already.
pub(crate) async fn pick_up(phone: &mut Phone, invite: &Heard) {
    phone.take(invite);
    phone.respond(invite, "200 OK", "", &phone.sdp()).await;
    phone.expect("ACK ").await;
}

/// Refuses an INVITE, with more headers; waits for the ACK.
pub(crate) async fn refuse(phone: &Phone, invite: &Heard, status: &str, headers: &str) {
    phone.respond(invite, status, headers, "").await;
    phone.expect("ACK ").await;
}

/// Hears BYE and answers it.
pub(crate) async fn hear_bye(phone: &Phone) -> Heard {
    let bye = phone.expect("BYE ").await;
    phone.answer(&bye, "200 OK").await;
    bye
}

/// One says `level` to where the switch takes its media until the other hears it.
pub(crate) async fn hears(from: (&Phone, u16), to: &Phone, level: u8) {
    let switch = SocketAddr::new(from.0.switch.ip(), from.1);
    let mut stream = Stream::new(u32::from(level) + 7, level);
    let said = stream.send(&from.0.media, switch, (500, 1));
    let heard = async {
        let mut buffer = [0; 2_048];
        loop {
            let (length, _) = to.media.recv_from(&mut buffer).await.unwrap();
            let payload = audio(&buffer[..length]);
            if !payload.is_empty() && payload.iter().all(|byte| *byte == level) {
                return;
            }
        }
    };
    tokio::select! {
        () = said => panic!("level {level} is not heard"),
        heard = timeout(PATIENCE, heard) => heard.unwrap(),
    }
}

/// The stored record of a call of the API.
pub(crate) async fn shown(node: &Node, tenant: u128, call: &str, key: &str) -> Value {
    wait_for("the record is closed", async || {
        let sql =
            format!("SELECT count(*) FROM calls WHERE id = '{call}' AND ended_at IS NOT NULL");
        (node.count(&sql).await == 1).then_some(())
    })
    .await;
    node.read(&calls(tenant, &format!("/{call}")), key).await
}

/// The steps of a record's decision as lines.
pub(crate) fn steps(record: &Value) -> String {
    let steps = record["decision"].as_array().unwrap().iter();
    let line = |step: &Value| {
        let text = |key: &str| step[key].as_str().unwrap_or_default().to_owned();
        format!("{}: {}\n", text("what"), text("detail"))
    };
    steps.map(line).collect()
}
