//! `TokenList`: comma lists of tokens, as in Require, Supported, Unsupported and Allow.

use crate::sip::message::headers::Headers;
use crate::sip::message::method::Method;
use crate::sip::message::name::HeaderName;

/// The tokens of all lines of one header field.
#[derive(Clone, Copy, Debug)]
pub struct TokenList<'a> {
    headers: &'a Headers,
    name: HeaderName,
}

impl<'a> TokenList<'a> {
    pub(crate) const fn new(headers: &'a Headers, name: HeaderName) -> Self {
        Self { headers, name }
    }

    /// True when `token` is in the list, without case.
    #[must_use]
    pub fn has(&self, token: &str) -> bool {
        self.iter().any(|found| found.eq_ignore_ascii_case(token.as_bytes()))
    }

    /// True when `method` is in the list; methods have case.
    #[must_use]
    pub fn has_method(&self, method: &Method) -> bool {
        self.iter().any(|found| found == method.as_bytes())
    }

    /// All tokens in order.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.headers.all(self.name)
    }
}
