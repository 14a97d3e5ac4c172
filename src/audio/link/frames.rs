//! The way of the caller's audio to an agent: a frame for each 20 ms of the call, whatever room there is.

use crate::audio::frame::SILENCE;
use crate::audio::frame::WIDE_SAMPLES;
use crate::audio::frame::WidePcm;
use crate::audio::link::FRAME_BYTES;
use crate::audio::link::LinkEvent;
use crate::types::limit::AGENT_FRAMES_MAX;
use rtrb::Consumer;
use rtrb::Producer;
use rtrb::RingBuffer;

/// Longest gap that is filled with silence, in frames: 2 s. Who takes nothing for longer does not listen, and has no clock
/// that must go on.
const MISSING_MAX: u32 = 100;

/// 20 ms with their number: those that found no room are known by what is missing.
type Numbered<T> = (u32, T);

/// Where frames are put in.
#[derive(Debug)]
pub(super) struct FramesIn {
    narrow: Producer<Numbered<[u8; FRAME_BYTES]>>,
    wide: Option<Producer<Numbered<WidePcm>>>,
    /// Frames so far, those that found no room too.
    pushed: u32,
}

/// Where they come out.
#[derive(Debug)]
pub(super) struct FramesOut {
    narrow: Consumer<Numbered<[u8; FRAME_BYTES]>>,
    wide: Option<Consumer<Numbered<WidePcm>>>,
    /// Frames so far, those that had found no room too.
    given: u32,
}

/// A ring of both rates, or of the lesser alone.
pub(super) fn ring(is_wide: bool) -> (FramesIn, FramesOut) {
    let (narrow_in, narrow_out) = RingBuffer::new(AGENT_FRAMES_MAX);
    let (wide_in, wide_out) = is_wide.then(|| RingBuffer::new(AGENT_FRAMES_MAX)).unzip();
    let into = FramesIn { narrow: narrow_in, wide: wide_in, pushed: 0 };
    (into, FramesOut { narrow: narrow_out, wide: wide_out, given: 0 })
}

impl FramesIn {
    /// False when there is no room.
    pub(super) fn push(&mut self, ulaw: &[u8; FRAME_BYTES]) -> bool {
        let number = self.number();
        self.narrow.push((number, *ulaw)).is_ok()
    }

    pub(super) const fn takes_wide(&self) -> bool {
        self.wide.is_some()
    }

    /// Frames that were not taken yet.
    pub(super) fn waiting(&self) -> usize {
        unread(&self.narrow) + self.wide.as_ref().map_or(0, unread)
    }

    /// The same at 16 kHz.
    pub(super) fn push_wide(&mut self, wide: &WidePcm) -> bool {
        let number = self.number();
        self.wide.as_mut().is_some_and(|frames| frames.push((number, *wide)).is_ok())
    }

    const fn number(&mut self) -> u32 {
        let number = self.pushed;
        self.pushed = number.wrapping_add(1);
        number
    }
}

/// What is in a ring, seen from the end where it is put in.
fn unread<T>(ring: &Producer<T>) -> usize {
    ring.buffer().capacity().saturating_sub(ring.slots())
}

impl FramesOut {
    /// The next 20 ms; silence for each frame that had found no room, so that the agent's clock is the call's.
    pub(super) fn next(&mut self) -> Option<LinkEvent> {
        let ahead = |number: u32| number.wrapping_sub(self.given);
        let narrow = self.narrow.peek().ok().map(|(number, _)| ahead(*number));
        let wide = self.wide.as_ref().and_then(|frames| frames.peek().ok());
        let wide = wide.map(|(number, _)| ahead(*number));
        let is_wide = narrow.is_none_or(|narrow| wide.is_some_and(|wide| wide < narrow));
        let mut missing = if is_wide { wide? } else { narrow? };
        if missing > MISSING_MAX {
            self.given = self.given.wrapping_add(missing);
            missing = 0;
        }
        self.given = self.given.wrapping_add(1);
        if is_wide {
            let frame = match self.wide.as_mut().filter(|_| missing == 0) {
                Some(frames) => frames.pop().ok()?.1,
                None => [0; WIDE_SAMPLES],
            };
            return Some(LinkEvent::WideAudio(Box::new(frame)));
        }
        let frame = if missing == 0 { self.narrow.pop().ok()?.1 } else { SILENCE };
        Some(LinkEvent::Audio(frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(out: &mut FramesOut) -> Vec<LinkEvent> {
        std::iter::from_fn(|| out.next()).collect()
    }

    #[test]
    fn an_agent_that_does_not_read_costs_frames_not_memory_and_no_time() {
        let (mut into, mut out) = ring(false);
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
        let (mut into, mut out) = ring(false);
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
        let (mut into, mut out) = ring(true);
        assert!(into.takes_wide());
        assert!(into.push(&[1; FRAME_BYTES]));
        for _ in 0..AGENT_FRAMES_MAX {
            assert!(into.push_wide(&[2; WIDE_SAMPLES]));
        }
        assert!(!into.push_wide(&[3; WIDE_SAMPLES]));
        assert!(into.push(&[4; FRAME_BYTES]));
        let all = all(&mut out);
        assert_eq!(all.len(), AGENT_FRAMES_MAX + 3);
        assert_eq!(all[0], LinkEvent::Audio([1; FRAME_BYTES]));
        let wide = LinkEvent::WideAudio(Box::new([2; WIDE_SAMPLES]));
        assert!(all[1..=AGENT_FRAMES_MAX].iter().all(|event| *event == wide));
        assert_eq!(all[AGENT_FRAMES_MAX + 1], LinkEvent::Audio(SILENCE));
        assert_eq!(all[AGENT_FRAMES_MAX + 2], LinkEvent::Audio([4; FRAME_BYTES]));
    }
}
