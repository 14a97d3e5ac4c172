//! What a carrier may do to the built program beside plain calls, and what it may expect then.

#[path = "support/http.rs"]
mod http;
#[path = "support/phone.rs"]
mod phone;
#[path = "support/postgres.rs"]
mod postgres;
#[path = "support/switch.rs"]
mod switch;

use crate::phone::Phone;
use crate::switch::Switch;

const ECHO: &str = "+15550101";

async fn phone(switch: &Switch, number: &str) -> Phone {
    Phone::new(switch.caller(2), switch.udp, number).await
}

#[tokio::test]
async fn every_request_within_a_call_is_answered() {
    let switch = Switch::start().await;
    let mut phone = phone(&switch, ECHO).await;
    phone.call("").await;
    let digit = "Signal=5\r\nDuration=160\r\n";
    let dtmf = "Content-Type: application/dtmf-relay\r\n";
    let sdp = phone.sdp();
    for (method, headers, body, expected) in [
        ("INFO", dtmf, digit, 200),
        ("INFO", "Content-Type: application/x-unknown\r\n", "what?", 415),
        ("OPTIONS", "", "", 200),
        ("UPDATE", "", "", 200),
        ("UPDATE", "", &sdp, 200),
        ("INVITE", "", &sdp, 200),
        ("REFER", "Refer-To: <sip:+15550102@192.0.2.1>\r\n", "", 603),
        ("MESSAGE", "Content-Type: text/plain\r\n", "hello", 405),
        ("NOTIFY", "Event: refer\r\nSubscription-State: active\r\n", "", 481),
        ("SUBSCRIBE", "Event: presence\r\n", "", 405),
        ("PRACK", "RAck: 1 1 INVITE\r\n", "", 481),
        ("PUBLISH", "Event: presence\r\n", "", 405),
        ("FOO", "", "", 405),
        ("INVITE", "Require: 100rel\r\n", &sdp, 420),
    ] {
        let answer = phone.ask(method, headers, body).await;
        assert_eq!(answer.status(), expected, "{method} {body}: {answer:?}");
        match (method, answer.status()) {
            ("INVITE", 200) => {
                let ack = phone.request("ACK", "", "");
                phone.send(ack).await;
                assert_ne!(answer.audio_port(), 0, "{answer:?}");
            }
            ("UPDATE", 200) if !body.is_empty() => assert_ne!(answer.audio_port(), 0),
            (_, 405) => assert!(answer.header("allow").contains("INVITE"), "{answer:?}"),
            (_, 420) => assert_eq!(answer.header("unsupported"), "100rel"),
            _ => {}
        }
    }
    phone.hang_up().await;
    switch
        .wait_for_count("SELECT count(*) FROM calls WHERE digits = 1 AND cause = 'normal'", 1)
        .await;
}
