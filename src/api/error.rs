//! Errors as clients see them: `{code, message, request_id}`, never the inside of the switch.

use crate::api::RequestId;
use crate::types::cause::HangupCause;
use axum::Extension;
use axum::Json;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use serde::Serialize;

/// A request that is not answered with what it asked for.
#[derive(Debug)]
pub(super) struct ApiError {
    kind: ErrorKind,
    request_id: String,
}

/// Every way a request can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ErrorKind {
    /// A parameter cannot be used; the text says which.
    BadParameter(&'static str),
    /// No key, or one that opens nothing.
    NoKey,
    /// The key is not for this tenant.
    Forbidden,
    /// The key may read, and this is more.
    ReadOnly,
    /// Nothing of that name.
    NotFound(&'static str),
    /// The path has no such method.
    NoMethod,
    /// A call is not placed, for this cause.
    CallRefused(HangupCause),
    /// The carrier of the call is not asked for transfers.
    NoRefer,
    /// The call takes nothing more at this moment.
    CallBusy,
    /// This process carries no calls.
    NoCalls,
    /// The database does not answer.
    DatabaseAway,
}

#[derive(Serialize)]
struct ErrorView<'a> {
    code: &'a str,
    message: &'a str,
    request_id: &'a str,
}

impl ErrorKind {
    pub(super) fn of(self, request_id: &RequestId) -> ApiError {
        ApiError { kind: self, request_id: request_id.0.clone() }
    }

    fn parts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::BadParameter(what) => (StatusCode::BAD_REQUEST, "bad_parameter", what),
            Self::NoKey => (
                StatusCode::UNAUTHORIZED,
                "unauthorized",
                "an API key is needed: Authorization: Bearer KEY, or X-Api-Key: KEY",
            ),
            Self::Forbidden => {
                (StatusCode::FORBIDDEN, "forbidden", "this key does not open that tenant")
            }
            Self::ReadOnly => (
                StatusCode::FORBIDDEN,
                "read_only_key",
                "a key of role operator or admin is needed",
            ),
            Self::CallRefused(cause) => (refusal_status(cause), cause.code(), cause.text()),
            Self::NoRefer => (
                StatusCode::CONFLICT,
                "refer_not_allowed",
                "the call's trunk does not transfer by its carrier (calls.refer_out)",
            ),
            Self::CallBusy => (
                StatusCode::SERVICE_UNAVAILABLE,
                "call_busy",
                "the call takes nothing more at this moment; try again shortly",
            ),
            Self::NoCalls => {
                (StatusCode::SERVICE_UNAVAILABLE, "no_calls", "this process carries no calls")
            }
            Self::NotFound(what) => (StatusCode::NOT_FOUND, "not_found", what),
            Self::NoMethod => (
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "this path does not take that method",
            ),
            Self::DatabaseAway => (
                StatusCode::SERVICE_UNAVAILABLE,
                "database_unavailable",
                "the database does not answer; calls go on, try again shortly",
            ),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, code, message) = self.kind.parts();
        let view = ErrorView { code, message, request_id: &self.request_id };
        let mut response = (status, Json(view)).into_response();
        let from_static = header::HeaderValue::from_static;
        let hint = match self.kind {
            ErrorKind::NoKey => Some((header::WWW_AUTHENTICATE, from_static("Bearer"))),
            ErrorKind::DatabaseAway => Some((header::RETRY_AFTER, from_static("5"))),
            ErrorKind::CallBusy => Some((header::RETRY_AFTER, from_static("1"))),
            ErrorKind::CallRefused(cause) => {
                cause.retry_after_s().map(|s| (header::RETRY_AFTER, s.into()))
            }
            ErrorKind::BadParameter(_)
            | ErrorKind::Forbidden
            | ErrorKind::ReadOnly
            | ErrorKind::NoRefer
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
        HangupCause::TenantLimit
        | HangupCause::TrunkLimit
        | HangupCause::DestinationLimit
        | HangupCause::CarrierThrottled => StatusCode::TOO_MANY_REQUESTS,
        other => match other.sip_status() {
            403 => StatusCode::FORBIDDEN,
            500.. => StatusCode::SERVICE_UNAVAILABLE,
            // What is configured does not lead anywhere.
            _ => StatusCode::CONFLICT,
        },
    }
}

/// The database failed: the operator reads why, the client that it may come back.
pub(super) fn database(error: &sqlx::Error, request_id: &RequestId) -> ApiError {
    tracing::warn!(request_id = %request_id.0, %error, "a request failed in the database");
    ErrorKind::DatabaseAway.of(request_id)
}

pub(super) async fn no_such_path(Extension(id): Extension<RequestId>) -> ApiError {
    ErrorKind::NotFound("there is nothing at this path").of(&id)
}

pub(super) async fn no_such_method(Extension(id): Extension<RequestId>) -> ApiError {
    ErrorKind::NoMethod.of(&id)
}
