//! `TrunkRegistration`: how a trunk registers with its carrier.

use crate::routing::outbound_trunk::ClientAccount;
use std::time::Duration;

/// How a trunk registers with its carrier (RFC 3261 §10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrunkRegistration {
    /// The Request-URI: the registrar's domain.
    pub registrar: String,
    /// What requests are sent to instead.
    pub proxy: Option<String>,
    /// `;lr`: the proxy also stands in a Route header.
    pub proxy_is_route: bool,
    /// The address of record: From and To.
    pub aor: String,
    /// The user part of our Contact.
    pub contact_user: String,
    /// With what challenges are answered; `None`: they are not.
    pub account: Option<ClientAccount>,
    /// The life asked for.
    pub expires: Duration,
    /// The share of the granted life after which the binding is refreshed, in percent.
    pub refresh_percent: u8,
    /// The waits after failures in a row.
    pub retry: Vec<Duration>,
    /// The wait after a registrar would not have us.
    pub forbidden_retry: Duration,
    /// Calls out by the registered flow take the Service-Route (RFC 3608).
    pub use_service_route: bool,
    /// Proxies on the way may put themselves into the path of calls to us (RFC 3327).
    pub send_path: bool,
}

impl TrunkRegistration {
    /// Where requests are sent: the proxy, else the registrar.
    #[must_use]
    pub fn next_hop(&self) -> &str {
        self.proxy.as_deref().unwrap_or(&self.registrar)
    }

    /// The registrar without its scheme, for people.
    #[must_use]
    pub fn registrar_host(&self) -> &str {
        self.registrar.split_once(':').map_or(&self.registrar, |(_, host)| host)
    }
}
