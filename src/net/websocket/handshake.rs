//! The handshake of a WebSocket that we open (RFC 6455 §4.1), over the library's parser. The library's own refuses a server
//! that selects none of the subprotocols it is offered, which the RFC lets a server do, and leaves the WebSocket the buffer
//! of its handshake, which is four times what that needs.

use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::error::SubProtocolError;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::handshake::client::Response;
use tokio_tungstenite::tungstenite::handshake::client::generate_request;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::handshake::machine::TryParse;
use tokio_tungstenite::tungstenite::http::HeaderMap;
use tokio_tungstenite::tungstenite::http::HeaderName;
use tokio_tungstenite::tungstenite::http::StatusCode;
use tokio_tungstenite::tungstenite::http::header::CONNECTION;
use tokio_tungstenite::tungstenite::http::header::SEC_WEBSOCKET_ACCEPT;
use tokio_tungstenite::tungstenite::http::header::SEC_WEBSOCKET_PROTOCOL;
use tokio_tungstenite::tungstenite::http::header::UPGRADE;

/// Longest head of an answer, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1_024;

/// What is read of it at once, in bytes.
const READ_BYTES: usize = 1_024;

/// Asks for a WebSocket over a connection, and judges the answer. What came behind its head is given back: it is the
/// WebSocket's.
///
/// # Errors
/// [`Error::Http`] is another answer than that there is one now; any other tells what is wrong with it, or the connection.
pub(super) async fn ask<S>(request: Request, socket: &mut S) -> Result<Vec<u8>, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let offered = words(request.headers(), SEC_WEBSOCKET_PROTOCOL).map(str::to_owned);
    let offered: Vec<String> = offered.collect();
    let (request, key) = generate_request(request)?;
    socket.write_all(&request).await?;
    socket.flush().await?;
    let (answer, beyond) = read_answer(socket).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(Error::Http(Box::new(answer)));
    }
    judge(answer.headers(), &offered, &derive_accept_key(key.as_bytes()))?;
    Ok(beyond)
}

/// The head of an answer, and what was read behind it.
async fn read_answer<S: AsyncRead + Unpin>(socket: &mut S) -> Result<(Response, Vec<u8>), Error> {
    let mut read: Vec<u8> = Vec::with_capacity(READ_BYTES);
    loop {
        if socket.read_buf(&mut read).await? == 0 {
            return Err(ProtocolError::HandshakeIncomplete.into());
        }
        if let Some((length, answer)) = Response::try_parse(&read)? {
            return Ok((answer, read.get(length..).unwrap_or_default().to_vec()));
        }
        if read.len() >= HEAD_BYTES_MAX {
            return Err(Error::AttackAttempt);
        }
    }
}

/// Whether the answer is to what was asked. A server may select no subprotocol, but none that was not offered (RFC 6455
/// §4.1, 1 to 6).
fn judge(headers: &HeaderMap, offered: &[String], accept: &str) -> Result<(), ProtocolError> {
    let has = |name, word: &str| words(headers, name).any(|one| one.eq_ignore_ascii_case(word));
    if !has(UPGRADE, "websocket") {
        return Err(ProtocolError::MissingUpgradeWebSocketHeader);
    }
    if !has(CONNECTION, "upgrade") {
        return Err(ProtocolError::MissingConnectionUpgradeHeader);
    }
    let accepted = headers.get(SEC_WEBSOCKET_ACCEPT);
    if accepted.is_none_or(|accepted| accepted.as_bytes() != accept.as_bytes()) {
        return Err(ProtocolError::SecWebSocketAcceptKeyMismatch);
    }
    let selected = headers.get(SEC_WEBSOCKET_PROTOCOL).map(|selected| selected.as_bytes());
    let is_offered = |selected: &[u8]| offered.iter().any(|one| one.as_bytes() == selected);
    if selected.is_none_or(is_offered) {
        Ok(())
    } else {
        let wrong = SubProtocolError::InvalidSubProtocol;
        Err(ProtocolError::SecWebSocketSubProtocolError(wrong))
    }
}

/// What a header lists, over all its lines.
fn words(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',').map(str::trim))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::duplex;
    use tokio_tungstenite::tungstenite::client::IntoClientRequest;
    use tokio_tungstenite::tungstenite::http::HeaderValue;

    /// What becomes of a handshake that offers `protocols`, with a server that gives the answer that `answer` makes of the
    /// key to be accepted, in pieces of at most so many bytes, and then no more; and what the server was asked.
    async fn with(
        protocols: Option<&'static str>,
        size: usize,
        answer: impl FnOnce(&str) -> String,
    ) -> (Result<Vec<u8>, Error>, String) {
        let mut request = "ws://agent/media".into_client_request().unwrap();
        if let Some(protocols) = protocols {
            let value = HeaderValue::from_static(protocols);
            request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, value);
        }
        let accept = derive_accept_key(request.headers()["sec-websocket-key"].as_bytes());
        let (mut near, mut far) = duplex(size);
        let server = async {
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                asked.push(far.read_u8().await.unwrap());
            }
            // It may be refused, or be enough, before all of it was taken.
            if far.write_all(answer(&accept).as_bytes()).await.is_ok() {
                far.shutdown().await.unwrap();
            }
            String::from_utf8(asked).unwrap()
        };
        let client = async {
            let done = ask(request, &mut near).await;
            drop(near);
            done
        };
        tokio::join!(client, server)
    }

    /// A good answer, with other headers behind its own.
    fn good(accept: &str, more: &str) -> String {
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\
             Sec-WebSocket-Accept: {accept}\r\n{more}\r\n"
        )
    }

    #[tokio::test]
    async fn what_comes_behind_the_head_is_kept_whatever_the_pieces() {
        for size in [1, 2, 3, 7, 64, 4_096] {
            let behind = "\u{1}a\r\n\r\nb";
            let (done, asked) = with(None, size, |accept| good(accept, "") + behind).await;
            assert!(asked.starts_with("GET /media HTTP/1.1\r\n"), "{asked}");
            // What did not come with the head is not waited for.
            let kept = done.unwrap();
            assert!(behind.as_bytes().starts_with(&kept), "pieces of {size}");
            assert!(size < 4_096 || kept == behind.as_bytes(), "what was read is lost: {kept:?}");
        }
        let long = "x".repeat(100_000);
        let (done, _) = with(None, 200_000, |accept| good(accept, "") + &long).await;
        let kept = done.unwrap();
        assert!(kept.len() < READ_BYTES && kept.iter().all(|byte| *byte == b'x'), "{}", kept.len());
    }

    #[tokio::test]
    async fn a_server_selects_what_is_offered_or_nothing() {
        for (offered, selected, is_good) in [
            (Some("media"), "Sec-WebSocket-Protocol: media\r\n", true),
            (Some("media"), "", true),
            (Some("other, media"), "sec-websocket-protocol:media\r\n", true),
            (None, "", true),
            (Some("media"), "Sec-WebSocket-Protocol: other\r\n", false),
            (Some("media"), "Sec-WebSocket-Protocol: media, other\r\n", false),
            (None, "Sec-WebSocket-Protocol: media\r\n", false),
        ] {
            let (done, asked) = with(offered, 4_096, |accept| good(accept, selected)).await;
            let line = offered.map(|offered| format!("\r\nSec-WebSocket-Protocol: {offered}\r\n"));
            assert!(line.is_none_or(|line| asked.contains(&line)), "{asked}");
            match done {
                Ok(_) => assert!(is_good, "{offered:?}: {selected}"),
                Err(Error::Protocol(ProtocolError::SecWebSocketSubProtocolError(_))) => {
                    assert!(!is_good, "{offered:?}: {selected}");
                }
                Err(error) => panic!("{offered:?}: {selected}: {error}"),
            }
        }
    }

    #[tokio::test]
    async fn an_answer_that_opens_no_web_socket_is_refused() {
        let refusal = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno";
        match with(None, 4_096, |_| refusal.to_owned()).await.0 {
            Err(Error::Http(answer)) => assert_eq!(answer.status(), StatusCode::UNAUTHORIZED),
            other => panic!("{other:?}"),
        }
        let heads: [fn(&str) -> String; 7] = [
            |accept| good(accept, "").replace("Upgrade: WebSocket", "Upgrade: h2c"),
            |accept| good(accept, "").replace("keep-alive, Upgrade", "close"),
            |accept| good(accept, "").replace(accept, "bm90IHRoZSBrZXkgYXQgYWxsIQ=="),
            |accept| good(accept, "").replace("Sec-WebSocket-Accept", "X"),
            |accept| good(accept, "").replace("HTTP/1.1", "SIP/2.0"),
            // Not to its end.
            |accept| good(accept, "").replace("\r\n\r\n", "\r\n"),
            // Too much of it.
            |accept| good(accept, &format!("X: {}\r\n", "x".repeat(2 * HEAD_BYTES_MAX))),
        ];
        for (number, head) in heads.into_iter().enumerate() {
            let (done, _) = with(None, 4_096, head).await;
            assert!(!matches!(done, Ok(_) | Err(Error::Http(_))), "{number}: {done:?}");
        }
    }
}
