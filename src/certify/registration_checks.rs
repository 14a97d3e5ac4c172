//! Checks of registrations.

use crate::certify::bench::Bench;
use crate::certify::bench::MOMENT;
use crate::certify::calls::CallOut;
use crate::certify::check::Checked;
use crate::certify::fault::Fault;
use crate::certify::subject::Subject;
use crate::simulator::registrar::Registering;
use crate::sip::endpoint::event::Command;
use crate::sip::endpoint::event::Token;
use crate::sip::endpoint::outbound::OutboundRequest;
use crate::sip::message::method::Method;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3_600);
/// Until a first registration stands, with a little more.
const BOUND: Duration = Duration::from_secs(5);
/// A carrier that is overloaded wants to be left alone for so long, in seconds.
const REST_S: u32 = 120;
/// A registrar that wants few requests grants no less, in seconds.
const LEAST_S: u32 = 7_200;
/// More requests than these in an hour are a loop: a refresh each two minutes, and its challenge.
const HOURLY_MAX: usize = 60;

pub(super) fn registers(subject: &Subject) -> Result<(), &'static str> {
    match subject.model.registers {
        true if subject.trunk.registration.is_some() => Ok(()),
        true => Err("the profile does not register"),
        false => Err("the carrier knows its customers without it"),
    }
}

pub(super) fn registration(bench: &mut Bench<'_>) -> Checked {
    let wants = bench.subject.model.registers;
    let mut does = bench.subject.trunk.registration.is_some();
    if bench.fault.is_some_and(Fault::is_of_registration) {
        if wants {
            does = false;
        } else {
            send_register(bench);
        }
    }
    bench.register();
    bench.pass(Duration::from_secs(600));
    bench.is_content()?;
    match (wants, does) {
        (true, false) => {
            Err("the carrier wants a registration, and the profile has none".to_owned())
        }
        (false, true) => {
            Err("the profile registers, which this carrier refuses with 403".to_owned())
        }
        (true, true) if !bench.carrier.is_registered(bench.now) => {
            Err("the registrar has no binding of ours".to_owned())
        }
        (true, true) | (false, false) => Ok(()),
    }
}

fn send_register(bench: &mut Bench<'_>) {
    let edge = bench.subject.edge();
    let uri = format!("sip:{}", edge.ip());
    let flow = bench.flow(bench.subject.transport_of(edge), edge);
    let request = OutboundRequest::new(Token(9), flow, Method::Register, &uri);
    bench.command(Command::Request(Box::new(request)));
}

pub(super) fn refresh(bench: &mut Bench<'_>) -> Checked {
    bench.register();
    bench.pass(BOUND);
    let end = bench.now + HOUR;
    while bench.now < end {
        bench.is_content()?;
        if !bench.carrier.is_registered(bench.now) {
            return Err("the binding ended before it was refreshed".to_owned());
        }
        bench.pass(MOMENT * 5);
    }
    match bench.requests(Method::Register).len() {
        count if count > HOURLY_MAX => Err(format!("{count} REGISTERs within an hour")),
        _ => Ok(()),
    }
}

pub(super) fn refused(bench: &mut Bench<'_>) -> Checked {
    bench.carrier.will_register(Registering::Refused(403, "Forbidden", None));
    bench.register();
    bench.pass(HOUR);
    bench.is_content()?;
    if bench.subject.calls_out() && bench.plan(CallOut::default()).is_ok() {
        return Err("a call is placed though the carrier knows us no more".to_owned());
    }
    bench.carrier.will_register(Registering::Granted);
    bench.pass(HOUR);
    is_bound(bench)
}

pub(super) fn brief(bench: &mut Bench<'_>) -> Checked {
    bench.carrier.will_register(Registering::NotBelow(LEAST_S));
    bench.register();
    bench.pass(BOUND);
    is_bound(bench)
}

pub(super) fn again(bench: &mut Bench<'_>) -> Checked {
    for registering in [
        Registering::Refused(503, "Service Unavailable", Some(REST_S)),
        Registering::Silent,
        Registering::Refused(500, "Server Internal Error", None),
    ] {
        bench.carrier.will_register(registering);
        bench.register();
        bench.pass(Duration::from_secs(u64::from(REST_S) + 60));
        bench.carrier.will_register(Registering::Granted);
        bench.pass(Duration::from_secs(600));
        is_bound(bench).map_err(|why| format!("after {registering:?}: {why}"))?;
    }
    Ok(())
}

fn is_bound(bench: &Bench<'_>) -> Checked {
    bench.is_content()?;
    if bench.carrier.is_registered(bench.now) {
        Ok(())
    } else {
        Err("the registrar has no binding of ours".to_owned())
    }
}
