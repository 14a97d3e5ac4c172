//! `Fault`: a way in which a switch can be wrong, seeded to see that the sheet finds it.

use crate::call::input::LegInput;
use crate::certify::setting_faults as setting;
use crate::certify::subject::Subject;
use crate::certify::transfer_faults as transfer;
use crate::routing::outbound_trunk::OutboundTrunk;
use crate::routing::registration::TrunkRegistration;
use crate::routing::signalling::Prack;
use crate::routing::trunk::Trunk;
use std::sync::Arc;
use std::time::Duration;

/// A way in which a switch can be wrong.
#[derive(Debug)]
pub struct Fault {
    /// Its name.
    pub name: &'static str,
    /// The check that must find it.
    pub found_by: &'static str,
    how: How,
}

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    In,
    Out,
}

/// Makes another message of one, or none.
type Spoil = fn(String, &Subject) -> Option<String>;

#[derive(Clone, Copy, Debug)]
enum How {
    /// A setting of the trunk is wrong.
    Setting(fn(&mut Trunk)),
    /// The same in how it calls out.
    Outbound(fn(&mut OutboundTrunk)),
    /// The same in how it registers.
    Registration(fn(&mut TrunkRegistration)),
    /// What we send is wrong, or is not sent.
    Sent(Spoil),
    /// What we hear is not heeded.
    Heard(Spoil),
    /// What the call is told of its leg is wrong.
    Told(fn(LegInput) -> LegInput),
    /// A REGISTER is sent where the carrier wants none, and none where it wants one.
    Registers,
    /// A setting is not served.
    NotServed,
}

impl Fault {
    /// The fault of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        FAULTS.iter().find(|fault| fault.name == name)
    }

    pub(super) fn set(&self, trunk: &mut Trunk) {
        match self.how {
            How::Setting(set) => set(trunk),
            How::Outbound(set) => {
                if let Some(outbound) = &mut trunk.outbound {
                    set(Arc::make_mut(outbound));
                }
            }
            How::Registration(set) => {
                if let Some(registration) = &mut trunk.registration {
                    set(Arc::make_mut(registration));
                }
            }
            How::Sent(_) | How::Heard(_) | How::Told(_) | How::Registers | How::NotServed => (),
        }
    }

    /// What the call is told of its leg, by a switch with this fault.
    pub(super) fn told(&self, input: LegInput) -> LegInput {
        match self.how {
            How::Told(spoil) => spoil(input),
            _ => input,
        }
    }

    pub(super) fn spoil(&self, way: Way, text: String, subject: &Subject) -> Option<String> {
        match (self.how, way) {
            (How::Sent(spoil), Way::Out) | (How::Heard(spoil), Way::In) => spoil(text, subject),
            _ => Some(text),
        }
    }

    pub(super) const fn is_of_registration(&self) -> bool {
        matches!(self.how, How::Registers)
    }

    pub(super) const fn is_unserved(&self) -> bool {
        matches!(self.how, How::NotServed)
    }
}

const fn fault(name: &'static str, found_by: &'static str, how: How) -> Fault {
    Fault { name, found_by, how }
}

/// Every fault that can be seeded.
pub const FAULTS: &[Fault] = &[
    fault("unserved-setting", "settings", How::NotServed),
    fault("registration-turned-round", "registration", How::Registers),
    fault(
        "registers-with-no-password",
        "registration-refresh",
        How::Registration(|r| r.account = None),
    ),
    fault("never-registers-again", "registration-refresh", How::Sent(only_first_register)),
    fault(
        "calls-unregistered",
        "registration-refused",
        How::Outbound(|o| o.needs_registration = false),
    ),
    fault(
        "loops-on-403",
        "registration-refused",
        How::Registration(|r| r.forbidden_retry = MOMENT),
    ),
    fault("deaf-to-min-expires", "registration-brief", How::Sent(short_lives)),
    fault("gives-up-registering", "registration-again", How::Registration(|r| r.retry = vec![DAY])),
    fault("deaf-to-retry-after", "registration-again", How::Heard(no_retry_after)),
    fault("address-in-request-uri", "request-host", How::Sent(address_in_request_uri)),
    fault("number-without-prefix", "called-number", How::Sent(number_without_prefix)),
    fault("foreign-caller", "caller-number", How::Sent(foreign_caller)),
    fault("caller-in-another-form", "caller-number", How::Sent(caller_in_another_form)),
    fault("caller-withheld-unasked", "caller-number", How::Sent(anonymous_from)),
    fault("no-asserted-identity", "asserted-identity", How::Sent(no_asserted_identity)),
    fault("identity-of-another-host", "asserted-identity", How::Sent(identity_elsewhere)),
    fault("caller-shown-though-withheld", "withheld-caller", How::Sent(no_privacy)),
    fault("no-user-phone", "user-phone", How::Sent(|t, _| Some(t.replace(";user=phone", "")))),
    fault("requires-100rel", "extensions", How::Setting(|t| t.signalling.prack = Prack::Required)),
    fault("media-not-as-agreed", "media-offer", How::Setting(setting::other_media)),
    fault("no-telephone-event", "keys", How::Setting(|t| t.media.dtmf_payload_type = None)),
    fault("oversized-request", "datagram", How::Sent(oversized)),
    fault("no-answer-to-challenge", "challenge", How::Outbound(|o| o.account = None)),
    fault("answers-with-another-password", "challenge", How::Outbound(setting::another_password)),
    fault("ack-past-record-route", "call-out", How::Sent(ack_past_route)),
    fault("contact-rewritten", "call-out", How::Sent(contact_rewritten)),
    fault("no-bye", "call-out", How::Sent(|t, _| unless(t, "BYE "))),
    fault("early-media-kept", "early-media", How::Heard(media_never_moves)),
    fault("tries-on-after-busy", "busy", How::Outbound(|o| o.failover.on_codes.push(486))),
    fault("no-failover", "failover", How::Outbound(|o| o.failover.on_codes.clear())),
    fault("tries-on-after-ringing", "rang", How::Outbound(setting::tries_on_after_ringing)),
    fault("waits-on-silence", "silence", How::Outbound(|o| o.failover.on_timeout = false)),
    fault("deaf-to-throttling", "throttling", How::Outbound(setting::deaf_to_throttling)),
    fault("no-cancel", "cancel", How::Sent(|t, _| unless(t, "CANCEL "))),
    fault("crossing-answer-forgotten", "cancel-race", How::Sent(|t, _| unless(t, "BYE "))),
    fault("rings-for-ever", "ring-timeout", How::Sent(|t, _| unless(t, "CANCEL "))),
    fault("follows-redirects", "redirect", How::Outbound(setting::follows_redirects)),
    fault("second-answer-kept", "forked", How::Sent(fork_kept)),
    fault("second-answer-unacknowledged", "forked", How::Sent(fork_unacknowledged)),
    fault("deaf-to-422", "interval", How::Sent(short_interval)),
    fault("no-channel-limit", "ceilings", How::Setting(setting::no_channel_limit)),
    fault("no-pace", "ceilings", How::Outbound(|o| o.limits.cps_max = 0)),
    fault("ends-long-calls", "long-call", How::Setting(|t| t.max_duration = HOUR)),
    fault("keys-of-our-own-type", "key-types", How::Sent(own_key_type)),
    fault("one-codec-refused", "one-codec", How::Sent(refresh_refused)),
    fault("media-from-anywhere", "media-sources", How::Setting(|t| t.media.remote_cidrs.clear())),
    fault("refresh-unanswered", "refresh-by-invite", How::Sent(|t, _| unanswered(t, "INVITE"))),
    fault("refresh-refused", "refresh-by-invite", How::Sent(refresh_refused)),
    fault("never-refreshes", "refresh-by-us", How::Sent(never_refreshes)),
    fault("update-unanswered", "refresh-by-update", How::Sent(|t, _| unanswered(t, "UPDATE"))),
    fault("offer-of-one-codec", "refresh-without-offer", How::Sent(one_codec)),
    fault("sends-while-held", "hold", How::Sent(sends_while_held)),
    fault("silent-after-hold", "hold", How::Heard(stays_held)),
    fault("deaf-to-null-address", "hold", How::Heard(deaf_to_null_address)),
    fault("hold-refused", "hold", How::Sent(refresh_refused)),
    fault("hold-not-told", "hold-by-us", How::Sent(hold_not_told)),
    fault("never-taken-back", "hold-by-us", How::Sent(never_taken_back)),
    fault("drains-without-a-time", "draining", How::Sent(no_retry_after)),
    fault("draining-is-final", "draining", How::Sent(draining_is_final)),
    fault("drains-calls-too", "draining", How::Sent(|t, _| unanswered(t, "INVITE"))),
    fault("deaf-to-packet-times", "packet-times", How::Heard(deaf_to_packet_times)),
    fault("fax-taken", "fax", How::Sent(fax_taken)),
    fault("transfer-taken", "transfer", How::Sent(transfer_taken)),
    fault("refer-not-sent", "transfer-out", How::Sent(|t, _| unless(t, "REFER "))),
    fault("refer-without-prefix", "transfer-out", How::Sent(transfer::number_without_prefix)),
    fault("deaf-to-notify", "transfer-out", How::Heard(|t, _| unless(t, "NOTIFY "))),
    fault("notify-unanswered", "transfer-out", How::Sent(|t, _| unanswered(t, "NOTIFY"))),
    fault("bye-before-notify", "transfer-out", How::Told(|i| transfer::misread(i, (100, 200)))),
    fault("refer-to-address", "transfer-out-host", How::Sent(transfer::at_an_address)),
    fault("refer-no-user-phone", "transfer-out-phone", How::Sent(transfer::without_user_phone)),
    fault("deaf-to-603", "transfer-out-refused", How::Told(transfer::refusal_misread)),
    fault(
        "failed-transfer-made",
        "transfer-out-refused",
        How::Told(|i| transfer::misread(i, (486, 200))),
    ),
    fault("bye-after-202", "transfer-out-silence", How::Told(|i| transfer::misread(i, (202, 200)))),
    fault(
        "ringing-overheard",
        "transfer-out-hung-up",
        How::Told(|i| transfer::misread(i, (180, 100))),
    ),
    fault(
        "trying-taken-for-made",
        "transfer-out-hung-up",
        How::Told(|i| transfer::misread(i, (100, 180))),
    ),
    fault("waits-for-media", "first-to-speak", How::Heard(|t, _| unless(t, "ACK "))),
    fault("carrier-challenged", "call-in", How::Setting(setting::challenges)),
    fault("call-in-not-hung-up", "call-in", How::Sent(|t, _| unless(t, "BYE "))),
    fault("bye-past-record-route", "call-in", How::Sent(bye_past_route)),
    fault("number-not-found", "call-in", How::Setting(|t| t.did_sources.clear())),
    fault("caller-misread", "call-in", How::Heard(caller_lost)),
    fault("withheld-caller-refused", "withheld-caller-in", How::Sent(turned_away)),
    fault(
        "unknown-number-unavailable",
        "unknown-number",
        How::Setting(setting::unknown_unavailable),
    ),
    fault("no-answer-rings-elsewhere", "outcomes", How::Setting(setting::no_answer_goes_on)),
    fault("overload-is-final", "outcomes", How::Setting(|t| t.response_map.overload = 486)),
    fault("answer-without-offer", "offerless", How::Sent(answer_without_offer)),
    fault("deaf-to-answer-in-ack", "offerless", How::Heard(answer_lost)),
    fault("short-timer-refused", "short-timer", How::Setting(setting::short_timer_refused)),
    fault("lost-ack-ignored", "lost-ack", How::Sent(|t, _| unless(t, "BYE "))),
    fault("cancel-unanswered", "cancel-in", How::Sent(cancel_unanswered)),
    fault("cancelled-call-kept", "cancel-in", How::Sent(|t, _| unless(t, "SIP/2.0 487"))),
    fault("answers-strangers", "strangers", How::Setting(setting::answers_strangers)),
    fault("deaf-to-secret-header", "secret-header", How::Heard(secret_overlooked)),
    fault("silent-to-options", "options-in", How::Sent(|t, _| unanswered(t, "OPTIONS"))),
    fault("probes-too-often", "options-rate", How::Outbound(setting::probes_too_often)),
];

const MOMENT: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// The first CSeq of requests of the carrier's within a call, up to the last that matters.
const WITHIN: [&str; 6] = ["101", "102", "103", "104", "105", "106"];

fn unless(text: String, start: &str) -> Option<String> {
    (!text.starts_with(start)).then_some(text)
}

fn is_opening_invite(text: &str) -> bool {
    let to = text.lines().find(|line| line.starts_with("To: "));
    text.starts_with("INVITE ") && !to.is_some_and(|line| line.contains(";tag="))
}

/// Whether it is a response to a request of the carrier's, of this method.
fn answers(text: &str, method: &str) -> bool {
    text.starts_with("SIP/2.0 ")
        && text.lines().any(|line| line.starts_with("CSeq: ") && line.ends_with(method))
}

fn answers_within(text: &str, method: &str) -> bool {
    let cseq = |number: &str| text.contains(&format!("CSeq: {number} {method}"));
    text.starts_with("SIP/2.0 ") && WITHIN.iter().any(|number| cseq(number))
}

fn unanswered(text: String, method: &str) -> Option<String> {
    let is_answer =
        if method == "OPTIONS" { answers(&text, method) } else { answers_within(&text, method) };
    (!is_answer).then_some(text)
}

/// Replaces the first line.
fn first_line(text: &str, line: &str) -> String {
    let rest = text.split_once("\r\n").map_or("", |(_, rest)| rest);
    format!("{line}\r\n{rest}")
}

/// Edits the lines of one header.
pub(super) fn header(text: &str, name: &str, edit: impl Fn(&str) -> Option<String>) -> String {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
    let start = format!("{name}: ");
    let line = |line: &str| match line.strip_prefix(&start) {
        Some(value) => edit(value).map(|value| format!("{start}{value}")),
        None => Some(line.to_owned()),
    };
    let head: Vec<String> = head.split("\r\n").filter_map(line).collect();
    format!("{}\r\n\r\n{body}", head.join("\r\n"))
}

/// Edits the body and says its new length.
fn body(text: &str, edit: impl Fn(&str) -> String) -> String {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
    let body = edit(body);
    let length = body.len().to_string();
    header(&format!("{head}\r\n\r\n{body}"), "Content-Length", |_| Some(length.clone()))
}

/// Puts another user part into a URI or address.
pub(super) fn with_user(text: &str, user: impl Fn(&str) -> String) -> String {
    let Some((before, rest)) = text.split_once("sip:") else { return text.to_owned() };
    let Some((own, after)) = rest.split_once('@') else { return text.to_owned() };
    format!("{before}sip:{}@{after}", user(own))
}

/// The first REGISTER and the answer to its challenge go out, and none after them.
fn only_first_register(text: String, _: &Subject) -> Option<String> {
    let is_first = text.contains("CSeq: 1 ") || text.contains("CSeq: 2 ");
    (!text.starts_with("REGISTER ") || is_first).then_some(text)
}

fn short_lives(text: String, _: &Subject) -> Option<String> {
    if !text.starts_with("REGISTER ") {
        return Some(text);
    }
    Some(header(&text, "Expires", |_| Some("60".to_owned())))
}

fn no_retry_after(text: String, _: &Subject) -> Option<String> {
    Some(header(&text, "Retry-After", |_| None))
}

fn draining_is_final(text: String, _: &Subject) -> Option<String> {
    if !text.starts_with("SIP/2.0 503") {
        return Some(text);
    }
    Some(first_line(&text, "SIP/2.0 486 Busy Here"))
}

fn deaf_to_packet_times(text: String, _: &Subject) -> Option<String> {
    Some(text.replace("a=ptime:10", "a=ptime:20").replace("a=ptime:30", "a=ptime:20"))
}

fn address_in_request_uri(text: String, subject: &Subject) -> Option<String> {
    if !is_opening_invite(&text) {
        return Some(text);
    }
    let line = text.lines().next().unwrap_or_default();
    let user = line.split_once('@').map_or(line, |(user, _)| user);
    Some(first_line(&text, &format!("{user}@{} SIP/2.0", subject.edge().ip())))
}

fn number_without_prefix(text: String, _: &Subject) -> Option<String> {
    if !is_opening_invite(&text) {
        return Some(text);
    }
    let line = text.lines().next().unwrap_or_default();
    let line = with_user(line, |user| user.trim_start_matches(['+', '0']).to_owned());
    Some(first_line(&text, &line))
}

fn foreign_caller(text: String, subject: &Subject) -> Option<String> {
    let own = subject.model.caller.write(subject.own.as_str());
    let foreign = subject.model.caller.write(subject.model.numbers.foreign);
    if !is_opening_invite(&text) {
        return Some(text);
    }
    let change = |value: &str| Some(value.replace(&own, &foreign));
    let text = header(&text, "From", change);
    let text = header(&text, "P-Asserted-Identity", change);
    Some(header(&text, "P-Preferred-Identity", change))
}

/// The number is ours, and not written as the carrier knows it.
fn caller_in_another_form(text: String, subject: &Subject) -> Option<String> {
    if !is_opening_invite(&text) {
        return Some(text);
    }
    let own = subject.model.caller.write(subject.own.as_str());
    let other = match own.strip_prefix('+') {
        Some(bare) => bare.to_owned(),
        None => subject.own.to_string(),
    };
    let change = |value: &str| Some(value.replace(&own, &other));
    let text = header(&text, "From", change);
    let text = header(&text, "P-Asserted-Identity", change);
    Some(header(&text, "P-Preferred-Identity", change))
}

fn anonymous_from(text: String, _: &Subject) -> Option<String> {
    if !is_opening_invite(&text) {
        return Some(text);
    }
    let text = header(&text, "From", |value| Some(with_user(value, |_| "anonymous".to_owned())));
    let text = header(&text, "P-Asserted-Identity", |_| None);
    Some(header(&text, "P-Preferred-Identity", |_| None))
}

fn no_asserted_identity(text: String, _: &Subject) -> Option<String> {
    let text = header(&text, "P-Preferred-Identity", |_| None);
    Some(header(&text, "P-Asserted-Identity", |_| None))
}

fn identity_elsewhere(text: String, _: &Subject) -> Option<String> {
    Some(header(&text, "P-Preferred-Identity", |value| {
        let user = value.split_once('@').map_or(value, |(user, _)| user);
        Some(format!("{user}@192.0.2.77>"))
    }))
}

/// The carrier either sees that nothing is withheld, or that nothing says who calls.
fn no_privacy(text: String, subject: &Subject) -> Option<String> {
    if !is_opening_invite(&text) {
        return Some(text);
    }
    if !subject.model.takes_withheld {
        return anonymous_from(text, subject);
    }
    Some(header(&text, "Privacy", |_| None))
}

fn oversized(text: String, _: &Subject) -> Option<String> {
    if !is_opening_invite(&text) {
        return Some(text);
    }
    let padding = "x".repeat(1_400);
    Some(header(&text, "From", |value| Some(format!("{value}\r\nX-Padding: {padding}"))))
}

/// A request within a call goes straight to the Contact: the carrier's network is not reached that way.
fn ack_past_route(text: String, _: &Subject) -> Option<String> {
    if !text.starts_with("ACK ") {
        return Some(text);
    }
    Some(header(&text, "Route", |_| None))
}

/// The same at the end of a call.
fn bye_past_route(text: String, _: &Subject) -> Option<String> {
    if !text.starts_with("BYE ") {
        return Some(text);
    }
    Some(header(&text, "Route", |_| None))
}

/// The private address of a Contact is "mended" to the one the answer came from.
fn contact_rewritten(text: String, subject: &Subject) -> Option<String> {
    if !text.starts_with("ACK ") {
        return Some(text);
    }
    Some(first_line(&text, &format!("ACK sip:gw@{} SIP/2.0", subject.edge())))
}

fn media_never_moves(text: String, subject: &Subject) -> Option<String> {
    let port = subject.subscription.media.port();
    Some(text.replace(&format!("m=audio {} ", port + 20), &format!("m=audio {port} ")))
}

fn never_refreshes(text: String, _: &Subject) -> Option<String> {
    let is_again = text.starts_with("INVITE ") && !is_opening_invite(&text);
    (!is_again && !text.starts_with("UPDATE ")).then_some(text)
}

fn refresh_refused(text: String, _: &Subject) -> Option<String> {
    if text.starts_with("SIP/2.0 200") && answers_within(&text, "INVITE") {
        let text = body(&text, |_| String::new());
        return Some(first_line(&text, "SIP/2.0 488 Not Acceptable Here"));
    }
    Some(text)
}

fn one_codec(text: String, _: &Subject) -> Option<String> {
    if !text.starts_with("SIP/2.0 200") || !answers_within(&text, "INVITE") {
        return Some(text);
    }
    Some(body(&text, |body| body.replace(" 0 8 ", " 0 ").replace(" 8 0 ", " 8 ")))
}

fn sends_while_held(text: String, _: &Subject) -> Option<String> {
    Some(body(&text, |body| {
        body.replace("a=recvonly", "a=sendrecv").replace("a=inactive", "a=sendrecv")
    }))
}

/// A hold by RFC 2543 is read as any other offer.
fn deaf_to_null_address(text: String, subject: &Subject) -> Option<String> {
    let (null, real) = ("IN IP4 0.0.0.0", format!("IN IP4 {}", subject.subscription.media.ip()));
    if !text.contains(null) {
        return Some(text);
    }
    Some(body(&text, |body| body.replace(null, &real)))
}

/// A hold of ours looks like any other offer.
fn hold_not_told(text: String, _: &Subject) -> Option<String> {
    if !text.starts_with("INVITE ") {
        return Some(text);
    }
    Some(body(&text, |body| {
        body.replace("a=sendonly", "a=sendrecv").replace("a=inactive", "a=sendrecv")
    }))
}

/// The end of a hold of ours looks like another one.
fn never_taken_back(text: String, _: &Subject) -> Option<String> {
    if !text.starts_with("INVITE ") || is_opening_invite(&text) {
        return Some(text);
    }
    Some(body(&text, |body| body.replace("a=sendrecv", "a=sendonly")))
}

fn turned_away(text: String, _: &Subject) -> Option<String> {
    if text.starts_with("SIP/2.0 200") && answers(&text, "INVITE") {
        let text = body(&text, |_| String::new());
        return Some(first_line(&text, "SIP/2.0 433 Anonymity Disallowed"));
    }
    Some(text)
}

fn is_of_fork(text: &str) -> bool {
    text.lines().any(|line| line.starts_with("To: ") && line.contains("tag=fork"))
}

fn fork_kept(text: String, _: &Subject) -> Option<String> {
    (!is_of_fork(&text) || !text.starts_with("BYE ")).then_some(text)
}

fn fork_unacknowledged(text: String, _: &Subject) -> Option<String> {
    (!is_of_fork(&text) || !text.starts_with("ACK ")).then_some(text)
}

/// An offer that brings a held call back is taken for another hold.
fn stays_held(text: String, _: &Subject) -> Option<String> {
    if !text.starts_with("INVITE ") || is_opening_invite(&text) {
        return Some(text);
    }
    Some(body(&text, |body| body.replace("a=sendrecv", "a=inactive")))
}

fn cancel_unanswered(text: String, _: &Subject) -> Option<String> {
    (!answers(&text, "CANCEL")).then_some(text)
}

fn answer_lost(text: String, _: &Subject) -> Option<String> {
    if !text.starts_with("ACK ") {
        return Some(text);
    }
    Some(body(&text, |_| String::new()))
}

fn short_interval(text: String, _: &Subject) -> Option<String> {
    if !is_opening_invite(&text) {
        return Some(text);
    }
    Some(header(&text, "Session-Expires", |_| Some("1800".to_owned())))
}

fn own_key_type(text: String, _: &Subject) -> Option<String> {
    if !text.starts_with("SIP/2.0 200") || !answers_within(&text, "INVITE") {
        return Some(text);
    }
    Some(body(&text, |body| body.replace(" 96", " 101").replace(":96 ", ":101 ")))
}

fn fax_taken(text: String, _: &Subject) -> Option<String> {
    if text.starts_with("SIP/2.0 488") && answers_within(&text, "INVITE") {
        return Some(first_line(&text, "SIP/2.0 200 OK"));
    }
    Some(text)
}

fn transfer_taken(text: String, _: &Subject) -> Option<String> {
    if text.starts_with("SIP/2.0 603") && answers_within(&text, "REFER") {
        return Some(first_line(&text, "SIP/2.0 202 Accepted"));
    }
    Some(text)
}

fn caller_lost(text: String, _: &Subject) -> Option<String> {
    if !text.starts_with("INVITE ") {
        return Some(text);
    }
    Some(header(&text, "From", |value| Some(with_user(value, |_| "unknown".to_owned()))))
}

fn answer_without_offer(text: String, _: &Subject) -> Option<String> {
    if text.starts_with("SIP/2.0 200") && answers(&text, "INVITE") {
        return Some(body(&text, |_| String::new()));
    }
    Some(text)
}

/// Every call from the carrier is taken as if it had the trunk's secret.
fn secret_overlooked(text: String, subject: &Subject) -> Option<String> {
    if !text.starts_with("INVITE ") {
        return Some(text);
    }
    let required = subject.trunk.required_headers.iter();
    Some(required.fold(text, |text, (name, value)| {
        let bare = header(&text, name, |_| None);
        header(&bare, "From", |from| Some(format!("{from}\r\n{name}: {}", value.expose())))
    }))
}
