//! `Random`: a small seeded generator for tags, branches, SSRCs and jitter of timers.

/// A deterministic generator (SplitMix64), seeded by a shell from the system's random source, so that
/// the cores stay pure and a run can be repeated. Not for keys.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator whose whole sequence follows from `seed`.
    #[must_use]
    pub const fn from_seed(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub const fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next 32 bits.
    pub const fn next_u32(&mut self) -> u32 {
        (self.next_u64() >> 32) as u32
    }

    /// A number in `0..bound`; 0 when `bound` is 0.
    pub const fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.next_u64() % bound }
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = self.next_u64().to_le_bytes();
            for (byte, random) in chunk.iter_mut().zip(word) {
                *byte = random;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_follows_from_the_seed() {
        let mut one = Random::from_seed(7);
        let mut two = Random::from_seed(7);
        let mut other = Random::from_seed(8);
        assert_eq!(one.next_u64(), two.next_u64());
        assert_ne!(one.next_u64(), other.next_u64());
        let mut bytes = [0; 11];
        one.fill(&mut bytes);
        assert_ne!(bytes, [0; 11]);
        assert!((0..1000).all(|_| one.below(3) < 3));
    }
}
