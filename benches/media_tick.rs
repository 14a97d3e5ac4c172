//! What 20 ms of one G.711 call cost.
//!
//! `core` is the session alone, without sockets: a packet parsed, judged, buffered, played to the
//! agent; a frame of the agent played, encoded and written. `engine` is the whole media thread over
//! real sockets: its processor time for each tick of a session that receives and sends a packet.
//! `bare_udp` is what the system takes of that: the same datagrams over as many sockets, nothing else.

#![expect(clippy::unwrap_used, reason = "a bench may panic")]
#![expect(clippy::print_stdout, reason = "a bench reports")]
#![expect(clippy::disallowed_methods, reason = "a load generator paces itself")]

use criterion::Criterion;
use criterion::criterion_group;
use criterion::criterion_main;
use std::hint::black_box;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use tandem::audio::frame::SILENCE;
use tandem::audio::frame::WIDE_SAMPLES;
use tandem::audio::g711;
use tandem::audio::g722;
use tandem::audio::link::AgentEnd;
use tandem::audio::link::link;
use tandem::audio::mix::Mix;
use tandem::audio::mixer::Form;
use tandem::audio::mixer::Gain;
use tandem::audio::mixer::GainMatrix;
use tandem::audio::mixer::Mixer;
use tandem::audio::packed::PackedVoice;
use tandem::audio::sound::Sound;
use tandem::engine::media_events::MediaEvents;
use tandem::engine::media_thread::MediaConfig;
use tandem::engine::media_thread::MediaEngine;
use tandem::engine::media_thread::MediaSetup;
use tandem::engine::media_thread::RtpPorts;
use tandem::media::output::Port;
use tandem::media::output::TickOutput;
use tandem::media::session::MediaSession;
use tandem::media::session::Received;
use tandem::rtp::packet::RtpPacket;
use tandem::rtp::srtp::SrtpReceiver;
use tandem::rtp::srtp::SrtpSender;
use tandem::sdp::Direction;
use tandem::sdp::MediaCrypto;
use tandem::sdp::MediaPlan;
use tandem::types::codec::Codec;
use tandem::types::codec::Law;
use tandem::types::codec::OpusTerms;
use tandem::types::codec::PayloadType;
use tandem::types::codec::Ptime;
use tandem::types::limit::RTP_PACKED_BYTES_MAX;
use tandem::types::moment::Moment;
use tandem::types::srtp::SRTP_KEY_BYTES_MAX;
use tandem::types::srtp::SrtpKey;
use tandem::types::srtp::SrtpSuite;

/// Calls of the engine's bench.
const CALLS: usize = 200;

const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 92, 1, 1));
const PEERS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 92, 2, 1));

fn plan(codec: Codec, remote: SocketAddr) -> MediaPlan {
    MediaPlan {
        codec,
        send_payload_type: codec.payload_type(),
        receive_payload_type: codec.payload_type(),
        receive_also: None,
        dtmf_send: PayloadType::new(101),
        dtmf_receive: PayloadType::new(101),
        dtmf_clock: 8_000,
        opus: OpusTerms::default(),
        annex_b: false,
        ptime: Ptime::MS_20,
        remote: Some(remote),
        remote_rtcp: None,
        rtcp_mux: false,
        metrics_asked: false,
        direction: Direction::SendReceive,
        crypto: None,
    }
}

fn audio(codec: Codec, number: u32, out: &mut [u8; 172]) {
    let length = speech(codec, &[0x33; 160], number, out);
    assert_eq!(length, out.len());
}

fn speech(codec: Codec, payload: &[u8], number: u32, out: &mut [u8]) -> usize {
    let packet = RtpPacket {
        marker: false,
        payload_type: codec.payload_type(),
        sequence: number as u16,
        timestamp: number.wrapping_mul(160 * codec.clock_factor()),
        ssrc: 9,
        payload,
    };
    packet.write(out).unwrap()
}

/// What a peer says of a codec that is decoded packet by packet: a packet of 20 ms.
fn packed(codec: Codec) -> Vec<u8> {
    let mut voice = PackedVoice::new(codec);
    let samples: Vec<i16> = (0..320).map(|n: i16| (n % 114 - 57) * 100).collect();
    let samples = if codec.is_wide() { &samples[..] } else { &samples[..160] };
    let mut payload = [0; RTP_PACKED_BYTES_MAX];
    voice.say(samples);
    let length = voice.packet(codec, samples.len(), &mut payload).unwrap();
    payload[..length].to_vec()
}

fn setup(codec: Codec, remote: SocketAddr) -> MediaSetup {
    MediaSetup { playout_held: false, ..MediaSetup::new(Some(plan(codec, remote)), 7) }
}

/// Reads what the caller said and answers with as much, as an echo agent does.
fn converse(agent: &mut AgentEnd) {
    while agent.next().is_some() {}
    agent.push_audio(&[0x44; 160]);
}

fn core(criterion: &mut Criterion) {
    for codec in Codec::ALL {
        let remote = SocketAddr::new(PEERS, 4_000);
        let (end, mut agent) = link();
        let mut now = Moment::from_millis(1);
        let mut session = MediaSession::new(now, setup(codec, remote), end);
        let mut out = TickOutput::new();
        let mut number = 0;
        let mut bytes = [0; 12 + RTP_PACKED_BYTES_MAX];
        let payload = if codec.is_packed() { packed(codec) } else { vec![0x33; 160] };
        criterion.bench_function(&format!("media_tick/core/{codec}"), |b| {
            b.iter(|| {
                number += 1;
                now += Duration::from_millis(20);
                let length = speech(codec, &payload, number, &mut bytes);
                let bytes = &bytes[..length];
                let datagram = Received { port: Port::Rtp, source: remote, bytes };
                session.receive(now, black_box(&datagram), &mut out);
                session.tick(now, &mut out);
                black_box(out.transmits().count());
                out.clear();
                converse(&mut agent);
            });
        });
    }
}

fn key(suite: SrtpSuite, byte: u8) -> SrtpKey {
    SrtpKey::generate(suite, &[byte; SRTP_KEY_BYTES_MAX])
}

/// SRTP alone: one packet of 20 ms protected and one believed; and the tick of a session with it.
fn srtp(criterion: &mut Criterion) {
    for suite in SrtpSuite::ALL {
        let mut sender = SrtpSender::new(&key(suite, 1)).unwrap();
        let mut receiver = SrtpReceiver::new(&key(suite, 1)).unwrap();
        let (mut number, mut bytes) = (0, [0; 172]);
        criterion.bench_function(&format!("media_tick/srtp_pair/{suite}"), |b| {
            b.iter(|| {
                number += 1;
                audio(Codec::Pcmu, number, &mut bytes);
                let protected = sender.rtp(black_box(&bytes)).unwrap();
                receiver.rtp(Moment::START, &protected).unwrap().len()
            });
        });
        let remote = SocketAddr::new(PEERS, 4_000);
        let keys = MediaCrypto { send: key(suite, 1), receive: key(suite, 2) };
        let mut secure = setup(Codec::Pcmu, remote);
        secure.plan = Some(MediaPlan { crypto: Some(Arc::new(keys)), ..plan(Codec::Pcmu, remote) });
        let (end, mut agent) = link();
        let mut now = Moment::from_millis(1);
        let mut session = MediaSession::new(now, secure, end);
        let mut peer = SrtpSender::new(&key(suite, 2)).unwrap();
        let mut out = TickOutput::new();
        // Besides the session, the peer's packet is protected: about half of the pair above.
        criterion.bench_function(&format!("media_tick/core_and_peer/{suite}"), |b| {
            b.iter(|| {
                number += 1;
                now += Duration::from_millis(20);
                audio(Codec::Pcmu, number, &mut bytes);
                let protected = peer.rtp(&bytes).unwrap();
                let datagram = Received { port: Port::Rtp, source: remote, bytes: &protected };
                session.receive(now, black_box(&datagram), &mut out);
                session.tick(now, &mut out);
                black_box(out.transmits().count());
                out.clear();
                converse(&mut agent);
            });
        });
    }
}

fn audio_steps(criterion: &mut Criterion) {
    let encoded: [u8; 160] = std::array::from_fn(|n| n as u8);
    let mut linear = [0; 160];
    let mut frame = SILENCE;
    for (codec, law) in [(Codec::Pcmu, Law::Mu), (Codec::Pcma, Law::A)] {
        criterion.bench_function(&format!("media_tick/decode/{codec}"), |b| {
            b.iter(|| g711::decode(law, black_box(&encoded), &mut linear));
        });
        criterion.bench_function(&format!("media_tick/encode/{codec}"), |b| {
            b.iter(|| g711::encode(law, black_box(&linear), &mut frame));
        });
    }
    let mut wide = [0; WIDE_SAMPLES];
    let (mut decoder, mut encoder) = (g722::Decoder::default(), g722::Encoder::default());
    criterion.bench_function("media_tick/decode/G722", |b| {
        b.iter(|| decoder.decode(black_box(&encoded), &mut wide));
    });
    criterion.bench_function("media_tick/encode/G722", |b| {
        b.iter(|| encoder.encode(black_box(&wide), &mut frame));
    });
    criterion.bench_function("media_tick/mix_of_three", |b| {
        b.iter(|| {
            let mut mix = Mix::default();
            for _ in 0..3 {
                mix.add(black_box(&linear));
            }
            mix.finish()
        });
    });
    conference(criterion);
}

/// A tick of a mixer in which three voices are heard by four: the two of a call and a guest that speaks hear the sum
/// of the others, another that only listens hears all.
fn conference(criterion: &mut Criterion) {
    let mut gains = GainMatrix::default();
    for (listener, speaker) in (0..4).flat_map(|listener| (0..3).map(move |one| (listener, one))) {
        gains.set(listener, speaker, Gain::FULL);
    }
    let voice = |level: u8| Some(Sound::Law(Law::Mu, std::array::from_fn(|n| level | n as u8 & 7)));
    criterion.bench_function("media_tick/mixer_three_of_four", |b| {
        let mut mixer = Mixer::default();
        mixer.set(gains);
        b.iter(|| {
            for (party, level) in [0x20, 0xa8, 0x40].into_iter().enumerate() {
                mixer.say(party, black_box(voice(level)));
            }
            for listener in 0..4 {
                black_box(mixer.hear(listener, Form::Law(Law::Mu)));
            }
            mixer.pass();
        });
    });
}

/// A call of the engine's bench: its session, its agent, its peer.
struct Call {
    _events: MediaEvents,
    agent: AgentEnd,
    peer: UdpSocket,
    to: SocketAddr,
}

fn open(engine: &MediaEngine) -> Call {
    let ports: RtpPorts = engine.reserve(ADDRESS, None).unwrap();
    let peer = UdpSocket::bind((PEERS, 0)).unwrap();
    peer.set_nonblocking(true).unwrap();
    let to = SocketAddr::new(ADDRESS, ports.rtp_port);
    let (end, agent) = link();
    let (_, events) =
        engine.open(ports, setup(Codec::Pcmu, peer.local_addr().unwrap()), end).unwrap();
    Call { _events: events, agent, peer, to }
}

/// Peers and agents of all calls: one packet each way every 20 ms, spread over the period.
fn drive(mut calls: Vec<Call>, stop: &AtomicBool) {
    let start = Instant::now();
    let mut bytes = [0; 172];
    for number in 0_u32.. {
        let groups = 20;
        for group in 0..groups {
            let due = start + Duration::from_millis(20) * number + Duration::from_millis(group);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            audio(Codec::Pcmu, number, &mut bytes);
            for call in calls.iter_mut().skip(group as usize).step_by(groups as usize) {
                call.peer.send_to(&bytes, call.to).unwrap();
                while call.peer.recv(&mut [0; 1_500]).is_ok() {}
                converse(&mut call.agent);
            }
        }
        if stop.load(Ordering::Relaxed) {
            return;
        }
    }
}

/// The time of the system calls alone: read one, find no other, send one, on each of many sockets.
fn bare_udp(criterion: &mut Criterion) {
    let bind = |address: IpAddr| {
        let socket = UdpSocket::bind((address, 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        (socket.local_addr().unwrap(), socket)
    };
    let ours: Vec<_> = (0..CALLS).map(|_| bind(ADDRESS)).collect();
    let peers: Vec<_> = (0..CALLS).map(|_| bind(PEERS)).collect();
    let mut bytes = [0x55; 1_500];
    criterion.bench_function("media_tick/bare_udp", |b| {
        b.iter_custom(|iterations| {
            let (mut done, mut spent) = (0, Duration::ZERO);
            while done < iterations {
                for ((_, peer), (to, _)) in peers.iter().zip(&ours) {
                    while peer.recv(&mut bytes).is_ok() {}
                    peer.send_to(&[0x55; 172], to).unwrap();
                }
                let start = Instant::now();
                for ((_, socket), (to, _)) in ours.iter().zip(&peers) {
                    while socket.recv_from(&mut bytes).is_ok() {}
                    socket.send_to(&bytes[..172], to).unwrap();
                }
                spent += start.elapsed();
                done += CALLS as u64;
            }
            spent.mul_f64(iterations as f64 / done as f64)
        });
    });
}

fn engine(criterion: &mut Criterion) {
    let config = MediaConfig { threads: 1, realtime: true, ports: 20_000..=29_999 };
    let engine = MediaEngine::start(config).unwrap();
    let calls = (0..CALLS).map(|_| open(&engine)).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let driver = std::thread::spawn(move || drive(calls, &stopped));
    let mut group = criterion.benchmark_group("media_tick");
    group.sample_size(10).measurement_time(Duration::from_secs(10));
    group.bench_function("engine_processor_time", |b| {
        b.iter_custom(|iterations| {
            let before = engine.load();
            // At least a second, so that every phase has its share.
            let wanted = before.ticks + iterations.max(50 * CALLS as u64);
            let mut after = engine.load();
            while after.ticks < wanted {
                std::thread::sleep(Duration::from_millis(20));
                after = engine.load();
            }
            let ticks = (after.ticks - before.ticks) as f64;
            (after.work - before.work).mul_f64(iterations as f64 / ticks)
        });
    });
    group.finish();
    let load = engine.load();
    println!("late phases {}, ticks left out {}", load.late_phases, load.skipped_ticks);
    stop.store(true, Ordering::Relaxed);
    driver.join().unwrap();
}

criterion_group!(benches, core, srtp, audio_steps, bare_udp, engine);
criterion_main!(benches);
