//! Sockets: UDP, TCP, WebSocket, RTP ports.

pub mod bind;
pub mod flow;
pub mod tcp;
pub mod udp;
pub mod websocket;
