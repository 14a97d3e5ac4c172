//! The tone of a telephone that rings at the other end, as each country's exchanges make it (ITU-T E.180).

use crate::audio::frame::FRAME_SAMPLES;
use crate::audio::frame::Pcm;
use crate::audio::tone::Tone;

/// Ticks of the media in a second.
const TICK_MS: u32 = 20;

/// Frequencies that sound at once, at most.
const PARTS_MAX: usize = 3;

/// How ringing sounds in a country.
#[derive(Debug, PartialEq, Eq)]
pub struct RingbackForm {
    /// What sounds at once: frequency in Hz and peak.
    parts: &'static [(u16, i16)],
    /// Sound and pause in turn, in ms, from the beginning; then again. Multiples of 20.
    cadence_ms: &'static [u32],
}

/// Peak of one of two frequencies: -19 dBm0 each, as North American exchanges ring.
const ONE_OF_TWO: i16 = 2_560;
/// Peak of one frequency alone: about as loud as two.
const ALONE: i16 = 3_600;
/// Peaks of a frequency that is modulated to its full depth, and of the two sidebands that come of it.
const CARRIER: i16 = 2_800;
const SIDEBAND: i16 = 1_400;

/// What ITU-T E.180 recommends, and most of Europe, Latin America and Asia have.
const RECOMMENDED: RingbackForm =
    RingbackForm { parts: &[(425, ALONE)], cadence_ms: &[1_000, 4_000] };
const NORTH_AMERICA: RingbackForm =
    RingbackForm { parts: &[(440, ONE_OF_TWO), (480, ONE_OF_TWO)], cadence_ms: &[2_000, 4_000] };
const DOUBLE: &[u32] = &[400, 200, 400, 2_000];
const BRITAIN: RingbackForm =
    RingbackForm { parts: &[(400, ONE_OF_TWO), (450, ONE_OF_TWO)], cadence_ms: DOUBLE };
/// 400 Hz, modulated with 25 Hz.
const INDIA: RingbackForm =
    RingbackForm { parts: &[(375, SIDEBAND), (400, CARRIER), (425, SIDEBAND)], cadence_ms: DOUBLE };
const AUSTRALIA: RingbackForm =
    RingbackForm { parts: &[(400, ONE_OF_TWO), (425, ONE_OF_TWO)], cadence_ms: DOUBLE };
const SOUTHERN_ASIA: RingbackForm = RingbackForm { parts: &[(425, ALONE)], cadence_ms: DOUBLE };
const HONG_KONG: RingbackForm = RingbackForm {
    parts: &[(440, ONE_OF_TWO), (480, ONE_OF_TWO)],
    cadence_ms: &[400, 200, 400, 3_000],
};
/// 400 Hz, modulated with 16 Hz.
const JAPAN: RingbackForm = RingbackForm {
    parts: &[(384, SIDEBAND), (400, CARRIER), (416, SIDEBAND)],
    cadence_ms: &[1_000, 2_000],
};
const KOREA: RingbackForm =
    RingbackForm { parts: &[(440, ONE_OF_TWO), (480, ONE_OF_TWO)], cadence_ms: &[1_000, 2_000] };
const CHINA: RingbackForm = RingbackForm { parts: &[(450, ALONE)], cadence_ms: &[1_000, 4_000] };
const FRANCE: RingbackForm = RingbackForm { parts: &[(440, ALONE)], cadence_ms: &[1_500, 3_500] };
const SPAIN: RingbackForm = RingbackForm { parts: &[(425, ALONE)], cadence_ms: &[1_500, 3_000] };

impl RingbackForm {
    /// That of a country of two letters (ISO 3166-1), in either case; what ITU-T E.180 recommends where
    /// the country is not known.
    #[must_use]
    pub fn of_country(country: &str) -> &'static Self {
        match country.to_ascii_uppercase().as_str() {
            "US" | "CA" | "PR" | "DO" | "JM" | "BS" | "BB" | "TT" => &NORTH_AMERICA,
            "GB" | "IE" | "IM" | "JE" | "GG" | "MT" | "NZ" | "AE" => &BRITAIN,
            "IN" => &INDIA,
            "AU" => &AUSTRALIA,
            "SG" | "MY" => &SOUTHERN_ASIA,
            "HK" => &HONG_KONG,
            "JP" => &JAPAN,
            "KR" => &KOREA,
            "CN" => &CHINA,
            "FR" => &FRANCE,
            "ES" => &SPAIN,
            _ => &RECOMMENDED,
        }
    }

    /// What sounds at once: frequency in Hz and peak.
    pub(super) const fn parts(&self) -> &'static [(u16, i16)] {
        self.parts
    }

    /// Sound and pause in turn, in ms.
    pub(super) const fn cadence_ms(&self) -> &'static [u32] {
        self.cadence_ms
    }

    /// True while it sounds, `tick` ticks of 20 ms after its beginning.
    fn sounds(&self, tick: u32) -> bool {
        let ticks = |ms: &u32| ms / TICK_MS;
        let period: u32 = self.cadence_ms.iter().map(ticks).sum();
        let mut left = tick % period.max(1);
        for (turn, ms) in self.cadence_ms.iter().enumerate() {
            let Some(later) = left.checked_sub(ticks(ms)) else { return turn % 2 == 0 };
            left = later;
        }
        false
    }
}

/// Ringing as it is played.
#[derive(Clone, Debug)]
pub struct Ringback {
    form: &'static RingbackForm,
    tones: [Option<Tone>; PARTS_MAX],
    tick: u32,
    /// Ticks of the pause before it begins.
    pause: u32,
}

impl Ringback {
    /// Ringing from the beginning of its first sound.
    #[must_use]
    pub fn new(form: &'static RingbackForm) -> Self {
        Self::after(form, 0)
    }

    /// The same after a pause of so many ms, a multiple of 20.
    #[must_use]
    pub fn after(form: &'static RingbackForm, pause_ms: u32) -> Self {
        let mut parts = form.parts.iter().map(|(hz, peak)| Tone::new(*hz, *peak));
        let tones = std::array::from_fn(|_| parts.next());
        Self { form, tones, tick: 0, pause: pause_ms / TICK_MS }
    }

    /// The next 20 ms; `None` in a pause.
    pub fn frame(&mut self) -> Option<Pcm> {
        if let Some(left) = self.pause.checked_sub(1) {
            self.pause = left;
            return None;
        }
        let sounds = self.form.sounds(self.tick);
        self.tick = self.tick.wrapping_add(1);
        if !sounds {
            return None;
        }
        let mut sum = [0; FRAME_SAMPLES];
        for tone in self.tones.iter_mut().flatten() {
            for (sample, other) in sum.iter_mut().zip(tone.frame()) {
                *sample = i16::saturating_add(*sample, other);
            }
        }
        Some(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::tone::share_at;

    /// Lengths of sound and pause in turn, in ms, over `seconds`.
    fn cadence(country: &str, seconds: usize) -> Vec<u32> {
        let mut ringback = Ringback::new(RingbackForm::of_country(country));
        let mut lengths: Vec<u32> = Vec::new();
        let mut before = false;
        for _ in 0..seconds * 50 {
            let sounds = ringback.frame().is_some();
            match lengths.last_mut().filter(|_| sounds == before) {
                Some(last) => *last += TICK_MS,
                None => lengths.push(TICK_MS),
            }
            before = sounds;
        }
        lengths
    }

    /// Shares of the power of the first sound at these frequencies, in percent.
    fn shares(country: &str, frequencies: &[u16]) -> Vec<u32> {
        let mut ringback = Ringback::new(RingbackForm::of_country(country));
        let sound: Vec<i16> = std::iter::from_fn(|| ringback.frame()).flatten().collect();
        let percent = |hz: &u16| (share_at(&sound, *hz) * 100.0).round() as u32;
        frequencies.iter().map(percent).collect()
    }

    #[test]
    fn each_country_rings_in_its_own_time() {
        assert_eq!(cadence("US", 12), [2_000, 4_000, 2_000, 4_000]);
        assert_eq!(cadence("IN", 6), [400, 200, 400, 2_000, 400, 200, 400, 2_000]);
        assert_eq!(cadence("gb", 3), [400, 200, 400, 2_000]);
        assert_eq!(cadence("DE", 10), [1_000, 4_000, 1_000, 4_000]);
        assert_eq!(cadence("", 5), [1_000, 4_000]);
        assert_eq!(cadence("FR", 5), [1_500, 3_500]);
        assert_eq!(cadence("JP", 3), [1_000, 2_000]);
    }

    #[test]
    fn each_country_rings_with_its_own_frequencies() {
        assert_eq!(shares("US", &[440, 480]), [50, 50]);
        assert_eq!(shares("GB", &[400, 450]), [50, 50]);
        assert_eq!(shares("DE", &[425]), [100]);
        let india = shares("IN", &[375, 400, 425]);
        assert!(india[1] > 60 && india[0].abs_diff(17) <= 1 && india[0] == india[2], "{india:?}");
    }

    #[test]
    fn every_form_is_a_whole_number_of_ticks_and_never_clips() {
        for form in [
            &RECOMMENDED,
            &NORTH_AMERICA,
            &BRITAIN,
            &INDIA,
            &AUSTRALIA,
            &SOUTHERN_ASIA,
            &HONG_KONG,
            &JAPAN,
            &KOREA,
            &CHINA,
            &FRANCE,
            &SPAIN,
        ] {
            assert!(form.cadence_ms.len() % 2 == 0 && form.parts.len() <= PARTS_MAX);
            assert!(form.cadence_ms.iter().all(|ms| ms % TICK_MS == 0), "{form:?}");
            let peak: i32 = form.parts.iter().map(|(_, peak)| i32::from(*peak)).sum();
            assert!((3_000..6_000).contains(&peak), "{form:?}");
        }
    }
}
