//! Sockets: UDP, TCP, WebSocket, RTP ports.
