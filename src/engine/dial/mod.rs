//! One dialled leg: its task tries gateways until somebody answers, then carries the dialog.

mod attempt;
mod carry;
mod fork;
mod peer;
mod route;
mod watched;

pub(super) use attempt::judge;
pub(crate) use carry::command_of;
pub(crate) use carry::input_of;
pub(crate) use carry::target_of;
pub(super) use route::DialRoute;
pub(super) use route::PeerRoute;
pub(crate) use route::by_gateway;
pub(crate) use route::refusal;
pub(super) use route::transport_of;
pub(super) use watched::Watched;

use crate::call::dial::LegTerms;
use crate::call::event::Charged;
use crate::call::input::LegInput;
use crate::call::input::LegOutput;
use crate::call::side::LegSide;
use crate::engine::mailbox;
use crate::engine::sip_shard::ShardHandle;
use crate::engine::switch::Switch;
use crate::routing::decision::Decision;
use crate::routing::trunk::Trunk;
use crate::sip::endpoint::event::DialogId;
use crate::sip::endpoint::told::DialogName;
use crate::types::id::CallId;
use crate::types::id::TenantId;
use crate::types::id::TrunkId;
use crate::types::transport::Transport;
use bytes::Bytes;
use std::net::SocketAddr;
use std::sync::Arc;
use tracing::Instrument;

/// What a call wants of a leg, waiting for it.
const COMMANDS_MAX: usize = 16;
/// What a shard tells a leg, waiting for it. Over it: the leg is given up.
const EVENTS_MAX: usize = 64;

/// What a leg is dialled with.
pub(super) struct DialSeed {
    /// The call it belongs to.
    pub(super) call: CallId,
    /// Whose that is.
    pub(super) tenant: TenantId,
    /// Its place in the call, and which of the legs dialled there it is.
    pub(super) id: DialId,
    /// Whom, and by what way: several are rung at once.
    pub(super) routes: Vec<DialRoute>,
    /// What the first offer was made for.
    pub(super) offered_for: OfferedFor,
    /// The first offer; `None`: the peer makes it.
    pub(super) offer: Option<Bytes>,
    /// Its part in the circuit of the agent it goes to.
    pub(super) watched: Watched,
    /// Where the call hears of it.
    pub(super) news: mailbox::Sender<(DialId, DialNews)>,
}

/// Which leg of a call was dialled. One that is let go says so when its peer has answered that, and another may be
/// dialled in its place by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DialId {
    /// Its place in the call.
    pub(super) side: LegSide,
    /// Which one of those dialled there, one after the other.
    pub(super) turn: u32,
}

/// What a call hears of a leg it dialled.
#[derive(Debug)]
pub(super) enum DialNews {
    /// The leg is answered: it is this dialog from now on.
    Carried(Box<CarriedDialog>),
    /// Something happened to the leg.
    Leg(LegInput),
    /// An INVITE left for an address.
    Sent {
        /// Where it went.
        to: SocketAddr,
        /// How.
        transport: Transport,
        /// What it is charged to should it be answered.
        charged: Option<Charged>,
    },
    /// The dialling is over, with these steps.
    Attempted(Decision),
    /// The next attempt goes by another way than the offer was made for; it waits for one of its own.
    OfferWanted(LegWay),
}

/// What of the way of a leg decides about its offer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct OfferedFor {
    /// The trunk, and how its signalling travels; `None`: a peer, whose terms are the same by any way.
    pub(super) terms: Option<(TrunkId, Transport)>,
    /// The listener it names, and whether its peer is reached over IPv6: so where its media are.
    pub(super) place: Option<(u16, bool)>,
}

/// The way a leg goes by.
#[derive(Debug)]
pub(super) struct LegWay {
    /// The trunk; `None`: none describes its peer.
    pub(super) trunk: Option<Arc<Trunk>>,
    /// What the leg may agree to; `None`: what it was dialled with.
    pub(super) terms: Option<Box<LegTerms>>,
    /// What its offer is made for.
    pub(super) offered_for: OfferedFor,
    /// The index of the listener that its requests name.
    pub(super) listener: u16,
    /// Its peer is reached over IPv6.
    pub(super) is_ipv6: bool,
    /// Whether others are rung beside it.
    pub(super) rung: Rung,
}

/// What else rings for a leg that is to be offered something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rung {
    /// Nobody: of the place that the media had before nobody makes use any more.
    Alone,
    /// Others, who were told other places, or the same one.
    BesideOthers,
    /// This one answered of several.
    First,
}

/// The dialog of an answered leg.
#[derive(Clone, Debug)]
pub(super) struct CarriedDialog {
    /// The shard it belongs to.
    pub(super) shard: ShardHandle,
    /// Which of that.
    pub(super) dialog: DialogId,
    /// What names it in the network.
    pub(super) name: DialogName,
    /// What it is charged to; `None`: a peer, by no trunk.
    pub(super) charged: Option<Charged>,
}

/// The call's hold on a leg it dialled. Dropping it hangs the leg up.
#[derive(Debug)]
pub(super) struct DialHandle {
    commands: mailbox::Sender<LegOutput>,
    /// It goes to one target alone, and says at once that it was given up. Several parties say so one by one.
    is_single: bool,
}

impl DialHandle {
    pub(super) const fn is_single(&self) -> bool {
        self.is_single
    }

    /// Tells it at once, which only fails where it has not listened for long; true when it was told.
    pub(super) fn tell_now(&self, output: LegOutput) -> bool {
        self.commands.try_send(output).is_ok()
    }

    /// Tells the leg's task what to do.
    pub(super) async fn tell(&self, output: LegOutput) {
        // A leg that is gone has said so, or is about to.
        drop(self.commands.send(output).await);
    }
}

/// Starts the task of a leg.
pub(super) fn start(switch: &Arc<Switch>, mut seed: DialSeed) -> DialHandle {
    let (commands_in, commands) = mailbox::bounded(COMMANDS_MAX);
    let line = Line {
        switch: Arc::clone(switch),
        call: seed.call,
        tenant: seed.tenant,
        id: seed.id,
        commands,
        news: seed.news,
    };
    let is_single = seed.routes.len() == 1;
    if seed.routes.len() > 1 {
        tokio::spawn(Box::pin(fork::run(line, seed.routes)).in_current_span());
    } else if let Some(route) = seed.routes.pop() {
        let offered = (Some(seed.offered_for), seed.offer);
        let life = attempt::run(line, route, offered, seed.watched);
        tokio::spawn(Box::pin(life).in_current_span());
    }
    DialHandle { commands: commands_in, is_single }
}

/// What dialling and carrying a leg have in common.
struct Line {
    switch: Arc<Switch>,
    call: CallId,
    tenant: TenantId,
    id: DialId,
    commands: mailbox::Receiver<LegOutput>,
    news: mailbox::Sender<(DialId, DialNews)>,
}

impl Line {
    async fn tell(&self, input: LegInput) {
        self.report(DialNews::Leg(input)).await;
    }

    async fn report(&self, news: DialNews) {
        // A call that is over has let go of the leg too, which ends this task.
        drop(self.news.send((self.id, news)).await);
    }
}

#[cfg(test)]
mod tests {
    //! What is around a leg that is dialled, played by hand.

    use super::*;
    use crate::cdr::CallReport;
    use crate::engine::switch;
    use crate::engine::switch::Ledger;
    use crate::engine::switch::Written;
    use crate::routing::outbound::tests::Lab;
    use crate::routing::outbound::tests::request;
    use crate::routing::outbound::tests::trunk;
    use crate::routing::outbound_trunk::OutboundTrunk;
    use uuid::Uuid;

    struct Nobody;

    impl Ledger for Nobody {
        fn report(&self, _: CallReport) -> Written {
            Box::pin(async {})
        }

        fn report_later(&self, _: CallReport) {}
    }

    /// A leg's ends towards its call.
    pub(super) struct Around {
        pub(super) line: Line,
        pub(super) commands: mailbox::Sender<LegOutput>,
        pub(super) news: mailbox::Receiver<(DialId, DialNews)>,
    }

    impl Around {
        pub(super) fn new() -> Self {
            let (commands, obeyed) = mailbox::bounded(COMMANDS_MAX);
            let (said, news) = mailbox::bounded(16);
            let switch = switch::tests::idle(Arc::new(Nobody), 21_314..=21_317);
            let call = CallId::from_uuid(Uuid::from_u128(1));
            let tenant = TenantId::from_uuid(Uuid::from_u128(2));
            let (switch, id) = (Arc::new(switch), DialId { side: LegSide::Far, turn: 1 });
            let line = Line { switch, call, tenant, id, commands: obeyed, news: said };
            Self { line, commands, news }
        }

        /// What the call heard of the leg.
        pub(super) async fn leg_news(self) -> Vec<LegInput> {
            let Self { line, mut news, .. } = self;
            drop(line);
            let mut heard = Vec::new();
            while let Some((_, news)) = news.recv().await {
                if let DialNews::Leg(input) = news {
                    heard.push(input);
                }
            }
            heard
        }
    }

    /// A call by the two gateways of a trunk, one after the other.
    pub(super) fn planned(change: fn(&mut OutboundTrunk)) -> DialRoute {
        let plan = Lab::new(vec![trunk(1, change)]).plan(request("+15551234567"));
        DialRoute::Planned(Box::new(plan.unwrap_or_else(|refusal| panic!("{}", refusal.decision))))
    }
}
