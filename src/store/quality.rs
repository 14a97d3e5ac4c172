//! The quality of audio as records and views tell it.

use crate::types::quality::Quality;
use crate::types::quality::WayQuality;
use serde_json::Value;
use serde_json::json;

/// How good the audio of a leg was, as records and live figures have it. Figures that are not known are null.
#[must_use]
pub fn of_quality(quality: &Quality) -> Value {
    json!({
        "in": of_way(&quality.inward),
        "out": quality.outward.as_ref().map(of_way),
        "concealed_ms": quality.concealed_ms,
        "no_audio_in_ms": quality.unheard.no_audio_in_ms,
        "no_audio_out_ms": quality.unheard.no_audio_out_ms,
        "dead_air_ms": quality.unheard.dead_air_ms,
    })
}

fn of_way(way: &WayQuality) -> Value {
    json!({
        "r": way.rating.map(rounded),
        "mos_lq": way.mos_lq.map(rounded),
        "mos_cq": way.mos_cq.map(rounded),
        "loss_percent": rounded(way.loss_percent),
        "discard_percent": rounded(way.discard_percent),
        "burst_density_percent": rounded(way.burst_density_percent),
        "gap_density_percent": rounded(way.gap_density_percent),
        "burst_ms": way.burst_ms,
        "gap_ms": way.gap_ms,
        "round_trip_ms": way.round_trip_ms.map(rounded),
        "end_delay_ms": way.end_delay_ms,
        "jitter_buffer_ms": way.buffer_ms,
        "jitter_buffer_max_ms": way.buffer_max_ms,
        "signal_dbm0": way.signal_dbm0.map(rounded),
        "noise_dbm0": way.noise_dbm0.map(rounded),
    })
}

/// To hundredths: more is not known.
fn rounded(figure: f32) -> f64 {
    (f64::from(figure) * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_told_to_hundredths_and_what_is_not_known_as_null() {
        let inward = WayQuality { mos_lq: Some(4.1234), burst_ms: 60, ..WayQuality::default() };
        let told = of_quality(&Quality { inward, ..Quality::default() });
        assert_eq!(told["in"]["mos_lq"], json!(4.12));
        assert_eq!(told["in"]["burst_ms"], json!(60));
        assert_eq!((&told["in"]["r"], &told["out"]), (&Value::Null, &Value::Null));
        assert_eq!(told["dead_air_ms"], json!(0));
    }
}
