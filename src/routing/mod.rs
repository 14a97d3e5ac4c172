//! Routing: who calls, what was dialled, whose number it is, and whether the call may come in.

pub mod decision;
