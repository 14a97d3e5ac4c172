//! Starting the SIP shards, and letting them settle at the end.

use crate::clock;
use crate::config::node::NodeConfig;
use crate::engine::sip_shard;
use crate::engine::sip_shard::ShardHandle;
use crate::engine::switch::Switch;
use crate::engine::trace::TraceLimits;
use crate::server::listeners::Bound;
use crate::sip::endpoint::config::EndpointConfig;
use crate::sip::endpoint::config::Timers;
use crate::sip::endpoint::policy::DialogPolicy;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Value of `Server` and `User-Agent`: no version, so that scanners learn nothing.
const PRODUCT: &str = "Tandem";
/// Longest wait, at the end, for the peers to answer the last BYEs.
const SETTLE_MAX: Duration = Duration::from_millis(1_000);
const SETTLE_STEP: Duration = Duration::from_millis(20);

/// Starts the shards of the node.
pub(super) fn start_shards(
    switch: &Arc<Switch>,
    node: &NodeConfig,
    bound: &Bound,
    draining: &watch::Receiver<bool>,
) -> Vec<ShardHandle> {
    let listeners = bound.advertised(node);
    (0..shard_count(node))
        .map(|_| {
            let config = EndpointConfig {
                seed: clock::random_u64(),
                product: PRODUCT.to_owned(),
                listeners: listeners.clone(),
                timers: Timers::default(),
                policy: DialogPolicy::default(),
                takes_replaces: true,
            };
            sip_shard::start(Arc::clone(switch), config, draining.clone())
        })
        .collect()
}

fn shard_count(node: &NodeConfig) -> usize {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    node.sip_shards.unwrap_or(processors.div_ceil(2))
}

/// What each shard may keep of its signalling: its share of the node's.
pub(super) fn trace_limits(node: &NodeConfig) -> TraceLimits {
    let shard_bytes_max = node.trace_bytes_max / shard_count(node).max(1);
    TraceLimits { shard_bytes_max, life: node.trace_life }
}

/// Waits until every dialog is gone, so that the last BYE is repeated until it is answered, or until
/// peers have had long enough.
pub(super) async fn settle(shards: &[ShardHandle]) {
    let deadline = clock::now() + SETTLE_MAX;
    while clock::now() < deadline && shards.iter().any(|shard| shard.gauges().dialogs > 0) {
        tokio::time::sleep(SETTLE_STEP).await;
    }
}
