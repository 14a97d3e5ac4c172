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
use std::time::Duration;
use std::time::Instant;
use zeroize::Zeroizing;

/// Random numbers drawn at once.
const RANDOM_DRAWN: usize = 32;

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

/// A random number, for seeds of the cores.
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

/// A new UUIDv7, for rows of the database.
#[must_use]
pub fn new_uuid() -> uuid::Uuid {
    uuid::Uuid::now_v7()
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
}
