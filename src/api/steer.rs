//! What an application does with a running call beside its end and its transfer: hold, play, keys, mute,
//! another agent.

use crate::api::Context;
use crate::api::auth::Caller;
use crate::api::control;
use crate::api::elsewhere;
use crate::api::error;
use crate::api::error::ApiError;
use crate::api::error::ErrorKind;
use crate::api::live_view::StandingView;
use crate::api::steered;
use crate::api::steered::Asked;
use crate::api::wish::Sent;
use crate::call::record::RecordOrder;
use crate::call::side::LegSide;
use crate::call::steer::MutedSide;
use crate::call::steer::Order;
use crate::call::steer::Senseless;
use crate::clock;
use crate::engine::assets::Playing;
use crate::engine::errand::Snapshot;
use crate::engine::originate::CallControl;
use crate::engine::registry::Unheard;
use crate::engine::steering::NotAttached;
use crate::engine::steering::NotPlayed;
use crate::store::calls;
use crate::store::resource::Fault;
use crate::types::id::CallId;
use crate::types::id::TenantId;
use crate::types::limit::KEYS_SENT_MAX;
use axum::Extension;
use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::json;
use std::ops::RangeInclusive;

/// Times a sound may be played in a row.
const ROUNDS_MAX: u32 = 1_000;
/// How much quieter or louder.
const GAIN_DB: RangeInclusive<i8> = -40..=12;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PlayWish {
    /// The name of a file of the node, or of a tone.
    asset: String,
    /// How often.
    #[serde(default = "once")]
    repeat: u32,
    /// How loud, in dB.
    #[serde(default)]
    gain_db: i8,
    /// Together with whom the caller talks with.
    #[serde(default)]
    beside: bool,
}

const fn once() -> u32 {
    1
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeysWish {
    digits: String,
    #[serde(default)]
    leg: Leg,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Leg {
    #[default]
    Near,
    Far,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MuteWish {
    party: MutedParty,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum MutedParty {
    Caller,
    Agent,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AttachWish {
    ai_profile_id: String,
}

type Done = Result<Json<StandingView>, ApiError>;

pub(super) async fn hold(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
) -> Done {
    order(&context, &caller, Order::Hold).await
}

pub(super) async fn resume(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
) -> Done {
    order(&context, &caller, Order::Resume).await
}

pub(super) async fn start_recording(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
) -> Done {
    let start = RecordOrder::Start(clock::new_recording_id());
    order(&context, &caller, Order::Record(start)).await
}

pub(super) async fn stop_recording(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
) -> Done {
    order(&context, &caller, Order::Record(RecordOrder::Stop)).await
}

pub(super) async fn pause_recording(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
) -> Done {
    order(&context, &caller, Order::Record(RecordOrder::Pause)).await
}

pub(super) async fn resume_recording(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
) -> Done {
    order(&context, &caller, Order::Record(RecordOrder::Resume)).await
}

pub(super) async fn stop_playing(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
) -> Done {
    order(&context, &caller, Order::StopPlaying).await
}

pub(super) async fn send_keys(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
    sent: Sent,
) -> Done {
    let wish = sent.wish::<KeysWish>(&caller.request_id)?;
    let is_key = |c: char| c.is_ascii_digit() || matches!(c, '*' | '#' | 'A'..='D');
    let keys = wish.digits.to_ascii_uppercase();
    if !(1..=KEYS_SENT_MAX).contains(&keys.len()) || !keys.chars().all(is_key) {
        return Err(invalid("digits", "it is 1 to 32 of 0-9, *, # and A-D", &caller));
    }
    let side = match wish.leg {
        Leg::Near => LegSide::Near,
        Leg::Far => LegSide::Far,
    };
    order(&context, &caller, Order::SendKeys { side, keys }).await
}

pub(super) async fn mute(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
    sent: Sent,
) -> Done {
    let side = sent.wish::<MuteWish>(&caller.request_id)?.party.side();
    order(&context, &caller, Order::Mute(side)).await
}

pub(super) async fn unmute(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
    sent: Sent,
) -> Done {
    let side = sent.wish::<MuteWish>(&caller.request_id)?.party.side();
    order(&context, &caller, Order::Unmute(side)).await
}

pub(super) async fn play(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
    sent: Sent,
) -> Done {
    let wish = sent.wish::<PlayWish>(&caller.request_id)?;
    let sound = wish.asset.parse().map_err(|why| invalid("asset", &format!("{why}"), &caller))?;
    if !(1..=ROUNDS_MAX).contains(&wish.repeat) {
        return Err(invalid("repeat", "it is 1 to 1000", &caller));
    }
    if !GAIN_DB.contains(&wish.gain_db) {
        return Err(invalid("gain_db", "it is -40 to 12", &caller));
    }
    let (tenant, control, call) = open(&context, &caller)?;
    let asked = ("play", json!({ "asset": wish.asset, "repeat": wish.repeat }));
    let PlayWish { repeat: rounds, gain_db, beside, .. } = wish;
    match control.play((tenant, call), Playing { sound, rounds, gain_db, beside }).await {
        Ok(snapshot) => Ok(done(&context, &caller, (tenant, call), asked, &snapshot).await),
        Err(NotPlayed::Call(why)) => Err(refused(&context, &caller, why).await),
        Err(NotPlayed::Asset(why)) => Err(invalid("asset", &why.to_string(), &caller)),
    }
}

pub(super) async fn attach(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
    sent: Sent,
) -> Done {
    let wish = sent.wish::<AttachWish>(&caller.request_id)?;
    let bad = |why: &str| invalid("ai_profile_id", why, &caller);
    let profile = wish.ai_profile_id.parse();
    let profile = profile.map_err(|_| bad("it is the id of an AI profile"))?;
    let (tenant, control, call) = open(&context, &caller)?;
    let asked = ("attach", json!({ "ai_profile_id": wish.ai_profile_id }));
    match control.attach(tenant, call, profile).await {
        Ok(snapshot) => Ok(done(&context, &caller, (tenant, call), asked, &snapshot).await),
        Err(NotAttached::Call(why)) => Err(refused(&context, &caller, why).await),
        Err(why @ (NotAttached::NoProfile | NotAttached::Telephone)) => Err(bad(&why.to_string())),
    }
}

impl MutedParty {
    const fn side(self) -> MutedSide {
        match self {
            Self::Caller => MutedSide::Caller,
            Self::Agent => MutedSide::Agent,
        }
    }
}

fn invalid(field: &str, why: &str, caller: &Caller) -> ApiError {
    error::fault(Fault::invalid(field, why.to_owned()), &caller.request_id)
}

fn open(context: &Context, caller: &Caller) -> Result<(TenantId, CallControl, CallId), ApiError> {
    let (tenant, control) = control::open(context, caller)?;
    Ok((tenant, control, CallId::from_uuid(caller.item()?)))
}

/// Does with a call what needs nothing else.
pub(super) async fn order(context: &Context, caller: &Caller, order: Order) -> Done {
    let (tenant, control, call) = open(context, caller)?;
    let asked = steered::named(&order);
    match control.order(tenant, call, order).await {
        Ok(snapshot) => Ok(done(context, caller, (tenant, call), asked, &snapshot).await),
        Err(why) => Err(refused(context, caller, why).await),
    }
}

/// Notes what was done, and answers how the call stands.
pub(super) async fn done(
    context: &Context,
    caller: &Caller,
    key: (TenantId, CallId),
    asked: Asked,
    snapshot: &Snapshot,
) -> Json<StandingView> {
    steered::note(context, caller, key, asked, snapshot).await;
    Json(StandingView::of(key.1, snapshot))
}

/// A call that does not run is over, or never was.
pub(super) async fn refused(context: &Context, caller: &Caller, why: Unheard) -> ApiError {
    let id = &caller.request_id;
    if why == Unheard::NoSuchCall
        && let (Ok(tenant), Ok(item)) = (caller.tenant(), caller.item())
    {
        let key = (tenant, CallId::from_uuid(item));
        let over = ErrorKind::Senseless(Senseless::Over);
        match calls::get(&context.database, key.0, key.1).await {
            Ok(Some((call, _))) if call.times.ended.is_some() => return over.of(id),
            // It ended this moment: its record, which does not say so yet, is on its way.
            Ok(Some(_)) => {
                return match elsewhere::may_run(context, id, key).await {
                    Ok(true) => ErrorKind::CallAway.of(id),
                    Ok(false) => over.of(id),
                    Err(error) => error,
                };
            }
            Ok(None) => (),
            Err(failed) => return error::database(&failed, id),
        }
    }
    control::unheard(why, id)
}
