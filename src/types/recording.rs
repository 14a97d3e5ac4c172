//! Words about recordings that several planes use.

use crate::types::id::CallId;
use crate::types::id::RecordingId;
use crate::types::id::TenantId;

/// Whether calls are recorded without anybody asking for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecordPolicy {
    /// From their answer to their end.
    All,
    /// Not.
    #[default]
    Off,
}

impl RecordPolicy {
    /// The policy of a word; `None` for any other.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        match word {
            "all" => Some(Self::All),
            "off" => Some(Self::Off),
            _ => None,
        }
    }
}

/// Whose recording it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordingOf {
    /// The recording.
    pub id: RecordingId,
    /// The call.
    pub call: CallId,
    /// The tenant.
    pub tenant: TenantId,
}

/// Why a recording failed. The call goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordingFault {
    /// There is no room on the disk.
    DiskFull,
    /// The disk refused.
    Disk,
    /// More recordings run than a node may have.
    TooMany,
    /// It is as long as one may be.
    TooLong,
    /// The call has no media to record.
    NoMedia,
    /// An error of our own.
    Fault,
}

impl RecordingFault {
    /// The spelling of records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DiskFull => "disk_full",
            Self::Disk => "disk_error",
            Self::TooMany => "too_many",
            Self::TooLong => "too_long",
            Self::NoMedia => "no_media",
            Self::Fault => "fault",
        }
    }
}
