//! `KeyRate`: how often one API key may ask.

use crate::clock;
use crate::types::id::ApiKeyId;
use crate::types::limit::API_KEYS_PACED_MAX;
use crate::types::moment::Moment;
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

/// Seconds whose requests a key may make at once after a rest.
const BURST_S: u64 = 2;

/// Paces the requests of keys, each for itself.
#[derive(Debug)]
pub struct KeyRate {
    /// Between two requests of a steady stream; zero: no limit.
    gap: Duration,
    /// When a steady stream would have made each key's requests so far.
    paced: Mutex<HashMap<ApiKeyId, Moment>>,
}

impl KeyRate {
    /// So many requests a second for each key; 0: no limit.
    #[must_use]
    pub fn new(per_second: u32) -> Self {
        let gap = match per_second {
            0 => Duration::ZERO,
            rate => Duration::from_secs(1) / rate,
        };
        Self { gap, paced: Mutex::default() }
    }

    /// Counts a request of `key`; false when it is one too many.
    pub(super) fn admits(&self, key: ApiKeyId) -> bool {
        self.admits_at(clock::now(), key)
    }

    fn admits_at(&self, now: Moment, key: ApiKeyId) -> bool {
        if self.gap.is_zero() {
            return true;
        }
        // No code that can panic runs under the lock, so a poisoned one is still sound.
        let mut paced = self.paced.lock().unwrap_or_else(PoisonError::into_inner);
        if paced.len() >= API_KEYS_PACED_MAX && !paced.contains_key(&key) {
            // A key that rested is known as well as one that never asked.
            paced.retain(|_, paced| *paced > now);
            if paced.len() >= API_KEYS_PACED_MAX {
                return false;
            }
        }
        let own = paced.entry(key).or_insert(now);
        let next = (*own).max(now) + self.gap;
        let is_admitted = next <= now + Duration::from_secs(BURST_S);
        if is_admitted {
            *own = next;
        }
        is_admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn key(number: u128) -> ApiKeyId {
        ApiKeyId::from_uuid(Uuid::from_u128(number))
    }

    #[test]
    fn a_key_may_ask_for_two_seconds_at_once_and_then_at_its_rate() {
        let rate = KeyRate::new(10);
        let now = Moment::from_millis(5_000);
        let admitted = (0..100).filter(|_| rate.admits_at(now, key(1))).count();
        assert_eq!(admitted, 20);
        assert!(rate.admits_at(now, key(2)), "each key has its own");
        let later = now + Duration::from_millis(250);
        let admitted = (0..100).filter(|_| rate.admits_at(later, key(1))).count();
        assert_eq!(admitted, 2);
        assert!((0..1_000).all(|_| KeyRate::new(0).admits_at(now, key(1))));
    }

    #[test]
    fn keys_beyond_the_bound_wait_until_others_have_rested() {
        let rate = KeyRate::new(1);
        let now = Moment::from_millis(5_000);
        let many = API_KEYS_PACED_MAX as u128;
        assert!((0..many).all(|number| rate.admits_at(now, key(number))));
        assert!(!rate.admits_at(now, key(many)));
        assert!(rate.admits_at(now + Duration::from_secs(1), key(many)));
    }
}
