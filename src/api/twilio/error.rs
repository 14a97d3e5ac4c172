//! Errors in the form of Twilio's REST API: `{code, message, more_info, status}`.

use crate::api::error::ApiError;
use crate::api::error::ErrorKind;
use crate::api::twilio::code_of_cause;
use axum::Json;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use serde::Serialize;

/// A parameter cannot be used.
const BAD_PARAMETER: u32 = 20001;
/// The pair of account and token opens nothing.
const NOT_AUTHENTICATED: u32 = 20003;
/// The path takes no such method.
const NO_METHOD: u32 = 20004;
/// The call is not in a state in which this makes sense.
const WRONG_STATE: u32 = 21220;

/// A refusal of this form of the API.
#[derive(Debug)]
pub(crate) struct TwilioError(ApiError);

#[derive(Serialize)]
struct ErrorView<'a> {
    code: u32,
    message: &'a str,
    more_info: String,
    status: u16,
}

impl From<ApiError> for TwilioError {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl IntoResponse for TwilioError {
    fn into_response(self) -> Response {
        let (kind, message) = (self.0.kind(), self.0.said());
        let plain = self.0.into_response();
        let status = plain.status();
        let code = code_of(kind, status);
        // The codes are Twilio's, and so is what is written of them.
        let more_info = format!("https://www.twilio.com/docs/errors/{code}");
        let view = ErrorView { code, message: &message, more_info, status: status.as_u16() };
        let mut response = (status, Json(view)).into_response();
        for name in [header::RETRY_AFTER, header::CONNECTION] {
            if let Some(value) = plain.headers().get(&name) {
                response.headers_mut().insert(name, value.clone());
            }
        }
        if status == StatusCode::UNAUTHORIZED {
            let how = HeaderValue::from_static("Basic realm=\"Tandem\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, how);
        }
        response
    }
}

fn code_of(kind: ErrorKind, status: StatusCode) -> u32 {
    // Where Twilio has no code of its own for it, the status is in it.
    let plain = 20000 + u32::from(status.as_u16());
    match kind {
        ErrorKind::TwilioParameter(code) => code,
        ErrorKind::BadParameter(_) | ErrorKind::BadBody(_) | ErrorKind::Invalid => BAD_PARAMETER,
        ErrorKind::NoKey | ErrorKind::NoPair => NOT_AUTHENTICATED,
        ErrorKind::NoMethod => NO_METHOD,
        ErrorKind::Senseless(_) | ErrorKind::CallAnswered => WRONG_STATE,
        ErrorKind::CallRefused(cause) => code_of_cause(cause).unwrap_or(plain),
        _ => plain,
    }
}
