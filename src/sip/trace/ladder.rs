//! A call's signalling as a ladder of text: one line a message, one column a party.

use crate::sip::message::peek;
use crate::sip::trace::Trace;
use crate::sip::trace::TracedMessage;
use crate::sip::trace::Way;
use std::net::SocketAddr;

/// Most peers that get a column of their own; further ones share the last.
const COLUMNS_MAX: usize = 4;
/// The width of an arrow between two columns.
const WIDTH: usize = 34;

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
    let mut text = String::new();
    text.push_str(&format!("{:>9}  {:<WIDTH$}", "", "tandem"));
    for peer in &peers {
        text.push_str(&format!("{:<WIDTH$}", peer.to_string()));
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    let start = trace.messages.first().map(|message| message.at);
    for message in &trace.messages {
        let at = message.at.since(start.unwrap_or(message.at));
        let column = peers.iter().position(|peer| *peer == message.remote);
        let column = column.unwrap_or(peers.len().saturating_sub(1));
        text.push_str(&format!("{:>9.3}  {}\n", at.as_secs_f64(), arrow(message, column + 1)));
    }
    if trace.left_out > 0 {
        text.push_str(&format!(
            "{:>9}  ({} messages in between were not kept)\n",
            "", trace.left_out
        ));
    }
    text
}

/// An arrow over `columns` columns, labelled with what the message is.
fn arrow(message: &TracedMessage, columns: usize) -> String {
    let width = columns * WIDTH - 2;
    let label = label(&message.bytes);
    let label: String = label.chars().take(width.saturating_sub(6)).collect();
    let dashes = width - label.chars().count() - 2;
    let (left, right) = (2, dashes - 2);
    let line = format!("{} {label} {}", "-".repeat(left), "-".repeat(right));
    match message.way {
        Way::Out => format!("|{line}>|"),
        Way::In => format!("|<{line}|"),
    }
}

/// Method or status, with the CSeq that tells what belongs together.
fn label(message: &[u8]) -> String {
    let first = message.split(|&byte| byte == b'\n').next().unwrap_or(&[]).trim_ascii();
    let first = String::from_utf8_lossy(first);
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
