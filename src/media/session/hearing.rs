//! What is heard of the peer: 20 ms in each tick, with what was lost concealed.

use crate::audio::frame::Encoded;
use crate::audio::frame::FRAME_SAMPLES;
use crate::audio::frame::Pcm;
use crate::audio::frame::SILENCE;
use crate::audio::g711;
use crate::audio::keys::KeyEar;
use crate::media::output::TickOutput;
use crate::media::session::Ear;
use crate::media::session::MediaSession;
use crate::rtp::jitter::Frame;
use crate::rtp::jitter::Origin;
use crate::rtp::jitter::Part;
use crate::rtp::jitter::Parts;
use crate::types::codec::Codec;
use crate::types::moment::Moment;

/// 20 ms of the peer.
struct Heard {
    /// As µ-law, for the agent.
    frame: Encoded,
    /// As it came, for a bridge; `None`: there was nothing.
    original: Option<(Codec, Encoded)>,
    linear: Pcm,
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
        let mut ear = Ear::of(&mut self.playout, &mut self.bridged, &mut self.counters, out);
        self.digits_in.expire(now, |event| ear.pressed(event));
        let receiving = self.plan.as_ref().filter(|plan| plan.direction.receives());
        let codec = receiving.map(|plan| plan.codec);
        let Heard { mut frame, original, linear } = match codec {
            Some(codec) => self.next_heard(now, codec),
            None => Heard { frame: SILENCE, original: None, linear: [0; FRAME_SAMPLES] },
        };
        self.hear_keys(&linear, out);
        self.tape_heard(original);
        self.pass_on(original.filter(|_| !self.steered.inward));
        let key = self.digits_in.is_down() || self.key_ear.is_down();
        if self.steered.inward || key || self.bridged.is_some() {
            // The tone of a key may leak into the audio beside its event.
            frame = SILENCE;
        }
        self.give(&frame);
        frame
    }

    /// Hears keys in the audio of a peer that sends no telephone events.
    fn hear_keys(&mut self, linear: &Pcm, out: &mut TickOutput) {
        let events = self.plan.as_ref().is_some_and(|plan| plan.dtmf_receive.is_some());
        if !self.rules.tones_heard || events {
            if self.key_ear.is_down() {
                self.key_ear = KeyEar::default();
            }
            return;
        }
        let mut ear = Ear::of(&mut self.playout, &mut self.bridged, &mut self.counters, out);
        self.key_ear.push(linear, |key| ear.heard(key));
    }

    /// Takes 20 ms from the jitter buffer, whose delay may change where nobody hears it: in silence.
    fn next_heard(&mut self, now: Moment, codec: Codec) -> Heard {
        let mut linear: Pcm = [0; FRAME_SAMPLES];
        if self.concealer.was_quiet() && self.jitter.wants_more(now) {
            self.jitter.stretch();
            self.concealer.conceal(&mut linear);
            return made(&linear);
        }
        let mut given = Given::of(self.jitter.pop(now));
        if self.jitter.was_cut() {
            self.concealer.cut();
        }
        if let Given::Audio(frame) = &given {
            g711::decode(codec, frame, &mut linear);
        }
        if self.jitter.wants_less() && self.is_quiet(&given, &linear) {
            self.concealer.cut();
            given = Given::of(self.jitter.instead());
            if let Given::Audio(frame) = &given {
                g711::decode(codec, frame, &mut linear);
            }
        }
        self.heard_of(&given, codec, &mut linear)
    }

    fn is_quiet(&self, given: &Given, linear: &Pcm) -> bool {
        match given {
            Given::Audio(_) => self.concealer.is_quiet(linear),
            Given::Quiet => true,
            Given::Mixed(..) | Given::Missing | Given::Empty => false,
        }
    }

    /// Makes what is heard of what was given. `linear` holds the samples of whole audio.
    fn heard_of(&mut self, given: &Given, codec: Codec, linear: &mut Pcm) -> Heard {
        match given {
            Given::Audio(frame) => {
                if !self.concealer.heard(linear) {
                    let mut ulaw = *frame;
                    g711::to_ulaw(codec, &mut ulaw);
                    return Heard { frame: ulaw, original: Some((codec, *frame)), linear: *linear };
                }
            }
            Given::Mixed(bytes, parts) => {
                self.counters.concealed += u64::from(parts.all().iter().any(is_missing));
                self.play_parts(bytes, parts, codec, linear);
            }
            Given::Missing => {
                self.counters.concealed += 1;
                self.concealer.conceal(linear);
            }
            Given::Quiet => self.concealer.pause(linear),
            Given::Empty => self.concealer.forget(),
        }
        made(linear)
    }

    fn play_parts(&mut self, bytes: &Encoded, parts: &Parts, codec: Codec, linear: &mut Pcm) {
        g711::decode(codec, bytes, linear);
        let mut rest = linear.as_mut_slice();
        for part in parts.all() {
            let Some((samples, after)) = rest.split_at_mut_checked(part.samples) else { return };
            match part.origin {
                Origin::Audio => {
                    self.concealer.heard(samples);
                }
                Origin::Missing => self.concealer.conceal(samples),
                Origin::Quiet => self.concealer.pause(samples),
            }
            rest = after;
        }
    }
}

fn is_missing(part: &Part) -> bool {
    part.origin == Origin::Missing
}

fn copied(bytes: &[u8]) -> Encoded {
    let mut frame = SILENCE;
    for (to, byte) in frame.iter_mut().zip(bytes) {
        *to = *byte;
    }
    frame
}

/// What did not come like that. Where it is silent, a bridge hears noise instead.
fn made(linear: &Pcm) -> Heard {
    let mut frame = SILENCE;
    g711::encode(Codec::Pcmu, linear, &mut frame);
    let original = (frame != SILENCE).then_some((Codec::Pcmu, frame));
    Heard { frame, original, linear: *linear }
}
