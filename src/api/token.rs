//! Call tokens: what a browser may hold instead of a key. Signed, short-lived, for one call, and worth nothing
//! once that call is over.

use crate::api::Context;
use crate::api::auth::Caller;
use crate::api::elsewhere;
use crate::api::error;
use crate::api::error::ApiError;
use crate::api::error::ErrorKind;
use crate::api::wish::Sent;
use crate::clock;
use crate::store::api_keys::KeyHolder;
use crate::store::api_keys::KeyRole;
use crate::store::api_keys::KeyScope;
use crate::store::resource::Fault;
use crate::store::seal::Sealer;
use crate::types::id::ApiKeyId;
use crate::types::id::CallId;
use crate::types::id::TenantId;
use crate::types::limit::CALL_TOKEN_S_MAX;
use aws_lc_rs::hmac;
use axum::Extension;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::SignedDuration;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;
use std::fmt;
use uuid::Uuid;

/// Begins each token, so that leaked ones are found by a search.
pub(super) const PREFIX: &str = "tct_";
/// Call, tenant, key, end, rights.
const PAYLOAD_BYTES: usize = 16 * 3 + 8 + 1;
const TTL_DEFAULT_S: i64 = 900;

/// What a token lets its holder do with its call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallRight {
    /// See it and follow its events.
    Watch,
    /// Tell it what to do, too.
    Steer,
}

/// A token that was checked, or is about to be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CallToken {
    pub(super) call: CallId,
    pub(super) tenant: TenantId,
    /// The key with which it was asked for, or the token before it.
    key: ApiKeyId,
    /// Seconds since 1970.
    ends: i64,
    pub(super) right: CallRight,
}

/// The keys that sign tokens: derived from the node's sealing keys, so that every node knows them and they
/// rotate with those; without such keys one that lives as long as the process.
#[derive(Clone)]
pub struct TokenKeys(hmac::Key);

impl fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKeys")
    }
}

impl Default for TokenKeys {
    fn default() -> Self {
        let mut bytes = [0; 32];
        clock::fill_random(&mut bytes);
        Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
    }
}

impl TokenKeys {
    /// Whether other nodes know a token of this one.
    fn are_shared(sealer: &Sealer) -> bool {
        sealer.signing_keys().next().is_some()
    }

    fn sign(&self, sealer: &Sealer, token: &CallToken) -> String {
        let payload = token.payload();
        let tag = hmac::sign(sealer.signing_keys().next().unwrap_or(&self.0), &payload);
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode([payload.as_slice(), tag.as_ref()].concat()))
    }

    /// The token that `text` is, if we signed it and its time is not over.
    pub(super) fn verify(&self, sealer: &Sealer, text: &str, now: Timestamp) -> Option<CallToken> {
        let bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix(PREFIX)?).ok()?;
        let (payload, tag) = bytes.split_at_checked(PAYLOAD_BYTES)?;
        let mut keys = sealer.signing_keys().chain([&self.0]);
        keys.any(|key| hmac::verify(key, payload, tag).is_ok()).then_some(())?;
        CallToken::read(payload).filter(|token| token.ends > now.as_second())
    }
}

impl CallToken {
    fn payload(&self) -> Vec<u8> {
        let mut payload = Vec::with_capacity(PAYLOAD_BYTES);
        for id in [self.call.uuid(), self.tenant.uuid(), self.key.uuid()] {
            payload.extend_from_slice(id.as_bytes());
        }
        payload.extend_from_slice(&self.ends.to_be_bytes());
        payload.push(u8::from(self.right == CallRight::Steer));
        payload
    }

    fn read(payload: &[u8]) -> Option<Self> {
        let (ids, rest) = payload.split_first_chunk::<48>()?;
        let mut ids = ids.as_chunks::<16>().0.iter().map(|bytes| Uuid::from_bytes(*bytes));
        let (ends, rest) = rest.split_first_chunk::<8>()?;
        Some(Self {
            call: CallId::from_uuid(ids.next()?),
            tenant: TenantId::from_uuid(ids.next()?),
            key: ApiKeyId::from_uuid(ids.next()?),
            ends: i64::from_be_bytes(*ends),
            right: if rest == [1] { CallRight::Steer } else { CallRight::Watch },
        })
    }

    /// When it is over.
    pub(super) fn end(&self) -> Timestamp {
        Timestamp::from_second(self.ends).unwrap_or(Timestamp::MAX)
    }

    /// Who holds it, as handlers know holders: it counts into the pace of the key it came from.
    pub(super) const fn holder(&self) -> KeyHolder {
        let role = match self.right {
            CallRight::Watch => KeyRole::Viewer,
            CallRight::Steer => KeyRole::Operator,
        };
        KeyHolder { id: self.key, scope: KeyScope::Tenant(self.tenant), role }
    }
}

/// What a token is needed for at a route of a call; `None`: tokens do not open it. `rest` is what follows the
/// call in the path.
pub(super) fn right_at(method: &str, rest: &str) -> Option<CallRight> {
    /// What acts on a running call.
    const STEERED: [&str; 14] = [
        "/hangup",
        "/hold",
        "/resume",
        "/transfer",
        "/play",
        "/play/stop",
        "/dtmf",
        "/mute",
        "/unmute",
        "/record/start",
        "/record/stop",
        "/record/pause",
        "/record/resume",
        "/transcript",
    ];
    match (method, rest) {
        // A token is renewed with itself.
        ("GET", "" | "/events" | "/transcript") | ("POST", "/tokens") => Some(CallRight::Watch),
        ("POST", rest) if STEERED.contains(&rest) => Some(CallRight::Steer),
        _ => None,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenWish {
    may: Option<Vec<String>>,
    ttl_s: Option<i64>,
}

impl TokenWish {
    fn read(self) -> Result<(CallRight, i64), Fault> {
        let may = self.may.unwrap_or_else(|| vec!["watch".to_owned()]);
        if may.is_empty() || may.iter().any(|word| !["watch", "steer"].contains(&word.as_str())) {
            return Err(Fault::invalid("may", "it is a list of watch and steer"));
        }
        let steers = may.iter().any(|word| word == "steer");
        let right = if steers { CallRight::Steer } else { CallRight::Watch };
        let ttl_s = self.ttl_s.unwrap_or(TTL_DEFAULT_S);
        if !(1..=CALL_TOKEN_S_MAX).contains(&ttl_s) {
            let why = format!("it is a number of seconds from 1 to {CALL_TOKEN_S_MAX}");
            return Err(Fault::invalid("ttl_s", why));
        }
        Ok((right, ttl_s))
    }
}

pub(super) async fn create(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
    sent: Sent,
) -> Result<Response, ApiError> {
    let id = &caller.request_id;
    let (right, ttl_s) =
        sent.wish::<TokenWish>(id)?.read().map_err(|fault| error::fault(fault, id))?;
    if right == CallRight::Steer && caller.holder.role < KeyRole::Operator {
        return Err(ErrorKind::ReadOnly("who may not steer gives no token to steer").of(id));
    }
    let (tenant, call) = (caller.tenant()?, CallId::from_uuid(caller.item()?));
    let calls = context.calls.as_ref().ok_or_else(|| ErrorKind::NoCalls.of(id))?;
    let sealer = context.composer.borrow().sealer.clone();
    if !calls.is_running(tenant, call) {
        if !elsewhere::may_run(&context, id, (tenant, call)).await? {
            let missing = "this tenant has no such call in progress";
            return Err(ErrorKind::NotFound(missing).of(id));
        }
        // Made here it would open the call at no node.
        if !TokenKeys::are_shared(&sealer) {
            return Err(ErrorKind::CallAway.of(id));
        }
    }
    let ends = clock::wall_now() + SignedDuration::from_secs(ttl_s);
    let token = CallToken { call, tenant, key: caller.holder.id, ends: ends.as_second(), right };
    let text = context.tokens.sign(&sealer, &token);
    let may = match right {
        CallRight::Watch => json!(["watch"]),
        CallRight::Steer => json!(["watch", "steer"]),
    };
    let ends = Timestamp::from_second(token.ends).unwrap_or(ends);
    let view = json!({"token": text, "expires_at": ends, "may": may});
    let unstored = [(header::CACHE_CONTROL, "no-store")];
    Ok((StatusCode::CREATED, unstored, Json(view)).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::auth::CALL_PATH;
    use crate::api::route;
    use crate::types::secret::Secret;
    use base64::engine::general_purpose::STANDARD;

    fn token(right: CallRight) -> CallToken {
        CallToken {
            call: CallId::from_uuid(Uuid::from_u128(1)),
            tenant: TenantId::from_uuid(Uuid::from_u128(2)),
            key: ApiKeyId::from_uuid(Uuid::from_u128(3)),
            ends: 1_000,
            right,
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_token_opens_as_it_was_signed_until_its_time_is_over() {
        let (keys, sealer) = (TokenKeys::default(), Sealer::default());
        for right in [CallRight::Watch, CallRight::Steer] {
            let text = keys.sign(&sealer, &token(right));
            assert_eq!(keys.verify(&sealer, &text, at(999)), Some(token(right)));
            assert_eq!(keys.verify(&sealer, &text, at(1_000)), None);
            assert_eq!(TokenKeys::default().verify(&sealer, &text, at(1)), None);
        }
    }

    #[test]
    fn a_token_that_was_touched_opens_nothing() {
        let (keys, sealer) = (TokenKeys::default(), Sealer::default());
        let text = keys.sign(&sealer, &token(CallRight::Watch));
        let mut bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix(PREFIX).unwrap()).unwrap();
        for place in 0..bytes.len() {
            bytes[place] ^= 1;
            let touched = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(&bytes));
            assert_eq!(keys.verify(&sealer, &touched, at(1)), None, "{place}");
            bytes[place] ^= 1;
        }
        for text in ["", "tct_", "tct_AAAA", "tdm_x", text.split_at(text.len() - 2).0] {
            assert_eq!(keys.verify(&sealer, text, at(1)), None, "{text}");
        }
    }

    #[test]
    fn tokens_rotate_with_the_keys_that_seal() {
        let key = |byte: u8| Secret::new(STANDARD.encode([byte; 32]));
        let (keys, old) = (TokenKeys::default(), Sealer::new([&key(1)]).unwrap());
        let text = keys.sign(&old, &token(CallRight::Watch));
        let opens = |sealer: &Sealer| TokenKeys::default().verify(sealer, &text, at(1)).is_some();
        assert!(opens(&old) && opens(&Sealer::new([&key(2), &key(1)]).unwrap()));
        assert!(!opens(&Sealer::new([&key(2)]).unwrap()));
    }

    #[test]
    fn of_all_routes_a_token_opens_those_that_show_its_call_or_act_on_it_and_no_other() {
        let opened = |right: CallRight| {
            let of_calls = route::all().filter_map(|route| {
                let rest = route.path.strip_prefix(CALL_PATH)?;
                (right_at(route.method, rest) == Some(right)).then_some((route.method, rest))
            });
            let mut opened: Vec<_> = of_calls.collect();
            opened.sort_unstable();
            opened
        };
        let watched =
            [("GET", ""), ("GET", "/events"), ("GET", "/transcript"), ("POST", "/tokens")];
        assert_eq!(opened(CallRight::Watch), watched);
        let steered = [
            "/dtmf",
            "/hangup",
            "/hold",
            "/mute",
            "/play",
            "/play/stop",
            "/record/pause",
            "/record/resume",
            "/record/start",
            "/record/stop",
            "/resume",
            "/transcript",
            "/transfer",
            "/unmute",
        ];
        assert_eq!(opened(CallRight::Steer), steered.map(|rest| ("POST", rest)));
    }
}
