//! New offers that come before the answer, by UPDATE or PRACK (RFC 3311 §5.1, RFC 3262 §5).

use crate::call::input::LegOutput;
use crate::call::input::Output;
use crate::call::line::Early;
use crate::call::line::Line;
use crate::call::line::Stage;
use crate::types::cause::HangupCause;
use bytes::Bytes;

impl Line {
    /// The party dialled offers anew before it takes the call, as where an announcement gives way to whom it announced.
    pub(super) fn reoffered_early(
        &mut self,
        early: Early,
        offer: Option<Bytes>,
        out: &mut Vec<Output>,
    ) {
        let answered = match &offer {
            Some(offer) => self.leg.answer(offer),
            None => Err(HangupCause::BadSdp),
        };
        match answered {
            Ok(body) => {
                self.moved = offer;
                self.say(LegOutput::AnswerReoffer(body), out);
                if early.audible {
                    self.run_plan(out);
                }
            }
            Err(cause) => self.refuse_reoffer(cause, out),
        }
    }

    /// A caller offers anew while it waits for our answer. That is to its newest offer then.
    pub(super) fn reoffered_unanswered(&mut self, newer: Option<Bytes>, out: &mut Vec<Output>) {
        let Stage::Offered { offer, audible, .. } = &mut self.stage else { return };
        let answered = match &newer {
            Some(newer) if *audible => self.leg.answer(newer),
            // RFC 3264 §4: nothing was said to its first one yet.
            Some(_) | None => Err(HangupCause::BadSdp),
        };
        match answered {
            Ok(body) => {
                *offer = newer;
                self.say(LegOutput::AnswerReoffer(body), out);
                self.run_plan(out);
            }
            Err(cause) => self.refuse_reoffer(cause, out),
        }
    }
}
