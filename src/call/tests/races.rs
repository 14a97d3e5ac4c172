//! A transfer races with hang-ups: whatever order REFER, NOTIFY, answers and BYEs come in, the caller is never lost, no
//! leg is left, and the call ends once.

use super::random::Asked;
use super::random::Seen;
use super::random::World;
use super::random::give;
use super::random::request;
use super::*;
use crate::call::input::AudioPath;
use crate::call::transfer::TransferRequest;
use crate::types::random::Random;

const NEAR: LegSide = LegSide::Near;

/// What happens once in a race, where it can happen at all.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Happening {
    /// The carrier says this of the transfer that it was asked for.
    Notify(u16),
    /// It declines.
    ReferFailed,
    CallerHangsUp,
    TargetRings,
    TargetAnswers,
    TargetRefuses,
    TargetHangsUp,
    AgentLeaves,
    AgentConfirms,
    AgentWithdraws,
    /// Media do what was asked of them.
    Media,
    /// There is no place for media.
    NoMedia,
    /// The next moment comes that the call waits for.
    Time,
}

/// One of these, each followed by what it is about.
fn happenings(random: &mut Random) -> Vec<Happening> {
    let mut all = vec![
        Happening::Notify(202),
        Happening::Notify([100, 180, 183][below(random, 3)]),
        [Happening::Notify(200), Happening::Notify(486), Happening::ReferFailed][below(random, 3)],
        Happening::TargetRings,
        [Happening::TargetAnswers, Happening::TargetAnswers, Happening::TargetRefuses]
            [below(random, 3)],
        Happening::TargetHangsUp,
        [Happening::AgentLeaves, Happening::AgentConfirms, Happening::AgentWithdraws]
            [below(random, 3)],
        Happening::Time,
        Happening::Time,
    ];
    all.extend([Happening::Media; 10]);
    if below(random, 8) == 0 {
        all.push(Happening::NoMedia);
    }
    if below(random, 2) == 0 {
        all.push(Happening::CallerHangsUp);
    }
    // Every order is as likely as another.
    for last in (1..all.len()).rev() {
        all.swap(last, below(random, last + 1));
    }
    all
}

fn below(random: &mut Random, most: usize) -> usize {
    let mut bytes = [0; 2];
    random.fill(&mut bytes);
    usize::from(u16::from_le_bytes(bytes)) % most
}

/// A call that talks with its agent, and all that was seen of it.
struct Race {
    call: Call,
    world: World,
    now: Moment,
    out: Vec<Output>,
}

impl Race {
    fn talking() -> Self {
        let setup = plain();
        let world = World::around(&setup);
        let mut race = Self { call: Call::new(setup), world, now: Moment::START, out: Vec::new() };
        race.leg(NEAR, LegInput::Offered(Some(OFFER.into())));
        while race.media(true) {}
        race.give(Input::Agent(AgentInput::Ready));
        race.leg(NEAR, LegInput::Acknowledged(None));
        race
    }

    fn give(&mut self, input: Input) {
        let out = give(&mut self.call, &mut self.world, self.now, input);
        self.out.extend(out);
    }

    fn leg(&mut self, side: LegSide, input: LegInput) {
        self.give(Input::Leg(side, input));
    }

    fn media(&mut self, obey: bool) -> bool {
        let said = self.world.media_say(obey);
        let is_said = said.is_some();
        said.into_iter().for_each(|input| self.give(input));
        is_said
    }

    fn time(&mut self) -> bool {
        let Some(at) = self.call.deadline() else { return false };
        self.now = self.now.max(at);
        self.give(Input::DeadlineReached);
        true
    }

    /// The leg that was dialled last.
    fn target(&self) -> Option<LegSide> {
        [LegSide::Third, LegSide::Far]
            .into_iter()
            .find(|side| self.world.legs[side.index()] != Seen::Unused)
    }

    /// Lets it happen, if it can: a peer says nothing after its end, and nothing of what it was not asked.
    fn happens(&mut self, happening: Happening, is_cancelled: &mut bool) {
        let is_there = self.caller_is_there();
        let target = self.target().map(|side| (side, self.world.legs[side.index()]));
        match (happening, target) {
            (Happening::Notify(status), _) if is_there => {
                self.leg(NEAR, LegInput::ReferProgressed { status });
            }
            (Happening::ReferFailed, _) if is_there => {
                self.leg(NEAR, LegInput::ReferFailed { status: 603 });
            }
            (Happening::CallerHangsUp, _) if is_there => {
                let (cause, by) = (HangupCause::Normal, Party::Caller);
                self.leg(NEAR, LegInput::Ended { cause, by });
            }
            (Happening::TargetRings, Some((side, Seen::Dialled))) => {
                self.leg(side, LegInput::Progressed { status: 180, body: None });
            }
            (Happening::TargetAnswers, Some((side, Seen::Dialled))) => {
                self.leg(side, LegInput::Answered(Some(OFFER.into())));
            }
            // It answered while it was let go of.
            (Happening::TargetAnswers, Some((side, Seen::Gone))) if !*is_cancelled => {
                *is_cancelled = true;
                self.leg(side, LegInput::Answered(Some(OFFER.into())));
            }
            (Happening::TargetRefuses, Some((side, Seen::Dialled))) => {
                self.leg(
                    side,
                    LegInput::DialFailed { cause: HangupCause::Busy, status: Some(486) },
                );
            }
            (Happening::TargetHangsUp, Some((side, Seen::Up))) => {
                let (cause, by) = (HangupCause::Normal, Party::Far);
                self.leg(side, LegInput::Ended { cause, by });
            }
            (Happening::AgentLeaves, _) => self.give(Input::Agent(AgentInput::HungUp)),
            (Happening::AgentConfirms, _) => self.give(Input::TransferConfirmed),
            (Happening::AgentWithdraws, _) => self.give(Input::TransferWithdrawn),
            (Happening::Media, _) => drop(self.media(true)),
            (Happening::NoMedia, _) => drop(self.media(false)),
            (Happening::Time, _) => drop(self.time()),
            _ => (),
        }
    }

    /// A caller that is there hears somebody who is there.
    fn has_somebody(&self) -> bool {
        let agent = matches!(self.call.agent, AgentState::Ready | AgentState::Announcing);
        let leg = |side: LegSide| self.world.legs[side.index()];
        match self.call.path {
            AudioPath::Agent(NEAR) => agent,
            AudioPath::Bridge(side) => leg(side) == Seen::Up,
            AudioPath::Early(side) => leg(side) == Seen::Dialled,
            // The agent speaks with whom it called, and says then what becomes of the caller.
            AudioPath::Agent(side) => agent && leg(side) == Seen::Up,
            AudioPath::Waiting(_) | AudioPath::Others | AudioPath::Apart => false,
        }
    }

    /// It waits, and does so for a minute at most.
    fn waits(&self) -> bool {
        let media = self.world.media.iter().any(|media| media.is_under_way());
        media || self.call.deadline().is_some_and(|at| at <= self.now + Duration::from_secs(60))
    }

    fn caller_is_there(&self) -> bool {
        self.world.legs[NEAR.index()] == Seen::Up
    }

    fn count(&self, of: impl Fn(&Output) -> bool) -> usize {
        self.out.iter().filter(|output| of(output)).count()
    }
}

fn requests() -> [TransferRequest; 5] {
    let (target, otherwise) = (Box::new(request().target), Some(Box::new(request())));
    [
        TransferRequest::Refer { target: target.clone(), otherwise: None },
        TransferRequest::Refer { target, otherwise },
        TransferRequest::Bridge(Box::new(request())),
        TransferRequest::Attended(Box::new(request())),
        TransferRequest::Dial(Box::new(request())),
    ]
}

#[test]
fn a_transfer_that_races_with_hang_ups_loses_no_caller_leaves_no_leg_and_ends_once() {
    for (mode, request) in requests().into_iter().enumerate() {
        let (mut transferred, mut failed, mut left) = (0, 0, 0);
        for seed in 0..1_000 {
            let mut random = Random::from_seed(seed);
            let mut race = Race::talking();
            let all = happenings(&mut random);
            let begins = below(&mut random, 3);
            let mut is_cancelled = false;
            for (index, happening) in all.iter().enumerate() {
                if index == begins {
                    race.give(Input::TransferRequested(request.clone()));
                }
                race.happens(*happening, &mut is_cancelled);
                let is_served = race.has_somebody() || race.waits();
                let so_far = &all[..=index];
                assert!(
                    !race.caller_is_there() || is_served,
                    "{mode}/{seed} after {so_far:?}: {:?}",
                    race.call
                );
            }
            left += usize::from(!race.caller_is_there());
            // Who waits has somebody soon, or the call ends: nobody waits for what does not come.
            for _ in 0..6 {
                while race.media(true) {}
                if race.caller_is_there() && !race.has_somebody() && race.waits() {
                    race.time();
                }
            }
            assert!(
                !race.caller_is_there() || race.has_somebody(),
                "{mode}/{seed}: {:?}",
                race.call
            );
            let cause = HangupCause::Draining;
            race.give(Input::HangupRequested { cause, by: Party::Switch });
            while race.media(true) {}
            // The world has seen to it that each leg ended once, and that nothing came after the end.
            assert!(race.call.is_over(), "{mode}/{seed}: {:?}", race.call);
            assert_eq!(race.call.deadline(), None);
            assert!(race.world.media.iter().all(|media| *media == Asked::Nothing), "{mode}/{seed}");
            assert_eq!(race.count(|output| *output == Output::Finish), 1, "{mode}/{seed}");
            let records = |event: fn(&CallEvent) -> bool| {
                race.count(|output| matches!(output, Output::Record(own) if event(own)))
            };
            assert_eq!(records(|event| matches!(event, CallEvent::Ended { .. })), 1);
            let through = records(|event| matches!(event, CallEvent::TransferCompleted));
            assert!(through <= 1, "{mode}/{seed}: transferred {through} times");
            transferred += through;
            let undone = records(|event| {
                matches!(event, CallEvent::TransferFailed(_) | CallEvent::TransferWithdrawn)
            });
            failed += usize::from(undone > 0);
        }
        // Every end is among them.
        assert!(left >= 200, "{mode}: {left} callers left");
        assert!(mode == 4 || transferred >= 20, "{mode}: {transferred} were through");
        assert!(mode == 4 || failed >= 20, "{mode}: {failed} failed");
    }
}
