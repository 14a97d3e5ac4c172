//! `Span`: where a part lies within the bytes that hold it.

/// Start and length of a part, in bytes. Messages have at most 65 535 bytes, so 16 bits suffice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    start: u16,
    len: u16,
}

impl Span {
    /// The span of `start..end`; empty when that is no range of 16 bits.
    pub(crate) fn new(start: usize, end: usize) -> Self {
        match (u16::try_from(start), u16::try_from(end.saturating_sub(start))) {
            (Ok(start), Ok(len)) => Self { start, len },
            _ => Self::default(),
        }
    }

    /// The span of `part`, which must be a part of `whole`; empty when it is not.
    pub(crate) fn within(whole: &[u8], part: &[u8]) -> Self {
        let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
        match start.checked_add(part.len()) {
            Some(end) if end <= whole.len() => Self::new(start, end),
            _ => Self::default(),
        }
    }

    /// The bytes of this span within `whole`.
    pub(crate) fn of(self, whole: &[u8]) -> &[u8] {
        whole.get(self.start()..self.end()).unwrap_or(&[])
    }

    pub(crate) fn start(self) -> usize {
        usize::from(self.start)
    }

    pub(crate) fn end(self) -> usize {
        usize::from(self.start) + usize::from(self.len)
    }
}
