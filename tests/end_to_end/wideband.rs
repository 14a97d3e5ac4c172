//! Calls at 16 kHz, with baresip and the test caller.

use crate::node::Home;
use crate::node::Node;
use crate::node::PATIENCE;
use crate::node::wait_for;
use crate::phone::Phone;
use crate::rows;
use crate::srtp::decoded;
use crate::talk;
use crate::talk::Talk;
use serde_json::Value;
use serde_json::json;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tandem::audio::g711;
use tandem::audio::g722;
use tandem::audio::opus;
use tandem::audio::packed::PackedVoice;
use tandem::audio::tone::share_at;
use tandem::caller::Speech;
use tandem::rtp::packet::RtpPacket;
use tandem::types::codec::Codec;
use tandem::types::limit::RTP_PACKED_BYTES_MAX;
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

/// What a telephone offers of one codec.
fn offer(phone: &Phone, codec: Codec) -> String {
    let media = phone.media.local_addr().unwrap();
    let (kind, name, rate) = (codec.payload_type(), codec.encoding_name(), codec.clock_rate());
    format!(
        "v=0\r\no=- 1 {3} IN IP4 {0}\r\ns=-\r\nc=IN IP4 {0}\r\nt=0 0\r\nm=audio {1} RTP/AVP {kind}\r\n\
         a=rtpmap:{kind} {name}/{rate}/{2}\r\n",
        media.ip(),
        media.port(),
        codec.channels(),
        phone.cseq + 1,
    )
}

/// A packet that came: its header, and what its payload means at 16 kHz.
#[derive(Clone, Copy)]
struct Came {
    codec: Codec,
    marker: bool,
    sequence: u16,
    timestamp: u32,
    ssrc: u32,
    samples: [i16; 320],
}

/// Decodes each packet, as codecs with a memory need it.
struct Listening {
    codec: Codec,
    g722: g722::Decoder,
    opus: opus::Decoder,
}

impl Listening {
    fn of(codec: Codec) -> Self {
        Self { codec, g722: g722::Decoder::default(), opus: opus::Decoder::new().unwrap() }
    }

    fn hear(&mut self, bytes: &[u8]) -> Came {
        let packet = RtpPacket::parse(bytes).unwrap();
        let RtpPacket { marker, sequence, timestamp, ssrc, payload, payload_type } = packet;
        let of_type = |codec: &Codec| codec.payload_type() == payload_type;
        let codec = Codec::ALL.into_iter().find(of_type).expect("a codec of the offer");
        let mut samples = [0; 320];
        match codec {
            // Of the codec before, sent before the answer to the re-INVITE.
            _ if codec != self.codec => (),
            Codec::G722 => self.g722.decode(payload, &mut samples),
            Codec::Opus => assert!(self.opus.decode(payload, &mut samples), "a packet of 20 ms"),
            _ => {
                for (pair, byte) in samples.as_chunks_mut::<2>().0.iter_mut().zip(payload) {
                    *pair = [g711::ulaw_decode(*byte); 2];
                }
            }
        }
        Came { codec, marker, sequence, timestamp, ssrc, samples }
    }
}

/// Says one packet for each that comes, until so many of its codec have come; all that came.
async fn converse(phone: &Phone, to: SocketAddr, (codec, ssrc): (Codec, u32)) -> Vec<Came> {
    let (mut listening, mut voice) = (Listening::of(codec), PackedVoice::new(codec));
    let (mut came, mut bytes, mut said) = (Vec::new(), [0; 1_500], [0; RTP_PACKED_BYTES_MAX]);
    for number in 0..1_000_u32 {
        let heard = timeout(PATIENCE, phone.media.recv(&mut bytes)).await.expect("media").unwrap();
        came.push(listening.hear(&bytes[..heard]));
        if came.iter().filter(|came: &&Came| came.codec == codec).count() == 60 {
            return came;
        }
        voice.say(&[1_000; 320]);
        let length = voice.packet(codec, 320, &mut said).filter(|length| *length > 0);
        let packet = RtpPacket {
            marker: false,
            payload_type: codec.payload_type(),
            sequence: number as u16,
            timestamp: number * 160 * codec.clock_factor(),
            ssrc,
            payload: length.map_or(&[0x33; 160][..], |length| &said[..length]),
        };
        let length = packet.write(&mut bytes).unwrap();
        phone.media.send_to(&bytes[..length], to).await.unwrap();
    }
    panic!("nothing of {codec} came");
}

/// What follows on a packet is the next one; a clock of another rate has a stream of its own (RFC 7160).
fn assert_follows(before: &Came, next: &Came) {
    if before.codec.clock_rate() != next.codec.clock_rate() {
        assert_ne!(before.ssrc, next.ssrc, "{} to {}", before.codec, next.codec);
        assert!(next.marker);
        return;
    }
    assert_eq!(before.ssrc, next.ssrc, "{} to {}", before.codec, next.codec);
    assert_eq!(next.sequence.wrapping_sub(before.sequence), 1);
    let units = 160 * next.codec.clock_factor();
    let passed = next.timestamp.wrapping_sub(before.timestamp);
    // A switch whose machine stood still says so: it leaves ticks out.
    assert_eq!((passed % units, passed > units), (0, next.marker), "{passed}");
}

#[tokio::test]
async fn a_reinvite_changes_the_codec_while_each_packet_follows_on_the_last() {
    let accept = json!(["PCMU", "G722", "OPUS"]);
    let node = node(accept, json!({"kind": "tone", "hz": 600})).await;
    let mut phone =
        Phone::new("127.0.0.1".parse().unwrap(), node.listener("public", "udp"), NUMBER).await;
    let mut all: Vec<Came> = Vec::new();
    for (turn, codec) in
        [Codec::Pcmu, Codec::G722, Codec::Opus, Codec::Pcmu].into_iter().enumerate()
    {
        let offer = offer(&phone, codec);
        let answer = phone.ask("INVITE", "", &offer).await;
        assert_eq!(answer.status(), 200, "{answer:?}");
        if turn == 0 {
            phone.confirm(&answer);
        }
        phone.acknowledge().await;
        let to = SocketAddr::new("127.0.0.1".parse().unwrap(), answer.audio_port());
        let came = converse(&phone, to, (codec, turn as u32 + 7)).await;
        let of_codec = came.iter().filter(|came| came.codec == codec);
        let samples: Vec<i16> = of_codec.skip(20).flat_map(|came| came.samples).collect();
        let share = share_at(&samples, 300);
        assert!(share > 0.9, "{codec} says the tone: {share}");
        all.extend(came);
    }
    phone.hang_up().await;
    for pair in all.windows(2) {
        assert_follows(&pair[0], &pair[1]);
    }
    recorded(&node, "PCMU").await;
}
