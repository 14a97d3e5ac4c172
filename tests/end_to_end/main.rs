//! The built program from end to end: a private PostgreSQL, the test caller, scripted agents, and
//! everything that may go wrong around them.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a failed check may panic"
)]

mod answer_webhooks;
mod answerers;
mod bad_agents;
mod barge_in;
mod between;
mod blamed_agents;
mod bot;
mod bot_calls;
mod bot_faults;
mod brought_back;
mod budgets;
mod bursty;
mod call_out;
mod called_within;
mod campaigns;
mod carrier;
mod client_certificates;
mod clock_steps;
mod commanded;
mod commands;
mod configured;
mod consulted;
mod control_plane;
mod cut_off;
mod declined;
mod dialects;
mod early_byes;
mod ending;
mod endurance;
mod explained;
mod failover;
mod far_holds;
mod far_legs;
mod followed;
#[path = "../support/follower.rs"]
mod follower;
mod gateway_keys;
mod gateways;
mod handovers;
#[path = "../support/http.rs"]
mod http;
mod identity;
mod independent;
mod ipv6;
mod judged;
mod kamailio;
mod kept_secrets;
mod limits;
mod line;
mod loops;
mod lost_streams;
mod measured;
mod media_keys;
mod media_places;
mod misbehaving;
mod name_server;
mod names;
mod network;
mod next_hops;
mod node;
mod paced;
mod passed_codec;
mod peer;
#[path = "../support/phone.rs"]
mod phone;
#[path = "../support/postgres.rs"]
mod postgres;
mod proxied;
#[path = "../support/python.rs"]
mod python;
mod reaching_back;
#[path = "../support/receiver.rs"]
mod receiver;
mod receptionist;
mod registration;
mod retention;
mod ringback;
mod rows;
#[path = "../support/rtp.rs"]
mod rtp;
mod rung_at_once;
#[path = "../support/schema.rs"]
mod schema;
mod schema_client;
mod secure_legs;
mod secure_registration;
mod simulated;
mod simulated_customers;
mod sip_agents;
#[path = "../support/sipp.rs"]
mod sipp;
mod sipp_carrier;
mod sipp_dialogs;
mod sipp_failover;
mod sipp_limits;
mod sipp_transfers;
mod spans;
mod spoken;
mod srtp;
mod steering;
mod story;
mod strangers;
mod supervised;
mod talk;
mod tls;
mod traced_addresses;
mod transfers;
mod trunk_changes;
mod twilio_client;
mod twiml;
mod unheard;
mod web;
mod wideband;
