//! Persons and machines that answer, spoken by flite: the verdicts on them, and the time a beep takes to be found.

#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a failed check may panic")]

use std::path::Path;
use std::process::Command;
use tandem::audio::frame::FRAME_SAMPLES;
use tandem::audio::frame::Pcm;
use tandem::audio::g711;
use tandem::audio::tone::Tone;
use tandem::audio::voice_models::VoiceModels;
use tandem::media::answering_machine::AnsweringMachineDetector;
use tandem::types::answering_machine::Answerer;
use tandem::types::answering_machine::AnswererEvent;
use tandem::types::codec::Law;
use tandem::types::random::Random;

const VOICES: [&str; 4] = ["kal", "awb", "rms", "slt"];

const PERSONS: [&str; 12] = [
    "Hello?",
    "Hi.",
    "Yes?",
    "Hello, this is Bob.",
    "Bob speaking.",
    "Hi there, who is this?",
    "Good morning.",
    "Acme Dental, good morning.",
    "Good morning, Acme Dental, how can I help you?",
    "Hello, hello?",
    "Smith residence.",
    "Who is calling please?",
];

const MACHINES: [&str; 8] = [
    "Hi, you have reached the voicemail of Bob Smith. I can't come to the phone right now. Please leave a message after the tone.",
    "Hello, this is Anna. I am not here. Leave a message after the beep, and I will call you back.",
    "The person you are calling is not available. At the tone, please record your message. When you are finished, you may hang up.",
    "Your call has been forwarded to an automatic voice message system. The number you dialled is not available.",
    "Hi, it's Sam. Leave a message.",
    "Hey, you've reached Carol. I'm away from my phone at the moment. Please leave your name and number.",
    "Thank you for calling Acme Dental. Our office is now closed. Our hours are nine to five. Please leave a message.",
    "The subscriber you have dialled is currently switched off. Please try again later.",
];

const BEEPS_HZ: [u16; 6] = [600, 850, 1_000, 1_200, 1_400, 2_000];

/// A text in this voice at 8 kHz, without the silence around it.
fn speak(text: &str, voice: &str, file: &Path) -> Vec<i16> {
    let file = file.join("speech.wav");
    let spoken =
        Command::new("flite").args(["-voice", voice, "-t", text, "-o"]).arg(&file).status();
    assert!(spoken.expect("flite is installed").success());
    let mut wav = hound::WavReader::open(&file).expect("a WAV file");
    let rate = wav.spec().sample_rate;
    let samples: Vec<i16> = wav.samples().map(|sample| sample.expect("a sample")).collect();
    let step = usize::try_from(rate / 8_000).expect("8 or 16 kHz");
    assert_eq!(step as u32 * 8_000, rate);
    let mean = |group: &[i16]| {
        let sum: i32 = group.iter().map(|sample| i32::from(*sample)).sum();
        (sum / group.len() as i32) as i16
    };
    let samples: Vec<i16> = samples.chunks(step).map(mean).collect();
    let is_loud = |sample: &i16| sample.unsigned_abs() > 200;
    let first = samples.iter().position(is_loud).expect("it speaks");
    let last = samples.iter().rposition(is_loud).expect("it speaks");
    samples[first..=last].to_vec()
}

/// What is heard of somebody who answers.
struct Heard {
    samples: Vec<i16>,
    /// A beep began there.
    beep: Option<(u16, usize)>,
}

impl Heard {
    fn quiet(&mut self, ms: u64) {
        self.samples.resize(self.samples.len() + ms as usize * 8, 0);
    }

    /// Through noise and G.711 into the detector.
    fn judge(mut self, random: &mut Random) -> (Option<Answerer>, Option<(u32, u16)>) {
        let noise = [0, 10, 40, 120][random.below(4) as usize];
        for sample in &mut self.samples {
            *sample =
                sample.saturating_add((random.below(2 * noise + 1) as i64 - noise as i64) as i16);
        }
        let (mut verdict, mut beep) = (None, None);
        let mut detector = AnsweringMachineDetector::new();
        let mut models = VoiceModels::with_room_for(1);
        for frame in self.samples.chunks_exact(FRAME_SAMPLES) {
            let mut frame: Pcm = frame.try_into().expect("a frame");
            let mut coded = [0; FRAME_SAMPLES];
            g711::encode(Law::Mu, &frame, &mut coded);
            g711::decode(Law::Mu, &coded, &mut frame);
            detector.push(&frame, &mut models, |event| match event {
                AnswererEvent::Seems { answerer, .. } => verdict = Some(answerer),
                AnswererEvent::Beep { at_ms, hz } => beep = Some((at_ms, hz)),
                AnswererEvent::GreetingOver { .. } => (),
            });
        }
        (verdict, beep)
    }
}

fn answer(text: &str, voice: &str, random: &mut Random, folder: &Path) -> Heard {
    let mut heard = Heard { samples: Vec::new(), beep: None };
    heard.quiet(100 + random.below(1_200));
    let spoken = speak(text, voice, folder);
    let peak = spoken.iter().map(|sample| sample.unsigned_abs()).max().unwrap_or(1);
    let gain = (4_000 + random.below(18_000)) as f32 / f32::from(peak);
    heard.samples.extend(spoken.iter().map(|sample| (f32::from(*sample) * gain) as i16));
    heard
}

#[test]
fn nine_of_ten_who_answer_are_told_apart_and_every_beep_is_found_within_100_ms() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let mut random = Random::from_seed(11);
    let (mut count, mut wrong, mut beeps) = (0, Vec::new(), 0);
    for voice in VOICES {
        for text in PERSONS {
            let mut heard = answer(text, voice, &mut random, folder);
            heard.quiet(3_500);
            let (verdict, beep) = heard.judge(&mut random);
            count += 1;
            if verdict != Some(Answerer::Human) {
                wrong.push((voice, text));
            }
            assert_eq!(beep, None, "{voice}: {text}");
        }
        for text in MACHINES {
            let mut heard = answer(text, voice, &mut random, folder);
            heard.quiet(100 + random.below(1_300));
            if random.below(4) > 0 {
                let hz = BEEPS_HZ[random.below(BEEPS_HZ.len() as u64) as usize];
                heard.beep = Some((hz, heard.samples.len() / 8));
                let amplitude = 2_500 + random.below(9_000) as i16;
                let mut beep = vec![0; 8 * (150 + random.below(600) as usize)];
                Tone::new(hz, amplitude).fill(&mut beep);
                heard.samples.extend(beep);
            }
            heard.quiet(4_000);
            let sent = heard.beep;
            let (verdict, beep) = heard.judge(&mut random);
            count += 1;
            if verdict != Some(Answerer::Machine) {
                wrong.push((voice, text));
            }
            beeps += usize::from(sent.is_some());
            match (sent, beep) {
                (None, None) => (),
                (Some((hz, began_ms)), Some((at_ms, found_hz))) => {
                    assert!(found_hz.abs_diff(hz) <= 25, "{found_hz} for {hz}");
                    let after_ms = i64::from(at_ms) - began_ms as i64;
                    assert!((0..=100).contains(&after_ms), "{after_ms} ms, {voice}: {text}");
                }
                (sent, found) => panic!("{found:?} for {sent:?}, {voice}: {text}"),
            }
        }
    }
    assert!(beeps >= 15, "{beeps}");
    assert!(wrong.len() * 10 <= count, "{} of {count}: {wrong:?}", wrong.len());
}
