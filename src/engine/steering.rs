//! What applications ask of running calls, answered with how the call stands then.

use crate::agent::session::Said;
use crate::audio::mixer::Gain;
use crate::call::setup::Partner;
use crate::call::steer::Order;
use crate::call::steer::Senseless;
use crate::call::supervision::Supervise;
use crate::call::supervision::SupervisionMode;
use crate::cdr::TimedEvent;
use crate::clock;
use crate::engine::assets::AssetError;
use crate::engine::assets::Playing;
use crate::engine::assets::SoundName;
use crate::engine::errand::Ask;
use crate::engine::errand::Errand;
use crate::engine::errand::LiveCall;
use crate::engine::errand::Snapshot;
use crate::engine::errand::VariableChange;
use crate::engine::live::LiveEvent;
use crate::engine::originate;
use crate::engine::originate::CallControl;
use crate::engine::originate::TransferTarget;
use crate::engine::partner;
use crate::engine::registry::Unheard;
use crate::media::session::Clip;
use crate::recording::recorder::Recorder;
use crate::types::agent::TwimlAgent;
use crate::types::id::AiProfileId;
use crate::types::id::CallId;
use crate::types::id::TenantId;
use crate::types::limit::AGENT_STORY_TURNS_MAX;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long a call may take to answer: its task may wait for a media thread that closes another leg.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Why something is not played.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotPlayed {
    /// The sound.
    #[error(transparent)]
    Asset(#[from] AssetError),
    /// The call.
    #[error(transparent)]
    Call(#[from] Unheard),
}

/// Why another agent is not attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAttached {
    /// The tenant has no such profile.
    #[error("the tenant has no such profile")]
    NoProfile,
    /// Its agent is reached by telephone.
    #[error("the profile's agent is reached by telephone: transfer the call")]
    Telephone,
    /// The call.
    #[error(transparent)]
    Call(#[from] Unheard),
}

impl CallControl {
    /// How a running call of `tenant` stands.
    ///
    /// # Errors
    /// [`Unheard`]: it does not run here, or does not answer.
    pub async fn look(&self, tenant: TenantId, call: CallId) -> Result<LiveCall, Unheard> {
        let snapshot = self.ask(tenant, call, Ask::Look).await?;
        let mut legs = Vec::new();
        for (leg, media) in &snapshot.media {
            if let Some(figures) = self.switch.media.statistics(*media).await {
                legs.push((*leg, figures));
            }
        }
        Ok(LiveCall { snapshot, legs })
    }

    /// How the calls of `tenant` stand that run here, the newest first, behind `after`, and where the next page
    /// begins. One that ends at this moment is left out.
    pub async fn running(
        &self,
        tenant: TenantId,
        after: Option<CallId>,
        most: usize,
    ) -> (Vec<Snapshot>, Option<CallId>) {
        let mut ids = self.switch.registry.running(tenant, after);
        let is_full = ids.len() > most;
        ids.truncate(most);
        let next = ids.last().copied().filter(|_| is_full);
        let looks = ids.into_iter().map(|id| self.ask(tenant, id, Ask::Look));
        let found = futures_util::future::join_all(looks).await;
        (found.into_iter().flatten().collect(), next)
    }

    /// What happened to a running call of `tenant` behind a place in it, as the call itself has it.
    ///
    /// # Errors
    /// [`Unheard`]: it does not run here, or does not answer.
    pub async fn events(
        &self,
        tenant: TenantId,
        call: CallId,
        after: i64,
    ) -> Result<Vec<LiveEvent>, Unheard> {
        let Snapshot { stages, events, .. } = self.ask(tenant, call, Ask::Look).await?;
        let later = events.into_iter().filter(|timed| i64::from(timed.seq) > after);
        let live = |TimedEvent { seq, at, event }| {
            let (state, rings) = (stages.state_at(at), stages.ringing == Some(at));
            LiveEvent { call, tenant, seq, at, event, state, rings }
        };
        Ok(later.map(live).collect())
    }

    /// Does what is asked with a call of `tenant`.
    ///
    /// # Errors
    /// [`Unheard`]: it does not run here, or it makes no sense at this moment.
    pub async fn order(
        &self,
        tenant: TenantId,
        call: CallId,
        order: Order,
    ) -> Result<Snapshot, Unheard> {
        self.ask(tenant, call, Ask::Order(order)).await
    }

    /// Lets the near leg's peer of a call of `tenant` hear a sound of the node, or a tone.
    ///
    /// # Errors
    /// [`NotPlayed`].
    pub async fn play(
        &self,
        (tenant, call): (TenantId, CallId),
        playing: Playing,
    ) -> Result<Snapshot, NotPlayed> {
        // What cannot be played to is not worth reading a file for.
        self.ask(tenant, call, Ask::Look).await?;
        let Playing { sound, rounds, gain_db, beside } = playing;
        let name = sound.to_string();
        let audio = match sound {
            SoundName::Asset(asset) => {
                let assets = self.switch.assets.clone();
                let read = tokio::task::spawn_blocking(move || assets.load(tenant, &asset)).await;
                read.unwrap_or(Err(AssetError::Unusable))?
            }
            SoundName::Tone(tone) => {
                let trunk = self.switch.registry.trunk_of(tenant, call);
                tone.period(trunk.as_ref().map_or("", |trunk| &trunk.country))
            }
        };
        // It only has to differ from those before it in the same call.
        let number = clock::random_u64() as u32;
        let clip = Clip::new(number, audio, rounds).at_gain(Gain::of_db(gain_db), beside);
        let clip = Box::new(clip);
        Ok(self.ask(tenant, call, Ask::Play(name, clip)).await?)
    }

    /// Lets a supervisor take part in a call of `tenant`, once it answers. How its leg fares is told by the call's
    /// events.
    ///
    /// # Errors
    /// [`Unheard`]: it does not run here, it makes no sense at this moment, or the supervisor may not be called.
    pub async fn supervise(
        &self,
        tenant: TenantId,
        call: CallId,
        (target, mode): (TransferTarget, SupervisionMode),
    ) -> Result<Snapshot, Unheard> {
        let request = *originate::dial_request(target);
        let order = Order::Supervise(Box::new(Supervise { request, mode }));
        self.order(tenant, call, order).await
    }

    /// Puts the agent of another profile in place of the one a call of `tenant` is with.
    ///
    /// # Errors
    /// [`NotAttached`].
    pub async fn attach(
        &self,
        tenant: TenantId,
        call: CallId,
        profile: AiProfileId,
    ) -> Result<Snapshot, NotAttached> {
        let table = self.switch.table.load_full();
        let profile = table.ai_profile(profile).filter(|profile| profile.tenant == tenant);
        let profile = Arc::clone(profile.ok_or(NotAttached::NoProfile)?);
        match partner::of_agent(&profile.agent) {
            Partner::Agent => Ok(self.ask(tenant, call, Ask::Attach(profile)).await?),
            Partner::AgentLeg(_) | Partner::Forward(_) => Err(NotAttached::Telephone),
        }
    }

    /// Lets a script lead a running call of `tenant` from now on.
    ///
    /// # Errors
    /// [`Unheard`]: it does not run here, or it makes no sense at this moment.
    pub async fn follow_script(
        &self,
        tenant: TenantId,
        call: CallId,
        agent: TwimlAgent,
    ) -> Result<Snapshot, Unheard> {
        self.ask(tenant, call, Ask::Script(Box::new(agent))).await
    }

    /// Changes the variables of a running call of `tenant`. What does not fit beside those it has changes nothing.
    ///
    /// # Errors
    /// [`Unheard`]: it does not run here.
    pub async fn set_variables(
        &self,
        tenant: TenantId,
        call: CallId,
        change: VariableChange,
    ) -> Result<Snapshot, Unheard> {
        self.ask(tenant, call, Ask::Set(Box::new(change))).await
    }

    /// Tells a running call of `tenant` that turns of its transcript came, those of these numbers: its agents learn
    /// from them what was said should their connection break, or another take over.
    ///
    /// # Errors
    /// [`Unheard`]: it does not run here.
    pub async fn tell_transcript(
        &self,
        tenant: TenantId,
        call: CallId,
        numbers: (u32, u32),
        mut turns: Vec<Said>,
    ) -> Result<Snapshot, Unheard> {
        // An agent that comes later is not told of more.
        turns.drain(..turns.len().saturating_sub(AGENT_STORY_TURNS_MAX));
        self.ask(tenant, call, Ask::Recount(numbers, turns)).await
    }

    /// Who records calls.
    #[must_use]
    pub fn recorder(&self) -> Option<Recorder> {
        self.switch.recorder.clone()
    }

    pub(super) async fn ask(
        &self,
        tenant: TenantId,
        call: CallId,
        ask: Ask,
    ) -> Result<Snapshot, Unheard> {
        let (reply, answer) = oneshot::channel();
        self.switch.registry.ask(tenant, call, Box::new(Errand { ask, reply }))?;
        match tokio::time::timeout(ANSWER_MAX, answer).await {
            Ok(Ok(answer)) => answer,
            // It ended before it came to this.
            Ok(Err(_)) => Err(Unheard::Senseless(Senseless::Over)),
            Err(_) => Err(Unheard::Busy),
        }
    }
}
