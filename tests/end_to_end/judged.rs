//! The simulated carriers of `tandem certify` on the wire: behind a Kamailio that stays in the path of calls with
//! the switch, and with rsipstack as the switch that they judge.

use crate::call_out::place;
use crate::carrier;
use crate::carrier::CALLED;
use crate::carrier::NUMBER;
use crate::carrier::calls;
use crate::carrier::key;
use crate::carrier::shown;
use crate::independent::Peer;
use crate::independent::uri;
use crate::kamailio::Kamailio;
use crate::kamailio::own_address;
use crate::node::Home;
use crate::node::PATIENCE;
use crate::rows;
use crate::simulated::Line;
use crate::simulated::last;
use rsipstack::dialog::authenticate::Credential;
use rsipstack::dialog::dialog::DialogState;
use rsipstack::dialog::invitation::InviteOption;
use rsipstack::sip::Header;
use rsipstack::sip::Response;
use rsipstack::sip::StatusCode;
use serde_json::json;
use std::net::IpAddr;
use std::net::SocketAddr;
use tandem::simulator::carrier::Answering;
use tandem::simulator::carrier::Carrier;
use tandem::simulator::description::Seen;
use tandem::simulator::model::Throttle;
use tandem::sip::message::Message;
use tandem::sip::message::method::Method;
use tandem::store::api_keys::KeyRole;
use tokio::time::timeout;

/// What a carrier's refresh after fifteen minutes says of the session timer.
const TIMER: [&str; 2] = ["Supported: timer", "Session-Expires: 1800;refresher=uac"];

/// The carrier refreshes, holds and takes back, and leaves an offer to us.
async fn changes(line: &mut Line) {
    let again = line.offer("sendrecv");
    assert_eq!(line.within(Method::Invite, Some(&again), &TIMER).await.status, 200);
    for (direction, answered) in [("sendonly", "recvonly"), ("sendrecv", "sendrecv")] {
        let offer = line.offer(direction);
        let response = line.within(Method::Invite, Some(&offer), &[]).await;
        let seen = Seen::of(&response.body).expect("an answer with audio");
        assert_eq!((response.status, seen.direction.as_str()), (200, answered));
    }
    let offered = line.within(Method::Invite, None, &[]).await;
    let seen = Seen::of(&offered.body).expect("an offer with audio");
    assert_eq!((offered.status, seen.codecs.len()), (200, 2), "all codecs are offered");
}

#[tokio::test]
async fn a_simulated_carrier_behind_kamailio_has_calls_both_ways_with_the_switch() {
    let node = Home::new().start().await;
    // The proxy is told where the carrier is, and the carrier where the proxy.
    let nowhere = SocketAddr::new(own_address(), 5060);
    let mut line = Line::towards("generic", NUMBER, nowhere).await;
    let configuration = include_str!("proxy.cfg")
        .replace("SWITCH", &node.sip().to_string())
        .replace("FAR", &format!("{};transport=udp", line.edge));
    let kamailio = Kamailio::start(&configuration).await;
    line.moved_to(kamailio.address);
    let gateway = json!({"name": "g1", "uri": format!("sip:{};transport=udp", kamailio.address)});
    let more = json!({"outbound": {"gateway": [gateway]}});
    node.put(&[
        carrier::trunk(4, &format!("{}/32", kamailio.address.ip()), &[], more),
        carrier::tenant(1, 4),
        rows::profile(2, 1, json!({"kind": "tone"})),
        rows::number(3, 1, 2, NUMBER),
    ])
    .await;
    let key = key(&node, 1, KeyRole::Operator).await;

    for offers in [true, false] {
        line.call_with(offers, &["X-Way: udp"]);
        line.until("the answer", Carrier::is_acknowledged).await;
        changes(&mut line).await;
        assert_eq!(line.within(Method::Bye, None, &[]).await.status, 200);
        line.until_over().await;
    }

    let call = place(&node, &key, json!({"to": CALLED, "from": NUMBER})).await;
    line.until("the ACK", Carrier::is_acknowledged).await;
    changes(&mut line).await;
    let path = calls(1, &format!("/{call}/hangup"));
    assert_eq!(node.post(&path, &key, &json!({})).await.status, 202);
    // Its BYE has the private Contact as it was given, and comes along both Record-Routes.
    line.until_over().await;
    let record = shown(&node, 1, &call, &key).await;
    assert_eq!((&record["cause"], &record["ended_by"]), (&json!("normal"), &json!("operator")));
    assert!(kamailio.noted("ASTRAY").is_empty(), "{}", kamailio.log());
    let routed = kamailio.noted("ROUTED");
    for way in ["ACK", "INVITE", "BYE"] {
        let is_there = routed.iter().any(|request| request.starts_with(way));
        assert!(is_there, "{way} went past the proxy: {routed:?}");
    }
}

/// rsipstack keeps to what the carrier says of the way, in a call of the carrier's.
#[tokio::test]
async fn a_simulated_carrier_calls_rsipstack_changes_the_call_and_is_hung_up() {
    let mut peer = Peer::at(&own_address().to_string()).await;
    let mut line = Line::towards("generic", NUMBER, peer.address).await;
    line.call_with(true, &[]);
    let ringing = |carrier: &Carrier| {
        carrier.heard().iter().any(|heard| matches!(&heard.message, Message::Response(_)))
    };
    line.until("the INVITE arrives", ringing).await;
    let dialog = peer.called().await;
    let headers = vec![Header::ContentType("application/sdp".into())];
    dialog.accept(Some(headers), Some(peer.sdp(1))).unwrap();
    line.until("the answer", Carrier::is_acknowledged).await;
    let again = line.offer("sendrecv");
    let refreshed = line.within(Method::Invite, Some(&again), &TIMER);
    let (refreshed, ()) = tokio::join!(refreshed, peer.answer_again());
    assert_eq!(refreshed.status, 200);
    let (ended, ()) = tokio::join!(timeout(PATIENCE, dialog.bye()), line.until_over());
    ended.expect("its BYE is answered").unwrap();
}

/// A call of rsipstack to a number of the carrier.
fn wish(peer: &Peer, line: &Line, number: &str) -> InviteOption {
    InviteOption {
        caller: uri(&format!("sip:{NUMBER}@{}", peer.address)),
        callee: uri(&format!("sip:{number}@{}", line.edge)),
        contact: uri(&format!("sip:peer@{}", peer.address)),
        content_type: Some("application/sdp".to_owned()),
        offer: Some(peer.sdp(1)),
        ..InviteOption::default()
    }
}

#[tokio::test]
async fn rsipstack_calls_a_simulated_carrier_that_judges_how_it_does() {
    let mut peer = Peer::at(&own_address().to_string()).await;
    let mut line = Line::towards("generic", NUMBER, peer.address).await;
    // A number that is not written as this carrier dials: refused, and why is told.
    let wrong = wish(&peer, &line, "5550142");
    let (_, refused) = peer.layer.do_invite_async(wrong, peer.sender.clone()).unwrap();
    line.until("a complaint", |carrier| !carrier.complaints().is_empty()).await;
    let (_, refusal) = timeout(PATIENCE, refused).await.expect("an end").unwrap().unwrap();
    assert_eq!(refusal.expect("a refusal").status_code, StatusCode::BadRequest);
    assert!(line.carrier.complaints()[0].contains("5550142"), "{:?}", line.carrier.complaints());

    let mut line = Line::towards("generic", NUMBER, peer.address).await;
    let right = wish(&peer, &line, CALLED);
    let (dialog, _answered) = peer.layer.do_invite_async(right, peer.sender.clone()).unwrap();
    line.until("the ACK", Carrier::is_acknowledged).await;
    let again = line.offer("sendrecv");
    let refreshed = line.within(Method::Invite, Some(&again), &TIMER);
    let (refreshed, ()) = tokio::join!(refreshed, peer.answer_again());
    assert_eq!(refreshed.status, 200);
    let confirmed = matches!(dialog.state(), DialogState::Confirmed(..));
    assert!(confirmed, "{}", dialog.id());
    let (ended, ()) = tokio::join!(timeout(PATIENCE, dialog.bye()), line.until_over());
    ended.expect("its BYE is answered").unwrap();
    assert!(last(&line.carrier, &Method::Invite, 0).is_some());
}

/// Drives a call of rsipstack until the carrier has refused it; the status, and what the carrier says of it.
async fn refused(peer: &Peer, line: &mut Line, wish: InviteOption) -> (Response, String) {
    let before = line.carrier.complaints().len();
    let (_, outcome) = peer.layer.do_invite_async(wish, peer.sender.clone()).unwrap();
    let mut outcome = Box::pin(outcome);
    let response = tokio::select! {
        ended = timeout(PATIENCE, &mut outcome) => ended.expect("an end").unwrap().unwrap().1,
        () = line.until("nothing that comes", |_| false) => unreachable!("it goes on for ever"),
    };
    let words = line.carrier.complaints().get(before).cloned().unwrap_or_default();
    (response.expect("a refusal"), words)
}

/// Drives a call of rsipstack until it is answered and acknowledged, and hangs up.
async fn taken(peer: &Peer, line: &mut Line, wish: InviteOption) {
    let before = line.carrier.complaints().len();
    let (dialog, _answered) = peer.layer.do_invite_async(wish, peer.sender.clone()).unwrap();
    line.until("the ACK", Carrier::is_acknowledged).await;
    let over = line.until("its BYE", |carrier| !carrier.is_in_call());
    let (ended, ()) = tokio::join!(timeout(PATIENCE, dialog.bye()), over);
    ended.expect("its BYE is answered").unwrap();
    assert_eq!(line.carrier.complaints().len(), before, "{:?}", line.carrier.complaints());
}

#[tokio::test]
async fn rsipstack_meets_what_indian_carriers_want_of_a_call_and_a_carriers_limit() {
    const PILOT: &str = "+918068167000";
    const PERSON: &str = "09876543210";
    let peer = Peer::at(&own_address().to_string()).await;
    let here = peer.address.ip();
    // Who prefers no identity, or that of another host, cannot be had.
    let mut line = Line::towards("tata-ip-auth", PILOT, peer.address).await;
    let identity = |host: IpAddr| {
        let value = format!("<sip:8068167000@{host}>");
        Header::Other("P-Preferred-Identity".to_owned(), value)
    };
    for (headers, words) in [
        (Vec::new(), "there is no P-Preferred-Identity"),
        (vec![identity([192, 0, 2, 9].into())], "is 192.0.2.9, and should be"),
    ] {
        let wish = InviteOption { headers: Some(headers), ..wish(&peer, &line, PERSON) };
        let (refusal, said) = refused(&peer, &mut line, wish).await;
        assert_eq!(refusal.status_code, StatusCode::TemporarilyUnavailable);
        assert!(said.contains(words), "{said}");
    }
    let right = InviteOption { headers: Some(vec![identity(here)]), ..wish(&peer, &line, PERSON) };
    taken(&peer, &mut line, right).await;

    // Without user=phone a call ends in 487, after the password was right.
    let mut line = Line::towards("airtel-ims", PILOT, peer.address).await;
    let ims = |user_phone: &str| InviteOption {
        caller: uri(&format!("sip:{PILOT}@ka.ims.airtel.in{user_phone}")),
        callee: uri(&format!("sip:+919876543210@ka.ims.airtel.in{user_phone}")),
        destination: Some(line.edge.into()),
        credential: Some(Credential {
            username: "pilot".to_owned(),
            password: "s3cret".to_owned(),
            realm: None,
            auth_username: None,
        }),
        headers: Some(vec![Header::Other(
            "P-Preferred-Identity".to_owned(),
            format!("<sip:{PILOT}@ka.ims.airtel.in{user_phone}>"),
        )]),
        ..wish(&peer, &line, PERSON)
    };
    let (plain, right) = (ims(""), ims(";user=phone"));
    let (refusal, said) = refused(&peer, &mut line, plain).await;
    assert_eq!(refusal.status_code, StatusCode::RequestTerminated);
    assert!(said.contains("there is no user=phone in the Request-URI"), "{said}");
    taken(&peer, &mut line, right).await;

    // More calls than a trunk may begin are refused for a while.
    let mut line = Line::towards("generic", NUMBER, peer.address).await;
    let Throttle { status, phrase, retry_after_s } = line.carrier.model().throttle;
    line.carrier.will(Answering::Refused(status, phrase, retry_after_s));
    let right = wish(&peer, &line, CALLED);
    let (refusal, _) = refused(&peer, &mut line, right).await;
    assert_eq!(refusal.status_code, StatusCode::ServiceUnavailable);
    let text = refusal.to_string();
    assert!(text.contains("Retry-After: 20\r\n"), "{text}");
    line.carrier.will(Answering::Answered);
    let right = wish(&peer, &line, CALLED);
    taken(&peer, &mut line, right).await;
}
