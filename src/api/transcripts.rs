//! Transcripts: turns are added by whoever listens to a call, and read by whoever wants to know.

use crate::agent::session::Said;
use crate::api::Context;
use crate::api::auth::Caller;
use crate::api::call_notes::RECORD_PERIOD;
use crate::api::call_notes::RECORD_TRIES;
use crate::api::calls;
use crate::api::error;
use crate::api::error::ApiError;
use crate::api::error::ErrorKind;
use crate::api::resource;
use crate::api::wish::Sent;
use crate::clock;
use crate::store;
use crate::store::resource::Fault;
use crate::store::resource::field::check_time;
use crate::store::transcripts;
use crate::store::transcripts::AfterEnd;
use crate::store::transcripts::Deleted;
use crate::store::transcripts::Turn;
use crate::types::id::CallId;
use crate::types::id::TenantId;
use crate::types::limit::TRANSCRIPT_TEXT_MAX;
use crate::types::limit::TRANSCRIPT_TURNS_AT_ONCE_MAX;
use crate::types::limit::TRANSCRIPT_TURNS_MAX;
use axum::Extension;
use axum::Json;
use axum::extract::Query;
use axum::extract::State;
use axum::extract::rejection::QueryRejection;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::Response;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeSet;

/// Turns or transcripts of one page where the request does not say, and at most.
const PAGE: u32 = 50;
const PAGE_MAX: u32 = 200;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Added {
    turns: Vec<AddedTurn>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AddedTurn {
    seq: u32,
    speaker: Speaker,
    text: String,
    at: Option<Timestamp>,
    at_ms: Option<u64>,
    #[serde(rename = "final")]
    is_final: Option<bool>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Speaker {
    Caller,
    Agent,
    Other,
}

impl Speaker {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Agent => "agent",
            Self::Other => "other",
        }
    }
}

/// Adds turns.
pub(super) async fn add(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
    sent: Sent,
) -> Result<Json<Value>, ApiError> {
    let id = &caller.request_id;
    let turns = read(sent.wish(id)?).map_err(|fault| error::fault(fault, id))?;
    let key = (caller.tenant()?, CallId::from_uuid(caller.item()?));
    let is_running = is_known(&context, &caller, key).await?;
    let Some(control) = context.calls.as_ref().filter(|_| is_running) else {
        let stored = after_end(&context, &caller, key, &turns).await?;
        return Ok(Json(json!({ "stored": stored })));
    };
    let stored = transcripts::put((&context.database, Some(&caller.holder)), key, &turns).await;
    let stored = stored.map_err(|failed| error::database(&failed, id))?;
    if stored > 0 {
        let span = transcripts::span(&turns);
        let told = control.tell_transcript(key.0, key.1, span, said(&turns)).await;
        if let Err(why) = told {
            tracing::debug!(%why, "turns of a call are told of when its record is closed");
        }
    }
    Ok(Json(json!({ "stored": stored })))
}

/// What agents of the call are to know of it: who is neither of the two is nobody they know.
fn said(turns: &[Turn]) -> Vec<Said> {
    let by_agent = |turn: &Turn| match turn.speaker.as_str() {
        "agent" => Some(true),
        "caller" => Some(false),
        _ => None,
    };
    let final_turns = turns.iter().filter(|turn| turn.is_final);
    let said = |turn: &Turn| Some(Said { by_agent: by_agent(turn)?, text: turn.text.clone() });
    final_turns.filter_map(said).collect()
}

/// Stores turns of a call that is over, and tells so. A call that ended this moment is on its way into the database.
async fn after_end(
    context: &Context,
    caller: &Caller,
    key: (TenantId, CallId),
    turns: &[Turn],
) -> Result<u64, ApiError> {
    let id = &caller.request_id;
    for _ in 0..RECORD_TRIES {
        let put = transcripts::put_after_end((&context.database, &caller.holder), key, turns).await;
        match put.map_err(|failed| error::database(&failed, id))? {
            AfterEnd::Stored(stored, told) => {
                if let Some(told) = told {
                    context.events.tell(key.0, told);
                }
                return Ok(stored);
            }
            AfterEnd::NotOver => {
                let later = clock::instant(clock::now() + RECORD_PERIOD);
                tokio::time::sleep_until(later.into()).await;
            }
        }
    }
    Err(ErrorKind::CallBusy.of(id))
}

/// Judges the call: turns are of calls that run or ran. True: it runs here.
async fn is_known(
    context: &Context,
    caller: &Caller,
    key: (TenantId, CallId),
) -> Result<bool, ApiError> {
    if calls::is_running(context, key).await {
        return Ok(true);
    }
    let id = &caller.request_id;
    let found = store::calls::get(&context.database, key.0, key.1).await;
    let found = found.map_err(|failed| error::database(&failed, id))?;
    found.map(|_| false).ok_or_else(|| ErrorKind::NotFound("this tenant has no such call").of(id))
}

fn read(added: Added) -> Result<Vec<Turn>, Fault> {
    if !(1..=TRANSCRIPT_TURNS_AT_ONCE_MAX).contains(&added.turns.len()) {
        let why = format!("it has 1 to {TRANSCRIPT_TURNS_AT_ONCE_MAX} turns");
        return Err(Fault::invalid("turns", why));
    }
    let mut seen = BTreeSet::new();
    let now = clock::wall_now();
    let mut turns = Vec::new();
    for (at, turn) in added.turns.into_iter().enumerate() {
        let invalid =
            |field: &str, why: String| Err(Fault::invalid(format!("turns.{at}.{field}"), why));
        if turn.seq >= TRANSCRIPT_TURNS_MAX {
            return invalid("seq", format!("it is less than {TRANSCRIPT_TURNS_MAX}"));
        }
        if !seen.insert(turn.seq) {
            return invalid("seq", "it comes twice".to_owned());
        }
        let length = turn.text.chars().count();
        if !(1..=TRANSCRIPT_TEXT_MAX).contains(&length) || turn.text.contains('\0') {
            let why = format!("it is a text of 1 to {TRANSCRIPT_TEXT_MAX} characters");
            return invalid("text", why);
        }
        if turn.at_ms.is_some_and(|ms| i64::try_from(ms).is_err()) {
            return invalid("at_ms", "it is a number of milliseconds".to_owned());
        }
        check_time(&format!("turns.{at}.at"), turn.at)?;
        turns.push(Turn {
            seq: turn.seq,
            speaker: turn.speaker.as_str().to_owned(),
            text: turn.text,
            at: turn.at.unwrap_or(now),
            at_ms: turn.at_ms,
            is_final: turn.is_final.unwrap_or(true),
        });
    }
    Ok(turns)
}

/// What a page is asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    limit: Option<String>,
    cursor: Option<String>,
}

impl PageQuery {
    fn limit(&self) -> Result<u32, &'static str> {
        let limit = self.limit.as_deref().map_or(Ok(PAGE), str::parse::<u32>);
        let limit = limit.ok().filter(|limit| (1..=PAGE_MAX).contains(limit));
        limit.ok_or("`limit` is a number from 1 to 200")
    }
}

type Asked = Result<Query<PageQuery>, QueryRejection>;

const PARAMETERS: &str = "the parameters are limit (1 to 200) and cursor";

/// Shows the turns of a call.
pub(super) async fn show(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
    query: Asked,
) -> Result<Response, ApiError> {
    let id = &caller.request_id;
    let bad = |what| ErrorKind::BadParameter(what).of(id);
    let Query(query) = query.map_err(|_| bad(PARAMETERS))?;
    let limit = query.limit().map_err(bad)?;
    let from = query.cursor.as_deref().map_or(Ok(0), str::parse::<u32>);
    let from = from.map_err(|_| bad("`cursor` is the `next` of an earlier page"))?;
    let key = (caller.tenant()?, CallId::from_uuid(caller.item()?));
    is_known(&context, &caller, key).await?;
    // Before the turns: who deletes by it deletes nothing unseen.
    let tag = transcripts::tag(&context.database, key).await;
    let tag = tag.map_err(|failed| error::database(&failed, id))?.map(|tag| format!("\"{tag}\""));
    let turns = transcripts::get(&context.database, key, (from, limit + 1)).await;
    let mut turns = turns.map_err(|failed| error::database(&failed, id))?;
    let next = turns.get(limit as usize).map(|turn| turn.seq.to_string());
    turns.truncate(limit as usize);
    let turns: Vec<_> = turns.iter().map(view).collect();
    let shown = json!({
        "call_id": key.1.to_string(),
        "turns": turns,
        "next": next,
        "etag": tag,
    });
    Ok(resource::tagged(StatusCode::OK, tag.as_deref(), Json(shown)))
}

fn view(turn: &Turn) -> Value {
    json!({
        "seq": turn.seq,
        "speaker": turn.speaker,
        "text": turn.text,
        "at": turn.at,
        "at_ms": turn.at_ms,
        "final": turn.is_final,
    })
}

/// Lists the transcripts of a tenant.
pub(super) async fn list(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
    query: Asked,
) -> Result<Json<Value>, ApiError> {
    let id = &caller.request_id;
    let bad = |what| ErrorKind::BadParameter(what).of(id);
    let Query(query) = query.map_err(|_| bad(PARAMETERS))?;
    let limit = query.limit().map_err(bad)?;
    let after = query.cursor.as_deref().map(str::parse::<CallId>).transpose();
    let after = after.map_err(|_| bad("`cursor` is the `next` of an earlier page"))?;
    let found = transcripts::list(&context.database, caller.tenant()?, (after, limit + 1)).await;
    let mut found = found.map_err(|failed| error::database(&failed, id))?;
    let is_full = found.len() > limit as usize;
    found.truncate(limit as usize);
    let next = found.last().filter(|_| is_full).map(|last| last.call.to_string());
    let shown = found.iter().map(|one| {
        json!({
            "call_id": one.call.to_string(),
            "turns": one.turns,
            "first_at": one.first_at,
            "last_at": one.last_at,
        })
    });
    Ok(Json(json!({ "transcripts": shown.collect::<Vec<_>>(), "next": next })))
}

/// Deletes the transcript of a call.
pub(super) async fn delete(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    let id = &caller.request_id;
    let key = (caller.tenant()?, CallId::from_uuid(caller.item()?));
    let expected = resource::tags(&headers, &header::IF_MATCH);
    let from = (&context.database, &caller.holder);
    let gone = transcripts::delete(from, key, expected.as_deref()).await;
    match gone.map_err(|failed| error::database(&failed, id))? {
        Deleted::Done => Ok(StatusCode::NO_CONTENT),
        Deleted::Nothing => Err(ErrorKind::NotFound("the call has no transcript").of(id)),
        Deleted::Stale => Err(ErrorKind::Stale.of(id)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::wish;
    use crate::store::resource::Members;

    fn judged(turns: Value) -> Result<Vec<Turn>, Fault> {
        read(wish::read(Members::from_iter([("turns".to_owned(), turns)]))?)
    }

    fn field(turn: Value) -> String {
        match judged(json!([turn])) {
            Err(Fault::Invalid { field, .. }) => field,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_turn_is_judged_before_any_is_stored() {
        let long = "x".repeat(TRANSCRIPT_TEXT_MAX + 1);
        for (turn, expected) in [
            (json!({"seq": 10_000, "speaker": "agent", "text": "x"}), "turns.0.seq"),
            (json!({"seq": 0, "speaker": "agent", "text": ""}), "turns.0.text"),
            (json!({"seq": 0, "speaker": "agent", "text": long}), "turns.0.text"),
            (json!({"seq": 0, "speaker": "agent", "text": "\u{0}"}), "turns.0.text"),
            (json!({"seq": 0, "speaker": "king", "text": "x"}), "turns.0.speaker"),
            (json!({"seq": -1, "speaker": "agent", "text": "x"}), "turns.0.seq"),
            (json!({"seq": 0, "speaker": "agent", "text": "x", "mood": 1}), "turns.0.mood"),
            (
                json!({"seq": 0, "speaker": "agent", "text": "x", "at_ms": u64::MAX}),
                "turns.0.at_ms",
            ),
            (
                json!({"seq": 0, "speaker": "agent", "text": "x", "at": "-009998-01-01T00:00:00Z"}),
                "turns.0.at",
            ),
        ] {
            assert_eq!(field(turn), expected);
        }
        let turn = json!({"seq": 7, "speaker": "agent", "text": "x"});
        assert!(judged(json!([turn, turn])).is_err(), "twice");
        assert!(judged(json!([])).is_err());
        let read = judged(json!([turn])).unwrap();
        assert!(read[0].is_final && read[0].seq == 7);
    }
}
