//! What a jitter buffer counts.

/// Counters of a jitter buffer, over all streams it has followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JitterStatistics {
    /// Packets taken.
    pub received: u64,
    /// Packets whose turn passed and which never came.
    pub lost: u64,
    /// Packets that came after their time had passed, and what was made up for it: those of them too that were
    /// played then, behind their time.
    pub late: u64,
    /// Packets that came twice.
    pub duplicate: u64,
    /// Packets thrown away: too many, too large, not believed, of a stream that was left, or cut out of what sounds.
    pub discarded: u64,
    /// Times a stream began anew: another SSRC or a big jump.
    pub restarts: u64,
    /// Ticks in which the buffer had nothing although audio was expected.
    pub underruns: u64,
    /// Samples given out as audio.
    pub played_samples: u64,
    /// Samples given out as missing, once it is known that they were no pause.
    pub missing_samples: u64,
    /// Samples given out as pause, or while there was no stream.
    pub quiet_samples: u64,
    /// Samples left out to bring the delay back to what is needed.
    pub dropped_samples: u64,
    /// Samples put in because more delay was needed, counted above as missing or pause too.
    pub stretched_samples: u64,
}
