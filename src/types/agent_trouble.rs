//! What went wrong between a call and its agent, beside the cause: for records, and for whoever mends the agent.

use std::fmt;

/// Longest word an agent's fault is told by, in bytes.
const WORD_BYTES_MAX: usize = 64;

/// A word that says more of why an agent failed: an HTTP status, the code of an error. Letters, digits, `_`, `-` and
/// `.` alone, so that whatever an agent sends is safe in a log and a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultWord(Box<str>);

impl FaultWord {
    /// What is left of `text`, other characters as `_`; `None` where nothing is.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        let is_kept = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        let clean = |c: char| if is_kept(c) { c } else { '_' };
        let word: String = text.trim().chars().take(WORD_BYTES_MAX).map(clean).collect();
        (!word.is_empty()).then(|| Self(word.into()))
    }

    /// The word.
    #[must_use]
    pub const fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FaultWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Malformed messages of an agent, by what is wrong with them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Garbage {
    /// Not an object with an event.
    pub json: u32,
    /// Audio without a payload.
    pub payload: u32,
    /// A payload that is not base64.
    pub base64: u32,
    /// Binary messages, where the dialect has none.
    pub binary: u32,
}

impl Garbage {
    /// All of them.
    #[must_use]
    pub const fn total(&self) -> u32 {
        let text = self.json.saturating_add(self.payload).saturating_add(self.base64);
        text.saturating_add(self.binary)
    }

    /// Each with its word.
    #[must_use]
    pub const fn by_word(&self) -> [(&'static str, u32); 4] {
        [
            ("json", self.json),
            ("payload", self.payload),
            ("base64", self.base64),
            ("binary", self.binary),
        ]
    }
}

/// What was amiss on the link with an agent, counted over its life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkTroubles {
    /// Frames of caller audio, 20 ms each, that the agent never got because it did not read.
    pub frames_dropped: u64,
    /// Marks and keys it never got.
    pub events_dropped: u64,
    /// Malformed messages it sent.
    pub garbage: Garbage,
    /// Messages it sent that mean nothing in its dialect.
    pub unknown: u64,
    /// Errors it told of.
    pub errors: u64,
    /// The last of these.
    pub last_error: Option<FaultWord>,
}

impl LinkTroubles {
    /// Nothing was amiss.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.frames_dropped == 0
            && self.events_dropped == 0
            && self.garbage.total() == 0
            && self.unknown == 0
            && self.errors == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_short_and_safe_whatever_an_agent_sends() {
        let of = |text: &str| FaultWord::of(text).map(|word| word.as_str().to_owned());
        assert_eq!(of("insufficient_quota").as_deref(), Some("insufficient_quota"));
        assert_eq!(of(" a\r\nb: \u{1F600}\0 ").as_deref(), Some("a__b____"));
        assert_eq!(of(&"é".repeat(900)).map(|word| word.len()), Some(WORD_BYTES_MAX));
        assert_eq!((of(""), of("  ")), (None, None));
    }

    #[test]
    fn each_trouble_is_one() {
        let mut all = vec![
            LinkTroubles { frames_dropped: 1, ..LinkTroubles::default() },
            LinkTroubles { events_dropped: 1, ..LinkTroubles::default() },
            LinkTroubles { unknown: 1, ..LinkTroubles::default() },
            LinkTroubles { errors: 1, ..LinkTroubles::default() },
        ];
        for at in 0..4 {
            let mut garbage = Garbage::default();
            *[&mut garbage.json, &mut garbage.payload, &mut garbage.base64, &mut garbage.binary]
                [at] += 1;
            all.push(LinkTroubles { garbage, ..LinkTroubles::default() });
            assert_eq!(garbage.by_word().iter().map(|(_, count)| count).sum::<u32>(), 1);
        }
        assert!(all.iter().all(|troubles| !troubles.is_none()));
        assert!(LinkTroubles::default().is_none());
    }
}
