//! `IdMap`: a map by names that this process or an administrator gave. A keyed hash guards maps by what peers write;
//! here it would only cost. And what a rush leaves of the room of any map.

use std::collections::HashMap;
use std::collections::HashSet;
use std::hash::BuildHasher;
use std::hash::BuildHasherDefault;
use std::hash::Hash;
use std::hash::Hasher;

/// A map by names of our own. Not for what a peer can choose.
pub(crate) type IdMap<K, V> = HashMap<K, V, BuildHasherDefault<MixHasher>>;

/// A set of names of our own. Not for what a peer can choose.
pub(crate) type IdSet<K> = HashSet<K, BuildHasherDefault<MixHasher>>;

/// Room for so many entries is not given back.
const KEPT: usize = 112;

/// Gives the room of a map back after a rush, once most of it is free. To be called where entries are removed.
pub(crate) fn give_back<K: Eq + Hash, V, S: BuildHasher>(map: &mut HashMap<K, V, S>) {
    if map.capacity() > KEPT && map.len() < map.capacity() / 4 {
        map.shrink_to(KEPT.max(2 * map.len()));
    }
}

/// The finaliser of SplitMix64: each input bit reaches each output bit.
pub(crate) const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Mixes what a key writes; deterministic, unlike the standard hasher.
#[derive(Default)]
pub(crate) struct MixHasher(u64);

impl Hasher for MixHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.write_u64(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let mut word = [0; 8];
            for (slot, byte) in word.iter_mut().zip(rest) {
                *slot = *byte;
            }
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = mix(self.0.rotate_left(5) ^ word);
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    /// How many of `hashes` the fullest of 128 places gets, by their lowest bits and by their highest: a map goes by both.
    fn fullest(hashes: &[u64]) -> [usize; 2] {
        [0, 57].map(|shift| {
            let mut places = [0_usize; 128];
            for hash in hashes {
                places[(hash >> shift) as usize % 128] += 1;
            }
            places.into_iter().max().unwrap_or(0)
        })
    }

    #[test]
    fn the_room_of_a_rush_goes_with_it_and_what_stayed_is_found() {
        let mut map = IdMap::default();
        map.extend((0..5_000_u64).map(|id| (id, id)));
        let most = map.capacity();
        for id in 20..5_000 {
            map.remove(&id);
            give_back(&mut map);
            let bound = (8 * map.len()).max(2 * KEPT);
            assert!(map.capacity() <= bound.min(most), "{} of {}", map.len(), map.capacity());
        }
        assert!((0..20).all(|id| map[&id] == id));
        let kept = map.capacity();
        map.retain(|id, _| *id < 2);
        give_back(&mut map);
        assert_eq!(map.capacity(), kept);
    }

    #[test]
    fn names_one_after_the_other_are_spread() {
        let hasher = BuildHasherDefault::<MixHasher>::default();
        let counted: Vec<_> = (0..12_800_u64).map(|id| hasher.hash_one(id)).collect();
        let minted: Vec<_> = (0..12_800)
            .map(|low| hasher.hash_one(Uuid::from_u128((7 << 64) | (low << 20))))
            .collect();
        for hashes in [counted, minted] {
            // A hundred each on average.
            assert!(fullest(&hashes).into_iter().all(|most| most < 160), "{:?}", fullest(&hashes));
        }
    }

    #[test]
    fn every_byte_of_a_key_counts() {
        let hash = |bytes: &[u8]| {
            let mut hasher = MixHasher::default();
            hasher.write(bytes);
            hasher.finish()
        };
        let plain = [1; 19];
        for at in 0..plain.len() {
            let mut other = plain;
            other[at] = 2;
            assert_ne!(hash(&plain), hash(&other), "{at}");
        }
    }
}
