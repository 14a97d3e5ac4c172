//! `CSeq`: number and method of a request within its dialog (RFC 3261 §20.16).

use crate::sip::message::header::BadValue;
use crate::sip::message::lexis;
use crate::sip::message::method::Method;
use crate::types::limit::SIP_CSEQ_MAX;
use bytes::Bytes;

/// A CSeq value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CSeq {
    /// 0 to 2^31 - 1.
    pub number: u32,
    /// The method of the request.
    pub method: Method,
}

impl CSeq {
    /// Reads the value.
    ///
    /// # Errors
    /// When the number is none, is above 2^31 - 1, or no method follows.
    pub fn parse(raw: &Bytes) -> Result<Self, BadValue> {
        let len = raw.iter().position(|&byte| lexis::is_space(byte)).ok_or(BadValue)?;
        let (number, method) = raw.split_at_checked(len).ok_or(BadValue)?;
        let method = lexis::trim(method);
        let number = lexis::number(number).and_then(|number| u32::try_from(number).ok());
        let number = number.filter(|&number| number <= SIP_CSEQ_MAX).ok_or(BadValue)?;
        if !lexis::is_token(method) {
            return Err(BadValue);
        }
        let method = Method::known(method).unwrap_or_else(|| Method::Other(raw.slice_ref(method)));
        Ok(Self { number, method })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_ends_at_2_to_the_31() {
        let read = |text: &'static str| CSeq::parse(&Bytes::from_static(text.as_bytes()));
        let good = CSeq { number: 0x7fff_ffff, method: Method::Invite };
        assert_eq!(read("2147483647 \t INVITE"), Ok(good));
        assert_eq!(read("0009 ACK").map(|cseq| cseq.number), Ok(9));
        for bad in ["2147483648 INVITE", "99999999999 X", "1", "1 ", "INVITE 1", "-1 BYE", "1 B E"]
        {
            assert_eq!(read(bad), Err(BadValue), "{bad}");
        }
    }
}
