//! A call's signalling as a ladder of text: one line a message, one column a party. Where two legs share a column, each
//! has a number, and a line below says which one it is.

use crate::sip::message::peek;
use crate::sip::trace::Trace;
use crate::sip::trace::TracedMessage;
use crate::sip::trace::Way;
use std::net::SocketAddr;

/// Most peers that get a column of their own; further ones share the last.
const COLUMNS_MAX: usize = 4;
/// The width of an arrow between two columns: at least, and at most where a label or an address is longer.
const WIDTH_MIN: usize = 34;
const WIDTH_MAX: usize = 70;
/// What an arrow has beside its label: a bar, its head, two blanks, and two dashes at either end.
const ARROW: usize = 8;
/// Most characters of what a leg begins with, and of its Call-ID.
const LEG_MAX: usize = 80;

/// A leg that shares its column with another.
struct Leg<'t> {
    call_id: &'t [u8],
    /// Its first message.
    first: &'t TracedMessage,
}

/// Draws the ladder: ourselves at the left, each peer in its column, times in seconds from the first
/// message. Ends with a line that says how many messages are missing, if any are.
#[must_use]
pub fn draw(trace: &Trace) -> String {
    let mut peers: Vec<SocketAddr> = Vec::new();
    for message in &trace.messages {
        if !peers.contains(&message.remote) && peers.len() < COLUMNS_MAX {
            peers.push(message.remote);
        }
    }
    let column_of = |message: &TracedMessage| {
        let own = peers.iter().position(|peer| *peer == message.remote);
        own.unwrap_or(peers.len().saturating_sub(1)) + 1
    };
    let legs = shared(trace, column_of);
    let mark = |message: &TracedMessage| mark(&legs, message);
    // As wide as the longest label needs it, which has all columns up to its own.
    let labels = trace.messages.iter().map(|message| {
        let label = label(&message.bytes).chars().count() + mark(message).len();
        (label + ARROW).div_ceil(column_of(message))
    });
    let addresses = peers.iter().map(|peer| peer.to_string().len() + 2);
    let width = labels.chain(addresses).max().unwrap_or(0).clamp(WIDTH_MIN, WIDTH_MAX);
    let mut text = String::new();
    text.push_str(&format!("{:>9}  {:<width$}", "", "tandem"));
    for peer in &peers {
        text.push_str(&format!("{:<width$}", peer.to_string()));
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    let start = trace.messages.first().map(|message| message.at);
    for message in &trace.messages {
        let at = message.at.since(start.unwrap_or(message.at)).as_secs_f64();
        let arrow = arrow(message, &mark(message), column_of(message) * width);
        text.push_str(&format!("{at:>9.3}  {arrow}\n"));
    }
    for (leg, number) in legs.iter().zip(1..) {
        text.push_str(&format!("{:>9}  #{number}: {}\n", "", leg.text()));
    }
    if trace.left_out > 0 {
        text.push_str(&format!(
            "{:>9}  ({} messages in between were not kept)\n",
            "", trace.left_out
        ));
    }
    text
}

/// The legs that share a column, in the order in which they begin.
fn shared(trace: &Trace, column_of: impl Fn(&TracedMessage) -> usize) -> Vec<Leg<'_>> {
    let mut places: Vec<(usize, Leg<'_>)> = Vec::new();
    for message in &trace.messages {
        let Some(call_id) = peek::call_id_of(&message.bytes) else { continue };
        let column = column_of(message);
        if !places.iter().any(|(at, leg)| *at == column && leg.call_id == call_id) {
            places.push((column, Leg { call_id, first: message }));
        }
    }
    let columns: Vec<usize> = places.iter().map(|(column, _)| *column).collect();
    let is_shared = |column| columns.iter().filter(|other| **other == column).count() > 1;
    let mut legs: Vec<Leg<'_>> = Vec::new();
    for (column, leg) in places {
        // One that goes on at another address is the same leg.
        if is_shared(column) && legs.iter().all(|known| known.call_id != leg.call_id) {
            legs.push(leg);
        }
    }
    legs
}

/// What tells the messages of a leg from those of others in its column.
fn mark(legs: &[Leg<'_>], message: &TracedMessage) -> String {
    let call_id = peek::call_id_of(&message.bytes);
    let at = legs.iter().position(|leg| Some(leg.call_id) == call_id);
    at.map(|at| format!(" #{}", at + 1)).unwrap_or_default()
}

impl Leg<'_> {
    /// What it begins with, with whom, and its Call-ID.
    fn text(&self) -> String {
        let TracedMessage { way, remote, bytes, .. } = self.first;
        let first = first_line(bytes);
        let begin = first.strip_suffix(b" SIP/2.0").unwrap_or(first);
        let way = match way {
            Way::In => "from",
            Way::Out => "to",
        };
        format!("{} {way} {remote}, Call-ID {}", plain(begin), plain(self.call_id))
    }
}

/// Text of a peer's for terminals, which must not obey it.
fn plain(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    text.chars().filter(|c| !c.is_control()).take(LEG_MAX).collect()
}

/// An arrow of this width, labelled with what the message is, and with the mark of its leg.
fn arrow(message: &TracedMessage, mark: &str, width: usize) -> String {
    let most = width.saturating_sub(ARROW + mark.len());
    let label: String = label(&message.bytes).chars().take(most).chain(mark.chars()).collect();
    let right = width.saturating_sub(label.chars().count() + ARROW - 2);
    let line = format!("-- {label} {}", "-".repeat(right));
    match message.way {
        Way::Out => format!("|{line}>|"),
        Way::In => format!("|<{line}|"),
    }
}

fn first_line(message: &[u8]) -> &[u8] {
    message.split(|&byte| byte == b'\n').next().unwrap_or(&[]).trim_ascii()
}

/// Method or status, with the CSeq that tells what belongs together.
fn label(message: &[u8]) -> String {
    let first = String::from_utf8_lossy(first_line(message));
    let what = match first.strip_prefix("SIP/2.0 ") {
        Some(status) => status,
        None => first.split(' ').next().unwrap_or(""),
    };
    let what: String = what.chars().filter(|c| !c.is_control()).collect();
    let has_body = peek::content_length_of(message).ok().flatten().is_some_and(|len| len > 0);
    let cseq = peek::cseq_of(message).map(String::from_utf8_lossy).unwrap_or_default();
    let cseq: String = cseq.chars().filter(|c| !c.is_control()).collect();
    format!("{what}{} ({cseq})", if has_body { " +body" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::moment::Moment;
    use crate::types::transport::Transport;
    use bytes::Bytes;

    fn message(at_ms: u64, way: Way, peer: u8, text: &str) -> TracedMessage {
        TracedMessage {
            at: Moment::from_millis(at_ms),
            way,
            transport: Transport::Udp,
            local: SocketAddr::from(([127, 0, 0, 1], 5060)),
            remote: SocketAddr::from(([127, 0, 0, peer], 5060)),
            bytes: Bytes::copy_from_slice(text.as_bytes()),
        }
    }

    #[test]
    fn each_peer_has_its_column_and_each_message_its_line() {
        let trace = Trace {
            messages: vec![
                message(
                    1_000,
                    Way::In,
                    2,
                    "INVITE sip:a@b SIP/2.0\r\nCSeq: 1 INVITE\r\nContent-Length: 9\r\n\r\n",
                ),
                message(1_001, Way::Out, 2, "SIP/2.0 100 Trying\r\nCSeq: 1 INVITE\r\n\r\n"),
                message(1_250, Way::Out, 3, "INVITE sip:c@d SIP/2.0\r\nCSeq: 7 INVITE\r\n\r\n"),
            ],
            left_out: 2,
        };
        assert_eq!(
            draw(&trace).lines().collect::<Vec<_>>(),
            [
                "           tandem                            127.0.0.2:5060                    127.0.0.3:5060",
                "    0.000  |<-- INVITE +body (1 INVITE) -----|",
                "    0.001  |-- 100 Trying (1 INVITE) ------->|",
                "    0.250  |-- INVITE (7 INVITE) --------------------------------------------->|",
                "           (2 messages in between were not kept)",
            ]
        );
    }

    #[test]
    fn legs_with_the_same_peer_are_told_apart_and_named() {
        let invite = |to: &str, id: &str| {
            format!("INVITE sip:{to} SIP/2.0\r\nCall-ID: {id}\r\nCSeq: 1 INVITE\r\n\r\n")
        };
        let ok = |id: &str| format!("SIP/2.0 200 OK\r\ni: {id}\r\nCSeq: 1 INVITE\r\n\r\n");
        let messages = vec![
            message(0, Way::In, 2, &invite("a@b", "near@c")),
            message(0, Way::Out, 3, &invite("alone@d", "alone@e")),
            message(0, Way::Out, 2, &invite("desk\u{1b}@d", "far@e")),
            message(0, Way::In, 2, &ok("far@e")),
            message(0, Way::Out, 2, &ok("near@c")),
        ];
        let text = draw(&Trace { messages, left_out: 1 });
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[1..],
            [
                "    0.000  |<-- INVITE (1 INVITE) #1 --------|",
                "    0.000  |-- INVITE (1 INVITE) --------------------------------------------->|",
                "    0.000  |-- INVITE (1 INVITE) #2 -------->|",
                "    0.000  |<-- 200 OK (1 INVITE) #2 --------|",
                "    0.000  |-- 200 OK (1 INVITE) #1 -------->|",
                "           #1: INVITE sip:a@b from 127.0.0.2:5060, Call-ID near@c",
                "           #2: INVITE sip:desk@d to 127.0.0.2:5060, Call-ID far@e",
                "           (1 messages in between were not kept)",
            ],
            "{text}"
        );
        // However long a label is, its mark stands.
        let endless = format!("SIP/2.0 500 {}\r\nCall-ID: two\r\n\r\n", "no ".repeat(500));
        let messages =
            vec![message(0, Way::In, 2, &invite("a@b", "one")), message(0, Way::In, 2, &endless)];
        let text = draw(&Trace { messages, left_out: 0 });
        let long = text.lines().nth(2).unwrap();
        assert!(long.len() == 12 + WIDTH_MAX && long.contains(" #2 "), "{text}");
    }

    #[test]
    fn long_labels_and_addresses_widen_the_columns_up_to_a_bound() {
        let refusal = "SIP/2.0 407 Proxy Authentication Required\r\nCSeq: 1 INVITE\r\n\r\n";
        let far = "INVITE sip:c@d SIP/2.0\r\nCSeq: 7 INVITE\r\n\r\n";
        let messages = vec![message(0, Way::Out, 2, refusal), message(1, Way::In, 3, far)];
        let text = draw(&Trace { messages, left_out: 0 });
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[1].ends_with("|-- 407 Proxy Authentication Required (1 INVITE) -->|"),
            "{text}"
        );
        // Each arrow ends below the first letter of its peer's address.
        let columns = ["127.0.0.2", "127.0.0.3"].map(|peer| lines[0].find(peer).unwrap());
        assert_eq!([lines[1].len() - 1, lines[2].len() - 1], columns, "{text}");

        let mut six = message(0, Way::In, 2, far);
        six.remote = "[2001:db8:1111:2222:3333:4444:5555:6666]:65060".parse().unwrap();
        let text = draw(&Trace { messages: vec![six, message(1, Way::In, 3, far)], left_out: 0 });
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].contains(":6666]:65060  127.0.0.3:5060"), "{text}");

        let endless = format!("SIP/2.0 500 {}\r\nCSeq: 1 INVITE\r\n\r\n", "no ".repeat(500));
        let text = draw(&Trace { messages: vec![message(0, Way::In, 2, &endless)], left_out: 0 });
        let last = text.lines().last().unwrap();
        assert_eq!(last.len(), 12 + WIDTH_MAX, "{text}");
    }

    #[test]
    fn an_empty_trace_and_odd_bytes_draw_something() {
        assert_eq!(draw(&Trace::default()), "           tandem\n");
        let odd = Trace {
            messages: vec![message(0, Way::In, 2, "\u{1b}[2J\0\r\n"), message(0, Way::In, 2, "")],
            left_out: 0,
        };
        let text = draw(&odd);
        assert_eq!(text.lines().count(), 3);
        assert!(!text.contains('\u{1b}'), "a terminal must not obey what a peer sent");
    }
}
