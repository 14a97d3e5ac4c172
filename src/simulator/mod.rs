//! Carriers as executable models: what each wants of a customer's switch, and what it does to it.
//!
//! A [`Carrier`](carrier::Carrier) takes and gives whole SIP messages and the time; it opens no socket.
//! It reads and writes them by itself, without the endpoint it is there to judge.

pub mod carrier;
pub mod description;
pub mod fork;
pub mod judge;
pub mod model;
pub mod registrar;
pub mod speak;
pub mod transfer;
mod way;
