//! A line that is dialled: from its first offer to its answer or failure.

use crate::call::dial::DialTarget;
use crate::call::dial::LegTerms;
use crate::call::event::CallEvent;
use crate::call::input::LegInput;
use crate::call::input::LegOutput;
use crate::call::input::Output;
use crate::call::leg::Leg;
use crate::call::leg::Place;
use crate::call::line::Early;
use crate::call::line::Line;
use crate::call::line::Session;
use crate::call::line::Stage;
use crate::call::news::LineNews;
use crate::routing::signalling::EarlyMedia;
use crate::types::cause::HangupCause;
use bytes::Bytes;

/// It rings.
const RINGING: u16 = 180;

impl Line {
    /// Dials a line that waited for its media.
    pub(super) fn dial(&mut self, out: &mut Vec<Output>) -> LineNews {
        let Stage::Preparing(request) = &self.stage else { return LineNews::Ready };
        let (target, ring_max) = (request.target.clone(), request.ring_max);
        let beside = request.beside.clone();
        let is_by_trunk = matches!(target, DialTarget::Number { .. });
        // By the terms of its first trunk there may be none to make; who dials asks by those of each.
        let offer = match self.first_offer() {
            Err(HangupCause::SrtpMismatch) => Ok(None),
            Err(HangupCause::NoCommonCodec) if is_by_trunk => Ok(None),
            made => made,
        };
        match offer {
            Ok(offer) => {
                self.stage = Stage::Dialling(Early::default());
                self.say(LegOutput::Dial { target, beside, offer, ring_max }, out);
                out.push(Output::Record(CallEvent::Dialled(self.side)));
                LineNews::Ready
            }
            Err(cause) => self.fail(cause, None, out),
        }
    }

    fn first_offer(&mut self) -> Result<Option<Bytes>, HangupCause> {
        if self.delayed_offer { Ok(None) } else { self.leg.offer().map(Some) }
    }

    pub(super) fn while_dialling(
        &mut self,
        early: Early,
        input: LegInput,
        out: &mut Vec<Output>,
    ) -> Option<LineNews> {
        match input {
            LegInput::Progressed { status, body } => {
                let (status_told, early) = self.take_early(early, (status, body), out);
                let (side, audible) = (self.side, early.audible);
                out.push(Output::Record(CallEvent::Progressed { side, status, audible }));
                self.stage = Stage::Dialling(early);
                Some(LineNews::Progressed { status: status_told, audible })
            }
            LegInput::Reoffered(offer) => {
                self.reoffered_early(early, offer, out);
                None
            }
            LegInput::Answered(body) => Some(self.take_answer(body, out)),
            LegInput::OfferWanted { terms, place } => self.go_another_way(terms, place, out),
            LegInput::DialFailed { cause, status } => Some(self.fail(cause, status, out)),
            LegInput::Ended { cause, .. } => Some(self.fail(cause, None, out)),
            LegInput::Offered(_)
            | LegInput::Acknowledged(_)
            | LegInput::Cancelled
            | LegInput::ReofferAnswered(_)
            | LegInput::ReofferRefused { .. }
            | LegInput::Refreshed(_)
            | LegInput::Digit(_)
            | LegInput::ReferProgressed { .. }
            | LegInput::ReferFailed { .. }
            | LegInput::Referred(_)
            | LegInput::Explained(_)
            | LegInput::Replaced(..)
            | LegInput::ReplacementLost => None,
        }
    }

    /// The latest description of a progress counts; one that cannot be used, or none, changes nothing.
    /// Gives the status to pass on, and what can be heard from now on.
    fn take_early(
        &mut self,
        early: Early,
        (status, body): (u16, Option<Bytes>),
        out: &mut Vec<Output>,
    ) -> (u16, Early) {
        let body = body.filter(|_| !self.delayed_offer);
        let described = body.is_some_and(|body| self.leg.accept(&body).is_ok());
        match self.progress.early_media {
            EarlyMedia::CutThrough => {
                if described {
                    self.run_plan(out);
                }
                let audible = early.audible || described;
                let rings = !audible && self.tone_begins(early, status);
                (status, Early { audible, rings })
            }
            // What the other end would let be heard is taken for ringing.
            EarlyMedia::Ringback if described => (RINGING, Early { rings: true, ..early }),
            EarlyMedia::Ringback | EarlyMedia::Ignore => {
                (status, Early { rings: self.tone_begins(early, status), ..early })
            }
        }
    }

    const fn tone_begins(&self, early: Early, status: u16) -> bool {
        early.rings || (status == RINGING && self.progress.ringback)
    }

    fn take_answer(&mut self, body: Option<Bytes>, out: &mut Vec<Output>) -> LineNews {
        let agreed = match (body, self.delayed_offer) {
            (Some(offer), true) => self.leg.answer(&offer).map(Some),
            // It was answered before; meanwhile another party may have been heard.
            (Some(again), false) if self.moved.as_ref() == Some(&again) => {
                self.leg.answer(&again).map(|_| None)
            }
            (Some(answer), false) => self.leg.accept(&answer).map(|()| None),
            // What was heard meanwhile may be of a party that did not answer.
            (None, _) => Err(HangupCause::NoSdpAnswer),
        };
        match agreed {
            Ok(answer) => {
                self.moved = None;
                self.say(LegOutput::Acknowledge(answer), out);
                self.stage = Stage::Answered(Session { acknowledged: true, ..Session::default() });
                self.note_answer(out);
                self.run_plan(out);
                LineNews::Answered
            }
            Err(cause) => {
                self.leg.forget();
                self.say(LegOutput::Acknowledge(None), out);
                self.say(LegOutput::HangUp(cause), out);
                self.fail(cause, None, out)
            }
        }
    }

    /// The next attempt goes another way, by another trunk where there are terms: nothing is agreed with
    /// anybody.
    fn go_another_way(
        &mut self,
        terms: Option<Box<LegTerms>>,
        place: Option<Place>,
        out: &mut Vec<Output>,
    ) -> Option<LineNews> {
        match terms {
            Some(terms) => self.change_terms(&terms),
            None => self.leg.forget(),
        }
        self.place = place.or(self.place);
        if let Some(place) = self.place {
            self.leg.place(place);
        }
        self.moved = None;
        self.stage = Stage::Dialling(Early::default());
        match self.first_offer() {
            Ok(offer) => {
                self.say(LegOutput::Offer(offer), out);
                None
            }
            // By another trunk there may be one.
            Err(cause) => {
                self.say(LegOutput::NotOffered(cause), out);
                None
            }
        }
    }

    fn change_terms(&mut self, terms: &LegTerms) {
        let passing = self.leg.passing();
        self.leg = Leg::of(terms);
        self.leg.pass(passing);
        self.dtmf_info = terms.dtmf_info;
        self.delayed_offer = terms.delayed_offer;
        self.transfers = terms.transfers;
        self.joined_by = terms.joined_by;
        self.hold = terms.hold;
        self.progress = terms.progress;
        self.keys = terms.keys;
    }

    pub(super) fn fail(
        &mut self,
        cause: HangupCause,
        status: Option<u16>,
        out: &mut Vec<Output>,
    ) -> LineNews {
        self.stage = Stage::Gone;
        self.refused_with = status;
        out.push(Output::Record(CallEvent::LegFailed { side: self.side, cause, status }));
        LineNews::Failed(cause)
    }
}
