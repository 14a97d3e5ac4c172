//! A media session whose peer talks with that of another session instead of an agent.

use crate::audio::bridge::BridgeEnd;
use crate::audio::bridge::BridgeItem;
use crate::audio::bridge::BridgeKey;
use crate::audio::bridge::Waiting;
use crate::audio::frame::Encoded;
use crate::audio::frame::FRAME_SAMPLES;
use crate::audio::frame::Pcm;
use crate::audio::g711;
use crate::audio::keys::COLUMN_HZ;
use crate::audio::keys::KEYS;
use crate::audio::keys::ROW_HZ;
use crate::audio::passed::Passed;
use crate::audio::ringback::Ringback;
use crate::audio::sound::Sound;
use crate::audio::tone::Tone;
use crate::media::session::MediaSession;
use crate::rtp::dtmf::KeyState;
use crate::rtp::dtmf::Relay;
use crate::types::codec::Law;

/// Peak of each of the two tones of a key: -9 dBm0.
const KEY_AMPLITUDE: i16 = 8_100;

/// What a session is bridged with.
#[derive(Debug)]
pub(super) struct Bridged {
    end: Box<BridgeEnd>,
    /// Keys of the other side on their way to the peer.
    relay: Relay,
    tones: Option<(char, [Tone; 2])>,
    ringing: Option<Ringback>,
}

impl Bridged {
    fn new(end: Box<BridgeEnd>) -> Self {
        let ringing = match end.waiting() {
            Waiting::Noise | Waiting::Quiet => None,
            Waiting::Ringback(form) | Waiting::Connecting(form) => Some(Ringback::new(form)),
        };
        Self { end, relay: Relay::default(), tones: None, ringing }
    }

    const fn agent_waits(&self) -> bool {
        matches!(self.end.waiting(), Waiting::Connecting(_) | Waiting::Quiet)
    }

    /// Whether who is at the other side makes use of 16 kHz.
    pub(super) fn is_heard_wide(&self) -> bool {
        self.end.is_heard_wide()
    }

    /// Keys to send as events.
    pub(super) const fn relay(&mut self) -> &mut Relay {
        &mut self.relay
    }

    /// The next 20 ms for the peer, over `noise`.
    fn frame(&mut self, noise: Sound) -> Sound {
        let relay = &mut self.relay;
        let heard = self.end.hear(|key| relay.press(state_of(key)));
        if let Some(heard) = heard {
            return heard;
        }
        let waits = self.end.music().or_else(|| self.ringback());
        waits.map_or(noise, |frame| Sound::Law(Law::Mu, frame))
    }

    fn ringback(&mut self) -> Option<Encoded> {
        self.ringing.as_mut()?.frame().map(|linear| encoded(&linear))
    }

    /// What of the 20 ms just taken is of a codec that only passes.
    pub(super) const fn take_passed(&mut self) -> Option<Passed> {
        self.end.take_passed()
    }

    /// The tone of a key that is down, for a peer that takes no events.
    pub(super) fn tone(&mut self) -> Option<Encoded> {
        let Some(digit) = self.relay.tone() else {
            self.tones = None;
            return None;
        };
        if self.tones.as_ref().is_none_or(|(sounding, _)| *sounding != digit) {
            self.tones = tones_of(digit).map(|tones| (digit, tones));
        }
        self.tones.as_mut().map(|(_, tones)| sum(tones))
    }
}

impl MediaSession {
    /// Lets the peer talk with another session over `end`; the agent is neither heard nor told anything
    /// but silence. Returns the bridge before, to be freed elsewhere.
    pub fn bridge(&mut self, end: Box<BridgeEnd>) -> Option<Box<BridgeEnd>> {
        self.bridged.replace(Bridged::new(end)).map(|before| before.end)
    }

    /// Lets the peer talk with the agent again. Returns the bridge, to be freed elsewhere.
    pub fn unbridge(&mut self) -> Option<Box<BridgeEnd>> {
        self.bridged.take().map(|before| before.end)
    }

    /// The next 20 ms for the peer, from whom it talks with.
    pub(super) fn speech(&mut self) -> Sound {
        match &mut self.bridged {
            None => {
                let held = !self.started || self.steered.is_playing();
                self.playout.tick(held)
            }
            Some(bridged) if bridged.agent_waits() => bridged.frame(self.playout.tick(true)),
            Some(bridged) => bridged.frame(Sound::Law(Law::Mu, self.playout.mute())),
        }
    }

    /// Passes on what was heard of the peer: audio as it came, nothing while it is silent, and no audio
    /// beside a key, whose tone may leak into it.
    pub(super) fn pass_on(&mut self, heard: Option<Sound>, ulaw: &Encoded) {
        let Some(bridged) = &mut self.bridged else { return };
        bridged.end.hears_wide(self.wide.is_some());
        let passed = self.passage.as_mut().and_then(|passage| passage.take_heard());
        let passed = passed.filter(|_| !self.steered.inward);
        let item = match (self.digits_in.down(), passed) {
            (Some((digit, samples)), _) => {
                let press = self.counters.digits;
                Some(BridgeItem::Key(BridgeKey { press, digit, samples, released: false }))
            }
            (None, Some(passed)) => Some(BridgeItem::Passed(passed)),
            (None, None) => heard.map(|sound| match sound {
                Sound::Wide(_) if !bridged.end.is_heard_wide() => {
                    BridgeItem::Audio(Sound::Law(Law::Mu, *ulaw))
                }
                sound => BridgeItem::Audio(sound),
            }),
        };
        if let Some(item) = item
            && !bridged.end.say(item)
        {
            self.counters.frames_dropped += 1;
        }
    }
}

impl Bridged {
    /// Passes on that the `press`th key was released.
    pub(super) fn released(&mut self, press: u32, digit: char, samples: u32) {
        self.end.say(BridgeItem::Key(BridgeKey { press, digit, samples, released: true }));
    }
}

const fn state_of(key: BridgeKey) -> KeyState {
    let BridgeKey { press, digit, samples, released } = key;
    KeyState { press, digit, units: samples, released }
}

fn tones_of(digit: char) -> Option<[Tone; 2]> {
    let find = |keys: &[u8; 4]| keys.iter().position(|key| char::from(*key) == digit);
    let (row, column) = KEYS.iter().zip(ROW_HZ).find_map(|(keys, hz)| Some((hz, find(keys)?)))?;
    let column = COLUMN_HZ.get(column)?;
    Some([row, *column].map(|hz| Tone::new(hz, KEY_AMPLITUDE)))
}

fn sum(tones: &mut [Tone; 2]) -> Encoded {
    let [one, two] = tones;
    let mut linear: Pcm = one.frame();
    for (sample, other) in linear.iter_mut().zip(two.frame()) {
        *sample = sample.saturating_add(other);
    }
    encoded(&linear)
}

fn encoded(linear: &Pcm) -> Encoded {
    let mut frame = [0; FRAME_SAMPLES];
    g711::encode(Law::Mu, linear, &mut frame);
    frame
}
