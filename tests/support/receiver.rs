//! A receiver of webhooks: keeps what it is told, and is ill when it shall be.

#![allow(dead_code, reason = "each test program uses a part")]
#![allow(unreachable_pub, reason = "shared by several test programs")]
#![allow(clippy::unwrap_used, reason = "a failed check may panic")]

use serde_json::Value;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;

/// Longest wait for anything; a test that takes it has failed.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// Answers nothing at all.
pub const SILENT: u16 = 0;

/// One request.
#[derive(Clone, Debug)]
pub struct Told {
    pub headers: HashMap<String, String>,
    pub text: String,
    pub body: Value,
    /// With what it was answered.
    pub status: u16,
}

/// Listens until it is dropped.
pub struct Receiver {
    pub address: SocketAddr,
    status: Arc<AtomicU16>,
    said: Arc<Mutex<String>>,
    told: Arc<Mutex<Vec<Told>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Receiver {
    /// One that answers `status`.
    pub async fn start(status: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let status = Arc::new(AtomicU16::new(status));
        let told = Arc::new(Mutex::new(Vec::new()));
        let said = Arc::new(Mutex::new(String::new()));
        let answers = (Arc::clone(&status), Arc::clone(&said));
        let own_told = Arc::clone(&told);
        let task = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                tokio::spawn(converse(stream, answers.clone(), Arc::clone(&own_told)));
            }
        });
        Self { address, status, said, told, task }
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// Answers `status` from now on.
    pub fn answer(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    /// Answers `status` with this body from now on.
    pub fn answer_with(&self, status: u16, body: &str) {
        body.clone_into(&mut self.said.lock().unwrap());
        self.answer(status);
    }

    /// All requests so far.
    pub fn told(&self) -> Vec<Told> {
        self.told.lock().unwrap().clone()
    }

    /// What was taken: those answered with 200, in order.
    pub fn taken(&self) -> Vec<Told> {
        self.told().into_iter().filter(|told| told.status == 200).collect()
    }

    /// Waits until what was told so far is `enough`.
    pub async fn wait(&self, what: &str, enough: impl Fn(&[Told]) -> bool) {
        let reached = async {
            while !enough(&self.told.lock().unwrap()) {
                tokio::time::sleep(POLL).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, reached).await;
        assert!(waited.is_ok(), "never told: {what}, but {}", self.told().len());
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The status of answers, and their body.
type Answers = (Arc<AtomicU16>, Arc<Mutex<String>>);

async fn converse(mut stream: TcpStream, (status, said): Answers, told: Arc<Mutex<Vec<Told>>>) {
    let mut bytes = Vec::new();
    let (head, length) = loop {
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
        let Some(end) = bytes.windows(4).position(|part| part == b"\r\n\r\n") else { continue };
        let head = String::from_utf8(bytes.iter().take(end).copied().collect()).unwrap();
        bytes.drain(..end + 4);
        let headers = head.lines().skip(1).filter_map(|line| line.split_once(": "));
        let headers: HashMap<String, String> =
            headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
        let length: usize = headers.get("content-length").map_or(0, |text| text.parse().unwrap());
        break (headers, length);
    };
    while bytes.len() < length {
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let text = String::from_utf8(bytes).unwrap();
    // A form is none; what is told by webhook is, and its receivers look into it.
    let body = serde_json::from_str(&text).unwrap_or_default();
    let status = status.load(Ordering::SeqCst);
    told.lock().unwrap().push(Told { headers: head, text, body, status });
    if status == SILENT {
        // Until the other side gives up.
        drop(stream.read_buf(&mut Vec::new()).await);
        return;
    }
    let said = said.lock().unwrap().clone();
    let answer = format!(
        "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{said}",
        said.len()
    );
    drop(stream.write_all(answer.as_bytes()).await);
}
