//! `HeaderName`: the header fields this code knows, with their compact forms.

use std::fmt;

macro_rules! names {
    ($($name:ident = $text:literal, $compact:literal;)+) => {
        /// The name of a header field. Names have no case; compact forms are the same name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        #[allow(missing_docs, reason = "each variant is the header field it spells")]
        pub enum HeaderName {
            $($name,)+
            /// A header field this code does not know; kept, and found by its text.
            Other,
        }

        const ROWS: &[(HeaderName, &str, &str)] = &[
            $((HeaderName::$name, $text, $compact),)+
        ];
    };
}

names! {
    Via = "Via", "v";
    From = "From", "f";
    To = "To", "t";
    CallId = "Call-ID", "i";
    CSeq = "CSeq", "";
    Contact = "Contact", "m";
    Route = "Route", "";
    RecordRoute = "Record-Route", "";
    MaxForwards = "Max-Forwards", "";
    ContentLength = "Content-Length", "l";
    ContentType = "Content-Type", "c";
    ContentEncoding = "Content-Encoding", "e";
    ContentDisposition = "Content-Disposition", "";
    Require = "Require", "";
    ProxyRequire = "Proxy-Require", "";
    Supported = "Supported", "k";
    Unsupported = "Unsupported", "";
    Allow = "Allow", "";
    AllowEvents = "Allow-Events", "u";
    Accept = "Accept", "";
    AcceptEncoding = "Accept-Encoding", "";
    AcceptLanguage = "Accept-Language", "";
    SessionExpires = "Session-Expires", "x";
    MinSe = "Min-SE", "";
    Expires = "Expires", "";
    MinExpires = "Min-Expires", "";
    Authorization = "Authorization", "";
    WwwAuthenticate = "WWW-Authenticate", "";
    ProxyAuthorization = "Proxy-Authorization", "";
    ProxyAuthenticate = "Proxy-Authenticate", "";
    AuthenticationInfo = "Authentication-Info", "";
    RetryAfter = "Retry-After", "";
    Reason = "Reason", "";
    Diversion = "Diversion", "";
    HistoryInfo = "History-Info", "";
    PAssertedIdentity = "P-Asserted-Identity", "";
    PPreferredIdentity = "P-Preferred-Identity", "";
    RemotePartyId = "Remote-Party-ID", "";
    PCalledPartyId = "P-Called-Party-ID", "";
    PAssociatedUri = "P-Associated-URI", "";
    Privacy = "Privacy", "";
    Identity = "Identity", "y";
    ReferTo = "Refer-To", "r";
    ReferredBy = "Referred-By", "b";
    Replaces = "Replaces", "";
    Event = "Event", "o";
    SubscriptionState = "Subscription-State", "";
    RSeq = "RSeq", "";
    RAck = "RAck", "";
    Subject = "Subject", "s";
    Warning = "Warning", "";
    Server = "Server", "";
    UserAgent = "User-Agent", "";
    Date = "Date", "";
    Path = "Path", "";
    ServiceRoute = "Service-Route", "";
    MimeVersion = "MIME-Version", "";
    Timestamp = "Timestamp", "";
    Organization = "Organization", "";
    UserToUser = "User-to-User", "";
    AlertInfo = "Alert-Info", "";
    CallInfo = "Call-Info", "";
}

impl HeaderName {
    /// The name as it is written; empty for [`HeaderName::Other`].
    #[must_use]
    pub fn as_str(self) -> &'static str {
        ROWS.get(self as usize).map_or("", |row| row.1)
    }

    /// The compact form where there is one, else the name.
    #[must_use]
    pub fn compact(self) -> &'static str {
        match ROWS.get(self as usize).map_or("", |row| row.2) {
            "" => self.as_str(),
            compact => compact,
        }
    }

    /// The name `text` spells in its long or compact form.
    #[must_use]
    pub fn from_bytes(text: &[u8]) -> Self {
        let mut slot = hash(text);
        // The table is never full, so the search ends at an empty slot.
        while let Some(&(name, known)) =
            TABLE.get(slot).and_then(|&row| SPELLINGS.get(usize::from(row)))
        {
            let known = known.as_bytes();
            // Nearly everybody writes a name as the RFC does, and that is compared many bytes at once.
            if known == text || known.eq_ignore_ascii_case(text) {
                return name;
            }
            slot = (slot + 1) % TABLE.len();
        }
        Self::Other
    }

    /// True for fields whose value is a comma list, so that one line and many mean the same.
    #[must_use]
    pub const fn is_list(self) -> bool {
        matches!(
            self,
            Self::Via
                | Self::Contact
                | Self::Route
                | Self::RecordRoute
                | Self::ContentEncoding
                | Self::Require
                | Self::ProxyRequire
                | Self::Supported
                | Self::Unsupported
                | Self::Allow
                | Self::AllowEvents
                | Self::Accept
                | Self::AcceptEncoding
                | Self::AcceptLanguage
                | Self::Reason
                | Self::Diversion
                | Self::HistoryInfo
                | Self::PAssertedIdentity
                | Self::PPreferredIdentity
                | Self::RemotePartyId
                | Self::Warning
                | Self::Path
                | Self::ServiceRoute
                | Self::PAssociatedUri
                | Self::AlertInfo
                | Self::CallInfo
        )
    }

    /// True for fields with credentials, which never go to a log.
    #[must_use]
    pub const fn is_secret(self) -> bool {
        matches!(self, Self::Authorization | Self::ProxyAuthorization | Self::Identity)
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[expect(clippy::indexing_slicing, reason = "the compiler evaluates it")]
const SPELLINGS_LEN: usize = {
    let mut count = 0;
    let mut at = 0;
    while at < ROWS.len() {
        count += if ROWS[at].2.is_empty() { 1 } else { 2 };
        at += 1;
    }
    count
};

/// Every spelling, long and compact.
#[expect(clippy::indexing_slicing, reason = "the compiler evaluates it")]
const SPELLINGS: [(HeaderName, &str); SPELLINGS_LEN] = {
    let mut spellings = [(HeaderName::Other, ""); SPELLINGS_LEN];
    let (mut at, mut next) = (0, 0);
    while at < ROWS.len() {
        spellings[next] = (ROWS[at].0, ROWS[at].1);
        next += 1;
        if !ROWS[at].2.is_empty() {
            spellings[next] = (ROWS[at].0, ROWS[at].2);
            next += 1;
        }
        at += 1;
    }
    spellings
};

const EMPTY: u8 = u8::MAX;

/// An open-addressing hash table of indices into `SPELLINGS`, built by the compiler.
#[expect(clippy::indexing_slicing, reason = "the compiler evaluates it")]
const TABLE: [u8; 256] = {
    let mut table = [EMPTY; 256];
    let mut at = 0;
    while at < SPELLINGS_LEN {
        let mut slot = hash(SPELLINGS[at].1.as_bytes());
        while table[slot] != EMPTY {
            slot = (slot + 1) % table.len();
        }
        table[slot] = at as u8;
        at += 1;
    }
    table
};

/// A slot from length, first, middle and last byte, without case.
const fn hash(text: &[u8]) -> usize {
    let (Some((first, _)), Some((last, _))) = (text.split_first(), text.split_last()) else {
        return 0;
    };
    let (_, tail) = text.split_at(text.len() / 2);
    let middle = match tail.split_first() {
        Some((byte, _)) => *byte,
        None => 0,
    };
    let sum = text.len() * 29
        + (*first | 0x20) as usize * 7
        + (middle | 0x20) as usize * 31
        + (*last | 0x20) as usize * 13;
    sum % 256
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_found_in_any_case() {
        for &(name, long, compact) in ROWS {
            assert_eq!(name.as_str(), long);
            assert_eq!(HeaderName::from_bytes(long.as_bytes()), name);
            assert_eq!(HeaderName::from_bytes(long.to_ascii_uppercase().as_bytes()), name);
            if !compact.is_empty() {
                assert_eq!(HeaderName::from_bytes(compact.to_uppercase().as_bytes()), name);
            }
        }
        for other in ["", "X-Foo", "Vi", "Viaa", "q"] {
            assert_eq!(HeaderName::from_bytes(other.as_bytes()), HeaderName::Other);
        }
        assert_eq!(HeaderName::Other.as_str(), "");
    }
}
