//! What the media end tells the agent's end beside audio, in few bytes: each call holds room for many of them.

/// A small event on its way to the agent's task. What was played of an utterance is in ms, 49 days at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Notice {
    Digit(char),
    Mark {
        id: u64,
        played_ms: u32,
    },
    Cleared {
        /// The low half of the epoch that was answered.
        epoch: u32,
        played_ms: u32,
        samples: Count,
    },
    Underrun {
        ms: u32,
    },
    BargeIn {
        heard_ms: u64,
    },
    Unheard {
        heard_ms: u64,
    },
    CallerWaits(bool),
    Drained,
}

/// The lowest byte of a notice's first word says what it is.
const DIGIT: u8 = 0;
const MARK: u8 = 1;
const CLEARED: u8 = 2;
const UNDERRUN: u8 = 3;
const BARGE_IN: u8 = 4;
const DRAINED: u8 = 5;
const CALLER_WAITS: u8 = 6;
const UNHEARD: u8 = 7;

impl Notice {
    /// It as two words, on its way.
    pub(super) fn words(self) -> [u64; 2] {
        let high = |half: u32| u64::from(half) << 32;
        match self {
            Self::Digit(digit) => [u64::from(DIGIT), u64::from(digit)],
            Self::Mark { id, played_ms } => [u64::from(MARK) | high(played_ms), id],
            Self::Cleared { epoch, played_ms, samples } => {
                [u64::from(CLEARED) | samples.get() << 8, high(epoch) | u64::from(played_ms)]
            }
            Self::Underrun { ms } => [u64::from(UNDERRUN), u64::from(ms)],
            Self::BargeIn { heard_ms } => [u64::from(BARGE_IN), heard_ms],
            Self::Unheard { heard_ms } => [u64::from(UNHEARD), heard_ms],
            Self::Drained => [u64::from(DRAINED), 0],
            Self::CallerWaits(waits) => [u64::from(CALLER_WAITS), u64::from(waits)],
        }
    }

    /// What these words are; `None`: those of no notice.
    pub(super) fn of_words([first, second]: [u64; 2]) -> Option<Self> {
        let high = |word: u64| (word >> 32) as u32;
        Some(match first as u8 {
            DIGIT => Self::Digit(char::from_u32(second as u32)?),
            MARK => Self::Mark { id: second, played_ms: high(first) },
            CLEARED => Self::Cleared {
                epoch: high(second),
                played_ms: second as u32,
                samples: Count::new(first >> 8),
            },
            UNDERRUN => Self::Underrun { ms: second as u32 },
            BARGE_IN => Self::BargeIn { heard_ms: second },
            UNHEARD => Self::Unheard { heard_ms: second },
            DRAINED => Self::Drained,
            CALLER_WAITS => Self::CallerWaits(second != 0),
            _ => return None,
        })
    }
}

/// The same in few bytes; more than fits is the most that does.
pub(super) fn ms(played_ms: u64) -> u32 {
    u32::try_from(played_ms).unwrap_or(u32::MAX)
}

/// A count of 48 bits: at 8,000 a second those of a thousand years.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Count([u16; 3]);

impl Count {
    /// More than fits is the most that does.
    pub(super) const fn new(count: u64) -> Self {
        let count = if count >> 48 == 0 { count } else { u64::MAX };
        Self([count as u16, (count >> 16) as u16, (count >> 32) as u16])
    }

    pub(super) const fn get(self) -> u64 {
        let Self([low, middle, high]) = self;
        low as u64 | (middle as u64) << 16 | (high as u64) << 32
    }
}

/// The epoch whose low half is `answered`, at `present` or less than 2^32 clears before it.
pub(super) const fn epoch(present: u64, answered: u32) -> u64 {
    let behind = (present as u32).wrapping_sub(answered);
    present.wrapping_sub(behind as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_stays_small() {
        assert_eq!(size_of::<Notice>(), 16);
    }

    #[test]
    fn a_notice_comes_back_from_its_words_as_it_was() {
        let most = Count::new(u64::MAX);
        let all = [
            Notice::Digit('#'),
            Notice::Digit(char::MAX),
            Notice::Mark { id: u64::MAX, played_ms: 1 },
            Notice::Mark { id: 1, played_ms: u32::MAX },
            Notice::Cleared { epoch: u32::MAX, played_ms: 1, samples: Count::new(2) },
            Notice::Cleared { epoch: 1, played_ms: u32::MAX, samples: most },
            Notice::Underrun { ms: u32::MAX },
            Notice::BargeIn { heard_ms: u64::MAX },
            Notice::Unheard { heard_ms: u64::MAX },
            Notice::CallerWaits(true),
            Notice::CallerWaits(false),
            Notice::Drained,
        ];
        assert_eq!(all.map(|notice| Notice::of_words(notice.words())), all.map(Some));
        assert_eq!(Notice::of_words([u64::MAX, 0]), None);
        assert_eq!(Notice::of_words([u64::from(DIGIT), u64::MAX]), None);
    }

    #[test]
    fn what_a_week_counts_comes_back_as_it_was() {
        const WEEK_MS: u64 = 7 * 24 * 3_600 * 1_000;
        assert_eq!(u64::from(ms(WEEK_MS)), WEEK_MS);
        assert_eq!(ms(u64::MAX), u32::MAX);
        for samples in [0, 1, 0xffff, 0x1_0000, 0xffff_ffff, 0x1_0000_0000, 8 * WEEK_MS] {
            assert_eq!(Count::new(samples).get(), samples);
        }
        assert_eq!(Count::new(u64::MAX).get(), (1 << 48) - 1);
    }

    #[test]
    fn an_epoch_is_known_by_its_low_half() {
        let long = 0x1_0000_0002;
        for (present, answered) in [(0, 0), (7, 7), (7, 5), (long, long), (long, 0xffff_fffe)] {
            assert_eq!(epoch(present, answered as u32), answered);
        }
    }
}
