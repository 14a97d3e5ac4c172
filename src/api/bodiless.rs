//! Requests that need no body: what is given with them is refused like an unknown field anywhere else.

use crate::api::RequestId;
use crate::api::error::ApiError;
use crate::api::error::ErrorKind;
use crate::api::route::Route;
use crate::api::route::Shape;
use crate::store::resource::Members;
use crate::types::limit::HTTP_BODY_BYTES_MAX;
use axum::Extension;
use axum::body;
use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::IntoResponse;
use axum::response::Response;

/// Whether a route is asked to do something that needs no telling what.
pub(super) fn is_meant(route: &Route) -> bool {
    route.method == "POST" && matches!(route.shape, Shape::Other { takes: None, .. })
}

/// Lets a request through that brings nothing, or an object without members.
pub(super) async fn pass(
    Extension(id): Extension<RequestId>,
    request: Request,
    next: Next,
) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(bytes) = body::to_bytes(body, HTTP_BODY_BYTES_MAX).await else {
        return ErrorKind::TooLarge.of(&id).into_response();
    };
    match judge(&bytes, &id) {
        Ok(()) => next.run(Request::from_parts(parts, Body::from(bytes))).await,
        Err(error) => error.into_response(),
    }
}

fn judge(body: &[u8], id: &RequestId) -> Result<(), ApiError> {
    // What says nothing in JSON is nothing.
    if matches!(body.trim_ascii(), b"" | b"null") {
        return Ok(());
    }
    let members: Members = serde_json::from_slice(body)
        .map_err(|_| ErrorKind::BadBody("this takes no body, or an empty JSON object").of(id))?;
    match members.keys().next() {
        None => Ok(()),
        Some(name) => {
            let said = format!("`{name}`: this takes nothing");
            Err(ErrorKind::Invalid.about(Some(name), said, id))
        }
    }
}
