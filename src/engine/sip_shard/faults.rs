//! Faults of our own in what a shard does: one ends the calls that it is about, never the shard.

use crate::call::input::LegInput;
use crate::engine::sip_shard::Shard;
use crate::engine::sip_shard::handle::Order;
use crate::sip::endpoint::event::Command;
use crate::sip::endpoint::event::DialogId;
use crate::sip::endpoint::event::Input;
use crate::sip::endpoint::event::Output;
use crate::sip::endpoint::event::Token;
use crate::sip::message::field::FieldValue;
use crate::sip::message::peek;
use crate::telemetry::metric;
use crate::telemetry::metric::Counter;
use crate::types::cause::HangupCause;
use crate::types::cause::Party;
use bytes::Bytes;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;

/// What the shard does, as far as it must be known when a fault cuts that off.
#[derive(Debug)]
pub(super) enum About {
    /// A message of this text.
    Message(Bytes),
    /// A call of ours with this Call-ID.
    Call(FieldValue),
    /// A dialog.
    Dialog(DialogId),
    /// A request of ours outside dialogs.
    Request,
    /// Timers that are due, one after the other.
    Timers,
    /// Nothing that is anybody's.
    Nobody,
}

impl About {
    pub(super) fn order(order: &Order) -> Self {
        let dialog = match order {
            Order::Command(command) => dialog_of(command),
            Order::Found(found) => found.dialog(),
            Order::TakeOver { dialog, .. }
            | Order::Find { dialog, .. }
            | Order::LetGo { dialog, .. } => Some(*dialog),
            Order::Place { invite, .. } => {
                return invite.call_id.clone().map_or(Self::Nobody, Self::Call);
            }
            Order::Request { .. } => return Self::Request,
            Order::Turn => return Self::Nobody,
        };
        dialog.map_or(Self::Nobody, Self::Dialog)
    }
}

/// Whose command it is.
pub(super) const fn dialog_of(command: &Command) -> Option<DialogId> {
    match command {
        Command::Invite { .. } | Command::Request(_) | Command::Probe(_) => None,
        Command::Adopt { dialog, .. }
        | Command::Trust(dialog, _)
        | Command::ReachBy { dialog, .. }
        | Command::Advertise { dialog, .. }
        | Command::Info { dialog, .. }
        | Command::Refer { dialog, .. }
        | Command::AcceptRefer { dialog }
        | Command::RefuseRefer { dialog, .. }
        | Command::NotifyRefer { dialog, .. }
        | Command::Progress { dialog, .. }
        | Command::Accept { dialog, .. }
        | Command::Refuse { dialog, .. }
        | Command::RefuseOnce { dialog, .. }
        | Command::AnswerReinvite { dialog, .. }
        | Command::RefuseReinvite { dialog, .. }
        | Command::Reinvite { dialog, .. }
        | Command::Update { dialog, .. }
        | Command::Acknowledge { dialog, .. }
        | Command::Explain { dialog, .. }
        | Command::Hangup { dialog, .. } => Some(*dialog),
    }
}

impl Shard {
    /// Does something. A fault in it ends the calls that it is about; the others, and the shard, go on.
    pub(super) fn guarded(&mut self, about: &About, what: impl FnOnce(&mut Self)) {
        if catch_unwind(AssertUnwindSafe(|| what(self))).is_ok() {
            return;
        }
        self.placing = None;
        let mut dialogs = self.dialogs_of(about);
        metric::counter(Counter::SipShardFaults).increment(1);
        tracing::error!(calls = dialogs.len(), "a fault of a SIP shard ended what it was about");
        self.carry_on(&mut dialogs);
        let mut given_up = 0;
        while let Some(dialog) = dialogs.get(given_up).copied() {
            self.give_up(dialog, &mut dialogs);
            given_up += 1;
        }
    }

    /// Carries out what a fault cut off: most of it may be other calls'. Of what is of `dialogs` only that which ends
    /// them; a call with which another fault comes is one of them from then on.
    pub(super) fn carry_on(&mut self, dialogs: &mut Vec<DialogId>) {
        loop {
            self.said.extend(self.out.drain(..));
            while let Some(output) = self.said.pop_front() {
                if !is_left_out(&output, dialogs) {
                    self.once_more(dialogs, |shard| shard.carry_out(output));
                }
            }
            let is_others = |command: &Command| {
                dialog_of(command).is_none_or(|dialog| !dialogs.contains(&dialog))
            };
            self.pending.retain(is_others);
            let Some(input) = self.next_input() else { return };
            self.once_more(dialogs, |shard| shard.turn(input));
        }
    }

    /// Does something after a fault; false where that is another. Whom it is about then is one of `dialogs`.
    fn once_more(&mut self, dialogs: &mut Vec<DialogId>, what: impl FnOnce(&mut Self)) -> bool {
        if catch_unwind(AssertUnwindSafe(|| what(self))).is_ok() {
            return true;
        }
        metric::counter(Counter::SipShardFaults).increment(1);
        if let Some(told) = self.telling.take()
            && !dialogs.contains(&told)
        {
            dialogs.push(told);
        }
        false
    }

    fn dialogs_of(&mut self, about: &About) -> Vec<DialogId> {
        let told = self.telling.take();
        let mut dialogs = match about {
            About::Message(message) => {
                let call_id = peek::call_id_of(message);
                call_id.map(|call_id| self.endpoint.dialogs_of(call_id)).unwrap_or_default()
            }
            About::Call(call_id) => self.endpoint.dialogs_of(call_id.as_ref()),
            About::Dialog(dialog) => vec![*dialog],
            About::Request => {
                // Whoever waits for its answer learns that there is none.
                self.requests.remove(&Token(self.next_token));
                Vec::new()
            }
            About::Timers => self.endpoint.firing().into_iter().collect(),
            About::Nobody => Vec::new(),
        };
        dialogs.extend(told.filter(|told| !dialogs.contains(told)));
        dialogs
    }

    /// Ends a call of which a fault may have left anything: its task first, which needs no more of us, then its
    /// peer, as far as that still goes. Whom a fault in that is about is one of `dialogs`.
    pub(super) fn give_up(&mut self, dialog: DialogId, dialogs: &mut Vec<DialogId>) {
        let (cause, by) = (HangupCause::SwitchFault, Party::Switch);
        self.last(dialog, None, LegInput::Ended { cause, by });
        self.dialled.remove(&dialog);
        self.pending.retain(|command| dialog_of(command) != Some(dialog));
        let hangup = Input::Command(Command::Hangup { dialog, cause });
        if !self.once_more(dialogs, |shard| shard.turn(hangup)) {
            self.forget_ways(dialog);
            self.carry_on(dialogs);
        }
    }
}

/// Whether an output is of one of `dialogs` and does not end it.
fn is_left_out(output: &Output, dialogs: &[DialogId]) -> bool {
    match output {
        Output::Event(event) => {
            !event.is_last() && event.dialog().is_some_and(|dialog| dialogs.contains(&dialog))
        }
        Output::Transmit { .. } | Output::Burden(..) | Output::Locate(_) | Output::Counted(_) => {
            false
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::cdr::CallReport;
    use crate::clock;
    use crate::engine::mailbox;
    use crate::engine::sip_shard::PlacedLeg;
    use crate::engine::sip_shard::handle::Arrival;
    use crate::engine::switch::Ledger;
    use crate::engine::switch::Switch;
    use crate::engine::switch::SwitchListener;
    use crate::engine::switch::Written;
    use crate::engine::switch::tests::idle;
    use crate::sip::endpoint::config::EndpointConfig;
    use crate::sip::endpoint::config::ListenerAddress;
    use crate::sip::endpoint::config::Timers;
    use crate::sip::endpoint::event::DialogEnd;
    use crate::sip::endpoint::event::Event;
    use crate::sip::endpoint::flow::Flow;
    use crate::sip::endpoint::flow::FlowId;
    use crate::sip::endpoint::outbound::OutboundInvite;
    use crate::sip::endpoint::outbound::OutboundRequest;
    use crate::sip::endpoint::policy::DialogPolicy;
    use crate::sip::message::method::Method;
    use crate::types::id::CallId;
    use crate::types::transport::Transport;
    use futures_util::future::poll_immediate;
    use metrics_exporter_prometheus::PrometheusBuilder;
    use std::pin::pin;
    use std::sync::Arc;
    use tokio::sync::mpsc;
    use tokio::sync::oneshot;

    struct Nobody;

    impl Ledger for Nobody {
        fn report(&self, _: CallReport) -> Written {
            Box::pin(std::future::ready(()))
        }

        fn report_later(&self, _: CallReport) {}
    }

    /// A ledger with a fault.
    struct Broken;

    impl Ledger for Broken {
        fn report(&self, _: CallReport) -> Written {
            panic!("as a test wants it")
        }

        fn report_later(&self, _: CallReport) {
            panic!("as a test wants it")
        }
    }

    /// A shard that is turned by hand, with what keeps its queues open.
    fn shard(ledger: Arc<dyn Ledger>) -> (Shard, impl Sized) {
        shard_of(idle(ledger, 21_326..=21_329))
    }

    /// That of a switch, which is given one listener.
    pub(in crate::engine::sip_shard) fn shard_of(mut switch: Switch) -> (Shard, impl Sized) {
        switch.listeners = vec![Arc::new(SwitchListener {
            name: "public".parse().unwrap(),
            sip_host: "192.0.2.250".to_owned(),
            bind: "192.0.2.250".parse().unwrap(),
            rtp_address: "192.0.2.250".parse().unwrap(),
            transports: vec![Transport::Udp],
        })];
        shard_beside(Arc::new(switch))
    }

    /// One more of a switch that has its listener.
    pub(in crate::engine::sip_shard) fn shard_beside(switch: Arc<Switch>) -> (Shard, impl Sized) {
        let config = EndpointConfig {
            seed: 1,
            product: "Tandem".to_owned(),
            listeners: vec![ListenerAddress { host: "192.0.2.250".to_owned(), port: 5060 }],
            timers: Timers::default(),
            policy: DialogPolicy::default(),
            takes_replaces: true,
        };
        let (arrivals_in, arrivals) = mpsc::channel(1);
        let (commands_in, commands) = mpsc::channel(1);
        let shard = Shard::new(switch, config, (arrivals_in, commands_in));
        (shard, (arrivals, commands))
    }

    pub(in crate::engine::sip_shard) fn flow() -> Flow {
        let (local, remote) = ("192.0.2.250:5060", "192.0.2.1:5060");
        let (local, remote) = (local.parse().unwrap(), remote.parse().unwrap());
        Flow { id: FlowId(1), listener: 0, transport: Transport::Udp, local, remote }
    }

    /// What is told of a call of ours.
    struct Placed(mailbox::Receiver<Event>);

    impl Placed {
        fn by(shard: &mut Shard, call_id: &str) -> Self {
            let mut invite = OutboundInvite::new(flow(), "sip:b@192.0.2.1", "sip:a@192.0.2.250");
            invite.call_id = FieldValue::new(call_id).ok();
            let (events_in, events) = mailbox::bounded(8);
            let call = CallId::from_uuid(clock::new_uuid());
            let leg = PlacedLeg { call, secret_headers: Arc::default(), trunk: None };
            shard.obey(Order::Place { leg, invite: Box::new(invite), events: events_in });
            Self(events)
        }

        /// Takes what is told; false once nobody tells any more.
        async fn goes_on(&mut self) -> bool {
            loop {
                let told = poll_immediate(pin!(self.0.recv())).await;
                match told {
                    Some(Some(_)) => {}
                    Some(None) => return false,
                    None => return true,
                }
            }
        }

        /// The dialog, as its first event names it.
        async fn dialog(&mut self) -> DialogId {
            self.0.recv().await.and_then(|event| event.dialog()).expect("a dialog")
        }
    }

    fn message(method: &str, call_id: &str) -> Arrival {
        let text = format!(
            "{method} sip:a@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK{call_id}\r\nFrom: <sip:b@h>;tag=1\r\n\
             To: <sip:a@h>\r\nCall-ID: {call_id}\r\nCSeq: 1 {method}\r\nContact: <sip:b@h>\r\n\
             Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
        );
        let call_id = peek::CallIdPlace::find(text.as_bytes());
        Arrival::Message { at: clock::now(), flow: flow(), message: Bytes::from(text), call_id }
    }

    /// A shard with two calls, the first of which is hit by a fault in `what`.
    async fn check(what: impl FnOnce(&mut Shard, DialogId)) {
        let (mut shard, _open) = shard(Arc::new(Nobody));
        let (mut own, mut other) = (Placed::by(&mut shard, "own"), Placed::by(&mut shard, "other"));
        let dialog = own.dialog().await;
        let recorder = PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || {
            shard.endpoint.trips = true;
            what(&mut shard, dialog);
        });
        assert!(!shard.endpoint.trips, "the fault came");
        let counted = recorder.handle().render();
        assert!(counted.contains("sip_shard_faults_total 1"), "{counted}");
        assert!(!own.goes_on().await, "the call it was about goes on");
        assert!(other.goes_on().await, "another call ended");
        assert_eq!(shard.endpoint.dialogs_of(b"other").len(), 1);
        assert!(shard.out.is_empty() && shard.pending.is_empty() && shard.placing.is_none());
        assert!(shard.said.is_empty() && shard.told.is_empty());
        assert!(Placed::by(&mut shard, "later").goes_on().await, "no call can be placed any more");
    }

    #[tokio::test]
    async fn a_fault_in_a_message_ends_the_call_of_its_call_id() {
        check(|shard, _| shard.take(message("OPTIONS", "own"))).await;
    }

    #[tokio::test]
    async fn a_fault_in_an_order_ends_the_call_it_is_for() {
        let cause = HangupCause::Normal;
        check(|shard, dialog| shard.obey(Order::LetGo { dialog, cause })).await;
        // One that would not end it by itself.
        let within = |dialog| Order::Command(Command::AcceptRefer { dialog });
        check(|shard, dialog| shard.obey(within(dialog))).await;
    }

    #[tokio::test]
    async fn a_fault_at_a_timer_ends_the_call_it_is_of() {
        check(|shard, _| {
            // The INVITE that went first is the first to be sent again.
            let due = shard.endpoint.deadline().unwrap();
            std::thread::sleep(due.since(clock::now()));
            shard.fire();
        })
        .await;
    }

    /// As timers of several calls that are due in one beat leave it.
    #[tokio::test]
    async fn what_was_said_to_other_calls_before_a_fault_reaches_them() {
        let (mut shard, _open) = shard(Arc::new(Nobody));
        let [mut own, mut first, mut second] =
            ["own", "first", "second"].map(|call_id| Placed::by(&mut shard, call_id));
        let dialog = own.dialog().await;
        for (call, is_said) in [(&mut first, true), (&mut second, false)] {
            let how = DialogEnd::PeerTimeout;
            let ended = Output::Event(Event::Ended { dialog: call.dialog().await, how });
            if is_said {
                shard.said.push_back(ended);
            } else {
                shard.out.push(ended);
            }
        }
        shard.endpoint.trips = true;
        shard.obey(Order::LetGo { dialog, cause: HangupCause::Normal });
        assert!(!shard.endpoint.trips, "the fault came");
        for call in [&mut own, &mut first, &mut second] {
            assert!(!call.goes_on().await, "an end was lost");
        }
    }

    #[tokio::test]
    async fn a_fault_in_what_follows_from_a_message_refuses_its_call() {
        let (mut shard, _open) = shard(Arc::new(Broken));
        let recorder = PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || {
            for call_id in ["one", "two"] {
                shard.take(message("INVITE", call_id));
                assert_eq!(shard.endpoint.dialogs_of(call_id.as_bytes()), []);
            }
        });
        let counted = recorder.handle().render();
        assert!(counted.contains("sip_shard_faults_total 2"), "{counted}");
    }

    #[tokio::test]
    async fn whoever_waits_for_the_answer_to_a_request_learns_of_a_fault() {
        let (mut shard, _open) = shard(Arc::new(Nobody));
        let (answer, mut answered) = oneshot::channel();
        let request = OutboundRequest::new(Token(0), flow(), Method::Options, "sip:192.0.2.1");
        shard.endpoint.trips = true;
        shard.obey(Order::Request { request: Box::new(request), answer });
        assert_eq!(answered.try_recv().err(), Some(oneshot::error::TryRecvError::Closed));
    }
}
