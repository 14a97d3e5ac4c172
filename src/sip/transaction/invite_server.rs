//! The INVITE server transaction (RFC 3261 §17.2.1 as amended by RFC 6026 §7.1).

use crate::sip::transaction::Action;
use crate::sip::transaction::Actions;
use crate::sip::transaction::Class;
use crate::sip::transaction::timer::Length;
use crate::sip::transaction::timer::Timer;

/// Where the transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No final response yet.
    Proceeding,
    /// A final response other than 2xx waits for its ACK.
    Completed,
    /// The ACK came; repetitions are absorbed.
    Confirmed,
    /// A 2xx was sent; repetitions of the INVITE are absorbed (RFC 6026).
    Accepted,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// The INVITE came again.
    Repeated,
    /// An ACK with the INVITE's branch came.
    Ack,
    /// The user responds.
    Respond(Class),
    /// An armed timer fired.
    Fired(Timer),
}

/// The machine.
#[derive(Clone, Copy, Debug)]
pub struct InviteServer {
    state: State,
    reliable: bool,
    resends: u8,
}

impl InviteServer {
    /// A machine for an INVITE that just came; `reliable` for streams.
    #[must_use]
    pub const fn new(reliable: bool) -> Self {
        Self { state: State::Proceeding, reliable, resends: 0 }
    }

    /// Where it stands.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Applies `input` and appends what must be done.
    pub fn handle(&mut self, input: Input, out: &mut Actions) {
        match self.state {
            State::Proceeding => self.proceeding(input, out),
            State::Completed => self.completed(input, out),
            State::Confirmed => Self::confirmed(input, out),
            State::Accepted => Self::accepted(input, out),
        }
    }

    fn proceeding(&mut self, input: Input, out: &mut Actions) {
        match input {
            Input::Repeated => out.push(Action::Resend),
            Input::Ack => out.push(Action::Stray),
            Input::Respond(Class::Provisional) => out.push(Action::Send),
            Input::Respond(Class::Success) => {
                self.state = State::Accepted;
                // RFC 3261 §13.3.1.4: the user of the transaction repeats a 2xx, not the transaction.
                out.extend([Action::Send, Action::Forget, Action::Arm(Timer::L, Length::GiveUp)]);
            }
            Input::Respond(Class::Failure) => {
                self.state = State::Completed;
                out.extend([Action::Send, Action::Arm(Timer::H, Length::GiveUp)]);
                if !self.reliable {
                    out.push(Action::Arm(Timer::G, Length::Capped(0)));
                }
            }
            Input::Fired(_) => {}
        }
    }

    fn completed(&mut self, input: Input, out: &mut Actions) {
        match input {
            Input::Repeated => out.push(Action::Resend),
            Input::Ack => {
                self.state = State::Confirmed;
                out.push(Action::Disarm(Timer::G));
                if self.reliable {
                    out.push(Action::Terminate);
                } else {
                    out.extend([Action::Forget, Action::Arm(Timer::I, Length::T4)]);
                }
            }
            Input::Respond(_) => out.push(Action::Stray),
            Input::Fired(Timer::G) => {
                self.resends = self.resends.saturating_add(1);
                let next = Action::Arm(Timer::G, Length::Capped(self.resends));
                out.extend([Action::Resend, next]);
            }
            Input::Fired(Timer::H) => out.extend([Action::AckTimedOut, Action::Terminate]),
            Input::Fired(_) => {}
        }
    }

    fn confirmed(input: Input, out: &mut Actions) {
        match input {
            Input::Repeated | Input::Ack => out.push(Action::Absorb),
            Input::Respond(_) => out.push(Action::Stray),
            Input::Fired(Timer::I) => out.push(Action::Terminate),
            Input::Fired(_) => {}
        }
    }

    fn accepted(input: Input, out: &mut Actions) {
        match input {
            Input::Repeated => out.push(Action::Absorb),
            // The ACK to a 2xx has a branch of its own, but some peers use the INVITE's.
            Input::Ack => out.push(Action::Deliver),
            Input::Respond(_) => out.push(Action::Stray),
            Input::Fired(Timer::L) => out.push(Action::Terminate),
            Input::Fired(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Action::*;

    fn step(machine: &mut InviteServer, input: Input) -> Vec<Action> {
        let mut out = Actions::new();
        machine.handle(input, &mut out);
        out.to_vec()
    }

    #[test]
    fn a_refusal_is_repeated_doubling_to_t2_until_the_ack() {
        let mut machine = InviteServer::new(false);
        let sent = step(&mut machine, Input::Respond(Class::Failure));
        let (h, g) = (Arm(Timer::H, Length::GiveUp), Arm(Timer::G, Length::Capped(0)));
        assert_eq!(sent, [Send, h, g]);
        for resends in 1..5 {
            let next = Arm(Timer::G, Length::Capped(resends));
            assert_eq!(step(&mut machine, Input::Fired(Timer::G)), [Resend, next]);
        }
        assert_eq!(step(&mut machine, Input::Repeated), [Resend]);
        let i = Arm(Timer::I, Length::T4);
        assert_eq!(step(&mut machine, Input::Ack), [Disarm(Timer::G), Forget, i]);
        assert_eq!(step(&mut machine, Input::Ack), [Absorb]);
        assert_eq!(step(&mut machine, Input::Repeated), [Absorb]);
        assert_eq!(step(&mut machine, Input::Fired(Timer::I)), [Terminate]);
    }

    #[test]
    fn a_refusal_never_acknowledged_ends_with_timer_h() {
        let mut machine = InviteServer::new(false);
        step(&mut machine, Input::Respond(Class::Failure));
        assert_eq!(step(&mut machine, Input::Fired(Timer::H)), [AckTimedOut, Terminate]);
    }

    #[test]
    fn a_2xx_leaves_repetition_to_its_user_and_absorbs_the_invite() {
        let mut machine = InviteServer::new(false);
        assert_eq!(step(&mut machine, Input::Repeated), [Resend]);
        assert_eq!(step(&mut machine, Input::Respond(Class::Provisional)), [Send]);
        let l = Arm(Timer::L, Length::GiveUp);
        assert_eq!(step(&mut machine, Input::Respond(Class::Success)), [Send, Forget, l]);
        assert_eq!(machine.state(), State::Accepted);
        assert_eq!(step(&mut machine, Input::Repeated), [Absorb]);
        assert_eq!(step(&mut machine, Input::Ack), [Deliver]);
        assert_eq!(step(&mut machine, Input::Respond(Class::Failure)), [Stray]);
        assert_eq!(step(&mut machine, Input::Fired(Timer::L)), [Terminate]);
    }

    #[test]
    fn a_stream_needs_no_repetition_and_no_wait_after_the_ack() {
        let mut machine = InviteServer::new(true);
        let sent = step(&mut machine, Input::Respond(Class::Failure));
        assert_eq!(sent, [Send, Arm(Timer::H, Length::GiveUp)]);
        assert_eq!(step(&mut machine, Input::Ack), [Disarm(Timer::G), Terminate]);
    }

    #[test]
    fn a_stale_timer_changes_nothing() {
        let mut machine = InviteServer::new(false);
        assert_eq!(step(&mut machine, Input::Fired(Timer::G)), []);
        assert_eq!(step(&mut machine, Input::Ack), [Stray]);
        step(&mut machine, Input::Respond(Class::Success));
        assert_eq!(step(&mut machine, Input::Fired(Timer::H)), []);
        assert_eq!(machine.state(), State::Accepted);
    }
}
