//! What a test call found, as text for people and as JSON for programs.

use crate::caller::CallSummary;
use crate::caller::EndedBy;
use crate::types::srtp::SrtpSuite;
use serde_json::json;
use std::time::Duration;

/// The summary for people.
pub(crate) fn text(summary: &CallSummary) -> String {
    let mut lines = vec![format!("call      {}", outcome(summary))];
    lines.push(format!("call-id   {}", summary.call_id));
    let setup = &summary.setup;
    let times = [
        ("100", setup.trying),
        ("ringing", setup.ringing),
        ("200", setup.answered),
        ("first audio", setup.audio),
    ];
    let times: Vec<String> = times
        .iter()
        .filter_map(|(what, time)| time.map(|time| format!("{what} after {}", ms(time))))
        .collect();
    if !times.is_empty() {
        lines.push(format!("set-up    {}", times.join(", ")));
    }
    if let Some(by) = summary.ended_by {
        let reason = summary.bye_reason.as_ref().map_or(String::new(), |text| format!(" ({text})"));
        let seconds = summary.talked.as_secs_f64();
        lines.push(format!("ended     after {seconds:.2} s by {}{reason}", by.as_str()));
        lines.extend(audio(summary));
    }
    if !summary.digits_heard.is_empty() {
        lines.push(format!("keys      {}", summary.digits_heard));
    }
    if summary.retransmissions > 0 || summary.reinvites > 0 {
        let (sent, offers) = (summary.retransmissions, summary.reinvites);
        lines.push(format!("sip       retransmissions {sent}, offers within the call {offers}"));
    }
    let verdict = summary.problem.as_ref().map_or("passed".to_owned(), |p| format!("failed: {p}"));
    lines.push(format!("verdict   {verdict}"));
    lines.join("\n")
}

fn audio(summary: &CallSummary) -> Vec<String> {
    let media = &summary.media;
    let codec = media.codec.map_or("no codec", |codec| codec.name());
    let srtp = media.srtp.map_or(String::new(), |suite| format!(", encrypted by {suite}"));
    let mut lines = vec![
        format!("sent      {} packets of {codec}{srtp}", media.sent),
        format!(
            "received  {} packets, {} lost, {} late ({:.2} % loss), jitter {:.1} ms (at most {:.1} ms)",
            media.received,
            media.lost,
            media.late,
            media.loss_percent,
            media.jitter_ms,
            media.jitter_max_ms
        ),
    ];
    if media.refused > 0 {
        lines.push(format!("srtp      {} packets refused", media.refused));
    }
    if let Some(first) = media.headers.first {
        let packets = media.headers.total();
        lines.push(format!("headers   {packets} packets not as they should be, first {first}"));
    }
    let far = match (media.round_trip, media.far_lost) {
        (Some(trip), Some(lost)) => Some(format!("round trip {}, {lost} of ours lost", ms(trip))),
        (None, Some(lost)) => Some(format!("{lost} of ours lost")),
        (Some(_) | None, None) => None,
    };
    lines.extend(far.map(|far| format!("far end   {far}")));
    lines.extend(media.mos.map(|mos| format!("quality   MOS {mos:.2}")));
    let heard = &summary.heard;
    lines.push(match heard.level_dbm0 {
        None => "heard     silence".to_owned(),
        Some(level) => {
            let tone = heard.frequency_hz.map_or(String::new(), |hz| {
                let share = heard.frequency_share * 100.0;
                format!(", strongest at {hz:.0} Hz ({share:.0} % of the power)")
            });
            format!(
                "heard     {:.2} s of sound at {level:.1} dBm0{tone}",
                heard.sound.as_secs_f64()
            )
        }
    });
    lines
}

fn outcome(summary: &CallSummary) -> String {
    match (summary.setup.answered, summary.status) {
        (Some(_), _) => "answered".to_owned(),
        (None, Some(status)) => format!("refused with {status}"),
        (None, None) => "not answered".to_owned(),
    }
}

fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1_000.0)
}

/// The summary for programs.
pub(crate) fn json(summary: &CallSummary) -> String {
    let ms = |time: Option<Duration>| time.map(|time| rounded(time.as_secs_f64() * 1_000.0));
    let media = &summary.media;
    let heard = &summary.heard;
    json!({
        "passed": summary.problem.is_none(),
        "problem": summary.problem.as_ref().map(ToString::to_string),
        "call_id": summary.call_id,
        "status": summary.status,
        "setup": {
            "trying_ms": ms(summary.setup.trying),
            "ringing_ms": ms(summary.setup.ringing),
            "answered_ms": ms(summary.setup.answered),
            "audio_ms": ms(summary.setup.audio),
        },
        "talked_ms": ms(Some(summary.talked)),
        "ended_by": summary.ended_by.map(|by| match by {
            EndedBy::Us => "us",
            EndedBy::FarEnd => "far_end",
            EndedBy::Fault => "fault",
        }),
        "bye_reason": summary.bye_reason,
        "retransmissions": summary.retransmissions,
        "reinvites": summary.reinvites,
        "media": {
            "codec": media.codec.map(|codec| codec.name()),
            "packets_sent": media.sent,
            "packets_received": media.received,
            "packets_expected": media.expected,
            "packets_lost": media.lost,
            "packets_late": media.late,
            "packets_foreign": media.foreign,
            "header_faults": {
                "payload_type": media.headers.payload_type,
                "sequence": media.headers.sequence,
                "timestamp": media.headers.timestamp,
                "ssrc": media.headers.ssrc,
                "marker": media.headers.marker,
                "event": media.headers.event,
                "first": media.headers.first.map(|fault| fault.to_string()),
            },
            "srtp_suite": media.srtp.map(SrtpSuite::as_str),
            "srtp_packets_refused": media.refused,
            "loss_percent": rounded(f64::from(media.loss_percent)),
            "jitter_ms": rounded(f64::from(media.jitter_ms)),
            "jitter_max_ms": rounded(f64::from(media.jitter_max_ms)),
            "round_trip_ms": ms(media.round_trip),
            "far_packets_lost": media.far_lost,
            "mos": media.mos.map(|mos| rounded(f64::from(mos))),
        },
        "heard": {
            "sound_ms": ms(Some(heard.sound)),
            "level_dbm0": heard.level_dbm0.map(|level| rounded(f64::from(level))),
            "frequency_hz": heard.frequency_hz.map(|hz| rounded(f64::from(hz))),
            "frequency_share": rounded(f64::from(heard.frequency_share)),
        },
        "digits_heard": summary.digits_heard,
    })
    .to_string()
}

/// With three decimals: more is noise.
fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caller::CallProblem;
    use crate::caller::HeaderFault;
    use crate::caller::HeaderFaults;
    use crate::caller::HeaderRule;
    use crate::caller::Heard;
    use crate::caller::MediaSummary;
    use crate::caller::SetupTimes;
    use crate::types::codec::Codec;

    fn answered() -> CallSummary {
        CallSummary {
            problem: None,
            call_id: "abc".to_owned(),
            status: Some(200),
            setup: SetupTimes {
                trying: Some(Duration::from_micros(1_240)),
                ringing: None,
                answered: Some(Duration::from_millis(12)),
                audio: Some(Duration::from_millis(34)),
            },
            talked: Duration::from_secs(3),
            ended_by: Some(EndedBy::FarEnd),
            bye_reason: Some("Q.850;cause=16".to_owned()),
            retransmissions: 0,
            reinvites: 1,
            media: MediaSummary {
                codec: Some(Codec::Pcma),
                sent: 150,
                received: 149,
                expected: 150,
                lost: 1,
                loss_percent: 0.666_7,
                jitter_ms: 0.25,
                jitter_max_ms: 1.5,
                round_trip: Some(Duration::from_micros(400)),
                far_lost: Some(0),
                mos: Some(4.37),
                ..MediaSummary::default()
            },
            heard: Heard {
                sound: Duration::from_millis(2_900),
                level_dbm0: Some(-9.1),
                frequency_hz: Some(440.2),
                frequency_share: 0.998,
            },
            digits_heard: "12#".to_owned(),
        }
    }

    #[test]
    fn an_answered_call_is_told_in_full() {
        assert_eq!(
            text(&answered()),
            "\
call      answered
call-id   abc
set-up    100 after 1.2 ms, 200 after 12.0 ms, first audio after 34.0 ms
ended     after 3.00 s by far end (Q.850;cause=16)
sent      150 packets of PCMA
received  149 packets, 1 lost, 0 late (0.67 % loss), jitter 0.2 ms (at most 1.5 ms)
far end   round trip 0.4 ms, 0 of ours lost
quality   MOS 4.37
heard     2.90 s of sound at -9.1 dBm0, strongest at 440 Hz (100 % of the power)
keys      12#
sip       retransmissions 0, offers within the call 1
verdict   passed"
        );
    }

    #[test]
    fn a_refused_call_says_why_and_nothing_of_audio() {
        let mut summary = answered();
        summary.status = Some(404);
        summary.setup = SetupTimes::default();
        summary.ended_by = None;
        summary.digits_heard.clear();
        summary.reinvites = 0;
        summary.problem = Some(CallProblem::Refused {
            status: 404,
            phrase: "Not Found".to_owned(),
            reason: Some("Q.850;cause=1;text=\"unknown_number\"".to_owned()),
        });
        assert_eq!(
            text(&summary),
            "\
call      refused with 404
call-id   abc
verdict   failed: refused with 404 Not Found (Q.850;cause=1;text=\"unknown_number\")"
        );
    }

    #[test]
    fn headers_that_are_not_as_they_should_be_are_told_with_the_first_of_them() {
        let first = HeaderFault {
            rule: HeaderRule::Marker,
            payload_type: 8,
            marker: false,
            sequence: 7,
            timestamp: 1_600,
            ssrc: 0xab,
            expected: Some((7, 160)),
        };
        let mut summary = answered();
        summary.media.headers =
            HeaderFaults { marker: 2, event: 1, first: Some(first), ..HeaderFaults::default() };
        let told =
            "marker: type 8, number 7, time 1600, SSRC 000000ab; next was number 7, time 160";
        let line = format!("\nheaders   3 packets not as they should be, first {told}\n");
        assert!(text(&summary).contains(&line), "{}", text(&summary));
        let value: serde_json::Value = serde_json::from_str(&json(&summary)).unwrap();
        let faults = &value["media"]["header_faults"];
        assert_eq!(faults["marker"], 2);
        assert_eq!(faults["ssrc"], 0);
        assert_eq!(faults["first"], told);
    }

    #[test]
    fn the_json_form_names_every_figure_with_its_unit() {
        let value: serde_json::Value = serde_json::from_str(&json(&answered())).unwrap();
        assert_eq!(value["passed"], true);
        assert_eq!(value["setup"]["trying_ms"], 1.24);
        assert_eq!(value["setup"]["ringing_ms"], serde_json::Value::Null);
        assert_eq!(value["media"]["mos"], 4.37);
        assert_eq!(value["ended_by"], "far_end");
        assert_eq!(value["heard"]["frequency_hz"], 440.2);
    }
}
