//! Which leg of a call is meant.

/// The place of a leg within its call. A call has its near leg, and up to two others for a time: while
/// a transfer's target is dialled, the leg it shall replace is kept. A supervisor is beside these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LegSide {
    /// The leg the call was made for: the caller of an inbound call, the called party of an outbound one.
    Near,
    /// The leg it talks with instead of an agent: a transfer's target, a forwarded number, an agent that
    /// is reached by telephone.
    Far,
    /// The target of a transfer while [`LegSide::Far`] is taken; it stays here once it replaced that.
    Third,
    /// A supervisor, beside whoever talks.
    Supervisor,
}

impl LegSide {
    /// Every side.
    pub const ALL: [Self; 4] = [Self::Near, Self::Far, Self::Third, Self::Supervisor];

    /// Its place in [`Self::ALL`], for tables of legs.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Near => 0,
            Self::Far => 1,
            Self::Third => 2,
            Self::Supervisor => 3,
        }
    }

    /// The spelling of records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Near => "near",
            Self::Far => "far",
            Self::Third => "third",
            Self::Supervisor => "supervisor",
        }
    }
}
