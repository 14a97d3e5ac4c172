//! `Passage`: what a session needs whose codec passes through it: frames taken out of what was received, and packets
//! made of those that are to be sent.
#![warn(clippy::indexing_slicing)]

use crate::audio::passed::FRAME_UNITS;
use crate::audio::passed::NOISE_BYTES;
use crate::audio::passed::Passed;
use crate::audio::passed::PassedFrame;
use crate::audio::passed::SPEECH_BYTES;
use crate::audio::passed::frame_at;
use crate::rtp::jitter::Desk;
use crate::rtp::jitter::Step;

/// Payload of the longest packet that is received: 120 ms and a frame of noise.
const RECEIVED_BYTES: usize = 12 * SPEECH_BYTES + NOISE_BYTES;
/// Payload of the longest packet that is sent: 60 ms and a frame of noise.
const SENT_BYTES: usize = 6 * SPEECH_BYTES + NOISE_BYTES;
/// Frames lost in a row, 200 ms, after which the peer is told of a pause instead: no decoder has anything to go on with.
const LOST_MAX: u32 = 20;

/// Both ways of a session whose codec passes through. Made where allocating does no harm.
#[derive(Debug)]
pub struct Passage {
    /// The packet that began last, of which frames are taken.
    packet: [u8; RECEIVED_BYTES],
    length: usize,
    /// Units of it that were heard.
    read: usize,
    /// What was heard in this tick.
    heard: Option<Passed>,
    /// It was a pause.
    pauses: bool,
    waiting: [u8; SENT_BYTES],
    waits: usize,
    /// Units that wait for their packet to be full.
    units: usize,
    /// Units that are missing of the packet that would be sent.
    missing: usize,
    lost: u32,
}

impl Default for Passage {
    fn default() -> Self {
        Self {
            packet: [0; RECEIVED_BYTES],
            length: 0,
            read: 0,
            heard: None,
            pauses: true,
            waiting: [0; SENT_BYTES],
            waits: 0,
            units: 0,
            missing: 0,
            lost: 0,
        }
    }
}

/// What becomes of the stream that is sent. Units are those of 8 kHz.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sending<'a> {
    /// A packet of so many units.
    Packet(&'a [u8], usize),
    /// The number of one is left out: the peer shall know that it is missing.
    Hole,
    /// So many units of what is missing go by.
    Missing(usize),
    /// So many units of a pause go by.
    Pause(usize),
}

impl Passage {
    /// What of the frame that a jitter buffer just gave begins in these 20 ms.
    pub(super) fn read(&mut self, desk: &Desk) -> Passed {
        let mut passed = Passed::NOTHING;
        let mut at = 0;
        for step in desk.steps() {
            match step {
                Step::Packet { bytes, .. } => self.begin(desk.bytes(bytes)),
                Step::Play(units) => {
                    self.play(usize::from(*units), at, &mut passed);
                    at += usize::from(*units);
                }
                Step::Drop(units) => self.read += usize::from(*units),
                Step::Missing { units, .. } => {
                    passed.lose(at, usize::from(*units));
                    at += usize::from(*units);
                }
                Step::Quiet(units) => at += usize::from(*units),
                Step::Forget => self.length = 0,
            }
        }
        passed
    }

    /// This was heard in this tick.
    pub(super) fn hear(&mut self, passed: Passed) {
        self.pauses = passed.is_pause();
        self.heard = Some(passed);
    }

    /// What was heard in this tick, for whom the peer talks with.
    pub(super) const fn take_heard(&mut self) -> Option<Passed> {
        self.heard.take()
    }

    /// Whether what was heard last was a pause.
    pub(super) const fn was_pause(&self) -> bool {
        self.pauses
    }

    fn begin(&mut self, payload: &[u8]) {
        (self.length, self.read) = (payload.len().min(RECEIVED_BYTES), 0);
        for (place, byte) in self.packet.iter_mut().zip(payload) {
            *place = *byte;
        }
    }

    /// Takes the frames that begin in the next `units` of the packet, which are heard from `at` on.
    fn play(&mut self, units: usize, at: usize, passed: &mut Passed) {
        let end = self.read + units;
        let payload = self.packet.get(..self.length).unwrap_or_default();
        let first = self.read.div_ceil(FRAME_UNITS);
        for number in (first..).take_while(|number| number * FRAME_UNITS < end) {
            if let Some(frame) = frame_at(payload, number) {
                passed.put(at + number * FRAME_UNITS - self.read, frame);
            }
        }
        self.read = end;
    }

    /// Sends 20 ms in packets of `longest` units; where the peer takes no frames of noise, pauses say nothing.
    pub(super) fn send(
        &mut self,
        passed: &Passed,
        (longest, takes_noise): (usize, bool),
        mut send: impl FnMut(Sending<'_>),
    ) {
        for frame in passed.frames() {
            if *frame != PassedFrame::Lost {
                self.found(&mut send);
            }
            match frame {
                PassedFrame::Speech(bytes) => {
                    self.append(bytes);
                    if self.units >= longest {
                        self.flush(&mut send);
                    }
                }
                // Nothing may follow it in its packet.
                PassedFrame::Noise(bytes) if takes_noise => {
                    self.append(bytes);
                    self.flush(&mut send);
                }
                PassedFrame::Noise(_) | PassedFrame::Nothing => {
                    self.flush(&mut send);
                    send(Sending::Pause(FRAME_UNITS));
                }
                PassedFrame::Lost => {
                    self.flush(&mut send);
                    self.lose(longest, &mut send);
                }
            }
        }
    }

    /// Sends what waits: something else takes the place of what would follow.
    pub(super) fn finish(&mut self, mut send: impl FnMut(Sending<'_>)) {
        self.flush(&mut send);
        if std::mem::take(&mut self.missing) > 0 {
            send(Sending::Hole);
        }
    }

    fn append(&mut self, bytes: &[u8]) {
        for (place, byte) in self.waiting.iter_mut().skip(self.waits).zip(bytes) {
            *place = *byte;
        }
        self.waits = (self.waits + bytes.len()).min(SENT_BYTES);
        self.units += FRAME_UNITS;
    }

    fn flush(&mut self, send: &mut impl FnMut(Sending<'_>)) {
        let payload = self.waiting.get(..self.waits).filter(|payload| !payload.is_empty());
        if let Some(payload) = payload {
            send(Sending::Packet(payload, self.units));
        }
        self.forget_waiting();
    }

    fn lose(&mut self, longest: usize, send: &mut impl FnMut(Sending<'_>)) {
        self.lost = self.lost.saturating_add(1);
        if self.lost > LOST_MAX {
            self.missing = 0;
            return send(Sending::Pause(FRAME_UNITS));
        }
        send(Sending::Missing(FRAME_UNITS));
        self.missing += FRAME_UNITS;
        if self.missing >= longest {
            self.missing = 0;
            send(Sending::Hole);
        }
    }

    /// Something is here again.
    fn found(&mut self, send: &mut impl FnMut(Sending<'_>)) {
        self.lost = 0;
        if std::mem::take(&mut self.missing) > 0 {
            send(Sending::Hole);
        }
    }

    /// Units that wait for their packet to be full.
    pub(super) const fn units_waiting(&self) -> usize {
        self.units
    }

    /// What waits is not sent.
    pub(super) const fn forget_waiting(&mut self) {
        (self.waits, self.units) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEECH: PassedFrame = PassedFrame::Speech([7; SPEECH_BYTES]);
    const NOISE: PassedFrame = PassedFrame::Noise([9; NOISE_BYTES]);

    /// What is sent of these frames, each a letter with a length or a number of units.
    fn sent(passage: &mut Passage, longest: usize, noise: bool, frames: &[PassedFrame]) -> String {
        let mut told = Vec::new();
        for pair in frames.chunks(2) {
            let mut passed = Passed::NOTHING;
            for (at, frame) in (0..).step_by(FRAME_UNITS).zip(pair) {
                passed.put(at, *frame);
            }
            passage.send(&passed, (longest, noise), |what| {
                told.push(match what {
                    Sending::Packet(payload, units) => format!("{}/{units}", payload.len()),
                    Sending::Hole => "hole".to_owned(),
                    Sending::Missing(units) => format!("-{units}"),
                    Sending::Pause(units) => format!("_{units}"),
                });
            });
        }
        told.join(" ")
    }

    #[test]
    fn frames_go_out_in_packets_of_the_peers_time() {
        let mut passage = Passage::default();
        assert_eq!(sent(&mut passage, 160, true, &[SPEECH; 4]), "20/160 20/160");
        assert_eq!(sent(&mut passage, 80, true, &[SPEECH; 2]), "10/80 10/80");
        assert_eq!(sent(&mut passage, 240, true, &[SPEECH; 6]), "30/240 30/240");
        assert_eq!(sent(&mut passage, 480, true, &[SPEECH; 4]), "");
        assert_eq!(passage.units_waiting(), 320);
        passage.forget_waiting();
        assert_eq!(sent(&mut passage, 480, true, &[SPEECH; 6]), "60/480");
    }

    #[test]
    fn a_frame_of_noise_ends_its_packet_and_goes_to_nobody_who_takes_none() {
        let frames = [SPEECH, NOISE, PassedFrame::Nothing, PassedFrame::Nothing, SPEECH, SPEECH];
        let mut passage = Passage::default();
        assert_eq!(sent(&mut passage, 160, true, &frames), "12/160 _80 _80 20/160");
        assert_eq!(sent(&mut passage, 160, false, &frames), "10/80 _80 _80 _80 20/160");
        assert_eq!(sent(&mut passage, 160, true, &[NOISE, SPEECH]), "2/80");
    }

    #[test]
    fn what_waits_is_sent_before_something_else() {
        let finished = |frames: &[PassedFrame]| {
            let mut passage = Passage::default();
            sent(&mut passage, 480, true, frames);
            let mut told = Vec::new();
            for _ in 0..2 {
                passage.finish(|what| match what {
                    Sending::Packet(payload, units) => told.push((payload.len(), units)),
                    Sending::Hole => told.push((0, 0)),
                    Sending::Missing(_) | Sending::Pause(_) => panic!("{what:?}"),
                });
            }
            assert_eq!(passage.units_waiting(), 0);
            told
        };
        assert!(finished(&[]).is_empty());
        assert_eq!(finished(&[SPEECH; 4]), [(40, 320)]);
        assert_eq!(finished(&[SPEECH, SPEECH, PassedFrame::Lost, PassedFrame::Lost]), [(0, 0)]);
    }

    #[test]
    fn what_is_missing_leaves_a_hole_in_the_numbers_until_it_is_a_pause() {
        let lost = PassedFrame::Lost;
        let mut passage = Passage::default();
        let frames = [SPEECH, SPEECH, lost, lost, SPEECH, SPEECH];
        assert_eq!(sent(&mut passage, 160, true, &frames), "20/160 -80 -80 hole 20/160");
        // Half a packet is one that is missing, as it was to us.
        let frames = [SPEECH, lost, SPEECH, SPEECH];
        assert_eq!(sent(&mut passage, 160, true, &frames), "10/80 -80 hole 20/160");
        let told = sent(&mut passage, 160, true, &[lost; 24]);
        assert_eq!(told.matches("hole").count(), 10, "{told}");
        assert!(told.ends_with("hole _80 _80 _80 _80"), "{told}");
    }
}
