//! Media sessions: RTP of one leg, the playout queue of its agent, the 20 ms tick.

pub mod answering_machine;
pub mod equipment;
pub mod event;
pub mod listener;
pub mod output;
pub mod pace;
pub mod passage;
pub mod playout;
pub mod session;
pub mod setup;
pub mod source;
pub mod speech;
pub mod statistics;
pub mod unpacking;
pub mod waits;
