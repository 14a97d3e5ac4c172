//! Who answered a call of ours: a person, or a machine that takes messages.

/// What is known of who answered. Times are ms since the answer, in ticks of 20 ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswererEvent {
    /// What it seems to be. A later event may say otherwise until one is final.
    Seems {
        /// When that was found.
        at_ms: u32,
        /// Who answered.
        answerer: Answerer,
        /// How sure that is, 50 to 99 in a hundred.
        percent: u8,
        /// No other verdict follows.
        is_final: bool,
    },
    /// A machine beeped: what is said from here on is recorded.
    Beep {
        /// When that was found.
        at_ms: u32,
        /// Its frequency, in Hz, to the next 25.
        hz: u16,
    },
    /// What a machine had to say is over, with a beep or without.
    GreetingOver {
        /// When that was found.
        at_ms: u32,
        /// It ended with a beep.
        beeped: bool,
    },
}

/// Who answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answerer {
    /// A person.
    Human,
    /// A machine that plays a greeting.
    Machine,
    /// A facsimile machine (ITU-T T.30).
    Fax,
    /// Nobody said a word.
    Silence,
}

impl Answerer {
    /// The spelling of records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Human => "human",
            Self::Machine => "machine",
            Self::Fax => "fax",
            Self::Silence => "silence",
        }
    }
}

impl AnswererEvent {
    /// The spelling of records.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Seems { .. } => "answerer",
            Self::Beep { .. } => "beep",
            Self::GreetingOver { .. } => "greeting_over",
        }
    }
}
