//! A minimal HTTP/1.1 client, so that tests see what is on the wire.

#![allow(dead_code, reason = "each test program uses a part")]
#![allow(unreachable_pub, reason = "shared by several test programs")]
#![allow(clippy::unwrap_used, reason = "a failed check may panic")]

use serde_json::Value;
use std::net::SocketAddr;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// What a server answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    /// The body as text; see `bytes` where it is none.
    pub body: String,
    pub bytes: Vec<u8>,
}

impl Answer {
    /// The value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// Sends one request on a connection of its own and reads the answer to its end.
pub async fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, String)],
) -> Answer {
    request_with(address, (method, path), headers, "").await
}

/// The same with a body, which is JSON.
pub async fn request_with(
    address: SocketAddr,
    (method, path): (&str, &str),
    headers: &[(&str, String)],
    content: &str,
) -> Answer {
    let mut headers = headers.to_vec();
    if !content.is_empty() {
        headers.push(("content-type", "application/json".to_owned()));
    }
    request_as(address, (method, path), &headers, content).await
}

/// The same with a body of a type that the headers name.
pub async fn request_as(
    address: SocketAddr,
    (method, path): (&str, &str),
    headers: &[(&str, String)],
    content: &str,
) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    if !content.is_empty() {
        text += &format!("content-length: {}\r\n", content.len());
    }
    // A server that refuses a body need not read it: what it said is read all the same.
    drop(stream.write_all(format!("{text}\r\n{content}").as_bytes()).await);
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer).await);
    let end = answer.windows(4).position(|part| part == b"\r\n\r\n").unwrap();
    let bytes = answer.split_off(end + 4);
    answer.truncate(end);
    let head = String::from_utf8(answer).unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines.map(|line| {
        let (name, value) = line.split_once(':').unwrap();
        (name.to_lowercase(), value.trim().to_owned())
    });
    let headers: Vec<_> = headers.collect();
    let is_chunked =
        headers.iter().any(|(name, how)| name == "transfer-encoding" && how == "chunked");
    let bytes = if is_chunked { whole(&bytes) } else { bytes };
    let body = String::from_utf8_lossy(&bytes).into_owned();
    Answer { status, headers, body, bytes }
}

/// What came in chunks (RFC 9112 §7.1); a body that ends without the last one was cut.
fn whole(mut chunks: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = chunks.windows(2).position(|part| part == b"\r\n").unwrap();
        let length = std::str::from_utf8(chunks.get(..end).unwrap()).unwrap();
        let length = usize::from_str_radix(length, 16).unwrap();
        if length == 0 {
            return body;
        }
        body.extend_from_slice(chunks.get(end + 2..end + 2 + length).unwrap());
        chunks = chunks.get(end + 2 + length + 2..).unwrap();
    }
}
