//! `Method`: the request methods (RFC 3261 and its extensions).

use bytes::Bytes;
use std::fmt;

macro_rules! methods {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)+) => {
        /// A request method. Methods have case (RFC 3261 §7.1).
        #[derive(Clone, PartialEq, Eq, Hash)]
        pub enum Method {
            $($(#[$doc])* $name,)+
            /// A method this code does not know, as received.
            Other(Bytes),
        }

        impl Method {
            /// The method as it is written.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8] {
                match self {
                    $(Self::$name => $text.as_bytes(),)+
                    Self::Other(text) => text,
                }
            }

            /// The known method `text` is.
            #[must_use]
            pub const fn known(text: &[u8]) -> Option<Self> {
                $(if same(text, $text.as_bytes()) {
                    return Some(Self::$name);
                })+
                None
            }
        }
    };
}

/// Compares lengths first, which settles nearly all.
const fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let (mut a, mut b) = (a, b);
    while let ([x, a_rest @ ..], [y, b_rest @ ..]) = (a, b) {
        if *x != *y {
            return false;
        }
        (a, b) = (a_rest, b_rest);
    }
    true
}

methods! {
    /// Opens or changes a session (RFC 3261 §13).
    Invite = "INVITE";
    /// Acknowledges a final response to INVITE (RFC 3261 §13, §17).
    Ack = "ACK";
    /// Ends a session (RFC 3261 §15).
    Bye = "BYE";
    /// Gives up a pending INVITE (RFC 3261 §9).
    Cancel = "CANCEL";
    /// Asks for capabilities, in practice for life (RFC 3261 §11).
    Options = "OPTIONS";
    /// Binds an address of record (RFC 3261 §10).
    Register = "REGISTER";
    /// Acknowledges a reliable provisional response (RFC 3262).
    Prack = "PRACK";
    /// Changes a session without re-INVITE (RFC 3311).
    Update = "UPDATE";
    /// Carries application data within a dialog (RFC 6086).
    Info = "INFO";
    /// Asks the peer to contact a third party (RFC 3515).
    Refer = "REFER";
    /// Carries an event (RFC 6665).
    Notify = "NOTIFY";
    /// Asks for events (RFC 6665).
    Subscribe = "SUBSCRIBE";
    /// Carries a text message (RFC 3428).
    Message = "MESSAGE";
    /// Publishes event state (RFC 3903).
    Publish = "PUBLISH";
}

impl Method {
    /// The method `text` is; unknown ones keep a reference to it.
    #[must_use]
    pub fn from_bytes(text: &Bytes) -> Self {
        Self::known(text).unwrap_or_else(|| Self::Other(text.clone()))
    }
}

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.as_bytes().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_have_case_and_unknown_ones_are_kept() {
        assert_eq!(Method::from_bytes(&Bytes::from_static(b"INVITE")), Method::Invite);
        let odd = Bytes::from_static(b"invite");
        assert_eq!(Method::from_bytes(&odd), Method::Other(odd));
        assert_eq!(Method::Update.to_string(), "UPDATE");
    }
}
