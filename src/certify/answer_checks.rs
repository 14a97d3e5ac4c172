//! Checks of calls out that a carrier answers in an unusual way, and of how many there may be.

use crate::certify::bench::Bench;
use crate::certify::calls::CallOut;
use crate::certify::check::Checked;
use crate::certify::subject::Subject;
use crate::routing::admission::Admission;
use crate::routing::admission::NodeLimits;
use crate::routing::admission::OutboundAsk;
use crate::routing::admission::Permit;
use crate::routing::contents::Tenant;
use crate::routing::signalling::TimerMode;
use crate::simulator::carrier::Answering;
use crate::sip::message::method::Method;
use crate::sip::message::name::HeaderName;
use crate::types::moment::Moment;
use std::time::Duration;

/// Until both telephones have answered, with a little more.
const BOTH: Duration = Duration::from_secs(8);
/// The least session interval of a carrier that wants few refreshes, in seconds.
const INTERVAL_S: u32 = 7_200;
/// No limit of the node's.
const FREE: NodeLimits = NodeLimits { calls_max: 0, cps_max: 0 };

pub(super) fn forked(bench: &mut Bench<'_>) -> Checked {
    bench.carrier.will(Answering::Forks);
    bench.dial(CallOut::default())?;
    bench.pass(BOTH);
    bench.is_content()?;
    bench.is_talking()?;
    let port = bench.subject.subscription.media.port();
    let plan = bench.live.as_ref().and_then(|live| live.plans.last());
    match plan.and_then(|plan| plan.remote) {
        Some(remote) if remote.port() == port => (),
        Some(_) => return Err("media goes to another telephone than the first to answer".into()),
        None => return Err("no media flows".to_owned()),
    }
    match bench.carrier.forked() {
        Some(fork) if !fork.acked => Err("the second answer was not acknowledged".to_owned()),
        Some(fork) if !fork.ended => Err("the second answer was not hung up".to_owned()),
        Some(_) | None => Ok(()),
    }
}

pub(super) fn asks_for_interval(subject: &Subject) -> Result<(), &'static str> {
    match subject.trunk.signalling.session_timer.mode {
        _ if !subject.model.session_timer => Err("the carrier has no session timer"),
        TimerMode::Offer | TimerMode::Require => Ok(()),
        TimerMode::Off | TimerMode::Accept => Err("the profile asks for no session timer"),
    }
}

pub(super) fn interval(bench: &mut Bench<'_>) -> Checked {
    bench.carrier.will(Answering::WantsInterval(INTERVAL_S));
    bench.talk_out()?;
    let invites = bench.requests(Method::Invite);
    let asks = invites.iter().filter(|(_, invite)| {
        let value = invite.headers.first(HeaderName::SessionExpires);
        value.is_some_and(|value| value.starts_with(INTERVAL_S.to_string().as_bytes()))
    });
    if asks.count() == 0 {
        return Err(format!("no INVITE asks for {INTERVAL_S} s"));
    }
    Ok(())
}

pub(super) fn has_ceilings(subject: &Subject) -> Result<(), &'static str> {
    match (subject.channels, subject.pace) {
        (0, 0) => Err("the profile sets no limit"),
        _ => Ok(()),
    }
}

/// Asks for calls as the engine does.
pub(super) fn ceilings(bench: &mut Bench<'_>) -> Checked {
    let (channels, pace) = (bench.subject.channels, bench.subject.pace);
    let contents = bench.subject.contents();
    let Some(tenant) = contents.tenants.first() else { return Err("there is no tenant".into()) };
    if pace > 0 {
        keeps_pace(bench, tenant, pace)?;
    }
    if channels == 0 {
        return Ok(());
    }
    let mut taken = 0;
    bench.admission = Admission::default();
    for _ in 0..=channels {
        bench.now += Duration::from_secs(2);
        taken += u32::from(ask(bench, tenant).is_some());
    }
    match taken {
        taken if taken > channels => Err(format!("{taken} calls at once, where {channels} may be")),
        taken if taken < channels => Err(format!("{taken} calls at once of {channels} sold")),
        _ => Ok(()),
    }
}

/// Calls are wanted all the time, in crowds and one by one: whichever second is looked at, no more begin
/// than may.
fn keeps_pace(bench: &mut Bench<'_>, tenant: &Tenant, pace: u32) -> Checked {
    let mut starts = Vec::new();
    for step in 0..60 {
        for _ in 0..if step % 15 == 0 { 2 * pace } else { 1 } {
            let Some((permit, start)) = ask(bench, tenant) else { continue };
            starts.push(start);
            bench.admission.release(permit);
        }
        bench.now += Duration::from_millis(70);
    }
    starts.sort();
    let second = Duration::from_secs(1);
    for (at, first) in starts.iter().enumerate() {
        let within =
            starts.iter().skip(at).take_while(|start| start.since(*first) < second).count();
        if within > usize::try_from(pace).unwrap_or(usize::MAX) {
            return Err(format!("{within} calls begin within a second, where {pace} may"));
        }
    }
    if starts.is_empty() { Err("no call may begin".to_owned()) } else { Ok(()) }
}

/// The right to the next call, and when its turn is; `None`: it may not be.
fn ask(bench: &mut Bench<'_>, tenant: &Tenant) -> Option<(Permit, Moment)> {
    let trunk = &bench.subject.trunk;
    let outbound = trunk.outbound.as_ref()?;
    let gateway = outbound.gateways.first()?;
    let ask = OutboundAsk { tenant, trunk, gateway, first: true };
    let permit = bench.admission.admit_out(bench.now, &ask, outbound.limits, FREE).ok()?;
    let place = bench.subject.edge().ip();
    match bench.admission.turn_out(bench.now, &ask, place, outbound.limits) {
        Ok(start) => Some((permit, start)),
        Err(_) => {
            bench.admission.release(permit);
            None
        }
    }
}
