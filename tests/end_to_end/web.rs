//! A web server as bots have one, or as it should not be.

use crate::node::PATIENCE;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Requests that wait to be looked at.
const ASKED_MAX: usize = 1_024;

/// What is answered.
#[derive(Clone)]
pub(crate) enum Page {
    /// This.
    Bytes(Vec<u8>),
    /// Nothing, for ever.
    Silence,
    /// The end of the connection.
    HangUp,
}

impl std::fmt::Debug for Page {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bytes(bytes) => {
                f.write_str(&String::from_utf8_lossy(&bytes[..bytes.len().min(200)]))
            }
            Self::Silence => f.write_str("silence"),
            Self::HangUp => f.write_str("hang-up"),
        }
    }
}

impl Page {
    pub(crate) fn of(kind: &str, body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        Self::Bytes([head.as_bytes(), body].concat())
    }

    pub(crate) fn twiml(verbs: &str) -> Self {
        Self::of("text/xml", format!("<?xml version=\"1.0\"?><Response>{verbs}</Response>"))
    }

    pub(crate) fn status(line: &str) -> Self {
        Self::Bytes(format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\n\r\n").into())
    }

    pub(crate) fn to(location: &str) -> Self {
        let head =
            format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
        Self::Bytes(head.into())
    }
}

/// What was asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// The whole address, as it was asked.
    pub(crate) url: String,
    pub(crate) signature: Option<String>,
    pub(crate) traceparent: Option<String>,
    /// What the body says; of a request by GET, what its query says.
    pub(crate) form: Vec<(String, String)>,
}

impl Asked {
    pub(crate) fn value(&self, name: &str) -> &str {
        self.form.iter().find(|(own, _)| own == name).map_or("", |(_, value)| value)
    }
}

/// The server.
pub(crate) struct Web {
    address: SocketAddr,
    pages: Arc<Mutex<HashMap<String, Page>>>,
    asked: mpsc::Receiver<(String, Asked)>,
    /// What was asked and not looked at yet.
    waiting: Vec<(String, Asked)>,
}

impl Web {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let pages = Arc::<Mutex<HashMap<String, Page>>>::default();
        let (asked_in, asked) = mpsc::channel(ASKED_MAX);
        let known = Arc::clone(&pages);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, address, Arc::clone(&known), asked_in.clone()));
            }
        });
        Self { address, pages, asked, waiting: Vec::new() }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What is answered there from now on. Other places answer 200 and nothing else.
    pub(crate) fn put(&self, path: &str, page: Page) {
        self.pages.lock().unwrap().insert(path.to_owned(), page);
    }

    /// The next request there; a path without a query is asked with any.
    pub(crate) async fn asked(&mut self, path: &str) -> Asked {
        loop {
            if let Some(at) = self.waiting.iter().position(|(own, _)| own == path) {
                return self.waiting.remove(at).1;
            }
            let next = timeout(PATIENCE, self.asked.recv()).await;
            let next =
                next.unwrap_or_else(|_| panic!("{path} is asked for; waiting: {:?}", self.waiting));
            self.waiting.push(next.unwrap());
        }
    }
}

async fn serve(
    mut stream: TcpStream,
    address: SocketAddr,
    pages: Arc<Mutex<HashMap<String, Page>>>,
    told: mpsc::Sender<(String, Asked)>,
) {
    let mut read = Vec::new();
    let head = loop {
        if let Some(at) = read.windows(4).position(|end| end == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
            return;
        }
    };
    let text = String::from_utf8(read[..head].to_vec()).unwrap();
    let header = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    };
    let length: usize = header("content-length").map_or(0, |length| length.parse().unwrap());
    while read.len() < head + length {
        if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let mut line = text.split(' ');
    let (method, target) = (line.next().unwrap().to_owned(), line.next().unwrap().to_owned());
    let query = target.split_once('?').map_or("", |(_, query)| query).as_bytes().to_vec();
    let body = if method == "GET" { query } else { read[head..].to_vec() };
    let form = form_urlencoded::parse(&body).into_owned().collect();
    let url = format!("http://{address}{target}");
    let plain = target.split('?').next().unwrap().to_owned();
    let known = |path: &String| pages.lock().unwrap().get(path).cloned();
    let (path, page) = match known(&target) {
        Some(page) => (target, page),
        None => (plain.clone(), known(&plain).unwrap_or_else(|| Page::status("200 OK"))),
    };
    let (signature, traceparent) = (header("x-twilio-signature"), header("traceparent"));
    let asked = Asked { method, url, signature, traceparent, form };
    told.send((path, asked)).await.unwrap();
    match page {
        Page::Bytes(bytes) => drop(stream.write_all(&bytes).await),
        // Until the other side has had enough.
        Page::Silence => drop(stream.read(&mut [0; 16]).await),
        Page::HangUp => (),
    }
}
