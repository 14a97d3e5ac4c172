//! Events of calls as they are told to listeners: alike, whether they just happened or were stored.

use crate::call::event::CallEvent;
use crate::store::database::Database;
use crate::store::time::Time;
use crate::store::wire;
use crate::types::id::CallId;
use crate::types::id::TenantId;
use crate::types::moment::Moment;
use aws_lc_rs::digest;
use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;
use sqlx::FromRow;
use sqlx::PgConnection;
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use uuid::Uuid;

/// An event with what is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToldEvent {
    /// Its identity: the same for webhooks, live and stored.
    pub id: Uuid,
    /// Its call.
    pub call: CallId,
    /// Its place in the call.
    pub seq: u32,
    /// What it is called.
    pub kind: String,
    /// Whether the call is over with it.
    pub is_last: bool,
    /// What is told, as JSON.
    pub text: String,
}

/// Whose event it is, and which.
#[derive(Clone, Copy, Debug)]
pub struct Which {
    /// The tenant.
    pub tenant: TenantId,
    /// The call.
    pub call: CallId,
    /// Its place in the call.
    pub seq: u32,
}

impl ToldEvent {
    /// What is told of an event that just happened. `state` is how far the call got with it.
    #[must_use]
    pub fn of(which: Which, at: Moment, event: &CallEvent, far: Far<'_>) -> Self {
        let data = wire::detail_of(event).unwrap_or_else(|| json!({}));
        let reached = Reached { rings: far.rings, answered: far.state != "failed" };
        Self::new(which, wire::wall(at), (event.name(), reached), (Some(far.state), data))
    }

    fn new(
        which: Which,
        at: Timestamp,
        (name, reached): (&str, Reached),
        (state, data): (Option<&str>, Value),
    ) -> Self {
        let Which { tenant, call, seq } = which;
        let (id, kind) = (event_id(call, seq, at), kind(name, reached));
        let text = json!({
            "id": id, "type": kind, "at": at, "tenant_id": tenant.uuid(), "call_id": call.uuid(),
            "seq": seq, "state": state, "data": data,
        });
        Self { id, call, seq, kind, is_last: name == "ended", text: text.to_string() }
    }
}

#[cfg(test)]
impl ToldEvent {
    /// One that was stored.
    pub(crate) fn stored(which: Which, at: Timestamp, name: &str) -> Self {
        let reached = Reached { rings: false, answered: true };
        Self::new(which, at, (name, reached), (None, json!({})))
    }
}

/// How far a call got with an event.
#[derive(Clone, Copy, Debug)]
pub struct Far<'a> {
    /// Its state.
    pub state: &'a str,
    /// It rings since this event.
    pub rings: bool,
}

/// What an event's name depends on.
#[derive(Clone, Copy, Debug)]
struct Reached {
    /// The call rings since then.
    rings: bool,
    /// It was answered.
    answered: bool,
}

/// What an event is called outside: as `tandem_webhook_type` of the schema calls it.
fn kind(name: &str, reached: Reached) -> String {
    let name = match name {
        "arrived" => "initiated",
        "progressed" if reached.rings => "ringing",
        // It rang before.
        "ringing" if !reached.rings => "progressed",
        "digit" => "dtmf",
        "transfer_begun" => "transfer_started",
        "transfer_completed" => "transferred",
        "ended" if !reached.answered => "failed",
        name => name,
    };
    format!("call.{name}")
}

/// What an event of that name is called outside.
#[cfg(test)]
pub(crate) fn kind_of(name: &str, rings: bool, answered: bool) -> String {
    kind(name, Reached { rings, answered })
}

/// The UUIDv7 of an event, as `tandem_event_id` of the schema makes it too.
fn event_id(call: CallId, seq: u32, at: Timestamp) -> Uuid {
    let hash = digest::digest(&digest::SHA256, format!("{call}:{seq}").as_bytes());
    let mut random = [0; 10];
    for (to, from) in random.iter_mut().zip(hash.as_ref()) {
        *to = *from;
    }
    let millis = u64::try_from(at.as_millisecond()).unwrap_or_default();
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}

/// When the event of an identity happened, to the millisecond.
#[must_use]
pub fn time_of(event: Uuid) -> Option<Timestamp> {
    let (seconds, nanos) = event.get_timestamp()?.to_unix();
    Timestamp::new(i64::try_from(seconds).ok()?, i32::try_from(nanos).ok()?).ok()
}

struct Stored(ToldEvent);

impl FromRow<'_, PgRow> for Stored {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let tenant = TenantId::from_uuid(row.try_get("tenant_id")?);
        let call = CallId::from_uuid(row.try_get("call_id")?);
        let seq: i32 = row.try_get("seq")?;
        let which = Which { tenant, call, seq: seq.unsigned_abs() };
        let Time(at) = row.try_get("at")?;
        let name: String = row.try_get("name")?;
        let reached =
            Reached { rings: row.try_get("rings")?, answered: row.try_get("is_answered")? };
        Ok(Self(ToldEvent::new(which, at, (&name, reached), (None, row.try_get("detail")?))))
    }
}

/// Stored events of a call of `tenant`, in order: those between two places, both left out.
///
/// # Errors
///
/// When the database fails.
pub async fn of_call(
    database: &Database,
    (tenant, call): (TenantId, CallId),
    (after, before): (i64, i64),
) -> sqlx::Result<Vec<ToldEvent>> {
    let mut transaction = database.begin(tenant).await?;
    let found: Vec<Stored> = sqlx::query_as(OF_CALL)
        .bind(tenant.uuid())
        .bind(call.uuid())
        .bind(after)
        .bind(before)
        .fetch_all(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(found.into_iter().map(|Stored(event)| event).collect())
}

pub(crate) const OF_CALL: &str = "SELECT e.tenant_id, e.call_id, e.seq, e.at, e.name, e.detail, \
         c.answered_at IS NOT NULL AS is_answered, e.at IS NOT DISTINCT FROM c.ringing_at AS rings \
     FROM call_events e JOIN calls c ON c.id = e.call_id \
     WHERE e.tenant_id = $1 AND e.call_id = $2 AND e.seq > $3 AND e.seq < $4 ORDER BY e.seq LIMIT 1024";

/// Stored events of a tenant's calls since `from`, in the order of time; `limit` at most.
///
/// # Errors
///
/// When the database fails.
pub async fn of_tenant(
    database: &Database,
    tenant: TenantId,
    from: Timestamp,
    limit: i64,
) -> sqlx::Result<Vec<ToldEvent>> {
    let mut transaction = database.begin(tenant).await?;
    let found: Vec<Stored> = sqlx::query_as(OF_TENANT)
        .bind(tenant.uuid())
        .bind(Time(from))
        .bind(limit)
        .fetch_all(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(found.into_iter().map(|Stored(event)| event).collect())
}

pub(crate) const OF_TENANT: &str = "SELECT e.tenant_id, e.call_id, e.seq, e.at, e.name, e.detail, \
         c.answered_at IS NOT NULL AS is_answered, e.at IS NOT DISTINCT FROM c.ringing_at AS rings \
     FROM call_events e JOIN calls c ON c.id = e.call_id \
     WHERE e.tenant_id = $1 AND e.at >= $2 ORDER BY e.at, e.call_id, e.seq LIMIT $3";

/// What became of an event that was to be added to a call after its end.
#[derive(Debug)]
pub(crate) enum Added {
    /// The record is not closed yet: its switch may have more to tell.
    NotOver,
    /// It is added; `None`: as many came before as are kept.
    Told(Option<ToldEvent>),
}

/// Adds an event to a call of `tenant` whose record is closed, behind all that its switch told of it.
///
/// # Errors
///
/// When the database fails.
pub(crate) async fn add_after_end(
    connection: &mut PgConnection,
    (tenant, call): (TenantId, CallId),
    (name, data): (&str, Value),
) -> sqlx::Result<Added> {
    let added: Option<(Option<i32>, Option<Time>)> = sqlx::query_as(ADD_AFTER_END)
        .bind(tenant.uuid())
        .bind(call.uuid())
        .bind(name)
        .bind(&data)
        .fetch_optional(connection)
        .await?;
    Ok(match added {
        None => Added::NotOver,
        Some((Some(seq), Some(Time(at)))) => {
            let which = Which { tenant, call, seq: seq.unsigned_abs() };
            let reached = Reached { rings: false, answered: true };
            Added::Told(Some(ToldEvent::new(which, at, (name, reached), (None, data))))
        }
        Some(_) => Added::Told(None),
    })
}

pub(crate) const ADD_AFTER_END: &str =
    "SELECT new_seq, new_at FROM tandem_note_after_end($1, $2, $3, $4)";

/// Tells, as events, what was stored of calls and what they did not tell themselves: of `most` calls at once whose
/// records are closed.
///
/// # Errors
///
/// When the database fails; then nothing was told.
pub async fn tell_news_all_tenants(
    database: &Database,
    most: i32,
) -> sqlx::Result<Vec<(TenantId, ToldEvent)>> {
    let told: Vec<(Uuid, Uuid, String, Value, i32, Time)> =
        sqlx::query_as(TELL_NEWS).bind(most).fetch_all(database.node()).await?;
    let event = |(tenant, call, name, data, seq, Time(at)): (_, _, String, _, i32, _)| {
        let (tenant, call) = (TenantId::from_uuid(tenant), CallId::from_uuid(call));
        let which = Which { tenant, call, seq: seq.unsigned_abs() };
        let reached = Reached { rings: false, answered: true };
        (tenant, ToldEvent::new(which, at, (&name, reached), (None, data)))
    };
    Ok(told.into_iter().map(event).collect())
}

pub(crate) const TELL_NEWS: &str = "SELECT of_tenant, of_call, told_name, told_detail, new_seq, new_at \
     FROM tandem_tell_news($1)";

/// True when `tenant` has a record of the call.
///
/// # Errors
///
/// When the database fails.
pub async fn is_recorded(
    database: &Database,
    (tenant, call): (TenantId, CallId),
) -> sqlx::Result<bool> {
    let mut transaction = database.begin(tenant).await?;
    let found = sqlx::query(RECORDED)
        .bind(tenant.uuid())
        .bind(call.uuid())
        .fetch_optional(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(found.is_some())
}

pub(crate) const RECORDED: &str = "SELECT 1 FROM calls WHERE tenant_id = $1 AND id = $2";

/// True when the record of a call of `tenant` is closed: all that happened to it is stored.
///
/// # Errors
///
/// When the database fails.
pub async fn is_closed(
    database: &Database,
    (tenant, call): (TenantId, CallId),
) -> sqlx::Result<bool> {
    let mut transaction = database.begin(tenant).await?;
    let found = sqlx::query(CLOSED)
        .bind(tenant.uuid())
        .bind(call.uuid())
        .fetch_optional(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(found.is_some())
}

pub(crate) const CLOSED: &str =
    "SELECT 1 FROM calls WHERE tenant_id = $1 AND id = $2 AND ended_at IS NOT NULL";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::side::LegSide;
    use crate::types::cause::HangupCause;
    use crate::types::cause::Party;
    use std::time::Duration;

    #[test]
    fn an_event_is_called_the_same_whoever_tells_it() {
        let which = Which {
            tenant: TenantId::from_uuid(Uuid::from_u128(1)),
            call: CallId::from_uuid(Uuid::from_u128(2)),
            seq: 3,
        };
        let at = Moment::from_millis(5);
        let far = |state| Far { state, rings: false };
        let digit = ToldEvent::of(which, at, &CallEvent::Digit('7'), far("answered"));
        assert_eq!((digit.kind.as_str(), digit.is_last), ("call.dtmf", false));
        let told: Value = serde_json::from_str(&digit.text).unwrap();
        assert_eq!((&told["data"]["digit"], &told["seq"]), (&json!("7"), &json!(3)));
        assert_eq!(told["id"], digit.id.to_string());
        assert_eq!(digit.id.get_version_num(), 7);
        assert_eq!(time_of(digit.id).unwrap().as_millisecond(), wire::wall(at).as_millisecond());
        let (cause, by, duration) = (HangupCause::Normal, Party::Caller, Duration::ZERO);
        let end = CallEvent::Ended { cause, by, duration };
        for (state, kind) in [("ended", "call.ended"), ("failed", "call.failed")] {
            let told = ToldEvent::of(which, at, &end, far(state));
            assert_eq!((told.kind.as_str(), told.is_last), (kind, true));
        }
        let progress = CallEvent::Progressed { side: LegSide::Near, status: 183, audible: true };
        for (rings, kind) in [(true, "call.ringing"), (false, "call.progressed")] {
            let told = ToldEvent::of(which, at, &progress, Far { state: "ringing", rings });
            assert_eq!(told.kind, kind);
        }
    }
}
