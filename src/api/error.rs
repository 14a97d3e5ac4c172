//! Errors as clients see them: `{code, message, field?, request_id}`, never the inside of the switch.

use crate::api::RequestId;
use crate::api::twilio;
use crate::api::twilio::TwilioError;
use crate::call::steer::Senseless;
use crate::store::resource;
use crate::store::resource::Fault;
use crate::types::cause::HangupCause;
use axum::Extension;
use axum::Json;
use axum::http::StatusCode;
use axum::http::Uri;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use serde::Serialize;

/// A request that is not answered with what it asked for.
#[derive(Debug)]
pub(super) struct ApiError {
    kind: ErrorKind,
    /// The value to blame, by its path.
    field: Option<String>,
    /// What to say instead of the kind's own words.
    said: Option<String>,
    request_id: String,
}

const NO_KEY: &str = "an API key is needed: Authorization: Bearer KEY, or X-Api-Key: KEY";
/// The lease of a request is over, and its node may still have placed the call.
const UNSETTLED: &str = "the node that began the request with this Idempotency-Key has not stored yet whether it \
     placed the call; try again later";
const NO_TRUNK: &str =
    "no trunk calls out for this: POST .../explain below the tenant says which step failed";
const NOT_A_NUMBER: &str = "it is no number, or the rules of a trunk make nothing of it: it is written in the international \
     form, such as +15550100, or in the national one of the country of the caller's number";
const FORBIDDEN_PLACE: &str =
    "the address is in a network that nobody is called in (agents.allow_networks)";
const NO_REFER: &str = "the call's trunk does not transfer by its carrier (calls.refer_out)";

/// Every way a request can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ErrorKind {
    /// A parameter cannot be used; the text says which.
    BadParameter(&'static str),
    /// The body is none that can be read; the text says why.
    BadBody(&'static str),
    /// A value of the body cannot be used.
    Invalid,
    /// A parameter in Twilio's form cannot be used, with its code there.
    TwilioParameter(u32),
    /// It goes against what is there.
    Conflict,
    /// It was changed since the client read it.
    Stale,
    /// The body is longer than it may be.
    TooLarge,
    /// The body did not come in time.
    TooSlow,
    /// The body is of a kind that is not read here.
    NotJson(&'static str),
    /// The key asks too often.
    TooMany,
    /// Too many follow events already.
    TooManyListeners,
    /// Too many recordings are encoded already.
    TooManyEncoded,
    /// A part is asked for that is not there.
    NoSuchPart,
    /// The recording's file is on another node.
    RecordingAway,
    /// The recording's file cannot be read or encoded by this node.
    RecordingUnreadable,
    /// No key, or one that opens nothing.
    NoKey,
    /// No pair of account and token, or one that opens nothing.
    NoPair,
    /// The key is not for this tenant.
    Forbidden,
    /// The key may do less than this; the text says what is needed.
    ReadOnly(&'static str),
    /// What only the platform may do; the text says what.
    Platforms(&'static str),
    /// Nothing of that name.
    NotFound(&'static str),
    /// The path has no such method.
    NoMethod,
    /// A call is not placed, for this cause.
    CallRefused(HangupCause),
    /// The carrier of the call is not asked for transfers.
    NoRefer,
    /// What is asked of a call makes no sense at this moment.
    Senseless(Senseless),
    /// A call that is to end only while nobody has answered was answered.
    CallAnswered,
    /// A key of idempotency came with another request before.
    KeyReused,
    /// The request that came with this key of idempotency is not done yet.
    KeyBusy,
    /// Whoever began the request that came with this key of idempotency has not said what became of its call.
    KeyUnsettled,
    /// The call takes nothing more at this moment.
    CallBusy,
    /// The call runs elsewhere, as far as the database knows, and no node says that it has it.
    CallAway,
    /// The node that has the call does not say what became of a command, or whether it did it.
    CommandUnsure,
    /// As many are at the same at this node as may be at once; the text says at what.
    NodeBusy(&'static str),
    /// This process carries no calls.
    NoCalls,
    /// The database does not answer.
    DatabaseAway,
}

#[derive(Serialize)]
struct ErrorView<'a> {
    code: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    request_id: &'a str,
}

impl ErrorKind {
    pub(super) fn of(self, request_id: &RequestId) -> ApiError {
        let field = self.blamed().map(str::to_owned);
        ApiError { kind: self, field, said: None, request_id: request_id.0.clone() }
    }

    /// The value to blame, where the kind alone tells: words on parameters begin with the name of one.
    fn blamed(self) -> Option<&'static str> {
        match self {
            Self::BadParameter(what) => {
                what.strip_prefix('`')?.split_once('`').map(|(name, _)| name)
            }
            Self::CallRefused(HangupCause::NotANumber | HangupCause::DestinationDenied) => {
                Some("to")
            }
            Self::CallRefused(HangupCause::AgentForbidden) => Some("uri"),
            Self::CallRefused(HangupCause::CallerIdDenied) => Some("from"),
            Self::CallRefused(HangupCause::CampaignUnknown) => Some("campaign_id"),
            _ => None,
        }
    }

    /// The same, of a value, in words of its own.
    pub(super) fn about(
        self,
        field: Option<&str>,
        said: String,
        request_id: &RequestId,
    ) -> ApiError {
        let field = field.filter(|field| !field.is_empty()).map(str::to_owned);
        ApiError { field, said: Some(said), ..self.of(request_id) }
    }

    /// What HTTP calls it.
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::BadParameter(_)
            | Self::BadBody(_)
            | Self::Invalid
            | Self::TwilioParameter(_)
            | Self::CallAnswered => StatusCode::BAD_REQUEST,
            Self::NoKey | Self::NoPair => StatusCode::UNAUTHORIZED,
            Self::Forbidden | Self::ReadOnly(_) | Self::Platforms(_) => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::NoMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Conflict
            | Self::Senseless(_)
            | Self::KeyBusy
            | Self::KeyUnsettled
            | Self::NoRefer => StatusCode::CONFLICT,
            Self::Stale => StatusCode::PRECONDITION_FAILED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NotJson(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::NoSuchPart => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::KeyReused => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooMany | Self::TooManyListeners | Self::TooManyEncoded => {
                StatusCode::TOO_MANY_REQUESTS
            }
            Self::CallBusy
            | Self::CallAway
            | Self::CommandUnsure
            | Self::RecordingAway
            | Self::RecordingUnreadable
            | Self::NodeBusy(_)
            | Self::NoCalls
            | Self::DatabaseAway => StatusCode::SERVICE_UNAVAILABLE,
            Self::CallRefused(cause) => refusal_status(cause),
        }
    }

    /// One of each kind, but for those whose codes are of calls.
    pub(super) const KINDS: [Self; 32] = [
        Self::BadParameter(""),
        Self::BadBody(""),
        Self::Invalid,
        Self::Conflict,
        Self::Stale,
        Self::TooLarge,
        Self::TooSlow,
        Self::NotJson(""),
        Self::TooMany,
        Self::TooManyListeners,
        Self::TooManyEncoded,
        Self::NoSuchPart,
        Self::RecordingAway,
        Self::RecordingUnreadable,
        Self::NoKey,
        Self::NoPair,
        Self::Forbidden,
        Self::ReadOnly(""),
        Self::Platforms(""),
        Self::NotFound(""),
        Self::NoMethod,
        Self::NoRefer,
        Self::CallAnswered,
        Self::KeyReused,
        Self::KeyBusy,
        Self::KeyUnsettled,
        Self::CallBusy,
        Self::CallAway,
        Self::CommandUnsure,
        Self::NodeBusy(""),
        Self::NoCalls,
        Self::DatabaseAway,
    ];

    /// Its code, for programs.
    pub(super) fn code(self) -> &'static str {
        self.words().0
    }

    /// Its code, and what is said of it.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::BadParameter(what) => ("bad_parameter", what),
            Self::BadBody(what) => ("bad_body", what),
            Self::Invalid | Self::TwilioParameter(_) => ("invalid_value", "a value cannot be used"),
            Self::Conflict => ("conflict", "it goes against what is there"),
            Self::Stale => ("changed_meanwhile", "it was changed since it was read: read it again"),
            Self::TooLarge => ("too_large", "the body is longer than it may be"),
            Self::TooSlow => ("too_slow", "the body did not come in time"),
            Self::NotJson(what) => ("unsupported_type", what),
            Self::TooMany => {
                ("rate_limited", "this key asks more often than it may; try again shortly")
            }
            Self::TooManyListeners => (
                "too_many_listeners",
                "as many follow events as may at once; close one, or try again later",
            ),
            Self::TooManyEncoded => (
                "too_many_encoded",
                "as many recordings are encoded as may be at once; try again later, or fetch the WAV",
            ),
            Self::NoSuchPart => ("no_such_part", "`Range` asks for what is not there"),
            Self::RecordingAway => (
                "recording_away",
                "the recording is on another node: ask that, or give nodes one folder of recordings",
            ),
            Self::RecordingUnreadable => ("recording_unreadable", "the recording cannot be read"),
            Self::NoKey => ("unauthorized", NO_KEY),
            Self::NoPair => (
                "unauthorized",
                "the account and a token of it are needed: Basic ACCOUNT_SID:AUTH_TOKEN",
            ),
            Self::CallAnswered => ("call_answered", "the call was answered: complete it instead"),
            Self::Forbidden => ("forbidden", "this key does not open that tenant"),
            Self::ReadOnly(what) => ("role_too_low", what),
            Self::Platforms(what) => ("platforms_only", what),
            Self::CallRefused(cause) => (cause.code(), text_of(cause)),
            Self::Senseless(why) => (why.code(), why.text()),
            Self::KeyReused => {
                ("idempotency_key_reused", "another request came with this Idempotency-Key before")
            }
            Self::KeyBusy => (
                "idempotency_key_busy",
                "the request that came with this Idempotency-Key is not done yet; try again shortly",
            ),
            Self::KeyUnsettled => ("idempotency_key_unsettled", UNSETTLED),
            Self::NoRefer => ("refer_not_allowed", NO_REFER),
            Self::CallBusy => {
                ("call_busy", "the call takes nothing more at this moment; try again shortly")
            }
            Self::CallAway => (
                "call_away",
                "no node says that it has this call, which is not known to be over; try again shortly",
            ),
            Self::CommandUnsure => (
                "command_unsure",
                "whether this was done is not known: see how the call stands before it is sent again",
            ),
            Self::NodeBusy(what) => ("node_busy", what),
            Self::NoCalls => ("no_calls", "this process carries no calls"),
            Self::NotFound(what) => ("not_found", what),
            Self::NoMethod => ("method_not_allowed", "this path does not take that method"),
            Self::DatabaseAway => (
                "database_unavailable",
                "the database does not answer; calls go on, try again shortly",
            ),
        }
    }
}

/// What is said of a call, or an order for one, that is refused for this.
fn text_of(cause: HangupCause) -> &'static str {
    if cause == HangupCause::NoTrunk {
        NO_TRUNK
    } else if cause == HangupCause::NotANumber {
        NOT_A_NUMBER
    } else if cause == HangupCause::AgentForbidden {
        FORBIDDEN_PLACE
    } else {
        cause.text()
    }
}

impl ApiError {
    /// What went wrong.
    pub(super) const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The same of a request that says by `uri` who is called, where `to` would be to blame.
    pub(super) fn of_address(mut self) -> Self {
        if matches!(self.kind, ErrorKind::CallRefused(_)) && self.field.is_some() {
            self.field = Some("uri".to_owned());
        }
        self
    }

    /// What people are told of it.
    pub(super) fn said(&self) -> String {
        self.said.clone().unwrap_or_else(|| self.kind.words().1.to_owned())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.kind.status();
        let (code, message) = self.kind.words();
        let message = self.said.as_deref().unwrap_or(message);
        let field = self.field.as_deref();
        let view = ErrorView { code, message, field, request_id: &self.request_id };
        let mut response = (status, Json(view)).into_response();
        let from_static = header::HeaderValue::from_static;
        let hint = match self.kind {
            // What is left of the body would be taken for the next request.
            ErrorKind::TooSlow => Some((header::CONNECTION, from_static("close"))),
            ErrorKind::NoKey => Some((header::WWW_AUTHENTICATE, from_static("Bearer"))),
            ErrorKind::DatabaseAway
            | ErrorKind::NodeBusy(_)
            | ErrorKind::TooManyListeners
            | ErrorKind::TooManyEncoded => Some((header::RETRY_AFTER, from_static("5"))),
            ErrorKind::KeyUnsettled => Some((header::RETRY_AFTER, from_static("30"))),
            ErrorKind::CallBusy | ErrorKind::CallAway | ErrorKind::TooMany | ErrorKind::KeyBusy => {
                Some((header::RETRY_AFTER, from_static("1")))
            }
            ErrorKind::CallRefused(cause) => {
                cause.retry_after_s().map(|s| (header::RETRY_AFTER, s.into()))
            }
            ErrorKind::BadParameter(_)
            | ErrorKind::BadBody(_)
            | ErrorKind::Invalid
            | ErrorKind::TwilioParameter(_)
            | ErrorKind::CallAnswered
            | ErrorKind::NoPair
            | ErrorKind::Conflict
            | ErrorKind::Stale
            | ErrorKind::TooLarge
            | ErrorKind::NotJson(_)
            | ErrorKind::Forbidden
            | ErrorKind::ReadOnly(_)
            | ErrorKind::Platforms(_)
            | ErrorKind::NoRefer
            | ErrorKind::Senseless(_)
            | ErrorKind::KeyReused
            | ErrorKind::CommandUnsure
            | ErrorKind::NoSuchPart
            | ErrorKind::RecordingAway
            | ErrorKind::RecordingUnreadable
            | ErrorKind::NoCalls
            | ErrorKind::NotFound(_)
            | ErrorKind::NoMethod => None,
        };
        if let Some((name, value)) = hint {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// What a call that is not placed is answered with: the fault of the request, of the rules, of a limit
/// that passes, or of the node.
fn refusal_status(cause: HangupCause) -> StatusCode {
    match cause {
        HangupCause::NotANumber => StatusCode::BAD_REQUEST,
        HangupCause::AgentForbidden => StatusCode::FORBIDDEN,
        HangupCause::TenantLimit
        | HangupCause::TrunkLimit
        | HangupCause::DestinationLimit
        | HangupCause::CarrierThrottled => StatusCode::TOO_MANY_REQUESTS,
        HangupCause::CampaignUnknown | HangupCause::NumberNotInCampaign => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        HangupCause::CampaignPaused | HangupCause::CampaignClosed | HangupCause::CampaignLimit => {
            StatusCode::CONFLICT
        }
        other => match other.sip_status() {
            403 => StatusCode::FORBIDDEN,
            500.. => StatusCode::SERVICE_UNAVAILABLE,
            // What is configured does not lead anywhere.
            _ => StatusCode::CONFLICT,
        },
    }
}

/// The database failed: the operator reads why, the client that it may come back. A value that the database cannot take
/// is the request's fault, and would be no better later.
pub(super) fn database(error: &sqlx::Error, request_id: &RequestId) -> ApiError {
    tracing::warn!(request_id = %request_id.0, %error, "a request failed in the database");
    let code = error.as_database_error().and_then(|refusal| refusal.code());
    if code.is_some_and(|code| resource::is_of_data(&code)) {
        let said = resource::UNSTORABLE.to_owned();
        return ErrorKind::Invalid.about(None, said, request_id);
    }
    ErrorKind::DatabaseAway.of(request_id)
}

/// What the store refuses.
pub(super) fn fault(fault: Fault, id: &RequestId) -> ApiError {
    match fault {
        Fault::Database(error) => database(&error, id),
        Fault::Missing(_) => ErrorKind::NotFound("").about(None, fault.to_string(), id),
        Fault::Stale => ErrorKind::Stale.of(id),
        Fault::Conflict { field, why } => ErrorKind::Conflict.about(field, why, id),
        Fault::Invalid { ref field, .. } => {
            ErrorKind::Invalid.about(Some(field), fault.to_string(), id)
        }
        Fault::Forbidden(ref field) => {
            ErrorKind::Platforms("").about(Some(field), fault.to_string(), id)
        }
    }
}

pub(super) async fn no_such_path(Extension(id): Extension<RequestId>, uri: Uri) -> Response {
    in_form_of(&uri, ErrorKind::NotFound("there is nothing at this path").of(&id))
}

pub(super) async fn no_such_method(Extension(id): Extension<RequestId>, uri: Uri) -> Response {
    in_form_of(&uri, ErrorKind::NoMethod.of(&id))
}

/// An error as clients of that path read errors.
pub(super) fn in_form_of(uri: &Uri, error: ApiError) -> Response {
    match twilio::is_of(uri) {
        true => TwilioError::from(error).into_response(),
        false => error.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlx::error::DatabaseError;
    use std::borrow::Cow;
    use std::error::Error;
    use std::fmt;

    /// What PostgreSQL refuses with this SQLSTATE.
    #[derive(Debug)]
    struct Refusal(&'static str);

    impl fmt::Display for Refusal {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Refusal {}

    impl DatabaseError for Refusal {
        fn message(&self) -> &str {
            self.0
        }

        fn code(&self) -> Option<Cow<'_, str>> {
            Some(self.0.into())
        }

        fn as_error(&self) -> &(dyn Error + Send + Sync + 'static) {
            self
        }

        fn as_error_mut(&mut self) -> &mut (dyn Error + Send + Sync + 'static) {
            self
        }

        fn into_error(self: Box<Self>) -> Box<dyn Error + Send + Sync + 'static> {
            self
        }

        fn kind(&self) -> sqlx::error::ErrorKind {
            sqlx::error::ErrorKind::Other
        }
    }

    #[test]
    fn a_refusal_names_the_value_to_blame_where_one_is() {
        let id = RequestId("r".to_owned());
        for (kind, field) in [
            (ErrorKind::BadParameter("`limit` is a number from 1 to 200"), Some("limit")),
            (ErrorKind::BadParameter("the path is no UTF-8"), None),
            (ErrorKind::CallRefused(HangupCause::NotANumber), Some("to")),
            (ErrorKind::CallRefused(HangupCause::CallerIdDenied), Some("from")),
            (ErrorKind::CallRefused(HangupCause::NoTrunk), None),
            (ErrorKind::CallRefused(HangupCause::AgentForbidden), Some("uri")),
            (ErrorKind::NoKey, None),
        ] {
            assert_eq!(kind.of(&id).field.as_deref(), field, "{kind:?}");
        }
        let denied = ErrorKind::CallRefused(HangupCause::DestinationDenied).of(&id);
        assert_eq!(denied.field.as_deref(), Some("to"));
        assert_eq!(denied.of_address().field.as_deref(), Some("uri"));
    }

    #[test]
    fn a_value_that_cannot_be_stored_is_the_requests_fault_and_all_else_the_databases() {
        let refused = |code| sqlx::Error::Database(Box::new(Refusal(code)));
        let id = RequestId("r".to_owned());
        for (code, kind) in [
            // A NUL in a text, a time out of range, a text that is no number.
            ("22021", ErrorKind::Invalid),
            ("22008", ErrorKind::Invalid),
            ("22P02", ErrorKind::Invalid),
            // Connections used up, a statement stopped, a full disk.
            ("53300", ErrorKind::DatabaseAway),
            ("57014", ErrorKind::DatabaseAway),
            ("53100", ErrorKind::DatabaseAway),
        ] {
            assert_eq!(database(&refused(code), &id).kind(), kind, "{code}");
            assert_eq!(fault(Fault::from(refused(code)), &id).kind(), kind, "{code}");
        }
        assert_eq!(database(&sqlx::Error::PoolTimedOut, &id).kind(), ErrorKind::DatabaseAway);
    }
}
