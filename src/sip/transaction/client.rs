//! The client transaction of every method but INVITE and ACK (RFC 3261 §17.1.2).

use crate::sip::transaction::Action;
use crate::sip::transaction::Actions;
use crate::sip::transaction::Class;
use crate::sip::transaction::timer::Length;
use crate::sip::transaction::timer::Timer;

/// Where the transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing was heard yet.
    Trying,
    /// A provisional response came.
    Proceeding,
    /// The final response came; repetitions are absorbed.
    Completed,
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
pub struct Client {
    state: State,
    reliable: bool,
    resends: u8,
}

impl Client {
    /// Sends the request; `reliable` for streams.
    pub fn start(reliable: bool, out: &mut Actions) -> Self {
        out.extend([Action::Send, Action::Arm(Timer::F, Length::GiveUp)]);
        if !reliable {
            out.push(Action::Arm(Timer::E, Length::Capped(0)));
        }
        Self { state: State::Trying, reliable, resends: 0 }
    }

    /// Where it stands.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Applies `input` and appends what must be done.
    pub fn handle(&mut self, input: Input, out: &mut Actions) {
        match self.state {
            State::Trying => {
                let resends = self.resends.saturating_add(1);
                self.open(input, Length::Capped(resends), out);
            }
            State::Proceeding => self.open(input, Length::T2, out),
            State::Completed => Self::completed(input, out),
        }
    }

    /// Trying and Proceeding, which differ in the interval of repetition.
    fn open(&mut self, input: Input, interval: Length, out: &mut Actions) {
        match input {
            Input::Response(Class::Provisional) => {
                self.state = State::Proceeding;
                out.push(Action::Deliver);
            }
            Input::Response(Class::Success | Class::Failure) => {
                self.state = State::Completed;
                out.push(Action::Disarm(Timer::E));
                if self.reliable {
                    out.extend([Action::Deliver, Action::Terminate]);
                } else {
                    let k = Action::Arm(Timer::K, Length::T4);
                    out.extend([Action::Forget, k, Action::Deliver]);
                }
            }
            Input::Fired(Timer::E) => {
                self.resends = self.resends.saturating_add(1);
                out.extend([Action::Resend, Action::Arm(Timer::E, interval)]);
            }
            Input::Fired(Timer::F) => out.extend([Action::TimedOut, Action::Terminate]),
            Input::Fired(_) => {}
            Input::FlowLost => out.extend([Action::Unreachable, Action::Terminate]),
        }
    }

    fn completed(input: Input, out: &mut Actions) {
        match input {
            Input::Response(_) => out.push(Action::Absorb),
            Input::Fired(Timer::K) | Input::FlowLost => out.push(Action::Terminate),
            Input::Fired(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Action::*;

    fn step(machine: &mut Client, input: Input) -> Vec<Action> {
        let mut out = Actions::new();
        machine.handle(input, &mut out);
        out.to_vec()
    }

    #[test]
    fn an_unanswered_request_doubles_to_t2_and_ends_with_timer_f() {
        let mut out = Actions::new();
        let mut machine = Client::start(false, &mut out);
        let f = Arm(Timer::F, Length::GiveUp);
        assert_eq!(out.to_vec(), [Send, f, Arm(Timer::E, Length::Capped(0))]);
        for resends in 1..5 {
            let next = Arm(Timer::E, Length::Capped(resends));
            assert_eq!(step(&mut machine, Input::Fired(Timer::E)), [Resend, next]);
        }
        assert_eq!(step(&mut machine, Input::Fired(Timer::F)), [TimedOut, Terminate]);
    }

    #[test]
    fn after_a_provisional_response_it_repeats_every_t2() {
        let mut machine = Client::start(false, &mut Actions::new());
        assert_eq!(step(&mut machine, Input::Response(Class::Provisional)), [Deliver]);
        let next = Arm(Timer::E, Length::T2);
        assert_eq!(step(&mut machine, Input::Fired(Timer::E)), [Resend, next]);
    }

    #[test]
    fn a_final_response_is_delivered_once() {
        let mut machine = Client::start(false, &mut Actions::new());
        let answered = step(&mut machine, Input::Response(Class::Success));
        assert_eq!(answered, [Disarm(Timer::E), Forget, Arm(Timer::K, Length::T4), Deliver]);
        assert_eq!(step(&mut machine, Input::Response(Class::Success)), [Absorb]);
        assert_eq!(step(&mut machine, Input::Fired(Timer::K)), [Terminate]);
    }

    #[test]
    fn a_stream_transaction_ends_with_its_response() {
        let mut out = Actions::new();
        let mut machine = Client::start(true, &mut out);
        assert_eq!(out.to_vec(), [Send, Arm(Timer::F, Length::GiveUp)]);
        let answered = step(&mut machine, Input::Response(Class::Failure));
        assert_eq!(answered, [Disarm(Timer::E), Deliver, Terminate]);
    }
}
