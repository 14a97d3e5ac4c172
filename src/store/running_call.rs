//! A running call's record as it would be stored: for who asks while the database is away, or for calls that run.

use crate::cdr::CallRecord;
use crate::clock;
use crate::store::calls::StoredCall;
use crate::store::calls::StoredRoute;
use crate::store::calls::StoredTimes;
use crate::store::wire::variables_of;
use crate::types::cause::HangupCause;
use crate::types::cause::Party;
use serde_json::Value;
use serde_json::json;

/// The record of a call that runs, without figures of its media and without what applications said of it: that stands
/// in the database alone.
#[must_use]
pub fn stored(record: &CallRecord) -> StoredCall {
    let (route, stages) = (&record.route, &record.stages);
    let wall = |stage: Option<_>| stage.map(clock::wall);
    let step =
        |step: &crate::routing::decision::Step| json!({"what": step.what, "detail": step.detail});
    StoredCall {
        id: record.id,
        rev: i32::try_from(record.rev).unwrap_or(i32::MAX),
        route: StoredRoute {
            tenant: route.tenant,
            trunk: route.trunk,
            number: route.number,
            ai_profile: route.ai_profile,
        },
        direction: record.direction.as_str().to_owned(),
        signalling_id: record.signalling_id.clone(),
        source: record.source.map(|source| source.to_string()),
        transport: record.transport.map(|transport| transport.as_str().to_owned()),
        caller: record.caller.clone(),
        dialled_text: record.dialled_text.clone(),
        dialled: route.dialled.map(|dialled| dialled.to_string()),
        decision: Value::Array(record.decision.steps().iter().map(step).collect()),
        times: StoredTimes {
            arrived: clock::wall(stages.arrived),
            decided: wall(stages.decided),
            ringing: wall(stages.ringing),
            agent_ready: wall(stages.agent_ready),
            answered: wall(stages.answered),
            acknowledged: wall(stages.acknowledged),
            first_media: wall(stages.first_media),
            fallback: wall(stages.fallback),
            ended: wall(stages.ended),
        },
        duration_ms: i64::try_from(record.duration.as_millis()).unwrap_or(i64::MAX),
        codec: record.codec.map(|codec| codec.name().to_owned()),
        holds: i32::try_from(record.holds).unwrap_or(i32::MAX),
        digits: i32::try_from(record.digits).unwrap_or(i32::MAX),
        sip_status: record.status.and_then(|status| i16::try_from(status).ok()),
        cause: record.cause.map(|cause| cause.code().to_owned()),
        q850: record.cause.map(HangupCause::q850).map(i16::from),
        ended_by: record.ended_by.map(Party::as_str).map(str::to_owned),
        agent_failure: record.agent_failure.map(|cause| cause.code().to_owned()),
        media: None,
        variables: variables_of(&record.variables),
        disposition: None,
        outcome: None,
        summary: None,
    }
}
