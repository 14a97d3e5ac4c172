//! A carrier as registrar: what it grants, and what it does not put up with.

use crate::simulator::carrier::Carrier;
use crate::simulator::judge::ALGORITHMS;
use crate::simulator::judge::REALM;
use crate::simulator::judge::text;
use crate::sip::digest::server::Verdict;
use crate::sip::message::Request;
use crate::sip::message::header::contact::Contact;
use crate::sip::message::name::HeaderName;
use crate::sip::message::write::ResponseWriter;
use crate::types::moment::Moment;
use std::net::SocketAddr;
use std::time::Duration;

/// Largest expiry a carrier grants to a registration, in seconds.
const REGISTERED_S: u32 = 300;
/// Who was told 403 and comes again sooner gets his address banned.
const LEFT_ALONE: Duration = Duration::from_secs(600);
/// An answer that is repeated because it was lost is no new request.
const REPEATED: Duration = Duration::from_secs(5);

/// What becomes of registrations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Registering {
    /// They are granted.
    #[default]
    Granted,
    /// They are granted from this life on, in seconds; shorter ones are answered 423.
    NotBelow(u32),
    /// They are refused: status, reason phrase, Retry-After.
    Refused(u16, &'static str, Option<u32>),
    /// Nothing is heard.
    Silent,
}

/// What a registrar remembers of us.
#[derive(Debug, Default)]
pub(super) struct Registrar {
    registering: Registering,
    until: Option<Moment>,
    /// When we were last told to stay away, and for how long.
    sent_away: Option<(Moment, Duration)>,
    was_told_least: bool,
}

impl Carrier {
    /// What becomes of registrations from now on.
    pub const fn will_register(&mut self, registering: Registering) {
        self.registrar.registering = registering;
    }

    /// Whether a registration of ours stands.
    #[must_use]
    pub fn is_registered(&self, now: Moment) -> bool {
        self.registrar.until.is_some_and(|until| until > now)
    }

    pub(super) fn register(
        &mut self,
        now: Moment,
        ends: (SocketAddr, SocketAddr),
        request: &Request,
    ) {
        if !self.model().registers {
            self.complain("REGISTER came, and this carrier knows its customers without it");
            return self.refuse(now, ends, request, (403, "Forbidden", None));
        }
        self.check_patience(now);
        match self.registrar.registering {
            Registering::Silent => (),
            Registering::Refused(status, phrase, retry_after_s) => {
                let rest = match (status, retry_after_s) {
                    (_, Some(seconds)) => Some(Duration::from_secs(u64::from(seconds))),
                    (403, None) => Some(LEFT_ALONE),
                    (_, None) => None,
                };
                self.registrar.sent_away = rest.map(|rest| (now, rest));
                self.refuse(now, ends, request, (status, phrase, retry_after_s));
            }
            Registering::Granted | Registering::NotBelow(_) => self.known(now, ends, request),
        }
    }

    fn check_patience(&mut self, now: Moment) {
        let Some((told, rest)) = self.registrar.sent_away else { return };
        let waited = now.since(told);
        if waited > REPEATED && waited < rest {
            let (waited, rest) = (waited.as_secs(), rest.as_secs());
            self.complain(format!(
                "REGISTER came again after {waited} s, and was to stay away for {rest} s"
            ));
        }
    }

    /// Asks who it is.
    fn known(&mut self, now: Moment, ends: (SocketAddr, SocketAddr), request: &Request) {
        let (_, credentials, _) = self.challenge_names();
        let value = request.headers.first(credentials).map(<[u8]>::to_vec);
        let verdict = value.map(|value| self.verify(now, ends.1, (request, &value)));
        match verdict {
            None | Some(Verdict::Stale) => {
                self.ask_registrant(now, ends, request, verdict.is_some());
            }
            Some(Verdict::Wrong | Verdict::Malformed) => {
                self.complain("REGISTER answers the challenge with another user or password");
                self.refuse(now, ends, request, (403, "Forbidden", None));
            }
            Some(Verdict::Ok) => self.grant(now, ends, request),
        }
    }

    /// The header of its challenges to registrants, that of the credentials, and the status.
    const fn challenge_names(&self) -> (HeaderName, HeaderName, u16) {
        if self.model().registrar_is_proxy {
            (HeaderName::ProxyAuthenticate, HeaderName::ProxyAuthorization, 407)
        } else {
            (HeaderName::WwwAuthenticate, HeaderName::Authorization, 401)
        }
    }

    fn ask_registrant(
        &mut self,
        now: Moment,
        (edge, source): (SocketAddr, SocketAddr),
        request: &Request,
        is_stale: bool,
    ) {
        let (challenge, _, status) = self.challenge_names();
        let (server, _) = self.digest();
        let values = if is_stale {
            server.stale_challenges(now, source.ip(), REALM, &ALGORITHMS)
        } else {
            server.challenges(now, source.ip(), REALM, &ALGORITHMS)
        };
        let mut writer = ResponseWriter::to(request, source, status, Some(b"carrier"));
        for value in values {
            writer.header(challenge, value);
        }
        self.send(now, edge, writer.finish());
    }

    fn grant(&mut self, now: Moment, (edge, source): (SocketAddr, SocketAddr), request: &Request) {
        let headers = &request.headers;
        let Some(Ok(contact)) = headers.contacts().next() else {
            self.complain("REGISTER has no Contact");
            return self.refuse(now, (edge, source), request, (400, "Bad Request", None));
        };
        let expires = || text(headers.first(HeaderName::Expires)).trim().parse().ok();
        let asked: u32 = contact.expires_s().or_else(expires).unwrap_or(REGISTERED_S);
        if let Registering::NotBelow(least) = self.registrar.registering
            && asked > 0
            && asked < least
        {
            return self.too_brief(now, (edge, source), request, (asked, least));
        }
        let life = match self.registrar.registering {
            Registering::NotBelow(least) => asked.min(least),
            _ => asked.min(REGISTERED_S),
        };
        self.registrar.until = Some(now + Duration::from_secs(u64::from(life)));
        let mut writer = ResponseWriter::to(request, source, 200, Some(b"carrier"));
        if let Contact::Address(contact) = contact
            && life > 0
        {
            let contact = text(Some(contact.uri().as_bytes()));
            writer.header(HeaderName::Contact, format!("<{contact}>;expires={life}"));
        }
        self.send(now, edge, writer.finish());
    }

    fn too_brief(
        &mut self,
        now: Moment,
        (edge, source): (SocketAddr, SocketAddr),
        request: &Request,
        (asked, least): (u32, u32),
    ) {
        if self.registrar.was_told_least {
            self.complain(format!(
                "REGISTER asks for {asked} s again, though {least} s is the least"
            ));
        }
        self.registrar.was_told_least = true;
        let mut writer = ResponseWriter::to(request, source, 423, Some(b"carrier"));
        writer.number(HeaderName::MinExpires, least);
        self.send(now, edge, writer.finish());
    }
}
