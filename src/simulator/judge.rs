//! What a carrier makes of an INVITE: taken, challenged, or refused with the reason in words; and of whom a REFER
//! names.

use crate::simulator::carrier::Carrier;
use crate::simulator::description::Seen;
use crate::simulator::model::AssertedRule;
use crate::simulator::model::HostRule;
use crate::simulator::model::IdentityHost;
use crate::sip::digest::Algorithm;
use crate::sip::digest::server::Account;
use crate::sip::digest::server::Presented;
use crate::sip::digest::server::Verdict;
use crate::sip::message::Request;
use crate::sip::message::method::Method;
use crate::sip::message::name::HeaderName;
use crate::sip::message::uri::Uri;
use crate::types::moment::Moment;
use std::net::IpAddr;
use std::net::SocketAddr;

/// The realm of a carrier's challenges.
pub(super) const REALM: &str = "sip.carrier.example";
/// The algorithm they ask for.
pub(super) const ALGORITHMS: [Algorithm; 1] = [Algorithm::Md5];

/// What a carrier makes of an INVITE.
pub(super) enum Judgement {
    /// It takes the call.
    Taken,
    /// It asks for a password.
    Challenged,
    /// It refuses: status, reason phrase, and why in words.
    Refused(u16, &'static str, String),
}

/// One thing a carrier wants of an INVITE, and the first two and `Telephone` of a REFER.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The host of the Request-URI, or of Refer-To.
    Host,
    /// How the called number is written.
    Called,
    /// Whose number the caller is, and how it is written.
    Caller,
    /// Where and how the caller is asserted.
    Asserted,
    /// `;user=phone`.
    Telephone,
    /// Nothing is required that not every exchange can do.
    Extensions,
    /// What is offered as media.
    Media,
}

/// A refusal in the making.
pub(super) type Objection = (u16, &'static str, String);

/// The place in a request where the number to be called stands, and the address there. Whom a REFER names is called
/// by the rules for an INVITE.
fn called_in(request: &Request) -> Result<(&'static str, Uri), Objection> {
    if request.method != Method::Refer {
        return Ok(("Request-URI", request.uri.clone()));
    }
    match request.headers.refer_to() {
        Ok(Some(target)) => Ok(("Refer-To header", target.uri().clone())),
        Ok(None) | Err(_) => {
            Err((400, "Bad Request", "there is no Refer-To that can be read".to_owned()))
        }
    }
}

impl Carrier {
    pub(super) fn judge(
        &mut self,
        now: Moment,
        source: SocketAddr,
        request: &Request,
    ) -> Judgement {
        let first = self.host_of(request).and_then(|()| self.credentials(now, source, request));
        let all = match first {
            Ok(false) => return Judgement::Challenged,
            Ok(true) => self.contents(request),
            Err(objection) => Err(objection),
        };
        match all {
            Ok(()) => Judgement::Taken,
            Err((status, phrase, words)) => Judgement::Refused(status, phrase, words),
        }
    }

    /// Whether whom a REFER names may be called as that is written.
    pub(super) fn judge_target(&self, request: &Request) -> Result<(), Objection> {
        self.host_of(request)?;
        self.called(request)?;
        self.telephone_parameter(request)
    }

    /// Whether an INVITE, or a REFER, keeps a rule.
    ///
    /// # Errors
    ///
    /// How it breaks the rule, in words.
    pub fn keeps(&self, rule: Rule, request: &Request) -> Result<(), String> {
        let kept = match rule {
            Rule::Host => self.host_of(request),
            Rule::Called => self.called(request),
            Rule::Caller => self.caller(request),
            Rule::Asserted => self.asserted(request).map(|_| ()),
            Rule::Telephone => self.telephone_parameter(request),
            Rule::Extensions => extensions(request),
            Rule::Media => self.media(request),
        };
        kept.map_err(|(status, _, words)| format!("{words} (answered {status})"))
    }

    fn host_of(&self, request: &Request) -> Result<(), Objection> {
        let (place, uri) = called_in(request)?;
        let host = text(uri.host()).to_ascii_lowercase();
        let is_address = host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        let (fits, wanted) = match self.model().hosts {
            HostRule::Any => (true, String::new()),
            HostRule::Customer(domain) => {
                let name = host.strip_suffix(domain);
                // `pstn.{edge}.twilio.com` is a place of the carrier's, no customer.
                let parts = domain.trim_start_matches('.').splitn(2, '.').collect::<Vec<_>>();
                let by_edge = match parts.as_slice() {
                    [product, parent] => host
                        .strip_suffix(&format!(".{parent}"))
                        .and_then(|rest| rest.rsplit_once('.'))
                        .and_then(|(rest, _edge)| rest.strip_suffix(&format!(".{product}"))),
                    _ => None,
                };
                let named = name.or(by_edge).is_some_and(|name| !name.is_empty());
                (named, format!("the customer's name under {domain}"))
            }
            HostRule::Domain(domain) => {
                let under = host == domain || host.ends_with(&format!(".{domain}"));
                (under && !is_address, format!("a name under {domain}"))
            }
        };
        if fits {
            return Ok(());
        }
        let words = format!("the host of the {place} is {host}, and should be {wanted}");
        Err((403, "Forbidden", words))
    }

    /// False: to be challenged.
    fn credentials(
        &mut self,
        now: Moment,
        source: SocketAddr,
        request: &Request,
    ) -> Result<bool, Objection> {
        if !self.model().challenges {
            return Ok(true);
        }
        let Some(value) = request.headers.first(HeaderName::ProxyAuthorization) else {
            return Ok(false);
        };
        let value = value.to_vec();
        match self.verify(now, source, (request, &value)) {
            Verdict::Ok => Ok(true),
            Verdict::Stale => Ok(false),
            Verdict::Wrong | Verdict::Malformed => {
                let words = "the answer to the challenge is of another user or password".to_owned();
                Err((403, "Forbidden", words))
            }
        }
    }

    /// Checks credentials of any request of ours.
    pub(super) fn verify(
        &mut self,
        now: Moment,
        source: SocketAddr,
        (request, value): (&Request, &[u8]),
    ) -> Verdict {
        let (server, subscription) = self.digest();
        let account = Account {
            username: &subscription.username,
            password: &subscription.password,
            realm: REALM,
            algorithms: &ALGORITHMS,
        };
        let presented = Presented { method: &request.method, value };
        server.verify(now, source.ip(), &presented, Some(&account))
    }

    fn contents(&self, request: &Request) -> Result<(), Objection> {
        self.called(request)?;
        self.caller(request)?;
        self.telephone_parameter(request)?;
        extensions(request)?;
        self.media(request)
    }

    fn called(&self, request: &Request) -> Result<(), Objection> {
        let model = self.model();
        let (place, uri) = called_in(request)?;
        // The To of a request within a call is not whom to call.
        let to = (request.method != Method::Refer).then(|| request.headers.to().uri());
        let to = to.map(|to| ("To header", to));
        for (place, uri) in [(place, &uri)].into_iter().chain(to) {
            let user = text(uri.user());
            if !model.called.is_met_by(&user) {
                let form = model.called.words();
                let words = format!("the number in the {place} is {user:?}, and should be {form}");
                return Err((400, "Bad Request", words));
            }
        }
        Ok(())
    }

    fn caller(&self, request: &Request) -> Result<(), Objection> {
        let headers = &request.headers;
        let model = self.model();
        let from = text(headers.from().uri().user());
        let is_withheld = from.eq_ignore_ascii_case("anonymous");
        if is_withheld && !model.takes_withheld {
            let words = "the caller is withheld, which this carrier does not take".to_owned();
            return Err((403, "Forbidden", words));
        }
        let asserted = self.asserted(request)?;
        let shown = match asserted {
            Some(asserted) => asserted,
            None if is_withheld => {
                let words = "the caller is withheld and nothing asserts who it is".to_owned();
                return Err((403, "Forbidden", words));
            }
            None => from,
        };
        // A registered pilot may stand in From; the number shown is the asserted one.
        let own = self.subscription().numbers.iter().any(|own| model.caller.write(own) == shown);
        if own {
            return Ok(());
        }
        let form = model.caller.words();
        let words = format!("the caller {shown:?} is no number allotted to us, written as {form}");
        Err((403, "Invalid Caller ID", words))
    }

    /// The user part of the asserted identity, where there is one.
    fn asserted(&self, request: &Request) -> Result<Option<String>, Objection> {
        let headers = &request.headers;
        let one = |name| headers.addresses(name).find_map(Result::ok);
        let rule = self.model().asserted;
        let AssertedRule::Ppi(host) = rule else {
            let pai = one(HeaderName::PAssertedIdentity);
            if rule == AssertedRule::Pai && pai.is_none() {
                let words = "there is no P-Asserted-Identity".to_owned();
                return Err((403, "Forbidden", words));
            }
            return Ok(pai.map(|address| text(address.uri().user())));
        };
        let Some(address) = one(HeaderName::PPreferredIdentity) else {
            let words = "there is no P-Preferred-Identity".to_owned();
            return Err((480, "Temporarily Unavailable", words));
        };
        let stated = text(address.uri().host());
        let is_withheld = text(headers.from().uri().user()).eq_ignore_ascii_case("anonymous");
        let wanted = match host {
            IdentityHost::CustomerAddress => self.subscription().address.to_string(),
            // RFC 3323 §4.1.1.3: a From that hides the caller hides the host as well.
            IdentityHost::SameAsFrom if is_withheld => text(request.uri.host()),
            IdentityHost::SameAsFrom => text(headers.from().uri().host()),
        };
        if stated != wanted {
            let words =
                format!("the host of P-Preferred-Identity is {stated}, and should be {wanted}");
            return Err((480, "Temporarily Unavailable", words));
        }
        Ok(Some(text(address.uri().user())))
    }

    fn telephone_parameter(&self, request: &Request) -> Result<(), Objection> {
        if !self.model().user_phone {
            return Ok(());
        }
        let headers = &request.headers;
        let is_anonymous = text(headers.from().uri().user()).eq_ignore_ascii_case("anonymous");
        let (place, uri) = called_in(request)?;
        let others: [(&str, &Uri); 2] =
            [("To header", headers.to().uri()), ("From header", headers.from().uri())];
        let others = others.into_iter().filter(|_| request.method != Method::Refer);
        let lacks = |uri: &Uri| uri.param("user") != Some(b"phone");
        let missing = [(place, &uri)]
            .into_iter()
            .chain(others)
            .filter(|(place, _)| !(is_anonymous && *place == "From header"))
            .find(|(_, uri)| lacks(uri));
        match missing {
            None => Ok(()),
            Some((place, _)) => {
                let words = format!("there is no user=phone in the {place}");
                Err((487, "Request Terminated", words))
            }
        }
    }

    fn media(&self, request: &Request) -> Result<(), Objection> {
        let Some(seen) = Seen::of(&request.body) else {
            return Err((488, "Not Acceptable Here", "there is no audio offered".to_owned()));
        };
        let is_encrypted = self.subscription().suite.is_some();
        let wanted = if is_encrypted { "RTP/SAVP" } else { "RTP/AVP" };
        if seen.protocol != wanted || (is_encrypted && seen.key.is_none()) {
            let words = format!("media is offered as {}, and should be {wanted}", seen.protocol);
            return Err((488, "Not Acceptable Here", words));
        }
        if seen.codecs.is_empty() {
            let words = "neither PCMU nor PCMA is offered".to_owned();
            return Err((488, "Not Acceptable Here", words));
        }
        Ok(())
    }
}

fn extensions(request: &Request) -> Result<(), Objection> {
    if request.headers.tokens(HeaderName::Require).has("100rel") {
        let words = "it requires 100rel, which not every exchange can do".to_owned();
        return Err((420, "Bad Extension", words));
    }
    Ok(())
}

/// A part of a message as text.
pub(super) fn text(part: Option<&[u8]>) -> String {
    String::from_utf8_lossy(part.unwrap_or_default()).into_owned()
}
