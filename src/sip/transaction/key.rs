//! How a message finds its transaction (RFC 3261 §17.1.3, §17.2.3).

use crate::sip::message::Request;
use crate::sip::message::Response;
use crate::sip::message::header::via::BRANCH_COOKIE;
use crate::sip::message::header::via::Via;
use crate::sip::message::method::Method;
use crate::sip::message::name::HeaderName;
use crate::sip::message::peek;
use crate::types::random::Random;
use bytes::Bytes;
use smallvec::SmallVec;

/// Names a server transaction.
///
/// Method, branch and sent-by. For a branch made by the rules of RFC 2543 the key is method,
/// From-tag, Call-ID, CSeq number and the whole Via instead. An ACK has the key of its INVITE.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServerKey(SmallVec<[u8; 96]>);

/// Separates the parts of a key; no part can hold it.
const SEPARATOR: u8 = b'\n';

impl ServerKey {
    /// The transaction `request` is of; an ACK is of its INVITE's.
    #[must_use]
    pub fn of(request: &Request) -> Self {
        if request.method == Method::Ack {
            Self::of_invite(request)
        } else {
            Self::with_method(request, &request.method)
        }
    }

    /// The INVITE transaction an ACK or a CANCEL means (RFC 3261 §9.2).
    #[must_use]
    pub fn of_invite(request: &Request) -> Self {
        Self::with_method(request, &Method::Invite)
    }

    fn with_method(request: &Request, method: &Method) -> Self {
        let headers = &request.headers;
        let via = headers.top_via();
        let mut key = SmallVec::<[u8; 96]>::new();
        let mut part = |bytes: &[u8]| {
            key.extend_from_slice(bytes);
            key.push(SEPARATOR);
        };
        part(method.as_bytes());
        if let Some(branch) = via.branch().filter(|_| via.has_cookie()) {
            part(branch);
            part(&via.port_or_default().to_be_bytes());
            part(via.host());
            // A host has no case.
            let from = key.len().saturating_sub(via.host().len() + 1);
            key.get_mut(from..).unwrap_or_default().make_ascii_lowercase();
        } else {
            part(headers.from().tag().unwrap_or(&[]));
            part(headers.call_id());
            part(&headers.cseq().number.to_be_bytes());
            part(via.as_bytes());
        }
        Self(key)
    }
}

macro_rules! random_text {
    ($(#[$doc:meta])* $name:ident, $prefix:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub struct $name(u64);

        impl $name {
            /// A new one.
            pub const fn new(random: &mut Random) -> Self {
                Self(random.next_u64())
            }

            /// The one `text` is, when it can be one of ours.
            #[must_use]
            pub fn parse(text: &[u8]) -> Option<Self> {
                parse_hex(text.strip_prefix($prefix)?).map(Self)
            }

            /// The text of the parameter.
            #[must_use]
            pub fn to_text(self) -> Vec<u8> {
                let mut text = Vec::with_capacity($prefix.len() + HEX_DIGITS);
                text.extend_from_slice($prefix);
                write_hex(self.0, &mut text);
                text
            }
        }
    };
}

random_text! {
    /// A branch of ours: 64 random bits behind the cookie.
    Branch, BRANCH_COOKIE
}

random_text! {
    /// A tag of ours: 64 random bits.
    Tag, &b""[..]
}

/// Hex digits of a number of 64 bits.
const HEX_DIGITS: usize = 16;

/// Writes 16 lower-case hex digits. By hand: each answer has a tag.
fn write_hex(number: u64, out: &mut Vec<u8>) {
    let digits = (0..HEX_DIGITS).rev().map(|place| (number >> (4 * place)) as u8 & 0xf);
    out.extend(digits.map(|digit| if digit < 10 { b'0' + digit } else { b'a' + digit - 10 }));
}

/// Reads exactly 16 lower-case hex digits.
fn parse_hex(text: &[u8]) -> Option<u64> {
    if text.len() != 16 {
        return None;
    }
    text.iter().try_fold(0_u64, |value, &byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u64::from(digit))
    })
}

/// Names a client transaction: branch and method, since a CANCEL has the branch of its INVITE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientKey {
    /// The branch.
    pub branch: Branch,
    /// What is asked.
    pub kind: Kind,
}

/// The kinds of client transactions that can share a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// INVITE.
    Invite,
    /// CANCEL.
    Cancel,
    /// Any other.
    Other,
}

impl Kind {
    /// The kind of `method`.
    #[must_use]
    pub fn of(method: &Method) -> Self {
        if *method == Method::Invite {
            Self::Invite
        } else if *method == Method::Cancel {
            Self::Cancel
        } else {
            Self::Other
        }
    }
}

impl ClientKey {
    /// The transaction `response` answers, when it can be one of ours.
    #[must_use]
    pub fn of(response: &Response) -> Option<Self> {
        let branch = Branch::parse(response.headers.top_via().branch()?)?;
        Some(Self { branch, kind: Kind::of(&response.headers.cseq().method) })
    }

    /// The transaction of a request of ours of which the beginning is at hand; its first header is our Via.
    #[must_use]
    pub fn of_beginning(text: &[u8]) -> Option<Self> {
        let method = text.split(|byte| *byte == b' ').next()?;
        let (name, via) = peek::HeaderLines::of_message(text).next()?;
        let via = Via::parse(Bytes::copy_from_slice(via)).ok()?;
        let branch = Branch::parse(via.branch()?)?;
        let is_via = HeaderName::from_bytes(name) == HeaderName::Via;
        let method = Method::from_bytes(&Bytes::copy_from_slice(method));
        is_via.then(|| Self { branch, kind: Kind::of(&method) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::message::Message;
    use crate::sip::message::parse;
    use bytes::Bytes;

    fn request(method: &str, via: &str) -> Request {
        let text = format!(
            "{method} sip:a@b SIP/2.0\r\nVia: {via}\r\nFrom: <sip:x@y>;tag=f\r\nTo: <sip:a@b>\r\n\
             Call-ID: c\r\nCSeq: 1 {method}\r\n\r\n"
        );
        match parse(Bytes::from(text)) {
            Ok(Message::Request(request)) => request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_ack_and_a_cancel_find_their_invite() {
        let via = "SIP/2.0/UDP Host:5060;branch=z9hG4bK1";
        let invite = ServerKey::of(&request("INVITE", via));
        assert_eq!(ServerKey::of(&request("ACK", via)), invite);
        assert_eq!(ServerKey::of_invite(&request("CANCEL", via)), invite);
        assert_ne!(ServerKey::of(&request("CANCEL", via)), invite);
        let same_host = "SIP/2.0/UDP hOST;branch=z9hG4bK1;rport";
        assert_eq!(ServerKey::of(&request("INVITE", same_host)), invite);
        for other in [
            "SIP/2.0/UDP Host:5060;branch=z9hG4bK2",
            "SIP/2.0/UDP Other:5060;branch=z9hG4bK1",
            "SIP/2.0/UDP Host:5070;branch=z9hG4bK1",
        ] {
            assert_ne!(ServerKey::of(&request("INVITE", other)), invite, "{other}");
        }
    }

    #[test]
    fn a_branch_without_the_cookie_falls_back_to_rfc_2543() {
        let one = ServerKey::of(&request("INVITE", "SIP/2.0/UDP host;branch=1"));
        assert_eq!(ServerKey::of(&request("ACK", "SIP/2.0/UDP host;branch=1")), one);
        assert_ne!(ServerKey::of(&request("INVITE", "SIP/2.0/UDP host2;branch=1")), one);
        assert_ne!(ServerKey::of(&request("INVITE", "SIP/2.0/UDP host")), one);
    }

    #[test]
    fn the_beginning_of_a_request_of_ours_names_its_transaction() {
        let branch = Branch::new(&mut Random::from_seed(5));
        let text = format!(
            "CANCEL sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP h:5060;branch={};rport\r\nMax-Forw",
            String::from_utf8_lossy(&branch.to_text())
        );
        let key = ClientKey { branch, kind: Kind::Cancel };
        assert_eq!(ClientKey::of_beginning(text.as_bytes()), Some(key));
        let cut = text.find(";rport").unwrap() - 1;
        let route = text.replace("Via:", "Route:");
        for other in [text.split_at(cut).0, "", "CANCEL", "SIP/2.0 200 OK\r\n\r\n", &route] {
            assert_eq!(ClientKey::of_beginning(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn branches_and_tags_are_read_back() {
        let mut random = Random::from_seed(3);
        let branch = Branch::new(&mut random);
        assert_eq!(Branch::parse(&branch.to_text()), Some(branch));
        let tag = Tag::new(&mut random);
        assert_eq!(Tag::parse(&tag.to_text()), Some(tag));
        for bad in ["", "z9hG4bK", "z9hG4bKxyz", "Z9HG4BK0000000000000000", "000000000000000g"] {
            assert_eq!(Branch::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
