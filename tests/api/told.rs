//! What calls tell of themselves, each type of event, held against the document.

use crate::schema::check;
use crate::schema::fault;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;
use tandem::api::openapi;
use tandem::call::event::AgentWish;
use tandem::call::event::Arrival;
use tandem::call::event::CallDirection;
use tandem::call::event::CallEvent;
use tandem::call::event::Charged;
use tandem::call::event::MediaFigures;
use tandem::call::event::RecordingStep;
use tandem::call::side::LegSide;
use tandem::call::side::Seat;
use tandem::call::steer::MutedSide;
use tandem::call::supervision::SupervisionMode;
use tandem::call::supervision::SupervisionStep;
use tandem::call::transfer::TransferMode;
use tandem::routing::decision::Decision;
use tandem::store::live_events::Far;
use tandem::store::live_events::ToldEvent;
use tandem::store::live_events::Which;
use tandem::store::webhooks::EVENT_TYPES;
use tandem::types::agent_trouble::FaultWord;
use tandem::types::agent_trouble::LinkTroubles;
use tandem::types::answer_hook::AskFault;
use tandem::types::answer_hook::AskOutcome;
use tandem::types::answering_machine::Answerer;
use tandem::types::answering_machine::AnswererEvent;
use tandem::types::cause::HangupCause;
use tandem::types::cause::Party;
use tandem::types::codec::Codec;
use tandem::types::header::CallVariables;
use tandem::types::id::AiProfileId;
use tandem::types::id::CallId;
use tandem::types::id::RecordingId;
use tandem::types::id::TenantId;
use tandem::types::id::TrunkId;
use tandem::types::moment::Moment;
use tandem::types::peer_reason::PeerReason;
use tandem::types::quality::AudioTrouble;
use tandem::types::quality::Quality;
use tandem::types::quality::TroubleTold;
use tandem::types::quality::WayQuality;
use tandem::types::talk::BargeInOutcome;
use tandem::types::talk::Talk;
use tandem::types::talk::Turn;
use tandem::types::transport::Transport;
use uuid::Uuid;

const ID: Uuid = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001);
/// It is no event that a call tells: the database adds it.
const RECORD_WRITTEN: &str = "call.record_written";

fn variables() -> CallVariables {
    let mut variables = CallVariables::default();
    assert!(variables.set("lead".parse().unwrap(), "7".parse().unwrap()));
    variables
}

/// What happens to every call, and to its caller.
fn of_the_call() -> Vec<CallEvent> {
    let arrival = Arrival {
        direction: CallDirection::Inbound,
        signalling_id: "id".to_owned(),
        source: None,
        transport: None,
        caller: String::new(),
        dialled: String::new(),
    };
    let (cause, duration) = (HangupCause::Normal, Duration::from_secs(1));
    let mut all = vec![
        CallEvent::Arrived(Box::new(arrival)),
        CallEvent::Decided { route: Box::default(), decision: Decision::new() },
        CallEvent::Refused { cause: HangupCause::NoPorts, status: 503 },
        CallEvent::Ignored(HangupCause::UnknownSource),
        CallEvent::Ringing,
        CallEvent::Acknowledged,
        CallEvent::FirstMedia,
        CallEvent::Held,
        CallEvent::Resumed,
        CallEvent::Digit('#'),
        CallEvent::VariablesSet(Box::new(variables())),
        CallEvent::Media(Box::default()),
    ];
    all.extend(Codec::ALL.map(CallEvent::Answered));
    all.extend(Party::ALL.map(|by| CallEvent::Ended { cause, by, duration }));
    all.extend(HangupCause::all().map(CallEvent::Ignored));
    all
}

/// What applications do with it.
fn of_steering() -> Vec<CallEvent> {
    let recording = RecordingId::from_uuid(ID);
    let steps = [
        RecordingStep::Started,
        RecordingStep::Paused,
        RecordingStep::Resumed,
        RecordingStep::Stopped,
        RecordingStep::Ready { duration_ms: 20 },
        RecordingStep::Failed { why: "interrupted".to_owned() },
    ];
    let mut all = vec![
        CallEvent::HoldBegun,
        CallEvent::HoldEnded,
        CallEvent::Muted(MutedSide::Caller),
        CallEvent::Unmuted(MutedSide::Agent),
        CallEvent::PlayBegun("tone:ringback".to_owned()),
        CallEvent::PlayEnded { whole: false },
        CallEvent::KeysSent { side: LegSide::Near, count: 4 },
        CallEvent::TranscriptAdded { first: 0, last: 2 },
    ];
    for seat in Seat::ALL {
        all.extend(
            [
                SupervisionStep::Begun(SupervisionMode::Listen),
                SupervisionStep::Changed(SupervisionMode::Whisper),
                SupervisionStep::Changed(SupervisionMode::Barge),
                SupervisionStep::Ended,
            ]
            .map(|step| CallEvent::Supervision(seat, step)),
        );
    }
    all.extend(steps.map(|step| CallEvent::Recording(recording, step)));
    all
}

/// What happens to its agent.
fn of_agents() -> Vec<CallEvent> {
    let (profile, cause) = (AiProfileId::from_uuid(ID), HangupCause::AgentLost);
    let troubles = LinkTroubles { last_error: FaultWord::of("quota"), ..LinkTroubles::default() };
    let mut all = vec![
        CallEvent::AgentReady,
        CallEvent::AgentFailed(cause, None),
        CallEvent::AgentInterrupted(cause, FaultWord::of("503")),
        CallEvent::AgentResumed,
        CallEvent::AgentAwaited("id".to_owned()),
        CallEvent::AgentAsked { wish: AgentWish::Transfer, refused: None },
        CallEvent::AgentAsked { wish: AgentWish::Keys, refused: Some("no_keys") },
        CallEvent::AgentLink(Box::default()),
        CallEvent::AgentLink(Box::new(troubles)),
        CallEvent::ScriptNoted { what: "remark", detail: "more".to_owned() },
        CallEvent::AgentAttached(profile),
        CallEvent::AgentReplaced(profile),
        CallEvent::FallbackStarted,
        CallEvent::AnswerAsked(AskOutcome::Kept, Box::default()),
        CallEvent::AnswerAsked(AskOutcome::Overridden(profile), Box::new(variables())),
    ];
    let faults = [
        AskFault::Unreachable,
        AskFault::Late,
        AskFault::Refused,
        AskFault::BadAnswer,
        AskFault::UnknownProfile,
        AskFault::TooManyVariables,
    ];
    all.extend(faults.map(|why| CallEvent::AnswerAsked(AskOutcome::Failed(why), Box::default())));
    all
}

/// What happens to its legs.
fn of_legs() -> Vec<CallEvent> {
    let (side, cause, by) = (LegSide::Third, HangupCause::Busy, Party::Far);
    let charged = |rate: Option<&str>| {
        let rate = rate.map(|prefix| prefix.parse().unwrap());
        Some(Box::new(Charged { trunk: TrunkId::from_uuid(ID), rate }))
    };
    let modes = [
        TransferMode::Refer,
        TransferMode::Bridge,
        TransferMode::Attended,
        TransferMode::Referred,
        TransferMode::Dial,
        TransferMode::Handover,
    ];
    let sent = |transport, charged| CallEvent::Sent {
        side: LegSide::Near,
        to: "127.0.0.1:5060".parse().unwrap(),
        transport,
        charged,
    };
    let peer_reason = |cause: Option<u16>, text: Option<&[u8]>| {
        let reason = Box::new(PeerReason::new(b"Q.850", cause, text).unwrap());
        CallEvent::PeerReason { side, reason }
    };
    let figures = MediaFigures {
        mos_in: Some(4.2),
        quality: Quality { outward: Some(WayQuality::default()), ..Quality::default() },
        ..MediaFigures::default()
    };
    let mut all = vec![
        sent(Transport::Udp, None),
        sent(Transport::Tcp, charged(None)),
        sent(Transport::Tls, charged(Some("+1"))),
        CallEvent::Attempted(Decision::new()),
        CallEvent::Progressed { side: LegSide::Near, status: 183, audible: true },
        CallEvent::LegAnswered { side, codec: None, charged: None },
        CallEvent::LegAnswered { side, codec: Some(Codec::Pcma), charged: charged(Some("+91")) },
        CallEvent::LegFailed { side, cause, status: None },
        CallEvent::LegFailed { side, cause, status: Some(486) },
        CallEvent::LegEnded { side, cause, by },
        CallEvent::Bridged(side),
        CallEvent::TransferFailed(cause),
        CallEvent::TransferWithdrawn,
        CallEvent::TransferCompleted,
        CallEvent::TransferRefused(side),
        CallEvent::ReofferRefused { side, cause },
        CallEvent::Replaced(side),
        peer_reason(Some(41), None),
        peer_reason(None, Some(b"Temporary failure")),
        CallEvent::LegMedia(side, Box::default()),
        CallEvent::LegMedia(side, Box::new(figures)),
    ];
    all.extend(LegSide::ALL.map(CallEvent::Dialled));
    all.extend(modes.map(CallEvent::TransferBegun));
    all
}

/// What is heard of it.
fn of_audio() -> Vec<CallEvent> {
    let (at_ms, ms) = (40, 20);
    let mut all = vec![
        Talk::Turn(Turn { stopped_ms: 1, first_byte_ms: 2, spoken_ms: 3 }),
        Talk::Unheard { at_ms, heard_ms: ms },
        Talk::Underrun { at_ms, ms, node_late: true },
        Talk::Underrun { at_ms, ms, node_late: false },
        Talk::Answerer(AnswererEvent::Beep { at_ms, hz: 1_000 }),
        Talk::Answerer(AnswererEvent::GreetingOver { at_ms, beeped: true }),
    ];
    let outcomes = [BargeInOutcome::Told, BargeInOutcome::Interrupted, BargeInOutcome::Resumed];
    all.extend(outcomes.map(|outcome| Talk::BargeIn { at_ms, heard_ms: ms, outcome }));
    let answerers = [Answerer::Human, Answerer::Machine, Answerer::Fax, Answerer::Silence];
    all.extend(answerers.map(|answerer| {
        Talk::Answerer(AnswererEvent::Seems { at_ms, answerer, percent: 90, is_final: false })
    }));
    let mut all: Vec<_> = all.into_iter().map(|talk| CallEvent::Talk(LegSide::Far, talk)).collect();
    all.extend(AudioTrouble::ALL.map(|what| {
        CallEvent::AudioTrouble(LegSide::Near, TroubleTold { what, for_ms: 20, is_over: true })
    }));
    all
}

/// What is told of it: the call got so far, and rings since then or does not.
fn told(event: &CallEvent, state: &str, rings: bool) -> Value {
    let which = Which { tenant: TenantId::from_uuid(ID), call: CallId::from_uuid(ID), seq: 1 };
    let told = ToldEvent::of(which, Moment::from_millis(5), event, Far { state, rings });
    serde_json::from_str(&told.text).unwrap()
}

/// The same as webhooks tell it.
fn by_webhook(live: &Value) -> Value {
    let mut told = live.clone();
    told.as_object_mut().unwrap().remove("state");
    told["call"] = json!({
        "direction": "inbound", "caller": "+15550177", "dialled": "+15550101", "number_id": null,
        "ai_profile_id": null, "arrived_at": told["at"],
    });
    told
}

#[test]
fn each_type_of_event_has_the_data_that_the_document_says() {
    let document = openapi::document();
    let schemas = &document["components"]["schemas"];
    let all = [of_the_call(), of_steering(), of_agents(), of_legs(), of_audio()].concat();
    let mut kinds = BTreeSet::new();
    for event in &all {
        for (state, rings) in [("ringing", true), ("answered", false), ("failed", false)] {
            let live = told(event, state, rings);
            check(&document, &schemas["LiveEvent"], &live, event.name());
            check(&document, &schemas["CallEvent"], &by_webhook(&live), event.name());
            // What the document does not have is at fault there.
            let mut more = live.clone();
            more["data"]["colour"] = json!(1);
            assert!(fault(&document, &schemas["LiveEvent"], &more, "more").is_some(), "{more}");
            kinds.insert(live["type"].as_str().unwrap().to_owned());
        }
    }
    let of_calls = EVENT_TYPES.iter().filter(|kind| **kind != RECORD_WRITTEN);
    assert_eq!(kinds, of_calls.map(|kind| (*kind).to_owned()).collect::<BTreeSet<_>>());
}

#[test]
fn the_data_of_an_event_is_of_its_own_type_and_whole() {
    let document = openapi::document();
    let form = &document["components"]["schemas"]["LiveEvent"];
    let whole = told(&CallEvent::KeysSent { side: LegSide::Near, count: 4 }, "answered", false);
    check(&document, form, &whole, "keys");
    for (name, wrong) in [("leg", json!("left")), ("count", json!("4")), ("count", Value::Null)] {
        let mut event = whole.clone();
        event["data"][name] = wrong;
        assert!(fault(&document, form, &event, "event").is_some(), "{event}");
        event["data"].as_object_mut().unwrap().remove(name);
        assert!(fault(&document, form, &event, "event").is_some(), "{event}");
    }
    for kind in ["call.dtmf", RECORD_WRITTEN, "call.coloured"] {
        let mut event = whole.clone();
        event["type"] = json!(kind);
        assert!(fault(&document, form, &event, "event").is_some(), "{event}");
    }
}
