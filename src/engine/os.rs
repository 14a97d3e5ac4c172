//! The few calls to the system that need unsafe code: priority and clock of the media threads, the
//! limit of descriptors, and memory that is not needed.
#![expect(unsafe_code, reason = "libc calls; each block says why it is sound")]

use std::io;
use std::mem::MaybeUninit;
use std::time::Duration;

/// Above every ordinary thread, below the kernel's own real-time threads.
const REALTIME_PRIORITY: i32 = 10;

/// Gives the calling thread real-time priority (SCHED_FIFO).
///
/// # Errors
/// When the process may not (it lacks CAP_SYS_NICE and the limit RLIMIT_RTPRIO).
pub(crate) fn set_realtime() -> io::Result<()> {
    let parameter = libc::sched_param { sched_priority: REALTIME_PRIORITY };
    // SAFETY: the pointer is to a live, initialised structure, which the call only reads; 0 is the
    // calling thread.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameter) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Asks the kernel to wake the calling thread on time instead of up to 50 µs late, to save power.
///
/// # Errors
/// As the system says.
pub(crate) fn set_exact_timers() -> io::Result<()> {
    let nanos: libc::c_ulong = 1;
    // SAFETY: PR_SET_TIMERSLACK takes one integer and no pointer; it concerns the calling thread.
    let result = unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, nanos) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Raises the process's limit of open files as far as it may go and returns it. Login shells and
/// service managers give 1024 for the sake of old programs that use select(2), which is enough for
/// 400 calls.
///
/// # Errors
/// As the system says.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a live structure, which the call fills.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the pointer is to a live, initialised structure, which the call only reads.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(limit.rlim_cur)
}

/// The processor time the calling thread has used; zero where the system does not say.
pub(crate) fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live structure, which the call fills.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    if result != 0 {
        return Duration::ZERO;
    }
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Gives back to the system what the allocator keeps. Walks the whole heap: for quiet hours.
pub(crate) fn return_memory() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: `malloc_trim` takes a number and touches the allocator's own free memory alone,
        // under its own locks.
        let returned = unsafe { libc::malloc_trim(0) };
        tracing::debug!(any = returned != 0, "memory given back");
    }
}

/// Gives the pages of `room` back to the system, which gives others once something is written there. Whatever was in it is
/// lost. Nothing is done where it is not whole pages: others would lose what they have in them.
pub(crate) fn return_pages<T>(room: &mut MaybeUninit<T>) {
    // SAFETY: `sysconf` takes a number and no pointer.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let Ok(page) = usize::try_from(page) else { return };
    let is_whole = |bytes: usize| bytes.checked_rem(page) == Some(0);
    if !is_whole(align_of::<T>()) || !is_whole(size_of::<T>()) {
        return;
    }
    // SAFETY: by its alignment and its size these pages are `room` and nothing beside it, which is lent to us for
    // ourselves and, as it may hold nothing, is as good with any bytes in it.
    let result =
        unsafe { libc::madvise(room.as_mut_ptr().cast(), size_of::<T>(), libc::MADV_DONTNEED) };
    if result != 0 {
        tracing::trace!(error = %io::Error::last_os_error(), "pages are kept");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As large as the largest pages that systems have by default.
    #[repr(align(65_536))]
    struct Pages([u8; 65_536]);

    /// A page begins with what is no page, and goes on with something else.
    #[repr(C, align(65_536))]
    struct Beside {
        small: MaybeUninit<[u8; 100]>,
        other: [u8; 100],
    }

    #[test]
    fn whole_pages_go_back_to_the_system_and_no_others() {
        let mut room = Box::new(MaybeUninit::new(Pages([7; 65_536])));
        return_pages(&mut room);
        // SAFETY: it was written, and bytes are bytes whatever the system has put there since.
        let pages = unsafe { room.assume_init_ref() };
        assert!(pages.0.iter().all(|byte| *byte == 0), "the system's own pages are empty");
        let small = MaybeUninit::new([7; 100]);
        let mut beside = Box::new(Beside { small, other: [7; 100] });
        return_pages(&mut beside.small);
        assert_eq!(beside.other, [7; 100], "it is on the same page");
    }

    #[test]
    fn the_thread_time_grows_with_work() {
        let before = thread_time();
        let mut sum = 0_u64;
        while thread_time() == before {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(thread_time() > before);
    }

    /// Policy and real-time priority of the calling thread, as the system tells them (proc(5), fields 41 and 40).
    fn scheduling() -> (String, String) {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("proc is mounted");
        let (_name, rest) = stat.rsplit_once(')').expect("a name in brackets");
        let mut fields = rest.split_whitespace().skip(37);
        let mut next = || fields.next().expect("a field").to_owned();
        let priority = next();
        (next(), priority)
    }

    #[test]
    fn a_thread_has_real_time_priority_or_is_told_why_not_and_goes_on_as_it_was() {
        let (before, set, after) =
            std::thread::spawn(|| (scheduling(), set_realtime(), scheduling()))
                .join()
                .expect("it ends");
        match set {
            Ok(()) => {
                let (fifo, priority) =
                    (libc::SCHED_FIFO.to_string(), REALTIME_PRIORITY.to_string());
                assert_eq!(after, (fifo, priority));
            }
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
                assert_eq!(after, before);
            }
        }
    }

    #[test]
    fn timers_can_be_made_exact() {
        assert!(set_exact_timers().is_ok());
    }
}
