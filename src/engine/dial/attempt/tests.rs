//! Tries whose shard, call and carriers are played by hand.

use super::*;
use crate::engine::dial::PeerRoute;
use crate::engine::dial::tests::Around;
use crate::engine::dial::tests::planned;
use crate::engine::sip_shard::ShardHandle;
use crate::net::dns::Dns;
use crate::net::dns::DnsLimits;
use crate::net::dns::tests::Server;
use crate::net::dns::tests::limits;
use crate::net::websocket::TrustRoots;
use crate::routing::contents::Contents;
use crate::routing::gateway_addresses::GatewayAddress;
use crate::routing::health;
use crate::routing::outbound::tests::gateway;
use crate::routing::outbound::tests::trunk;
use crate::routing::outbound_attempt::Output;
use crate::routing::table::RoutingTable;
use crate::routing::trunk::Trunk;
use crate::sip::endpoint::event::Body;
use crate::sip::endpoint::event::DialogId;
use crate::sip::endpoint::event::Token;
use crate::sip::endpoint::flow::FlowId;
use crate::sip::endpoint::told::Fork;
use crate::sip::endpoint::told::RefusalNote;
use crate::types::id::CallId;
use crate::types::reach::Reach;
use crate::types::srtp::SrtpPolicy;
use crate::types::transport::Transport;
use std::io::Write;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use uuid::Uuid;

/// The dialog of the INVITE that is out.
const DIALOG: DialogId = DialogId(7);

fn peer() -> DialRoute {
    DialRoute::Peer(Box::new(PeerRoute {
        uri: "sip:agent@127.0.0.1".parse().unwrap(),
        credentials: None,
        headers: Vec::new(),
        from_user: "caller".to_owned(),
        from_host: Ipv4Addr::LOCALHOST.into(),
        hops: 70,
        srtp: SrtpPolicy::Optional,
        transfers: true,
    }))
}

/// A dialling that has not begun.
fn dialling_idle(route: DialRoute) -> Dialling {
    Dialling {
        chooser: Chooser::new(route),
        trying: None,
        is_first: true,
        offered_for: Some(OfferedFor::default()),
        is_forked: false,
        offer: None,
        is_offer_told: false,
        answer: None,
        hung_up_for: HangupCause::CallerCancelled,
        watched: Watched::default(),
    }
}

/// A dialling whose first try is at this stage.
fn dialling(around: &Around, route: DialRoute, stage: Stage) -> Dialling {
    let mut dialling = dialling_idle(route);
    let mut todo = Vec::new();
    dialling.chooser.handle(clock::now(), Input::Started, &mut todo);
    let Some(Todo::Try(id, target)) = todo.pop() else { panic!("{todo:?}") };
    assert!(dialling.begin(&around.line, id, target).is_none());
    dialling.trying.as_mut().unwrap().stage = stage;
    dialling
}

fn placed() -> Event {
    Event::Placed { token: Token(1), dialog: DIALOG }
}

fn answered() -> Event {
    let name = || Bytes::from_static(b"x");
    Event::Answered {
        dialog: DIALOG,
        fork: Fork::default(),
        body: None,
        name: DialogName { call_id: name(), local_tag: name(), remote_tag: name() },
        addresses: Vec::new(),
    }
}

/// The shard has placed the INVITE, and its answer came even, before anybody read so: who lets go of the leg hangs
/// it up, or it would ring on, and its answer never be acknowledged.
#[tokio::test]
async fn a_leg_let_go_of_before_its_news_are_read_is_hung_up() {
    for unread in [vec![placed()], vec![placed(), answered()]] {
        let mut around = Around::new();
        let (shard, mut overheard) = ShardHandle::overheard();
        let (events_in, events) = mailbox::bounded(EVENTS_MAX);
        let stage = Stage::Calling { shard, dialog: None, events };
        let mut dialling = dialling(&around, peer(), stage);
        for event in unread {
            events_in.try_send(event).unwrap();
        }
        around.commands.try_send(LegOutput::HangUp(HangupCause::Normal)).unwrap();
        assert!(dialling.run(&mut around.line, None).await.is_none());
        // What comes later comes back to the shard, which hangs up by itself.
        assert!(events_in.try_send(answered()).is_err());
        drop(dialling);
        let told = overheard.next().await;
        assert!(matches!(told, Some(Command::Hangup { dialog: DIALOG, .. })), "{told:?}");
        let failed = LegInput::DialFailed { cause: HangupCause::CallerCancelled, status: None };
        assert_eq!(around.leg_news().await, [failed]);
    }
}

/// A try that is let go of before the shard heard of it leaves nothing to hang up; the shard finds nobody to tell.
#[tokio::test]
async fn a_leg_let_go_of_before_its_shard_placed_it_is_the_shards_to_hang_up() {
    let mut around = Around::new();
    let (shard, mut overheard) = ShardHandle::overheard();
    let (events_in, events) = mailbox::bounded(EVENTS_MAX);
    let stage = Stage::Calling { shard, dialog: None, events };
    let mut dialling = dialling(&around, peer(), stage);
    around.commands.try_send(LegOutput::HangUp(HangupCause::Normal)).unwrap();
    assert!(dialling.run(&mut around.line, None).await.is_none());
    assert!(events_in.try_send(placed()).is_err());
    drop(dialling);
    assert!(overheard.next().await.is_none());
}

/// A party that offers anew before it answers is answered as the call says, in its own dialog.
#[tokio::test]
async fn an_offer_before_the_answer_is_the_calls_to_answer() {
    let mut around = Around::new();
    let (shard, mut overheard) = ShardHandle::overheard();
    let (events_in, events) = mailbox::bounded(EVENTS_MAX);
    let stage = Stage::Calling { shard, dialog: None, events };
    let mut dialling = dialling(&around, peer(), stage);
    let content_type = Bytes::from_static(b"application/sdp");
    let body = Some(Body { content_type, bytes: Bytes::from_static(b"offer") });
    for event in [placed(), Event::Reinvited { dialog: DIALOG, body }] {
        events_in.try_send(event).unwrap();
        assert_eq!(dialling.next(&mut around.line).await, None);
    }
    let answer = LegOutput::AnswerReoffer(Bytes::from_static(b"answer"));
    for said in [answer, LegOutput::RefuseReoffer(HangupCause::BadSdp)] {
        around.commands.try_send(said).unwrap();
        assert_eq!(dialling.next(&mut around.line).await, None);
    }
    match overheard.next().await {
        Some(Command::AnswerReinvite { dialog: DIALOG, body }) => assert_eq!(body, "answer"),
        other => panic!("{other:?}"),
    }
    let told = overheard.next().await;
    let is_refusal = matches!(told, Some(Command::RefuseReinvite { status: 488, .. }));
    assert!(is_refusal, "{told:?}");
    drop(dialling);
    let offer = LegInput::Reoffered(Some(Bytes::from_static(b"offer")));
    assert_eq!(around.leg_news().await, [offer]);
}

/// A trunk that has no port for the media, or whose keys may not be told, is no end of the leg: the next is tried,
/// and the record says why.
#[tokio::test]
async fn who_has_no_offer_for_one_way_tries_the_next() {
    for cause in [HangupCause::NoPorts, HangupCause::SrtpMismatch] {
        let mut around = Around::new();
        let address = locate::Target {
            transport: Transport::Udp,
            address: "192.0.2.7:5060".parse().unwrap(),
            server_name: String::new(),
        };
        let route = planned(|_| ());
        let mut dialling = dialling(&around, route, Stage::Offering(address));
        around.commands.try_send(LegOutput::NotOffered(cause)).unwrap();
        let first = dialling.next(&mut around.line).await.unwrap();
        assert!(
            matches!(first, Input::NotAdmitted { cause: own, .. } if own == cause),
            "{first:?}"
        );
        let mut todo = Vec::new();
        dialling.chooser.handle(clock::now(), first, &mut todo);
        let goes_on = todo.iter().any(|todo| matches!(todo, Todo::Try(..)));
        assert!(goes_on, "{todo:?}");
        let said = dialling.chooser.decision().unwrap().to_string();
        assert!(said.contains(&format!("not sent: {cause}")), "{said}");
    }
}

/// A name that nobody looked up says nothing of its gateway.
#[tokio::test]
async fn a_gateway_rests_for_no_question_that_was_never_asked() {
    for (error, rests) in [(LocateError::TooMany, false), (LocateError::DnsFailed, true)] {
        let mut around = Around::new();
        let mut dialling = dialling(&around, planned(|_| ()), Stage::Admitted);
        let found = dialling.located(&around.line, Err(error)).await.unwrap();
        let mut todo = Vec::new();
        dialling.chooser.handle(clock::now(), found, &mut todo);
        assert!(todo.iter().any(|todo| matches!(todo, Todo::Try(..))), "{error}: {todo:?}");
        let is_noted = todo.iter().any(|todo| matches!(todo, Todo::Board(_)));
        assert_eq!(is_noted, rests, "{error}: {todo:?}");
        around.commands.try_send(LegOutput::HangUp(HangupCause::Normal)).unwrap();
        drop(dialling.next(&mut around.line).await);
    }
}

/// Nor does a shard that a fault of ours ended while the INVITE was out, one that is down, one without room, or a call that
/// cannot be written.
#[tokio::test]
async fn who_is_called_does_not_answer_for_a_fault_of_ours() {
    let none_sent = |status| Event::Refused {
        dialog: DIALOG,
        status,
        reason: Bytes::new(),
        note: Box::new(RefusalNote { furthest: Furthest::Unsent, ..RefusalNote::default() }),
        response: None,
    };
    for (route, goes_on, told, cause) in [
        (planned(|_| ()), true, vec![placed()], HangupCause::SwitchFault),
        (planned(|_| ()), true, vec![], HangupCause::SwitchFault),
        (planned(|_| ()), true, vec![placed(), none_sent(503)], HangupCause::Overload),
        (planned(|_| ()), true, vec![placed(), none_sent(400)], HangupCause::SwitchFault),
        (peer(), false, vec![placed()], HangupCause::SwitchFault),
        (peer(), false, vec![placed(), none_sent(503)], HangupCause::Overload),
        (peer(), false, vec![placed(), none_sent(400)], HangupCause::SwitchFault),
    ] {
        let mut around = Around::new();
        let (shard, _overheard) = ShardHandle::overheard();
        let (events_in, events) = mailbox::bounded(EVENTS_MAX);
        let stage = Stage::Calling { shard, dialog: None, events };
        let mut dialling = dialling(&around, route, stage);
        let is_placed = !told.is_empty();
        for event in told {
            events_in.try_send(event).unwrap();
        }
        drop(events_in);
        if is_placed {
            assert_eq!(dialling.next(&mut around.line).await, None);
        }
        let id = dialling.trying.as_ref().unwrap().id;
        let cut = dialling.next(&mut around.line).await;
        assert_eq!(cut, Some(Input::CutOff { id, cause }));
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 5_060));
        let address = GatewayAddress { address, transport: Transport::Udp };
        dialling.note(&around.line, Input::AtAddress { id, news: AddressNews::Taken(address) });
        let mut todo = Vec::new();
        dialling.chooser.handle(clock::now(), Input::CutOff { id, cause }, &mut todo);
        let is_told = |todo: &Todo, wanted: health::Input| match todo {
            Todo::Board(Output::Health { input, .. }) | Todo::OfPeer { input, .. } => {
                *input == wanted
            }
            _ => false,
        };
        let failed = health::Input::CallFailed { retry_after: None };
        assert!(!todo.iter().any(|todo| is_told(todo, failed)), "{todo:?}");
        assert!(todo.iter().any(|todo| is_told(todo, health::Input::CallLeft)), "{todo:?}");
        let has_next = todo.iter().any(|todo| matches!(todo, Todo::Try(..)));
        let is_over = |todo: &Todo| match todo {
            Todo::GiveUp { cause: own, status: None } => *own == cause,
            _ => false,
        };
        assert_eq!((has_next, todo.iter().any(is_over)), (goes_on, !goes_on), "{todo:?}");
    }
}

/// A trunk with one channel whose first gateway refuses has that channel for its second.
#[tokio::test]
async fn the_next_try_finds_the_channel_that_the_one_before_had() {
    let around = Around::new();
    let mut dialling = dialling(&around, one_channel(), Stage::Admitted);
    let mut todo = Vec::new();
    let id = dialling.trying.as_ref().unwrap().id;
    dialling.chooser.handle(clock::now(), Input::Unreachable { id }, &mut todo);
    let next = todo.into_iter().find_map(|todo| match todo {
        Todo::Try(id, target) => Some((id, target)),
        _ => None,
    });
    let (id, target) = next.expect("another gateway");
    let refused = dialling.begin(&around.line, id, target);
    assert!(refused.is_none(), "{refused:?}");
    // It is the only one: another call has none.
    let mut todo = Vec::new();
    Chooser::new(one_channel()).handle(clock::now(), Input::Started, &mut todo);
    let Some(Todo::Try(_, target)) = todo.pop() else { panic!("{todo:?}") };
    let Target::Gateway(attempt) = target.as_ref() else { panic!("{target:?}") };
    let refused = around.line.switch.registry.admit_out(clock::now(), attempt, true);
    assert_eq!(refused.err(), Some(HangupCause::TrunkLimit));
}

fn one_channel() -> DialRoute {
    planned(|outbound| outbound.limits.calls_max = 1)
}

/// The first try of a planned call.
fn first_try() -> Box<Target> {
    let mut todo = Vec::new();
    Chooser::new(planned(|_| ())).handle(clock::now(), Input::Started, &mut todo);
    let Some(Todo::Try(_, target)) = todo.pop() else { panic!("{todo:?}") };
    target
}

/// Calls planned at once after a rest wait for DNS, each on its own: one of them tries the gateway, and when that
/// is given up before it was sent, the next does.
#[tokio::test]
async fn one_of_the_calls_that_wait_for_dns_tries_a_gateway_after_its_rest() {
    let around = Around::new();
    let registry = &around.line.switch.registry;
    let target = first_try();
    let Target::Gateway(attempt) = target.as_ref() else { panic!("{target:?}") };
    let (key, trunk) = (attempt.key(), Arc::clone(&attempt.trunk));
    let contents = Contents { trunks: vec![Trunk::clone(&trunk)], ..Contents::default() };
    let _none = registry.turn_board(clock::now(), Some(&RoutingTable::new(contents)));
    // The rest of this failure is over at once.
    let over = health::Input::CallFailed { retry_after: Some(Duration::ZERO) };
    registry.note_probe(clock::now(), &key, over);
    let first = dialling(&around, planned(|_| ()), Stage::Admitted);
    let mut second = dialling_idle(planned(|_| ()));
    let refused = second.begin(&around.line, TryId(1), first_try());
    let expected = Input::NotAdmitted { id: TryId(1), cause: HangupCause::NoGateway };
    assert_eq!(refused, Some(expected));
    drop(first);
    assert_eq!(second.begin(&around.line, TryId(1), first_try()), None);
    let mut third = dialling_idle(planned(|_| ()));
    assert!(third.begin(&around.line, TryId(1), first_try()).is_some());
}

/// The same of an agent that is called by a SIP address: all of them find it ready while they ask DNS.
#[tokio::test]
async fn one_of_the_calls_that_wait_for_dns_tries_an_agent_after_its_rest() {
    let around = Around::new();
    let registry = &around.line.switch.registry;
    let DialRoute::Peer(route) = peer() else { panic!("a peer") };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 5_060));
    let address = GatewayAddress { address, transport: Transport::Udp };
    let of = (route.uri.as_str(), address);
    // The rest of this failure is over at once.
    let over = health::Input::CallFailed { retry_after: Some(Duration::ZERO) };
    registry.note_peer(clock::now(), of, over);
    let [first, second] = [0, 1].map(|_| dialling(&around, peer(), Stage::Admitted));
    assert_eq!(first.is_left_out(&around.line, address), None);
    let state = second.is_left_out(&around.line, address);
    assert!(matches!(state, Some(Availability::Cooling(_))), "{state:?}");
    let target = &second.trying.as_ref().expect("a try").target;
    assert_eq!(resting::none_left(target, false), HangupCause::CarrierTimeout);
    registry.note_peer(clock::now(), of, health::Input::CallLeft);
    assert_eq!(second.is_left_out(&around.line, address), None);
}

/// Its other address is another call's to try: the call ends with what the agent said, and not as if it were silent.
#[tokio::test]
async fn an_agent_that_refused_is_told_of_though_its_other_address_is_another_calls_to_try() {
    let around = Around::new();
    let registry = &around.line.switch.registry;
    let DialRoute::Peer(route) = peer() else { panic!("a peer") };
    let found = |last| locate::Target {
        transport: Transport::Udp,
        address: SocketAddr::from((Ipv4Addr::new(192, 0, 2, last), 5_060)),
        server_name: String::new(),
    };
    let of = (route.uri.as_str(), gateway_address(&found(2)));
    // The rest of this failure is over at once, and another call is there.
    let over = health::Input::CallFailed { retry_after: Some(Duration::ZERO) };
    registry.note_peer(clock::now(), of, over);
    assert_eq!(registry.take_peer(clock::now(), of), Availability::Trial);
    let mut dialling = dialling(&around, peer(), Stage::Admitted);
    let trying = dialling.trying.as_mut().expect("a try");
    trying.addresses = VecDeque::from([found(2)]);
    let id = trying.id;
    let news = AddressNews::Taken(gateway_address(&found(1)));
    dialling.note(&around.line, Input::AtAddress { id, news });
    let refusal = CarrierRefusal { status: 503, ..CarrierRefusal::default() };
    let left = dialling.refused(&around.line, id, refusal).await.expect("no other address");
    let mut todo = Vec::new();
    dialling.chooser.handle(clock::now(), left, &mut todo);
    let is_told = |todo: &Todo| matches!(todo, Todo::GiveUp { status: Some(503), .. });
    assert!(todo.iter().any(is_told), "{todo:?}");
    let said = dialling.chooser.decision().expect("steps").to_string();
    assert!(said.contains("192.0.2.2:5060 over udp is cooling"), "{said}");
}

/// Keys are for one peer alone: the next address of an agent is offered others, by the terms that the agent has.
#[tokio::test]
async fn the_next_address_of_an_agent_is_offered_keys_of_its_own() {
    for (transport, has_keys) in [(Transport::Tls, true), (Transport::Udp, false)] {
        let mut around = Around::new();
        let mut dialling = dialling(&around, peer(), Stage::Admitted);
        let at = |last| SocketAddr::from((Ipv4Addr::new(192, 0, 2, last), 5_061));
        let flow =
            |last| Flow { id: FlowId(1), listener: 0, transport, local: at(1), remote: at(last) };
        let found = |last| {
            let server_name = String::new();
            locate::Target { transport, address: at(last), server_name }
        };
        let place = Some((0, false));
        dialling.offered_for = Some(OfferedFor { terms: None, place });
        assert!(!dialling.wants_offer(&around.line, flow(2), &found(2)).await, "it has an offer");
        dialling.is_offer_told = true;
        let again = dialling.wants_offer(&around.line, flow(3), &found(3)).await;
        assert_eq!(again, has_keys, "{transport}");
        if has_keys {
            let Some((_, DialNews::OfferWanted(way))) = around.news.recv().await else {
                panic!("no offer is asked for")
            };
            let terms = way.terms.expect("terms");
            assert!(terms.brings_keys() && terms.transfers);
        }
    }
}

/// Reads what the call is told until the end of its dialling.
async fn until_failed(around: &mut Around) {
    loop {
        let news = around.news.recv().await.expect("the end");
        if matches!(news, (_, DialNews::Leg(LegInput::DialFailed { .. }))) {
            return;
        }
    }
}

/// A 603 of a carrier may be a person's, but those of many calls in a row are none.
#[tokio::test]
async fn calls_that_a_trunk_declines_before_it_rings_are_counted() {
    let mut around = Around::new();
    let of = trunk(1, |_| {}).id;
    let in_a_row = |around: &Around| around.line.switch.registry.declines().in_a_row(of);
    // Each with how many in a row there are then. The carrier's own trouble is no answer for whom is called.
    let calls = [(603, 1), (603, 2), (603, 3), (486, 0), (603, 1), (603, 2), (404, 0), (603, 1)];
    for (n, (status, counted)) in (10..).zip(calls) {
        around.line.call = CallId::from_uuid(Uuid::from_u128(n));
        let mut dialling = dialling(&around, planned(|_| ()), Stage::Admitted);
        let id = dialling.trying.as_ref().expect("a try").id;
        let trying = Input::Progressed { id, status: 100, early_media: false };
        dialling.heed(&around.line, &trying);
        for status in [408, 503] {
            let refusal = CarrierRefusal { status, ..CarrierRefusal::default() };
            dialling.heed(&around.line, &Input::Refused { id, refusal });
        }
        let refusal = CarrierRefusal { status, ..CarrierRefusal::default() };
        let refused = Input::Refused { id, refusal };
        // As by another gateway of the trunk.
        dialling.heed(&around.line, &refused);
        assert!(dialling.run(&mut around.line, Some(refused)).await.is_none());
        assert_eq!(in_a_row(&around), counted, "call {n}");
        until_failed(&mut around).await;
    }
    // Who rings declines for itself, though others are rung meanwhile.
    let [mut one, mut other] = [1, 2].map(|n| {
        around.line.call = CallId::from_uuid(Uuid::from_u128(n));
        dialling(&around, planned(|_| ()), Stage::Admitted)
    });
    for dialling in [&mut one, &mut other] {
        let id = dialling.trying.as_ref().expect("a try").id;
        let rings = Input::Progressed { id, status: 180, early_media: false };
        dialling.heed(&around.line, &rings);
    }
    for dialling in [&mut one, &mut other] {
        let id = dialling.trying.as_ref().expect("a try").id;
        let refusal = CarrierRefusal { status: 603, ..CarrierRefusal::default() };
        dialling.heed(&around.line, &Input::Refused { id, refusal });
        assert_eq!(in_a_row(&around), 0);
    }
}

/// What a tenant names, its own trunk's gateways too, is looked up among the questions of tenants.
#[tokio::test]
async fn the_names_of_a_tenants_own_trunk_are_looked_up_as_the_tenants() {
    let server = Server::start().await;
    for is_tenants in [true, false] {
        let mut around = Around::new();
        let switch = Arc::get_mut(&mut around.line.switch).expect("nobody else's");
        switch.dns = server.dns_of_the_operator();
        let DialRoute::Planned(mut plan) = planned(|_| ()) else { panic!("gateways") };
        for attempt in &mut plan.tries {
            Arc::make_mut(&mut attempt.trunk).path.is_tenants = is_tenants;
        }
        let mut dialling = dialling(&around, DialRoute::Planned(plan), Stage::Admitted);
        assert!(dialling.locate(&around.line).is_none());
        let trying = dialling.trying.as_mut().expect("a try");
        let Stage::Locating(search) = &mut trying.stage else { panic!("no search") };
        let found = search.await;
        assert_eq!(found == Err(LocateError::TooMany), is_tenants, "{found:?}");
        assert_eq!(server.asked() == 0, is_tenants);
    }
}

fn found_at(address: &str) -> locate::Target {
    let address = SocketAddr::new(address.parse().expect("an address"), 5_060);
    locate::Target { transport: Transport::Udp, address, server_name: String::new() }
}

/// Those of a tenant's addresses that its call may go to.
async fn left_of(
    around: &Around,
    found: Vec<locate::Target>,
) -> Result<Vec<locate::Target>, HangupCause> {
    let line = &around.line;
    let search = std::future::ready(Ok(found));
    let found = carriers::looked_up(Arc::clone(&line.switch), Some(line.tenant), search).await;
    carriers::permitted(line, found.expect("addresses")).await
}

/// A node whose shared trunk has its carrier at 192.76.120.0/24, and that lists these networks.
fn beside_a_carrier(listed: &[&str]) -> Around {
    let mut around = Around::new();
    let switch = Arc::get_mut(&mut around.line.switch).expect("nobody else's");
    let networks = listed.iter().map(|net| net.parse().expect("a network")).collect();
    switch.roots = TrustRoots::native().reaching(Reach { http: false, networks });
    let mut carrier = trunk(9, |_| {});
    carrier.sources = vec!["192.76.120.0/24".parse().expect("a network")];
    let contents = Contents { trunks: vec![carrier], ..Contents::default() };
    switch.table.store(Arc::new(RoutingTable::new(contents)));
    around
}

/// A carrier that knows this node by its address would call any number of a SIP address, on the account of whose trunk
/// it is: what a tenant names does not lead there, be it a SIP address or a gateway of its own trunk.
#[tokio::test]
async fn what_a_tenant_names_leads_to_no_carrier_of_others() {
    let cause = HangupCause::DestinationDenied;
    let DialRoute::Planned(mut plan) = planned(|_| ()) else { panic!("gateways") };
    for attempt in &mut plan.tries {
        Arc::make_mut(&mut attempt.trunk).path.is_tenants = true;
    }
    for route in [peer(), DialRoute::Planned(plan)] {
        let mut around = beside_a_carrier(&[]);
        let is_peer = matches!(route, DialRoute::Peer(_));
        let mut dialling = dialling(&around, route, Stage::Admitted);
        let id = dialling.trying.as_ref().expect("a try").id;
        let found = Found { addresses: vec![found_at("192.76.120.10")], unknown: None };
        let judged = dialling.located(&around.line, Ok(found)).await;
        assert_eq!(judged, Some(Input::NotAdmitted { id, cause }));
        let Some((_, DialNews::Attempted(said))) = around.news.recv().await else {
            panic!("no step")
        };
        let said = said.to_string();
        assert!(said.contains("192.76.120.10 is a carrier of others'"), "{said}");
        if is_peer {
            assert!(dialling.run(&mut around.line, judged).await.is_none());
            drop(dialling);
            let failed = LegInput::DialFailed { cause, status: None };
            assert_eq!(around.leg_news().await, [failed]);
        }
    }
}

#[tokio::test]
async fn an_address_is_judged_by_itself_as_among_those_of_a_name() {
    let judged = |around: &Around, at: &str| {
        let at = at.parse().expect("an address");
        judge(&around.line.switch, (at, around.line.tenant))
            .map_err(|(cause, steps)| (cause, steps.to_string()))
    };
    let around = beside_a_carrier(&["10.0.0.0/8"]);
    for at in ["10.1.2.3", "198.41.0.4"] {
        assert_eq!(judged(&around, at), Ok(()), "{at}");
    }
    let forbidden = judged(&around, "127.0.0.1").map_err(|(cause, _)| cause);
    assert_eq!(forbidden, Err(HangupCause::AgentForbidden));
    let (cause, steps) = judged(&around, "192.76.120.10").expect_err("a carrier of others");
    assert_eq!(cause, HangupCause::DestinationDenied);
    assert!(steps.contains("192.76.120.10 is a carrier of others'"), "{steps}");
    let listing = beside_a_carrier(&["192.76.120.0/24"]);
    assert_eq!(judged(&listing, "192.76.120.10"), Ok(()));
}

/// Where the operator lists a network its agents are called, carriers or not; other addresses of a name are called
/// though one is a carrier's.
#[tokio::test]
async fn a_carrier_that_is_listed_is_called_as_an_agent() {
    let left = async |listed: &[&str], found: &[&str]| {
        let around = beside_a_carrier(listed);
        let found = found.iter().map(|address| found_at(address)).collect();
        let left = left_of(&around, found).await;
        left.map(|left| {
            left.iter().map(|own| own.address.ip().to_string()).collect::<Vec<_>>().join(" ")
        })
    };
    let all = ["192.76.120.10", "1.1.1.1", "192.76.120.77"];
    assert_eq!(left(&[], &all).await, Ok("1.1.1.1".to_owned()));
    let listed = "192.76.120.10 1.1.1.1".to_owned();
    assert_eq!(left(&["192.76.120.8/29"], &all).await, Ok(listed));
    assert_eq!(left(&[], &["10.0.0.1"]).await, Err(HangupCause::AgentForbidden));
    assert_eq!(left(&["10.0.0.0/8"], &["10.0.0.1"]).await, Ok("10.0.0.1".to_owned()));
}

/// A node that lists 203.0.113.0/24 and whose shared trunk has its gateways at these names, which nobody has looked up yet.
fn beside_names(server: &Server, hosts: [&str; 2]) -> Around {
    let mut around = beside_a_carrier(&["203.0.113.0/24"]);
    let carrier = trunk(9, |outbound| {
        for (gateway, host) in outbound.gateways.iter_mut().zip(hosts) {
            Arc::make_mut(gateway).uri.host = host.to_owned();
        }
    });
    share(&mut around, server.dns_of_the_operator(), carrier);
    around
}

/// Gives the node a trunk of everybody's.
fn share(around: &mut Around, dns: Dns, carrier: Trunk) {
    let switch = Arc::get_mut(&mut around.line.switch).expect("nobody else's");
    switch.dns = dns;
    let table = RoutingTable::new(Contents { trunks: vec![carrier], ..Contents::default() });
    let _none = switch.registry.turn_board(clock::now(), Some(&table));
    switch.table.store(Arc::new(table));
}

/// Nobody knows where a carrier is before its name was looked up: the first call that a tenant's address may lead there
/// sees to that, and goes nowhere while DNS does not tell.
#[tokio::test]
async fn no_address_of_a_tenants_is_called_before_it_is_known_where_carriers_are() {
    let server = Server::start().await;
    let called = async |around: &Around, address: &str| {
        let left = left_of(around, vec![found_at(address)]).await;
        left.map(|left| left.len())
    };
    let around = beside_names(&server, ["a.example", "gone.example"]);
    let is_known = || {
        let (line, carrier) = (&around.line, "192.0.2.1".parse().expect("an address"));
        let table = line.switch.table.load();
        line.switch.registry.is_others_carrier(&table, (carrier, line.tenant))
    };
    assert_eq!(called(&around, "203.0.113.1").await, Ok(1));
    assert_eq!((server.asked(), is_known()), (0, false), "that one is listed");
    assert_eq!(called(&around, "1.1.1.1").await, Ok(1));
    assert!(is_known());

    let mut around = beside_names(&server, ["b.example", "servfail.example"]);
    assert_eq!(called(&around, "203.0.113.1").await, Ok(1));
    assert_eq!(called(&around, "1.1.1.1").await, Err(HangupCause::DestinationDenied));
    let Some((_, DialNews::Attempted(said))) = around.news.recv().await else { panic!("no step") };
    assert!(said.to_string().contains("1.1.1.1 may be a carrier of others'"), "{said}");
}

/// However many there are, a call leaves others the places for questions.
#[tokio::test]
async fn many_carriers_are_looked_up_a_few_at_a_time() {
    let server = Server::start().await;
    let mut around = beside_a_carrier(&[]);
    let carrier = trunk(9, |outbound| {
        outbound.gateways = (0..20).map(|n| gateway(&format!("g{n}"), 10)).collect();
    });
    // Of a name two are asked at once, for its services or its addresses: more than these names would be too many.
    let dns = server.dns(DnsLimits { questions_max: 16, ..limits() });
    share(&mut around, dns, carrier);
    let left = left_of(&around, vec![found_at("1.1.1.1")]).await;
    assert_eq!(left.map(|left| left.len()), Ok(1));
    assert!(server.asked() >= 20, "each is looked up");
}

/// DNS may take its time to tell where carriers are: who lets go of the call meanwhile is heard at once.
#[tokio::test]
async fn a_leg_is_let_go_of_while_carriers_are_looked_up() {
    let server = Server::start().await;
    let mut around = beside_names(&server, ["a.example", "slow.example"]);
    let DialRoute::Peer(mut route) = peer() else { panic!("a peer") };
    route.uri = "sip:agent@1.1.1.1".parse().expect("a URI");
    let mut dialling = dialling(&around, DialRoute::Peer(route), Stage::Admitted);
    let Around { line, commands, .. } = &mut around;
    let let_go = async {
        // Its own address needs no DNS: what is asked is where carriers are.
        while server.asked() == 0 {
            tokio::task::yield_now().await;
        }
        commands.try_send(LegOutput::HangUp(HangupCause::Normal)).expect("room");
    };
    let (carried, ()) = tokio::join!(dialling.run(line, None), let_go);
    assert!(carried.is_none());
    drop(dialling);
    let failed = LegInput::DialFailed { cause: HangupCause::CallerCancelled, status: None };
    assert_eq!(around.leg_news().await, [failed]);
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("not poisoned").extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A tenant chooses how many addresses its names have, but not how many lines are logged of them.
#[tokio::test]
async fn what_may_lead_to_an_unknown_carrier_is_logged_once() {
    let server = Server::start().await;
    let around = beside_names(&server, ["b.example", "servfail.example"]);
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber =
        tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    let found = ["1.1.1.1", "1.0.0.1", "9.9.9.9"].map(found_at).to_vec();
    let left = left_of(&around, found).await;
    assert_eq!(left.map(|left| left.len()), Err(HangupCause::DestinationDenied));
    let bytes = lines.0.lock().expect("not poisoned").clone();
    let told = String::from_utf8(bytes).expect("text");
    assert_eq!(told.matches("a gateway's name is not found").count(), 1, "{told}");
    assert!(told.contains("addresses=3"), "{told}");
}

/// The ladder of a call says of a leg that was let go of what the record says.
#[tokio::test]
async fn who_is_given_up_by_the_call_is_told_why() {
    for (said, told) in [
        (HangupCause::NoAnswer, HangupCause::NoAnswer),
        (HangupCause::AnsweredElsewhere, HangupCause::AnsweredElsewhere),
        (HangupCause::CallerCancelled, HangupCause::CallerCancelled),
        (HangupCause::Normal, HangupCause::CallerCancelled),
    ] {
        let mut around = Around::new();
        let (shard, mut overheard) = ShardHandle::overheard();
        let (_events_in, events) = mailbox::bounded(EVENTS_MAX);
        let stage = Stage::Calling { shard, dialog: Some(DIALOG), events };
        let mut dialling = dialling(&around, peer(), stage);
        around.commands.try_send(LegOutput::HangUp(said)).unwrap();
        assert!(dialling.run(&mut around.line, None).await.is_none());
        drop(dialling);
        let heard = overheard.next().await;
        let is_told = matches!(heard, Some(Command::Hangup { cause, .. }) if cause == told);
        assert!(is_told, "{said}: {heard:?}");
    }
}

#[tokio::test]
async fn who_rang_too_long_is_told_so() {
    let around = Around::new();
    let (shard, mut overheard) = ShardHandle::overheard();
    let (_events_in, events) = mailbox::bounded(EVENTS_MAX);
    let stage = Stage::Calling { shard, dialog: Some(DIALOG), events };
    let mut dialling = dialling(&around, planned(|_| ()), stage);
    let id = dialling.trying.as_ref().expect("a try").id;
    let mut todo = Vec::new();
    let rings = Input::Progressed { id, status: 180, early_media: false };
    dialling.chooser.handle(clock::now(), rings, &mut todo);
    let late = dialling.chooser.deadline().expect("an end of its ringing");
    dialling.chooser.handle(late, Input::DeadlineReached, &mut todo);
    let given_up = todo.into_iter().find_map(|todo| match todo {
        Todo::Abandon(id, cause) => Some((id, cause)),
        _ => None,
    });
    let (id, cause) = given_up.expect("it is given up");
    dialling.abandon(id, cause).await;
    drop(dialling);
    let heard = overheard.next().await;
    let told = HangupCause::NoAnswer;
    assert!(matches!(heard, Some(Command::Hangup { cause, .. }) if cause == told), "{heard:?}");
}
