//! What the sockets received goes to its shard; strangers and floods end here, before any parse.

use crate::clock;
use crate::engine::let_in::InviteName;
use crate::engine::let_in::LetIn;
use crate::engine::registry::Registry;
use crate::engine::shards::Shards;
use crate::engine::sip_shard::ShardHandle;
use crate::engine::switch::Ledger;
use crate::engine::switch::Switch;
use crate::engine::turned_away;
use crate::engine::turned_away::DeclinedSample;
use crate::engine::turned_away::NoRoom;
use crate::engine::turned_away::ShedSample;
use crate::engine::turned_away::StrangerSample;
use crate::net::end::FlowEnd;
use crate::net::flow::Flows;
use crate::net::flow::Ingress;
use crate::routing::identify::knows_source;
use crate::routing::identify::wants_proof;
use crate::routing::source_rate::SourceRates;
use crate::routing::table::RoutingTable;
use crate::sip::endpoint::flow::Flow;
use crate::sip::endpoint::flow::FlowId;
use crate::sip::endpoint::told::Declined;
use crate::sip::framing::FramingError;
use crate::sip::message::peek;
use crate::sip::message::peek::CallIdPlace;
use crate::sip::message::peek::FirstLine;
use crate::sip::message::reply;
use crate::sip::scanner;
use crate::sip::transaction::key::ClientKey;
use crate::telemetry::metric;
use crate::telemetry::metric::Counter;
use crate::types::cause::HangupCause;
use crate::types::limit::SIP_TURNED_AWAY_MAX;
use crate::types::name::ListenerName;
use crate::types::transport::Transport;
use arc_swap::ArcSwap;
use bytes::Bytes;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

/// What becomes of messages from sources no trunk knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stranger {
    /// Nothing is sent.
    Silence,
    /// 403 to each request but ACK.
    Refuse,
}

/// A listener as the gate sees it.
#[derive(Clone, Debug)]
pub struct Gate {
    /// Its name.
    pub name: ListenerName,
    /// What strangers get.
    pub stranger: Stranger,
}

/// Hands messages to the shards.
pub struct Dispatcher {
    table: Arc<ArcSwap<RoutingTable>>,
    gates: Vec<Gate>,
    shards: Shards,
    flows: Flows,
    registry: Arc<Registry>,
    ledger: Arc<dyn Ledger>,
    let_in: LetIn,
    /// The INVITEs that were told to go elsewhere.
    turned_away: LetIn,
    rates: Mutex<SourceRates>,
    strangers: Mutex<StrangerSample>,
    shed: Mutex<ShedSample>,
    unframed: Mutex<DeclinedSample>,
    unsecured: Mutex<ShedSample>,
}

impl Dispatcher {
    /// A dispatcher over `shards`; `gates` are the listeners by their index in flows.
    #[must_use]
    pub fn new(switch: &Switch, gates: Vec<Gate>, shards: Shards) -> Self {
        Self {
            table: Arc::clone(&switch.table),
            gates,
            shards,
            flows: switch.flows.clone(),
            registry: Arc::clone(&switch.registry),
            ledger: Arc::clone(&switch.ledger),
            let_in: LetIn::default(),
            turned_away: LetIn::with_places(SIP_TURNED_AWAY_MAX),
            rates: Mutex::default(),
            strangers: Mutex::default(),
            shed: Mutex::default(),
            unframed: Mutex::default(),
            unsecured: Mutex::default(),
        }
    }

    fn knows(&self, listener: u16, source: IpAddr, transport: Transport) -> bool {
        let gate = self.gates.get(usize::from(listener));
        gate.is_some_and(|gate| knows_source(&self.table.load(), &gate.name, source, transport))
    }

    /// True where datagrams of ours may be under way to: a source that some listener knows, or one of calls.
    fn expects(&self, remote: IpAddr) -> bool {
        let table = self.table.load();
        let mut gates = self.gates.iter();
        gates.any(|gate| knows_source(&table, &gate.name, remote, Transport::Udp))
            || self.registry.has_calls_from(clock::now(), remote)
    }

    /// A source no trunk lists.
    fn turn_away(&self, flow: Flow, message: &Bytes) {
        metric::counter(Counter::SipRequestsUnknownSource).increment(1);
        let Some(gate) = self.gates.get(usize::from(flow.listener)) else { return };
        if let Some(signature) = scanner::signature_of(message) {
            metric::labelled(Counter::SipScanners, signature).increment(1);
        }
        let answer = self.answer_stranger(gate, &flow, message);
        let answered = answer.is_some();
        if let Some(answer) = answer {
            self.send(&flow, answer);
        }
        if peek::first_line(message) != FirstLine::Invite {
            return;
        }
        let mut sample = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = sample.take(clock::now(), flow.remote.ip());
        drop(sample);
        if let Some(left_out) = taken {
            let ledger = self.ledger.as_ref();
            let of = (flow, message);
            turned_away::record_stranger(ledger, &gate.name, of, left_out, answered);
        }
    }

    /// The 403 of a listener that gives one. None to who asks too often; and none over UDP that is
    /// longer than what came, since the address it would go to may be forged.
    fn answer_stranger(&self, gate: &Gate, flow: &Flow, message: &Bytes) -> Option<Bytes> {
        if gate.stranger == Stranger::Silence {
            return None;
        }
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        if !rates.take(clock::now(), flow.remote.ip()) {
            return None;
        }
        drop(rates);
        let answer = reply::stranger_reply(message, flow.remote)?;
        (flow.transport.is_reliable() || answer.len() <= message.len()).then_some(answer)
    }

    /// Turns a new INVITE away that its shard does not take; false for one within a call, which goes on.
    fn shed(&self, flow: Flow, message: &Bytes, (invite, why): (InviteName, NoRoom)) -> bool {
        let Some(is_told) = self.send_away(&flow, message, why.word()) else { return false };
        if is_told {
            self.turned_away.add(clock::now(), invite);
        }
        let Some(gate) = self.gates.get(usize::from(flow.listener)) else { return true };
        let taken = self.shed.lock().unwrap_or_else(PoisonError::into_inner).take(clock::now());
        if let Some(left_out) = taken {
            let (ledger, of) = (self.ledger.as_ref(), (flow, message));
            turned_away::record_shed(ledger, &gate.name, of, left_out, why);
        }
        true
    }

    /// Tells who was told to go elsewhere so again, though there may be room by now: the caller has left, and nobody would be there.
    /// False for all others.
    fn shed_again(&self, flow: &Flow, message: &Bytes, invite: InviteName) -> bool {
        self.turned_away.has(clock::now(), invite)
            && self.send_away(flow, message, "repeated").is_some()
    }

    /// Answers a new INVITE 503, and says whether that is sent; `None` for one within a call.
    fn send_away(&self, flow: &Flow, message: &Bytes, why: &'static str) -> Option<bool> {
        let answer = reply::overload_reply(message, flow.remote, retry_after_s())?;
        metric::labelled(Counter::SipRequestsShed, why).increment(1);
        Some(self.answer(flow, message, answer))
    }

    /// Tells a peer that what it speaks of ended with its shard, since nobody else does.
    fn answer_for_gone(&self, flow: &Flow, message: &Bytes) {
        match reply::gone_reply(message, flow.remote, retry_after_s()) {
            Some(answer) => {
                self.answer(flow, message, answer);
            }
            None => metric::count(Counter::SipMessagesDropped, "shard_gone"),
        }
    }

    /// Tells who asks whether we take its calls that a shard which hangs takes none; false for all others, who wait until it
    /// goes on.
    fn answer_probe(&self, flow: &Flow, message: &Bytes) -> bool {
        let answer = reply::probe_reply(message, flow.remote, retry_after_s());
        let Some(answer) = answer else { return false };
        self.answer(flow, message, answer);
        true
    }

    /// Sends the answer to a message. False: it would burden somebody in whose name that may have been sent.
    fn answer(&self, flow: &Flow, message: &Bytes, answer: Bytes) -> bool {
        let may_go = self.may_answer(flow, message, &answer);
        if may_go {
            self.send(flow, answer);
        } else {
            metric::labelled(Counter::SipMessagesUnsent, "unproven").increment(1);
        }
        may_go
    }

    /// Whether an answer may go out: where its address may be forged only so many are longer than what came (RFC 3261
    /// §26.3.2.4).
    fn may_answer(&self, flow: &Flow, message: &Bytes, answer: &Bytes) -> bool {
        let (source, gate) = (flow.remote.ip(), self.gates.get(usize::from(flow.listener)));
        let is_unproven = || {
            gate.is_some_and(|gate| {
                wants_proof(&self.table.load(), &gate.name, source, flow.transport)
            })
        };
        flow.transport.is_reliable()
            || answer.len() <= message.len()
            || !is_unproven()
            || self.registry.may_challenge(clock::now(), source)
    }

    fn send(&self, flow: &Flow, answer: Bytes) {
        if self.flows.send(flow, answer).is_err() {
            metric::labelled(Counter::SipMessagesUnsent, "flow").increment(1);
        }
    }

    /// Does what a reader asks for. A fault in it costs what the reader has in hand, never the reader, and so
    /// everything that its socket receives from then on.
    fn guarded(what: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(what)).is_err() {
            metric::count(Counter::SipMessagesDropped, "fault");
            tracing::error!("a fault at the gate cost a SIP message");
        }
    }

    fn hand_on(&self, flow: Flow, message: Bytes) {
        let is_expected = self.knows(flow.listener, flow.remote.ip(), flow.transport)
            // What comes by a connection that we opened was asked for.
            || (flow.transport.is_reliable() && self.flows.is_ours(flow.id))
            // Whom we have a call with may speak of that, and begins no other.
            || (self.registry.has_calls_from(clock::now(), flow.remote.ip())
                && !reply::may_begin_dialog(&message));
        if !is_expected {
            return self.turn_away(flow, &message);
        }
        // A message without Call-ID can be no call's; any shard may answer what is wrong with it.
        let call_id = CallIdPlace::find(&message);
        let value = call_id.of(&message).unwrap_or_default();
        let Some(shard) = self.shards.of_call_id(value) else { return };
        let is_invite = peek::first_line(&message) == FirstLine::Invite;
        let invite = is_invite.then(|| self.let_in.name_of(&message, value));
        if let Some(invite) = invite {
            // At a 503 to a copy the caller would leave, and what waits be answered all the same, with nobody there.
            let is_crowded = shard.is_crowded();
            if is_crowded && shard.is_running() && self.let_in.has(clock::now(), invite) {
                return metric::count(Counter::SipMessagesDropped, "repeated");
            }
            let is_told = if is_crowded {
                self.shed(flow, &message, (invite, no_room(shard)))
            } else {
                self.shed_again(&flow, &message, invite)
            };
            if is_told {
                return;
            }
        }
        if !shard.is_running() {
            return self.answer_for_gone(&flow, &message);
        }
        if shard.is_hung() && self.answer_probe(&flow, &message) {
            return;
        }
        if shard.receive(flow, message, call_id).is_err() {
            return metric::count(Counter::SipMessagesDropped, "shard_queue");
        }
        if let Some(invite) = invite {
            self.let_in.add(clock::now(), invite);
        }
    }

    fn tell_unreached(&self, remote: SocketAddr, quote: &[u8]) {
        // Where no answer would be heard from, nothing of ours is under way to.
        if !self.expects(remote.ip()) {
            return metric::count(Counter::SipMessagesDropped, "unreached_stranger");
        }
        // Only who saw the request knows its branch: nobody else can end a call by saying this.
        let Some(key) = ClientKey::of_beginning(quote) else { return };
        // What came back may be too short to name the call, and so the shard.
        for shard in self.shards.all() {
            if shard.unreached(remote, key).is_err() {
                metric::count(Counter::SipMessagesDropped, "unreached");
            }
        }
    }
}

/// When who is told to go elsewhere may come back.
fn retry_after_s() -> u32 {
    HangupCause::Overload.retry_after_s().unwrap_or(1)
}

/// Why a shard that is crowded takes no new call.
fn no_room(shard: &ShardHandle) -> NoRoom {
    if !shard.is_running() {
        NoRoom::Gone
    } else if shard.is_hung() {
        NoRoom::Hung
    } else {
        NoRoom::Queue
    }
}

impl Ingress for Dispatcher {
    fn receive(&self, flow: Flow, message: Bytes) {
        Self::guarded(|| self.hand_on(flow, message));
    }

    fn unframed(&self, flow: Flow, error: &FramingError) {
        if peek::first_line(&error.head) != FirstLine::Invite {
            return;
        }
        let Some(gate) = self.gates.get(usize::from(flow.listener)) else { return };
        let declined = Declined {
            flow,
            message: error.head.clone(),
            status: error.status(),
            cause: HangupCause::ProtocolError,
            why: format!("{}: the connection is closed", error.what.phrase()).into(),
        };
        let mut sample = self.unframed.lock().unwrap_or_else(PoisonError::into_inner);
        let ledger = self.ledger.as_ref();
        turned_away::record_declined(ledger, &gate.name, &declined, &mut sample);
    }

    fn unsecured(&self, flow: Flow, why: FlowEnd) {
        let Some(gate) = self.gates.get(usize::from(flow.listener)) else { return };
        let taken =
            self.unsecured.lock().unwrap_or_else(PoisonError::into_inner).take(clock::now());
        if let Some(left_out) = taken {
            let (listener, why) = (&gate.name, why.as_str());
            tracing::warn!(%listener, remote = %flow.remote, why, left_out, "no TLS with a peer");
        }
    }

    fn flow_closed(&self, id: FlowId) {
        for shard in self.shards.all() {
            shard.flow_closed(id);
        }
        self.registry.flow_closed(id);
    }

    fn needs(&self, flow: &Flow) -> bool {
        self.registry.has_calls_from(clock::now(), flow.remote.ip())
    }

    fn unreached(&self, remote: SocketAddr, quote: &[u8]) {
        Self::guarded(|| self.tell_unreached(remote, quote));
    }

    fn admits(&self, listener: u16, source: IpAddr, transport: Transport) -> bool {
        // A peer that we called may come by a connection of its own with what it asks: to use ours for
        // that is up to it (RFC 5923).
        self.knows(listener, source, transport)
            || self.registry.has_calls_from(clock::now(), source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cdr::CallRecord;
    use crate::cdr::CallReport;
    use crate::engine::media_thread::MediaConfig;
    use crate::engine::media_thread::MediaEngine;
    use crate::engine::speech::Speech;
    use crate::engine::switch::Written;
    use crate::engine::trace::TraceLimits;
    use crate::net::dns::Dns;
    use crate::net::dns::DnsLimits;
    use crate::net::flow::FlowLimits;
    use crate::net::http_client::HttpClient;
    use crate::net::websocket::TrustRoots;
    use crate::routing::admission::NodeLimits;
    use crate::routing::contents::Contents;
    use crate::routing::trunk::DigestAccount;
    use crate::routing::trunk::DigestAlgorithm;
    use crate::routing::trunk::Trunk;
    use crate::types::id::TrunkId;
    use crate::types::limit::SHED_RECORDS_PER_SECOND_MAX;
    use crate::types::limit::SIP_SHARD_QUEUE_HIGH;
    use crate::types::reach::Reach;
    use crate::types::secret::Secret;
    use metrics_exporter_prometheus::PrometheusBuilder;
    use std::sync::OnceLock;
    use std::time::Duration;
    use uuid::Uuid;

    #[derive(Default)]
    struct Ledgered(Mutex<Vec<CallRecord>>);

    impl Ledger for Ledgered {
        fn report(&self, report: CallReport) -> Written {
            self.report_later(report);
            Box::pin(std::future::ready(()))
        }

        fn report_later(&self, report: CallReport) {
            self.0.lock().expect("not poisoned").push(report.record);
        }
    }

    /// A switch whose only trunk is at 192.0.2.0/24.
    fn switch(ledger: &Arc<Ledgered>) -> Switch {
        let id = TrunkId::from_uuid(Uuid::from_u128(1));
        let trunk = Trunk::new(id, "acme", vec!["192.0.2.0/24".parse().expect("a network")]);
        let table = RoutingTable::new(Contents { trunks: vec![trunk], ..Contents::default() });
        let media = MediaConfig { threads: 1, realtime: false, ports: 21_300..=21_303 };
        Switch {
            public_url: String::new(),
            recorder: None,
            speech: Speech::find("", std::path::Path::new("speech")),
            http: HttpClient::new(Reach::default(), TrustRoots::native()),
            table: Arc::new(ArcSwap::from_pointee(table)),
            registry: Registry::new(NodeLimits::default()),
            media: MediaEngine::start(media).expect("a thread"),
            ledger: Arc::clone(ledger) as Arc<dyn Ledger>,
            assets: crate::engine::assets::Assets::in_folder(std::path::Path::new("assets")),
            live: crate::engine::live::LiveFeed::default(),
            flows: Flows::new(FlowLimits::default()),
            dns: Dns::of_system(DnsLimits::default()),
            roots: TrustRoots::native(),
            listeners: Vec::new(),
            trace: TraceLimits { shard_bytes_max: 0, life: Duration::ZERO },
            sampling: None,
            shards: OnceLock::new(),
        }
    }

    fn gate(stranger: Stranger) -> Gate {
        Gate { name: "public".parse().expect("a name"), stranger }
    }

    fn flow(remote: &str, transport: Transport) -> Flow {
        let local = "192.0.2.250:5060".parse().expect("an address");
        let remote = remote.parse().expect("an address");
        Flow { id: FlowId(1), listener: 0, transport, local, remote }
    }

    #[test]
    fn a_stranger_is_never_sent_more_by_udp_than_came_in_its_name() {
        let switch = switch(&Arc::default());
        let (shard, _kept) = ShardHandle::clogged(usize::MAX);
        let gates = vec![gate(Stranger::Refuse), gate(Stranger::Silence)];
        let dispatcher = Dispatcher::new(&switch, gates, Shards::new(vec![shard]));
        let [refusing, silent] = dispatcher.gates.as_slice() else { panic!("two gates") };
        // Each from an address of its own, so that none asks too often.
        let mut last = 0_u8;
        let mut asked = |gate, transport, padding: usize| {
            last += 1;
            let flow = flow(&format!("198.51.{last}.7:5060"), transport);
            let message = Bytes::from(format!(
                "OPTIONS sip:a@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:b@h>;tag=1\r\n\
                 To: <sip:a@h>\r\nCall-ID: x\r\nCSeq: 1 OPTIONS\r\nX: {}\r\n\r\n",
                "p".repeat(padding)
            ));
            let answer = dispatcher.answer_stranger(gate, &flow, &message);
            (answer.map(|answer| answer.len()), message.len())
        };
        let mut answered = 0;
        for padding in 0..150 {
            let (answer, length) = asked(refusing, Transport::Udp, padding);
            assert!(answer.is_none_or(|answer| answer <= length), "{answer:?} for {length}");
            answered += usize::from(answer.is_some());
        }
        assert!((1..150).contains(&answered), "some are long enough, and some are not: {answered}");
        // An address that opened a connection is its own.
        let (answer, length) = asked(refusing, Transport::Tcp, 0);
        assert!(answer.is_some_and(|answer| answer > length), "{answer:?} for {length}");
        assert_eq!(asked(silent, Transport::Udp, 500).0, None);
    }

    /// An INVITE, and what the network gives back of one of ours.
    const INVITE: &[u8] = b"INVITE sip:+15550100@h SIP/2.0\r\n\
        Via: SIP/2.0/UDP h;branch=z9hG4bK0123456789abcdef\r\nFrom: <sip:+15557701@h>;tag=1\r\n\
        To: <sip:b@h>\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\n\r\n";

    #[test]
    fn what_did_not_arrive_counts_only_from_peers_and_never_fills_a_queue() {
        let switch = switch(&Arc::default());
        let (shard, mut take) = ShardHandle::by_hand();
        let gates = vec![gate(Stranger::Silence)];
        let dispatcher = Dispatcher::new(&switch, gates, Shards::new(vec![shard.clone()]));
        let recorder = PrometheusBuilder::new().build_recorder();
        let dropped = |why: &str| {
            let counted = recorder.handle().render();
            let start = format!("sip_messages_dropped_total{{why=\"{why}\"}} ");
            let line = counted.lines().find_map(|line| line.strip_prefix(start.as_str()));
            line.map_or(0, |count| count.parse::<usize>().expect("a count"))
        };
        metrics::with_local_recorder(&recorder, || {
            let stranger = "198.51.100.7:5060".parse().expect("an address");
            dispatcher.unreached(stranger, INVITE);
            assert_eq!((shard.queued(), dropped("unreached_stranger")), (0, 1));
            // Who was called is none while that lasts.
            let called = switch.registry.expect_from(stranger.ip());
            dispatcher.unreached(stranger, INVITE);
            assert_eq!(take(2), 1);
            drop(called);
            // A trunk's address is easily guessed: however much comes in its name, calls are taken.
            let carrier = "192.0.2.1:5060".parse().expect("an address");
            for _ in 0..2 * SIP_SHARD_QUEUE_HIGH {
                dispatcher.unreached(carrier, INVITE);
            }
            assert!(!shard.is_crowded() && shard.queued() > 1, "{}", shard.queued());
            assert_eq!(dropped("unreached"), 2 * SIP_SHARD_QUEUE_HIGH - shard.queued());
            let queued = shard.queued();
            let flow = flow("192.0.2.1:5060", Transport::Udp);
            dispatcher.receive(flow, Bytes::from_static(INVITE));
            assert_eq!(shard.queued(), queued + 1);
        });
    }

    /// A ledger with a fault.
    struct Broken;

    impl Ledger for Broken {
        fn report(&self, _: CallReport) -> Written {
            panic!("as this test wants it")
        }

        fn report_later(&self, _: CallReport) {
            panic!("as this test wants it")
        }
    }

    #[test]
    fn a_fault_at_the_gate_costs_one_message() {
        let mut switch = switch(&Arc::default());
        switch.ledger = Arc::new(Broken);
        let (shard, _take) = ShardHandle::by_hand();
        let gates = vec![gate(Stranger::Silence)];
        let dispatcher = Dispatcher::new(&switch, gates, Shards::new(vec![shard.clone()]));
        let recorder = PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || {
            let stranger = flow("198.51.100.7:5060", Transport::Udp);
            dispatcher.receive(stranger, Bytes::from_static(INVITE));
            let known = flow("192.0.2.1:5060", Transport::Udp);
            dispatcher.receive(known, Bytes::from_static(INVITE));
        });
        assert_eq!(shard.queued(), 1);
        let counted = recorder.handle().render();
        assert!(counted.contains("sip_messages_dropped_total{why=\"fault\"} 1"), "{counted}");
    }

    #[test]
    fn who_has_a_call_may_speak_of_that_and_begins_no_other() {
        let ledger = Arc::new(Ledgered::default());
        let switch = switch(&ledger);
        let (shard, _kept) = ShardHandle::clogged(0);
        let gates = vec![gate(Stranger::Silence)];
        let dispatcher = Dispatcher::new(&switch, gates, Shards::new(vec![shard.clone()]));
        let flow = flow("198.51.100.9:5060", Transport::Udp);
        let message = |method: &str, to: &str| {
            Bytes::from(format!(
                "{method} sip:+15550100@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\n\
                 From: <sip:+15557701@h>;tag=1\r\nTo: <sip:b@h>{to}\r\nCall-ID: x\r\nCSeq: 1 {method}\r\n\r\n"
            ))
        };
        let queued = |method, to| {
            let before = shard.queued();
            dispatcher.receive(flow, message(method, to));
            shard.queued() - before
        };
        let within = || ["INVITE", "ACK", "BYE", "UPDATE"].map(|method| queued(method, ";tag=2"));
        assert_eq!(within(), [0; 4], "a stranger");
        let call = switch.registry.expect_from(flow.remote.ip());
        assert_eq!(within(), [1; 4]);
        for _ in 0..500 {
            assert_eq!(queued("INVITE", ""), 0, "it is no trunk's");
        }
        assert_eq!(ledger.0.lock().expect("not poisoned").len(), 1, "one record a minute");
        // The end of its call changes nothing of that: what still comes of the call is heard.
        drop(call);
        assert_eq!((queued("INVITE", ""), within()), (0, [1; 4]));
    }

    #[test]
    fn invites_for_a_full_shard_leave_some_records_and_no_flood_of_them() {
        let ledger = Arc::new(Ledgered::default());
        let switch = switch(&ledger);
        let (shard, _kept) = ShardHandle::clogged(usize::MAX);
        let gate = gate(Stranger::Silence);
        let dispatcher = Dispatcher::new(&switch, vec![gate], Shards::new(vec![shard]));
        let flow = flow("192.0.2.1:5060", Transport::Udp);
        let source = flow.remote;
        let message = |to: &str| {
            Bytes::from(format!(
                "INVITE sip:+15550100@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\n\
                 From: <sip:+15557701@h>;tag=1\r\nTo: <sip:b@h>{to}\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\n\r\n"
            ))
        };
        let recorder = PrometheusBuilder::new().build_recorder();
        let sent = SHED_RECORDS_PER_SECOND_MAX as usize * 20;
        metrics::with_local_recorder(&recorder, || {
            dispatcher.receive(flow, message(";tag=2"));
            for _ in 0..sent {
                dispatcher.receive(flow, message(""));
            }
            let options = b"OPTIONS sip:h SIP/2.0\r\nCall-ID: x\r\n\r\n";
            dispatcher.receive(flow, Bytes::from_static(options));
        });
        let counted = recorder.handle().render();
        let shed = format!("sip_requests_shed_total{{why=\"shard_queue\"}} {sent}");
        assert!(counted.contains(&shed), "{counted}");
        // Where there is no room at all, what belongs to a call is lost, and comes again.
        let dropped = "sip_messages_dropped_total{why=\"shard_queue\"} 2";
        assert!(counted.contains(dropped), "{counted}");
        let records = ledger.0.lock().expect("not poisoned");
        let most = SHED_RECORDS_PER_SECOND_MAX as usize;
        assert!((most..sent).contains(&records.len()), "{} records", records.len());
        let record = records.first().expect("a record");
        assert_eq!((record.cause, record.status), (Some(HangupCause::Overload), Some(503)));
        assert_eq!((record.dialled_text.as_str(), record.source), ("+15550100", Some(source)));
        let decision = record.decision.to_string();
        assert!(record.is_closed() && decision.contains("listener public"));
        assert!(decision.contains("the queue of its SIP shard is full"), "{decision}");
        drop(records);

        // Beyond the mark, but with room left: what belongs to calls goes on, new calls do not.
        let (shard, _kept) = ShardHandle::clogged(SIP_SHARD_QUEUE_HIGH + 1);
        let gate = self::gate(Stranger::Silence);
        let crowded = Dispatcher::new(&switch, vec![gate], Shards::new(vec![shard.clone()]));
        let queued = shard.queued();
        assert!(shard.is_crowded());
        crowded.receive(flow, message(""));
        assert_eq!(shard.queued(), queued, "a new call was let in");
        crowded.receive(flow, message(";tag=2"));
        crowded.receive(flow, Bytes::from_static(b"BYE sip:h SIP/2.0\r\nCall-ID: x\r\n\r\n"));
        assert_eq!(shard.queued(), queued + 2, "a call cannot go on");
    }

    #[test]
    fn a_new_call_for_a_shard_that_is_gone_is_told_to_go_elsewhere_and_is_not_left_in_silence() {
        let ledger = Arc::new(Ledgered::default());
        let switch = switch(&ledger);
        let (shard, take) = ShardHandle::by_hand();
        let shards = Shards::new(vec![shard.clone()]);
        let dispatcher = Dispatcher::new(&switch, vec![gate(Stranger::Silence)], shards);
        drop(take);
        assert!(!shard.is_running());
        let invite = Bytes::from_static(
            b"INVITE sip:+15550100@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\n\
              From: <sip:+15557701@h>;tag=1\r\nTo: <sip:b@h>\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\n\r\n",
        );
        let recorder = PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || {
            dispatcher.receive(flow("192.0.2.1:5060", Transport::Udp), invite);
        });
        let counted = recorder.handle().render();
        assert!(counted.contains("sip_requests_shed_total{why=\"shard_gone\"} 1"), "{counted}");
        let records = ledger.0.lock().expect("not poisoned");
        let record = records.first().expect("a record");
        assert_eq!(record.status, Some(503));
        let decision = record.decision.to_string();
        let fault = "its SIP shard is down after faults of ours again and again; the node must be restarted";
        assert!(decision.contains(fault) && !decision.contains("full"), "{decision}");
    }

    #[test]
    fn whoever_may_be_forged_is_not_sent_more_than_came_in_its_name_for_a_shard_that_is_gone() {
        const SENT: usize = 1_000;
        let account = DigestAccount {
            username: "u".into(),
            password: Secret::new("p".into()),
            realm: "r".into(),
            algorithms: vec![DigestAlgorithm::Sha256],
        };
        let answered = |digest: Option<DigestAccount>, transport, method: &str, padding: usize| {
            let mut switch = switch(&Arc::default());
            let id = TrunkId::from_uuid(Uuid::from_u128(1));
            let mut trunk =
                Trunk::new(id, "acme", vec!["192.0.2.0/24".parse().expect("a network")]);
            trunk.digest = digest;
            let contents = Contents { trunks: vec![trunk], ..Contents::default() };
            switch.table = Arc::new(ArcSwap::from_pointee(RoutingTable::new(contents)));
            let (shard, take) = ShardHandle::by_hand();
            let gates = vec![gate(Stranger::Silence)];
            let dispatcher = Dispatcher::new(&switch, gates, Shards::new(vec![shard]));
            drop(take);
            let message = Bytes::from(format!(
                "{method} sip:a@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:b@h>;tag=1\r\n\
                 To: <sip:a@h>\r\nCall-ID: x\r\nCSeq: 1 {method}\r\nX: {}\r\n\r\n",
                "p".repeat(padding)
            ));
            let recorder = PrometheusBuilder::new().build_recorder();
            metrics::with_local_recorder(&recorder, || {
                for _ in 0..SENT {
                    dispatcher.receive(flow("192.0.2.1:5060", transport), message.clone());
                }
            });
            // No socket is there, so that what is sent is counted as lost.
            let counted = recorder.handle().render();
            let [sent, withheld] = ["flow", "unproven"].map(|why| {
                let start = format!("sip_messages_unsent_total{{why=\"{why}\"}} ");
                let line = counted.lines().find_map(|line| line.strip_prefix(start.as_str()));
                line.map_or(0, |count| count.parse::<usize>().expect("a count"))
            });
            assert_eq!(sent + withheld, SENT, "{counted}");
            sent
        };
        for method in ["INVITE", "OPTIONS", "FROB"] {
            let own = || Some(account.clone());
            // A burst of 100, and what came in meanwhile.
            let sent = answered(own(), Transport::Udp, method, 0);
            assert!((100..SENT / 2).contains(&sent), "{sent} answers to {method}");
            assert_eq!(answered(own(), Transport::Udp, method, 500), SENT, "{method}");
            assert_eq!(answered(own(), Transport::Tcp, method, 0), SENT, "{method}");
            assert_eq!(answered(None, Transport::Udp, method, 0), SENT, "{method}");
        }
    }

    #[test]
    fn a_new_call_for_a_shard_that_hangs_is_told_to_go_elsewhere_until_it_goes_on() {
        let ledger = Arc::new(Ledgered::default());
        let switch = switch(&ledger);
        let (shard, _take) = ShardHandle::by_hand();
        let shards = Shards::new(vec![shard.clone()]);
        let dispatcher = Dispatcher::new(&switch, vec![gate(Stranger::Silence)], shards);
        let flow = flow("192.0.2.1:5060", Transport::Udp);
        let recorder = PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || {
            shard.set_hung(true);
            dispatcher.receive(flow, another_invite(1));
            // What belongs to its calls waits: it may go on.
            let bye = b"BYE sip:h SIP/2.0\r\nCall-ID: x\r\n\r\n";
            dispatcher.receive(flow, Bytes::from_static(bye));
            assert_eq!(shard.queued(), 1);
            // So does a probe of a call that it has. Who only asks whether calls are taken learns that they are not.
            let probe = |to: &str| {
                Bytes::from(format!(
                    "OPTIONS sip:a@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:b@h>;tag=1\r\n\
                     To: <sip:a@h>{to}\r\nCall-ID: x\r\nCSeq: 1 OPTIONS\r\n\r\n"
                ))
            };
            dispatcher.receive(flow, probe(""));
            assert_eq!(shard.queued(), 1);
            dispatcher.receive(flow, probe(";tag=2"));
            assert_eq!(shard.queued(), 2);
            shard.set_hung(false);
            dispatcher.receive(flow, another_invite(2));
            dispatcher.receive(flow, probe(""));
            assert_eq!(shard.queued(), 4);
        });
        let counted = recorder.handle().render();
        // The INVITE and the probe were answered; no socket is there.
        assert!(counted.contains("sip_messages_unsent_total{why=\"flow\"} 2"), "{counted}");
        assert!(counted.contains("sip_requests_shed_total{why=\"shard_hung\"} 1"), "{counted}");
        let records = ledger.0.lock().expect("not poisoned");
        let record = records.first().expect("a record");
        assert_eq!((record.status, records.len()), (Some(503), 1));
        let decision = record.decision.to_string();
        assert!(decision.contains("its SIP shard hangs"), "{decision}");
    }

    /// The INVITE of a call of its own.
    fn another_invite(call: u32) -> Bytes {
        Bytes::from(format!(
            "INVITE sip:+15550100@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK{call}\r\n\
             From: <sip:+15557701@h>;tag=1\r\nTo: <sip:b@h>\r\nCall-ID: {call}\r\nCSeq: 1 INVITE\r\n\r\n"
        ))
    }

    #[test]
    fn a_copy_of_an_invite_that_waits_is_never_told_to_go_elsewhere() {
        let switch = switch(&Arc::default());
        let (shard, mut take) = ShardHandle::by_hand();
        let shards = Shards::new(vec![shard.clone()]);
        let dispatcher = Dispatcher::new(&switch, vec![gate(Stranger::Silence)], shards);
        let flow = flow("192.0.2.1:5060", Transport::Udp);
        let bye = Bytes::from_static(b"BYE sip:h SIP/2.0\r\nCall-ID: x\r\n\r\n");
        let recorder = PrometheusBuilder::new().build_recorder();
        let counted = |metric: &str| {
            let counted = recorder.handle().render();
            let line =
                counted.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '));
            line.map_or(0, |count| count.parse::<usize>().expect("a count"))
        };
        let shed = || counted("sip_requests_shed_total{why=\"shard_queue\"}");
        let repeated = || counted("sip_messages_dropped_total{why=\"repeated\"}");
        metrics::with_local_recorder(&recorder, || {
            dispatcher.receive(flow, another_invite(1));
            while !shard.is_crowded() {
                dispatcher.receive(flow, bye.clone());
            }
            let queued = shard.queued();
            for copy in 1..4 {
                dispatcher.receive(flow, another_invite(1));
                assert_eq!((shed(), repeated(), shard.queued()), (0, copy, queued));
            }
            // A call that is new is turned away, and so is a copy of that.
            for copy in 1..4 {
                dispatcher.receive(flow, another_invite(2));
                assert_eq!((shed(), repeated(), shard.queued()), (copy, 3, queued));
            }
            // The shard has the first one: it rings, say.
            assert_eq!(take(1), 1);
            assert!(!shard.is_crowded());
            // Whose caller has left for elsewhere is told so again, and who tries anew is let in.
            dispatcher.receive(flow, another_invite(2));
            let told_again = counted("sip_requests_shed_total{why=\"repeated\"}");
            assert_eq!((told_again, shed(), shard.queued()), (1, 3, queued - 1));
            dispatcher.receive(flow, another_invite(3));
            assert_eq!(shard.queued(), queued);
            while !shard.is_crowded() {
                dispatcher.receive(flow, bye.clone());
            }
            dispatcher.receive(flow, another_invite(1));
            assert_eq!((shed(), repeated()), (3, 4));
            // Nobody answers the first one any more.
            drop(take);
            dispatcher.receive(flow, another_invite(1));
            assert_eq!(counted("sip_requests_shed_total{why=\"shard_gone\"}"), 1);
        });
    }

    #[test]
    fn at_three_times_what_a_shard_takes_calls_go_on_and_the_first_new_one_afterwards_is_taken() {
        /// What the shard takes in a round, and what belongs to calls of it.
        const TAKEN: usize = 500;
        const WITHIN: usize = 100;
        let switch = switch(&Arc::default());
        let (shard, mut take) = ShardHandle::by_hand();
        let gate = gate(Stranger::Silence);
        let dispatcher = Dispatcher::new(&switch, vec![gate], Shards::new(vec![shard.clone()]));
        let flow = flow("192.0.2.1:5060", Transport::Udp);
        let mut calls = 0;
        let mut invite = || {
            calls += 1;
            another_invite(calls)
        };
        let bye = Bytes::from_static(b"BYE sip:h SIP/2.0\r\nCall-ID: x\r\n\r\n");
        let recorder = PrometheusBuilder::new().build_recorder();
        let shed = || {
            let counted = recorder.handle().render();
            assert!(!counted.contains("sip_messages_dropped_total"), "{counted}");
            let start = "sip_requests_shed_total{why=\"shard_queue\"} ";
            let line = counted.lines().find_map(|line| line.strip_prefix(start));
            line.map_or(0, |count| count.parse::<usize>().expect("a count"))
        };
        let (mut offered, mut served) = (0, 0);
        metrics::with_local_recorder(&recorder, || {
            for _ in 0..40 {
                for _ in 0..3 * TAKEN - WITHIN {
                    dispatcher.receive(flow, invite());
                }
                for _ in 0..WITHIN {
                    dispatcher.receive(flow, bye.clone());
                }
                offered += 3 * TAKEN;
                served += take(TAKEN);
                // New calls stop at the mark: what is over it belongs to calls, and is soon gone.
                assert!(shard.queued() <= SIP_SHARD_QUEUE_HIGH + 1 + WITHIN, "{}", shard.queued());
            }
        });
        assert_eq!(served, 40 * TAKEN, "the shard is never idle");
        assert_eq!(shed(), offered - served - shard.queued(), "what was not taken got its 503");
        assert!(shed() > offered / 3, "{} of {offered}", shed());
        // The flood is over. A round later, if not at once, a new call finds its place.
        let before = shed();
        served = take(TAKEN);
        metrics::with_local_recorder(&recorder, || dispatcher.receive(flow, invite()));
        assert_eq!((served, shed()), (TAKEN, before), "it was turned away");
    }
}
