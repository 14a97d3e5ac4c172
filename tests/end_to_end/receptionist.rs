//! The receptionist of the demo in a whole conversation, with a caller who really speaks: the words are made by
//! `flite`, what is heard is held against the prompts that come with the program.

use crate::node::Home;
use crate::postgres;
use crate::rows;
use crate::talk;
use crate::talk::Talk;
use serde_json::json;
use std::ops::Range;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use tandem::agent::builtin::prompts::prompt;
use tandem::audio::g711;
use tandem::caller::EndedBy;
use tandem::caller::Speech;
use tandem::engine::wav;

const NUMBER: &str = "+15550123";
const PER_MS: usize = 8;
/// Levels are taken of so many samples: 5 ms.
const STEP: usize = 5 * PER_MS;
/// How like a prompt what was heard must be, 1 being the same.
const LIKE_MIN: f32 = 0.9;
/// So much of the end of a prompt, which is silent, need not be heard.
const END: usize = 250 * PER_MS;
/// In a pause the levels are below this for so many steps, 200 ms.
const QUIET: f32 = 60.0;
const PAUSE: usize = 40;
/// So many steps, 200 ms, a part of a prompt may be earlier or later behind its first.
const SHIFT_MAX: usize = 40;
/// From the end of a prompt, or of what it waits for before it begins, to the caller's next words.
const THINK_MS: usize = 2_500;

/// A sentence, spoken.
fn spoken(folder: &Path, text: &str) -> Vec<i16> {
    let path = folder.join("sentence.wav");
    let program =
        Command::new("flite").args(["-voice", "slt", "-t", text, "-o"]).arg(&path).status();
    assert!(program.expect("flite is installed: scripts/setup test").success(), "{text}");
    wav::read(&path).unwrap()
}

fn length_ms(name: &str) -> usize {
    prompt(name).unwrap().len() / PER_MS
}

/// What the caller says: each sentence a while after the prompt before it was heard.
fn write_caller(folder: &Path, turns: &[(&str, &str)]) -> PathBuf {
    let path = folder.join("caller.wav");
    let (channels, bits_per_sample, sample_format) = (1, 16, hound::SampleFormat::Int);
    let spec = hound::WavSpec { channels, sample_rate: 8_000, bits_per_sample, sample_format };
    let mut wav = hound::WavWriter::create(&path, spec).unwrap();
    for (heard, text) in turns {
        for n in 0..(length_ms(heard) + THINK_MS) * PER_MS {
            wav.write_sample((n % 3) as i16 - 1).unwrap();
        }
        spoken(folder, text).into_iter().for_each(|sample| wav.write_sample(sample).unwrap());
    }
    wav.finalize().unwrap();
    path
}

/// The level of each 5 ms.
fn levels(samples: &[i16]) -> Vec<f32> {
    let power = |step: &[i16]| step.iter().map(|it| f32::from(*it).powi(2)).sum::<f32>();
    samples.chunks_exact(STEP).map(|step| (power(step) / STEP as f32).sqrt()).collect()
}

/// How alike two runs of levels are, whatever their means.
fn likeness(one: &[f32], other: &[f32]) -> f32 {
    let mean = |all: &[f32]| all.iter().sum::<f32>() / all.len() as f32;
    let (mean_one, mean_other) = (mean(one), mean(other));
    let (mut both, mut of_one, mut of_other) = (0.0, 0.0, 0.0);
    for (a, b) in one.iter().zip(other) {
        let (a, b) = (a - mean_one, b - mean_other);
        both += a * b;
        of_one += a * a;
        of_other += b * b;
    }
    both / (of_one * of_other).sqrt().max(1.0)
}

/// Where the parts of a prompt begin, which are what is between its pauses.
fn parts(said: &[f32]) -> Vec<usize> {
    let (mut parts, mut quiet) = (vec![0], 0);
    for (at, level) in said.iter().enumerate() {
        if *level < QUIET {
            quiet += 1;
            continue;
        }
        if quiet >= PAUSE && quiet < at {
            parts.push(at - quiet / 2);
        }
        quiet = 0;
    }
    parts
}

/// The place, of those of a part, that is most like it.
fn most_like(heard: &[f32], part: &[f32], places: Range<usize>) -> (usize, f32) {
    let like = |place: usize| Some((place, likeness(heard.get(place..place + part.len())?, part)));
    places.filter_map(like).max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or((0, -1.0))
}

/// Where a prompt is in what was heard, in ms, and how like it is the part that is least so.
fn find(heard: &[f32], name: &str) -> (usize, f32) {
    let said: Vec<i16> =
        prompt(name).unwrap().iter().map(|byte| g711::ulaw_decode(*byte)).collect();
    let mut said = levels(&said);
    // The last moment of a call may be on its way to the ear when the call ends.
    said.truncate(said.len() - END / STEP);
    let begins = parts(&said);
    let ends = begins.iter().copied().skip(1).chain([said.len()]);
    let mut parts = begins.iter().zip(ends).map(|(from, to)| (*from, &said[*from..to]));
    let (_, first) = parts.next().unwrap();
    let (place, mut least) = most_like(heard, first, 0..heard.len());
    for (from, part) in parts {
        // Who hears it may wait longer or shorter from a pause on: it has a jitter buffer.
        let about = (place + from).saturating_sub(SHIFT_MAX)..place + from + SHIFT_MAX;
        least = least.min(most_like(heard, part, about).1);
    }
    (place * STEP / PER_MS, least)
}

#[tokio::test]
async fn a_caller_who_speaks_is_greeted_answered_and_bidden_goodbye() {
    let node = Home::new().start().await;
    node.put(&[
        rows::tenant(1, 0),
        rows::trunk(2, "127.0.0.1/32"),
        rows::profile(3, 1, json!({"kind": "receptionist"})),
        rows::number(4, 1, 3, NUMBER),
    ])
    .await;
    let folder = node.home.folder();
    let mut plan = talk::plan(node.sip(), NUMBER);
    let turns = [
        ("greeting", "Good morning. What are your opening hours on Saturday?"),
        ("more", "I would like to make an appointment for next Tuesday."),
        ("noted", "No, that is all. Thank you very much."),
    ];
    plan.speech = Speech::Wav(write_caller(folder, &turns));
    let record = folder.join("heard.wav");
    plan.record = Some(record.clone());
    let summary = Talk::dial(plan).over().await;
    assert_eq!(summary.problem, None);
    assert_eq!(summary.ended_by, Some(EndedBy::FarEnd), "it hangs up once it said goodbye");

    let heard = levels(&wav::read(&record).unwrap());
    let mut after = 0;
    for name in ["greeting", "more", "noted", "goodbye"] {
        let (at_ms, like) = find(&heard, name);
        assert!(like > LIKE_MIN, "{name}: {like} at {at_ms} ms");
        // A frame may have been heard early or late.
        assert!(at_ms + 100 >= after, "{name} at {at_ms} ms, not after {after}");
        after = at_ms + length_ms(name);
    }
    let (at_ms, like) = find(&heard, "there");
    assert!(like < LIKE_MIN, "it understood that the caller spoke: {like} at {at_ms} ms");
    let record = node.record(&summary.call_id).await;
    assert_eq!((record.cause.as_str(), record.ended_by.as_str()), ("normal", "agent"));
    let noted = "SELECT count(*) FROM call_events WHERE name = 'script_noted'";
    assert_eq!(postgres::count(&node.database(), noted).await, 0, "nothing was left out");
}
