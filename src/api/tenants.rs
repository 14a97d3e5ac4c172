//! Tenants: the platform makes and limits them, each reads its own.

use crate::api::Context;
use crate::api::auth::Caller;
use crate::api::error::ApiError;
use crate::api::resource;
use crate::api::resource::Noun;
use crate::store::resource::Place;
use crate::store::resource::Resource;
use crate::store::tenants::TENANTS;
use crate::types::id::TenantId;
use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::response::Response;

pub(super) struct Tenants;

impl Noun for Tenants {
    const RESOURCE: &'static Resource = &TENANTS;

    fn place(caller: &Caller) -> Place {
        caller.tenant.map_or(Place::All, Place::Of)
    }
}

pub(super) async fn show(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let tenant = caller.tenant()?.uuid();
    resource::show_item::<Tenants>(&context, &caller, tenant, &headers).await
}

pub(super) async fn update(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let tenant = caller.tenant()?.uuid();
    resource::update_item::<Tenants>(&context, &caller, tenant, (&headers, body)).await
}

pub(super) async fn delete(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    let tenant = caller.tenant().map(TenantId::uuid)?;
    resource::delete_item::<Tenants>(&context, &caller, tenant, &headers).await
}
