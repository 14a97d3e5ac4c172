//! `Passed`: 20 ms of a codec that is not decoded here, on its way from one leg to another of the same codec.
#![warn(clippy::indexing_slicing)]

/// Frames in 20 ms.
pub const PASSED_FRAMES: usize = 2;
/// Units of 8 kHz of one frame: 10 ms (ITU-T G.729 §2.1).
pub const FRAME_UNITS: usize = 80;
/// Bytes of a frame of speech (RFC 3551 §4.5.6).
pub const SPEECH_BYTES: usize = 10;
/// Bytes of a frame of comfort noise (Annex B; RFC 3551 §4.5.6).
pub const NOISE_BYTES: usize = 2;

/// 10 ms of G.729.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PassedFrame {
    /// The peer pauses.
    #[default]
    Nothing,
    /// It was expected and is not here: whoever decodes has to conceal it.
    Lost,
    /// Speech.
    Speech([u8; SPEECH_BYTES]),
    /// How the noise of a pause sounds that begins or goes on.
    Noise([u8; NOISE_BYTES]),
}

/// 20 ms of G.729.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed([PassedFrame; PASSED_FRAMES]);

impl Passed {
    /// 20 ms of a pause.
    pub const NOTHING: Self = Self([PassedFrame::Nothing; PASSED_FRAMES]);

    /// Its frames, in order.
    #[must_use]
    pub const fn frames(&self) -> &[PassedFrame; PASSED_FRAMES] {
        &self.0
    }

    /// Whether no speech would be missed in it.
    #[must_use]
    pub fn is_pause(&self) -> bool {
        self.0.iter().all(|frame| matches!(frame, PassedFrame::Nothing))
    }

    /// Puts a frame where it begins, so many units into the 20 ms.
    pub fn put(&mut self, at: usize, frame: PassedFrame) {
        if let Some(place) = self.0.get_mut(at / FRAME_UNITS) {
            *place = frame;
        }
    }

    /// So many units are missing from here on.
    pub fn lose(&mut self, at: usize, units: usize) {
        for (place, begins) in self.0.iter_mut().zip((0..).step_by(FRAME_UNITS)) {
            if (at..at + units).contains(&begins) {
                *place = PassedFrame::Lost;
            }
        }
    }
}

/// A frame of a payload, which is frames of speech and behind them at most one of noise (RFC 3551 §4.5.6).
pub fn frame_at(payload: &[u8], number: usize) -> Option<PassedFrame> {
    let rest = payload.get(number.checked_mul(SPEECH_BYTES)?..)?;
    if let Some(speech) = rest.first_chunk() {
        return Some(PassedFrame::Speech(*speech));
    }
    rest.first_chunk().map(|noise| PassedFrame::Noise(*noise))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_frames_of_speech_and_one_of_noise_at_its_end() {
        let payload: Vec<u8> = (0..22).collect();
        let speech = |from: u8| Some(PassedFrame::Speech(std::array::from_fn(|n| from + n as u8)));
        let frames: Vec<_> = (0..4).map(|number| frame_at(&payload, number)).collect();
        assert_eq!(frames, [speech(0), speech(10), Some(PassedFrame::Noise([20, 21])), None]);
        assert_eq!(frame_at(&payload[..20], 2), None);
    }

    #[test]
    fn what_begins_in_a_half_is_that_half_and_what_is_missing_there_is_lost() {
        let frame = PassedFrame::Noise([1, 2]);
        let mut passed = Passed::NOTHING;
        assert!(passed.is_pause());
        passed.put(79, frame);
        passed.put(160, frame);
        assert_eq!(passed.frames(), &[frame, PassedFrame::Nothing]);
        passed.lose(40, 80);
        assert_eq!(passed.frames(), &[frame, PassedFrame::Lost]);
        assert!(!passed.is_pause());
        passed.lose(0, 160);
        assert_eq!(passed.frames(), &[PassedFrame::Lost; 2]);
    }
}
