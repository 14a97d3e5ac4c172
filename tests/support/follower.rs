//! Server-sent events, as a client hears them.

#![allow(dead_code, reason = "each test program uses a part")]
#![allow(unreachable_pub, reason = "shared by several test programs")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed check may panic")]

use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// Longest wait for anything; a test that takes it has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Follows server-sent events. In HTTP/1.0, where the body is as it is sent.
pub struct Follower {
    stream: TcpStream,
    /// What came up to now.
    pub text: String,
}

impl Follower {
    /// Asks for them, and waits until they are told.
    pub async fn open(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut text = format!("GET {path} HTTP/1.0\r\nhost: {address}\r\n");
        headers.iter().for_each(|(name, value)| text += &format!("{name}: {value}\r\n"));
        stream.write_all(format!("{text}\r\n").as_bytes()).await.unwrap();
        let mut follower = Self { stream, text: String::new() };
        follower.until("the beginning", |text| text.contains(": alive\n\n")).await;
        assert!(follower.text.starts_with("HTTP/1.0 200"), "{}", follower.text);
        assert!(follower.text.contains("text/event-stream"), "{}", follower.text);
        follower
    }

    /// Reads until what came is `enough`, or the end; true when it came.
    pub async fn until(&mut self, what: &str, enough: impl Fn(&str) -> bool) -> bool {
        let mut bytes = vec![0; 4_096];
        while !enough(&self.text) {
            let read = tokio::time::timeout(PATIENCE, self.stream.read(&mut bytes)).await;
            let read = read.unwrap_or_else(|_| panic!("never came: {what}\n{}", self.text));
            match read.unwrap_or(0) {
                0 => return false,
                count => self.text += std::str::from_utf8(&bytes[..count]).unwrap(),
            }
        }
        true
    }

    /// Reads until so many calls ended.
    pub async fn ended(&mut self, calls: usize) {
        let ends = |text: &str| text.matches("event: call.ended\n").count() >= calls;
        assert!(self.until("the end of a call", |text| ends(text) && text.ends_with("\n\n")).await);
    }

    /// Reads to the end of the connection.
    pub async fn drain(&mut self) {
        assert!(!self.until("the end", |_| false).await);
    }

    /// What was told, each with its id.
    pub fn events(&self) -> Vec<(String, Value)> {
        let mut id = String::new();
        let mut events = Vec::new();
        for line in self.text.lines() {
            if let Some(own) = line.strip_prefix("id: ") {
                own.clone_into(&mut id);
            } else if let Some(data) = line.strip_prefix("data: ") {
                events.push((id.clone(), serde_json::from_str(data).unwrap()));
            }
        }
        events
    }

    /// The identities of the events.
    pub fn ids(&self) -> Vec<String> {
        let events = self.events().into_iter();
        events.filter_map(|(_, event)| Some(event["id"].as_str()?.to_owned())).collect()
    }
}
