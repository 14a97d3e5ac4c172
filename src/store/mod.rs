//! PostgreSQL, the journal of call records, and the routing table's file.
//!
//! What a program does with it, in order: [`private_cluster`] or an address makes a
//! [`database::Database`]; [`migrate`] brings it to the schema; [`snapshot`] reads what routing needs
//! (or [`table_file`], while the database is away) and [`changes`] keeps it in step; [`journal`]
//! takes what happens to calls and [`upload`] carries it into the database, exactly once.

pub mod agent_form;
pub mod ai_profiles;
pub(crate) mod answer_hooks;
pub mod api_keys;
pub mod audit_log;
pub mod audit_queue;
pub mod call_commands;
pub mod call_notes;
pub mod calls;
pub mod campaigns;
pub mod changes;
pub mod database;
pub mod demo;
pub mod erasures;
pub mod field_path;
pub mod idempotency;
pub mod journal;
mod key_file;
pub mod key_ring;
pub mod leftovers;
pub mod live_events;
pub mod lost_calls;
pub mod migrate;
pub mod node_identity;
pub mod node_key;
pub mod numbers;
pub mod past_calls;
pub mod privacy;
pub mod private_cluster;
pub mod quality;
pub mod recordings;
pub mod refused_sources;
pub mod reseal;
pub mod resource;
pub mod routing_profiles;
pub mod running_call;
mod script_form;
pub mod seal;
pub mod snapshot;
pub mod statements;
pub mod table_file;
pub mod tenants;
mod time;
pub mod traces;
pub mod transcripts;
pub mod trunks;
pub mod upload;
pub mod webhooks;

mod inbox;
mod json_text;
mod segment;
mod silent_peer;
mod syncer;
mod wire;
