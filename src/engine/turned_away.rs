//! Records of INVITEs that become no call: those of strangers, those shed for full queues and shards that
//! are gone, and those the SIP endpoint declines by itself.
//!
//! Such messages come in floods, so which of them leaves a record is decided first, and only then is
//! the message read. What was left out is told by the next record.

use crate::call::event::Arrival;
use crate::call::event::CallDirection;
use crate::call::event::CallEvent;
use crate::cdr::CallLog;
use crate::clock;
use crate::engine::invitation;
use crate::engine::switch::Ledger;
use crate::routing::decision::Decision;
use crate::sip::endpoint::flow::Flow;
use crate::sip::endpoint::told::Declined;
use crate::sip::message::Message;
use crate::sip::message::header::name_addr::NameAddr;
use crate::sip::message::name::HeaderName;
use crate::sip::message::parse;
use crate::sip::message::peek;
use crate::sip::message::reply::BadRequest;
use crate::sip::message::uri::Uri;
use crate::types::cause::HangupCause;
use crate::types::cause::Party;
use crate::types::limit::DECLINED_REMEMBERED_MAX;
use crate::types::limit::SHED_RECORDS_PER_SECOND_MAX;
use crate::types::limit::STRANGER_RECORDS_PER_MINUTE_MAX;
use crate::types::limit::STRANGERS_MAX;
use crate::types::limit::TURNED_AWAY_TEXT_MAX;
use crate::types::moment::Moment;
use crate::types::name::ListenerName;
use bytes::Bytes;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::hash::DefaultHasher;
use std::hash::Hash as _;
use std::hash::Hasher as _;
use std::net::IpAddr;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
/// How long copies of an INVITE may come: 64·T1 (RFC 3261 §17.1.1.2).
const REPEATED_MAX: Duration = Duration::from_secs(32);

/// So many in each stretch of time.
#[derive(Debug)]
struct Budget {
    most: u32,
    every: Duration,
    since: Moment,
    used: u32,
}

impl Budget {
    const fn new(most: u32, every: Duration) -> Self {
        Self { most, every, since: Moment::START, used: 0 }
    }

    fn take(&mut self, now: Moment) -> bool {
        if now.since(self.since) >= self.every {
            (self.since, self.used) = (now, 0);
        }
        let granted = self.used < self.most;
        self.used += u32::from(granted);
        granted
    }
}

/// Which INVITEs that were turned away for their shards leave a record.
#[derive(Debug)]
pub(super) struct ShedSample {
    budget: Budget,
    left_out: u64,
}

impl Default for ShedSample {
    fn default() -> Self {
        Self { budget: Budget::new(SHED_RECORDS_PER_SECOND_MAX, SECOND), left_out: 0 }
    }
}

impl ShedSample {
    /// Whether this one leaves a record, and then how many before it did not.
    pub(super) fn take(&mut self, now: Moment) -> Option<u64> {
        if self.budget.take(now) {
            return Some(std::mem::take(&mut self.left_out));
        }
        self.left_out += 1;
        None
    }
}

/// Which INVITEs that the endpoint declined leave a record: each once, however often it comes, and so
/// many a second.
#[derive(Debug, Default)]
pub(super) struct DeclinedSample {
    sample: ShedSample,
    /// What came last, oldest first: a declined INVITE leaves no transaction that would absorb its
    /// copies.
    recent: VecDeque<(Moment, u64)>,
}

impl DeclinedSample {
    /// Whether this INVITE leaves a record, and then how many others before it did not.
    pub(super) fn take(&mut self, now: Moment, message: &[u8]) -> Option<u64> {
        while self.recent.front().is_some_and(|(at, _)| now.since(*at) >= REPEATED_MAX) {
            self.recent.pop_front();
        }
        let mut hasher = DefaultHasher::new();
        message.hash(&mut hasher);
        let name = hasher.finish();
        if self.recent.iter().any(|(_, seen)| *seen == name) {
            return None;
        }
        if self.recent.len() >= DECLINED_REMEMBERED_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back((now, name));
        self.sample.take(now)
    }
}

/// Which INVITEs of sources no trunk lists leave a record: one a source a minute, and so many in all.
#[derive(Debug)]
pub(super) struct StrangerSample {
    sources: HashMap<IpAddr, Source>,
    budget: Budget,
    /// INVITEs of sources that are not remembered.
    elsewhere: u64,
    swept: Moment,
}

#[derive(Debug)]
struct Source {
    recorded: Option<Moment>,
    left_out: u64,
    heard: Moment,
}

/// What the record of a stranger says of the INVITEs that left none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LeftOut {
    /// Of the same source, since its last record.
    same: u64,
    /// Of sources that could not be remembered one by one.
    elsewhere: u64,
}

impl Default for StrangerSample {
    fn default() -> Self {
        Self {
            sources: HashMap::new(),
            budget: Budget::new(STRANGER_RECORDS_PER_MINUTE_MAX, MINUTE),
            elsewhere: 0,
            swept: Moment::START,
        }
    }
}

impl StrangerSample {
    /// Whether this INVITE of `source` leaves a record, and then what it says of those that did not.
    pub(super) fn take(&mut self, now: Moment, source: IpAddr) -> Option<LeftOut> {
        if self.sources.len() >= STRANGERS_MAX && !self.sources.contains_key(&source) {
            self.sweep(now);
            if self.sources.len() >= STRANGERS_MAX {
                self.elsewhere += 1;
                return None;
            }
        }
        let fresh = || Source { recorded: None, left_out: 0, heard: now };
        let entry = self.sources.entry(source).or_insert_with(fresh);
        entry.heard = now;
        let recent = entry.recorded.is_some_and(|recorded| now.since(recorded) < MINUTE);
        if recent || !self.budget.take(now) {
            entry.left_out += 1;
            return None;
        }
        entry.recorded = Some(now);
        let same = std::mem::take(&mut entry.left_out);
        Some(LeftOut { same, elsewhere: std::mem::take(&mut self.elsewhere) })
    }

    /// Forgets who has been silent for a minute; once a second, so that a flood of new sources does
    /// not make each of its messages search the table.
    fn sweep(&mut self, now: Moment) {
        if now.since(self.swept) < SECOND {
            return;
        }
        self.swept = now;
        let mut forgotten = 0;
        self.sources.retain(|_, source| {
            let keep = now.since(source.heard) < MINUTE;
            forgotten += if keep { 0 } else { source.left_out };
            keep
        });
        self.elsewhere += forgotten;
    }
}

/// Why a shard takes no new call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoRoom {
    /// Its queue is full.
    Queue,
    /// It hangs: nobody serves it while that lasts.
    Hung,
    /// It is down: nobody serves it any more.
    Gone,
}

impl NoRoom {
    /// As it is counted.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Queue => "shard_queue",
            Self::Hung => "shard_hung",
            Self::Gone => "shard_gone",
        }
    }

    /// As a record says it.
    const fn step(self) -> (&'static str, &'static str) {
        match self {
            Self::Queue => ("queue", "the queue of its SIP shard is full: turned away unread"),
            Self::Hung => {
                ("shard", "its SIP shard hangs; where that lasts the node must be restarted")
            }
            Self::Gone => (
                "shard",
                "its SIP shard is down after faults of ours again and again; the node must be restarted",
            ),
        }
    }
}

/// Records an INVITE that was turned away with 503, as its shard took no new call.
pub(super) fn record_shed(
    ledger: &dyn Ledger,
    listener: &ListenerName,
    (flow, message): (Flow, &Bytes),
    left_out: u64,
    why: NoRoom,
) {
    let mut decision = begin(listener, flow);
    let (step, fault) = why.step();
    decision.note(step, fault);
    if left_out > 0 {
        decision.note("left_out", format!("{left_out} more since the last such record"));
    }
    let cause = HangupCause::Overload;
    let status = cause.sip_status();
    decision.note("verdict", format!("{status} {cause}: {}", cause.text()));
    report(ledger, (flow, message), decision, CallEvent::Refused { cause, status }, cause);
}

/// Records an INVITE that the endpoint settled by itself, if `sample` takes it.
pub(super) fn record_declined(
    ledger: &dyn Ledger,
    listener: &ListenerName,
    declined: &Declined,
    sample: &mut DeclinedSample,
) {
    let Some(left_out) = sample.take(clock::now(), &declined.message) else { return };
    let Declined { flow, message, status, cause, why } = declined;
    let (flow, cause) = (*flow, *cause);
    let mut decision = begin(listener, flow);
    decision.note("sip", why.clone());
    if left_out > 0 {
        decision.note("left_out", format!("{left_out} more since the last such record"));
    }
    let (verdict, event) = match *status {
        Some(status) => (format!("{status} {cause}"), CallEvent::Refused { cause, status }),
        None => (format!("{cause}: nothing could be answered"), CallEvent::Ignored(cause)),
    };
    decision.note("verdict", verdict);
    report(ledger, (flow, message), decision, event, cause);
}

/// Records an INVITE of a source no trunk lists. `answered`: it got 403, and not silence.
pub(super) fn record_stranger(
    ledger: &dyn Ledger,
    listener: &ListenerName,
    (flow, message): (Flow, &Bytes),
    left_out: LeftOut,
    answered: bool,
) {
    let mut decision = begin(listener, flow);
    decision.note("trunk", "no trunk lists this source address here");
    if left_out.same > 0 {
        let same = left_out.same;
        decision.note("left_out", format!("{same} more of this source since its last record"));
    }
    if left_out.elsewhere > 0 {
        let elsewhere = left_out.elsewhere;
        decision.note("left_out", format!("{elsewhere} of sources too many to remember"));
    }
    let cause = HangupCause::UnknownSource;
    let status = cause.sip_status();
    let (verdict, event) = if answered {
        (format!("{status} {cause}: {}", cause.text()), CallEvent::Refused { cause, status })
    } else {
        (format!("{cause}: nothing was answered"), CallEvent::Ignored(cause))
    };
    decision.note("verdict", verdict);
    report(ledger, (flow, message), decision, event, cause);
}

fn begin(listener: &ListenerName, flow: Flow) -> Decision {
    let mut decision = Decision::new();
    let source = flow.remote.ip();
    decision.note("source", format!("{source} over {} at listener {listener}", flow.transport));
    decision
}

fn report(
    ledger: &dyn Ledger,
    (flow, message): (Flow, &Bytes),
    decision: Decision,
    event: CallEvent,
    cause: HangupCause,
) {
    let now = clock::now();
    let mut log = CallLog::open(now, clock::new_call_id());
    let ended = CallEvent::Ended { cause, by: Party::Switch, duration: Duration::ZERO };
    let decided = CallEvent::Decided { route: Box::default(), decision };
    let arrived = CallEvent::Arrived(Box::new(read(flow, message)));
    for event in [arrived, decided, event, ended] {
        log.note(now, event);
    }
    ledger.report_later(log.report());
}

/// What can be read of the message, none of it longer than a record needs.
fn read(flow: Flow, message: &Bytes) -> Arrival {
    let mut arrival = match parse(message.clone()) {
        Ok(Message::Request(request)) => {
            invitation::arrival(&request, flow, &invitation::claimed_caller(&request))
        }
        Ok(Message::Response(_)) => remains(flow, message, None),
        Err(error) => remains(flow, message, error.reply.as_deref()),
    };
    for text in [&mut arrival.signalling_id, &mut arrival.caller, &mut arrival.dialled] {
        if let Some((end, _)) = text.char_indices().nth(TURNED_AWAY_TEXT_MAX) {
            text.truncate(end);
        }
    }
    arrival
}

/// What is left of a message that cannot be parsed.
fn remains(flow: Flow, message: &Bytes, bad: Option<&BadRequest>) -> Arrival {
    let from = bad.and_then(|bad| bad.table().first(HeaderName::From));
    let from = from.and_then(|from| NameAddr::parse(Bytes::copy_from_slice(from)).ok());
    let target = message.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    let target = Uri::parse(message.slice_ref(target)).ok();
    let user = |uri: Option<&Uri>| {
        let user = uri.and_then(Uri::user_decoded).unwrap_or_default();
        String::from_utf8_lossy(&user).into_owned()
    };
    let call_id = peek::call_id_of(message).unwrap_or_default();
    Arrival {
        direction: CallDirection::Inbound,
        signalling_id: String::from_utf8_lossy(call_id).into_owned(),
        source: Some(flow.remote),
        transport: Some(flow.transport),
        caller: user(from.as_ref().map(NameAddr::uri)),
        dialled: user(target.as_ref()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::endpoint::flow::FlowId;
    use crate::types::transport::Transport;
    use std::net::Ipv4Addr;

    fn source(number: usize) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + u32::try_from(number).unwrap()))
    }

    fn left_out(same: u64, elsewhere: u64) -> Option<LeftOut> {
        Some(LeftOut { same, elsewhere })
    }

    #[test]
    fn a_source_leaves_one_record_a_minute_which_counts_the_rest() {
        let mut sample = StrangerSample::default();
        let start = Moment::from_millis(500);
        assert_eq!(sample.take(start, source(1)), left_out(0, 0));
        for _ in 0..7 {
            assert_eq!(sample.take(start + SECOND, source(1)), None);
        }
        assert_eq!(sample.take(start + SECOND, source(2)), left_out(0, 0));
        assert_eq!(sample.take(start + MINUTE, source(1)), left_out(7, 0));
        assert_eq!(sample.take(start + MINUTE, source(1)), None);
    }

    #[test]
    fn all_sources_together_leave_so_many_records_a_minute() {
        let mut sample = StrangerSample::default();
        let most = STRANGER_RECORDS_PER_MINUTE_MAX as usize;
        let recorded = (0..most + 5).filter(|n| sample.take(Moment::START, source(*n)).is_some());
        assert_eq!(recorded.count(), most);
        let later = Moment::START + MINUTE;
        assert_eq!(sample.take(later, source(most)), left_out(1, 0));
    }

    #[test]
    fn a_flood_of_sources_is_bounded_and_still_counted() {
        let mut sample = StrangerSample::default();
        let start = Moment::START + MINUTE;
        for number in 0..STRANGERS_MAX + 100 {
            sample.take(start, source(number));
        }
        assert_eq!(sample.sources.len(), STRANGERS_MAX);
        assert_eq!(sample.elsewhere, 100);
        // A minute later the silent are forgotten, and what they left out is told.
        let forgotten = STRANGERS_MAX as u64 - u64::from(STRANGER_RECORDS_PER_MINUTE_MAX);
        let newcomer = source(STRANGERS_MAX * 2);
        assert_eq!(sample.take(start + MINUTE, newcomer), left_out(0, 100 + forgotten));
        assert_eq!(sample.sources.len(), 1);
    }

    #[test]
    fn a_full_queue_leaves_so_many_records_a_second_and_counts_the_rest() {
        let mut sample = ShedSample::default();
        let start = Moment::START + MINUTE;
        let taken = (0..50).filter(|_| sample.take(start).is_some()).count();
        assert_eq!(taken, SHED_RECORDS_PER_SECOND_MAX as usize);
        let left = 50 - u64::from(SHED_RECORDS_PER_SECOND_MAX);
        assert_eq!(sample.take(start + SECOND), Some(left));
        assert_eq!(sample.take(start + SECOND), Some(0));
    }

    #[test]
    fn a_declined_invite_is_taken_once_and_a_flood_of_them_is_sampled() {
        let mut sample = DeclinedSample::default();
        let start = Moment::START + MINUTE;
        assert_eq!(sample.take(start, b"one"), Some(0));
        assert_eq!(sample.take(start + SECOND, b"one"), None);
        assert_eq!(sample.take(start + SECOND, b"two"), Some(0), "copies are not counted");
        assert_eq!(sample.take(start + SECOND + REPEATED_MAX, b"two"), Some(0));
        let later = start + MINUTE;
        let taken = (0..50_u8).filter(|number| sample.take(later, &[*number]).is_some()).count();
        assert_eq!(taken, SHED_RECORDS_PER_SECOND_MAX as usize);
        let left = 50 - u64::from(SHED_RECORDS_PER_SECOND_MAX);
        assert_eq!(sample.take(later + SECOND, b"next"), Some(left));
        for number in 0..1_000_u32 {
            sample.take(later, &number.to_be_bytes());
        }
        assert_eq!(sample.recent.len(), DECLINED_REMEMBERED_MAX);
    }

    #[test]
    fn of_a_message_that_cannot_be_read_its_source_and_call_id_are_kept() {
        let remote = "192.0.2.7:5060".parse().unwrap();
        let local = "192.0.2.1:5060".parse().unwrap();
        let flow = Flow { id: FlowId(1), listener: 0, transport: Transport::Udp, local, remote };
        let long = "x".repeat(TURNED_AWAY_TEXT_MAX * 2);
        let message = Bytes::from(format!("INVITE nothing\r\nCall-ID: {long}\r\n\r\n"));
        let arrival = read(flow, &message);
        assert_eq!(arrival.source, Some(remote));
        assert_eq!(arrival.signalling_id.len(), TURNED_AWAY_TEXT_MAX);
        assert_eq!((arrival.caller.as_str(), arrival.dialled.as_str()), ("", ""));
    }
}
