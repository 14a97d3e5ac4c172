//! Memory fetched into the processor's cache before it is needed.
//!
//! What thousands of calls have is far away when its turn comes, and each line of it that is found missing is waited for
//! on its own. Asked for while something else is done, many come at once, and nobody waits.
#![cfg_attr(
    target_arch = "x86_64",
    expect(
        unsafe_code,
        reason = "an instruction of the processor; the block says why it is sound"
    )
)]

/// Bytes that come at once. Where a processor takes more, it is asked twice for some, and does it once.
const LINE_BYTES: usize = 64;

/// Bytes by which counters of two threads are kept apart, so that neither takes the other's away.
const APART_BYTES: usize = 128;

/// Has the processor fetch `value`, but not what it points to. Reads nothing, waits for nothing, and changes nothing
/// but how soon it can be read.
#[inline]
pub(crate) fn fetch<T: ?Sized>(value: &T) {
    let start = std::ptr::from_ref(value).cast::<i8>();
    offsets(size_of_val(value)).for_each(|offset| fetch_line(start.wrapping_add(offset)));
}

/// The same of what keeps counters apart, each at the beginning of its room: the rest of that is empty.
#[inline]
pub(crate) fn fetch_counters<T>(value: &T) {
    let start = std::ptr::from_ref(value).cast::<i8>();
    let rooms = (0..size_of::<T>()).step_by(APART_BYTES);
    rooms.for_each(|offset| fetch_line(start.wrapping_add(offset)));
}

/// Places in each line of so many bytes, wherever lines begin in them.
fn offsets(bytes: usize) -> impl Iterator<Item = usize> {
    (0..bytes).step_by(LINE_BYTES).chain(bytes.checked_sub(1))
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn fetch_line(at: *const i8) {
    // SAFETY: every processor of this kind knows the instruction, which is none but advice: whatever the address, it
    // neither reads for the program nor fails.
    unsafe { std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(at) };
}

/// Elsewhere the first to read it waits.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
const fn fetch_line(_at: *const i8) {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_line_is_asked_for_wherever_a_value_begins_and_no_other_is() {
        for (begins, bytes) in (0..LINE_BYTES).flat_map(|at| (0..400).map(move |bytes| (at, bytes)))
        {
            let line = |offset: usize| (begins + offset) / LINE_BYTES;
            let asked: BTreeSet<usize> = offsets(bytes).map(line).collect();
            let all: BTreeSet<usize> = (0..bytes).map(line).collect();
            assert_eq!(asked, all, "{bytes} from {begins} on");
        }
    }

    #[test]
    fn what_is_fetched_stays_what_it_is() {
        let (bytes, none): (Vec<u8>, [u8; 0]) = ((0..=255).cycle().take(5_000).collect(), []);
        fetch(bytes.as_slice());
        fetch(&none);
        fetch_counters(&none);
        fetch_counters(&[1_u64; 100]);
        assert!(bytes.iter().copied().eq((0..=255).cycle().take(5_000)));
    }
}
