//! `TraceContext`: where a call stands in a distributed trace (W3C Trace Context), by its identity alone.
//!
//! The trace of a call is the call's UUID and its spans are numbered, so whoever knows the call knows its
//! trace: an agent's task, the delivery of a webhook an hour later, another process after a restart.

use crate::types::id::CallId;
use std::fmt;

/// Bits of an identity that decide whether its call is traced (W3C Trace Context Level 2 §2.3.1: these are
/// the random ones).
const RANDOM_BITS: u32 = 56;

/// Which calls are traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// Calls whose random bits are below this.
    below: u64,
}

impl Sampling {
    /// So many of 100 calls; more than 100 are all.
    #[must_use]
    pub const fn of_percent(percent: u64) -> Self {
        let percent = if percent > 100 { 100 } else { percent };
        Self {
            below: ((1 << RANDOM_BITS) / 100) * percent + if percent == 100 { 1 << 8 } else { 0 },
        }
    }

    /// Whether a call is traced; every node and every later look says the same.
    #[must_use]
    pub const fn takes(self, call: CallId) -> bool {
        (call.uuid().as_u128() as u64) & ((1 << RANDOM_BITS) - 1) < self.below
    }
}

/// A part of a call's trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SpanPart {
    /// The call as a whole.
    Call,
    /// The routing decision.
    Route,
    /// From the answer to its confirmation.
    Answer,
    /// From the answer to the end.
    Talk,
    /// From the end to the last of what was open.
    HangUp,
    /// The connection of the agent with this number: 0 is the first.
    Agent(u16),
    /// The attempt to call somebody with this number, over all legs.
    Dial(u16),
}

impl SpanPart {
    const fn number(self) -> u64 {
        match self {
            Self::Call => 0,
            Self::Route => 1,
            Self::Answer => 2,
            Self::Talk => 3,
            Self::HangUp => 4,
            Self::Agent(n) => 0x1_0000 | n as u64,
            Self::Dial(n) => 0x2_0000 | n as u64,
        }
    }
}

/// One span of a call's trace, as others are told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace: the call's UUID.
    pub trace: u128,
    /// The span within it; never zero.
    pub span: u64,
    /// Whether it is recorded.
    pub is_sampled: bool,
}

impl TraceContext {
    /// That of a part of `call`.
    #[must_use]
    pub const fn of(call: CallId, part: SpanPart, sampling: Sampling) -> Self {
        let trace = call.uuid().as_u128();
        // The variant of a UUID keeps the topmost of these bits set.
        let span = (trace as u64 | (1 << 63)) ^ part.number();
        Self { trace, span, is_sampled: sampling.takes(call) }
    }
}

/// The value of the header `traceparent` (W3C Trace Context §3.2).
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.is_sampled))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use uuid::Uuid;

    fn call(low: u64) -> CallId {
        let high = 0x0192_0000_0000_7000_u128 << 64;
        CallId::from_uuid(Uuid::from_u128(high | u128::from(low | (1 << 63))))
    }

    #[test]
    fn the_header_has_the_form_of_the_standard() {
        let context =
            TraceContext::of(call(0xabc), SpanPart::Call, Sampling::of_percent(100)).to_string();
        assert_eq!(context, "00-01920000000070008000000000000abc-8000000000000abc-01");
        let off = TraceContext::of(call(0xabc), SpanPart::Route, Sampling::of_percent(0));
        assert_eq!(off.to_string(), "00-01920000000070008000000000000abc-8000000000000abd-00");
    }

    #[test]
    fn no_two_spans_of_a_call_have_one_number() {
        let parts = [SpanPart::Call, SpanPart::Route, SpanPart::Answer, SpanPart::Talk]
            .into_iter()
            .chain([SpanPart::HangUp])
            .chain((0..200).map(SpanPart::Agent))
            .chain((0..200).map(SpanPart::Dial));
        let spans: Vec<_> = parts
            .map(|part| TraceContext::of(call(7), part, Sampling::of_percent(100)).span)
            .collect();
        assert_eq!(spans.iter().collect::<HashSet<_>>().len(), spans.len());
        assert!(spans.iter().all(|span| *span != 0));
    }

    #[test]
    fn a_share_of_the_calls_is_traced() {
        let taken = |percent| {
            let sampling = Sampling::of_percent(percent);
            // Spread evenly over all values of the random bits.
            let step = (1_u64 << 56) / 1_000;
            (0..1_000).filter(|n| sampling.takes(call(n * step + step / 2))).count()
        };
        assert_eq!((taken(0), taken(10), taken(100), taken(1_000)), (0, 100, 1_000, 1_000));
        assert!(Sampling::of_percent(100).takes(call(u64::MAX)));
    }
}
