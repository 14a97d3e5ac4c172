//! What one frame is made of.
#![warn(clippy::indexing_slicing)]

/// Parts of a frame that are told apart. Who sends packets of a few samples has the rest in the last of them.
const PARTS_MAX: usize = 8;

/// How samples of a frame came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// They were received.
    Audio,
    /// They were expected and are not here: conceal them.
    Missing,
    /// The peer pauses: comfort noise.
    Quiet,
}

/// Samples of a frame that came about in one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// How.
    pub origin: Origin,
    /// How many they are.
    pub samples: u16,
}

/// The parts of a frame, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    parts: [Part; PARTS_MAX],
    count: u8,
}

impl Parts {
    pub(super) const NONE: Self =
        Self { parts: [Part { origin: Origin::Quiet, samples: 0 }; PARTS_MAX], count: 0 };

    pub(super) fn add(&mut self, origin: Origin, samples: usize) {
        if samples == 0 {
            return;
        }
        let (count, samples) = (usize::from(self.count), samples as u16);
        let last = count.checked_sub(1).and_then(|last| self.parts.get_mut(last));
        if let Some(last) = last
            && (last.origin == origin || count == PARTS_MAX)
        {
            last.samples += samples;
        } else if let Some(place) = self.parts.get_mut(count) {
            *place = Part { origin, samples };
            self.count += 1;
        }
    }

    /// One after the other.
    #[must_use]
    pub fn all(&self) -> &[Part] {
        self.parts.get(..self.count.into()).unwrap_or_default()
    }

    /// Samples of this origin.
    pub(super) fn of(&self, origin: Origin) -> u64 {
        let such = self.all().iter().filter(|part| part.origin == origin);
        such.map(|part| u64::from(part.samples)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_one_origin_are_one_and_none_is_lost() {
        let mut parts = Parts::NONE;
        parts.add(Origin::Audio, 60);
        parts.add(Origin::Missing, 0);
        parts.add(Origin::Audio, 20);
        assert_eq!(parts.all(), [Part { origin: Origin::Audio, samples: 80 }]);
        for _ in 0..20 {
            parts.add(Origin::Missing, 2);
            parts.add(Origin::Audio, 2);
        }
        assert_eq!(parts.all().len(), PARTS_MAX);
        assert_eq!(parts.of(Origin::Audio) + parts.of(Origin::Missing), 160);
    }
}
