//! Scripts: calls that are led step by step, by a document of somebody's web server (TwiML), by the menu of
//! a profile or by an agent within the switch. All of them are made of the same steps.

#![warn(clippy::indexing_slicing)]

pub mod address;
pub mod answers;
mod desk;
mod dialling;
mod gathering;
pub mod interpreter;
mod listening;
pub mod local;
mod recording;
mod saying;
pub mod step;
pub mod vocabulary;
