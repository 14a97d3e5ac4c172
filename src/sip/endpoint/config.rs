//! What an endpoint is told at construction, and what it tells about itself.

use std::time::Duration;

/// Settings of one endpoint, which is one shard.
#[derive(Clone, Debug)]
pub struct EndpointConfig {
    /// Seed of tags, branches and random waits; from the system's random source.
    pub seed: u64,
    /// Value of `Server` and `User-Agent`.
    pub product: String,
    /// What is advertised for each listener; indexed by `Flow::listener`.
    pub listeners: Vec<ListenerAddress>,
    /// Timer values of RFC 3261 §17.
    pub timers: Timers,
    /// How session timers (RFC 4028) are answered.
    pub session: SessionTimerPolicy,
}

/// The address written into Via and Contact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerAddress {
    /// Host name or address; an IPv6 address with its brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// The base values of all transaction timers (RFC 3261 §17.1.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timers {
    /// Estimate of the round trip.
    pub t1: Duration,
    /// Longest interval between retransmissions.
    pub t2: Duration,
    /// Longest time a message stays in the network.
    pub t4: Duration,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            t1: Duration::from_millis(500),
            t2: Duration::from_secs(4),
            t4: Duration::from_secs(5),
        }
    }
}

impl Timers {
    /// 64·T1: the longest wait for an answer or an ACK (timers B, F, H, J, L, M).
    #[must_use]
    pub fn give_up(self) -> Duration {
        self.t1 * 64
    }
}

/// How session timers (RFC 4028) are answered. None is ever asked for by this endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionTimerPolicy {
    /// Shortest session interval accepted, in seconds; a shorter one gets 422 with this as Min-SE,
    /// where the peer supports `timer`.
    pub min_se_s: u32,
}

impl Default for SessionTimerPolicy {
    fn default() -> Self {
        Self { min_se_s: 90 }
    }
}

/// What an endpoint holds right now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Transactions, finished ones that still absorb repetitions included.
    pub transactions: usize,
    /// Dialogs, early ones included.
    pub dialogs: usize,
    /// Armed timers.
    pub timers: usize,
    /// Entries of the indices by which messages find transactions and dialogs.
    pub entries: usize,
}
