//! `Deliverer`: takes calls that have something to tell from the outbox, and tells it.

use crate::clock;
use crate::config::webhooks::WebhookSettings;
use crate::net::http_client::HttpClient;
use crate::net::signature;
use crate::net::websocket::TrustRoots;
use crate::store::database::Database;
use crate::store::snapshot::Composer;
use crate::store::webhooks;
use crate::store::webhooks::Claim;
use crate::store::webhooks::Failure;
use crate::store::webhooks::Waiting;
use crate::telemetry::metric;
use crate::telemetry::metric::Counter;
use crate::telemetry::metric::Gauge;
use crate::telemetry::metric::Histogram;
use crate::types::limit::WEBHOOK_BATCH_MAX;
use crate::types::limit::WEBHOOK_DELIVERIES_MAX;
use crate::types::moment::Moment;
use crate::types::secret::Secret;
use crate::types::trace_context::Sampling;
use crate::types::trace_context::SpanPart;
use crate::types::trace_context::TraceContext;
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use uuid::Uuid;

/// How often the outbox is looked at while nothing ends that was under way.
const POLL: Duration = Duration::from_millis(250);
/// The same while the database is away.
const AWAY_POLL: Duration = Duration::from_secs(2);
/// What a turn lasts beyond the time an answer may take.
const LEASE_MORE: Duration = Duration::from_secs(5);
/// How often the gauge is read.
const GAUGE_PERIOD: Duration = Duration::from_secs(10);
/// How often what was settled long ago is forgotten.
const FORGET_PERIOD: Duration = Duration::from_secs(600);
/// How long what is under way may take at the end.
const END_MAX: Duration = Duration::from_secs(2);

/// Tells events to webhook endpoints. Several nodes share the work.
pub struct Deliverer {
    shared: Arc<Shared>,
    endpoints: HashMap<Uuid, Endpoint>,
}

struct Shared {
    database: Database,
    client: HttpClient,
    composer: watch::Receiver<Composer>,
    settings: WebhookSettings,
    /// Which calls are traced.
    sampling: Option<Sampling>,
    stop: watch::Receiver<bool>,
}

/// What is known of an endpoint while something is told to it, or it fails.
#[derive(Clone, Copy, Debug)]
struct Endpoint {
    running: usize,
    /// It did not take what it was told last: one call at a time finds out when that is over.
    is_failing: bool,
    used: Moment,
}

/// What came of the turn of a call.
#[derive(Clone, Copy, Debug)]
struct Turn {
    endpoint: Uuid,
    /// Whether the endpoint took what it was told; `None`: it was told nothing.
    was_taken: Option<bool>,
}

impl Deliverer {
    /// Will tell what is in the outbox of `database`, until `stop` turns true.
    #[must_use]
    pub fn new(
        database: Database,
        roots: TrustRoots,
        composer: watch::Receiver<Composer>,
        (settings, sampling): (WebhookSettings, Option<Sampling>),
        stop: watch::Receiver<bool>,
    ) -> Self {
        let client = HttpClient::new(settings.reach.clone(), roots);
        let shared = Shared { database, client, composer, settings, sampling, stop };
        Self { shared: Arc::new(shared), endpoints: HashMap::new() }
    }

    /// Tells until it is stopped.
    pub async fn run(mut self) {
        let mut turns = JoinSet::new();
        let mut stop = self.shared.stop.clone();
        let (mut gauge, mut forget) = (Moment::START, clock::now() + FORGET_PERIOD);
        loop {
            let pause = match self.take(&mut turns).await {
                Ok(()) => POLL,
                Err(error) => {
                    tracing::debug!(%error, "the outbox of webhooks cannot be read");
                    AWAY_POLL
                }
            };
            let now = clock::now();
            if now >= gauge {
                gauge = now + GAUGE_PERIOD;
                self.read_gauge().await;
            }
            if now >= forget {
                forget = now + FORGET_PERIOD;
                self.forget().await;
            }
            tokio::select! {
                biased;
                () = stopped(&mut stop) => break,
                Some(turn) = turns.join_next() => self.note(turn.ok()).await,
                () = tokio::time::sleep(pause) => {}
            }
            while let Some(turn) = turns.try_join_next() {
                self.note(turn.ok()).await;
            }
        }
        let ended = async { while turns.join_next().await.is_some() {} };
        if tokio::time::timeout(END_MAX, ended).await.is_err() {
            tracing::debug!("webhooks under way are cut; they are told again later");
        }
    }

    /// Takes turns and begins them.
    async fn take(&mut self, turns: &mut JoinSet<Turn>) -> sqlx::Result<()> {
        let room = WEBHOOK_DELIVERIES_MAX.saturating_sub(turns.len());
        if room == 0 {
            return Ok(());
        }
        let settings = &self.shared.settings;
        let now = clock::now();
        // Of one that failed and is gone nothing is kept for ever.
        let memory = settings.retry_max * 2;
        self.endpoints
            .retain(|_, own| own.running > 0 || (own.is_failing && own.used + memory > now));
        let free = self.endpoints.iter().map(|(id, own)| {
            let most = if own.is_failing { 1 } else { settings.concurrency };
            (*id, most.saturating_sub(i32::try_from(own.running).unwrap_or(i32::MAX)))
        });
        let free: Vec<_> = free.collect();
        let most = (settings.concurrency, i64::try_from(room).unwrap_or(i64::MAX));
        let lease = (clock::new_uuid(), self.shared.lease());
        let claims = webhooks::claim_all_tenants(&self.shared.database, &free, most, lease).await?;
        for claim in claims {
            let fresh = Endpoint { running: 0, is_failing: false, used: now };
            let endpoint = self.endpoints.entry(claim.endpoint).or_insert(fresh);
            endpoint.running += 1;
            endpoint.used = now;
            turns.spawn(Arc::clone(&self.shared).carry(claim));
        }
        Ok(())
    }

    /// Learns from a turn that is over; `None`: it panicked, and its endpoint is learnt of anew.
    async fn note(&mut self, turn: Option<Turn>) {
        let Some(turn) = turn else {
            tracing::error!("telling a webhook panicked");
            self.endpoints.clear();
            return;
        };
        let Some(endpoint) = self.endpoints.get_mut(&turn.endpoint) else { return };
        endpoint.running = endpoint.running.saturating_sub(1);
        let id = turn.endpoint;
        match turn.was_taken {
            Some(true) if endpoint.is_failing => {
                endpoint.is_failing = false;
                tracing::info!(endpoint = %id, "a webhook endpoint takes events again");
                // What pauses for up to `retry_max` need not.
                if let Err(error) = webhooks::wake_all_tenants(&self.shared.database, id).await {
                    tracing::debug!(%error, "what pauses for the endpoint pauses on");
                }
            }
            Some(false) if !endpoint.is_failing => {
                endpoint.is_failing = true;
                tracing::warn!(endpoint = %id, "a webhook endpoint does not take events; they wait");
            }
            Some(_) | None => {}
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "figures for display")]
    async fn read_gauge(&self) {
        if let Ok(count) = webhooks::backlog_all_tenants(&self.shared.database).await {
            metric::set(Gauge::WebhookBacklog, count as f64);
        }
    }

    async fn forget(&self) {
        let keep = self.shared.settings.keep;
        while let Ok(1..) = webhooks::forget_all_tenants(&self.shared.database, keep).await {}
    }
}

impl Shared {
    /// How long a turn is ours between two events.
    fn lease(&self) -> Duration {
        self.settings.timeout + LEASE_MORE
    }

    /// Tells what waits of a call, one event after the other, until one is not taken.
    async fn carry(self: Arc<Self>, claim: Claim) -> Turn {
        let mut turn = Turn { endpoint: claim.endpoint, was_taken: None };
        if let Err(error) = self.tell_all(&claim, &mut turn).await {
            // The turn is over when its lease is; what was told and could not be noted is told again.
            tracing::debug!(%error, "the outbox of webhooks cannot be written");
        }
        turn
    }

    async fn tell_all(&self, claim: &Claim, turn: &mut Turn) -> sqlx::Result<()> {
        let secrets = claim.secrets(&self.composer.borrow().sealer);
        loop {
            let batch =
                webhooks::waiting_all_tenants(&self.database, claim, WEBHOOK_BATCH_MAX).await?;
            if batch.is_empty() {
                return webhooks::finish_all_tenants(&self.database, claim).await;
            }
            for event in batch {
                match self.tell(claim, &secrets, &event).await {
                    Ok(status) => {
                        metric::count(Counter::WebhookDeliveries, "delivered");
                        turn.was_taken = Some(true);
                        let of = (claim, event.id);
                        let lease = self.lease();
                        if !webhooks::delivered_all_tenants(&self.database, of, status, lease)
                            .await?
                        {
                            return Ok(());
                        }
                    }
                    Err(failure) => {
                        let outcome = if failure.again.is_some() { "failed" } else { "dead" };
                        metric::count(Counter::WebhookDeliveries, outcome);
                        turn.was_taken = Some(false);
                        let of = (claim, event.id);
                        return webhooks::failed_all_tenants(&self.database, of, &failure).await;
                    }
                }
                if *self.stop.borrow() {
                    return webhooks::finish_all_tenants(&self.database, claim).await;
                }
            }
        }
    }

    /// Tells one event; answers the status with which it was taken.
    async fn tell(
        &self,
        claim: &Claim,
        secrets: &[Secret<String>],
        event: &Waiting,
    ) -> Result<u16, Failure> {
        let failure =
            |status, why: String| Failure { status, why, again: self.pause(event.attempts) };
        if secrets.is_empty() {
            let why = "the node cannot open the secret of the endpoint (secrets.key_ref)";
            return Err(failure(None, why.to_owned()));
        }
        let body = Bytes::from(event.body.to_string());
        let mut headers = vec![
            (signature::HEADER, signature::sign(clock::wall_now(), &body, secrets)),
            ("tandem-event-id", event.id.to_string()),
            ("tandem-event-type", event.kind.clone()),
            ("tandem-attempt", event.attempts.saturating_add(1).to_string()),
        ];
        if let Some(sampling) = self.sampling {
            let trace = TraceContext::of(claim.call, SpanPart::Call, sampling);
            headers.push(("traceparent", trace.to_string()));
        }
        let begun = clock::now();
        let answer = self.client.post(&claim.url, &headers, body, self.settings.timeout).await;
        metric::observe(Histogram::WebhookAnswer, clock::now().since(begun));
        match answer {
            Ok(answer) if (200..300).contains(&answer.status) => Ok(answer.status),
            Ok(answer) => {
                let why = format!("it answered {}", answer.status);
                Err(failure(Some(answer.status), why))
            }
            Err(error) => Err(failure(None, error.to_string())),
        }
    }

    /// How long to wait after a failure that `attempts` others came before; `None`: it was the last.
    fn pause(&self, attempts: u32) -> Option<Duration> {
        let WebhookSettings { retry_first, retry_max, attempts_max, .. } = self.settings;
        pause_after(attempts, attempts_max, (retry_first, retry_max), clock::random_u64())
    }
}

/// The pause after one more failure than `attempts`: doubled with each, up to the longest, and shortened by chance;
/// `None`: it was the last of so many.
fn pause_after(
    attempts: u32,
    attempts_max: u32,
    (first, longest): (Duration, Duration),
    random: u64,
) -> Option<Duration> {
    if attempts.saturating_add(1) >= attempts_max {
        return None;
    }
    let doubled = first.saturating_mul(1 << attempts.min(24));
    Some(jittered(doubled.min(longest), random))
}

/// Resolves once `stop` is true; a sender that is gone cannot tell any more, and means the same.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

/// Between half of `pause` and all of it, so that what failed together is not tried together.
fn jittered(pause: Duration, random: u64) -> Duration {
    let half = pause / 2;
    let part = u32::try_from(random & 0xffff).unwrap_or_default();
    half + half * part / 0x1_0000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_the_last_failure_has_none() {
        let bounds = (Duration::from_secs(1), Duration::from_secs(600));
        let mut spread = std::collections::BTreeSet::new();
        let (mut least, mut most) = (Duration::ZERO, Duration::ZERO);
        for attempts in 0..149 {
            let whole = Duration::from_secs(1 << attempts.min(20)).min(bounds.1);
            for random in [0, 1, 0x7fff, 0xffff, 0x1234_5678, u64::MAX] {
                let pause = pause_after(attempts, 150, bounds, random).unwrap();
                assert!(pause >= whole / 2 && pause < whole, "{attempts}: {pause:?} of {whole:?}");
                spread.insert(pause);
            }
            least += pause_after(attempts, 150, bounds, 0).unwrap();
            most += pause_after(attempts, 150, bounds, u64::MAX).unwrap();
        }
        assert!(spread.len() > 5, "what failed together is not tried together: {spread:?}");
        // An endpoint may be dead for half a day at least, whatever chance says, and a day at most.
        let hour = Duration::from_secs(3_600);
        assert!(least > 11 * hour && most < 25 * hour, "{least:?} to {most:?}");
        assert_eq!(pause_after(149, 150, bounds, 7), None);
        assert_eq!(pause_after(u32::MAX, 150, bounds, 7), None);
        let endless = pause_after(u32::MAX - 2, u32::MAX, bounds, 0);
        assert_eq!(endless, Some(bounds.1 / 2));
    }

    #[test]
    fn a_pause_lies_between_its_half_and_the_whole() {
        let pause = Duration::from_secs(600);
        assert_eq!(jittered(pause, 0), pause / 2);
        let most = jittered(pause, u64::MAX);
        assert!(most < pause && most > pause - Duration::from_millis(100), "{most:?}");
    }
}
