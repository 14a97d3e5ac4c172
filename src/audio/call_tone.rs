//! The tones by which exchanges tell how a call fares, as each country's make them (ITU-T E.180, with its Supplement 2),
//! and the milliwatt by which levels are measured (ITU-T G.711, O.6).

use crate::audio::g711;
use crate::audio::ringback::RingbackForm;
use crate::audio::tone::Tone;
use std::fmt;
use std::str::FromStr;

/// Samples in a millisecond.
const PER_MS: usize = 8;

/// A tone that a caller can be let hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallTone {
    kind: CallToneKind,
    /// Two letters (ISO 3166-1), in capitals; `None`: that of whoever hears it.
    country: Option<[u8; 2]>,
}

/// What a tone means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallToneKind {
    /// It rings at the other end.
    Ringback,
    /// The other end is engaged.
    Busy,
    /// There is no way to the other end.
    Congestion,
    /// 1004 Hz at 0 dBm0, as North America measures.
    Milliwatt,
    /// 1020 Hz at 0 dBm0 (ITU-T O.6).
    Milliwatt1020,
}

impl CallToneKind {
    const ALL: [Self; 5] =
        [Self::Ringback, Self::Busy, Self::Congestion, Self::Milliwatt, Self::Milliwatt1020];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Ringback => "ringback",
            Self::Busy => "busy",
            Self::Congestion => "congestion",
            Self::Milliwatt => "milliwatt",
            Self::Milliwatt1020 => "milliwatt_1020",
        }
    }
}

/// The text names no tone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "it is tone:ringback, tone:busy, tone:congestion, tone:milliwatt or tone:milliwatt_1020, and a country of two \
     letters may follow, as in tone:busy:IN"
)]
pub struct NotACallTone;

impl FromStr for CallTone {
    type Err = NotACallTone;

    fn from_str(text: &str) -> Result<Self, NotACallTone> {
        let name = text.strip_prefix("tone:").ok_or(NotACallTone)?;
        let (name, country) = name.split_once(':').map_or((name, None), |(a, b)| (a, Some(b)));
        let mut kinds = CallToneKind::ALL.into_iter();
        let kind = kinds.find(|kind| kind.as_str() == name).ok_or(NotACallTone)?;
        let country = country.map(letters).transpose()?;
        Ok(Self { kind, country })
    }
}

fn letters(text: &str) -> Result<[u8; 2], NotACallTone> {
    let letters: [u8; 2] = text.as_bytes().try_into().map_err(|_| NotACallTone)?;
    let is_country = letters.iter().all(u8::is_ascii_uppercase);
    is_country.then_some(letters).ok_or(NotACallTone)
}

impl fmt::Display for CallTone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tone:{}", self.kind.as_str())?;
        match self.country {
            Some([one, two]) => write!(f, ":{}{}", char::from(one), char::from(two)),
            None => Ok(()),
        }
    }
}

impl CallTone {
    /// One period of it, µ-law at 8 kHz, as it sounds in its country, else in this one: played again and again, it has no
    /// seam.
    #[must_use]
    pub fn period(self, country: &str) -> Box<[u8]> {
        let own = self.country.map(|letters| letters.map(char::from).iter().collect::<String>());
        let country = own.as_deref().unwrap_or(country).to_ascii_uppercase();
        let Form { parts, cadence_ms } = form(self.kind, &country);
        let mut audio = Vec::new();
        for (turn, ms) in cadence_ms.iter().enumerate() {
            let mut samples = vec![0_i16; *ms as usize * PER_MS];
            // Each sound begins where a sine does.
            let tones = parts.iter().filter(|_| turn % 2 == 0);
            for (hz, peak) in tones {
                let mut tone = Tone::new(*hz, *peak);
                for sample in &mut samples {
                    *sample = sample.saturating_add(tone.sample());
                }
            }
            audio.extend(samples.iter().map(|sample| g711::ulaw_encode(*sample)));
        }
        debug_assert!(!audio.is_empty(), "a tone has a sound");
        audio.into()
    }
}

/// How a tone sounds.
#[derive(Clone, Copy)]
struct Form {
    /// What sounds at once: frequency in Hz and peak.
    parts: &'static [(u16, i16)],
    /// Sound and pause in turn, in ms; then again.
    cadence_ms: &'static [u32],
}

/// Peak of a sine at 0 dBm0: 3.17 dB below the loudest that µ-law has.
const DBM0: i16 = 22_655;
/// One of two frequencies: -16 dBm0 each.
const ONE_OF_TWO: i16 = 3_600;
/// One frequency alone: -13 dBm0.
const ALONE: i16 = 5_070;

const AT_400: &[(u16, i16)] = &[(400, ALONE)];
const AT_425: &[(u16, i16)] = &[(425, ALONE)];
const AT_440: &[(u16, i16)] = &[(440, ALONE)];
const AT_450: &[(u16, i16)] = &[(450, ALONE)];
const AT_480_620: &[(u16, i16)] = &[(480, ONE_OF_TWO), (620, ONE_OF_TWO)];

fn form(kind: CallToneKind, country: &str) -> Form {
    match kind {
        CallToneKind::Ringback => ringback(country),
        CallToneKind::Busy => busy(country),
        CallToneKind::Congestion => congestion(country),
        CallToneKind::Milliwatt => of(&[(1_004, DBM0)], &[1_000]),
        CallToneKind::Milliwatt1020 => of(&[(1_020, DBM0)], &[1_000]),
    }
}

const fn of(parts: &'static [(u16, i16)], cadence_ms: &'static [u32]) -> Form {
    Form { parts, cadence_ms }
}

fn ringback(country: &str) -> Form {
    let ringing = RingbackForm::of_country(country);
    Form { parts: ringing.parts(), cadence_ms: ringing.cadence_ms() }
}

fn busy(country: &str) -> Form {
    match country {
        "US" | "CA" | "PR" | "DO" | "JM" | "BS" | "BB" | "TT" | "HK" | "KR" => {
            of(AT_480_620, &[500, 500])
        }
        "GB" | "IM" | "JE" | "GG" | "AE" => of(AT_400, &[375, 375]),
        "IN" => of(AT_400, &[750, 750]),
        "NZ" | "JP" | "ZA" => of(AT_400, &[500, 500]),
        "AU" => of(AT_425, &[375, 375]),
        "SG" => of(AT_425, &[750, 750]),
        "CN" => of(AT_450, &[350, 350]),
        "FR" => of(AT_440, &[500, 500]),
        "ES" => of(AT_425, &[200, 200]),
        "DE" => of(AT_425, &[480, 480]),
        "BR" => of(AT_425, &[250, 250]),
        _ => of(AT_425, &[500, 500]),
    }
}

fn congestion(country: &str) -> Form {
    match country {
        "US" | "CA" | "PR" | "DO" | "JM" | "BS" | "BB" | "TT" | "HK" => of(AT_480_620, &[250, 250]),
        "KR" => of(AT_480_620, &[300, 200]),
        "GB" | "IM" | "JE" | "GG" | "AE" => of(AT_400, &[400, 350, 225, 525]),
        "IN" | "NZ" | "ZA" => of(AT_400, &[250, 250]),
        "JP" => of(AT_400, &[500, 500]),
        "AU" => of(AT_425, &[375, 375]),
        "CN" => of(AT_450, &[700, 700]),
        "FR" => of(AT_440, &[250, 250]),
        "ES" => of(AT_425, &[200, 200, 200, 200, 200, 600]),
        "DE" => of(AT_425, &[240, 240]),
        "IT" => of(AT_425, &[200, 200]),
        _ => of(AT_425, &[250, 250]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::tone::share_at;

    fn tone(text: &str) -> CallTone {
        text.parse().unwrap()
    }

    fn samples(text: &str, country: &str) -> Vec<i16> {
        tone(text).period(country).iter().map(|byte| g711::ulaw_decode(*byte)).collect()
    }

    /// Lengths of sound and pause in turn over one period, in ms.
    fn cadence(text: &str) -> Vec<usize> {
        let samples = samples(text, "");
        let mut lengths = vec![0];
        let mut sounds = true;
        for piece in samples.chunks(5 * PER_MS) {
            let now = piece.iter().any(|sample| sample.abs() > 300);
            if now != sounds {
                lengths.push(0);
                sounds = now;
            }
            *lengths.last_mut().unwrap() += 5;
        }
        lengths
    }

    #[test]
    fn each_country_is_busy_and_congested_in_its_own_time_and_pitch() {
        for (text, lengths, pitches) in [
            ("tone:busy:US", &[500, 500][..], &[480, 620][..]),
            ("tone:congestion:US", &[250, 250], &[480, 620]),
            ("tone:busy:GB", &[375, 375], &[400]),
            ("tone:congestion:GB", &[400, 350, 225, 525], &[400]),
            ("tone:busy:IN", &[750, 750], &[400]),
            ("tone:congestion:IN", &[250, 250], &[400]),
            ("tone:busy", &[500, 500], &[425]),
            ("tone:congestion:ES", &[200, 200, 200, 200, 200, 600], &[425]),
            ("tone:ringback:FR", &[1_500, 3_500], &[440]),
        ] {
            assert_eq!(cadence(text), lengths, "{text}");
            let sound = &samples(text, "")[..lengths[0] * PER_MS];
            let share: f32 = pitches.iter().map(|hz| share_at(sound, *hz)).sum();
            assert!(share > 0.95, "{text}: {share}");
        }
    }

    #[test]
    fn a_tone_is_that_of_who_hears_it_where_it_names_no_country() {
        assert_eq!(tone("tone:busy").period("in"), tone("tone:busy:IN").period("US"));
        assert_ne!(tone("tone:busy").period("IN"), tone("tone:busy").period("US"));
    }

    #[test]
    fn a_milliwatt_is_one_without_a_seam() {
        for (text, hz) in [("tone:milliwatt", 1_004), ("tone:milliwatt_1020", 1_020)] {
            let period = samples(text, "US");
            let twice = [period.clone(), period.clone()].concat();
            assert!(share_at(&twice, hz) > 0.999, "{text}: {}", share_at(&twice, hz));
            let power = period.iter().map(|sample| f64::from(*sample).powi(2)).sum::<f64>();
            // 0 dBm0 is a sine 3.14 dB (A-law), 3.17 dB (µ-law) below full scale.
            let dbm0 = 10.0 * (power / period.len() as f64 / (22_655.0_f64.powi(2) / 2.0)).log10();
            assert!(dbm0.abs() < 0.05, "{text}: {dbm0} dBm0");
        }
    }

    #[test]
    fn what_names_no_tone_is_refused_and_names_come_back() {
        for good in ["tone:busy", "tone:congestion:DE", "tone:milliwatt_1020"] {
            assert_eq!(tone(good).to_string(), good);
        }
        for bad in [
            "busy",
            "tone:",
            "tone:dial",
            "tone:busy:",
            "tone:busy:usa",
            "tone:busy:us",
            "tone:busy:U1",
            "tone:busy:US:",
        ] {
            assert_eq!(bad.parse::<CallTone>(), Err(NotACallTone), "{bad}");
        }
    }
}
