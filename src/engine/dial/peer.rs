//! `PeerAttempt`: one call to a peer by its own SIP address, from address to address of that.

use crate::engine::dial::route::PeerRoute;
use crate::engine::dial::route::Target;
use crate::engine::dial::route::Todo;
use crate::routing::decision::Decision;
use crate::routing::gateway_addresses::GatewayAddress;
use crate::routing::health;
use crate::routing::outbound_attempt::AddressNews;
use crate::routing::outbound_attempt::CarrierRefusal;
use crate::routing::outbound_attempt::Input;
use crate::routing::outbound_attempt::TryId;
use crate::types::cause::HangupCause;
use std::sync::Arc;

/// There is one try, which may go to several addresses.
const ONLY: TryId = TryId(1);

/// A peer that is tried once.
#[derive(Debug)]
pub(super) struct PeerAttempt {
    route: Arc<PeerRoute>,
    is_open: bool,
    /// Something was heard of the address that has the INVITE.
    is_heard: bool,
    /// The address that has the INVITE.
    address: Option<GatewayAddress>,
    /// With what the last of its addresses refused after which another was to be asked.
    refused: Option<CarrierRefusal>,
    decision: Decision,
}

impl PeerAttempt {
    pub(super) fn new(route: Arc<PeerRoute>) -> Self {
        let decision = Decision::new();
        Self { route, is_open: true, is_heard: false, address: None, refused: None, decision }
    }

    /// What is worth knowing of it afterwards.
    pub(super) const fn decision(&self) -> &Decision {
        &self.decision
    }

    /// Whether another of its addresses is to be asked after this refusal (RFC 3263 §4.3).
    pub(super) const fn takes_another_address(&self, refusal: &CarrierRefusal) -> bool {
        self.is_open && refusal.status == 503
    }

    /// Applies `input`; appends what must be done.
    pub(super) fn handle(&mut self, input: Input, todo: &mut Vec<Todo>) {
        if !self.is_open {
            return;
        }
        match input {
            Input::Started => {
                todo.push(Todo::Try(ONLY, Box::new(Target::Peer(Arc::clone(&self.route)))));
            }
            Input::AtAddress { news, .. } => self.at_address(news, todo),
            Input::Progressed { .. } => self.served(todo),
            Input::NotAdmitted { cause, .. } => match self.refused.take() {
                // Another of its addresses was to be asked, and cannot be: what the first said stands.
                Some(refusal) => self.give_up_for(&refusal, todo),
                None => self.give_up(cause, None, todo),
            },
            Input::Refused { refusal, .. } => {
                todo.extend(self.said(said_by(&refusal)));
                self.give_up_for(&refusal, todo);
            }
            Input::TimedOut { .. } | Input::Unreachable { .. } => {
                todo.extend(self.said(health::Input::CallFailed { retry_after: None }));
                self.give_up(HangupCause::CarrierTimeout, None, todo);
            }
            Input::CutOff { cause, .. } => {
                self.left(todo);
                self.give_up(cause, None, todo);
            }
            Input::Answered { .. } => {
                self.served(todo);
                self.is_open = false;
                todo.push(Todo::Connected);
            }
            Input::Cancelled => {
                self.left(todo);
                let cause = HangupCause::CallerCancelled;
                todo.push(Todo::Abandon(ONLY, cause));
                self.give_up(cause, None, todo);
            }
            Input::Sent { .. } | Input::DeadlineReached => {}
        }
    }

    fn at_address(&mut self, news: AddressNews, todo: &mut Vec<Todo>) {
        let input = match news {
            AddressNews::LeftOut(address, state) => {
                return self.decision.note("peer", format!("{address} is {state}"));
            }
            AddressNews::Taken(address) => {
                (self.address, self.is_heard) = (Some(address), false);
                health::Input::CallSent
            }
            AddressNews::Failed => {
                self.note_next("no reply");
                health::Input::CallFailed { retry_after: None }
            }
            AddressNews::Refused(refusal) => {
                self.note_next(&refusal.status.to_string());
                let said = said_by(&refusal);
                self.refused = Some(refusal);
                said
            }
        };
        todo.extend(self.said(input));
    }

    fn note_next(&mut self, words: &str) {
        if let Some(address) = self.address {
            self.decision.note("peer", format!("{words} of {address}, another address"));
        }
    }

    fn served(&mut self, todo: &mut Vec<Todo>) {
        if !std::mem::replace(&mut self.is_heard, true) {
            todo.extend(self.said(health::Input::CallServed));
        }
    }

    /// It is let go of; where nothing was heard that says nothing of it.
    fn left(&self, todo: &mut Vec<Todo>) {
        if !self.is_heard {
            todo.extend(self.said(health::Input::CallLeft));
        }
    }

    fn said(&self, input: health::Input) -> Option<Todo> {
        let address = self.address?;
        Some(Todo::OfPeer { route: Arc::clone(&self.route), address, input })
    }

    fn give_up_for(&mut self, refusal: &CarrierRefusal, todo: &mut Vec<Todo>) {
        let CarrierRefusal { status, q850, .. } = *refusal;
        self.give_up(HangupCause::of_refusal(status, q850), Some(status), todo);
    }

    fn give_up(&mut self, cause: HangupCause, status: Option<u16>, todo: &mut Vec<Todo>) {
        self.is_open = false;
        todo.push(Todo::GiveUp { cause, status });
    }
}

/// What a refusal says of the address it comes from. A 503 that says nothing of a time is an agent without
/// room for this call, and lives (RFC 3261 §21.5.4).
const fn said_by(refusal: &CarrierRefusal) -> health::Input {
    match (refusal.status, refusal.retry_after) {
        (503, retry_after @ Some(_)) => health::Input::Throttled { retry_after },
        _ => health::Input::CallServed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::srtp::SrtpPolicy;
    use crate::types::transport::Transport;
    use std::net::SocketAddr;
    use std::time::Duration;

    fn route() -> Arc<PeerRoute> {
        Arc::new(PeerRoute {
            uri: "sip:bot@agent.example".parse().unwrap(),
            credentials: None,
            headers: Vec::new(),
            from_user: "caller".to_owned(),
            from_host: "192.0.2.1".parse().unwrap(),
            hops: 70,
            srtp: SrtpPolicy::Off,
            transfers: false,
        })
    }

    fn address(last: u8) -> GatewayAddress {
        let address = SocketAddr::from(([192, 0, 2, last], 5_060));
        GatewayAddress { address, transport: Transport::Udp }
    }

    fn words(todo: &[Todo]) -> Vec<String> {
        let word = |next: &Todo| match next {
            Todo::Try(..) => "try".to_owned(),
            Todo::Abandon(..) => "abandon".to_owned(),
            Todo::Board(_) => "board".to_owned(),
            Todo::OfPeer { address, input, .. } => format!("{} {input:?}", address.address.ip()),
            Todo::Connected => "connected".to_owned(),
            Todo::GiveUp { cause, status } => format!("give up {cause} {status:?}"),
        };
        todo.iter().map(word).collect()
    }

    /// What follows from inputs after the start, at the first address.
    fn after(inputs: Vec<Input>) -> (Vec<String>, PeerAttempt) {
        let mut attempt = PeerAttempt::new(route());
        let mut todo = Vec::new();
        attempt.handle(Input::Started, &mut todo);
        attempt.handle(at(AddressNews::Taken(address(1))), &mut todo);
        assert_eq!(words(&todo), ["try", "192.0.2.1 CallSent"]);
        todo.clear();
        for input in inputs {
            attempt.handle(input, &mut todo);
        }
        (words(&todo), attempt)
    }

    const fn at(news: AddressNews) -> Input {
        Input::AtAddress { id: ONLY, news }
    }

    fn refused(status: u16, retry_after: Option<u64>) -> CarrierRefusal {
        let retry_after = retry_after.map(Duration::from_secs);
        CarrierRefusal { status, retry_after, ..CarrierRefusal::default() }
    }

    const RINGS: Input = Input::Progressed { id: ONLY, status: 180, early_media: false };

    const CUT_OFF: Input = Input::CutOff { id: ONLY, cause: HangupCause::Overload };

    #[test]
    fn what_becomes_of_each_address_of_an_agent_is_remembered() {
        let other = at(AddressNews::Taken(address(2)));
        let (said, attempt) = after(vec![at(AddressNews::Failed), other.clone(), RINGS, RINGS]);
        let expected = [
            "192.0.2.1 CallFailed { retry_after: None }",
            "192.0.2.2 CallSent",
            "192.0.2.2 CallServed",
        ];
        assert_eq!(said, expected);
        let steps = attempt.decision().to_string();
        assert!(steps.contains("no reply of 192.0.2.1:5060 over udp, another address"), "{steps}");

        let busy = refused(503, Some(20));
        let (said, _) =
            after(vec![at(AddressNews::Refused(busy)), other, Input::Answered { id: ONLY }]);
        let throttled = "192.0.2.1 Throttled { retry_after: Some(20s) }";
        assert_eq!(said, [throttled, "192.0.2.2 CallSent", "192.0.2.2 CallServed", "connected"]);
    }

    #[test]
    fn what_an_address_of_an_agent_refused_with_stands_where_no_other_may_be_asked() {
        let not_admitted = Input::NotAdmitted { id: ONLY, cause: HangupCause::CarrierTimeout };
        let (said, _) =
            after(vec![at(AddressNews::Refused(refused(503, None))), not_admitted.clone()]);
        assert_eq!(said, ["192.0.2.1 CallServed", "give up carrier_refused Some(503)"]);
        let (said, _) = after(vec![not_admitted]);
        assert_eq!(said, ["give up carrier_timeout None"]);
    }

    #[test]
    fn the_end_of_a_call_to_an_agent_says_how_its_last_address_stands() {
        for (input, first) in [
            (Input::TimedOut { id: ONLY }, "192.0.2.1 CallFailed { retry_after: None }"),
            (Input::Unreachable { id: ONLY }, "192.0.2.1 CallFailed { retry_after: None }"),
            (Input::Refused { id: ONLY, refusal: refused(486, None) }, "192.0.2.1 CallServed"),
            (Input::Refused { id: ONLY, refusal: refused(503, None) }, "192.0.2.1 CallServed"),
            (
                Input::Refused { id: ONLY, refusal: refused(503, Some(7)) },
                "192.0.2.1 Throttled { retry_after: Some(7s) }",
            ),
            (Input::Cancelled, "192.0.2.1 CallLeft"),
            (CUT_OFF, "192.0.2.1 CallLeft"),
        ] {
            let (said, _) = after(vec![input.clone(), RINGS]);
            assert_eq!(said.first().map(String::as_str), Some(first), "{input:?}");
            assert!(said.last().unwrap().starts_with("give up"), "{said:?}");
        }
        for end in [Input::Cancelled, CUT_OFF] {
            let (said, _) = after(vec![RINGS, end]);
            assert!(
                !said.iter().any(|word| word.contains("CallLeft")),
                "it is known to live: {said:?}"
            );
        }
    }
}
