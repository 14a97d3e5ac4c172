//! The mixer: who of up to seven parties hears whom, and how loud.
//!
//! A matrix has a gain for each pair of a listener and a speaker. Sums are made in 32 bits and limited once, so that
//! neither the order of speakers nor what cancels out matters. Who hears a single voice at full gain hears it as
//! it came, untouched; listeners whose rows are equal share one sum. A gain moves to another over one frame, and a voice that
//! stops falls away instead of breaking off: parties come and go without a click.

use crate::audio::frame::Encoded;
use crate::audio::frame::FRAME_SAMPLES;
use crate::audio::frame::Pcm;
use crate::audio::frame::SAMPLES_PER_MS;
use crate::audio::frame::WIDE_SAMPLES;
use crate::audio::frame::WidePcm;
use crate::audio::g711;
use crate::audio::resample::Resampler;
use crate::audio::sound::Sound;
use crate::types::codec::Law;

/// Parties of one mixer.
pub const PARTIES_MAX: usize = 7;

/// Full gain: 1.
const UNITY: i32 = 1 << GAIN_BITS;
const GAIN_BITS: u32 = 12;

/// Largest gain: 12 dB.
const DB_MAX: i8 = 12;
/// Least gain that is not silence.
const DB_MIN: i8 = -40;

/// From here on a sum is bent towards full scale instead of being cut there.
const KNEE: i32 = 26_000;

/// How long a voice that stops takes to fall away.
const FALL_SAMPLES: usize = 5 * SAMPLES_PER_MS;

/// How loud a speaker is for a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gain(i16);

impl Gain {
    /// Not at all.
    pub const MUTED: Self = Self(0);
    /// As it is.
    pub const FULL: Self = Self(UNITY as i16);

    /// So many dB, from -40 to 12; what is beyond counts as the nearest of these.
    #[must_use]
    pub fn of_db(db: i8) -> Self {
        let db = f32::from(db.clamp(DB_MIN, DB_MAX));
        Self((10.0_f32.powf(db / 20.0) * UNITY as f32).round() as i16)
    }

    const fn factor(self) -> i32 {
        self.0 as i32
    }
}

/// The gains with which one party hears each.
type Row = [Gain; PARTIES_MAX];

/// Who hears whom, and how loud. Nobody hears itself, whatever is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GainMatrix([Row; PARTIES_MAX]);

impl GainMatrix {
    /// Lets `listener` hear `speaker` with `gain`. Parties that are none change nothing.
    pub fn set(&mut self, listener: usize, speaker: usize, gain: Gain) {
        let cell = self.0.get_mut(listener).and_then(|row| row.get_mut(speaker));
        if let Some(cell) = cell.filter(|_| listener != speaker) {
            *cell = gain;
        }
    }

    fn row(&self, listener: usize) -> Row {
        self.0.get(listener).copied().unwrap_or_default()
    }
}

/// In which form a listener wants its sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// G.711 of this law, at 8 kHz.
    Law(Law),
    /// At 16 kHz where any voice has them, else of G.711.
    Wide,
    /// At 16 kHz, whatever the voices have.
    AllWide,
}

/// Mixes what parties say, 20 ms at a time: each says its part ([`Self::say`]), each hears ([`Self::hear`]), and the
/// tick is over ([`Self::pass`]). Made where allocating does no harm; its use allocates nothing.
#[derive(Debug)]
pub struct Mixer {
    gains: GainMatrix,
    /// Those at the end of the tick before.
    before: GainMatrix,
    voices: [Voice; PARTIES_MAX],
    /// The sums of this tick, by the rows they are of.
    sums: [Option<Sum>; PARTIES_MAX],
}

#[derive(Clone, Copy, Debug)]
struct Sum {
    rows: [Row; 2],
    form: Form,
    sound: Option<Sound>,
}

impl Default for Mixer {
    fn default() -> Self {
        Self {
            gains: GainMatrix::default(),
            before: GainMatrix::default(),
            voices: std::array::from_fn(|_| Voice::default()),
            sums: [None; PARTIES_MAX],
        }
    }
}

impl Mixer {
    /// Lets these gains hold. They are reached at the end of the present tick.
    pub const fn set(&mut self, gains: GainMatrix) {
        self.gains = gains;
    }

    /// The gains that hold.
    #[must_use]
    pub const fn gains(&self) -> GainMatrix {
        self.gains
    }

    /// What `party` says in this tick; `None`: nothing.
    pub fn say(&mut self, party: usize, sound: Option<Sound>) {
        if let Some(voice) = self.voices.get_mut(party) {
            voice.say(sound);
        }
    }

    /// What `listener` hears in this tick of those who said their part; `None`: nothing.
    pub fn hear(&mut self, listener: usize, form: Form) -> Option<Sound> {
        let rows = self.effective_rows(listener);
        let known = self.sums.iter().flatten().find(|sum| sum.rows == rows && sum.form == form);
        if let Some(sum) = known {
            return sum.sound;
        }
        let sound = self.mix(rows, form);
        if let Some(place) = self.sums.get_mut(listener) {
            *place = Some(Sum { rows, form, sound });
        }
        sound
    }

    /// The tick is over.
    pub fn pass(&mut self) {
        self.before = self.gains;
        self.sums.iter_mut().for_each(|sum| *sum = None);
        self.voices.iter_mut().for_each(Voice::pass);
    }

    /// A row before and after this tick, without those who say nothing: what is equal here sounds the same.
    fn effective_rows(&self, listener: usize) -> [Row; 2] {
        let mut rows = [self.before.row(listener), self.gains.row(listener)];
        for row in &mut rows {
            for (gain, voice) in row.iter_mut().zip(&self.voices) {
                if !voice.sounds() {
                    *gain = Gain::MUTED;
                }
            }
        }
        rows
    }

    fn mix(&mut self, rows: [Row; 2], form: Form) -> Option<Sound> {
        let [before, after] = rows;
        let is_heard = |party: &usize| {
            [before, after].iter().any(|row| row.get(*party).is_some_and(|gain| gain.0 != 0))
        };
        let heard = (0..PARTIES_MAX).filter(is_heard);
        let mut alone = heard.clone();
        let first = alone.next()?;
        let is_full = before == after && after.get(first) == Some(&Gain::FULL);
        if alone.next().is_none()
            && is_full
            && let Some(sound) = self.untouched(first, form)
        {
            return Some(sound);
        }
        let ways = |party: usize| {
            let of = |row: Row| row.get(party).map_or(0, |gain| gain.factor());
            (of(before), of(after))
        };
        let law = match form {
            Form::AllWide => None,
            Form::Wide if self.any_wide(heard.clone()) => None,
            Form::Wide => Some(Law::Mu),
            Form::Law(law) => Some(law),
        };
        let Some(law) = law else {
            let mut sums = [0; WIDE_SAMPLES];
            for party in heard {
                let Some(voice) = self.voices.get_mut(party) else { continue };
                add(&mut sums, voice.wide(), ways(party));
            }
            return Some(Sound::Wide(sums.map(limited)));
        };
        let mut sums = [0; FRAME_SAMPLES];
        for party in heard {
            let Some(voice) = self.voices.get_mut(party) else { continue };
            add(&mut sums, voice.narrow(), ways(party));
        }
        let mut encoded: Encoded = [0; FRAME_SAMPLES];
        g711::encode(law, &sums.map(limited), &mut encoded);
        Some(Sound::Law(law, encoded))
    }

    fn any_wide(&self, mut heard: impl Iterator<Item = usize>) -> bool {
        heard.any(|party| self.voices.get(party).is_some_and(Voice::is_wide))
    }

    /// The voice of a party as it came, where the listener can take it so.
    fn untouched(&self, party: usize, form: Form) -> Option<Sound> {
        let sound = self.voices.get(party)?.said?;
        match (sound, form) {
            (Sound::Wide(_), Form::Law(_)) | (Sound::Law(..), Form::AllWide) => None,
            (Sound::Law(..), Form::Law(_) | Form::Wide)
            | (Sound::Wide(_), Form::Wide | Form::AllWide) => Some(sound),
        }
    }
}

/// One party's part.
#[derive(Debug)]
struct Voice {
    said: Option<Sound>,
    narrow: Option<Pcm>,
    wide: Option<WidePcm>,
    /// Its last sample, from which it falls away.
    last: i16,
    down: Resampler,
    up: Resampler,
    scratch: Vec<i16>,
}

impl Default for Voice {
    fn default() -> Self {
        Self {
            said: None,
            narrow: None,
            wide: None,
            last: 0,
            down: Resampler::down(2),
            up: Resampler::up(2),
            scratch: Vec::with_capacity(WIDE_SAMPLES),
        }
    }
}

impl Voice {
    const fn say(&mut self, sound: Option<Sound>) {
        self.said = sound;
        self.narrow = None;
        self.wide = None;
    }

    const fn sounds(&self) -> bool {
        self.said.is_some() || self.last != 0
    }

    const fn is_wide(&self) -> bool {
        matches!(self.said, Some(Sound::Wide(_)))
    }

    fn narrow(&mut self) -> Pcm {
        if let Some(narrow) = self.narrow {
            return narrow;
        }
        let mut narrow: Pcm = [0; FRAME_SAMPLES];
        match &self.said {
            Some(Sound::Law(law, frame)) => g711::decode(*law, frame, &mut narrow),
            Some(Sound::Wide(wide)) => {
                turn(&mut self.down, wide, &mut self.scratch, &mut narrow);
            }
            None => fall(self.last, &mut narrow, FALL_SAMPLES),
        }
        self.narrow = Some(narrow);
        narrow
    }

    fn wide(&mut self) -> WidePcm {
        if let Some(wide) = self.wide {
            return wide;
        }
        let mut wide: WidePcm = [0; WIDE_SAMPLES];
        match &self.said {
            Some(Sound::Wide(said)) => wide = *said,
            Some(Sound::Law(..)) => {
                let narrow = self.narrow();
                turn(&mut self.up, &narrow, &mut self.scratch, &mut wide);
            }
            None => fall(self.last, &mut wide, 2 * FALL_SAMPLES),
        }
        self.wide = Some(wide);
        wide
    }

    fn pass(&mut self) {
        self.last = match self.said.take() {
            Some(Sound::Law(Law::Mu, frame)) => g711::ulaw_decode(frame[FRAME_SAMPLES - 1]),
            Some(Sound::Law(Law::A, frame)) => g711::alaw_decode(frame[FRAME_SAMPLES - 1]),
            Some(Sound::Wide(wide)) => wide[WIDE_SAMPLES - 1],
            None => 0,
        };
        self.narrow = None;
        self.wide = None;
    }
}

fn turn(resampler: &mut Resampler, samples: &[i16], scratch: &mut Vec<i16>, out: &mut [i16]) {
    scratch.clear();
    resampler.push(samples, scratch);
    for (place, sample) in out.iter_mut().zip(&*scratch) {
        *place = *sample;
    }
}

/// A line from `last` to silence.
fn fall(last: i16, out: &mut [i16], samples: usize) {
    let steps = samples.max(1) as i32;
    for (place, step) in out.iter_mut().zip((0..steps).rev()) {
        *place = (i32::from(last) * step / steps) as i16;
    }
}

/// `voice` with a gain, over `under` as it is.
#[must_use]
pub fn laid_over<const N: usize>(under: [i16; N], voice: [i16; N], gain: Gain) -> [i16; N] {
    let mut sums = under.map(i32::from);
    add(&mut sums, voice, (gain.factor(), gain.factor()));
    sums.map(limited)
}

/// Adds a voice whose gain goes from `before` to `after`.
fn add<const N: usize>(sums: &mut [i32; N], voice: [i16; N], (before, after): (i32, i32)) {
    if before == after && after == UNITY {
        for (sum, sample) in sums.iter_mut().zip(voice) {
            *sum += i32::from(sample);
        }
        return;
    }
    let length = N as i32;
    for ((sum, sample), step) in sums.iter_mut().zip(voice).zip(1..) {
        let gain = before + (after - before) * step / length;
        *sum += (i32::from(sample) * gain) >> GAIN_BITS;
    }
}

/// A sample of a sum: exact up to the knee, and beyond it ever closer to full scale, which it never passes.
fn limited(sum: i32) -> i16 {
    let size = sum.unsigned_abs().min(i32::MAX as u32) as i32;
    if size <= KNEE {
        return sum as i16;
    }
    let (room, over) = (i64::from(i32::from(i16::MAX) - KNEE), i64::from(size - KNEE));
    let bent = KNEE + (room * over / (room + over)) as i32;
    if sum < 0 { -bent as i16 } else { bent as i16 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALLER: usize = 0;
    const AGENT: usize = 1;
    const SUPERVISOR: usize = 2;

    fn voice(level: i16) -> Sound {
        Sound::Law(Law::Mu, [g711::ulaw_encode(level); FRAME_SAMPLES])
    }

    fn value(level: i16) -> i32 {
        i32::from(g711::ulaw_decode(g711::ulaw_encode(level)))
    }

    fn samples(sound: Option<Sound>) -> Vec<i32> {
        match sound {
            Some(Sound::Law(law, frame)) => {
                let mut linear = [0; FRAME_SAMPLES];
                g711::decode(law, &frame, &mut linear);
                linear.iter().map(|sample| i32::from(*sample)).collect()
            }
            Some(Sound::Wide(wide)) => wide.iter().map(|sample| i32::from(*sample)).collect(),
            None => Vec::new(),
        }
    }

    /// Everybody hears everybody.
    fn conference() -> GainMatrix {
        let mut gains = GainMatrix::default();
        for listener in 0..3 {
            for speaker in 0..3 {
                gains.set(listener, speaker, Gain::FULL);
            }
        }
        gains
    }

    /// A mixer that got to its gains a tick ago.
    fn settled(gains: GainMatrix) -> Mixer {
        let mut mixer = Mixer::default();
        mixer.set(gains);
        mixer.pass();
        mixer
    }

    const MU: Form = Form::Law(Law::Mu);

    #[test]
    fn each_hears_the_sum_of_the_others_to_the_sample() {
        let mut mixer = settled(conference());
        for (party, level) in [(CALLER, 1_000), (AGENT, 2_000), (SUPERVISOR, 4_000)] {
            mixer.say(party, Some(voice(level)));
        }
        for (listener, one, other) in
            [(CALLER, 2_000, 4_000), (AGENT, 1_000, 4_000), (SUPERVISOR, 1_000, 2_000)]
        {
            let sum = i16::try_from(value(one) + value(other)).unwrap();
            assert_eq!(samples(mixer.hear(listener, MU)), [value(sum); FRAME_SAMPLES]);
        }
    }

    #[test]
    fn a_single_voice_at_full_gain_is_not_touched() {
        let mut mixer = settled(conference());
        let said = Sound::Law(Law::A, std::array::from_fn(|n| n as u8));
        mixer.say(AGENT, Some(said));
        assert_eq!(mixer.hear(CALLER, MU), Some(said), "whatever law it has");
        assert_eq!(mixer.hear(SUPERVISOR, Form::Wide), Some(said));
        assert_eq!(mixer.hear(AGENT, MU), None, "nobody hears itself");
        let mut quieter = conference();
        quieter.set(CALLER, AGENT, Gain::of_db(-6));
        let mut mixer = settled(quieter);
        mixer.say(AGENT, Some(voice(8_000)));
        let heard = samples(mixer.hear(CALLER, MU));
        assert!(heard.iter().all(|sample| (sample - value(8_000) / 2).abs() < 200), "{heard:?}");
    }

    #[test]
    fn a_whisper_reaches_whom_it_is_for_alone() {
        let mut gains = conference();
        gains.set(CALLER, SUPERVISOR, Gain::MUTED);
        let mut mixer = settled(gains);
        mixer.say(CALLER, None);
        mixer.say(AGENT, Some(voice(500)));
        mixer.say(SUPERVISOR, Some(voice(9_000)));
        assert_eq!(mixer.hear(CALLER, MU), Some(voice(500)));
        assert_eq!(mixer.hear(AGENT, MU), Some(voice(9_000)));
    }

    #[test]
    fn loud_voices_bend_and_never_wrap() {
        let mut mixer = settled(conference());
        mixer.say(AGENT, Some(voice(32_000)));
        mixer.say(SUPERVISOR, Some(voice(32_000)));
        let heard = samples(mixer.hear(CALLER, MU));
        assert!(heard.iter().all(|sample| *sample > 28_000), "{heard:?}");
        let steps: Vec<i16> = (0..200_000).step_by(100).map(limited).collect();
        assert!(steps.is_sorted() && steps.last() < Some(&i16::MAX));
        assert_eq!((limited(KNEE), limited(-KNEE)), (KNEE as i16, -KNEE as i16));
        assert_eq!((limited(i32::MIN), limited(i32::MAX)), (-32_766, 32_766));
        // What cancels out was never too loud.
        mixer.pass();
        mixer.say(AGENT, Some(voice(32_000)));
        mixer.say(SUPERVISOR, Some(voice(-32_000)));
        assert_eq!(samples(mixer.hear(CALLER, MU)), [0; FRAME_SAMPLES]);
    }

    #[test]
    fn who_joins_leaves_or_falls_silent_makes_no_click() {
        let mut mixer = settled(GainMatrix::default());
        let mut line = Vec::new();
        let mut tick = |mixer: &mut Mixer, supervisor: Option<Sound>| {
            mixer.say(AGENT, Some(voice(1_000)));
            mixer.say(SUPERVISOR, supervisor);
            line.extend(samples(mixer.hear(CALLER, MU)));
            mixer.pass();
        };
        let mut alone = conference();
        alone.set(CALLER, SUPERVISOR, Gain::MUTED);
        mixer.set(alone);
        for _ in 0..3 {
            tick(&mut mixer, Some(voice(8_000)));
        }
        mixer.set(conference());
        for _ in 0..3 {
            tick(&mut mixer, Some(voice(8_000)));
        }
        for _ in 0..3 {
            tick(&mut mixer, None);
        }
        let jump = line.windows(2).map(|pair| (pair[1] - pair[0]).abs()).max();
        assert!(jump <= Some(600), "steps of the law, and of the fall: {jump:?}");
        let at = |tick: usize| line[tick * FRAME_SAMPLES + FRAME_SAMPLES - 1];
        let both = value(value(1_000) as i16) + value(8_000);
        assert_eq!([at(2), at(6), at(8)], [value(1_000); 3]);
        assert_eq!([at(3), at(5)], [value(both as i16); 2]);
    }

    #[test]
    fn equal_rows_share_one_sum_and_others_do_not() {
        let mut gains = GainMatrix::default();
        for listener in [2, 3] {
            gains.set(listener, CALLER, Gain::FULL);
            gains.set(listener, AGENT, Gain::FULL);
        }
        let mut mixer = settled(gains);
        mixer.say(CALLER, Some(voice(1_000)));
        mixer.say(AGENT, Some(voice(2_000)));
        let sums = |mixer: &Mixer| mixer.sums.iter().flatten().count();
        let one = mixer.hear(2, MU);
        assert_eq!((mixer.hear(3, MU), sums(&mixer)), (one, 1));
        assert_ne!(mixer.hear(3, Form::Law(Law::A)), one);
        assert_eq!(sums(&mixer), 2);
        // A voice that says nothing makes no difference.
        mixer.pass();
        mixer.set(conference());
        mixer.pass();
        mixer.say(CALLER, Some(voice(1_000)));
        let one = mixer.hear(AGENT, MU);
        assert_eq!((mixer.hear(SUPERVISOR, MU), sums(&mixer)), (one, 1));
    }

    #[test]
    fn rates_meet_at_16_khz_for_who_hears_them_and_at_8_khz_for_others() {
        let mut mixer = settled(conference());
        let mut heard = (0, 0);
        for _ in 0..5 {
            mixer.say(CALLER, Some(Sound::Wide([3_000; WIDE_SAMPLES])));
            mixer.say(AGENT, Some(voice(2_000)));
            let wide = mixer.hear(SUPERVISOR, Form::Wide);
            let narrow = mixer.hear(SUPERVISOR, MU);
            assert!(matches!((wide, narrow), (Some(Sound::Wide(_)), Some(Sound::Law(Law::Mu, _)))));
            heard = (samples(wide)[WIDE_SAMPLES - 1], samples(narrow)[FRAME_SAMPLES - 1]);
            // What is wide is not given as it is to who hears 8 kHz.
            assert!(matches!(mixer.hear(AGENT, MU), Some(Sound::Law(..))));
            assert!(matches!(mixer.hear(AGENT, Form::Wide), Some(Sound::Wide(_))));
            assert!(matches!(mixer.hear(CALLER, Form::Wide), Some(Sound::Law(..))));
            assert!(matches!(mixer.hear(CALLER, Form::AllWide), Some(Sound::Wide(_))));
            mixer.pass();
        }
        let sum = 3_000 + value(2_000);
        assert!((heard.0 - sum).abs() <= 20 && (heard.1 - sum).abs() <= 200, "{heard:?} {sum}");
    }

    #[test]
    fn gains_are_bounded() {
        assert_eq!(Gain::of_db(0), Gain::FULL);
        assert_eq!((Gain::of_db(127), Gain::of_db(-128)), (Gain::of_db(12), Gain::of_db(-40)));
        assert!(Gain::of_db(-40) != Gain::MUTED && Gain::of_db(12).factor() < 4 * UNITY);
        let mut gains = GainMatrix::default();
        gains.set(CALLER, CALLER, Gain::FULL);
        gains.set(PARTIES_MAX, 0, Gain::FULL);
        gains.set(0, PARTIES_MAX, Gain::FULL);
        assert_eq!(gains, GainMatrix::default());
        let mut mixer = Mixer::default();
        mixer.say(PARTIES_MAX, Some(voice(1)));
        assert_eq!(mixer.hear(PARTIES_MAX, MU), None);
    }
}
