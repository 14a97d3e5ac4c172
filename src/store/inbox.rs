//! What waits for the journal's writer, and when it is woken for it.
//!
//! Waking a thread costs more than writing a report. So only a report somebody waits for wakes the
//! writer at once; others go with it, or when the writer looks of its own accord, in time. When
//! reports come thick, the writer rests between batches, and nobody wakes it then.

use crate::cdr::CallReport;
use crate::clock;
use crate::types::id::CallId;
use crate::types::id_map::IdMap;
use crate::types::limit::JOURNAL_QUEUE_MAX;
use crate::types::moment::Moment;
use std::collections::VecDeque;
use std::io;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long the report of an ended call may wait here: a killed process loses that much.
const LATER_MAX: Duration = Duration::from_millis(20);
/// The same for a call that goes on. Many are over by then, and the report of the end takes it in.
const ONGOING_MAX: Duration = Duration::from_millis(100);
/// Pause between batches that come thick: what a ringing may wait for its record. Each batch wakes two
/// threads.
const REST: Duration = Duration::from_millis(8);
/// Batches closer to each other than this come thick.
const THICK: Duration = Duration::from_millis(12);
/// Reports taken at once.
const BATCH: usize = 256;

/// A report on its way into the journal.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) report: CallReport,
    /// Who is told when it is in the file.
    pub(crate) written: Option<oneshot::Sender<()>>,
    /// When it was handed over.
    pub(crate) at: Moment,
}

/// What the writer woke up for.
#[derive(Debug)]
pub(crate) enum Work {
    Synced(u64, io::Result<()>),
    Reports(Vec<Item>),
    Idle,
    Renew,
    Close,
}

/// What waits for the writer.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    items: VecDeque<Item>,
    /// Reports of calls that go on, and in `due` when each has waited long enough.
    ongoing: IdMap<CallId, CallReport>,
    due: VecDeque<(Moment, CallId)>,
    /// What came of the sync of which segment.
    synced: Option<(u64, io::Result<()>)>,
    closing: bool,
    renewing: bool,
    sleep: Sleep,
    /// When the last batch was taken.
    taken: Option<Moment>,
    /// Until when the writer rests.
    rest: Option<Moment>,
    /// Until when it looks for reports that did not wake it.
    linger: Option<Moment>,
}

/// How the writer's thread sleeps.
#[derive(Clone, Copy, Debug, Default)]
enum Sleep {
    /// Not at all, or it was woken, or it rests: it looks here before it sleeps again.
    #[default]
    Awake,
    /// Until it is woken, or then.
    Until(Moment),
}

impl Inbox {
    /// Reports that wait.
    pub(crate) fn len(&self) -> usize {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.items.len() + state.ongoing.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that runs under the lock can leave it half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a report. With somebody to tell, the writer is woken for it. False when the oldest
    /// report that waits was dropped for it.
    pub(crate) fn push(&self, report: CallReport, written: Option<oneshot::Sender<()>>) -> bool {
        let now = clock::now();
        let mut state = self.lock();
        let room = state.make_room();
        let limit = state.insert(now, report, written);
        let wakes = matches!(state.sleep, Sleep::Until(at) if at > limit);
        if wakes {
            state.sleep = Sleep::Awake;
        }
        drop(state);
        if wakes {
            self.wake.notify_one();
        }
        room
    }

    /// Tells the writer what came of a sync.
    pub(crate) fn synced(&self, segment: u64, result: io::Result<()>) {
        self.lock().synced = Some((segment, result));
        self.wake.notify_one();
    }

    /// Tells the writer to begin the next segment.
    pub(crate) fn renew(&self) {
        self.lock().renewing = true;
        self.wake.notify_one();
    }

    /// Tells the writer to end once nothing waits.
    pub(crate) fn close(&self) {
        self.lock().closing = true;
        self.wake.notify_one();
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.lock().closing
    }

    /// Waits for work, until `until` at most.
    pub(crate) fn wait(&self, until: Moment) -> Work {
        let mut state = self.lock();
        loop {
            let now = clock::now();
            match state.next(now, until) {
                Ok(work) => return work,
                Err((sleep, pause)) => {
                    state.sleep = sleep;
                    let woken = self.wake.wait_timeout(state, pause);
                    state = woken.unwrap_or_else(PoisonError::into_inner).0;
                    state.sleep = Sleep::Awake;
                }
            }
        }
    }
}

impl State {
    /// False when the oldest report had to go.
    fn make_room(&mut self) -> bool {
        if self.items.len() + self.ongoing.len() < JOURNAL_QUEUE_MAX {
            return true;
        }
        if self.items.pop_front().is_none()
            && let Some((_, call)) = self.due.pop_front()
        {
            self.ongoing.remove(&call);
        }
        false
    }

    /// Enters a report; returns the moment at which the writer must look at the latest.
    fn insert(
        &mut self,
        now: Moment,
        mut report: CallReport,
        written: Option<oneshot::Sender<()>>,
    ) -> Moment {
        let call = report.record.id;
        if let Some(earlier) = self.ongoing.remove(&call) {
            report.take_in(earlier);
        }
        let limit = match (&written, report.record.is_closed()) {
            (Some(_), _) => now,
            (None, true) => now + LATER_MAX,
            (None, false) => {
                let limit = now + ONGOING_MAX;
                self.ongoing.insert(call, report);
                self.due.push_back((limit, call));
                return limit;
            }
        };
        self.items.push_back(Item { report, written, at: now });
        limit
    }

    /// Work there is now, or how to sleep and how long.
    fn next(&mut self, now: Moment, until: Moment) -> Result<Work, (Sleep, Duration)> {
        if let Some((segment, result)) = self.synced.take() {
            return Ok(Work::Synced(segment, result));
        }
        if let Some(rest) = self.rest.filter(|rest| *rest > now && !self.closing) {
            return Err((Sleep::Awake, rest.since(now)));
        }
        self.release(now);
        if !self.items.is_empty() {
            return Ok(Work::Reports(self.take(now)));
        }
        if self.closing {
            return Ok(Work::Close);
        }
        if std::mem::take(&mut self.renewing) {
            return Ok(Work::Renew);
        }
        if now >= until {
            return Ok(Work::Idle);
        }
        let due = self.next_due();
        let linger = self.linger.filter(|linger| *linger > now);
        let at = [due, linger].into_iter().flatten().fold(until, Moment::min);
        Err((Sleep::Until(at), at.since(now)))
    }

    /// When what waits for its call's end has waited long enough. One whose call ended wakes nobody any more.
    fn next_due(&mut self) -> Option<Moment> {
        let Self { due, ongoing, .. } = self;
        while due.pop_front_if(|(_, call)| !ongoing.contains_key(&*call)).is_some() {}
        due.front().map(|(due, _)| *due)
    }

    /// Hands over what has waited for its call's end long enough.
    fn release(&mut self, now: Moment) {
        while let Some((_, call)) = self.due.pop_front_if(|(due, _)| *due <= now || self.closing) {
            // One whose call ended meanwhile went with its end.
            if let Some(report) = self.ongoing.remove(&call) {
                self.items.push_back(Item { report, written: None, at: now });
            }
        }
    }

    fn take(&mut self, now: Moment) -> Vec<Item> {
        let count = self.items.len().min(BATCH);
        let is_thick = self.taken.is_some_and(|taken| now.since(taken) < THICK);
        self.rest = (is_thick && count == self.items.len()).then(|| now + REST);
        self.taken = Some(now);
        self.linger = Some(now + LATER_MAX);
        self.items.drain(..count).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::event::CallEvent;
    use crate::cdr::CallLog;
    use crate::types::cause::HangupCause;
    use crate::types::cause::Party;
    use crate::types::codec::Codec;
    use uuid::Uuid;

    const FAR: Moment = Moment::from_millis(1_000_000);

    fn at(ms: u64) -> Moment {
        Moment::from_millis(ms)
    }

    fn call(number: u128) -> CallLog {
        let mut log = CallLog::open(Moment::START, CallId::from_uuid(Uuid::from_u128(number)));
        log.note(Moment::START, CallEvent::Ringing);
        log
    }

    fn answered(log: &mut CallLog) -> CallReport {
        log.note(at(1), CallEvent::Answered(Codec::Pcmu));
        log.report()
    }

    fn ended(log: &mut CallLog) -> CallReport {
        let (cause, by, duration) = (HangupCause::Normal, Party::Caller, Duration::ZERO);
        log.note(at(2), CallEvent::Ended { cause, by, duration });
        log.report()
    }

    /// The number of events in each report that is taken.
    fn taken(state: &mut State, now: Moment) -> Vec<usize> {
        match state.next(now, FAR) {
            Ok(Work::Reports(items)) => items.iter().map(|item| item.report.events.len()).collect(),
            Ok(other) => panic!("{other:?}"),
            Err(_) => Vec::new(),
        }
    }

    /// How long the writer would sleep.
    fn pause(state: &mut State, now: Moment) -> Duration {
        match state.next(now, FAR) {
            Ok(work) => panic!("{work:?}"),
            Err((_, pause)) => pause,
        }
    }

    #[test]
    fn an_answer_goes_with_the_end_of_a_short_call() {
        let mut state = State::default();
        let mut log = call(1);
        drop(log.report());
        assert_eq!(state.insert(at(0), answered(&mut log), None), at(100));
        assert_eq!(pause(&mut state, at(1)), Duration::from_millis(99));
        assert_eq!(state.insert(at(50), ended(&mut log), None), at(70));
        assert_eq!(taken(&mut state, at(51)), [2]);
        assert!(state.ongoing.is_empty());
        assert_eq!(pause(&mut state, at(80)), FAR.since(at(80)), "nobody waits");
        assert!(taken(&mut state, at(200)).is_empty());
    }

    #[test]
    fn an_answer_of_a_longer_call_waits_no_longer_than_it_may() {
        let mut state = State::default();
        let mut log = call(1);
        drop(log.report());
        state.insert(at(0), answered(&mut log), None);
        assert!(taken(&mut state, at(99)).is_empty());
        assert_eq!(taken(&mut state, at(100)), [1]);
        state.insert(at(300), ended(&mut log), None);
        assert_eq!(taken(&mut state, at(301)), [1]);
    }

    #[test]
    fn a_report_that_is_waited_for_is_wanted_at_once_unless_reports_come_thick() {
        let mut state = State::default();
        let (told, _written) = oneshot::channel();
        assert_eq!(state.insert(at(10), call(1).report(), Some(told)), at(10));
        assert_eq!(taken(&mut state, at(10)), [1]);
        assert_eq!(pause(&mut state, at(11)), Duration::from_millis(19), "it looks again");
        state.insert(at(12), call(2).report(), Some(oneshot::channel().0));
        assert_eq!(taken(&mut state, at(12)), [1]);
        state.insert(at(13), call(3).report(), Some(oneshot::channel().0));
        assert_eq!(pause(&mut state, at(13)), Duration::from_millis(7), "it rests");
        assert_eq!(taken(&mut state, at(20)), [1]);
    }

    #[test]
    fn at_the_end_nothing_waits_any_longer() {
        let mut state = State { closing: true, ..State::default() };
        let mut log = call(1);
        drop(log.report());
        state.insert(at(0), answered(&mut log), None);
        assert_eq!(taken(&mut state, at(0)), [1]);
        assert!(matches!(state.next(at(0), FAR), Ok(Work::Close)));
    }

    #[test]
    fn over_the_bound_the_oldest_report_goes() {
        let mut state = State::default();
        for number in 0..JOURNAL_QUEUE_MAX as u128 {
            assert!(state.make_room());
            let (told, _) = oneshot::channel();
            state.insert(at(0), call(number).report(), Some(told));
        }
        assert!(!state.make_room());
        assert_eq!(state.items.len(), JOURNAL_QUEUE_MAX - 1);
        let oldest = state.items.front().map(|item| item.report.record.id.uuid().as_u128());
        assert_eq!(oldest, Some(1));
    }
}
