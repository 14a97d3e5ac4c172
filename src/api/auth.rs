//! Who asks: API keys, what they open, and how often they may ask.

use crate::api::Context;
use crate::api::RequestId;
use crate::api::elsewhere;
use crate::api::error;
use crate::api::error::ApiError;
use crate::api::error::ErrorKind;
use crate::api::route::Access;
use crate::api::route::Route;
use crate::api::token;
use crate::api::token::CallRight;
use crate::api::twilio;
use crate::api::twilio::TwilioError;
use crate::clock;
use crate::store::api_keys::KeyHolder;
use crate::store::api_keys::KeyRole;
use crate::store::api_keys::KeyScope;
use crate::types::id::TenantId;
use axum::extract::RawPathParams;
use axum::extract::Request;
use axum::extract::State;
use axum::extract::rejection::RawPathParamsRejection;
use axum::http::HeaderMap;
use axum::http::header;
use axum::middleware::Next;
use axum::response::IntoResponse;
use axum::response::Response;
use jiff::Timestamp;
use uuid::Uuid;

/// What a key that opens every tenant is told where the path names none.
const NO_TENANT: &str = "there is no such tenant";

/// Who asks for what. Only the gate makes one, or `elsewhere` of what the gate of another node let pass: a handler that
/// has one is asked by somebody who may.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// Whose key it is.
    pub(super) holder: KeyHolder,
    /// The tenant of the path; `None`: the path is the platform's.
    pub(super) tenant: Option<TenantId>,
    /// The other parameter of the path, as it came.
    pub(super) item: Option<String>,
    /// The request.
    pub(super) request_id: RequestId,
}

impl Caller {
    /// Whether the key is one of the platform.
    pub(super) fn is_platform(&self) -> bool {
        self.holder.scope == KeyScope::AllTenants
    }

    /// The tenant of the path.
    pub(super) fn tenant(&self) -> Result<TenantId, ApiError> {
        self.tenant.ok_or_else(|| ErrorKind::Forbidden.of(&self.request_id))
    }

    /// The identity in the path; one that is none names nothing.
    pub(super) fn item(&self) -> Result<Uuid, ApiError> {
        let id = self.item.as_deref().and_then(|item| Uuid::parse_str(item).ok());
        let missing = ErrorKind::NotFound("there is nothing of this identity");
        id.ok_or_else(|| missing.of(&self.request_id))
    }
}

/// What stands before the handlers of a route.
#[derive(Clone)]
pub(super) struct Gate {
    pub(super) context: Context,
    pub(super) access: Access,
    /// What a call token needs, where one will do.
    by_token: Option<CallRight>,
    /// Whether the token may be part of the address: browsers give no headers with what they follow.
    in_address: bool,
    /// Whether clients of Twilio's API ask here: they name an account and give a token of it.
    is_twilios: bool,
}

/// Lets a request through whose key opens its route.
///
/// A path that names no tenant is refused like one of somebody else, so that nobody learns which
/// tenants exist.
pub(super) async fn pass(
    State(gate): State<Gate>,
    params: Result<RawPathParams, RawPathParamsRejection>,
    mut request: Request,
    next: Next,
) -> Response {
    let request_id = request.extensions().get::<RequestId>().cloned().unwrap_or_default();
    let of = (request.headers(), request.uri().query().unwrap_or_default());
    let judged = match (params, gate.is_twilios) {
        (Err(_), _) => Err(ErrorKind::BadParameter("the path is no UTF-8").of(&request_id)),
        (Ok(params), true) => gate.judge_pair(&params, of.0, request_id).await,
        (Ok(params), false) => gate.judge(&params, of, request_id).await,
    };
    match judged {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(error) if gate.is_twilios => TwilioError::from(error).into_response(),
        Err(error) => error.into_response(),
    }
}

impl Gate {
    /// The gate of a route.
    pub(super) fn of(context: &Context, route: &Route) -> Self {
        let rest = route.path.strip_prefix(CALL_PATH);
        Self {
            context: context.clone(),
            access: route.access,
            by_token: rest.and_then(|rest| token::right_at(route.method, rest)),
            in_address: rest == Some("/events"),
            is_twilios: route.is_twilios(),
        }
    }

    /// Who holds a key, within its pace. One that is known is paced before the database is asked.
    async fn holder(&self, key: &str, id: &RequestId) -> Result<Option<KeyHolder>, ApiError> {
        let Context { keys, rate, database, .. } = &self.context;
        let known = keys.known(key);
        if known.is_some_and(|known| !rate.admits(known)) {
            return Err(ErrorKind::TooMany.of(id));
        }
        let holder = keys.verify(database, key).await;
        let holder = holder.map_err(|error| error::database(&error, id))?;
        let is_new = |holder: &KeyHolder| known != Some(holder.id);
        if holder.as_ref().is_some_and(|holder| is_new(holder) && !rate.admits(holder.id)) {
            return Err(ErrorKind::TooMany.of(id));
        }
        Ok(holder)
    }

    /// Lets in who names the account of the path and gives one of its tenant's keys.
    async fn judge_pair(
        &self,
        params: &RawPathParams,
        headers: &HeaderMap,
        request_id: RequestId,
    ) -> Result<Caller, ApiError> {
        let id = &request_id;
        // A browser keeps such a pair and sends it along with forms of any page.
        let origin = headers.get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or_default());
        if origin.is_some_and(|origin| !self.context.origins.iter().any(|own| own == origin)) {
            return Err(ErrorKind::ReadOnly("pages of this origin may not ask").of(id));
        }
        let nobody = || ErrorKind::NoPair.of(id);
        let (account, token) = twilio::credentials(headers).ok_or_else(nobody)?;
        let tenant = TenantId::from_account_sid(&account).ok_or_else(nobody)?;
        let holder = self.holder(&token, id).await?.ok_or_else(nobody)?;
        if !holder.scope.opens(tenant) {
            return Err(nobody());
        }
        let mut item = None;
        for (name, value) in params {
            match name {
                "account_sid" if TenantId::from_account_sid(value) == Some(tenant) => (),
                "account_sid" => return Err(ErrorKind::NotFound("there is no such account").of(id)),
                // What names nothing is not found.
                _ => {
                    item = Some(
                        twilio::call_of(value).map_or_else(String::new, |call| call.to_string()),
                    )
                }
            }
        }
        check_role(&holder, self.access.least()).map_err(|kind| kind.of(id))?;
        Ok(Caller { holder, tenant: Some(tenant), item, request_id })
    }

    /// Lets in who has a token for the call of the path, while that runs.
    ///
    /// It opens no more than the key with which it was asked for still does.
    async fn judge_token(
        &self,
        params: &RawPathParams,
        text: &str,
        request_id: RequestId,
    ) -> Result<Caller, ApiError> {
        let id = &request_id;
        let (needed, calls) = self
            .by_token
            .zip(self.context.calls.as_ref())
            .ok_or_else(|| ErrorKind::ReadOnly("a call token does not open this").of(id))?;
        let sealer = self.context.composer.borrow().sealer.clone();
        let token = self.context.tokens.verify(&sealer, text, clock::wall_now());
        let token = token.ok_or_else(|| unknown(ENDED_TOKEN, id))?;
        let of = |wanted: &str, own: Uuid| {
            let mut named = params.iter().filter(|(name, _)| *name == wanted);
            named.any(|(_, value)| Uuid::parse_str(value) == Ok(own))
        };
        if !of("tenant_id", token.tenant.uuid()) || !of("id", token.call.uuid()) {
            return Err(ErrorKind::Forbidden.of(id));
        }
        if needed == CallRight::Steer && token.right != CallRight::Steer {
            return Err(ErrorKind::ReadOnly("a token that may steer is needed").of(id));
        }
        let key = (token.tenant, token.call);
        if !calls.is_running(key.0, key.1) && !elsewhere::may_run(&self.context, id, key).await? {
            return Err(unknown(ENDED_TOKEN, id));
        }
        let holder = token.holder();
        if !self.context.rate.admits(holder.id) {
            return Err(ErrorKind::TooMany.of(id));
        }
        let key = self.context.keys.holder(&self.context.database, holder.id).await;
        let key = key.map_err(|error| error::database(&error, id))?;
        if !key.is_some_and(|key| key.scope.opens(token.tenant) && key.role >= holder.role) {
            return Err(unknown(ENDED_TOKEN, id));
        }
        let item = Some(token.call.to_string());
        Ok(Caller { holder, tenant: Some(token.tenant), item, request_id })
    }

    async fn judge(
        &self,
        params: &RawPathParams,
        (headers, query): (&HeaderMap, &str),
        request_id: RequestId,
    ) -> Result<Caller, ApiError> {
        let id = &request_id;
        let key = key_of(headers).or_else(|| token_of(query).filter(|_| self.in_address));
        let key = key.ok_or_else(|| ErrorKind::NoKey.of(id))?;
        if key.starts_with(token::PREFIX) {
            return self.judge_token(params, key, request_id).await;
        }
        let holder = self.holder(key, id).await?.ok_or_else(|| unknown(UNKNOWN_KEY, id))?;
        let mut tenant = None;
        let mut item = None;
        for (name, value) in params {
            match name {
                "tenant_id" => tenant = Some(value),
                _ => item = Some(value.to_owned()),
            }
        }
        if matches!(self.access, Access::Platform(_)) && holder.scope != KeyScope::AllTenants {
            return Err(ErrorKind::Platforms("a key of the platform is needed").of(id));
        }
        let tenant = match tenant.map(str::parse::<TenantId>) {
            None => None,
            Some(Ok(tenant)) if holder.scope.opens(tenant) => Some(tenant),
            // A variable of a script that was empty, for instance: a key that opens all is not to blame.
            Some(Err(_)) if holder.scope == KeyScope::AllTenants => {
                return Err(ErrorKind::NotFound(NO_TENANT).of(id));
            }
            Some(_) => return Err(ErrorKind::Forbidden.of(id)),
        };
        check_role(&holder, self.access.least()).map_err(|kind| kind.of(id))?;
        if let Some(tenant) = tenant.filter(|_| holder.scope == KeyScope::AllTenants) {
            // Whoever opens one tenant has it.
            let Context { keys, database, .. } = &self.context;
            if !keys.has_tenant(database, tenant).await {
                return Err(ErrorKind::NotFound(NO_TENANT).of(id));
            }
        }
        Ok(Caller { holder, tenant, item, request_id })
    }
}

const UNKNOWN_KEY: &str =
    "this key opens nothing: it is mistyped, revoked or expired, or its tenant is deleted";
const ENDED_TOKEN: &str = "this call token opens nothing: it is mistyped or expired, its call is over, or its key is revoked";

fn unknown(said: &str, id: &RequestId) -> ApiError {
    ErrorKind::NoKey.about(None, said.to_owned(), id)
}

fn check_role(holder: &KeyHolder, least: KeyRole) -> Result<(), ErrorKind> {
    if holder.role >= least {
        return Ok(());
    }
    Err(ErrorKind::ReadOnly(match least {
        KeyRole::Admin => "a key of an admin is needed",
        KeyRole::Viewer | KeyRole::Operator => "a key of an operator or admin is needed",
    }))
}

/// The key of `Authorization: Bearer` or `X-Api-Key`.
fn key_of(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = bearer.and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    bearer.or_else(|| headers.get("x-api-key").and_then(|value| value.to_str().ok()))
}

/// Where calls are, one by one.
pub(super) const CALL_PATH: &str = "/api/v1/tenants/{tenant_id}/calls/{id}";

/// The call token of an address. A key is not taken from there: addresses are written down by whoever they
/// pass, and keys live long.
fn token_of(query: &str) -> Option<&str> {
    let token = query.split('&').find_map(|part| part.strip_prefix("token="))?;
    token.starts_with(token::PREFIX).then_some(token)
}

/// When the token ends with which a request came that was let in; `None`: it came with a key.
pub(super) fn end_of_token(
    context: &Context,
    headers: &HeaderMap,
    in_address: Option<&str>,
) -> Option<Timestamp> {
    let text = key_of(headers).or(in_address).filter(|text| text.starts_with(token::PREFIX))?;
    let now = clock::wall_now();
    let sealer = context.composer.borrow().sealer.clone();
    // One that ended since then ends now.
    Some(context.tokens.verify(&sealer, text, now).map_or(now, |token| token.end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_as_bearer_or_in_its_own_header() {
        for (name, value, key) in [
            ("authorization", "Bearer abc", Some("abc")),
            ("authorization", "bearer  abc", Some("abc")),
            ("authorization", "Basic abc", None),
            ("x-api-key", "abc", Some("abc")),
        ] {
            let headers = HeaderMap::from_iter([(
                header::HeaderName::from_static(name),
                header::HeaderValue::from_static(value),
            )]);
            assert_eq!(key_of(&headers), key, "{name}: {value}");
        }
    }
}
