//! The noise floor of a stream: how loud and of what colour its quietest moments are, and noise that is like them.

use crate::types::random::Random;

/// Samples after which a quietest moment begins to be forgotten: a second at 8 kHz.
const SPAN: usize = 8_000;
/// Spans over which the quietest moment is looked for.
const SPANS: usize = 3;
/// Mean square below which a moment is quiet whatever the noise: about -50 dBm0.
const QUIET_POWER: f32 = 2_600.0;
/// Above the noise floor a moment is quiet up to so many times its power: 6 dB.
const QUIET_SHARE: f32 = 4.0;
/// Above this no moment is quiet, and no noise is made: about -35 dBm0.
const LOUD_POWER: f32 = 82_000.0;

/// A quiet moment.
#[derive(Clone, Copy, Debug)]
struct Hush {
    /// Mean square.
    power: f32,
    /// How alike a sample is to the one before it, -1 to 1: the colour of the noise.
    colour: f32,
}

impl Hush {
    const NONE: Self = Self { power: f32::MAX, colour: 0.0 };
}

/// Follows the quietest moments of a stream.
#[derive(Clone, Debug)]
pub struct Floor {
    hushes: [Hush; SPANS],
    /// Samples observed in the first of them.
    observed: usize,
    /// What the peer says of its noise, until it speaks again.
    told: Option<f32>,
    last_power: f32,
    random: Random,
    last_noise: f32,
}

impl Default for Floor {
    fn default() -> Self {
        Self {
            hushes: [Hush::NONE; SPANS],
            observed: 0,
            told: None,
            last_power: 0.0,
            random: Random::from_seed(1),
            last_noise: 0.0,
        }
    }
}

impl Floor {
    /// Takes what was heard.
    pub fn observe(&mut self, samples: &[i16]) {
        let power = power(samples);
        self.last_power = power;
        if self.observed >= SPAN {
            self.hushes.rotate_right(1);
            self.hushes[0] = Hush::NONE;
            self.observed = 0;
        }
        self.observed += samples.len();
        if power < self.hushes[0].power {
            self.hushes[0] = Hush { power, colour: colour(samples, power) };
        }
    }

    /// The peer says how loud its noise is, in dB below full scale. It is not believed to be louder than noise.
    pub fn is_told(&mut self, below_full_db: u8) {
        let full = 32_768.0_f32 * 32_768.0;
        let power = full * 10.0_f32.powf(-f32::from(below_full_db.min(127)) / 10.0);
        self.told = Some(power.min(LOUD_POWER));
        self.last_power = 0.0;
    }

    /// The peer speaks again: what it said of its noise is over.
    pub const fn speaks(&mut self) {
        self.told = None;
    }

    /// Samples this quiet may be left out or doubled without anybody noticing.
    #[must_use]
    pub fn is_quiet(&self, samples: &[i16]) -> bool {
        self.is_quiet_power(power(samples))
    }

    /// The last that was observed was so quiet, or nothing was.
    #[must_use]
    pub fn was_quiet(&self) -> bool {
        self.is_quiet_power(self.last_power)
    }

    /// Mean squares: of what was observed last, and of the quietest moments, if any.
    #[must_use]
    pub fn powers(&self) -> (f32, Option<f32>) {
        let floor = self.hush().power;
        (self.last_power, (floor < f32::MAX).then_some(floor))
    }

    fn is_quiet_power(&self, power: f32) -> bool {
        let floor = self.hush().power;
        power <= QUIET_POWER || (power <= floor * QUIET_SHARE && power <= LOUD_POWER)
    }

    fn hush(&self) -> Hush {
        let quieter = |one: Hush, two: &Hush| if two.power < one.power { *two } else { one };
        let hush = self.hushes.iter().fold(Hush::NONE, quieter);
        if let Some(power) = self.told { Hush { power, ..hush } } else { hush }
    }

    /// Fills `out` with noise like the quietest moments; with silence where none was quiet.
    pub fn fill(&mut self, out: &mut [i16]) {
        let hush = self.hush();
        out.fill_with(|| self.sample_of(hush) as i16);
    }

    /// The next sample of that noise.
    pub fn sample(&mut self) -> f32 {
        self.sample_of(self.hush())
    }

    fn sample_of(&mut self, Hush { power, colour }: Hush) -> f32 {
        if !(1.0..=LOUD_POWER).contains(&power) {
            return 0.0;
        }
        // Even noise between -1 and 1 has a third of the power.
        let even = (self.random.next_u32() >> 8) as f32 / 8_388_608.0 - 1.0;
        let white = even * (3.0 * power * (1.0 - colour * colour)).sqrt();
        self.last_noise = self.last_noise * colour + white;
        self.last_noise
    }
}

/// Mean square.
fn power(samples: &[i16]) -> f32 {
    let sum: i64 = samples.iter().map(|sample| i64::from(i32::from(*sample).pow(2))).sum();
    sum as f32 / samples.len().max(1) as f32
}

fn colour(samples: &[i16], power: f32) -> f32 {
    let pairs = samples.iter().zip(samples.iter().skip(1));
    let sum: i64 = pairs.map(|(one, two)| i64::from(i32::from(*one) * i32::from(*two))).sum();
    let alike = sum as f32 / samples.len().max(1) as f32 / power.max(1.0);
    alike.clamp(-0.9, 0.9)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::frame::FRAME_SAMPLES;
    use crate::audio::voice::Voice;

    fn noise(random: &mut Random, peak: u64) -> [i16; FRAME_SAMPLES] {
        let mut frame = [0; FRAME_SAMPLES];
        frame.fill_with(|| (random.below(2 * peak + 1) as i64 - peak as i64) as i16);
        frame
    }

    #[test]
    fn the_noise_between_words_is_found_and_made_again() {
        let mut floor = Floor::default();
        let (mut random, mut voice) = (Random::from_seed(3), Voice::new());
        for frame in 0..300 {
            let mut heard = noise(&mut random, 120);
            if frame % 50 < 35 {
                for (sample, more) in heard.iter_mut().zip(voice.frame()) {
                    *sample += more;
                }
            }
            floor.observe(&heard);
        }
        let mut made = [0; 8_000];
        floor.fill(&mut made);
        // Even noise of this peak has a mean square of 4800; of many moments the quietest is a little below.
        let made = power(&made);
        assert!((2_800.0..=5_300.0).contains(&made), "{made}");
        assert!(floor.is_quiet(&noise(&mut random, 120)));
        assert!(!floor.is_quiet(&noise(&mut random, 400)));
    }

    #[test]
    fn noise_goes_on_in_its_colour() {
        let mut floor = Floor::default();
        let mut random = Random::from_seed(4);
        let mut low = 0.0;
        for _ in 0..100 {
            let frame = noise(&mut random, 100).map(|white| {
                low = low * 0.8 + f32::from(white);
                low as i16
            });
            floor.observe(&frame);
        }
        let mut made = [0; 8_000];
        floor.fill(&mut made);
        let made = colour(&made, power(&made));
        assert!((0.65..=0.9).contains(&made), "{made}");
    }

    #[test]
    fn where_nothing_was_quiet_or_all_was_silent_no_noise_is_made() {
        let mut floor = Floor::default();
        let mut made = [1; FRAME_SAMPLES];
        floor.fill(&mut made);
        assert_eq!(made, [0; FRAME_SAMPLES]);
        for level in [8_000, 0] {
            let mut floor = Floor::default();
            (0..50).for_each(|_| floor.observe(&[level; FRAME_SAMPLES]));
            floor.fill(&mut made);
            assert_eq!(made, [0; FRAME_SAMPLES], "{level}");
            assert_eq!(floor.was_quiet(), level == 0);
        }
    }

    #[test]
    fn what_a_peer_says_of_its_noise_holds_until_it_speaks_again() {
        let mut floor = Floor::default();
        floor.observe(&[0; FRAME_SAMPLES]);
        floor.is_told(60);
        let mut made = [0; 8_000];
        floor.fill(&mut made);
        let rms = power(&made).sqrt();
        assert!((31.0..=35.0).contains(&rms), "{rms}: -60 dB of 32768 are 32.8");
        floor.is_told(0);
        floor.fill(&mut made);
        assert!(power(&made) <= LOUD_POWER * 1.1, "{}", power(&made));
        floor.observe(&[0; FRAME_SAMPLES]);
        assert!(floor.told.is_some(), "what was said before may come after it");
        floor.speaks();
        floor.fill(&mut made);
        assert_eq!(made, [0; 8_000]);
    }
}
