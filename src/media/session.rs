//! `MediaSession`: the RTP of one leg, with the agent it talks to.

use crate::audio::conceal::Concealer;
use crate::audio::frame::Encoded;
use crate::audio::frame::FRAME_SAMPLES;
use crate::audio::frame::SAMPLES_PER_MS;
use crate::audio::frame::SILENCE;
use crate::audio::frame::WIDE_SAMPLES;
use crate::audio::frame::WidePcm;
use crate::audio::g711;
use crate::audio::keys::KeyEar;
use crate::audio::link::MediaEnd;
use crate::audio::packed::PackedVoice;
use crate::audio::sound::Sound;
use crate::audio::tape::TapeIn;
use crate::audio::wide::WideVoice;
use crate::media::event::MediaEvent;
use crate::media::output::Port;
use crate::media::output::Taken;
use crate::media::output::TickOutput;
use crate::media::pace::TICK;
use crate::media::passage::Passage;
use crate::media::playout::Playout;
use crate::media::session::arriving::Kind;
use crate::media::session::counters::Counters;
use crate::media::session::ear::Ear;
use crate::media::session::earlier::Earlier;
use crate::media::session::expected::Expected;
use crate::media::session::greeting::Greeting;
use crate::media::session::judging::Judge;
use crate::media::session::key_tone::KeyTone;
use crate::media::session::listening::Ears;
use crate::media::session::look_back::LookBack;
use crate::media::session::outgoing::Outgoing;
use crate::media::setup::MediaRules;
use crate::media::setup::MediaSetup;
use crate::media::source::SourceLock;
use crate::media::statistics::MediaStatistics;
use crate::rtp::classify::Datagram;
use crate::rtp::classify::classify;
use crate::rtp::dtmf;
use crate::rtp::jitter::Content;
use crate::rtp::jitter::JitterBuffer;
use crate::rtp::jitter::JitterConfig;
use crate::rtp::packet::RtpPacket;
use crate::rtp::quality;
use crate::rtp::quality::Conditions;
use crate::rtp::quality::Impairment;
use crate::rtp::receiver::Receiver;
use crate::rtp::schedule::ReportSchedule;
use crate::rtp::sender::Sender;
use crate::rtp::srtp::Layer;
use crate::rtp::srtp::Protection;
use crate::rtp::srtp::SrtpError;
use crate::sdp::MediaPlan;
use crate::types::codec::Codec;
use crate::types::codec::Law;
use crate::types::moment::Moment;
use crate::types::random::Random;
use std::borrow::Cow;
use std::net::SocketAddr;
use std::task::Waker;

mod ahead;
mod arriving;
mod bridged;
mod counters;
mod ear;
mod earlier;
mod expected;
mod greeting;
mod guests;
mod hearing;
mod judging;
mod key_tone;
mod late;
mod lent;
mod listening;
mod look_back;
pub(super) mod outgoing;
mod phase;
mod planned;
mod reports;
mod sending;
mod steered;
mod taped;

pub use crate::media::session::bridged::Bridged;
pub use crate::media::session::greeting::GREETING_HELD_MAX;
pub use crate::media::session::guests::GUESTS_MAX;
pub use crate::media::session::guests::GuestGains;
pub use crate::media::session::guests::Guests;
pub use crate::media::session::late::LATE_TICKS_HEARD_MAX;
pub use crate::media::session::steered::Clip;

use crate::media::session::steered::Steered;

const CLOCK_RATE: u32 = 8_000;

/// Times our SSRC gives way to the peer's. Beyond, the peer sends our own packets back.
const COLLISIONS_MAX: u8 = 3;

/// A datagram that arrived.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// Where it arrived.
    pub port: Port,
    /// Where it came from.
    pub source: SocketAddr,
    /// What it holds.
    pub bytes: &'a [u8],
}

/// The RTP of one leg with the agent it talks to. To be ticked every 20 ms.
///
/// Towards the agent a frame goes out in every tick, whatever arrives. Towards the peer one packet
/// goes out for each packet time, whatever the agent says, unless the plan forbids sending.
#[derive(Debug)]
pub struct MediaSession {
    plan: Option<MediaPlan>,
    /// What may still come by the plan before.
    earlier: Option<Earlier>,
    /// What may come by an offer of ours that is not answered yet.
    expected: Option<Expected>,
    rules: MediaRules,
    opened: Moment,
    source: SourceLock,
    protection: Protection,
    jitter: JitterBuffer,
    receiver: Receiver,
    digits_in: dtmf::Receiver,
    concealer: Concealer,
    key_ear: KeyEar,
    /// Ticks for which what was heard beside the last event is still to be played.
    key_tail: u32,
    /// Where keys are private, or were: it is kept then.
    look_back: Option<Box<LookBack>>,
    /// What was heard in this tick is beside a key.
    hides_key: bool,
    /// It came beside the event of one.
    beside_event: bool,
    playout: Playout,
    /// Whom the peer talks with instead of the agent.
    bridged: Option<Box<Bridged>>,
    /// Who takes part beside the two. Kept when the last of them left: it is freed elsewhere.
    guests: Option<Box<Guests>>,
    steered: Steered,
    sender: Sender,
    digits_out: dtmf::Sender,
    key_tone: KeyTone,
    /// What waits for its packet to be full. Kept when packets get shorter: it is freed elsewhere.
    outgoing: Option<Box<Outgoing>>,
    /// Where what is heard and sent is recorded.
    tape: Option<Box<TapeIn>>,
    reports: ReportSchedule,
    /// Where the peer's last report came from.
    reports_from: Option<SocketAddr>,
    cname: [u8; 16],
    /// Sending is allowed.
    started: bool,
    greeting: Greeting,
    /// Ticks since the last packet of a peer that should send, the one included in which that was first seen; 0: not seen yet.
    quiet_ticks: u32,
    collisions: u8,
    ears: Ears,
    judge: Judge,
    /// What was sent last: the listener hears it come back as echo.
    said: (Law, Encoded),
    /// What a codec at 16 kHz needs. Kept when the peer changes to one of 8 kHz: it is freed elsewhere.
    wide: Option<Box<WideVoice>>,
    /// The same of a codec that is decoded packet by packet.
    packed: Option<Box<PackedVoice>>,
    /// The same of a codec that passes through.
    passage: Option<Box<Passage>>,
    /// Ticks since the session was opened, those left out too.
    ticks: u64,
    counters: Counters,
}

impl MediaSession {
    /// A session that begins `now`.
    #[must_use]
    pub fn new(now: Moment, setup: MediaSetup, end: MediaEnd) -> Self {
        *Self::boxed(now, setup, end)
    }

    /// The same by pointer: it is kilobytes long, and each hand it goes through would copy them.
    #[must_use]
    pub fn boxed(now: Moment, setup: MediaSetup, end: MediaEnd) -> Box<Self> {
        let mut random = Random::from_seed(setup.seed);
        let mut session = Box::new(Self {
            plan: None,
            earlier: None,
            expected: None,
            rules: MediaRules::default(),
            opened: now,
            source: SourceLock::new(),
            protection: Protection::Plain,
            jitter: JitterBuffer::new(JitterConfig {
                depth_ms: setup.jitter_depth_ms,
                codec: Codec::Pcmu,
            }),
            receiver: Receiver::new(CLOCK_RATE),
            digits_in: dtmf::Receiver::new(CLOCK_RATE),
            concealer: Concealer::default(),
            key_ear: KeyEar::default(),
            key_tail: 0,
            look_back: None,
            hides_key: false,
            beside_event: false,
            playout: Playout::new(end, random.next_u64()),
            bridged: None,
            guests: None,
            steered: Steered::default(),
            sender: Sender::new(random.next_u64()),
            digits_out: dtmf::Sender::new(CLOCK_RATE, setup.rules.key_ms, setup.rules.key_gap_ms),
            key_tone: KeyTone::default(),
            outgoing: None,
            tape: None,
            reports: ReportSchedule::new(now, random.next_u64()),
            reports_from: None,
            cname: random_name(&mut random),
            started: !setup.playout_held,
            greeting: if setup.playout_held { Greeting::Held } else { Greeting::Free },
            quiet_ticks: 0,
            collisions: 0,
            ears: Ears::default(),
            judge: Judge::default(),
            said: (Law::Mu, SILENCE),
            wide: None,
            packed: None,
            passage: None,
            ticks: 0,
            counters: Counters::default(),
        });
        let mut rules = setup.rules;
        session.rule(&mut rules);
        if let Some(plan) = &setup.plan {
            session.agree(now, plan);
        }
        session
    }

    /// Puts rules in force, and gives back those before in their place. The first by which keys are private allocate.
    pub fn rule(&mut self, rules: &mut MediaRules) {
        std::mem::swap(&mut self.rules, rules);
        if self.rules.keys_signalled != rules.keys_signalled {
            self.drop_key();
        }
        if self.rules.keys_private {
            **self.look_back.get_or_insert_default() = LookBack::default();
        }
        self.source.set_symmetric(self.rules.symmetric);
        self.digits_out.set_timing(self.rules.key_ms, self.rules.key_gap_ms);
    }

    /// Replaces the link to the agent by `end`, which holds the old one afterwards.
    pub fn attach(&mut self, end: &mut MediaEnd) {
        self.playout.attach(end);
    }

    /// The same, but the agent of the old link notices nothing: it is to talk with another session.
    pub fn exchange(&mut self, end: &mut MediaEnd) {
        self.playout.exchange(end);
    }

    /// Whether RTCP shares the port of RTP (RFC 5761).
    #[must_use]
    pub fn muxes_rtcp(&self) -> bool {
        self.plan.as_ref().is_some_and(|plan| plan.rtcp_mux)
    }

    /// Takes a datagram that arrived at `now`. Anything may be in it.
    pub fn receive(&mut self, now: Moment, datagram: &Received<'_>, out: &mut TickOutput) -> Taken {
        let mux = self.muxes_rtcp();
        match (classify(datagram.bytes), datagram.port) {
            (Datagram::Rtp, Port::Rtp) => self.receive_rtp(now, datagram, out),
            (Datagram::Rtcp, Port::Rtcp) => self.receive_rtcp(now, datagram),
            (Datagram::Rtcp, Port::Rtp) if mux => self.receive_rtcp(now, datagram),
            (
                Datagram::Rtp
                | Datagram::Rtcp
                | Datagram::Stun
                | Datagram::Zrtp
                | Datagram::Dtls
                | Datagram::Turn
                | Datagram::Unknown,
                _,
            ) => {
                self.counters.malformed += 1;
                Taken::Refused
            }
        }
    }

    /// Runs 20 ms: plays to the agent, sends, reports. Hearing comes first: an agent that is interrupted is
    /// silent in the same tick. The agent's task is not woken for what it can hear now:
    /// [`Self::take_agents_waker`] does that.
    pub fn tick(&mut self, now: Moment, out: &mut TickOutput) {
        let heard = self.hear(now, out);
        self.ticks += 1;
        self.listen(&heard, out);
        let mut said = self.speech(now, out);
        self.steered.heard(&mut said, out);
        self.with_guests_outward(&mut said);
        self.said = match &said {
            Sound::Law(law, frame) => (*law, *frame),
            Sound::Wide(_) => (Law::Mu, SILENCE),
        };
        self.send(&mut said, out);
        self.tape_on();
        self.leave_stream(out);
        if self.rules.rtcp && self.reports.is_due(now) {
            self.report(now, out, |report, bytes| report.write(bytes));
        }
        self.watch(out);
        self.judge(out);
        self.forget_plan_in_time();
    }

    /// Takes what wakes the agent's task, which waits for what a tick brought; `None`: it is awake.
    pub fn take_agents_waker(&mut self) -> Option<Waker> {
        self.playout.end().take_waker()
    }

    /// Says goodbye: to the peer by RTCP, to the agent by `Closed`. A key that is down is over.
    pub fn close(&mut self, now: Moment, out: &mut TickOutput) {
        self.release_keys(out);
        self.playout.end().hang_up();
        if self.rules.rtcp && (self.sender.packets() > 0 || self.receiver.ssrc().is_some()) {
            self.report(now, out, |report, bytes| report.write_goodbye(bytes));
        }
    }

    /// The figures up to now.
    #[must_use]
    pub fn statistics(&self) -> MediaStatistics {
        let counted = &self.counters;
        let received = self.receiver.statistics();
        let jitter = self.jitter.statistics();
        let feedback = self.sender.feedback();
        let reported = feedback.reports > 0;
        let judged = self.quality();
        let lost_out = u64::try_from(feedback.cumulative_lost.max(0)).unwrap_or(0);
        let loss_out = quality::loss_percent(self.sender.packets(), lost_out, 0);
        MediaStatistics {
            packets_in: received.packets,
            octets_in: received.octets,
            packets_out: self.sender.packets(),
            octets_out: self.sender.octets(),
            lost_in: u64::try_from(received.lost).unwrap_or(0),
            late_in: jitter.late,
            duplicate_in: jitter.duplicate,
            discarded_in: jitter.discarded,
            concealed: jitter.missing_samples.div_ceil(FRAME_SAMPLES as u64),
            lost_out: reported.then_some(lost_out),
            jitter_in_ms: received.jitter_us as f32 / 1_000.0,
            jitter_out_ms: reported
                .then_some(feedback.jitter as f32 * 1_000.0 / self.codec().clock_rate() as f32),
            round_trip_ms: feedback.round_trip.map(|time| time.as_secs_f32() * 1_000.0),
            mos_in: judged.inward.mos_lq,
            mos_out: reported.then(|| listening_quality(self.impairment(), loss_out)),
            relatched: self.source.changes(),
            underruns: self.playout.underruns(),
            played_ms: self.playout.played_samples() / SAMPLES_PER_MS as u64,
            jitter_level_ms: self.jitter.level_ms(),
            playout_ms: self.playout.queued_ms(),
            srtp: self.protection.suite(),
            quality: judged,
            foreign: counted.foreign,
            srtp_refused: counted.srtp_refused,
            srtp_replayed: counted.srtp_replayed,
            malformed: counted.malformed,
            unexpected: counted.unexpected,
            digits: counted.digits,
            frames_dropped: counted.frames_dropped,
            ticks_skipped: counted.ticks_skipped,
            reports_in: counted.reports_in,
            first_packet_ms: counted.first_packet_ms,
        }
    }

    /// The codec that was agreed on.
    fn codec(&self) -> Codec {
        self.plan.as_ref().map_or(Codec::Pcmu, |plan| plan.codec)
    }

    fn receive_rtp(&mut self, now: Moment, datagram: &Received<'_>, out: &mut TickOutput) -> Taken {
        // What no source can be believed for is not worth decrypting.
        if self.plan.is_none()
            || !self.source.may_believe(now, datagram.source, &self.rules.allowed)
        {
            self.counters.foreign += 1;
            return Taken::Refused;
        }
        let Some(bytes) = self.unprotect(now, Layer::Rtp, datagram.bytes) else {
            return Taken::Refused;
        };
        let (Ok(packet), Some(plan)) = (RtpPacket::parse(&bytes), &self.plan) else {
            self.counters.malformed += 1;
            return Taken::Refused;
        };
        let stream = (packet.ssrc, packet.sequence);
        let before = self.source.locked();
        if !self.source.judge(now, datagram.source, stream, &self.rules.allowed) {
            self.counters.foreign += 1;
            return Taken::Refused;
        }
        let receives = plan.direction.receives() || self.hears_by_offer();
        let kind = self.kind_of(&packet);
        if before.is_some() && before != self.source.locked() {
            self.jitter.reset(out.payloads());
        }
        self.heard(now, out);
        self.avoid_collision(packet.ssrc, out);
        match kind {
            _ if !receives => self.count_unheard(now, &packet, kind),
            Kind::Audio(codec) => {
                self.judge.pausing = false;
                self.take_audio(now, &packet, codec, out.payloads());
            }
            Kind::Event(clock_rate) => {
                self.count(now, &packet, Content::Other, out.payloads());
                self.take_event(now, (&packet, clock_rate), out);
            }
            Kind::Pause => {
                self.judge.pausing = true;
                if let Some(level) = packet.payload.first() {
                    self.concealer.noise_is(*level);
                }
                self.count(now, &packet, Content::Noise, out.payloads());
            }
            Kind::Unexpected => self.count_unexpected(now, &packet, out.payloads()),
        }
        Taken::Media
    }

    /// A packet in the clear; `None`: it is not to be believed.
    fn unprotect<'a>(
        &mut self,
        now: Moment,
        layer: Layer,
        bytes: &'a [u8],
    ) -> Option<Cow<'a, [u8]>> {
        match self.protection.receive(now, layer, bytes) {
            Ok(plain) => return Some(plain),
            Err(SrtpError::Replayed) => self.counters.srtp_replayed += 1,
            Err(
                SrtpError::Malformed
                | SrtpError::Refused
                | SrtpError::Expired
                | SrtpError::Unusable,
            ) => self.counters.srtp_refused += 1,
        }
        None
    }

    /// A believed packet came.
    fn heard(&mut self, now: Moment, out: &mut TickOutput) {
        self.quiet_ticks = 0;
        self.judge.packet_came();
        if self.counters.first_packet_ms.is_none() {
            let elapsed_ms = now.since(self.opened).as_millis();
            self.counters.first_packet_ms = Some(u64::try_from(elapsed_ms).unwrap_or(u64::MAX));
            self.way_is_open(now);
            out.event(MediaEvent::FirstPacket);
        }
    }

    /// RFC 3550 §8.2: two senders of one session must not use the same SSRC.
    fn avoid_collision(&mut self, theirs: u32, out: &mut TickOutput) {
        if theirs == self.sender.ssrc() && self.collisions < COLLISIONS_MAX {
            self.collisions += 1;
            self.end_key(out);
            self.sender.change_ssrc();
        }
    }

    /// Gives the agent 20 ms, at 16 kHz where both it and the peer's codec have them, else in the law of its link.
    fn give(&mut self, (law, frame): (Law, &Encoded), wide: Option<&WidePcm>) {
        let is_wide = self.codec().is_wide();
        let end = self.playout.end();
        let taken = if is_wide && end.takes_wide() {
            match (wide, &mut self.wide) {
                (Some(wide), _) => end.push_wide_frame(wide),
                // What the peer said before it took up a codec of 16 kHz.
                (None, Some(voice)) if *frame != SILENCE => {
                    end.push_wide_frame(&voice.widen_heard(law, frame))
                }
                (None, _) => end.push_wide_frame(&[0; WIDE_SAMPLES]),
            }
        } else if law == end.law() {
            end.push_frame(frame)
        } else {
            let mut turned = *frame;
            g711::convert(law, end.law(), &mut turned);
            end.push_frame(&turned)
        };
        if !taken {
            self.counters.frames_dropped += 1;
        }
    }

    /// Watches whether packets come while they should: in a pause that the peer announced its reports do.
    fn watch(&mut self, out: &mut TickOutput) {
        let expected = self.started && self.plan.as_ref().is_some_and(|plan| !plan.is_held());
        let Some(limit) = self.rules.inactivity.filter(|_| expected) else {
            self.quiet_ticks = 0;
            return;
        };
        let is_over = TICK * self.quiet_ticks >= limit;
        self.quiet_ticks = self.quiet_ticks.saturating_add(1);
        if is_over {
            out.event(MediaEvent::TimedOut);
            // Said again should the event be lost.
            self.quiet_ticks = 1;
        }
    }
}

fn listening_quality(impairment: Impairment, loss_percent: f32) -> f32 {
    quality::mos(&Conditions { impairment, loss_percent, burst_ratio: 1.0, delay_ms: 0.0 })
}

fn written(bytes: &[u8], length: Option<usize>) -> &[u8] {
    length.and_then(|length| bytes.get(..length)).unwrap_or_default()
}

/// RFC 7022 §4.2: a name of random bits for each session, so that calls cannot be linked by it.
fn random_name(random: &mut Random) -> [u8; 16] {
    let mut name = [0; 16];
    random.fill(&mut name);
    name.map(|byte| b'a' + byte % 26)
}

#[cfg(test)]
mod bridge_tests;
#[cfg(test)]
mod earlier_tests;
#[cfg(test)]
mod expected_tests;
#[cfg(test)]
mod guests_tests;
#[cfg(test)]
mod hearing_tests;
#[cfg(test)]
mod judging_tests;
#[cfg(test)]
mod late_tests;
#[cfg(test)]
mod law_tests;
#[cfg(test)]
mod lent_tests;
#[cfg(test)]
mod models_tests;
#[cfg(test)]
mod packed_tests;
#[cfg(test)]
mod passed_tests;
#[cfg(test)]
mod phase_tests;
#[cfg(test)]
mod reports_tests;
#[cfg(test)]
mod rules_tests;
#[cfg(test)]
mod srtp_tests;
#[cfg(test)]
mod taped_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod unheard_tests;
#[cfg(test)]
mod wide_tests;
