//! Carrying an answered leg: its dialog on one side, its call on the other.

use crate::call::dial::DialRequest;
use crate::call::dial::DialTarget;
use crate::call::input::LegInput;
use crate::call::input::LegOutput;
use crate::call::side::LegSide;
use crate::clock;
use crate::engine::dial::DialNews;
use crate::engine::dial::Line;
use crate::engine::dial::Watched;
use crate::engine::dial::route::Target;
use crate::engine::mailbox;
use crate::engine::partner;
use crate::engine::registry::CallMeter;
use crate::engine::registry::PermitGuard;
use crate::engine::registry::SourceGuard;
use crate::engine::sip_shard::ShardHandle;
use crate::engine::sip_shard::reason::end;
use crate::engine::sip_shard::reason::reason_of;
use crate::engine::sip_shard::referring;
use crate::net::way_back::WayBack;
use crate::routing::decision::Decision;
use crate::routing::numbers::dial_text;
use crate::routing::trunk::Trunk;
use crate::sip::endpoint::event::Body;
use crate::sip::endpoint::event::Command;
use crate::sip::endpoint::event::DialogId;
use crate::sip::endpoint::event::Event;
use crate::sip::endpoint::info::dtmf_relay;
use crate::sip::endpoint::told::Referred;
use crate::sip::message::field::FieldValue;
use crate::sip::message::uri::Uri;
use crate::types::cause::HangupCause;
use crate::types::cause::Party;
use crate::types::moment::Moment;
use crate::types::number::E164;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// An answered leg.
pub(super) struct Carried {
    pub(super) shard: ShardHandle,
    pub(super) dialog: DialogId,
    pub(super) events: mailbox::Receiver<Event>,
    pub(super) target: Box<Target>,
    pub(super) watched: Watched,
    /// Until the leg is over.
    pub(super) _held: (Option<PermitGuard>, Vec<SourceGuard>, Option<WayBack>),
}

/// Carries the leg until its dialog is over.
pub(super) async fn run(mut line: Line, mut carried: Carried) {
    let mut meter = match carried.target.as_ref() {
        Target::Gateway(attempt) => Some(line.switch.registry.meter(clock::now(), attempt)),
        Target::Peer(_) => None,
    };
    // The call's own bound is that of the trunk it began with.
    let over_at = carried.target.trunk().map(|trunk| clock::now() + trunk.max_duration);
    let mut hung_up_for = None;
    loop {
        let left = time_left(over_at, of_budgets(&line, meter.as_ref()));
        tokio::select! {
            biased;
            command = line.commands.recv(), if hung_up_for.is_none() => {
                let hangup = LegOutput::HangUp(HangupCause::Normal);
                let output = command.unwrap_or(hangup);
                if let LegOutput::HangUp(cause) = output {
                    hung_up_for = Some((cause, Party::Switch));
                    carried.watched.let_go(cause);
                    if cause == HangupCause::AnsweredElsewhere {
                        lose(&line, &carried.target, meter.take()).await;
                    }
                }
                carried.obey(output).await;
            }
            event = carried.events.recv() => {
                let Some(event) = event else {
                    // The shard gave the leg up: its call was too slow for it.
                    let (cause, by) = (HangupCause::SwitchFault, Party::Switch);
                    return line.tell(LegInput::Ended { cause, by }).await;
                };
                if let Event::Referred { referred, .. } = &event {
                    match target_of(referred, carried.target.trunk()) {
                        Some(request) => line.tell(LegInput::Referred(Box::new(request))).await,
                        None => carried.obey(LegOutput::RefuseRefer { status: 603 }).await,
                    }
                }
                let is_last = matches!(event, Event::Ended { .. });
                if let (Event::Ended { how, .. }, None) = (&event, hung_up_for) {
                    carried.watched.ended(end(how).0);
                    if let Some(why) = reason_of(how) {
                        line.tell(why).await;
                    }
                }
                if let Some(input) = input_of(event, hung_up_for) {
                    line.tell(named_by_side(input, line.id.side)).await;
                }
                if is_last {
                    return;
                }
            }
            () = pause(left), if hung_up_for.is_none() => {
                if let Some(cause) = why_over(over_at, of_budgets(&line, meter.as_ref())) {
                    hung_up_for = Some((cause, Party::Switch));
                    carried.obey(LegOutput::HangUp(cause)).await;
                }
            }
        }
    }
}

/// It answered when another party had: it is charged to nobody, and the record says so.
async fn lose(line: &Line, target: &Target, meter: Option<CallMeter>) {
    if let Some(meter) = meter {
        meter.withdraw();
    }
    let mut decision = Decision::new();
    let (what, whose) = match target {
        Target::Gateway(own) => ("try", format!("{} of {}", own.gateway.name, own.trunk.name)),
        Target::Peer(_) => ("peer", target.peer_host()),
    };
    decision
        .note(what, format!("{whose} answered when another party had: hung up, and not charged"));
    line.report(DialNews::Attempted(decision)).await;
}

/// How long the budgets leave the leg.
fn of_budgets(line: &Line, meter: Option<&CallMeter>) -> Option<Duration> {
    meter.map(|meter| meter.time_left(&line.switch.table.load(), clock::now()))
}

/// How long the leg may go on: what its trunk leaves, and its budgets.
fn time_left(over_at: Option<Moment>, of_budgets: Option<Duration>) -> Option<Duration> {
    let of_trunk = over_at.map(|at| at.since(clock::now()));
    of_trunk.into_iter().chain(of_budgets).min()
}

/// Why the leg may not go on.
fn why_over(over_at: Option<Moment>, of_budgets: Option<Duration>) -> Option<HangupCause> {
    if of_budgets.is_some_and(|left| left.is_zero()) {
        return Some(HangupCause::BudgetSpent);
    }
    over_at.filter(|at| *at <= clock::now()).map(|_| HangupCause::MaxDuration)
}

/// An end names the peer as the caller; the peer of a leg other than the near one is the far party.
fn named_by_side(input: LegInput, side: LegSide) -> LegInput {
    match (input, side) {
        (
            LegInput::Ended { cause, by: Party::Caller },
            LegSide::Far | LegSide::Third | LegSide::Supervisor(_),
        ) => LegInput::Ended { cause, by: Party::Far },
        (input, _) => input,
    }
}

async fn pause(left: Option<Duration>) {
    match left {
        Some(left) => tokio::time::sleep(left).await,
        None => std::future::pending().await,
    }
}

impl Carried {
    async fn obey(&self, output: LegOutput) {
        let command = command_of(self.dialog, output, &|to| self.target.number_uri(to));
        if let Some(command) = command {
            self.shard.command(command).await;
        }
    }
}

/// What a dialog must do for its call. `number_uri` gives the address of a telephone number at the peer.
pub(crate) fn command_of(
    dialog: DialogId,
    output: LegOutput,
    number_uri: &dyn Fn(E164) -> String,
) -> Option<Command> {
    Some(match output {
        LegOutput::Acknowledge(body) => Command::Acknowledge { dialog, body },
        LegOutput::AnswerReoffer(body) => Command::AnswerReinvite { dialog, body },
        LegOutput::RefuseReoffer(cause) => {
            Command::RefuseReinvite { dialog, status: cause.sip_status(), cause }
        }
        LegOutput::Reoffer(body) => Command::Reinvite { dialog, body },
        LegOutput::SendKey { digit, duration_ms } => Command::Info {
            dialog,
            content_type: FieldValue::new("application/dtmf-relay").ok()?,
            body: dtmf_relay(digit, duration_ms),
        },
        LegOutput::Refer(target) => Command::Refer {
            dialog,
            refer_to: refer_to(&target, number_uri),
            referred_by: None,
            headers: Vec::new(),
        },
        LegOutput::AcceptRefer => Command::AcceptRefer { dialog },
        LegOutput::RefuseRefer { status } => {
            Command::RefuseRefer { dialog, status, cause: HangupCause::Policy }
        }
        LegOutput::NotifyRefer { status } => Command::NotifyRefer { dialog, status },
        LegOutput::Explain(reason) => Command::Explain { dialog, reason },
        LegOutput::HangUp(cause) => Command::Hangup { dialog, cause },
        // Before an answer, or for legs that called us.
        LegOutput::Progress { .. }
        | LegOutput::Answer(_)
        | LegOutput::Refuse { .. }
        | LegOutput::Dial { .. }
        | LegOutput::Offer(_)
        | LegOutput::NotOffered(_)
        // Made into an address by the call's task.
        | LegOutput::ReferToLeg(_)
        | LegOutput::AnswerReplacement { .. }
        | LegOutput::RefuseReplacement(_) => return None,
    })
}

/// Whom a REFER names: a peer by its address, a number at the peer that is to call it.
fn refer_to(target: &DialTarget, number_uri: &dyn Fn(E164) -> String) -> String {
    match target {
        DialTarget::Number { to, .. } => number_uri(*to),
        DialTarget::Uri { uri, .. } => uri.as_str().to_owned(),
    }
}

/// How long whom a peer names is rung.
const REFERRED_RING_MAX: Duration = Duration::from_secs(45);

/// Whom a REFER names, as far as we dial it: a telephone number, as the carrier of `trunk` writes it or in
/// the international form. Which of them may be called is for the tenant's trunks to say; a dialog of the
/// peer's own to replace is nothing we have.
pub(crate) fn target_of(referred: &Referred, trunk: Option<&Arc<Trunk>>) -> Option<DialRequest> {
    if referred.replaces.is_some() {
        return None;
    }
    let raw: &[u8] = match referred.refer_to.uri() {
        Uri::Sip(uri) => uri.user()?,
        tel @ Uri::Tel(_) => tel.as_bytes(),
        Uri::Other(_) => return None,
    };
    let to = match trunk {
        Some(trunk) => trunk.number_meant(raw)?,
        None => dial_text(raw)?.parse().ok()?,
    };
    Some(partner::transferred_to(to, REFERRED_RING_MAX))
}

/// What an event of an answered dialog means to its call. `hung_up_for`: we ended it.
pub(crate) fn input_of(
    event: Event,
    hung_up_for: Option<(HangupCause, Party)>,
) -> Option<LegInput> {
    let description = |body: Option<Body>| -> Option<Bytes> { body.map(|body| body.bytes) };
    Some(match event {
        Event::Cancelled { .. } => LegInput::Cancelled,
        Event::Acknowledged { body, .. } => LegInput::Acknowledged(description(body)),
        Event::Reinvited { body, .. } => LegInput::Reoffered(description(body)),
        Event::Digit { digit, .. } => LegInput::Digit(digit),
        Event::ReinviteAnswered { body, .. } => LegInput::ReofferAnswered(description(body)),
        Event::Refreshed { body, .. } => LegInput::Refreshed(body.bytes),
        Event::ReinviteRefused { status, has_waited, .. } => {
            LegInput::ReofferRefused { status, has_waited }
        }
        Event::Referring { progress, .. } => referring(&progress),
        Event::Ended { how, .. } => {
            let (cause, by) = hung_up_for.unwrap_or_else(|| end(&how));
            LegInput::Ended { cause, by }
        }
        Event::Invited(_)
        | Event::Placed { .. }
        | Event::TooLarge { .. }
        | Event::Progressed { .. }
        | Event::Answered { .. }
        | Event::Refused { .. }
        | Event::EarlyAnswered { .. }
        | Event::InfoAnswered { .. }
        | Event::Referred { .. }
        | Event::Declined(_)
        | Event::RequestAnswered { .. }
        | Event::Probed { .. } => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::dial::DialRoute;
    use crate::engine::dial::tests::Around;
    use crate::engine::dial::tests::planned;
    use crate::routing::numbers::NumberRules;
    use crate::routing::numbers::RuleText;
    use crate::routing::usage::Account;
    use crate::sip::endpoint::event::DialogEnd;
    use crate::sip::message::header::name_addr::NameAddr;
    use crate::sip::message::header::replaces::Replaces;
    use crate::types::id::TrunkId;

    fn number_of(refer_to: &str, trunk: Option<&Arc<Trunk>>) -> Option<String> {
        let refer_to = NameAddr::parse(Bytes::copy_from_slice(refer_to.as_bytes())).unwrap();
        let replaces = Replaces::of_refer_to(refer_to.uri());
        let referred = Referred { refer_to, replaces, referred_by: None };
        match target_of(&referred, trunk)?.target {
            DialTarget::Number { to, .. } => Some(to.as_str().to_owned()),
            DialTarget::Uri { .. } => panic!("a REFER names numbers"),
        }
    }

    /// How long a trunk's day was used by a leg that is told to end for this cause, and what the record has of it.
    async fn used_by(cause: HangupCause) -> (Duration, String) {
        let DialRoute::Planned(plan) = planned(|_| ()) else { panic!("no plan") };
        let attempt = plan.tries.into_iter().next().unwrap();
        let trunk = Account::Trunk(attempt.trunk.id);
        let around = Around::new();
        let registry = Arc::clone(&around.line.switch.registry);
        let (shard, mut overheard) = ShardHandle::overheard();
        let (events_in, events) = mailbox::bounded(4);
        let dialog = DialogId(7);
        let target = Box::new(Target::Gateway(Box::new(attempt)));
        let watched = Watched::default();
        let _held = (None, Vec::new(), None);
        let carried = Carried { shard, dialog, events, target, watched, _held };
        let Around { line, commands, mut news } = around;
        let carrying = tokio::spawn(run(line, carried));
        tokio::task::yield_now().await;
        commands.send(LegOutput::HangUp(cause)).await.unwrap();
        let told = overheard.next().await;
        assert!(matches!(told, Some(Command::Hangup { .. })), "{told:?}");
        events_in.try_send(Event::Ended { dialog, how: DialogEnd::ByeAnswered }).unwrap();
        carrying.await.unwrap();
        let mut said = String::new();
        while let Some((_, news)) = news.recv().await {
            if let DialNews::Attempted(decision) = news {
                said.push_str(&decision.to_string());
            }
        }
        (registry.used(clock::now(), trunk), said)
    }

    #[tokio::test]
    async fn a_party_that_answers_when_another_had_is_charged_nothing_and_the_record_tells() {
        let (used, said) = used_by(HangupCause::AnsweredElsewhere).await;
        assert_eq!(used, Duration::ZERO);
        assert!(said.contains("a of trunk-1 answered when another party had"), "{said}");
        let (used, said) = used_by(HangupCause::Normal).await;
        assert!(used > Duration::ZERO && said.is_empty(), "{used:?} {said}");
    }

    #[test]
    fn whom_a_refer_names_is_found_in_every_form_that_carriers_write() {
        let mut trunk = Trunk::new(TrunkId::from_uuid(clock::new_uuid()), "carrier", Vec::new());
        let rules = |pattern: &str, to: &str| {
            let text = RuleText { pattern: pattern.to_owned(), to: to.to_owned() };
            NumberRules::compile(&[text], "").unwrap()
        };
        trunk.called = rules(r"^(44\d+)$", "+${1}");
        trunk.calling = rules(r"^0(\d{7})$", "+1${1}");
        let trunk = Arc::new(trunk);
        for (text, number) in [
            ("<sip:+15550142@carrier.example>", "+15550142"),
            ("<sip:+15550142@carrier.example:5070;user=phone;transport=udp>", "+15550142"),
            ("\"B\" <sip:+1%35550142;npdi;rn=1@carrier.example>", "+15550142"),
            ("<tel:+1-555-0142>", "+15550142"),
            ("<tel:555-0142;phone-context=+1>", "+15550142"),
            ("sip:05550142@carrier.example;user=phone", "+15550142"),
            ("<sip:442079460000@carrier.example>", "+442079460000"),
        ] {
            assert_eq!(number_of(text, Some(&trunk)).as_deref(), Some(number), "{text}");
        }
        for text in [
            "<sip:desk@192.0.2.7>",
            "<sip:192.0.2.7>",
            "<sip:5550142@carrier.example>",
            "<mailto:a@b>",
            "<sip:+15550142@carrier.example?Replaces=a%3Bto-tag%3D1%3Bfrom-tag%3D2>",
        ] {
            assert_eq!(number_of(text, Some(&trunk)), None, "{text}");
        }
        // A peer of its own has no numbers but those of the world.
        assert_eq!(number_of("<tel:+15550142>", None).as_deref(), Some("+15550142"));
        assert_eq!(number_of("<sip:05550142@carrier.example>", None), None);
    }
}
