//! A call whose task panics, or whose media do; and what its agent is told, or is not.

use super::*;
use crate::call::dial::DialTarget;
use crate::call::input::MediaInput;
use crate::call::setup::Opening;
use crate::call::setup::Partner;
use crate::call::side::Seat;
use crate::cdr::CallRecord;
use crate::cdr::CallReport;
use crate::engine::dial::DialRoute;
use crate::engine::leg_terms;
use crate::engine::sip_shard::Overheard;
use crate::engine::sip_shard::ShardHandle;
use crate::engine::switch;
use crate::engine::switch::Ledger;
use crate::routing::signalling::InboundProgress;
use crate::routing::table::TenantStatus;
use crate::routing::template::Scope;
use crate::routing::template::Template;
use crate::routing::trunk::ResponseMap;
use crate::sip::endpoint::event::Command;
use crate::sip::endpoint::event::DialogId;
use crate::types::agent::AgentKind;
use crate::types::agent::AgentSettings;
use crate::types::agent::AnswerPolicy;
use crate::types::barge_in::BargeIn;
use crate::types::codec::Codec;
use crate::types::fault_policy::FaultPolicy;
use crate::types::id::AiProfileId;
use crate::types::id::TenantId;
use crate::types::id::TrunkId;
use crate::types::srtp::SrtpPolicy;
use crate::types::trace_context::Sampling;
use crate::types::transport::Transport;
use metrics_exporter_prometheus::PrometheusBuilder;
use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::Mutex;
use uuid::Uuid;

/// A ledger that never writes the birth of a call, but panics.
#[derive(Default)]
struct Panicking(Mutex<Vec<CallRecord>>);

impl Ledger for Panicking {
    fn report(&self, _: CallReport) -> Written {
        Box::pin(async { panic!("on purpose") })
    }

    fn report_later(&self, report: CallReport) {
        self.0.lock().expect("not poisoned").push(report.record);
    }
}

fn switch(ledger: &Arc<Panicking>) -> Arc<Switch> {
    Arc::new(switch::tests::idle(Arc::clone(ledger) as Arc<dyn Ledger>, 21_310..=21_313))
}

fn route() -> CallRoute {
    let tenant = TenantId::from_uuid(Uuid::from_u128(1));
    let source = "192.0.2.0/24".parse().expect("a network");
    CallRoute {
        tenant: Arc::new(Tenant {
            id: tenant,
            name: "acme".to_owned(),
            status: TenantStatus::Active,
            plan: None,
            calls_max: 0,
            cps_max: 0,
            default_profile: None,
            outbound: Default::default(),
            record: Default::default(),
        }),
        profile: Arc::new(AiProfile {
            id: AiProfileId::from_uuid(Uuid::from_u128(2)),
            tenant,
            name: "echo".to_owned(),
            agent: AgentSettings {
                kind: AgentKind::Echo,
                answer: AnswerPolicy::WhenReady,
                barge_in: BargeIn::OFF,
                hangup_after: None,
                reinvite_after: None,
                faults: FaultPolicy::USUAL,
                hold_music: None,
            },
            fallback: Vec::new(),
            record: None,
            ask: None,
        }),
        trunk: Arc::new(Trunk::new(TrunkId::from_uuid(Uuid::from_u128(3)), "t", vec![source])),
        caller: String::new(),
        dialled: "+15550100".parse().expect("a number"),
        variables: CallVariables::default(),
        withheld: false,
        passing: None,
        trail: Default::default(),
        hops_left: 70,
        peer_host: PeerHost::Unknown,
        record: false,
        screened: false,
    }
}

/// What a call begins with that arrived at the beginning of time.
fn seed(switch: &Switch, answered: Option<Moment>) -> (CallSeed, Overheard) {
    let route = route();
    let (shard, overheard) = ShardHandle::overheard();
    let permit = switch.registry.admit(clock::now(), &route.tenant, &route.trunk);
    let near = Near::Invited(shard, DialogId(7));
    let source = Ipv4Addr::new(192, 0, 2, 1).into();
    let mut log = CallLog::open(Moment::START, CallId::from_uuid(Uuid::from_u128(4)));
    if let Some(answered) = answered {
        log.note(answered, CallEvent::Answered(Codec::Pcmu));
    }
    let setup = CallSetup {
        opening: Opening::Inbound(leg_terms::inbound(&route.trunk, Transport::Udp)),
        partner: Partner::Agent,
        agent: route.profile.agent.clone(),
        fallbacks: VecDeque::new(),
        asks: None,
        ring_max: Duration::from_secs(45),
        duration_max: Duration::from_secs(3_600),
        answer_delay: Duration::ZERO,
        progress: InboundProgress::Ringing,
        response_map: ResponseMap::default(),
    };
    let seed = CallSeed {
        near: NearSeed::Invited(near, permit.expect("a place"), source),
        listener: Arc::new(SwitchListener {
            name: "public".parse().expect("a name"),
            sip_host: source.to_string(),
            bind: source,
            rtp_address: source,
            transports: Vec::new(),
        }),
        log,
        setup,
        route,
        campaign: None,
    };
    (seed, overheard)
}

/// A call that is about to panic.
fn begin(switch: &Arc<Switch>, answered: Option<Moment>) -> Overheard {
    let (seed, overheard) = seed(switch, answered);
    start(switch, seed, mailbox::bounded(4));
    overheard
}

/// Lets a call panic; its last record, and what was counted.
fn panicked(answered: Option<Moment>) -> (CallRecord, String) {
    let recorder = PrometheusBuilder::new().build_recorder();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ledger = Arc::new(Panicking::default());
    metrics::with_local_recorder(&recorder, || {
        runtime.expect("a runtime").block_on(async {
            let switch = switch(&ledger);
            let mut shard = begin(&switch, answered);
            let told = shard.next().await;
            assert!(
                matches!(
                    told,
                    Some(Command::Hangup { dialog: DialogId(7), cause: HangupCause::SwitchFault })
                ),
                "{told:?}"
            );
            switch.registry.wait_until_empty().await;
        });
    });
    let records = ledger.0.lock().expect("not poisoned");
    (records.last().expect("a record").clone(), recorder.handle().render())
}

#[test]
fn an_answered_call_whose_task_panics_is_hung_up_recorded_and_counted() {
    let answered = clock::now();
    let (record, counted) = panicked(Some(answered));
    assert_eq!(
        (record.cause, record.ended_by),
        (Some(HangupCause::SwitchFault), Some(Party::Switch))
    );
    let ended = record.stages.ended.expect("it ended");
    assert!(record.duration > Duration::ZERO && record.duration <= ended.since(answered));
    assert!(counted.contains("call_faults_total 1"), "{counted}");
    assert!(counted.contains("calls_ended_total{cause=\"switch_fault\"} 1"), "{counted}");
    assert!(counted.contains("call_duration_seconds_count 1"), "{counted}");
}

#[test]
fn a_call_whose_task_panics_before_the_answer_is_a_fault_and_no_ended_call() {
    let (record, counted) = panicked(None);
    assert_eq!((record.cause, record.duration), (Some(HangupCause::SwitchFault), Duration::ZERO));
    assert!(counted.contains("call_faults_total 1"), "{counted}");
    assert!(!counted.contains("calls_ended_total{"), "{counted}");
}

/// As those of a media thread that met a fault are, or of one that is down.
#[tokio::test]
async fn a_call_whose_session_failed_or_is_gone_ends_as_by_a_fault_of_the_switch() {
    let switch = switch(&Arc::default());
    for side in [LegSide::Near, LegSide::Far] {
        for event in [Some(MediaEvent::Failed), None] {
            let (seed, _overheard) = seed(&switch, None);
            let (inputs_in, inputs) = mailbox::bounded(1);
            let (_errands_in, errands) = mailbox::bounded(1);
            let mut task = Task::new(Arc::clone(&switch), seed, (inputs_in, inputs, errands));
            let input = task.media_event(side, event);
            let (cause, by) = (HangupCause::SwitchFault, Party::Switch);
            assert_eq!(input, Some(Input::HangupRequested { cause, by }), "{side:?} {event:?}");
        }
    }
}

/// Those of who only listens end nobody else's call.
#[tokio::test]
async fn a_supervisor_whose_session_failed_or_is_gone_is_the_only_one_to_leave() {
    let switch = switch(&Arc::default());
    for event in [Some(MediaEvent::Failed), None] {
        let (seed, _overheard) = seed(&switch, None);
        let (inputs_in, inputs) = mailbox::bounded(1);
        let (_errands_in, errands) = mailbox::bounded(1);
        let mut task = Task::new(Arc::clone(&switch), seed, (inputs_in, inputs, errands));
        let side = LegSide::Supervisor(Seat::Second);
        let input = task.media_event(side, event);
        assert_eq!(input, Some(Input::Media(side, MediaInput::Failed)), "{event:?}");
    }
}

#[tokio::test]
async fn an_agent_is_kept_from_the_keys_of_whom_it_talks_with_and_from_those_of_its_caller() {
    let switch = switch(&Arc::default());
    for (of_near, of_far) in [(false, false), (false, true), (true, false), (true, true)] {
        let (seed, _overheard) = seed(&switch, None);
        let (inputs_in, inputs) = mailbox::bounded(1);
        let (_errands_in, errands) = mailbox::bounded(1);
        let mut task = Task::new(Arc::clone(&switch), seed, (inputs_in, inputs, errands));
        let trunk = |private| {
            let mut trunk = Trunk::new(TrunkId::from_uuid(Uuid::from_u128(3)), "t", Vec::new());
            trunk.media.dtmf_private = private;
            Some(Arc::new(trunk))
        };
        task.media.trunk = trunk(of_near);
        task.others().slot(LegSide::Far).trunk = trunk(of_far);
        for (side, private) in [(LegSide::Far, of_near || of_far), (LegSide::Near, of_near)] {
            let (_media_end, agent_end) = task.voice_link_to(side);
            assert_eq!(agent_end.keys_are_private(), private, "{side:?}: {of_near} {of_far}");
        }
    }
}

#[tokio::test]
async fn an_agent_behind_sip_is_told_of_the_trace_of_its_call_where_that_is_traced() {
    let all = "00-00000000000000000000000000000004-8000000000000004-01";
    for (percent, expected) in [(Some(100), Some(all)), (None, None)] {
        let mut switch = switch::tests::idle(Arc::new(switch::tests::Nobody), 21_310..=21_313);
        switch.sampling = percent.map(Sampling::of_percent);
        let (seed, _overheard) = seed(&switch, None);
        let (inputs_in, inputs) = mailbox::bounded(1);
        let (_errands_in, errands) = mailbox::bounded(1);
        let mut task = Task::new(Arc::new(switch), seed, (inputs_in, inputs, errands));
        let text = Template::parse("{traceparent}", Scope::Agent).expect("a template");
        let target = DialTarget::Uri {
            uri: "sip:agent@192.0.2.7".parse().expect("an address"),
            credentials: None,
            headers: vec![("traceparent".parse().expect("a name"), text)],
            pass: Vec::new(),
            srtp: SrtpPolicy::Off,
            transfers: false,
        };
        let Ok(DialRoute::Peer(route)) = task.route_to(LegSide::Far, target) else {
            panic!("it has no route")
        };
        let told = route.headers.iter().find(|(name, _)| name.as_str() == "traceparent");
        assert_eq!(told.map(|(_, value)| value.as_str()), expected);
    }
}

#[test]
fn the_task_of_a_call_takes_little_room() {
    fn room<A, F>(_: impl FnOnce(A) -> F) -> usize {
        size_of::<F>()
    }
    let task = size_of::<Task>();
    let running = room(|(task, written): (&'static mut Task, Written)| task.run(written));
    assert!(task <= 2_240 && running <= 1_000, "{task} and {running} bytes");
}

/// Where nothing is called by the trunk of a caller, a number is at the address that the caller calls from.
#[test]
fn a_number_is_at_the_gateway_or_where_the_caller_is() {
    let to: E164 = "+15550142".parse().expect("a number");
    let at = |peer_host| CallRoute { peer_host, ..route() }.number_uri(to);
    let address = SocketAddr::from(([192, 0, 2, 7], 5_070));
    assert_eq!(at(PeerHost::At(address)), "sip:+15550142@192.0.2.7:5070");
    assert_eq!(at(PeerHost::Unknown), "tel:+15550142");
    let carrier = crate::routing::outbound::tests::trunk(1, |outbound| {
        outbound.form.request_host = Template::fixed("acme.pstn.test");
    });
    let gateways = carrier.outbound.iter().flat_map(|outbound| &outbound.gateways);
    let gateway = gateways.map(Arc::clone).next().expect("a gateway");
    let peer_host = PeerHost::Gateway(Arc::clone(&gateway));
    assert_eq!(at(peer_host.clone()), "sip:+15550142@a.example", "the trunk calls nobody");
    let named = CallRoute { peer_host, trunk: Arc::new(carrier), ..route() };
    assert_eq!(named.number_uri(to), "sip:+15550142@acme.pstn.test");
}
