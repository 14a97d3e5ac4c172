//! The client's side of OpenAI's Realtime protocol, of its servers and of those that are compatible: in its
//! present names and those of its beta.

#![warn(clippy::indexing_slicing)]

pub mod decode;
pub mod dialect;
pub mod encode;
mod items;
