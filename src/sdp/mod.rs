//! Session descriptions: a byte-tolerant grammar, and offer/answer into a `MediaPlan`.
