//! `in_time`: the body of a request must come within a time, however small the pieces it comes in, and is answered within
//! another one, whatever its handler waits for.

use crate::api::RequestId;
use crate::api::error;
use crate::api::error::ErrorKind;
use crate::telemetry::metric;
use crate::telemetry::metric::Counter;
use crate::types::limit::API_ANSWER_S_MAX;
use crate::types::limit::API_LONG_ANSWER_S_MAX;
use crate::types::limit::HTTP_BODY_S_MAX;
use axum::body::Body;
use axum::body::Bytes;
use axum::body::HttpBody;
use axum::extract::Request;
use axum::extract::State;
use axum::middleware::Next;
use axum::response::Response;
use hyper::body::Frame;
use hyper::body::SizeHint;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Sleep;

/// How long what may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// The body.
    pub(super) body: Duration,
    /// The answer, once the body is there.
    pub(super) answer: Duration,
    /// The same of a request that does much.
    pub(super) long_answer: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            body: Duration::from_secs(HTTP_BODY_S_MAX),
            answer: Duration::from_secs(API_ANSWER_S_MAX),
            long_answer: Duration::from_secs(API_LONG_ANSWER_S_MAX),
        }
    }
}

/// What the paths of requests that do much end with.
const LONG: [&str; 4] = ["/numbers/import", "/privacy/export", "/privacy/erase", "/replay"];

/// A body that fails when it is not complete in time.
struct Timed {
    body: Body,
    until: Pin<Box<Sleep>>,
    coming: Arc<Coming>,
}

/// How far the body of a request is.
#[derive(Default)]
struct Coming {
    is_late: AtomicBool,
    /// Told once nothing more of it is waited for.
    is_over: Notify,
}

impl Drop for Timed {
    fn drop(&mut self) {
        self.coming.is_over.notify_one();
    }
}

impl HttpBody for Timed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if self.body.is_end_stream() || matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.coming.is_over.notify_one();
        }
        if polled.is_ready() || self.until.as_mut().poll(context).is_pending() {
            return polled;
        }
        self.coming.is_late.store(true, Ordering::Relaxed);
        self.coming.is_over.notify_one();
        Poll::Ready(Some(Err(axum::Error::new(io::Error::from(io::ErrorKind::TimedOut)))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Gives a request a time for its body; over it: 408, counted, and the connection is closed. And a time for its answer,
/// from when the body is there; over it: 503, since nothing but the database is waited for so long.
pub(super) async fn in_time(
    State(patience): State<Patience>,
    request: Request,
    next: Next,
) -> Response {
    let id = request.extensions().get::<RequestId>().cloned().unwrap_or_default();
    let uri = request.uri().clone();
    let is_long = LONG.iter().any(|end| uri.path().ends_with(end));
    let most = if is_long { patience.long_answer } else { patience.answer };
    let coming = Arc::<Coming>::default();
    let request = if request.body().is_end_stream() {
        coming.is_over.notify_one();
        request
    } else {
        let until = Box::pin(tokio::time::sleep(patience.body));
        let coming = Arc::clone(&coming);
        request.map(|body| Body::new(Timed { body, until, coming }))
    };
    let too_long = async {
        coming.is_over.notified().await;
        tokio::time::sleep(most).await;
    };
    let response = tokio::select! {
        biased;
        response = next.run(request) => response,
        () = too_long => {
            tracing::warn!(request_id = %id.0, path = uri.path(), "a request waited too long");
            return error::in_form_of(&uri, ErrorKind::DatabaseAway.of(&id));
        }
    };
    if !coming.is_late.load(Ordering::Relaxed) {
        return response;
    }
    metric::counter(Counter::ApiRequestsSlow).increment(1);
    error::in_form_of(&uri, ErrorKind::TooSlow.of(&id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::middleware;
    use axum::routing::post;
    use http_body_util::BodyExt;
    use hyper::service::Service;
    use hyper_util::service::TowerToHyperService;
    use std::future::pending;

    /// Short, where what is waited for never comes.
    const PATIENCE: Patience = Patience {
        body: Duration::from_secs(60),
        answer: Duration::from_millis(100),
        long_answer: Duration::from_secs(3_600),
    };

    async fn answered(path: &str, body: Body) -> (u16, String) {
        let waits = || post(|_: Bytes| pending::<String>());
        let router = Router::new()
            .route("/waits", waits())
            .route("/numbers/import", waits())
            .route("/told", post(|body: Bytes| async move { body }))
            .layer(middleware::from_fn_with_state(PATIENCE, in_time));
        let request = Request::post(path).body(body).unwrap();
        let response = TowerToHyperService::new(router).call(request).await.unwrap();
        let status = response.status().as_u16();
        assert_eq!(response.headers().contains_key("retry-after"), status == 503);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    /// A body that comes later than answers may.
    fn late() -> Body {
        let body = futures_util::stream::once(async move {
            tokio::time::sleep(PATIENCE.answer * 4).await;
            Ok::<_, io::Error>(Bytes::from_static(b"late"))
        });
        Body::from_stream(body)
    }

    #[tokio::test]
    async fn a_request_is_answered_in_time_from_when_it_is_there_whatever_is_waited_for() {
        for body in [Body::empty(), Body::from("x"), late()] {
            let (status, text) = answered("/waits", body).await;
            assert_eq!(status, 503, "{text}");
            assert!(text.contains("database_unavailable"), "{text}");
        }
        assert_eq!(answered("/told", late()).await, (200, "late".to_owned()));
    }

    #[tokio::test]
    async fn a_body_that_never_comes_is_a_408_in_the_form_of_its_api() {
        let patience = Patience { body: Duration::from_millis(50), ..PATIENCE };
        let told = |path: &'static str| async move {
            let router = Router::new()
                .route(path, post(|body: Bytes| async move { body }))
                .layer(middleware::from_fn_with_state(patience, in_time));
            let never = futures_util::stream::pending::<Result<Bytes, io::Error>>();
            let request = Request::post(path).body(Body::from_stream(never)).unwrap();
            let response = TowerToHyperService::new(router).call(request).await.unwrap();
            assert_eq!(response.status().as_u16(), 408);
            // What is left of the body would be taken for the next request.
            assert_eq!(response.headers().get("connection").unwrap(), "close");
            let body = response.into_body().collect().await.unwrap().to_bytes();
            serde_json::from_slice::<serde_json::Value>(&body).unwrap()
        };
        let ours = told("/api/v1/tenants").await;
        assert_eq!(ours["code"], "too_slow", "{ours}");
        let twilios = told("/2010-04-01/Accounts/AC1/Calls.json").await;
        assert_eq!(
            (&twilios["code"], &twilios["status"]),
            (&serde_json::json!(20_408), &serde_json::json!(408))
        );
        assert_eq!(twilios["message"], ours["message"], "{twilios}");
        assert!(twilios.get("request_id").is_none(), "{twilios}");
    }

    #[tokio::test]
    async fn a_request_that_does_much_has_longer() {
        let much = answered("/numbers/import", Body::from("x"));
        assert!(tokio::time::timeout(PATIENCE.answer * 4, much).await.is_err());
    }
}
