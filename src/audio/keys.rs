//! Keys pressed in the audio: the tone pairs of ITU-T Q.23, told from speech as Q.24 asks.
//!
//! Blocks of 12.75 ms are compared at the eight frequencies (Goertzel). A pair counts when both tones stand out of
//! their groups, neither is much louder than the other, and hardly anything else sounds; a key is down when two
//! blocks in a row say so. Voices do this now and then for one block, since vowels have harmonics.

use crate::audio::frame::Pcm;
use crate::audio::frame::SAMPLES_PER_MS;
use std::f32::consts::TAU;

/// Rows and columns of the keys (ITU-T Q.23), in Hz.
pub const KEYS: [&[u8; 4]; 4] = [b"123A", b"456B", b"789C", b"*0#D"];
/// Frequencies of the rows, in Hz.
pub const ROW_HZ: [u16; 4] = [697, 770, 852, 941];
/// Frequencies of the columns, in Hz.
pub const COLUMN_HZ: [u16; 4] = [1_209, 1_336, 1_477, 1_633];

const TONES: usize = ROW_HZ.len() + COLUMN_HZ.len();
/// Samples of a block: the frequencies of neighbours fall between each other's zeros.
const BLOCK: usize = 102;
/// Of a full block, what a tone of mean square 1 measures.
const UNIT: f32 = (BLOCK * BLOCK) as f32 / 2.0;
/// Each tone has at least this mean square: -36 dBm0. Keys come at -3 to -24 dBm0.
const POWER_MIN: f32 = 65_000.0;
/// Share of all power that the two tones have.
const SHARE_MIN: f32 = 0.82;
/// How far a tone stands above the others of its group, in power: 8 dB.
const ABOVE_OTHERS: f32 = 6.3;
/// A row may be so much louder than its column, since lines take more of what is high: 8 dB.
const ROW_LOUDER_MAX: f32 = 6.3;
/// And a column than its row: 4 dB.
const COLUMN_LOUDER_MAX: f32 = 2.5;
/// Blocks in a row that begin or end a key.
const BLOCKS: u32 = 2;

/// What was pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyHeard {
    /// A key went down.
    Down(char),
    /// It went up.
    Up {
        /// The key.
        digit: char,
        /// How long it was down, to a block.
        duration_ms: u32,
    },
}

/// Hears keys in audio at 8 kHz.
#[derive(Clone, Debug)]
pub struct KeyEar {
    /// Of each tone: what turns it on by a sample, and its last two values.
    turns: [f32; TONES],
    last: [f32; TONES],
    before: [f32; TONES],
    energy: f32,
    samples: usize,
    /// What the blocks before said, and for how many it is the same.
    said: Option<char>,
    same: u32,
    down: Option<char>,
    blocks_down: u32,
}

impl Default for KeyEar {
    fn default() -> Self {
        let mut turns = [0.0; TONES];
        for (turn, hz) in turns.iter_mut().zip(ROW_HZ.iter().chain(&COLUMN_HZ)) {
            *turn = 2.0 * (TAU * f32::from(*hz) / (1_000 * SAMPLES_PER_MS) as f32).cos();
        }
        Self {
            turns,
            last: [0.0; TONES],
            before: [0.0; TONES],
            energy: 0.0,
            samples: 0,
            said: None,
            same: 0,
            down: None,
            blocks_down: 0,
        }
    }
}

impl KeyEar {
    /// A key is down.
    #[must_use]
    pub const fn is_down(&self) -> bool {
        self.down.is_some()
    }

    /// Takes the next 20 ms, and tells `emit` what was pressed.
    pub fn push(&mut self, frame: &Pcm, mut emit: impl FnMut(KeyHeard)) {
        for sample in frame {
            let sample = f32::from(*sample);
            self.energy += sample * sample;
            let turned = self.turns.iter().zip(self.last.iter_mut().zip(&mut self.before));
            for (turn, (last, before)) in turned {
                let next = sample + turn * *last - *before;
                (*before, *last) = (*last, next);
            }
            self.samples += 1;
            if self.samples == BLOCK {
                let said = self.judge();
                self.follow(said, &mut emit);
            }
        }
    }

    /// Ends the key that is down, of which nothing more will be heard.
    pub fn release(&mut self, mut emit: impl FnMut(KeyHeard)) {
        if let Some(digit) = self.down.take() {
            emit(KeyHeard::Up { digit, duration_ms: length_ms(self.blocks_down) });
        }
    }

    /// What the block says; begins the next.
    fn judge(&mut self) -> Option<char> {
        let mut powers = [0.0; TONES];
        let ends = self.last.iter().zip(&self.before).zip(&self.turns);
        for (power, ((last, before), turn)) in powers.iter_mut().zip(ends) {
            *power = (last * last + before * before - turn * last * before) / UNIT;
        }
        let mean = self.energy / BLOCK as f32;
        (self.last, self.before) = ([0.0; TONES], [0.0; TONES]);
        (self.energy, self.samples) = (0.0, 0);
        let (rows, columns) = powers.split_at(ROW_HZ.len());
        let (row, row_power) = outstanding(rows)?;
        let (column, column_power) = outstanding(columns)?;
        let twisted = row_power > column_power * ROW_LOUDER_MAX
            || column_power > row_power * COLUMN_LOUDER_MAX;
        if twisted || row_power + column_power < mean * SHARE_MIN {
            return None;
        }
        KEYS.get(row)?.get(column).copied().map(char::from)
    }

    fn follow(&mut self, said: Option<char>, emit: &mut impl FnMut(KeyHeard)) {
        self.blocks_down += u32::from(self.down.is_some());
        self.same = if said == self.said { self.same.saturating_add(1) } else { 1 };
        self.said = said;
        if self.same < BLOCKS || said == self.down {
            return;
        }
        if let Some(digit) = self.down.take() {
            // Of the blocks since it began, the last two were another's.
            emit(KeyHeard::Up { digit, duration_ms: length_ms(self.blocks_down) });
        }
        if let Some(digit) = said {
            self.down = Some(digit);
            // The two that began it are not counted, as those that end it are.
            self.blocks_down = 0;
            emit(KeyHeard::Down(digit));
        }
    }
}

/// How long so many blocks are.
const fn length_ms(blocks: u32) -> u32 {
    blocks * BLOCK as u32 / SAMPLES_PER_MS as u32
}

/// The tone that stands out of its group, and its mean square.
fn outstanding(powers: &[f32]) -> Option<(usize, f32)> {
    let (best, power) = powers.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1))?;
    let others = powers.iter().enumerate().filter(|(at, _)| *at != best);
    let alone = others.into_iter().all(|(_, other)| *power > other * ABOVE_OTHERS);
    (alone && *power >= POWER_MIN).then_some((best, *power))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::frame::FRAME_SAMPLES;
    use crate::audio::g711;
    use crate::audio::tone::Tone;
    use crate::audio::voice::Voice;
    use crate::types::codec::Law;
    use crate::types::random::Random;

    /// A key as it comes out of G.711, with silence around it.
    struct Press {
        digit: char,
        /// Peaks of row and column.
        peaks: [i16; 2],
        /// Millionths by which the frequencies are too high.
        off_ppm: i32,
        ms: usize,
        noise: u64,
    }

    impl Press {
        fn of(digit: char) -> Self {
            Self { digit, peaks: [4_000, 4_000], off_ppm: 0, ms: 80, noise: 0 }
        }

        fn samples(&self) -> Vec<i16> {
            let find = |keys: &[u8; 4]| keys.iter().position(|key| char::from(*key) == self.digit);
            let place = KEYS.iter().enumerate().find_map(|(row, keys)| Some((row, find(keys)?)));
            let (row, column) = place.unwrap();
            let off = |hz: u16| (i32::from(hz) + i32::from(hz) * self.off_ppm / 1_000_000) as u16;
            let mut row = Tone::new(off(ROW_HZ[row]), self.peaks[0]);
            let mut column = Tone::new(off(COLUMN_HZ[column]), self.peaks[1]);
            let mut random = Random::from_seed(9);
            let around = vec![0; 630];
            let mut sounds = || row.sample().saturating_add(column.sample());
            let key: Vec<i16> = (0..self.ms * 8).map(|_| sounds()).collect();
            let mut all = [around.clone(), key, around, vec![0; FRAME_SAMPLES]].concat();
            for sample in &mut all {
                *sample += random.below(2 * self.noise + 1) as i16 - self.noise as i16;
            }
            all
        }

        fn heard(&self) -> Vec<KeyHeard> {
            heard(&self.samples())
        }

        fn is_heard(&self) -> bool {
            let heard = self.heard();
            let downs = heard.iter().filter(|it| **it == KeyHeard::Down(self.digit)).count();
            assert!(heard.len() <= 2, "{heard:?}");
            downs == 1
        }
    }

    fn heard(samples: &[i16]) -> Vec<KeyHeard> {
        let mut ear = KeyEar::default();
        let mut heard = Vec::new();
        for frame in samples.as_chunks::<FRAME_SAMPLES>().0 {
            let (mut bytes, mut linear) = ([0; FRAME_SAMPLES], [0; FRAME_SAMPLES]);
            g711::encode(Law::Mu, frame, &mut bytes);
            g711::decode(Law::Mu, &bytes, &mut linear);
            ear.push(&linear, |key| heard.push(key));
        }
        heard
    }

    #[test]
    fn every_key_is_heard_once_with_its_length() {
        for digit in "123A456B789C*0#D".chars() {
            let heard = Press::of(digit).heard();
            let [KeyHeard::Down(down), KeyHeard::Up { digit: up, duration_ms }] = heard[..] else {
                panic!("{digit}: {heard:?}")
            };
            assert_eq!((down, up), (digit, digit));
            assert!((60..=95).contains(&duration_ms), "{digit}: {duration_ms}");
        }
    }

    #[test]
    fn keys_are_heard_as_q24_asks_and_no_others() {
        let key = || Press::of('5');
        // 40 ms are a key, 20 are none; 1.5 % is within what keys may be off, 3.5 % beyond.
        assert!(Press { ms: 40, ..key() }.is_heard());
        assert!(!Press { ms: 20, ..key() }.is_heard());
        for off_ppm in [-15_000, 15_000] {
            assert!(Press { off_ppm, ..key() }.is_heard(), "{off_ppm}");
        }
        for off_ppm in [-35_000, 35_000] {
            assert!(!Press { off_ppm, ..key() }.is_heard(), "{off_ppm}");
        }
        // From about -3 dBm0 a tone to -27, with twist either way, and with noise 20 dB below.
        for peaks in [[15_000, 15_000], [1_000, 1_000], [8_000, 3_600], [3_600, 5_200]] {
            assert!(Press { peaks, ..key() }.is_heard(), "{peaks:?}");
        }
        for peaks in [[200, 200], [8_000, 2_000], [2_000, 8_000], [8_000, 0], [0, 8_000]] {
            assert!(!Press { peaks, ..key() }.is_heard(), "{peaks:?}");
        }
        assert!(Press { noise: 600, ..key() }.is_heard());
    }

    #[test]
    fn the_same_key_twice_is_two_keys() {
        let twice = [Press::of('7').samples(), Press::of('7').samples()].concat();
        let downs = heard(&twice).iter().filter(|it| matches!(it, KeyHeard::Down('7'))).count();
        assert_eq!(downs, 2);
        // A break of a block is none: the line dropped out.
        let mut once = Press { ms: 120, ..Press::of('7') }.samples();
        once[1_000..1_060].fill(0);
        assert_eq!(heard(&once).len(), 2);
    }

    #[test]
    fn a_key_that_is_down_at_the_end_is_let_go_once() {
        let (mut ear, mut heard) = (KeyEar::default(), Vec::new());
        let samples = Press::of('7').samples();
        // It is down from about 79 ms to 159 ms.
        for frame in samples.as_chunks::<FRAME_SAMPLES>().0.iter().take(7) {
            ear.push(frame, |key| heard.push(key));
        }
        assert_eq!(heard, [KeyHeard::Down('7')]);
        for _ in 0..2 {
            ear.release(|key| heard.push(key));
        }
        assert!(
            matches!(heard[..], [_, KeyHeard::Up { digit: '7', duration_ms: 1..40 }]),
            "{heard:?}"
        );
    }

    #[test]
    fn nobody_presses_keys_by_speaking_or_by_tones_of_the_network() {
        let prompts: [&[u8]; 5] = [
            include_bytes!("../agent/builtin/prompts/greeting.ulaw"),
            include_bytes!("../agent/builtin/prompts/message.ulaw"),
            include_bytes!("../agent/builtin/prompts/noted.ulaw"),
            include_bytes!("../agent/builtin/prompts/more.ulaw"),
            include_bytes!("../agent/builtin/prompts/goodbye.ulaw"),
        ];
        let mut speech = vec![0; prompts.concat().len()];
        g711::decode(Law::Mu, &prompts.concat(), &mut speech);
        // Shifted, so that blocks fall elsewhere; at other speeds, for other voices.
        for shift in (0..BLOCK).step_by(17) {
            assert_eq!(heard(&speech[shift..]), [], "{shift}");
        }
        for (up, of) in [(3, 4), (5, 6), (6, 5), (4, 3)] {
            let other: Vec<i16> = (0..speech.len() * of / up)
                .filter_map(|at| speech.get(at * up / of))
                .copied()
                .collect();
            assert_eq!(heard(&other), [], "{up}/{of}");
        }
        let mut voice = Voice::new();
        let voice: Vec<i16> = (0..500).flat_map(|_| voice.frame()).collect();
        assert_eq!(heard(&voice), []);
        for pair in [[350, 440], [480, 620], [440, 480], [425, 425], [1_400, 2_060]] {
            let mut tones = pair.map(|hz| Tone::new(hz, 5_000));
            let mut sum = || tones.iter_mut().map(Tone::sample).sum::<i16>();
            let tone: Vec<i16> = (0..8_000).map(|_| sum()).collect();
            assert_eq!(heard(&tone), [], "{pair:?}");
        }
    }
}
