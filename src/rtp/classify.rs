//! What a datagram on a media port is, by its first two bytes.
#![warn(clippy::indexing_slicing)]

/// The protocol of a datagram on a media port (RFC 7983 §7, RFC 5761 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datagram {
    /// RTP.
    Rtp,
    /// RTCP; on an RTP port only where rtcp-mux was agreed.
    Rtcp,
    /// STUN, of an ICE agent.
    Stun,
    /// ZRTP.
    Zrtp,
    /// DTLS.
    Dtls,
    /// A TURN channel.
    Turn,
    /// None of these, or too short to tell.
    Unknown,
}

/// Tells protocols apart; says nothing about whether the rest of the datagram is well-formed.
#[must_use]
pub fn classify(datagram: &[u8]) -> Datagram {
    let &[first, second, ..] = datagram else { return Datagram::Unknown };
    match first {
        0..=3 => Datagram::Stun,
        16..=19 => Datagram::Zrtp,
        20..=63 => Datagram::Dtls,
        64..=79 => Datagram::Turn,
        // RFC 5761 §4: RTCP packet types 192 to 223 lie where RTP has payload types 64 to 95 with
        // the marker set, which no RTP sender beside RTCP may use.
        128..=191 if (192..=223).contains(&second) => Datagram::Rtcp,
        128..=191 => Datagram::Rtp,
        _ => Datagram::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(datagram: &[u8], expected: Datagram) {
        assert_eq!(classify(datagram), expected, "{datagram:?}");
    }

    #[test]
    fn the_first_byte_tells_the_protocol() {
        check(&[], Datagram::Unknown);
        check(&[0x80], Datagram::Unknown);
        check(&[0, 1], Datagram::Stun);
        check(&[3, 1], Datagram::Stun);
        check(&[4, 1], Datagram::Unknown);
        check(&[16, 0], Datagram::Zrtp);
        check(&[22, 254], Datagram::Dtls);
        check(&[64, 0], Datagram::Turn);
        check(&[80, 0], Datagram::Unknown);
        check(&[192, 0], Datagram::Unknown);
    }

    #[test]
    fn the_second_byte_tells_rtcp_from_rtp() {
        check(&[0x80, 0], Datagram::Rtp);
        check(&[0x80, 0x80 | 8], Datagram::Rtp);
        check(&[0x80, 0x80 | 127], Datagram::Rtp);
        check(&[0x80, 191], Datagram::Rtp);
        check(&[0x81, 192], Datagram::Rtcp);
        check(&[0x80, 200], Datagram::Rtcp);
        check(&[0xbf, 223], Datagram::Rtcp);
        check(&[0x80, 224], Datagram::Rtp);
    }
}
