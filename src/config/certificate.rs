//! When a certificate is valid: the one thing the TLS library does not tell before a handshake.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

const INTEGER: u8 = 0x02;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The first and the last moment of a certificate in DER (RFC 5280 §4.1.2.5); `None` when it is none.
pub(crate) fn validity(der: &[u8]) -> Option<(Timestamp, Timestamp)> {
    let (certificate, _) = expect(der, SEQUENCE)?;
    let (to_be_signed, _) = expect(certificate, SEQUENCE)?;
    let rest = match expect(to_be_signed, VERSION) {
        Some((_, rest)) => rest,
        None => to_be_signed,
    };
    let (_serial, rest) = expect(rest, INTEGER)?;
    let (_algorithm, rest) = expect(rest, SEQUENCE)?;
    let (_issuer, rest) = expect(rest, SEQUENCE)?;
    let (validity, _) = expect(rest, SEQUENCE)?;
    let (first, rest) = time(validity)?;
    let (last, _) = time(rest)?;
    Some((first, last))
}

/// The content of the element at the front, and what follows it.
fn expect(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (own, content, rest) = element(bytes)?;
    (own == tag).then_some((content, rest))
}

/// One element: tag, content, and what follows it. Lengths of up to four bytes are read.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, bytes) = bytes.split_first()?;
    let (&first, bytes) = bytes.split_first()?;
    let (len, bytes) = match first {
        0..=0x7f => (usize::from(first), bytes),
        0x81..=0x84 => {
            let (digits, rest) = bytes.split_at_checked(usize::from(first & 0x7f))?;
            let len = digits.iter().fold(0_usize, |len, digit| len << 8 | usize::from(*digit));
            (len, rest)
        }
        _ => return None,
    };
    let (content, rest) = bytes.split_at_checked(len)?;
    Some((tag, content, rest))
}

fn time(bytes: &[u8]) -> Option<(Timestamp, &[u8])> {
    let (tag, content, rest) = element(bytes)?;
    let text = std::str::from_utf8(content).ok()?.strip_suffix('Z')?;
    let (year, text) = match tag {
        UTC_TIME => {
            let (year, text) = number(text, 2)?;
            // RFC 5280 §4.1.2.5.1: 50 and later are of the last century.
            (if year < 50 { 2000 + year } else { 1900 + year }, text)
        }
        GENERALIZED_TIME => number(text, 4)?,
        _ => return None,
    };
    let (month, text) = number(text, 2)?;
    let (day, text) = number(text, 2)?;
    let (hour, text) = number(text, 2)?;
    let (minute, text) = number(text, 2)?;
    let (second, text) = number(text, 2)?;
    let part = |value: i16| i8::try_from(value).ok();
    let (month, day) = (part(month)?, part(day)?);
    let (hour, minute, second) = (part(hour)?, part(minute)?, part(second)?);
    let date = DateTime::new(year, month, day, hour, minute, second, 0).ok()?;
    let zoned = date.to_zoned(TimeZone::UTC).ok()?;
    text.is_empty().then_some((zoned.timestamp(), rest))
}

fn number(text: &str, digits: usize) -> Option<(i16, &str)> {
    let (digits, rest) = text.split_at_checked(digits)?;
    digits.bytes().all(|b| b.is_ascii_digit()).then_some((digits.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::CertificateParams;
    use rcgen::KeyPair;
    use rcgen::date_time_ymd;

    fn certificate(from: i32, to: i32) -> Vec<u8> {
        let mut params = CertificateParams::new(["sbc.example".to_owned()]).unwrap();
        params.not_before = date_time_ymd(from, 2, 3);
        params.not_after = date_time_ymd(to, 11, 30);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn both_forms_of_time_are_read() {
        for (from, to) in [(1999, 2049), (2020, 2051), (1950, 2100)] {
            let (first, last) = validity(&certificate(from, to)).unwrap();
            assert_eq!(first.to_string(), format!("{from}-02-03T00:00:00Z"));
            assert_eq!(last.to_string(), format!("{to}-11-30T00:00:00Z"));
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_time() {
        let whole = certificate(2020, 2030);
        for len in 0..whole.len() {
            assert_eq!(validity(&whole[..len]), None, "{len}");
        }
        for at in 0..whole.len().min(200) {
            let mut damaged = whole.clone();
            damaged[at] ^= 0xff;
            // It may be read or not; it must not end the program.
            let _: Option<_> = validity(&damaged);
        }
        assert_eq!(validity(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0]), None);
    }
}
