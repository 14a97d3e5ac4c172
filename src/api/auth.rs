//! Who asks: API keys, and which tenant they open.

use crate::api::Context;
use crate::api::RequestId;
use crate::api::error;
use crate::api::error::ApiError;
use crate::api::error::ErrorKind;
use crate::store::api_keys;
use crate::store::api_keys::KeyHolder;
use crate::store::api_keys::KeyRole;
use crate::store::api_keys::KeyScope;
use crate::types::id::TenantId;
use axum::http::HeaderMap;
use axum::http::header;

/// Lets the request through when its key opens `tenant`.
///
/// A path that names no tenant is refused like one of somebody else, so that nobody learns which
/// tenants exist.
pub(super) async fn open(
    context: &Context,
    headers: &HeaderMap,
    tenant: &str,
    request_id: &RequestId,
) -> Result<TenantId, ApiError> {
    Ok(holder(context, headers, tenant, request_id).await?.0)
}

/// The same for a request that does something: a key that only reads is refused.
pub(super) async fn open_to_act(
    context: &Context,
    headers: &HeaderMap,
    tenant: &str,
    request_id: &RequestId,
) -> Result<TenantId, ApiError> {
    let (tenant, holder) = holder(context, headers, tenant, request_id).await?;
    if holder.role < KeyRole::Operator {
        return Err(ErrorKind::ReadOnly.of(request_id));
    }
    Ok(tenant)
}

/// The same as [`open`], with what else the key opens.
pub(super) async fn open_scope(
    context: &Context,
    headers: &HeaderMap,
    tenant: &str,
    request_id: &RequestId,
) -> Result<(TenantId, KeyScope), ApiError> {
    let (tenant, holder) = holder(context, headers, tenant, request_id).await?;
    Ok((tenant, holder.scope))
}

async fn holder(
    context: &Context,
    headers: &HeaderMap,
    tenant: &str,
    request_id: &RequestId,
) -> Result<(TenantId, KeyHolder), ApiError> {
    let key = key_of(headers).ok_or_else(|| ErrorKind::NoKey.of(request_id))?;
    let holder = api_keys::verify_all_tenants(&context.database, key)
        .await
        .map_err(|error| error::database(&error, request_id))?
        .ok_or_else(|| ErrorKind::NoKey.of(request_id))?;
    match tenant.parse() {
        Ok(tenant) if holder.scope.opens(tenant) => Ok((tenant, holder)),
        Ok(_) | Err(_) => Err(ErrorKind::Forbidden.of(request_id)),
    }
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
