//! Sockets: UDP, TCP, WebSocket, RTP ports.

pub mod bind;
pub mod flow;
pub mod port_pool;
pub mod rtp_socket;
pub mod tcp;
pub mod udp;
pub mod websocket;
