//! The only reader of time and randomness: mints identities and holds the wall-clock anchor.

#![expect(
    clippy::disallowed_methods,
    reason = "this file is where the clock and randomness are read"
)]

use crate::types::id::CallId;
use crate::types::id::NodeId;
use crate::types::id::RecordingId;
use crate::types::moment::Moment;
use crate::types::srtp::SRTP_KEY_BYTES_MAX;
use crate::types::srtp::SrtpKey;
use crate::types::srtp::SrtpSuite;
use jiff::Timestamp;
use std::cell::RefCell;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use zeroize::Zeroizing;

/// Random numbers drawn at once.
const RANDOM_DRAWN: usize = 32;

/// Nanoseconds of a millisecond.
const NANOS_PER_MILLI: u64 = 1_000_000;

/// Parts of a millisecond that a UUIDv7 tells apart: 12 bits.
const PARTS_PER_MILLI: u64 = 1 << 12;

struct Anchor {
    started: Instant,
    wall: Timestamp,
}

fn anchor() -> &'static Anchor {
    static ANCHOR: OnceLock<Anchor> = OnceLock::new();
    ANCHOR.get_or_init(|| Anchor { started: Instant::now(), wall: Timestamp::now() })
}

/// The present moment on the node's monotonic clock.
#[must_use]
pub fn now() -> Moment {
    Moment::from_nanos(u64::try_from(anchor().started.elapsed().as_nanos()).unwrap_or(u64::MAX))
}

/// The `Instant` of `moment`, for timers of the runtime.
#[must_use]
pub fn instant(moment: Moment) -> Instant {
    anchor().started + Duration::from_nanos(moment.as_nanos())
}

/// The wall-clock time of `moment`, from an anchor taken once: a step of the system clock moves no
/// duration.
#[must_use]
pub fn wall(moment: Moment) -> Timestamp {
    let nanos = i64::try_from(moment.as_nanos()).unwrap_or(i64::MAX);
    anchor().wall.checked_add(jiff::SignedDuration::from_nanos(nanos)).unwrap_or(Timestamp::MAX)
}

/// The present wall-clock time.
#[must_use]
pub fn wall_now() -> Timestamp {
    Timestamp::now()
}

/// Fills `bytes` from the system's random source.
pub fn fill_random(bytes: &mut [u8]) {
    // Without randomness no tag, nonce or SSRC is safe; there is nothing sensible to go on with.
    assert!(aws_lc_rs::rand::fill(bytes).is_ok(), "the system's random source failed");
}

/// A random number, for seeds of the cores and keys of frames.
#[must_use]
pub fn random_u64() -> u64 {
    thread_local! {
        // A call of the system gives many as cheaply as one; each is used once and then forgotten.
        static DRAWN: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
    }
    DRAWN.with_borrow_mut(|drawn| {
        drawn.pop().unwrap_or_else(|| {
            let mut bytes = Zeroizing::new([0; 8 * RANDOM_DRAWN]);
            fill_random(bytes.as_mut_slice());
            let numbers = bytes.as_chunks::<8>().0;
            drawn.extend(numbers.iter().map(|number| u64::from_le_bytes(*number)));
            drawn.pop().unwrap_or_default()
        })
    })
}

/// A new master key of SRTP.
#[must_use]
pub fn new_srtp_key(suite: SrtpSuite) -> SrtpKey {
    let mut random = Zeroizing::new([0; SRTP_KEY_BYTES_MAX]);
    fill_random(random.as_mut_slice());
    SrtpKey::generate(suite, &random)
}

/// A new recording's identity.
#[must_use]
pub fn new_recording_id() -> RecordingId {
    RecordingId::from_uuid(new_uuid())
}

/// A new call's identity.
#[must_use]
pub fn new_call_id() -> CallId {
    CallId::from_uuid(new_uuid())
}

/// A new node's identity.
#[must_use]
pub fn new_node_id() -> NodeId {
    NodeId::from_uuid(new_uuid())
}

/// A new UUIDv7 (RFC 9562 §5.7), for rows of the database. Those of one process are in the order in which they
/// were made, whatever its wall clock does: the bits behind the millisecond are its parts (§6.2, method 3), or count on
/// from the last where the clock did not go forward (monotonic error checking, there).
#[must_use]
pub fn new_uuid() -> uuid::Uuid {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let nanos = u64::try_from(wall_now().as_nanosecond()).unwrap_or(0);
    let (millis, rest) = (nanos / NANOS_PER_MILLI, nanos % NANOS_PER_MILLI);
    let present = millis * PARTS_PER_MILLI + rest * PARTS_PER_MILLI / NANOS_PER_MILLI;
    let next = |last: u64| present.max(last.saturating_add(1));
    let last = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(next(last)));
    let minted = next(last.unwrap_or_else(|last| last));
    let [.., high, low] = (minted % PARTS_PER_MILLI).to_be_bytes();
    let [a, b, c, d, e, f, g, h] = random_u64().to_be_bytes();
    let rest = [high, low, a, b, c, d, e, f, g, h];
    uuid::Builder::from_unix_timestamp_millis(minted / PARTS_PER_MILLI, &rest).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_forward_and_maps_to_the_wall() {
        let first = now();
        let second = now();
        assert!(second >= first);
        let hour = Moment::from_millis(3_600_000);
        assert_eq!(wall(hour).as_millisecond() - wall(Moment::START).as_millisecond(), 3_600_000);
        assert!(new_call_id() < new_call_id());
    }

    #[test]
    fn identities_of_a_moment_are_in_order_and_tell_it() {
        let before = wall_now().as_millisecond();
        let minted: Vec<_> = (0..10_000).map(|_| new_uuid()).collect();
        let after = wall_now().as_millisecond();
        assert!(minted.is_sorted_by(|one, next| one < next), "none twice, and each after the last");
        let low: std::collections::HashSet<_> =
            minted.iter().map(|id| id.as_u128() as u64).collect();
        assert_eq!(low.len(), minted.len(), "the rest is random");
        for id in minted {
            assert_eq!((id.get_version_num(), id.get_variant()), (7, uuid::Variant::RFC4122));
            let (seconds, nanos) = id.get_timestamp().expect("it has one").to_unix();
            let millis =
                i64::try_from(seconds * 1_000).expect("of this age") + i64::from(nanos) / 1_000_000;
            // As many as these at once run ahead of the clock.
            assert!((before..=after + 1_000).contains(&millis), "{before} {millis} {after}");
        }
    }
}
