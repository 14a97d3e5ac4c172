//! A call's signalling as a capture file that Wireshark and sngrep read.
//!
//! Each message is one UDP datagram between the true addresses and ports, whatever carried it: over
//! TCP and TLS there is no capture of the wire to give, and tools read SIP over UDP best.

use crate::sip::trace::Trace;
use crate::sip::trace::TracedMessage;
use crate::sip::trace::Way;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::time::Duration;

/// LINKTYPE_RAW: packets begin with their IP header.
const LINK_RAW: u32 = 101;
/// The protocol number of UDP.
const UDP: u8 = 17;
const UDP_HEADER_LEN: usize = 8;

/// Writes a capture file. `wall` is the time of [`Moment::START`](crate::types::moment::Moment::START)
/// since 1970.
#[must_use]
pub fn write(trace: &Trace, wall: Duration) -> Vec<u8> {
    let mut file = Vec::new();
    // Magic of microseconds, version 2.4, zone, accuracy, longest packet, link type.
    file.extend(0xa1b2_c3d4_u32.to_le_bytes());
    file.extend(2_u16.to_le_bytes());
    file.extend(4_u16.to_le_bytes());
    for word in [0, 0, 262_144, LINK_RAW] {
        file.extend(u32::to_le_bytes(word));
    }
    for message in &trace.messages {
        let at = wall + Duration::from_nanos(message.at.as_nanos());
        let packet = packet(message);
        let len = u32::try_from(packet.len()).unwrap_or(u32::MAX);
        file.extend(u32::try_from(at.as_secs()).unwrap_or(u32::MAX).to_le_bytes());
        file.extend(at.subsec_micros().to_le_bytes());
        file.extend(len.to_le_bytes());
        file.extend(len.to_le_bytes());
        file.extend(packet);
    }
    file
}

fn packet(message: &TracedMessage) -> Vec<u8> {
    let (from, to) = match message.way {
        Way::In => (message.remote, message.local),
        Way::Out => (message.local, message.remote),
    };
    match (from.ip().to_canonical(), to.ip().to_canonical()) {
        (IpAddr::V4(source), IpAddr::V4(target)) => {
            let payload = message.bytes.get(..longest(20)).unwrap_or(&message.bytes);
            let total = u16::try_from(20 + UDP_HEADER_LEN + payload.len()).unwrap_or(u16::MAX);
            let mut header = vec![0x45, 0];
            header.extend(total.to_be_bytes());
            header.extend([0, 0, 0x40, 0, 64, UDP, 0, 0]);
            header.extend(source.octets());
            header.extend(target.octets());
            let sum = checksum(&header);
            if let Some(field) = header.get_mut(10..12) {
                field.copy_from_slice(&sum.to_be_bytes());
            }
            datagram(header, (from, to), payload)
        }
        (source, target) => {
            let payload = message.bytes.get(..longest(0)).unwrap_or(&message.bytes);
            let len = u16::try_from(UDP_HEADER_LEN + payload.len()).unwrap_or(u16::MAX);
            let mut header = vec![0x60, 0, 0, 0];
            header.extend(len.to_be_bytes());
            header.extend([UDP, 64]);
            header.extend(octets(source));
            header.extend(octets(target));
            datagram(header, (from, to), payload)
        }
    }
}

/// The longest payload that the length fields can tell.
fn longest(ip_header: usize) -> usize {
    usize::from(u16::MAX) - UDP_HEADER_LEN - ip_header
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// Appends a UDP header without a checksum, which readers take as not computed, and the payload.
fn datagram(mut packet: Vec<u8>, (from, to): (SocketAddr, SocketAddr), payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(UDP_HEADER_LEN + payload.len()).unwrap_or(u16::MAX);
    for field in [from.port(), to.port(), len, 0] {
        packet.extend(field.to_be_bytes());
    }
    packet.extend(payload);
    packet
}

/// The Internet checksum (RFC 1071).
fn checksum(header: &[u8]) -> u16 {
    let words = header.chunks(2).map(|pair| match pair {
        [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
        [high] => u32::from(*high) << 8,
        _ => 0,
    });
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    !u16::try_from(folded).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::moment::Moment;
    use crate::types::transport::Transport;
    use bytes::Bytes;

    fn message(local: &str, remote: &str, way: Way) -> TracedMessage {
        TracedMessage {
            at: Moment::from_millis(1_500),
            way,
            transport: Transport::Tls,
            local: local.parse().expect("an address"),
            remote: remote.parse().expect("an address"),
            bytes: Bytes::from_static(b"OPTIONS sip:h SIP/2.0\r\n\r\n"),
        }
    }

    #[test]
    fn the_file_has_its_header_times_and_true_addresses() {
        let trace = Trace {
            messages: vec![message("192.0.2.1:5061", "192.0.2.9:49152", Way::Out)],
            left_out: 0,
        };
        let file = write(&trace, Duration::from_secs(1_000));
        assert_eq!(file.get(..4), Some(&[0xd4, 0xc3, 0xb2, 0xa1][..]));
        assert_eq!(file.get(20..24), Some(&101_u32.to_le_bytes()[..]));
        assert_eq!(file.get(24..28), Some(&1_001_u32.to_le_bytes()[..]));
        assert_eq!(file.get(28..32), Some(&500_000_u32.to_le_bytes()[..]));
        let packet = file.get(40..).expect("a packet");
        assert_eq!(file.get(32..36), Some(&u32::to_le_bytes(packet.len() as u32)[..]));
        assert_eq!(packet.get(12..20), Some(&[192, 0, 2, 1, 192, 0, 2, 9][..]));
        assert_eq!(packet.get(20..24), Some(&[0x13, 0xc5, 0xc0, 0x00][..]));
        assert!(packet.ends_with(b"OPTIONS sip:h SIP/2.0\r\n\r\n"));
        assert_eq!(checksum(packet.get(..20).expect("a header")), 0, "the header sums up");
    }

    #[test]
    fn an_ipv6_message_has_an_ipv6_header_and_the_longest_message_fits() {
        let mut long = message("[2001:db8::1]:5060", "[2001:db8::2]:5060", Way::In);
        long.bytes = Bytes::from(vec![b'x'; 70_000]);
        let packet = packet(&long);
        assert_eq!(packet.first(), Some(&0x60));
        assert_eq!(packet.get(4..6), Some(&[0xff, 0xff][..]));
        assert_eq!(packet.len(), 40 + 0xffff);
        assert_eq!(packet.get(23), Some(&2), "from the peer");
    }
}
