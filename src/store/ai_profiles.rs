//! AI profiles: rows of `ai_profiles` as routing reads them, and the form of their `agent` column.

use crate::config::secret;
use crate::config::secret::RowSecrets;
use crate::routing::table::AiProfile;
use crate::store::agent_form::parse_agent;
use crate::store::answer_hooks;
use crate::store::resource::Fault;
use crate::store::resource::Resource;
use crate::store::resource::field::Field;
use crate::store::resource::field::Form;
use crate::store::resource::field::Given;
use crate::store::resource::field::Kind;
use crate::store::snapshot::Composer;
use crate::store::snapshot::RowFault;
use crate::types::agent::AgentKind;
use crate::types::agent::AgentSettings;
use crate::types::id::AiProfileId;
use crate::types::id::TenantId;
use crate::types::limit::AGENT_FALLBACKS_MAX;
use crate::types::reach::Reach;
use crate::types::recording::RecordPolicy;
use serde::Deserialize;
use serde::Serialize;
use std::sync::Arc;
use uuid::Uuid;

/// A row of `ai_profiles`, as far as routing needs it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, sqlx::FromRow)]
pub(crate) struct AiProfileRow {
    pub(crate) id: Uuid,
    pub(crate) tenant_id: Uuid,
    pub(crate) name: String,
    pub(crate) agent: serde_json::Value,
    /// Of an agent that has no other way to know it.
    #[serde(default)]
    pub(crate) system_prompt: Option<String>,
    // Files written by an earlier version lack it.
    #[serde(default)]
    pub(crate) sealed: serde_json::Value,
    // The same.
    #[serde(default)]
    pub(crate) fallback_profiles: Vec<Uuid>,
    #[serde(default)]
    pub(crate) record: Option<String>,
    #[serde(default)]
    pub(crate) answer_webhook: Option<serde_json::Value>,
}

pub(crate) const ALL: &str = "SELECT id, tenant_id, name, agent, sealed, fallback_profiles, record, answer_webhook, \
    CASE WHEN agent->>'kind' = 'realtime' THEN system_prompt END AS system_prompt FROM ai_profiles";

pub(crate) const SOME: &str = "SELECT id, tenant_id, name, agent, sealed, fallback_profiles, record, answer_webhook, \
    CASE WHEN agent->>'kind' = 'realtime' THEN system_prompt END AS system_prompt FROM ai_profiles \
    WHERE id = ANY($1)";

impl AiProfileRow {
    /// The profile of this row.
    pub(crate) fn ai_profile(&self, composer: &Composer) -> Result<AiProfile, RowFault> {
        let sealed = composer.sealer.open_all(self.id, &self.sealed);
        let secrets = RowSecrets::new(Arc::clone(&composer.secrets), sealed);
        let fault = |column: &str, why: &str| {
            RowFault::new("ai_profiles", self.id, &self.name, &format!("{column}: {why}"))
        };
        let resolve = |reference: &str| secret::resolve(&secrets, reference);
        let mut agent = parse_agent(&self.agent, &resolve).map_err(|why| fault("agent", &why))?;
        let hook = self.answer_webhook.as_ref().unwrap_or(&serde_json::Value::Null);
        let ask =
            answer_hooks::parse(hook, &resolve).map_err(|why| fault("answer_webhook", &why))?;
        if let (AgentKind::Realtime(server), Some(prompt)) = (&mut agent.kind, &self.system_prompt)
            && server.instructions.is_empty()
        {
            server.instructions.clone_from(prompt);
        }
        Ok(AiProfile {
            id: AiProfileId::from_uuid(self.id),
            tenant: TenantId::from_uuid(self.tenant_id),
            name: self.name.clone(),
            agent,
            fallback: self.fallback_profiles.iter().copied().map(AiProfileId::from_uuid).collect(),
            record: self.record.as_deref().and_then(RecordPolicy::of),
            ask: ask.map(Arc::new),
        })
    }
}

fn is_id(text: &str) -> bool {
    text.len() == 36 && Uuid::parse_str(text).is_ok()
}

/// What names another profile.
const PROFILE_ID: Form =
    Form::new(is_id, "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$", "a UUID");

/// AI profiles as the API manages them.
pub const AI_PROFILES: Resource = Resource {
    name: "AI profile",
    plural: "ai_profiles",
    table: "ai_profiles",
    fields: &[
        Field::new("tenant_id", Kind::Id, "Whose it is.").given(Given::Never),
        Field::new("name", Kind::Text(1, 200), "Its name; a tenant has no two of one name.")
            .given(Given::Required)
            .filter(),
        Field::new(
            "role",
            Kind::Choice(&["receptionist", "sales", "support", "dispatcher", "custom"]),
            "What the agent is there for.",
        )
        .filter(),
        Field::new("system_prompt", Kind::Text(1, 100_000), "What the agent is told to be.")
            .given(Given::Required),
        Field::new(
            "is_default",
            Kind::Flag,
            "Whether it answers numbers that name no profile: true for exactly one of a tenant. Setting \
             it takes it from the one before; the first profile has it by itself.",
        )
        .filter(),
        Field::new(
            "agent",
            Kind::Object,
            "How the agent is reached and when the call is answered. A secret in it is `sealed:NAME`, one \
             of the profile's `secrets`.",
        )
        .given(Given::Required),
        Field::new(
            "fallback_profiles",
            Kind::Patterns(AGENT_FALLBACKS_MAX, PROFILE_ID),
            "Other profiles of the tenant whose agents take over, in this order, where the agent cannot be \
             reached or is lost in a call. The lists of those profiles do not count for that call. After \
             the last one the caller hears the announcement.",
        ),
        Field::new(
            "record",
            Kind::Choice(&["all", "off"]),
            "Whether its calls are recorded; null: the tenant says.",
        )
        .nullable(),
        Field::new(
            "answer_webhook",
            Kind::Object,
            "Who is asked which profile speaks, before a call in is answered and once a call out was: \
             `url` (https://, on the internet), `secret_ref` (`sealed:NAME`, which signs the question) \
             and `timeout_ms` (100 to 10000; 2000 if not given). Null: nobody, this profile does.",
        )
        .nullable(),
        Field::new("created_at", Kind::Time, "When it was made.").given(Given::Never),
        Field::new("updated_at", Kind::Time, "When it was last changed.").given(Given::Never),
    ],
    exclusive: Some("is_default"),
    has_secrets: true,
    is_switchs: false,
    deactivates: None,
};

/// Judges the agent of a profile with what is sealed in its row, as it will be read for calls, and where it is.
///
/// # Errors
///
/// The value that cannot be used.
pub fn check_agent(
    composer: &Composer,
    id: Uuid,
    (agent, sealed): (&serde_json::Value, &serde_json::Value),
    reach: &Reach,
) -> Result<(), Fault> {
    let sealed = composer.sealer.open_all(id, sealed);
    let secrets = RowSecrets::new(Arc::clone(&composer.secrets), sealed);
    let read = parse_agent(agent, &|reference| secret::resolve(&secrets, reference));
    judge_place(&read.map_err(unusable)?.kind, reach)
}

/// Judges where an agent is, as far as its text tells: no request may be forged into the node's own network.
///
/// # Errors
///
/// The key that says so.
pub fn judge_place(kind: &AgentKind, reach: &Reach) -> Result<(), Fault> {
    let (key, place) = match kind {
        AgentKind::Twilio(agent) => ("url", Some(&agent.url)),
        AgentKind::ChanWebsocket(agent) => ("url", agent.url.as_ref()),
        AgentKind::Realtime(agent) => ("url", Some(&agent.url)),
        AgentKind::AudioSocket(agent) => ("address", Some(&agent.address)),
        AgentKind::Sip(agent) => {
            let judged = reach.judge_call(agent.uri.as_str());
            return judged.map_err(|why| unusable(format!("`uri`: {why}")));
        }
        AgentKind::Echo
        | AgentKind::Tone { .. }
        | AgentKind::Announce
        | AgentKind::Parrot
        | AgentKind::Forward(_)
        | AgentKind::Twiml(_)
        | AgentKind::Script(_) => return Ok(()),
    };
    let judged = place.map_or(Ok(()), |place| reach.judge_agent(place));
    judged.map_err(|why| unusable(format!("`{key}`: {why}")))
}

/// Reads the agent of a single call, which has no row and so no sealed secrets.
///
/// # Errors
///
/// The value that cannot be used.
pub fn read_agent(composer: &Composer, agent: &serde_json::Value) -> Result<AgentSettings, Fault> {
    let sealed = composer.sealer.open_all(Uuid::nil(), &serde_json::Value::Null);
    let secrets = RowSecrets::new(Arc::clone(&composer.secrets), sealed);
    let read = parse_agent(agent, &|reference| secret::resolve(&secrets, reference));
    read.map_err(unusable)
}

/// Judges the answer webhook of a profile with what is sealed in its row; answers its URL, if there is one.
///
/// # Errors
///
/// The value that cannot be used.
pub fn check_answer_webhook(
    composer: &Composer,
    id: Uuid,
    hook: &serde_json::Value,
    sealed: &serde_json::Value,
) -> Result<Option<String>, Fault> {
    let sealed = composer.sealer.open_all(id, sealed);
    let secrets = RowSecrets::new(Arc::clone(&composer.secrets), sealed);
    let read = answer_hooks::parse(hook, &|reference| secret::resolve(&secrets, reference));
    read.map(|hook| hook.map(|hook| hook.url)).map_err(|why| unusable_in("answer_webhook", why))
}

fn unusable(why: String) -> Fault {
    unusable_in("agent", why)
}

/// What is wrong begins with the key in question, where one is.
fn unusable_in(column: &str, why: String) -> Fault {
    let key = why.strip_prefix('`').and_then(|rest| rest.split_once('`'));
    let field = key.map_or(column.to_owned(), |(key, _)| format!("{column}.{key}"));
    Fault::Invalid { field, why }
}
