//! The sending ends of a shard's queues, and what goes through them.

use crate::clock;
use crate::engine::mailbox;
use crate::engine::sip_shard::CallLeg;
use crate::engine::sip_shard::searches::Found;
use crate::engine::trace::ShardTrace;
use crate::engine::trace::TraceLimits;
use crate::routing::trunk::Trunk;
use crate::sip::endpoint::config::Gauges;
use crate::sip::endpoint::event::Command;
use crate::sip::endpoint::event::DialogId;
use crate::sip::endpoint::event::Event;
use crate::sip::endpoint::flow::Flow;
use crate::sip::endpoint::flow::FlowId;
use crate::sip::endpoint::outbound::OutboundInvite;
use crate::sip::endpoint::outbound::OutboundRequest;
use crate::sip::endpoint::told::DialogName;
use crate::sip::endpoint::told::RequestAnswer;
use crate::sip::message::peek::CallIdPlace;
use crate::sip::transaction::key::ClientKey;
use crate::types::cause::HangupCause;
use crate::types::id::CallId;
use crate::types::limit::SIP_SHARD_QUEUE_HIGH;
use crate::types::limit::SIP_SHARD_QUEUE_MAX;
use crate::types::moment::Moment;
use bytes::Bytes;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;
use tokio::sync::watch;

/// Commands that wait for a shard; call tasks wait when it is full.
pub(super) const COMMANDS_MAX: usize = 1024;

/// How often a request outside dialogs is placed at most: again where a fault of ours cut it off, which says nothing of
/// whom it is for.
pub(in crate::engine) const REQUEST_TRIES_MAX: usize = 2;

/// How much longer than its patience a request outside dialogs is waited for: the shard, which keeps to that, does not turn. It
/// is known by then that it hangs.
const REQUEST_SLACK: Duration = Duration::from_secs(3);

/// What reaches a shard from the sockets.
#[derive(Debug)]
pub(super) enum Arrival {
    Message { at: Moment, flow: Flow, message: Bytes, call_id: CallIdPlace },
    FlowClosed(FlowId),
    Unreached { remote: SocketAddr, key: ClientKey },
}

/// What a shard is told to do.
#[derive(Debug)]
pub(super) enum Order {
    /// Within a dialog.
    Command(Command),
    /// Place a call of ours, a leg of `call`; what happens to it goes to `events`.
    Place { leg: PlacedLeg, invite: Box<OutboundInvite>, events: mailbox::Sender<Event> },
    /// Answer a dialog that a call takes in place of another of its legs: it is that leg from now on. Told
    /// what names it; `None`: its peer has given it up.
    TakeOver {
        dialog: DialogId,
        leg: CallLeg,
        body: Bytes,
        taken: oneshot::Sender<Option<DialogName>>,
    },
    /// Tell where the peer of a dialog is reached.
    Find { dialog: DialogId, found: oneshot::Sender<Option<String>> },
    /// Hang a dialog up of which its call hears nothing more.
    LetGo { dialog: DialogId, cause: HangupCause },
    /// Take what a search for a next hop came to.
    Found(Box<Found>),
    /// Nothing: that it turns is enough.
    Turn,
    /// Send a request outside dialogs.
    Request { request: Box<OutboundRequest>, answer: oneshot::Sender<RequestAnswer> },
}

/// What a leg that we call is to those who look at its signalling.
#[derive(Debug)]
pub(in crate::engine) struct PlacedLeg {
    /// Its call.
    pub(in crate::engine) call: CallId,
    /// Names of its headers whose values are secrets.
    pub(in crate::engine) secret_headers: Arc<[Box<str>]>,
    /// By which it goes, where it goes by one.
    pub(in crate::engine) trunk: Option<Arc<Trunk>>,
}

/// The sending ends of a shard's queues.
#[derive(Clone, Debug)]
pub struct ShardHandle {
    pub(super) arrivals: mpsc::Sender<Arrival>,
    pub(super) commands: mpsc::Sender<Order>,
    pub(super) gauges: watch::Receiver<Gauges>,
    pub(super) trace: ShardTrace,
    pulse: Arc<Pulse>,
}

/// By which it is seen that a shard runs, in all of its lives.
#[derive(Debug, Default)]
struct Pulse {
    /// Those that it has made.
    turns: AtomicU64,
    /// Whether it has made none for too long.
    is_hung: AtomicBool,
}

/// The shard is down or its queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the shard's queue is full")]
pub struct ShardFull;

/// What a shard is told, instead of one.
#[cfg(test)]
pub(in crate::engine) struct Overheard {
    orders: mpsc::Receiver<Order>,
    _kept: (mpsc::Receiver<Arrival>, watch::Sender<Gauges>),
}

#[cfg(test)]
impl Overheard {
    /// The next command within a dialog.
    pub(in crate::engine) async fn next(&mut self) -> Option<Command> {
        match self.orders.recv().await? {
            Order::Command(command) => Some(command),
            Order::Place { .. }
            | Order::Request { .. }
            | Order::TakeOver { .. }
            | Order::Find { .. }
            | Order::LetGo { .. }
            | Order::Turn
            | Order::Found(_) => None,
        }
    }
}

impl ShardHandle {
    /// One by which these queues are reached.
    pub(super) fn new(
        (arrivals, commands): (mpsc::Sender<Arrival>, mpsc::Sender<Order>),
        gauges: watch::Receiver<Gauges>,
        trace: TraceLimits,
    ) -> Self {
        let (trace, pulse) = (ShardTrace::new(trace), Arc::default());
        Self { arrivals, commands, gauges, trace, pulse }
    }

    /// Hands a message to the shard, with the place of the Call-ID by which that was chosen.
    ///
    /// # Errors
    /// [`ShardFull`]: the message was not taken.
    pub fn receive(
        &self,
        flow: Flow,
        message: Bytes,
        call_id: CallIdPlace,
    ) -> Result<(), ShardFull> {
        let arrival = Arrival::Message { at: clock::now(), flow, message, call_id };
        self.arrivals.try_send(arrival).map_err(|_| ShardFull)
    }

    /// Tells the shard that a stream connection is gone.
    pub fn flow_closed(&self, flow: FlowId) {
        // A full queue loses this; the flow's transactions then end by their own timers.
        drop(self.arrivals.try_send(Arrival::FlowClosed(flow)));
    }

    /// Tells the shard that a request, if it is one of its own, did not arrive. Anybody may say so, without an
    /// address of its own: that alone never fills the queue up to the mark from which calls are turned away.
    ///
    /// # Errors
    /// [`ShardFull`]: it is not told; the request then ends by its own timer.
    pub fn unreached(&self, remote: SocketAddr, key: ClientKey) -> Result<(), ShardFull> {
        if self.queued() > SIP_SHARD_QUEUE_HIGH / 2 {
            return Err(ShardFull);
        }
        self.arrivals.try_send(Arrival::Unreached { remote, key }).map_err(|_| ShardFull)
    }

    /// False once the shard is down, after faults again and again: nobody serves its share of the calls any more. One that
    /// begins anew after a fault runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        !self.arrivals.is_closed()
    }

    /// True while the shard, which runs, has done nothing for some seconds.
    #[must_use]
    pub fn is_hung(&self) -> bool {
        self.pulse.is_hung.load(Ordering::Relaxed)
    }

    /// False where nobody serves the shard's share of the calls: it is down, or hangs.
    #[must_use]
    pub fn serves(&self) -> bool {
        self.is_running() && !self.is_hung()
    }

    /// Has everybody know whether the shard hangs. Gives what they knew before.
    pub(in crate::engine) fn set_hung(&self, is_hung: bool) -> bool {
        self.pulse.is_hung.swap(is_hung, Ordering::Relaxed)
    }

    /// How many turns the shard has made.
    pub(in crate::engine) fn turns(&self) -> u64 {
        self.pulse.turns.load(Ordering::Relaxed)
    }

    /// One more turn is made, or a life begins.
    pub(in crate::engine) fn note_turn(&self) {
        self.pulse.turns.fetch_add(1, Ordering::Relaxed);
    }

    /// Has the shard turn soon, if it can.
    pub(in crate::engine) fn ask_to_turn(&self) {
        // One whose queue is full has enough to do.
        drop(self.commands.try_send(Order::Turn));
    }

    /// True where new calls are answered 503 without state: above the mark of its queue, and where the shard is down
    /// or hangs.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        !self.serves() || self.queued() > SIP_SHARD_QUEUE_HIGH
    }

    /// Messages that wait for the shard.
    #[must_use]
    pub fn queued(&self) -> usize {
        SIP_SHARD_QUEUE_MAX.saturating_sub(self.arrivals.capacity())
    }

    /// A shard that takes nothing out of its queue, which has so many messages in it or is full, with the ends that
    /// keep its queues open.
    #[cfg(test)]
    pub(in crate::engine) fn clogged(most: usize) -> (Self, impl Sized) {
        let (arrivals, kept) = mpsc::channel(SIP_SHARD_QUEUE_MAX);
        let (commands, kept_too) = mpsc::channel(1);
        let (gauges_in, gauges) = watch::channel(Gauges::default());
        let handle = Self::new((arrivals, commands), gauges, TraceLimits::NONE);
        while handle.queued() < most
            && handle.arrivals.try_send(Arrival::FlowClosed(FlowId(0))).is_ok()
        {}
        (handle, (kept, kept_too, gauges_in))
    }

    /// A shard whose queue is emptied by hand, with what does that.
    #[cfg(test)]
    pub(in crate::engine) fn by_hand() -> (Self, impl FnMut(usize) -> usize) {
        let (arrivals, mut queue) = mpsc::channel(SIP_SHARD_QUEUE_MAX);
        let (commands, kept) = mpsc::channel(1);
        let (gauges_in, gauges) = watch::channel(Gauges::default());
        let handle = Self::new((arrivals, commands), gauges, TraceLimits::NONE);
        let take = move |most: usize| {
            let _open = (&kept, &gauges_in);
            (0..most).take_while(|_| queue.try_recv().is_ok()).count()
        };
        (handle, take)
    }

    /// A shard of which only the commands are looked at, with what keeps its queues open.
    #[cfg(test)]
    pub(in crate::engine) fn overheard() -> (Self, Overheard) {
        let (arrivals, kept) = mpsc::channel(1);
        let (commands, orders) = mpsc::channel(COMMANDS_MAX);
        let (gauges_in, gauges) = watch::channel(Gauges::default());
        let handle = Self::new((arrivals, commands), gauges, TraceLimits::NONE);
        (handle, Overheard { orders, _kept: (kept, gauges_in) })
    }

    /// Gives the shard a command of a call; waits while its queue is full.
    pub async fn command(&self, command: Command) {
        // A shard that is down took its dialogs with it; to one that began anew they are unknown.
        drop(self.commands.send(Order::Command(command)).await);
    }

    /// The same without waiting: gives the command back where the queue is full.
    pub(in crate::engine) fn command_at_once(&self, command: Command) -> Option<Command> {
        match self.commands.try_send(Order::Command(command)) {
            Err(TrySendError::Full(Order::Command(command))) => Some(command),
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Closed(_)) => None,
        }
    }

    /// Answers a dialog that is this leg of a call from now on, and gives what names it; `None` when its
    /// peer has given it up.
    pub(in crate::engine) async fn take_over(
        &self,
        dialog: DialogId,
        leg: CallLeg,
        body: Bytes,
    ) -> Option<DialogName> {
        let (taken, answer) = oneshot::channel();
        self.commands.send(Order::TakeOver { dialog, leg, body, taken }).await.ok()?;
        answer.await.ok()?
    }

    /// The address at which the peer of a dialog is reached; `None` once that is over.
    pub(in crate::engine) async fn find(&self, dialog: DialogId) -> Option<String> {
        let (found, answer) = oneshot::channel();
        self.commands.send(Order::Find { dialog, found }).await.ok()?;
        answer.await.ok()?
    }

    /// Hangs a dialog up; its call hears nothing more of it.
    pub(in crate::engine) async fn let_go(&self, dialog: DialogId, cause: HangupCause) {
        drop(self.commands.send(Order::LetGo { dialog, cause }).await);
    }

    /// Places a call of ours. What happens to it goes to `events`; when nobody takes
    /// that any more, the leg is hung up.
    pub(in crate::engine) async fn place(
        &self,
        leg: PlacedLeg,
        invite: Box<OutboundInvite>,
        events: mailbox::Sender<Event>,
    ) {
        drop(self.commands.send(Order::Place { leg, invite, events }).await);
    }

    /// Sends a request outside dialogs and waits for what becomes of it; `None` when the shard is down, met a fault meanwhile, or
    /// hangs: a fault of ours, which says nothing of whom the request is for.
    pub(in crate::engine) async fn request(
        &self,
        request: Box<OutboundRequest>,
    ) -> Option<RequestAnswer> {
        let limit = request.patience.saturating_add(REQUEST_SLACK);
        self.request_within(limit, request).await
    }

    async fn request_within(
        &self,
        limit: Duration,
        request: Box<OutboundRequest>,
    ) -> Option<RequestAnswer> {
        let (answer, answered) = oneshot::channel();
        let asking = async {
            self.commands.send(Order::Request { request, answer }).await.ok()?;
            answered.await.ok()
        };
        tokio::time::timeout(limit, asking).await.ok()?
    }

    /// Tells what a search came to.
    pub(in crate::engine) async fn found(&self, found: Box<Found>) {
        // Of no use to a shard that is down.
        drop(self.commands.send(Order::Found(found)).await);
    }

    pub(in crate::engine) const fn trace(&self) -> &ShardTrace {
        &self.trace
    }

    /// Forgets the signalling that has outlived its time, which else the next message does. Returns of how many dialogs
    /// it is kept.
    #[must_use]
    pub fn forget_outlived_traces(&self) -> usize {
        self.trace.forget_outlived(clock::now())
    }

    /// What the shard held at its last turn.
    #[must_use]
    pub fn gauges(&self) -> Gauges {
        *self.gauges.borrow()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::shards::Shards;
    use crate::sip::endpoint::event::Token;
    use crate::sip::message::method::Method;
    use crate::sip::message::peek::call_id_of;
    use crate::types::transport::Transport;
    use std::collections::HashMap;

    fn listening() -> (ShardHandle, mpsc::Receiver<Arrival>, impl Sized) {
        let (arrivals, heard) = mpsc::channel(SIP_SHARD_QUEUE_MAX);
        let (commands, kept) = mpsc::channel(1);
        let (gauges_in, gauges) = watch::channel(Gauges::default());
        let handle = ShardHandle::new((arrivals, commands), gauges, TraceLimits::NONE);
        (handle, heard, (kept, gauges_in))
    }

    /// It met faults again and again: the node is not ready from then on, and the rest of its calls go on until it is
    /// restarted.
    #[test]
    fn a_shard_whose_task_is_over_is_known_and_takes_nothing() {
        let (handle, heard, _kept) = listening();
        let flow = Flow {
            id: FlowId(1),
            listener: 0,
            transport: Transport::Udp,
            local: "192.0.2.250:5060".parse().unwrap(),
            remote: "192.0.2.1:5060".parse().unwrap(),
        };
        let message = || Bytes::from_static(b"OPTIONS sip:a@h SIP/2.0\r\nCall-ID: x\r\n\r\n");
        assert!(handle.is_running() && !handle.is_crowded());
        let call_id = CallIdPlace::find(&message());
        assert!(handle.receive(flow, message(), call_id).is_ok());
        drop(heard);
        assert!(!handle.is_running() && handle.is_crowded());
        assert!(handle.receive(flow, message(), call_id).is_err());
    }

    #[test]
    fn a_command_waits_for_room_and_not_for_who_is_gone() {
        let (commands, mut queue) = mpsc::channel(1);
        let (handle, _heard, _kept) = listening();
        let handle = ShardHandle { commands, ..handle };
        let give = |number| {
            let (dialog, cause) = (DialogId(number), HangupCause::Normal);
            handle.command_at_once(Command::Hangup { dialog, cause })
        };
        assert!(give(1).is_none());
        assert!(matches!(give(2), Some(Command::Hangup { dialog: DialogId(2), .. })));
        let taken = queue.try_recv();
        assert!(matches!(taken, Ok(Order::Command(Command::Hangup { dialog: DialogId(1), .. }))));
        assert!(give(2).is_none() && give(3).is_some());
        drop(queue);
        assert!(give(3).is_none());
    }

    /// A REGISTER goes on by another shard then, and is not waited for until the next start.
    #[tokio::test]
    async fn a_request_is_given_up_where_the_shard_that_has_it_never_turns() {
        let (handle, _kept) = ShardHandle::clogged(0);
        let flow = Flow {
            id: FlowId(1),
            listener: 0,
            transport: Transport::Udp,
            local: "192.0.2.250:5060".parse().unwrap(),
            remote: "192.0.2.1:5060".parse().unwrap(),
        };
        let request = || {
            let request = OutboundRequest::new(Token(0), flow, Method::Options, "sip:b@192.0.2.1");
            Box::new(OutboundRequest { patience: Duration::ZERO, ..request })
        };
        let soon = Duration::from_millis(1);
        let given_up = async {
            let first = handle.request_within(soon, request()).await;
            assert!(first.is_none() && handle.commands.capacity() == 0, "nobody takes it");
            assert!(handle.request_within(soon, request()).await.is_none(), "nor has room for it");
            assert!(handle.request(request()).await.is_none(), "after its patience and some more");
        };
        tokio::time::timeout(Duration::from_secs(60), given_up).await.expect("it is given up");
    }

    /// A CANCEL that overtakes its INVITE is answered 481, and the callee rings on.
    #[test]
    fn messages_of_one_call_keep_their_order() {
        let (mut handles, mut queues, mut kept) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..4 {
            let (handle, heard, more) = listening();
            handles.push(handle);
            queues.push(heard);
            kept.push(more);
        }
        let shards = Shards::new(handles);
        let steps = ["INVITE", "CANCEL", "ACK", "BYE"];
        for (step, method) in steps.into_iter().enumerate() {
            for call in 0..100 {
                // Each by another socket: a carrier may move within a call.
                let flow = Flow {
                    id: FlowId(step as u64),
                    listener: 0,
                    transport: Transport::Udp,
                    local: "192.0.2.250:5060".parse().unwrap(),
                    remote: "192.0.2.1:5060".parse().unwrap(),
                };
                let text = format!("{method} sip:a@h SIP/2.0\r\nCall-ID: call-{call}\r\n\r\n");
                let message = Bytes::from(text);
                let call_id = CallIdPlace::find(&message);
                let shard = shards.of_call_id(call_id.of(&message).unwrap()).unwrap();
                shard.receive(flow, message, call_id).unwrap();
            }
        }
        let mut seen = HashMap::<Vec<u8>, Vec<String>>::new();
        let mut used = 0;
        for queue in &mut queues {
            let before = seen.len();
            while let Ok(arrival) = queue.try_recv() {
                let Arrival::Message { message, call_id, .. } = arrival else {
                    panic!("{arrival:?}")
                };
                assert_eq!(call_id.of(&message), call_id_of(&message));
                let text = String::from_utf8(message.to_vec()).unwrap();
                let method = text.split(' ').next().unwrap().to_owned();
                seen.entry(call_id_of(&message).unwrap().to_vec()).or_default().push(method);
            }
            used += usize::from(seen.len() > before);
        }
        assert_eq!(seen.len(), 100);
        assert!(used > 1, "one shard has them all");
        // One that came to two shards, or in disorder, reads otherwise.
        for methods in seen.values() {
            assert_eq!(*methods, steps);
        }
    }
}
