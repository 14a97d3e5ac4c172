//! A media session whose peer talks with that of another session instead of an agent.

use crate::audio::bridge::BridgeEnd;
use crate::audio::bridge::BridgeItem;
use crate::audio::bridge::BridgeKey;
use crate::audio::bridge::Waiting;
use crate::audio::frame::Encoded;
use crate::audio::frame::FRAME_SAMPLES;
use crate::audio::frame::Pcm;
use crate::audio::g711;
use crate::audio::passed::Passed;
use crate::audio::ringback::Ringback;
use crate::audio::sound::Sound;
use crate::media::output::TickOutput;
use crate::media::session::MediaSession;
use crate::rtp::dtmf::KeyQueue;
use crate::rtp::dtmf::KeyState;
use crate::rtp::dtmf::Relay;
use crate::rtp::dtmf_turn;
use crate::sdp::MediaPlan;
use crate::types::codec::Law;
use crate::types::moment::Moment;

/// How long it does not ring yet where an agent only begins to connect, in ms: a piece of a tone before its first word
/// would be heard as a fault.
const STARTING_MS: u32 = 400;

/// What a session is bridged with. Few are, so it has its own place, made before the media thread gets it.
#[derive(Debug)]
pub struct Bridged {
    end: BridgeEnd,
    /// Keys of the other side on their way to the peer.
    relay: Relay,
    /// Releases of the peer's keys on their way to the other side, which found no room.
    untold: KeyQueue,
    /// Keys for which there was no room at all.
    lost: u64,
    ringing: Option<Ringback>,
}

impl Bridged {
    /// What a session needs to be bridged over `end`.
    #[must_use]
    pub fn new(end: BridgeEnd) -> Box<Self> {
        let ringing = match end.waiting() {
            Waiting::Noise | Waiting::Quiet => None,
            Waiting::Ringback(form) | Waiting::Connecting(form) => Some(Ringback::new(form)),
            Waiting::Starting(form) => Some(Ringback::after(form, STARTING_MS)),
        };
        let (relay, untold) = (Relay::default(), KeyQueue::default());
        Box::new(Self { end, relay, untold, lost: 0, ringing })
    }

    /// Whether the peer waits for its agent, which is not there, or not any more: nobody else has it.
    pub(super) const fn agent_waits(&self) -> bool {
        match self.end.waiting() {
            Waiting::Connecting(_) | Waiting::Starting(_) | Waiting::Quiet => true,
            Waiting::Noise | Waiting::Ringback(_) => false,
        }
    }

    /// Whether who is at the other side makes use of 16 kHz.
    pub(super) fn is_heard_wide(&self) -> bool {
        self.end.is_heard_wide()
    }

    /// Keys to pass on to the peer.
    pub(super) const fn relay(&mut self) -> &mut Relay {
        &mut self.relay
    }

    /// The next 20 ms for the peer, over `noise`.
    fn frame(&mut self, noise: Sound) -> Sound {
        let (relay, lost) = (&mut self.relay, &mut self.lost);
        let heard = self.end.hear(|key| *lost += u64::from(!relay.press(state_of(key))));
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
}

impl MediaSession {
    /// Lets the peer talk with another session; the agent is neither heard nor told anything
    /// but silence. Returns the bridge before, to be freed elsewhere.
    pub fn bridge(&mut self, with: Box<Bridged>) -> Option<Box<Bridged>> {
        let before = self.unbridge();
        self.bridged = Some(with);
        before
    }

    /// Lets the peer talk with the agent again. Returns the bridge, to be freed elsewhere. A key that was passed on over
    /// it is up.
    pub fn unbridge(&mut self) -> Option<Box<Bridged>> {
        if let Some(bridged) = &mut self.bridged {
            dtmf_turn::take_over(&mut self.digits_out, bridged.relay());
        }
        self.bridged.take()
    }

    /// Whether the peer talks with somebody behind a bridge, or waits for one, and not with its agent or until that is there:
    /// what it says while that connects is kept for it.
    pub(super) fn is_bridged(&self) -> bool {
        self.bridged.as_ref().is_some_and(|bridged| !bridged.agent_waits())
    }

    /// The next 20 ms for the peer, from whom it talks with.
    pub(super) fn speech(&mut self, now: Moment, out: &mut TickOutput) -> Sound {
        let held = self.agent_waits(now);
        let is_unheard = match &self.bridged {
            None => !held && self.nobody_hears(),
            Some(bridged) => !bridged.agent_waits(),
        };
        let said = if is_unheard {
            self.unheard(out)
        } else {
            self.playout.tick(held || self.bridged.is_some())
        };
        self.bridged.as_mut().map_or(said, |bridged| bridged.frame(said))
    }

    /// Whether the peer holds the call, and no guest hears what its agent says.
    fn nobody_hears(&self) -> bool {
        let sends = |plan: &MediaPlan| plan.direction.sends();
        self.plan.as_ref().is_some_and(|plan| !sends(plan)) && !self.has_guests()
    }

    fn unheard(&mut self, out: &mut TickOutput) -> Sound {
        let (noise, heard_ms) = self.playout.unheard();
        if let Some(heard_ms) = heard_ms {
            self.agent_is_unheard(heard_ms, out);
        }
        noise
    }

    /// Passes on what was heard of the peer: audio as it came, nothing while it is silent, and no audio
    /// beside a key, whose tone may leak into it.
    pub(super) fn pass_on(&mut self, heard: Option<&Sound>, ulaw: &Encoded) {
        let takes_wide = self.takes_wide();
        let Some(bridged) = &mut self.bridged else { return };
        bridged.end.hears_wide(takes_wide);
        let passed = self.passage.as_mut().and_then(|passage| passage.take_heard());
        let passed = passed.filter(|_| !self.steered.inward);
        let item = match (self.digits_in.down(), passed) {
            (Some((digit, samples)), _) => {
                let press = self.counters.digits;
                Some(BridgeItem::Key(BridgeKey { press, digit, samples, released: false }))
            }
            (None, Some(passed)) => Some(BridgeItem::Passed(passed)),
            // What was heard beside its event is played later.
            (None, None) if self.beside_event => None,
            (None, None) => heard.map(|sound| match sound {
                Sound::Wide(_) if !bridged.end.is_heard_wide() => {
                    BridgeItem::Audio(Sound::Law(Law::Mu, *ulaw))
                }
                sound => BridgeItem::Audio(*sound),
            }),
        };
        bridged.tell_untold();
        if let Some(item) = item
            && !bridged.say(item)
        {
            self.counters.frames_dropped += 1;
        }
        self.counters.frames_dropped += std::mem::take(&mut bridged.lost);
    }
}

impl Bridged {
    /// Passes on that the `press`th key was released.
    pub(super) fn released(&mut self, press: u32, digit: char, samples: u32) {
        self.tell_untold();
        let released = KeyState { press, digit, units: samples, released: true };
        if !(self.untold.is_empty() && self.end.say(item_of(released))) {
            self.lost += u64::from(!self.untold.take(released));
        }
    }

    /// Says again what found no room, in its order.
    fn tell_untold(&mut self) {
        while let Some(key) = self.untold.first() {
            if !self.end.say(item_of(key)) {
                return;
            }
            self.untold.pop();
        }
    }

    /// Passes on 20 ms; false when they were dropped. No key is told before those that were released earlier.
    fn say(&mut self, item: BridgeItem) -> bool {
        let waits = matches!(item, BridgeItem::Key(_)) && !self.untold.is_empty();
        !waits && self.end.say(item)
    }
}

const fn state_of(key: BridgeKey) -> KeyState {
    let BridgeKey { press, digit, samples, released } = key;
    KeyState { press, digit, units: samples, released }
}

const fn item_of(key: KeyState) -> BridgeItem {
    let KeyState { press, digit, units: samples, released } = key;
    BridgeItem::Key(BridgeKey { press, digit, samples, released })
}

fn encoded(linear: &Pcm) -> Encoded {
    let mut frame = [0; FRAME_SAMPLES];
    g711::encode(Law::Mu, linear, &mut frame);
    frame
}
