//! What a session counts itself; the other figures are its parts'.

/// Counts since the session was opened, named as in `MediaStatistics`.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) foreign: u64,
    pub(super) srtp_refused: u64,
    pub(super) srtp_replayed: u64,
    pub(super) malformed: u64,
    pub(super) unexpected: u64,
    pub(super) frames_dropped: u64,
    pub(super) ticks_skipped: u64,
    pub(super) first_packet_ms: Option<u64>,
    pub(super) digits: u32,
    pub(super) reports_in: u32,
}
