//! `ShardedMap`: a map whose clone is one reference count and whose change copies a few hundred
//! entries, however many it holds.

use crate::types::id::AiProfileId;
use crate::types::id::NumberId;
use crate::types::id::TenantId;
use crate::types::id_map::IdMap;
use crate::types::id_map::mix;
use crate::types::number::E164;
use std::hash::Hash;
use std::sync::Arc;
use uuid::Uuid;

/// Branches of a node; two levels of them make 4096 shards.
const FANOUT: usize = 64;

/// A key that can spread itself over shards.
pub(crate) trait ShardKey: Copy + Eq + Hash {
    /// 64 bits that differ between keys in every part.
    fn spread(self) -> u64;
}

fn spread_uuid(uuid: Uuid) -> u64 {
    let (high, low) = uuid.as_u64_pair();
    mix(high ^ low.rotate_left(32))
}

/// An E.164 number as an integer. No number begins with 0, so the digits alone tell numbers apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct NumberKey(u64);

impl From<E164> for NumberKey {
    fn from(number: E164) -> Self {
        Self(number.as_u64())
    }
}

impl ShardKey for NumberKey {
    fn spread(self) -> u64 {
        mix(self.0)
    }
}

impl ShardKey for NumberId {
    fn spread(self) -> u64 {
        spread_uuid(self.uuid())
    }
}

impl ShardKey for TenantId {
    fn spread(self) -> u64 {
        spread_uuid(self.uuid())
    }
}

impl ShardKey for AiProfileId {
    fn spread(self) -> u64 {
        spread_uuid(self.uuid())
    }
}

type Shard<K, V> = IdMap<K, V>;
type Branch<K, V> = [Arc<Shard<K, V>>; FANOUT];
type Root<K, V> = [Arc<Branch<K, V>>; FANOUT];

/// A copy-on-write map in 4096 shards.
#[derive(Clone)]
pub(crate) struct ShardedMap<K, V> {
    root: Arc<Root<K, V>>,
    len: usize,
}

impl<K: ShardKey, V: Clone> Default for ShardedMap<K, V> {
    fn default() -> Self {
        let shard = Arc::new(Shard::default());
        let branch = Arc::new(std::array::from_fn(|_| Arc::clone(&shard)));
        Self { root: Arc::new(std::array::from_fn(|_| Arc::clone(&branch))), len: 0 }
    }
}

impl<K: ShardKey, V: Clone> ShardedMap<K, V> {
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get(&self, key: K) -> Option<&V> {
        let (first, second) = place(key);
        self.root.get(first)?.get(second)?.get(&key)
    }

    /// All of them, in no order.
    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        let shards = self.root.iter().flat_map(|branch| branch.iter());
        shards.flat_map(|shard| shard.values())
    }

    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let old = self.shard(key)?.insert(key, value);
        if old.is_none() {
            self.len += 1;
        }
        old
    }

    pub(crate) fn remove(&mut self, key: K) -> Option<V> {
        // Looked up first: a key that is not there must not copy a shard.
        self.get(key)?;
        let old = self.shard(key)?.remove(&key);
        if old.is_some() {
            self.len -= 1;
        }
        old
    }

    /// The shard of `key`, owned alone.
    fn shard(&mut self, key: K) -> Option<&mut Shard<K, V>> {
        let (first, second) = place(key);
        let branch = Arc::make_mut(&mut self.root).get_mut(first)?;
        let shard = Arc::make_mut(branch).get_mut(second)?;
        Some(Arc::make_mut(shard))
    }
}

/// Both indices, each below `FANOUT`; from bits the shard's own hash table does not depend on alone.
fn place<K: ShardKey>(key: K) -> (usize, usize) {
    let spread = key.spread();
    ((spread >> 20) as usize % FANOUT, (spread >> 26) as usize % FANOUT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u64) -> NumberKey {
        NumberKey(n)
    }

    #[test]
    fn a_clone_does_not_see_later_changes() {
        let mut map = ShardedMap::default();
        for n in 0..10_000 {
            map.insert(key(n), n);
        }
        let before = map.clone();
        map.insert(key(7), 70);
        map.remove(key(8));
        assert_eq!((before.get(key(7)), before.get(key(8))), (Some(&7), Some(&8)));
        assert_eq!((map.get(key(7)), map.get(key(8))), (Some(&70), None));
        assert_eq!((before.len(), map.len()), (10_000, 9_999));
        assert_eq!(map.remove(key(8)), None);
        assert_eq!(map.len(), 9_999);
    }

    #[test]
    fn consecutive_numbers_spread_over_all_shards() {
        let mut map = ShardedMap::default();
        for n in 0..100_000 {
            map.insert(key(918_068_000_000 + n), ());
        }
        let largest = map.root.iter().flat_map(|branch| branch.iter().map(|s| s.len())).max();
        assert!(largest < Some(60), "{largest:?} of a mean of 24");
    }
}
