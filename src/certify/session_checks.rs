//! Checks of what carriers do within a call, in whichever way the trunk has calls.

use crate::call::input::Input as CallInput;
use crate::call::side::LegSide;
use crate::certify::bench::Bench;
use crate::certify::bench::MOMENT;
use crate::certify::check::Checked;
use crate::certify::subject::Subject;
use crate::routing::signalling::TimerMode;
use crate::simulator::carrier::Answering;
use crate::simulator::description::Description;
use crate::simulator::description::Seen;
use crate::sip::message::Message;
use crate::sip::message::Request;
use crate::sip::message::method::Method;
use crate::sip::message::name::HeaderName;
use std::time::Duration;

/// Half of the session interval most carriers ask for, in seconds.
const REFRESH_AFTER: Duration = Duration::from_secs(900);
/// Longer than any timer that a lost refresh would leave behind.
const LATER: Duration = Duration::from_secs(120);
/// A long call, and how often a carrier refreshes within it.
const LONG: Duration = Duration::from_secs(7_200);
const REFRESHES: u32 = 8;
/// What a refresh says of the session timer.
const TIMER: [&str; 2] = ["Supported: timer", "Session-Expires: 1800;refresher=uac"];

impl Bench<'_> {
    /// A call is in progress, by whichever way the trunk has calls.
    pub(super) fn talk(&mut self) -> Checked {
        if self.subject.calls_in() { self.talk_in(true, &[]) } else { self.talk_out() }
    }

    /// The carrier asks for something within the call; the status it gets.
    pub(super) fn within(
        &mut self,
        method: &Method,
        description: Option<&Description>,
        lines: &[&str],
    ) -> Result<u16, String> {
        let before = self.carrier.heard().len();
        self.carrier.within(self.now, method, description, lines);
        self.pass(MOMENT);
        let heard = self.carrier.heard().len();
        let response = self.final_response(method.clone());
        match response {
            Some(response) if heard > before => Ok(response.status),
            Some(_) | None => {
                let method = String::from_utf8_lossy(method.as_bytes()).into_owned();
                Err(format!("{method} was not answered"))
            }
        }
    }

    pub(super) fn offer(&self) -> Description {
        let Some(last) = self.carrier.description() else {
            return Description::offer(
                self.subject.subscription.media,
                self.subject.subscription.suite,
            );
        };
        let fresh = Description::offer(last.media, last.suite);
        Description { version: last.version + 1, ..fresh }
    }

    pub(super) fn goes_on(&mut self) -> Checked {
        self.pass(LATER);
        self.is_content()?;
        self.is_talking()
    }
}

fn expect(status: u16, wanted: u16) -> Checked {
    if status == wanted { Ok(()) } else { Err(format!("it was answered {status}, not {wanted}")) }
}

/// Both ways where the trunk has both.
pub(super) fn both_ways(
    bench: &mut Bench<'_>,
    then: impl Fn(&mut Bench<'_>) -> Checked,
) -> Checked {
    if bench.subject.calls_in() {
        bench.talk_in(true, &[])?;
        then(bench).map_err(|why| format!("in a call in, {why}"))?;
        bench.hang_up();
        bench.pass(MOMENT);
    }
    if bench.subject.calls_out() {
        bench.talk_out()?;
        then(bench).map_err(|why| format!("in a call out, {why}"))?;
    }
    Ok(())
}

pub(super) fn refresh_by_invite(bench: &mut Bench<'_>) -> Checked {
    both_ways(bench, |bench| {
        bench.pass(REFRESH_AFTER - MOMENT * 10);
        bench.is_talking()?;
        let offer = bench.offer();
        let status = bench.within(&Method::Invite, Some(&offer), &TIMER)?;
        expect(status, 200)?;
        bench.goes_on()
    })
}

pub(super) fn lasts_long(subject: &Subject) -> Result<(), &'static str> {
    if subject.lasts > LONG { Ok(()) } else { Err("the profile ends calls before two hours") }
}

pub(super) fn long_call(bench: &mut Bench<'_>) -> Checked {
    bench.talk()?;
    for refresh in 1..=REFRESHES {
        bench.pass(REFRESH_AFTER - MOMENT);
        bench.is_talking().map_err(|why| format!("before refresh {refresh}: {why}"))?;
        let offer = bench.offer();
        let status = bench.within(&Method::Invite, Some(&offer), &TIMER)?;
        expect(status, 200).map_err(|why| format!("refresh {refresh}: {why}"))?;
    }
    bench.is_content()?;
    bench.is_talking()
}

/// The carrier offers this within the call; what we answer.
fn answer_to(bench: &mut Bench<'_>, offer: &Description) -> Result<Seen, String> {
    let status = bench.within(&Method::Invite, Some(offer), &[])?;
    expect(status, 200)?;
    let response = bench.final_response(Method::Invite);
    let seen = response.and_then(|response| Seen::of(&response.body));
    seen.ok_or_else(|| "the answer has no audio".to_owned())
}

pub(super) fn key_types(bench: &mut Bench<'_>) -> Checked {
    both_ways(bench, |bench| {
        for events in ["96", "100", "101"] {
            let offer = Description { events: events.to_owned(), ..bench.offer() };
            let seen =
                answer_to(bench, &offer).map_err(|why| format!("keys as {events}: {why}"))?;
            if seen.events.as_deref() != Some(events) {
                let answered = seen.events.unwrap_or_else(|| "nothing".to_owned());
                return Err(format!("keys offered as {events} were answered as {answered}"));
            }
            let plan = bench.live.as_ref().and_then(|live| live.plans.last());
            let sent = plan.and_then(|plan| plan.dtmf_send).map(|own| own.get().to_string());
            if sent.as_deref() != Some(events) {
                return Err(format!("keys are not sent as {events}"));
            }
        }
        Ok(())
    })
}

pub(super) fn one_codec(bench: &mut Bench<'_>) -> Checked {
    bench.talk()?;
    for codec in ["0", "8"] {
        let offer = Description { codecs: vec![codec.to_owned()], ..bench.offer() };
        let seen =
            answer_to(bench, &offer).map_err(|why| format!("payload type {codec} alone: {why}"))?;
        if seen.codecs != [codec] {
            return Err(format!("payload type {codec} alone was answered by {:?}", seen.codecs));
        }
    }
    bench.goes_on()
}

pub(super) fn keeps_timer(subject: &Subject) -> Result<(), &'static str> {
    let mode = subject.trunk.signalling.session_timer.mode;
    match subject.model.session_timer {
        _ if mode == TimerMode::Off => Err("the profile has no session timer"),
        true => Ok(()),
        false => Err("the carrier has no session timer"),
    }
}

pub(super) fn refresh_by_us(bench: &mut Bench<'_>) -> Checked {
    bench.carrier.will(Answering::WeRefresh);
    bench.talk_out()?;
    bench.pass(REFRESH_AFTER + LATER);
    bench.is_content()?;
    bench.is_talking()?;
    let of_dialog = |request: &Request| request.headers.to().tag().is_some();
    let invites = bench.requests(Method::Invite);
    let reinvites = invites.iter().filter(|(_, request)| of_dialog(request)).count();
    if reinvites + bench.requests(Method::Update).len() == 0 {
        return Err("the carrier left the refresh to us, and none came by half the time".to_owned());
    }
    Ok(())
}

pub(super) fn refresh_by_update(bench: &mut Bench<'_>) -> Checked {
    both_ways(bench, |bench| {
        bench.pass(REFRESH_AFTER - MOMENT * 10);
        bench.is_talking()?;
        let status = bench.within(&Method::Update, None, &TIMER)?;
        expect(status, 200)?;
        bench.goes_on()
    })
}

pub(super) fn refresh_without_offer(bench: &mut Bench<'_>) -> Checked {
    bench.talk()?;
    let status = bench.within(&Method::Invite, None, &[])?;
    expect(status, 200)?;
    let response = bench.final_response(Method::Invite);
    let seen = response.and_then(|response| Seen::of(&response.body));
    let Some(seen) = seen else { return Err("the answer has no offer".to_owned()) };
    let wanted = bench.subject.trunk.media.codecs_offered.len();
    if seen.codecs.len() < wanted.min(2) {
        return Err(format!("the offer has {} of our {wanted} codecs", seen.codecs.len()));
    }
    bench.goes_on()
}

pub(super) fn hold(bench: &mut Bench<'_>) -> Checked {
    bench.talk()?;
    for (style, direction, null_address) in [
        ("a=sendonly", "sendonly", false),
        ("a=inactive", "inactive", false),
        ("c=0.0.0.0", "sendrecv", true),
    ] {
        let held = Description { direction, null_address, ..bench.offer() };
        let status = bench.within(&Method::Invite, Some(&held), &[])?;
        expect(status, 200).map_err(|why| format!("hold by {style}: {why}"))?;
        let response = bench.final_response(Method::Invite);
        let answer = response.and_then(|response| Seen::of(&response.body)).unwrap_or_default();
        let promises = matches!(answer.direction.as_str(), "sendrecv" | "sendonly");
        let plan = bench.live.as_ref().and_then(|live| live.plans.last());
        let sends = plan.is_some_and(|plan| plan.direction.sends() && plan.remote.is_some());
        if sends || (promises && !null_address) {
            return Err(format!("we send on while held by {style}"));
        }
        bench.goes_on().map_err(|why| format!("held by {style}: {why}"))?;
        let back = bench.offer();
        let status = bench.within(&Method::Invite, Some(&back), &[])?;
        expect(status, 200).map_err(|why| format!("back from {style}: {why}"))?;
        let plan = bench.live.as_ref().and_then(|live| live.plans.last());
        if !plan.is_some_and(|plan| plan.direction.sends()) {
            return Err(format!("we stay silent after hold by {style}"));
        }
    }
    Ok(())
}

/// The direction of our last offer within the call that reached the carrier.
fn offered(bench: &Bench<'_>) -> Option<String> {
    bench.carrier.heard().iter().rev().find_map(|heard| match &heard.message {
        Message::Request(request)
            if request.method == Method::Invite && request.headers.to().tag().is_some() =>
        {
            Seen::of(&request.body).map(|seen| seen.direction)
        }
        Message::Request(_) | Message::Response(_) => None,
    })
}

pub(super) fn hold_by_us(bench: &mut Bench<'_>) -> Checked {
    bench.talk()?;
    let silent = bench.subject.trunk.media.silent_hold;
    for (input, what, wanted) in [
        (
            CallInput::HoldRequested(LegSide::Near),
            "hold",
            if silent { "inactive" } else { "sendonly" },
        ),
        (CallInput::ResumeRequested(LegSide::Near), "the end of hold", "sendrecv"),
    ] {
        bench.ask(input);
        bench.pass(MOMENT);
        bench.is_content()?;
        match offered(bench) {
            Some(direction) if direction == wanted => (),
            Some(direction) => {
                return Err(format!("{what} is offered as {direction}, and should be as {wanted}"));
            }
            None => return Err(format!("no re-INVITE tells of {what}")),
        }
    }
    let plan = bench.live.as_ref().and_then(|live| live.plans.last());
    if !plan.is_some_and(|plan| plan.direction.sends()) {
        return Err("we stay silent after a hold of ours".to_owned());
    }
    bench.goes_on()
}

pub(super) fn fax(bench: &mut Bench<'_>) -> Checked {
    bench.talk()?;
    let fax = Description { is_fax: true, ..bench.offer() };
    let status = bench.within(&Method::Invite, Some(&fax), &[])?;
    expect(status, 488)?;
    bench.goes_on()
}

pub(super) fn transfer(bench: &mut Bench<'_>) -> Checked {
    bench.talk()?;
    let target = format!("Refer-To: <sip:{}@carrier.example>", bench.subject.model.numbers.person);
    let status = bench.within(&Method::Refer, None, &[&target])?;
    expect(status, 603)?;
    bench.goes_on()
}

pub(super) fn draining(bench: &mut Bench<'_>) -> Checked {
    bench.talk_in(true, &[])?;
    bench.stop();
    bench.carrier.set_aside();
    let before = bench.carrier.heard().len();
    bench.call_in(true, &[]);
    bench.pass(MOMENT);
    let heard = bench.carrier.heard().len();
    let response = bench.final_response(Method::Invite).filter(|_| heard > before);
    let Some(response) = response else { return Err("a new call was not answered".to_owned()) };
    let (status, again) =
        (response.status, response.headers.first(HeaderName::RetryAfter).is_some());
    match (status, again) {
        (503, true) => (),
        (503, false) => return Err("503 does not say when to come again".to_owned()),
        (status, _) => return Err(format!("a new call was answered {status}")),
    }
    bench.carrier.take_up();
    let offer = bench.offer();
    let status = bench.within(&Method::Invite, Some(&offer), &[])?;
    expect(status, 200).map_err(|why| format!("in the call that runs, {why}"))?;
    bench.goes_on()?;
    bench.hang_up();
    bench.pass(MOMENT);
    if bench.carrier.is_in_call() {
        return Err("the call that ran was not hung up in order".to_owned());
    }
    Ok(())
}
