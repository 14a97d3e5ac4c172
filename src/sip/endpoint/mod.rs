//! The endpoint: owns the transactions and dialogs of one shard.

pub mod config;
pub mod event;
pub mod flow;
mod slab;
mod timers;
