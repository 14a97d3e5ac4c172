//! A call as Twilio's REST API shows it.

use crate::api::views::CallDetailView;
use crate::cdr::CallState;
use crate::clock;
use crate::types::cause::HangupCause;
use crate::types::id::CallId;
use crate::types::id::TenantId;
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;

/// The version of the API that this form is of.
const VERSION: &str = "2010-04-01";

/// A call, with every field that clients read; what Tandem has no notion of is null, as with Twilio.
#[derive(Debug, Serialize)]
pub(crate) struct TwilioCall {
    sid: String,
    account_sid: String,
    api_version: &'static str,
    status: &'static str,
    direction: &'static str,
    to: Option<String>,
    to_formatted: Option<String>,
    from: Option<String>,
    from_formatted: Option<String>,
    date_created: Option<String>,
    date_updated: Option<String>,
    start_time: Option<String>,
    end_time: Option<String>,
    /// Seconds, as text.
    duration: Option<String>,
    answered_by: Option<String>,
    parent_call_sid: Option<String>,
    phone_number_sid: Option<String>,
    trunk_sid: Option<String>,
    group_sid: Option<String>,
    forwarded_from: Option<String>,
    caller_name: Option<String>,
    queue_time: &'static str,
    price: Option<String>,
    price_unit: &'static str,
    annotation: Option<String>,
    uri: String,
    subresource_uris: BTreeMap<&'static str, String>,
}

impl TwilioCall {
    /// A call that was placed just now.
    pub(super) fn begun(key: (TenantId, CallId), to: &str, from: &str) -> Self {
        let mut call = Self::bare(key, "queued");
        call.to = Some(to.to_owned());
        call.from = Some(from.to_owned());
        call.date_created = Some(date(clock::wall_now()));
        call.date_updated.clone_from(&call.date_created);
        call.formatted()
    }

    /// One of which nothing is known but that it was told to end.
    pub(super) fn ending(key: (TenantId, CallId)) -> Self {
        Self::bare(key, "in-progress")
    }

    /// A call as its record has it.
    pub(super) fn of(key: (TenantId, CallId), detail: &CallDetailView) -> Self {
        let (record, times) = (&detail.call, &detail.call.times);
        let is_inbound = record.direction == "inbound";
        let mut call = Self::bare(key, status(record.status, record.cause.as_deref(), is_inbound));
        call.direction = if is_inbound { "inbound" } else { "outbound-api" };
        call.to = record.dialled.clone().or_else(|| Some(record.dialled_as.clone()));
        call.from = Some(record.caller.clone());
        call.date_created = Some(date(times.arrived));
        let last = [times.ended, times.answered, times.ringing, times.decided];
        call.date_updated = Some(date(last.into_iter().flatten().next().unwrap_or(times.arrived)));
        call.start_time = times.answered.map(date);
        call.end_time = times.ended.map(date);
        // Begun seconds count, as with Twilio.
        let seconds = (record.duration_ms.max(0) + 999) / 1_000;
        call.duration = times.ended.map(|_| seconds.to_string());
        call.formatted()
    }

    fn bare((tenant, call): (TenantId, CallId), status: &'static str) -> Self {
        let (account, sid) = (tenant.account_sid(), call.call_sid());
        let uri = format!("/{VERSION}/Accounts/{account}/Calls/{sid}.json");
        Self {
            sid,
            account_sid: account,
            api_version: VERSION,
            status,
            direction: "outbound-api",
            to: None,
            to_formatted: None,
            from: None,
            from_formatted: None,
            date_created: None,
            date_updated: None,
            start_time: None,
            end_time: None,
            duration: None,
            answered_by: None,
            parent_call_sid: None,
            phone_number_sid: None,
            trunk_sid: None,
            group_sid: None,
            forwarded_from: None,
            caller_name: None,
            queue_time: "0",
            price: None,
            price_unit: "USD",
            annotation: None,
            uri,
            subresource_uris: BTreeMap::new(),
        }
    }

    fn formatted(mut self) -> Self {
        self.to_formatted.clone_from(&self.to);
        self.from_formatted.clone_from(&self.from);
        self
    }
}

/// As RFC 5322 §3.3 has dates, in UTC.
fn date(time: Timestamp) -> String {
    time.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}

fn status(state: &str, cause: Option<&str>, is_inbound: bool) -> &'static str {
    if state == CallState::Ringing.as_str() {
        return "ringing";
    }
    if state == CallState::Answered.as_str() {
        return "in-progress";
    }
    if state == CallState::Ended.as_str() {
        return "completed";
    }
    if state == CallState::Initiated.as_str() {
        return if is_inbound { "ringing" } else { "queued" };
    }
    match cause.and_then(|cause| cause.parse().ok()) {
        Some(HangupCause::Busy | HangupCause::Rejected) => "busy",
        Some(HangupCause::NoAnswer) => "no-answer",
        // Ended in the ordinary way before anybody answered.
        Some(HangupCause::Normal | HangupCause::CallerCancelled) => "canceled",
        Some(_) | None => "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_and_causes_are_told_in_twilios_words() {
        for (state, cause, is_inbound, expected) in [
            ("initiated", None, false, "queued"),
            ("initiated", None, true, "ringing"),
            ("ringing", None, false, "ringing"),
            ("answered", None, false, "in-progress"),
            ("ended", Some("normal"), false, "completed"),
            ("failed", Some("normal"), false, "canceled"),
            ("failed", Some("busy"), false, "busy"),
            ("failed", Some("no_answer"), false, "no-answer"),
            ("failed", Some("no_gateway"), false, "failed"),
            ("failed", Some("caller_cancelled"), false, "canceled"),
            // A carrier's 487 to a call that nobody took back.
            ("failed", Some(HangupCause::of_refusal(487, None).code()), false, "failed"),
        ] {
            assert_eq!(status(state, cause, is_inbound), expected, "{state} {cause:?}");
        }
    }

    #[test]
    fn a_date_is_written_as_mail_writes_it() {
        let time: Timestamp = "2026-11-01T09:05:07.9Z".parse().unwrap();
        assert_eq!(date(time), "Sun, 01 Nov 2026 09:05:07 +0000");
    }
}
