//! Checks of calls to the carrier.

use crate::certify::bench::Bench;
use crate::certify::bench::MOMENT;
use crate::certify::calls::CallOut;
use crate::certify::check::Checked;
use crate::certify::fault::Fault;
use crate::certify::live::Live;
use crate::certify::subject::Subject;
use crate::routing::gateway_board::GatewayKey;
use crate::routing::health::Availability;
use crate::simulator::carrier::Answering;
use crate::simulator::carrier::Heard;
use crate::simulator::description::Seen;
use crate::simulator::judge::Rule;
use crate::simulator::model::AssertedRule;
use crate::simulator::model::HostRule;
use crate::sip::message::Message;
use crate::sip::message::Request;
use crate::sip::message::method::Method;
use crate::sip::message::name::HeaderName;
use crate::types::cause::HangupCause;
use crate::types::transport::Transport;
use std::time::Duration;

/// Until a call is answered, with a little more.
const ANSWERED: Duration = Duration::from_secs(5);
/// Largest request that goes into a datagram (RFC 3261 §18.1.1).
const DATAGRAM_MAX: usize = 1_300;

impl Bench<'_> {
    /// Calls somebody and waits for the answer.
    pub(super) fn talk_out(&mut self) -> Checked {
        self.dial(CallOut::default())?;
        self.pass(ANSWERED);
        self.is_content()?;
        self.is_talking()
    }

    pub(super) fn is_talking(&self) -> Checked {
        match &self.live {
            Some(live) if live.is_talking() => Ok(()),
            Some(Live { ended: Some(cause), .. }) => {
                Err(format!("the call is over: {} ({cause})", cause.text()))
            }
            Some(_) => Err("the call was not answered".to_owned()),
            None => Err("there is no call".to_owned()),
        }
    }

    /// The carrier has nothing to complain of.
    pub(super) fn is_content(&self) -> Checked {
        match self.carrier.complaints() {
            [] => Ok(()),
            complaints => Err(complaints.join("; ")),
        }
    }

    /// Requests of ours of a method that reached the carrier.
    pub(super) fn requests(&self, method: Method) -> Vec<(&Heard, &Request)> {
        let heard = self.carrier.heard().iter();
        heard
            .filter_map(|heard| match &heard.message {
                Message::Request(request) if request.method == method => Some((heard, request)),
                Message::Request(_) | Message::Response(_) => None,
            })
            .collect()
    }

    /// Calls somebody and gives the first INVITE.
    fn first_invite(&mut self, call: CallOut) -> Result<Request, String> {
        self.dial(call)?;
        self.pass(MOMENT);
        let invites = self.requests(Method::Invite);
        let first = invites.first().map(|(_, request)| (*request).clone());
        first.ok_or_else(|| "no INVITE reached the carrier".to_owned())
    }

    /// The INVITE of a call keeps a rule of the carrier's.
    pub(super) fn rule(&mut self, rule: Rule) -> Checked {
        let invite = self.first_invite(CallOut::default())?;
        self.carrier.keeps(rule, &invite)
    }

    fn ended(&self) -> Option<HangupCause> {
        self.live.as_ref().and_then(|live| live.ended)
    }

    fn gateways(&self) -> usize {
        self.live.as_ref().map_or(0, |live| live.gateways.len())
    }
}

pub(super) fn settings(bench: &mut Bench<'_>) -> Checked {
    let mut not_built = bench.subject.not_built.clone();
    if bench.fault.is_some_and(Fault::is_unserved) {
        not_built.push("a seeded setting is not supported in this version".to_owned());
    }
    if not_built.is_empty() { Ok(()) } else { Err(not_built.join("; ")) }
}

pub(super) fn call_out(bench: &mut Bench<'_>) -> Checked {
    bench.talk_out()?;
    if !bench.carrier.is_acknowledged() {
        return Err("the answer was not acknowledged".to_owned());
    }
    bench.hang_up();
    bench.pass(MOMENT);
    bench.is_content()?;
    if bench.carrier.is_in_call() {
        return Err("no BYE reached the carrier".to_owned());
    }
    Ok(())
}

pub(super) fn has_hosts(subject: &Subject) -> Result<(), &'static str> {
    match subject.model.hosts {
        HostRule::Any => Err("the carrier looks at addresses only"),
        HostRule::Customer(_) | HostRule::Domain(_) => Ok(()),
    }
}

pub(super) fn caller_number(bench: &mut Bench<'_>) -> Checked {
    bench.rule(Rule::Caller)?;
    let before = bench.requests(Method::Invite).len();
    bench.live = None;
    let from = Some(bench.subject.model.numbers.foreign);
    let foreign = CallOut { from, ..CallOut::default() };
    if bench.dial(foreign).is_err() {
        // A call that is not placed shows nobody's number.
        return Ok(());
    }
    bench.pass(MOMENT);
    let invite = bench.requests(Method::Invite).get(before).map(|(_, request)| (*request).clone());
    invite.map_or(Ok(()), |invite| bench.carrier.keeps(Rule::Caller, &invite))
}

pub(super) fn has_identity(subject: &Subject) -> Result<(), &'static str> {
    match subject.model.asserted {
        AssertedRule::None => Err("the carrier reads From"),
        AssertedRule::Pai | AssertedRule::Ppi(_) => Ok(()),
    }
}

pub(super) fn withheld_caller(bench: &mut Bench<'_>) -> Checked {
    let invite = bench.first_invite(CallOut { withheld: true, ..CallOut::default() })?;
    bench.carrier.keeps(Rule::Caller, &invite)?;
    let user = invite.headers.from().uri().user().unwrap_or_default().to_ascii_lowercase();
    let is_withheld = user == b"anonymous";
    if !bench.subject.model.takes_withheld {
        return Ok(());
    }
    let asks = invite.headers.tokens(HeaderName::Privacy).has("id");
    match (is_withheld, asks) {
        (true, true) => Ok(()),
        (true, false) => Err("there is no Privacy: id beside the anonymous From".to_owned()),
        (false, _) => Err("From shows the number".to_owned()),
    }
}

pub(super) fn wants_user_phone(subject: &Subject) -> Result<(), &'static str> {
    match subject.model.user_phone {
        true => Ok(()),
        false => Err("the carrier does without"),
    }
}

pub(super) fn keys(bench: &mut Bench<'_>) -> Checked {
    let invite = bench.first_invite(CallOut::default())?;
    match Seen::of(&invite.body).and_then(|seen| seen.events) {
        Some(_) => Ok(()),
        None => Err("the offer has no telephone-event".to_owned()),
    }
}

pub(super) fn is_datagrams(subject: &Subject) -> Result<(), &'static str> {
    match subject.transport_of(subject.edge()) {
        Transport::Udp => Ok(()),
        Transport::Tcp | Transport::Tls => Err("the trunk's calls go by a connection"),
    }
}

pub(super) fn datagram(bench: &mut Bench<'_>) -> Checked {
    bench.talk_out()?;
    let largest = bench.requests(Method::Invite).iter().map(|(heard, _)| heard.size).max();
    match largest {
        Some(size) if size > DATAGRAM_MAX => {
            Err(format!("an INVITE has {size} bytes, and more than {DATAGRAM_MAX} are fragmented"))
        }
        Some(_) | None => Ok(()),
    }
}

pub(super) fn is_challenged(subject: &Subject) -> Result<(), &'static str> {
    match subject.model.challenges {
        true => Ok(()),
        false => Err("the carrier asks for no password"),
    }
}

pub(super) fn challenge(bench: &mut Bench<'_>) -> Checked {
    bench.dial(CallOut::default())?;
    bench.pass(ANSWERED);
    let invites = bench.requests(Method::Invite);
    let count = invites.len();
    let with = |request: &Request| request.headers.first(HeaderName::ProxyAuthorization).is_some();
    let answers = invites.iter().filter(|(_, request)| with(request)).count();
    bench.is_content()?;
    match (count, answers) {
        (2, 1) => bench.is_talking(),
        (_, 0) => Err("the challenge was not answered".to_owned()),
        (invites, answers) => {
            Err(format!("{invites} INVITEs came, {answers} of them with credentials"))
        }
    }
}

pub(super) fn early_media(bench: &mut Bench<'_>) -> Checked {
    bench.carrier.will(Answering::MediaMoves);
    bench.talk_out()?;
    let port = bench.subject.subscription.media.port() + 20;
    let plan = bench.live.as_ref().and_then(|live| live.plans.last());
    match plan.and_then(|plan| plan.remote) {
        Some(remote) if remote.port() == port => Ok(()),
        Some(_) => {
            Err("media goes on to where early media was, not to where the answer says".into())
        }
        None => Err("no media flows".to_owned()),
    }
}

pub(super) fn busy(bench: &mut Bench<'_>) -> Checked {
    bench.carrier.will(Answering::Refused(486, "Busy Here", None));
    bench.dial(CallOut::default())?;
    bench.pass(ANSWERED);
    match (bench.gateways(), bench.ended()) {
        (1, Some(HangupCause::Busy)) => Ok(()),
        (1, Some(other)) => Err(format!("the call ended as {other}, and should as busy")),
        (1, None) => Err("the call goes on".to_owned()),
        (gateways, _) => Err(format!("{gateways} gateways were tried for a busy number")),
    }
}

/// The first gateway behaves so, the next answers.
fn next_answers(bench: &mut Bench<'_>, answering: Answering) -> Checked {
    let first = bench.subject.edge();
    bench.carrier.will_at(first, answering);
    bench.dial(CallOut::default())?;
    bench.pass(Duration::from_secs(12));
    match bench.gateways() {
        0 | 1 => Err("the next gateway was not tried".to_owned()),
        _ => bench.is_content().and_then(|()| bench.is_talking()),
    }
}

pub(super) fn failover(bench: &mut Bench<'_>) -> Checked {
    next_answers(bench, Answering::Refused(503, "Service Unavailable", None))
}

pub(super) fn rang(bench: &mut Bench<'_>) -> Checked {
    let first = bench.subject.edge();
    bench.carrier.will_at(first, Answering::RingsThenFails(503, "Service Unavailable"));
    bench.dial(CallOut::default())?;
    bench.pass(ANSWERED);
    if bench.gateways() > 1 {
        return Err("another gateway was tried though the telephone had rung".to_owned());
    }
    bench.ended().map(|_| ()).ok_or_else(|| "the call goes on".to_owned())
}

pub(super) fn silence(bench: &mut Bench<'_>) -> Checked {
    next_answers(bench, Answering::Silent)
}

pub(super) fn throttling(bench: &mut Bench<'_>) -> Checked {
    let throttle = bench.subject.model.throttle;
    let refusal = Answering::Refused(throttle.status, throttle.phrase, throttle.retry_after_s);
    let first = bench.subject.edge();
    bench.carrier.will_at(first, refusal);
    bench.dial(CallOut::default())?;
    bench.pass(ANSWERED);
    let outbound = bench.subject.trunk.outbound.as_ref();
    let gateway = outbound.and_then(|outbound| outbound.gateways.first());
    let Some(gateway) = gateway else { return Err("there is no gateway".to_owned()) };
    let key = GatewayKey { trunk: bench.subject.trunk.id, gateway: gateway.name.clone() };
    match bench.board.availability(bench.now, &key) {
        Availability::Throttled(_) => (),
        Availability::Cooling(_) | Availability::Down => {
            return Err("the gateway counts as dead, though it only wants fewer calls".to_owned());
        }
        Availability::Ready | Availability::Trial => {
            return Err("the gateway is not let rest".to_owned());
        }
    }
    if throttle.retry_after_s.is_none() && bench.gateways() != 1 {
        return Err("the same carrier was tried at another address".to_owned());
    }
    bench.pass(Duration::from_secs(90));
    match bench.board.availability(bench.now, &key) {
        Availability::Throttled(_) | Availability::Down => {
            Err("the gateway still rests a minute and a half later".to_owned())
        }
        Availability::Cooling(_) | Availability::Ready | Availability::Trial => Ok(()),
    }
}

pub(super) fn cancel(bench: &mut Bench<'_>) -> Checked {
    bench.carrier.will(Answering::Rings);
    bench.dial(CallOut::default())?;
    bench.pass(ANSWERED);
    bench.hang_up();
    bench.pass(MOMENT);
    bench.is_content()?;
    if bench.requests(Method::Cancel).is_empty() {
        return Err("no CANCEL reached the carrier".to_owned());
    }
    Ok(())
}

pub(super) fn cancel_race(bench: &mut Bench<'_>) -> Checked {
    bench.carrier.will(Answering::AnswerCrossesCancel);
    bench.dial(CallOut::default())?;
    bench.pass(ANSWERED);
    bench.hang_up();
    bench.pass(MOMENT);
    bench.is_content()?;
    if bench.requests(Method::Cancel).is_empty() {
        return Err("no CANCEL reached the carrier".to_owned());
    }
    if bench.requests(Method::Ack).is_empty() {
        return Err("the answer that crossed the CANCEL was not acknowledged".to_owned());
    }
    if bench.carrier.is_in_call() {
        return Err("the answer that crossed the CANCEL was not hung up".to_owned());
    }
    Ok(())
}

pub(super) fn ring_timeout(bench: &mut Bench<'_>) -> Checked {
    bench.carrier.will(Answering::Rings);
    bench.dial(CallOut::default())?;
    let limit = bench.subject.ring_timeout();
    bench.pass(limit + ANSWERED);
    if bench.requests(Method::Cancel).is_empty() {
        return Err(format!("it still rings after {} s", bench.subject.ring_timeout().as_secs()));
    }
    match bench.ended() {
        Some(HangupCause::NoAnswer) => Ok(()),
        Some(other) => Err(format!("the call ended as {other}, and should as not answered")),
        None => Err("the call goes on".to_owned()),
    }
}

pub(super) fn redirect(bench: &mut Bench<'_>) -> Checked {
    let first = bench.subject.edge();
    bench.carrier.will_at(first, Answering::SentOn(bench.subject.model.numbers.foreign));
    bench.dial(CallOut::default())?;
    bench.pass(ANSWERED);
    if bench.gateways() > 1 || bench.ended().is_none() {
        return Err("the call was sent on to where a 302 said".to_owned());
    }
    Ok(())
}

pub(super) fn options_rate(bench: &mut Bench<'_>) -> Checked {
    let outbound = bench.subject.trunk.outbound.as_ref();
    let Some(probing) = outbound.and_then(|outbound| outbound.health.probing.as_ref()) else {
        return Ok(());
    };
    let least = bench.subject.model.options_every;
    if probing.interval >= least {
        return Ok(());
    }
    let (interval, least) = (probing.interval.as_secs(), least.as_secs());
    Err(format!("OPTIONS every {interval} s; oftener than every {least} s gets a source banned"))
}
