//! Agents that need no network: for demonstrations, for tests, and for when no other agent answers.

pub mod announce;
pub mod echo;
pub mod parrot;
pub mod prompts;
pub mod tone;

mod synthesis;

use crate::agent::session::Output;
use crate::audio::link::FRAME_BYTES;

/// An agent within the switch. All of them run on the clock of the media: they play in answer to
/// what they hear or to marks that were played, and need no timer.
pub trait BuiltIn: Send {
    /// The session begins; playout may still be held until the call is answered.
    fn begin(&mut self, out: &mut Vec<Output>);

    /// 20 ms of the caller, µ-law at 8 kHz.
    fn hear(&mut self, _frame: &[u8; FRAME_BYTES], _out: &mut Vec<Output>) {}

    /// The caller pressed a key.
    fn digit(&mut self, _digit: char, _out: &mut Vec<Output>) {}

    /// Everything before the mark was played.
    fn mark_played(&mut self, _id: u64, _out: &mut Vec<Output>) {}

    /// The playout queue ran empty after [`Output::Finish`].
    fn drained(&mut self, _out: &mut Vec<Output>) {}
}
