//! Calls that an application places, each once however often it is asked for.

use crate::api::Context;
use crate::api::RequestId;
use crate::api::auth::Caller;
use crate::api::call_notes;
use crate::api::control;
use crate::api::error;
use crate::api::error::ApiError;
use crate::api::error::ErrorKind;
use crate::api::placing::Past;
use crate::api::secrets;
use crate::api::steered;
use crate::api::wish;
use crate::api::wish::Sent;
use crate::clock;
use crate::engine::originate::CallControl;
use crate::engine::originate::Origination;
use crate::store::ai_profiles;
use crate::store::database::within;
use crate::store::idempotency::Known;
use crate::store::idempotency::Request;
use crate::store::resource::Fault;
use crate::store::resource::Members;
use crate::types::agent::AgentSettings;
use crate::types::header::FieldName;
use crate::types::header::FieldValue;
use crate::types::id::CallId;
use crate::types::id::TenantId;
use axum::Extension;
use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::Response;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

/// Headers of one call.
const HEADERS_MAX: usize = 16;
/// Longest `max_duration_s`: a day.
const DURATION_S_MAX: u64 = 86_400;
/// How a request names itself.
const KEY: &str = "idempotency-key";
/// Longest such name.
const KEY_BYTES_MAX: usize = 255;
/// Says that an answer was given before.
const REPLAYED: &str = "idempotency-replayed";
/// How long the database may take to keep how a request was answered: the call is placed, or refused, already.
const KEPT_MAX: Duration = Duration::from_secs(2);
/// The same to begin one: nothing is placed before.
const BEGIN_MAX: Duration = Duration::from_secs(4);
/// How long the same request under way is waited for, and how often it is looked for.
const KEY_TRIES: u32 = 50;
const KEY_PERIOD: Duration = Duration::from_millis(100);

/// A call that is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CallWish {
    /// The number to call, in the international form.
    to: String,
    /// The number to show.
    from: Option<String>,
    /// Whether that is withheld from the called party.
    anonymous: Option<bool>,
    /// The campaign it is for.
    campaign_id: Option<String>,
    /// Who speaks.
    ai_profile_id: Option<String>,
    /// How it is reached instead.
    agent: Option<Value>,
    /// The trunk, by its id or name.
    trunk: Option<String>,
    /// Headers for the carrier.
    headers: Option<BTreeMap<String, String>>,
    /// What is passed on.
    variables: Option<Members>,
    /// After so many seconds from the answer it is ended.
    max_duration_s: Option<u64>,
    /// Whether it is recorded.
    record: Option<bool>,
    /// Whether a person or a machine answered is found out.
    machine_detection: Option<bool>,
}

pub(super) async fn place(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    sent: Sent,
) -> Result<Response, ApiError> {
    let id = &caller.request_id;
    let (tenant, control) = control::open(&context, &caller)?;
    let refused = |fault| error::fault(fault, id);
    let given = sent.members(id)?;
    let request = key(&headers).map_err(|what| ErrorKind::BadParameter(what).of(id))?;
    let request =
        request.map(|key| Request::new(tenant, key, &Value::Object(given.clone()).to_string()));
    let wish: CallWish = wish::read(given).map_err(refused)?;
    wish.check(&caller).map_err(refused)?;
    let wish = wish.read(tenant).map_err(refused)?;
    match request {
        Some(request) => place_once(&context, &caller, request, (control, wish)).await,
        None => {
            let wish = wish.resolve(&context, &control).map_err(refused)?;
            let numbers = (wish.to.clone(), wish.from);
            let call = control.place(wish).map_err(|cause| ErrorKind::CallRefused(cause).of(id))?;
            let of = (numbers.0.as_str(), numbers.1);
            steered::note_placed(&context, &caller, (tenant, call), of).await;
            Ok((StatusCode::CREATED, Json(placed(call))).into_response())
        }
    }
}

const KEY_FORM: &str = "`Idempotency-Key` is given once, as 1 to 255 visible characters";

fn placed(call: CallId) -> Value {
    json!({ "id": call.to_string(), "state": "initiated" })
}

fn key(headers: &HeaderMap) -> Result<Option<&str>, &'static str> {
    let mut all = headers.get_all(KEY).iter();
    let Some(first) = all.next() else { return Ok(None) };
    let text = first.to_str().map_err(|_| KEY_FORM)?;
    let is_visible = text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    let good = (1..=KEY_BYTES_MAX).contains(&text.len()) && is_visible && all.next().is_none();
    if good { Ok(Some(text)) } else { Err(KEY_FORM) }
}

/// Places the call, unless the same request did. One that places none may be sent again.
async fn place_once(
    context: &Context,
    caller: &Caller,
    request: Request,
    (control, wish): (CallControl, ReadWish),
) -> Result<Response, ApiError> {
    let id = &caller.request_id;
    let database = &context.database;
    let failed = |failed: sqlx::Error| error::database(&failed, id);
    let new = clock::new_call_id();
    for _ in 0..KEY_TRIES {
        let begun = within(BEGIN_MAX, request.begin(database, context.placing.node(), new)).await;
        let (status, answer) = match begun.map_err(failed)? {
            Known::Other => return Err(ErrorKind::KeyReused.of(id)),
            Known::Answered(status, answer) => (status, answer),
            Known::Placed(call) => (StatusCode::CREATED.as_u16(), placed(call)),
            Known::Elsewhere => return Err(ErrorKind::KeyUnsettled.of(id)),
            Known::Ours(call) => {
                // Whoever began it may have come this far, and its record is still on its way.
                let past = if call == new { Past::NotPlaced } else { context.placing.past(call) };
                if past == Past::Unknown {
                    return Err(ErrorKind::KeyUnsettled.of(id));
                }
                if past == Past::NotPlaced {
                    context.placing.note(call);
                    let asked = &wish.origination;
                    let (tenant, to, from) = (asked.tenant, asked.to.clone(), asked.from);
                    let placed = wish.place_as(call, (context, &control), id);
                    if let Err(refused) = placed {
                        // Before anything is waited for: whoever asked may be gone by then.
                        context.placing.forget(call);
                        // One that cannot be forgotten now is not placed either.
                        let forgotten = within(KEPT_MAX, request.forget(database)).await;
                        drop(forgotten.inspect_err(|error| {
                            tracing::warn!(%error, "a refused request is not forgotten");
                        }));
                        return Err(refused);
                    }
                    steered::note_placed(context, caller, (tenant, call), (to.as_str(), from))
                        .await;
                }
                let answer = placed(call);
                // The call is placed: without this its record says so.
                let kept = request.answered(database, StatusCode::CREATED.as_u16(), &answer);
                let kept = within(KEPT_MAX, kept).await;
                kept.unwrap_or_else(|error| tracing::warn!(%error, "an answer is not kept"));
                return Ok((StatusCode::CREATED, Json(answer)).into_response());
            }
            Known::Busy => {
                let later = clock::instant(clock::now() + KEY_PERIOD);
                tokio::time::sleep_until(later.into()).await;
                continue;
            }
        };
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::CREATED);
        return Ok((status, [(REPLAYED, "true")], Json(answer)).into_response());
    }
    Err(ErrorKind::KeyBusy.of(id))
}

/// A call that is asked for, read as far as it says the same at any time. What the rest means is looked up when it is
/// placed: a request that comes again is not judged by what was configured since.
struct ReadWish {
    origination: Origination,
    /// The trunk, by its id or name.
    trunk: Option<String>,
    /// How the agent is reached.
    agent: Option<Value>,
}

impl ReadWish {
    /// The call, by what is configured now.
    fn resolve(self, context: &Context, control: &CallControl) -> Result<Origination, Fault> {
        let mut call = self.origination;
        call.agent = self.agent.map(|agent| settings(context, &agent)).transpose()?;
        let missing = || Fault::invalid("trunk", "the tenant has no such trunk");
        let trunk = |text: String| control.trunk(call.tenant, &text).ok_or_else(missing);
        call.trunk = self.trunk.map(trunk).transpose()?;
        Ok(call)
    }

    /// Places it under this identity.
    fn place_as(
        self,
        call: CallId,
        (context, control): (&Context, &CallControl),
        id: &RequestId,
    ) -> Result<(), ApiError> {
        let mut wish = self.resolve(context, control).map_err(|fault| error::fault(fault, id))?;
        wish.id = Some(call);
        control.place(wish).map(drop).map_err(|cause| ErrorKind::CallRefused(cause).of(id))
    }
}

/// The settings that are to hold instead of the profile's.
fn settings(context: &Context, agent: &Value) -> Result<AgentSettings, Fault> {
    let composer = context.composer.borrow().clone();
    let settings = ai_profiles::read_agent(&composer, agent)?;
    ai_profiles::judge_place(&settings.kind, &context.agents)?;
    Ok(settings)
}

impl CallWish {
    fn check(&self, caller: &Caller) -> Result<(), Fault> {
        if let Some(agent) = self.agent.as_ref().filter(|_| !caller.is_platform()) {
            secrets::check_references("agent", agent)?;
        }
        if self.max_duration_s.is_some_and(|s| !(1..=DURATION_S_MAX).contains(&s)) {
            let why = format!("it is 1 to {DURATION_S_MAX}");
            return Err(Fault::invalid("max_duration_s", why));
        }
        self.variables.as_ref().map_or(Ok(()), |all| call_notes::variables(all).map(|_| ()))
    }

    fn read(self, tenant: TenantId) -> Result<ReadWish, Fault> {
        let bad = |field: &str, why: &str| Fault::invalid(field, why);
        let number = "it is a number in the international form";
        let to = self.to.parse().map_err(|_| bad("to", number))?;
        let from = self.from.as_deref().map(str::parse).transpose();
        let from = from.map_err(|_| bad("from", number))?;
        let profile = self.ai_profile_id.as_deref().map(str::parse).transpose();
        let profile = profile.map_err(|_| bad("ai_profile_id", "it is the id of an AI profile"))?;
        let campaign = self.campaign_id.as_deref().map(str::parse).transpose();
        let campaign = campaign.map_err(|_| bad("campaign_id", "it is the id of a campaign"))?;
        let headers = self.headers.unwrap_or_default();
        if headers.len() > HEADERS_MAX {
            return Err(Fault::invalid("headers", format!("it has at most {HEADERS_MAX} entries")));
        }
        let header = |(name, value): (String, String)| -> Result<(FieldName, FieldValue), Fault> {
            let header = name.parse().ok().zip(value.parse().ok());
            header.ok_or_else(|| Fault::invalid(format!("headers.{name}"), "it cannot be sent"))
        };
        let headers = headers.into_iter().map(header).collect::<Result<_, _>>()?;
        let mut wish = Origination::new(tenant, to);
        wish.from = from;
        wish.anonymous = self.anonymous.unwrap_or_default();
        wish.campaign = campaign;
        wish.ai_profile = profile;
        wish.headers = headers;
        // They were checked.
        wish.variables = self.variables.and_then(|all| call_notes::variables(&all).ok());
        wish.record = self.record;
        wish.machine_detection = self.machine_detection.unwrap_or_default();
        wish.duration_max = self.max_duration_s.map(Duration::from_secs);
        Ok(ReadWish { origination: wish, trunk: self.trunk, agent: self.agent })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderName;
    use axum::http::HeaderValue;

    fn key_of(values: &[&str]) -> Result<Option<String>, &'static str> {
        let name = HeaderName::from_static(KEY);
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(&name, HeaderValue::from_str(value).unwrap());
        }
        key(&headers).map(|key| key.map(str::to_owned))
    }

    #[test]
    fn a_request_names_itself_once_and_shortly() {
        assert_eq!(key_of(&[]), Ok(None));
        assert_eq!(key_of(&["lead-7"]), Ok(Some("lead-7".to_owned())));
        let long = "x".repeat(KEY_BYTES_MAX + 1);
        for bad in [&[""][..], &["a", "b"], &[long.as_str()], &["a\tb"]] {
            assert_eq!(key_of(bad), Err(KEY_FORM), "{bad:?}");
        }
    }
}
