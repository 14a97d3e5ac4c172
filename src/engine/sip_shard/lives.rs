//! The lives of a shard: a fault that no turn caught ends one with its calls, and the next one begins with its queues, its
//! book of signalling and its names, unless such faults come again and again.

use crate::clock;
use crate::engine::fault_count::Faults;
use crate::engine::sip_shard::Shard;
use crate::engine::sip_shard::handle::Arrival;
use crate::engine::sip_shard::handle::Order;
#[cfg(test)]
pub(in crate::engine) use crate::engine::sip_shard::lives::tests::Node;
#[cfg(test)]
pub(in crate::engine) use crate::engine::sip_shard::lives::tests::answer;
#[cfg(test)]
pub(in crate::engine) use crate::engine::sip_shard::lives::tests::field;
use crate::sip::endpoint::Endpoint;
use crate::sip::endpoint::config::Gauges;
use crate::telemetry::metric;
use crate::telemetry::metric::Counter;
use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::sync::watch;

/// From where a shard hears, in all of its lives. What waits there when one ends is the next one's.
pub(super) struct Queues {
    pub(super) arrivals: mpsc::Receiver<Arrival>,
    pub(super) commands: mpsc::Receiver<Order>,
    /// Whether the node takes no new calls.
    pub(super) draining: watch::Receiver<bool>,
}

/// The lives of a shard. At a fault that is one too many its queues are closed, by which everybody knows that it is gone.
pub(super) async fn live(mut shard: Shard, mut queues: Queues) {
    let mut faults = Faults::default();
    while AssertUnwindSafe(shard.run(&mut queues)).catch_unwind().await.is_err() {
        metric::counter(Counter::SipShardsEnded).increment(1);
        let dialogs = shard.end_calls();
        let is_down = faults.add(clock::now());
        let next = (!is_down).then(|| shard.successor());
        forget(shard);
        let Some(next) = next else {
            tracing::error!(
                dialogs,
                "a SIP shard met faults again and again, and takes no calls before a restart"
            );
            return;
        };
        tracing::error!(dialogs, "a fault ended the calls of a SIP shard, which begins anew");
        shard = next;
    }
}

/// Drops what is left of a life. The fault may be in that, too.
fn forget(shard: Shard) {
    if catch_unwind(AssertUnwindSafe(|| drop(shard))).is_err() {
        tracing::error!("what was left of a SIP shard could not be dropped");
    }
}

impl Shard {
    /// Ends every call that a fault may have left half done: each is told so, and its peer, as far as the way to it is
    /// known. What the peer has not heard by then is the next life's to say ([`Endpoint::inherit`]). Whoever waits for
    /// the answer to a request learns that there is none when the shard is dropped. Gives how many dialogs there were.
    fn end_calls(&mut self) -> usize {
        let mut dialogs = self.endpoint.dialogs();
        let count = dialogs.len();
        // A fault may have cut off what the end of one says, of which the endpoint knows nothing any more.
        dialogs.extend(self.calls.keys().copied());
        dialogs.sort_unstable();
        dialogs.dedup();
        self.placing = None;
        self.telling = None;
        self.try_once(|shard| shard.carry_on(&mut dialogs));
        let mut ended = 0;
        while let Some(dialog) = dialogs.get(ended).copied() {
            self.try_once(|shard| shard.give_up(dialog, &mut dialogs));
            ended += 1;
        }
        // Their nonces end with this life: who comes back is challenged anew, who does not has a record now.
        self.try_once(|shard| {
            for challenged in shard.challenges.give_up_all() {
                challenged.give_up(shard);
            }
        });
        self.try_once(|shard| {
            shard.gauges.send_replace(Gauges::default());
        });
        count
    }

    /// Does a part of the aftermath; where the fault is in that, the rest goes on without it.
    fn try_once(&mut self, what: impl FnOnce(&mut Self)) {
        if catch_unwind(AssertUnwindSafe(|| what(self))).is_err() {
            metric::counter(Counter::SipShardFaults).increment(1);
        }
    }

    /// The next life, with what peers must still be told of the calls of this one.
    fn successor(&mut self) -> Self {
        let mut next = self.empty_successor();
        if catch_unwind(AssertUnwindSafe(|| next.inherit(self))).is_err() {
            metric::counter(Counter::SipShardFaults).increment(1);
            let half_taken = std::mem::replace(&mut next, self.empty_successor());
            forget(half_taken);
        }
        next
    }

    /// One that begins with nothing. Names go on where this one's end: orders for its dialogs may still come, and searches
    /// for their next hops, and must find none of the new ones.
    fn empty_successor(&self) -> Self {
        let endpoint = Endpoint::after(&self.endpoint, clock::random_u64());
        let queues = (self.handle.clone(), self.gauges.clone());
        let next_token = self.next_token;
        Self { next_token, ..Self::with(Arc::clone(&self.switch), endpoint, queues) }
    }

    /// Takes over what the life before has still to say, and the ways to whom it says that.
    fn inherit(&mut self, before: &mut Self) {
        for (old, new) in self.endpoint.inherit(&mut before.endpoint, clock::now()) {
            let (ways, trunks) = (&mut before.ways_back, &mut before.trunks);
            self.ways_back.extend(ways.remove(&old).map(|way| (new, way)));
            self.trunks.extend(trunks.remove(&old).map(|trunk| (new, trunk)));
            self.expected.extend(before.expected.remove(&old).map(|source| (new, source)));
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::call::input::Input as CallInput;
    use crate::call::input::LegInput;
    use crate::call::side::LegSide;
    use crate::cdr::CallRecord;
    use crate::cdr::CallReport;
    use crate::engine::fault_count::FAULTS_MAX;
    use crate::engine::ingress::Dispatcher;
    use crate::engine::ingress::Gate;
    use crate::engine::ingress::Stranger;
    use crate::engine::mailbox;
    use crate::engine::shards::Shards;
    use crate::engine::sip_shard;
    use crate::engine::sip_shard::CallLeg;
    use crate::engine::sip_shard::PlacedLeg;
    use crate::engine::sip_shard::ShardHandle;
    use crate::engine::switch::Ledger;
    use crate::engine::switch::Switch;
    use crate::engine::switch::SwitchListener;
    use crate::engine::switch::Written;
    use crate::engine::switch::tests::idle;
    use crate::net::connect::Destination;
    use crate::net::flow::Ingress;
    use crate::net::tcp;
    use crate::net::udp;
    use crate::net::udp::UdpListener;
    use crate::routing::contents::Contents;
    use crate::routing::table::RoutingTable;
    use crate::routing::trunk::Trunk;
    use crate::sip::endpoint::config::EndpointConfig;
    use crate::sip::endpoint::config::ListenerAddress;
    use crate::sip::endpoint::config::Timers;
    use crate::sip::endpoint::event::Command;
    use crate::sip::endpoint::event::DialogId;
    use crate::sip::endpoint::event::Event;
    use crate::sip::endpoint::flow::Flow;
    use crate::sip::endpoint::outbound::OutboundInvite;
    use crate::sip::endpoint::policy::DialogPolicy;
    use crate::sip::message::field::FieldValue;
    use crate::types::cause::HangupCause;
    use crate::types::cause::Party;
    use crate::types::id::CallId;
    use crate::types::id::TrunkId;
    use crate::types::transport::Transport;
    use arc_swap::ArcSwap;
    use bytes::Bytes;
    use metrics_exporter_prometheus::PrometheusBuilder;
    use std::net::IpAddr;
    use std::net::Ipv4Addr;
    use std::net::SocketAddr;
    use std::ops::RangeInclusive;
    use std::pin::pin;
    use std::sync::Mutex;
    use std::task::Context;
    use std::task::Wake;
    use std::task::Waker;
    use std::time::Duration;
    use tokio::io::AsyncReadExt as _;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;
    use tokio::net::TcpStream;
    use tokio::net::UdpSocket;
    use tokio::time::timeout;
    use uuid::Uuid;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    /// Far more than anything here takes, even on a machine that does much else.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// The waker of somebody whom no shard can wake.
    struct Fatal;

    impl Wake for Fatal {
        fn wake(self: Arc<Self>) {
            panic!("on purpose");
        }
    }

    #[derive(Default)]
    struct Recorded(Mutex<Vec<CallRecord>>);

    impl Ledger for Recorded {
        fn report(&self, report: CallReport) -> Written {
            self.report_later(report);
            Box::pin(std::future::ready(()))
        }

        fn report_later(&self, report: CallReport) {
            self.0.lock().unwrap().push(report.record);
        }
    }

    /// A node of one shard on this machine, and a peer of its only trunk.
    pub(in crate::engine) struct Node {
        pub(in crate::engine) switch: Arc<Switch>,
        pub(in crate::engine) peer: UdpSocket,
        shard: ShardHandle,
        trunk: Arc<Trunk>,
        recorded: Arc<Recorded>,
        listener: UdpListener,
        streams: tcp::TcpListener,
        _draining: watch::Sender<bool>,
    }

    impl Node {
        pub(in crate::engine) async fn start(ports: RangeInclusive<u16>) -> Self {
            let recorded = Arc::new(Recorded::default());
            let mut switch = idle(Arc::clone(&recorded) as Arc<dyn Ledger>, ports);
            let id = TrunkId::from_uuid(Uuid::from_u128(1));
            let trunk = Trunk::new(id, "acme", vec!["127.0.0.0/8".parse().unwrap()]);
            let contents = Contents { trunks: vec![trunk.clone()], ..Contents::default() };
            switch.table = Arc::new(ArcSwap::from_pointee(RoutingTable::new(contents)));
            switch.listeners = vec![Arc::new(SwitchListener {
                name: "public".parse().unwrap(),
                sip_host: HERE.to_string(),
                bind: HERE,
                rtp_address: HERE,
                transports: vec![Transport::Udp, Transport::Tcp],
            })];
            let switch = Arc::new(switch);
            let bound = udp::bind(SocketAddr::new(HERE, 0), 1).unwrap();
            let host = HERE.to_string();
            let config = EndpointConfig {
                seed: 1,
                product: "Tandem".to_owned(),
                listeners: vec![ListenerAddress { host, port: bound.local().port() }],
                timers: Timers::default(),
                policy: DialogPolicy::default(),
                takes_replaces: true,
            };
            let (draining_in, draining) = watch::channel(false);
            let shard = sip_shard::start(Arc::clone(&switch), config, draining);
            let shards = Shards::new(vec![shard.clone()]);
            switch.shards.set(shards.clone()).unwrap();
            let gate = Gate { name: "public".parse().unwrap(), stranger: Stranger::Silence };
            let dispatcher = Dispatcher::new(&switch, vec![gate], shards);
            let ingress: Arc<dyn Ingress> = Arc::new(dispatcher);
            switch.flows.attach(&ingress);
            let listener = bound.start(0, &switch.flows, &ingress).unwrap();
            let streams = tcp::bind(SocketAddr::new(HERE, 0)).unwrap();
            let streams = streams.start(0, &switch.flows, &ingress).unwrap();
            let peer = UdpSocket::bind((HERE, 0)).await.unwrap();
            let trunk = Arc::new(trunk);
            Self { switch, peer, shard, trunk, recorded, listener, streams, _draining: draining_in }
        }

        pub(in crate::engine) const fn shard(&self) -> &ShardHandle {
            &self.shard
        }

        /// Ends a life of the shard: it tells somebody what it holds, at the end of a turn, and cannot.
        pub(in crate::engine) async fn strike(&self) {
            let mut gauges = self.shard.gauges.clone();
            gauges.mark_unchanged();
            let mut told = pin!(gauges.changed());
            let waker = Waker::from(Arc::new(Fatal));
            assert!(told.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            // The shard's task has this thread until it waits again: when it answers, the fault is over.
            assert_eq!(self.shard.find(DialogId(u64::MAX)).await, None);
        }

        pub(in crate::engine) async fn says(&self, text: &str) {
            self.peer.send_to(text.as_bytes(), self.listener.local()).await.unwrap();
        }

        /// The next message to the peer that begins so and has this in it.
        pub(in crate::engine) async fn hears(&self, start: &str, part: &str) -> String {
            let heard = async {
                let mut buffer = [0; 4_096];
                loop {
                    let (length, _) = self.peer.recv_from(&mut buffer).await.unwrap();
                    let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                    if text.starts_with(start) && text.contains(part) {
                        return text;
                    }
                }
            };
            timeout(PATIENCE, heard).await.expect("it is heard")
        }

        /// Calls the peer, which gets the INVITE.
        async fn calls(&self, call_id: &str) -> Called {
            let flow = self.listener.flow_to(self.peer.local_addr().unwrap());
            let (dialog, events) = self.places(flow, call_id).await;
            let invite = self.hears("INVITE", call_id).await;
            Called { dialog, events, invite }
        }

        /// Places a call that goes by `flow`.
        async fn places(&self, flow: Flow, call_id: &str) -> (DialogId, mailbox::Receiver<Event>) {
            let to = flow.remote;
            let mut invite = OutboundInvite::new(flow, &format!("sip:b@{to}"), "sip:a@127.0.0.1");
            invite.call_id = FieldValue::new(call_id).ok();
            let (events_in, mut events) = mailbox::bounded(8);
            let call = CallId::from_uuid(clock::new_uuid());
            let leg = PlacedLeg { call, secret_headers: Arc::default(), trunk: None };
            self.shard.place(leg, Box::new(invite), events_in).await;
            let dialog = events.recv().await.and_then(|event| event.dialog()).expect("a dialog");
            (dialog, events)
        }

        /// A request of the peer.
        async fn asks(&self, method: &str, call_id: &str, to_tag: &str) {
            let at = self.peer.local_addr().unwrap();
            self.says(&request(("UDP", at), method, call_id, to_tag)).await;
        }
    }

    /// A connection of the peer, and what of it nobody read yet.
    struct Stream {
        socket: TcpStream,
        unread: String,
    }

    impl Stream {
        const fn of(socket: TcpStream) -> Self {
            Self { socket, unread: String::new() }
        }

        fn at(&self) -> SocketAddr {
            self.socket.local_addr().unwrap()
        }

        async fn says(&mut self, text: &str) {
            self.socket.write_all(text.as_bytes()).await.unwrap();
        }

        /// The next message that begins so and has this in it; none here has a body.
        async fn hears(&mut self, start: &str, part: &str) -> String {
            let heard = async {
                let mut buffer = [0; 4_096];
                loop {
                    while let Some(end) = self.unread.find("\r\n\r\n") {
                        let rest = self.unread.split_off(end + 4);
                        let message = std::mem::replace(&mut self.unread, rest);
                        if message.trim_start().starts_with(start) && message.contains(part) {
                            return message;
                        }
                    }
                    let length = self.socket.read(&mut buffer).await.unwrap();
                    assert_ne!(length, 0, "the connection was closed");
                    self.unread.push_str(&String::from_utf8_lossy(&buffer[..length]));
                }
            };
            timeout(PATIENCE, heard).await.expect("it is heard")
        }
    }

    /// A request of a peer that is there.
    fn request(
        (transport, at): (&str, SocketAddr),
        method: &str,
        call_id: &str,
        to_tag: &str,
    ) -> String {
        format!(
            "{method} sip:+15550100@127.0.0.1 SIP/2.0\r\n\
             Via: SIP/2.0/{transport} {at};branch=z9hG4bK{call_id}{method}\r\n\
             From: <sip:b@127.0.0.1>;tag=1\r\nTo: <sip:+15550100@127.0.0.1>{to_tag}\r\n\
             Call-ID: {call_id}\r\nCSeq: 7 {method}\r\nContact: <sip:b@{at}>\r\n\
             Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
        )
    }

    /// A call of ours.
    struct Called {
        dialog: DialogId,
        events: mailbox::Receiver<Event>,
        invite: String,
    }

    impl Called {
        /// Waits for its answer; false where there is none, since nobody tells of it any more.
        async fn is_answered(&mut self) -> bool {
            self.hears_of(|event| matches!(event, Event::Answered { .. })).await
        }

        /// Waits for such news; false where there are none.
        async fn hears_of(&mut self, is_it: impl Fn(&Event) -> bool) -> bool {
            let told = async {
                loop {
                    match self.events.recv().await {
                        Some(event) if is_it(&event) => return true,
                        Some(_) => (),
                        None => return false,
                    }
                }
            };
            timeout(PATIENCE, told).await.expect("it is told")
        }
    }

    /// The value of a header of a message.
    pub(in crate::engine) fn field<'m>(message: &'m str, name: &str) -> &'m str {
        let value = |line: &'m str| line.strip_prefix(name)?.strip_prefix(": ");
        message.lines().find_map(value).unwrap_or_else(|| panic!("no {name} in {message}"))
    }

    /// What the peer answers to a request of ours.
    pub(in crate::engine) fn answer(request: &str, status: &str, contact: SocketAddr) -> String {
        let [via, from, to, call_id, cseq] =
            ["Via", "From", "To", "Call-ID", "CSeq"].map(|name| field(request, name));
        format!(
            "SIP/2.0 {status}\r\nVia: {via}\r\nFrom: {from}\r\nTo: {to};tag=2\r\nCall-ID: {call_id}\r\n\
             CSeq: {cseq}\r\nContact: <sip:b@{contact}>\r\nContent-Length: 0\r\n\r\n"
        )
    }

    #[tokio::test]
    async fn a_fault_of_a_shard_ends_its_calls_and_late_orders_for_them_reach_no_new_one() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let _counting = metrics::set_default_local_recorder(&recorder);
        let node = Node::start(21_342..=21_345).await;
        let at = node.peer.local_addr().unwrap();
        let mut before = node.calls("call-before").await;
        node.says(&answer(&before.invite, "200 OK", at)).await;
        assert!(before.is_answered().await);
        // Of a leg whose call keeps its queue open by itself.
        let (call, mut inputs) = mailbox::bounded(8);
        let (side, turn, trunk) = (LegSide::Near, 0, Arc::clone(&node.trunk));
        let leg = CallLeg { call: call.clone(), side, turn, trunk };
        assert!(node.shard.take_over(before.dialog, leg, Bytes::new()).await.is_some());

        node.strike().await;
        assert!(node.shard.is_running());
        assert!(!before.is_answered().await, "nobody tells of it any more");
        let ended = timeout(PATIENCE, inputs.recv()).await.expect("it is told");
        let Some(CallInput::LegOf { input: LegInput::Ended { cause, by }, .. }) = ended else {
            panic!("{ended:?}")
        };
        assert_eq!((cause, by), (HangupCause::SwitchFault, Party::Switch));
        node.hears("BYE", "call-before").await;
        // Of what it had nothing is known any more; what is new is taken.
        node.asks("BYE", "call-before", ";tag=x").await;
        node.hears("SIP/2.0 481", "call-before").await;
        node.asks("INVITE", "call-in", "").await;
        node.hears("SIP/2.0 100", "call-in").await;

        let mut after = node.calls("call-after").await;
        assert_ne!(after.dialog, before.dialog);
        let (dialog, cause) = (before.dialog, HangupCause::Normal);
        node.shard.command(Command::Hangup { dialog, cause }).await;
        node.shard.let_go(dialog, cause).await;
        assert_eq!(node.shard.find(dialog).await, None);
        node.says(&answer(&after.invite, "200 OK", at)).await;
        assert!(after.is_answered().await, "it was hung up by what was for another");
        node.shard.command(Command::Hangup { dialog: after.dialog, cause }).await;
        node.hears("BYE", "call-after").await;
        let counted = recorder.handle().render();
        assert!(counted.contains("sip_shards_ended_total 1"), "{counted}");
        assert!(!counted.contains("sip_shard_faults_total"), "{counted}");
    }

    #[tokio::test]
    async fn who_is_rung_when_a_shard_meets_a_fault_is_hung_up_by_its_next_life() {
        let node = Node::start(21_358..=21_361).await;
        let at = node.peer.local_addr().unwrap();
        let silent = node.calls("call-silent").await;
        let late = node.calls("call-late").await;
        node.strike().await;
        node.says(&answer(&silent.invite, "100 Trying", at)).await;
        node.hears("CANCEL", "call-silent").await;
        node.says(&answer(&late.invite, "200 OK", at)).await;
        node.hears("ACK", "call-late").await;
        node.hears("BYE", "call-late").await;
        // Nobody has answered that, and it is said in each life that follows.
        node.strike().await;
        let bye = node.hears("BYE", "call-late").await;
        node.says(&answer(&bye, "200 OK", at)).await;
        node.says(&answer(&late.invite, "200 OK", at)).await;
        node.hears("ACK", "call-late").await;
    }

    #[tokio::test]
    async fn connections_go_on_when_a_shard_meets_a_fault() {
        let node = Node::start(21_362..=21_365).await;
        // One of the peer's, and one of ours.
        let theirs = TcpStream::connect(node.streams.local()).await.unwrap();
        let mut theirs = Stream::of(theirs);
        let door = TcpListener::bind((HERE, 0)).await.unwrap();
        let to = Destination::plain(Transport::Tcp, door.local_addr().unwrap(), 0);
        let flow = node.switch.flows.connect(&to).unwrap();
        let (dialog, events) = node.places(flow, "call-answered").await;
        let (socket, _) = timeout(PATIENCE, door.accept()).await.unwrap().unwrap();
        let mut ours = Stream::of(socket);
        let at = ours.at();
        let invite = ours.hears("INVITE", "call-answered").await;
        let mut answered = Called { dialog, events, invite };
        ours.says(&answer(&answered.invite, "200 OK", at)).await;
        assert!(answered.is_answered().await);
        let (_, _silent) = node.places(flow, "call-silent").await;
        let silent = ours.hears("INVITE", "call-silent").await;
        let (dialog, events) = node.places(flow, "call-rings").await;
        let invite = ours.hears("INVITE", "call-rings").await;
        let mut rings = Called { dialog, events, invite };
        ours.says(&answer(&rings.invite, "180 Ringing", at)).await;
        assert!(rings.hears_of(|event| matches!(event, Event::Progressed { .. })).await);
        theirs.says(&request(("TCP", theirs.at()), "INVITE", "call-in-one", "")).await;
        theirs.hears("SIP/2.0 100", "call-in-one").await;

        node.strike().await;
        ours.hears("BYE", "call-answered").await;
        ours.hears("CANCEL", "call-rings").await;
        ours.says(&answer(&silent, "200 OK", at)).await;
        ours.hears("ACK", "call-silent").await;
        ours.hears("BYE", "call-silent").await;
        theirs.says(&request(("TCP", theirs.at()), "INVITE", "call-in-two", "")).await;
        theirs.hears("SIP/2.0 100", "call-in-two").await;

        // A new call goes by the same one, and learns of its end.
        let (dialog, events) = node.places(flow, "call-next").await;
        let invite = ours.hears("INVITE", "call-next").await;
        let mut next = Called { dialog, events, invite };
        drop((ours, theirs));
        assert!(next.hears_of(|event| matches!(event, Event::Refused { status: 503, .. })).await);
        let theirs = TcpStream::connect(node.streams.local()).await.unwrap();
        let mut theirs = Stream::of(theirs);
        theirs.says(&request(("TCP", theirs.at()), "INVITE", "call-in-three", "")).await;
        theirs.hears("SIP/2.0 100", "call-in-three").await;
    }

    #[tokio::test]
    async fn a_shard_that_meets_faults_again_and_again_stays_down_and_new_calls_get_503() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let _counting = metrics::set_default_local_recorder(&recorder);
        let node = Node::start(21_346..=21_349).await;
        let (mut faults, mut named) = (0, Vec::new());
        // A machine on which four of them take longer than a minute needs some more.
        while node.shard.is_running() && faults < 16 {
            let mut call = node.calls(&format!("call-{faults}-")).await;
            assert!(!named.contains(&call.dialog), "{:?} is one of {named:?}", call.dialog);
            named.push(call.dialog);
            node.strike().await;
            faults += 1;
            assert!(!call.is_answered().await);
            assert_eq!(node.shard.gauges().dialogs, 0);
        }
        assert!(!node.shard.is_running() && faults >= FAULTS_MAX, "{faults}");
        assert!(node.shard.is_crowded() && node.switch.new_call_id().is_none());
        let counted = recorder.handle().render();
        assert!(counted.contains(&format!("sip_shards_ended_total {faults}")), "{counted}");
        // Nobody waits for one that is down.
        node.shard.command(Command::AcceptRefer { dialog: DialogId(0) }).await;
        node.asks("INVITE", "call-in", "").await;
        node.hears("SIP/2.0 503", "call-in").await;
        // Who has not heard that its call is over learns it from the answer to what it says.
        node.asks("BYE", "call-0-", ";tag=x").await;
        node.hears("SIP/2.0 481", "CSeq: 7 BYE").await;
        // What has no answer is dropped, and that alone is counted so.
        node.asks("ACK", "call-0-", ";tag=x").await;
        node.asks("OPTIONS", "call-probe", "").await;
        node.hears("SIP/2.0 503", "CSeq: 7 OPTIONS").await;
        let counted = recorder.handle().render();
        let dropped = "sip_messages_dropped_total{why=\"shard_gone\"} 1";
        assert!(counted.contains(dropped), "{counted}");
        let records = node.recorded.0.lock().unwrap();
        let record = records.last().expect("a record");
        assert_eq!((record.status, record.cause), (Some(503), Some(HangupCause::Overload)));
        let decision = record.decision.to_string();
        assert!(
            decision.contains("its SIP shard is down after faults of ours again and again"),
            "{decision}"
        );
    }
}
