//! Trying, one address after the other, until somebody answers.

mod carriers;
mod early;
mod resting;
mod trying;

pub(in crate::engine) use carriers::judge;

use crate::call::dial::LegTerms;
use crate::call::input::LegInput;
use crate::call::input::LegOutput;
use crate::clock;
use crate::engine::dial::CarriedDialog;
use crate::engine::dial::DialNews;
use crate::engine::dial::DialRoute;
use crate::engine::dial::EVENTS_MAX;
use crate::engine::dial::LegWay;
use crate::engine::dial::Line;
use crate::engine::dial::OfferedFor;
use crate::engine::dial::Rung;
use crate::engine::dial::Watched;
use crate::engine::dial::attempt::carriers::Found;
use crate::engine::dial::attempt::resting::gateway_address;
use crate::engine::dial::attempt::trying::Stage;
use crate::engine::dial::attempt::trying::Step;
use crate::engine::dial::attempt::trying::Trying;
use crate::engine::dial::attempt::trying::step_of;
use crate::engine::dial::carry;
use crate::engine::dial::carry::Carried;
use crate::engine::dial::route::Chooser;
use crate::engine::dial::route::Target;
use crate::engine::dial::route::Todo;
use crate::engine::dial::route::refusal;
use crate::engine::leg_terms;
use crate::engine::mailbox;
use crate::engine::sip_shard::PlacedLeg;
use crate::engine::way;
use crate::net::connect::Destination;
use crate::routing::health::Availability;
use crate::routing::outbound_attempt::AddressNews;
use crate::routing::outbound_attempt::CarrierRefusal;
use crate::routing::outbound_attempt::Input;
use crate::routing::outbound_attempt::TryId;
use crate::sip::endpoint::event::Command;
use crate::sip::endpoint::event::Event;
use crate::sip::endpoint::flow::Flow;
use crate::sip::endpoint::outbound::OutboundInvite;
use crate::sip::endpoint::told::DialogName;
use crate::sip::endpoint::told::Furthest;
use crate::sip::locate;
use crate::sip::locate::LocateError;
use crate::types::cause::HangupCause;
use crate::types::moment::Moment;
use crate::types::transport::LocalEnd;
use crate::types::transport::Oversize;
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::Duration;

/// Runs a leg from its first try to its end.
pub(super) async fn run(
    mut line: Line,
    route: DialRoute,
    (offered_for, offer): (Option<OfferedFor>, Option<Bytes>),
    mut watched: Watched,
) {
    if !watched.admits() {
        let cause = HangupCause::AgentCircuitOpen;
        return line.tell(LegInput::DialFailed { cause, status: None }).await;
    }
    let mut dialling = Dialling {
        chooser: Chooser::new(route),
        trying: None,
        is_first: true,
        is_forked: offered_for.is_none(),
        offered_for,
        offer,
        is_offer_told: false,
        answer: None,
        hung_up_for: HangupCause::CallerCancelled,
        watched,
    };
    if let Some(carried) = dialling.run(&mut line, Some(Input::Started)).await {
        carry::run(line, carried).await;
    }
}

struct Dialling {
    chooser: Chooser,
    trying: Option<Trying>,
    is_first: bool,
    /// What the offer was made for; `None`: there is none yet.
    offered_for: Option<OfferedFor>,
    /// It is rung beside others, and the terms of its offers are asked for.
    is_forked: bool,
    offer: Option<Bytes>,
    /// An INVITE left with it.
    is_offer_told: bool,
    /// The session description of the answer and what names its dialog, until the call is told.
    answer: Option<(Option<Bytes>, DialogName)>,
    /// Why the call lets go of the leg, where it does: the party that is tried is told.
    hung_up_for: HangupCause,
    watched: Watched,
}

async fn sleep_until(moment: Option<Moment>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(clock::instant(moment).into()).await,
        None => std::future::pending().await,
    }
}

impl Dialling {
    /// Tries until somebody answers; `None` when nobody does, of which the call was told.
    async fn run(&mut self, line: &mut Line, mut input: Option<Input>) -> Option<Carried> {
        let mut todo = Vec::new();
        loop {
            if let Some(input) = input.take() {
                self.heed(line, &input);
                self.chooser.handle(clock::now(), input, &mut todo);
            }
            for next in std::mem::take(&mut todo) {
                match next {
                    Todo::Try(id, target) => input = self.begin(line, id, target),
                    Todo::Abandon(id, cause) => self.abandon(id, cause).await,
                    said @ (Todo::Board(_) | Todo::OfPeer { .. }) => resting::say(line, said),
                    Todo::Connected => return self.connected(line).await,
                    Todo::GiveUp { cause, status } => {
                        self.watched.not_had(cause, status);
                        self.report_steps(line).await;
                        line.tell(LegInput::DialFailed { cause, status }).await;
                        return None;
                    }
                }
            }
            if input.is_none() {
                input = self.next(line).await;
            }
        }
    }

    async fn report_steps(&mut self, line: &Line) {
        if let Some(decision) = self.chooser.decision() {
            line.report(DialNews::Attempted(decision)).await;
        }
    }

    /// Waits for the next thing that concerns the dialling.
    async fn next(&mut self, line: &mut Line) -> Option<Input> {
        let deadline = self.chooser.deadline();
        tokio::select! {
            biased;
            command = line.commands.recv() => match command {
                Some(LegOutput::HangUp(cause)) => {
                    self.watched.let_go(cause);
                    // A leg that is let go of before it is answered ended by nothing that is normal to its party.
                    if cause != HangupCause::Normal {
                        self.hung_up_for = cause;
                    }
                    Some(Input::Cancelled)
                }
                None => Some(Input::Cancelled),
                Some(LegOutput::Offer(offer)) => {
                    (self.offer, self.is_offer_told) = (offer, false);
                    self.offered(line).await
                }
                Some(LegOutput::NotOffered(cause)) => self.not_offered(cause),
                Some(output) => self.say(output).await,
            },
            () = sleep_until(deadline) => Some(Input::DeadlineReached),
            step = step_of(self.trying.as_mut()) => match step {
                Step::Turn => self.turn(line).await,
                Step::Located(found) => self.located(line, found).await,
                Step::Event(event) => self.event(line, event).await,
            },
        }
    }

    /// Asks for a permit for a try.
    fn begin(&mut self, line: &Line, id: TryId, target: Box<Target>) -> Option<Input> {
        let now = clock::now();
        // What the try before held is free: the limit of its trunk has room for this one.
        self.trying = None;
        let registry = &line.switch.registry;
        let admitted = match target.as_ref() {
            Target::Gateway(attempt) => {
                // Before DNS is asked: of many calls that wait for that one shall try the gateway.
                registry.take_trial(now, attempt.key()).and_then(|trial| {
                    let permit = registry.admit_out(now, attempt, self.is_first)?;
                    Ok((Some(permit), trial))
                })
            }
            Target::Peer(_) => Ok((None, None)),
        };
        match admitted {
            Ok((permit, trial)) => {
                self.is_first = false;
                let stage = Stage::Admitted;
                let addresses = VecDeque::new();
                self.trying = Some(Trying {
                    id,
                    target,
                    permit,
                    trial,
                    sources: Vec::new(),
                    way_back: None,
                    stage,
                    has_rung: false,
                    registered: None,
                    addresses,
                    instead: None,
                });
                None
            }
            Err(cause) => Some(Input::NotAdmitted { id, cause }),
        }
    }

    /// Hangs up what a try began; whatever still comes of it is the shard's to end.
    async fn abandon(&mut self, id: TryId, cause: HangupCause) {
        let Some(trying) = self.trying.take_if(|trying| trying.id == id) else { return };
        if let Some((shard, dialog)) = trying.stage.placed() {
            let is_calls = cause == HangupCause::CallerCancelled;
            let cause = if is_calls { self.hung_up_for } else { cause };
            shard.command(Command::Hangup { dialog, cause }).await;
        }
    }

    /// It may go on, or a wait is over.
    async fn turn(&mut self, line: &Line) -> Option<Input> {
        let trying = self.trying.as_mut()?;
        if let Stage::Pacing(_, address) = &trying.stage {
            let address = address.clone();
            return self.send(line, address).await;
        }
        self.locate(line)
    }

    /// The call made the offer that was waited for.
    async fn offered(&mut self, line: &Line) -> Option<Input> {
        let trying = self.trying.as_mut()?;
        let Stage::Offering(address) = &trying.stage else { return None };
        let address = address.clone();
        self.send(line, address).await
    }

    /// The call has no place for the media of this way: there may be one for the next.
    fn not_offered(&mut self, cause: HangupCause) -> Option<Input> {
        self.offered_for = None;
        let trying = self.trying.as_ref().filter(|own| matches!(own.stage, Stage::Offering(_)))?;
        Some(Input::NotAdmitted { id: trying.id, cause })
    }

    /// Has the call make another offer, where the way to `address` is another than that of the last one.
    async fn wants_offer(&mut self, line: &Line, flow: Flow, address: &locate::Target) -> bool {
        let Some(trying) = self.trying.as_mut() else { return false };
        let trunk = trying.target.trunk().cloned();
        let (listener, is_ipv6) = (flow.listener, flow.remote.is_ipv6());
        let terms = trunk.as_ref().map(|trunk| (trunk.id, flow.transport));
        let offered_for = OfferedFor { terms, place: Some((listener, is_ipv6)) };
        let terms = match (&trunk, trying.target.as_ref()) {
            (Some(trunk), _) => Some(leg_terms::outbound(trunk, flow.transport)),
            (None, Target::Peer(route)) => {
                (self.is_forked || self.is_offer_told).then(|| LegTerms {
                    transfers: route.transfers,
                    ..leg_terms::of_peer(flow.transport, route.srtp)
                })
            }
            (None, Target::Gateway(_)) => None,
        };
        // Keys are for one peer alone (RFC 4568 §7): the next is offered others.
        let are_keys_told = self.is_offer_told && terms.as_ref().is_some_and(LegTerms::brings_keys);
        if self.offered_for.replace(offered_for) == Some(offered_for) && !are_keys_told {
            return false;
        }
        let terms = terms.map(Box::new);
        let rung = if self.is_forked { Rung::BesideOthers } else { Rung::Alone };
        trying.stage = Stage::Offering(address.clone());
        let way = LegWay { trunk, terms, offered_for, listener, is_ipv6, rung };
        line.report(DialNews::OfferWanted(way)).await;
        true
    }

    fn locate(&mut self, line: &Line) -> Option<Input> {
        let trying = self.trying.as_mut()?;
        if let Some(registered) = trying.target.registered_way(&line.switch.registry) {
            let found = registered.target();
            trying.registered = Some(registered);
            trying.search(line, std::future::ready(Ok(vec![found])));
            return None;
        }
        match trying.target.search() {
            Ok(search) => {
                let dns = line.switch.dns.clone();
                let named = trying.target.named(line.tenant);
                trying.search(line, async move { way::locate(&dns, named, search).await });
                None
            }
            Err(error) => {
                tracing::info!(%error, "a gateway cannot be looked up");
                Some(Input::Unreachable { id: trying.id })
            }
        }
    }

    async fn located(&mut self, line: &Line, found: Result<Found, LocateError>) -> Option<Input> {
        let trying = self.trying.as_mut()?;
        match found {
            Ok(found) => {
                // What an operator names leads where the operator wants.
                let addresses = if trying.target.is_tenants() {
                    match carriers::permitted(line, found).await {
                        Ok(addresses) => addresses,
                        Err(cause) => return Some(Input::NotAdmitted { id: trying.id, cause }),
                    }
                } else {
                    found.addresses
                };
                trying.addresses = addresses.into();
                match self.leave_out(line) {
                    Some(none_left) => Some(none_left),
                    None => self.next_address(line).await,
                }
            }
            // No fault of the gateway, which is as well as before.
            Err(LocateError::TooMany) => {
                let (id, cause) = (trying.id, HangupCause::Overload);
                Some(Input::NotAdmitted { id, cause })
            }
            Err(error) => {
                tracing::info!(%error, "a gateway cannot be located");
                Some(Input::Unreachable { id: trying.id })
            }
        }
    }

    /// Goes on with the next address of the same gateway.
    async fn next_address(&mut self, line: &Line) -> Option<Input> {
        let now = clock::now();
        loop {
            let trying = self.trying.as_mut()?;
            let Some(address) = trying.addresses.pop_front() else {
                return Some(Input::Unreachable { id: trying.id });
            };
            let start = match trying.target.as_ref() {
                Target::Gateway(attempt) => {
                    line.switch.registry.turn_out(now, address.address.ip(), attempt)
                }
                Target::Peer(_) => Ok(now),
            };
            match start {
                Ok(start) if start > now => {
                    trying.stage = Stage::Pacing(start, address);
                    return None;
                }
                Ok(_) => return self.send(line, address).await,
                Err(cause) if trying.addresses.is_empty() => {
                    return Some(Input::NotAdmitted { id: trying.id, cause });
                }
                Err(_) => {}
            }
        }
    }

    /// Sends the INVITE to an address.
    async fn send(&mut self, line: &Line, address: locate::Target) -> Option<Input> {
        let trying = self.trying.as_mut()?;
        trying.instead = None;
        let id = trying.id;
        let destination = trying.destination(line, &address);
        let registered = trying.registered.as_ref();
        let found = registered.map_or_else(
            || line.switch.flows.connect(&destination),
            |registered| Ok(registered.flow),
        );
        if let Ok(flow) = &found
            && self.wants_offer(line, *flow, &address).await
        {
            return None;
        }
        if self.trying.as_ref()?.registered.is_none() {
            let found = gateway_address(&address);
            if let Some(state) = self.is_left_out(line, found) {
                self.note(line, Input::AtAddress { id, news: AddressNews::LeftOut(found, state) });
                let trying = self.trying.as_ref()?;
                if trying.addresses.is_empty() {
                    let is_throttled = matches!(state, Availability::Throttled(_));
                    let cause = resting::none_left(&trying.target, is_throttled);
                    return Some(Input::NotAdmitted { id, cause });
                }
                return Box::pin(self.next_address(line)).await;
            }
            self.note(line, Input::AtAddress { id, news: AddressNews::Taken(found) });
        }
        let flow = match found {
            Ok(flow) => flow,
            Err(error) => {
                tracing::info!(%error, "no way to a gateway");
                self.note(line, Input::AtAddress { id, news: AddressNews::Failed });
                // Boxed, since the two call each other; addresses are few.
                return Box::pin(self.next_address(line)).await;
            }
        };
        let trying = self.trying.as_mut()?;
        let registered = trying.registered.as_ref();
        trying.sources = vec![line.switch.registry.expect_from(address.address.ip())];
        let mut invite = trying.target.invite(flow);
        if flow.transport.is_reliable() {
            let way = line.switch.flows.keep_way(destination);
            invite.way_back = Some(way.flow());
            trying.way_back = Some(way);
        }
        if let Some(way) = registered.filter(|way| !way.routes.is_empty()) {
            // RFC 3608 §5.1: what the registrar says of the way takes the place of our own.
            invite.routes.clone_from(&way.routes);
        }
        invite.body.clone_from(&self.offer);
        if !trying.addresses.is_empty() && invite.silence_max.is_none() {
            invite.silence_max = Some(NEXT_ADDRESS);
        }
        self.place(line, Box::new(invite)).await
    }

    async fn place(&mut self, line: &Line, mut invite: Box<OutboundInvite>) -> Option<Input> {
        let trying = self.trying.as_mut()?;
        let (events_in, events) = mailbox::bounded(EVENTS_MAX);
        let Some(shard) = line.switch.shard_for(&mut invite) else {
            return Some(Input::CutOff { id: trying.id, cause: HangupCause::SwitchFault });
        };
        let (to, transport) = (invite.flow.remote, invite.flow.transport);
        let leg = PlacedLeg {
            call: line.call,
            secret_headers: trying.target.secret_headers(),
            trunk: trying.target.trunk().cloned(),
        };
        shard.place(leg, invite, events_in).await;
        self.is_offer_told = true;
        let charged = trying.target.charged();
        line.report(DialNews::Sent { to, transport, charged }).await;
        trying.stage = Stage::Calling { shard, dialog: None, events };
        // Silence is watched at each address, by the endpoint; the chooser is told at the last.
        trying.addresses.is_empty().then_some(Input::Sent { id: trying.id })
    }

    async fn event(&mut self, line: &Line, event: Option<Event>) -> Option<Input> {
        let trying = self.trying.as_mut()?;
        let id = trying.id;
        let cut_off = |cause| Some(Input::CutOff { id, cause });
        // A fault of ours ended its shard's life, or the shard is down.
        let Some(event) = event else { return cut_off(HangupCause::SwitchFault) };
        match event {
            Event::Placed { dialog: new, .. } => {
                if let Stage::Calling { dialog, .. } = &mut trying.stage {
                    *dialog = Some(new);
                }
                None
            }
            Event::TooLarge { invite, .. } => self.send_by_stream(line, invite).await,
            Event::Progressed { status, body, .. } => {
                let early_media = body.is_some();
                if status > 100 {
                    let body = body.map(|body| body.bytes);
                    line.tell(LegInput::Progressed { status, body }).await;
                }
                Some(Input::Progressed { id, status, early_media })
            }
            Event::Answered { body, name, addresses, .. } => {
                let expected =
                    addresses.into_iter().map(|from| line.switch.registry.expect_from(from));
                trying.sources.extend(expected);
                self.answer = Some((body.map(|body| body.bytes), name));
                Some(Input::Answered { id })
            }
            // It has no room for the call, or what the call says cannot be written: whom we call did nothing.
            Event::Refused { status, note, .. } if note.furthest == Furthest::Unsent => {
                let no_room = status == 503;
                cut_off(if no_room { HangupCause::Overload } else { HangupCause::SwitchFault })
            }
            Event::Refused { status, reason, note, response, .. } => {
                if response.is_none() && status == 513 {
                    let phrase = "too long for UDP, and nothing else is allowed".to_owned();
                    return Some(Input::Refused { id, refusal: refusal(status, phrase, &note) });
                }
                if response.is_none() {
                    return self.unanswered(line, (id, status), note.furthest).await;
                }
                let phrase = String::from_utf8_lossy(&reason).into_owned();
                self.refused(line, id, refusal(status, phrase, &note)).await
            }
            // The shard gave it up.
            Event::Ended { .. } => cut_off(HangupCause::SwitchFault),
            other => early::hear(line, other).await,
        }
    }

    /// Nothing came, or the connection was lost: the next address, or the end of this gateway.
    async fn unanswered(
        &mut self,
        line: &Line,
        (id, status): (TryId, u16),
        furthest: Furthest,
    ) -> Option<Input> {
        let is_unopened = furthest == Furthest::Silence && status == 503;
        let instead = self.trying.as_mut().and_then(|trying| trying.instead.take());
        if let Some(invite) = instead.filter(|_| is_unopened) {
            // RFC 3261 §18.1.1: who takes no TCP may still take a long datagram.
            return self.place(line, invite).await;
        }
        let is_left = self.trying.as_ref().is_some_and(|trying| !trying.addresses.is_empty());
        if is_left && furthest == Furthest::Silence {
            self.note(line, Input::AtAddress { id, news: AddressNews::Failed });
            return self.next_address(line).await;
        }
        Some(if status == 408 { Input::TimedOut { id } } else { Input::Unreachable { id } })
    }

    /// An address refused the call: the next address, where that helps, or the end of this gateway.
    async fn refused(&mut self, line: &Line, id: TryId, refusal: CarrierRefusal) -> Option<Input> {
        let is_left = self.trying.as_ref().is_some_and(|trying| !trying.addresses.is_empty());
        if !is_left || !self.chooser.takes_another_address(&refusal) {
            return Some(Input::Refused { id, refusal });
        }
        self.note(line, Input::AtAddress { id, news: AddressNews::Refused(refusal) });
        self.next_address(line).await
    }

    /// RFC 3261 §18.1.1: the same peer by TCP, since the request is too long for a datagram.
    async fn send_by_stream(
        &mut self,
        line: &Line,
        mut invite: Box<OutboundInvite>,
    ) -> Option<Input> {
        let trying = self.trying.as_mut()?;
        let datagrams = Destination {
            local: local_end(&trying.target),
            ..Destination::plain(invite.flow.transport, invite.flow.remote, invite.flow.listener)
        };
        // It must fail before the peer counts as silent, or the datagram that is sent instead never leaves.
        let patience = trying.target.silence().unwrap_or(NEXT_ADDRESS) / 2;
        let connect_within = Some(patience.min(INSTEAD_WITHIN));
        let by_tcp = Destination { connect_within, ..datagrams.by_tcp() };
        match line.switch.flows.connect(&by_tcp) {
            Ok(flow) => {
                let mut instead = invite.clone();
                instead.policy.datagrams.oversize = Oversize::Fragment;
                trying.instead = Some(instead);
                let way = line.switch.flows.keep_way(by_tcp);
                invite.flow = flow;
                invite.way_back = Some(way.flow());
                trying.way_back = Some(way);
                self.place(line, invite).await
            }
            Err(_) => self.next_address(line).await,
        }
    }

    /// Tells the call of the answer; the dialog is carried from now on.
    async fn connected(&mut self, line: &Line) -> Option<Carried> {
        let trying = self.trying.take()?;
        let Stage::Calling { shard, dialog: Some(dialog), events } = trying.stage else {
            return None;
        };
        self.report_steps(line).await;
        let (body, name) = self.answer.take()?;
        let charged = trying.target.charged();
        let known = CarriedDialog { shard: shard.clone(), dialog, name, charged };
        line.report(DialNews::Carried(Box::new(known))).await;
        line.tell(LegInput::Answered(body)).await;
        let _held = (trying.permit, trying.sources, trying.way_back);
        self.watched.answered();
        let watched = std::mem::take(&mut self.watched);
        Some(Carried { shard, dialog, events, target: trying.target, watched, _held })
    }
}

/// How long one of several addresses may say nothing where the profile says nothing of it.
const NEXT_ADDRESS: Duration = Duration::from_secs(4);
/// How long the connection for a long INVITE may take before that goes by datagram after all.
const INSTEAD_WITHIN: Duration = Duration::from_secs(2);

fn local_end(target: &Target) -> LocalEnd {
    target.trunk().map_or_else(LocalEnd::default, |trunk| trunk.path.local.clone())
}

#[cfg(test)]
mod tests;
