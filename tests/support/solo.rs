//! One endpoint in virtual time, and everything it sent, said and counted.

use super::bytes;
use super::config;
use super::flow;
use bytes::Bytes;
use std::time::Duration;
use tandem::sip::endpoint::Endpoint;
use tandem::sip::endpoint::config::EndpointConfig;
use tandem::sip::endpoint::config::Gauges;
use tandem::sip::endpoint::event::Command;
use tandem::sip::endpoint::event::Counter;
use tandem::sip::endpoint::event::DialogId;
use tandem::sip::endpoint::event::Event;
use tandem::sip::endpoint::event::Input;
use tandem::sip::endpoint::event::Output;
use tandem::sip::endpoint::flow::Flow;
use tandem::sip::endpoint::outbound::OutboundInvite;
use tandem::sip::endpoint::told::Search;
use tandem::sip::message::Message;
use tandem::sip::message::Request;
use tandem::sip::message::Response;
use tandem::sip::message::parse;
use tandem::types::cause::HangupCause;
use tandem::types::moment::Moment;
use tandem::types::transport::Transport;

/// Something sent.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) at: Moment,
    pub(crate) flow: Flow,
    pub(crate) bytes: Bytes,
}

impl Sent {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    pub(crate) fn message(&self) -> Message {
        parse(self.bytes.clone()).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn request(&self) -> Request {
        match self.message() {
            Message::Request(request) => request,
            Message::Response(_) => panic!("no request: {}", self.text()),
        }
    }

    pub(crate) fn response(&self) -> Response {
        match self.message() {
            Message::Response(response) => response,
            Message::Request(_) => panic!("no response: {}", self.text()),
        }
    }

    /// The method of a request, the status of a response.
    pub(crate) fn kind(&self) -> String {
        match self.message() {
            Message::Request(request) => request.method.to_string(),
            Message::Response(response) => response.status.to_string(),
        }
    }

    /// All values of a header, by its long name.
    pub(crate) fn header(&self, name: &str) -> Vec<String> {
        let message = self.message();
        let values = message.headers().named(name);
        values.map(|value| String::from_utf8_lossy(value).into_owned()).collect()
    }
}

/// One endpoint.
#[derive(Debug)]
pub(crate) struct Solo {
    pub(crate) endpoint: Endpoint,
    pub(crate) now: Moment,
    pub(crate) flow: Flow,
    pub(crate) sent: Vec<Sent>,
    /// What the shell may withhold, and did.
    pub(crate) burdens: Vec<Bytes>,
    pub(crate) events: Vec<Event>,
    pub(crate) counted: Vec<Counter>,
    /// Searches stay in `searches`; else they find nothing, at once.
    pub(crate) searches_by_hand: bool,
    pub(crate) searches: Vec<Search>,
}

impl Solo {
    pub(crate) fn new() -> Self {
        Self::with(config(7, "192.0.2.1"), Transport::Udp)
    }

    pub(crate) fn over(transport: Transport) -> Self {
        Self::with(config(7, "192.0.2.1"), transport)
    }

    pub(crate) fn with(config: EndpointConfig, transport: Transport) -> Self {
        Self {
            endpoint: Endpoint::new(config),
            now: Moment::from_millis(1_000),
            flow: flow(transport),
            sent: Vec::new(),
            burdens: Vec::new(),
            events: Vec::new(),
            counted: Vec::new(),
            searches_by_hand: false,
            searches: Vec::new(),
        }
    }

    pub(crate) fn input(&mut self, input: Input) {
        let mut out = Vec::new();
        self.endpoint.handle(self.now, input, &mut out);
        self.take(out);
    }

    fn take(&mut self, out: Vec<Output>) {
        let mut searches = Vec::new();
        for output in out {
            match output {
                Output::Transmit { flow, bytes } => {
                    self.sent.push(Sent { at: self.now, flow, bytes });
                }
                Output::Burden(_, bytes) => self.burdens.push(bytes),
                Output::Locate(search) => searches.push(*search),
                Output::Event(event) => self.events.push(event),
                Output::Counted(counter) => self.counted.push(counter),
            }
        }
        if self.searches_by_hand {
            return self.searches.extend(searches);
        }
        for Search { number, .. } in searches {
            self.input(Input::Located { number, flow: None });
        }
    }

    pub(crate) fn receive(&mut self, text: &str) {
        self.receive_by(self.flow, text);
    }

    pub(crate) fn receive_by(&mut self, flow: Flow, text: &str) {
        self.input(Input::Received { flow, message: bytes(text) });
    }

    /// The same from a source that has yet to prove that it hears us.
    pub(crate) fn receive_unproven(&mut self, text: &str) {
        self.input(Input::ReceivedUnproven { flow: self.flow, message: bytes(text) });
    }

    pub(crate) fn command(&mut self, command: Command) {
        self.input(Input::Command(command));
    }

    /// A fault of ours ends the endpoint: its dialogs are hung up as far as that goes, and another takes its place.
    pub(crate) fn end_life(&mut self) {
        for dialog in self.endpoint.dialogs() {
            self.command(Command::Hangup { dialog, cause: HangupCause::SwitchFault });
        }
        let mut next = Endpoint::after(&self.endpoint, 8);
        next.inherit(&mut self.endpoint, self.now);
        self.endpoint = next;
    }

    pub(crate) fn invite(&mut self, invite: OutboundInvite) -> DialogId {
        let mut out = Vec::new();
        let dialog = self.endpoint.invite(self.now, invite, &mut out);
        self.take(out);
        dialog
    }

    /// Lets time pass, turning the endpoint at each of its deadlines.
    pub(crate) fn advance(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(deadline) = self.endpoint.deadline().filter(|deadline| *deadline <= end) {
            self.now = self.now.max(deadline);
            self.input(Input::DeadlineReached);
        }
        self.now = end;
    }

    pub(crate) fn advance_ms(&mut self, millis: u64) {
        self.advance(Duration::from_millis(millis));
    }

    /// What was sent since the last call of this.
    pub(crate) fn take_sent(&mut self) -> Vec<Sent> {
        std::mem::take(&mut self.sent)
    }

    /// The kinds of what was sent since the last call: methods and statuses.
    pub(crate) fn take_kinds(&mut self) -> Vec<String> {
        self.take_sent().iter().map(Sent::kind).collect()
    }

    /// The only thing sent since the last call.
    pub(crate) fn take_one(&mut self) -> Sent {
        let mut sent = self.take_sent();
        let texts: Vec<String> = sent.iter().map(Sent::text).collect();
        assert_eq!(sent.len(), 1, "{texts:#?}");
        sent.remove(0)
    }

    /// The last thing sent since the last call.
    pub(crate) fn take_last(&mut self) -> Sent {
        self.take_sent().pop().expect("something was sent")
    }

    pub(crate) fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    pub(crate) fn count(&self, counter: Counter) -> usize {
        self.counted.iter().filter(|it| **it == counter).count()
    }

    /// The dialog of the one INVITE that came since the last call.
    pub(crate) fn take_invited(&mut self) -> DialogId {
        let events = self.take_events();
        match events.as_slice() {
            [Event::Invited(invitation)] => invitation.dialog,
            other => panic!("no single call: {other:?}"),
        }
    }

    /// Asserts that nothing is left of all calls.
    pub(crate) fn assert_empty(&self) {
        assert_eq!(self.endpoint.gauges(), Gauges::default());
        assert_eq!(self.endpoint.deadline(), None);
    }
}

/// The kinds of events, with what tests look at.
pub(crate) fn kinds(events: &[Event]) -> Vec<String> {
    let kind = |event: &Event| match event {
        Event::Invited(_) => "invited".to_owned(),
        Event::Cancelled { .. } => "cancelled".to_owned(),
        Event::Acknowledged { body, .. } => {
            if body.is_some() { "acknowledged with body" } else { "acknowledged" }.to_owned()
        }
        Event::Reinvited { body, .. } => {
            if body.is_some() { "reinvited" } else { "reinvited without body" }.to_owned()
        }
        Event::Digit { digit, duration_ms, .. } => format!("digit {digit} {duration_ms}"),
        Event::Progressed { status, .. } => format!("progressed {status}"),
        Event::Answered { .. } => "answered".to_owned(),
        Event::Refused { status, .. } => format!("refused {status}"),
        Event::ReinviteAnswered { .. } => "reinvite answered".to_owned(),
        Event::Refreshed { .. } => "refreshed".to_owned(),
        Event::ReinviteRefused { status, has_waited: false, .. } => {
            format!("reinvite refused {status}")
        }
        Event::ReinviteRefused { status, .. } => format!("reinvite refused {status} has_waited"),
        Event::Ended { how, .. } => format!("ended {how:?}"),
        Event::Placed { token, .. } => format!("placed {}", token.0),
        Event::TooLarge { .. } => "too large".to_owned(),
        Event::EarlyAnswered { .. } => "early answered".to_owned(),
        Event::InfoAnswered { status, .. } => format!("info answered {status}"),
        Event::Referring { progress, .. } => format!("referring {progress:?}"),
        Event::Referred { .. } => "referred".to_owned(),
        Event::Declined(declined) => match declined.status {
            Some(status) => format!("declined {status} {}", declined.cause),
            None => format!("declined {}", declined.cause),
        },
        Event::RequestAnswered { token, answer } => match answer.outcome.status() {
            Some(status) => format!("request {} answered {status}", token.0),
            None => format!("request {} {:?}", token.0, answer.outcome),
        },
        Event::Probed { token, status, .. } => format!("probed {} {status:?}", token.0),
    };
    events.iter().map(kind).collect()
}
