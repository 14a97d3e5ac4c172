//! Routing: who calls, what was dialled, whose number it is, and whether the call may come in.

pub mod admission;
pub mod contents;
pub mod decision;
pub mod explain;
pub mod identify;
pub mod inbound;
pub mod numbers;
mod shards;
pub mod source_rate;
mod sources;
pub mod table;
pub mod trunk;
