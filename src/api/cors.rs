//! Pages of other origins that may ask (the Fetch standard's CORS protocol).

use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::HeaderName;
use axum::http::HeaderValue;
use axum::http::Method;
use axum::http::StatusCode;
use axum::http::header;
use axum::middleware::Next;
use axum::response::IntoResponse;
use axum::response::Response;
use std::sync::Arc;

/// How long a browser may keep what it was told, in seconds.
const KEPT_S: &str = "600";
const METHODS: &str = "GET, POST, PATCH, DELETE";
const TAKEN: &str = "authorization, content-type, idempotency-key, if-match, if-none-match, last-event-id, range, \
                     x-api-key";
const SHOWN: &str =
    "accept-ranges, content-range, etag, idempotency-replayed, retry-after, x-request-id";

/// The origins whose pages may ask. Keys are sent by the page itself, so nothing here allows cookies.
pub(super) async fn allow(
    State(origins): State<Arc<[String]>>,
    request: Request,
    next: Next,
) -> Response {
    let origin = allowed(&origins, request.headers());
    let is_preflight = request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = match &origin {
        Some(_) if is_preflight => {
            let mut response = StatusCode::NO_CONTENT.into_response();
            put(&mut response, header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
            put(&mut response, header::ACCESS_CONTROL_ALLOW_HEADERS, TAKEN);
            put(&mut response, header::ACCESS_CONTROL_MAX_AGE, KEPT_S);
            response
        }
        _ => next.run(request).await,
    };
    if let Some(origin) = origin {
        response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        put(&mut response, header::ACCESS_CONTROL_EXPOSE_HEADERS, SHOWN);
    }
    if !origins.is_empty() {
        put(&mut response, header::VARY, "origin");
    }
    response
}

fn put(response: &mut Response, name: HeaderName, value: &'static str) {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
}

fn allowed(origins: &[String], headers: &HeaderMap) -> Option<HeaderValue> {
    let origin = headers.get(header::ORIGIN)?;
    let text = origin.to_str().ok()?;
    origins.iter().any(|own| own == text).then(|| origin.clone())
}
