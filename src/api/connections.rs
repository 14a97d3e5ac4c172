//! The connections of HTTP: bounded in number, and in the time that the head of a request and the reading of
//! its answer may take; `slow` bounds that of its body.

use crate::api::Tls;
use crate::api::stall::Unstalled;
use crate::api::worded::Worded;
use crate::telemetry::metric;
use crate::telemetry::metric::Counter;
use crate::types::limit::HTTP_CONNECTIONS_MAX;
use crate::types::limit::HTTP_HEAD_BYTES_MAX;
use crate::types::limit::HTTP_HEAD_S_MAX;
use crate::types::limit::HTTP_HEADERS_MAX;
use crate::types::limit::HTTP_STALL_S_MAX;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use hyper_util::service::TowerToHyperService;
use std::io;
use std::pin::pin;
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// How long nothing is accepted after the system refused: it does so at once again while descriptors
/// are short.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What clients may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct HttpLimits {
    /// Connections at once.
    connections: usize,
    /// Longest wait for the head of a request.
    head: Duration,
    /// Longest wait for a client to take something of an answer.
    stall: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            connections: HTTP_CONNECTIONS_MAX,
            head: Duration::from_secs(HTTP_HEAD_S_MAX),
            stall: Duration::from_secs(HTTP_STALL_S_MAX),
        }
    }
}

/// Serves until `stop` turns true, then lets running requests finish. Who waits for that waits as long
/// as a client likes; dropping this cuts them.
pub(super) async fn serve(
    (listener, tls): (TcpListener, Option<Tls>),
    router: Router,
    limits: HttpLimits,
    mut stop: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stopped(&mut stop) => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(_) if connections.len() >= limits.connections => {
                metric::counter(Counter::ApiConnectionsRefused).increment(1);
            }
            Ok((stream, _)) => {
                let (tls, router, stop) = (tls.clone(), router.clone(), stop.clone());
                connections.spawn(async move {
                    let Some(tls) = tls else {
                        return converse(stream, router, limits, stop).await;
                    };
                    let handshake = TlsAcceptor::from(tls()).accept(stream);
                    match tokio::time::timeout(limits.head, handshake).await {
                        Ok(Ok(stream)) => converse(stream, router, limits, stop).await,
                        Ok(Err(error)) => tracing::debug!(%error, "an HTTPS handshake failed"),
                        Err(_) => tracing::debug!("an HTTPS handshake took too long"),
                    }
                });
            }
            // The client went away between its connect and our accept.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::debug!(%error, "HTTP connections cannot be accepted; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Answers the requests of one connection, one after the other.
async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    limits: HttpLimits,
    mut stop: watch::Receiver<bool>,
) {
    let service = TowerToHyperService::new(router);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.head);
    http.max_buf_size(HTTP_HEAD_BYTES_MAX).max_headers(HTTP_HEADERS_MAX);
    let stream = Worded::new(Unstalled::new(stream, limits.stall));
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service).with_upgrades());
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "an HTTP connection failed");
    }
}

/// Resolves once `stop` is true; a sender that is gone means the same.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::slow;
    use axum::middleware;
    use axum::routing::get;
    use axum::routing::post;
    use metrics_exporter_prometheus::PrometheusBuilder;
    use std::net::Ipv4Addr;
    use std::net::SocketAddr;
    use tokio::io::AsyncReadExt;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpStream;
    use tokio::task::JoinHandle;

    const PATIENCE: Duration = Duration::from_secs(20);
    /// Long enough for five bytes that were sent at once.
    const BODY_MAX: Duration = Duration::from_secs(3);
    const FOR_EVER: Duration = Duration::from_secs(3_600);

    struct Served {
        address: SocketAddr,
        stop: watch::Sender<bool>,
        task: JoinHandle<()>,
    }

    /// More than the buffers of both ends hold.
    const BIG: usize = 64 << 20;

    async fn serve_with(connections: usize, head: Duration) -> Served {
        let limits = HttpLimits { connections, head, stall: FOR_EVER };
        serve_within(limits).await
    }

    async fn serve_within(limits: HttpLimits) -> Served {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let patience = slow::Patience { body: BODY_MAX, ..slow::Patience::default() };
        let router = Router::new()
            .route("/", get(|| async { "well" }))
            .route("/told", post(|said: String| async { said }))
            .route("/big", get(|| async { vec![b'x'; BIG] }))
            .layer(middleware::from_fn_with_state(patience, slow::in_time));
        let (stop, stopping) = watch::channel(false);
        let task = tokio::spawn(serve((listener, None), router, limits, stopping));
        Served { address, stop, task }
    }

    impl Served {
        async fn connect(&self, said: &str) -> TcpStream {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            stream.write_all(said.as_bytes()).await.unwrap();
            stream
        }
    }

    /// Reads until the end, or until `until` came.
    async fn heard(stream: &mut TcpStream, until: &str) -> String {
        let mut bytes = Vec::new();
        let reading = async {
            while !String::from_utf8_lossy(&bytes).ends_with(until) || until.is_empty() {
                // A reset is an end too: what was sent to a closed connection was not read.
                if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                    break;
                }
            }
        };
        tokio::time::timeout(PATIENCE, reading).await.expect("an end");
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_body_that_comes_in_crumbs_is_refused_and_counted_and_one_that_comes_is_read() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        metrics::with_local_recorder(&recorder, || {
            runtime.block_on(async {
                let served = serve_with(10, FOR_EVER).await;
                let head = "POST /told HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n";
                let mut whole = served.connect(&format!("{head}crumb")).await;
                assert!(heard(&mut whole, "crumb").await.contains("200 OK"));
                // What is missing never comes.
                let mut slow = served.connect(&format!("{head}cru")).await;
                let answer = heard(&mut slow, "").await;
                assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
                assert!(answer.contains("too_slow"), "{answer}");
            });
        });
        let text = handle.render();
        assert!(text.contains("api_requests_slow_total 1"), "{text}");
    }

    const ASK: &str = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    const HALF: &str = "GET / HTTP/1.1\r\nhost: x\r\n";

    #[tokio::test]
    async fn half_a_request_is_given_up() {
        let served = serve_with(10, Duration::from_millis(50)).await;
        let mut silent = served.connect("").await;
        let mut half = served.connect(HALF).await;
        assert!(!heard(&mut half, "").await.contains("200 OK"));
        heard(&mut silent, "").await;
    }

    #[test]
    fn over_the_bound_connections_are_closed_and_counted_until_one_is_free() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        metrics::with_local_recorder(&recorder, || {
            runtime.block_on(async {
                let served = serve_with(1, FOR_EVER).await;
                let mut first = served.connect(ASK).await;
                assert!(heard(&mut first, "well").await.contains("200 OK"));
                let mut second = served.connect(ASK).await;
                assert_eq!(heard(&mut second, "").await, "");
                drop(first);
                let freed = async {
                    while !heard(&mut served.connect(ASK).await, "well").await.contains("200") {}
                };
                tokio::time::timeout(PATIENCE, freed).await.expect("a place is free");
            });
        });
        let text = handle.render();
        assert!(text.contains("api_connections_refused_total "), "{text}");
    }

    #[test]
    fn an_answer_that_nobody_reads_is_cut_and_counted_and_one_that_is_read_comes_whole() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        metrics::with_local_recorder(&recorder, || {
            runtime.block_on(async {
                let stall = Duration::from_millis(300);
                let limits = HttpLimits { connections: 1, head: FOR_EVER, stall };
                let served = serve_within(limits).await;
                let big = "GET /big HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
                let _deaf = served.connect(big).await;
                let freed = async {
                    while !heard(&mut served.connect(ASK).await, "well").await.contains("200") {}
                };
                tokio::time::timeout(PATIENCE, freed).await.expect("its place is free");
                let reading = async {
                    let mut answer = Vec::new();
                    while answer.len() <= BIG {
                        answer.clear();
                        let mut reader = served.connect(big).await;
                        drop(reader.read_to_end(&mut answer).await);
                    }
                };
                tokio::time::timeout(PATIENCE, reading).await.expect("all of it");
            });
        });
        let text = handle.render();
        assert!(text.contains("api_responses_stalled_total "), "{text}");
    }

    #[tokio::test]
    async fn a_stop_ends_idle_connections_and_waits_for_requests_under_way() {
        let mut served = serve_with(10, FOR_EVER).await;
        let mut idle = served.connect(ASK).await;
        heard(&mut idle, "well").await;
        let mut half = served.connect(HALF).await;
        // It was accepted when a later one was answered.
        heard(&mut served.connect(ASK).await, "well").await;
        served.stop.send_replace(true);
        assert_eq!(heard(&mut idle, "").await, "");
        assert!(!served.task.is_finished(), "half a request is under way");
        half.write_all(b"\r\n").await.unwrap();
        assert!(heard(&mut half, "").await.contains("200 OK"));
        tokio::time::timeout(PATIENCE, &mut served.task).await.expect("an end").unwrap();
    }
}
