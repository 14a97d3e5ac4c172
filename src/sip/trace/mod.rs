//! The signalling of each call, kept for a while and within bounds, for whoever must explain the call.

mod dialogs;
mod end;
pub mod ladder;
mod lately;
mod mask;
pub mod pcap;
mod text;

pub use crate::sip::trace::end::End;

use crate::sip::trace::dialogs::Dialogs;
use crate::sip::trace::lately::Lately;
use crate::types::id::CallId;
use crate::types::id_map::IdMap;
use crate::types::id_map::IdSet;
use crate::types::id_map::give_back;
use crate::types::limit::TRACE_DIALOGS_PER_CALL_MAX;
use crate::types::limit::TRACE_MESSAGES_PER_DIALOG_MAX;
use crate::types::moment::Moment;
use crate::types::transport::Transport;
use bytes::Bytes;
use bytes::BytesMut;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Which way a message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To us.
    In,
    /// From us.
    Out,
}

impl Way {
    /// The spelling of views.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

/// One message as it was on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracedMessage {
    /// When it passed.
    pub at: Moment,
    /// Which way.
    pub way: Way,
    /// How.
    pub transport: Transport,
    /// Our address.
    pub local: SocketAddr,
    /// The peer's address.
    pub remote: SocketAddr,
    /// The message. Secrets are masked in what [`TraceBook::of_call`] gives, not in what is kept.
    pub bytes: Bytes,
}

/// The messages of the calls of one shard, by the Call-ID of their dialogs.
///
/// Bounded three times: messages of a dialog (its first and its newest stay), bytes in all (the
/// dialogs go that nothing was heard of for long), and time (a dialog goes some time after its last message, that
/// of a call some time after the end of that).
#[derive(Debug)]
pub struct TraceBook {
    bytes_max: usize,
    life: Duration,
    dialogs: Dialogs,
    calls: IdMap<CallId, SmallVec<[Bytes; 1]>>,
    /// The calls that run: they keep their dialogs, however long nothing was heard.
    running: IdSet<CallId>,
    /// The dialogs in the order in which they are looked at.
    order: VecDeque<Place>,
    bytes: usize,
    next: u64,
    /// The oldest dialog outlives this moment at least, so nothing is looked up before.
    oldest_due: Moment,
    /// What is kept lies here, block after block. Each on its own in the heap, messages would hold the
    /// pages of all that was freed around them.
    block: BytesMut,
    /// What is known of the messages beside which the next ones may be written.
    lately: Lately,
}

/// Where a dialog stands among the others.
#[derive(Debug)]
struct Place {
    /// It lives until here at least.
    due: Moment,
    /// What tells it from others of the same Call-ID.
    number: u64,
    call_id: Bytes,
}

#[derive(Debug)]
struct Dialog {
    number: u64,
    /// The calls of its two ends; both where a call of ours comes back to us.
    ends: [Option<Linked>; 2],
    /// Room for a plain call, so that it needs no block of the heap of its own.
    first: SmallVec<[KeptMessage; FIRST_MESSAGES]>,
    newest: VecDeque<KeptMessage>,
    /// The ways that its messages went. Most dialogs have one.
    paths: SmallVec<[Path; 1]>,
    left_out: u32,
    bytes: usize,
    last: Moment,
}

/// A message of a dialog as it is kept.
#[derive(Debug)]
struct KeptMessage {
    at: Moment,
    way: Way,
    /// Which of the dialog's paths it went.
    path: u8,
    /// Its text, written beside that of the first messages.
    bytes: Bytes,
}

/// Between whom a message went, either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Path {
    transport: Transport,
    local: SocketAddr,
    remote: SocketAddr,
}

/// A call that a dialog is a leg of.
#[derive(Debug)]
struct Linked {
    call: CallId,
    /// Names of headers whose values are secrets of the trunk it goes by.
    secrets: Arc<[Box<str>]>,
}

/// What is known of a call's signalling.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// Its messages in the order of time, secrets masked.
    pub messages: Vec<TracedMessage>,
    /// Messages between the first and the newest that were not kept.
    pub left_out: u32,
}

/// Half of a dialog's messages are its first, half its newest.
const HALF: usize = TRACE_MESSAGES_PER_DIALOG_MAX / 2;
/// Messages of a call that rings, is answered and ends.
const FIRST_MESSAGES: usize = 7;
/// Bytes of a block. One message keeps all of it, so what outlives its neighbours is moved out.
const BLOCK_BYTES: usize = 16 * 1024;
/// What a message costs beside its bytes.
const OVERHEAD: usize = size_of::<KeptMessage>();
/// One more than there are messages: one of them none of these went.
const PATHS_MAX: usize = TRACE_MESSAGES_PER_DIALOG_MAX + 1;
const _: () = assert!(PATHS_MAX <= u8::MAX as usize && text::SOURCES_MAX <= HALF);

impl TraceBook {
    /// A book for `bytes_max` bytes; a dialog is forgotten `life` after its last message and the end of its call.
    #[must_use]
    pub fn new(bytes_max: usize, life: Duration) -> Self {
        Self {
            bytes_max,
            life,
            dialogs: Dialogs::new(),
            calls: IdMap::default(),
            running: IdSet::default(),
            order: VecDeque::new(),
            bytes: 0,
            next: 0,
            oldest_due: Moment::START,
            block: BytesMut::new(),
            lately: Lately::default(),
        }
    }

    /// Copies bytes to where everything lies that is kept.
    fn keep(&mut self, bytes: &[u8]) -> Bytes {
        let block = room_in(&mut self.block, bytes.len());
        block.extend_from_slice(bytes);
        block.split().freeze()
    }

    /// Notes a message of the dialog with this Call-ID. The bytes are copied.
    pub fn note(&mut self, call_id: &[u8], message: &TracedMessage) {
        if self.bytes_max == 0 || call_id.is_empty() {
            return;
        }
        let text = &message.bytes;
        let block = room_in(&mut self.block, text::room(text));
        if let Some(dialog) = self.dialogs.get_mut(call_id) {
            let lines = self.lately.lines(dialog.number);
            text::pack(text, (&dialog.sources(), lines), block);
            let (added, freed) = dialog.take(message, block.split().freeze());
            self.bytes = (self.bytes + added).saturating_sub(freed);
        } else {
            text::pack_first(text, block);
            let bytes = block.split().freeze();
            let call_id = self.keep(call_id);
            self.begin(call_id, message, bytes);
        }
        self.shrink(message.at);
    }

    fn begin(&mut self, call_id: Bytes, message: &TracedMessage, bytes: Bytes) {
        let (number, now) = (self.next, message.at);
        self.next += 1;
        let due = now + self.life;
        if self.order.is_empty() {
            self.oldest_due = due;
        }
        self.order.push_back(Place { due, number, call_id: call_id.clone() });
        let mut dialog = Dialog {
            number,
            ends: [None, None],
            first: SmallVec::new(),
            newest: VecDeque::new(),
            paths: SmallVec::new(),
            left_out: 0,
            bytes: call_id.len(),
            last: now,
        };
        // The first message of a dialog pushes out none.
        dialog.take(message, bytes);
        self.bytes += dialog.bytes;
        self.dialogs.insert(call_id, dialog);
    }

    /// Says that this end of the dialog with this Call-ID is a leg of `call`, and which headers of it have
    /// secrets for values; those are kept with it, since its trunk may be changed or gone when somebody looks.
    /// The last word counts: an INVITE that comes again with credentials is another call than the one that
    /// was challenged.
    pub fn link(&mut self, (call, end): (CallId, End), call_id: &[u8], secrets: &Arc<[Box<str>]>) {
        let Some((kept, dialog)) = self.dialogs.get_key_value_mut(call_id) else { return };
        let kept = kept.clone();
        let Some(linked) = dialog.ends.get_mut(end.index()) else { return };
        let before = linked.take();
        let known = before.as_ref().map(|before| &before.secrets).filter(|_| secrets.is_empty());
        let secrets = Arc::clone(known.unwrap_or(secrets));
        *linked = Some(Linked { call, secrets });
        match before.map(|before| before.call) {
            Some(before) if before == call => return,
            Some(before) => self.unlink(before, call_id),
            None => {}
        }
        let legs = self.calls.entry(call).or_default();
        if legs.len() < TRACE_DIALOGS_PER_CALL_MAX {
            legs.push(kept);
        }
    }

    /// A call begins: until it ends it keeps its dialogs.
    pub fn begin_call(&mut self, call: CallId) {
        if self.bytes_max > 0 {
            self.running.insert(call);
        }
    }

    /// A call is over: the time of its dialogs begins now.
    pub fn end_call(&mut self, now: Moment, call: CallId) {
        self.running.remove(&call);
        for dialog in self.calls.get(&call).into_iter().flatten() {
            if let Some(dialog) = self.dialogs.get_mut(dialog) {
                dialog.last = dialog.last.max(now);
            }
        }
    }

    /// Whether a dialog is a leg of a call that runs.
    fn is_running(&self, dialog: &Dialog) -> bool {
        dialog.ends.iter().flatten().any(|end| self.running.contains(&end.call))
    }

    fn unlink(&mut self, call: CallId, call_id: &[u8]) {
        let Some(legs) = self.calls.get_mut(&call) else { return };
        legs.retain(|leg| leg != call_id);
        if legs.is_empty() {
            self.calls.remove(&call);
            give_back(&mut self.calls);
        }
    }

    /// The signalling of a call as far as it is still here, secrets masked. `secret_headers` are the
    /// names of headers whose values are secrets beside those that always are. What has outlived its time
    /// `now` is not told, whether or not a message came since that had it forgotten.
    #[must_use]
    pub fn of_call(&self, now: Moment, call: CallId, secret_headers: &[Box<str>]) -> Trace {
        let mut trace = Trace::default();
        for dialog in self.calls.get(&call).into_iter().flatten() {
            let known = self.dialogs.get(dialog);
            let is_known =
                |dialog: &&Dialog| now <= dialog.last + self.life || self.running.contains(&call);
            let Some(dialog) = known.filter(is_known) else { continue };
            trace.left_out += dialog.left_out;
            let of_ends = dialog.ends.iter().flatten().flat_map(|end| end.secrets.iter());
            let all = of_ends.chain(secret_headers).map(|secret| &**secret);
            // They are asked for in each line, and mostly the ends have the ones that are in force.
            let mut secrets: SmallVec<[&str; 8]> = all.collect();
            secrets.sort_unstable();
            secrets.dedup();
            let is_secret = |name: &[u8]| {
                secrets.iter().any(|secret| name.eq_ignore_ascii_case(secret.as_bytes()))
            };
            trace.messages.extend(dialog.of(call).into_iter().map(|message| TracedMessage {
                bytes: mask::masked(message.bytes, &is_secret),
                ..message
            }));
        }
        trace.messages.sort_by_key(|message| message.at);
        trace
    }

    /// Forgets the signalling of a call.
    pub fn forget_call(&mut self, call: CallId) {
        for dialog in self.calls.remove(&call).into_iter().flatten() {
            self.forget(&dialog);
        }
    }

    /// Bytes in use.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Forgets what has outlived its time `now`, as the next message would. Returns how many dialogs are kept.
    pub fn forget_outlived(&mut self, now: Moment) -> usize {
        self.shrink(now);
        self.dialogs.len()
    }

    /// Forgets what has outlived its time, and the oldest while there is too much.
    fn shrink(&mut self, now: Moment) {
        if self.bytes <= self.bytes_max && now <= self.oldest_due {
            return;
        }
        while let Some(place) = self.order.front() {
            let is_too_much = self.bytes > self.bytes_max;
            if !is_too_much && now <= place.due {
                self.oldest_due = place.due;
                return;
            }
            let Some(mut place) = self.order.pop_front() else { return };
            let number = place.number;
            let dialog = self.dialogs.get(&place.call_id).filter(|it| it.number == number);
            // The Call-ID is another dialog's by now, or nobody's.
            let Some(dialog) = dialog else { continue };
            let due = dialog.last + self.life;
            let is_old = now > due;
            if (is_old && !self.is_running(dialog)) || (is_too_much && due <= place.due) {
                self.forget(&place.call_id);
            } else {
                // It goes on; whoever came after it may not. A silent call is looked at again a life later.
                self.move_out(&mut place);
                place.due = if is_old { now + self.life } else { due };
                self.order.push_back(place);
            }
        }
    }

    /// Gives a dialog that outlived others room of its own, so that it keeps no blocks in which they had theirs.
    fn move_out(&mut self, place: &mut Place) {
        let Some((shared, mut dialog)) = self.dialogs.remove_entry(&place.call_id) else { return };
        let own = dialog.move_out(&shared);
        for end in dialog.ends.iter().flatten() {
            let legs = self.calls.get_mut(&end.call).into_iter().flatten();
            legs.filter(|leg| **leg == shared).for_each(|leg| leg.clone_from(&own));
        }
        place.call_id = own.clone();
        self.dialogs.insert(own, dialog);
    }

    fn forget(&mut self, call_id: &Bytes) {
        let Some((_, dialog)) = self.dialogs.remove_entry(call_id) else { return };
        self.bytes = self.bytes.saturating_sub(dialog.bytes);
        for end in dialog.ends.into_iter().flatten() {
            self.unlink(end.call, call_id);
        }
    }
}

/// The block at hand, or another where it has no room for so many bytes.
fn room_in(block: &mut BytesMut, bytes: usize) -> &mut BytesMut {
    if block.capacity() < bytes {
        *block = BytesMut::with_capacity(BLOCK_BYTES.max(bytes));
    }
    block
}

impl Dialog {
    /// The messages of a call: all, or its own where the other end is a call of ours too, of somebody else
    /// perhaps.
    fn of(&self, call: CallId) -> Vec<TracedMessage> {
        let mut all = self.told();
        let beginner = match &self.ends {
            [Some(caller), Some(_)] => {
                let end = if caller.call == call { End::Caller } else { End::Called };
                end::beginner(&all).map(|beginner| (end, beginner))
            }
            [Some(_), None] | [None, Some(_)] | [None, None] => None,
        };
        if let Some((end, beginner)) = beginner {
            all.retain(|message| end::of(message, &beginner) == Some(end));
        }
        all
    }

    /// All messages, as they were.
    fn told(&self) -> Vec<TracedMessage> {
        let sources = self.sources();
        let told = |kept: &KeptMessage| {
            let Path { transport, local, remote } = *self.paths.get(usize::from(kept.path))?;
            let bytes = text::unpack(&kept.bytes, &sources);
            Some(TracedMessage { at: kept.at, way: kept.way, transport, local, remote, bytes })
        };
        self.first.iter().chain(&self.newest).filter_map(told).collect()
    }

    /// The messages beside which others are written: they stay as long as the dialog.
    fn sources(&self) -> SmallVec<[&[u8]; text::SOURCES_MAX]> {
        self.first.iter().take(text::SOURCES_MAX).map(|kept| &*kept.bytes).collect()
    }

    /// Takes a message that is kept as these bytes; gives what it costs, and what the one cost that had to go for it.
    fn take(&mut self, message: &TracedMessage, bytes: Bytes) -> (usize, usize) {
        let &TracedMessage { at, way, transport, local, remote, .. } = message;
        self.last = at;
        let paths = self.paths.len();
        let path = self.path(Path { transport, local, remote });
        let more_paths = if paths == 0 { 0 } else { self.paths.len() - paths };
        let added = bytes.len() + OVERHEAD + more_paths * size_of::<Path>();
        let freed = self.push(KeptMessage { at, way, path, bytes });
        self.bytes = (self.bytes + added).saturating_sub(freed);
        (added, freed)
    }

    /// The number of a path; of all that were, those are known that messages went which are kept.
    fn path(&mut self, path: Path) -> u8 {
        let known = self.paths.iter().position(|known| *known == path);
        let number = known.unwrap_or_else(|| {
            if self.paths.len() < PATHS_MAX {
                self.paths.push(path);
                return self.paths.len() - 1;
            }
            let is_free = |number: &usize| {
                let mut all = self.first.iter().chain(&self.newest);
                all.all(|kept| usize::from(kept.path) != *number)
            };
            let free = (0..PATHS_MAX).find(is_free).unwrap_or_default();
            if let Some(place) = self.paths.get_mut(free) {
                *place = path;
            }
            free
        });
        number as u8
    }

    /// Copies all that is kept to one place; gives the copy of the Call-ID.
    fn move_out(&mut self, call_id: &[u8]) -> Bytes {
        let messages = || self.first.iter().chain(&self.newest);
        let size = messages().map(|message| message.bytes.len()).sum::<usize>() + call_id.len();
        let mut room = BytesMut::with_capacity(size);
        let mut copy = |bytes: &[u8]| {
            room.extend_from_slice(bytes);
            room.split().freeze()
        };
        for message in self.first.iter_mut().chain(&mut self.newest) {
            message.bytes = copy(&message.bytes);
        }
        copy(call_id)
    }

    /// Keeps a message; gives the size of the one that had to go for it.
    fn push(&mut self, message: KeptMessage) -> usize {
        if self.first.len() < HALF {
            self.first.push(message);
            return 0;
        }
        self.newest.push_back(message);
        if self.newest.len() <= HALF {
            return 0;
        }
        self.left_out += 1;
        self.newest.pop_front().map_or(0, |gone| gone.bytes.len() + OVERHEAD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const AT_ONCE: Moment = Moment::START;

    fn call(number: u128) -> CallId {
        CallId::from_uuid(Uuid::from_u128(number))
    }

    fn message(at_s: u64, bytes: &'static [u8]) -> TracedMessage {
        TracedMessage {
            at: Moment::from_millis(at_s * 1_000),
            way: Way::In,
            transport: Transport::Udp,
            local: SocketAddr::from(([127, 0, 0, 1], 5060)),
            remote: SocketAddr::from(([127, 0, 0, 2], 5061)),
            bytes: Bytes::from_static(bytes),
        }
    }

    fn none() -> Arc<[Box<str>]> {
        Arc::default()
    }

    fn seconds(trace: &Trace) -> Vec<u64> {
        trace.messages.iter().map(|message| message.at.as_millis() / 1_000).collect()
    }

    fn book() -> TraceBook {
        TraceBook::new(1_000_000, Duration::from_secs(600))
    }

    #[test]
    fn a_call_that_is_forgotten_leaves_nothing_and_others_stay() {
        let mut book = book();
        for (leg, of) in [(b"near", 1), (b"far1", 1), (b"away", 2)] {
            book.note(leg, &message(1, b"INVITE"));
            book.link((call(of), End::Called), leg, &none());
        }
        let whole = book.bytes();
        book.forget_call(call(1));
        assert_eq!(book.of_call(AT_ONCE, call(1), &[]), Trace::default());
        assert_eq!(seconds(&book.of_call(AT_ONCE, call(2), &[])), [1]);
        assert_eq!(book.bytes(), whole / 3);
        // What still comes of it begins anew, and is nobody's.
        book.note(b"near", &message(2, b"BYE"));
        assert_eq!(book.of_call(AT_ONCE, call(1), &[]), Trace::default());
    }

    #[test]
    fn the_messages_of_both_legs_stand_in_the_order_of_time() {
        let mut book = book();
        book.note(b"near", &message(1, b"INVITE"));
        book.note(b"far", &message(2, b"INVITE"));
        book.note(b"near", &message(3, b"BYE"));
        book.note(b"stranger", &message(2, b"OPTIONS"));
        book.link((call(1), End::Called), b"near", &none());
        book.link((call(1), End::Called), b"far", &none());
        assert_eq!(seconds(&book.of_call(AT_ONCE, call(1), &[])), [1, 2, 3]);
        book.link((call(2), End::Called), b"near", &none());
        assert_eq!(seconds(&book.of_call(AT_ONCE, call(2), &[])), [1, 3], "the last word counts");
        assert_eq!(seconds(&book.of_call(AT_ONCE, call(1), &[])), [2], "a dialog is one call's");
    }

    #[test]
    fn secrets_stay_hidden_when_the_trunk_that_knew_them_is_gone() {
        let mut book = book();
        book.note(b"a", &message(1, b"INVITE x\r\nX-Token: s3cret\r\nX-Rule: t0p\r\n\r\n"));
        let secrets: Arc<[Box<str>]> = ["x-token".into()].into();
        book.link((call(1), End::Called), b"a", &secrets);
        book.link((call(2), End::Called), b"a", &none());
        let trace = book.of_call(AT_ONCE, call(2), &["X-RULE".into()]);
        let shown = trace.messages.first().map(|message| message.bytes.clone());
        let expected = b"INVITE x\r\nX-Token: ******\r\nX-Rule: ***\r\n\r\n";
        assert_eq!(shown, Some(Bytes::from_static(expected)));
        book.note(b"a", &message(2, b"BYE\r\nX-Token: again\r\n\r\n"));
        let trace = book.of_call(AT_ONCE, call(2), &[]);
        let last = trace.messages.last().map(|message| message.bytes.clone());
        assert_eq!(last, Some(Bytes::from_static(b"BYE\r\nX-Token: *****\r\n\r\n")));
    }

    #[test]
    fn two_calls_that_share_a_call_id_have_each_its_own_messages() {
        let head = |tags: &str| format!("{tags}Call-ID: x\r\nMax-Forwards: 70\r\n");
        let request = |method: &str, from: &str, to: &str| {
            let tags = format!("From: <sip:a@h>;tag={from}\r\nTo: <sip:b@h>{to}\r\n");
            let via = "Via: SIP/2.0/UDP h;branch=z9hG4bK1\r\n";
            format!("{method} sip:b@h SIP/2.0\r\n{via}{}CSeq: 1 {method}\r\n\r\n", head(&tags))
        };
        let response = |from: &str, to: &str| {
            let tags = format!("From: <sip:a@h>;tag={from}\r\nTo: <sip:b@h>;tag={to}\r\n");
            let via = "Via: SIP/2.0/UDP h;branch=z9hG4bK1\r\n";
            format!("SIP/2.0 200 OK\r\n{via}{}CSeq: 1 INVITE\r\n\r\n", head(&tags))
        };
        let mut book = book();
        let mut note = |at, way, text: String| {
            book.note(b"x", &TracedMessage { way, bytes: text.into(), ..message(at, b"") });
        };
        note(1, Way::Out, request("INVITE", "a", ""));
        note(2, Way::In, request("INVITE", "a", ""));
        note(3, Way::Out, response("a", "b"));
        note(4, Way::In, response("a", "b"));
        note(5, Way::Out, request("ACK", "a", ";tag=b"));
        note(6, Way::In, request("ACK", "a", ";tag=b"));
        note(7, Way::Out, request("BYE", "b", ";tag=a"));
        note(8, Way::In, request("BYE", "b", ";tag=a"));
        note(9, Way::Out, response("b", "a"));
        note(10, Way::In, response("b", "a"));
        note(11, Way::In, "rubbish\r\n\r\n".to_owned());
        let secret: Arc<[Box<str>]> = ["Max-Forwards".into()].into();
        book.link((call(1), End::Caller), b"x", &secret);
        assert_eq!(book.of_call(AT_ONCE, call(1), &[]).messages.len(), 11, "it is the only one");
        book.link((call(2), End::Called), b"x", &none());
        assert_eq!(seconds(&book.of_call(AT_ONCE, call(1), &[])), [1, 4, 5, 8, 9]);
        let called = book.of_call(AT_ONCE, call(2), &[]);
        assert_eq!(seconds(&called), [2, 3, 6, 7, 10]);
        let text = String::from_utf8_lossy(&called.messages.first().unwrap().bytes).into_owned();
        assert!(
            text.contains("Max-Forwards: **"),
            "what one end keeps secret the other does: {text}"
        );
        // It came again with credentials: that is another call, and the caller's is what it was.
        book.link((call(3), End::Called), b"x", &none());
        assert_eq!(book.of_call(AT_ONCE, call(2), &[]), Trace::default());
        assert_eq!(seconds(&book.of_call(AT_ONCE, call(3), &[])), [2, 3, 6, 7, 10]);
        assert_eq!(seconds(&book.of_call(AT_ONCE, call(1), &[])), [1, 4, 5, 8, 9]);
    }

    #[test]
    fn dialogs_side_by_side_are_told_as_they_were() {
        let mut book = book();
        let ids: Vec<String> = (0..20).map(|id| format!("dialog-{id}")).collect();
        let text = |id: &str, at: u64, life: u64| -> Bytes {
            let own = format!("From: <sip:a@h>;tag={id}-{life}\r\nCall-ID: {id}\r\n");
            format!("MESSAGE sip:b@h SIP/2.0\r\n{own}CSeq: {at} MESSAGE\r\n\r\n").into()
        };
        for life in 0..2_u64 {
            let all = (1..=10_u64).flat_map(|at| (0..20_usize).map(move |number| (at, number)));
            let mut said = 0;
            for (at, number) in all {
                let id = &ids[number];
                let bytes = text(id, at, life);
                said += bytes.len();
                book.note(id.as_bytes(), &TracedMessage { bytes, ..message(at, b"") });
                book.link((call(number as u128), End::Called), id.as_bytes(), &none());
            }
            let kept = book.bytes() - 200 * OVERHEAD;
            assert!(2 * kept < said, "{kept} of {said}: each is written beside its own");
            for (number, id) in ids.iter().enumerate() {
                let told = book.of_call(AT_ONCE, call(number as u128), &[]).messages;
                let told: Vec<Bytes> = told.into_iter().map(|message| message.bytes).collect();
                let said: Vec<Bytes> = (1..=10).map(|at| text(id, at, life)).collect();
                assert_eq!(told, said);
                // Its Call-ID comes again, of a dialog that says something else.
                book.forget_call(call(number as u128));
            }
        }
        assert_eq!(book.bytes(), 0);
    }

    #[test]
    fn a_long_dialog_keeps_its_first_and_its_newest() {
        let mut book = book();
        let count = TRACE_MESSAGES_PER_DIALOG_MAX as u64 + 10;
        for at in 0..count {
            book.note(b"a", &message(at, b"x"));
        }
        book.link((call(1), End::Called), b"a", &none());
        let trace = book.of_call(AT_ONCE, call(1), &[]);
        assert_eq!(trace.left_out, 10);
        let at = seconds(&trace);
        assert_eq!(at.len(), TRACE_MESSAGES_PER_DIALOG_MAX);
        assert_eq!((at.first(), at.last()), (Some(&0), Some(&(count - 1))));
        assert_eq!(at.get(HALF), Some(&(HALF as u64 + 10)));
    }

    #[test]
    fn each_message_is_told_with_the_addresses_that_it_went_between() {
        let mut book = book();
        let from = |number: u16| SocketAddr::from(([127, 0, 0, 3], number));
        let count = 3 * TRACE_MESSAGES_PER_DIALOG_MAX as u16;
        for number in 0..count {
            let transport = if number < 70 { Transport::Udp } else { Transport::Tcp };
            let message = message(number.into(), b"OPTIONS");
            book.note(b"a", &TracedMessage { transport, remote: from(number), ..message });
        }
        book.link((call(1), End::Called), b"a", &none());
        let told = book.of_call(AT_ONCE, call(1), &[]).messages;
        let newest = count - HALF as u16..count;
        let numbers: Vec<u16> = (0..HALF as u16).chain(newest).collect();
        let remotes: Vec<SocketAddr> = numbers.iter().map(|number| from(*number)).collect();
        assert_eq!(told.iter().map(|message| message.remote).collect::<Vec<_>>(), remotes);
        let tcp = told.iter().filter(|message| message.transport == Transport::Tcp);
        assert_eq!(tcp.count(), HALF);
        let dialog = book.dialogs.get(b"a").expect("it is kept");
        assert_eq!(dialog.paths.len(), PATHS_MAX, "no more however many there were");
        let counted = book.bytes() - 1 - (PATHS_MAX - 1) * size_of::<Path>();
        assert_eq!(counted, TRACE_MESSAGES_PER_DIALOG_MAX * (OVERHEAD + 9));
    }

    #[test]
    fn a_dialog_takes_little_room() {
        assert!(size_of::<Dialog>() <= 576, "{}", size_of::<Dialog>());
        let mut book = book();
        let via = "Via: SIP/2.0/UDP 127.0.0.1:5070;branch=z9hG4bK-4711-1-0\r\n";
        for (at, line) in [(1, "INVITE sip:a@b SIP/2.0"), (2, "SIP/2.0 200 OK")] {
            let bytes = format!("{line}\r\n{via}\r\n").into();
            book.note(b"a", &TracedMessage { bytes, ..message(at, b"") });
        }
        book.link((call(1), End::Called), b"a", &none());
        assert!(book.bytes() < 2 * (OVERHEAD + via.len()), "{}", book.bytes());
        let told = book.of_call(AT_ONCE, call(1), &[]).messages;
        assert!(
            told.iter().all(|message| message.bytes.ends_with(format!("{via}\r\n").as_bytes()))
        );
    }

    #[test]
    fn what_is_too_much_goes_oldest_first_and_what_is_old_goes_anyway() {
        let mut book = TraceBook::new(10 * (OVERHEAD + 10), Duration::from_secs(600));
        for number in 0..100_u64 {
            let id = number.to_string();
            book.note(id.as_bytes(), &message(number, b"abcdefg"));
            book.link((call(u128::from(number)), End::Called), id.as_bytes(), &none());
            assert!(book.bytes() <= 10 * (OVERHEAD + 10));
        }
        assert_eq!(seconds(&book.of_call(AT_ONCE, call(99), &[])), [99]);
        assert_eq!(book.of_call(AT_ONCE, call(80), &[]), Trace::default());
        book.note(b"late", &message(10_000, b"x"));
        assert_eq!(book.of_call(AT_ONCE, call(99), &[]), Trace::default());
        assert_eq!((book.dialogs.len(), book.calls.len(), book.order.len()), (1, 0, 1));
        assert_eq!(book.bytes(), OVERHEAD + 3 + 4, "nothing of the forgotten is still counted");
    }

    #[test]
    fn what_is_old_goes_though_no_message_comes() {
        let mut book = TraceBook::new(1_000_000, Duration::from_secs(600));
        book.begin_call(call(7));
        for number in 0..10_u64 {
            let id = number.to_string();
            book.note(id.as_bytes(), &message(10 * number, b"INVITE"));
            book.link((call(u128::from(number)), End::Called), id.as_bytes(), &none());
        }
        let kept =
            |book: &mut TraceBook, at: u64| book.forget_outlived(Moment::from_millis(1_000 * at));
        assert_eq!(kept(&mut book, 600), 10);
        assert_eq!(kept(&mut book, 625), 7, "those of 0, 10 and 20 s");
        assert_eq!(kept(&mut book, 10_000), 1, "a call that runs keeps what was said");
        book.end_call(Moment::from_millis(10_000_000), call(7));
        assert_eq!(kept(&mut book, 10_700), 0);
        assert_eq!((book.calls.len(), book.order.len(), book.bytes()), (0, 0, 0));
    }

    #[test]
    fn what_goes_on_for_ever_keeps_nothing_of_what_came_after_it() {
        let mut book = TraceBook::new(1_000_000, Duration::from_secs(900));
        book.note(b"registration", &message(0, b"REGISTER"));
        for number in 1..=9_u64 {
            let id = number.to_string();
            book.note(id.as_bytes(), &message(10 * number, b"INVITE"));
            book.link((call(u128::from(number)), End::Called), id.as_bytes(), &none());
        }
        for at in (480..=7_200).step_by(480) {
            book.note(b"registration", &message(at, b"REGISTER"));
            let gone = (1..=9).filter(|number| at > 10 * number + 900).count();
            assert_eq!(book.dialogs.len(), 10 - gone, "{at}");
        }
        assert_eq!((book.dialogs.len(), book.calls.len(), book.order.len()), (1, 0, 1));
        // Of too much the one goes first that nothing was heard of for longest.
        let mut book = TraceBook::new(4 * (OVERHEAD + 20), Duration::from_secs(900));
        for at in [0, 30] {
            book.note(b"registration", &message(at, b"REGISTER"));
            book.note(&[b'1' + u8::try_from(at).unwrap()], &message(at + 1, b"INVITE"));
        }
        book.note(b"more", &message(40, b"INVITE"));
        assert!(book.dialogs.get(b"registration").is_some(), "{book:?}");
        assert!(book.dialogs.get(b"1").is_none(), "{book:?}");
    }

    #[test]
    fn what_outlives_its_neighbours_keeps_none_of_their_room() {
        let mut book = TraceBook::new(1_000_000, Duration::from_secs(900));
        let places = |book: &TraceBook| {
            let (key, dialog) = book.dialogs.get_key_value(b"long").expect("it goes on");
            let legs = book.calls.get(&call(1)).into_iter().flatten();
            let own = dialog.first.iter().chain(&dialog.newest).map(|message| &message.bytes);
            let order = book.order.iter().map(|place| &place.call_id).filter(|id| *id == key);
            let all = [key].into_iter().chain(legs).chain(order).chain(own);
            all.map(|bytes| bytes.as_ptr().addr()).collect::<Vec<_>>()
        };
        book.begin_call(call(1));
        for at in 1..=HALF as u64 + 2 {
            book.note(b"long", &message(at, b"MESSAGE"));
            book.link((call(1), End::Called), b"long", &none());
            // What lies beside it is of others, and soon forgotten.
            book.note(&at.to_be_bytes(), &message(at, b"INVITE"));
        }
        let now = Moment::from_millis(2_000_000);
        let (before, bytes, told) = (places(&book), book.bytes(), book.of_call(now, call(1), &[]));
        assert_eq!(told.messages.len(), HALF + 2);
        book.note(b"registration", &message(899, b"REGISTER"));
        assert_eq!(places(&book), before, "nothing is moved that nothing outlived");
        book.note(b"registration", &message(2_000, b"REGISTER"));
        let after = places(&book);
        assert_eq!(after.len(), before.len());
        assert!(after.iter().all(|place| !before.contains(place)), "{after:?}");
        let (low, high) = (after.iter().min().unwrap(), after.iter().max().unwrap());
        assert!(high - low < 1_024, "{} bytes apart", high - low);
        assert_eq!(book.dialogs.len(), 2);
        assert!(book.bytes() < bytes);
        assert_eq!(book.of_call(now, call(1), &[]), told);
        // It goes once its time is over, and leaves nothing.
        book.end_call(now, call(1));
        book.note(b"registration", &message(9_000, b"REGISTER"));
        assert_eq!((book.dialogs.len(), book.calls.len(), book.order.len()), (1, 0, 1));
    }

    #[test]
    fn what_outlives_its_neighbours_keeps_none_of_their_room_in_a_full_book_either() {
        let mut book = TraceBook::new(8 * (OVERHEAD + 16), Duration::from_secs(900));
        for at in 1..=5_u64 {
            book.note(b"long", &message(at, b"MESSAGE"));
            for beside in 0..3 {
                book.note(&(10 * at + beside).to_be_bytes(), &message(at, b"INVITE"));
            }
        }
        // No time is over: it is looked at when there is too much, and others go.
        assert_eq!(book.dialogs.len(), 4);
        let (key, dialog) = book.dialogs.get_key_value(b"long").expect("it goes on");
        assert_eq!(dialog.first.len(), 5);
        let own = dialog.first.iter().map(|message| &message.bytes).chain([key]);
        let places: Vec<_> = own.map(|bytes| (bytes.as_ptr().addr(), bytes.len())).collect();
        for pair in places.windows(2) {
            let [(place, len), (next, _)] = pair else { panic!("{pair:?}") };
            assert_eq!(place + len, *next, "what was of others lies between: {places:?}");
        }
    }

    #[test]
    fn what_has_outlived_its_time_is_not_told_though_nothing_came_since() {
        let mut book = book();
        book.note(b"a", &message(10, b"INVITE"));
        book.link((call(1), End::Called), b"a", &none());
        let at = |seconds: u64| Moment::from_millis(seconds * 1_000);
        assert_eq!(seconds(&book.of_call(at(610), call(1), &[])), [10]);
        assert_eq!(book.of_call(at(611), call(1), &[]), Trace::default());
    }

    #[test]
    fn a_call_that_runs_keeps_its_messages_and_their_time_begins_at_its_end() {
        let mut book = book();
        let at = |seconds: u64| Moment::from_millis(seconds * 1_000);
        book.note(b"near", &message(1, b"INVITE"));
        book.begin_call(call(1));
        book.link((call(1), End::Called), b"near", &none());
        book.note(b"far", &message(5, b"INVITE"));
        book.link((call(1), End::Caller), b"far", &none());
        book.note(b"other", &message(6, b"INVITE"));
        book.link((call(2), End::Called), b"other", &none());
        // Two hours without a word of it, but of others.
        for minute in 1..=120 {
            book.note(b"registration", &message(minute * 60, b"REGISTER"));
            assert_eq!(seconds(&book.of_call(at(minute * 60), call(1), &[])), [1, 5], "{minute}");
        }
        assert_eq!(book.of_call(at(7_200), call(2), &[]), Trace::default(), "it does not run");
        assert_eq!((book.dialogs.len(), book.order.len()), (3, 3));
        book.end_call(at(7_200), call(1));
        book.note(b"registration", &message(7_800, b"REGISTER"));
        assert_eq!(seconds(&book.of_call(at(7_800), call(1), &[])), [1, 5]);
        assert_eq!(book.of_call(at(7_801), call(1), &[]), Trace::default());
        book.note(b"registration", &message(8_500, b"REGISTER"));
        assert_eq!((book.dialogs.len(), book.calls.len(), book.running.len()), (1, 0, 0));
    }

    #[test]
    fn calls_that_run_are_bounded_too_and_the_one_goes_that_was_silent_for_longest() {
        let mut book = TraceBook::new(10 * (OVERHEAD + 10), Duration::from_secs(600));
        for number in 0..100_u64 {
            let id = number.to_string();
            book.begin_call(call(u128::from(number)));
            book.note(id.as_bytes(), &message(100 * number, b"abcdefg"));
            book.link((call(u128::from(number)), End::Called), id.as_bytes(), &none());
            assert!(book.bytes() <= 10 * (OVERHEAD + 10));
        }
        let now = Moment::from_millis(10_000_000);
        assert_eq!(seconds(&book.of_call(now, call(99), &[])), [9_900]);
        assert_eq!(book.of_call(now, call(80), &[]), Trace::default());
        // What no call of ours is remembered of begins none.
        let mut none = TraceBook::new(0, Duration::from_secs(600));
        none.begin_call(call(1));
        assert!(none.running.is_empty());
    }

    #[test]
    fn a_book_without_room_keeps_nothing() {
        let mut book = TraceBook::new(0, Duration::from_secs(600));
        book.note(b"a", &message(1, b"x"));
        book.link((call(1), End::Called), b"a", &none());
        assert_eq!(book.of_call(AT_ONCE, call(1), &[]), Trace::default());
        assert_eq!(book.bytes(), 0);
    }
}
