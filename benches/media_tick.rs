//! What 20 ms of one G.711 call cost.
//!
//! `core` is the session alone, without sockets: a packet parsed, judged, buffered, played to the
//! agent; a frame of the agent played, encoded and written. `engine` is the whole media thread over
//! real sockets: its processor time for each tick of a session that receives and sends a packet.
//! `bare_udp` is what the system takes of that at best: the same datagrams over as many sockets, nothing else, without a pause.
//! `bare_udp_in_phases` is what it takes where it is asked as the engine asks it: a quarter of the sockets every 5 ms, while
//! another thread plays the peers. `many` is the engine with as many calls as one processor is to carry, and says what was lost.

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
use tandem::agent::builtin::prompts;
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
use tandem::engine::media_thread::MediaId;
use tandem::engine::media_thread::MediaSetup;
use tandem::engine::media_thread::MediaStatistics;
use tandem::engine::media_thread::PortChoice;
use tandem::engine::media_thread::RtpPorts;
use tandem::engine::os;
use tandem::media::listener::Listener;
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
use tandem::types::barge_in::BargeIn;
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
use tokio::task::JoinSet;

/// Calls of the engine's bench.
const CALLS: usize = 200;

/// Calls that one media thread is to carry on a processor of its own.
const MANY_CALLS: usize = 2_000;

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

/// All that the prompts say, pauses and consonants included.
fn voice() -> Vec<[u8; 160]> {
    let all = prompts::NAMES.iter().filter_map(|name| prompts::prompt(name));
    let frames = |said: &[u8]| -> Vec<[u8; 160]> { said.as_chunks().0.to_vec() };
    all.flat_map(|said| frames(&said)).collect()
}

/// The session alone where it listens for who interrupts its agent: while nobody speaks the gate spares the model, while
/// somebody does the model hears what is no vowel.
fn listening(criterion: &mut Criterion) {
    for (name, said) in [("model_idle", vec![[0xff; 160]]), ("model_listens", voice())] {
        let remote = SocketAddr::new(PEERS, 4_000);
        let (end, mut agent) = link();
        let mut now = Moment::from_millis(1);
        let mut session = MediaSession::new(now, setup(Codec::Pcmu, remote), end);
        assert!(session.listen_with(Some(Box::new(Listener::new(BargeIn::OFF)))).is_none());
        let mut out = TickOutput::new();
        let (mut number, mut bytes) = (0_u32, [0; 172]);
        criterion.bench_function(&format!("media_tick/{name}"), |b| {
            b.iter(|| {
                number += 1;
                now += Duration::from_millis(20);
                let payload = &said[number as usize % said.len()];
                let length = speech(Codec::Pcmu, payload, number, &mut bytes);
                let datagram =
                    Received { port: Port::Rtp, source: remote, bytes: &bytes[..length] };
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
    id: MediaId,
    _events: MediaEvents,
    agent: AgentEnd,
    peer: UdpSocket,
    to: SocketAddr,
}

fn open(engine: &MediaEngine) -> Call {
    let ports: RtpPorts = engine.reserve(ADDRESS, PortChoice::ANY).unwrap();
    let peer = UdpSocket::bind((PEERS, 0)).unwrap();
    peer.set_nonblocking(true).unwrap();
    let to = SocketAddr::new(ADDRESS, ports.rtp_port);
    let (end, agent) = link();
    let (id, events) =
        engine.open(ports, setup(Codec::Pcmu, peer.local_addr().unwrap()), end).unwrap();
    Call { id, _events: events, agent, peer, to }
}

/// Peers and agents of all calls: one packet each way every 20 ms, spread over the period. Every peer says `said` over and
/// over, each from another place on. Gives the calls back.
fn drive(mut calls: Vec<Call>, said: &[Vec<u8>], stop: &AtomicBool) -> Vec<Call> {
    let start = Instant::now();
    let mut bytes = [0; 172];
    for number in 0_u32.. {
        let groups = 20;
        for group in 0..groups {
            let due = start + Duration::from_millis(20) * number + Duration::from_millis(group);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let of_group = calls.iter_mut().enumerate().skip(group as usize);
            for (place, call) in of_group.step_by(groups as usize) {
                let payload = &said[(number as usize + 37 * place) % said.len()];
                let length = speech(Codec::Pcmu, payload, number, &mut bytes);
                call.peer.send_to(&bytes[..length], call.to).unwrap();
                while call.peer.recv(&mut [0; 1_500]).is_ok() {}
                converse(&mut call.agent);
            }
        }
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    calls
}

fn bind(address: IpAddr) -> (SocketAddr, UdpSocket) {
    let socket = UdpSocket::bind((address, 0)).unwrap();
    socket.set_nonblocking(true).unwrap();
    (socket.local_addr().unwrap(), socket)
}

/// The time of the system calls alone: read one, find no other, send one, on each of many sockets.
fn bare_udp(criterion: &mut Criterion) {
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

/// Sends a packet to each of `to` every 20 ms, spread over the period, and reads what comes back.
fn play_peers(peers: &[(SocketAddr, UdpSocket)], to: &[SocketAddr], stop: &AtomicBool) {
    let start = Instant::now();
    let mut bytes = [0x55; 1_500];
    for round in 0_u32.. {
        let groups = 20;
        for group in 0..groups {
            let due = start + Duration::from_millis(20) * round + Duration::from_millis(group);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let own = peers.iter().zip(to).skip(group as usize).step_by(groups as usize);
            for ((_, peer), to) in own {
                peer.send_to(&[0x55; 172], to).unwrap();
                while peer.recv(&mut bytes).is_ok() {}
            }
        }
        if stop.load(Ordering::Relaxed) {
            return;
        }
    }
}

/// The same system calls in the engine's time: a quarter of the sockets, 5 ms of sleep, the next quarter.
fn bare_udp_in_phases(criterion: &mut Criterion) {
    let ours: Vec<_> = (0..CALLS).map(|_| bind(ADDRESS)).collect();
    let peers: Vec<_> = (0..CALLS).map(|_| bind(PEERS)).collect();
    let of = |sockets: &[(SocketAddr, UdpSocket)]| -> Vec<SocketAddr> {
        sockets.iter().map(|(address, _)| *address).collect()
    };
    let (to_us, to_peers) = (of(&ours), of(&peers));
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let driver = std::thread::spawn(move || play_peers(&peers, &to_us, &stopped));
    let mut group = criterion.benchmark_group("media_tick");
    group.sample_size(10).measurement_time(Duration::from_secs(10));
    group.bench_function("bare_udp_in_phases", |b| {
        b.iter_custom(|iterations| {
            let wanted = iterations.max(50 * CALLS as u64);
            let (mut done, mut spent) = (0, Duration::ZERO);
            let mut bytes = [0x55; 1_500];
            let start = Instant::now();
            for phase in 0_u32.. {
                let due = start + Duration::from_millis(5) * phase;
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                let began = Instant::now();
                let own = ours.iter().zip(&to_peers).skip(phase as usize % 4).step_by(4);
                for ((_, socket), to) in own {
                    while socket.recv_from(&mut bytes).is_ok() {}
                    socket.send_to(&bytes[..172], to).unwrap();
                    done += 1;
                }
                spent += began.elapsed();
                if done >= wanted {
                    break;
                }
            }
            spent.mul_f64(iterations as f64 / done as f64)
        });
    });
    group.finish();
    stop.store(true, Ordering::Relaxed);
    driver.join().unwrap();
}

fn engine(criterion: &mut Criterion) {
    carry(criterion, "engine_processor_time", CALLS, None);
}

/// The same where each call listens for who interrupts its agent, and somebody speaks all the time, with the pauses of speech.
fn engine_that_listens(criterion: &mut Criterion) {
    let said = voice().iter().map(|frame| frame.to_vec()).collect();
    carry(criterion, "engine_listens_processor_time", CALLS, Some(said));
}

fn many(criterion: &mut Criterion) {
    // Three sockets a call are more than a shell allows.
    os::raise_descriptor_limit().unwrap();
    carry(criterion, "many_calls_processor_time", MANY_CALLS, None);
}

/// The processor time of the media thread for a tick of a call, of so many calls, and what they lost. Where something is
/// `said` it is listened to.
fn carry(criterion: &mut Criterion, name: &str, count: usize, said: Option<Vec<Vec<u8>>>) {
    let config = MediaConfig { threads: 1, realtime: true, ports: 20_000..=29_999 };
    let engine = MediaEngine::start(config).unwrap();
    let calls: Vec<Call> = (0..count).map(|_| open(&engine)).collect();
    for call in calls.iter().filter(|_| said.is_some()) {
        engine.listen(call.id, Some(Box::new(Listener::new(BargeIn::OFF))));
    }
    let said = said.unwrap_or_else(|| vec![vec![0x33; 160]]);
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let driver = std::thread::spawn(move || drive(calls, &said, &stopped));
    let mut group = criterion.benchmark_group("media_tick");
    group.sample_size(10).measurement_time(Duration::from_secs(10));
    group.bench_function(name, |b| {
        b.iter_custom(|iterations| {
            let before = engine.load();
            // At least a second, so that every phase has its share.
            let wanted = before.ticks + iterations.max(50 * count as u64);
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
    stop.store(true, Ordering::Relaxed);
    let calls = driver.join().unwrap();
    let (late_phases, left_out) = (load.late_phases, load.skipped_ticks);
    println!("{count} calls: late phases {late_phases}, ticks left out {left_out}");
    tell_losses(&engine, &calls);
}

/// Closes the calls, and says what of their packets did not come or came too late.
fn tell_losses(engine: &MediaEngine, calls: &[Call]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let all = runtime.block_on(async {
        let mut closing = JoinSet::new();
        for call in calls {
            let (engine, id) = (engine.clone(), call.id);
            closing.spawn(async move { engine.close(id).await });
        }
        closing.join_all().await
    });
    let sum = |of: fn(&MediaStatistics) -> u64| -> u64 { all.iter().map(of).sum() };
    let (came, lost) = (sum(|one| one.packets_in), sum(|one| one.lost_in));
    let late = sum(|one| one.late_in);
    println!("{} calls: {came} packets came, {lost} were lost, {late} came late", calls.len());
}

criterion_group!(
    benches,
    core,
    listening,
    srtp,
    audio_steps,
    bare_udp,
    bare_udp_in_phases,
    engine,
    engine_that_listens,
    many
);
criterion_main!(benches);
