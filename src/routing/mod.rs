//! Routing: who calls, what was dialled, whose number it is, and whether the call may come in or go out.

pub mod admission;
pub mod caller_id;
pub mod contents;
pub mod decision;
pub mod destination;
pub mod explain;
pub mod gateway;
pub mod gateway_board;
pub mod header_map;
pub mod health;
pub mod identify;
pub mod inbound;
pub mod invite_form;
pub mod numbers;
pub mod outbound;
pub mod outbound_attempt;
pub mod outbound_trunk;
mod pace;
pub mod registration;
mod shards;
pub mod signalling;
pub mod source_rate;
mod sources;
pub mod table;
pub mod template;
pub mod trunk;
pub mod usage;
