//! What an endpoint is told at construction, and what it tells about itself.

use super::policy::DialogPolicy;
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
    /// How dialogs behave that bring or get no policy of their own.
    pub policy: DialogPolicy,
    /// INVITEs with Replaces are carried out by whoever hears `Event::Invited` (RFC 3891). False: the
    /// header is read over, and one that requires it gets 420.
    pub takes_replaces: bool,
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

/// What an endpoint holds right now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Transactions, finished ones that still absorb repetitions included.
    pub transactions: usize,
    /// Dialogs, early ones included.
    pub dialogs: usize,
    /// Requests outside dialogs that wait for their answer.
    pub requests: usize,
    /// Armed timers.
    pub timers: usize,
    /// Entries of the indices by which messages find transactions and dialogs.
    pub entries: usize,
}
