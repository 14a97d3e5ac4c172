//! Webhook endpoints and the outbox: what tenants are told of their calls, and how far that is.

pub mod deliveries;

use crate::store::api_keys::KeyHolder;
use crate::store::audit_log;
use crate::store::audit_log::Entry;
use crate::store::database::Database;
use crate::store::resource;
use crate::store::resource::Fault;
use crate::store::resource::Members;
use crate::store::resource::Resource;
use crate::store::resource::field::Field;
use crate::store::resource::field::Form;
use crate::store::resource::field::Given;
use crate::store::resource::field::Kind;
use crate::store::seal::Sealer;
use crate::store::time::Time;
use crate::types::id::CallId;
use crate::types::id::TenantId;
use crate::types::secret::Secret;
use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;
use sqlx::FromRow;
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use std::time::Duration;
use uuid::Uuid;

/// The name under which the secret that signs is sealed.
pub const SIGNING: &str = "signing";
/// The name of the one before it.
pub const PREVIOUS: &str = "previous";
/// Most types of events that one endpoint names.
const TYPES_MAX: usize = 128;

/// Webhook endpoints, as the API manages them.
pub const WEBHOOKS: Resource = Resource {
    name: "webhook endpoint",
    plural: "webhooks",
    table: "webhook_endpoints",
    fields: &[
        Field::new("tenant_id", Kind::Id, "Whose it is.").given(Given::Never),
        Field::new("url", Kind::Text(1, 2_048), "Where events are posted to: https://, on the internet.")
            .given(Given::Required),
        Field::new("description", Kind::Text(0, 200), "What it is for."),
        Field::new(
            "events",
            Kind::Patterns(
                TYPES_MAX,
                Form::new(is_type, TYPE_PATTERN, "a type of event such as call.ended, or * for all"),
            ),
            "The types of events that are told there; * stands for all but those of the inside of the switch, \
             and is the default.",
        ),
        Field::new(
            "is_active",
            Kind::Flag,
            "Whether it is told anything. While it is not, nothing is added to what waits, and what waits is \
             kept.",
        )
        .filter(),
        Field::new("created_at", Kind::Time, "When it was made.").given(Given::Never),
        Field::new("updated_at", Kind::Time, "When it was last changed.").given(Given::Never),
    ],
    exclusive: None,
    has_secrets: false,
    is_switchs: false,
    deactivates: None,
};

fn is_type(text: &str) -> bool {
    text == "*" || EVENT_TYPES.contains(&text)
}

macro_rules! event_types {
    ($first:literal $(, $name:literal)*) => {
        /// What can be told by webhooks; `tandem_webhook_type` of the schema names them by the events of calls.
        pub const EVENT_TYPES: &[&str] = &[concat!("call.", $first) $(, concat!("call.", $name))*];
        const TYPE_PATTERN: &str = concat!("^(\\*|call\\.(", $first $(, "|", $name)*, "))$");
    };
}

event_types!(
    "initiated",
    "ringing",
    "answered",
    "ended",
    "failed",
    "record_written",
    "dtmf",
    "held",
    "resumed",
    "hold_begun",
    "hold_ended",
    "muted",
    "unmuted",
    "play_begun",
    "play_ended",
    "keys_sent",
    "variables_set",
    "agent_ready",
    "agent_failed",
    "agent_interrupted",
    "agent_resumed",
    "agent_attached",
    "agent_awaited",
    "agent_asked",
    "agent_link",
    "script_noted",
    "agent_replaced",
    "answer_asked",
    "fallback_started",
    "transfer_started",
    "transferred",
    "transfer_failed",
    "transfer_withdrawn",
    "transfer_refused",
    "leg_answered",
    "leg_failed",
    "leg_ended",
    "bridged",
    "supervision_begun",
    "supervision_changed",
    "supervision_ended",
    "recording_started",
    "recording_paused",
    "recording_resumed",
    "recording_stopped",
    "recording_ready",
    "recording_failed",
    "transcript_added",
    "audio_trouble",
    "answerer",
    "beep",
    "greeting_over",
    // Told to those who name them; see `tandem_webhook_is_inside`.
    "decided",
    "refused",
    "ignored",
    "acknowledged",
    "first_media",
    "dialled",
    "sent",
    "attempted",
    "progressed",
    "reoffer_refused",
    "replaced",
    "peer_reason",
    "turn",
    "barge_in",
    "unheard",
    "underrun",
    "leg_media",
    "media"
);

/// Whose turn it is: a call with something to tell, and the endpoint it is told to.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The endpoint.
    pub endpoint: Uuid,
    /// The call.
    pub call: CallId,
    /// Proves that the turn is still ours.
    pub lease: Uuid,
    /// Where to.
    pub url: String,
    /// The secrets that sign, sealed.
    sealed: Value,
}

impl Claim {
    /// The secrets that sign, the newest first; none where they cannot be opened.
    #[must_use]
    pub fn secrets(&self, sealer: &Sealer) -> Vec<Secret<String>> {
        let mut open = sealer.open_all(self.endpoint, &self.sealed);
        [SIGNING, PREVIOUS].into_iter().filter_map(|name| open.remove(name)).collect()
    }
}

/// An event that waits to be told.
#[derive(Clone, Debug, PartialEq)]
pub struct Waiting {
    /// Its identity.
    pub id: Uuid,
    /// What it is called.
    pub kind: String,
    /// How often it was tried to tell it.
    pub attempts: u32,
    /// What is sent.
    pub body: Value,
}

impl FromRow<'_, PgRow> for Waiting {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let (id, kind): (Uuid, String) = (row.try_get("event_id")?, row.try_get("type")?);
        let attempts: i32 = row.try_get("attempts")?;
        let Time(at) = row.try_get("at")?;
        let body = json!({
            "id": id,
            "type": kind,
            "at": at,
            "tenant_id": row.try_get::<Uuid, _>("tenant_id")?,
            "call_id": row.try_get::<Uuid, _>("call_id")?,
            "seq": row.try_get::<i32, _>("seq")?,
            "call": row.try_get::<Value, _>("call")?,
            "data": row.try_get::<Value, _>("data")?,
        });
        Ok(Self { id, kind, attempts: attempts.unsigned_abs(), body })
    }
}

/// How an attempt to tell an event went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The status of the answer, if there was one.
    pub status: Option<u16>,
    /// Why it counts as a failure.
    pub why: String,
    /// When to try again; `None`: never.
    pub again: Option<Duration>,
}

/// Takes turns: at each active endpoint as many calls as are free there, `free_else` where `free` does not
/// say, `most` in all. Nobody else gets them for the time of `lease`.
///
/// # Errors
///
/// When the database fails.
pub async fn claim_all_tenants(
    database: &Database,
    free: &[(Uuid, i32)],
    (free_else, most): (i32, i64),
    lease: (Uuid, Duration),
) -> sqlx::Result<Vec<Claim>> {
    let (ids, counts): (Vec<Uuid>, Vec<i32>) = free.iter().copied().unzip();
    let rows: Vec<(Uuid, Uuid, String, Value)> = sqlx::query_as(CLAIM)
        .bind(ids)
        .bind(counts)
        .bind(free_else)
        .bind(most)
        .bind(millis(lease.1))
        .bind(lease.0)
        .fetch_all(database.node())
        .await?;
    let claim = |(endpoint, call, url, sealed)| Claim {
        endpoint,
        call: CallId::from_uuid(call),
        lease: lease.0,
        url,
        sealed,
    };
    Ok(rows.into_iter().map(claim).collect())
}

pub(crate) const CLAIM: &str = "WITH claimed AS MATERIALIZED ( \
         SELECT q.endpoint_id, q.call_id FROM webhook_endpoints e \
         LEFT JOIN unnest($1::uuid[], $2::integer[]) AS known(id, free) ON known.id = e.id \
         CROSS JOIN LATERAL ( \
             SELECT w.endpoint_id, w.call_id FROM webhook_queues w \
             WHERE w.endpoint_id = e.id AND w.due_at <= now() \
             ORDER BY w.due_at LIMIT greatest(coalesce(known.free, $3), 0) \
             FOR UPDATE SKIP LOCKED) AS q \
         WHERE e.is_active ORDER BY random() LIMIT $4) \
     UPDATE webhook_queues q SET due_at = now() + $5 * interval '1 millisecond', lease = $6 \
     FROM claimed c JOIN webhook_endpoints e ON e.id = c.endpoint_id \
     WHERE q.endpoint_id = c.endpoint_id AND q.call_id = c.call_id \
     RETURNING q.endpoint_id, q.call_id, e.url, e.sealed";

/// What waits of the claimed call, in order; `limit` at most. None, once the endpoint is inactive.
///
/// # Errors
///
/// When the database fails.
pub async fn waiting_all_tenants(
    database: &Database,
    claim: &Claim,
    limit: i64,
) -> sqlx::Result<Vec<Waiting>> {
    let query = sqlx::query_as(WAITING).bind(claim.endpoint).bind(claim.call.uuid()).bind(limit);
    query.fetch_all(database.node()).await
}

pub(crate) const WAITING: &str = "SELECT o.event_id, o.tenant_id, o.call_id, o.seq, o.type, o.at, o.attempts, \
         jsonb_build_object('direction', c.direction, 'caller', c.caller, \
             'dialled', coalesce(c.dialled, c.dialled_text), 'number_id', c.number_id, \
             'ai_profile_id', c.ai_profile_id, 'arrived_at', c.arrived_at) AS call, \
         CASE WHEN o.is_record THEN jsonb_build_object( \
             'arrived_at', c.arrived_at, 'ringing_at', c.ringing_at, 'answered_at', c.answered_at, \
             'ended_at', c.ended_at, 'duration_ms', c.duration_ms, 'sip_status', c.sip_status, \
             'cause', c.cause, 'q850', c.q850, 'ended_by', c.ended_by, 'codec', c.codec, \
             'agent_failure', c.agent_failure, 'mos_in', c.mos_in, 'mos_out', c.mos_out) \
         ELSE coalesce(v.detail, '{}') END AS data \
     FROM webhook_outbox o \
     JOIN webhook_endpoints e ON e.id = o.endpoint_id AND e.is_active \
     JOIN calls c ON c.id = o.call_id \
     LEFT JOIN call_events v ON v.call_id = o.call_id AND v.seq = o.seq \
     WHERE o.endpoint_id = $1 AND o.call_id = $2 AND o.state = 'pending' \
     ORDER BY o.seq, o.is_record LIMIT $3";

/// Notes that an event was told, and keeps the turn for another `lease`. False when the turn is no longer
/// ours.
///
/// # Errors
///
/// When the database fails.
pub async fn delivered_all_tenants(
    database: &Database,
    (claim, event): (&Claim, Uuid),
    status: u16,
    lease: Duration,
) -> sqlx::Result<bool> {
    let done = sqlx::query(DELIVERED)
        .bind(claim.endpoint)
        .bind(claim.call.uuid())
        .bind(claim.lease)
        .bind(event)
        .bind(i16::try_from(status).ok())
        .bind(millis(lease))
        .execute(database.node())
        .await?;
    Ok(done.rows_affected() > 0)
}

pub(crate) const DELIVERED: &str = "WITH mine AS ( \
         UPDATE webhook_queues SET due_at = now() + $6 * interval '1 millisecond' \
         WHERE endpoint_id = $1 AND call_id = $2 AND lease = $3 RETURNING 1) \
     UPDATE webhook_outbox SET state = 'delivered', attempts = attempts + 1, last_status = $5, \
         last_error = NULL, last_attempt_at = now(), settled_at = now() \
     WHERE endpoint_id = $1 AND event_id = $4 AND EXISTS (SELECT FROM mine)";

/// Notes that an event was not told, and gives the turn back until the next try. Where there is none, the
/// event is a dead letter and the next ones have their turn at once.
///
/// # Errors
///
/// When the database fails.
pub async fn failed_all_tenants(
    database: &Database,
    (claim, event): (&Claim, Uuid),
    failure: &Failure,
) -> sqlx::Result<()> {
    sqlx::query(FAILED)
        .bind(claim.endpoint)
        .bind(claim.call.uuid())
        .bind(claim.lease)
        .bind(event)
        .bind(failure.status.and_then(|status| i16::try_from(status).ok()))
        .bind(&failure.why)
        .bind(failure.again.is_none())
        .bind(millis(failure.again.unwrap_or_default()))
        .execute(database.node())
        .await?;
    Ok(())
}

pub(crate) const FAILED: &str = "WITH mine AS ( \
         UPDATE webhook_queues SET due_at = now() + $8 * interval '1 millisecond', lease = NULL \
         WHERE endpoint_id = $1 AND call_id = $2 AND lease = $3 RETURNING 1) \
     UPDATE webhook_outbox SET state = CASE WHEN $7 THEN 'dead' ELSE 'pending' END, \
         attempts = attempts + 1, last_status = $5, last_error = $6, last_attempt_at = now(), \
         settled_at = CASE WHEN $7 THEN now() END \
     WHERE endpoint_id = $1 AND event_id = $4 AND EXISTS (SELECT FROM mine)";

/// Ends the turn of a call that has nothing more to tell; one that has is due again at once.
///
/// # Errors
///
/// When the database fails.
pub async fn finish_all_tenants(database: &Database, claim: &Claim) -> sqlx::Result<()> {
    let mut transaction = database.node().begin().await?;
    let held = sqlx::query(HOLD)
        .bind(claim.endpoint)
        .bind(claim.call.uuid())
        .bind(claim.lease)
        .fetch_optional(&mut *transaction)
        .await?;
    if held.is_some() {
        // What others wrote before the row was held is seen by these, and what they write now waits for us.
        for statement in [DROP_QUEUE, FREE_QUEUE] {
            sqlx::query(statement)
                .bind(claim.endpoint)
                .bind(claim.call.uuid())
                .execute(&mut *transaction)
                .await?;
        }
    }
    transaction.commit().await
}

pub(crate) const HOLD: &str = "SELECT 1 FROM webhook_queues \
     WHERE endpoint_id = $1 AND call_id = $2 AND lease = $3 FOR UPDATE";
pub(crate) const DROP_QUEUE: &str = "DELETE FROM webhook_queues q \
     WHERE q.endpoint_id = $1 AND q.call_id = $2 AND NOT EXISTS ( \
         SELECT FROM webhook_outbox o WHERE o.endpoint_id = $1 AND o.call_id = $2 \
             AND o.state = 'pending')";
pub(crate) const FREE_QUEUE: &str = "UPDATE webhook_queues SET due_at = now(), lease = NULL \
     WHERE endpoint_id = $1 AND call_id = $2";

/// Makes what pauses at an endpoint due: it answers again.
///
/// # Errors
///
/// When the database fails.
pub async fn wake_all_tenants(database: &Database, endpoint: Uuid) -> sqlx::Result<()> {
    sqlx::query(WAKE).bind(endpoint).execute(database.node()).await.map(|_| ())
}

pub(crate) const WAKE: &str = "UPDATE webhook_queues SET due_at = now() \
     WHERE endpoint_id = $1 AND lease IS NULL AND due_at > now()";

/// How many calls have something waiting for an active endpoint.
///
/// # Errors
///
/// When the database fails.
pub async fn backlog_all_tenants(database: &Database) -> sqlx::Result<i64> {
    sqlx::query_scalar(BACKLOG).fetch_one(database.node()).await
}

pub(crate) const BACKLOG: &str = "SELECT count(*) FROM webhook_queues";

/// Forgets deliveries that were settled longer ago than `keep`; some thousands at once. Answers how many.
///
/// # Errors
///
/// When the database fails.
pub async fn forget_all_tenants(database: &Database, keep: Duration) -> sqlx::Result<u64> {
    let done = sqlx::query(FORGET).bind(millis(keep)).execute(database.node()).await?;
    Ok(done.rows_affected())
}

pub(crate) const FORGET: &str = "DELETE FROM webhook_outbox WHERE (endpoint_id, event_id) IN ( \
         SELECT endpoint_id, event_id FROM webhook_outbox \
         WHERE settled_at < now() - $1 * interval '1 millisecond' LIMIT 5000)";

/// Gives an endpoint a new secret to sign with; the one before signs on beside it.
///
/// # Errors
///
/// When it is not there, the node has no key to seal with, or the database fails.
pub async fn rotate(
    (database, holder): (&Database, &KeyHolder),
    (tenant, endpoint): (TenantId, Uuid),
    expected: Option<&[String]>,
    (sealer, secret): (&Sealer, &Secret<String>),
) -> Result<(), Fault> {
    let mut transaction = resource::begin(database, holder, &WEBHOOKS).await?;
    let found: Option<(Value, String)> = sqlx::query_as(SEALED)
        .bind(endpoint)
        .bind(tenant.uuid())
        .fetch_optional(&mut *transaction)
        .await?;
    let (found, tag) = found.ok_or(Fault::Missing(WEBHOOKS.name))?;
    if expected.is_some_and(|expected| !expected.contains(&tag)) {
        return Err(Fault::Stale);
    }
    let old = sealer.open_all(endpoint, &found).remove(SIGNING);
    let mut sealed = Members::new();
    for (name, secret) in [(SIGNING, Some(secret)), (PREVIOUS, old.as_ref())] {
        let Some(secret) = secret else { continue };
        sealed.insert(name.to_owned(), Value::String(seal(sealer, endpoint, (name, secret))?));
    }
    let after: Vec<String> = sealed.keys().cloned().collect();
    sqlx::query(SEAL)
        .bind(endpoint)
        .bind(tenant.uuid())
        .bind(Value::Object(sealed))
        .execute(&mut *transaction)
        .await?;
    let entry = Entry {
        tenant: Some(tenant),
        key: Some(holder.id),
        action: "rotate-secret",
        subject: WEBHOOKS.name,
        subject_id: Some(endpoint),
        detail: json!({
            "before": { "secrets": found.as_object().map(|own| own.keys().collect::<Vec<_>>()) },
            "after": { "secrets": after },
        }),
    };
    audit_log::note(&mut transaction, &entry).await?;
    transaction.commit().await?;
    Ok(())
}

pub(crate) const SEALED: &str =
    "SELECT sealed, xmin::text FROM webhook_endpoints WHERE id = $1 AND tenant_id = $2 FOR UPDATE";
pub(crate) const SEAL: &str =
    "UPDATE webhook_endpoints SET sealed = $3, updated_at = now() WHERE id = $1 AND tenant_id = $2";

/// Seals a secret of an endpoint.
///
/// # Errors
///
/// When the node has no key to seal with.
pub fn seal(
    sealer: &Sealer,
    endpoint: Uuid,
    (name, secret): (&str, &Secret<String>),
) -> Result<String, Fault> {
    let sealed = sealer.seal(endpoint, name, secret);
    sealed.map_err(|why| Fault::Conflict { field: None, why: why.to_string() })
}

/// For intervals.
fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

/// A time as the database has it; for rows of this noun.
fn time(row: &PgRow, column: &str) -> sqlx::Result<Option<Timestamp>> {
    Ok(row.try_get::<Option<Time>, _>(column)?.map(|Time(at)| at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::live_events;

    #[test]
    fn a_type_is_words_joined_by_dots_or_a_star() {
        for good in ["*", "call.ended", "call.record_written"] {
            assert!(is_type(good), "{good}");
        }
        for bad in ["", "call", "call.", "Call.Ended", "call.*", "call ended", "call.\u{0}"] {
            assert!(!is_type(bad), "{bad}");
        }
    }

    /// Every word by which the source names something that happened to a call.
    fn names() -> Vec<&'static str> {
        let sources = [
            include_str!("../call/event.rs"),
            include_str!("../types/talk.rs"),
            include_str!("../types/answering_machine.rs"),
        ];
        let named = sources.iter().flat_map(|source| {
            let bodies = source.split("fn event_name(").chain(source.split("fn name("));
            let bodies = bodies.filter(|body| body.starts_with("&self)"));
            bodies.flat_map(|body| body.split("\n    }\n").next().unwrap_or_default().lines())
        });
        named.filter_map(|line| line.split("=> \"").nth(1)?.split('"').next()).collect()
    }

    #[test]
    fn whatever_is_told_live_can_be_told_by_webhooks() {
        let names = names();
        assert!(names.len() > 45 && names.contains(&"recording_ready"), "{names:?}");
        assert!(names.contains(&"greeting_over") && !names.contains(&"human"), "{names:?}");
        for name in &names {
            for (rings, answered) in [(true, true), (false, false)] {
                let kind = live_events::kind_of(name, rings, answered);
                assert!(is_type(&kind) && EVENT_TYPES.len() <= TYPES_MAX, "{kind}");
            }
        }
    }
}
