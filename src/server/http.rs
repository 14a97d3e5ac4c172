//! The HTTP interface of a running node, and the figures it shows.

use crate::api;
use crate::api::Context;
use crate::api::EventHub;
use crate::api::KeyRate;
use crate::api::Placing;
use crate::api::Readiness;
use crate::api::TokenKeys;
use crate::config::node::NodeConfig;
use crate::engine::gateways;
use crate::engine::originate::CallControl;
use crate::engine::sip_shard::ShardHandle;
use crate::engine::switch::Switch;
use crate::engine::trace::Traces;
use crate::engine::trunk_states::TrunkStates;
use crate::server::database::Persistence;
use crate::server::listeners::HttpSocket;
use crate::store::changes::FollowStatus;
use crate::store::database::Database;
use crate::store::journal::Journal;
use crate::store::journal::JournalHealth;
use crate::telemetry::metric;
use crate::telemetry::metric::Counter;
use crate::telemetry::metric::Gauge;
use crate::telemetry::metric::Metrics;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How often the gauges are read.
const GAUGE_PERIOD: Duration = Duration::from_secs(1);

/// What the figures of a node are read from.
#[derive(Clone)]
struct Gauged {
    switch: Arc<Switch>,
    shards: Vec<ShardHandle>,
    follow: Arc<FollowStatus>,
    journal: Arc<Journal>,
    health: Arc<JournalHealth>,
    database: Database,
}

/// Records metrics from now on; `None` where somebody else does. A counter that was taken before counts
/// nothing for ever, so this comes before any listener.
pub(super) fn record_metrics() -> Option<Metrics> {
    Metrics::install()
        .inspect_err(|error| tracing::debug!(%error, "metrics are recorded by somebody else"))
        .ok()
}

/// Serves HTTP until `stop` turns true.
pub(super) fn serve(
    ((listener, tls), metrics): (HttpSocket, Option<Metrics>),
    (switch, node, events): (&Arc<Switch>, &NodeConfig, EventHub),
    persistence: &mut Persistence,
    shards: &[ShardHandle],
    stop: watch::Receiver<bool>,
) -> JoinHandle<()> {
    let gauged = Gauged {
        switch: Arc::clone(switch),
        shards: shards.to_vec(),
        follow: persistence.follow_status(),
        journal: persistence.journal(),
        health: persistence.journal().health(),
        database: persistence.database().clone(),
    };
    let asked = gauged.clone();
    let context = Context {
        database: persistence.database().clone(),
        keys: persistence.keys(),
        metrics: metrics.clone(),
        readiness: Arc::new(move || asked.readiness()),
        traces: Traces::new(shards, Arc::clone(&switch.table)),
        calls: Some(CallControl::new(Arc::clone(switch))),
        composer: persistence.composer(),
        rate: Arc::new(KeyRate::new(node.http.requests_per_s)),
        origins: node.http.cors_origins.clone().into(),
        events,
        tokens: TokenKeys::default(),
        reach: Arc::new(node.webhooks.reach.clone()),
        agents: Arc::new(node.agents.clone()),
        audit: persistence.audit(),
        placing: Arc::new(Placing::new(persistence.node(), persistence.caught_up())),
        turns: Arc::default(),
        trunks: TrunkStates::new(Arc::clone(&switch.table), Arc::clone(&switch.registry)),
    };
    if let Some(commanded) = persistence.commanded() {
        tokio::spawn(api::carry_out(context.clone(), commanded));
    }
    let mut ticking = stop.clone();
    tokio::spawn(async move {
        let mut period = tokio::time::interval(GAUGE_PERIOD);
        loop {
            tokio::select! {
                _ = period.tick() => gauged.publish(metrics.as_ref()),
                _ = ticking.wait_for(|stop| *stop) => return,
            }
        }
    });
    tokio::spawn(api::serve(listener, tls, context, stop))
}

impl Gauged {
    fn readiness(&self) -> Readiness {
        Readiness {
            draining: self.switch.registry.is_draining(),
            routing: self.follow.is_in_step() || !self.switch.table.load().is_empty(),
            database: self.follow.is_in_step(),
            journal: !self.health.disk_refuses(),
            signalling: self.shards.iter().all(ShardHandle::serves),
            media: self.switch.media.runs(),
            calls: self.switch.registry.live(),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "figures for display")]
    fn publish(&self, metrics: Option<&Metrics>) {
        let sip = self.shards.iter().map(ShardHandle::gauges);
        let (transactions, dialogs) = sip.fold((0, 0), |(transactions, dialogs), gauges| {
            (transactions + gauges.transactions, dialogs + gauges.dialogs)
        });
        let queued = self.shards.iter().map(ShardHandle::queued).max().unwrap_or_default();
        let down = self.shards.iter().filter(|shard| !shard.is_running()).count();
        let media = self.switch.media.load();
        let readiness = self.readiness();
        for (gauge, value) in [
            (Gauge::CallsOpen, readiness.calls as f64),
            (Gauge::SipFlowsOpen, self.switch.flows.streams_open() as f64),
            (Gauge::SipTransactions, transactions as f64),
            (Gauge::SipDialogs, dialogs as f64),
            (Gauge::SipShardQueue, queued as f64),
            (Gauge::SipShardsDown, down as f64),
            (Gauge::MediaSessions, media.sessions as f64),
            (Gauge::RoutingNumbers, self.switch.table.load().len() as f64),
            (Gauge::JournalWaiting, self.health.waiting_bytes() as f64),
            (Gauge::JournalQueue, self.journal.queued() as f64),
            (Gauge::DatabaseUp, f64::from(u8::from(readiness.database))),
            (Gauge::Draining, f64::from(u8::from(readiness.draining))),
        ] {
            metric::set(gauge, value);
        }
        let (busy, idle) = self.database.connections();
        metric::set_labelled(Gauge::DatabaseConnections, "busy", busy as f64);
        metric::set_labelled(Gauge::DatabaseConnections, "idle", idle as f64);
        self.switch.registry.declines().show(&self.switch.table.load());
        for (state, gateways) in gateways::count(&self.switch.registry) {
            metric::set_labelled(Gauge::Gateways, state, gateways as f64);
        }
        let (open, half_open) = self.switch.registry.agent_health().broken();
        metric::set_labelled(Gauge::AgentCircuits, "open", open as f64);
        metric::set_labelled(Gauge::AgentCircuits, "half_open", half_open as f64);
        for (state, trunks) in self.switch.registry.count_registrations() {
            metric::set_labelled(Gauge::TrunksRegistering, state, trunks as f64);
        }
        for (counter, value) in [
            (Counter::RecordsStored, self.health.uploaded()),
            (Counter::RecordsRejected, self.health.rejected()),
            (Counter::RecordsLost, self.health.lost()),
        ] {
            metric::counter(counter).absolute(value);
        }
        media.count();
        if let Some(metrics) = metrics {
            metrics.upkeep();
        }
    }
}
