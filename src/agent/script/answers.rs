//! What came of a step, as the next script is told it, and the form a web server is asked with.

use crate::types::cause::HangupCause;
use crate::types::id::CallId;
use crate::types::id::RecordingId;
use crate::types::id::TenantId;
use std::time::Duration;

/// Twilio's number for a web server that is not there.
pub const NO_CONNECTION: u32 = 11_205;

/// What came of the step before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// The keys that were pressed.
    pub digits: Option<String>,
    /// The key that ended them.
    pub finished_on: Option<char>,
    /// A recording that was made, and how long it is.
    pub recording: Option<(RecordingId, Duration)>,
    /// How the party that was dialled fared.
    pub dial: Option<DialAnswer>,
    /// How an agent's stream ended.
    pub stream: Option<StreamAnswer>,
    /// What was wrong with the script that was to be had before.
    pub error: Option<ScriptError>,
}

/// How the party that was dialled fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DialAnswer {
    /// How.
    pub status: DialStatus,
    /// How long they talked.
    pub duration: Duration,
}

/// How, in the words of TwiML.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialStatus {
    /// They talked.
    Completed,
    /// It was busy, or refused.
    Busy,
    /// Nobody answered.
    NoAnswer,
    /// It could not be called.
    Failed,
    /// It was given up.
    Canceled,
}

impl DialStatus {
    /// The spelling of TwiML.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Busy => "busy",
            Self::NoAnswer => "no-answer",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }
}

/// How an agent's stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamAnswer {
    /// The agent closed it.
    Stopped,
    /// It could not be opened, or was lost, for this reason.
    Failed(HangupCause),
}

/// Why a script is of no use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptError {
    /// Twilio's number for it.
    pub code: u32,
    /// What is wrong, for people.
    pub why: String,
    /// The address it was to come from.
    pub url: String,
    /// It was not asked for: whoever is to have it fails all the time.
    pub is_skipped: bool,
}

impl ScriptError {
    /// Of one that is not asked for at an endpoint that fails all the time.
    #[must_use]
    pub fn skipped(url: String) -> Self {
        let why = "its server failed too often lately, and was not asked".to_owned();
        Self { code: NO_CONNECTION, why, url, is_skipped: true }
    }
}

/// What is told of a call in every request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallFacts {
    /// The call.
    pub call: CallId,
    /// Whose it is.
    pub tenant: TenantId,
    /// Who calls; empty when withheld.
    pub from: String,
    /// Who is called.
    pub to: String,
    /// It is one of ours.
    pub is_outbound: bool,
    /// The number it was passed on from, where it says so.
    pub forwarded_from: Option<String>,
    /// Headers that came with it.
    pub headers: Vec<(String, String)>,
}

/// The version of the API that is spoken.
const API_VERSION: &str = "2010-04-01";
/// The caller of which nothing is known, as bots expect it.
const ANONYMOUS: &str = "anonymous";

/// Names and values of a request, each name once.
pub type Form = Vec<(String, String)>;

impl CallFacts {
    /// What every request tells; `status` in the words of TwiML.
    #[must_use]
    pub fn form(&self, status: &str) -> Form {
        let from = if self.from.is_empty() { ANONYMOUS } else { &self.from };
        let direction = if self.is_outbound { "outbound-api" } else { "inbound" };
        let mut form = Form::new();
        let mut put = |name: &str, value: &str| form.push((name.to_owned(), value.to_owned()));
        put("CallSid", &self.call.call_sid());
        put("AccountSid", &self.tenant.account_sid());
        put("ApiVersion", API_VERSION);
        put("From", from);
        put("To", &self.to);
        put("Caller", from);
        put("Called", &self.to);
        put("Direction", direction);
        put("CallStatus", status);
        if let Some(number) = &self.forwarded_from {
            put("ForwardedFrom", number);
        }
        for (name, value) in &self.headers {
            put(&format!("SipHeader_{name}"), value);
        }
        form
    }
}

impl Answers {
    /// Adds what is told of the step before. A recording is found under `recordings`, its URL without its name.
    pub fn write(&self, form: &mut Form, recordings: &str) {
        let mut put = |name: &str, value: String| form.push((name.to_owned(), value));
        if let Some(digits) = &self.digits {
            put("Digits", digits.clone());
        }
        if let Some(key) = self.finished_on {
            put("FinishedOnKey", key.to_string());
        }
        if let Some((id, length)) = &self.recording {
            put("RecordingSid", recording_sid(*id));
            put("RecordingUrl", format!("{recordings}{id}"));
            // Nobody is told of one that is not whole.
            put("RecordingStatus", "completed".to_owned());
            // Begun seconds count.
            put("RecordingDuration", length.as_millis().div_ceil(1_000).to_string());
        }
        if let Some(dial) = &self.dial {
            put("DialCallStatus", dial.status.as_str().to_owned());
            if dial.status == DialStatus::Completed {
                put("DialCallDuration", dial.duration.as_secs().to_string());
            }
        }
        if let Some(error) = &self.error {
            put("ErrorCode", error.code.to_string());
            put("ErrorUrl", error.url.clone());
        }
    }
}

impl Answers {
    /// Adds what is told of an agent's stream: what it is called, when this happened, how it stands, and why it failed.
    pub fn write_stream(&self, form: &mut Form, (call, name): (&CallFacts, &str), at: &str) {
        let event = match self.stream {
            None => "stream-started",
            Some(StreamAnswer::Stopped) => "stream-stopped",
            Some(StreamAnswer::Failed(_)) => "stream-error",
        };
        let mut put = |name: &str, value: &str| form.push((name.to_owned(), value.to_owned()));
        put("StreamSid", &call.call.stream_sid());
        put("StreamName", name);
        put("StreamEvent", event);
        if let Some(StreamAnswer::Failed(cause)) = self.stream {
            put("StreamError", cause.code());
        }
        put("Timestamp", at);
    }
}

/// A recording's identity in the form of Twilio's: `RE` and 32 hex digits.
#[must_use]
pub fn recording_sid(id: RecordingId) -> String {
    format!("RE{}", id.uuid().simple())
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn value<'a>(form: &'a Form, name: &str) -> Option<&'a str> {
        form.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn a_request_tells_what_bots_expect() {
        let facts = CallFacts {
            call: CallId::from_uuid(Uuid::from_u128(1)),
            tenant: TenantId::from_uuid(Uuid::from_u128(2)),
            from: String::new(),
            to: "+15550100".to_owned(),
            is_outbound: false,
            forwarded_from: Some("+15550101".to_owned()),
            headers: vec![("X-Room".to_owned(), "7".to_owned())],
        };
        let mut form = facts.form("ringing");
        let answers = Answers {
            digits: Some("12".to_owned()),
            finished_on: Some('#'),
            recording: Some((
                RecordingId::from_uuid(Uuid::from_u128(3)),
                Duration::from_millis(1_001),
            )),
            dial: Some(DialAnswer {
                status: DialStatus::Completed,
                duration: Duration::from_secs(9),
            }),
            ..Answers::default()
        };
        answers.write(&mut form, "https://node.example/r/");
        for (name, expected) in [
            ("CallSid", "CA00000000000000000000000000000001"),
            ("AccountSid", "AC00000000000000000000000000000002"),
            ("From", "anonymous"),
            ("Called", "+15550100"),
            ("Direction", "inbound"),
            ("CallStatus", "ringing"),
            ("ApiVersion", "2010-04-01"),
            ("ForwardedFrom", "+15550101"),
            ("SipHeader_X-Room", "7"),
            ("Digits", "12"),
            ("FinishedOnKey", "#"),
            ("RecordingSid", "RE00000000000000000000000000000003"),
            ("RecordingDuration", "2"),
            ("RecordingStatus", "completed"),
            ("DialCallStatus", "completed"),
            ("DialCallDuration", "9"),
        ] {
            assert_eq!(value(&form, name), Some(expected), "{name}");
        }
        let mut names: Vec<_> = form.iter().map(|(name, _)| name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), form.len(), "each name once");
    }

    #[test]
    fn the_duration_of_a_conversation_that_never_was_is_not_told() {
        let dial = DialAnswer { status: DialStatus::Busy, duration: Duration::ZERO };
        let mut form = Form::new();
        Answers { dial: Some(dial), ..Answers::default() }.write(&mut form, "");
        assert_eq!(value(&form, "DialCallStatus"), Some("busy"));
        assert_eq!(value(&form, "DialCallDuration"), None);
    }

    #[test]
    fn a_stream_that_failed_is_told_with_its_reason_and_no_other_is() {
        let facts = CallFacts {
            call: CallId::from_uuid(Uuid::from_u128(1)),
            tenant: TenantId::from_uuid(Uuid::from_u128(2)),
            from: String::new(),
            to: "+15550100".to_owned(),
            is_outbound: false,
            forwarded_from: None,
            headers: Vec::new(),
        };
        let failed = StreamAnswer::Failed(HangupCause::AgentUnreachable);
        for (stream, event, error) in [
            (None, "stream-started", None),
            (Some(StreamAnswer::Stopped), "stream-stopped", None),
            (Some(failed), "stream-error", Some("agent_unreachable")),
        ] {
            let mut form = Form::new();
            let answers = Answers { stream, ..Answers::default() };
            answers.write_stream(&mut form, (&facts, "desk"), "2026-01-02T03:04:05Z");
            let sid = facts.call.stream_sid();
            for (name, expected) in [
                ("StreamSid", Some(sid.as_str())),
                ("StreamName", Some("desk")),
                ("StreamEvent", Some(event)),
                ("StreamError", error),
                ("Timestamp", Some("2026-01-02T03:04:05Z")),
            ] {
                assert_eq!(value(&form, name), expected, "{name}");
            }
        }
    }
}
