//! `RAck`: which reliable provisional response a PRACK acknowledges (RFC 3262 §7.2).

use crate::sip::message::header::BadValue;
use crate::sip::message::header::cseq::CSeq;
use crate::sip::message::lexis;
use bytes::Bytes;

/// A RAck value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RAck {
    /// The RSeq of the response.
    pub rseq: u32,
    /// The CSeq of the response.
    pub cseq: CSeq,
}

impl RAck {
    /// Reads the value.
    ///
    /// # Errors
    /// When one of the three parts is missing or wrong.
    pub fn parse(raw: &Bytes) -> Result<Self, BadValue> {
        let len = raw.iter().position(|&byte| lexis::is_space(byte)).ok_or(BadValue)?;
        let (rseq, rest) = raw.split_at_checked(len).ok_or(BadValue)?;
        let rseq = lexis::number(rseq).and_then(|rseq| u32::try_from(rseq).ok()).ok_or(BadValue)?;
        let cseq = CSeq::parse(&raw.slice_ref(lexis::trim(rest)))?;
        Ok(Self { rseq, cseq })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::message::method::Method;

    #[test]
    fn a_rack_has_three_parts() {
        let read = |text: &'static str| RAck::parse(&Bytes::from_static(text.as_bytes()));
        let cseq = CSeq { number: 1, method: Method::Invite };
        assert_eq!(read("776656  1 INVITE"), Ok(RAck { rseq: 776_656, cseq }));
        for bad in ["", "1", "1 2", "x 1 INVITE", "4294967296 1 INVITE"] {
            assert_eq!(read(bad), Err(BadValue), "{bad}");
        }
    }
}
