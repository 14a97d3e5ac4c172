//! Checks of calls from the carrier.

use crate::certify::bench::Bench;
use crate::certify::bench::MOMENT;
use crate::certify::check::Checked;
use crate::certify::subject::STRANGER;
use crate::certify::subject::Subject;
use crate::simulator::speak::CallIn;
use crate::sip::message::Message;
use crate::sip::message::Response;
use crate::sip::message::method::Method;
use crate::types::cause::HangupCause;
use std::time::Duration;

impl Bench<'_> {
    /// The carrier calls, and we answer.
    pub(super) fn talk_in(&mut self, offers: bool, lines: &[&str]) -> Checked {
        self.call_in(offers, lines);
        self.pass(MOMENT);
        self.is_taken()?;
        self.is_talking()
    }

    fn is_taken(&self) -> Checked {
        match self.final_response(Method::Invite) {
            None if self.was_silent => Err("the carrier was taken for a stranger".to_owned()),
            None => Err("the INVITE was not answered".to_owned()),
            Some(response) => match response.status {
                200..300 => Ok(()),
                401 | 407 => {
                    Err("the carrier was asked for a password it does not have".to_owned())
                }
                422 => Err("the session timer was refused with 422".to_owned()),
                status => Err(format!("the call was refused with {status}")),
            },
        }
    }

    /// Our last final response to a request of the carrier's.
    pub(super) fn final_response(&self, method: Method) -> Option<&Response> {
        self.carrier.heard().iter().rev().find_map(|heard| match &heard.message {
            Message::Response(response)
                if response.status >= 200 && response.headers.cseq().method == method =>
            {
                Some(response)
            }
            Message::Response(_) | Message::Request(_) => None,
        })
    }
}

pub(super) fn call_in(bench: &mut Bench<'_>) -> Checked {
    bench.talk_in(true, &[])?;
    let caller = bench.live.as_ref().and_then(|live| live.caller.clone());
    let wanted = bench.subject.model.numbers.person;
    if caller.as_deref() != Some(wanted) {
        let caller = caller.unwrap_or_default();
        return Err(format!("the caller was read as {caller:?}, and should be {wanted}"));
    }
    bench.hang_up();
    bench.pass(MOMENT);
    bench.is_content()?;
    if bench.carrier.is_in_call() {
        return Err("no BYE reached the carrier".to_owned());
    }
    Ok(())
}

pub(super) fn withheld_caller_in(bench: &mut Bench<'_>) -> Checked {
    let subject = bench.subject;
    let headers = secret_headers(bench);
    let call = CallIn {
        edge: subject.calls_from(),
        called: subject.own.as_str(),
        caller: None,
        offers: true,
        headers: &headers,
        more: &[],
    };
    bench.carrier.call(bench.now, &call);
    bench.pass(MOMENT);
    if !subject.trunk.anonymous_allowed {
        return match bench.final_response(Method::Invite).map(|response| response.status) {
            Some(433) => Ok(()),
            Some(status) => Err(format!("it was answered {status}, and not 433")),
            None => Err("it was not answered".to_owned()),
        };
    }
    bench.is_taken()?;
    match bench.live.as_ref().and_then(|live| live.caller.as_deref()) {
        None | Some("") => bench.is_talking(),
        Some(caller) => Err(format!("the caller was read as {caller:?}, who withholds the number")),
    }
}

pub(super) fn unknown_number(bench: &mut Bench<'_>) -> Checked {
    let unknown = bench.subject.model.numbers.unknown;
    bench.call_in_to(unknown, (true, &[]));
    bench.pass(MOMENT);
    match bench.final_response(Method::Invite).map(|response| response.status) {
        Some(404) => Ok(()),
        Some(status) => Err(format!("it was answered {status}")),
        None => Err("it was not answered".to_owned()),
    }
}

pub(super) fn gives_up(subject: &Subject) -> Result<(), &'static str> {
    match subject.model.gives_up_on {
        [] => Err("after which statuses this carrier tries on is not known"),
        _ => Ok(()),
    }
}

pub(super) fn outcomes(bench: &mut Bench<'_>) -> Checked {
    let (map, last) = (bench.subject.trunk.response_map, bench.subject.model.gives_up_on);
    let is_last = |status: u16| last.contains(&status);
    for (what, status) in [
        ("busy", map.busy),
        ("no answer", map.no_answer),
        ("a number not in service", map.not_found),
        ("an unknown number", map.unknown_did),
        ("a refusal by policy", map.policy),
    ] {
        if !is_last(status) {
            return Err(format!(
                "{what} is told by {status}, after which the carrier rings elsewhere"
            ));
        }
    }
    for (what, status) in [("overload", map.overload), ("draining", map.draining)] {
        if is_last(status) {
            return Err(format!("{what} is told by {status}, after which the carrier gives up"));
        }
    }
    Ok(())
}

pub(super) fn offerless(bench: &mut Bench<'_>) -> Checked {
    bench.call_in(false, &[]);
    bench.pass(MOMENT);
    bench.is_taken()?;
    let response = bench.final_response(Method::Invite);
    if response.is_none_or(|response| response.body.is_empty()) {
        return Err("the answer has no offer".to_owned());
    }
    bench.pass(MOMENT);
    bench.is_talking()?;
    let agreed = bench.live.as_ref().is_some_and(|live| !live.plans.is_empty());
    if agreed { Ok(()) } else { Err("the answer in the ACK was not taken".to_owned()) }
}

pub(super) fn short_timer(bench: &mut Bench<'_>) -> Checked {
    bench.talk_in(true, &["Session-Expires: 60"])
}

pub(super) fn first_to_speak(bench: &mut Bench<'_>) -> Checked {
    bench.talk_in(true, &[])?;
    let live = bench.live.as_ref();
    let sends = live.and_then(|live| live.plans.last()).is_some_and(|plan| plan.direction.sends());
    match (sends, live.is_some_and(|live| live.speaks)) {
        (true, true) => Ok(()),
        (false, _) => Err("we do not send".to_owned()),
        (true, false) => Err("nothing is said before the carrier's first packet".to_owned()),
    }
}

pub(super) fn cancel_in(bench: &mut Bench<'_>) -> Checked {
    bench.agent_waits = true;
    bench.call_in(true, &[]);
    bench.pass(MOMENT);
    bench.carrier.cancel(bench.now);
    bench.pass(MOMENT);
    if bench.final_response(Method::Cancel).is_none_or(|response| response.status != 200) {
        return Err("CANCEL was not answered 200".to_owned());
    }
    match bench.final_response(Method::Invite).map(|response| response.status) {
        Some(487) => Ok(()),
        Some(status) => Err(format!("the INVITE was answered {status}")),
        None => Err("the INVITE was not answered".to_owned()),
    }
}

pub(super) fn lost_ack(bench: &mut Bench<'_>) -> Checked {
    bench.carrier.lose_acks();
    bench.talk_in(true, &[])?;
    bench.pass(Duration::from_secs(40));
    if bench.requests(Method::Bye).is_empty() {
        return Err("no BYE reached the carrier".to_owned());
    }
    match bench.live.as_ref().and_then(|live| live.ended) {
        Some(HangupCause::AckTimeout) => Ok(()),
        Some(other) => Err(format!("the call ended as {other}")),
        None => Err("the call goes on".to_owned()),
    }
}

pub(super) fn strangers(bench: &mut Bench<'_>) -> Checked {
    let own = bench.subject.own;
    let headers = secret_headers(bench);
    bench.call_in_from(STRANGER, own.as_str(), (true, &headers, &[]));
    bench.pass(MOMENT);
    if !bench.was_silent || bench.live.is_some() {
        return Err(format!("a call from {} was taken for this carrier's", STRANGER.ip()));
    }
    Ok(())
}

fn secret_headers(bench: &Bench<'_>) -> Vec<(String, String)> {
    let required = bench.subject.trunk.required_headers.iter();
    required.map(|(name, value)| (name.clone(), value.expose().clone())).collect()
}

pub(super) fn has_secret(subject: &Subject) -> Result<(), &'static str> {
    if subject.trunk.required_headers.is_empty() {
        return Err("the profile wants no secret header");
    }
    Ok(())
}

/// All customers of a large carrier call from its addresses: the header tells this one's calls.
pub(super) fn secret_header(bench: &mut Bench<'_>) -> Checked {
    let own = bench.subject.own;
    let mut wrong = secret_headers(bench);
    for (_, value) in &mut wrong {
        value.push('x');
    }
    for (headers, what) in [(Vec::new(), "without"), (wrong, "with another value of")] {
        bench.was_silent = false;
        bench.call_in_from(bench.subject.calls_from(), own.as_str(), (true, &headers, &[]));
        bench.pass(MOMENT);
        if !bench.was_silent || bench.live.is_some() {
            return Err(format!("a call {what} the secret header was taken for this customer's"));
        }
    }
    Ok(())
}

pub(super) fn options_in(bench: &mut Bench<'_>) -> Checked {
    bench.carrier.probe(bench.now, bench.subject.calls_from());
    bench.pass(MOMENT);
    match bench.final_response(Method::Options).map(|response| response.status) {
        Some(200) => Ok(()),
        Some(status) => Err(format!("it was answered {status}")),
        None => Err("it was not answered".to_owned()),
    }
}
