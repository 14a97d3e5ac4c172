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
use crate::call::side::Seat;
use crate::call::steer::Order;
use crate::call::supervision::SupervisionMode;
use crate::engine::errand::Snapshot;
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

/// How one is to take part from now on.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SupervisionWish {
    /// Its leg; `None`: that of the only one there is.
    leg: Option<String>,
    mode: Mode,
}

/// Which one is to be hung up.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SupervisionEnd {
    /// The same.
    leg: Option<String>,
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
    let is_address = wish.uri.is_some();
    let target = control::target((wish.to, number), wish.uri, &control).and_then(|target| {
        target.ok_or_else(|| Fault::invalid("to", "who is called is given by `to` or `uri`"))
    });
    let target = target.map_err(|fault| error::fault(fault, id))?;
    let mode = wish.mode.mode();
    let asked = steered::named_supervision(&target, mode);
    match control.supervise(tenant, call, (target, mode)).await {
        Ok(snapshot) => {
            let Json(view) = steer::done(&context, &caller, (tenant, call), asked, &snapshot).await;
            Ok(Json(view.about(newcomer(&snapshot))))
        }
        Err(why) => {
            let error = steer::refused(&context, &caller, why).await;
            Err(if is_address { error.of_address() } else { error })
        }
    }
}

/// Who is called since this was asked.
fn newcomer(snapshot: &Snapshot) -> Option<Seat> {
    let before = &snapshot.before.standing.supervisors;
    let mut seats = snapshot.standing.supervisors.iter().map(|own| own.seat);
    seats.find(|seat| before.iter().all(|own| own.seat != *seat))
}

pub(super) async fn change(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
    sent: Sent,
) -> Done {
    let wish = sent.wish::<SupervisionWish>(&caller.request_id)?;
    let seat = named(wish.leg.as_deref(), &caller)?;
    let order = Order::ChangeSupervision(seat, wish.mode.mode());
    let Json(view) = steer::order(&context, &caller, order).await?;
    Ok(Json(view.about(seat)))
}

pub(super) async fn end(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
    sent: Sent,
) -> Done {
    let wish = sent.wish_if_any::<SupervisionEnd>(&caller.request_id)?;
    let seat = named(wish.leg.as_deref(), &caller)?;
    steer::order(&context, &caller, Order::EndSupervision(seat)).await
}

/// Whose leg this is; `None`: none is named.
fn named(leg: Option<&str>, caller: &Caller) -> Result<Option<Seat>, ApiError> {
    let Some(leg) = leg else { return Ok(None) };
    let seat = Seat::of_leg(leg).ok_or_else(|| {
        let legs = Seat::ALL.map(Seat::leg_name).join(", ");
        error::fault(Fault::invalid("leg", format!("it is one of {legs}")), &caller.request_id)
    });
    seat.map(Some)
}
