//! What the signalling of a call shows to nobody, while its trunk is there and afterwards.

use crate::call_out::place;
use crate::carrier;
use crate::carrier::CALLED;
use crate::carrier::NUMBER;
use crate::carrier::calls;
use crate::carrier::carrier;
use crate::carrier::hear_bye;
use crate::carrier::key;
use crate::carrier::shown;
use crate::http;
use crate::node::Home;
use crate::rows;
use serde_json::json;
use tandem::store::api_keys::KeyRole;

const TOKEN: &str = "t0ken-of-the-platform";
const SDES: &str = "d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj";

#[tokio::test]
async fn the_trace_of_a_call_shows_no_secret_of_its_trunk_and_no_key_of_its_media() {
    let home = Home::new();
    home.write("token", TOKEN);
    let node = home.start().await;
    let mut far = carrier(&node, "127.0.0.9").await;
    let secret = json!({"headers": {"outbound_set": [
        {"name": "X-Trunk-Token", "value_ref": "file:token"},
        {"name": "X-Open", "value": "seen"},
    ]}});
    node.put(&[
        carrier::trunk(4, "127.0.0.9/32", &[far.local()], secret),
        carrier::tenant(1, 4),
        rows::profile(2, 1, json!({"kind": "echo"})),
        rows::number(3, 1, 2, NUMBER),
    ])
    .await;
    let key = key(&node, 1, KeyRole::Operator).await;
    let call = place(&node, &key, json!({"to": CALLED, "from": NUMBER})).await;
    let invite = far.expect("INVITE ").await;
    assert_eq!((invite.header("x-trunk-token"), invite.header("x-open")), (TOKEN, "seen"));
    far.take(&invite);
    // A spelling that parsers of session descriptions take.
    let keys = format!("A = Crypto:1 AES_CM_128_HMAC_SHA1_80 INLINE:{SDES}\r\n");
    far.respond(&invite, "200 OK", "", &(far.sdp() + &keys)).await;
    far.expect("ACK ").await;
    let path = calls(1, &format!("/{call}/hangup"));
    assert_eq!(node.post(&path, &key, &json!({})).await.status, 202);
    hear_bye(&far).await;
    shown(&node, 1, &call, &key).await;

    // The same again once nobody knows the trunk's secrets any more.
    for is_gone in [false, true] {
        if is_gone {
            let plain = "UPDATE trunks SET overrides = overrides - 'headers'";
            node.put(&[plain.to_owned()]).await;
        }
        for format in ["", "/ladder", "/pcap"] {
            let path = calls(1, &format!("/{call}/trace{format}"));
            let headers = [("authorization", format!("Bearer {key}"))];
            let answer = http::request(node.http(), "GET", &path, &headers).await;
            assert_eq!(answer.status, 200, "{path}");
            let text = String::from_utf8_lossy(&answer.bytes).into_owned();
            assert!(!text.contains(TOKEN) && !text.contains(SDES), "{is_gone} {path}: {text}");
            assert!(format == "/ladder" || text.contains("X-Open: seen"), "{path}: {text}");
        }
    }
}
