//! Checks of transfers that the carrier is asked for by REFER.

use crate::certify::bench::Bench;
use crate::certify::bench::MOMENT;
use crate::certify::check::Checked;
use crate::certify::live::Live;
use crate::certify::outbound_checks as outbound;
use crate::certify::session_checks::both_ways;
use crate::certify::subject::Subject;
use crate::routing::signalling::ReferOut;
use crate::simulator::judge::Rule;
use crate::simulator::transfer::Transferring;
use crate::sip::message::method::Method;
use crate::types::cause::HangupCause;
use std::time::Duration;

/// Until a carrier has told all it tells of a transfer, with a little more.
const TOLD: Duration = Duration::from_secs(5);
/// Longer than a carrier may say nothing of a transfer.
const SILENCE: Duration = Duration::from_secs(45);

/// What the record of a call has of a transfer, in words.
fn recorded(live: &Live) -> String {
    match (live.transferred, live.ended) {
        (None, None) => "the call goes on, and its record tells of no outcome".to_owned(),
        (None, Some(cause)) => format!("the call ended as {cause}, and as no transfer"),
        (Some(Err(why)), _) => {
            format!("by its record the transfer failed: {} ({why})", why.text())
        }
        (Some(Ok(())), None) => "by its record it was transferred, and it goes on".to_owned(),
        (Some(Ok(())), Some(cause)) => {
            format!("by its record it was transferred, and ended as {cause}")
        }
    }
}

impl Bench<'_> {
    /// The call in progress is to be transferred by the carrier, which goes so.
    fn refer(&mut self, becomes: Transferring, time: Duration) -> Checked {
        self.carrier.will_transfer(becomes);
        self.ask_transfer()?;
        if self.requests(Method::Refer).is_empty() {
            return Err("no REFER reached the carrier".to_owned());
        }
        self.pass(time);
        self.is_content()
    }

    /// The caller is with somebody else, and the record says so.
    fn is_transferred(&self) -> Checked {
        match &self.live {
            None => Err("there is no call".to_owned()),
            Some(live) => match (live.transferred, live.ended) {
                (Some(Ok(())), Some(HangupCause::Transferred)) => Ok(()),
                _ => Err(recorded(live)),
            },
        }
    }

    /// The agent has the caller back, and the record says why.
    fn is_back(&mut self, cause: HangupCause) -> Checked {
        self.is_talking()?;
        match &self.live {
            Some(live) if live.transferred == Some(Err(cause)) => (),
            Some(live) => return Err(format!("{}, and not as {cause}", recorded(live))),
            None => return Err("there is no call".to_owned()),
        }
        self.goes_on()
    }

    /// A transfer that goes so brings the caller back to the agent.
    fn comes_back(
        &mut self,
        becomes: Transferring,
        (time, cause): (Duration, HangupCause),
    ) -> Checked {
        self.talk()?;
        self.refer(becomes, time)?;
        self.is_back(cause)?;
        self.hang_up();
        self.pass(MOMENT);
        if self.carrier.is_in_call() {
            return Err("no BYE reached the carrier once the agent had the caller back".to_owned());
        }
        Ok(())
    }

    /// Whom the REFER of a transfer names is written by a rule of the carrier's.
    fn names_by(&mut self, rule: Rule) -> Checked {
        self.talk()?;
        self.ask_transfer()?;
        let refers = self.requests(Method::Refer);
        let Some((_, refer)) = refers.first() else {
            return Err("no REFER reached the carrier".to_owned());
        };
        self.carrier.keeps(rule, refer)
    }
}

pub(super) fn refers_out(subject: &Subject) -> Result<(), &'static str> {
    match subject.trunk.refer_out {
        ReferOut::None => Err("the profile asks the carrier for no transfers"),
        ReferOut::Blind | ReferOut::Attended => Ok(()),
    }
}

pub(super) fn has_hosts(subject: &Subject) -> Result<(), &'static str> {
    refers_out(subject).and_then(|()| outbound::has_hosts(subject))
}

pub(super) fn wants_user_phone(subject: &Subject) -> Result<(), &'static str> {
    refers_out(subject).and_then(|()| outbound::wants_user_phone(subject))
}

pub(super) fn made(bench: &mut Bench<'_>) -> Checked {
    both_ways(bench, |bench| {
        bench.refer(Transferring::Made, TOLD)?;
        bench.is_transferred()?;
        match bench.final_response(Method::Notify).map(|response| response.status) {
            Some(200) => Ok(()),
            Some(status) => Err(format!("NOTIFY was answered {status}")),
            None => Err("NOTIFY was not answered".to_owned()),
        }
    })
}

pub(super) fn host(bench: &mut Bench<'_>) -> Checked {
    bench.names_by(Rule::Host)
}

pub(super) fn telephone(bench: &mut Bench<'_>) -> Checked {
    bench.names_by(Rule::Telephone)
}

pub(super) fn refused(bench: &mut Bench<'_>) -> Checked {
    bench
        .comes_back(Transferring::Refused(603, "Decline"), (TOLD, HangupCause::Rejected))
        .map_err(|why| format!("REFER was answered 603: {why}"))?;
    bench
        .comes_back(Transferring::Fails(486, "Busy Here"), (TOLD, HangupCause::Busy))
        .map_err(|why| format!("NOTIFY told 486: {why}"))
}

pub(super) fn silence(bench: &mut Bench<'_>) -> Checked {
    bench.comes_back(Transferring::Silent, (SILENCE, HangupCause::NoAnswer))
}

pub(super) fn hung_up(bench: &mut Bench<'_>) -> Checked {
    bench.talk()?;
    bench.refer(Transferring::HungUpAfter(180, "Ringing"), TOLD)?;
    bench.is_transferred().map_err(|why| format!("BYE came once it rang: {why}"))?;
    bench.talk()?;
    bench.refer(Transferring::HungUpAfter(100, "Trying"), TOLD)?;
    match &bench.live {
        Some(Live { transferred: Some(Err(_)), ended: Some(_), .. }) => Ok(()),
        Some(live) => Err(format!("BYE came before it rang: {}", recorded(live))),
        None => Err("there is no call".to_owned()),
    }
}
