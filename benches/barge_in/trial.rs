//! One trial: a caller and an agent in a media session, in virtual time, packet by packet.

use std::net::SocketAddr;
use std::time::Duration;
use tandem::audio::frame::FRAME_SAMPLES;
use tandem::audio::g711;
use tandem::audio::link::link;
use tandem::media::event::MediaEvent;
use tandem::media::listener::Listener;
use tandem::media::output::Port;
use tandem::media::output::TickOutput;
use tandem::media::session::MediaSession;
use tandem::media::session::Received;
use tandem::media::setup::MediaSetup;
use tandem::rtp::packet::RtpPacket;
use tandem::sdp::Direction;
use tandem::sdp::MediaPlan;
use tandem::types::barge_in::BargeIn;
use tandem::types::barge_in::BargeInMode;
use tandem::types::codec::Codec;
use tandem::types::codec::Law;
use tandem::types::codec::OpusTerms;
use tandem::types::codec::Ptime;
use tandem::types::moment::Moment;
use tandem::types::talk::BargeInOutcome;
use tandem::types::talk::Talk;

/// Samples of a millisecond.
pub(crate) const PER_MS: usize = 8;
const TICK: Duration = Duration::from_millis(20);
/// The agent is silent from where no sample is louder than this: comfort noise is not.
const SILENT_PEAK: i16 = 300;

/// How a trial is run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    /// Depth of the jitter buffer, in ms.
    pub(crate) depth_ms: u16,
    /// What the profile says.
    pub(crate) policy: BargeIn,
    /// From the arrival of the caller's packets to the tick, in µs. The media thread chooses the phase
    /// of a session so that it is 0 to 5 ms.
    pub(crate) phase_us: u64,
}

impl Setting {
    /// What a profile has that says `flush`, or `pause`, and nothing else.
    pub(crate) fn usual(mode: BargeInMode, depth_ms: u16) -> Self {
        Self { depth_ms, policy: BargeIn { mode, ..BargeIn::OFF }, phase_us: 2_500 }
    }
}

/// What came of a trial.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// How often the agent was interrupted for good.
    pub(crate) interrupted: usize,
    /// How often it waited and went on.
    pub(crate) resumed: usize,
    /// From the first sample that the caller speaks to the last sample of the agent on the wire, in µs: where it
    /// has reached the caller's line, and nothing of the way there and back counted.
    pub(crate) silent_at_us: Option<u64>,
}

/// What is heard by whom.
pub(crate) struct Scene<'a> {
    /// What the caller's line carries, at 8 kHz.
    pub(crate) caller: &'a [i16],
    /// What the agent says, µ-law.
    pub(crate) agent: &'a [u8],
}

/// Runs a trial for as long as the caller's line lasts.
pub(crate) fn run(setting: Setting, scene: &Scene<'_>) -> Outcome {
    let peer = SocketAddr::from(([192, 0, 2, 1], 4_000));
    let (end, mut agent) = link();
    let start = Moment::from_millis(1_000);
    let setup = MediaSetup {
        playout_held: false,
        jitter_depth_ms: setting.depth_ms,
        ..MediaSetup::new(Some(plan(peer)), 1)
    };
    let mut session = MediaSession::new(start, setup, end);
    drop(session.listen_with(Some(Box::new(Listener::new(setting.policy)))));
    let mut given = agent.push_audio(scene.agent);
    let mut out = TickOutput::new();
    let mut outcome = Outcome::default();
    for (number, frame) in scene.caller.chunks_exact(FRAME_SAMPLES).enumerate() {
        // A packet is sent when its last sample was spoken; the line takes no time.
        let arrived = start + TICK * (number as u32 + 1);
        let bytes = packet(number, frame);
        session.receive(
            arrived,
            &Received { port: Port::Rtp, source: peer, bytes: &bytes },
            &mut out,
        );
        out.clear();
        let due = arrived + Duration::from_micros(setting.phase_us);
        session.tick(due, &mut out);
        for event in out.events() {
            if let MediaEvent::Talk(Talk::BargeIn { outcome: what, .. }) = event {
                match what {
                    BargeInOutcome::Interrupted => outcome.interrupted += 1,
                    BargeInOutcome::Resumed => outcome.resumed += 1,
                    BargeInOutcome::Told => (),
                }
            }
        }
        let rtp = out.transmits().filter(|(port, ..)| *port == Port::Rtp);
        for (_, _, bytes) in rtp {
            if let Ok(packet) = RtpPacket::parse(bytes)
                && let Some(last) = last_loud(packet.payload)
            {
                let at = due.since(start).as_micros() as u64;
                outcome.silent_at_us = Some(at + (last + 1) as u64 * 1_000 / PER_MS as u64);
            }
        }
        out.clear();
        while agent.next().is_some() {}
        given += agent.push_audio(scene.agent.get(given..).unwrap_or_default());
    }
    outcome
}

fn last_loud(payload: &[u8]) -> Option<usize> {
    payload.iter().rposition(|byte| g711::ulaw_decode(*byte).abs() > SILENT_PEAK)
}

fn plan(remote: SocketAddr) -> MediaPlan {
    MediaPlan {
        codec: Codec::Pcmu,
        send_payload_type: Codec::Pcmu.payload_type(),
        receive_payload_type: Codec::Pcmu.payload_type(),
        receive_also: None,
        dtmf_send: None,
        dtmf_receive: None,
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

fn packet(number: usize, frame: &[i16]) -> [u8; 172] {
    let mut payload = [0; FRAME_SAMPLES];
    g711::encode(Law::Mu, frame, &mut payload);
    let packet = RtpPacket {
        marker: number == 0,
        payload_type: Codec::Pcmu.payload_type(),
        sequence: number as u16,
        timestamp: (number * FRAME_SAMPLES) as u32,
        ssrc: 9,
        payload: &payload,
    };
    let mut bytes = [0; 172];
    let _length = packet.write(&mut bytes);
    bytes
}
