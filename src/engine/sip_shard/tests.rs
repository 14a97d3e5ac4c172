//! What a shard makes of messages that come twice, late, or from who may have forged an address.

use super::*;
use crate::cdr::CallRecord;
use crate::cdr::CallReport;
use crate::engine::sip_shard::faults::tests::flow;
use crate::engine::sip_shard::faults::tests::shard_beside;
use crate::engine::sip_shard::faults::tests::shard_of;
use crate::engine::switch::Ledger;
use crate::engine::switch::Written;
use crate::engine::switch::tests::idle;
use crate::engine::trace::TraceLimits;
use crate::engine::trace::Traces;
use crate::routing::contents::Contents;
use crate::routing::table::RoutingTable;
use crate::routing::trunk::DigestAccount;
use crate::routing::trunk::DigestAlgorithm;
use crate::types::id::TrunkId;
use crate::types::secret::Secret;
use arc_swap::ArcSwap;
use metrics_exporter_prometheus::PrometheusBuilder;
use std::ops::RangeInclusive;
use std::sync::Mutex;
use std::time::Duration;
use uuid::Uuid;

/// The records that calls left, in order.
#[derive(Default)]
struct Recorded(Mutex<Vec<CallRecord>>);

impl Ledger for Recorded {
    fn report(&self, report: CallReport) -> Written {
        self.report_later(report);
        Box::pin(std::future::ready(()))
    }

    fn report_later(&self, report: CallReport) {
        self.0.lock().unwrap().push(report.record);
    }
}

/// An INVITE of one call with these lines of its own.
fn invite(cseq: u32, lines: &str) -> Arrival {
    invite_at(clock::now(), cseq, lines)
}

fn invite_at(at: Moment, cseq: u32, lines: &str) -> Arrival {
    let text = format!(
        "INVITE sip:+15550100@192.0.2.250 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK{cseq}\r\n\
         From: <sip:b@192.0.2.1>;tag=1\r\nTo: <sip:+15550100@192.0.2.250>\r\nCall-ID: one\r\n\
         CSeq: {cseq} INVITE\r\nContact: <sip:b@192.0.2.1>\r\nMax-Forwards: 70\r\n{lines}\
         Content-Length: 0\r\n\r\n"
    );
    let call_id = CallIdPlace::find(text.as_bytes());
    Arrival::Message { at, flow: flow(), message: Bytes::from(text), call_id }
}

/// A switch with a trunk that challenges.
fn challenging(recorded: Arc<Recorded>, ports: RangeInclusive<u16>) -> Switch {
    let account = DigestAccount {
        username: "u".into(),
        password: Secret::new("p".into()),
        realm: "r".into(),
        algorithms: vec![DigestAlgorithm::Sha256],
    };
    with_trunk(recorded, ports, Some(account))
}

/// A switch with a trunk, which challenges for this account.
fn with_trunk(
    recorded: Arc<Recorded>,
    ports: RangeInclusive<u16>,
    digest: Option<DigestAccount>,
) -> Switch {
    let id = TrunkId::from_uuid(Uuid::from_u128(1));
    let mut trunk = Trunk::new(id, "acme", vec!["192.0.2.0/24".parse().unwrap()]);
    trunk.digest = digest;
    let contents = Contents { trunks: vec![trunk], ..Contents::default() };
    let mut switch = idle(recorded, ports);
    switch.table = Arc::new(ArcSwap::from_pointee(RoutingTable::new(contents)));
    switch
}

/// Credentials that prove nothing.
const WRONG: &str = "Authorization: Bearer x\r\n";

#[tokio::test]
async fn a_late_copy_of_an_invite_takes_the_signalling_from_no_record() {
    let recorded = Arc::new(Recorded::default());
    let mut switch = challenging(Arc::clone(&recorded), 21_330..=21_333);
    switch.trace = TraceLimits { shard_bytes_max: 1 << 20, life: Duration::from_secs(60) };
    let (mut shard, _open) = shard_of(switch);
    let traces = Traces::new(std::slice::from_ref(&shard.handle), Arc::clone(&shard.switch.table));
    shard.take(invite(1, ""));
    assert!(recorded.0.lock().unwrap().is_empty(), "it has not come back yet");
    shard.take(invite(2, WRONG));
    // That of the first came late, and the 403 was lost.
    for (cseq, lines) in [(1, ""), (2, WRONG)] {
        shard.take(invite(cseq, lines));
        let records = recorded.0.lock().unwrap();
        let calls: Vec<_> = records.iter().map(|record| record.id).collect();
        drop(records);
        let [call] = calls.as_slice() else { panic!("{calls:?}") };
        let trace = traces.of_call(*call);
        let first = trace.messages.first().map(|message| &message.bytes);
        let first = first.expect("its signalling is gone");
        assert!(first.starts_with(b"INVITE") && !first.windows(4).any(|at| at == b"Auth"));
    }
}

#[tokio::test]
async fn a_late_copy_of_an_invite_begins_no_attempt_while_the_node_drains() {
    for has_come_back in [false, true] {
        let recorded = Arc::new(Recorded::default());
        let (mut shard, _open) = shard_of(challenging(Arc::clone(&recorded), 21_334..=21_337));
        let records = || recorded.0.lock().unwrap().len();
        shard.take(invite(1, ""));
        if has_come_back {
            shard.take(invite(2, WRONG));
        }
        assert_eq!(records(), usize::from(has_come_back));
        shard.switch.registry.drain();
        shard.drain(true);
        assert_eq!(records(), 1, "it is waited for no more");
        for _ in 0..3 {
            shard.take(invite(1, ""));
        }
        assert_eq!(records(), 1, "{has_come_back}");
    }
    // One that comes only then is an attempt, and its copies are none.
    let recorded = Arc::new(Recorded::default());
    let (mut shard, _open) = shard_of(challenging(Arc::clone(&recorded), 21_334..=21_337));
    shard.switch.registry.drain();
    shard.drain(true);
    for _ in 0..3 {
        shard.take(invite(1, ""));
    }
    assert_eq!(recorded.0.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn an_invite_that_waited_too_long_for_its_shard_becomes_no_call() {
    // Whoever waited from the start of time on waited for too long.
    let late = Moment::START + invitation::WAIT_MAX + Duration::from_millis(1);
    tokio::time::sleep_until(clock::instant(late).into()).await;
    for is_challenged in [false, true] {
        let recorded = Arc::new(Recorded::default());
        let (own, ports) = (Arc::clone(&recorded), 22_416..=22_419);
        let switch =
            if is_challenged { challenging(own, ports) } else { with_trunk(own, ports, None) };
        let (mut shard, _open) = shard_of(switch);
        let causes = || {
            let records = recorded.0.lock().unwrap();
            records.iter().map(|record| (record.cause, record.status)).collect::<Vec<_>>()
        };
        // Its copy waited, too.
        for _ in 0..2 {
            shard.take(invite_at(Moment::START, 1, ""));
            assert_eq!(causes(), [(Some(HangupCause::Overload), Some(503))], "{is_challenged}");
        }
        let decision = recorded.0.lock().unwrap()[0].decision.to_string();
        assert!(decision.contains("ms for its SIP shard"), "{decision}");
        // One that came just now is heard.
        shard.take(invite(2, WRONG));
        let causes = causes();
        assert!(causes.len() == 2 && causes[1].0 != Some(HangupCause::Overload), "{causes:?}");
    }
}

#[tokio::test]
async fn what_shards_challenge_comes_out_of_one_bucket() {
    let (mut first, _open) = shard_of(challenging(Arc::default(), 21_338..=21_341));
    let (mut second, _too) = shard_beside(Arc::clone(&first.switch));
    for shard in [&mut first, &mut second] {
        for _ in 0..45 {
            shard.take(invite(1, ""));
        }
    }
    let (registry, source) = (&first.switch.registry, flow().remote.ip());
    // At the start of time, so that nothing comes in meanwhile.
    let left = (0..1_000).filter(|_| registry.may_challenge(Moment::START, source)).count();
    // A burst of 100, but for the 90, and for what came in while they did.
    assert!(left < 60, "{left}");
    assert!(!registry.may_challenge(Moment::START, source));
    registry.challenge_answered(source);
    assert!(registry.may_challenge(Moment::START, source), "it has the answer");
}

#[tokio::test]
async fn what_is_longer_than_a_forged_request_comes_out_of_that_bucket_too() {
    const SENT: usize = 1_000;
    let (mut shard, _open) = shard_of(challenging(Arc::default(), 22_420..=22_423));
    let recorder = PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || {
        for cseq in 0..SENT {
            let text = format!(
                "OPTIONS sip:a@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK{cseq}\r\nFrom: <sip:b@h>;tag=1\r\n\
                 To: <sip:a@h>\r\nCall-ID: x\r\nCSeq: {cseq} OPTIONS\r\n\r\n"
            );
            let call_id = CallIdPlace::find(text.as_bytes());
            let (at, message) = (clock::now(), Bytes::from(text));
            shard.take(Arrival::Message { at, flow: flow(), message, call_id });
        }
    });
    let counted = recorder.handle().render();
    let start = "sip_endpoint_events_total{what=\"refusal_withheld\"} ";
    let line = counted.lines().find_map(|line| line.strip_prefix(start));
    let withheld: usize = line.map_or(0, |count| count.parse().unwrap());
    // A burst of 100, and what came in meanwhile.
    assert!((SENT / 2..=SENT - 100).contains(&withheld), "{withheld}: {counted}");
}

#[tokio::test]
async fn the_room_of_a_rush_goes_with_its_dialogs() {
    let (mut shard, _open) = shard_of(idle(Arc::new(Recorded::default()), 21_370..=21_373));
    let trunk = Arc::new(Trunk::new(TrunkId::from_uuid(Uuid::from_u128(1)), "acme", Vec::new()));
    let (call, _inputs) = mailbox::bounded(1_000);
    for dialog in (0..1_000).map(DialogId) {
        shard.reach_by(dialog, &trunk);
        let (call, side, turn, trunk) = (call.clone(), LegSide::Near, 0, Arc::clone(&trunk));
        shard.calls.insert(dialog, CallLeg { call, side, turn, trunk });
    }
    for dialog in (0..1_000).map(DialogId) {
        shard.forget_ways(dialog);
        shard.last(dialog, None, LegInput::Cancelled);
    }
    let room = (shard.trunks.capacity(), shard.calls.capacity());
    assert!(room.0 < 250 && room.1 < 250, "{room:?}");
}
