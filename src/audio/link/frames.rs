//! The way of the caller's audio to an agent: a frame for each 20 ms of the call, whatever room there is.

use crate::audio::frame::WIDE_SAMPLES;
use crate::audio::frame::WidePcm;
use crate::audio::frame::silence;
use crate::audio::g711;
use crate::audio::link::Came;
use crate::audio::link::FRAME_BYTES;
use crate::audio::link::LinkEvent;
use crate::types::cache::fetch;
use crate::types::cache::fetch_counters;
use crate::types::codec::Law;
use crate::types::limit::AGENT_FRAMES_MAX;
use rtrb::Consumer;
use rtrb::Producer;
use rtrb::RingBuffer;

/// Longest gap that is filled with silence, in frames: 2 s. Who takes nothing for longer does not listen, and has no clock
/// that must go on.
const MISSING_MAX: u32 = 100;

/// 20 ms with their number: those that found no room are known by what is missing.
type Numbered<T> = (u32, T);

/// 20 ms at one rate or the other.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "it goes through a ring, and nothing may allocate for it"
)]
enum Frame {
    Narrow([u8; FRAME_BYTES]),
    Wide(WidePcm),
}

impl Frame {
    const fn is_wide(&self) -> bool {
        matches!(self, Self::Wide(_))
    }
}

/// Where frames are put in.
#[derive(Debug)]
pub(super) struct FramesIn {
    ring: RingIn,
    /// Frames so far, those that found no room too.
    pushed: u32,
    /// That of the link.
    law: Law,
}

/// A ring of frames of both rates, in places of the greater, or of the lesser rate alone.
#[derive(Debug)]
enum RingIn {
    Narrow(Producer<Numbered<[u8; FRAME_BYTES]>>),
    Both(Producer<Numbered<Frame>>),
}

/// Where they come out.
#[derive(Debug)]
pub(super) struct FramesOut {
    ring: RingOut,
    /// Frames so far, those that had found no room too.
    given: u32,
    /// That of the link.
    law: Law,
    /// That of who has the agent's end.
    spoken: Law,
}

#[derive(Debug)]
enum RingOut {
    Narrow(Consumer<Numbered<[u8; FRAME_BYTES]>>),
    Both(Consumer<Numbered<Frame>>),
}

/// A ring of both rates, or of the lesser alone.
pub(super) fn ring(is_wide: bool, law: Law) -> (FramesIn, FramesOut) {
    let (into, out) = if is_wide {
        let (into, out) = RingBuffer::new(AGENT_FRAMES_MAX);
        (RingIn::Both(into), RingOut::Both(out))
    } else {
        let (into, out) = RingBuffer::new(AGENT_FRAMES_MAX);
        (RingIn::Narrow(into), RingOut::Narrow(out))
    };
    // Who says nothing of it knows one law.
    let spoken = Law::Mu;
    (FramesIn { ring: into, pushed: 0, law }, FramesOut { ring: out, given: 0, law, spoken })
}

impl FramesIn {
    /// The law of what is put in at 8 kHz.
    pub(super) const fn law(&self) -> Law {
        self.law
    }

    /// False when there is no room.
    pub(super) fn push(&mut self, frame: &[u8; FRAME_BYTES]) -> bool {
        let number = self.number();
        match &mut self.ring {
            RingIn::Narrow(frames) => frames.push((number, *frame)).is_ok(),
            RingIn::Both(frames) => frames.push((number, Frame::Narrow(*frame))).is_ok(),
        }
    }

    pub(super) const fn takes_wide(&self) -> bool {
        matches!(self.ring, RingIn::Both(_))
    }

    /// Has the processor fetch what tells which place is next.
    pub(super) fn fetch_counters(&self) {
        match &self.ring {
            RingIn::Narrow(frames) => fetch_counters(frames.buffer()),
            RingIn::Both(frames) => fetch_counters(frames.buffer()),
        }
    }

    /// The same of that place, if there is room.
    pub(super) fn fetch_place(&mut self) {
        match &mut self.ring {
            RingIn::Narrow(frames) => fetch_next(frames),
            RingIn::Both(frames) => fetch_next(frames),
        }
    }

    /// Frames that were not taken yet.
    pub(super) fn waiting(&self) -> usize {
        match &self.ring {
            RingIn::Narrow(frames) => unread(frames),
            RingIn::Both(frames) => unread(frames),
        }
    }

    /// The same at 16 kHz.
    pub(super) fn push_wide(&mut self, wide: &WidePcm) -> bool {
        let number = self.number();
        match &mut self.ring {
            RingIn::Narrow(_) => false,
            RingIn::Both(frames) => frames.push((number, Frame::Wide(*wide))).is_ok(),
        }
    }

    const fn number(&mut self) -> u32 {
        let number = self.pushed;
        self.pushed = number.wrapping_add(1);
        number
    }
}

/// Has the processor fetch the place that is written next.
fn fetch_next<T>(ring: &mut Producer<T>) {
    if let Ok(mut room) = ring.write_chunk_uninit(1) {
        let (place, _) = room.as_mut_slices();
        fetch(&*place);
    }
}

/// What is in a ring, seen from the end where it is put in.
fn unread<T>(ring: &Producer<T>) -> usize {
    ring.buffer().capacity().saturating_sub(ring.slots())
}

impl RingOut {
    /// The number of the next frame, and whether it is at 16 kHz.
    fn peek(&self) -> Option<(u32, bool)> {
        match self {
            Self::Narrow(frames) => frames.peek().ok().map(|(number, _)| (*number, false)),
            Self::Both(frames) => {
                frames.peek().ok().map(|(number, frame)| (*number, frame.is_wide()))
            }
        }
    }

    fn pop(&mut self, hear: impl FnOnce(&[u8; FRAME_BYTES])) -> Option<Came> {
        match self {
            Self::Narrow(frames) => {
                let chunk = frames.read_chunk(1).ok()?;
                let (_, frame) = chunk.as_slices().0.first()?;
                hear(frame);
                chunk.commit_all();
                Some(Came::Heard)
            }
            Self::Both(frames) => match frames.pop().ok()?.1 {
                Frame::Narrow(frame) => {
                    hear(&frame);
                    Some(Came::Heard)
                }
                Frame::Wide(wide) => Some(Came::Event(LinkEvent::WideAudio(Box::new(wide)))),
            },
        }
    }
}

impl FramesOut {
    /// Has the processor fetch what tells which place is next.
    pub(super) fn fetch_counters(&self) {
        match &self.ring {
            RingOut::Narrow(frames) => fetch_counters(frames.buffer()),
            RingOut::Both(frames) => fetch_counters(frames.buffer()),
        }
    }

    /// From now on `law` is what comes out.
    pub(super) const fn speak(&mut self, law: Law) {
        self.spoken = law;
    }

    /// The law that is spoken at this end, and the link's.
    pub(super) const fn laws(&self) -> (Law, Law) {
        (self.spoken, self.law)
    }

    /// The next 20 ms, which `hear` is given if they are G.711, of the law that is spoken at this end; silence for each
    /// frame that had found no room, so that the agent's clock is the call's.
    pub(super) fn next_or_hear(&mut self, hear: impl FnOnce(&[u8; FRAME_BYTES])) -> Option<Came> {
        let (spoken, law) = self.laws();
        if spoken == law {
            return self.next_as_it_lies(hear);
        }
        self.next_as_it_lies(|frame| {
            let mut turned = *frame;
            g711::convert(law, spoken, &mut turned);
            hear(&turned);
        })
    }

    fn next_as_it_lies(&mut self, hear: impl FnOnce(&[u8; FRAME_BYTES])) -> Option<Came> {
        let (number, is_wide) = self.ring.peek()?;
        let missing = number.wrapping_sub(self.given);
        if missing > MISSING_MAX {
            self.given = number;
        }
        let is_next = number == self.given;
        self.given = self.given.wrapping_add(1);
        if is_next {
            return self.ring.pop(hear);
        }
        if is_wide {
            return Some(Came::Event(LinkEvent::WideAudio(Box::new([0; WIDE_SAMPLES]))));
        }
        hear(&silence(self.law));
        Some(Came::Heard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::frame::SILENCE;

    impl FramesOut {
        /// The next 20 ms as an event.
        fn next(&mut self) -> Option<LinkEvent> {
            let mut audio = None;
            match self.next_or_hear(|frame| audio = Some(LinkEvent::Audio(*frame)))? {
                Came::Heard => audio,
                Came::Event(event) => Some(event),
            }
        }
    }

    fn all(out: &mut FramesOut) -> Vec<LinkEvent> {
        std::iter::from_fn(|| out.next()).collect()
    }

    #[test]
    fn an_agent_that_does_not_read_costs_frames_not_memory_and_no_time() {
        let (mut into, mut out) = ring(false, Law::Mu);
        let taken = (0..100).filter(|_| into.push(&[1; FRAME_BYTES])).count();
        assert_eq!((taken, into.waiting()), (AGENT_FRAMES_MAX, AGENT_FRAMES_MAX));
        assert_eq!(out.next(), Some(LinkEvent::Audio([1; FRAME_BYTES])));
        assert_eq!(into.waiting(), AGENT_FRAMES_MAX - 1);
        assert!(into.push(&[2; FRAME_BYTES]));
        // What found no room is silence.
        let rest = all(&mut out);
        assert_eq!(rest.len(), 100);
        let (kept, later) = rest.split_at(AGENT_FRAMES_MAX - 1);
        assert!(kept.iter().all(|event| *event == LinkEvent::Audio([1; FRAME_BYTES])));
        let (last, silence) = later.split_last().expect("many");
        assert!(silence.iter().all(|event| *event == LinkEvent::Audio(SILENCE)));
        assert_eq!(*last, LinkEvent::Audio([2; FRAME_BYTES]));
    }

    #[test]
    fn who_did_not_listen_for_long_gets_what_is_said_now() {
        let (mut into, mut out) = ring(false, Law::Mu);
        let taken = (0..10_000).filter(|_| into.push(&[1; FRAME_BYTES])).count();
        assert_eq!(taken, AGENT_FRAMES_MAX);
        let before = (0..AGENT_FRAMES_MAX).filter_map(|_| out.next()).count();
        assert_eq!(before, AGENT_FRAMES_MAX);
        assert!(into.push(&[2; FRAME_BYTES]));
        assert_eq!(all(&mut out), [LinkEvent::Audio([2; FRAME_BYTES])]);
        assert!(into.push(&[3; FRAME_BYTES]));
        assert_eq!(all(&mut out), [LinkEvent::Audio([3; FRAME_BYTES])]);
    }

    #[test]
    fn frames_of_both_rates_keep_their_order_and_what_is_missing_is_silence_at_the_next_rate() {
        let (mut into, mut out) = ring(true, Law::Mu);
        assert!(into.takes_wide());
        assert!(into.push(&[1; FRAME_BYTES]));
        for _ in 1..AGENT_FRAMES_MAX {
            assert!(into.push_wide(&[2; WIDE_SAMPLES]));
        }
        assert!(!into.push_wide(&[3; WIDE_SAMPLES]));
        assert_eq!(into.waiting(), AGENT_FRAMES_MAX);
        assert_eq!(out.next(), Some(LinkEvent::Audio([1; FRAME_BYTES])));
        assert!(into.push(&[4; FRAME_BYTES]) && !into.push(&[5; FRAME_BYTES]));
        let before = all(&mut out);
        assert!(into.push_wide(&[6; WIDE_SAMPLES]));
        let (wide, rest) = before.split_at(AGENT_FRAMES_MAX - 1);
        let said = LinkEvent::WideAudio(Box::new([2; WIDE_SAMPLES]));
        assert!(wide.iter().all(|event| *event == said));
        assert_eq!(rest, [LinkEvent::Audio(SILENCE), LinkEvent::Audio([4; FRAME_BYTES])]);
        let silence = LinkEvent::WideAudio(Box::new([0; WIDE_SAMPLES]));
        let last = LinkEvent::WideAudio(Box::new([6; WIDE_SAMPLES]));
        assert_eq!(all(&mut out), [silence, last]);
    }

    #[test]
    fn what_is_missing_is_silence_of_the_law_of_the_link() {
        let (mut into, mut out) = ring(false, Law::A);
        out.speak(Law::A);
        let taken = (0..=AGENT_FRAMES_MAX).filter(|_| into.push(&[1; FRAME_BYTES])).count();
        assert_eq!((taken, into.law()), (AGENT_FRAMES_MAX, Law::A));
        for _ in 0..AGENT_FRAMES_MAX {
            assert_eq!(out.next(), Some(LinkEvent::Audio([1; FRAME_BYTES])));
        }
        assert!(into.push(&[2; FRAME_BYTES]));
        assert_eq!(out.next(), Some(LinkEvent::Audio([0xd5; FRAME_BYTES])));
        assert_eq!(out.next(), Some(LinkEvent::Audio([2; FRAME_BYTES])));
    }

    #[test]
    fn a_frame_is_heard_where_it_lies_and_its_place_is_free_after_that() {
        let (mut into, mut out) = ring(false, Law::Mu);
        let mut heard = Vec::new();
        for round in 0..3 * AGENT_FRAMES_MAX {
            assert!(into.push(&[round as u8; FRAME_BYTES]));
            let came = out.next_or_hear(|frame| heard.push(*frame));
            assert!(matches!(came, Some(Came::Heard)));
            assert_eq!(into.waiting(), 0);
        }
        assert!(out.next_or_hear(|_| panic!("there is none")).is_none());
        let said = (0..3 * AGENT_FRAMES_MAX).map(|round| [round as u8; FRAME_BYTES]);
        assert!(said.eq(heard));
    }
}
