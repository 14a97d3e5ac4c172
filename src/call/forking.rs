//! `Forking`: one leg for which several parties are rung at once; the first that answers has it.

use crate::call::dial::LegTerms;
use crate::call::input::LegInput;
use crate::call::input::LegOutput;
use crate::types::cause::HangupCause;
use crate::types::cause::Party;
use bytes::Bytes;
use std::collections::VecDeque;

/// It rings.
const RINGING: u16 = 180;

/// One of the parties, by its place among them.
pub type Branch = usize;

/// A way that parties are called by, of those met so far: one offer is made for each, by the terms of its trunk
/// and with its own place of media; with SRTP one for each party, since keys are of one alone.
pub type WayId = usize;

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// A party is to be offered what these terms allow, and is called by this way.
    OfferWanted(Branch, WayId, Box<LegTerms>),
    /// Something happened to a party's signalling.
    Heard(Branch, LegInput),
    /// Nothing more will be heard of a party.
    Gone(Branch),
    /// What the call wants of the leg.
    Told(LegOutput),
}

/// What must be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Tell the call that this happened to the leg.
    ToCall(LegInput),
    /// Tell the call to make an offer for this way by these terms; answered by [`LegOutput::Offer`] or
    /// [`LegOutput::NotOffered`]. Once somebody has the leg, it is that one's, whose offer was made before.
    WantOffer(WayId, Box<LegTerms>),
    /// Tell a party.
    ToParty(Branch, LegOutput),
}

/// Rings several parties for one leg.
#[derive(Debug)]
pub struct Forking {
    parties: Vec<Rung>,
    state: State,
    /// The offers that were asked for, and those that were made.
    offers: Vec<Offer>,
    /// Those that the call is still to make, by their places; the first of them is under way.
    wanted: VecDeque<usize>,
    /// How far the call was told that the leg got.
    told: u16,
    /// What is said of the leg should nobody take it.
    failure: Option<(HangupCause, Option<u16>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ringing,
    /// This party has the leg.
    Taken(Branch),
    Over,
}

#[derive(Debug)]
struct Rung {
    /// It may still answer.
    is_open: bool,
    /// By which offer it is called, and whether it waits for that.
    offer: Option<usize>,
    waits: bool,
}

#[derive(Debug)]
struct Offer {
    way: WayId,
    terms: Box<LegTerms>,
    /// Once it is made, or cannot be.
    made: Option<Made>,
}

/// An offer, `None` where the peer makes it; or why there is none.
type Made = Result<Option<Bytes>, HangupCause>;

fn told(made: Made) -> LegOutput {
    made.map_or_else(LegOutput::NotOffered, LegOutput::Offer)
}

impl Forking {
    /// One for so many parties, each of which is about to be called.
    #[must_use]
    pub fn new(parties: usize) -> Self {
        let rung = || Rung { is_open: true, offer: None, waits: false };
        Self {
            parties: std::iter::repeat_with(rung).take(parties).collect(),
            state: State::Ringing,
            offers: Vec::new(),
            wanted: VecDeque::new(),
            told: 0,
            failure: None,
        }
    }

    /// The party that has the leg.
    #[must_use]
    pub const fn taken_by(&self) -> Option<Branch> {
        match self.state {
            State::Taken(branch) => Some(branch),
            State::Ringing | State::Over => None,
        }
    }

    /// Applies `input`; appends what must be done to `out`. Total: a senseless input changes nothing.
    pub fn handle(&mut self, input: Input, out: &mut Vec<Output>) {
        match self.state {
            State::Ringing => self.ringing(input, out),
            State::Taken(branch) => self.taken(branch, input, out),
            // Who was let go of is told so once, and whatever still comes of it is its own task's to end.
            State::Over => (),
        }
    }

    fn ringing(&mut self, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::OfferWanted(branch, way, terms) => self.offer_wanted(branch, way, terms, out),
            Input::Heard(branch, LegInput::Progressed { status, body }) => {
                self.progressed(branch, status, body, out);
            }
            Input::Heard(branch, LegInput::Answered(body)) => self.answered(branch, body, out),
            Input::Heard(branch, LegInput::DialFailed { cause, status }) => {
                self.failed(branch, (cause, status), out);
            }
            Input::Heard(branch, LegInput::Ended { cause, .. }) => {
                self.failed(branch, (cause, None), out);
            }
            // Nothing is agreed with any of them as long as another may have the leg.
            Input::Heard(branch, LegInput::Reoffered(_)) if self.is_open(branch) => {
                let refused = LegOutput::RefuseReoffer(HangupCause::BadSdp);
                out.push(Output::ToParty(branch, refused));
            }
            Input::Gone(branch) => self.failed(branch, (HangupCause::SwitchFault, None), out),
            Input::Told(LegOutput::Offer(offer)) => self.offered(Ok(offer), out),
            Input::Told(LegOutput::NotOffered(cause)) => self.offered(Err(cause), out),
            Input::Told(LegOutput::HangUp(cause)) => {
                self.let_go(None, cause, out);
                self.state = State::Over;
            }
            // Nothing else happens to a leg, or is wanted of it, before it is answered.
            Input::Heard(..) | Input::Told(_) => (),
        }
    }

    fn is_open(&self, branch: Branch) -> bool {
        self.parties.get(branch).is_some_and(|rung| rung.is_open)
    }

    fn taken(&mut self, branch: Branch, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Heard(own, input) if own == branch => {
                if matches!(input, LegInput::Ended { .. }) {
                    self.state = State::Over;
                }
                out.push(Output::ToCall(input));
            }
            Input::Gone(own) if own == branch => {
                self.state = State::Over;
                let (cause, by) = (HangupCause::SwitchFault, Party::Switch);
                out.push(Output::ToCall(LegInput::Ended { cause, by }));
            }
            // The offer that came with the terms of whoever answered was made to it before.
            Input::Told(LegOutput::Offer(_) | LegOutput::NotOffered(_)) => (),
            Input::Told(output) => out.push(Output::ToParty(branch, output)),
            Input::OfferWanted(..) | Input::Heard(..) | Input::Gone(_) => (),
        }
    }

    fn offer_wanted(
        &mut self,
        branch: Branch,
        way: WayId,
        terms: Box<LegTerms>,
        out: &mut Vec<Output>,
    ) {
        // One with keys is of one party alone.
        let known = self.offers.iter().position(|offer| offer.way == way);
        let known = known.filter(|_| !terms.brings_keys());
        let Some(rung) = self.parties.get_mut(branch).filter(|rung| rung.is_open) else { return };
        if terms.lacks_keys() {
            // By another trunk it may be.
            let none = LegOutput::NotOffered(HangupCause::SrtpMismatch);
            return out.push(Output::ToParty(branch, none));
        }
        let place = known.unwrap_or(self.offers.len());
        (rung.offer, rung.waits) = (Some(place), true);
        if known.is_none() {
            self.offers.push(Offer { way, terms, made: None });
            self.wanted.push_back(place);
            if self.wanted.len() == 1 {
                self.want(place, out);
            }
        } else if let Some(Offer { made: Some(made), .. }) = self.offers.get(place) {
            rung.waits = false;
            out.push(Output::ToParty(branch, told(made.clone())));
        }
    }

    /// The call makes one offer at a time, and judges answers by the terms of the last one.
    fn want(&self, place: usize, out: &mut Vec<Output>) {
        let Some(offer) = self.offers.get(place) else { return };
        out.push(Output::WantOffer(offer.way, offer.terms.clone()));
    }

    fn offered(&mut self, made: Made, out: &mut Vec<Output>) {
        let Some(place) = self.wanted.pop_front() else { return };
        for (branch, rung) in self.parties.iter_mut().enumerate() {
            let is_wanted = rung.is_open && rung.waits && rung.offer == Some(place);
            if is_wanted {
                rung.waits = false;
                out.push(Output::ToParty(branch, told(made.clone())));
            }
        }
        if let Some(offer) = self.offers.get_mut(place) {
            offer.made = Some(made);
        }
        // By other terms the call knows of nobody who rings; somebody does all the same.
        if self.told == RINGING {
            out.push(Output::ToCall(LegInput::Progressed { status: RINGING, body: None }));
        }
        if let Some(next) = self.wanted.front() {
            self.want(*next, out);
        }
    }

    /// Of several that ring none is heard: the caller hears that somebody is rung.
    fn progressed(
        &mut self,
        branch: Branch,
        status: u16,
        body: Option<Bytes>,
        out: &mut Vec<Output>,
    ) {
        if !self.is_open(branch) {
            return;
        }
        let status = if body.is_some() { RINGING } else { status };
        if status != self.told && self.told != RINGING {
            self.told = status;
            out.push(Output::ToCall(LegInput::Progressed { status, body: None }));
        }
    }

    fn answered(&mut self, branch: Branch, body: Option<Bytes>, out: &mut Vec<Output>) {
        let Some(rung) = self.parties.get_mut(branch).filter(|rung| rung.is_open) else { return };
        // Of several the call holds the last for its own; and its media are where the first was told.
        let own = rung.offer.filter(|_| self.offers.len() > 1);
        self.state = State::Taken(branch);
        self.let_go(Some(branch), HangupCause::AnsweredElsewhere, out);
        if let Some(own) = own {
            self.want(own, out);
        }
        out.push(Output::ToCall(LegInput::Answered(body)));
    }

    fn let_go(&mut self, but: Option<Branch>, cause: HangupCause, out: &mut Vec<Output>) {
        for (branch, rung) in self.parties.iter_mut().enumerate() {
            if Some(branch) != but && std::mem::replace(&mut rung.is_open, false) {
                out.push(Output::ToParty(branch, LegOutput::HangUp(cause)));
            }
        }
    }

    fn failed(&mut self, branch: Branch, why: (HangupCause, Option<u16>), out: &mut Vec<Output>) {
        let Some(rung) = self.parties.get_mut(branch).filter(|rung| rung.is_open) else { return };
        rung.is_open = false;
        if self.failure.is_none_or(|worst| weight(why.0) > weight(worst.0)) {
            self.failure = Some(why);
        }
        if !self.parties.iter().any(|rung| rung.is_open)
            && let Some((cause, status)) = self.failure
        {
            self.state = State::Over;
            out.push(Output::ToCall(LegInput::DialFailed { cause, status }));
        }
    }
}

/// Which of several failures is that of the leg: the one that came closest to a conversation.
const fn weight(cause: HangupCause) -> u8 {
    match cause {
        HangupCause::NoAnswer => 3,
        HangupCause::Busy => 2,
        HangupCause::Rejected => 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
