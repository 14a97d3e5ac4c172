//! The INVITE client transaction (RFC 3261 §17.1.1 as amended by RFC 6026 §7.2).

use crate::sip::transaction::Action;
use crate::sip::transaction::Actions;
use crate::sip::transaction::Class;
use crate::sip::transaction::timer::Length;
use crate::sip::transaction::timer::Timer;

/// Where the transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing was heard yet.
    Calling,
    /// A provisional response came.
    Proceeding,
    /// A final response other than 2xx came; it is acknowledged each time it comes.
    Completed,
    /// A 2xx came; each further one goes to the user (RFC 6026).
    Accepted,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// A response came.
    Response(Class),
    /// An armed timer fired.
    Fired(Timer),
    /// The stream is gone.
    FlowLost,
}

/// The machine.
#[derive(Clone, Copy, Debug)]
pub struct InviteClient {
    state: State,
    reliable: bool,
    resends: u8,
}

impl InviteClient {
    /// Sends the INVITE; `reliable` for streams.
    pub fn start(reliable: bool, out: &mut Actions) -> Self {
        out.extend([Action::Send, Action::Arm(Timer::B, Length::GiveUp)]);
        if !reliable {
            out.push(Action::Arm(Timer::A, Length::Doubled(0)));
        }
        Self { state: State::Calling, reliable, resends: 0 }
    }

    /// Where it stands.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Applies `input` and appends what must be done.
    pub fn handle(&mut self, input: Input, out: &mut Actions) {
        match self.state {
            State::Calling => self.calling(input, out),
            State::Proceeding => self.proceeding(input, out),
            State::Completed => Self::completed(input, out),
            State::Accepted => Self::accepted(input, out),
        }
    }

    fn calling(&mut self, input: Input, out: &mut Actions) {
        match input {
            Input::Response(class) => {
                out.push(Action::Disarm(Timer::A));
                self.respond(class, out);
            }
            Input::Fired(Timer::A) => {
                self.resends = self.resends.saturating_add(1);
                let next = Action::Arm(Timer::A, Length::Doubled(self.resends));
                out.extend([Action::Resend, next]);
            }
            Input::Fired(Timer::B) => out.extend([Action::TimedOut, Action::Terminate]),
            Input::Fired(_) => {}
            Input::FlowLost => out.extend([Action::Unreachable, Action::Terminate]),
        }
    }

    fn proceeding(&mut self, input: Input, out: &mut Actions) {
        match input {
            // A peer that rings on must not stop the timer below, the only end there is where nobody waits.
            Input::Response(Class::Provisional) => out.push(Action::Deliver),
            Input::Response(class @ (Class::Success | Class::Failure)) => self.respond(class, out),
            // Armed anew from outside, when nobody waits for the answer any more.
            Input::Fired(Timer::B) => out.extend([Action::TimedOut, Action::Terminate]),
            Input::Fired(_) => {}
            Input::FlowLost => out.extend([Action::Unreachable, Action::Terminate]),
        }
    }

    fn respond(&mut self, class: Class, out: &mut Actions) {
        match class {
            Class::Provisional => {
                self.state = State::Proceeding;
                out.extend([Action::Disarm(Timer::B), Action::Deliver]);
            }
            Class::Success => {
                self.state = State::Accepted;
                out.extend([Action::Arm(Timer::M, Length::GiveUp), Action::Deliver]);
            }
            Class::Failure => {
                self.state = State::Completed;
                out.push(Action::SendAck);
                if self.reliable {
                    out.extend([Action::Deliver, Action::Terminate]);
                } else {
                    out.extend([Action::Arm(Timer::D, Length::Long), Action::Deliver]);
                }
            }
        }
    }

    fn completed(input: Input, out: &mut Actions) {
        match input {
            Input::Response(Class::Failure) => out.push(Action::ResendAck),
            Input::Response(Class::Provisional | Class::Success) => out.push(Action::Absorb),
            Input::Fired(Timer::D) | Input::FlowLost => out.push(Action::Terminate),
            Input::Fired(_) => {}
        }
    }

    fn accepted(input: Input, out: &mut Actions) {
        match input {
            Input::Response(Class::Success) => out.push(Action::Deliver),
            Input::Response(Class::Provisional | Class::Failure) => out.push(Action::Absorb),
            Input::Fired(Timer::M) => out.push(Action::Terminate),
            // A repeated 2xx may still come by another connection.
            Input::Fired(_) | Input::FlowLost => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Action::*;

    fn start(reliable: bool) -> (InviteClient, Vec<Action>) {
        let mut out = Actions::new();
        let machine = InviteClient::start(reliable, &mut out);
        (machine, out.to_vec())
    }

    fn step(machine: &mut InviteClient, input: Input) -> Vec<Action> {
        let mut out = Actions::new();
        machine.handle(input, &mut out);
        out.to_vec()
    }

    #[test]
    fn an_unanswered_invite_doubles_without_a_cap_and_ends_with_timer_b() {
        let (mut machine, sent) = start(false);
        let b = Arm(Timer::B, Length::GiveUp);
        assert_eq!(sent, [Send, b, Arm(Timer::A, Length::Doubled(0))]);
        for resends in 1..7 {
            let next = Arm(Timer::A, Length::Doubled(resends));
            assert_eq!(step(&mut machine, Input::Fired(Timer::A)), [Resend, next]);
        }
        assert_eq!(step(&mut machine, Input::Fired(Timer::B)), [TimedOut, Terminate]);
    }

    #[test]
    fn a_provisional_response_stops_repetition_and_time_out() {
        let (mut machine, _) = start(false);
        let heard = step(&mut machine, Input::Response(Class::Provisional));
        assert_eq!(heard, [Disarm(Timer::A), Disarm(Timer::B), Deliver]);
        assert_eq!(step(&mut machine, Input::Fired(Timer::A)), []);
    }

    #[test]
    fn who_rings_on_does_not_stop_the_end_of_what_nobody_waits_for() {
        let (mut machine, _) = start(false);
        step(&mut machine, Input::Response(Class::Provisional));
        assert_eq!(step(&mut machine, Input::Response(Class::Provisional)), [Deliver]);
        assert_eq!(step(&mut machine, Input::Fired(Timer::B)), [TimedOut, Terminate]);
    }

    #[test]
    fn a_refusal_is_acknowledged_each_time_and_delivered_once() {
        let (mut machine, _) = start(false);
        let refused = step(&mut machine, Input::Response(Class::Failure));
        let d = Arm(Timer::D, Length::Long);
        assert_eq!(refused, [Disarm(Timer::A), SendAck, d, Deliver]);
        assert_eq!(step(&mut machine, Input::Response(Class::Failure)), [ResendAck]);
        assert_eq!(step(&mut machine, Input::Response(Class::Success)), [Absorb]);
        assert_eq!(step(&mut machine, Input::Fired(Timer::D)), [Terminate]);
    }

    #[test]
    fn each_2xx_is_delivered_until_timer_m() {
        let (mut machine, _) = start(false);
        step(&mut machine, Input::Response(Class::Provisional));
        let answered = step(&mut machine, Input::Response(Class::Success));
        assert_eq!(answered, [Arm(Timer::M, Length::GiveUp), Deliver]);
        assert_eq!(step(&mut machine, Input::Response(Class::Success)), [Deliver]);
        assert_eq!(step(&mut machine, Input::Response(Class::Failure)), [Absorb]);
        assert_eq!(step(&mut machine, Input::FlowLost), []);
        assert_eq!(step(&mut machine, Input::Fired(Timer::M)), [Terminate]);
    }

    #[test]
    fn a_stream_has_no_timer_a_and_no_timer_d() {
        let (mut machine, sent) = start(true);
        assert_eq!(sent, [Send, Arm(Timer::B, Length::GiveUp)]);
        let refused = step(&mut machine, Input::Response(Class::Failure));
        assert_eq!(refused, [Disarm(Timer::A), SendAck, Deliver, Terminate]);
        let (mut machine, _) = start(true);
        assert_eq!(step(&mut machine, Input::FlowLost), [Unreachable, Terminate]);
    }
}
