//! SIP transports.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// How a SIP message travels (RFC 3261 §18, RFC 7118 for WebSocket).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// UDP: unreliable, one message a datagram.
    Udp,
    /// TCP: reliable, framed by Content-Length.
    Tcp,
    /// TLS over TCP.
    Tls,
}

/// The text names no transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a transport is udp, tcp or tls")]
pub struct NotATransport;

impl Transport {
    /// True where the transport itself retransmits, so transaction timers A, E and G stay off.
    #[must_use]
    pub const fn is_reliable(self) -> bool {
        match self {
            Self::Udp => false,
            Self::Tcp | Self::Tls => true,
        }
    }

    /// The token of a Via header.
    #[must_use]
    pub const fn via_token(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
        }
    }

    /// The value of a `;transport=` parameter, and the spelling of configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Transport {
    type Err = NotATransport;

    fn from_str(text: &str) -> Result<Self, NotATransport> {
        [Self::Udp, Self::Tcp, Self::Tls]
            .into_iter()
            .find(|transport| transport.as_str().eq_ignore_ascii_case(text))
            .ok_or(NotATransport)
    }
}

/// From where we send: what a trunk says of its own end. Empty: by the routing table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LocalEnd {
    /// The local address.
    pub address: Option<IpAddr>,
    /// The network interface; packets leave by no other.
    pub interface: Option<InterfaceName>,
}

impl LocalEnd {
    /// True when the routing table decides.
    #[must_use]
    pub const fn is_any(&self) -> bool {
        self.address.is_none() && self.interface.is_none()
    }
}

/// The name of a network interface, as Linux has them: up to 15 bytes without `/` and spaces.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct InterfaceName(String);

/// The text names no network interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a network interface has a name of 1 to 15 letters without spaces and slashes, like eth0")]
pub struct NotAnInterface;

impl InterfaceName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for InterfaceName {
    type Err = NotAnInterface;

    fn from_str(text: &str) -> Result<Self, NotAnInterface> {
        let fits = (1..=15).contains(&text.len()) && text != "." && text != "..";
        let good = |byte: u8| byte.is_ascii_graphic() && byte != b'/' && byte != b':';
        if fits && text.bytes().all(good) { Ok(Self(text.to_owned())) } else { Err(NotAnInterface) }
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where peers of a trunk are told to find us, in place of the listener's own address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Advertised {
    /// Host name or address; an IPv6 address with its brackets.
    pub host: String,
    /// Port; `None`: the listener's.
    pub port: Option<u16>,
}

/// What becomes of requests that are too long for UDP (RFC 3261 §18.1.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Oversize {
    /// Short header names; where that is not enough by TCP if it may, else not at all.
    #[default]
    Compact,
    /// By TCP.
    Tcp,
    /// By UDP all the same, in fragments.
    Fragment,
}

/// Which requests are too long for UDP, and what becomes of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatagramRule {
    /// Longest request sent as a datagram, in bytes.
    pub bytes_max: usize,
    /// What becomes of a longer one.
    pub oversize: Oversize,
    /// The peer may be reached by TCP too.
    pub may_stream: bool,
}

impl Default for DatagramRule {
    /// RFC 3261 §18.1.1: 1300 bytes where nothing is known of the path.
    fn default() -> Self {
        Self { bytes_max: 1_300, oversize: Oversize::default(), may_stream: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_named_as_the_kernel_names_it() {
        for good in ["eth0", "enp3s0f1", "vlan.100", "wg-carrier_1"] {
            assert_eq!(good.parse::<InterfaceName>().map(|name| name.to_string()), Ok(good.into()));
        }
        for bad in ["", "a/b", "eth 0", "..", "sixteen-letters-", "eth0:1", "é"] {
            assert!(bad.parse::<InterfaceName>().is_err(), "{bad}");
        }
    }
}
