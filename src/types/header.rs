//! Header fields that people and programs may add to a request, and the variables of a call: types
//! that cannot hold what would begin another line.

use crate::types::limit::CALL_VARIABLES_MAX;
use crate::types::limit::FIELD_NAME_BYTES_MAX;
use crate::types::limit::FIELD_VALUE_BYTES_MAX;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Header fields the switch writes itself. Whoever could set one could take over the dialog, forge a
/// caller or break the framing.
const OWN: &[&str] = &[
    "accept",
    "accept-contact",
    "accept-encoding",
    "accept-language",
    "allow",
    "allow-events",
    "authentication-info",
    "authorization",
    "call-id",
    "contact",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-type",
    "cseq",
    "date",
    "diversion",
    "error-info",
    "event",
    "expires",
    "from",
    "history-info",
    "identity",
    "identity-info",
    "in-reply-to",
    "join",
    "max-breadth",
    "max-forwards",
    "mime-version",
    "min-expires",
    "min-se",
    "p-asserted-identity",
    "p-associated-uri",
    "p-called-party-id",
    "p-charging-vector",
    "p-early-media",
    "p-preferred-identity",
    "path",
    "privacy",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-require",
    "rack",
    "reason",
    "record-route",
    "refer-sub",
    "refer-to",
    "referred-by",
    "reject-contact",
    "remote-party-id",
    "replaces",
    "request-disposition",
    "require",
    "retry-after",
    "route",
    "rseq",
    "server",
    "service-route",
    "session-expires",
    "sip-etag",
    "sip-if-match",
    "subscription-state",
    "supported",
    "target-dialog",
    "timestamp",
    "to",
    "unsupported",
    "user-agent",
    "via",
    "warning",
    "www-authenticate",
    "x-tandem-trail",
];

/// The name of a header field that may be added to a request: a token (RFC 3261 §25.1), never one
/// the switch writes itself, never a compact form.
///
/// ```
/// use tandem::types::header::FieldName;
/// assert!("X-Campaign".parse::<FieldName>().is_ok());
/// for bad in ["Via", "cseq", "v", "X Y", "X:Y", "X\r\nVia", ""] {
///     assert!(bad.parse::<FieldName>().is_err(), "{bad:?}");
/// }
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldName(String);

/// Why a text cannot name an added header field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldNameError {
    /// Not a token, or too long.
    #[error("a header name has 2 to {FIELD_NAME_BYTES_MAX} letters, digits and -.!%*_+`'~")]
    NotAToken,
    /// A field of the protocol itself.
    #[error("this header is written by the switch itself")]
    Own,
}

impl FieldName {
    /// A field that only the switch writes, such as `Privacy`. The name is ours, not a peer's.
    pub(crate) fn own(name: &'static str) -> Self {
        Self(name.to_owned())
    }

    /// The name as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// True for a token of RFC 3261 §25.1.
#[must_use]
pub fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&b))
}

impl FromStr for FieldName {
    type Err = FieldNameError;

    fn from_str(text: &str) -> Result<Self, FieldNameError> {
        if !is_token(text) || !(2..=FIELD_NAME_BYTES_MAX).contains(&text.len()) {
            return Err(FieldNameError::NotAToken);
        }
        if OWN.iter().any(|own| own.eq_ignore_ascii_case(text)) {
            return Err(FieldNameError::Own);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FieldName({})", self.0)
    }
}

/// A header name, or the beginning of one and `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameGlob {
    text: String,
    open: bool,
}

impl NameGlob {
    /// Parses `X-Name` or `X-*`; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (text, open) = match text.strip_suffix('*') {
            Some(head) => (head, true),
            None => (text, false),
        };
        let good = is_token(text) && !text.contains('*');
        good.then(|| Self { text: text.to_owned(), open })
    }

    /// What goes on with a call where nothing else is said: User-to-User (RFC 7433).
    #[must_use]
    pub fn usual() -> Vec<Self> {
        Self::parse("User-to-User").into_iter().collect()
    }

    /// Whether it covers a name, without case.
    #[must_use]
    pub fn covers(&self, name: &str) -> bool {
        let head = if self.open { name.get(..self.text.len()) } else { Some(name) };
        head.is_some_and(|head| head.eq_ignore_ascii_case(&self.text))
    }
}

/// The value of a header field or of a variable: one line of text without control characters.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct FieldValue(String);

/// The text cannot be a header value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a header value is one line of at most {FIELD_VALUE_BYTES_MAX} bytes")]
pub struct NotAFieldValue;

impl FieldValue {
    /// The value.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Takes a value as it stands in a message.
    ///
    /// # Errors
    ///
    /// When it is not UTF-8, too long, or has control characters.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NotAFieldValue> {
        std::str::from_utf8(bytes).map_err(|_| NotAFieldValue)?.parse()
    }
}

impl FromStr for FieldValue {
    type Err = NotAFieldValue;

    fn from_str(text: &str) -> Result<Self, NotAFieldValue> {
        let text = text.trim_matches([' ', '\t']);
        // U+2028 and U+2029 end a line for some readers of logs and JSON; no header needs them.
        let breaks = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
        if text.len() > FIELD_VALUE_BYTES_MAX || text.chars().any(breaks) {
            return Err(NotAFieldValue);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for FieldValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for FieldValue {
    /// The length alone: values hold numbers, names and tokens.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FieldValue({} bytes)", self.0.len())
    }
}

/// The name of a variable of a call: a lower-case letter, then letters, digits and `_`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VariableName(String);

/// The text cannot name a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a variable's name has 1 to 64 of a-z, 0-9 and _, and begins with a letter")]
pub struct NotAVariableName;

impl VariableName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for VariableName {
    type Err = NotAVariableName;

    fn from_str(text: &str) -> Result<Self, NotAVariableName> {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        let good = (1..=64).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.bytes().all(inner);
        if good { Ok(Self(text.to_owned())) } else { Err(NotAVariableName) }
    }
}

impl fmt::Display for VariableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The variables of a call, bounded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallVariables(BTreeMap<VariableName, FieldValue>);

impl CallVariables {
    /// Sets a variable. False, and nothing changes, when there is no room for another one.
    pub fn set(&mut self, name: VariableName, value: FieldValue) -> bool {
        if self.0.len() >= CALL_VARIABLES_MAX && !self.0.contains_key(&name) {
            return false;
        }
        self.0.insert(name, value);
        true
    }

    /// Sets all of `others`. False, and nothing changes, when there is no room for one of them.
    pub fn set_all(&mut self, others: &Self) -> bool {
        let new = others.0.keys().filter(|name| !self.0.contains_key(*name)).count();
        // What has too many from before may get other values, and no more names.
        if new > 0 && self.0.len() + new > CALL_VARIABLES_MAX {
            return false;
        }
        self.0.extend(others.0.iter().map(|(name, value)| (name.clone(), value.clone())));
        true
    }

    /// Takes a variable away.
    pub fn remove(&mut self, name: &VariableName) {
        self.0.remove(name);
    }

    /// The value of a variable.
    #[must_use]
    pub fn get(&self, name: &VariableName) -> Option<&FieldValue> {
        self.0.get(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&VariableName, &FieldValue)> {
        self.0.iter()
    }

    /// True when there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::any;
    use proptest::prop_assert;
    use proptest::proptest;

    proptest! {
        #[test]
        fn no_value_can_begin_another_line(text in any::<String>()) {
            if let Ok(value) = text.parse::<FieldValue>() {
                prop_assert!(!value.as_str().contains(['\r', '\n', '\0']));
            }
        }

        #[test]
        fn no_name_can_end_itself(text in any::<String>()) {
            if let Ok(name) = text.parse::<FieldName>() {
                prop_assert!(!name.as_str().contains([':', '\r', '\n', '\0', ' ', '\t']));
            }
        }
    }

    #[test]
    fn variables_are_set_together_or_none_of_them() {
        let of = |from: usize, to: usize| {
            let mut all = CallVariables::default();
            for number in from..to {
                let set = all.set(format!("n{number}").parse().unwrap(), "x".parse().unwrap());
                assert!(set, "{number}");
            }
            all
        };
        let mut all = of(0, CALL_VARIABLES_MAX - 1);
        let before = all.clone();
        assert!(!all.set_all(&of(0, CALL_VARIABLES_MAX).clone_with("other")));
        assert_eq!(all, before);
        assert!(all.set_all(&of(CALL_VARIABLES_MAX - 2, CALL_VARIABLES_MAX)));
        assert!(all.set_all(&of(0, 3)), "they are there");
        assert!(!all.set_all(&CallVariables::default().clone_with("other")));
        all.remove(&"n0".parse().unwrap());
        assert!(all.set_all(&CallVariables::default().clone_with("other")));
        assert_eq!(all.iter().count(), CALL_VARIABLES_MAX);
    }

    impl CallVariables {
        /// One more.
        fn clone_with(&self, name: &str) -> Self {
            let mut more = self.clone();
            more.0.insert(name.parse().unwrap(), "x".parse().unwrap());
            more
        }
    }

    #[test]
    fn a_header_of_the_protocol_cannot_be_added_in_any_spelling() {
        for name in ["Via", "VIA", "call-ID", "P-Asserted-Identity", "privacy", "Content-Length"] {
            assert_eq!(name.parse::<FieldName>(), Err(FieldNameError::Own), "{name}");
        }
        for name in ["v", "f", "i", "m", "l", "", "X Y", "X:", "X\n", "\u{e9}-x"] {
            assert_eq!(name.parse::<FieldName>(), Err(FieldNameError::NotAToken), "{name}");
        }
        for name in ["X-Campaign", "User-to-User", "Subject", "X.y_z"] {
            assert_eq!(name.parse::<FieldName>().map(|n| n.to_string()), Ok(name.to_owned()));
        }
    }

    #[test]
    fn a_value_with_a_line_break_is_refused_and_never_printed() {
        for bad in ["a\r\nVia: x", "a\nb", "a\0b", "a\u{85}b", "a\u{2028}b"] {
            assert_eq!(bad.parse::<FieldValue>(), Err(NotAFieldValue), "{bad:?}");
        }
        assert!("x".repeat(FIELD_VALUE_BYTES_MAX + 1).parse::<FieldValue>().is_err());
        let value: FieldValue = "  secret text ".parse().unwrap();
        assert_eq!(value.as_str(), "secret text");
        assert_eq!(format!("{value:?}"), "FieldValue(11 bytes)");
    }

    #[test]
    fn a_call_has_no_more_variables_than_the_bound() {
        let mut variables = CallVariables::default();
        let value: FieldValue = "x".parse().unwrap();
        for n in 0..CALL_VARIABLES_MAX {
            assert!(variables.set(format!("v{n}").parse().unwrap(), value.clone()));
        }
        assert!(!variables.set("more".parse().unwrap(), value.clone()));
        assert!(variables.set("v0".parse().unwrap(), value));
        assert_eq!(variables.iter().count(), CALL_VARIABLES_MAX);
    }

    #[test]
    fn a_glob_covers_names_without_case() {
        let glob = |text: &str| NameGlob::parse(text).unwrap();
        assert!(glob("X-*").covers("x-campaign"));
        assert!(!glob("X-*").covers("Subject"));
        assert!(glob("User-to-User").covers("user-to-user"));
        assert!(!glob("User-to-User").covers("user-to-user2"));
        for bad in ["", "*", "X-*-Y", "X Y", "X:"] {
            assert_eq!(NameGlob::parse(bad), None, "{bad}");
        }
    }
}
