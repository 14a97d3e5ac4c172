//! Calls that go on to another leg: an agent behind a SIP address, a forwarded number.

use crate::bot::Bot;
use crate::carrier;
use crate::carrier::CALLED;
use crate::carrier::NUMBER;
use crate::carrier::answer;
use crate::carrier::carrier;
use crate::carrier::hear_bye;
use crate::carrier::hears;
use crate::carrier::pick_up;
use crate::carrier::refuse;
use crate::node::Home;
use crate::node::Node;
use crate::node::wait_for;
use crate::phone::Heard;
use crate::phone::Phone;
use crate::phone::SILENCE;
use crate::postgres;
use crate::rows;
use crate::rtp::Stream;
use crate::rtp::audio;
use serde_json::Value;
use serde_json::json;
use std::net::SocketAddr;
use tandem::clock;
use tandem::store::api_keys::KeyRole;
use tokio::time::timeout;

const CALLER: &str = "127.0.0.2";

/// A node whose number has this agent, made for the address of whom it is to call.
async fn node(agent: impl FnOnce(SocketAddr) -> Value) -> (Node, Phone) {
    node_in(Home::new(), agent).await
}

async fn node_in(home: Home, agent: impl FnOnce(SocketAddr) -> Value) -> (Node, Phone) {
    let node = home.start().await;
    let far = carrier(&node, "127.0.0.9").await;
    let more = json!({"calls": {"ring_timeout_s": 20},
                      "inbound": {"response_map": {"busy": 600}}});
    node.put(&[
        carrier::trunk(4, &format!("{CALLER}/32"), &[far.local()], more),
        carrier::tenant(1, 4),
        rows::profile(2, 1, agent(far.local())),
        rows::number(3, 1, 2, NUMBER),
    ])
    .await;
    (node, far)
}

async fn caller(node: &Node) -> Phone {
    Phone::new(CALLER.parse().unwrap(), node.sip(), NUMBER).await
}

/// Sends an INVITE and forgets it; its responses are still to be heard.
async fn dial(phone: &mut Phone) {
    let offer = phone.sdp();
    let invite = phone.request("INVITE", "", &offer);
    phone.send(invite).await;
}

/// The answer, once both sides talk.
async fn connect(phone: &mut Phone, far: &mut Phone) -> (Heard, Heard) {
    dial(phone).await;
    let invite = answer(far).await;
    let ok = phone.outcome("INVITE").await;
    assert_eq!(ok.status(), 200, "{ok:?}");
    phone.confirm(&ok);
    phone.acknowledge().await;
    (invite, ok)
}

fn sip_agent(far: SocketAddr) -> Value {
    json!({"kind": "sip", "uri": format!("sip:bot@{far}"), "headers": {"X-Room": "seven"}})
}

/// A call that came by a proxy goes on as one of our own: whom it goes on to answers us, and is told of no way before.
#[tokio::test]
async fn our_via_is_the_first_one_when_proxying() {
    let (node, mut far) = node(sip_agent).await;
    let mut phone = caller(&node).await;
    let before = "Via: SIP/2.0/UDP 192.0.2.77:5060;branch=z9hG4bKbefore\r\n";
    let offer = phone.sdp();
    let invite = phone.request("INVITE", before, &offer);
    phone.send(invite).await;
    let invite = answer(&mut far).await;
    let own = format!("SIP/2.0/UDP {};", node.sip());
    let vias = invite.all("via");
    assert!(matches!(vias.as_slice(), [only] if only.starts_with(&own)), "{vias:?}");
    assert_eq!(vias.concat().matches("branch=").count(), 1, "{vias:?}");
    let ok = phone.outcome("INVITE").await;
    let back = ok.all("via").concat().matches("branch=").count();
    assert_eq!((ok.status(), back), (200, 2), "{ok:?}");
    phone.confirm(&ok);
    phone.acknowledge().await;
    phone.hang_up().await;
    hear_bye(&far).await;
}

#[tokio::test]
async fn an_agent_behind_a_sip_address_talks_with_the_caller() {
    let (node, mut far) = node(sip_agent).await;
    let mut phone = caller(&node).await;
    let (invite, ok) = connect(&mut phone, &mut far).await;
    assert_eq!(invite.start, format!("INVITE sip:bot@{} SIP/2.0", far.local()));
    assert_eq!((invite.header("max-forwards"), invite.header("x-room")), ("69", "seven"));
    assert!(invite.header("from").contains("+15557702"), "{}", invite.header("from"));

    hears((&phone, ok.audio_port()), &far, 0x21).await;
    hears((&far, invite.audio_port()), &phone, 0x35).await;
    press_five((&phone, ok.audio_port(), 101), (&far, 101)).await;

    let held = format!("{}a=sendonly\r\n", phone.sdp());
    let answer = phone.ask("INVITE", "", &held).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert!(answer.body.contains("a=recvonly"), "{}", answer.body);
    phone.acknowledge().await;
    let offer = phone.sdp();
    assert_eq!(phone.ask("INVITE", "", &offer).await.status(), 200);
    phone.acknowledge().await;
    hears((&far, invite.audio_port()), &phone, 0x37).await;

    phone.hang_up().await;
    hear_bye(&far).await;
    let record = node.record(&phone.call_id).await;
    assert_eq!((record.cause.as_str(), record.ended_by.as_str()), ("normal", "caller"));
    assert!(record.is_answered && record.agent_failure.is_none());

    // Keys have another payload type on either side. The agent may be the one who ends it.
    let mut phone = caller(&node).await;
    let offer = with_keys(&phone.sdp(), 96);
    let invite = phone.request("INVITE", "", &offer);
    phone.send(invite).await;
    let invite = far.expect("INVITE ").await;
    far.take(&invite);
    far.respond(&invite, "200 OK", "", &with_keys(&far.sdp(), 121)).await;
    far.expect("ACK ").await;
    let ok = phone.outcome("INVITE").await;
    assert!(ok.body.contains("a=rtpmap:96 telephone-event/8000"), "{}", ok.body);
    phone.confirm(&ok);
    phone.acknowledge().await;
    press_five((&phone, ok.audio_port(), 96), (&far, 121)).await;
    assert_eq!(far.ask("BYE", "", "").await.status(), 200);
    hear_bye(&phone).await;
    let record = node.record(&phone.call_id).await;
    assert_eq!(record.cause, "normal");
    assert_eq!(record.ended_by, "far");
}

/// The description with another payload type for keys.
fn with_keys(sdp: &str, payload_type: u8) -> String {
    sdp.replace(" 0 8 101", &format!(" 0 8 {payload_type}"))
        .replace("a=rtpmap:101 ", &format!("a=rtpmap:{payload_type} "))
}

/// The caller presses 5 by RFC 4733, and the other side gets it so; each with its own payload type.
async fn press_five((phone, port, ours): (&Phone, u16, u8), (far, theirs): (&Phone, u8)) {
    let switch = SocketAddr::new(phone.switch.ip(), port);
    for (step, end) in [(0_u16, 0_u8), (1, 0), (2, 0), (3, 0x80), (4, 0x80), (5, 0x80)] {
        let mut packet = vec![0x80, if step == 0 { 0x80 | ours } else { ours }];
        packet.extend((1_500 + step).to_be_bytes());
        packet.extend(80_000_u32.to_be_bytes());
        packet.extend((0x21_u32 + 7).to_be_bytes());
        packet.extend([5, 10 | end]);
        packet.extend((160 * (step.min(3) + 1)).to_be_bytes());
        phone.media.send_to(&packet, switch).await.unwrap();
    }
    let mut buffer = [0; 2_048];
    let heard = async {
        loop {
            let (length, _) = far.media.recv_from(&mut buffer).await.unwrap();
            if length == 16 && buffer[1] & 0x7f == theirs {
                return buffer[12];
            }
        }
    };
    let digit = tokio::time::timeout(crate::phone::PATIENCE, heard).await;
    assert_eq!(digit.expect("no key came"), 5);
}

#[tokio::test]
async fn an_agent_that_asks_who_we_are_is_told() {
    let (node, mut far) = node(|far| {
        json!({"kind": "sip", "uri": format!("sip:bot@{far}"), "username": "tandem",
               "password_ref": "env:PATH"})
    })
    .await;
    let mut phone = caller(&node).await;
    dial(&mut phone).await;
    let invite = far.expect("INVITE ").await;
    let challenge = "Proxy-Authenticate: Digest realm=\"bots\", nonce=\"n1\", qop=\"auth\"\r\n";
    refuse(&far, &invite, "407 Proxy Authentication Required", challenge).await;
    let again = answer(&mut far).await;
    let credentials = again.header("proxy-authorization");
    assert!(credentials.contains("username=\"tandem\"") && credentials.contains("realm=\"bots\""));
    assert_eq!(again.header("call-id"), invite.header("call-id"));
    let ok = phone.outcome("INVITE").await;
    phone.confirm(&ok);
    phone.acknowledge().await;
    phone.hang_up().await;
    hear_bye(&far).await;
}

#[tokio::test]
async fn a_carrier_that_asks_who_hangs_up_a_call_of_its_own_is_told() {
    let node = Home::new().start().await;
    let mut far = carrier(&node, "127.0.0.9").await;
    let account = json!({"username": "tandem", "password_ref": "env:PATH"});
    let more = json!({"outbound": {"digest": account}});
    node.put(&[
        carrier::trunk(4, &format!("{CALLER}/32"), &[far.local()], more),
        carrier::tenant(1, 4),
        rows::profile(2, 1, sip_agent(far.local())),
        rows::number(3, 1, 2, NUMBER),
    ])
    .await;
    let mut phone = caller(&node).await;
    connect(&mut phone, &mut far).await;
    far.hang_up().await;
    let bye = phone.expect("BYE ").await;
    let challenge = "Proxy-Authenticate: Digest realm=\"carrier\", nonce=\"n1\", qop=\"auth\"\r\n";
    let status = "407 Proxy Authentication Required";
    phone.send(Phone::response(&bye, status, challenge)).await;
    let again = loop {
        let heard = phone.expect("BYE ").await;
        // The first may have been repeated before it was answered.
        if heard.header("via") != bye.header("via") {
            break heard;
        }
    };
    phone.answer(&again, "200 OK").await;
    let credentials = again.header("proxy-authorization");
    assert!(credentials.contains("username=\"tandem\""), "{again:?}");
    assert_eq!(again.header("call-id"), bye.header("call-id"));
}

#[tokio::test]
async fn a_caller_whose_sip_agent_cannot_be_had_hears_the_announcement() {
    let (node, far) = node(sip_agent).await;
    for status in ["302 Moved Temporarily", "503 Service Unavailable"] {
        let mut phone = caller(&node).await;
        dial(&mut phone).await;
        let invite = far.expect("INVITE ").await;
        let elsewhere = "Contact: <sip:+15550199@192.0.2.77>\r\n";
        refuse(&far, &invite, status, elsewhere).await;
        hears_the_announcement(&node, &mut phone).await;
    }
}

#[tokio::test]
async fn a_sip_agent_in_a_network_that_is_not_allowed_is_not_called() {
    let mut home = Home::new();
    home.set("TANDEM_AGENTS_ALLOW_NETWORKS", "192.0.2.0/24");
    let (node, far) = node_in(home, sip_agent).await;
    let mut phone = caller(&node).await;
    dial(&mut phone).await;
    assert_eq!(hears_the_announcement(&node, &mut phone).await, "agent_forbidden");
    assert!(far.hear_within(SILENCE).await.is_none(), "it was called");
}

/// Hears the announcement to its end; gives why the agent could not be had.
async fn hears_the_announcement(node: &Node, phone: &mut Phone) -> String {
    let ok = phone.outcome("INVITE").await;
    assert_eq!(ok.status(), 200);
    phone.confirm(&ok);
    phone.acknowledge().await;
    phone.hear_media(20).await;
    hear_bye(phone).await;
    let record = node.record(&phone.call_id).await;
    assert!(record.has_fallback, "{record:?}");
    record.agent_failure.expect("the agent failed")
}

#[tokio::test]
async fn an_agent_that_wants_fewer_calls_gets_none_for_as_long_as_it_says() {
    let (node, far) = node(sip_agent).await;
    let mut phone = caller(&node).await;
    dial(&mut phone).await;
    let invite = far.expect("INVITE ").await;
    refuse(&far, &invite, "503 Service Unavailable", "Retry-After: 600\r\n").await;
    assert_eq!(hears_the_announcement(&node, &mut phone).await, "carrier_refused");
    // The next caller costs it nothing, and does not wait for it.
    let mut phone = caller(&node).await;
    dial(&mut phone).await;
    assert_eq!(hears_the_announcement(&node, &mut phone).await, "carrier_throttled");
    let decisions = "SELECT count(*) FROM calls WHERE decision::text LIKE '%is throttled%'";
    assert_eq!(node.count(decisions).await, 1);
}

fn forward(_: SocketAddr) -> Value {
    json!({"kind": "forward", "to": CALLED, "ring_timeout_ms": 1500})
}

#[tokio::test]
async fn media_from_183_is_heard() {
    let (node, mut far) = node(forward).await;
    let mut phone = caller(&node).await;
    dial(&mut phone).await;
    let invite = far.expect("INVITE ").await;
    far.take(&invite);
    far.respond(&invite, "183 Session Progress", "", &far.sdp()).await;
    let progress = phone.expect("SIP/2.0 183").await;
    assert!(progress.audio_port() > 0, "{progress:?}");
    hears((&far, invite.audio_port()), &phone, 0x41).await;
    // A bare 18x behind it takes nothing back.
    for status in ["180 Ringing", "183 Session Progress"] {
        far.respond(&invite, status, "", "").await;
        hears((&far, invite.audio_port()), &phone, 0x42).await;
    }
    assert_eq!(node.count("SELECT count(*) FROM calls WHERE answered_at IS NOT NULL").await, 0);
    far.respond(&invite, "200 OK", "", &far.sdp()).await;
    far.expect("ACK ").await;
    let ok = phone.outcome("INVITE").await;
    phone.confirm(&ok);
    phone.acknowledge().await;
    hears((&phone, ok.audio_port()), &far, 0x43).await;
    phone.hang_up().await;
    hear_bye(&far).await;
}

#[tokio::test]
async fn a_forwarded_leg_lasts_as_long_as_its_own_trunk_lets_it() {
    let node = Home::new().start().await;
    let mut far = carrier(&node, "127.0.0.9").await;
    let short = json!({"calls": {"max_duration_s": 1}});
    node.put(&[
        rows::trunk(4, &format!("{CALLER}/32")),
        carrier::trunk(5, "127.0.0.9/32", &[far.local()], short),
        carrier::tenant(1, 5),
        rows::profile(2, 1, forward(far.local())),
        rows::number(3, 1, 2, NUMBER),
    ])
    .await;
    let mut phone = caller(&node).await;
    connect(&mut phone, &mut far).await;
    let bye = hear_bye(&far).await;
    assert!(bye.header("reason").contains("text=\"max_duration\""), "{bye:?}");
    hear_bye(&phone).await;
    let record = node.record(&phone.call_id).await;
    assert_eq!((record.cause.as_str(), record.ended_by.as_str()), ("max_duration", "switch"));
}

/// Whoever rings out is told by the code that makes its carrier do what the trunk wants: a 480 has it ring
/// elsewhere, a 486 does not.
#[tokio::test]
async fn ring_out_code_follows_the_trunk() {
    let (node, far) = node(forward).await;
    for (status, words) in [(480, "Temporarily Unavailable"), (486, "Busy Here"), (603, "Decline")]
    {
        let wanted = format!(
            "UPDATE trunks SET overrides = \
             jsonb_set(overrides, '{{inbound,response_map,no_answer}}', '{status}')"
        );
        node.put(&[wanted]).await;
        let mut phone = caller(&node).await;
        dial(&mut phone).await;
        let invite = far.expect("INVITE ").await;
        far.respond(&invite, "180 Ringing", "", "").await;
        cancelled(&far, &invite).await;
        let refusal = phone.outcome("INVITE").await;
        assert!(refusal.start.contains(&format!("{status} {words}")), "{refusal:?}");
        assert!(refusal.header("reason").contains("Q.850;cause=19"), "{refusal:?}");
        phone.acknowledge().await;
        assert_eq!(node.record(&phone.call_id).await.cause, "no_answer");
    }
}

#[tokio::test]
async fn a_forwarded_call_rings_answers_and_fails_as_the_other_side_does() {
    let (node, mut far) = node(forward).await;
    let mut phone = caller(&node).await;
    dial(&mut phone).await;
    let invite = far.expect("INVITE ").await;
    assert!(invite.start.starts_with("INVITE sip:+15550142@127.0.0.9"), "{}", invite.start);
    far.respond(&invite, "180 Ringing", "", "").await;
    phone.expect("SIP/2.0 180").await;
    pick_up(&mut far, &invite).await;
    let ok = phone.outcome("INVITE").await;
    assert_eq!(ok.status(), 200);
    phone.confirm(&ok);
    phone.acknowledge().await;
    hears((&phone, ok.audio_port()), &far, 0x43).await;
    assert_eq!(far.ask("BYE", "", "").await.status(), 200);
    hear_bye(&phone).await;
    assert_eq!(node.record(&phone.call_id).await.ended_by, "far");

    // Busy, in the trunk's own spelling.
    let mut phone = caller(&node).await;
    dial(&mut phone).await;
    let invite = far.expect("INVITE ").await;
    refuse(&far, &invite, "486 Busy Here", "").await;
    assert_eq!(phone.outcome("INVITE").await.status(), 600);
    phone.acknowledge().await;
    assert_eq!(node.record(&phone.call_id).await.cause, "busy");

    // Nobody answers.
    let mut phone = caller(&node).await;
    dial(&mut phone).await;
    let invite = far.expect("INVITE ").await;
    far.respond(&invite, "180 Ringing", "", "").await;
    phone.expect("SIP/2.0 180").await;
    cancelled(&far, &invite).await;
    assert_eq!(phone.outcome("INVITE").await.status(), 480);
    phone.acknowledge().await;
    assert_eq!(node.record(&phone.call_id).await.cause, "no_answer");
}

/// Hears CANCEL, and ends the INVITE by it.
async fn cancelled(far: &Phone, invite: &Heard) -> Heard {
    let cancel = far.expect("CANCEL ").await;
    far.answer(&cancel, "200 OK").await;
    refuse(far, invite, "487 Request Terminated", "").await;
    cancel
}

#[tokio::test]
async fn a_caller_who_gives_up_cancels_the_forwarded_call_and_a_fork_too_many_is_hung_up() {
    let (node, mut far) = node(forward).await;
    let mut phone = caller(&node).await;
    let offer = phone.sdp();
    let invite = phone.request("INVITE", "", &offer);
    let branch = invite.split_once("branch=").unwrap().1.split_once("\r\n").unwrap().0.to_owned();
    phone.send(&invite).await;
    let heard = far.expect("INVITE ").await;
    far.respond(&heard, "180 Ringing", "", "").await;
    phone.expect("SIP/2.0 180").await;
    let why = "Reason: SIP;cause=200;text=\"Call completed elsewhere\"\r\n";
    let cancel = phone.request_as("CANCEL", &branch, why, "");
    phone.send(cancel).await;
    // Whoever is rung is told so, and has missed no call.
    let cancel = cancelled(&far, &heard).await;
    assert_eq!(cancel.all("reason"), ["SIP;cause=200;text=\"Call completed elsewhere\""]);
    assert_eq!(phone.outcome("INVITE").await.status(), 487);
    assert_eq!(node.record(&phone.call_id).await.cause, "caller_cancelled");
    let told = format!(
        "SELECT count(*) FROM call_events e JOIN calls c ON c.id = e.call_id \
         WHERE c.signalling_id = '{}' AND e.name = 'peer_reason' AND e.detail->>'leg' = 'near' \
         AND e.detail->>'cause' = '200' AND e.detail->>'text' = 'Call completed elsewhere'",
        phone.call_id
    );
    assert_eq!(node.count(&told).await, 1);

    // Two who answer: the first has the call.
    let mut phone = caller(&node).await;
    dial(&mut phone).await;
    let invite = answer(&mut far).await;
    let ok = phone.outcome("INVITE").await;
    phone.confirm(&ok);
    phone.acknowledge().await;
    let second =
        Phone::response(&invite, "200 OK", &format!("Contact: <sip:second@{}>\r\n", far.local()));
    let to = format!("to: {}\r\n", invite.header("to"));
    let tag = format!("second{:x}", clock::random_u64());
    far.send(second.replace(&to, &format!("to: {};tag={tag}\r\n", invite.header("to")))).await;
    let ack = far.expect("ACK ").await;
    assert!(ack.header("to").contains(&tag), "{ack:?}");
    let bye = hear_bye(&far).await;
    assert!(bye.header("to").contains(&tag), "{bye:?}");
    hears((&phone, ok.audio_port()), &far, 0x45).await;
    phone.hang_up().await;
    assert!(!hear_bye(&far).await.header("to").contains(&tag));
}

/// What comes as media, so many packets or until nothing does: the levels of frames of one sound.
async fn levels(phone: &Phone, packets: usize) -> Vec<u8> {
    let (mut buffer, mut levels) = ([0; 2_048], Vec::new());
    for _ in 0..packets {
        let heard = timeout(SILENCE, phone.media.recv_from(&mut buffer)).await;
        let Ok(heard) = heard else { break };
        let payload = audio(&buffer[..heard.unwrap().0]);
        let level = payload.first().copied().unwrap_or_default();
        if payload.iter().all(|byte| *byte == level) {
            levels.push(level);
        }
    }
    levels
}

#[tokio::test]
async fn of_two_parties_that_a_proxy_rings_and_both_speak_the_one_that_answers_is_heard() {
    const LOSER: u8 = 0x11;
    const WINNER: u8 = 0x22;
    // Both answer from one host, as behind one proxy: nothing but their ports and tags tells their media apart.
    let patient = |_| json!({"kind": "forward", "to": CALLED, "ring_timeout_ms": 20_000});
    let (node, first) = node(patient).await;
    let second = Phone::new(first.local().ip(), node.sip(), CALLED).await;
    // Until one has answered, what the switch sends may go to the one or to the other: neither has all of it.
    first.media.allow_loss();
    second.media.allow_loss();
    let mut phone = caller(&node).await;
    dial(&mut phone).await;
    let invite = first.expect("INVITE ").await;
    first.respond(&invite, "183 Session Progress", "", &first.sdp()).await;
    phone.expect("SIP/2.0 183").await;
    second.respond(&invite, "183 Session Progress", "", &second.sdp()).await;
    let port = SocketAddr::new(node.sip().ip(), invite.audio_port());
    let (mut of_loser, mut of_winner) = (Stream::new(1, LOSER), Stream::new(2, WINNER));
    // The first speaks early, and goes on to the end.
    tokio::join!(
        of_loser.send(&first.media, port, (10, 1)),
        of_winner.send(&second.media, port, (10, 1)),
    );
    second.respond(&invite, "200 OK", "", &second.sdp()).await;
    let ok = phone.outcome("INVITE").await;
    assert_eq!(ok.status(), 200, "{ok:?}");
    phone.confirm(&ok);
    phone.acknowledge().await;
    second.expect("ACK ").await;
    // It had picked up as well: it is acknowledged, and hung up.
    first.respond(&invite, "200 OK", "", &first.sdp()).await;
    let ack = first.expect("ACK ").await;
    let bye = hear_bye(&first).await;
    assert_eq!(bye.header("to"), ack.header("to"));
    // What was said before the answer may be in the jitter buffer still: half a second of it is passed over.
    phone.drain_media_now().await;
    let (after, (), ()) = tokio::join!(
        levels(&phone, 150),
        of_loser.send(&first.media, port, (150, 1)),
        of_winner.send(&second.media, port, (150, 1)),
    );
    let after = after.get(25..).unwrap_or_default();
    assert!(after.contains(&WINNER), "{after:02x?}");
    assert!(!after.contains(&LOSER), "{after:02x?}: one is heard that was hung up");
    // And the caller is heard by the one alone.
    hears((&phone, ok.audio_port()), &second, 0x45).await;
    assert!(!levels(&first, 50).await.contains(&0x45), "the other hears the caller");
    phone.hang_up().await;
    hear_bye(&second).await;
}

#[tokio::test]
async fn a_caller_whose_bot_is_lost_is_put_through_to_the_number_behind_it() {
    let bot = Bot::bind().await;
    let url = bot.url();
    let (node, mut far) =
        node(move |_| json!({"kind": "twilio", "url": url, "reconnects": 0})).await;
    let (own, next) = (rows::uuid(2), rows::uuid(5));
    node.put(&[
        rows::profile(5, 1, forward(far.local())),
        format!(
            "UPDATE ai_profiles SET fallback_profiles = ARRAY['{next}'::uuid] WHERE id = '{own}'"
        ),
    ])
    .await;
    let mut phone = caller(&node).await;
    dial(&mut phone).await;
    let mut stream = bot.accept().await;
    let ok = phone.outcome("INVITE").await;
    assert_eq!(ok.status(), 200, "{ok:?}");
    phone.confirm(&ok);
    phone.acknowledge().await;
    stream.hear(10).await;
    stream.close(1011).await;

    let invite = answer(&mut far).await;
    assert!(invite.start.starts_with(&format!("INVITE sip:{CALLED}@")), "{}", invite.start);
    hears((&phone, ok.audio_port()), &far, 0x49).await;
    hears((&far, invite.audio_port()), &phone, 0x4b).await;
    phone.hang_up().await;
    hear_bye(&far).await;
    let record = node.record(&phone.call_id).await;
    assert_eq!((record.cause.as_str(), record.ended_by.as_str()), ("normal", "caller"));
    assert_eq!(record.agent_failure.as_deref(), Some("agent_lost"));
    assert!(record.is_answered && !record.has_fallback, "{record:?}");
}

#[tokio::test]
async fn an_agent_that_passes_the_caller_on_is_told_how_that_went() {
    let (node, mut far) = node(sip_agent).await;
    let mut phone = caller(&node).await;
    let (_, ok) = connect(&mut phone, &mut far).await;
    // To nobody we dial.
    let refused = far.ask("REFER", "Refer-To: <sip:desk@192.0.2.7>\r\n", "").await;
    assert_eq!(refused.status(), 603, "{refused:?}");

    let accepted = far.ask("REFER", &format!("Refer-To: <tel:{CALLED}>\r\n"), "").await;
    assert_eq!(accepted.status(), 202, "{accepted:?}");
    // The carrier is the same telephone here: it is told of its wish, and gets the new call.
    let mut desk = carrier(&node, "127.0.0.9").await;
    let mut told = Vec::new();
    let invite = loop {
        let heard = far.hear().await;
        if heard.start.starts_with("NOTIFY ") {
            far.answer(&heard, "200 OK").await;
            told.push(heard.body);
        } else if heard.start.starts_with("INVITE ") {
            break heard;
        }
    };
    assert!(invite.start.starts_with(&format!("INVITE sip:{CALLED}@127.0.0.9")), "{invite:?}");
    std::mem::swap(&mut desk.socket, &mut far.socket);
    desk.take(&invite);
    desk.respond(&invite, "200 OK", "", &desk.sdp()).await;
    let mut ended = false;
    while !ended || !told.iter().any(|body| body.contains("200")) {
        let heard = desk.hear().await;
        match heard.start.split(' ').next() {
            Some("NOTIFY") => {
                desk.answer(&heard, "200 OK").await;
                told.push(heard.body);
            }
            Some("BYE") => {
                desk.answer(&heard, "200 OK").await;
                ended = true;
            }
            _ => {}
        }
    }
    assert!(told.iter().any(|body| body.contains("100")), "{told:?}");
    hears((&phone, ok.audio_port()), &desk, 0x47).await;
    phone.hang_up().await;
    hear_bye(&desk).await;
}

#[tokio::test]
async fn a_number_that_is_passed_on_to_itself_is_refused_soon_or_runs_out_of_hops() {
    // With our mark in it the call is known when it is back, and goes on once more. Without it four are passed on, with one hop less
    // each; the last has none left.
    for (trail, calls, status) in [(true, 3, 482), (false, 5, 483)] {
        let node = Home::new().start().await;
        // The way out leads back in.
        let more = json!({"headers": {"trail": trail}});
        node.put(&[
            carrier::trunk(4, "127.0.0.1/32", &[node.sip()], more),
            carrier::tenant(1, 4),
            rows::profile(2, 1, json!({"kind": "forward", "to": NUMBER})),
            rows::number(3, 1, 2, NUMBER),
        ])
        .await;
        let mut phone = Phone::new("127.0.0.1".parse().unwrap(), node.sip(), NUMBER).await;
        let offer = phone.sdp();
        let invite = phone.request("INVITE", "", &offer);
        phone.send(invite.replace("Max-Forwards: 70", "Max-Forwards: 4")).await;
        let refused = phone.outcome("INVITE").await;
        assert!(refused.status() >= 400, "{refused:?}");
        phone.acknowledge().await;
        let sql = "SELECT count(*) FROM calls WHERE ended_at IS NOT NULL AND answered_at IS NULL";
        wait_for("every call is over", async || (node.count(sql).await >= calls).then_some(()))
            .await;
        let told = format!("SELECT count(*) FROM calls WHERE sip_status = {status}");
        assert!(node.count(&told).await >= 1, "{status}");
        assert_eq!(node.count("SELECT count(*) FROM calls").await, calls);
    }
}

/// Protocol, cause and text of a reason in a record.
type Kept = Option<(&'static str, u16, &'static str)>;

/// What whoever hangs up says, what the other side is told, what the record has of it, and the cause of the call.
const REASONS: [(&str, &str, Kept, &str); 5] = [
    (
        "Q.850;cause=41;text=\"Temporary failure\"",
        "Q.850;cause=41;text=\"Temporary failure\"",
        Some(("Q.850", 41, "Temporary failure")),
        "peer_failed",
    ),
    (
        "SIP;cause=200;text=\"a, b\", Q.850;cause=38;text=\"a\\\"\\\\b; c, d\"",
        "Q.850;cause=38;text=\"ab; c, d\"",
        Some(("Q.850", 38, "ab; c, d")),
        "peer_failed",
    ),
    (
        "Q.850;cause=31;text=\"Normal, unspecified\"",
        "Q.850;cause=31;text=\"Normal, unspecified\"",
        Some(("Q.850", 31, "Normal, unspecified")),
        "normal",
    ),
    // Of no network: the other side is told ours.
    (
        "SIP;cause=503;text=\"upstream\"",
        "Q.850;cause=16;text=\"normal\"",
        Some(("SIP", 503, "upstream")),
        "normal",
    ),
    (";;=garbage, %%%", "Q.850;cause=16;text=\"normal\"", None, "normal"),
];

#[tokio::test]
async fn why_a_peer_hung_up_is_in_the_record_and_said_to_the_other_peer() {
    let (node, mut far) = node(forward).await;
    let key = carrier::key(&node, 1, KeyRole::Viewer).await;
    for (leg, ended_by) in [("near", "caller"), ("far", "far")] {
        for (said, passed, kept, ended_for) in REASONS {
            let mut phone = caller(&node).await;
            connect(&mut phone, &mut far).await;
            let (from, to) = match leg {
                "near" => (&mut phone, &mut far),
                _ => (&mut far, &mut phone),
            };
            let header = format!("Reason: {said}\r\n");
            assert_eq!(from.ask("BYE", &header, "").await.status(), 200, "{said}");
            let bye = hear_bye(to).await;
            assert_eq!(bye.all("reason"), [passed], "{leg}: {said}");
            let record = node.record(&phone.call_id).await;
            assert_eq!((record.cause.as_str(), record.ended_by.as_str()), (ended_for, ended_by));
            let id =
                format!("SELECT id::text FROM calls WHERE signalling_id = '{}'", phone.call_id);
            let id = postgres::text(&node.database(), &id).await;
            let shown = carrier::shown(&node, 1, &id, &key).await;
            let events = shown["events"].as_array().unwrap();
            let told: Vec<_> =
                events.iter().filter(|event| event["name"] == "peer_reason").collect();
            let Some((protocol, cause, text)) = kept else {
                assert!(told.is_empty(), "{told:?}");
                continue;
            };
            let detail = json!({"leg": leg, "protocol": protocol, "cause": cause, "text": text});
            assert_eq!(told.len(), 1, "{events:?}");
            assert_eq!(told[0]["detail"], detail, "{events:?}");
            let place = |name: &str| events.iter().position(|event| event["name"] == name);
            assert!(place("peer_reason") < place("ended"), "{events:?}");
        }
    }
}
