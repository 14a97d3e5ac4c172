//! One try: what it waits for, and what it holds.

use crate::clock;
use crate::engine::dial::Line;
use crate::engine::dial::attempt::carriers;
use crate::engine::dial::attempt::carriers::Found;
use crate::engine::dial::route::Target;
use crate::engine::mailbox;
use crate::engine::registry::PermitGuard;
use crate::engine::registry::RegisteredWay;
use crate::engine::registry::SourceGuard;
use crate::engine::registry::TrialGuard;
use crate::engine::sip_shard::ShardHandle;
use crate::engine::way;
use crate::net::connect::Destination;
use crate::net::way_back::WayBack;
use crate::routing::outbound_attempt::TryId;
use crate::routing::trunk::TrunkPath;
use crate::sip::endpoint::event::DialogId;
use crate::sip::endpoint::event::Event;
use crate::sip::endpoint::outbound::OutboundInvite;
use crate::sip::locate;
use crate::sip::locate::LocateError;
use crate::types::moment::Moment;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;

/// One try.
pub(super) struct Trying {
    pub(super) id: TryId,
    pub(super) target: Box<Target>,
    pub(super) permit: Option<PermitGuard>,
    /// It tries its gateway after a rest.
    #[expect(dead_code, reason = "held for being held")]
    pub(super) trial: Option<TrialGuard>,
    /// Its address may answer, and may ask once it did.
    pub(super) sources: Vec<SourceGuard>,
    /// How it is reached once its connection is gone.
    pub(super) way_back: Option<WayBack>,
    pub(super) stage: Stage,
    /// Its party was rung.
    pub(super) has_rung: bool,
    /// The flow of its trunk's registration, where it goes by that.
    pub(super) registered: Option<RegisteredWay>,
    /// Addresses left.
    pub(super) addresses: VecDeque<locate::Target>,
    /// The INVITE by datagram, should the connection for its length not open.
    pub(super) instead: Option<Box<OutboundInvite>>,
}

/// A search in DNS.
type Search = Pin<Box<dyn Future<Output = Result<Found, LocateError>> + Send>>;

pub(super) enum Stage {
    /// It may go on.
    Admitted,
    /// DNS is asked.
    Locating(Search),
    /// The call makes an offer for the way to this address.
    Offering(locate::Target),
    /// Waits for the turn of its INVITE to this address.
    Pacing(Moment, locate::Target),
    /// An INVITE is out.
    Calling { shard: ShardHandle, dialog: Option<DialogId>, events: mailbox::Receiver<Event> },
}

/// What a try came to.
pub(super) enum Step {
    Turn,
    Located(Result<Found, LocateError>),
    Event(Option<Event>),
}

impl Trying {
    /// Begins to search for the addresses of its target.
    pub(super) fn search(
        &mut self,
        line: &Line,
        search: impl Future<Output = Result<Vec<locate::Target>, LocateError>> + Send + 'static,
    ) {
        let named_by = self.target.is_tenants().then_some(line.tenant);
        let found = carriers::looked_up(Arc::clone(&line.switch), named_by, search);
        self.stage = Stage::Locating(Box::pin(found));
    }

    /// How `address` is reached.
    pub(super) fn destination(&self, line: &Line, address: &locate::Target) -> Destination {
        // As its trunk registered: what the peer proved there is the name of the registrar.
        let flow = self.registered.as_ref().map(|registered| registered.flow.id);
        if let Some(to) = flow.and_then(|flow| line.switch.flows.destination_of(flow)) {
            return Destination::clone(&to);
        }
        let (trunk, at) = (self.target.trunk(), Some(address.address.ip()));
        let listener = line.switch.listener_for(trunk, address.transport, at);
        let none = TrunkPath::default();
        let path = trunk.map_or(&none, |trunk| &trunk.path);
        way::destination(path, address, listener)
    }

    /// The next thing that happens to the try. May be dropped and called again at any time.
    async fn step(&mut self) -> Step {
        match &mut self.stage {
            Stage::Admitted => Step::Turn,
            Stage::Pacing(at, _) => {
                tokio::time::sleep_until(clock::instant(*at).into()).await;
                Step::Turn
            }
            Stage::Offering(_) => std::future::pending().await,
            Stage::Locating(search) => Step::Located(search.await),
            Stage::Calling { events, .. } => Step::Event(events.recv().await),
        }
    }
}

impl Stage {
    /// The dialog that it began, and its shard; `None`: there is none. That it is placed, and answered even, may
    /// wait to be read; what the shard has to say later it finds nobody for, and hangs up by itself.
    pub(super) fn placed(self) -> Option<(ShardHandle, DialogId)> {
        let Self::Calling { shard, dialog, events } = self else { return None };
        let placed = |event: Event| match event {
            Event::Placed { dialog, .. } => Some(dialog),
            _ => None,
        };
        let unread = events.close();
        Some((shard, dialog.or_else(|| unread.into_iter().find_map(placed))?))
    }
}

pub(super) async fn step_of(trying: Option<&mut Trying>) -> Step {
    match trying {
        Some(trying) => trying.step().await,
        None => std::future::pending().await,
    }
}
