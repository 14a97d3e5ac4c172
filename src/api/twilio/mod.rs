//! Call control in the form of Twilio's REST API, so that bots which were written for it need no change: calls
//! are placed, shown and ended. The pair it is opened with is a tenant's identity and one of its API keys.

mod error;
mod form;
mod view;

pub(super) use crate::api::twilio::error::TwilioError;

use crate::api::Context;
use crate::api::auth::Caller;
use crate::api::calls;
use crate::api::control;
use crate::api::error::ErrorKind;
use crate::api::steered;
use crate::api::twilio::form::NewCall;
use crate::api::twilio::form::Wanted;
use crate::api::twilio::view::TwilioCall;
use crate::call::steer::Senseless;
use crate::engine::errand::Snapshot;
use crate::engine::originate::CallControl;
use crate::engine::originate::Origination;
use crate::engine::registry::Unheard;
use crate::types::agent::AgentKind;
use crate::types::agent::AgentSettings;
use crate::types::agent::AnswerPolicy;
use crate::types::agent::TwimlAgent;
use crate::types::barge_in::BargeIn;
use crate::types::cause::HangupCause;
use crate::types::fault_policy::FaultPolicy;
use crate::types::id::CallId;
use crate::types::id::TenantId;
use crate::types::secret::Secret;
use axum::Extension;
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::Uri;
use axum::http::header;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

/// What all paths of this form begin with: the version of the API that bots ask for.
pub(super) const ROOT: &str = "/2010-04-01/";
/// Where calls are, one by one.
pub(super) const CALL_PATH: &str = "/2010-04-01/Accounts/{account_sid}/Calls/{call_sid}.json";
/// What follows an identity in a path.
const SUFFIX: &str = ".json";
/// The call that is asked for is over, or never was.
const NO_CALL: ErrorKind = ErrorKind::NotFound("the account has no such call in progress");

type Body = Result<Bytes, BytesRejection>;
type Done<T> = Result<T, TwilioError>;

/// Whether a path has this form.
pub(super) fn is_of(uri: &Uri) -> bool {
    uri.path().starts_with(ROOT)
}

/// The user and the password of `Authorization: Basic` (RFC 7617).
pub(super) fn credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

/// The call that a path's last part names, as other routes have it: nothing where it names none.
pub(super) fn call_of(part: &str) -> Option<CallId> {
    part.strip_suffix(SUFFIX).and_then(CallId::from_call_sid)
}

pub(super) async fn create(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Body,
) -> Done<(StatusCode, Json<TwilioCall>)> {
    let id = &caller.request_id;
    let (tenant, control) = control::open(&context, &caller)?;
    let wanted = Wanted::read(&headers, body).map_err(|fault| fault.of(id))?;
    let NewCall { to, from, duration_max, ring_max } =
        wanted.new_call().map_err(|fault| fault.of(id))?;
    let script = wanted.script(&token_of(&headers)).map_err(|fault| fault.of(id))?;
    let mut wish = Origination::new(tenant, to.clone());
    (wish.from, wish.duration_max, wish.ring_max) = (Some(from), duration_max, ring_max);
    wish.agent = script.map(|agent| AgentSettings {
        kind: AgentKind::Twiml(Box::new(agent)),
        answer: AnswerPolicy::WhenReady,
        barge_in: BargeIn::OFF,
        hangup_after: None,
        reinvite_after: None,
        faults: FaultPolicy::NONE,
        hold_music: None,
    });
    let placed = control.place(wish);
    let call = placed.map_err(|cause| ErrorKind::CallRefused(cause).of(id))?;
    steered::note_placed(&context, &caller, (tenant, call), (to.as_str(), Some(from))).await;
    let view = TwilioCall::begun((tenant, call), to.as_str(), from.as_str());
    Ok((StatusCode::CREATED, Json(view)))
}

pub(super) async fn show(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
) -> Done<Json<TwilioCall>> {
    let key = (caller.tenant()?, CallId::from_uuid(caller.item()?));
    let detail = calls::detail(&context, &caller, key).await?;
    Ok(Json(TwilioCall::of(key, &detail)))
}

pub(super) async fn update(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Body,
) -> Done<Json<TwilioCall>> {
    let id = &caller.request_id;
    let (tenant, control) = control::open(&context, &caller)?;
    let call = CallId::from_uuid(caller.item()?);
    let wanted = Wanted::read(&headers, body).map_err(|fault| fault.of(id))?;
    wanted.check_running().map_err(|fault| fault.of(id))?;
    let script = wanted.script(&token_of(&headers)).map_err(|fault| fault.of(id))?;
    if script.is_some() && credentials(&headers).is_none() {
        let why = "the call runs at another node, to which no token goes that could sign requests: the nodes need \
                   secrets.key_ref";
        return Err(ErrorKind::Conflict.about(None, why.to_owned(), id).into());
    }
    let done = match script {
        // Who is to end is not led anywhere before.
        Some(agent) if !wanted.ends() => lead((tenant, &control), call, agent).await,
        Some(_) | None => {
            let only_unanswered = wanted.end().map_err(|fault| fault.of(id))?;
            end((tenant, &control), call, only_unanswered).await
        }
    };
    let (asked, snapshot) = done.map_err(|kind| kind.of(id))?;
    steered::note(&context, &caller, (tenant, call), (asked, json!({})), &snapshot).await;
    // The database may be away; the call is ended all the same.
    let view = match calls::detail(&context, &caller, (tenant, call)).await {
        Ok(detail) => TwilioCall::of((tenant, call), &detail),
        Err(_) => TwilioCall::ending((tenant, call)),
    };
    Ok(Json(view))
}

/// What web servers that a request names know us by: the key it was opened with.
fn token_of(headers: &HeaderMap) -> Secret<String> {
    Secret::new(credentials(headers).map(|(_, password)| password).unwrap_or_default())
}

/// Lets a script lead a call from now on.
async fn lead(
    (tenant, control): (TenantId, &CallControl),
    call: CallId,
    agent: TwimlAgent,
) -> Result<(&'static str, Snapshot), ErrorKind> {
    let led = control.follow_script(tenant, call, agent).await;
    led.map(|snapshot| ("follow_script", snapshot)).map_err(|why| match why {
        Unheard::NoSuchCall | Unheard::Senseless(Senseless::Over) => NO_CALL,
        Unheard::Senseless(why) => ErrorKind::Senseless(why),
        Unheard::NoRefer => NO_CALL,
        Unheard::Refused(cause) => ErrorKind::CallRefused(cause),
        Unheard::Busy => ErrorKind::CallBusy,
    })
}

/// Ends a call, or only one that nobody has answered.
async fn end(
    (tenant, control): (TenantId, &CallControl),
    call: CallId,
    only_unanswered: bool,
) -> Result<(&'static str, Snapshot), ErrorKind> {
    let refused = |why| match why {
        Unheard::Senseless(Senseless::Answered) => ErrorKind::CallAnswered,
        // What is over is not found: bots take that for the end they wanted.
        Unheard::NoSuchCall | Unheard::Senseless(_) | Unheard::NoRefer => NO_CALL,
        Unheard::Refused(cause) => ErrorKind::CallRefused(cause),
        Unheard::Busy => ErrorKind::CallBusy,
    };
    let ended = match only_unanswered {
        true => control.cancel(tenant, call).await,
        false => control.hang_up(tenant, call).await,
    };
    ended.map(|snapshot| ("hangup", snapshot)).map_err(refused)
}

/// The codes of Twilio for what stops a call from being placed.
const fn code_of_cause(cause: HangupCause) -> Option<u32> {
    match cause {
        HangupCause::NotANumber => Some(21211),
        HangupCause::CallerIdDenied | HangupCause::NumberNotInCampaign => Some(21210),
        HangupCause::DestinationDenied => Some(21215),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn a_pair_is_read_out_of_a_basic_header_and_nothing_else() {
        let read = |text: &str| {
            let value = HeaderValue::from_str(text).unwrap();
            credentials(&HeaderMap::from_iter([(header::AUTHORIZATION, value)]))
        };
        let pair = Some(("AC1".to_owned(), "a:b".to_owned()));
        assert_eq!(read("Basic QUMxOmE6Yg=="), pair);
        assert_eq!(read("basic  QUMxOmE6Yg=="), pair);
        for bad in ["Bearer QUMxOmE6Yg==", "Basic", "Basic !", "Basic QUMx", "Basic /w=="] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(credentials(&HeaderMap::new()), None);
    }

    #[test]
    fn a_call_is_named_by_its_prefix_its_hex_and_the_suffix() {
        let name = "CA01920000000070008000000000000001";
        assert!(call_of(&format!("{name}.json")).is_some());
        for bad in [name, ".json", "CA.json", "AC01920000000070008000000000000001.json"] {
            assert_eq!(call_of(bad), None, "{bad}");
        }
    }
}
