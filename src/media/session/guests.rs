//! Guests of a session: third parties that hear what its peer and whom that talks with say, and may be heard by one
//! of them or both. The two go on as they are, with an agent, another session or a sound, and notice nothing of a guest that
//! only listens: what they hear stays untouched.

use crate::audio::bridge::BridgeEnd;
use crate::audio::bridge::BridgeItem;
use crate::audio::mixer::Form;
use crate::audio::mixer::Gain;
use crate::audio::mixer::GainMatrix;
use crate::audio::mixer::Mixer;
use crate::audio::mixer::PARTIES_MAX;
use crate::audio::sound::Sound;
use crate::media::session::MediaSession;
use crate::types::codec::Codec;
use crate::types::codec::Law;

/// Guests that a session may have at once.
pub const GUESTS_MAX: usize = PARTIES_MAX - GUEST_FIRST;

/// The parties of a session's mixer: its peer, whom that talks with, the peer as it was kept back, and from here on
/// guests.
const PEER: usize = 0;
const OTHER: usize = 1;
const KEPT: usize = 2;
const GUEST_FIRST: usize = 3;

/// Who of a session hears a guest, and whom it hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestGains {
    /// With which the peer hears it; other guests too.
    pub to_peer: Gain,
    /// With which whom the peer talks with hears it.
    pub to_other: Gain,
    /// With which it hears the peer.
    pub of_peer: Gain,
    /// With which it hears whom the peer talks with.
    pub of_other: Gain,
}

impl GuestGains {
    /// It hears both, and nobody hears it.
    pub const LISTENS: Self = Self {
        to_peer: Gain::MUTED,
        to_other: Gain::MUTED,
        of_peer: Gain::FULL,
        of_other: Gain::FULL,
    };
    /// The same, but whom the peer talks with hears it.
    pub const WHISPERS: Self = Self { to_other: Gain::FULL, ..Self::LISTENS };
    /// All hear each other.
    pub const SPEAKS: Self = Self { to_peer: Gain::FULL, ..Self::WHISPERS };
}

/// What a session needs for guests. Made where allocating does no harm.
#[derive(Debug)]
pub struct Guests {
    mixer: Mixer,
    ends: [Option<(Box<BridgeEnd>, GuestGains)>; GUESTS_MAX],
    /// The last of them left in the tick before, and falls away in this one.
    fades: bool,
    /// The peer presses a key that is nobody's to hear but whom it is with.
    keeps_key: bool,
    /// Guests hear the peer as it was kept back, whom it talks with at once.
    hears_later: bool,
}

impl Default for Guests {
    fn default() -> Self {
        let mut guests = Self {
            mixer: Mixer::default(),
            ends: std::array::from_fn(|_| None),
            fades: false,
            keeps_key: false,
            hears_later: false,
        };
        guests.arrange();
        // Peer and partner heard each other before.
        guests.mixer.pass();
        guests
    }
}

impl Guests {
    const fn is_idle(&self) -> bool {
        !self.fades && matches!(self.ends, [None, None, None, None])
    }

    fn arrange(&mut self) {
        let mut gains = GainMatrix::default();
        gains.set(PEER, OTHER, Gain::FULL);
        gains.set(OTHER, PEER, Gain::FULL);
        let peer = if self.hears_later { KEPT } else { PEER };
        for (party, (_, own)) in self.present() {
            gains.set(PEER, party, own.to_peer);
            gains.set(OTHER, party, own.to_other);
            let of_peer = if self.keeps_key { Gain::MUTED } else { own.of_peer };
            gains.set(party, peer, of_peer);
            gains.set(party, OTHER, own.of_other);
            for (listener, _) in self.present() {
                gains.set(listener, party, own.to_peer);
            }
        }
        self.mixer.set(gains);
    }

    /// Keeps the peer from the guests while it presses a key, or not any more.
    pub(super) fn keep_key(&mut self, keeps: bool) {
        if self.keeps_key != keeps {
            self.keeps_key = keeps;
            self.arrange();
        }
    }

    /// Lets guests hear the peer as it was [kept back](Self::say_kept), or as whom it talks with does.
    pub(super) fn hear_later(&mut self, later: bool) {
        if self.hears_later != later {
            self.hears_later = later;
            self.arrange();
        }
    }

    /// What is for guests of the peer in this tick, kept back until it is known for no key.
    pub(super) fn say_kept(&mut self, heard: Option<Sound>) {
        self.mixer.say(KEPT, heard);
    }

    fn present(&self) -> impl Iterator<Item = (usize, &(Box<BridgeEnd>, GuestGains))> {
        (GUEST_FIRST..).zip(&self.ends).filter_map(|(party, end)| Some((party, end.as_ref()?)))
    }

    /// Takes what the peer and the guests say; gives what whom the peer talks with hears.
    fn inward(&mut self, heard: Option<Sound>, form: Form) -> Option<Sound> {
        self.mixer.say(PEER, heard);
        for (party, end) in (GUEST_FIRST..).zip(&mut self.ends) {
            // Their keys are for nobody.
            let said = end.as_mut().and_then(|(end, _)| end.hear(|_| ()));
            self.mixer.say(party, said);
        }
        self.mixer.hear(OTHER, form)
    }

    /// Takes what whom the peer talks with says; gives what the peer hears, and the guests what they do. True when
    /// one of these took nothing.
    fn outward(&mut self, said: Sound, form: Form, is_wide: bool) -> (Sound, bool) {
        self.mixer.say(OTHER, Some(said));
        let heard = self.mixer.hear(PEER, form).unwrap_or(Sound::SILENCE);
        let mut dropped = false;
        for (party, end) in (GUEST_FIRST..).zip(&mut self.ends) {
            let Some((end, _)) = end else { continue };
            end.hears_wide(is_wide);
            let form = if end.is_heard_wide() { Form::Wide } else { Form::Law(Law::Mu) };
            if let Some(sound) = self.mixer.hear(party, form) {
                dropped |= !end.say(BridgeItem::Audio(sound));
            }
        }
        self.mixer.pass();
        self.fades = false;
        (heard, dropped)
    }
}

impl MediaSession {
    /// Gives a session what it needs for guests. Returns what it does not need, to be freed elsewhere.
    pub fn host(&mut self, guests: Box<Guests>) -> Option<Box<Guests>> {
        if self.guests.is_some() {
            return Some(guests);
        }
        self.guests = Some(guests);
        None
    }

    /// Lets who is at the other side of `end` take part as guest number `place`. Returns the end of the one
    /// that had the place, or this one where the session cannot have it, to be freed elsewhere.
    pub fn admit(
        &mut self,
        place: usize,
        gains: GuestGains,
        end: Box<BridgeEnd>,
    ) -> Option<Box<BridgeEnd>> {
        let Some(guests) = &mut self.guests else { return Some(end) };
        let Some(slot) = guests.ends.get_mut(place) else { return Some(end) };
        let before = slot.replace((end, gains));
        guests.arrange();
        before.map(|(end, _)| end)
    }

    /// Lets other gains hold for guest number `place`.
    pub fn regard(&mut self, place: usize, gains: GuestGains) {
        let Some(guests) = &mut self.guests else { return };
        if let Some(Some((_, own))) = guests.ends.get_mut(place) {
            *own = gains;
            guests.arrange();
        }
    }

    /// Lets guest number `place` go. Returns its end, to be freed elsewhere.
    pub fn dismiss(&mut self, place: usize) -> Option<Box<BridgeEnd>> {
        let guests = self.guests.as_mut()?;
        let (end, _) = guests.ends.get_mut(place)?.take()?;
        guests.fades = true;
        guests.arrange();
        Some(end)
    }

    /// True while there are guests, or one that just left falls away.
    pub(super) fn has_guests(&self) -> bool {
        self.guests.as_ref().is_some_and(|guests| !guests.is_idle())
    }

    /// Whether a guest speaks to the peer, which may say things to it that are not for its agent.
    pub(super) fn guest_speaks(&self) -> bool {
        let speaks =
            |guests: &Guests| guests.present().any(|(_, (_, gains))| gains.to_peer != Gain::MUTED);
        self.guests.as_deref().is_some_and(speaks)
    }

    /// What whom the peer talks with hears of the peer and of guests that speak to it.
    pub(super) fn with_guests_inward(&mut self, heard: Option<Sound>) -> Option<Sound> {
        let form = match &self.bridged {
            Some(bridged) if bridged.is_heard_wide() => Form::Wide,
            None if self.codec().is_wide() && self.playout.end().takes_wide() => Form::AllWide,
            Some(_) => Form::Law(Law::Mu),
            None => Form::Law(self.playout.end().law()),
        };
        match &mut self.guests {
            Some(guests) if !guests.is_idle() => guests.inward(heard, form),
            Some(_) | None => heard,
        }
    }

    /// Adds to what the peer hears of whom it talks with the guests that speak to it.
    pub(super) fn with_guests_outward(&mut self, said: &mut Sound) {
        let form = peer_form(self.codec());
        let is_wide = self.takes_wide();
        let Some(guests) = self.guests.as_mut().filter(|guests| !guests.is_idle()) else { return };
        let (heard, dropped) = guests.outward(*said, form, is_wide);
        self.counters.frames_dropped += u64::from(dropped);
        *said = heard;
    }
}

fn peer_form(codec: Codec) -> Form {
    if codec.is_wide() { Form::Wide } else { Form::Law(codec.law().unwrap_or(Law::Mu)) }
}
