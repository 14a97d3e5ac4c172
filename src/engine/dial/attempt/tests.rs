//! Tries whose shard, call and carriers are played by hand.

use super::*;
use crate::engine::dial::PeerRoute;
use crate::engine::dial::tests::Around;
use crate::engine::dial::tests::planned;
use crate::engine::sip_shard::ShardHandle;
use crate::sip::endpoint::event::DialogId;
use crate::sip::endpoint::event::Token;
use crate::sip::endpoint::told::Fork;
use crate::types::transport::Transport;
use std::net::Ipv4Addr;

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
    }))
}

/// A dialling whose first try is at this stage.
fn dialling(around: &Around, route: DialRoute, stage: Stage) -> Dialling {
    let mut dialling = Dialling {
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
    };
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
