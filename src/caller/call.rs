//! `Caller`: one call of the test caller, from the INVITE to its end. Pure: messages, packets and time
//! in; messages, packets and a summary out.

use crate::audio::frame::Pcm;
use crate::caller::line::Line;
use crate::caller::summary::CallProblem;
use crate::caller::summary::CallSummary;
use crate::caller::summary::EndedBy;
use crate::caller::summary::MediaSummary;
use crate::caller::summary::Milestones;
use crate::sdp;
use crate::sdp::AnswerOrder;
use crate::sdp::Capabilities;
use crate::sdp::Direction;
use crate::sdp::LocalMedia;
use crate::sdp::SrtpTerms;
use crate::sip::endpoint::Endpoint;
use crate::sip::endpoint::event::Body;
use crate::sip::endpoint::event::Command;
use crate::sip::endpoint::event::Counter;
use crate::sip::endpoint::event::DialogEnd;
use crate::sip::endpoint::event::DialogId;
use crate::sip::endpoint::event::Event;
use crate::sip::endpoint::event::Input as SipInput;
use crate::sip::endpoint::event::Output as SipOutput;
use crate::sip::endpoint::event::Refusal;
use crate::sip::endpoint::flow::Flow;
use crate::sip::endpoint::flow::FlowId;
use crate::sip::endpoint::outbound::OutboundInvite;
use crate::sip::message::Response;
use crate::sip::message::name::HeaderName;
use crate::sip::message::peek::call_id_of;
use crate::types::cause::HangupCause;
use crate::types::codec::Codec;
use crate::types::codec::PayloadType;
use crate::types::codec::Ptime;
use crate::types::moment::Moment;
use bytes::Bytes;
use std::net::SocketAddr;
use std::time::Duration;

/// How long the other side may take to answer BYE or CANCEL.
const LEAVE_LIMIT: Duration = Duration::from_secs(5);
/// The payload type of telephone events in our offers.
const KEYS_PAYLOAD_TYPE: u8 = 101;
/// The longest packets we send, where the other side asks for them.
const PTIME_MAX: Ptime = match Ptime::from_ms(60) {
    Some(ptime) => ptime,
    None => Ptime::MS_20,
};
/// How often the hang-up is put off while keys are pressed.
const KEYS_INTERVAL: Duration = Duration::from_millis(20);

/// What happened.
#[derive(Debug)]
pub(super) enum Input {
    /// A SIP message came.
    Sip { flow: Flow, message: Bytes },
    /// A SIP connection is gone.
    FlowClosed(FlowId),
    /// A datagram came to one of the media ports.
    Media { from: SocketAddr, datagram: Bytes },
    /// The user wants to end the call.
    HangUp,
    /// The moment given by `deadline` has come.
    DeadlineReached,
}

/// What must be done.
#[derive(Debug)]
pub(super) enum Output {
    /// Send a SIP message.
    Sip { flow: Flow, bytes: Bytes },
    /// Send from the RTP port.
    Rtp { bytes: Vec<u8>, to: SocketAddr },
    /// Send from the RTCP port.
    Rtcp { bytes: Vec<u8>, to: SocketAddr },
    /// 20 ms that were heard.
    Heard(Box<Pcm>),
}

/// What a call needs to know.
pub(super) struct CallSetup {
    /// The way, addresses and credentials of the INVITE; the offer is made here.
    pub(super) invite: OutboundInvite,
    /// Our end of the media.
    pub(super) media: LocalMedia,
    /// The codecs to offer, the preferred one first.
    pub(super) codecs: Vec<Codec>,
    /// The SRTP to offer.
    pub(super) srtp: SrtpTerms,
    /// How long to talk.
    pub(super) duration: Duration,
    /// How long to wait for the answer.
    pub(super) answer_limit: Duration,
    /// Whether hearing nothing but silence is a problem.
    pub(super) needs_sound: bool,
    /// Whether there are keys to press.
    pub(super) has_keys: bool,
}

/// Where a call stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// INVITE is sent; until the moment an answer is waited for.
    Calling { until: Moment },
    /// It is given up; until the moment that is waited to be confirmed.
    Cancelling { until: Moment },
    /// Answered; at the moment we hang up.
    Talking { until: Moment },
    /// BYE is sent; until the moment its answer is waited for.
    Leaving { until: Moment },
    /// Over.
    Done,
}

/// One call.
pub(super) struct Caller {
    endpoint: Endpoint,
    dialog: DialogId,
    line: Line,
    media: LocalMedia,
    offered: Capabilities,
    /// An offer of ours in a 200 to a re-INVITE waits for its answer in the ACK.
    offers_late: bool,
    description: Vec<u8>,
    state: State,
    duration: Duration,
    needs_sound: bool,
    has_keys: bool,
    milestones: Milestones,
    heard_anything: bool,
    call_id: String,
    status: Option<u16>,
    problem: Option<CallProblem>,
    ended_by: Option<EndedBy>,
    bye_reason: Option<String>,
    retransmissions: u32,
    reinvites: u32,
    info_digits: String,
}

impl Caller {
    /// Sends the INVITE.
    pub(super) fn dial(
        now: Moment,
        (mut endpoint, line): (Endpoint, Line),
        setup: CallSetup,
        out: &mut Vec<Output>,
    ) -> Self {
        let offered = Capabilities {
            codecs: setup.codecs,
            order: AnswerOrder::Remote,
            dtmf: PayloadType::new(KEYS_PAYLOAD_TYPE),
            dtmf_flash: false,
            ptime: Ptime::MS_20,
            ptime_max: PTIME_MAX,
            rtcp_mux: false,
            asks_metrics: false,
            single_codec: false,
            annex_b: false,
            srtp: setup.srtp,
        };
        let description = sdp::offer(&offered, &setup.media);
        let invite = OutboundInvite { body: Some(description.clone().into()), ..setup.invite };
        let mut sip = Vec::new();
        let dialog = endpoint.invite(now, invite, &mut sip);
        let mut caller = Self {
            endpoint,
            dialog,
            line,
            media: setup.media,
            offered,
            offers_late: false,
            description,
            state: State::Calling { until: now + setup.answer_limit },
            duration: setup.duration,
            needs_sound: setup.needs_sound,
            has_keys: setup.has_keys,
            milestones: Milestones { dialled: Some(now), ..Milestones::default() },
            heard_anything: false,
            call_id: String::new(),
            status: None,
            problem: None,
            ended_by: None,
            bye_reason: None,
            retransmissions: 0,
            reinvites: 0,
            info_digits: String::new(),
        };
        caller.perform(now, sip, out);
        caller
    }

    /// Applies `input` and appends what must be done to `out`.
    pub(super) fn handle(&mut self, now: Moment, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Sip { flow, message } => {
                self.heard_anything = true;
                if is_trying(&message) {
                    self.milestones.trying.get_or_insert(now);
                }
                self.sip(now, SipInput::Received { flow, message }, out);
            }
            Input::FlowClosed(id) => self.sip(now, SipInput::FlowClosed(id), out),
            Input::Media { from, datagram } => self.line.receive(now, from, &datagram),
            Input::HangUp => self.hang_up(now, CallProblem::GivenUp, out),
            Input::DeadlineReached => self.deadline_reached(now, out),
        }
    }

    /// The next moment at which this wants `Input::DeadlineReached`.
    pub(super) fn deadline(&self) -> Option<Moment> {
        let own = match self.state {
            State::Calling { until }
            | State::Cancelling { until }
            | State::Talking { until }
            | State::Leaving { until } => Some(until),
            State::Done => None,
        };
        [own, self.endpoint.deadline(), self.line.deadline()].into_iter().flatten().min()
    }

    /// Where the call stands.
    pub(super) const fn state(&self) -> State {
        self.state
    }

    /// Packets sent and received so far.
    pub(super) fn packets(&self) -> (u64, u64) {
        let counts = self.line.counts();
        (counts.sent, counts.received.packets)
    }

    /// When the call was answered.
    pub(super) const fn answered(&self) -> Option<Moment> {
        self.milestones.answered
    }

    /// How it went.
    pub(super) fn summary(&self) -> CallSummary {
        let counts = self.line.counts();
        let media = MediaSummary::new(self.line.plan().map(|plan| plan.codec), &counts);
        CallSummary {
            problem: self.problem.clone().or_else(|| self.media_problem(&media, &counts.heard)),
            call_id: self.call_id.clone(),
            status: self.status,
            setup: self.milestones.setup(counts.first_packet),
            talked: self.milestones.talked(),
            ended_by: self.ended_by,
            bye_reason: self.bye_reason.clone(),
            retransmissions: self.retransmissions,
            reinvites: self.reinvites,
            media,
            heard: counts.heard,
            digits_heard: counts.keys_heard + &self.info_digits,
        }
    }

    /// What is wrong with the audio of a call that went well otherwise.
    fn media_problem(
        &self,
        media: &MediaSummary,
        heard: &crate::caller::ear::Heard,
    ) -> Option<CallProblem> {
        let takes_keys = self.line.plan().is_some_and(|plan| plan.dtmf_send.is_some());
        if media.received == 0 {
            Some(CallProblem::NoAudio)
        } else if self.needs_sound && heard.sound.is_zero() {
            Some(CallProblem::OnlySilence)
        } else if self.has_keys && !takes_keys {
            Some(CallProblem::NoKeys)
        } else {
            None
        }
    }

    fn deadline_reached(&mut self, now: Moment, out: &mut Vec<Output>) {
        if self.endpoint.deadline().is_some_and(|due| due <= now) {
            self.sip(now, SipInput::DeadlineReached, out);
        }
        self.line.tick(now, out);
        match self.state {
            State::Calling { until } if until <= now => {
                self.hang_up(now, CallProblem::NoAnswer, out);
            }
            State::Talking { until } if until <= now && self.line.is_pressing_keys() => {
                self.state = State::Talking { until: now + KEYS_INTERVAL };
            }
            State::Talking { until } if until <= now => {
                self.hang_up(now, CallProblem::GivenUp, out);
            }
            // The other side had its time; what is wrong was noted when the wait began, or is this.
            State::Cancelling { until } if until <= now => self.finish(now, out),
            State::Leaving { until } if until <= now => {
                self.problem.get_or_insert(CallProblem::HangupUnanswered);
                self.finish(now, out);
            }
            State::Calling { .. }
            | State::Cancelling { .. }
            | State::Talking { .. }
            | State::Leaving { .. }
            | State::Done => (),
        }
    }

    /// Ends the call in whatever way its state asks for; `unanswered` is what is wrong if there was no
    /// answer yet.
    fn hang_up(&mut self, now: Moment, unanswered: CallProblem, out: &mut Vec<Output>) {
        match self.state {
            State::Calling { .. } => {
                let nothing = !self.heard_anything;
                let problem = if nothing { CallProblem::NoResponse } else { unanswered };
                self.problem.get_or_insert(problem);
                if nothing {
                    // There is nobody to send a CANCEL to (RFC 3261 §9.1).
                    return self.finish(now, out);
                }
                self.state = State::Cancelling { until: now + LEAVE_LIMIT };
            }
            State::Talking { .. } => {
                self.leave(now, EndedBy::Us, out);
            }
            State::Cancelling { .. } | State::Leaving { .. } | State::Done => return,
        }
        let cause = HangupCause::Normal;
        self.command(now, Command::Hangup { dialog: self.dialog, cause }, out);
    }

    /// Ends the media of an answered call; the BYE is on its way.
    fn leave(&mut self, now: Moment, by: EndedBy, out: &mut Vec<Output>) {
        self.ended_by.get_or_insert(by);
        self.milestones.ended.get_or_insert(now);
        self.line.close(now, out);
        self.state = State::Leaving { until: now + LEAVE_LIMIT };
    }

    fn finish(&mut self, now: Moment, out: &mut Vec<Output>) {
        self.milestones.ended.get_or_insert(now);
        self.line.close(now, out);
        self.state = State::Done;
    }

    fn command(&mut self, now: Moment, command: Command, out: &mut Vec<Output>) {
        self.sip(now, SipInput::Command(command), out);
    }

    fn sip(&mut self, now: Moment, input: SipInput, out: &mut Vec<Output>) {
        let mut sip = Vec::new();
        self.endpoint.handle(now, input, &mut sip);
        self.perform(now, sip, out);
    }

    fn perform(&mut self, now: Moment, sip: Vec<SipOutput>, out: &mut Vec<Output>) {
        for output in sip {
            match output {
                SipOutput::Transmit { flow, bytes } => {
                    if self.call_id.is_empty() {
                        let id = call_id_of(&bytes).unwrap_or_default();
                        self.call_id = String::from_utf8_lossy(id).into_owned();
                    }
                    out.push(Output::Sip { flow, bytes });
                }
                // Where it was heard last: this call asks no DNS.
                SipOutput::Locate(search) => {
                    let located = SipInput::Located { number: search.number, flow: None };
                    self.sip(now, located, out);
                }
                SipOutput::Event(event) => self.event(now, event, out),
                SipOutput::Counted(Counter::RetransmissionSent) => self.retransmissions += 1,
                // Nothing else that is counted tells of this one call, and its peer is proven.
                SipOutput::Counted(_) | SipOutput::Burden(..) => (),
            }
        }
    }

    fn event(&mut self, now: Moment, event: Event, out: &mut Vec<Output>) {
        match event {
            Event::Progressed { status, body, .. } => {
                // A 100 only says that somebody on the way has the INVITE.
                if status > 100 {
                    self.milestones.ringing.get_or_insert(now);
                }
                // Early media is listened to; a description that cannot be used harms nothing yet.
                if let Some(body) = body {
                    drop(self.agree(now, &body));
                }
            }
            Event::Answered { body, .. } => self.answered_with(now, body.as_ref(), out),
            Event::Refused { status, reason, response, .. } => {
                self.refused(status, &reason, response.as_deref());
                self.finish(now, out);
            }
            Event::Reinvited { body, .. } => self.reinvited(now, body.as_ref(), out),
            Event::Acknowledged { body, .. } => {
                if std::mem::take(&mut self.offers_late)
                    && let Some(body) = body
                {
                    // A bad answer leaves the media as they were; the other side made the offer moot.
                    drop(self.agree(now, &body));
                }
            }
            Event::Digit { digit, .. } => self.info_digits.push(digit),
            Event::Ended { how, .. } => self.ended(now, how, out),
            Event::Invited(invitation) => {
                let cause = HangupCause::Busy;
                let (retry_after_s, headers) = (None, Vec::new());
                let (status, is_passed_on) = (cause.sip_status(), false);
                let refusal = Refusal { status, cause, retry_after_s, headers, is_passed_on };
                let dialog = invitation.dialog;
                self.command(now, Command::Refuse { dialog, refusal }, out);
            }
            // Of calls to us, which were refused, and of re-INVITEs of ours, which there are none of.
            Event::Cancelled { .. }
            | Event::ReinviteAnswered { .. }
            | Event::Refreshed { .. }
            | Event::ReinviteRefused { .. } => (),
            // Of what the caller never asks for.
            Event::Placed { .. }
            | Event::TooLarge { .. }
            | Event::EarlyAnswered { .. }
            | Event::InfoAnswered { .. }
            | Event::Referring { .. }
            | Event::Referred { .. }
            | Event::Declined(_)
            | Event::RequestAnswered { .. }
            | Event::Probed { .. } => (),
        }
    }

    /// Takes a description of the other side as the answer to our offer.
    fn agree(&mut self, now: Moment, body: &Body) -> Result<(), CallProblem> {
        let answer = sdp::parse(&body.bytes).map_err(|_| CallProblem::NoDescription)?;
        let plan = sdp::accept(&answer, &self.offered).map_err(CallProblem::NoMedia)?;
        self.line.update(now, plan);
        Ok(())
    }

    fn answered_with(&mut self, now: Moment, body: Option<&Body>, out: &mut Vec<Output>) {
        self.status = Some(200);
        self.milestones.answered.get_or_insert(now);
        self.command(now, Command::Acknowledge { dialog: self.dialog, body: None }, out);
        self.state = State::Talking { until: now + self.duration };
        let agreed = match body {
            Some(body) => self.agree(now, body),
            // The description came with a provisional response already.
            None if self.line.plan().is_some() => Ok(()),
            None => Err(CallProblem::NoDescription),
        };
        match agreed {
            Ok(()) => self.line.answered(now),
            Err(problem) => {
                self.problem.get_or_insert(problem);
                self.hang_up(now, CallProblem::GivenUp, out);
            }
        }
    }

    fn refused(&mut self, status: u16, phrase: &[u8], response: Option<&Response>) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let Some(response) = response else {
            // The endpoint's own verdict: nothing came, or the connection broke.
            let problem = match status {
                408 if self.heard_anything => CallProblem::NoAnswer,
                408 => CallProblem::NoResponse,
                503 => CallProblem::ConnectionLost,
                _ => CallProblem::Refused { status, phrase: text(phrase), reason: None },
            };
            self.problem.get_or_insert(problem);
            return;
        };
        self.status = Some(status);
        let reason = response.headers.first(HeaderName::Reason).map(text);
        let phrase = text(phrase);
        self.problem.get_or_insert(CallProblem::Refused { status, phrase, reason });
    }

    fn reinvited(&mut self, now: Moment, body: Option<&Body>, out: &mut Vec<Output>) {
        self.reinvites += 1;
        let dialog = self.dialog;
        self.media.version += 1;
        let answered = match body {
            None => {
                self.offers_late = true;
                Ok(sdp::offer(&self.offered, &self.media))
            }
            Some(body) => self.answer_offer(now, body),
        };
        let command = match answered {
            Ok(mut text) => {
                if !sdp::is_revision(&self.description, &text) {
                    self.media.version -= 1;
                    text.clone_from(&self.description);
                }
                self.description.clone_from(&text);
                Command::AnswerReinvite { dialog, body: text.into() }
            }
            Err(cause) => {
                self.media.version -= 1;
                Command::RefuseReinvite { dialog, status: cause.sip_status(), cause }
            }
        };
        self.command(now, command, out);
    }

    fn answer_offer(&mut self, now: Moment, body: &Body) -> Result<Vec<u8>, HangupCause> {
        let offer = sdp::parse(&body.bytes).map_err(|_| HangupCause::BadSdp)?;
        let (text, plan) = sdp::answer(&offer, &self.offered, &self.media)
            .map_err(|error: sdp::NegotiationError| error.cause())?;
        self.line.update(now, plan);
        Ok(text)
    }

    fn ended(&mut self, now: Moment, how: DialogEnd, out: &mut Vec<Output>) {
        let was_answered = self.milestones.answered.is_some();
        let (by, problem) = match how {
            DialogEnd::Bye { reason } => {
                self.bye_reason = reason.map(|text| String::from_utf8_lossy(&text).into_owned());
                (EndedBy::FarEnd, None)
            }
            DialogEnd::ByeAnswered => (EndedBy::Us, None),
            DialogEnd::PeerTimeout if matches!(self.state, State::Leaving { .. }) => {
                (EndedBy::Us, Some(CallProblem::HangupUnanswered))
            }
            DialogEnd::PeerTimeout | DialogEnd::AckTimeout | DialogEnd::SessionExpired => {
                (EndedBy::Fault, Some(CallProblem::PeerLost))
            }
            DialogEnd::FlowLost => (EndedBy::Fault, Some(CallProblem::ConnectionLost)),
        };
        if was_answered {
            self.ended_by.get_or_insert(by);
        }
        if let Some(problem) = problem {
            self.problem.get_or_insert(problem);
        }
        self.finish(now, out);
    }
}

/// Our end of the media before anything is agreed on.
pub(super) const fn local_media(rtp: SocketAddr, rtcp_port: u16, session_id: u64) -> LocalMedia {
    LocalMedia {
        address: rtp.ip(),
        rtp_port: rtp.port(),
        rtcp_port,
        session_id,
        version: 1,
        direction: Direction::SendReceive,
    }
}

fn is_trying(message: &[u8]) -> bool {
    message.starts_with(b"SIP/2.0 100")
}
