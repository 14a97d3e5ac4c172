//! AI profiles: who answers, and how.

use crate::api::Context;
use crate::api::auth::Caller;
use crate::api::resource::Noun;
use crate::api::secrets;
use crate::store::ai_profiles;
use crate::store::ai_profiles::AI_PROFILES;
use crate::store::resource::Fault;
use crate::store::resource::Resource;
use crate::store::resource::change::Draft;

pub(super) struct AiProfiles;

impl Noun for AiProfiles {
    const RESOURCE: &'static Resource = &AI_PROFILES;

    /// The agent's settings are judged by the code that reads them for calls.
    fn amend(context: &Context, caller: &Caller, draft: &mut Draft<'_>) -> Result<(), Fault> {
        let is_given = draft.given.contains_key("agent");
        if let Some(agent) = draft.given.get("agent").filter(|_| !caller.is_platform()) {
            let same = draft.before.and_then(|row| row.members.get("agent")) == Some(agent);
            if !same {
                secrets::check_references("agent", agent)?;
            }
        }
        if !is_given && !draft.given.contains_key("sealed") {
            return Ok(());
        }
        let composer = context.composer.borrow().clone();
        let sealed = secrets::sealed(draft);
        ai_profiles::check_agent(&composer, draft.id, &draft.after("agent"), &sealed)
    }
}
