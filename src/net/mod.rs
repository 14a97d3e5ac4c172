//! Sockets: UDP, TCP and TLS for SIP, WebSocket, RTP ports.

pub mod bind;
pub mod connect;
pub mod dns;
pub mod end;
pub mod flow;
pub mod port_pool;
pub mod rtp_socket;
mod source;
mod stream;
pub mod tcp;
pub mod tls;
pub mod udp;
pub mod websocket;
