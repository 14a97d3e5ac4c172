//! The playout queue of an agent: its audio with the marks in it, one frame a tick.
//!
//! Audio waits for a pre-roll before an utterance begins, so that an agent that paces at real time
//! does not stutter. A mark is reported when the sample before it was handed out; milliseconds played
//! are exact to the sample. A clear is effective in the next frame.

use crate::audio::frame::FRAME_SAMPLES;
use crate::audio::frame::SAMPLES_PER_MS;
use crate::audio::frame::WidePcm;
use crate::audio::g711;
use crate::audio::link::MediaEnd;
use crate::audio::link::Segment;
use crate::audio::link::WIDE_UNIT_BYTES;
use crate::audio::mix::Mix;
use crate::audio::noise::Noise;
use crate::audio::sound::Sound;
use crate::media::playout::lull::Lull;
use crate::media::playout::turn::Turn;
use crate::media::playout::unheard::Unheard;
use crate::types::codec::Law;

mod ahead;
mod dropping;
mod interrupted;
mod lull;
mod priming;
mod turn;
mod unheard;

/// Audio that must wait before an utterance begins.
pub const PREROLL_MS: u32 = 60;

/// The same after an utterance that ran dry.
pub const PREROLL_LATE_MS: u32 = 120;

/// Audio that must wait before an utterance that ran dry goes on.
pub const REPRIME_MS: u32 = 40;

/// A gap longer than this ends the utterance: what comes then waits for a pre-roll, and its ms played count anew.
pub const UNDERRUN_MS_MAX: u32 = 400;

/// The longest an agent that was interrupted and says something without a pause is not heard: it may do so for ever,
/// with a sound behind its words.
pub const MUTED_MS_MAX: u32 = 10_000;

/// Length of the fade with which a clear ends what is being played.
const FADE_SAMPLES: usize = 5 * SAMPLES_PER_MS;
const WIDE_FADE_SAMPLES: usize = 2 * FADE_SAMPLES;

const TICK_MS: u32 = 20;

/// Plays what an agent sends.
#[derive(Debug)]
pub struct Playout {
    end: MediaEnd,
    /// What is being played, and how much of it was.
    current: Option<(Box<Segment>, usize)>,
    epoch: u64,
    state: State,
    /// Samples of the present utterance that were played.
    utterance_samples: u64,
    /// The present utterance was finished: the next audio begins another.
    finished: bool,
    preroll_ms: u32,
    /// The last sample played, from which the line falls away in a gap.
    last: i16,
    /// Samples taken from the queue to be played, since the last clear or the beginning of the link.
    queue_samples: u64,
    /// Answers that found the link's queue full: a clear's epoch, and ms and samples played before it.
    owed_cleared: Option<(u64, (u64, u64))>,
    owed_drained: u32,
    noise: Noise,
    played_samples: u64,
    underruns: u32,
    lull: Lull,
    turn: Turn,
    interruption: Interruption,
    /// What it says is not heard at the moment.
    unheard: Option<Unheard>,
    /// What it said first waited, and is not over: for so long silence was played of it, in ms.
    waited: Option<u32>,
    /// The media thread left ticks out, or the agent's task took nothing, since the queue was last known to be well.
    node_late: bool,
    /// For so long the media thread left out ticks before this one, in ms.
    left_out_ms: u32,
    /// The last underrun, until it is taken.
    underrun: Option<Underrun>,
}

/// A gap inside an utterance or a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Underrun {
    /// Its length, in ms.
    pub ms: u32,
    /// Ticks were left out meanwhile, or the agent's task did not come to read: the node came late, not the agent.
    pub node_late: bool,
}

/// What became of the agent's audio when the caller spoke over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Interruption {
    /// Nothing: it is played.
    None,
    /// It waits. True until what was being played has fallen away.
    Paused { falls: bool },
    /// What still comes of it is dropped.
    Flushed {
        /// What was being played has to fall away first.
        falls: bool,
        /// For so long nothing came.
        quiet_ms: u32,
        /// For so long it was dropped.
        muted_ms: u32,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No utterance.
    Idle,
    /// Audio is there, less than the pre-roll.
    Priming { waited_ms: u32 },
    /// An utterance is being played.
    Playing,
    /// It ran dry. Once audio is there again it waits a little.
    Dry { gap_ms: u32, waited_ms: u32 },
}

/// How a step into the queue ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Taken {
    /// The frame is full.
    Full,
    /// Nothing more is queued; the utterance is not finished.
    Dry,
    /// The utterance is finished and nothing is queued behind it.
    Finished,
}

impl Playout {
    /// Plays what comes over `end`, and comfort noise that follows from `seed` in between.
    #[must_use]
    pub fn new(end: MediaEnd, seed: u64) -> Self {
        Self {
            epoch: end.epoch(),
            end,
            current: None,
            state: State::Idle,
            utterance_samples: 0,
            finished: false,
            preroll_ms: PREROLL_MS,
            last: 0,
            queue_samples: 0,
            owed_cleared: None,
            owed_drained: 0,
            noise: Noise::new(seed),
            played_samples: 0,
            underruns: 0,
            lull: Lull::new(),
            turn: Turn::default(),
            interruption: Interruption::None,
            unheard: None,
            waited: None,
            node_late: false,
            left_out_ms: 0,
            underrun: None,
        }
    }

    /// Exchanges the link to the agent for `end`. What the old one had queued is dropped, and with it
    /// what was being played.
    pub fn attach(&mut self, end: &mut MediaEnd) {
        self.exchange(end);
        end.hang_up();
    }

    /// The same, but the agent of the old link notices nothing; what it had queued behind what was being
    /// played stays in it.
    pub fn exchange(&mut self, end: &mut MediaEnd) {
        self.pay_debts();
        self.leave_turn();
        if let Some((mut segment, read)) = self.current.take() {
            let length = segment.units();
            self.end.consumed(length.saturating_sub(read));
            let before = self.utterance_samples;
            report_marks(&mut self.end, &mut segment, (length, length), before, |_, _| ());
            // Without a clear the link takes back only what has no mark left.
            segment.forget_marks();
            self.end.give_back(segment);
        }
        std::mem::swap(&mut self.end, end);
        self.epoch = self.end.epoch();
        self.state = State::Idle;
        self.queue_samples = 0;
        self.owed_cleared = None;
        self.owed_drained = 0;
        self.preroll_ms = PREROLL_MS;
        self.lull.forget();
        self.interruption = Interruption::None;
        self.unheard = None;
        self.waited = None;
    }

    /// The link, to give the agent its frames.
    pub const fn end(&mut self) -> &mut MediaEnd {
        &mut self.end
    }

    /// Samples of agent audio played, over all links.
    #[must_use]
    pub const fn played_samples(&self) -> u64 {
        self.played_samples
    }

    /// Gaps inside utterances and replies.
    #[must_use]
    pub const fn underruns(&self) -> u32 {
        self.underruns
    }

    /// The next 20 ms, G.711 of the link's law: of an agent that hears 16 kHz, and of the fade behind it, at that rate. While
    /// `held`, or when the agent asks for it, audio waits; marks with no audio before them do not.
    pub fn tick(&mut self, held: bool) -> Sound {
        if !held {
            self.unheard = None;
            self.catch_up();
        }
        self.pass(held)
    }

    fn pass(&mut self, held: bool) -> Sound {
        self.pay_debts();
        self.tell_turn(held);
        let left_out_ms = std::mem::take(&mut self.left_out_ms);
        let law = self.end.law();
        let mut frame = Sound::Law(law, self.noise.frame(law));
        if self.state == State::Idle {
            // Something is left where the agent was taken away in the middle of a word.
            self.fall_away(&mut frame, 0);
        }
        let epoch = self.end.epoch();
        if epoch != self.epoch {
            self.clear(epoch, &mut frame);
        }
        if !self.is_interrupted(&mut frame) {
            self.take_marks();
            let may_play = self.owed_cleared.is_none() && !held && !self.end.held();
            if !may_play {
                // What was being said waits: nothing is left of it here, or it falls away.
                self.fall_away(&mut frame, 0);
            } else if self.is_primed(left_out_ms) {
                self.play(&mut frame);
            }
        }
        frame
    }

    /// Fills the frame from the queue; what is left of it stays noise.
    fn play(&mut self, frame: &mut Sound) {
        let mut at = 0;
        let taken = self.take(frame, &mut at);
        self.played_samples += at as u64;
        self.end.note_heard(at > 0);
        self.last = last_before(at, frame).unwrap_or(self.last);
        match taken {
            Taken::Full => self.node_late = false,
            Taken::Dry => {
                self.see_lateness();
                let left_out_ms = std::mem::take(&mut self.left_out_ms);
                let gap_ms = ((FRAME_SAMPLES - at) / SAMPLES_PER_MS) as u32 + left_out_ms;
                self.state = State::Dry { gap_ms, waited_ms: 0 };
                self.fall_away(frame, at);
            }
            Taken::Finished => {
                self.state = State::Idle;
                self.fall_away(frame, at);
            }
        }
    }

    fn take(&mut self, frame: &mut Sound, at: &mut usize) -> Taken {
        loop {
            if self.current.is_none() {
                let Some(segment) = self.next_segment() else {
                    return if self.finished { Taken::Finished } else { Taken::Dry };
                };
                if self.finished && !segment.bytes.is_empty() {
                    // The next utterance follows without a gap.
                    self.utterance_samples = 0;
                    self.finished = false;
                    self.lull.forget_marks();
                }
                self.current = Some((segment, 0));
            }
            let Some((segment, read)) = &mut self.current else { continue };
            let count = fill(frame, *at, (self.end.law(), &**segment), *read);
            *read += count;
            *at += count;
            self.end.consumed(count);
            self.queue_samples += count as u64;
            let before = self.utterance_samples;
            self.utterance_samples += count as u64;
            let start = *read - count;
            let noted = |id, at| self.lull.marked(id, at);
            if !report_marks(&mut self.end, segment, (start, *read), before, noted) {
                // The agent does not read its events: its marks, and what follows, wait.
                return Taken::Full;
            }
            if *read < segment.units() {
                return Taken::Full;
            }
            self.finished |= segment.finish;
            self.owed_drained += u32::from(segment.finish);
            self.pay_drained();
            self.give_back_current();
            if *at == FRAME_SAMPLES && self.end.peek().is_none_or(|next| !next.bytes.is_empty()) {
                let over = self.finished && self.end.peek().is_none();
                return if over { Taken::Finished } else { Taken::Full };
            }
        }
    }

    /// Reports marks that have no audio before them, in whatever state.
    fn take_marks(&mut self) {
        if self.current.is_some() || self.owed_cleared.is_some() {
            return;
        }
        while self.end.peek().is_some_and(|next| next.bytes.is_empty() && !next.finish) {
            let Some(mut segment) = self.end.pop() else { return };
            let played = self.utterance_samples;
            let noted = |id, at| self.lull.marked(id, at);
            if !report_marks(&mut self.end, &mut segment, (0, 0), played, noted) {
                self.current = Some((segment, 0));
                return;
            }
            self.end.give_back(segment);
        }
    }

    fn next_segment(&mut self) -> Option<Box<Segment>> {
        loop {
            let mut segment = self.end.pop()?;
            if segment.epoch >= self.epoch {
                return Some(segment);
            }
            // Sent before a clear that was answered already; cannot happen, as the ring keeps order.
            self.end.consumed(segment.units());
            segment.forget_marks();
            self.end.give_back(segment);
        }
    }

    fn give_back_current(&mut self) {
        if let Some((segment, read)) = self.current.take() {
            self.end.consumed(segment.units().saturating_sub(read));
            self.end.give_back(segment);
        }
    }

    /// Drops what was queued before the clear and lets what was being played fall away.
    fn clear(&mut self, epoch: u64, frame: &mut Sound) {
        self.epoch = epoch;
        let playing = matches!(self.state, State::Playing | State::Dry { .. });
        let played = if playing { self.utterance_samples } else { 0 };
        let played_ms = played / SAMPLES_PER_MS as u64;
        if self.state == State::Playing && self.interruption == Interruption::None {
            self.fade(frame);
        }
        if let Some((segment, _)) = &mut self.current {
            segment.set_played_ms(played_ms);
        }
        self.give_back_current();
        while self.end.peek().is_some_and(|next| next.epoch < epoch) {
            let Some(mut segment) = self.end.pop() else { break };
            self.end.consumed(segment.units());
            segment.set_played_ms(played_ms);
            self.end.give_back(segment);
        }
        self.state = State::Idle;
        self.utterance_samples = 0;
        self.finished = false;
        self.preroll_ms = PREROLL_MS;
        self.lull.forget();
        self.interruption = Interruption::None;
        // A clear not yet answered is answered together with this one.
        let played = (played_ms, std::mem::take(&mut self.queue_samples));
        let played = self.owed_cleared.map_or(played, |(_, before)| before);
        self.owed_cleared = Some((epoch, played));
        self.pay_debts();
    }

    /// The next samples once more, falling to silence over noise; where there are none, the last one.
    fn fade(&mut self, frame: &mut Sound) {
        let current = self.current.as_ref().map(|(segment, read)| (&**segment, *read));
        let queued = self.end.peek().map(|segment| (segment, 0));
        let is_left = |(segment, read): &(&Segment, usize)| *read < segment.units();
        let next = current.filter(is_left).or(queued.filter(is_left));
        let Some((segment, read)) = next else { return self.fall_away(frame, 0) };
        let bytes = segment.bytes.get(read * segment.unit_bytes()..).unwrap_or_default();
        if segment.wide {
            let mut fading = [0; WIDE_FADE_SAMPLES];
            for (sample, pair) in fading.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *sample = i16::from_le_bytes(*pair);
            }
            let mut wide = frame.widened();
            blend_wide(&mut wide, 0, &fading);
            *frame = Sound::Wide(wide);
        } else {
            let mut fading = [0; FADE_SAMPLES];
            g711::decode(self.end.law(), bytes, &mut fading);
            blend(frame, 0, &fading);
        }
        // It does not fall away once more where the agent ends without another word.
        self.last = 0;
    }

    /// Lets the line fall from the last sample to silence instead of jumping there, once: an agent that ends behind a gap
    /// does so in silence.
    fn fall_away(&mut self, frame: &mut Sound, at: usize) {
        if at >= FRAME_SAMPLES {
            // In the next frame: this one is full.
            return;
        }
        let last = std::mem::take(&mut self.last);
        if last != 0 {
            blend(frame, at, &[last; FADE_SAMPLES]);
        }
    }

    fn pay_debts(&mut self) {
        if let Some((epoch, played)) = self.owed_cleared
            && self.end.push_cleared(epoch, played)
        {
            self.owed_cleared = None;
        }
        self.pay_drained();
    }

    /// Each finished utterance is told.
    fn pay_drained(&mut self) {
        while self.owed_drained > 0 && self.end.push_drained() {
            self.owed_drained -= 1;
        }
    }

    /// Audio that waits, in ms.
    #[must_use]
    pub fn queued_ms(&self) -> u32 {
        let ms = self.end.queued_units().div_ceil(SAMPLES_PER_MS as u64);
        u32::try_from(ms).unwrap_or(u32::MAX)
    }
}

/// Reports the marks that lie within the units just played, `before` of the utterance having been
/// played earlier; false when one of them has to wait. `noted` gets each and where in the utterance it stands.
fn report_marks(
    end: &mut MediaEnd,
    segment: &mut Segment,
    (start, read): (usize, usize),
    before: u64,
    mut noted: impl FnMut(u64, u64),
) -> bool {
    while let Some((offset, id)) = segment.next_mark() {
        if offset > read {
            break;
        }
        let played = before + offset.saturating_sub(start) as u64;
        if !end.push_mark(id, played / SAMPLES_PER_MS as u64) {
            return false;
        }
        segment.marks_played += 1;
        noted(id, played);
    }
    true
}

/// Fills the frame from unit `at` on with what the segment, of the law of its link, has from `read` on; how many units
/// that were. The frame, which is of that law too, takes the segment's rate, unless it holds sound of 16 kHz already.
fn fill(frame: &mut Sound, at: usize, (law, segment): (Law, &Segment), read: usize) -> usize {
    let rest = segment.bytes.get(read * segment.unit_bytes()..).unwrap_or_default();
    let count = (rest.len() / segment.unit_bytes()).min(FRAME_SAMPLES.saturating_sub(at));
    match frame {
        Sound::Law(_, bytes) if !segment.wide => {
            let place = bytes.get_mut(at..).unwrap_or_default();
            for (to, byte) in place.iter_mut().zip(rest) {
                *to = *byte;
            }
        }
        Sound::Law(..) | Sound::Wide(_) => {
            let mut wide = frame.widened();
            let place = wide.as_chunks_mut::<2>().0.iter_mut().skip(at);
            if segment.wide {
                let samples = |[a, b, c, d]: [u8; WIDE_UNIT_BYTES]| {
                    [i16::from_le_bytes([a, b]), i16::from_le_bytes([c, d])]
                };
                for (pair, unit) in place.zip(rest.as_chunks::<WIDE_UNIT_BYTES>().0) {
                    *pair = samples(*unit);
                }
            } else {
                for (pair, byte) in place.zip(rest) {
                    *pair = [g711::sample(law, *byte); 2];
                }
            }
            *frame = Sound::Wide(wide);
        }
    }
    count
}

/// The last sample before unit `at`.
fn last_before(at: usize, frame: &Sound) -> Option<i16> {
    let last = at.checked_sub(1)?;
    match frame {
        Sound::Law(law, bytes) => bytes.get(last).map(|byte| g711::sample(*law, *byte)),
        Sound::Wide(wide) => wide.get(2 * last + 1).copied(),
    }
}

/// Mixes `falling`, from full to nothing, over the noise that `frame` holds from unit `at` on.
fn blend(frame: &mut Sound, at: usize, falling: &[i16; FADE_SAMPLES]) {
    match frame {
        Sound::Law(law, bytes) => {
            let Some(rest) = bytes.get_mut(at..) else { return };
            let mut under = [0; FRAME_SAMPLES];
            g711::decode(*law, rest, &mut under);
            let mut mix = Mix::default();
            mix.add(&under);
            mix.add_falling(falling, FADE_SAMPLES);
            g711::encode(*law, &mix.finish(), rest);
        }
        Sound::Wide(wide) => {
            let mut doubled = [0; WIDE_FADE_SAMPLES];
            for (pair, sample) in doubled.as_chunks_mut::<2>().0.iter_mut().zip(falling) {
                *pair = [*sample; 2];
            }
            blend_wide(wide, 2 * at, &doubled);
        }
    }
}

/// The same of samples at 16 kHz, from sample `at` on.
fn blend_wide(wide: &mut WidePcm, at: usize, falling: &[i16; WIDE_FADE_SAMPLES]) {
    let steps = WIDE_FADE_SAMPLES as i32;
    let place = wide.iter_mut().skip(at);
    for ((sample, falling), step) in place.zip(falling).zip((0..steps).rev()) {
        *sample = sample.saturating_add((i32::from(*falling) * step / steps) as i16);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::frame::Encoded;
    use crate::audio::link::AgentEnd;
    use crate::audio::link::LinkEvent;
    use crate::audio::link::link;
    use crate::audio::link::link_of;
    use crate::types::limit::AGENT_MARKS_MAX;

    struct Line {
        playout: Playout,
        agent: AgentEnd,
    }

    impl Line {
        fn new() -> Self {
            let (end, agent) = link();
            Self { playout: Playout::new(end, 1), agent }
        }

        /// Ticks and returns what of the frame is the agent's: loud bytes, which noise never has.
        fn tick(&mut self) -> usize {
            let frame = self.playout.tick(false).as_law(Law::Mu);
            frame.iter().filter(|byte| **byte == LOUD).count()
        }

        fn events(&mut self) -> Vec<LinkEvent> {
            std::iter::from_fn(|| self.agent.next()).collect()
        }

        fn push_ms(&mut self, ms: usize) {
            assert_eq!(self.agent.push_audio(&vec![LOUD; ms * 8]), ms * 8);
        }
    }

    const LOUD: u8 = 0x10;

    fn is_loud(frame: &Encoded) -> bool {
        frame.iter().any(|byte| g711::ulaw_decode(*byte).abs() > 30)
    }

    #[test]
    fn an_utterance_begins_with_its_preroll() {
        let mut line = Line::new();
        line.push_ms(40);
        assert_eq!(line.tick(), 0);
        line.push_ms(20);
        assert_eq!([line.tick(), line.tick(), line.tick()], [160; 3]);
        assert_eq!(line.tick(), 0);
        assert_eq!(line.playout.played_samples(), 480);
    }

    #[test]
    fn a_short_utterance_is_played_after_waiting_or_at_once_when_finished() {
        let mut waiting = Line::new();
        waiting.push_ms(10);
        let played: Vec<usize> = (0..5).map(|_| waiting.tick()).collect();
        assert_eq!(played, [0, 0, 0, 80, 0]);
        assert_eq!(waiting.events(), []);

        let mut finished = Line::new();
        finished.push_ms(10);
        finished.agent.finish();
        assert_eq!(finished.tick(), 80);
        assert_eq!(finished.events(), [LinkEvent::Drained]);
    }

    #[test]
    fn an_end_behind_a_gap_is_not_heard() {
        for gap in 1..4 {
            let mut line = Line::new();
            line.push_ms(80);
            assert_eq!((0..4).map(|_| line.tick()).sum::<usize>(), 640);
            assert!(is_loud(&line.playout.tick(false).as_law(Law::Mu)), "it falls away");
            assert!((1..gap).all(|_| !is_loud(&line.playout.tick(false).as_law(Law::Mu))));
            line.agent.finish();
            assert!((0..4).all(|_| !is_loud(&line.playout.tick(false).as_law(Law::Mu))), "{gap}");
            assert_eq!(line.events(), [LinkEvent::Drained]);
        }
    }

    /// So many ms of a step at 16 kHz.
    fn wide(ms: usize, level: i16) -> Vec<u8> {
        vec![level; 16 * ms].iter().flat_map(|sample| sample.to_le_bytes()).collect()
    }

    #[test]
    fn audio_at_16_khz_is_played_sample_for_sample_and_counted_as_any_other() {
        let mut line = Line::new();
        let bytes: Vec<u8> = (0..3_200_i16).flat_map(|n| (n * 10).to_le_bytes()).collect();
        assert_eq!(line.agent.push_wide(&bytes[..1_001]), 1_000, "whole pairs");
        assert_eq!(line.agent.push_wide(&bytes[1_000..4_000]), 3_000);
        assert!(line.agent.push_mark(1));
        assert_eq!(line.agent.push_wide(&bytes[4_000..]), 2_400);
        assert_eq!(line.agent.queued_ms(), 200);
        line.agent.finish();
        let mut heard = Vec::new();
        for _ in 0..10 {
            let Sound::Wide(frame) = line.playout.tick(false) else { panic!("at 16 kHz") };
            heard.extend(frame);
        }
        assert!(heard.iter().zip(0..).all(|(sample, n)| *sample == n * 10));
        assert_eq!(line.playout.played_samples(), 1_600);
        let mark = LinkEvent::Mark { id: 1, played_ms: 125 };
        assert_eq!(line.events(), [mark, LinkEvent::Drained]);
        assert_eq!((line.agent.queued_ms(), line.playout.queued_ms()), (0, 0));
    }

    #[test]
    fn audio_of_both_rates_meets_in_one_frame_and_falls_away_from_either() {
        let mut line = Line::new();
        line.push_ms(70);
        assert_eq!(line.agent.push_wide(&wide(35, 9_000)), 35 * 32);
        line.push_ms(5);
        for _ in 0..3 {
            assert_eq!(line.playout.tick(false), Sound::Law(Law::Mu, [LOUD; 160]));
        }
        let Sound::Wide(joint) = line.playout.tick(false) else { panic!("both") };
        assert_eq!(joint[..160], [g711::ulaw_decode(LOUD); 160]);
        assert_eq!(joint[160..], [9_000; 160]);
        assert_eq!(line.playout.tick(false), Sound::Wide([9_000; 320]));
        let Sound::Wide(end) = line.playout.tick(false) else { panic!("both again") };
        let loud = g711::ulaw_decode(LOUD);
        assert_eq!((&end[..80], &end[80..160]), (&[9_000; 80][..], &[loud; 80][..]));
        // It falls away, to noise.
        assert!(end[160].abs() > loud.abs() / 10 * 9 && end[200].abs() < loud.abs() / 10 * 6);
        assert!(end[240..].iter().all(|sample| sample.abs() < 60), "noise");
        assert_eq!(line.playout.played_samples(), 110 * 8);
    }

    #[test]
    fn a_clear_lets_audio_at_16_khz_fall_away_and_counts_what_was_heard_of_it() {
        let mut line = Line::new();
        assert_eq!(line.agent.push_wide(&wide(500, 9_000)), 500 * 32);
        for _ in 0..5 {
            assert_eq!(line.playout.tick(false), Sound::Wide([9_000; 320]));
        }
        line.agent.clear();
        let Sound::Wide(fading) = line.playout.tick(false) else { panic!("at 16 kHz") };
        assert!(fading[0] > 8_000 && fading[40] > 3_000 && fading[40] < 6_000);
        assert!(fading[80..].iter().all(|sample| sample.abs() < 60));
        assert_eq!(line.events(), [LinkEvent::Cleared { played_ms: 100, samples: 800 }]);
        assert!(matches!(line.playout.tick(false), Sound::Law(..)), "noise again");
        assert_eq!(line.agent.queued_ms(), 0);
    }

    #[test]
    fn one_byte_at_a_time_is_played_whole() {
        let mut line = Line::new();
        let mut played = 0;
        for _ in 0..50 {
            for _ in 0..160 {
                assert_eq!(line.agent.push_audio(&[LOUD]), 1);
            }
            played += line.tick();
            line.events();
        }
        line.agent.finish();
        played += (0..10).map(|_| line.tick()).sum::<usize>();
        assert_eq!(played, 50 * 160);
        assert_eq!(line.playout.underruns(), 0);
    }

    #[test]
    fn marks_come_with_the_sample_before_them_and_exact_milliseconds() {
        let mut line = Line::new();
        line.push_ms(30);
        assert!(line.agent.push_mark(1));
        line.push_ms(47);
        assert!(line.agent.push_mark(2));
        assert!(line.agent.push_mark(3));
        line.push_ms(3);
        assert!(line.agent.push_mark(4));
        line.tick();
        assert_eq!(line.events(), []);
        line.tick();
        assert_eq!(line.events(), [LinkEvent::Mark { id: 1, played_ms: 30 }]);
        line.tick();
        assert_eq!(line.events(), []);
        line.tick();
        let mark = |id, played_ms| LinkEvent::Mark { id, played_ms };
        assert_eq!(line.events(), [mark(2, 77), mark(3, 77), mark(4, 80)]);
    }

    #[test]
    fn marks_within_a_piece_of_what_an_agent_sent_in_advance_are_exact() {
        let mut line = Line::new();
        // So much waits that what follows is gathered into long pieces.
        line.push_ms(3_000);
        let mut expected = Vec::new();
        for id in 1..=60 {
            line.push_ms(7);
            assert!(line.agent.push_mark(id));
            expected.push(LinkEvent::Mark { id, played_ms: 3_000 + 7 * id });
        }
        assert!(line.agent.finish());
        let mut events = Vec::new();
        for _ in 0..(3_000 + 7 * 60) / 20 {
            line.tick();
            events.extend(line.events());
        }
        assert_eq!(events.pop_if(|last| *last == LinkEvent::Drained), Some(LinkEvent::Drained));
        assert_eq!(events, expected);
    }

    #[test]
    fn a_mark_with_nothing_before_it_comes_at_once_even_while_held() {
        let mut line = Line::new();
        assert!(line.agent.push_mark(9));
        assert!(!is_loud(&line.playout.tick(true).as_law(Law::Mu)));
        assert_eq!(line.events(), [LinkEvent::Mark { id: 9, played_ms: 0 }]);
    }

    #[test]
    fn a_held_playout_keeps_the_greeting_whole() {
        let mut line = Line::new();
        line.push_ms(100);
        assert!((0..50).all(|_| !is_loud(&line.playout.tick(true).as_law(Law::Mu))));
        line.agent.hold_playout(true);
        assert_eq!(line.tick(), 0);
        line.agent.hold_playout(false);
        assert_eq!((0..6).map(|_| line.tick()).sum::<usize>(), 800);
    }

    #[test]
    fn what_has_to_wait_in_the_middle_of_a_word_falls_away_and_goes_on() {
        for by_agent in [false, true] {
            let mut line = Line::new();
            line.push_ms(200);
            assert_eq!((0..5).map(|_| line.tick()).sum::<usize>(), 800);
            line.agent.hold_playout(by_agent);
            let frame = line.playout.tick(!by_agent).as_law(Law::Mu);
            assert!(g711::ulaw_decode(frame[0]).abs() > 10_000, "{frame:?}");
            assert!(frame[FADE_SAMPLES..].iter().all(|byte| g711::ulaw_decode(*byte).abs() < 30));
            assert!((0..4).all(|_| !is_loud(&line.playout.tick(!by_agent).as_law(Law::Mu))));
            line.agent.hold_playout(false);
            assert_eq!((0..5).map(|_| line.tick()).sum::<usize>(), 800, "{by_agent}");
            assert_eq!(line.playout.underruns(), 0);
        }
    }

    #[test]
    fn a_clear_is_silent_in_the_next_tick_and_returns_all_marks_at_once() {
        let mut line = Line::new();
        for id in 0..100 {
            line.push_ms(20);
            assert!(line.agent.push_mark(id));
        }
        for _ in 0..5 {
            assert_eq!(line.tick(), 160);
        }
        assert_eq!(line.events().len(), 5);
        line.agent.clear();
        let frame = line.playout.tick(false).as_law(Law::Mu);
        let (fade, rest) = frame.split_at(FADE_SAMPLES);
        assert!(fade.iter().any(|byte| g711::ulaw_decode(*byte).abs() > 1_000));
        assert!(rest.iter().all(|byte| g711::ulaw_decode(*byte).abs() < 30));
        let events = line.events();
        assert_eq!(events.first(), Some(&LinkEvent::Cleared { played_ms: 100, samples: 800 }));
        let marks: Vec<LinkEvent> =
            (5..100).map(|id| LinkEvent::Mark { id, played_ms: 100 }).collect();
        assert_eq!(events.get(1..), Some(marks.as_slice()));
        assert!(!is_loud(&line.playout.tick(false).as_law(Law::Mu)));
        assert_eq!(line.agent.queued_ms(), 0);
    }

    #[test]
    fn a_clear_that_finds_nothing_queued_lets_the_line_fall_away_too() {
        for marked in [false, true] {
            let mut line = Line::new();
            line.push_ms(100);
            if marked {
                // It is told once there is room for that.
                (0..AGENT_MARKS_MAX as u64).for_each(|id| assert!(line.agent.push_mark(id)));
            }
            assert_eq!((0..5).map(|_| line.tick()).sum::<usize>(), 800);
            line.agent.clear();
            let frame = line.playout.tick(false).as_law(Law::Mu);
            let (fade, rest) = frame.split_at(FADE_SAMPLES);
            assert!(g711::ulaw_decode(fade[0]).abs() > 10_000, "{marked}: {frame:?}");
            assert!(rest.iter().all(|byte| g711::ulaw_decode(*byte).abs() < 30), "{marked}");
        }
    }

    #[test]
    fn an_agent_that_is_taken_away_in_the_middle_of_a_word_falls_away() {
        let mut line = Line::new();
        line.push_ms(500);
        assert_eq!((0..5).map(|_| line.tick()).sum::<usize>(), 800);
        let (mut end, agent) = link();
        line.playout.attach(&mut end);
        line.agent = agent;
        let frame = line.playout.tick(false).as_law(Law::Mu);
        assert!(g711::ulaw_decode(frame[0]).abs() > 10_000, "{frame:?}");
        assert!(frame[FADE_SAMPLES..].iter().all(|byte| g711::ulaw_decode(*byte).abs() < 30));
        assert!((0..4).all(|_| !is_loud(&line.playout.tick(false).as_law(Law::Mu))));
        line.push_ms(100);
        assert_eq!((0..5).map(|_| line.tick()).sum::<usize>(), 800);
    }

    /// The samples of a frame of A-law.
    fn of_alaw(sound: Sound) -> Vec<i16> {
        let Sound::Law(Law::A, frame) = sound else { panic!("{sound:?}") };
        frame.iter().map(|byte| g711::alaw_decode(*byte)).collect()
    }

    #[test]
    fn the_line_of_an_agent_of_a_law_is_of_that_law_in_words_noise_fades_and_after_an_exchange() {
        let is_noise =
            |samples: &[i16]| samples.iter().all(|sample| (8..=24).contains(&sample.abs()));
        let mut line = Line::new();
        line.push_ms(500);
        assert_eq!((0..5).map(|_| line.tick()).sum::<usize>(), 800);
        let (mut end, agent) = link_of(Law::A);
        line.playout.attach(&mut end);
        line.agent = agent;
        // The word before falls away over what the line is now.
        let fading = of_alaw(line.playout.tick(false));
        assert!(fading[0].abs() > 10_000 && is_noise(&fading[FADE_SAMPLES..]), "{fading:?}");
        line.agent.speak(Law::A);
        let codes: Vec<u8> = (0..5).flat_map(|_| 0..=u8::MAX).collect();
        for ends in 0..3 {
            assert!(is_noise(&of_alaw(line.playout.tick(false))));
            assert_eq!(line.agent.push_audio(&codes), 1_280);
            line.push_ms(500);
            for frame in codes.as_chunks().0 {
                assert_eq!(line.playout.tick(false), Sound::Law(Law::A, *frame));
            }
            assert_eq!(line.playout.tick(false), Sound::Law(Law::A, [LOUD; FRAME_SAMPLES]));
            match ends {
                0 => line.agent.clear(),
                1 => line.playout.pause(),
                _ => {
                    line.playout.flush();
                }
            }
            let fading = of_alaw(line.playout.tick(false));
            assert!(fading[0].abs() > 2_000 && is_noise(&fading[FADE_SAMPLES..]), "{fading:?}");
            line.playout.resume();
            line.agent.clear();
            line.playout.tick(false);
            line.events();
        }
    }

    #[test]
    fn an_agent_of_a_law_that_says_its_silence_is_heard_again_after_an_interruption() {
        let (end, mut agent) = link_of(Law::A);
        agent.speak(Law::A);
        let mut playout = Playout::new(end, 1);
        assert_eq!(agent.push_audio(&[LOUD; 1_600]), 1_600);
        for _ in 0..5 {
            playout.tick(false);
        }
        playout.flush();
        for _ in 0..=UNDERRUN_MS_MAX / TICK_MS {
            assert_eq!(agent.push_audio(&[0xd5; FRAME_SAMPLES]), FRAME_SAMPLES);
            playout.tick(false);
        }
        assert_eq!(agent.push_audio(&[LOUD; 800]), 800);
        let said = Sound::Law(Law::A, [LOUD; FRAME_SAMPLES]);
        assert!((0..5).all(|_| playout.tick(false) == said));
    }

    #[test]
    fn an_end_that_fills_its_frame_falls_away_in_the_next() {
        for replies in 1..3 {
            let mut line = Line::new();
            for _ in 0..replies {
                line.push_ms(100);
                line.agent.finish();
                assert_eq!((0..5).map(|_| line.tick()).sum::<usize>(), 800, "one behind the other");
            }
            let frame = line.playout.tick(false).as_law(Law::Mu);
            assert!(g711::ulaw_decode(frame[0]).abs() > 10_000, "{frame:?}");
            assert!(frame[FADE_SAMPLES..].iter().all(|byte| g711::ulaw_decode(*byte).abs() < 30));
            assert!((0..4).all(|_| !is_loud(&line.playout.tick(false).as_law(Law::Mu))));
        }
    }

    #[test]
    fn nothing_is_left_of_a_word_that_was_muted() {
        let mut line = Line::new();
        line.push_ms(500);
        assert_eq!((0..5).map(|_| line.tick()).sum::<usize>(), 800);
        line.playout.unheard();
        assert!((0..4).all(|_| !is_loud(&line.playout.tick(false).as_law(Law::Mu))));
    }

    #[test]
    fn what_fell_away_once_does_not_so_again() {
        for pauses in [false, true] {
            let mut line = Line::new();
            line.push_ms(500);
            assert_eq!((0..5).map(|_| line.tick()).sum::<usize>(), 800);
            if pauses {
                line.playout.flush();
            } else {
                line.agent.clear();
            }
            assert!(is_loud(&line.playout.tick(false).as_law(Law::Mu)), "it falls away");
            // It ends without another word.
            line.agent.finish();
            assert!((0..40).all(|_| !is_loud(&line.playout.tick(false).as_law(Law::Mu))));
            line.agent.finish();
            assert!(
                (0..4).all(|_| !is_loud(&line.playout.tick(false).as_law(Law::Mu))),
                "{pauses}"
            );
        }
    }

    #[test]
    fn what_follows_a_clear_waits_no_longer_because_of_a_gap_before() {
        let mut line = Line::new();
        line.push_ms(60);
        assert_eq!((0..5).map(|_| line.tick()).sum::<usize>(), 480);
        line.push_ms(20);
        assert_eq!(line.tick(), 0, "after a gap more is waited for");
        line.agent.clear();
        line.tick();
        line.push_ms(60);
        assert_eq!(line.tick(), 160);
    }

    #[test]
    fn marks_and_audio_after_a_clear_belong_to_a_new_utterance() {
        let mut line = Line::new();
        line.push_ms(200);
        assert_eq!(line.tick(), 160);
        line.agent.clear();
        assert!(line.agent.push_mark(7));
        line.push_ms(60);
        assert!(line.agent.push_mark(8));
        line.tick();
        let after = line.events();
        assert_eq!(
            after,
            [
                LinkEvent::Cleared { played_ms: 20, samples: 160 },
                LinkEvent::Mark { id: 7, played_ms: 0 }
            ]
        );
        line.tick();
        line.tick();
        assert_eq!(line.events(), [LinkEvent::Mark { id: 8, played_ms: 60 }]);
    }

    #[test]
    fn a_gap_inside_an_utterance_is_counted_and_measured() {
        let mut line = Line::new();
        line.push_ms(60);
        for _ in 0..3 {
            assert_eq!(line.tick(), 160);
        }
        assert_eq!([line.tick(), line.tick()], [0, 0]);
        line.push_ms(40);
        assert_eq!(line.tick(), 160);
        assert_eq!(line.events(), [LinkEvent::Underrun { ms: 40 }]);
        assert_eq!(line.playout.underruns(), 1);
    }

    #[test]
    fn the_utterance_after_an_underrun_has_a_longer_preroll() {
        let mut line = Line::new();
        line.push_ms(60);
        for _ in 0..4 {
            line.tick();
        }
        line.push_ms(40);
        line.agent.finish();
        for _ in 0..3 {
            line.tick();
        }
        line.push_ms(100);
        assert_eq!(line.tick(), 0);
        line.push_ms(20);
        assert_eq!(line.tick(), 160);
    }

    #[test]
    fn a_pause_between_answers_is_no_underrun() {
        let mut line = Line::new();
        for _ in 0..3 {
            line.push_ms(100);
            for _ in 0..40 {
                line.tick();
            }
            // What comes next is said to what the caller said.
            line.playout.caller_is_heard();
        }
        assert_eq!(line.playout.underruns(), 0);
        assert_eq!(line.playout.played_samples(), 2_400);
        assert_eq!(line.events(), []);
    }

    #[test]
    fn utterances_queued_behind_each_other_follow_without_a_gap() {
        let mut line = Line::new();
        for id in 0..3 {
            line.push_ms(30);
            assert!(line.agent.push_mark(id));
            line.agent.finish();
        }
        assert_eq!((0..5).map(|_| line.tick()).collect::<Vec<_>>(), [160, 160, 160, 160, 80]);
        let marks: Vec<LinkEvent> =
            line.events().into_iter().filter(|event| *event != LinkEvent::Drained).collect();
        let expected: Vec<LinkEvent> =
            (0..3).map(|id| LinkEvent::Mark { id, played_ms: 30 }).collect();
        assert_eq!(marks, expected);
    }

    #[test]
    fn an_agent_that_does_not_read_its_marks_gets_each_one_once() {
        let mut line = Line::new();
        for id in 0..AGENT_MARKS_MAX as u64 {
            assert_eq!(line.agent.push_audio(&[LOUD; 8]), 8);
            assert!(line.agent.push_mark(id));
        }
        assert!(!line.agent.push_mark(0), "more marks than the limit");
        for _ in 0..100 {
            line.tick();
        }
        let mut got = Vec::new();
        for _ in 0..200 {
            got.extend(line.events());
            line.tick();
        }
        let ids: Vec<u64> = got
            .iter()
            .filter_map(|event| match event {
                LinkEvent::Mark { id, .. } => Some(*id),
                _ => None,
            })
            .collect();
        assert_eq!(ids, (0..AGENT_MARKS_MAX as u64).collect::<Vec<_>>());
    }

    #[test]
    fn what_follows_a_clear_waits_until_the_agent_was_told_of_that() {
        let mut line = Line::new();
        for id in 0..AGENT_MARKS_MAX as u64 {
            assert_eq!(line.agent.push_audio(&[LOUD; 8]), 8);
            assert!(line.agent.push_mark(id));
        }
        // It reads nothing, so there is no room for an answer.
        for _ in 0..100 {
            line.tick();
        }
        line.agent.clear();
        line.push_ms(200);
        assert_eq!((0..10).map(|_| line.tick()).sum::<usize>(), 0);
        let mut told = line.events();
        assert!(!told.iter().any(|event| matches!(event, LinkEvent::Cleared { .. })), "{told:?}");
        let played: usize = (0..40).map(|_| line.tick()).sum();
        told = line.events();
        assert!(told.iter().any(|event| matches!(event, LinkEvent::Cleared { .. })), "{told:?}");
        assert_eq!(played, 1_600, "and nothing of it is lost");
    }

    #[test]
    fn the_last_words_of_an_agent_that_is_gone_are_played() {
        let (end, mut agent) = link();
        let mut playout = Playout::new(end, 1);
        agent.push_audio(&[LOUD; 800]);
        drop(agent);
        let loud = (0..10).filter(|_| is_loud(&playout.tick(false).as_law(Law::Mu))).count();
        assert!((5..=6).contains(&loud), "{loud}");
    }

    #[test]
    fn nobody_talking_is_noise_not_silence() {
        let mut line = Line::new();
        let frame = line.playout.tick(false).as_law(Law::Mu);
        assert!(!is_loud(&frame));
        assert!(frame.iter().any(|byte| *byte != 0xff));
    }
}
