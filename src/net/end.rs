//! `FlowEnd`: why a connection ended, or never began.

use crate::sip::endpoint::flow::FlowId;
use crate::types::limit::SIP_FLOW_ENDS_MAX;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::fmt;

/// Why a connection ended, or never began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FlowEnd {
    /// The peer closed it.
    PeerClosed,
    /// What came was not SIP.
    Garbage,
    /// The rest of a message, or the first one, did not come.
    MessageTimeout,
    /// It was silent for too long.
    Idle,
    /// The peer took nothing any more.
    WriteTimeout,
    /// A keep-alive was not answered.
    NoPong,
    /// The network broke it.
    Broken,
    /// We closed it.
    Told,
    /// A fault of our own.
    Fault,
    /// It never began.
    Failed(ConnectFailure),
}

/// Why a connection of ours could not be opened, or a peer's handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnectFailure {
    /// Nobody listens there.
    Refused,
    /// There is no way there.
    Unreachable,
    /// The peer did not answer.
    TimedOut,
    /// The local address, port or interface cannot be used.
    Local,
    /// The TLS handshake took too long.
    HandshakeTimedOut,
    /// The peer closed the connection during the handshake.
    HandshakeCut,
    /// The certificate is of another name.
    WrongName,
    /// The certificate has expired, or is not valid yet.
    Expired,
    /// The certificate is of an authority that is not trusted, or not one of those pinned.
    UnknownAuthority,
    /// The certificate cannot be used for another reason.
    BadCertificate,
    /// The peer showed no certificate where one is needed.
    NoCertificate,
    /// The peer does not take our certificate, or wants one.
    CertificateRefused,
    /// No version of TLS, or no cipher, in common.
    NoCommonTls,
    /// What came was not TLS.
    NotTls,
    /// Our own TLS settings cannot be used.
    Settings,
}

impl ConnectFailure {
    /// A word for metrics, records and tests.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::TimedOut => "connect_timeout",
            Self::Local => "local_address",
            Self::HandshakeTimedOut => "handshake_timeout",
            Self::HandshakeCut => "handshake_cut",
            Self::WrongName => "tls_wrong_name",
            Self::Expired => "tls_expired",
            Self::UnknownAuthority => "tls_unknown_authority",
            Self::BadCertificate => "tls_bad_certificate",
            Self::NoCertificate => "tls_no_certificate",
            Self::CertificateRefused => "tls_certificate_refused",
            Self::NoCommonTls => "tls_nothing_in_common",
            Self::NotTls => "not_tls",
            Self::Settings => "tls_settings",
        }
    }
}

impl fmt::Display for ConnectFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "nobody listens there",
            Self::Unreachable => "there is no way there",
            Self::TimedOut => "no answer to the connection attempt",
            Self::Local => "the local address or interface cannot be used",
            Self::HandshakeTimedOut => "the TLS handshake took too long",
            Self::HandshakeCut => "the connection was closed during the TLS handshake",
            Self::WrongName => "the certificate is of another name",
            Self::Expired => "the certificate has expired or is not valid yet",
            Self::UnknownAuthority => "the certificate is of an authority that is not trusted",
            Self::BadCertificate => "the certificate cannot be used",
            Self::NoCertificate => "the peer showed no certificate",
            Self::CertificateRefused => "the peer does not take our certificate, or wants one",
            Self::NoCommonTls => "no TLS version or cipher in common",
            Self::NotTls => "what answered does not speak TLS",
            Self::Settings => "our TLS settings cannot be used",
        })
    }
}

impl std::error::Error for ConnectFailure {}

impl FlowEnd {
    /// A word for metrics, records and tests.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PeerClosed => "peer_closed",
            Self::Garbage => "garbage",
            Self::MessageTimeout => "message_timeout",
            Self::Idle => "idle",
            Self::WriteTimeout => "write_timeout",
            Self::NoPong => "no_pong",
            Self::Broken => "broken",
            Self::Told => "closed_by_us",
            Self::Fault => "fault",
            Self::Failed(failure) => failure.as_str(),
        }
    }
}

/// The ends of the connections closed last.
#[derive(Debug, Default)]
pub(crate) struct FlowEnds {
    known: HashMap<FlowId, FlowEnd>,
    order: VecDeque<FlowId>,
}

impl FlowEnds {
    pub(crate) fn remember(&mut self, id: FlowId, why: FlowEnd) {
        if self.order.len() >= SIP_FLOW_ENDS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        if self.known.insert(id, why).is_none() {
            self.order.push_back(id);
        }
    }

    pub(crate) fn get(&self, id: FlowId) -> Option<FlowEnd> {
        self.known.get(&id).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ends_are_remembered_and_old_ones_forgotten() {
        let mut ends = FlowEnds::default();
        for id in 0..=SIP_FLOW_ENDS_MAX {
            ends.remember(FlowId(id as u64), FlowEnd::Idle);
        }
        assert_eq!(ends.get(FlowId(0)), None);
        assert_eq!(ends.get(FlowId(1)), Some(FlowEnd::Idle));
        assert_eq!(ends.order.len(), SIP_FLOW_ENDS_MAX);
    }
}
