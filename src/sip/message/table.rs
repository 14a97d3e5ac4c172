//! `HeaderTable`: the header lines of a message, where they lie.

use crate::sip::message::lexis::List;
use crate::sip::message::name::HeaderName;
use crate::sip::message::span::Span;
use bytes::Bytes;
use smallvec::SmallVec;
use std::fmt;
use std::slice;

/// Header lines kept without an allocation.
const LINES_INLINE: usize = 32;

/// One header line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    pub(crate) name: HeaderName,
    pub(crate) name_text: Span,
    pub(crate) value: Span,
}

/// All header lines of a message, in order, over the bytes they came in.
#[derive(Clone)]
pub struct HeaderTable {
    raw: Bytes,
    lines: SmallVec<[Line; LINES_INLINE]>,
}

impl HeaderTable {
    pub(crate) const fn new(raw: Bytes) -> Self {
        Self { raw, lines: SmallVec::new_const() }
    }

    pub(crate) fn push(&mut self, line: Line) {
        self.lines.push(line);
    }

    pub(crate) const fn raw(&self) -> &Bytes {
        &self.raw
    }

    pub(crate) fn slice(&self, span: Span) -> Bytes {
        self.raw.slice(span.start()..span.end().min(self.raw.len()))
    }

    /// How many header lines there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// True when there is no header line.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The value of the first line with this name, as it stands.
    #[must_use]
    pub fn first(&self, name: HeaderName) -> Option<&[u8]> {
        self.lines.iter().find(|line| line.name == name).map(|line| line.value.of(&self.raw))
    }

    /// All values of this name in order; the lines of list fields are split at top-level commas.
    #[must_use]
    pub fn all(&self, name: HeaderName) -> Values<'_> {
        Values { raw: &self.raw, lines: self.lines.iter(), name, list: None }
    }

    /// The values of all lines with this name, each line as it stands.
    pub fn lines(&self, name: HeaderName) -> impl Iterator<Item = &[u8]> {
        self.lines.iter().filter(move |line| line.name == name).map(|line| line.value.of(&self.raw))
    }

    /// The values of all lines whose name is spelt `name`, without case; for fields without a
    /// [`HeaderName`], and the known ones in the spelling received.
    pub fn named<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.lines
            .iter()
            .filter(move |line| line.name_text.of(&self.raw).eq_ignore_ascii_case(name.as_bytes()))
            .map(|line| line.value.of(&self.raw))
    }

    /// Name as received and value of each line, in order.
    pub fn iter(&self) -> impl Iterator<Item = (HeaderName, &[u8], &[u8])> {
        self.lines
            .iter()
            .map(|line| (line.name, line.name_text.of(&self.raw), line.value.of(&self.raw)))
    }
}

impl fmt::Debug for HeaderTable {
    /// Names only: values hold numbers and credentials, and `Debug` output ends in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.iter().map(|(_, name, _)| String::from_utf8_lossy(name).into_owned()))
            .finish()
    }
}

/// Iterates over the values of one header field.
#[derive(Clone, Debug)]
pub struct Values<'a> {
    raw: &'a [u8],
    lines: slice::Iter<'a, Line>,
    name: HeaderName,
    list: Option<List<'a>>,
}

impl<'a> Iterator for Values<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            if let Some(entry) = self.list.as_mut().and_then(Iterator::next) {
                return Some(entry);
            }
            let line = self.lines.find(|line| line.name == self.name)?;
            let value = line.value.of(self.raw);
            if !self.name.is_list() {
                return Some(value);
            }
            self.list = Some(List::new(value));
        }
    }
}
