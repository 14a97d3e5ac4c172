//! The figures of a media session as a call's record wants them.

use crate::call::event::MediaFigures;
use crate::media::statistics::MediaStatistics;

impl MediaStatistics {
    /// The figures for the call's record.
    #[must_use]
    pub fn figures(&self) -> MediaFigures {
        MediaFigures {
            packets_in: self.packets_in,
            packets_out: self.packets_out,
            octets_in: self.octets_in,
            octets_out: self.octets_out,
            lost_in: self.lost_in,
            late_in: self.late_in,
            lost_out: self.lost_out,
            jitter_in_ms: f64::from(self.jitter_in_ms),
            jitter_out_ms: self.jitter_out_ms.map(f64::from),
            round_trip_ms: self.round_trip_ms.map(f64::from),
            mos_in: self.mos_in.map(f64::from),
            mos_out: self.mos_out.map(f64::from),
            foreign: self.foreign,
            underruns: self.underruns,
            srtp: self.srtp,
            srtp_refused: self.srtp_refused,
            srtp_replayed: self.srtp_replayed,
            malformed: self.malformed,
            unexpected: self.unexpected,
            quality: self.quality,
        }
    }
}
