//! A voice made of arithmetic, for tests.

use crate::audio::frame::FRAME_SAMPLES;
use crate::audio::frame::Pcm;

/// A voice: pulses at a gliding pitch through three resonances of a vowel.
pub(crate) struct Voice {
    phase: f32,
    time: f32,
    resonances: [(f32, f32, f32, f32); 3],
}

impl Voice {
    pub(crate) fn new() -> Self {
        let resonance = |hz: f32, bandwidth: f32| {
            let radius = (-std::f32::consts::PI * bandwidth / 8_000.0).exp();
            let turn = std::f32::consts::TAU * hz / 8_000.0;
            (2.0 * radius * turn.cos(), -radius * radius, 0.0, 0.0)
        };
        let resonances =
            [resonance(700.0, 90.0), resonance(1_220.0, 110.0), resonance(2_600.0, 160.0)];
        Self { phase: 0.0, time: 0.0, resonances }
    }

    pub(crate) fn frame(&mut self) -> Pcm {
        let mut frame = [0; FRAME_SAMPLES];
        frame.fill_with(|| {
            self.time += 1.0 / 8_000.0;
            self.phase += (120.0 + 25.0 * (self.time * 9.0).sin()) / 8_000.0;
            let pulse = if self.phase >= 1.0 { 1.0 } else { 0.0 };
            self.phase -= pulse;
            let mut sample = pulse * 900.0;
            for (a, b, last, before) in &mut self.resonances {
                let next = sample + *a * *last + *b * *before;
                (*before, *last) = (*last, next);
                sample = next;
            }
            // Syllables: the mouth opens and closes four times a second.
            (sample * (0.6 + 0.4 * (self.time * 25.0).sin())).clamp(-20_000.0, 20_000.0) as i16
        });
        frame
    }
}
