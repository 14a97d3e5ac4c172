//! A try whose party offers anew before it answers.

use crate::call::input::LegInput;
use crate::call::input::LegOutput;
use crate::engine::dial::Line;
use crate::engine::dial::attempt::Dialling;
use crate::engine::dial::attempt::trying::Stage;
use crate::engine::dial::attempt::trying::Trying;
use crate::engine::dial::carry;
use crate::engine::sip_shard::ShardHandle;
use crate::routing::outbound_attempt::Input;
use crate::sip::endpoint::event::Command;
use crate::sip::endpoint::event::Event;

/// Tells the call of such an offer, which changes nothing of the try. Nothing else happens before an answer.
pub(super) async fn hear(line: &Line, event: Event) -> Option<Input> {
    if let Event::Reinvited { body, .. } = event {
        line.tell(LegInput::Reoffered(body.map(|body| body.bytes))).await;
    }
    None
}

impl Dialling {
    /// Tells the party what the call says to its offer, which changes nothing of the try. Nothing else is said before an
    /// answer.
    pub(super) async fn say(&mut self, output: LegOutput) -> Option<Input> {
        if !matches!(output, LegOutput::AnswerReoffer(_) | LegOutput::RefuseReoffer(_)) {
            return None;
        }
        let (shard, command) = self.trying.as_ref()?.order(output)?;
        // Where it is of the try before this one, the endpoint knows that it was asked nothing.
        shard.command(command).await;
        None
    }
}

impl Trying {
    /// What its dialog must do for the call, and the shard that has it.
    fn order(&self, output: LegOutput) -> Option<(ShardHandle, Command)> {
        let Stage::Calling { shard, dialog: Some(dialog), .. } = &self.stage else { return None };
        let command = carry::command_of(*dialog, output, &|to| self.target.number_uri(to))?;
        Some((shard.clone(), command))
    }
}
