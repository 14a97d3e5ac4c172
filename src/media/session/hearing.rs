//! What is heard of the peer: 20 ms in each tick, with what was lost concealed.

use crate::audio::conceal::Concealer;
use crate::audio::frame::Encoded;
use crate::audio::frame::FRAME_SAMPLES;
use crate::audio::frame::Pcm;
use crate::audio::frame::SILENCE;
use crate::audio::frame::WIDE_SAMPLES;
use crate::audio::frame::WidePcm;
use crate::audio::g711;
use crate::audio::keys::KeyEar;
use crate::audio::passed::Passed;
use crate::audio::sound::Sound;
use crate::media::output::TickOutput;
use crate::media::session::Ear;
use crate::media::session::MediaSession;
use crate::media::session::look_back::Kept;
use crate::media::unpacking::unpack;
use crate::rtp::jitter::Frame;
use crate::rtp::jitter::Origin;
use crate::rtp::jitter::Parts;
use crate::rtp::packet::RtpPacket;
use crate::rtp::payloads::Payloads;
use crate::types::codec::Codec;
use crate::types::codec::Law;
use crate::types::moment::Moment;

/// 20 ms of the peer.
struct Heard {
    /// As µ-law, for who listens, and for an agent of that.
    frame: Encoded,
    /// As it came, or was made, for a bridge; `None`: there was nothing.
    original: Option<Sound>,
    /// At 8 kHz.
    linear: Pcm,
}

impl Heard {
    const NOTHING: Self = Self { frame: SILENCE, original: None, linear: [0; FRAME_SAMPLES] };
}

/// What the jitter buffer gave.
enum Given {
    Audio(Encoded),
    Mixed(Encoded, Parts),
    Missing,
    Quiet,
    Empty,
}

impl Given {
    fn of(frame: Frame<'_>) -> Self {
        match frame {
            Frame::Audio(bytes) => Self::Audio(copied(bytes)),
            Frame::Mixed(bytes, parts) => Self::Mixed(copied(bytes), parts),
            Frame::Missing => Self::Missing,
            Frame::Quiet => Self::Quiet,
            Frame::Empty => Self::Empty,
        }
    }
}

impl MediaSession {
    /// Gives the agent the next 20 ms of the peer, and returns them.
    pub(super) fn hear(&mut self, now: Moment, out: &mut TickOutput) -> Encoded {
        let (frame, original) = self.heard_at(now, 0, out);
        if self.has_guests() {
            // Who is bridged hears the tone of a key with guests as without: it is told of none.
            let heard = original.filter(|_| !self.hides_key || self.is_bridged());
            let looks_back = self.look_back.as_ref().is_some_and(|it| it.hides());
            let keeps = self.rules.keys_private && (self.hides_key || looks_back);
            let later = self.rules.keys_private && self.is_bridged();
            if let Some(guests) = &mut self.guests {
                guests.keep_key(keeps);
                guests.hear_later(later);
            }
            return self.hear_with_guests(heard, frame);
        }
        self.pass_on(original.as_ref(), &frame);
        self.give_heard(frame, original.as_ref())
    }

    /// Takes the next 20 ms of the peer, whose tick was `ticks` after the present one: as µ-law, and as they came
    /// unless the peer is muted or nothing was there.
    pub(super) fn heard_at(
        &mut self,
        now: Moment,
        ticks: u64,
        out: &mut TickOutput,
    ) -> (Encoded, Option<Sound>) {
        let mut ear = Ear::of(&mut self.playout, &mut self.bridged, &mut self.counters, out);
        self.digits_in.expire(now, |event| ear.pressed(event));
        let receives = self.hears();
        let Heard { frame, original, linear } =
            if receives { self.next_heard(now, out.payloads()) } else { Heard::NOTHING };
        self.hear_keys(&linear, out);
        let hidden = self.key_is_down();
        self.key_tail = self.key_tail.saturating_sub(1);
        let beside_event = self.digits_in.down().is_some() || self.key_tail > 0;
        let newest = Kept { frame, original, hidden, untaped: false, beside_event };
        let private = self.look_back.as_mut().filter(|_| self.rules.keys_private);
        let passed = private.map(|look_back| look_back.pass(newest));
        // Where nothing is kept back, which is mostly so, nothing is moved either.
        let kept = passed.as_ref().unwrap_or(&newest);
        self.hides_key = kept.hidden;
        self.tape_heard(kept, ticks);
        // Whom the peer is bridged with hears its keys, and nothing has to wait for that: who listens beside it does.
        let at_once = self.is_bridged();
        if at_once
            && self.rules.keys_private
            && let Some(guests) = &mut self.guests
        {
            guests.say_kept(kept.original.filter(|_| !kept.hidden && !self.steered.inward));
        }
        let told = if at_once { &newest } else { kept };
        self.beside_event = told.beside_event;
        (told.frame, if self.steered.inward { None } else { told.original })
    }

    /// Gives the agent what was heard, as far as it is for it, and returns that.
    pub(super) fn give_heard(&mut self, frame: Encoded, original: Option<&Sound>) -> Encoded {
        if self.steered.inward || self.hides_key || self.is_bridged() {
            // The tone of a key may leak into the audio beside its event.
            self.give((Law::Mu, &SILENCE), None);
            return SILENCE;
        }
        let of_agent = self.playout.end().law();
        match original {
            Some(Sound::Wide(wide)) => {
                let (law, own) = self.narrowed(of_agent, &frame);
                self.give((law, &own), Some(wide));
            }
            Some(Sound::Law(law, own)) if *law == of_agent => self.give((*law, own), None),
            Some(Sound::Law(..)) | None => self.give((Law::Mu, &frame), None),
        }
        frame
    }

    /// What came at 16 kHz and is `ulaw` as µ-law, as an agent of 8 kHz is given it: made of the samples, not of their µ-law,
    /// where it is of the other law. Of what was kept back there is nothing but the µ-law.
    fn narrowed(&self, of_agent: Law, ulaw: &Encoded) -> (Law, Encoded) {
        match &self.wide {
            Some(wide) if of_agent == Law::A && !self.rules.keys_private => {
                let mut own = SILENCE;
                g711::encode(of_agent, wide.narrowed(), &mut own);
                (of_agent, own)
            }
            Some(_) | None => (Law::Mu, *ulaw),
        }
    }

    pub(super) fn key_is_down(&self) -> bool {
        self.digits_in.is_down() || self.key_tail > 0 || self.key_ear.is_down()
    }

    /// Takes a packet of a telephone event of this clock, in Hz. What came beside it is played later, with what waits in
    /// the jitter buffer now: of carriers that send both, the tone.
    pub(super) fn take_event(
        &mut self,
        now: Moment,
        (packet, clock_rate): (&RtpPacket<'_>, u32),
        out: &mut TickOutput,
    ) {
        self.digits_in.set_clock(clock_rate);
        let mut ear = Ear::of(&mut self.playout, &mut self.bridged, &mut self.counters, out);
        let mut is_news = false;
        self.digits_in.receive(now, packet, |event| {
            is_news = true;
            ear.pressed(event);
        });
        if is_news || self.digits_in.is_down() {
            self.key_tail = self.jitter.level_ms().div_ceil(20) + 1;
        }
    }

    /// Gives whom the peer talks with the peer and the guests that speak to it; returns the peer alone.
    fn hear_with_guests(&mut self, heard: Option<Sound>, ulaw: Encoded) -> Encoded {
        let mixed = self.with_guests_inward(heard);
        if self.is_bridged() {
            self.pass_on(mixed.as_ref(), &ulaw);
            self.give((Law::Mu, &SILENCE), None);
            return SILENCE;
        }
        match mixed {
            // Only an agent of 16 kHz is given that: what is at 8 kHz is not heard.
            Some(Sound::Wide(wide)) => self.give((Law::Mu, &ulaw), Some(&wide)),
            Some(Sound::Law(law, own)) => self.give((law, &own), None),
            None => self.give((Law::Mu, &SILENCE), None),
        }
        if heard.is_some() { ulaw } else { SILENCE }
    }

    /// Ends a key that is down. Whom it was told to may have hung up because of it, before it was let go.
    pub(super) fn release_keys(&mut self, out: &mut TickOutput) {
        let told = self.tells_tones();
        let mut ear = Ear::of(&mut self.playout, &mut self.bridged, &mut self.counters, out);
        self.digits_in.release(|event| ear.pressed(event));
        if told {
            self.key_ear.release(|key| ear.heard(key));
        }
    }

    /// Whether keys that are heard in the audio are told: those of a peer that sends no telephone events, nor does it still
    /// by the plan before.
    fn tells_tones(&self) -> bool {
        let agreed = self.plan.as_ref().is_some_and(|plan| plan.dtmf_receive.is_some());
        let events = agreed || self.digits_in.is_down() || self.key_tail > 0;
        self.rules.tones_heard && !events
    }

    /// Hears keys in the audio of a peer that sends no telephone events.
    fn hear_keys(&mut self, linear: &Pcm, out: &mut TickOutput) {
        let told = self.tells_tones();
        if !told && !self.rules.keys_private {
            if self.key_ear.is_down() {
                self.key_ear = KeyEar::default();
            }
            return;
        }
        let mut ear = Ear::of(&mut self.playout, &mut self.bridged, &mut self.counters, out);
        self.key_ear.push(linear, |key| {
            if told {
                ear.heard(key);
            }
        });
    }

    /// Takes 20 ms from the jitter buffer, whose delay may change where nobody hears it: in silence.
    fn next_heard(&mut self, now: Moment, payloads: &mut Payloads) -> Heard {
        let mut linear: WidePcm = [0; WIDE_SAMPLES];
        if self.jitter.codec_given().is_passed() && self.passage.is_some() {
            return self.next_passed(now, payloads);
        }
        if self.concealer.was_quiet() && self.jitter.wants_more(now) {
            self.jitter.stretch();
            let place = placed(&self.concealer, &mut linear);
            self.concealer.conceal(place);
            return self.made(&linear);
        }
        let given = Given::of(self.jitter.pop(now, payloads));
        self.next_given(given, payloads)
    }

    /// What is heard of a frame that was just given.
    fn next_given(&mut self, mut given: Given, payloads: &mut Payloads) -> Heard {
        if self.jitter.codec_given().is_passed() {
            return self.pass_frames(payloads);
        }
        let mut linear: WidePcm = [0; WIDE_SAMPLES];
        if self.jitter.was_cut() {
            self.concealer.cut();
        }
        self.decode(&given, &mut linear);
        if self.jitter.wants_less() && self.is_quiet(&given, &mut linear) {
            self.concealer.cut();
            given = Given::of(self.jitter.instead(payloads));
            self.decode(&given, &mut linear);
        }
        self.heard_of(&given, &mut linear)
    }

    /// The same while what is heard is of a codec that only passes: nobody here knows where it is silent, but for
    /// pauses.
    fn next_passed(&mut self, now: Moment, payloads: &mut Payloads) -> Heard {
        let pauses = self.passage.as_ref().is_some_and(|passage| passage.was_pause());
        if pauses && self.jitter.wants_more(now) {
            self.jitter.stretch();
            return self.passes(Passed::NOTHING);
        }
        let given = Given::of(self.jitter.pop(now, payloads));
        self.next_given(given, payloads)
    }

    fn pass_frames(&mut self, payloads: &mut Payloads) -> Heard {
        let mut passed = self.read_passed();
        if passed.is_pause() && self.jitter.wants_less() {
            self.jitter.instead(payloads);
            passed = self.read_passed();
        }
        self.passes(passed)
    }

    fn read_passed(&mut self) -> Passed {
        let (Some(passage), Some(desk)) = (&mut self.passage, self.jitter.desk()) else {
            return Passed::NOTHING;
        };
        passage.read(desk)
    }

    /// This goes on to the other leg as it is, and is heard by nobody else.
    fn passes(&mut self, passed: Passed) -> Heard {
        self.concealer.forget();
        if let Some(passage) = &mut self.passage {
            passage.hear(passed);
        }
        Heard::NOTHING
    }

    fn is_quiet(&self, given: &Given, linear: &mut WidePcm) -> bool {
        match given {
            Given::Audio(_) => self.concealer.is_quiet(placed(&self.concealer, linear)),
            Given::Quiet => true,
            Given::Mixed(..) | Given::Missing | Given::Empty => false,
        }
    }

    /// Decodes a whole frame.
    fn decode(&mut self, given: &Given, linear: &mut WidePcm) {
        if let Given::Audio(frame) = given {
            let codec = self.jitter.codec_given();
            self.tune(codec);
            if codec.is_packed() {
                self.unpack(linear, true);
            } else {
                self.decode_as(codec, frame, linear);
            }
        }
    }

    fn decode_as(&mut self, codec: Codec, bytes: &[u8], linear: &mut [i16]) {
        match (codec.law(), &mut self.wide) {
            (Some(law), _) => g711::decode(law, bytes, linear),
            (None, Some(wide)) => wide.decode(bytes, linear),
            // Audio is only taken that can be decoded.
            (None, None) => (),
        }
    }

    /// Conceals at the rate of what is heard.
    fn tune(&mut self, codec: Codec) {
        if codec.is_wide() != self.concealer.is_wide() {
            // What is wide is only taken where that can be decoded.
            if let Some(wide) = &mut self.wide {
                self.concealer.change_rate(&mut wide.past);
            }
        }
    }

    /// Makes what is heard of what was given. `linear` holds the samples of whole audio.
    fn heard_of(&mut self, given: &Given, linear: &mut WidePcm) -> Heard {
        match given {
            Given::Audio(frame) => {
                let place = placed(&self.concealer, linear);
                let changed = self.concealer.heard(place);
                if let (Some(law), false) = (self.jitter.codec_given().law(), changed) {
                    let mut ulaw = *frame;
                    g711::to_ulaw(law, &mut ulaw);
                    let original = Some(Sound::Law(law, *frame));
                    return Heard { frame: ulaw, original, linear: narrow_half(linear) };
                }
            }
            Given::Mixed(bytes, parts) => self.play_parts(bytes, parts, linear),
            Given::Missing => self.play_missing(linear),
            Given::Quiet => {
                let place = placed(&self.concealer, linear);
                self.concealer.pause(place);
            }
            Given::Empty => self.concealer.forget(),
        }
        self.made(linear)
    }

    /// What the jitter buffer gave of a codec that is decoded packet by packet.
    fn unpack(&mut self, linear: &mut WidePcm, whole: bool) {
        if let Some(packed) = &mut self.packed {
            unpack(&self.jitter, packed, &mut self.concealer, linear, whole);
        }
    }

    fn play_missing(&mut self, linear: &mut WidePcm) {
        let codec = self.jitter.codec_given();
        if codec.is_packed() {
            self.tune(codec);
            self.unpack(linear, false);
        } else {
            let place = placed(&self.concealer, linear);
            self.concealer.conceal(place);
        }
    }

    fn play_parts(&mut self, bytes: &Encoded, parts: &Parts, linear: &mut WidePcm) {
        let codec = self.jitter.codec_given();
        self.tune(codec);
        if codec.is_packed() {
            return self.unpack(linear, false);
        }
        let (mut bytes, mut rest) = (bytes.as_slice(), linear.as_mut_slice());
        for part in parts.all() {
            let length = usize::from(part.samples);
            let count = length * self.concealer.factor();
            let Some((samples, after)) = rest.split_at_mut_checked(count) else { return };
            let Some((now, later)) = bytes.split_at_checked(length) else { return };
            match part.origin {
                Origin::Audio => {
                    self.decode_as(codec, now, samples);
                    self.concealer.heard(samples);
                }
                Origin::Missing => self.concealer.conceal(samples),
                Origin::Quiet => self.concealer.pause(samples),
            }
            (bytes, rest) = (later, after);
        }
    }

    /// What did not come like that. Where it is silent, a bridge hears noise instead.
    fn made(&mut self, linear: &WidePcm) -> Heard {
        let mut frame = SILENCE;
        let Some(wide) = self.wide.as_mut().filter(|_| self.concealer.is_wide()) else {
            let linear = narrow_half(linear);
            g711::encode(Law::Mu, &linear, &mut frame);
            let original = (frame != SILENCE).then(|| self.coded(&linear, &frame));
            return Heard { frame, original, linear };
        };
        let narrow = wide.narrow(linear);
        g711::encode(Law::Mu, &narrow, &mut frame);
        let original = linear.iter().any(|sample| *sample != 0).then_some(Sound::Wide(*linear));
        Heard { frame, original, linear: narrow }
    }

    /// What was made here, and is `ulaw` as µ-law: of the agent's law, for what is turned to that from the other is not
    /// what was made any more.
    fn coded(&mut self, linear: &Pcm, ulaw: &Encoded) -> Sound {
        match self.playout.end().law() {
            Law::Mu => Sound::Law(Law::Mu, *ulaw),
            law @ Law::A => {
                let mut own = SILENCE;
                g711::encode(law, linear, &mut own);
                Sound::Law(law, own)
            }
        }
    }
}

/// The samples of a frame at the rate that is heard.
fn placed<'a>(concealer: &Concealer, linear: &'a mut WidePcm) -> &'a mut [i16] {
    linear.get_mut(..FRAME_SAMPLES * concealer.factor()).unwrap_or_default()
}

/// The samples of a frame at 8 kHz, which are the first half.
fn narrow_half(linear: &WidePcm) -> Pcm {
    let mut narrow = [0; FRAME_SAMPLES];
    for (to, sample) in narrow.iter_mut().zip(linear) {
        *to = *sample;
    }
    narrow
}

fn copied(bytes: &[u8]) -> Encoded {
    let mut frame = SILENCE;
    for (to, byte) in frame.iter_mut().zip(bytes) {
        *to = *byte;
    }
    frame
}
