//! Addresses that rest: left out of a try, and noted as calls to them fail or are served.

use crate::clock;
use crate::engine::declines;
use crate::engine::declines::Said;
use crate::engine::dial::Line;
use crate::engine::dial::attempt::Dialling;
use crate::engine::dial::route::Target;
use crate::engine::dial::route::Todo;
use crate::routing::gateway_addresses::GatewayAddress;
use crate::routing::health::Availability;
use crate::routing::outbound_attempt::AddressNews;
use crate::routing::outbound_attempt::Input;
use crate::sip::locate;
use crate::types::cause::HangupCause;

impl Dialling {
    /// Leaves those addresses of a gateway or a peer out that rest.
    pub(super) fn leave_out(&mut self, line: &Line) -> Option<Input> {
        let now = clock::now();
        let trying = self.trying.as_mut()?;
        // The way a trunk registered by is no address that DNS found.
        if trying.registered.is_some() || trying.addresses.is_empty() {
            return None;
        }
        let id = trying.id;
        let found = trying.addresses.iter().map(gateway_address).collect();
        let registry = &line.switch.registry;
        let standing = match trying.target.as_ref() {
            Target::Gateway(attempt) => registry.find_addresses(now, &attempt.key(), found),
            Target::Peer(route) => registry.find_peer(now, route.uri.as_str(), found),
        };
        let resting: Vec<_> =
            standing.into_iter().filter(|(_, state)| !state.takes_calls()).collect();
        let rests = |own: &locate::Target| {
            resting.iter().any(|(address, _)| *address == gateway_address(own))
        };
        trying.addresses.retain(|own| !rests(own));
        let is_none_left = trying.addresses.is_empty();
        let is_throttled =
            resting.iter().any(|(_, state)| matches!(state, Availability::Throttled(_)));
        let cause = none_left(&trying.target, is_throttled);
        for (address, state) in resting {
            let news = AddressNews::LeftOut(address, state);
            self.note(line, Input::AtAddress { id, news });
        }
        is_none_left.then_some(Input::NotAdmitted { id, cause })
    }

    /// How an address of a gateway or a peer stands that takes no call any more: it did when it was looked up, but
    /// another call tries it since.
    pub(super) fn is_left_out(&self, line: &Line, address: GatewayAddress) -> Option<Availability> {
        let (now, registry) = (clock::now(), &line.switch.registry);
        let state = match self.trying.as_ref()?.target.as_ref() {
            Target::Gateway(attempt) => registry.take_address(now, (&attempt.key(), address)),
            Target::Peer(route) => registry.take_peer(now, (route.uri.as_str(), address)),
        };
        (!state.takes_calls()).then_some(state)
    }

    /// Takes note of whether a carrier declines calls before it rings anybody.
    pub(super) fn heed(&mut self, line: &Line, input: &Input) {
        let Some(trying) = &mut self.trying else { return };
        let Some(trunk) = trying.target.trunk() else { return };
        let declines = line.switch.registry.declines();
        match input {
            Input::Refused { refusal, .. } => match declines::said_by(refusal.status) {
                // Who rings declines for itself.
                Said::Declined if trying.has_rung => (),
                Said::Declined => declines.declined(clock::now(), trunk, line.call),
                Said::Served => declines.served(trunk),
                Said::Nothing => (),
            },
            Input::Answered { .. } => declines.served(trunk),
            Input::Progressed { status, .. } if *status > 100 => {
                declines.served(trunk);
                trying.has_rung = true;
            }
            // They say nothing of it.
            Input::Progressed { .. }
            | Input::Started
            | Input::AtAddress { .. }
            | Input::Sent { .. }
            | Input::NotAdmitted { .. }
            | Input::TimedOut { .. }
            | Input::Unreachable { .. }
            | Input::CutOff { .. }
            | Input::Cancelled
            | Input::DeadlineReached => (),
        }
    }

    /// Tells the chooser something of which no more follows than a word for who remembers it.
    pub(super) fn note(&mut self, line: &Line, input: Input) {
        let mut todo = Vec::new();
        self.chooser.handle(clock::now(), input, &mut todo);
        for next in todo {
            say(line, next);
        }
    }
}

/// Why a call goes nowhere where all addresses rest, one of them perhaps because fewer calls are wanted there.
pub(super) const fn none_left(target: &Target, is_throttled: bool) -> HangupCause {
    match target {
        Target::Gateway(_) => HangupCause::NoGateway,
        Target::Peer(_) if is_throttled => HangupCause::CarrierThrottled,
        // As if it were called in vain once more.
        Target::Peer(_) => HangupCause::CarrierTimeout,
    }
}

/// Has remembered what a try says of where it went; nothing else is done.
pub(super) fn say(line: &Line, said: Todo) {
    let (now, registry) = (clock::now(), &line.switch.registry);
    match said {
        Todo::Board(output) => registry.note_gateway(now, output),
        Todo::OfPeer { route, address, input } => {
            registry.note_peer(now, (route.uri.as_str(), address), input);
        }
        Todo::Try(..) | Todo::Abandon(..) | Todo::Connected | Todo::GiveUp { .. } => {}
    }
}

pub(super) fn gateway_address(target: &locate::Target) -> GatewayAddress {
    GatewayAddress { address: target.address, transport: target.transport }
}
