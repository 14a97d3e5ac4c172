//! Tandem: a native SIP/RTP softswitch for AI voice agents.
//!
//! Layers, in reading order. Arrows point from shells to cores to vocabulary and never back;
//! `tests/tidy.rs` holds the table and fails on a stray `use`.

// Vocabulary: knows nothing else.
pub mod types;

// Protocol cores: the standards, and nothing of ours.
pub mod audio;
pub mod rtp;
pub mod sdp;
pub mod sip;

// Switch cores: calls, tenants, agents.
pub mod agent;
pub mod call;
pub mod cdr;
pub mod media;
pub mod routing;

// Shells: sockets, clock, database, threads.
pub mod api;
pub mod clock;
pub mod config;
pub mod engine;
pub mod net;
pub mod recording;
pub mod store;
pub mod telemetry;
pub mod webhook;

// Programs: what wires the shells together, and what drives them.
pub mod caller;
pub mod certify;
pub mod cli;
pub mod server;
pub mod simulator;
