//! The shells that turn the cores: SIP shard, call task, media thread, agent task.

pub mod agent_task;
