//! Wireshark as the second opinion: what it reads out of captured media is what we counted and what we told.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a failed check may panic")]
#![expect(clippy::indexing_slicing, reason = "a failed check may panic")]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::net::SocketAddrV4;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use tandem::audio::link::AgentEnd;
use tandem::audio::link::link;
use tandem::media::output::Port;
use tandem::media::output::TickOutput;
use tandem::media::session::MediaSession;
use tandem::media::session::Received;
use tandem::media::setup::MediaRules;
use tandem::media::setup::MediaSetup;
use tandem::media::setup::VoipMetricsRule;
use tandem::rtp::jitter::Content;
use tandem::rtp::packet::RtpPacket;
use tandem::rtp::receiver::Receiver;
use tandem::sdp::Direction;
use tandem::sdp::MediaPlan;
use tandem::types::codec::Codec;
use tandem::types::codec::OpusTerms;
use tandem::types::codec::PayloadType;
use tandem::types::codec::Ptime;
use tandem::types::moment::Moment;
use tandem::types::random::Random;

const OURS: &str = "192.0.2.9:16384";
const PEER: &str = "198.51.100.7:24000";
const TICK: Duration = Duration::from_millis(20);
/// The peer's ticks are this much later than ours.
const APART: Duration = Duration::from_millis(7);

fn at(text: &str, port: Port) -> SocketAddr {
    let mut address: SocketAddr = text.parse().unwrap();
    address.set_port(address.port() + u16::from(port == Port::Rtcp));
    address
}

fn plan(remote: &str) -> MediaPlan {
    MediaPlan {
        codec: Codec::Pcmu,
        send_payload_type: Codec::Pcmu.payload_type(),
        receive_payload_type: Codec::Pcmu.payload_type(),
        receive_also: None,
        dtmf_send: PayloadType::new(101),
        dtmf_receive: PayloadType::new(101),
        dtmf_clock: 8_000,
        opus: OpusTerms::default(),
        annex_b: false,
        ptime: Ptime::MS_20,
        remote: Some(at(remote, Port::Rtp)),
        remote_rtcp: Some(at(remote, Port::Rtcp)),
        rtcp_mux: false,
        metrics_asked: true,
        direction: Direction::SendReceive,
        crypto: None,
    }
}

/// What went over a wire, as Wireshark reads it.
struct Capture(Vec<u8>);

impl Capture {
    fn new() -> Self {
        // Nanoseconds, version 2.4, no time zone, long packets, raw IP.
        let words = [0xa1b2_3c4d_u32, 0x0004_0002, 0, 0, 65_535, 101];
        Self(words.iter().flat_map(|word| word.to_le_bytes()).collect())
    }

    fn add(&mut self, now: Moment, from: SocketAddr, to: SocketAddr, payload: &[u8]) {
        let (SocketAddr::V4(from), SocketAddr::V4(to)) = (from, to) else { panic!("IPv4") };
        let nanos = now.as_nanos();
        let length = 28 + payload.len() as u32;
        let head = [(nanos / 1_000_000_000) as u32, (nanos % 1_000_000_000) as u32, length, length];
        self.0.extend(head.iter().flat_map(|word| word.to_le_bytes()));
        self.0.extend([0x45, 0xb8]);
        self.0.extend((length as u16).to_be_bytes());
        self.0.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
        let parts: [&SocketAddrV4; 2] = [&from, &to];
        parts.iter().for_each(|part| self.0.extend(part.ip().octets()));
        parts.iter().for_each(|part| self.0.extend(part.port().to_be_bytes()));
        self.0.extend((length as u16 - 20).to_be_bytes());
        self.0.extend([0, 0]);
        self.0.extend(payload);
    }
}

/// A network that loses in bursts, and delays each packet by another time.
struct Network {
    random: Random,
    /// Packets of this burst that are still to be lost.
    burst: u64,
}

impl Network {
    fn new(seed: u64) -> Self {
        Self { random: Random::from_seed(seed), burst: 0 }
    }

    /// How long a packet takes; `None`: it is lost.
    fn carry(&mut self) -> Option<Duration> {
        if self.burst == 0 && self.random.below(100) == 0 {
            self.burst = 1 + self.random.below(5);
        }
        if self.burst > 0 {
            self.burst -= 1;
            return None;
        }
        Some(Duration::from_micros(30_000 + self.random.below(25_000)))
    }
}

struct Side {
    address: &'static str,
    session: MediaSession,
    agent: AgentEnd,
    out: TickOutput,
    random: Random,
}

impl Side {
    fn new(address: &'static str, remote: &str, seed: u64) -> Self {
        let (end, agent) = link();
        let rules = MediaRules { voip_metrics: VoipMetricsRule::Asked, ..MediaRules::default() };
        let setup =
            MediaSetup { rules, playout_held: false, ..MediaSetup::new(Some(plan(remote)), seed) };
        let session = MediaSession::new(Moment::from_millis(1_000), setup, end);
        let (out, random) = (TickOutput::new(), Random::from_seed(seed));
        Self { address, session, agent, out, random }
    }

    /// Says half a second, then pauses as long.
    fn speak(&mut self, tick: u32) {
        while self.agent.next().is_some() {}
        if tick.is_multiple_of(50) {
            let words: Vec<u8> = (0..4_000)
                .map(|_| [0x25, 0xa5, 0x31, 0xb7][self.random.below(4) as usize])
                .collect();
            assert_eq!(self.agent.push_audio(&words), words.len());
        }
    }
}

/// A datagram under way, by when it arrives; the number keeps the order of those that arrive together.
type Carried = Reverse<(Moment, u64, bool, bool, Vec<u8>)>;

/// Two sessions that talk over bad networks, with what passed the wire of the first of them.
struct Call {
    sides: [Side; 2],
    networks: [Network; 2],
    carried: BinaryHeap<Carried>,
    sent: u64,
    capture: Capture,
    /// Told the same as the first session.
    receiver: Receiver,
    jitter: Vec<u32>,
}

impl Call {
    fn new() -> Self {
        Self {
            sides: [Side::new(OURS, PEER, 5), Side::new(PEER, OURS, 6)],
            networks: [Network::new(7), Network::new(8)],
            carried: BinaryHeap::new(),
            sent: 0,
            capture: Capture::new(),
            receiver: Receiver::new(8_000),
            jitter: Vec::new(),
        }
    }

    fn run(&mut self, ticks: u32) {
        for tick in 0..ticks {
            let now = Moment::from_millis(1_000) + TICK * tick;
            for (index, now) in [now, now + APART].into_iter().enumerate() {
                self.deliver(now);
                let side = &mut self.sides[index];
                side.speak(tick);
                side.session.tick(now, &mut side.out);
                self.send(now, index);
            }
        }
    }

    fn send(&mut self, now: Moment, index: usize) {
        let Self { sides, networks, carried, capture, sent, .. } = self;
        for (port, to, bytes) in sides[index].out.transmits() {
            if index == 0 {
                capture.add(now, at(OURS, port), to, bytes);
            }
            let is_rtcp = port == Port::Rtcp;
            // Reports are few: the test wants each.
            let took = networks[index].carry().or(is_rtcp.then_some(Duration::from_millis(40)));
            if let Some(took) = took {
                *sent += 1;
                carried.push(Reverse((now + took, *sent, index == 0, is_rtcp, bytes.to_vec())));
            }
        }
        sides[index].out.clear();
    }

    fn deliver(&mut self, now: Moment) {
        while let Some(Reverse((due, ..))) = self.carried.peek()
            && *due <= now
        {
            let Some(Reverse((due, _, of_ours, is_rtcp, bytes))) = self.carried.pop() else {
                return;
            };
            let port = if is_rtcp { Port::Rtcp } else { Port::Rtp };
            let to = &mut self.sides[usize::from(of_ours)];
            let source = at(if of_ours { OURS } else { PEER }, port);
            if !of_ours {
                self.capture.add(due, source, at(to.address, port), &bytes);
                if port == Port::Rtp {
                    let packet = RtpPacket::parse(&bytes).unwrap();
                    self.receiver.receive(due, &packet, Content::Audio);
                    self.jitter.push(self.receiver.statistics().jitter_us);
                }
            }
            let datagram = Received { port, source, bytes: &bytes };
            to.session.receive(due, &datagram, &mut to.out);
        }
    }
}

fn tshark(file: &File, arguments: &[&str]) -> String {
    let mut command = Command::new("tshark");
    command.arg("-r").arg(&file.0).arg("-n");
    for port in [16_384, 24_000] {
        command.args(["-d", &format!("udp.port=={port},rtp")]);
        command.args(["-d", &format!("udp.port=={},rtcp", port + 1)]);
    }
    let output = command.args(arguments).output().expect("tshark; scripts/setup installs it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A file that is removed when it is no longer needed.
struct File(PathBuf);

impl Drop for File {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

/// A minute's call and its capture.
fn captured(name: &str) -> (Call, File) {
    let mut call = Call::new();
    call.run(3_000);
    let name = format!("{name}-{}.pcap", std::process::id());
    let file = File(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name));
    std::fs::write(&file.0, &call.capture.0).unwrap();
    (call, file)
}

#[test]
fn wireshark_counts_the_loss_and_jitter_that_we_count() {
    let (call, file) = captured("loss");
    let ours = call.sides[0].session.statistics();
    assert!(ours.lost_in > 50 && ours.jitter_in_ms > 3.0, "{ours:?}");
    let streams = tshark(&file, &["-q", "-z", "rtp,streams"]);
    let row = streams.lines().find(|line| line.contains("24000")).unwrap();
    // Times, addresses and ports, SSRC, payload, packets, lost with its share, deltas, jitters.
    let words: Vec<&str> = row.split_whitespace().collect();
    let lost_at = words.iter().position(|word| word.starts_with('(')).unwrap();
    let number = |at: usize| words[at].parse::<f64>().unwrap_or_else(|_| panic!("{at} of {row}"));
    assert_eq!(number(lost_at - 2), ours.packets_in as f64, "{row}");
    assert_eq!(number(lost_at - 1), ours.lost_in as f64, "{row}");
    let mean = call.jitter.iter().map(|us| f64::from(*us)).sum::<f64>() / call.jitter.len() as f64;
    let most = f64::from(call.receiver.statistics().jitter_max_us);
    for (at, micros) in [(lost_at + 5, mean), (lost_at + 6, most)] {
        assert!((number(at) - micros / 1_000.0).abs() < 0.1, "{micros} us: {at} of {row}");
    }
    assert_eq!(call.receiver.statistics().jitter_us as f32 / 1_000.0, ours.jitter_in_ms);
}

#[test]
fn wireshark_reads_our_voip_metrics_as_we_meant_them_and_finds_nothing_malformed() {
    let (call, file) = captured("metrics");
    // From warnings on.
    let is_wrong = "_ws.malformed or _ws.expert.severity >= 0x600000 or rtcp.length_check == 0";
    assert_eq!(tshark(&file, &["-Y", is_wrong]), "");
    let fields = [
        "rtcp.xr.bl",
        "rtcp.xr.voipmetrics.gmin",
        "rtcp.xr.voipmetrics.rfactor",
        "rtcp.xr.voipmetrics.moslq",
        "rtcp.xr.voipmetrics.moscq",
        "rtcp.xr.voipmetrics.burstduration",
        "rtcp.xr.voipmetrics.gapduration",
        "rtcp.xr.voipmetrics.rtdelay",
        "rtcp.xr.voipmetrics.esdelay",
        "rtcp.xr.voipmetrics.jbnominal",
        "rtcp.xr.voipmetrics.plc",
        "rtcp.xr.voipmetrics.jba",
    ];
    let mut arguments = vec!["-Y", "rtcp.xr.bt == 7 and ip.src == 192.0.2.9", "-T", "fields"];
    fields.iter().for_each(|field| arguments.extend(["-e", field]));
    let read = tshark(&file, &arguments);
    let rows: Vec<&str> = read.lines().collect();
    assert!(rows.len() > 8, "{read}");
    let words: Vec<f32> =
        rows.last().unwrap().split('\t').map(|word| word.parse().unwrap()).collect();
    // The last of them reached the peer too: that is what it knows of us.
    let told = call.sides[1].session.statistics().quality.outward.expect("it was told");
    let expected = [
        8.0,
        16.0,
        told.rating.unwrap(),
        told.mos_lq.unwrap(),
        told.mos_cq.unwrap(),
        told.burst_ms as f32,
        told.gap_ms as f32,
        told.round_trip_ms.unwrap(),
        told.end_delay_ms as f32,
        told.buffer_ms as f32,
        2.0,
        3.0,
    ];
    for ((field, read), expected) in fields.iter().zip(words).zip(expected) {
        assert!((read - expected).abs() < 0.05, "{field}: {read}, not {expected}");
    }
    assert!((60.0..160.0).contains(&told.round_trip_ms.unwrap()), "{told:?}");
    assert!(told.burst_ms > 40 && told.gap_ms > 500 && told.mos_lq < Some(4.3), "{told:?}");
}
