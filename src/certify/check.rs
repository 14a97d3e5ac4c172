//! `CHECKS`: the sheet, and what came of it.

use crate::certify::answer_checks as answer;
use crate::certify::bench::Bench;
use crate::certify::inbound_checks as inbound;
use crate::certify::outbound_checks as outbound;
use crate::certify::registration_checks as registration;
use crate::certify::session_checks as session;
use crate::certify::subject::Subject;
use std::fmt;

/// One line of the sheet.
pub(super) struct Check {
    /// Its name, for faults and tests.
    pub(super) name: &'static str,
    /// What a switch that passes does.
    pub(super) sentence: &'static str,
    /// Why it cannot be tried with this trunk, if so.
    pub(super) applies: fn(&Subject) -> Result<(), &'static str>,
    /// Tries it on a new bench; an error says in words what was wrong.
    pub(super) run: fn(&mut Bench<'_>) -> Result<(), String>,
}

/// What came of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The switch does as it should.
    Passed,
    /// It does not: what was wrong, in words.
    Failed(String),
    /// The carrier or the profile has nothing to do with it: why.
    Skipped(&'static str),
}

/// One check and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The check.
    pub name: &'static str,
    /// What a switch that passes does.
    pub sentence: &'static str,
    /// What came of it.
    pub verdict: Verdict,
}

/// A filled-in sheet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sheet {
    /// The model of the carrier.
    pub carrier: &'static str,
    /// Who that is.
    pub title: &'static str,
    /// Every check in order.
    pub outcomes: Vec<Outcome>,
}

impl Sheet {
    /// The checks that failed, with the reasons.
    pub fn failures(&self) -> impl Iterator<Item = (&Outcome, &str)> {
        self.outcomes.iter().filter_map(|outcome| match &outcome.verdict {
            Verdict::Failed(why) => Some((outcome, why.as_str())),
            Verdict::Passed | Verdict::Skipped(_) => None,
        })
    }

    fn count(&self, counts: impl Fn(&Verdict) -> bool) -> usize {
        self.outcomes.iter().filter(|outcome| counts(&outcome.verdict)).count()
    }
}

impl fmt::Display for Sheet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<9} {}: {}", "carrier", self.carrier, self.title)?;
        for Outcome { name, sentence, verdict } in &self.outcomes {
            match verdict {
                Verdict::Passed => writeln!(f, "{:<9} {name:<22} {sentence}", "passed")?,
                Verdict::Skipped(why) => writeln!(f, "{:<9} {name:<22} {why}", "skipped")?,
                Verdict::Failed(why) => {
                    writeln!(f, "{:<9} {name:<22} {sentence}", "FAILED")?;
                    writeln!(f, "{:<9} {:<22} but: {why}", "", "")?;
                }
            }
        }
        let passed = self.count(|verdict| *verdict == Verdict::Passed);
        let failed = self.count(|verdict| matches!(verdict, Verdict::Failed(_)));
        let skipped = self.count(|verdict| matches!(verdict, Verdict::Skipped(_)));
        write!(f, "{:<9} {passed} passed, {failed} failed, {skipped} skipped", "verdict")
    }
}

const fn always(_: &Subject) -> Result<(), &'static str> {
    Ok(())
}

fn calls_out(subject: &Subject) -> Result<(), &'static str> {
    if subject.calls_out() { Ok(()) } else { Err("the trunk does not call out") }
}

fn calls_in(subject: &Subject) -> Result<(), &'static str> {
    if subject.calls_in() { Ok(()) } else { Err("the trunk takes no calls") }
}

macro_rules! checks {
    ($($name:literal $applies:expr, $run:expr, $sentence:literal;)+) => {
        /// The sheet.
        pub(super) const CHECKS: &[Check] = &[
            $(Check { name: $name, sentence: $sentence, applies: $applies, run: $run },)+
        ];
    };
}

checks! {
    "settings" always, outbound::settings,
        "Every setting of the profile is served by this version.";
    "registration" always, registration::registration,
        "It registers where the carrier wants that, and nowhere else.";
    "registration-refresh" registration::registers, registration::refresh,
        "A registration is refreshed before it ends, and no oftener than it must.";
    "registration-refused" registration::registers, registration::refused,
        "A registrar that refuses us is left alone for some minutes, and then asked again.";
    "registration-brief" registration::registers, registration::brief,
        "A registrar that wants longer registrations gets them.";
    "registration-again" registration::registers, registration::again,
        "After a failure it registers again, no sooner than the registrar says.";
    "call-out" calls_out, outbound::call_out,
        "A call out is answered, acknowledged by the Record-Route to the Contact as given, and hung up.";
    "request-host" outbound::has_hosts, outbound::request_host,
        "The Request-URI names the trunk by its host, whatever address it is sent to.";
    "called-number" calls_out, outbound::called_number,
        "The called number is written as the carrier dials.";
    "caller-number" calls_out, outbound::caller_number,
        "The caller is always a number allotted to us, also when another is asked for.";
    "asserted-identity" outbound::has_identity, outbound::asserted_identity,
        "The caller is asserted in the header and with the host that the carrier wants.";
    "withheld-caller" calls_out, outbound::withheld_caller,
        "A caller who wants to be withheld is, where the carrier takes such calls.";
    "user-phone" outbound::wants_user_phone, outbound::user_phone,
        "Request-URI, From and To carry user=phone.";
    "extensions" calls_out, outbound::extensions,
        "Nothing is required of the carrier that it need not know.";
    "media-offer" calls_out, outbound::media_offer,
        "Media is offered as agreed: in the clear or encrypted, with G.711.";
    "keys" calls_out, outbound::keys,
        "Keys are offered as telephone-event.";
    "datagram" outbound::is_datagrams, outbound::datagram,
        "An INVITE fits into a datagram.";
    "challenge" outbound::is_challenged, outbound::challenge,
        "A challenge is answered once, with the trunk's account.";
    "early-media" calls_out, outbound::early_media,
        "Early media is heard, and media that moves with the answer is followed.";
    "busy" calls_out, outbound::busy,
        "Busy is final: no other gateway is tried.";
    "failover" calls_out, outbound::failover,
        "A gateway that cannot serve is followed by the next.";
    "rang" calls_out, outbound::rang,
        "A call that fails after it rang is not tried elsewhere.";
    "silence" calls_out, outbound::silence,
        "A gateway that says nothing for some seconds is followed by the next.";
    "throttling" calls_out, outbound::throttling,
        "A carrier that wants fewer calls is let rest, not declared dead.";
    "cancel" calls_out, outbound::cancel,
        "A call given up while it rings is cancelled.";
    "cancel-race" calls_out, outbound::cancel_race,
        "An answer that crosses our CANCEL is acknowledged and hung up.";
    "ring-timeout" calls_out, outbound::ring_timeout,
        "A call that only rings is given up after the trunk's time.";
    "redirect" calls_out, outbound::redirect,
        "A carrier cannot send a call of ours elsewhere.";
    "forked" calls_out, answer::forked,
        "Of several telephones that ring, the first to answer has the call; a second is hung up.";
    "interval" answer::asks_for_interval, answer::interval,
        "A carrier that finds the session interval too short (422) gets a longer one.";
    "ceilings" answer::has_ceilings, answer::ceilings,
        "No more calls at once, and no faster, than the profile says.";
    "options-rate" calls_out, outbound::options_rate,
        "Gateways are probed no oftener than the carrier bears.";
    "call-in" calls_in, inbound::call_in,
        "A call in is taken without a challenge, and dialled number and caller are read.";
    "unknown-number" calls_in, inbound::unknown_number,
        "A number that is not ours is refused with 404.";
    "outcomes" inbound::gives_up, inbound::outcomes,
        "Final outcomes are told by statuses after which the carrier tries no other address, passing ones are not.";
    "offerless" calls_in, inbound::offerless,
        "An INVITE without an offer gets ours, and the answer in the ACK is taken.";
    "short-timer" calls_in, inbound::short_timer,
        "A short session timer that nobody will honour does not cost the call.";
    "first-to-speak" calls_in, inbound::first_to_speak,
        "We speak first where the carrier is silent until it hears us.";
    "cancel-in" calls_in, inbound::cancel_in,
        "A call the carrier cancels ends with 487.";
    "lost-ack" calls_in, inbound::lost_ack,
        "A call whose answer is never acknowledged is hung up after half a minute.";
    "strangers" calls_in, inbound::strangers,
        "Who is not this carrier, or lacks its secret header, is no caller of this trunk.";
    "options-in" calls_in, inbound::options_in,
        "OPTIONS of the carrier is answered 200.";
    "refresh-by-invite" always, session::refresh_by_invite,
        "The carrier's re-INVITE after 15 minutes is answered, and the call goes on.";
    "refresh-by-us" session::keeps_timer, session::refresh_by_us,
        "A refresh that the carrier leaves to us is sent by half the time.";
    "refresh-by-update" always, session::refresh_by_update,
        "A refresh by UPDATE is answered, and the call goes on.";
    "refresh-without-offer" always, session::refresh_without_offer,
        "A re-INVITE without an offer gets all our codecs.";
    "long-call" session::lasts_long, session::long_call,
        "A call of two hours is kept through each refresh of the carrier.";
    "key-types" always, session::key_types,
        "Keys are sent under whatever payload type the carrier offers them.";
    "one-codec" always, session::one_codec,
        "A carrier with one codec alone, mu-law or A-law, is answered with it.";
    "media-sources" always, session::media_sources,
        "Media is taken from the carrier's networks alone.";
    "hold" always, session::hold,
        "Hold in all three styles stops our media, and a later offer brings it back.";
    "fax" always, session::fax,
        "A fax that is offered is refused with 488, and the call goes on.";
    "transfer" always, session::transfer,
        "A transfer the carrier asks for is refused, and the call goes on.";
}
