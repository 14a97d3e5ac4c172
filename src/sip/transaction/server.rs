//! The server transaction of every method but INVITE (RFC 3261 §17.2.2).

use crate::sip::transaction::Action;
use crate::sip::transaction::Actions;
use crate::sip::transaction::Class;
use crate::sip::transaction::timer::Length;
use crate::sip::transaction::timer::Timer;

/// Where the transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No response yet.
    Trying,
    /// A provisional response was sent.
    Proceeding,
    /// A final response was sent; it is repeated for each repetition of the request.
    Completed,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// The request came again.
    Repeated,
    /// The user responds.
    Respond(Class),
    /// An armed timer fired.
    Fired(Timer),
}

/// The machine.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    state: State,
    reliable: bool,
}

impl Server {
    /// A machine for a request that just came; `reliable` for streams.
    #[must_use]
    pub const fn new(reliable: bool) -> Self {
        Self { state: State::Trying, reliable }
    }

    /// Where it stands.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Applies `input` and appends what must be done.
    pub fn handle(&mut self, input: Input, out: &mut Actions) {
        match self.state {
            State::Trying => self.open(input, Action::Absorb, out),
            State::Proceeding => self.open(input, Action::Resend, out),
            State::Completed => Self::completed(input, out),
        }
    }

    /// Trying and Proceeding, which differ in what a repetition gets.
    fn open(&mut self, input: Input, repeated: Action, out: &mut Actions) {
        match input {
            Input::Repeated => out.push(repeated),
            Input::Respond(Class::Provisional) => {
                self.state = State::Proceeding;
                out.push(Action::Send);
            }
            Input::Respond(Class::Success | Class::Failure) => {
                self.state = State::Completed;
                out.push(Action::Send);
                out.push(if self.reliable {
                    Action::Terminate
                } else {
                    Action::Arm(Timer::J, Length::GiveUp)
                });
            }
            Input::Fired(_) => {}
        }
    }

    fn completed(input: Input, out: &mut Actions) {
        match input {
            Input::Repeated => out.push(Action::Resend),
            Input::Respond(_) => out.push(Action::Stray),
            Input::Fired(Timer::J) => out.push(Action::Terminate),
            Input::Fired(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Action::*;

    fn step(machine: &mut Server, input: Input) -> Vec<Action> {
        let mut out = Actions::new();
        machine.handle(input, &mut out);
        out.to_vec()
    }

    #[test]
    fn a_repeated_request_gets_the_last_response_for_32_s() {
        let mut machine = Server::new(false);
        assert_eq!(step(&mut machine, Input::Repeated), [Absorb]);
        assert_eq!(step(&mut machine, Input::Respond(Class::Provisional)), [Send]);
        assert_eq!(step(&mut machine, Input::Repeated), [Resend]);
        let j = Arm(Timer::J, Length::GiveUp);
        assert_eq!(step(&mut machine, Input::Respond(Class::Success)), [Send, j]);
        assert_eq!(step(&mut machine, Input::Repeated), [Resend]);
        assert_eq!(step(&mut machine, Input::Respond(Class::Failure)), [Stray]);
        assert_eq!(step(&mut machine, Input::Fired(Timer::J)), [Terminate]);
    }

    #[test]
    fn a_stream_transaction_ends_with_its_response() {
        let mut machine = Server::new(true);
        assert_eq!(step(&mut machine, Input::Respond(Class::Failure)), [Send, Terminate]);
    }
}
