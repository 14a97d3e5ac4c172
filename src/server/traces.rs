//! Carries the signalling of calls that ended into the database: in batches, off the path of calls, and as far
//! as the database keeps up.

use crate::clock;
use crate::engine::trace::Trace;
use crate::engine::trace::TracedMessage;
use crate::engine::trace::Traces;
use crate::store::database::Database;
use crate::store::traces;
use crate::store::traces::StoredMessage;
use crate::store::traces::StoredTrace;
use crate::telemetry::metric;
use crate::telemetry::metric::Counter;
use crate::types::id::CallId;
use crate::types::id::TrunkId;
use crate::types::limit::TRACE_CALLS_WAITING_MAX;
use crate::types::limit::TRACE_STORED_BYTES_MAX;
use crate::types::moment::Moment;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::sync::watch;

/// How often calls are carried.
const PERIOD: Duration = Duration::from_secs(1);
/// Calls that are carried at once. With the period it bounds what tracing costs under load.
const BATCH: usize = 32;
/// A call's last messages come after its end: the answer to BYE, and what is sent again.
const SETTLE: Duration = Duration::from_secs(2);
/// How long a call waits for the database before its signalling is given up.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long one visit to the database may take.
const VISIT_MAX: Duration = Duration::from_secs(20);
/// Longest time between two looks for what is old.
const FORGET_PERIOD: Duration = Duration::from_secs(600);

/// Where the ends of calls are told.
#[derive(Clone, Debug)]
pub(super) struct EndedCalls(mpsc::Sender<Ended>);

/// A call that is over, and the trunk it went by.
pub(super) type Ended = (CallId, Option<TrunkId>);

impl EndedCalls {
    /// A call is over. Does not block: one too many leaves no signalling, and is counted.
    pub(super) fn note(&self, call: CallId, trunk: Option<TrunkId>) {
        if self.0.try_send((call, trunk)).is_err() {
            metric::counter(Counter::TracesLost).increment(1);
        }
    }
}

/// The ends of calls, told and heard.
pub(super) fn ended_calls() -> (EndedCalls, mpsc::Receiver<Ended>) {
    let (told, heard) = mpsc::channel(TRACE_CALLS_WAITING_MAX);
    (EndedCalls(told), heard)
}

/// A call whose signalling is to be stored.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    call: CallId,
    due: Moment,
    until: Moment,
}

/// Stores the signalling of calls that ended, and deletes what is old.
pub(super) struct TraceWriter {
    ended: mpsc::Receiver<Ended>,
    waiting: VecDeque<Waiting>,
    traces: Traces,
    database: Database,
    /// How long it is kept; zero stores nothing and deletes everything.
    keep: Duration,
}

impl TraceWriter {
    pub(super) fn new(
        ended: mpsc::Receiver<Ended>,
        traces: Traces,
        database: Database,
        keep: Duration,
    ) -> Self {
        Self { ended, waiting: VecDeque::new(), traces, database, keep }
    }

    /// Carries until `stop` turns true; gives itself back for the calls that are left.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) -> Self {
        let mut period = tokio::time::interval(PERIOD);
        period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut forget_at = clock::now();
        loop {
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return self,
                _ = period.tick() => {}
            }
            let now = clock::now();
            self.take_in(now);
            let turn = async {
                self.carry(now).await;
                if forget_at <= now {
                    forget_at = now + (self.keep / 4).clamp(PERIOD, FORGET_PERIOD);
                    self.forget().await;
                }
            };
            // A database that hangs does not hold up the end of the node.
            let turn = tokio::time::timeout(VISIT_MAX, turn);
            tokio::select! {
                _ = turn => {}
                _ = stop.wait_for(|stop| *stop) => return self,
            }
        }
    }

    /// Carries what is left, once every record is in the database.
    pub(super) async fn finish(mut self) {
        let now = clock::now() + SETTLE;
        self.take_in(now);
        while !self.waiting.is_empty() {
            let before = self.waiting.len();
            for waiting in &mut self.waiting {
                waiting.due = now;
            }
            self.carry(now).await;
            if self.waiting.len() >= before {
                break;
            }
        }
        lost(self.waiting.len());
    }

    fn take_in(&mut self, now: Moment) {
        while let Ok((call, trunk)) = self.ended.try_recv() {
            if self.keep.is_zero() || !self.traces.are_stored_of(trunk) {
                continue;
            }
            if self.waiting.len() >= TRACE_CALLS_WAITING_MAX {
                lost(1);
                continue;
            }
            self.waiting.push_back(Waiting { call, due: now + SETTLE, until: now + PATIENCE });
        }
    }

    /// Stores the calls that are due, so many at once; those the database does not take wait on.
    async fn carry(&mut self, now: Moment) {
        let due = self.waiting.iter().take_while(|waiting| waiting.due <= now).count().min(BATCH);
        if due == 0 {
            return;
        }
        // They stay where they are until it is done: this may be cut off at any await.
        let batch: Vec<Waiting> = self.waiting.iter().take(due).copied().collect();
        let later = match self.store(&batch).await {
            Ok(unrecorded) => unrecorded,
            Err(error) => {
                tracing::debug!(%error, "the signalling of calls waits for the database");
                batch
            }
        };
        self.waiting.drain(..due);
        let (wait, gone): (Vec<_>, Vec<_>) = later.into_iter().partition(|one| one.until > now);
        lost(gone.len());
        self.waiting.extend(wait.into_iter().map(|one| Waiting { due: now + SETTLE, ..one }));
    }

    /// Stores the signalling of `batch`; gives those whose records are not there yet.
    async fn store(&self, batch: &[Waiting]) -> sqlx::Result<Vec<Waiting>> {
        let calls: Vec<CallId> = batch.iter().map(|waiting| waiting.call).collect();
        let recorded = traces::recorded_all_tenants(&self.database, &calls).await?;
        let recorded: HashMap<CallId, bool> = recorded.into_iter().collect();
        let of_tenants = calls.iter().filter(|call| recorded.get(call) == Some(&true));
        let found: Vec<_> = of_tenants
            .map(|&call| (call, stored(self.traces.of_call(call))))
            .filter(|(_, trace)| !trace.messages.is_empty())
            .collect();
        if !found.is_empty() {
            traces::put_all_tenants(&self.database, &found).await?;
            metric::counter(Counter::TracesStored).increment(found.len() as u64);
        }
        Ok(batch.iter().filter(|one| !recorded.contains_key(&one.call)).copied().collect())
    }

    async fn forget(&self) {
        let keep = jiff::SignedDuration::try_from(self.keep).unwrap_or_default();
        let Ok(before) = clock::wall_now().checked_sub(keep) else { return };
        match traces::forget_all_tenants(&self.database, before).await {
            Ok(0) => {}
            Ok(messages) => tracing::debug!(messages, "old signalling is deleted"),
            Err(error) => tracing::debug!(%error, "old signalling cannot be deleted"),
        }
    }
}

fn lost(calls: usize) {
    if calls > 0 {
        metric::counter(Counter::TracesLost).increment(calls as u64);
    }
}

/// The trace as it is stored: whole where it fits, else its first messages and its newest, each in half of the
/// room. How a call began and how it ended is what one looks for.
fn stored(trace: Trace) -> StoredTrace {
    let Trace { messages: mut kept, left_out } = trace;
    let first = fitting(kept.iter(), TRACE_STORED_BYTES_MAX / 2);
    let (begin, rest) = kept.split_at(first);
    let used: usize = begin.iter().map(|message| message.bytes.len()).sum();
    let newest = fitting(rest.iter().rev(), TRACE_STORED_BYTES_MAX.saturating_sub(used));
    let between = first..kept.len() - newest;
    let cut = u32::try_from(between.len()).unwrap_or(u32::MAX);
    drop(kept.drain(between));
    let (mut local, mut remote) = (None, None);
    let messages = kept.into_iter().map(|message| StoredMessage {
        at: clock::wall(message.at),
        way: message.way.as_str().into(),
        transport: message.transport.as_str().into(),
        local: shown(message.local, &mut local),
        remote: shown(message.remote, &mut remote),
        bytes: message.bytes,
    });
    StoredTrace { messages: messages.collect(), left_out: left_out.saturating_add(cut) }
}

/// An address as text; as a rule it is that of the message before, and the same text does.
fn shown(address: SocketAddr, before: &mut Option<(SocketAddr, Arc<str>)>) -> Arc<str> {
    if let Some((known, text)) = before
        && *known == address
    {
        return Arc::clone(text);
    }
    let text: Arc<str> = address.to_string().into();
    *before = Some((address, Arc::clone(&text)));
    text
}

/// How many messages there is room for, one after the other.
fn fitting<'a>(messages: impl Iterator<Item = &'a TracedMessage>, room: usize) -> usize {
    let sizes = messages.scan(0_usize, |bytes, message| {
        *bytes += message.bytes.len();
        Some(*bytes)
    });
    sizes.take_while(|bytes| *bytes <= room).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::trace::Way;
    use crate::types::transport::Transport;
    use bytes::Bytes;

    /// The last letters of the messages that are stored of so many, each of so many bytes, and how many are not.
    fn stored_of(count: u8, bytes: usize) -> (Vec<u8>, u32) {
        let here = SocketAddr::from(([192, 0, 2, 1], 5060));
        let message = |number: u8| TracedMessage {
            at: Moment::from_millis(u64::from(number)),
            way: Way::In,
            transport: Transport::Udp,
            local: here,
            remote: here,
            bytes: Bytes::from(vec![number; bytes]),
        };
        let trace = Trace { messages: (0..count).map(message).collect(), left_out: 3 };
        let stored = stored(trace);
        let bytes: usize = stored.messages.iter().map(|message| message.bytes.len()).sum();
        assert!(bytes <= TRACE_STORED_BYTES_MAX, "{bytes}");
        let last = stored.messages.iter().filter_map(|message| message.bytes.last().copied());
        (last.collect(), stored.left_out)
    }

    #[test]
    fn each_message_is_stored_with_its_own_addresses() {
        let mut before = None;
        for port in [5060, 5060, 5061, 5060] {
            let address = SocketAddr::from(([192, 0, 2, 1], port));
            assert_eq!(&*shown(address, &mut before), address.to_string());
        }
    }

    #[test]
    fn of_a_long_call_its_beginning_and_its_end_are_stored() {
        let eighth = TRACE_STORED_BYTES_MAX / 8;
        assert_eq!(stored_of(8, eighth), ((0..8).collect(), 3));
        assert_eq!(stored_of(20, eighth), (vec![0, 1, 2, 3, 16, 17, 18, 19], 3 + 12));
        // What the first half has no use for is the second one's.
        let third = TRACE_STORED_BYTES_MAX / 3;
        assert_eq!(stored_of(9, third), (vec![0, 7, 8], 3 + 6));
        assert_eq!(stored_of(2, TRACE_STORED_BYTES_MAX + 1), (vec![], 3 + 2));
        assert_eq!(stored_of(0, 1), (vec![], 3));
    }
}
