//! The media of a line, from its ports to its figures: one function a stage.

use crate::call::event::CallEvent;
use crate::call::input::MediaInput;
use crate::call::input::MediaOutput;
use crate::call::input::Output;
use crate::call::line::Line;
use crate::call::line::MediaStage;
use crate::call::line::Stage;
use crate::call::news::LineNews;
use crate::call::side::LegSide;
use crate::types::cause::HangupCause;

impl Line {
    /// Lets the media hear what the peer sends by the offer that was just made before we have its answer.
    pub(super) fn expect(&self, out: &mut Vec<Output>) {
        let offered = self.leg.expected().filter(|_| self.media == MediaStage::Open);
        if offered.is_some() {
            self.run(MediaOutput::Expect(offered), out);
        }
    }

    /// Nothing came of that offer.
    pub(super) fn expect_no_more(&self, out: &mut Vec<Output>) {
        if self.media == MediaStage::Open && self.leg.expected().is_some() {
            self.run(MediaOutput::Expect(None), out);
        }
    }

    /// Takes what happened to the media.
    pub(in crate::call) fn heard(
        &mut self,
        input: MediaInput,
        out: &mut Vec<Output>,
    ) -> Option<LineNews> {
        match self.media {
            MediaStage::Closed => None,
            MediaStage::Reserving => self.while_reserving(input, out),
            MediaStage::Opening => self.while_opening(input, out),
            MediaStage::Open => self.while_open(input, out),
            MediaStage::Closing => self.while_closing(input, out),
        }
    }

    fn while_reserving(&mut self, input: MediaInput, out: &mut Vec<Output>) -> Option<LineNews> {
        match input {
            MediaInput::Reserved(place) => {
                self.place = Some(place);
                self.leg.place(place);
                self.media = MediaStage::Opening;
                self.run(MediaOutput::Open, out);
                None
            }
            MediaInput::Refused(cause) => Some(self.without_media(cause, out)),
            MediaInput::Opened
            | MediaInput::FirstPacket
            | MediaInput::TimedOut
            | MediaInput::Failed
            | MediaInput::Pressed
            | MediaInput::Digit(_)
            | MediaInput::Played(_)
            | MediaInput::Closed(_) => None,
        }
    }

    fn while_opening(&mut self, input: MediaInput, out: &mut Vec<Output>) -> Option<LineNews> {
        match input {
            // Not a moment earlier: what may still be refused must be neither answered nor dialled.
            MediaInput::Opened => {
                self.media = MediaStage::Open;
                Some(self.dial(out))
            }
            MediaInput::Refused(cause) => Some(self.without_media(cause, out)),
            MediaInput::Reserved(_)
            | MediaInput::FirstPacket
            | MediaInput::TimedOut
            | MediaInput::Failed
            | MediaInput::Pressed
            | MediaInput::Digit(_)
            | MediaInput::Played(_)
            | MediaInput::Closed(_) => None,
        }
    }

    fn while_open(&mut self, input: MediaInput, out: &mut Vec<Output>) -> Option<LineNews> {
        match input {
            MediaInput::FirstPacket => {
                if self.side == LegSide::Near {
                    out.push(Output::Record(CallEvent::FirstMedia));
                }
                Some(LineNews::Heard)
            }
            // Neither a peer on hold nor one that did not answer yet owes us media (RFC 3264 §8.4).
            MediaInput::TimedOut => (self.is_answered() && !self.held && !self.holding)
                .then_some(LineNews::Broken(HangupCause::MediaTimeout)),
            MediaInput::Failed => Some(LineNews::Broken(HangupCause::SwitchFault)),
            MediaInput::Pressed => {
                self.signalled_keys().heard_in_media();
                None
            }
            MediaInput::Digit(digit) => {
                self.signalled_keys().heard_in_media();
                self.note_key(digit, out);
                None
            }
            MediaInput::Reserved(_)
            | MediaInput::Opened
            | MediaInput::Refused(_)
            | MediaInput::Played(_)
            | MediaInput::Closed(_) => None,
        }
    }

    fn while_closing(&mut self, input: MediaInput, out: &mut Vec<Output>) -> Option<LineNews> {
        match input {
            MediaInput::Closed(figures) => {
                self.media = MediaStage::Closed;
                if let Some(figures) = figures {
                    out.push(Output::Record(match self.side {
                        LegSide::Near => CallEvent::Media(figures),
                        LegSide::Far | LegSide::Third | LegSide::Supervisor(_) => {
                            CallEvent::LegMedia(self.side, figures)
                        }
                    }));
                }
                Some(LineNews::Closed)
            }
            // The last key: who was told when it went down may have ended the call before it came up.
            MediaInput::Digit(digit) => {
                self.note_key(digit, out);
                None
            }
            MediaInput::Reserved(_)
            | MediaInput::Opened
            | MediaInput::Refused(_)
            | MediaInput::FirstPacket
            | MediaInput::TimedOut
            | MediaInput::Failed
            | MediaInput::Pressed
            | MediaInput::Played(_) => None,
        }
    }

    fn without_media(&mut self, cause: HangupCause, out: &mut Vec<Output>) -> LineNews {
        self.media = MediaStage::Closed;
        match self.stage {
            Stage::Preparing(_) | Stage::Dialling(_) => self.fail(cause, None, out),
            Stage::Idle | Stage::Offered { .. } | Stage::Answered(_) | Stage::Gone => {
                LineNews::Broken(cause)
            }
        }
    }
}
