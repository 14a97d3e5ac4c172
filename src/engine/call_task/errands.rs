//! What applications ask of a call, carried out by its task.

use crate::audio::link::link;
use crate::call::event::CallEvent;
use crate::call::side::LegSide;
use crate::call::steer::Attach;
use crate::call::steer::Order;
use crate::call::steer::Play;
use crate::call::steer::Senseless;
use crate::engine::call_task::Task;
use crate::engine::errand::Ask;
use crate::engine::errand::Errand;
use crate::engine::errand::Snapshot;
use crate::engine::partner;
use crate::types::header::CallVariables;

impl Task {
    /// Does what is asked and answers how the call stands then.
    pub(super) async fn run_errand(&mut self, errand: Errand) {
        let done = match errand.ask {
            Ask::Look => Ok(()),
            Ask::Order(order) => self.order(order).await,
            Ask::Transfer(input) => {
                let done = self.call.check_transfer(&input);
                if done.is_ok() {
                    self.own.push_back(*input);
                }
                done
            }
            Ask::Play(name, clip) => {
                let play = Play { clip: clip.number(), name };
                self.clip = Some(clip);
                self.order(Order::Play(play)).await
            }
            Ask::Attach(profile) => {
                let next = partner::fallbacks(&self.switch.table.load(), &profile);
                let fallbacks = partner::next_agents(&next);
                let before = std::mem::replace(&mut self.route.profile, profile);
                let (profile, agent) = (self.route.profile.id, self.route.profile.agent.clone());
                let order = Order::Attach(Box::new(Attach { profile, agent, fallbacks }));
                let done = self.order(order).await;
                match done {
                    Ok(()) => self.next_profiles = next,
                    Err(_) => self.route.profile = before,
                }
                done
            }
            Ask::Note(event) => {
                self.note(*event);
                Ok(())
            }
            Ask::Set(variables) => self.set_variables(&variables),
        };
        // Who asked may be gone.
        drop(errand.reply.send(done.map(|()| self.snapshot())));
    }

    pub(super) async fn order(&mut self, order: Order) -> Result<(), Senseless> {
        let mut out = Vec::new();
        let done = self.call.order(crate::clock::now(), order, &mut out);
        for output in out {
            self.perform(output).await;
        }
        self.clip = None;
        done
    }

    /// An agent that takes over later is told of them, and who is dialled from now on.
    fn set_variables(&mut self, variables: &CallVariables) -> Result<(), Senseless> {
        for (name, value) in variables.iter() {
            // Beyond the bound the record has them, and the agents that come do not.
            let _room = self.route.variables.set(name.clone(), value.clone());
        }
        self.note(CallEvent::VariablesSet(Box::new(self.route.variables.clone())));
        Ok(())
    }

    fn snapshot(&mut self) -> Snapshot {
        let mut media = Vec::new();
        for side in LegSide::ALL {
            // Asking for the slot of a leg that never was would make it one.
            if (side == LegSide::Near || self.others.is_some())
                && let Some(id) = self.media_id(side)
            {
                media.push((side.as_str(), id));
            }
        }
        let record = self.log.record();
        Snapshot {
            state: record.state(),
            stages: record.stages,
            standing: self.call.standing(),
            profile: record.route.ai_profile,
            variables: self.route.variables.clone(),
            events: self.log.pending().to_vec(),
            media,
        }
    }

    /// The new agent gets a link of its own: what the one before had queued is not played.
    pub(super) fn attach_voice(&mut self) {
        let Some(media) = self.media.id() else { return };
        let (media_end, agent_end) = link();
        self.switch.media.attach(media, media_end);
        self.start_voice(agent_end, false);
    }
}
