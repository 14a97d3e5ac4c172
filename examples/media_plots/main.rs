//! Draws what a network does to a call, over time: the delay of the jitter buffer, what is lost and late, and the MOS of
//! each second. Everything runs in virtual time with seeded networks, so the plots are the same on every machine.
//!
//! `cargo run --example media_plots -- FOLDER` writes `clean.png`, `jittery.png` and `bursts.png`, and prints
//! a line of figures for each.

#![allow(clippy::print_stdout, reason = "it is a command")]

mod picture;

use crate::picture::Panel;
use crate::picture::Picture;
use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tandem::audio::g711;
use tandem::audio::link::link;
use tandem::media::output::Port;
use tandem::media::output::TickOutput;
use tandem::media::session::MediaSession;
use tandem::media::session::Received;
use tandem::media::setup::MediaSetup;
use tandem::media::statistics::MediaStatistics;
use tandem::rtp::packet::RtpPacket;
use tandem::rtp::quality;
use tandem::rtp::quality::Conditions;
use tandem::rtp::quality::Impairment;
use tandem::sdp::Capabilities;
use tandem::sdp::LocalMedia;
use tandem::types::codec::Codec;
use tandem::types::codec::PayloadType;
use tandem::types::moment::Moment;
use tandem::types::random::Random;

const SECONDS: u32 = 60;
const TICK: Duration = Duration::from_millis(20);
const PEER: &str = "192.0.2.1:4000";
const OFFER: &[u8] = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
                       m=audio 4000 RTP/AVP 0\r\n";

/// What a network does to a packet sent at second `at`: how late it comes, in µs, or that it does not.
type Network = fn(&mut Path, f32) -> Option<u64>;

/// What a network remembers.
struct Path {
    random: Random,
    /// In a burst of loss.
    bursts: bool,
}

impl Path {
    /// From 0 up to 1.
    fn chance(&mut self) -> f32 {
        (self.random.next_u32() >> 8) as f32 / (1 << 24) as f32
    }

    /// A delay of `base` ms, and more by an exponential law of this mean.
    fn delay(&mut self, base_ms: f32, mean_ms: f32) -> u64 {
        let more = -mean_ms * (1.0 - self.chance()).ln();
        ((base_ms + more) * 1_000.0) as u64
    }
}

/// Half a millisecond of jitter, and nothing is lost.
fn clean(path: &mut Path, _: f32) -> Option<u64> {
    Some(path.delay(20.0, 0.5))
}

/// Jitter of 4 ms, between 20 and 40 s of 20 ms; one packet in 200 is lost.
fn jittery(path: &mut Path, at: f32) -> Option<u64> {
    let mean = if (20.0..40.0).contains(&at) { 20.0 } else { 4.0 };
    (path.chance() >= 0.005).then(|| path.delay(30.0, mean))
}

/// Loss in bursts (Gilbert: 1 % of packets begin one of five on average, within which 60 % are lost), and a blackout of 2 s.
fn bursts(path: &mut Path, at: f32) -> Option<u64> {
    let change = path.chance();
    path.bursts = if path.bursts { change >= 0.2 } else { change < 0.01 };
    let lost = path.bursts && path.chance() < 0.6;
    (!lost && !(40.0..42.0).contains(&at)).then(|| path.delay(25.0, 3.0))
}

/// One second of a call.
struct Second {
    at: f32,
    target_ms: f32,
    level_ms: f32,
    lost_percent: f32,
    late_percent: f32,
    mos: f32,
    mos_so_far: f32,
}

struct Run {
    seconds: Vec<Second>,
    last: MediaStatistics,
}

/// Lets a peer speak over a network for a minute.
fn run(network: Network, seed: u64) -> Result<Run, Box<dyn Error>> {
    let mut path = Path { random: Random::from_seed(seed), bursts: false };
    let peer: SocketAddr = PEER.parse()?;
    let (end, mut agent) = link();
    let mut now = Moment::from_millis(1_000);
    let setup = MediaSetup { playout_held: false, ..MediaSetup::new(Some(plan()?), 1) };
    let mut session = MediaSession::new(now, setup, end);
    let mut out = TickOutput::new();
    // Packets under way: when they arrive, and which they are.
    let mut under_way: Vec<(Moment, u32)> = Vec::new();
    let mut seconds = Vec::new();
    let mut before = MediaStatistics::default();
    for tick in 0..SECONDS * 50 {
        if let Some(late_us) = network(&mut path, tick as f32 / 50.0) {
            under_way.push((now + Duration::from_micros(late_us), tick));
        }
        now += TICK;
        under_way.sort_unstable();
        let due = under_way.partition_point(|(arrival, _)| *arrival <= now);
        for (arrival, number) in under_way.drain(..due) {
            let bytes = packet(number)?;
            let datagram = Received { port: Port::Rtp, source: peer, bytes: &bytes };
            session.receive(arrival, &datagram, &mut out);
        }
        session.tick(now, &mut out);
        out.clear();
        while agent.next().is_some() {}
        if (tick + 1) % 50 == 0 {
            let figures = session.statistics();
            seconds.push(second((tick + 1) / 50, &before, &figures));
            before = figures;
        }
    }
    Ok(Run { seconds, last: before })
}

/// What became of the last 50 packets.
fn second(number: u32, before: &MediaStatistics, now: &MediaStatistics) -> Second {
    let percent = |count: u64| count as f32 * 2.0;
    let concealed = now.quality.concealed_ms.saturating_sub(before.quality.concealed_ms);
    let not_played = (concealed as f32 / 10.0).min(100.0);
    let conditions = Conditions {
        impairment: Impairment::G711_CONCEALED,
        loss_percent: not_played,
        burst_ratio: 1.0,
        delay_ms: 0.0,
    };
    Second {
        at: number as f32,
        target_ms: f32::from(u16::try_from(now.quality.inward.buffer_ms).unwrap_or(u16::MAX)),
        level_ms: now.jitter_level_ms as f32,
        lost_percent: percent(now.lost_in.saturating_sub(before.lost_in)),
        late_percent: percent(now.late_in.saturating_sub(before.late_in)),
        mos: quality::mos(&conditions),
        mos_so_far: now.mos_in.unwrap_or(1.0),
    }
}

/// What the negotiation with a peer of µ-law gives.
fn plan() -> Result<tandem::sdp::MediaPlan, Box<dyn Error>> {
    let capabilities = Capabilities {
        codecs: vec![Codec::Pcmu],
        order: tandem::sdp::AnswerOrder::Remote,
        dtmf: None,
        dtmf_flash: false,
        ptime: tandem::types::codec::Ptime::MS_20,
        ptime_max: tandem::types::codec::Ptime::MS_20,
        rtcp_mux: false,
        asks_metrics: false,
        single_codec: true,
        annex_b: false,
        srtp: tandem::sdp::SrtpTerms::default(),
    };
    let local = LocalMedia {
        address: "192.0.2.2".parse()?,
        rtp_port: 4_000,
        rtcp_port: 4_001,
        session_id: 1,
        version: 0,
        direction: tandem::sdp::Direction::SendReceive,
    };
    let offer = tandem::sdp::parse(OFFER)?;
    let (_, plan) = tandem::sdp::answer(&offer, &capabilities, &local)?;
    Ok(plan)
}

/// A packet of something like speech: a buzz for a second and a half, then half a second of faint noise.
fn packet(number: u32) -> Result<Vec<u8>, Box<dyn Error>> {
    let speaks = number % 100 < 75;
    let sample = |n: u32| {
        let at = number * 160 + n;
        let level =
            if speaks { (at * 137 / 8 % 160) as i16 * 90 - 7_200 } else { (at % 7) as i16 * 4 };
        g711::ulaw_encode(level)
    };
    let payload: Vec<u8> = (0..160).map(sample).collect();
    let packet = RtpPacket {
        marker: number == 0,
        payload_type: PayloadType::new(0).ok_or("no payload type")?,
        sequence: number as u16,
        timestamp: number * 160,
        ssrc: 7,
        payload: &payload,
    };
    let mut bytes = vec![0; 12 + payload.len()];
    packet.write(&mut bytes).ok_or("no room")?;
    Ok(bytes)
}

fn draw(name: &str, run: &Run) -> Vec<u8> {
    let line = |value: fn(&Second) -> f32| -> Vec<(f32, f32)> {
        run.seconds.iter().map(|second| (second.at, value(second))).collect()
    };
    let mut picture = Picture::new();
    let span = SECONDS as f32;
    picture.title(name);
    let delay =
        Panel { top: 0, least: 0.0, most: 200.0, steps: 4, span, label: "ms in jitter buffer" };
    picture.panel(&delay);
    picture.line(&delay, 0, "level", &line(|second| second.level_ms));
    picture.line(&delay, 1, "target", &line(|second| second.target_ms));
    let most =
        if run.seconds.iter().any(|second| second.lost_percent > 20.0) { 100.0 } else { 20.0 };
    let loss = Panel { top: 1, least: 0.0, most, steps: 4, span, label: "% of packets" };
    picture.panel(&loss);
    picture.line(&loss, 2, "lost", &line(|second| second.lost_percent));
    picture.line(&loss, 0, "late", &line(|second| second.late_percent));
    let mos = Panel { top: 2, least: 1.0, most: 5.0, steps: 4, span, label: "MOS-LQ" };
    picture.panel(&mos);
    picture.line(&mos, 0, "second", &line(|second| second.mos));
    picture.line(&mos, 1, "so far", &line(|second| second.mos_so_far));
    picture.png()
}

fn main() -> Result<(), Box<dyn Error>> {
    draw_all(&PathBuf::from(std::env::args_os().nth(1).ok_or("say a folder")?))
}

/// Draws a call over each network, one file each.
fn draw_all(folder: &std::path::Path) -> Result<(), Box<dyn Error>> {
    let networks: [(&str, Network); 3] =
        [("clean", clean), ("jittery", jittery), ("bursts", bursts)];
    for (seed, (name, network)) in (1..).zip(networks) {
        let run = run(network, seed)?;
        std::fs::write(folder.join(format!("{name}.png")), draw(name, &run))?;
        let last = &run.last;
        let longest = run.seconds.iter().map(|second| second.target_ms).fold(0.0, f32::max);
        println!(
            "{name}: {} packets, {} lost, {} late, {} ms concealed, jitter {:.1} ms, jitter buffer up to {longest} ms, MOS-LQ {:.2}",
            last.packets_in,
            last.lost_in,
            last.late_in,
            last.quality.concealed_ms,
            last.jitter_in_ms,
            last.mos_in.unwrap_or(1.0),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::ZlibDecoder;
    use std::io::Read;

    /// Bytes of a row: its filter, and two pixels in each of the others.
    const ROW: usize = 1 + 720 / 2;

    /// The pixels of a picture, by the number of their colour.
    fn pixels(file: &[u8]) -> Vec<u8> {
        let mut rest = file.strip_prefix(b"\x89PNG\r\n\x1a\n").expect("a PNG");
        let mut packed = Vec::new();
        while let Some((length, after)) = rest.split_first_chunk::<4>() {
            let (kind, after) = after.split_first_chunk::<4>().expect("a kind");
            let (body, after) = after.split_at(u32::from_be_bytes(*length) as usize);
            if kind == b"IDAT" {
                packed.extend(body);
            }
            // The sum is behind it.
            rest = &after[4..];
        }
        let mut rows = Vec::new();
        ZlibDecoder::new(packed.as_slice()).read_to_end(&mut rows).expect("packed");
        assert_eq!((rows.len() % ROW, rows.len() / ROW), (0, 470), "all of its rows");
        let both = |byte: &u8| [byte >> 4, byte & 15];
        rows.chunks_exact(ROW).flat_map(|row| &row[1..]).flat_map(both).collect()
    }

    #[test]
    fn each_network_gets_a_picture_with_lines_in_it() {
        let folder = std::env::temp_dir().join(format!("tandem-plots-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let drawn = draw_all(&folder);
        let files =
            ["clean.png", "jittery.png", "bursts.png"].map(|name| std::fs::read(folder.join(name)));
        std::fs::remove_dir_all(&folder).expect("ours");
        drawn.expect("drawn");
        let pictures = files.map(|file| pixels(&file.expect("written")));
        for picture in &pictures {
            // In each panel at least one line goes from the first second to the last, two pixels thick.
            let of_lines = picture.iter().filter(|colour| (3..6).contains(*colour)).count();
            assert!(of_lines > 3 * 2 * 600, "{of_lines}");
        }
        let [clean, jittery, bursts] = &pictures;
        assert!(clean != jittery && jittery != bursts && bursts != clean, "each has its own");
    }
}
