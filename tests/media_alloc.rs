//! The media tick neither allocates nor frees, nor does an agent's stream for a frame, nor the link between them: proved by
//! an allocator that counts.
#![expect(unsafe_code, reason = "an allocator cannot be counted otherwise")]
#![expect(clippy::unwrap_used, reason = "a failed check may panic")]

use std::alloc::GlobalAlloc;
use std::alloc::Layout;
use std::alloc::System;
use std::cell::Cell;
use std::f32::consts::TAU;
use std::net::SocketAddr;
use std::task::Waker;
use std::time::Duration;
use tandem::agent::dialect::AUDIO_ROOM_BYTES;
use tandem::agent::session::AgentCall;
use tandem::agent::session::Input;
use tandem::agent::session::Output;
use tandem::agent::stream::AgentStream;
use tandem::agent::twilio::dialect::Twilio;
use tandem::audio::bridge::BridgeEnd;
use tandem::audio::g711;
use tandem::audio::link::AgentEnd;
use tandem::audio::link::FRAME_BYTES;
use tandem::audio::link::link;
use tandem::audio::link::link_of;
use tandem::audio::link::wide_link;
use tandem::audio::packed::PackedVoice;
use tandem::audio::tape::TapeOut;
use tandem::audio::tape::TapeRate;
use tandem::audio::tape::tape;
use tandem::media::event::MediaEvent;
use tandem::media::listener::Listener;
use tandem::media::output::Port;
use tandem::media::output::TickOutput;
use tandem::media::session::Bridged;
use tandem::media::session::GuestGains;
use tandem::media::session::MediaSession;
use tandem::media::session::Received;
use tandem::media::setup::MediaRules;
use tandem::media::setup::MediaSetup;
use tandem::net::metered::Metered;
use tandem::net::websocket::Kind;
use tandem::net::websocket::write_past;
use tandem::rtp::packet::RtpPacket;
use tandem::sdp::Direction;
use tandem::sdp::MediaPlan;
use tandem::types::agent::Access;
use tandem::types::agent::TwilioAgent;
use tandem::types::barge_in::BargeIn;
use tandem::types::barge_in::BargeInMode;
use tandem::types::codec::Codec;
use tandem::types::codec::Law;
use tandem::types::codec::OpusTerms;
use tandem::types::codec::PayloadType;
use tandem::types::codec::Ptime;
use tandem::types::header::CallVariables;
use tandem::types::id::CallId;
use tandem::types::id::TenantId;
use tandem::types::limit::RTP_PACKED_BYTES_MAX;
use tandem::types::moment::Moment;
use tandem::types::secret::Secret;
use tokio_tungstenite::tungstenite::protocol::Role;
use uuid::Uuid;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged; counting touches one cell of the thread,
// which needs no allocation because it is initialised by a constant and has no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.with(|calls| calls.set(calls.get() + 1));
        // SAFETY: the caller keeps the contract of `alloc`, which is passed on as it is.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        CALLS.with(|calls| calls.set(calls.get() + 1));
        // SAFETY: the caller keeps the contract of `dealloc`, which is passed on as it is.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations and frees of this thread while `work` runs.
fn counted(work: impl FnOnce()) -> u64 {
    let before = CALLS.with(Cell::get);
    work();
    CALLS.with(Cell::get) - before
}

fn peer() -> SocketAddr {
    "192.0.2.1:4000".parse().unwrap()
}

fn plan(codec: Codec, ptime_ms: u8) -> MediaPlan {
    MediaPlan {
        codec,
        send_payload_type: codec.payload_type(),
        receive_payload_type: codec.payload_type(),
        receive_also: None,
        dtmf_send: PayloadType::new(101),
        dtmf_receive: PayloadType::new(101),
        dtmf_clock: codec.clock_rate(),
        opus: OpusTerms::default(),
        annex_b: false,
        ptime: codec.fitting(Ptime::from_ms(ptime_ms).unwrap()),
        remote: Some(peer()),
        remote_rtcp: Some("192.0.2.1:4001".parse().unwrap()),
        rtcp_mux: false,
        metrics_asked: false,
        direction: Direction::SendReceive,
        crypto: None,
    }
}

/// A call with all that can happen in it; returns how often its media thread allocated or freed.
fn run_call(codec: Codec, ptime_ms: u8) -> u64 {
    // Of agents of the peer's law and of the other.
    let law = if ptime_ms == 20 { Law::Mu } else { Law::A };
    let (end, mut agent) = if codec.is_wide() { wide_link() } else { link_of(law) };
    let plan = plan(codec, ptime_ms);
    let held = MediaPlan { direction: Direction::Inactive, ..plan.clone() };
    let mut now = Moment::from_millis(1);
    let setup = MediaSetup {
        rules: MediaRules { inactivity: Some(Duration::from_secs(1)), ..MediaRules::default() },
        ..MediaSetup::new(Some(plan.clone()), 7)
    };
    let mut session = MediaSession::new(now, setup, end);
    let mut out = TickOutput::new();
    let (into, mut recorder) = tape(TapeRate::Narrow);
    assert!(session.record(Box::new(into)).is_none());
    let barge_in = BargeIn { mode: BargeInMode::Flush, ..BargeIn::OFF };
    assert!(session.listen_with(Some(Box::new(Listener::new(barge_in)))).is_none());
    let (mut total, mut taped, mut talked) = (0, 0, 0);
    for tick in 0..6_000_u32 {
        now += Duration::from_millis(20);
        if codec.is_wide() && tick % 3 == 0 {
            agent.push_wide(&[0x33; 640]);
        }
        feed(&mut agent, tick);
        taped += read(&mut recorder, tick);
        let datagrams = datagrams(codec, tick);
        total += counted(|| {
            match tick % 1_000 {
                100 => session.pause_recording(true),
                150 => session.pause_recording(false),
                300 => session.update(now, &held, &mut out),
                400 => session.update(now, &plan, &mut out),
                500 => assert!(session.send_digit('4')),
                600 => session.skip(7),
                _ => (),
            }
            for (port, bytes) in &datagrams {
                let datagram = Received { port: *port, source: peer(), bytes };
                session.receive(now, &datagram, &mut out);
            }
            session.tick(now, &mut out);
            let is_talk = |event: &&MediaEvent| matches!(event, MediaEvent::Talk(_));
            talked += out.events().iter().filter(is_talk).count();
            out.clear();
        });
    }
    assert!(talked > 10, "{talked} interruptions and turns");
    let statistics = session.statistics();
    assert!(statistics.packets_in > 4_000 && statistics.packets_out > 1_000, "{statistics:?}");
    assert!(statistics.played_ms > 10_000 && statistics.digits > 0, "{statistics:?}");
    assert!(taped > 5_000, "{taped}");
    total
}

/// What a recorder does: it reads, but for a time in which the tape fills.
fn read(recorder: &mut TapeOut, tick: u32) -> usize {
    if (4_000..4_500).contains(&tick) {
        return 0;
    }
    std::iter::from_fn(|| recorder.next_item()).count()
}

/// What the agent does: audio and marks, a clear, a burst, an end, and reading now and then.
fn feed(agent: &mut AgentEnd, tick: u32) {
    match tick % 200 {
        0..100 => {
            agent.push_audio(&[0x33; 160]);
            agent.push_mark(u64::from(tick));
        }
        120 => {
            agent.push_audio(&[0x44; 12_345]);
            agent.finish();
        }
        150 => agent.clear(),
        _ => (),
    }
    if !tick.is_multiple_of(7) {
        while agent.next().is_some() {}
    }
}

/// A voice for three seconds of every eight, and nothing between.
fn caller(codec: Codec, tick: u32) -> Vec<u8> {
    if codec.is_passed() {
        // Now and then a frame of noise, and a pause behind it.
        return vec![tick as u8; if tick % 40 == 39 { 2 } else { 20 }];
    }
    let mut frame = [0_i16; 160];
    if tick % 400 < 150 {
        for (n, sample) in frame.iter_mut().enumerate() {
            let time = (tick as usize * 160 + n) as f32 / 8_000.0;
            let harmonics = (1..=12).map(|k| (TAU * 140.0 * k as f32 * time).sin() / k as f32);
            *sample = (harmonics.sum::<f32>() * 6_000.0) as i16;
        }
    }
    if codec.is_packed() {
        let mut voice = PackedVoice::new(codec);
        let twice: Vec<i16> = frame.iter().flat_map(|sample| [*sample; 2]).collect();
        let samples = if codec.is_wide() { &twice[..] } else { &frame };
        let mut payload = [0; RTP_PACKED_BYTES_MAX];
        voice.say(samples);
        let length = voice.packet(codec, samples.len(), &mut payload).unwrap();
        return payload[..length].to_vec();
    }
    let mut payload = vec![0; 160];
    g711::encode(codec.law().unwrap_or(Law::Mu), &frame, &mut payload);
    payload
}

/// What arrives: audio with losses and disorder, keys, reports, garbage.
fn datagrams(codec: Codec, tick: u32) -> Vec<(Port, Vec<u8>)> {
    let payload_type = codec.payload_type();
    let payload = caller(codec, tick);
    let audio = |number: u32| {
        let packet = RtpPacket {
            marker: false,
            payload_type,
            sequence: number as u16,
            timestamp: number.wrapping_mul(160 * codec.clock_factor()),
            ssrc: 9,
            payload: &payload,
        };
        let mut bytes = vec![0; 12 + payload.len()];
        packet.write(&mut bytes).unwrap();
        bytes
    };
    let mut all = match tick % 50 {
        17 => Vec::new(),
        23 => vec![(Port::Rtp, audio(tick + 1))],
        24 => vec![(Port::Rtp, audio(tick - 1))],
        _ => vec![(Port::Rtp, audio(tick))],
    };
    if tick % 100 < 3 {
        let mut event = audio(tick);
        event.truncate(16);
        event[1] = 101;
        event[12..].copy_from_slice(&[5, 0x8a, 3, 32]);
        all.push((Port::Rtp, event));
        all.push((Port::Rtcp, vec![0x80, 201, 0, 1, 0, 0, 0, 9]));
        all.push((Port::Rtp, vec![tick as u8; 40]));
    }
    all
}

#[test]
fn thousands_of_ticks_with_traffic_allocate_nothing() {
    for codec in Codec::ALL.into_iter().filter(|codec| !codec.is_passed()) {
        for ptime_ms in [20, 30] {
            assert_eq!(run_call(codec, ptime_ms), 0, "{codec} at {ptime_ms} ms");
        }
    }
}

/// Two bridged legs of different codecs, with losses, keys, holds, and bridges that come and go.
fn run_bridge(codecs: [Codec; 2]) -> u64 {
    let plans = codecs.map(|codec| plan(codec, 20));
    let held = plans.clone().map(|plan| MediaPlan { direction: Direction::Inactive, ..plan });
    let mut now = Moment::from_millis(1);
    let mut agents = Vec::new();
    let mut sessions = plans.clone().map(|plan| {
        let (end, agent) = link();
        agents.push(agent);
        MediaSession::new(now, MediaSetup::new(Some(plan), 7), end)
    });
    let mut out = TickOutput::new();
    let (mut total, mut left) = (0, Vec::with_capacity(4));
    for tick in 0..4_000_u32 {
        now += Duration::from_millis(20);
        agents.iter_mut().for_each(|agent| feed(agent, tick));
        let pair = tick.is_multiple_of(500).then(BridgeEnd::pair);
        let mut ends = pair.map(|(one, two)| [one, two].map(|end| Some(Bridged::new(end))));
        for (at, session) in sessions.iter_mut().enumerate() {
            let datagrams = datagrams(plans[at].codec, tick);
            let end = ends.as_mut().and_then(|ends| ends[at].take());
            total += counted(|| {
                if let Some(end) = end {
                    left.extend(session.bridge(end));
                }
                match tick % 500 {
                    200 => session.update(now, &held[at], &mut out),
                    250 => session.update(now, &plans[at], &mut out),
                    450 => left.extend(session.unbridge()),
                    _ => (),
                }
                for (port, bytes) in &datagrams {
                    let datagram = Received { port: *port, source: peer(), bytes };
                    session.receive(now, &datagram, &mut out);
                }
                session.tick(now, &mut out);
                out.clear();
            });
        }
        left.clear();
    }
    let [one, two] = sessions.map(|session| session.statistics());
    // What passes is sent only while the two are bridged.
    let least = if codecs[0].is_passed() { 2_500 } else { 3_000 };
    assert!(one.packets_out > least && two.packets_out > least, "{one:?} {two:?}");
    assert!(one.digits > 0 && two.digits > 0);
    total
}

#[test]
fn a_bridge_allocates_nothing() {
    for codecs in
        [[Codec::Pcma, Codec::Pcmu], [Codec::Opus, Codec::Pcmu], [Codec::G729, Codec::G729]]
    {
        assert_eq!(run_bridge(codecs), 0, "{codecs:?}");
    }
}

/// A call of an agent with guests that come, speak, whisper and go, one of them by a codec of 16 kHz.
fn run_company() -> u64 {
    let plans = [Codec::Pcmu, Codec::Pcma, Codec::G722].map(|codec| plan(codec, 20));
    let mut now = Moment::from_millis(1);
    let mut agents = Vec::new();
    let mut sessions = plans.clone().map(|plan| {
        let (end, agent) = link();
        agents.push(agent);
        MediaSession::new(now, MediaSetup::new(Some(plan), 7), end)
    });
    assert!(sessions[0].host(Box::default()).is_none());
    let mut out = TickOutput::new();
    let (mut total, mut left) = (0, Vec::with_capacity(8));
    let mut left_bridges = Vec::with_capacity(8);
    for tick in 0..3_000_u32 {
        now += Duration::from_millis(20);
        agents.iter_mut().for_each(|agent| feed(agent, tick));
        let mut ends = [1, 2].map(|_| {
            tick.is_multiple_of(500)
                .then(BridgeEnd::pair)
                .map(|(one, two)| (Box::new(one), Bridged::new(two)))
        });
        let datagrams = plans.clone().map(|plan| datagrams(plan.codec, tick));
        total += counted(|| {
            for (place, ends) in ends.iter_mut().enumerate() {
                let Some((own, theirs)) = ends.take() else { continue };
                left.extend(sessions[0].admit(place, GuestGains::LISTENS, own));
                left_bridges.extend(sessions[place + 1].bridge(theirs));
            }
            match tick % 500 {
                100 => sessions[0].regard(0, GuestGains::SPEAKS),
                200 => sessions[0].regard(1, GuestGains::WHISPERS),
                400 => left.extend(sessions[0].dismiss(0)),
                450 => left.extend(sessions[0].dismiss(1)),
                _ => (),
            }
            for (session, datagrams) in sessions.iter_mut().zip(&datagrams) {
                for (port, bytes) in datagrams {
                    let datagram = Received { port: *port, source: peer(), bytes };
                    session.receive(now, &datagram, &mut out);
                }
                session.tick(now, &mut out);
                out.clear();
            }
        });
        left.clear();
        left_bridges.clear();
    }
    for session in &sessions {
        assert!(session.statistics().packets_out > 2_500, "{:?}", session.statistics());
    }
    total
}

#[test]
fn a_company_of_guests_allocates_nothing() {
    assert_eq!(run_company(), 0);
}

/// A stream of Media Streams whose agent is there.
fn stream(out: &mut Vec<Output>) -> AgentStream {
    let connect_timeout = Duration::from_secs(5);
    let agent = TwilioAgent {
        url: "ws://bot.example/".to_owned(),
        auth_token: Secret::default(),
        parameters: Vec::new(),
        access: Access::default(),
        connect_timeout,
    };
    let call = AgentCall {
        call_id: CallId::from_uuid(Uuid::from_u128(1)),
        tenant: TenantId::from_uuid(Uuid::from_u128(2)),
        caller: "+15550111".to_owned(),
        dialled: "+15550100".parse().unwrap(),
        variables: CallVariables::default(),
        trace: None,
        before: None,
    };
    let mut stream = AgentStream::new((Box::new(Twilio::new(&agent, &call)), connect_timeout));
    for input in [Input::Started, Input::Connected, Input::CallAnswered] {
        stream.handle(Moment::START, input, out);
    }
    assert!(out.contains(&Output::Ready), "{out:?}");
    out.clear();
    stream
}

#[test]
fn a_frame_of_either_side_of_an_agents_stream_allocates_nothing() {
    let mut out = Vec::new();
    let mut stream = stream(&mut out);
    let payload = "f39/".repeat(54);
    let media = format!(r#"{{"event":"media","media":{{"payload":"{payload}"}}}}"#);
    let mut now = Moment::from_millis(1);
    let (mut frames, mut marks, mut told) = (0, 0, 0);
    let mut network = Metered::new(tokio::io::sink());
    for tick in 0..3_000_u64 {
        now += Duration::from_millis(20);
        let of_frames = counted(|| {
            stream.handle(now, Input::Audio(&[0x2a; 160]), &mut out);
            stream.handle(now, Input::Text(media.as_bytes()), &mut out);
            let [Output::Send(sent), Output::Play(played)] = &out[..] else { panic!("{out:?}") };
            assert!(sent.len() > 216 && played.len() == 162);
            out.clear();
            // As most are told.
            let tell = |text: &mut Vec<u8>| stream.write_frame(&[0x2a; 160], text);
            let taken = write_past(&mut network, (Kind::Text, Role::Client), tell);
            assert_eq!(taken, Some(true));
        });
        // Its name is kept until it is played.
        let mark = br#"{"event":"mark","mark":{"name":"word"}}"#;
        stream.handle(now, Input::Text(mark), &mut out);
        out.clear();
        let of_mark = counted(|| {
            stream.handle(now, Input::MarkPlayed(tick + 1), &mut out);
            told += out.len();
            out.clear();
        });
        // The first have to find their room.
        if tick >= 100 {
            (frames, marks) = (frames + of_frames, marks + of_mark);
        }
    }
    assert_eq!(told, 3_000, "each mark is told");
    assert_eq!(frames, 0);
    assert_eq!(marks, 2_900, "the name of a mark is freed, and nothing else");
}

#[test]
fn a_frame_allocates_nothing_on_its_way_between_caller_and_agent_whichever_way_it_goes() {
    let (end, mut agent) = link();
    let setup =
        MediaSetup { playout_held: false, ..MediaSetup::new(Some(plan(Codec::Pcmu, 20)), 7) };
    let mut now = Moment::from_millis(1);
    let mut session = MediaSession::new(now, setup, end);
    assert!(session.listen_with(Some(Box::new(Listener::new(BargeIn::OFF)))).is_none());
    let (mut out, mut said) = (TickOutput::new(), Vec::new());
    let mut stream = stream(&mut said);
    let payload = "f39/".repeat(53) + "fw==";
    let media = format!(r#"{{"event":"media","media":{{"payload":"{payload}"}}}}"#);
    let mut network = Metered::new(tokio::io::sink());
    let (mut told, mut total) = (0, 0);
    for tick in 0..3_000_u32 {
        now += Duration::from_millis(20);
        let datagrams = datagrams(Codec::Pcmu, tick);
        let calls = counted(|| {
            for (port, bytes) in &datagrams {
                let datagram = Received { port: *port, source: peer(), bytes };
                session.receive(now, &datagram, &mut out);
            }
            session.tick(now, &mut out);
            session.take_agents_waker().into_iter().for_each(Waker::wake);
            out.clear();
            // What the agent's task does, as often as it is woken.
            agent.register(Waker::noop());
            loop {
                let hear = |frame: &[u8; FRAME_BYTES]| {
                    let tell = |text: &mut Vec<u8>| stream.write_frame(frame, text);
                    let taken = write_past(&mut network, (Kind::Text, Role::Client), tell);
                    assert_eq!(taken, Some(true));
                    told += 1;
                };
                if agent.next_or_hear(hear).is_none() {
                    break;
                }
            }
            let mut room = [0; AUDIO_ROOM_BYTES];
            let audio = stream.read_audio(media.as_bytes(), &mut room).unwrap();
            assert_eq!((audio.len(), agent.push_audio(audio)), (FRAME_BYTES, FRAME_BYTES));
        });
        // The first have to find their room.
        if tick >= 100 {
            total += calls;
        }
    }
    let statistics = session.statistics();
    assert!(told > 2_900, "{told} frames are told");
    assert!(statistics.played_ms > 59_000 && statistics.underruns == 0, "{statistics:?}");
    assert_eq!(total, 0);
}

#[test]
fn the_allocator_counts() {
    assert_eq!(counted(|| drop(std::hint::black_box(vec![0_u8; 10]))), 2);
}
