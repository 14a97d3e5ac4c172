//! Traces of calls: made of the reports of their records, and posted to a collector by a task of its own.
//!
//! Nothing here is waited for by a call. Spans that the collector does not take wait in a bounded queue, and
//! are dropped and counted when that is full.

mod fold;

use crate::cdr::CallReport;
use crate::clock;
use crate::config::otlp::OtlpSettings;
use crate::net::http_client::HttpClient;
use crate::net::http_client::HttpFault;
use crate::server::spans::fold::CallSpans;
use crate::telemetry::metric;
use crate::telemetry::metric::Counter;
use crate::telemetry::span;
use crate::telemetry::span::Attribute;
use crate::telemetry::span::Span;
use crate::types::id::CallId;
use crate::types::limit::SPAN_BATCH_MAX;
use crate::types::limit::SPAN_CALLS_OPEN_MAX;
use crate::types::limit::SPAN_CALLS_WAITING_MAX;
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long the first span of a batch waits for others.
const GATHER: Duration = Duration::from_secs(1);
/// How long the collector may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Pauses after the failures of one batch; then it is dropped.
const PAUSES: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
];
/// How long the last spans may take when the node stops.
const FLUSH_MAX: Duration = Duration::from_secs(2);

/// Where reports of calls become spans. Cheap to clone.
#[derive(Clone)]
pub(super) struct SpanFeed(Option<Arc<Feeding>>);

struct Feeding {
    settings: OtlpSettings,
    /// Calls that are not over.
    open: Mutex<HashMap<CallId, CallSpans>>,
    spans: mpsc::Sender<Vec<Span>>,
}

impl SpanFeed {
    /// Takes in a report of a call; the last one sends its spans on their way. Does not block.
    pub(super) fn note(&self, report: &CallReport) {
        let Some(feeding) = &self.0 else { return };
        let record = &report.record;
        // Strangers' attempts are counted and sampled elsewhere; whoever floods us fills no collector.
        if record.route.trunk.is_none() || !feeding.settings.sampling.takes(record.id) {
            return;
        }
        let mut open = feeding.open.lock().unwrap_or_else(PoisonError::into_inner);
        let mut spans = open.remove(&record.id).unwrap_or_default();
        spans.take_in(report);
        if !record.is_closed() {
            if open.len() < SPAN_CALLS_OPEN_MAX {
                open.insert(record.id, spans);
            }
            return;
        }
        drop(open);
        let spans = spans.finish(record, feeding.settings.sampling);
        let count = spans.len();
        if feeding.spans.try_send(spans).is_err() {
            lost("queue", count);
        }
    }
}

/// The feed of a node, and the task that exports: without a collector neither does anything.
pub(super) fn start(
    settings: Option<&OtlpSettings>,
    client: HttpClient,
    stop: watch::Receiver<bool>,
) -> (SpanFeed, JoinHandle<()>) {
    let Some(settings) = settings else {
        return (SpanFeed(None), tokio::spawn(async {}));
    };
    let (spans, waiting) = mpsc::channel(SPAN_CALLS_WAITING_MAX);
    let feeding = Feeding { settings: settings.clone(), open: Mutex::default(), spans };
    let exporter = Exporter {
        settings: settings.clone(),
        resource: vec![
            ("service.name", settings.service_name.clone()),
            ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
            ("service.instance.id", clock::new_uuid().to_string()),
        ],
        client,
        waiting,
        batch: Vec::new(),
        is_failing: false,
    };
    (SpanFeed(Some(Arc::new(feeding))), tokio::spawn(exporter.run(stop)))
}

struct Exporter {
    settings: OtlpSettings,
    resource: Vec<Attribute>,
    client: HttpClient,
    waiting: mpsc::Receiver<Vec<Span>>,
    /// What is posted next, or is being posted.
    batch: Vec<Span>,
    /// Said once, not for each batch.
    is_failing: bool,
}

/// What became of a batch.
enum Outcome {
    Taken {
        refused: u64,
    },
    /// It may be taken later.
    Later(String),
    /// The collector will never take it.
    Never(String),
}

impl Exporter {
    async fn run(mut self, mut stop: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                is_fed = self.gather() => {
                    if !is_fed {
                        return;
                    }
                }
                _ = stop.wait_for(|stop| *stop) => break,
            }
            tokio::select! {
                () = self.export() => {}
                _ = stop.wait_for(|stop| *stop) => break,
            }
        }
        self.flush().await;
    }

    /// Fills the batch with what waits, or comes within a moment of the first; false when nothing will come.
    async fn gather(&mut self) -> bool {
        let Some(first) = self.waiting.recv().await else { return false };
        self.batch.extend(first);
        let until = clock::instant(clock::now() + GATHER).into();
        while self.batch.len() < SPAN_BATCH_MAX {
            match tokio::time::timeout_at(until, self.waiting.recv()).await {
                Ok(Some(more)) => self.batch.extend(more),
                Ok(None) | Err(_) => break,
            }
        }
        true
    }

    /// Posts the batch until it is taken or given up.
    async fn export(&mut self) {
        let body = Bytes::from(span::encode(&self.resource, &self.batch));
        for pause in PAUSES.into_iter().map(Some).chain([None]) {
            match self.post(body.clone()).await {
                Outcome::Taken { refused } => return self.taken(refused),
                Outcome::Never(why) => {
                    self.failed(&why);
                    return self.give_up("refused");
                }
                Outcome::Later(why) => self.failed(&why),
            }
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
        }
        self.give_up("collector");
    }

    /// What waits when the node stops is tried once. A batch that was under way may come twice: a collector
    /// knows spans by their numbers.
    async fn flush(&mut self) {
        while let Ok(more) = self.waiting.try_recv() {
            self.batch.extend(more);
        }
        if self.batch.is_empty() {
            return;
        }
        let body = Bytes::from(span::encode(&self.resource, &self.batch));
        match tokio::time::timeout(FLUSH_MAX, self.post(body)).await {
            Ok(Outcome::Taken { refused }) => self.taken(refused),
            Ok(Outcome::Later(_) | Outcome::Never(_)) | Err(_) => self.give_up("stop"),
        }
    }

    async fn post(&self, body: Bytes) -> Outcome {
        let mut headers = Vec::new();
        if let Some(authorization) = &self.settings.authorization {
            headers.push(("authorization", authorization.expose().clone()));
        }
        let url = &self.settings.endpoint;
        let form = "application/x-protobuf";
        match self.client.post_as(url, (form, body), &headers, ANSWER_MAX).await {
            Ok(answer) if (200..300).contains(&answer.status) => {
                Outcome::Taken { refused: span::decode_answer(&answer.body).refused }
            }
            // What may be tried again is listed by OTLP/HTTP.
            Ok(answer) if [429, 502, 503, 504].contains(&answer.status) => {
                Outcome::Later(format!("it answered {}", answer.status))
            }
            Ok(answer) => Outcome::Never(format!("it answered {}", answer.status)),
            Err(HttpFault::Url(why)) => Outcome::Never(why.to_owned()),
            Err(error) => Outcome::Later(error.to_string()),
        }
    }

    fn taken(&mut self, refused: u64) {
        let spans = self.batch.len();
        self.batch.clear();
        let refused = usize::try_from(refused).unwrap_or(usize::MAX).min(spans);
        metric::counter(Counter::SpansExported).increment((spans - refused) as u64);
        lost("refused", refused);
        if std::mem::replace(&mut self.is_failing, false) {
            tracing::info!("the collector takes traces again");
        }
    }

    fn give_up(&mut self, why: &'static str) {
        lost(why, self.batch.len());
        self.batch.clear();
    }

    fn failed(&mut self, why: &str) {
        if !std::mem::replace(&mut self.is_failing, true) {
            tracing::warn!(%why, "the collector does not take traces; calls are not affected");
        }
    }
}

fn lost(why: &'static str, spans: usize) {
    if spans > 0 {
        metric::labelled(Counter::SpansLost, why).increment(spans as u64);
    }
}
