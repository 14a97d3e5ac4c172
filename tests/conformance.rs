//! What a carrier may do to the built program beside plain calls, and what it may expect then.

#[path = "support/http.rs"]
mod http;
#[path = "support/phone.rs"]
mod phone;
#[path = "support/postgres.rs"]
mod postgres;
#[path = "support/rtp.rs"]
mod rtp;
#[path = "support/switch.rs"]
mod switch;

use crate::phone::Heard;
use crate::phone::PATIENCE;
use crate::phone::Phone;
use crate::phone::SILENCE;
use crate::rtp::Stream;
use crate::switch::Switch;
use aws_lc_rs::digest;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::time::Duration;
use tandem::store::api_keys;
use tandem::store::api_keys::KeyRole;
use tandem::store::api_keys::KeyScope;
use tandem::store::demo;
use tokio::net::UdpSocket;
use tokio::time::timeout;

const ECHO: &str = "+15550101";
const TONE: &str = "+15550102";
const LATE_TONE: &str = "+15550104";
const SHORT: &str = "+15550105";
const REINVITE: &str = "+15550107";

const ALL: &str = "SELECT count(*) FROM calls";
const NORMAL: &str = "SELECT count(*) FROM calls WHERE cause = 'normal' AND ended_at IS NOT NULL";
const CANCELLED: &str = "SELECT count(*) FROM calls WHERE cause = 'caller_cancelled'";

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
        ("INVITE", "Require: precondition\r\n", &sdp, 420),
    ] {
        let answer = phone.ask(method, headers, body).await;
        assert_eq!(answer.status(), expected, "{method} {body}: {answer:?}");
        match (method, answer.status()) {
            ("INVITE", _) => phone.acknowledge().await,
            ("UPDATE", 200) if !body.is_empty() => assert_ne!(answer.audio_port(), 0),
            (_, 405) => assert!(answer.header("allow").contains("INVITE"), "{answer:?}"),
            _ => {}
        }
    }
    // Numbers may be left out, but not taken twice.
    phone.cseq += 1_000;
    assert_eq!(phone.ask("OPTIONS", "", "").await.status(), 200);
    phone.cseq -= 10;
    assert_eq!(phone.ask("OPTIONS", "", "").await.status(), 500);
    phone.cseq += 10;
    phone.hang_up().await;
    let sql = "SELECT count(*) FROM calls WHERE digits = 1 AND cause = 'normal'";
    switch.wait_for_count(sql, 1).await;
}

#[tokio::test]
async fn requests_outside_calls_are_answered_as_the_standard_says() {
    let switch = Switch::start().await;
    let local = switch.caller(2);
    let sdp = phone(&switch, ECHO).await.sdp();
    for (method, user, headers, body, expected) in [
        ("OPTIONS", "ping", "", "", 200),
        ("BYE", ECHO, "", "", 481),
        ("CANCEL", ECHO, "", "", 481),
        ("UPDATE", ECHO, "", "", 481),
        ("FOO", ECHO, "", "", 405),
        ("INVITE", ECHO, "Require: 100rel, x-what\r\n", &sdp, 420),
        ("INVITE", ECHO, "Content-Encoding: gzip\r\n", &sdp, 415),
        ("INVITE", ECHO, "Content-Type: text/plain\r\n", "hello", 415),
        ("INVITE", ECHO, "Supported: timer\r\nSession-Expires: 30\r\n", &sdp, 422),
    ] {
        let mut phone = Phone::new(local, switch.udp, user).await;
        let answer = phone.ask(method, headers, body).await;
        assert_eq!(answer.status(), expected, "{method} {headers}: {answer:?}");
        let told = match expected {
            405 => answer.header("allow"),
            415 => answer
                .all("accept")
                .into_iter()
                .chain(answer.all("accept-encoding"))
                .next()
                .unwrap_or(""),
            420 => answer.header("unsupported"),
            422 => answer.header("min-se"),
            _ => "nothing to tell",
        };
        assert!(!told.is_empty(), "{method} {headers}: {answer:?}");
        if method == "INVITE" {
            phone.acknowledge().await;
        }
    }
    assert_eq!(switch.count(ALL).await, 0, "none was a call");
}

#[tokio::test]
async fn a_session_interval_is_taken_as_offered() {
    let switch = Switch::start().await;
    let mut phone = phone(&switch, ECHO).await;
    let answer = phone.call("Supported: timer\r\nSession-Expires: 600;refresher=uac\r\n").await;
    assert_eq!(answer.header("session-expires"), "600;refresher=uac", "{answer:?}");
    assert_eq!(answer.header("require"), "timer", "{answer:?}");
    let refresh = phone.ask("UPDATE", "Supported: timer\r\nSession-Expires: 600\r\n", "").await;
    assert!(refresh.header("session-expires").starts_with("600"), "{refresh:?}");
    phone.hang_up().await;
}

#[tokio::test]
async fn one_hundred_calls_cancelled_at_once_never_ring_on() {
    let switch = Switch::start().await;
    for turn in 0..100 {
        let mut phone = phone(&switch, LATE_TONE).await;
        let offer = phone.sdp();
        let branch = format!("z9hG4bKrace{turn}");
        phone.cseq = 1;
        phone.send(phone.request_as("INVITE", &branch, "", &offer)).await;
        phone.send(phone.request_as("CANCEL", &branch, "", "")).await;
        let mut finals = [0, 0];
        while finals.contains(&0) {
            let heard = phone.hear().await;
            let slot = usize::from(heard.header("cseq").ends_with("CANCEL"));
            if heard.status() >= 200 {
                finals[slot] = heard.status();
                if slot == 0 {
                    phone.send(phone.ack_of_refusal(&heard, &branch)).await;
                }
            }
        }
        assert_eq!(finals, [487, 200], "turn {turn}");
    }
    switch.wait_for_calls(0).await;
    switch.wait_for_count(CANCELLED, 100).await;
    assert_eq!(switch.count(ALL).await, 100);
}

#[tokio::test]
async fn a_cancel_that_crosses_the_answer_leaves_one_outcome() {
    let switch = Switch::start().await;
    let (mut answered, mut cancelled) = (0, 0);
    for turn in 0..60 {
        let mut phone = phone(&switch, ECHO).await;
        let offer = phone.sdp();
        let branch = format!("z9hG4bKcross{turn}");
        phone.cseq = 1;
        phone.send(phone.request_as("INVITE", &branch, "", &offer)).await;
        // Later with each turn: before, with and after the answer.
        let heard = phone.hear_within(Duration::from_micros(400 * turn)).await;
        drop(heard.filter(|heard| heard.status() >= 200));
        phone.send(phone.request_as("CANCEL", &branch, "", "")).await;
        // A 2xx that was passed over comes again, as it is not acknowledged.
        let outcome = phone.outcome("INVITE").await;
        match outcome.status() {
            200 => {
                answered += 1;
                phone.confirm(&outcome);
                phone.acknowledge().await;
                phone.hang_up().await;
            }
            487 => {
                cancelled += 1;
                phone.send(phone.ack_of_refusal(&outcome, &branch)).await;
            }
            _ => panic!("turn {turn}: {outcome:?}"),
        }
    }
    switch.wait_for_calls(0).await;
    let unanswered = format!("{CANCELLED} AND answered_at IS NULL AND sip_status = 487");
    switch.wait_for_count(&unanswered, cancelled).await;
    switch.wait_for_count(NORMAL, answered).await;
    assert_eq!(switch.count(ALL).await, 60);
}

#[tokio::test]
async fn a_bye_right_behind_a_reinvite_ends_both() {
    let switch = Switch::start().await;
    for turn in 0..30 {
        let mut phone = phone(&switch, ECHO).await;
        phone.call("").await;
        let offer = phone.sdp();
        let reinvite = phone.request("INVITE", "", &offer);
        let number = phone.cseq;
        phone.send(reinvite).await;
        let bye = phone.request("BYE", "", "");
        phone.send(bye).await;
        let (mut to_bye, mut to_reinvite) = (0, 0);
        while to_bye == 0 || to_reinvite == 0 {
            let heard = phone.hear().await;
            if heard.status() >= 200 && heard.header("cseq") == format!("{number} INVITE") {
                to_reinvite = heard.status();
            } else if heard.status() >= 200 && heard.header("cseq").ends_with("BYE") {
                to_bye = heard.status();
            }
        }
        assert_eq!(to_bye, 200, "turn {turn}");
        assert!([200, 487].contains(&to_reinvite), "turn {turn}: {to_reinvite}");
    }
    switch.wait_for_calls(0).await;
    switch.wait_for_count(NORMAL, 30).await;
}

#[tokio::test]
async fn reinvites_that_cross_get_491_and_the_later_one_succeeds() {
    let switch = Switch::start().await;
    let mut phone = phone(&switch, REINVITE).await;
    phone.call("").await;
    let theirs = loop {
        let heard = phone.hear().await;
        if heard.start.starts_with("INVITE ") {
            break heard;
        }
    };
    let offer = phone.sdp();
    let refused = phone.ask("INVITE", "", &offer).await;
    assert_eq!(refused.status(), 491, "{refused:?}");
    phone.acknowledge().await;
    phone.answer_with(&theirs, "200 OK", &offer).await;
    loop {
        let heard = phone.hear().await;
        if heard.start.starts_with("ACK ") {
            break;
        }
        assert_ne!(heard.status(), 200, "{heard:?}");
    }
    assert_eq!(phone.ask("INVITE", "", &offer).await.status(), 200);
    phone.acknowledge().await;
    phone.hang_up().await;
    switch.wait_for_count(NORMAL, 1).await;
}

#[tokio::test]
async fn our_bye_travels_along_the_route_set() {
    let switch = Switch::start().await;
    let mut phone = phone(&switch, SHORT).await;
    let proxy = UdpSocket::bind((switch.caller(2), 0)).await.unwrap();
    let routes =
        [format!("<sip:{};lr>", proxy.local_addr().unwrap()), "<sip:192.0.2.7;lr>".to_owned()];
    let answer = phone.call(&format!("Record-Route: {}, {}\r\n", routes[0], routes[1])).await;
    let kept: Vec<&str> =
        answer.all("record-route").iter().flat_map(|one| one.split(',').map(str::trim)).collect();
    assert_eq!(kept, routes);
    let mut buffer = vec![0; 65_535];
    let (length, from) = timeout(PATIENCE, proxy.recv_from(&mut buffer)).await.unwrap().unwrap();
    let bye = Heard::read(&String::from_utf8_lossy(&buffer[..length]));
    assert_eq!(bye.start, format!("BYE sip:phone@{} SIP/2.0", phone.local()));
    let taken: Vec<&str> =
        bye.all("route").iter().flat_map(|one| one.split(',').map(str::trim)).collect();
    assert_eq!(taken, routes);
    assert!(bye.header("via").contains(";rport"), "{bye:?}");
    assert!(bye.header("reason").starts_with("Q.850;cause=16"), "{bye:?}");
    assert_eq!(from, switch.udp);
    let ok = Phone::response(&bye, "200 OK", "");
    proxy.send_to(ok.as_bytes(), from).await.unwrap();
    switch.wait_for_count(NORMAL, 1).await;
}

#[tokio::test]
async fn lines_that_are_no_audio_are_refused_in_their_place() {
    let switch = Switch::start().await;
    let audio = "m=audio 4000 RTP/AVP 0\r\n";
    for (lines, expected) in [
        (
            format!("{audio}m=video 4002 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"),
            ["audio", "video 0"],
        ),
        (format!("m=image 4004 udptl t38\r\n{audio}"), ["image 0", "audio"]),
        (format!("{audio}m=audio 4006 RTP/AVP 8\r\n"), ["audio", "audio 0"]),
        (format!("{audio}m=message 4008 TCP/MSRP *\r\n"), ["audio", "message 0"]),
        (format!("{audio}m=audio 4010 RTP/SAVP 0\r\n"), ["audio", "audio 0"]),
    ] {
        let mut phone = phone(&switch, ECHO).await;
        let ip = phone.local().ip();
        let offer =
            format!("v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\n{lines}");
        let answer = phone.ask("INVITE", "", &offer).await;
        assert_eq!(answer.status(), 200, "{lines}: {answer:?}");
        phone.confirm(&answer);
        phone.acknowledge().await;
        let answered: Vec<&str> =
            answer.body.lines().filter_map(|line| line.strip_prefix("m=")).collect();
        assert_eq!(answered.len(), 2, "{}", answer.body);
        for (line, expected) in answered.iter().zip(expected) {
            assert!(line.starts_with(expected), "{lines} was answered {}", answer.body);
            assert_eq!(line.contains(" 0 "), expected.ends_with(" 0"), "{}", answer.body);
        }
        phone.hang_up().await;
    }
}

#[tokio::test]
async fn fax_is_refused_and_a_call_that_was_asked_to_become_one_goes_on() {
    let switch = Switch::start().await;
    let mut phone = phone(&switch, TONE).await;
    let ip = phone.local().ip();
    let fax = |version: u8, audio: &str| {
        format!(
            "v=0\r\no=- 1 {version} IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\n{audio}\
             m=image 4004 udptl t38\r\na=T38FaxVersion:0\r\na=T38MaxBitRate:14400\r\n"
        )
    };
    let refusal = phone.ask("INVITE", "", &fax(1, "")).await;
    assert_eq!(refusal.status(), 488, "{refusal:?}");
    let (reason, warning) = (refusal.header("reason"), refusal.header("warning"));
    assert!(reason.contains("no_audio") && warning.starts_with("304 "), "{refusal:?}");
    let mut phone = self::phone(&switch, TONE).await;
    phone.call("").await;
    // Both ways in which gateways ask a call to become a fax.
    for (version, audio) in [(2, ""), (3, "m=audio 0 RTP/AVP 0\r\n")] {
        let refusal = phone.ask("INVITE", "", &fax(version, audio)).await;
        assert_eq!(refusal.status(), 488, "{audio}: {refusal:?}");
        assert!(refusal.header("warning").starts_with("304 "), "{refusal:?}");
        phone.acknowledge().await;
        phone.drain_media_now().await;
        phone.hear_media(10).await;
    }
    phone.hang_up().await;
}

#[tokio::test]
async fn comfort_noise_that_is_offered_is_not_agreed_and_disturbs_no_audio() {
    let switch = Switch::start().await;
    let mut phone = phone(&switch, ECHO).await;
    let offer = phone.sdp().replace("RTP/AVP 0 8 101", "RTP/AVP 0 13 101");
    let answer = phone.ask("INVITE", "", &offer).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    let line = answer.body.lines().find(|line| line.starts_with("m=audio")).unwrap();
    assert!(line.ends_with(" RTP/AVP 0 101"), "{line}");
    phone.confirm(&answer);
    phone.acknowledge().await;
    let media = SocketAddr::new(switch.udp.ip(), answer.audio_port());
    let mut stream = Stream::new(3, 0x55);
    for _ in 0..5 {
        stream.send(&phone.media, media, (10, 1)).await;
        // It comes all the same, of peers that know no better.
        let mut noise = stream.next();
        noise[1] = 13;
        noise.truncate(13);
        phone.media.send_to(&noise, media).await.unwrap();
    }
    phone.hear_media(20).await;
    phone.hang_up().await;
    let heard = "SELECT count(*) FROM calls WHERE cause = 'normal' AND packets_in >= 40";
    switch.wait_for_count(heard, 1).await;
    let unexpected = switch.total("media_packets_dropped_total").await;
    assert!(unexpected < 5.0, "comfort noise counts as strange: {unexpected}");
}

#[tokio::test]
async fn an_offer_of_ours_that_the_ack_does_not_answer_ends_the_call() {
    let switch = Switch::start().await;
    let mut phone = phone(&switch, ECHO).await;
    let answer = phone.ask("INVITE", "", "").await;
    assert_eq!(answer.status(), 200);
    assert_ne!(answer.audio_port(), 0, "{answer:?}");
    phone.confirm(&answer);
    phone.acknowledge().await;
    let bye = loop {
        let heard = phone.hear().await;
        if heard.start.starts_with("BYE ") {
            break heard;
        }
    };
    assert!(bye.header("reason").contains("no_sdp_answer"), "{bye:?}");
    phone.answer(&bye, "200 OK").await;
    let sql = "SELECT count(*) FROM calls WHERE cause = 'no_sdp_answer' AND ended_by = 'switch'";
    switch.wait_for_count(sql, 1).await;
}

#[tokio::test]
async fn media_follows_a_reinvite_to_another_address() {
    let switch = Switch::start().await;
    let mut phone = phone(&switch, TONE).await;
    phone.call("").await;
    phone.hear_media(5).await;
    phone.move_media(switch.caller(3)).await;
    let offer = phone.sdp();
    assert_eq!(phone.ask("INVITE", "", &offer).await.status(), 200);
    phone.acknowledge().await;
    phone.hear_media(5).await;
    // To where nobody is told to send, nothing is sent.
    let held = offer.replace("m=audio", "a=inactive\r\nm=audio");
    assert_eq!(phone.ask("INVITE", "", &held).await.status(), 200);
    phone.acknowledge().await;
    phone.drain_media().await;
    assert!(!phone.hears_media_within(SILENCE).await, "media while held");
    phone.hang_up().await;
}

#[tokio::test]
async fn a_digest_of_sha_256_is_asked_for_first_and_a_replay_is_refused() {
    let switch = Switch::start().await;
    // The demo's own trunk, which takes SHA-256 before MD5.
    let mut phone = Phone::new(IpAddr::from([127, 0, 0, 2]), switch.udp, ECHO).await;
    let offer = phone.sdp();
    let challenge = phone.call_in_vain("", &offer).await;
    assert_eq!(challenge.status(), 401);
    let first = challenge.header("www-authenticate");
    assert!(first.contains("algorithm=SHA-256"), "{challenge:?}");
    let nonce = first.split("nonce=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    let uri = format!("sip:{ECHO}@{}", switch.udp);
    let right = authorization("demo", nonce, &uri, 1);
    let answer = phone.call(&right).await;
    assert_eq!(answer.status(), 200);
    phone.hang_up().await;

    let mut thief = Phone::new(IpAddr::from([127, 0, 0, 2]), switch.udp, ECHO).await;
    assert_eq!(thief.call_in_vain(&right, &offer).await.status(), 401, "nc was used");
    let again = authorization("demo", nonce, &uri, 2);
    let mut honest = Phone::new(IpAddr::from([127, 0, 0, 2]), switch.udp, ECHO).await;
    let answer = honest.ask("INVITE", &again, &offer).await;
    // A nonce belongs to its shard; elsewhere it is stale, and the user is not asked again.
    let stale = answer.header("www-authenticate").to_lowercase().contains("stale=true");
    assert!(answer.status() == 200 || (answer.status() == 401 && stale), "{answer:?}");
}

#[tokio::test]
async fn the_signalling_of_a_call_can_be_read_by_its_tenant_alone_and_without_secrets() {
    let switch = Switch::start().await;
    let mut phone = Phone::new(IpAddr::from([127, 0, 0, 2]), switch.udp, ECHO).await;
    let offer = phone.sdp();
    let challenge = phone.call_in_vain("", &offer).await;
    let first = challenge.header("www-authenticate");
    let nonce = first.split("nonce=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    let uri = format!("sip:{ECHO}@{}", switch.udp);
    let credentials = authorization("demo", nonce, &uri, 1);
    assert_eq!(phone.call(&credentials).await.status(), 200);
    phone.hang_up().await;
    switch.wait_for_count(NORMAL, 1).await;

    let mut keys = Vec::new();
    for tenant in [demo::TENANT, demo::SUSPENDED_TENANT] {
        let scope = KeyScope::Tenant(tenant);
        let made = api_keys::create(&switch.database, scope, KeyRole::Viewer, "", None).await;
        keys.push(("authorization", format!("Bearer {}", made.unwrap().key.expose())));
    }
    let path = format!("/api/v1/tenants/{}/calls", demo::TENANT);
    let calls = http::request(switch.http, "GET", &path, &keys[..1]).await.json();
    let call = calls["calls"][0]["id"].as_str().unwrap();
    let path = format!("{path}/{call}/trace");
    for (key, tenant, status) in
        [(1, demo::TENANT, 403), (1, demo::SUSPENDED_TENANT, 404), (0, demo::TENANT, 200)]
    {
        let path = path.replace(&demo::TENANT.to_string(), &tenant.to_string());
        for format in ["", "/ladder", "/pcap"] {
            let path = format!("{path}{format}");
            let answer = http::request(switch.http, "GET", &path, &keys[key..=key]).await;
            assert_eq!(answer.status, status, "{path}: {}", answer.body);
        }
    }

    let trace = http::request(switch.http, "GET", &path, &keys[..1]).await;
    let secret = credentials.split("response=\"").nth(1).and_then(|r| r.split('"').next()).unwrap();
    assert!(!trace.body.contains(secret) && trace.body.contains("username=\\\"demo\\\""));
    let trace = trace.json();
    let messages = trace["messages"].as_array().unwrap();
    let starts: Vec<&str> = messages
        .iter()
        .map(|message| message["text"].as_str().unwrap().get(..11).unwrap())
        .collect();
    // Challenged without a transaction, so without a 100 (RFC 3261 section 26.3.2.4).
    let begin = ["INVITE sip:", "SIP/2.0 401", "ACK sip:+15"];
    assert_eq!(starts[..3], begin);
    assert_eq!(starts.last(), Some(&"SIP/2.0 200"), "{starts:?}");
    assert_eq!(
        (messages[0]["way"].as_str(), messages[1]["way"].as_str()),
        (Some("in"), Some("out"))
    );

    let ladder = http::request(switch.http, "GET", &format!("{path}/ladder"), &keys[..1]).await;
    assert_eq!(ladder.body.lines().count(), messages.len() + 1, "{}", ladder.body);
    assert!(ladder.body.contains("401 Unauthorized"), "{}", ladder.body);
    let pcap = http::request(switch.http, "GET", &format!("{path}/pcap"), &keys[..1]).await;
    let invites = pcap.bytes.windows(11).filter(|part| *part == b"INVITE sip:").count();
    assert_eq!((pcap.bytes.get(..4), invites), (Some(&[0xd4, 0xc3, 0xb2, 0xa1][..]), 2));
}

/// `Authorization` of user `demo` for an INVITE (RFC 7616 section 3.4), by SHA-256.
fn authorization(password: &str, nonce: &str, uri: &str, count: u32) -> String {
    let hash = |text: String| -> String {
        let bytes = digest::digest(&digest::SHA256, text.as_bytes());
        bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let (a1, a2) = (hash(format!("demo:tandem:{password}")), hash(format!("INVITE:{uri}")));
    let response = hash(format!("{a1}:{nonce}:{count:08x}:c0ffee:auth:{a2}"));
    format!(
        "Authorization: Digest username=\"demo\", realm=\"tandem\", nonce=\"{nonce}\", uri=\"{uri}\", \
         algorithm=SHA-256, qop=auth, nc={count:08x}, cnonce=\"c0ffee\", response=\"{response}\"\r\n"
    )
}
