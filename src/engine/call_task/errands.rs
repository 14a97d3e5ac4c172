//! What applications ask of a call, carried out by its task.

use crate::call::event::CallEvent;
use crate::call::input::Input;
use crate::call::side::LegSide;
use crate::call::steer::Attach;
use crate::call::steer::Order;
use crate::call::steer::Play;
use crate::call::steer::Senseless;
use crate::cdr::CallState;
use crate::engine::call_task::Task;
use crate::engine::errand::Ask;
use crate::engine::errand::Errand;
use crate::engine::errand::Snapshot;
use crate::engine::errand::Stood;
use crate::engine::partner;
use crate::engine::registry::Unheard;
use crate::routing::table::AiProfile;
use crate::types::agent::AgentKind;
use crate::types::agent::AgentSettings;
use crate::types::agent::TwimlAgent;
use crate::types::cause::HangupCause;
use crate::types::cause::Party;
use crate::types::header::CallVariables;
use std::sync::Arc;

impl Task {
    /// Does what is asked and answers how the call stands then.
    pub(super) async fn run_errand(&mut self, errand: Errand) {
        let is_look = matches!(errand.ask, Ask::Look);
        let before = Box::new(self.stands());
        let done = self.run_ask(errand.ask).await;
        // Who asked may be gone.
        drop(errand.reply.send(done.map(|()| self.snapshot(before, is_look))));
    }

    async fn run_ask(&mut self, ask: Ask) -> Result<(), Unheard> {
        match ask {
            Ask::Look => (),
            Ask::Order(order) => {
                if let Order::Supervise(wish) = &order {
                    let seat = self.call.check_supervise()?;
                    let checked = self.check_called(LegSide::Supervisor(seat), &wish.request);
                    checked.map_err(Unheard::Refused)?;
                }
                self.order(order).await?;
            }
            Ask::Cancel if self.log.record().state() == CallState::Answered => {
                return Err(Senseless::Answered.into());
            }
            Ask::HangUp | Ask::Cancel => {
                let (cause, by) = (HangupCause::Normal, Party::Operator);
                self.take_in(Input::HangupRequested { cause, by }).await;
            }
            Ask::Transfer(input) => {
                self.call.check_transfer(&input)?;
                self.check_target(&input).map_err(Unheard::Refused)?;
                self.take_in(*input).await;
            }
            Ask::Play(name, clip) => {
                let play = Play { clip: clip.number(), name, beside: clip.is_beside() };
                self.clip = Some(clip);
                self.order(Order::Play(play)).await?;
            }
            Ask::Attach(profile) => self.attach_profile(profile, false).await?,
            Ask::Script(agent) => self.follow_script(*agent).await?,
            Ask::Recount((first, last), turns) => {
                self.note(CallEvent::TranscriptAdded { first, last });
                self.recount(turns);
            }
            Ask::Set(change) => {
                let mut variables = self.route.variables.clone();
                change.removed.iter().for_each(|name| variables.remove(name));
                // The record has no more than a call may have, and what is in it was asked of the call too.
                if variables.set_all(&change.set) {
                    self.set_variables(variables);
                }
            }
        }
        Ok(())
    }

    /// Does what follows from an input at once, so that who asked for it is told what came of it.
    async fn take_in(&mut self, input: Input) {
        let mut out = Vec::new();
        self.call.handle(crate::clock::now(), input, &mut out);
        for output in out {
            if let Some(lasting) = self.perform(output) {
                lasting.await;
            }
        }
    }

    fn stands(&self) -> Stood {
        let record = self.log.record();
        let profile = record.route.ai_profile;
        Stood { state: record.state(), standing: self.call.standing(), profile }
    }

    /// The agent of another profile takes over, by the link or by telephone; from another leg, too, where it takes the
    /// caller back.
    pub(super) async fn attach_profile(
        &mut self,
        profile: Arc<AiProfile>,
        takes_back: bool,
    ) -> Result<(), Senseless> {
        let next = partner::fallbacks(&self.switch.table.load(), &profile);
        let fallbacks = partner::next_agents(&next);
        let agent = profile.agent.clone();
        let (profile_id, partner) = (profile.id, partner::of_agent(&agent));
        // One of them may take over in the same step.
        let next_before = std::mem::replace(&mut self.next_profiles, next.into());
        let before = std::mem::replace(&mut self.route.profile, profile);
        let attach = Attach { profile: profile_id, agent, partner, fallbacks, takes_back };
        let done = self.order(Order::Attach(Box::new(attach))).await;
        if done.is_err() {
            (self.route.profile, self.next_profiles) = (before, next_before);
        }
        done
    }

    /// A script leads the call from now on: in place of the one that does, of its agent, or of whoever the
    /// caller was passed on to, as bots written for Twilio expect it.
    async fn follow_script(&mut self, mut agent: TwimlAgent) -> Result<(), Senseless> {
        if !self.call.is_answered() {
            return Err(Senseless::NotAnswered);
        }
        if self.replace_script(&agent.source) {
            return Ok(());
        }
        // Who gave its profile a token knows us by that.
        let own = match &self.route.profile.agent.kind {
            AgentKind::Twilio(own) => Some(&own.auth_token),
            AgentKind::Twiml(own) => Some(&own.auth_token),
            _ => None,
        };
        if let Some(token) = own.filter(|token| !token.expose().is_empty()) {
            agent.auth_token = token.clone();
        }
        let kind = AgentKind::Twiml(Box::new(agent));
        let agent = AgentSettings { kind, ..self.route.profile.agent.clone() };
        let profile = AiProfile { agent, ..AiProfile::clone(&self.route.profile) };
        self.attach_profile(Arc::new(profile), true).await
    }

    pub(super) async fn order(&mut self, order: Order) -> Result<(), Senseless> {
        let mut out = Vec::new();
        let done = self.call.order(crate::clock::now(), order, &mut out);
        for output in out {
            if let Some(lasting) = self.perform(output) {
                lasting.await;
            }
        }
        self.clip = None;
        done
    }

    /// These are its variables from now on: an agent that takes over later is told of them, and who is dialled.
    pub(super) fn set_variables(&mut self, variables: CallVariables) {
        self.route.variables = variables;
        self.note(CallEvent::VariablesSet(Box::new(self.route.variables.clone())));
    }

    /// `whole`: with what happened up to now.
    fn snapshot(&self, before: Box<Stood>, whole: bool) -> Snapshot {
        let mut media = Vec::new();
        for side in LegSide::ALL {
            if let Some(id) = self.media_id(side) {
                media.push((side.as_str(), id));
            }
        }
        let record = self.log.record();
        Snapshot {
            before,
            record: whole.then(|| Box::new(record.clone())),
            state: record.state(),
            stages: record.stages,
            standing: self.call.standing(),
            profile: record.route.ai_profile,
            variables: self.route.variables.clone(),
            events: if whole { self.log.events().to_vec() } else { Vec::new() },
            media,
        }
    }

    /// The new agent gets a link of its own: what the one before had queued is not played.
    pub(super) fn attach_voice(&mut self) {
        let side = self.call.side_of_agent();
        let Some(media) = self.media_id(side) else { return };
        let (media_end, agent_end) = self.voice_link_to(side);
        self.switch.media.attach(media, media_end);
        self.start_voice(Some(media), agent_end, false);
    }
}
