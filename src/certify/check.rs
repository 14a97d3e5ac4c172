//! `CHECKS`: the sheet, and what came of it.

use crate::certify::answer_checks as answer;
use crate::certify::bench::Bench;
use crate::certify::inbound_checks as inbound;
use crate::certify::media_checks as media;
use crate::certify::outbound_checks as outbound;
use crate::certify::registration_checks as registration;
use crate::certify::session_checks as session;
use crate::certify::subject::Subject;
use crate::certify::transfer_checks as transfer;
use crate::simulator::judge::Rule;
use std::fmt;

/// Whether the switch did as it should; else what was wrong, in words.
pub(super) type Checked = Result<(), String>;

/// One line of the sheet.
pub(super) struct Check {
    /// Its name, for faults and tests.
    pub(super) name: &'static str,
    /// What a switch that passes does.
    pub(super) sentence: &'static str,
    /// Which calls it takes to try it.
    calls: Calls,
    /// Why it cannot be tried with this trunk for another reason, if so.
    fits: fn(&Subject) -> Result<(), &'static str>,
    /// Tries it on a new bench.
    run: fn(&mut Bench<'_>) -> Checked,
}

/// Which calls it takes to try something.
#[derive(Clone, Copy)]
enum Calls {
    /// Whichever the trunk has, or none.
    Any,
    /// Calls to the carrier.
    Out,
    /// Calls from the carrier.
    In,
}

impl Check {
    /// Tries it on a new bench, where it can be tried with this trunk.
    pub(super) fn verdict(&self, bench: &mut Bench<'_>) -> Verdict {
        let subject = bench.subject;
        let fits = match self.calls {
            Calls::Out if !subject.calls_out() => Err("the trunk does not call out"),
            Calls::In if !subject.calls_in() => Err("the trunk takes no calls"),
            Calls::Any | Calls::Out | Calls::In => (self.fits)(subject),
        };
        match fits {
            Err(why) => Verdict::Skipped(why),
            Ok(()) => match (self.run)(bench) {
                Ok(()) => Verdict::Passed,
                Err(why) => Verdict::Failed(why),
            },
        }
    }
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

macro_rules! checks {
    ($($name:literal $calls:ident $fits:expr, $run:expr, $sentence:literal;)+) => {
        /// The sheet.
        pub(super) const CHECKS: &[Check] = &[
            $(Check {
                name: $name,
                sentence: $sentence,
                calls: Calls::$calls,
                fits: $fits,
                run: $run,
            },)+
        ];
    };
}

checks! {
    "settings" Any always, outbound::settings,
        "Every setting of the profile is served by this version.";
    "registration" Any always, registration::registration,
        "It registers where the carrier wants that, and nowhere else.";
    "registration-refresh" Any registration::registers, registration::refresh,
        "A registration is refreshed before it ends, and no oftener than it must.";
    "registration-refused" Any registration::registers, registration::refused,
        "A registrar that refuses us is left alone for some minutes, and then asked again.";
    "registration-brief" Any registration::registers, registration::brief,
        "A registrar that wants longer registrations gets them.";
    "registration-again" Any registration::registers, registration::again,
        "After a failure it registers again, no sooner than the registrar says.";
    "call-out" Out always, outbound::call_out,
        "A call out is answered, acknowledged by the Record-Route to the Contact as given, and hung up.";
    "request-host" Out outbound::has_hosts, |bench| bench.rule(Rule::Host),
        "The Request-URI names the trunk by its host, whatever address it is sent to.";
    "called-number" Out always, |bench| bench.rule(Rule::Called),
        "The called number is written as the carrier dials.";
    "caller-number" Out always, outbound::caller_number,
        "The caller is always a number allotted to us, also when another is asked for.";
    "asserted-identity" Out outbound::has_identity, |bench| bench.rule(Rule::Asserted),
        "The caller is asserted in the header and with the host that the carrier wants.";
    "withheld-caller" Out always, outbound::withheld_caller,
        "A caller who wants to be withheld is, where the carrier takes such calls.";
    "user-phone" Out outbound::wants_user_phone, |bench| bench.rule(Rule::Telephone),
        "Request-URI, From and To carry user=phone.";
    "extensions" Out always, |bench| bench.rule(Rule::Extensions),
        "Nothing is required of the carrier that it need not know.";
    "media-offer" Out always, |bench| bench.rule(Rule::Media),
        "Media is offered as agreed: in the clear or encrypted, with G.711.";
    "keys" Out always, outbound::keys,
        "Keys are offered as telephone-event.";
    "datagram" Out outbound::is_datagrams, outbound::datagram,
        "An INVITE fits into a datagram.";
    "challenge" Out outbound::is_challenged, outbound::challenge,
        "A challenge is answered once, with the trunk's account.";
    "early-media" Out always, outbound::early_media,
        "Early media is heard, and media that moves with the answer is followed.";
    "busy" Out always, outbound::busy,
        "Busy is final: no other gateway is tried.";
    "failover" Out always, outbound::failover,
        "A gateway that cannot serve is followed by the next.";
    "rang" Out always, outbound::rang,
        "A call that fails after it rang is not tried elsewhere.";
    "silence" Out always, outbound::silence,
        "A gateway that says nothing for some seconds is followed by the next.";
    "throttling" Out always, outbound::throttling,
        "A carrier that wants fewer calls is let rest, not declared dead.";
    "cancel" Out always, outbound::cancel,
        "A call given up while it rings is cancelled.";
    "cancel-race" Out always, outbound::cancel_race,
        "An answer that crosses our CANCEL is acknowledged and hung up.";
    "ring-timeout" Out always, outbound::ring_timeout,
        "A call that only rings is given up after the trunk's time.";
    "redirect" Out always, outbound::redirect,
        "A carrier cannot send a call of ours elsewhere.";
    "forked" Out always, answer::forked,
        "Of several telephones that ring, the first to answer has the call; a second is hung up.";
    "interval" Out answer::asks_for_interval, answer::interval,
        "A carrier that finds the session interval too short (422) gets a longer one.";
    "ceilings" Out answer::has_ceilings, answer::ceilings,
        "No more calls at once, and no faster, than the profile says.";
    "options-rate" Out always, outbound::options_rate,
        "Gateways are probed no oftener than the carrier bears.";
    "call-in" In always, inbound::call_in,
        "A call in is taken, challenged only where the carrier has a password, and dialled number and caller are read.";
    "withheld-caller-in" In always, inbound::withheld_caller_in,
        "A caller who withholds the number is taken, or refused with 433, as the profile says.";
    "unknown-number" In always, inbound::unknown_number,
        "A number that is not ours is refused with 404.";
    "outcomes" In inbound::gives_up, inbound::outcomes,
        "Final outcomes are told by statuses after which the carrier tries no other address, passing ones are not.";
    "offerless" In always, inbound::offerless,
        "An INVITE without an offer gets ours, and the answer in the ACK is taken.";
    "short-timer" In always, inbound::short_timer,
        "A short session timer that nobody will honour does not cost the call.";
    "first-to-speak" In always, inbound::first_to_speak,
        "We speak first where the carrier is silent until it hears us.";
    "cancel-in" In always, inbound::cancel_in,
        "A call the carrier cancels ends with 487.";
    "lost-ack" In always, inbound::lost_ack,
        "A call whose answer is never acknowledged is hung up after half a minute.";
    "strangers" In always, inbound::strangers,
        "Who is not this carrier is no caller of this trunk.";
    "secret-header" In inbound::has_secret, inbound::secret_header,
        "A call from the carrier's addresses without the trunk's secret header is another customer's.";
    "options-in" In always, inbound::options_in,
        "OPTIONS of the carrier is answered 200.";
    "refresh-by-invite" Any always, session::refresh_by_invite,
        "The carrier's re-INVITE after 15 minutes is answered, and the call goes on.";
    "refresh-by-us" Out session::keeps_timer, session::refresh_by_us,
        "A refresh that the carrier leaves to us is sent by half the time.";
    "refresh-by-update" Any always, session::refresh_by_update,
        "A refresh by UPDATE is answered, and the call goes on.";
    "refresh-without-offer" Any always, session::refresh_without_offer,
        "A re-INVITE without an offer gets all our codecs.";
    "long-call" Any session::lasts_long, session::long_call,
        "A call of two hours is kept through each refresh of the carrier.";
    "key-types" Any always, session::key_types,
        "Keys are sent under whatever payload type the carrier offers them.";
    "one-codec" Any always, session::one_codec,
        "A carrier with one codec alone, mu-law or A-law, is answered with it.";
    "packet-times" Any always, media::packet_times,
        "Packets of 10 and of 30 ms are taken, and sent where the carrier asks for them.";
    "media-sources" Any always, media::media_sources,
        "Packets are taken from where the carrier says and from its networks, and from nowhere else.";
    "hold" Any always, session::hold,
        "Hold in all three styles stops our media, and a later offer brings it back.";
    "hold-by-us" Any always, session::hold_by_us,
        "Whom we hold is told so, as the profile says, and told when we are back.";
    "fax" Any always, session::fax,
        "A fax that is offered is refused with 488, and the call goes on.";
    "draining" In always, session::draining,
        "A switch that is being stopped refuses new calls with 503 and Retry-After, and keeps those it has.";
    "transfer" Any always, session::transfer,
        "A transfer the carrier asks for is refused, and the call goes on.";
    "transfer-out" Out transfer::refers_out, transfer::made,
        "A transfer is asked of the carrier by a number as it dials, and is over when it says so.";
    "transfer-out-host" Out transfer::has_hosts, transfer::host,
        "Whom it is to transfer to is named at the host of the trunk.";
    "transfer-out-phone" Out transfer::wants_user_phone, transfer::telephone,
        "Whom it is to transfer to is named with user=phone.";
    "transfer-out-refused" Out transfer::refers_out, transfer::refused,
        "A caller whom the carrier does not transfer, or not for long, stays with the agent.";
    "transfer-out-silence" Out transfer::refers_out, transfer::silence,
        "A caller comes back when the carrier takes a transfer and says nothing more.";
    "transfer-out-hung-up" Out transfer::refers_out, transfer::hung_up,
        "A carrier that hangs up instead of telling has transferred the caller only if it rang.";
}
