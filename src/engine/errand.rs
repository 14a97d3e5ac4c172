//! What an application asks of a call's task, and what it is answered.

use crate::agent::session::Said;
use crate::call::input::Input;
use crate::call::steer::Order;
use crate::call::steer::Standing;
use crate::cdr::CallRecord;
use crate::cdr::CallState;
use crate::cdr::Stages;
use crate::cdr::TimedEvent;
use crate::engine::media_thread::MediaId;
use crate::engine::media_thread::MediaStatistics;
use crate::engine::registry::Unheard;
use crate::media::session::Clip;
use crate::routing::table::AiProfile;
use crate::types::agent::TwimlAgent;
use crate::types::header::CallVariables;
use crate::types::header::VariableName;
use crate::types::id::AiProfileId;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Something asked of a call's task.
#[derive(Debug)]
pub(super) struct Errand {
    pub(super) ask: Ask,
    /// Who asks may be gone by the time it is done.
    pub(super) reply: oneshot::Sender<Result<Snapshot, Unheard>>,
}

/// What is asked.
#[derive(Debug)]
pub(super) enum Ask {
    /// How it stands.
    Look,
    /// That something be done.
    Order(Order),
    /// That it end.
    HangUp,
    /// That it end unless somebody answered.
    Cancel,
    /// That it be transferred, or what becomes of its transfer.
    Transfer(Box<Input>),
    /// That the near leg's peer hear this.
    Play(String, Box<Clip>),
    /// That another agent take over.
    Attach(Arc<AiProfile>),
    /// That a script lead it from now on.
    Script(Box<TwimlAgent>),
    /// That turns of its transcript came, those of these numbers, and what was said in them.
    Recount((u32, u32), Vec<Said>),
    /// That its variables be changed.
    Set(Box<VariableChange>),
}

/// How the variables of a call change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VariableChange {
    /// These are set beside those it has.
    pub set: CallVariables,
    /// These are taken away.
    pub removed: Vec<VariableName>,
}

/// How a call stood.
#[derive(Clone, Debug, PartialEq)]
pub struct Stood {
    /// How far it got.
    pub state: CallState,
    /// How it stood.
    pub standing: Standing,
    /// The profile of its agent.
    pub profile: Option<AiProfileId>,
}

/// How a call stands, as its task knows it.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// How it stood before what was asked of it was done.
    pub before: Box<Stood>,
    /// Its record up to now, where it was looked at.
    pub record: Option<Box<CallRecord>>,
    /// How far it got.
    pub state: CallState,
    /// When it reached each stage.
    pub stages: Stages,
    /// How it stands.
    pub standing: Standing,
    /// The profile of its agent.
    pub profile: Option<AiProfileId>,
    /// Its variables.
    pub variables: CallVariables,
    /// What happened to it up to now, where it was looked at; see [`crate::cdr::CallLog::events`].
    pub events: Vec<TimedEvent>,
    /// The media of its legs.
    pub(super) media: Vec<(&'static str, MediaId)>,
}

impl Snapshot {
    /// How it stands, in short.
    #[must_use]
    pub fn stands(&self) -> Stood {
        Stood { state: self.state, standing: self.standing.clone(), profile: self.profile }
    }
}

/// How a call stands, with the figures of its media up to now.
#[derive(Clone, Debug)]
pub struct LiveCall {
    /// How it stands.
    pub snapshot: Snapshot,
    /// The figures of each leg.
    pub legs: Vec<(&'static str, MediaStatistics)>,
}
