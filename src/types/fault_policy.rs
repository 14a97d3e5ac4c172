//! What is done for a caller whose agent fails: a part of the AI profile.

use std::time::Duration;

/// What is done for a caller whose agent fails in the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultPolicy {
    /// How often an agent whose connection breaks in a call is dialled again each time, before the next takes
    /// over.
    pub reconnects: u32,
    /// Time between two of these dials; the first is made at once.
    pub pause: Duration,
    /// What the caller hears meanwhile.
    pub comfort: ComfortAudio,
    /// An agent that says nothing for so long from the answer on, or while its caller waits for it to speak, is taken for
    /// lost; `None`: it may.
    pub silence: Option<Duration>,
}

/// What a caller hears while nobody talks with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ComfortAudio {
    /// Noise.
    Noise,
    /// The tone of a telephone that rings, as in the country of the trunk.
    Ringback,
}

impl FaultPolicy {
    /// That of a profile that says nothing else.
    pub const USUAL: Self = Self {
        reconnects: 2,
        pause: Duration::from_millis(250),
        comfort: ComfortAudio::Ringback,
        silence: None,
    };

    /// Nothing: an agent whose connection breaks is lost.
    pub const NONE: Self = Self { reconnects: 0, ..Self::USUAL };
}

impl Default for FaultPolicy {
    fn default() -> Self {
        Self::USUAL
    }
}
