//! RTP as bytes: packets to send and what to look at in received ones (RFC 3550 section 5.1).

#![allow(dead_code, reason = "each test program uses a part")]
#![allow(unreachable_pub, reason = "shared by several test programs")]

use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::MissedTickBehavior;
use tokio::time::interval;

/// Bytes of 20 ms at 8 kHz, a byte a sample.
pub const FRAME: usize = 160;

/// A stream of mu-law packets, each `level` from end to end.
#[derive(Debug)]
pub struct Stream {
    pub ssrc: u32,
    pub sequence: u16,
    pub timestamp: u32,
    pub level: u8,
}

impl Stream {
    /// One that says `level`.
    #[must_use]
    pub const fn new(ssrc: u32, level: u8) -> Self {
        Self { ssrc, sequence: 1_000, timestamp: 0, level }
    }

    /// The next packet.
    pub fn next(&mut self) -> Vec<u8> {
        let mut packet = vec![0x80, 0];
        packet.extend(self.sequence.to_be_bytes());
        packet.extend(self.timestamp.to_be_bytes());
        packet.extend(self.ssrc.to_be_bytes());
        packet.extend([self.level; FRAME]);
        self.sequence = self.sequence.wrapping_add(1);
        self.timestamp = self.timestamp.wrapping_add(160);
        packet
    }

    /// Sends `count` packets at their pace, or faster by `speed`.
    pub async fn send(&mut self, socket: &UdpSocket, to: SocketAddr, (count, speed): (u32, u32)) {
        let mut beat = interval(Duration::from_millis(20) / speed);
        beat.set_missed_tick_behavior(MissedTickBehavior::Burst);
        for _ in 0..count {
            beat.tick().await;
            // A port that nobody has makes the next send fail; that is not what is tested.
            drop(socket.send_to(&self.next(), to).await);
        }
    }
}

/// The audio of a packet; empty where it is none.
#[must_use]
pub fn audio(packet: &[u8]) -> &[u8] {
    packet.get(12..).unwrap_or_default()
}
