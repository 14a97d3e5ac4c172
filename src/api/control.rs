//! The end and the transfer of calls, as applications ask for them.

use crate::api::Context;
use crate::api::RequestId;
use crate::api::auth::Caller;
use crate::api::error;
use crate::api::error::ApiError;
use crate::api::error::ErrorKind;
use crate::api::live_view::StandingView;
use crate::api::steer;
use crate::api::steered;
use crate::api::wish::Sent;
use crate::engine::originate::CallControl;
use crate::engine::originate::TransferOrder;
use crate::engine::originate::TransferTarget;
use crate::engine::registry::Unheard;
use crate::store::resource::Fault;
use crate::types::cause::HangupCause;
use crate::types::id::CallId;
use crate::types::id::TenantId;
use crate::types::number::E164;
use crate::types::peer::PeerUri;
use axum::Extension;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::json;

/// A transfer that is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TransferWish {
    /// A number in the international form, or in the national one of the number that the call is with.
    to: Option<String>,
    /// A SIP address instead.
    uri: Option<String>,
    #[serde(default)]
    mode: Mode,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Mode {
    #[default]
    Bridge,
    Attended,
    Refer,
    Confirm,
    Withdraw,
}

/// How a call stands after what was asked: it goes on from there.
type Done = Result<(StatusCode, Json<StandingView>), ApiError>;

pub(super) async fn hang_up(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
) -> Done {
    let (tenant, control) = open(&context, &caller)?;
    let call = CallId::from_uuid(caller.item()?);
    let asked = ("hangup", json!({}));
    match control.hang_up(tenant, call).await {
        Ok(snapshot) => {
            let stands = steer::done(&context, &caller, (tenant, call), asked, &snapshot).await;
            Ok((StatusCode::ACCEPTED, stands))
        }
        Err(why) => Err(steer::refused(&context, &caller, why).await),
    }
}

pub(super) async fn transfer(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
    sent: Sent,
) -> Done {
    let id = &caller.request_id;
    let (tenant, control) = open(&context, &caller)?;
    let call = CallId::from_uuid(caller.item()?);
    let wish = sent.wish::<TransferWish>(id)?;
    let to = number_of(&context, &caller, wish.to.as_deref()).await?;
    let is_address = wish.uri.is_some();
    let order = wish.read(to, &control).map_err(|fault| error::fault(fault, id))?;
    let asked = steered::named_transfer(&order);
    match control.transfer(tenant, call, order).await {
        Ok(snapshot) => {
            let stands = steer::done(&context, &caller, (tenant, call), asked, &snapshot).await;
            Ok((StatusCode::ACCEPTED, stands))
        }
        Err(why) => {
            let error = steer::refused(&context, &caller, why).await;
            Err(if is_address { error.of_address() } else { error })
        }
    }
}

const NO_CALL: ErrorKind = ErrorKind::NotFound("this tenant has no such call in progress here");

/// The tenant of the path, and the calls.
pub(super) fn open(
    context: &Context,
    caller: &Caller,
) -> Result<(TenantId, CallControl), ApiError> {
    let control = context.calls.clone();
    let control = control.ok_or_else(|| ErrorKind::NoCalls.of(&caller.request_id))?;
    Ok((caller.tenant()?, control))
}

pub(super) fn unheard(why: Unheard, id: &RequestId) -> ApiError {
    match why {
        Unheard::NoSuchCall => NO_CALL.of(id),
        Unheard::NoRefer => ErrorKind::NoRefer.of(id),
        // There is no caller ID in what was asked that could be blamed.
        Unheard::Refused(cause @ HangupCause::CallerIdDenied) => {
            ErrorKind::CallRefused(cause).about(None, cause.text().to_owned(), id)
        }
        Unheard::Refused(cause) => ErrorKind::CallRefused(cause).of(id),
        Unheard::Senseless(why) => ErrorKind::Senseless(why).of(id),
        Unheard::Busy => ErrorKind::CallBusy.of(id),
    }
}

/// What the text of a request is read as: a number of the country of its call; `None`: none is given, or it is none.
///
/// # Errors
///
/// Where the text is no international number, and the call, whose country could tell, does not run.
pub(super) async fn number_of(
    context: &Context,
    caller: &Caller,
    text: Option<&str>,
) -> Result<Option<E164>, ApiError> {
    let Some(text) = text else { return Ok(None) };
    let (tenant, control) = open(context, caller)?;
    let call = CallId::from_uuid(caller.item()?);
    let number = control.read_number(tenant, call, text).await;
    if number.is_none() && !control.is_running(tenant, call) {
        return Err(steer::refused(context, caller, Unheard::NoSuchCall).await);
    }
    Ok(number)
}

/// Whom a request names, by a number or by an address that `control` can call; `number` is what `to` was read as.
pub(super) fn target(
    (to, number): (Option<String>, Option<E164>),
    uri: Option<String>,
    control: &CallControl,
) -> Result<Option<TransferTarget>, Fault> {
    Ok(match (to, uri) {
        (Some(_), None) => {
            let why = "it is a number in the international form, or the national one of the call's country";
            Some(TransferTarget::Number(number.ok_or_else(|| Fault::invalid("to", why))?))
        }
        (None, Some(uri)) => {
            let is_sip = uri.starts_with("sip:") || uri.starts_with("sips:");
            let uri = uri.parse::<PeerUri>().ok().filter(|uri| is_sip && control.can_call(uri));
            let why = "it is a sip: or sips: address that this node can call";
            Some(TransferTarget::Peer(uri.ok_or_else(|| Fault::invalid("uri", why))?))
        }
        (None, None) => None,
        (Some(_), Some(_)) => return Err(Fault::invalid("uri", "either `to` or `uri` is given")),
    })
}

impl TransferWish {
    /// `number` is what `to` was read as.
    fn read(self, number: Option<E164>, control: &CallControl) -> Result<TransferOrder, Fault> {
        let target = target((self.to, number), self.uri, control)?;
        match (self.mode, target) {
            (Mode::Bridge, Some(target)) => Ok(TransferOrder::Bridge(target)),
            (Mode::Attended, Some(target)) => Ok(TransferOrder::Attended(target)),
            (Mode::Refer, Some(TransferTarget::Number(to))) => Ok(TransferOrder::Refer(to)),
            (Mode::Refer, Some(TransferTarget::Peer(_))) => {
                Err(Fault::invalid("uri", "a carrier is given a number as `to`"))
            }
            (Mode::Confirm, None) => Ok(TransferOrder::Confirm),
            (Mode::Withdraw, None) => Ok(TransferOrder::Withdraw),
            (Mode::Bridge | Mode::Attended | Mode::Refer, None) => {
                Err(Fault::invalid("to", "this mode takes `to` or `uri`"))
            }
            (Mode::Confirm | Mode::Withdraw, Some(_)) => {
                Err(Fault::invalid("mode", "this mode takes neither `to` nor `uri`"))
            }
        }
    }
}
