//! Challenges and checks: nonces need no memory until they were used rightly (RFC 7616 §3.3, §5.4).

use crate::sip::digest::Algorithm;
use crate::sip::digest::Identity;
use crate::sip::digest::Inputs;
use crate::sip::digest::Quality;
use crate::sip::digest::escape;
use crate::sip::digest::fields::Fields;
use crate::sip::digest::hex;
use crate::sip::digest::response;
use crate::sip::message::method::Method;
use crate::types::limit::SIP_NONCES_MAX;
use crate::types::moment::Moment;
use crate::types::secret::Secret;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// How long a nonce may be used.
pub const NONCE_LIFE: Duration = Duration::from_secs(30);

/// Challenges requests and checks their credentials, for one shard.
#[derive(Debug)]
pub struct Server {
    key: hmac::Key,
    serial: u32,
    /// Those that were used.
    windows: BTreeMap<NonceId, Window>,
    /// The latest one forgotten before its time: of those up to it that are not in `windows` any may have been used.
    forgotten: Option<NonceId>,
}

/// Time and serial number of a nonce, in the order in which nonces are issued.
type NonceId = [u8; 12];

/// Which counts of a nonce were used.
#[derive(Clone, Copy, Debug)]
struct Window {
    highest: u32,
    /// Bit n: `highest - n` was used.
    used: u64,
}

/// The account credentials are checked against.
#[derive(Clone, Copy, Debug)]
pub struct Account<'a> {
    /// User name.
    pub username: &'a str,
    /// Password.
    pub password: &'a Secret<String>,
    /// Realm.
    pub realm: &'a str,
    /// The algorithms that are accepted.
    pub algorithms: &'a [Algorithm],
}

/// What a request presents.
#[derive(Clone, Copy, Debug)]
pub struct Presented<'a> {
    /// The method of the request.
    pub method: &'a Method,
    /// The value of Authorization or Proxy-Authorization.
    pub value: &'a [u8],
}

/// What credentials are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Right.
    Ok,
    /// Right, but the nonce is too old, not ours, or its count was used: challenge with `stale`.
    Stale,
    /// User, realm, algorithm or response is wrong; which one is not told.
    Wrong,
    /// Not usable as Digest credentials with `qop=auth`.
    Malformed,
}

/// The user name and realm that credentials claim, to find the account; nothing is checked yet.
#[must_use]
pub fn claimed(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let fields = Fields::parse(value).ok()?;
    Some((fields.get("username")?, fields.get("realm")?))
}

/// Whether credentials say that they are for this realm; nothing else is checked yet.
#[must_use]
pub fn is_for(value: &[u8], realm: &str) -> bool {
    claimed(value).is_some_and(|(_, claimed)| claimed == escape(realm))
}

impl Server {
    /// A server whose nonces are sealed with `secret`.
    #[must_use]
    pub fn new(secret: [u8; 32]) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        Self { key, serial: 0, windows: BTreeMap::new(), forgotten: None }
    }

    /// Values of WWW-Authenticate or Proxy-Authenticate, one for each algorithm, in the given order;
    /// the strongest should come first (RFC 8760 §2.4).
    pub fn challenges(
        &mut self,
        now: Moment,
        source: IpAddr,
        realm: &str,
        algorithms: &[Algorithm],
    ) -> Vec<Vec<u8>> {
        let nonce = self.nonce(now, source);
        let realm = String::from_utf8_lossy(&escape(realm)).into_owned();
        let value = |algorithm: &Algorithm| {
            let algorithm = algorithm.as_str();
            format!(
                "Digest realm=\"{realm}\", nonce=\"{nonce}\", qop=\"auth\", algorithm={algorithm}"
            )
        };
        algorithms.iter().map(|algorithm| value(algorithm).into_bytes()).collect()
    }

    /// The same for credentials that were [`Verdict::Stale`]: the peer may answer without asking its
    /// user again.
    pub fn stale_challenges(
        &mut self,
        now: Moment,
        source: IpAddr,
        realm: &str,
        algorithms: &[Algorithm],
    ) -> Vec<Vec<u8>> {
        let mut values = self.challenges(now, source, realm, algorithms);
        for value in &mut values {
            value.extend_from_slice(b", stale=true");
        }
        values
    }

    /// Checks what a request presents. Without an account the same work is done and the verdict is
    /// never [`Verdict::Ok`], so that nobody learns which users exist.
    ///
    /// The digest URI is not compared with the Request-URI: some peers, SIPp among them, write
    /// another one.
    pub fn verify(
        &mut self,
        now: Moment,
        source: IpAddr,
        presented: &Presented<'_>,
        account: Option<&Account<'_>>,
    ) -> Verdict {
        let Some(claim) = Claim::read(presented.value) else { return Verdict::Malformed };
        if !claim.is_right(presented.method, account) {
            return Verdict::Wrong;
        }
        match self.open(claim.nonce, source) {
            Some((issued, id)) if now >= issued && now.since(issued) <= NONCE_LIFE => {
                self.forget_old(now);
                if self.use_count(id, claim.count) { Verdict::Ok } else { Verdict::Stale }
            }
            _ => Verdict::Stale,
        }
    }

    /// A nonce: time and serial number, sealed together with the address they are for.
    fn nonce(&mut self, now: Moment, source: IpAddr) -> String {
        self.serial = self.serial.wrapping_add(1);
        let mut id: NonceId = [0; 12];
        let parts = now.as_nanos().to_be_bytes().into_iter().chain(self.serial.to_be_bytes());
        for (slot, byte) in id.iter_mut().zip(parts) {
            *slot = byte;
        }
        hex(&id) + &self.seal(id, source)
    }

    fn seal(&self, id: NonceId, source: IpAddr) -> String {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&id);
        match source.to_canonical() {
            IpAddr::V4(address) => context.update(&address.octets()),
            IpAddr::V6(address) => context.update(&address.octets()),
        }
        hex(context.sign().as_ref().get(..16).unwrap_or(&[]))
    }

    /// Time and identity of a nonce of ours for this address.
    fn open(&self, nonce: &[u8], source: IpAddr) -> Option<(Moment, NonceId)> {
        let (id_text, seal) = nonce.split_at_checked(24)?;
        let mut id: NonceId = [0; 12];
        for (slot, digits) in id.iter_mut().zip(id_text.chunks_exact(2)) {
            *slot = u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
        }
        verify_slices_are_equal(self.seal(id, source).as_bytes(), seal).ok()?;
        Some((issued(id), id))
    }

    /// Marks a count as used; false when it was used before or is too far behind, or may have been used.
    fn use_count(&mut self, id: NonceId, count: u32) -> bool {
        let Some(window) = self.windows.get_mut(&id) else {
            if self.forgotten.is_some_and(|forgotten| id <= forgotten) {
                return false;
            }
            if self.windows.len() >= SIP_NONCES_MAX
                && let Some((oldest, _)) = self.windows.pop_first()
            {
                self.forgotten = self.forgotten.max(Some(oldest));
            }
            self.windows.insert(id, Window { highest: count, used: 1 });
            return true;
        };
        if count > window.highest {
            let step = count - window.highest;
            window.used = window.used.checked_shl(step).unwrap_or(0) | 1;
            window.highest = count;
            return true;
        }
        let bit = 1_u64.checked_shl(window.highest - count).unwrap_or(0);
        let is_free = bit != 0 && window.used & bit == 0;
        window.used |= bit;
        is_free
    }

    /// Forgets nonces that no longer pass by their age.
    fn forget_old(&mut self, now: Moment) {
        while let Some(oldest) = self.windows.first_entry()
            && now.since(issued(*oldest.key())) > NONCE_LIFE
        {
            oldest.remove();
        }
    }
}

/// When a nonce was issued.
fn issued(id: NonceId) -> Moment {
    Moment::from_nanos(id.first_chunk::<8>().map_or(0, |nanos| u64::from_be_bytes(*nanos)))
}

/// Readable credentials.
struct Claim<'a> {
    username: &'a [u8],
    realm: &'a [u8],
    nonce: &'a [u8],
    response: &'a [u8],
    uri: &'a [u8],
    algorithm: Algorithm,
    count_text: &'a [u8],
    count: u32,
    cnonce: &'a [u8],
}

impl<'a> Claim<'a> {
    fn read(value: &'a [u8]) -> Option<Self> {
        let fields = Fields::parse(value).ok()?;
        // We always offer qop=auth; without it a captured response could be replayed for 30 s.
        fields.get("qop").filter(|qop| qop.eq_ignore_ascii_case(b"auth"))?;
        let count_text = fields.get("nc").filter(|count| count.len() == 8)?;
        let count = u32::from_str_radix(str::from_utf8(count_text).ok()?, 16).ok()?;
        Some(Self {
            username: fields.get("username")?,
            realm: fields.get("realm")?,
            nonce: fields.get("nonce")?,
            response: fields.get("response")?,
            uri: fields.get("uri")?,
            algorithm: fields
                .get("algorithm")
                .map_or(Some(Algorithm::Md5), Algorithm::from_bytes)?,
            count_text,
            count: Some(count).filter(|&count| count > 0)?,
            cnonce: fields.get("cnonce")?,
        })
    }

    /// True when everything but nonce and count is right. The hash is always computed.
    fn is_right(&self, method: &Method, account: Option<&Account<'_>>) -> bool {
        let nobody = Secret::new(String::new());
        let password = account.map_or(&nobody, |account| account.password);
        let identity = Identity { username: self.username, realm: self.realm, password };
        let inputs = Inputs {
            algorithm: self.algorithm,
            nonce: self.nonce,
            method: method.as_bytes(),
            uri: self.uri,
            quality: Some(Quality { count: self.count_text, cnonce: self.cnonce }),
        };
        let expected = response(&identity, &inputs);
        let given = self.response.to_ascii_lowercase();
        let same = verify_slices_are_equal(expected.as_bytes(), &given).is_ok();
        let known = account.is_some_and(|account| {
            self.username == escape(account.username)
                && self.realm == escape(account.realm)
                && account.algorithms.contains(&self.algorithm)
        });
        same && known
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::digest::client;
    use crate::sip::digest::client::Client;
    use crate::sip::message::Message;
    use crate::sip::message::parse;

    const ALGORITHMS: &[Algorithm] = &[Algorithm::Sha256, Algorithm::Md5];
    const URI: &[u8] = b"sip:15550100@127.0.0.1";

    fn source(last: u8) -> IpAddr {
        IpAddr::from([127, 0, 0, last])
    }

    fn at(seconds: u64) -> Moment {
        Moment::from_millis(seconds * 1000)
    }

    fn client(username: &str, password: &str, challenges: &[Vec<u8>]) -> Client {
        let lines: String = challenges
            .iter()
            .map(|value| format!("WWW-Authenticate: {}\r\n", String::from_utf8_lossy(value)))
            .collect();
        let text = format!(
            "SIP/2.0 401 Unauthorized\r\nVia: SIP/2.0/UDP h\r\nFrom: <sip:a@b>;tag=1\r\n\
            To: <sip:c@d>;tag=2\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\n{lines}\r\n"
        );
        let Ok(Message::Response(response)) = parse(text.into()) else { panic!("must parse") };
        let mut client =
            Client::new(vec![client::Account::new(username, Secret::new(password.to_owned()))], 1);
        client.answer(&response.headers, &Method::Register, URI).unwrap();
        client
    }

    struct Desk {
        server: Server,
        password: Secret<String>,
    }

    impl Desk {
        fn new() -> Self {
            Self { server: Server::new([7; 32]), password: Secret::new("demo".to_owned()) }
        }

        fn challenge(&mut self, now: Moment) -> Vec<Vec<u8>> {
            self.server.challenges(now, source(2), "tandem", ALGORITHMS)
        }

        fn verify(&mut self, now: Moment, from: IpAddr, value: &[u8]) -> Verdict {
            let account = Account {
                username: "demo",
                password: &self.password,
                realm: "tandem",
                algorithms: ALGORITHMS,
            };
            let presented = Presented { method: &Method::Invite, value };
            self.server.verify(now, from, &presented, Some(&account))
        }
    }

    fn value(client: &mut Client) -> Vec<u8> {
        client.authorize(&Method::Invite, URI).remove(0).1
    }

    #[test]
    fn our_client_satisfies_our_server_with_every_algorithm() {
        for algorithm in Algorithm::ALL {
            let mut desk = Desk::new();
            let challenges = desk.server.challenges(at(1), source(2), "tandem", &[algorithm]);
            let mut client = client("demo", "demo", &challenges);
            let account = Account {
                username: "demo",
                password: &desk.password,
                realm: "tandem",
                algorithms: &[algorithm],
            };
            let value = value(&mut client);
            let presented = Presented { method: &Method::Invite, value: &value };
            let verdict = desk.server.verify(at(2), source(2), &presented, Some(&account));
            assert_eq!(verdict, Verdict::Ok, "{algorithm:?}");
        }
    }

    #[test]
    fn an_honest_nonce_reuse_is_not_an_attack() {
        let mut desk = Desk::new();
        let challenges = desk.challenge(at(1));
        let mut client = client("demo", "demo", &challenges);
        let values: Vec<_> = (0..5).map(|_| value(&mut client)).collect();
        // Out of order too: requests of several transactions overtake each other.
        for index in [0, 1, 4, 2, 3] {
            assert_eq!(desk.verify(at(2), source(2), &values[index]), Verdict::Ok, "{index}");
        }
        for value in &values {
            assert_eq!(desk.verify(at(3), source(2), value), Verdict::Stale, "each count once");
        }
    }

    #[test]
    fn two_challenges_of_one_moment_have_different_nonces() {
        let mut desk = Desk::new();
        let (one, two) = (desk.challenge(at(1)), desk.challenge(at(1)));
        assert_ne!(one, two);
        for challenges in [one, two] {
            let value = value(&mut client("demo", "demo", &challenges));
            assert_eq!(desk.verify(at(1), source(2), &value), Verdict::Ok);
        }
    }

    #[test]
    fn an_old_or_foreign_nonce_is_stale_only_with_the_right_password() {
        let mut desk = Desk::new();
        let challenges = desk.challenge(at(1));
        let right = value(&mut client("demo", "demo", &challenges));
        let wrong = value(&mut client("demo", "guess", &challenges));
        assert_eq!(desk.verify(at(32), source(2), &right), Verdict::Stale);
        assert_eq!(desk.verify(at(32), source(2), &wrong), Verdict::Wrong);
        assert_eq!(desk.verify(at(2), source(3), &right), Verdict::Stale, "another address");
        let foreign = Server::new([8; 32]).challenges(at(1), source(2), "tandem", ALGORITHMS);
        let value = value(&mut client("demo", "demo", &foreign));
        assert_eq!(desk.verify(at(2), source(2), &value), Verdict::Stale, "another shard");
        let stale = desk.server.stale_challenges(at(40), source(2), "tandem", ALGORITHMS);
        assert!(stale.iter().all(|value| value.ends_with(b", stale=true")));
    }

    #[test]
    fn known_and_unknown_users_get_the_same_answer() {
        let mut desk = Desk::new();
        let challenges = desk.challenge(at(1));
        let guess = value(&mut client("demo", "guess", &challenges));
        let stranger = value(&mut client("mallory", "demo", &challenges));
        assert_eq!(desk.verify(at(2), source(2), &guess), Verdict::Wrong);
        assert_eq!(desk.verify(at(2), source(2), &stranger), Verdict::Wrong);
        let empty = value(&mut client("mallory", "", &challenges));
        let presented = Presented { method: &Method::Invite, value: &empty };
        assert_eq!(desk.server.verify(at(2), source(2), &presented, None), Verdict::Wrong);
    }

    #[test]
    fn another_method_or_algorithm_or_no_qop_does_not_pass() {
        let mut desk = Desk::new();
        let challenges = desk.challenge(at(1));
        let mut alice = client("demo", "demo", &challenges);
        let bye = alice.authorize(&Method::Bye, URI).remove(0).1;
        assert_eq!(desk.verify(at(2), source(2), &bye), Verdict::Wrong);
        let strong = desk.server.challenges(at(1), source(2), "tandem", &[Algorithm::Sha512_256]);
        let strong = value(&mut client("demo", "demo", &strong));
        assert_eq!(desk.verify(at(2), source(2), &strong), Verdict::Wrong);
        let text = String::from_utf8(value(&mut alice)).unwrap();
        for (from, to) in
            [("qop=auth, ", ""), ("nc=0", "nc=x"), ("Digest", "Basic"), ("uri=", "u=")]
        {
            let broken = text.replacen(from, to, 1);
            assert_eq!(
                desk.verify(at(2), source(2), broken.as_bytes()),
                Verdict::Malformed,
                "{from}"
            );
        }
    }

    #[test]
    fn used_nonces_are_forgotten_after_their_life() {
        let mut desk = Desk::new();
        for second in 0..100 {
            let challenges = desk.challenge(at(second));
            let value = value(&mut client("demo", "demo", &challenges));
            assert_eq!(desk.verify(at(second), source(2), &value), Verdict::Ok);
        }
        assert_eq!(desk.server.windows.len(), 31);
    }

    #[test]
    fn a_nonce_forgotten_before_its_time_is_stale_and_never_right_again() {
        let mut desk = Desk::new();
        let unused = desk.challenge(at(1));
        let challenges = desk.challenge(at(1));
        let mut first = client("demo", "demo", &challenges);
        let (used, next) = (value(&mut first), value(&mut first));
        assert_eq!(desk.verify(at(1), source(2), &used), Verdict::Ok);
        let late = desk.challenge(at(1));
        let use_up = |desk: &mut Desk, count: usize| {
            for _ in 0..count {
                let nonce = desk.server.nonce(at(2), source(2));
                let (_, id) = desk.server.open(nonce.as_bytes(), source(2)).unwrap();
                assert!(desk.server.use_count(id, 1));
            }
        };
        // As many as there is room for: each is known still.
        use_up(&mut desk, SIP_NONCES_MAX - 1);
        assert_eq!(desk.verify(at(2), source(2), &used), Verdict::Stale);
        assert_eq!(desk.verify(at(2), source(2), &next), Verdict::Ok);
        use_up(&mut desk, 1);
        assert_eq!(desk.server.windows.len(), SIP_NONCES_MAX);
        for forgotten in [&used, &next] {
            assert_eq!(desk.verify(at(3), source(2), forgotten), Verdict::Stale);
        }
        // Of one before it nobody knows; one after it was not used, and is as good as ever.
        let unused = value(&mut client("demo", "demo", &unused));
        assert_eq!(desk.verify(at(3), source(2), &unused), Verdict::Stale);
        let late = value(&mut client("demo", "demo", &late));
        assert_eq!(desk.verify(at(3), source(2), &late), Verdict::Ok);
        assert_eq!(desk.verify(at(3), source(2), &late), Verdict::Stale);
        assert_eq!(desk.server.windows.len(), SIP_NONCES_MAX);
    }

    #[test]
    fn the_claimed_user_is_found() {
        let claim = claimed(br#"Digest username="u", realm="r""#);
        assert_eq!(claim, Some((&b"u"[..], &b"r"[..])));
        assert_eq!(claimed(b"Basic x"), None);
    }
}
