//! Sockets: UDP, TCP, WebSocket, RTP ports.

pub mod websocket;
