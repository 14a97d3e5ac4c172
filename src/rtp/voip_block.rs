//! The VoIP metrics block of RTCP XR (RFC 3611 §4.7): how well one end hears the other.

use crate::rtp::burst::GMIN;
use crate::types::quality::WayQuality;

/// What stands for a figure that is not known, of most of them.
const UNKNOWN: u8 = 127;
/// Losses are concealed well, and the jitter buffer adapts as fast as it can.
const RECEIVER_CONFIG: u8 = 0b1011_0000;

/// A VoIP metrics block. A `Copy` of the bytes it has on the wire, but for what is the same in all of ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VoipMetrics {
    /// The stream it is about.
    pub ssrc: u32,
    /// Packets lost, in 1/256 of those expected.
    pub loss_rate: u8,
    /// Packets discarded, in 1/256 of those expected.
    pub discard_rate: u8,
    /// Packets lost or discarded within bursts, in 1/256 of those.
    pub burst_density: u8,
    /// The same between bursts.
    pub gap_density: u8,
    /// Mean length of a burst, in ms.
    pub burst_ms: u16,
    /// Mean length of a gap, in ms.
    pub gap_ms: u16,
    /// The last round trip, in ms; 0: unknown.
    pub round_trip_ms: u16,
    /// Delay within the end, in ms.
    pub end_system_ms: u16,
    /// Level of speech, in dBm0; 127: unknown.
    pub signal_dbm: i8,
    /// Level of pauses, in dBm0; 127: unknown.
    pub noise_dbm: i8,
    /// Echo return loss, in dB; 127: unknown.
    pub echo_return_loss: u8,
    /// Packets in a row that end a burst.
    pub gmin: u8,
    /// Rating factor R, 0 to 100; 127: unknown.
    pub rating: u8,
    /// R of a network beyond, 0 to 100; 127: unknown.
    pub external_rating: u8,
    /// Listening quality, in tenths, 10 to 50; 127: unknown.
    pub mos_lq: u8,
    /// Conversational quality, in tenths, 10 to 50; 127: unknown.
    pub mos_cq: u8,
    /// How losses are concealed and how the jitter buffer adapts.
    pub receiver_config: u8,
    /// Delay of the jitter buffer for packets that are in time, in ms.
    pub buffer_ms: u16,
    /// Its largest delay as it is now, in ms.
    pub buffer_now_max_ms: u16,
    /// The largest it can have, in ms.
    pub buffer_max_ms: u16,
}

impl VoipMetrics {
    pub(super) const BLOCK_TYPE: u8 = 7;
    /// Length on the wire, in bytes.
    pub(super) const BYTES: usize = 36;

    /// The block that tells the sender of the stream `ssrc` how well it is heard.
    #[must_use]
    pub fn of(ssrc: u32, quality: &WayQuality) -> Self {
        Self {
            ssrc,
            loss_rate: of_256(quality.loss_percent),
            discard_rate: of_256(quality.discard_percent),
            burst_density: of_256(quality.burst_density_percent),
            gap_density: of_256(quality.gap_density_percent),
            burst_ms: short(quality.burst_ms),
            gap_ms: short(quality.gap_ms),
            round_trip_ms: quality.round_trip_ms.map_or(0, |ms| ms.clamp(1.0, 65_535.0) as u16),
            end_system_ms: short(quality.end_delay_ms),
            signal_dbm: level(quality.signal_dbm0),
            noise_dbm: level(quality.noise_dbm0),
            echo_return_loss: UNKNOWN,
            gmin: GMIN,
            rating: quality.rating.map_or(UNKNOWN, |rating| rating.round().clamp(0.0, 100.0) as u8),
            external_rating: UNKNOWN,
            mos_lq: tenths(quality.mos_lq),
            mos_cq: tenths(quality.mos_cq),
            receiver_config: RECEIVER_CONFIG,
            buffer_ms: short(quality.buffer_ms),
            buffer_now_max_ms: short(quality.buffer_max_ms),
            buffer_max_ms: short(quality.buffer_max_ms),
        }
    }

    /// What its sender says of how it hears. Figures beyond their scales are unknown.
    #[must_use]
    pub fn quality(&self) -> WayQuality {
        let percent = |of_256: u8| f32::from(of_256) * 100.0 / 256.0;
        let score = |tenths: u8| (10..=50).contains(&tenths).then(|| f32::from(tenths) / 10.0);
        let level = |dbm: i8| (dbm <= 3).then(|| f32::from(dbm));
        WayQuality {
            rating: (self.rating <= 100).then(|| f32::from(self.rating)),
            mos_lq: score(self.mos_lq),
            mos_cq: score(self.mos_cq),
            loss_percent: percent(self.loss_rate),
            discard_percent: percent(self.discard_rate),
            burst_density_percent: percent(self.burst_density),
            gap_density_percent: percent(self.gap_density),
            burst_ms: self.burst_ms.into(),
            gap_ms: self.gap_ms.into(),
            round_trip_ms: (self.round_trip_ms > 0).then(|| f32::from(self.round_trip_ms)),
            end_delay_ms: self.end_system_ms.into(),
            buffer_ms: self.buffer_ms.into(),
            buffer_max_ms: self.buffer_max_ms.into(),
            signal_dbm0: level(self.signal_dbm),
            noise_dbm0: level(self.noise_dbm),
        }
    }

    pub(super) fn written(&self) -> [u8; Self::BYTES] {
        let [ssrc_0, ssrc_1, ssrc_2, ssrc_3] = self.ssrc.to_be_bytes();
        let [burst_0, burst_1] = self.burst_ms.to_be_bytes();
        let [gap_0, gap_1] = self.gap_ms.to_be_bytes();
        let [trip_0, trip_1] = self.round_trip_ms.to_be_bytes();
        let [end_0, end_1] = self.end_system_ms.to_be_bytes();
        let [signal, noise] = [self.signal_dbm, self.noise_dbm].map(i8::cast_unsigned);
        let [nominal_0, nominal_1] = self.buffer_ms.to_be_bytes();
        let [now_0, now_1] = self.buffer_now_max_ms.to_be_bytes();
        let [most_0, most_1] = self.buffer_max_ms.to_be_bytes();
        #[rustfmt::skip]
        let bytes = [
            Self::BLOCK_TYPE, 0, 0, (Self::BYTES / 4 - 1) as u8,
            ssrc_0, ssrc_1, ssrc_2, ssrc_3,
            self.loss_rate, self.discard_rate, self.burst_density, self.gap_density,
            burst_0, burst_1, gap_0, gap_1,
            trip_0, trip_1, end_0, end_1,
            signal, noise, self.echo_return_loss, self.gmin,
            self.rating, self.external_rating, self.mos_lq, self.mos_cq,
            self.receiver_config, 0, nominal_0, nominal_1,
            now_0, now_1, most_0, most_1,
        ];
        bytes
    }

    /// Reads a block with its header; `None` if it has another length.
    pub(super) fn read(block: &[u8]) -> Option<Self> {
        let words: &[u8; Self::BYTES] = block.try_into().ok()?;
        let [
            ..,
            ssrc_0,
            ssrc_1,
            ssrc_2,
            ssrc_3,
            loss_rate,
            discard_rate,
            burst_density,
            gap_density,
            burst_0,
            burst_1,
            gap_0,
            gap_1,
            trip_0,
            trip_1,
            end_0,
            end_1,
            signal,
            noise,
            echo_return_loss,
            gmin,
            rating,
            external_rating,
            mos_lq,
            mos_cq,
            receiver_config,
            _,
            nominal_0,
            nominal_1,
            now_0,
            now_1,
            most_0,
            most_1,
        ] = *words;
        let short = |high, low| u16::from_be_bytes([high, low]);
        Some(Self {
            ssrc: u32::from_be_bytes([ssrc_0, ssrc_1, ssrc_2, ssrc_3]),
            loss_rate,
            discard_rate,
            burst_density,
            gap_density,
            burst_ms: short(burst_0, burst_1),
            gap_ms: short(gap_0, gap_1),
            round_trip_ms: short(trip_0, trip_1),
            end_system_ms: short(end_0, end_1),
            signal_dbm: signal.cast_signed(),
            noise_dbm: noise.cast_signed(),
            echo_return_loss,
            gmin,
            rating,
            external_rating,
            mos_lq,
            mos_cq,
            receiver_config,
            buffer_ms: short(nominal_0, nominal_1),
            buffer_now_max_ms: short(now_0, now_1),
            buffer_max_ms: short(most_0, most_1),
        })
    }
}

/// A share in 1/256, cut down to whole ones (RFC 3611 §4.7.1).
fn of_256(percent: f32) -> u8 {
    (percent * 2.56).clamp(0.0, 255.0) as u8
}

fn short(ms: u32) -> u16 {
    u16::try_from(ms).unwrap_or(u16::MAX)
}

fn level(dbm0: Option<f32>) -> i8 {
    dbm0.map_or(UNKNOWN.cast_signed(), |dbm0| dbm0.round().clamp(-127.0, 3.0) as i8)
}

fn tenths(score: Option<f32>) -> u8 {
    score.map_or(UNKNOWN, |score| (score * 10.0).round().clamp(10.0, 50.0) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn measured() -> WayQuality {
        WayQuality {
            rating: Some(81.4),
            mos_lq: Some(4.16),
            mos_cq: Some(4.04),
            loss_percent: 1.6,
            discard_percent: 0.5,
            burst_density_percent: 40.0,
            gap_density_percent: 0.4,
            burst_ms: 140,
            gap_ms: 70_000,
            round_trip_ms: Some(83.2),
            end_delay_ms: 60,
            buffer_ms: 40,
            buffer_max_ms: 200,
            signal_dbm0: Some(-18.6),
            noise_dbm0: Some(-61.0),
        }
    }

    #[test]
    fn figures_have_their_places_and_scales() {
        let bytes = VoipMetrics::of(0x0102_0304, &measured()).written();
        #[rustfmt::skip]
        assert_eq!(bytes, [
            7, 0, 0, 8,
            1, 2, 3, 4,
            4, 1, 102, 1,
            0, 140, 255, 255,
            0, 83, 0, 60,
            237, 195, 127, 16,
            81, 127, 42, 40,
            0xb0, 0, 0, 40,
            0, 200, 0, 200,
        ]);
    }

    #[test]
    fn what_is_not_known_is_told_as_such() {
        let metrics = VoipMetrics::of(1, &WayQuality::default());
        let told = (metrics.rating, metrics.mos_lq, metrics.mos_cq, metrics.round_trip_ms);
        assert_eq!(told, (127, 127, 127, 0));
        assert_eq!((metrics.signal_dbm, metrics.noise_dbm), (127, 127));
        assert_eq!(metrics.quality(), WayQuality::default());
        // Figures beyond their scales.
        let senseless =
            VoipMetrics { rating: 101, mos_lq: 9, mos_cq: 51, signal_dbm: 4, ..metrics };
        assert_eq!(senseless.quality(), WayQuality::default());
    }

    #[test]
    fn what_a_peer_tells_is_what_it_measured_but_for_the_scales() {
        let told = VoipMetrics::of(1, &measured()).quality();
        assert_eq!((told.rating, told.mos_lq, told.mos_cq), (Some(81.0), Some(4.2), Some(4.0)));
        assert!((told.loss_percent - 1.56).abs() < 0.01, "{told:?}");
        assert_eq!((told.gap_ms, told.burst_ms, told.end_delay_ms), (65_535, 140, 60));
        assert_eq!((told.signal_dbm0, told.noise_dbm0), (Some(-19.0), Some(-61.0)));
    }

    proptest! {
        #[test]
        fn any_block_reads_and_is_written_again(bytes in prop::collection::vec(any::<u8>(), 36)) {
            let metrics = VoipMetrics::read(&bytes).unwrap();
            let written = metrics.written();
            prop_assert_eq!(&written[4..29], &bytes[4..29]);
            prop_assert_eq!(&written[30..], &bytes[30..]);
            let quality = metrics.quality();
            prop_assert!(quality.mos_lq.is_none_or(|mos| (1.0..=5.0).contains(&mos)));
            prop_assert!(quality.rating.is_none_or(|rating| rating <= 100.0));
        }
    }
}
