//! What applications do with calls, in the audit log: who, what, and how the call stood before and after. Numbers are
//! there by their ends alone, keys and texts not at all.

use crate::api::Context;
use crate::api::auth::Caller;
use crate::call::record::RecordOrder;
use crate::call::side::Seat;
use crate::call::steer::Order;
use crate::call::supervision::SupervisionMode;
use crate::engine::errand::Snapshot;
use crate::engine::errand::Stood;
use crate::engine::originate::TransferOrder;
use crate::engine::originate::TransferTarget;
use crate::store::audit_queue::Steered;
use crate::store::resource::Members;
use crate::types::id::CallId;
use crate::types::id::TenantId;
use crate::types::number::E164;
use serde_json::Value;
use serde_json::json;

/// What was asked, and its particulars.
pub(super) type Asked = (&'static str, Value);

/// Notes a command and what came of it.
pub(super) async fn note(
    context: &Context,
    caller: &Caller,
    (tenant, call): (TenantId, CallId),
    (action, asked): Asked,
    snapshot: &Snapshot,
) {
    let (before, after) = (stood(&snapshot.before), stood(&snapshot.stands()));
    let detail = json!({ "asked": asked, "before": before, "after": after });
    let key = caller.holder.id;
    context.audit.note(Steered { tenant, key, action, call, detail }).await;
}

/// Notes a call that was placed.
pub(super) async fn note_placed(
    context: &Context,
    caller: &Caller,
    (tenant, call): (TenantId, CallId),
    (to, from): (&str, Option<E164>),
) {
    let to = to.parse::<E164>().map_or_else(|_| "…".to_owned(), |to| shown(&to));
    let after = json!({ "state": "initiated", "to": to, "from": from.as_ref().map(shown) });
    let detail = json!({ "before": null, "after": after });
    let key = caller.holder.id;
    context.audit.note(Steered { tenant, key, action: "create", call, detail }).await;
}

fn shown(number: &E164) -> String {
    number.redacted().to_string()
}

/// How an order is called.
pub(super) fn named(order: &Order) -> Asked {
    match order {
        Order::Hold => ("hold", json!({})),
        Order::Resume => ("resume", json!({})),
        Order::Play(play) => ("play", json!({ "asset": play.name })),
        Order::StopPlaying => ("stop_playing", json!({})),
        Order::SendKeys { side, keys } => {
            ("send_dtmf", json!({ "leg": side.as_str(), "count": keys.len() }))
        }
        Order::Mute(side) => ("mute", json!({ "party": side.as_str() })),
        Order::Unmute(side) => ("unmute", json!({ "party": side.as_str() })),
        Order::Attach(attach) => ("attach", json!({ "ai_profile_id": attach.profile.to_string() })),
        Order::Record(RecordOrder::Start(_)) => ("start_recording", json!({})),
        Order::Record(RecordOrder::Stop) => ("stop_recording", json!({})),
        Order::Record(RecordOrder::Pause) => ("pause_recording", json!({})),
        Order::Record(RecordOrder::Resume) => ("resume_recording", json!({})),
        Order::Supervise(wish) => ("supervise", json!({ "mode": wish.mode.as_str() })),
        Order::ChangeSupervision(named, mode) => {
            let leg = named.map(Seat::leg_name);
            ("change_supervision", json!({ "leg": leg, "mode": mode.as_str() }))
        }
        Order::EndSupervision(named) => {
            ("end_supervision", json!({ "leg": named.map(Seat::leg_name) }))
        }
    }
}

/// The same of a supervisor that is called.
pub(super) fn named_supervision(target: &TransferTarget, mode: SupervisionMode) -> Asked {
    ("supervise", called(mode.as_str(), target))
}

fn called(mode: &str, target: &TransferTarget) -> Value {
    let to = match target {
        TransferTarget::Number(to) => shown(to),
        // Who is called at an address may be a person.
        TransferTarget::Peer(_) => "a SIP address".to_owned(),
    };
    json!({ "mode": mode, "to": to })
}

/// The same of a transfer.
pub(super) fn named_transfer(order: &TransferOrder) -> Asked {
    let asked = called;
    let asked = match order {
        TransferOrder::Bridge(target) => asked("bridge", target),
        TransferOrder::Attended(target) => asked("attended", target),
        TransferOrder::Refer(to) => asked("refer", &TransferTarget::Number(*to)),
        TransferOrder::Confirm => json!({ "mode": "confirm" }),
        TransferOrder::Withdraw => json!({ "mode": "withdraw" }),
    };
    ("transfer", asked)
}

fn stood(stood: &Stood) -> Value {
    let standing = &stood.standing;
    let modes = standing.supervisors.iter();
    let modes = modes.map(|own| (own.seat.leg_name().to_owned(), json!(own.mode.as_str())));
    json!({
        "state": stood.state.as_str(),
        "phase": standing.phase.as_str(),
        "on_hold": standing.on_hold,
        "caller_muted": standing.caller_muted,
        "agent_muted": standing.agent_muted,
        "playing": standing.playing,
        "recording": standing.recording.as_str(),
        "supervisors": modes.collect::<Members>(),
        "agent": standing.agent,
        "ai_profile_id": stood.profile.map(|id| id.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::side::LegSide;

    #[test]
    fn nobodys_number_and_no_keys_are_noted_in_full() {
        let to: E164 = "+15550142".parse().unwrap();
        for order in [
            TransferOrder::Bridge(TransferTarget::Number(to)),
            TransferOrder::Attended(TransferTarget::Number(to)),
            TransferOrder::Refer(to),
            TransferOrder::Bridge(TransferTarget::Peer("sip:ann@pbx.example".parse().unwrap())),
        ] {
            let (action, asked) = named_transfer(&order);
            let text = asked.to_string();
            assert!(action == "transfer" && !text.contains("5550142"), "{text}");
            assert!(!text.contains("ann"), "{text}");
        }
        let keys = Order::SendKeys { side: LegSide::Near, keys: "4711".to_owned() };
        assert_eq!(named(&keys), ("send_dtmf", json!({"leg": "near", "count": 4})));
    }
}
