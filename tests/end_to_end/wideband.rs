//! Calls at 16 kHz, with baresip and the test caller.

use crate::node::Home;
use crate::node::Node;
use crate::node::PATIENCE;
use crate::node::wait_for;
use crate::rows;
use crate::srtp::decoded;
use crate::talk;
use crate::talk::Talk;
use serde_json::Value;
use serde_json::json;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tandem::audio::tone::share_at;
use tandem::caller::Speech;
use tandem::types::codec::Codec;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::time::timeout;

const NUMBER: &str = "+15550160";
/// What baresip says, in Hz.
const SAID_HZ: u16 = 440;
/// The same above all that 8 kHz can carry.
const HIGH_HZ: u16 = 5_200;

/// A node whose trunk takes these codecs, and whose agent is this.
async fn node(accept: Value, agent: Value) -> Node {
    let node = Home::with("127.0.0.1:0", 100, "transports = [\"udp\"]\n").start().await;
    let inbound = json!({"source_cidrs": ["127.0.0.1"], "transports": ["udp"]});
    node.put(&[
        rows::tenant(1, 0),
        rows::profile(2, 1, agent),
        rows::number(3, 1, 2, NUMBER),
        rows::trunk_with(4, json!({"inbound": inbound, "codecs": {"accept": accept}})),
    ])
    .await;
    node
}

/// A codec of baresip: its module, what an account calls it, the rate and the channels it has there.
type Form = (&'static str, &'static str, u32, u16);

const G722: Form = ("g722", "G722/16000/1", 16_000, 1);
const OPUS: Form = ("opus", "opus/48000/2", 48_000, 2);
const L16_16K: Form = ("l16", "L16/16000/1", 16_000, 1);
const L16_8K: Form = ("l16", "L16/8000/1", 8_000, 1);

/// Ten seconds of a tone.
fn write_tone(path: &Path, hz: u16, (_, _, sample_rate, channels): Form) {
    let (bits_per_sample, sample_format) = (16, hound::SampleFormat::Int);
    let spec = hound::WavSpec { channels, sample_rate, bits_per_sample, sample_format };
    let mut wav = hound::WavWriter::create(path, spec).unwrap();
    let turn = std::f32::consts::TAU * f32::from(hz) / sample_rate as f32;
    for n in 0..10 * sample_rate {
        let sample = ((n as f32 * turn).sin() * 8_000.0) as i16;
        for _ in 0..channels {
            wav.write_sample(sample).unwrap();
        }
    }
    wav.finalize().unwrap();
}

/// Lets baresip say a tone for a few seconds with the codec of this module alone; returns what it heard, at 16 kHz.
async fn baresip(node: &Node, codec: Form, hz: u16) -> Vec<i16> {
    let folder = node.home.folder();
    let address = node.listener("public", "udp");
    write_tone(&folder.join("said.wav"), hz, codec);
    let (module, name, rate, channels) = codec;
    let modules = ["account", "menu", module, "aufile", "sndfile", "uuid"];
    let modules: String = modules.iter().map(|name| format!("module {name}.so\n")).collect();
    node.home.write(
        "baresip/config",
        &format!(
            "module_path /usr/lib/baresip/modules\n{modules}sip_listen 127.0.0.1:0\n\
             audio_source aufile,{}\nsnd_path {}\n",
            folder.join("said.wav").display(),
            folder.display(),
        ),
    );
    let account = format!("<sip:caller@127.0.0.1>;regint=0;audio_codecs={name}\n");
    node.home.write("baresip/accounts", &account);
    node.home.write("baresip/contacts", "");
    let mut command = Command::new("baresip");
    command.args(["-4", "-f"]).arg(folder.join("baresip"));
    command.args(["-t", "5", "-e", &format!("/dial sip:{NUMBER}@{address}")]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn().expect("baresip is installed");
    timeout(PATIENCE, child.wait()).await.expect("baresip ends").unwrap();
    let heard = decoded(folder).pop().expect("it was answered");
    let mut wav = hound::WavReader::open(heard).unwrap();
    assert_eq!((wav.spec().sample_rate, wav.spec().channels), (rate, channels));
    // Of 48 kHz with two channels, so many are one at 16 kHz.
    let step = (rate / 16_000).max(1) as usize * usize::from(channels);
    let samples = wav.samples().map(|sample| sample.unwrap()).step_by(step);
    let twice = if rate < 16_000 { 2 } else { 1 };
    samples.flat_map(|sample| std::iter::repeat_n(sample, twice)).collect()
}

/// A second and more of it was this tone. How much more a busy machine decides.
fn assert_heard(heard: &[i16], hz: u16) {
    let is_tone = |piece: &&[i16]| share_at(piece, hz / 2) > 0.8;
    let pieces = heard.chunks_exact(4_000).filter(is_tone).count();
    assert!(pieces >= 4, "{pieces} quarters of a second at {hz} Hz, of {} samples", heard.len());
}

/// Waits until the call's record says that it was of this codec.
async fn recorded(node: &Node, codec: &str) {
    let closed = "SELECT count(*) FROM calls WHERE ended_at IS NOT NULL";
    wait_for("the call is recorded", async || (node.count(closed).await == 1).then_some(())).await;
    let of_codec = format!("{closed} AND codec = '{codec}' AND packets_in > 20 AND mos_in > 3");
    assert_eq!(node.count(&of_codec).await, 1, "{codec}");
}

#[tokio::test]
async fn baresip_hears_what_it_said_in_g722() {
    // The agent says what it heard: that went both ways.
    let node = node(json!(["G722", "PCMU"]), json!({"kind": "echo"})).await;
    let heard = baresip(&node, G722, SAID_HZ).await;
    assert_heard(&heard, SAID_HZ);
    recorded(&node, "G722").await;
}

#[tokio::test]
async fn baresip_hears_what_it_said_in_opus_and_in_linear_audio() {
    for (codec, name) in [(OPUS, "OPUS"), (L16_16K, "L16_16K"), (L16_8K, "L16_8K")] {
        let node = node(json!([name, "PCMU"]), json!({"kind": "echo"})).await;
        let heard = baresip(&node, codec, SAID_HZ).await;
        assert_heard(&heard, SAID_HZ);
        recorded(&node, name).await;
    }
}

#[tokio::test]
async fn the_test_caller_speaks_what_the_trunk_takes() {
    for (accept, codecs, agreed) in [
        (json!(["PCMU", "G722"]), vec![Codec::G722, Codec::Pcmu], Codec::G722),
        (json!(["PCMU"]), vec![Codec::G722, Codec::Pcmu], Codec::Pcmu),
        (json!(["PCMU", "OPUS"]), vec![Codec::Opus, Codec::Pcmu], Codec::Opus),
        (json!(["L16_16K"]), vec![Codec::Opus, Codec::L16Wide], Codec::L16Wide),
        (json!(["L16_8K"]), vec![Codec::L16], Codec::L16),
    ] {
        let node = node(accept, json!({"kind": "tone", "hz": 600})).await;
        let mut plan = talk::plan(node.listener("public", "udp"), NUMBER);
        plan.codecs = codecs;
        plan.speech = Speech::Tone { hz: 440 };
        plan.duration = Duration::from_millis(1_500);
        let summary = Talk::dial(plan).over().await;
        assert_eq!((summary.problem, summary.media.codec), (None, Some(agreed)));
        assert!(summary.heard.is_tone(600), "{:?}", summary.heard);
        recorded(&node, agreed.name()).await;
    }
}

/// A bot at the other end of AudioSocket that says at once what it hears, at 16 kHz.
async fn echo(listener: TcpListener) {
    const AUDIO_16: u8 = 0x12;
    while let Ok((mut socket, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut header = [0; 3];
            while socket.read_exact(&mut header).await.is_ok() {
                let length = usize::from(u16::from_be_bytes([header[1], header[2]]));
                let mut packet = header.to_vec();
                packet.resize(3 + length, 0);
                if socket.read_exact(&mut packet[3..]).await.is_err() {
                    return;
                }
                if header[0] == AUDIO_16 && socket.write_all(&packet).await.is_err() {
                    return;
                }
            }
        });
    }
}

#[tokio::test]
async fn an_agent_at_16_khz_hears_and_says_what_no_telephone_carries() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(echo(listener));
    let agent = json!({"kind": "audiosocket", "address": address, "audio": "l16_16k"});
    for (codec, name) in [(G722, "G722"), (OPUS, "OPUS")] {
        let node = node(json!([name]), agent.clone()).await;
        let heard = baresip(&node, codec, HIGH_HZ).await;
        assert_heard(&heard, HIGH_HZ);
        recorded(&node, name).await;
    }
}
