//! TwiML: documents by which web servers lead calls, read into the steps of a script.

#![warn(clippy::indexing_slicing)]

mod attributes;
mod exercise;
mod tree;
mod verb;

pub use crate::agent::twiml::exercise::exercise;

use crate::agent::script::step::Step;
use crate::agent::twilio;
use crate::types::limit::TWIML_REMARKS_MAX;
use crate::types::secret::Secret;
use std::fmt;

/// A document that can be followed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    /// Its steps.
    pub steps: Vec<Step>,
    /// What it asks for and will not get.
    pub remarks: Vec<Remark>,
}

/// Where something stands in a document, both counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The byte in it.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// Something in a document that is read over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// Where.
    pub at: Place,
    /// What about it.
    pub what: String,
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.what)
    }
}

/// A document that cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {what}")]
pub struct TwimlError {
    /// Where.
    pub at: Place,
    /// What is wrong.
    pub what: String,
}

/// Reads a document. Declarations of documents types are refused, and with them all entities but those that XML
/// knows by itself: nothing is fetched, and nothing grows.
///
/// # Errors
/// The first thing that cannot be read or makes no sense, with its place. What is only unknown is remarked.
pub fn parse(document: &[u8]) -> Result<Document, TwimlError> {
    let root = tree::read(document)?;
    let mut remarks = Vec::new();
    let steps = verb::steps(&root, &mut remarks)?;
    remarks.truncate(TWIML_REMARKS_MAX);
    Ok(Document { steps, remarks })
}

/// The value of `X-Twilio-Signature` of a request: over its URL, exactly as asked, and each parameter of its
/// form, sorted by name. `None` for an empty token: no signature is sent.
#[must_use]
pub fn signature(
    auth_token: &Secret<String>,
    url: &str,
    form: &[(String, String)],
) -> Option<String> {
    let mut pairs: Vec<_> = form.iter().collect();
    pairs.sort();
    let pairs = pairs.into_iter().flat_map(|(name, value)| [name.as_str(), value]);
    let signed: String = std::iter::once(url).chain(pairs).collect();
    twilio::signature(auth_token, &signed)
}

#[cfg(test)]
mod tests;
