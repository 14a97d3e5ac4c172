//! What happens when a caller speaks over its agent: a part of the AI profile.

use std::time::Duration;

/// What happens when a caller speaks over its agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BargeIn {
    /// What the switch does.
    pub mode: BargeInMode,
    /// Sound shorter than this does not interrupt.
    pub least: Duration,
    /// In [`BargeInMode::Pause`]: speech shorter than this was a false alarm, and the agent goes on.
    pub confirm: Duration,
}

/// What the switch does when a caller speaks over its agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BargeInMode {
    /// Nothing: the agent listens for itself.
    Off,
    /// It tells the agent.
    Notify,
    /// It drops what the agent had queued, and then tells the agent.
    Flush,
    /// It lets the agent wait; what turns out to be speech is then as in [`Self::Flush`], after anything else
    /// the agent goes on where it was.
    Pause,
}

impl BargeIn {
    /// Nothing is done, and that is the default.
    pub const OFF: Self = Self {
        mode: BargeInMode::Off,
        least: Duration::from_millis(80),
        confirm: Duration::from_millis(400),
    };
}

impl BargeInMode {
    /// Every mode.
    pub const ALL: [Self; 4] = [Self::Off, Self::Notify, Self::Flush, Self::Pause];

    /// The spelling of profiles and records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Notify => "notify",
            Self::Flush => "flush",
            Self::Pause => "pause",
        }
    }
}
