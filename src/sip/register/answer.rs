//! What a registrar's answer means.

use crate::sip::message::Response;
use crate::sip::message::header::contact::Contact;
use crate::sip::message::headers::Headers;
use crate::sip::message::name::HeaderName;
use std::time::Duration;

/// What a final response says of our binding.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// It stands.
    Bound(Binding),
    /// A longer life must be asked for (423).
    TooBrief {
        /// Min-Expires, in seconds.
        min_s: u32,
    },
    /// Not now.
    Failed {
        /// What the registrar says of when to come again.
        retry_after: Option<Duration>,
    },
    /// The registrar will not have us: no such user, or wrong credentials.
    Forbidden,
}

/// A binding as it was granted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Binding {
    pub(super) expires_s: u32,
    pub(super) service_route: Vec<String>,
}

/// Most entries of Service-Route that are kept.
const ENTRIES_MAX: usize = 16;

/// Judges a final response to a REGISTER that asked for `asked_s` seconds.
pub(super) fn judge(response: &Response, contact_user: &str, asked_s: u32) -> Judgement {
    let headers = &response.headers;
    match response.status {
        200..=299 => match granted(headers, contact_user, asked_s) {
            // A success that leaves nothing bound: RFC 3261 §10.3 step 8 names all bindings.
            0 => Judgement::Failed { retry_after: None },
            expires_s => Judgement::Bound(Binding {
                expires_s,
                service_route: addresses(headers, HeaderName::ServiceRoute),
            }),
        },
        423 => Judgement::TooBrief { min_s: seconds(headers, HeaderName::MinExpires).unwrap_or(0) },
        401 | 403 | 404 | 407 => Judgement::Forbidden,
        _ => {
            let after = headers.retry_after().ok().flatten();
            let retry_after = after.map(|after| Duration::from_secs(u64::from(after.delay_s)));
            Judgement::Failed { retry_after }
        }
    }
}

/// The life of our binding, in seconds: of the Contact with our user, else of the only Contact, else
/// the Expires header, else what was asked for (RFC 3261 §10.2.4). Registrars behind translators
/// write another host than we did, so the host is not compared.
fn granted(headers: &Headers, contact_user: &str, asked_s: u32) -> u32 {
    let all = || headers.contacts().filter_map(Result::ok);
    let ours = |contact: &Contact| match contact {
        Contact::Address(address) => address.uri().user() == Some(contact_user.as_bytes()),
        Contact::All => false,
    };
    let mut mine = all().filter(ours);
    let found =
        match (mine.next(), all().count()) {
            // Of several the longest life is the newest.
            (Some(first), _) => Some(mine.fold(first, |best, next| {
                if next.expires_s() > best.expires_s() { next } else { best }
            })),
            (None, 1) => all().next(),
            (None, 0) => None,
            (None, _) => return 0,
        };
    let own = found.and_then(|contact| contact.expires_s());
    own.or_else(|| seconds(headers, HeaderName::Expires)).unwrap_or(asked_s)
}

fn seconds(headers: &Headers, name: HeaderName) -> Option<u32> {
    std::str::from_utf8(headers.first(name)?).ok()?.trim().parse().ok()
}

/// The addresses of a field as they go into a Route header, in order.
fn addresses(headers: &Headers, name: HeaderName) -> Vec<String> {
    let readable = headers.addresses(name).filter_map(Result::ok);
    let texts = readable.filter_map(|address| {
        std::str::from_utf8(address.uri().as_bytes()).ok().map(|uri| format!("<{uri}>"))
    });
    texts.take(ENTRIES_MAX).collect()
}
