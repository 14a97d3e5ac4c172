//! TLS as configuration asks for it, and the names a certificate proves (RFC 5922).

use crate::types::secret::Secret;
use std::fmt;

/// Names of one certificate that are looked at. Over it: the rest is ignored.
const NAMES_MAX: usize = 128;

/// How a peer that we connect to must prove itself, and what we prove to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// The oldest version spoken.
    pub min_version: TlsVersion,
    /// What is checked of the peer's certificate.
    pub verify: TlsVerify,
    /// Certificates, in DER, of the authorities trusted; empty: those the machine trusts.
    pub authorities: Vec<Vec<u8>>,
    /// `*.example.com` proves `a.example.com`. RFC 5922 §7.2 forbids it; some carriers need it.
    pub allow_wildcard: bool,
    /// Names accepted beside the one connected to.
    pub expected_names: Vec<String>,
    /// What we prove to a peer that asks; `None`: nothing.
    pub credentials: Option<TlsCredentials>,
}

/// A certificate chain with its private key.
#[derive(Clone, PartialEq, Eq)]
pub struct TlsCredentials {
    /// The chain in DER, the own certificate first.
    pub chain: Vec<Vec<u8>>,
    /// The private key, in PEM.
    pub key: Secret<String>,
}

impl fmt::Debug for TlsCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TlsCredentials({} certificates)", self.chain.len())
    }
}

/// A version of TLS; older ones are never spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    #[default]
    V1_2,
    /// TLS 1.3 (RFC 8446).
    V1_3,
}

/// What is checked of a peer's certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVerify {
    /// Its chain, its times and its name.
    #[default]
    Authority,
    /// It is one of the certificates given as authorities, byte for byte; its name and its times do
    /// not matter.
    Pinned,
    /// Nothing: whoever answers is believed. For laboratories.
    Nothing,
}

/// What a listener shows to peers, and asks of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsServerSettings {
    /// The oldest version spoken.
    pub min_version: TlsVersion,
    /// What is shown.
    pub credentials: TlsCredentials,
    /// What is asked.
    pub clients: ClientCertificates,
}

/// Whether peers that connect to us must prove who they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificates {
    /// They are not asked.
    #[default]
    Ignored,
    /// They are asked; one without a certificate is served all the same.
    Requested(Vec<Vec<u8>>),
    /// One without a certificate of these authorities, in DER, is not served.
    Required(Vec<Vec<u8>>),
}

/// The domains that a verified certificate proves: its SIP URIs and DNS names (RFC 5922 §7.1), in
/// lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct CertificateNames(Vec<String>);

impl CertificateNames {
    /// The identities among the subject alternative names of a certificate. A URI counts when it is
    /// `sip:` and a bare host; a URI with a user names a person, not a domain.
    #[must_use]
    pub fn of<'a>(
        uris: impl Iterator<Item = &'a str>,
        dns_names: impl Iterator<Item = &'a str>,
    ) -> Self {
        let hosts = uris.filter_map(|uri| {
            let (scheme, rest) = uri.split_once(':')?;
            let host = rest.split([';', '?']).next()?;
            (scheme.eq_ignore_ascii_case("sip") && !host.is_empty() && !host.contains('@'))
                .then_some(host)
        });
        let names = hosts.chain(dns_names).map(str::to_ascii_lowercase);
        Self(names.take(NAMES_MAX).collect())
    }

    /// True when they prove `domain`. A wildcard stands for exactly one label, the first.
    #[must_use]
    pub fn prove(&self, domain: &str, allow_wildcard: bool) -> bool {
        let domain = domain.trim_end_matches('.').to_ascii_lowercase();
        let parent = domain.split_once('.').map(|(_, parent)| parent);
        !domain.is_empty()
            && self.0.iter().any(|name| match name.strip_prefix("*.") {
                // `*.com` would prove half the world.
                Some(suffix) => allow_wildcard && suffix.contains('.') && parent == Some(suffix),
                None => name.trim_end_matches('.') == domain,
            })
    }

    /// Every name.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// True when the certificate proves no domain.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(uris: &[&str], dns: &[&str]) -> CertificateNames {
        CertificateNames::of(uris.iter().copied(), dns.iter().copied())
    }

    #[test]
    fn a_certificate_proves_its_sip_uris_and_its_dns_names() {
        let uris = ["sip:Carrier.example", "sip:alice@users.example", "sips:s.example", "x"];
        let names = names(&uris, &["sbc.carrier.example"]);
        let cases = [
            ("carrier.example", true),
            ("CARRIER.example.", true),
            ("sbc.carrier.example", true),
            ("users.example", false),
            ("s.example", false),
            ("example", false),
            ("", false),
        ];
        for (domain, expected) in cases {
            assert_eq!(names.prove(domain, false), expected, "{domain}");
        }
    }

    #[test]
    fn a_wildcard_proves_one_label_and_only_where_allowed() {
        let names = names(&[], &["*.pstn.example.com", "*.com"]);
        let cases = [
            ("a.pstn.example.com", true, true),
            ("a.pstn.example.com", false, false),
            ("a.b.pstn.example.com", true, false),
            ("pstn.example.com", true, false),
            ("example.com", true, false),
        ];
        for (domain, allowed, expected) in cases {
            assert_eq!(names.prove(domain, allowed), expected, "{domain} {allowed}");
        }
    }
}
