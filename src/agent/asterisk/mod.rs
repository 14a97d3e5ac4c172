//! What agents of Asterisk speak: its chan_websocket and AudioSocket.

#![warn(clippy::indexing_slicing)]

pub mod audio_socket;
pub mod chan_websocket;
mod control;
