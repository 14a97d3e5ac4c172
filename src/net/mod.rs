//! Sockets: UDP, TCP and TLS for SIP, WebSocket, HTTP of tenants, RTP ports.

pub mod bind;
pub mod connect;
mod crowd;
mod datagram;
mod departure;
pub mod dns;
pub mod end;
pub mod flow;
pub mod http_client;
mod mark;
pub mod metered;
pub mod port_pool;
pub mod rtp_socket;
pub mod signature;
mod source;
mod stream;
pub mod tcp;
pub mod tls;
pub mod udp;
pub mod way_back;
pub mod websocket;
