//! The shells that turn the cores: SIP shard, call task, media thread, agent task.

pub mod agent_task;
mod call_metrics;
pub mod call_task;
mod challenges;
pub(crate) mod dial;
pub mod dialog_policy;
pub mod gateways;
pub mod ingress;
mod invitation;
pub(crate) mod leg_terms;
pub mod media_events;
mod media_figures;
pub mod media_thread;
mod media_worker;
pub mod originate;
pub mod os;
mod partner;
pub mod registrar;
pub mod registry;
pub mod shards;
pub mod sip_shard;
mod srtp_terms;
pub mod switch;
pub mod trace;
pub mod trunk_states;
mod turned_away;
pub mod way;
