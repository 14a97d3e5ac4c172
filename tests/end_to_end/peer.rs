//! A SIP peer at the other end of a connection, which says what a test makes it say.

use crate::node::PATIENCE;
use crate::phone::Heard;
use crate::phone::Phone;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

/// A peer at the other end of a connection.
pub(crate) struct Peer<S> {
    pub(crate) stream: S,
    unread: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    pub(crate) const fn new(stream: S) -> Self {
        Self { stream, unread: Vec::new() }
    }

    /// The next message whose first line begins so; others, and line ends between them, are passed over.
    pub(crate) async fn expect(&mut self, start: &str) -> Heard {
        let heard = timeout(PATIENCE, self.until(start)).await;
        heard.unwrap_or_else(|_| panic!("no {start}")).expect("the switch closed the connection")
    }

    /// Whether such a message comes before the connection ends.
    pub(crate) async fn try_expect(&mut self, start: &str) -> bool {
        let heard = timeout(PATIENCE, self.until(start)).await;
        heard.unwrap_or_else(|_| panic!("neither {start} nor an end")).is_some()
    }

    /// `None` once the connection is over.
    async fn until(&mut self, start: &str) -> Option<Heard> {
        loop {
            match self.cut() {
                Some(heard) if heard.start.starts_with(start) => return Some(heard),
                Some(_) => {}
                None => {
                    let read = self.stream.read_buf(&mut self.unread).await;
                    if read.ok()? == 0 {
                        return None;
                    }
                }
            }
        }
    }

    /// Cuts a whole message off what came.
    fn cut(&mut self) -> Option<Heard> {
        let blank = self.unread.iter().take_while(|byte| b"\r\n".contains(byte)).count();
        self.unread.drain(..blank);
        let text = String::from_utf8_lossy(&self.unread).into_owned();
        let (head, body) = text.split_once("\r\n\r\n")?;
        let heard = Heard::read(&format!("{head}\r\n\r\n"));
        let length: usize = heard.header("content-length").parse().unwrap();
        let body = body.get(..length)?;
        let heard = Heard { body: body.to_owned(), ..heard };
        self.unread.drain(..head.len() + 4 + length);
        Some(heard)
    }

    /// Answers a request; `headers` end with CRLF each.
    pub(crate) async fn answer(&mut self, request: &Heard, status: &str, headers: &str, sdp: &str) {
        let kind = if sdp.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let to = request.header("to");
        let tag = if to.contains(";tag=") { "" } else { ";tag=there" };
        let response = Phone::response(request, status, &format!("{headers}{kind}"))
            .replace(&format!("to: {to}\r\n"), &format!("to: {to}{tag}\r\n"))
            .replace("Content-Length: 0", &format!("Content-Length: {}", sdp.len()));
        self.stream.write_all((response + sdp).as_bytes()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Asks in the dialog of an INVITE that it answered, from the address it has on this connection.
    pub(crate) async fn ask(&mut self, invite: &Heard, via: &str, method: &str, cseq: u32) {
        let uri = invite.header("contact").trim_matches(['<', '>']);
        let request = format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/{via};branch=z9hG4bK-{method}-{cseq}\r\n\
             Max-Forwards: 70\r\nFrom: {};tag=there\r\nTo: {}\r\nCall-ID: {}\r\n\
             CSeq: {cseq} {method}\r\nContent-Length: 0\r\n\r\n",
            invite.header("to"),
            invite.header("from"),
            invite.header("call-id"),
        );
        self.stream.write_all(request.as_bytes()).await.unwrap();
        self.stream.flush().await.unwrap();
    }
}
