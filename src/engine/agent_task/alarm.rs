//! What wakes an agent's task at the moment for which its session waits.

use crate::clock;
use crate::types::moment::Moment;
use std::future::Future;
use std::pin::Pin;
use std::pin::pin;
use std::task::Context;
use tokio::task::coop::unconstrained;
use tokio::time::Instant;
use tokio::time::Sleep;
use tokio::time::sleep_until;

/// A sleep of the runtime that is left alone until it is over or too late. The task is polled some hundred times a second
/// and waits for something that is seconds away; to ask the sleep each time would be to fetch it from memory each time.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    /// The moment that is waited for; `None`: for none, or it was told that this one is here.
    due: Option<Moment>,
    /// When the sleep wakes the task: then or before that.
    rings: Option<Moment>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Alarm {
    /// Whether the moment that is waited for is here. True once; then [`Self::set`] is to say what is waited for next.
    pub(super) fn take_due(&mut self, now: Moment) -> bool {
        self.due.take_if(|due| now >= *due).is_some()
    }

    /// Waits for `due` from now on: to be called each time before the task waits, with its context. It is polled once more at
    /// that moment, and perhaps before.
    ///
    /// The sleep keeps the waker with which it was polled until it wakes it, and a task that was spawned has the same one for
    /// life. So it is polled when it is set and not again: until the clock says `rings` it is yet to wake the task. One that
    /// wakes it too early, because `due` moved on, is set again then. One that is too late is set at once.
    pub(super) fn set(&mut self, due: Option<Moment>, now: Moment, cx: &mut Context<'_>) {
        self.due = due;
        let Some(due) = due else { return };
        if self.rings.is_some_and(|rings| now < rings && rings <= due) {
            return;
        }
        self.rings = Some(due);
        let instant = Instant::from_std(clock::instant(due));
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(instant)));
        sleep.as_mut().reset(instant);
        // Within the budget of a task it might not be polled at all, and then it would wake nobody.
        if pin!(unconstrained(sleep.as_mut())).poll(cx).is_ready() {
            // It is over, and wakes nobody any more.
            cx.waker().wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::task::Poll;
    use std::time::Duration;
    use tokio::task::coop;
    use tokio::time::timeout;

    /// A check that takes longer has failed.
    const PATIENCE: Duration = Duration::from_secs(20);
    const HOUR: Duration = Duration::from_secs(3_600);
    const SOON: Duration = Duration::from_millis(20);

    /// Waits in a task of its own, which first does what `begins` does with the alarm: sets it.
    async fn rung(
        begins: impl FnOnce(&mut Alarm, &mut Context<'_>) -> Moment + Send + 'static,
    ) -> Moment {
        let waits = async move {
            let (mut alarm, mut begins, mut due) = (Alarm::default(), Some(begins), None);
            poll_fn(move |cx| {
                if let Some(begins) = begins.take() {
                    due = Some(begins(&mut alarm, cx));
                    return Poll::Pending;
                }
                let now = clock::now();
                if alarm.take_due(now) {
                    assert!(!alarm.take_due(now), "told once");
                    return Poll::Ready(now);
                }
                alarm.set(due, now, cx);
                Poll::Pending
            })
            .await
        };
        let task = timeout(PATIENCE, tokio::spawn(waits));
        task.await.expect("it wakes the task").expect("it ends")
    }

    #[tokio::test]
    async fn it_wakes_the_task_at_the_moment_and_not_before() {
        let now = clock::now();
        let due = now + SOON;
        let at = rung(move |alarm, cx| {
            // As often as the task is polled for something else.
            for _ in 0..3 {
                assert!(!alarm.take_due(now));
                alarm.set(Some(due), now, cx);
            }
            due
        });
        assert!(at.await >= due);
    }

    #[tokio::test]
    async fn a_moment_that_moved_nearer_is_not_slept_through() {
        let now = clock::now();
        let due = now + SOON;
        let at = rung(move |alarm, cx| {
            alarm.set(Some(due + HOUR), now, cx);
            alarm.set(None, now, cx);
            alarm.set(Some(due), now, cx);
            due
        });
        assert!(at.await >= due);
    }

    #[tokio::test]
    async fn a_moment_that_moved_on_is_waited_for_though_it_wakes_the_task_before() {
        let now = clock::now();
        let (first, due) = (now + SOON, now + 2 * SOON);
        let at = rung(move |alarm, cx| {
            alarm.set(Some(first), now, cx);
            alarm.set(Some(due), now, cx);
            assert_eq!(alarm.rings, Some(first), "the sleep is left alone");
            due
        });
        assert!(at.await >= due);
    }

    #[tokio::test]
    async fn a_moment_that_is_past_already_wakes_the_task_at_once() {
        let before = clock::now();
        let later = before + SOON;
        let is_later = rung(move |alarm, cx| {
            alarm.set(Some(later), before, cx);
            later
        });
        assert!(is_later.await >= later);
        let at = rung(move |alarm, cx| {
            alarm.set(Some(before), Moment::START, cx);
            before
        });
        assert!(at.await >= before);
        // The same where it was waited for something else.
        let at = rung(move |alarm, cx| {
            alarm.set(Some(before + HOUR), Moment::START, cx);
            alarm.set(Some(before), Moment::START, cx);
            before
        });
        assert!(at.await >= before);
    }

    #[tokio::test]
    async fn a_task_that_has_used_up_its_budget_is_woken_all_the_same() {
        let now = clock::now();
        let due = now + SOON;
        let at = rung(move |alarm, cx| {
            while coop::has_budget_remaining() {
                assert!(pin!(coop::consume_budget()).poll(cx).is_ready());
            }
            alarm.set(Some(due), now, cx);
            due
        });
        assert!(at.await >= due);
    }
}
