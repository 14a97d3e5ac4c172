//! How a trunk's requests travel: source address, keep-alive, TLS.

use crate::config::listener;
use crate::config::problem::Problem;
use crate::config::secret;
use crate::config::tls;
use crate::config::tls::TlsFault;
use crate::config::tls::TlsPart;
use crate::config::trunk::Build;
use crate::routing::trunk::TrunkPath;
use crate::types::tls::TlsCredentials;
use crate::types::tls::TlsSettings;
use crate::types::tls::TlsVerify;
use crate::types::tls::TlsVersion;
use crate::types::transport::Advertised;
use crate::types::transport::DatagramRule;
use crate::types::transport::LocalEnd;
use crate::types::transport::Oversize;
use std::sync::Arc;
use std::time::Duration;

/// `auto` is the listener's address.
fn advertised(text: &str) -> Option<Advertised> {
    let (host, port) = listener::host_port(text).filter(|_| text != "auto")?;
    Some(Advertised { host, port })
}

impl Build<'_> {
    /// The domains of which a calling peer's certificate must prove one.
    pub(super) fn peer_names(&mut self) -> Vec<String> {
        let view = self.view;
        let names: Vec<String> = view.texts("inbound.tls_client.san").map(str::to_owned).collect();
        if !view.flag("inbound.tls_client.required") {
            return Vec::new();
        }
        if self.enabled && names.is_empty() {
            let message = "`inbound.tls_client.required` needs `san`: the names that certificates of \
                           this carrier prove";
            self.error("inbound.tls_client.required", message.to_owned());
        }
        if self.enabled && view.texts("inbound.transports").any(|transport| transport != "tls") {
            let message = "`inbound.tls_client.required` goes with `transports = [\"tls\"]` alone: \
                           calls by another transport would show no certificate";
            self.error("inbound.tls_client.required", message.to_owned());
        }
        names
    }

    /// How requests of ours reach the gateways.
    pub(super) fn path(&mut self) -> TrunkPath {
        let view = self.view;
        let seconds = |path| {
            let seconds = view.number(path);
            (seconds > 0).then_some(Duration::from_secs(seconds))
        };
        TrunkPath {
            local: LocalEnd {
                address: view.given("network.source_address").and_then(|text| text.parse().ok()),
                interface: view.given("network.interface").and_then(|text| text.parse().ok()),
            },
            advertised: view.given("network.advertise_sip").and_then(advertised).map(Arc::new),
            tls: Arc::new(self.tls()),
            keepalive: seconds("network.keepalive.tcp_crlf_s"),
            datagram_keepalive: seconds("network.keepalive.udp_s"),
            datagrams: DatagramRule {
                bytes_max: view.number("network.udp_max_bytes"),
                oversize: match view.text("network.udp_oversize") {
                    "tcp" => Oversize::Tcp,
                    "fragment" => Oversize::Fragment,
                    _ => Oversize::Compact,
                },
                may_stream: view.texts("inbound.transports").any(|transport| transport == "tcp"),
            },
            is_tenants: false,
        }
    }

    fn tls(&mut self) -> TlsSettings {
        let view = self.view;
        let verify = match view.text("tls.verify") {
            "pin" => TlsVerify::Pinned,
            "none" => TlsVerify::Nothing,
            _ => TlsVerify::Authority,
        };
        if self.enabled && verify == TlsVerify::Nothing {
            let message = "`tls.verify` is \"none\": whoever answers is taken for the carrier";
            let at = view.node("tls.verify").map_or(self.at, |node| node.at);
            self.problems.push(Problem::warning(self.sources, at, message));
        }
        TlsSettings {
            min_version: match view.text("tls.min_version") {
                "1.3" => TlsVersion::V1_3,
                _ => TlsVersion::V1_2,
            },
            verify,
            authorities: self.authorities(verify),
            allow_wildcard: view.flag("tls.allow_wildcard_san"),
            expected_names: view.texts("tls.expected_names").map(str::to_owned).collect(),
            credentials: self.credentials(),
        }
    }

    fn authorities(&mut self, verify: TlsVerify) -> Vec<Vec<u8>> {
        let path = self.view.text("tls.ca_file");
        if !self.enabled {
            return Vec::new();
        }
        if path.is_empty() {
            if verify == TlsVerify::Pinned {
                let message = "`tls.verify` is \"pin\", so `tls.ca_file` holds the certificates that \
                               are believed";
                self.error("tls.verify", message.to_owned());
            }
            return Vec::new();
        }
        let read = match verify {
            TlsVerify::Pinned => tls::pins(self.secrets, path),
            TlsVerify::Authority | TlsVerify::Nothing => tls::authorities(self.secrets, path),
        };
        read.unwrap_or_else(|fault| {
            self.fault(&fault);
            Vec::new()
        })
    }

    fn credentials(&mut self) -> Option<TlsCredentials> {
        let (certificate, key) = (self.view.text("tls.cert_file"), self.view.text("tls.key_ref"));
        if !self.enabled || (certificate.is_empty() && key.is_empty()) {
            return None;
        }
        if certificate.is_empty() || key.is_empty() {
            let message = "`tls.cert_file` and `tls.key_ref` go together".to_owned();
            let path = if key.is_empty() { "tls.cert_file" } else { "tls.key_ref" };
            self.error(path, message);
            return None;
        }
        // A reference of the wrong form was reported with the schema.
        secret::check(key).ok()?;
        match tls::credentials(self.secrets, certificate, key) {
            Ok(credentials) => {
                if let Some(advice) = tls::advice(&credentials) {
                    let at = self.view.node("tls.cert_file").map_or(self.at, |node| node.at);
                    let message = format!("`tls.cert_file`: {advice}");
                    self.problems.push(Problem::warning(self.sources, at, message));
                }
                Some(credentials)
            }
            Err(fault) => {
                self.fault(&fault);
                None
            }
        }
    }

    fn fault(&mut self, fault: &TlsFault) {
        let path = match fault.part {
            TlsPart::Certificate => "tls.cert_file",
            TlsPart::Key => "tls.key_ref",
            TlsPart::Authorities => "tls.ca_file",
        };
        self.error(path, format!("`{path}`: {}", fault.message));
    }
}
