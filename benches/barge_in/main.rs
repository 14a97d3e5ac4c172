//! What barge-in is worth: the time from the onset of a caller's speech to silence on the wire, and how often an
//! agent is stopped by what is no speech. Media sessions in virtual time, so the figures are the same on any machine.

#![expect(clippy::print_stdout, reason = "a bench reports")]

mod corpus;
mod proof;
mod trial;

use crate::corpus::Noise;
use crate::proof::false_stops;
use crate::proof::interruptions;
use crate::proof::percentile;
use tandem::types::barge_in::BargeInMode;

/// Callers who speak over an agent.
const TRIALS: usize = 500;
/// Trials of each noise, of 5 s.
const NOISE_TRIALS: usize = 50;
const BAR_MS: f32 = 10.0;

fn main() {
    println!(
        "from the onset of speech to silence on the wire, {TRIALS} callers, barge_in = \"flush\""
    );
    for depth_ms in [20, 40] {
        times(depth_ms);
    }
    println!("\nagents stopped by what is no speech, {NOISE_TRIALS} trials of 5 s each");
    println!("{:>8} {:>16}  noise", "flush", "pause: and waits");
    let (mut all, mut all_paused) = (0, 0);
    for noise in Noise::ALL {
        let (stopped, _) = false_stops(noise, BargeInMode::Flush, NOISE_TRIALS);
        let (paused, waited) = false_stops(noise, BargeInMode::Pause, NOISE_TRIALS);
        println!("{stopped:>8} {paused:>8} {waited:>7}  {}", noise.as_str());
        all += stopped;
        all_paused += paused;
    }
    let share = |count: usize| count as f32 * 100.0 / (NOISE_TRIALS * Noise::ALL.len()) as f32;
    println!("{:>7.1}% {:>7.1}%          all", share(all), share(all_paused));
    let (stopped, _) = false_stops(Noise::Cough, BargeInMode::Flush, NOISE_TRIALS);
    let (paused, waited) = false_stops(Noise::Cough, BargeInMode::Pause, NOISE_TRIALS);
    println!("apart, for it may be speech as well:");
    println!("{stopped:>8} {paused:>8} {waited:>7}  {}", Noise::Cough.as_str());
}

/// Prints the distribution at a depth of the jitter buffer.
fn times(depth_ms: u16) {
    let all = interruptions(TRIALS, depth_ms);
    let missed = all.iter().filter(|ms| ms.is_infinite()).count();
    let of = |share| percentile(&all, share);
    println!(
        "\njitter buffer of {depth_ms} ms: p50 {:.0}, p90 {:.0}, p95 {:.0}, p99 {:.0}, at most {:.0} ms, {missed} missed",
        of(0.5),
        of(0.9),
        of(0.95),
        of(0.99),
        of(1.0)
    );
    let bar = |ms: &f32| (ms / BAR_MS) as usize;
    let last = all.iter().filter(|ms| ms.is_finite()).map(bar).max().unwrap_or(0);
    for place in all.first().map_or(0, bar)..=last {
        let count = all.iter().filter(|ms| ms.is_finite() && bar(ms) == place).count();
        let from = place as f32 * BAR_MS;
        println!("{from:>5.0} ms {count:>4} {}", "#".repeat(count.div_ceil(3)));
    }
}
