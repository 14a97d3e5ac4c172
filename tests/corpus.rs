//! The fuzz corpora as ordinary tests, with a few thousand mutations of each under a fixed seed.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed check may panic")]

use std::fs;
use std::path::Path;
use tandem::types::random::Random;

/// Mutated inputs for one target.
const MUTATIONS: usize = 2_000;
/// What mutations put in: the bytes that mean something to our grammars.
const SPICE: &[&[u8]] = &[
    b"\r\n",
    b"<",
    b">",
    b"\"",
    b";",
    b",",
    b"\0",
    b"[::",
    b"%",
    b":",
    b"\xff",
    b"=",
    b"{",
    b"4294967296",
];

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut paths: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Runs `exercise`, which panics when a promise is broken, over the corpus and its mutations.
fn check(target: &str, exercise: impl Fn(&[u8])) {
    let seeds = corpus(target);
    assert!(seeds.len() >= 5, "{target} has too few seeds");
    seeds.iter().for_each(|seed| exercise(seed));
    let mut random = Random::from_seed(20_261_121);
    for round in 0..MUTATIONS {
        let mut data = seeds[round % seeds.len()].clone();
        for _ in 0..=random.below(8) {
            mutate(&mut data, &mut random);
        }
        exercise(&data);
    }
}

fn mutate(data: &mut Vec<u8>, random: &mut Random) {
    let at = usize::try_from(random.below(data.len() as u64 + 1)).unwrap();
    match random.below(4) {
        0 | 1 if at < data.len() => data[at] = random.next_u64().to_le_bytes()[0],
        2 => {
            let end = data.len().min(at + 1 + usize::try_from(random.below(20)).unwrap());
            data.drain(at..end);
        }
        _ => {
            let spice = SPICE[usize::try_from(random.below(SPICE.len() as u64)).unwrap()];
            data.splice(at..at, spice.iter().copied());
        }
    }
}

#[test]
fn sip_messages_never_panic() {
    check("sip_message", tandem::sip::message::exercise::exercise);
}

#[test]
fn sip_streams_give_the_same_frames_however_they_are_cut() {
    check("sip_framing", tandem::sip::framing::exercise);
}

#[test]
fn session_descriptions_never_panic() {
    check("sdp", tandem::sdp::exercise);
}

#[test]
fn rtp_and_rtcp_never_panic() {
    check("rtp", tandem::rtp::exercise);
}

#[test]
fn audio_of_codecs_with_a_memory_never_panics() {
    check("g722", tandem::audio::g722::exercise);
    check("packed", tandem::audio::packed::exercise);
}

#[test]
fn agent_messages_never_panic() {
    check("agent_json", tandem::agent::twilio::exercise);
}

#[test]
fn messages_of_chan_websocket_never_panic() {
    check("agent_chan_websocket", tandem::agent::exercise::chan_websocket);
}

#[test]
fn bytes_of_audio_socket_never_panic_and_mean_the_same_however_they_are_cut() {
    check("agent_audio_socket", tandem::agent::exercise::audio_socket);
}

#[test]
fn events_of_realtime_servers_never_panic() {
    check("agent_realtime", tandem::agent::exercise::realtime);
}

#[test]
fn documents_that_lead_calls_never_panic_and_have_an_end() {
    check("twiml", tandem::agent::twiml::exercise);
}

#[test]
fn challenges_and_credentials_never_panic() {
    check("digest", tandem::sip::digest::exercise::exercise);
}

#[test]
fn uris_never_panic() {
    check("uri", tandem::sip::message::exercise::exercise_uri);
}

#[test]
fn bodies_of_several_parts_never_panic() {
    check("multipart", tandem::sip::message::exercise::exercise_multipart);
}

#[test]
fn answers_of_dns_never_panic_and_their_questions_have_an_end() {
    check("dns", tandem::sip::locate::exercise::exercise);
}
