//! Supervisors of running calls: somebody is called who hears both sides, and is heard by one, by both or by nobody.

use crate::api::Context;
use crate::api::auth::Caller;
use crate::api::control;
use crate::api::error;
use crate::api::error::ApiError;
use crate::api::live_view::StandingView;
use crate::api::steer;
use crate::api::steered;
use crate::api::wish::Sent;
use crate::call::steer::Order;
use crate::call::supervision::SupervisionMode;
use crate::store::resource::Fault;
use crate::types::id::CallId;
use axum::Extension;
use axum::Json;
use axum::extract::State;
use serde::Deserialize;

/// A supervisor that is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SuperviseWish {
    /// A number in the international form, or in the national one of the number that the call is with.
    to: Option<String>,
    /// A SIP address instead.
    uri: Option<String>,
    #[serde(default)]
    mode: Mode,
}

/// How it is to take part from now on.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SupervisionWish {
    mode: Mode,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Mode {
    #[default]
    Listen,
    Whisper,
    Barge,
}

impl Mode {
    const fn mode(self) -> SupervisionMode {
        match self {
            Self::Listen => SupervisionMode::Listen,
            Self::Whisper => SupervisionMode::Whisper,
            Self::Barge => SupervisionMode::Barge,
        }
    }
}

type Done = Result<Json<StandingView>, ApiError>;

pub(super) async fn begin(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
    sent: Sent,
) -> Done {
    let id = &caller.request_id;
    let wish = sent.wish::<SuperviseWish>(id)?;
    let (tenant, control) = control::open(&context, &caller)?;
    let call = CallId::from_uuid(caller.item()?);
    let number = control::number_of(&context, &caller, wish.to.as_deref()).await?;
    let target = control::target((wish.to, number), wish.uri).and_then(|target| {
        target.ok_or_else(|| Fault::invalid("to", "who is called is given by `to` or `uri`"))
    });
    let target = target.map_err(|fault| error::fault(fault, id))?;
    let mode = wish.mode.mode();
    let asked = steered::named_supervision(&target, mode);
    match control.supervise(tenant, call, (target, mode)).await {
        Ok(snapshot) => Ok(steer::done(&context, &caller, (tenant, call), asked, &snapshot).await),
        Err(why) => Err(steer::refused(&context, &caller, why).await),
    }
}

pub(super) async fn change(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
    sent: Sent,
) -> Done {
    let mode = sent.wish::<SupervisionWish>(&caller.request_id)?.mode.mode();
    steer::order(&context, &caller, Order::ChangeSupervision(mode)).await
}

pub(super) async fn end(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
) -> Done {
    steer::order(&context, &caller, Order::EndSupervision).await
}
