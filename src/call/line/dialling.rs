//! A line that is dialled: from its first offer to its answer or failure.

use crate::call::dial::LegTerms;
use crate::call::event::CallEvent;
use crate::call::input::LegInput;
use crate::call::input::LegOutput;
use crate::call::input::Output;
use crate::call::leg::Leg;
use crate::call::leg::Place;
use crate::call::line::Line;
use crate::call::line::Session;
use crate::call::line::Stage;
use crate::call::news::LineNews;
use crate::types::cause::HangupCause;
use bytes::Bytes;

impl Line {
    /// Dials a line that waited for its media.
    pub(super) fn dial(&mut self, out: &mut Vec<Output>) -> LineNews {
        let Stage::Preparing(request) = &self.stage else { return LineNews::Ready };
        let (target, ring_max) = (request.target.clone(), request.ring_max);
        match self.first_offer() {
            Ok(offer) => {
                self.stage = Stage::Dialling { audible: false };
                self.say(LegOutput::Dial { target, offer, ring_max }, out);
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
        audible: bool,
        input: LegInput,
        out: &mut Vec<Output>,
    ) -> Option<LineNews> {
        match input {
            LegInput::Progressed { status, body } => {
                let audible = self.take_early(audible, body, out);
                let side = self.side;
                out.push(Output::Record(CallEvent::Progressed { side, status, audible }));
                self.stage = Stage::Dialling { audible };
                Some(LineNews::Progressed { status, audible })
            }
            LegInput::Answered(body) => Some(self.take_answer(body, out)),
            LegInput::OfferWanted { terms, place } => {
                self.change_terms(&terms, place, out);
                None
            }
            LegInput::DialFailed { cause, status } => Some(self.fail(cause, status, out)),
            LegInput::Ended { cause, .. } => Some(self.fail(cause, None, out)),
            LegInput::Offered(_)
            | LegInput::Acknowledged(_)
            | LegInput::Cancelled
            | LegInput::Reoffered(_)
            | LegInput::ReofferAnswered(_)
            | LegInput::ReofferRefused
            | LegInput::Digit(_)
            | LegInput::ReferProgressed { .. }
            | LegInput::ReferFailed { .. }
            | LegInput::Referred(_)
            | LegInput::Replaced(_) => None,
        }
    }

    /// The latest description of a progress counts; one that cannot be used, or none, changes nothing.
    fn take_early(&mut self, audible: bool, body: Option<Bytes>, out: &mut Vec<Output>) -> bool {
        let body = body.filter(|_| !self.delayed_offer);
        match body.map(|body| self.leg.accept(&body)) {
            Some(Ok(())) => {
                self.run_plan(out);
                true
            }
            Some(Err(_)) | None => audible,
        }
    }

    fn take_answer(&mut self, body: Option<Bytes>, out: &mut Vec<Output>) -> LineNews {
        let agreed = match (body, self.delayed_offer) {
            (Some(offer), true) => self.leg.answer(&offer).map(Some),
            (Some(answer), false) => self.leg.accept(&answer).map(|()| None),
            // Some peers describe themselves in the progress only.
            (None, false) if self.leg.plan().is_some() => Ok(None),
            (None, _) => Err(HangupCause::NoSdpAnswer),
        };
        match agreed {
            Ok(answer) => {
                self.say(LegOutput::Acknowledge(answer), out);
                self.stage = Stage::Answered(Session { acknowledged: true, ..Session::default() });
                self.note_answer(out);
                self.run_plan(out);
                LineNews::Answered
            }
            Err(cause) => {
                self.say(LegOutput::Acknowledge(None), out);
                self.say(LegOutput::HangUp(cause), out);
                self.fail(cause, None, out)
            }
        }
    }

    /// The next attempt goes by another trunk: nothing is agreed with anybody.
    fn change_terms(&mut self, terms: &LegTerms, place: Option<Place>, out: &mut Vec<Output>) {
        self.leg = Leg::of(terms);
        self.dtmf_info = terms.dtmf_info;
        self.delayed_offer = terms.delayed_offer;
        self.transfers = terms.transfers;
        self.hold = terms.hold;
        self.place = place.or(self.place);
        if let Some(place) = self.place {
            self.leg.place(place);
        }
        self.stage = Stage::Dialling { audible: false };
        if let Ok(offer) = self.first_offer() {
            self.say(LegOutput::Offer(offer), out);
        }
    }

    pub(super) fn fail(
        &mut self,
        cause: HangupCause,
        status: Option<u16>,
        out: &mut Vec<Output>,
    ) -> LineNews {
        self.stage = Stage::Gone;
        out.push(Output::Record(CallEvent::LegFailed { side: self.side, cause, status }));
        LineNews::Failed(cause)
    }
}
