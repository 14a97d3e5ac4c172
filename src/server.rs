//! The composition root: builds and wires every shell; readiness and drain.
