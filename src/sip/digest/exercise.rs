//! The entry for fuzzing: a challenge that is answered, and credentials that are checked.

use crate::sip::digest::Algorithm;
use crate::sip::digest::client::Account as ClientAccount;
use crate::sip::digest::client::Client;
use crate::sip::digest::fields::Fields;
use crate::sip::digest::server::Account;
use crate::sip::digest::server::Presented;
use crate::sip::digest::server::Server;
use crate::sip::digest::server::Verdict;
use crate::sip::digest::server::claimed;
use crate::sip::message::Message;
use crate::sip::message::method::Method;
use crate::sip::message::parse;
use crate::types::moment::Moment;
use crate::types::secret::Secret;
use bytes::Bytes;
use std::hint::black_box;
use std::net::IpAddr;
use std::net::Ipv4Addr;

const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const URI: &[u8] = b"sip:a@b";

/// Takes `data` for the value of a challenge and for credentials: no panic, credentials that nobody
/// could have made are never right, and what we answer stays one readable header line.
///
/// # Panics
///
/// When one of these promises is broken.
pub fn exercise(data: &[u8]) {
    check_credentials(data);
    let mut client = Client::new(vec![ClientAccount::new("user", secret())], 1);
    for header in ["WWW-Authenticate", "Proxy-Authenticate"] {
        let head =
            b"SIP/2.0 401 Unauthorized\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKx\r\nFrom: <sip:a@b>;\
            tag=1\r\nTo: <sip:a@b>\r\nCall-ID: c\r\nCSeq: 1 REGISTER\r\n";
        let name = format!("{header}: ");
        let text = [head, name.as_bytes(), data, b"\r\n\r\n"].concat();
        let Ok(Message::Response(response)) = parse(Bytes::from(text)) else { continue };
        let answers = client.answer(&response.headers, &Method::Register, URI).unwrap_or_default();
        client.accept(&response.headers);
        let later = client.authorize(&Method::Register, URI);
        for (_, value) in answers.iter().chain(&later) {
            check_answer(value);
        }
    }
}

fn secret() -> Secret<String> {
    Secret::new("password".to_owned())
}

fn check_credentials(value: &[u8]) {
    black_box(claimed(value));
    let algorithms = [Algorithm::Sha256, Algorithm::Md5];
    let password = secret();
    let account =
        Account { username: "user", password: &password, realm: "r", algorithms: &algorithms };
    let presented = Presented { method: &Method::Register, value };
    let mut server = Server::new([7; 32]);
    let verdict = server.verify(Moment::from_millis(1), SOURCE, &presented, Some(&account));
    // The nonce of such credentials was never given out.
    assert!(verdict != Verdict::Ok, "{}", value.escape_ascii());
}

fn check_answer(value: &[u8]) {
    let breaks = value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0));
    assert!(!breaks, "{}", value.escape_ascii());
    let fields = Fields::parse(value);
    let user = fields.ok().and_then(|fields| fields.get("username"));
    assert!(user == Some(b"user"), "{}", value.escape_ascii());
}
