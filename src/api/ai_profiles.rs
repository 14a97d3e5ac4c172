//! AI profiles: who answers, and how.

use crate::api::Context;
use crate::api::agent_endpoints::EndpointView;
use crate::api::auth::Caller;
use crate::api::resource::Noun;
use crate::api::secrets;
use crate::store::ai_profiles;
use crate::store::ai_profiles::AI_PROFILES;
use crate::store::resource::Fault;
use crate::store::resource::Resource;
use crate::store::resource::Row;
use crate::store::resource::change::Draft;
use crate::types::id::AiProfileId;
use serde_json::Value;
use serde_json::json;

pub(super) struct AiProfiles;

/// What its text tells; the addresses of its URL are judged whenever it is asked.
fn check_answer_webhook(
    context: &Context,
    caller: &Caller,
    draft: &Draft<'_>,
) -> Result<(), Fault> {
    let is_given = draft.given.contains_key("answer_webhook");
    if !is_given && !draft.given.contains_key("sealed") {
        return Ok(());
    }
    let hook = draft.after("answer_webhook");
    if is_given && !caller.is_platform() {
        secrets::check_references("answer_webhook", &hook)?;
    }
    let composer = context.composer.borrow().clone();
    let sealed = secrets::sealed(draft);
    let url = ai_profiles::check_answer_webhook(&composer, draft.id, &hook, &sealed)?;
    let reached = url.map_or(Ok(()), |url| context.reach.destination(&url).map(|_| ()));
    reached.map_err(|why| Fault::invalid("answer_webhook.url", why))
}

impl Noun for AiProfiles {
    const RESOURCE: &'static Resource = &AI_PROFILES;
    const IS_LIVE: bool = true;

    async fn complete(
        context: &Context,
        _: &Caller,
        mut rows: Vec<Row>,
    ) -> Result<Vec<Row>, Fault> {
        let table = context.trunks.table();
        for row in &mut rows {
            let profile = table.ai_profile(AiProfileId::from_uuid(row.id));
            let endpoint = profile.and_then(|profile| EndpointView::of(context, profile));
            row.members.insert("agent_endpoint".to_owned(), json!(endpoint));
        }
        Ok(rows)
    }

    /// The agent's settings are judged by the code that reads them for calls.
    fn amend(context: &Context, caller: &Caller, draft: &mut Draft<'_>) -> Result<(), Fault> {
        for name in ["agent", "answer_webhook"] {
            secrets::check_places(caller, draft, name)?;
        }
        let is_given = draft.given.contains_key("agent");
        if let Some(agent) = draft.given.get("agent").filter(|_| !caller.is_platform()) {
            let same = draft.before.and_then(|row| row.members.get("agent")) == Some(agent);
            if !same {
                secrets::check_references("agent", agent)?;
            }
        }
        if !is_given && !draft.given.contains_key("sealed") {
            return check_answer_webhook(context, caller, draft);
        }
        let composer = context.composer.borrow().clone();
        let sealed = secrets::sealed(draft);
        let agent = draft.after("agent");
        ai_profiles::check_agent(&composer, draft.id, (&agent, &sealed), &context.agents)?;
        // What is null is not given: shown again, it would be a key that its kind does not have. A change merges, and has none.
        if let (None, Some(Value::Object(agent))) = (draft.before, draft.given.get_mut("agent")) {
            agent.retain(|_, value| !value.is_null());
        }
        check_answer_webhook(context, caller, draft)
    }
}
