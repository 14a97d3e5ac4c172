//! Digest authentication (RFC 7616, RFC 8760): what client and server have in common.
#![warn(clippy::indexing_slicing)]

pub mod client;
pub mod exercise;
pub mod fields;
pub mod server;

use crate::types::secret::Secret;
use aws_lc_rs::digest;
use md5::Digest as _;
use md5::Md5;

/// A hash function with or without the `-sess` variant, in rising order of strength.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// MD5, the default where none is named.
    Md5,
    /// MD5 with a session key.
    Md5Sess,
    /// SHA-256.
    Sha256,
    /// SHA-256 with a session key.
    Sha256Sess,
    /// SHA-512/256.
    Sha512_256,
    /// SHA-512/256 with a session key.
    Sha512_256Sess,
}

impl Algorithm {
    /// Every algorithm, the strongest last.
    pub const ALL: [Self; 6] = [
        Self::Md5,
        Self::Md5Sess,
        Self::Sha256,
        Self::Sha256Sess,
        Self::Sha512_256,
        Self::Sha512_256Sess,
    ];

    /// The token of the `algorithm` parameter.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Md5Sess => "MD5-sess",
            Self::Sha256 => "SHA-256",
            Self::Sha256Sess => "SHA-256-sess",
            Self::Sha512_256 => "SHA-512-256",
            Self::Sha512_256Sess => "SHA-512-256-sess",
        }
    }

    /// The algorithm of a token, without case.
    #[must_use]
    pub fn from_bytes(token: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str().as_bytes().eq_ignore_ascii_case(token))
    }

    const fn is_session(self) -> bool {
        matches!(self, Self::Md5Sess | Self::Sha256Sess | Self::Sha512_256Sess)
    }

    /// The hash of `parts` joined by colons, in lower-case hexadecimal.
    fn hash(self, parts: &[&[u8]]) -> String {
        let text = parts.join(&b':');
        match self {
            Self::Md5 | Self::Md5Sess => hex(&Md5::digest(&text)),
            Self::Sha256 | Self::Sha256Sess => hex(digest::digest(&digest::SHA256, &text).as_ref()),
            Self::Sha512_256 | Self::Sha512_256Sess => {
                hex(digest::digest(&digest::SHA512_256, &text).as_ref())
            }
        }
    }
}

/// Lower-case hexadecimal.
fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// A user as digest knows it. Values stand as they do between the quotes.
#[derive(Clone, Debug)]
struct Identity<'a> {
    username: &'a [u8],
    realm: &'a [u8],
    password: &'a Secret<String>,
}

/// Everything else that goes into a response.
#[derive(Clone, Copy, Debug)]
struct Inputs<'a> {
    algorithm: Algorithm,
    nonce: &'a [u8],
    method: &'a [u8],
    uri: &'a [u8],
    /// `None`: no quality of protection, as in RFC 2069.
    quality: Option<Quality<'a>>,
}

/// The parts that come with `qop=auth`.
#[derive(Clone, Copy, Debug)]
struct Quality<'a> {
    /// Eight hexadecimal digits.
    count: &'a [u8],
    cnonce: &'a [u8],
}

/// The response of RFC 7616 §3.4.1.
fn response(identity: &Identity<'_>, inputs: &Inputs<'_>) -> String {
    let Inputs { algorithm, nonce, method, uri, quality } = *inputs;
    let password = identity.password.expose().as_bytes();
    let mut ha1 = algorithm.hash(&[identity.username, identity.realm, password]);
    if algorithm.is_session() {
        let cnonce = quality.map_or(&[][..], |quality| quality.cnonce);
        ha1 = algorithm.hash(&[ha1.as_bytes(), nonce, cnonce]);
    }
    let ha2 = algorithm.hash(&[method, uri]);
    match quality {
        Some(Quality { count, cnonce }) => {
            algorithm.hash(&[ha1.as_bytes(), nonce, count, cnonce, b"auth", ha2.as_bytes()])
        }
        None => algorithm.hash(&[ha1.as_bytes(), nonce, ha2.as_bytes()]),
    }
}

/// `text` as it stands between quotes: quotes and backslashes escaped.
fn escape(text: &str) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(text.len());
    for byte in text.bytes() {
        if matches!(byte, b'"' | b'\\') {
            escaped.push(b'\\');
        }
        escaped.push(byte);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Vector {
        username: &'static str,
        realm: &'static str,
        password: &'static str,
        inputs: Inputs<'static>,
    }

    fn check(vector: &Vector, expected: &str) {
        let identity = Identity {
            username: vector.username.as_bytes(),
            realm: vector.realm.as_bytes(),
            password: &Secret::new(vector.password.to_owned()),
        };
        assert_eq!(response(&identity, &vector.inputs), expected);
    }

    #[test]
    fn the_example_of_rfc_2617_is_met() {
        let quality = Some(Quality { count: b"00000001", cnonce: b"0a4f113b" });
        let inputs = Inputs {
            algorithm: Algorithm::Md5,
            nonce: b"dcd98b7102dd2f0e8b11d0f600bfb0c093",
            method: b"GET",
            uri: b"/dir/index.html",
            quality,
        };
        let (username, realm) = ("Mufasa", "testrealm@host.com");
        let vector = Vector { username, realm, password: "Circle Of Life", inputs };
        check(&vector, "6629fae49393a05397450978507c4ef1");
        let inputs = Inputs { quality: None, ..inputs };
        check(&Vector { inputs, ..vector }, "670fd8c2df070c60b045671b8b24ff02");
    }

    #[test]
    fn the_examples_of_rfc_7616_are_met() {
        let inputs = Inputs {
            algorithm: Algorithm::Md5,
            nonce: b"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
            method: b"GET",
            uri: b"/dir/index.html",
            quality: Some(Quality {
                count: b"00000001",
                cnonce: b"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
            }),
        };
        let (username, realm) = ("Mufasa", "http-auth@example.org");
        let vector = Vector { username, realm, password: "Circle of Life", inputs };
        check(&vector, "8ca523f5e9506fed4657c9700eebdbec");
        let inputs = Inputs { algorithm: Algorithm::Sha256, ..inputs };
        check(
            &Vector { inputs, ..vector },
            "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
        );
    }

    #[test]
    fn digest_sess_rehashes_ha1() {
        let quality = Some(Quality { count: b"00000001", cnonce: b"c" });
        let inputs = |algorithm| Inputs {
            algorithm,
            nonce: b"n",
            method: b"INVITE",
            uri: b"sip:a@b",
            quality,
        };
        for (plain, session) in [
            (Algorithm::Md5, Algorithm::Md5Sess),
            (Algorithm::Sha256, Algorithm::Sha256Sess),
            (Algorithm::Sha512_256, Algorithm::Sha512_256Sess),
        ] {
            let password = Secret::new("p".to_owned());
            let identity = Identity { username: b"u", realm: b"r", password: &password };
            let user = plain.hash(&[b"u", b"r", b"p"]);
            let ha1 = plain.hash(&[user.as_bytes(), b"n", b"c"]);
            let ha2 = plain.hash(&[b"INVITE", b"sip:a@b"]);
            let expected =
                plain.hash(&[ha1.as_bytes(), b"n", b"00000001", b"c", b"auth", ha2.as_bytes()]);
            assert_eq!(response(&identity, &inputs(session)), expected);
            assert_ne!(response(&identity, &inputs(plain)), expected);
        }
    }

    #[test]
    fn sha_512_256_is_not_a_cut_sha_512() {
        // FIPS 180-4 example: SHA-512/256 of "abc".
        assert_eq!(
            Algorithm::Sha512_256.hash(&[b"abc"]),
            "53048e2681941ef99b2e29b76b4c7dabe4c2d0c634fc6d46e0e2f13107e7af23"
        );
    }

    #[test]
    fn algorithms_are_named_without_case() {
        for algorithm in Algorithm::ALL {
            let name = algorithm.as_str().to_lowercase();
            assert_eq!(Algorithm::from_bytes(name.as_bytes()), Some(algorithm));
        }
        assert_eq!(Algorithm::from_bytes(b"AKAv1-MD5"), None);
        assert!(
            Algorithm::Md5Sess < Algorithm::Sha256 && Algorithm::Sha256 < Algorithm::Sha512_256
        );
    }
}
