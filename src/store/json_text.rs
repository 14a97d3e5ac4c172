//! JSON text of call records, written without a tree of values or a serializer.

use jiff::Timestamp;
use serde_json::Value;
use std::fmt::Display;
use std::io::Write as _;
use std::net::SocketAddr;
use uuid::Uuid;

/// Room that is kept for the next text.
const KEPT_BYTES: usize = 64 * 1024;

/// The beginning of a time, up to and with the point before its fraction, in its quote.
const SECOND_BYTES: usize = "\"2026-11-22T23:59:59.".len();
/// A time in microseconds, in its quotes.
const TIME_BYTES: usize = SECOND_BYTES + "000007Z\"".len();
/// An identity in its quotes.
const UUID_BYTES: usize = "\"00000000-0000-0000-0000-000000000007\"".len();

/// A key as it stands behind another member, for [`JsonText::key`]: it is written in one piece.
macro_rules! key {
    ($key:literal) => {
        concat!(",\"", $key, "\":")
    };
}
pub(crate) use key;

/// JSON under construction. What is written between [`Self::open`] and [`Self::close`] is the caller's
/// care; commas are set here.
#[derive(Debug, Default)]
pub(crate) struct JsonText {
    bytes: Vec<u8>,
    /// The second of the last time, and its text up to the fraction: the times of a record are close
    /// to each other.
    second: Option<(i64, [u8; SECOND_BYTES])>,
}

impl JsonText {
    /// Begins anew. The room stays, up to a bound, and so does the last second: the next text's times
    /// are close to it too.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Begins an object or an array, as a value or as an element of an array.
    pub(crate) fn open(&mut self, bracket: char) {
        self.separate();
        self.bytes.push(bracket as u8);
    }

    pub(crate) fn close(&mut self, bracket: char) {
        self.bytes.push(bracket as u8);
    }

    /// True where nothing comes before in what encloses this.
    fn is_first(&self) -> bool {
        matches!(self.bytes.last(), None | Some(b'{' | b'[' | b':'))
    }

    /// A comma, unless nothing comes before.
    fn separate(&mut self) {
        if !self.is_first() {
            self.bytes.push(b',');
        }
    }

    /// A key, as [`key!`] spells one that needs no escapes; its value is to follow.
    pub(crate) fn key(&mut self, key: &'static str) -> &mut Self {
        let comma = usize::from(self.is_first());
        self.bytes.extend_from_slice(key.as_bytes().get(comma..).unwrap_or_default());
        self
    }

    /// A word of ours, which needs no escapes and so is not looked through.
    pub(crate) fn word(&mut self, word: &'static str) {
        debug_assert!(!word.bytes().any(needs_escape), "{word}");
        self.bytes.push(b'"');
        self.bytes.extend_from_slice(word.as_bytes());
        self.bytes.push(b'"');
    }

    /// A text; NULs in it become U+FFFD, for PostgreSQL takes none.
    pub(crate) fn text(&mut self, text: &str) {
        self.bytes.push(b'"');
        let mut rest = text.as_bytes();
        // Looked through as a whole first, which processors do many bytes at once.
        if !rest.iter().fold(false, |needs, &byte| needs | needs_escape(byte)) {
            self.bytes.extend_from_slice(rest);
            self.bytes.push(b'"');
            return;
        }
        while let Some(at) = rest.iter().position(|&byte| needs_escape(byte)) {
            let (plain, after) = rest.split_at(at);
            self.bytes.extend_from_slice(plain);
            let Some((&special, after)) = after.split_first() else { break };
            match special {
                b'"' | b'\\' => self.bytes.extend_from_slice(&[b'\\', special]),
                b'\0' => self.bytes.extend_from_slice("\u{fffd}".as_bytes()),
                // Writing to a vector cannot fail.
                _ => write!(self.bytes, "\\u{special:04x}").unwrap_or_default(),
            }
            rest = after;
        }
        self.bytes.extend_from_slice(rest);
        self.bytes.push(b'"');
    }

    /// A text that needs no escapes, as it shows itself.
    pub(crate) fn shown(&mut self, value: impl Display) {
        write!(self.bytes, "\"{value}\"").unwrap_or_default();
    }

    pub(crate) fn address(&mut self, address: SocketAddr) {
        let SocketAddr::V4(address) = address else { return self.shown(address) };
        let mut before = b'"';
        for octet in address.ip().octets() {
            self.bytes.push(before);
            self.number(u64::from(octet));
            before = b'.';
        }
        self.bytes.push(b':');
        self.number(u64::from(address.port()));
        self.bytes.push(b'"');
    }

    pub(crate) fn uuid(&mut self, id: Uuid) {
        let mut quoted = [b'"'; UUID_BYTES];
        if let Some(text) = quoted.get_mut(1..UUID_BYTES - 1) {
            id.hyphenated().encode_lower(text);
        }
        self.bytes.extend_from_slice(&quoted);
    }

    pub(crate) fn bool(&mut self, value: bool) {
        self.bytes.extend_from_slice(if value { b"true" } else { b"false" });
    }

    pub(crate) fn number(&mut self, mut number: u64) {
        let mut digits = [b'0'; 20];
        let mut from = digits.len();
        for place in digits.iter_mut().rev() {
            *place = b'0' + (number % 10) as u8;
            number /= 10;
            from -= 1;
            if number == 0 {
                break;
            }
        }
        self.bytes.extend_from_slice(digits.get(from..).unwrap_or_default());
    }

    /// A time in microseconds, as RFC 3339 writes it. What is finer is left out, for PostgreSQL would round it.
    pub(crate) fn time(&mut self, time: Timestamp) {
        let (second, nanos) = (time.as_second(), time.subsec_nanosecond());
        let known = self.second.filter(|(known, _)| *known == second).map(|(_, text)| text);
        let (Some(begin), Ok(nanos)) = (known.or_else(|| begin_of(second)), u32::try_from(nanos))
        else {
            return self.shown(Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time));
        };
        self.second = Some((second, begin));
        let mut text = [0; TIME_BYTES];
        if let Some((before, rest)) = text.split_first_chunk_mut::<SECOND_BYTES>() {
            *before = begin;
            let [micros @ .., zone, quote] = rest else { return };
            write_digits(nanos / 1_000, micros);
            (*zone, *quote) = (b'Z', b'"');
        }
        self.bytes.extend_from_slice(&text);
    }

    /// Anything else.
    pub(crate) fn value(&mut self, value: &Value) {
        write!(self.bytes, "{value}").unwrap_or_default();
    }
}

/// How the times of a second begin; `None` before 1970, where fractions count from the other end.
fn begin_of(second: i64) -> Option<[u8; SECOND_BYTES]> {
    let whole = Timestamp::from_second(second).ok().filter(|_| second >= 0)?.to_string();
    format!("\"{}.", whole.strip_suffix('Z')?).into_bytes().try_into().ok()
}

/// The last decimal digits of `number`, as many as there are places.
fn write_digits(mut number: u32, places: &mut [u8]) {
    for place in places.iter_mut().rev() {
        *place = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

const fn needs_escape(byte: u8) -> bool {
    byte < b' ' || byte == b'"' || byte == b'\\'
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_written_reads_back_as_it_was() {
        let times = [
            "2026-11-21T23:59:59.000007Z",
            "1970-01-01T00:00:00Z",
            "1969-12-31T23:59:59.5Z",
            "2026-11-21T23:59:59.999999999Z",
            "1969-12-31T23:59:58.000001999Z",
        ];
        let times = times.map(|time| time.parse::<Timestamp>().expect("a time"));
        let addresses = ["[::1]:5060", "0.0.0.0:0", "192.0.2.107:65535", "10.20.3.255:5060"];
        let odd = "a\"b\\c\n\u{1}\u{1f}\t\u{7f}ü€😀/";
        let mut text = JsonText::default();
        text.open('{');
        text.key(key!("text")).text(odd);
        text.key(key!("none")).text("");
        text.key(key!("word")).word("caller");
        text.key(key!("list")).open('[');
        for time in times {
            text.open('{');
            text.key(key!("at")).time(time);
            text.close('}');
        }
        text.close(']');
        text.key(key!("empty")).open('[');
        text.close(']');
        text.key(key!("numbers")).open('{');
        text.key(key!("zero")).number(0);
        text.key(key!("most")).number(u64::MAX);
        text.key(key!("id")).uuid(Uuid::from_u128(7));
        text.key(key!("is")).bool(true);
        text.key(key!("half")).value(&json!(0.5));
        text.close('}');
        text.key(key!("addresses")).open('[');
        for address in addresses {
            text.open('{');
            text.key(key!("of")).address(address.parse().expect("one"));
            text.close('}');
        }
        text.close(']');
        text.close('}');
        let read: Value = serde_json::from_slice(text.as_bytes()).expect("JSON");
        assert_eq!(read["text"], odd);
        assert_eq!(read["none"], "");
        assert_eq!(read["word"], "caller");
        for (at, time) in times.iter().enumerate() {
            let text = read["list"][at]["at"].as_str().expect("a text");
            let read = text.parse::<Timestamp>().expect("a time");
            assert_eq!(read, Timestamp::from_microsecond(time.as_microsecond()).expect("one"));
        }
        assert_eq!(read["empty"], json!([]));
        let id = "00000000-0000-0000-0000-000000000007";
        let numbers = json!({"zero": 0, "most": u64::MAX, "id": id, "is": true, "half": 0.5});
        assert_eq!(read["numbers"], numbers);
        let addresses = addresses.map(|address| json!({"of": address}));
        assert_eq!(read["addresses"], json!(addresses));
    }

    #[test]
    fn a_nul_is_replaced() {
        let mut text = JsonText::default();
        text.text("a\0\"b\0");
        assert_eq!(text.as_bytes(), "\"a\u{fffd}\\\"b\u{fffd}\"".as_bytes());
    }

    #[test]
    fn one_text_after_another_is_as_if_it_were_the_first() {
        let times =
            ["2026-11-21T23:59:59.000007Z", "2026-11-21T23:59:59.5Z", "2026-11-22T00:00:00Z"];
        let mut again = JsonText::default();
        for (number, time) in times.into_iter().enumerate() {
            let time: Timestamp = time.parse().expect("a time");
            let mut first = JsonText::default();
            for text in [&mut first, &mut again] {
                text.clear();
                text.open('{');
                text.key(key!("at")).time(time);
                text.key(key!("long")).text(&"a".repeat(number * KEPT_BYTES));
                text.close('}');
            }
            assert_eq!(again.as_bytes(), first.as_bytes());
        }
        again.clear();
        assert!(again.bytes.capacity() <= KEPT_BYTES + 64, "{}", again.bytes.capacity());
    }
}
