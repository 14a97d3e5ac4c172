//! Checks of media itself: real packets between the switch's media session and the carrier's, without a
//! socket between them.

use crate::audio::link::AgentEnd;
use crate::audio::link::link;
use crate::certify::bench::Bench;
use crate::certify::check::Checked;
use crate::certify::subject::STRANGER;
use crate::engine::call_task::media_rules;
use crate::media::output::Port;
use crate::media::output::TickOutput;
use crate::media::session::MediaSession;
use crate::media::session::Received;
use crate::media::setup::MediaRules;
use crate::media::setup::MediaSetup;
use crate::sdp::MediaCrypto;
use crate::sdp::MediaPlan;
use crate::simulator::description::Description;
use crate::simulator::description::Seen;
use crate::sip::message::method::Method;
use crate::types::codec::Ptime;
use crate::types::moment::Moment;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// What a media session is ticked by.
const TICK: Duration = Duration::from_millis(20);
/// How long media is listened to: a whole number of packets of 10, 20 and 30 ms.
const TICKS: u32 = 30;

/// Media between us and the carrier, from here on.
struct Talk {
    ours: Side,
    carriers: Side,
    /// Who talks and hears there; hanging up would end the sessions.
    _agents: [AgentEnd; 2],
}

/// A session, and what it works with.
struct Side {
    session: MediaSession,
    out: TickOutput,
}

/// The plan as the carrier has it.
fn mirrored(plan: &MediaPlan, ours: SocketAddr, ptime: Ptime) -> MediaPlan {
    let crypto = plan.crypto.as_deref().map(|keys| {
        let (send, receive) = (keys.receive.clone(), keys.send.clone());
        Arc::new(MediaCrypto { send, receive })
    });
    MediaPlan {
        send_payload_type: plan.receive_payload_type,
        receive_payload_type: plan.send_payload_type,
        receive_also: None,
        dtmf_send: plan.dtmf_receive,
        dtmf_receive: plan.dtmf_send,
        ptime,
        remote: Some(ours),
        remote_rtcp: None,
        crypto,
        ..plan.clone()
    }
}

impl Talk {
    /// By the last plan of the call; the carrier sends packets of `ptime`.
    fn of(bench: &Bench<'_>, ptime: Ptime) -> Result<Self, String> {
        let plan = bench.live.as_ref().and_then(|live| live.plans.last());
        let Some(plan) = plan else { return Err("no media was agreed on".to_owned()) };
        let session = |seed, plan, rules| {
            let (media_end, agent_end) = link();
            let setup =
                MediaSetup { rules, playout_held: false, ..MediaSetup::new(Some(plan), seed) };
            let session = MediaSession::new(bench.now, setup, media_end);
            (Side { session, out: TickOutput::new() }, agent_end)
        };
        let (ours, hears) = session(1, plan.clone(), media_rules(&bench.subject.trunk.media));
        let place = SocketAddr::new(bench.subject.subscription.address, 20_000);
        let theirs = mirrored(plan, place, ptime);
        let (carriers, says) = session(2, theirs, MediaRules::default());
        Ok(Self { ours, carriers, _agents: [hears, says] })
    }

    /// Media flows for a time; what the carrier sends comes from `source`.
    fn flow(&mut self, bench: &mut Bench<'_>, source: SocketAddr) {
        let place = SocketAddr::new(bench.subject.subscription.address, 20_000);
        for _ in 0..TICKS {
            bench.now += TICK;
            tick(bench.now, &mut self.carriers, (source, &mut self.ours));
            tick(bench.now, &mut self.ours, (place, &mut self.carriers));
        }
    }
}

/// What one side sends in a tick reaches the other, from `source`.
fn tick(now: Moment, from: &mut Side, (source, to): (SocketAddr, &mut Side)) {
    from.session.tick(now, &mut from.out);
    for (port, _, bytes) in from.out.transmits().filter(|(port, ..)| *port == Port::Rtp) {
        to.session.receive(now, &Received { port, source, bytes }, &mut to.out);
    }
    from.out.clear();
    to.out.clear();
}

pub(super) fn media_sources(bench: &mut Bench<'_>) -> Checked {
    bench.talk()?;
    let carrier = bench.carrier.description().map(|description| description.media);
    let Some(carrier) = carrier else { return Err("there is no call".to_owned()) };
    let mut talk = Talk::of(bench, Ptime::MS_20)?;
    talk.flow(bench, carrier);
    let heard = talk.ours.session.statistics();
    if heard.packets_in != u64::from(TICKS) {
        return Err(format!(
            "of {TICKS} packets that the carrier sent from where it said, {} were taken",
            heard.packets_in
        ));
    }
    if talk.carriers.session.statistics().packets_in == 0 {
        return Err("nothing of ours could be heard".to_owned());
    }
    let mut talk = Talk::of(bench, Ptime::MS_20)?;
    talk.flow(bench, STRANGER);
    match talk.ours.session.statistics().packets_in {
        0 => Ok(()),
        taken => Err(format!(
            "{taken} packets of {} were taken for the carrier's: `network.remote_media_cidrs` does not \
             keep them out",
            STRANGER.ip()
        )),
    }
}

pub(super) fn packet_times(bench: &mut Bench<'_>) -> Checked {
    bench.talk()?;
    let Some(carrier) = bench.carrier.description().map(|description| description.media) else {
        return Err("there is no call".to_owned());
    };
    for ms in [10, 30] {
        let Some(ptime) = Ptime::from_ms(ms) else { continue };
        if ptime > bench.subject.trunk.media.ptime_max {
            continue;
        }
        let offer = Description { ptime: ms, ..bench.offer() };
        let status = bench.within(&Method::Invite, Some(&offer), &[])?;
        if status != 200 {
            return Err(format!("packets of {ms} ms: the offer was answered {status}"));
        }
        let response = bench.final_response(Method::Invite);
        let seen = response.and_then(|response| Seen::of(&response.body)).unwrap_or_default();
        if seen.ptime != Some(ms) {
            return Err(format!("packets of {ms} ms were asked for, and not agreed on"));
        }
        let mut talk = Talk::of(bench, ptime)?;
        talk.flow(bench, carrier);
        let (ours, theirs) = (talk.ours.session.statistics(), talk.carriers.session.statistics());
        let wanted = u64::from(TICKS) * 20 / u64::from(ms);
        if ours.packets_out != wanted {
            let sent = ours.packets_out;
            return Err(format!("{sent} packets went out where {wanted} of {ms} ms should"));
        }
        if (ours.packets_in, theirs.packets_in) != (wanted, wanted) {
            return Err(format!("not all packets of {ms} ms were taken"));
        }
    }
    bench.goes_on()
}
