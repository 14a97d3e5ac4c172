//! What agents of Asterisk speak: its chan_websocket and AudioSocket.

#![warn(clippy::indexing_slicing)]

pub mod audio_socket;
pub mod chan_websocket;
mod control;

/// The subprotocol of chan_websocket's connections (RFC 6455 §1.9), whichever side opens one.
pub const SUBPROTOCOL: &str = "media";
