//! Call records: how they enter the database, and how a tenant reads them.

pub use crate::store::wire::detail_of;

use crate::store::database::Database;
use crate::store::time::Time;
use crate::types::id::AiProfileId;
use crate::types::id::CallId;
use crate::types::id::NodeId;
use crate::types::id::NumberId;
use crate::types::id::TenantId;
use crate::types::id::TrunkId;
use jiff::Timestamp;
use serde_json::Value;
use sqlx::AssertSqlSafe;
use sqlx::FromRow;
use sqlx::PgConnection;
use sqlx::Postgres;
use sqlx::QueryBuilder;
use sqlx::Row;
use sqlx::postgres::PgRow;
use std::sync::LazyLock;
use uuid::Uuid;

/// Most calls of one page.
pub const PAGE_MAX: u32 = 200;

/// A call record as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredCall {
    /// The call.
    pub id: CallId,
    /// How many events are folded in.
    pub rev: i32,
    /// Where routing took it.
    pub route: StoredRoute,
    /// `inbound` or `outbound`.
    pub direction: String,
    /// The Call-ID of its signalling.
    pub signalling_id: String,
    /// Address and port it came from; of a call out, where its last INVITE went.
    pub source: Option<String>,
    /// `udp`, `tcp` or `tls`.
    pub transport: Option<String>,
    /// The caller as claimed; empty when anonymous.
    pub caller: String,
    /// What was dialled, as it came.
    pub dialled_text: String,
    /// The dialled number in the international form.
    pub dialled: Option<String>,
    /// The steps of the routing decision: `[{"what", "detail"}]`.
    pub decision: Value,
    /// When it reached each stage.
    pub times: StoredTimes,
    /// From the answer to the end, in ms.
    pub duration_ms: i64,
    /// The codec of the answer.
    pub codec: Option<String>,
    /// Times the caller put us on hold.
    pub holds: i32,
    /// Keys pressed.
    pub digits: i32,
    /// The SIP status of a refusal, or 200.
    pub sip_status: Option<i16>,
    /// Why it ended.
    pub cause: Option<String>,
    /// The same as a Q.850 cause.
    pub q850: Option<i16>,
    /// Who ended it.
    pub ended_by: Option<String>,
    /// Why the agent failed.
    pub agent_failure: Option<String>,
    /// Figures of its media.
    pub media: Option<StoredMedia>,
    /// What it was given to be passed on, with what applications made of it.
    pub variables: Value,
    /// How it was filed.
    pub disposition: Option<String>,
    /// What came of it.
    pub outcome: Option<String>,
    /// What was said.
    pub summary: Option<String>,
}

/// Where routing took a stored call. References to rows that are gone are `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredRoute {
    /// The tenant.
    pub tenant: Option<TenantId>,
    /// The trunk as routed, whether it is a row, a profile file, or gone.
    pub trunk: Option<TrunkId>,
    /// The number.
    pub number: Option<NumberId>,
    /// The AI profile.
    pub ai_profile: Option<AiProfileId>,
}

/// When a stored call reached each stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredTimes {
    /// The request came.
    pub arrived: Timestamp,
    /// Routing decided.
    pub decided: Option<Timestamp>,
    /// The caller was told that it rings.
    pub ringing: Option<Timestamp>,
    /// The agent was connected.
    pub agent_ready: Option<Timestamp>,
    /// The call was answered.
    pub answered: Option<Timestamp>,
    /// The caller confirmed the answer.
    pub acknowledged: Option<Timestamp>,
    /// The first packet of the caller's audio came.
    pub first_media: Option<Timestamp>,
    /// The fallback announcement began.
    pub fallback: Option<Timestamp>,
    /// It ended.
    pub ended: Option<Timestamp>,
}

/// Figures of a stored call's media; see `MediaFigures`.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredMedia {
    /// RTP packets received.
    pub packets_in: i64,
    /// RTP packets sent.
    pub packets_out: i64,
    /// Payload octets received.
    pub octets_in: i64,
    /// Payload octets sent.
    pub octets_out: i64,
    /// Packets lost on the way in.
    pub lost_in: i64,
    /// Packets that came too late.
    pub late_in: i64,
    /// Packets the far end reports as lost.
    pub lost_out: Option<i64>,
    /// Jitter on the way in, in ms.
    pub jitter_in_ms: Option<f64>,
    /// Jitter the far end reports, in ms.
    pub jitter_out_ms: Option<f64>,
    /// Round trip, in ms.
    pub round_trip_ms: Option<f64>,
    /// Listening quality on the way in.
    pub mos_in: Option<f64>,
    /// Listening quality on the way out.
    pub mos_out: Option<f64>,
    /// Packets from elsewhere.
    pub foreign: i64,
    /// Times the agent's audio ran dry.
    pub underruns: i32,
    /// The SRTP suite; `None`: plain RTP.
    pub srtp_suite: Option<String>,
    /// Encrypted packets that were refused.
    pub srtp_refused: i64,
    /// How good it was, as [`of_quality`] tells it; `None` of calls of before.
    ///
    /// [`of_quality`]: crate::store::quality::of_quality
    pub quality: Option<Value>,
}

/// An event of a stored call.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredEvent {
    /// Its place in the call.
    pub seq: i32,
    /// When it happened.
    pub at: Timestamp,
    /// What happened.
    pub name: String,
    /// Its particulars.
    pub detail: Value,
}

/// Which calls are wanted.
#[derive(Clone, Debug, Default)]
pub struct CallFilter {
    /// The caller, as claimed.
    pub caller: Option<String>,
    /// The dialled number, in the international form.
    pub dialled: Option<String>,
    /// Why it ended, by its code.
    pub cause: Option<String>,
    /// How it was filed.
    pub disposition: Option<String>,
    /// Arrived at or after.
    pub from: Option<Timestamp>,
    /// Arrived before.
    pub until: Option<Timestamp>,
}

/// One page of calls, newest first.
#[derive(Clone, Debug, PartialEq)]
pub struct CallPage {
    /// The calls, without their events.
    pub calls: Vec<StoredCall>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<CallId>,
}

/// Calls of `tenant`, newest first; `after` is the `next` of the page before, `limit` is cut to
/// [`PAGE_MAX`].
///
/// # Errors
///
/// When the database fails.
pub async fn list(
    database: &Database,
    tenant: TenantId,
    filter: &CallFilter,
    after: Option<CallId>,
    limit: u32,
) -> sqlx::Result<CallPage> {
    let limit = limit.clamp(1, PAGE_MAX);
    let mut transaction = database.begin(tenant).await?;
    let after = match after {
        Some(call) => Some((arrival_of(&mut transaction, call).await?, call)),
        None => None,
    };
    let mut query = list_query(tenant, filter, after, limit);
    let mut calls: Vec<StoredCall> = query.build_query_as().fetch_all(&mut *transaction).await?;
    transaction.commit().await?;
    let is_full = calls.len() > limit as usize;
    calls.truncate(limit as usize);
    let next = calls.last().filter(|_| is_full).map(|call| call.id);
    Ok(CallPage { calls, next })
}

/// Calls of `tenant` that run at other nodes than `node`, as far as the database knows, newest first, behind `after`;
/// `most` of them. Those of a node count as long as that was seen within a day, or its calls are closed before.
///
/// # Errors
///
/// When the database fails.
pub async fn running_elsewhere(
    (database, node): (&Database, NodeId),
    tenant: TenantId,
    (after, most): (Option<CallId>, u32),
) -> sqlx::Result<Vec<StoredCall>> {
    sqlx::query_as(AssertSqlSafe(RUNNING_ELSEWHERE.as_str()))
        .bind(tenant.uuid())
        .bind(node.uuid())
        .bind(after.map(CallId::uuid))
        .bind(i64::from(most))
        .fetch_all(database.node())
        .await
}

/// One call of `tenant` with its events; `None` when it is not there or not the tenant's.
///
/// # Errors
///
/// When the database fails.
pub async fn get(
    database: &Database,
    tenant: TenantId,
    call: CallId,
) -> sqlx::Result<Option<(StoredCall, Vec<StoredEvent>)>> {
    let mut transaction = database.begin(tenant).await?;
    let found = read_one(&mut transaction, call).await?;
    transaction.commit().await?;
    // The row policy has answered already; a second lock costs nothing.
    Ok(found.filter(|(stored, _)| stored.route.tenant == Some(tenant)))
}

/// One call of whatever tenant with its events, for the operator.
///
/// # Errors
///
/// When the database fails.
pub async fn get_all_tenants(
    database: &Database,
    call: CallId,
) -> sqlx::Result<Option<(StoredCall, Vec<StoredEvent>)>> {
    let mut connection = database.node().acquire().await?;
    read_one(&mut connection, call).await
}

async fn read_one(
    connection: &mut PgConnection,
    call: CallId,
) -> sqlx::Result<Option<(StoredCall, Vec<StoredEvent>)>> {
    let stored: Option<StoredCall> = sqlx::query_as(AssertSqlSafe(SELECT_ONE.as_str()))
        .bind(call.uuid())
        .fetch_optional(&mut *connection)
        .await?;
    let Some(stored) = stored else { return Ok(None) };
    let events =
        sqlx::query_as(SELECT_EVENTS).bind(call.uuid()).fetch_all(&mut *connection).await?;
    Ok(Some((stored, events)))
}

pub(crate) fn list_query(
    tenant: TenantId,
    filter: &CallFilter,
    after: Option<(Timestamp, CallId)>,
    limit: u32,
) -> QueryBuilder<Postgres> {
    let mut query = QueryBuilder::new("SELECT ");
    query.push(COLUMN_NAMES.as_str()).push(NOTES).push(" FROM calls WHERE tenant_id = ");
    query.push_bind(tenant.uuid());
    if let Some(after) = after {
        let (arrived, call) = after;
        query.push(" AND (arrived_at, id) < (").push_bind(Time(arrived));
        query.push(", ").push_bind(call.uuid()).push(")");
    }
    let texts = [
        ("caller", &filter.caller),
        ("dialled", &filter.dialled),
        ("cause", &filter.cause),
        ("disposition", &filter.disposition),
    ];
    for (column, text) in texts {
        if let Some(text) = text {
            query.push(format!(" AND {column} = ")).push_bind(text.clone());
        }
    }
    if let Some(from) = filter.from {
        query.push(" AND arrived_at >= ").push_bind(Time(from));
    }
    if let Some(until) = filter.until {
        query.push(" AND arrived_at < ").push_bind(Time(until));
    }
    // One more than asked for tells whether there is a next page.
    query.push(" ORDER BY arrived_at DESC, id DESC LIMIT ").push_bind(i64::from(limit) + 1);
    query
}

/// When a call arrived behind which a page begins. It may have been deleted since the page before: then where
/// it stood. Asked by itself, for behind row-level security no index would be used with it in the query.
async fn arrival_of(connection: &mut PgConnection, call: CallId) -> sqlx::Result<Timestamp> {
    let found: Option<Time> =
        sqlx::query_scalar(ARRIVAL).bind(call.uuid()).fetch_optional(connection).await?;
    Ok(found.map_or_else(|| minted_at(call), |found| found.0))
}

pub(crate) const ARRIVAL: &str = "SELECT arrived_at FROM calls WHERE id = $1";

/// When the identity of a call was minted: about when it arrived.
fn minted_at(call: CallId) -> Timestamp {
    let minted = call.uuid().get_timestamp().map_or((0, 0), |minted| minted.to_unix());
    let seconds = i64::try_from(minted.0).unwrap_or(0);
    Timestamp::new(seconds, i32::try_from(minted.1).unwrap_or(0)).unwrap_or_default()
}

/// The columns that an entry of the journal fills, with their types.
const COLUMNS: [(&str, &str); 49] = [
    ("id", "uuid"),
    ("rev", "integer"),
    ("tenant_id", "uuid"),
    ("trunk_ref", "uuid"),
    ("number_id", "uuid"),
    ("ai_profile_id", "uuid"),
    ("direction", "text"),
    ("signalling_id", "text"),
    ("source", "text"),
    ("transport", "text"),
    ("caller", "text"),
    ("dialled_text", "text"),
    ("dialled", "text"),
    ("decision", "jsonb"),
    ("arrived_at", "timestamptz"),
    ("decided_at", "timestamptz"),
    ("ringing_at", "timestamptz"),
    ("agent_ready_at", "timestamptz"),
    ("answered_at", "timestamptz"),
    ("acknowledged_at", "timestamptz"),
    ("first_media_at", "timestamptz"),
    ("fallback_at", "timestamptz"),
    ("ended_at", "timestamptz"),
    ("duration_ms", "bigint"),
    ("codec", "text"),
    ("holds", "integer"),
    ("digits", "integer"),
    ("sip_status", "smallint"),
    ("cause", "text"),
    ("q850", "smallint"),
    ("ended_by", "text"),
    ("agent_failure", "text"),
    ("packets_in", "bigint"),
    ("packets_out", "bigint"),
    ("octets_in", "bigint"),
    ("octets_out", "bigint"),
    ("lost_in", "bigint"),
    ("late_in", "bigint"),
    ("lost_out", "bigint"),
    ("jitter_in_ms", "double precision"),
    ("jitter_out_ms", "double precision"),
    ("round_trip_ms", "double precision"),
    ("mos_in", "double precision"),
    ("mos_out", "double precision"),
    ("foreign_packets", "bigint"),
    ("underruns", "integer"),
    ("srtp_suite", "text"),
    ("srtp_refused", "bigint"),
    ("media_quality", "jsonb"),
];

/// What applications say of calls; see `call_notes`.
const NOTES: &str = ", variables, disposition, outcome, summary";

static COLUMN_NAMES: LazyLock<String> = LazyLock::new(|| COLUMNS.map(|(name, _)| name).join(", "));

pub(crate) static SELECT_ONE: LazyLock<String> =
    LazyLock::new(|| format!("SELECT {}{NOTES} FROM calls WHERE id = $1", COLUMN_NAMES.as_str()));

/// What is said of nodes is said by `call_commands` too: who is shown here may be commanded from here.
pub(crate) static RUNNING_ELSEWHERE: LazyLock<String> = LazyLock::new(|| {
    let names = COLUMN_NAMES.as_str();
    format!(
        "SELECT {names}{NOTES} FROM calls c \
         WHERE c.tenant_id = $1 AND c.ended_at IS NULL AND ($3::uuid IS NULL OR c.id < $3) \
           AND EXISTS (SELECT FROM nodes n WHERE n.id = coalesce(c.node_id, n.id) AND n.id <> $2 \
                       AND n.seen_at > now() - CASE WHEN c.node_id IS NULL \
                           THEN interval '2 hours' ELSE interval '1 day' END) \
         ORDER BY c.id DESC LIMIT $4"
    )
});

pub(crate) const SELECT_EVENTS: &str =
    "SELECT seq, at, name, detail FROM call_events WHERE call_id = $1 ORDER BY seq";

/// Takes an array of journal entries, of each of which it reads the `record` alone, and the node they are from. The newest entry of
/// a call in the batch counts, and only if it is newer than the row. References become NULL where the row they name is not there: a number
/// deleted during the call must not cost its record.
pub(crate) static UPSERT: LazyLock<String> = LazyLock::new(|| {
    let typed = COLUMNS.map(|(name, of)| format!("{name} {of}")).join(", ");
    let names = COLUMN_NAMES.as_str();
    let value = |name: &str| match name {
        "number_id" => "(SELECT n.id FROM phone_numbers n WHERE n.id = r.number_id)".to_owned(),
        "ai_profile_id" => {
            "(SELECT p.id FROM ai_profiles p WHERE p.id = r.ai_profile_id)".to_owned()
        }
        // A record without media says nothing of them.
        "holds" | "digits" | "duration_ms" => format!("coalesce(r.{name}, 0)"),
        _ => format!("r.{name}"),
    };
    let values = COLUMNS.map(|(name, _)| value(name)).join(", ");
    let set = COLUMNS.map(|(name, _)| format!("{name} = excluded.{name}")).join(", ");
    format!(
        "INSERT INTO calls ({names}, trunk_id, variables, node_id) \
         SELECT {values}, (SELECT t.id FROM trunks t WHERE t.id = r.trunk_ref), \
                coalesce(r.variables, '{{}}'), CAST($2 AS uuid) \
         FROM (SELECT DISTINCT ON (r.id) r.* \
               FROM jsonb_array_elements(CAST($1 AS jsonb)) AS entry, \
                    jsonb_to_record(entry -> 'record') AS r({typed}, variables jsonb) \
               ORDER BY r.id, r.rev DESC) AS r \
         ON CONFLICT (id) DO UPDATE SET {set}, trunk_id = excluded.trunk_id \
         WHERE excluded.rev > calls.rev"
    )
});

/// Takes the same, and reads of each entry its `id` and its `events` alone. An event is never written twice.
pub(crate) const INSERT_EVENTS: &str = "INSERT INTO call_events (call_id, seq, tenant_id, at, name, detail) \
     SELECT c.id, v.seq, c.tenant_id, v.at, v.name, v.detail \
     FROM jsonb_array_elements(CAST($1 AS jsonb)) AS entry \
     JOIN calls c ON c.id = (entry ->> 'id')::uuid, \
          jsonb_to_recordset(entry -> 'events') \
              AS v(seq integer, at timestamptz, name text, detail jsonb) \
     ON CONFLICT (call_id, seq) DO NOTHING";

impl FromRow<'_, PgRow> for StoredCall {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let uuid = |column: &str| row.try_get::<Option<Uuid>, _>(column);
        Ok(Self {
            id: CallId::from_uuid(row.try_get("id")?),
            rev: row.try_get("rev")?,
            route: StoredRoute {
                tenant: uuid("tenant_id")?.map(TenantId::from_uuid),
                trunk: uuid("trunk_ref")?.map(TrunkId::from_uuid),
                number: uuid("number_id")?.map(NumberId::from_uuid),
                ai_profile: uuid("ai_profile_id")?.map(AiProfileId::from_uuid),
            },
            direction: row.try_get("direction")?,
            signalling_id: row.try_get("signalling_id")?,
            source: row.try_get("source")?,
            transport: row.try_get("transport")?,
            caller: row.try_get("caller")?,
            dialled_text: row.try_get("dialled_text")?,
            dialled: row.try_get("dialled")?,
            decision: row.try_get("decision")?,
            times: StoredTimes::from_row(row)?,
            duration_ms: row.try_get("duration_ms")?,
            codec: row.try_get("codec")?,
            holds: row.try_get("holds")?,
            digits: row.try_get("digits")?,
            sip_status: row.try_get("sip_status")?,
            cause: row.try_get("cause")?,
            q850: row.try_get("q850")?,
            ended_by: row.try_get("ended_by")?,
            agent_failure: row.try_get("agent_failure")?,
            media: media(row)?,
            variables: row.try_get("variables")?,
            disposition: row.try_get("disposition")?,
            outcome: row.try_get("outcome")?,
            summary: row.try_get("summary")?,
        })
    }
}

impl FromRow<'_, PgRow> for StoredTimes {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let time = |column: &str| {
            row.try_get::<Option<Time>, _>(column).map(|time| time.map(|time| time.0))
        };
        Ok(Self {
            arrived: row.try_get::<Time, _>("arrived_at")?.0,
            decided: time("decided_at")?,
            ringing: time("ringing_at")?,
            agent_ready: time("agent_ready_at")?,
            answered: time("answered_at")?,
            acknowledged: time("acknowledged_at")?,
            first_media: time("first_media_at")?,
            fallback: time("fallback_at")?,
            ended: time("ended_at")?,
        })
    }
}

fn media(row: &PgRow) -> sqlx::Result<Option<StoredMedia>> {
    // All of them are written together, or none.
    let Some(packets_in) = row.try_get("packets_in")? else { return Ok(None) };
    Ok(Some(StoredMedia {
        packets_in,
        packets_out: row.try_get("packets_out")?,
        octets_in: row.try_get("octets_in")?,
        octets_out: row.try_get("octets_out")?,
        lost_in: row.try_get("lost_in")?,
        late_in: row.try_get("late_in")?,
        lost_out: row.try_get("lost_out")?,
        jitter_in_ms: row.try_get("jitter_in_ms")?,
        jitter_out_ms: row.try_get("jitter_out_ms")?,
        round_trip_ms: row.try_get("round_trip_ms")?,
        mos_in: row.try_get("mos_in")?,
        mos_out: row.try_get("mos_out")?,
        foreign: row.try_get("foreign_packets")?,
        underruns: row.try_get("underruns")?,
        srtp_suite: row.try_get("srtp_suite")?,
        // Calls of before the column had nothing to refuse.
        srtp_refused: row.try_get::<Option<i64>, _>("srtp_refused")?.unwrap_or(0),
        quality: row.try_get("media_quality")?,
    }))
}

impl FromRow<'_, PgRow> for StoredEvent {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            seq: row.try_get("seq")?,
            at: row.try_get::<Time, _>("at")?.0,
            name: row.try_get("name")?,
            detail: row.try_get("detail")?,
        })
    }
}
