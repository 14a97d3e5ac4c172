//! The SIP shards of a node, and which of them a Call-ID belongs to.

use crate::engine::sip_shard::ShardHandle;
use std::hash::BuildHasher;
use std::hash::RandomState;

/// All shards. Every message of a Call-ID, whoever sends it, belongs to the same one.
#[derive(Clone, Debug)]
pub struct Shards {
    handles: Vec<ShardHandle>,
    /// Keyed, so that nobody can aim a flood at one shard.
    hash: RandomState,
}

impl Shards {
    /// The shards of a node, in their order.
    #[must_use]
    pub fn new(handles: Vec<ShardHandle>) -> Self {
        Self { handles, hash: RandomState::new() }
    }

    /// The shard of a Call-ID; `None` without any shard.
    #[must_use]
    pub fn of_call_id(&self, call_id: &[u8]) -> Option<&ShardHandle> {
        // As where there are one or two processors: nothing is to be chosen.
        if let [only] = &*self.handles {
            return Some(only);
        }
        let count = u64::try_from(self.handles.len()).ok().filter(|count| *count > 0)?;
        let index = usize::try_from(self.hash.hash_one(call_id) % count).ok()?;
        self.handles.get(index)
    }

    /// Every shard.
    pub fn all(&self) -> impl Iterator<Item = &ShardHandle> {
        self.handles.iter()
    }
}
