//! Which leg of a call is meant.

/// The place of a leg within its call. A call has its near leg, and up to two others for a time: while
/// a transfer's target is dialled, the leg it shall replace is kept. Supervisors are beside these.
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
    Supervisor(Seat),
}

/// The place of a supervisor among those of its call: free again once its leg is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Seat {
    /// That of one that is alone.
    First,
    /// That of one that comes while the first is taken.
    Second,
    /// The same of two.
    Third,
    /// The last one.
    Fourth,
}

impl Seat {
    /// Every seat, the first free one of which a supervisor gets.
    pub const ALL: [Self; 4] = [Self::First, Self::Second, Self::Third, Self::Fourth];

    /// Its place in [`Self::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::First => 0,
            Self::Second => 1,
            Self::Third => 2,
            Self::Fourth => 3,
        }
    }

    /// The leg of who has it, in records: by this applications name a supervisor.
    #[must_use]
    pub const fn leg_name(self) -> &'static str {
        match self {
            Self::First => "supervisor",
            Self::Second => "supervisor_2",
            Self::Third => "supervisor_3",
            Self::Fourth => "supervisor_4",
        }
    }

    /// The seat of this leg; `None`: it is none of a supervisor's.
    #[must_use]
    pub fn of_leg(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|seat| seat.leg_name() == name)
    }
}

impl LegSide {
    /// Every side.
    pub const ALL: [Self; 7] = [
        Self::Near,
        Self::Far,
        Self::Third,
        Self::Supervisor(Seat::First),
        Self::Supervisor(Seat::Second),
        Self::Supervisor(Seat::Third),
        Self::Supervisor(Seat::Fourth),
    ];

    /// Its place in [`Self::ALL`], for tables of legs.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Near => 0,
            Self::Far => 1,
            Self::Third => 2,
            Self::Supervisor(seat) => 3 + seat.index(),
        }
    }

    /// The spelling of records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Near => "near",
            Self::Far => "far",
            Self::Third => "third",
            Self::Supervisor(seat) => seat.leg_name(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_leg_has_a_place_and_a_name_of_its_own() {
        for (place, side) in LegSide::ALL.into_iter().enumerate() {
            assert_eq!(side.index(), place);
            let alike = LegSide::ALL.into_iter().filter(|other| other.as_str() == side.as_str());
            assert_eq!(alike.count(), 1, "{side:?}");
            let seat = Seat::of_leg(side.as_str());
            assert_eq!(seat.map(LegSide::Supervisor), Some(side).filter(|_| place > 2));
        }
    }
}
