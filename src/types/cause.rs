//! `HangupCause`: why a call was refused or ended. The only table of SIP statuses, Q.850 causes and
//! texts for both.

use std::fmt;
use std::str::FromStr;

/// Whose doing a cause is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// Nobody's: an ordinary end.
    Nobody,
    /// The peer that called, or its carrier.
    Caller,
    /// The configuration of tenant, number or trunk.
    Configuration,
    /// The agent.
    Agent,
    /// This switch or its machine.
    Switch,
}

/// Who ended a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// The far end of the near leg: who called, or was called by us.
    Caller,
    /// The far end of another leg: who was forwarded or transferred to.
    Far,
    /// The agent.
    Agent,
    /// This switch, by a rule or a fault.
    Switch,
    /// An operator or an application, through the API.
    Operator,
}

impl Party {
    /// The spelling of records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Far => "far",
            Self::Agent => "agent",
            Self::Switch => "switch",
            Self::Operator => "operator",
        }
    }
}

/// One row of the table.
struct Row {
    cause: HangupCause,
    code: &'static str,
    status: u16,
    q850: u8,
    blame: Blame,
    text: &'static str,
}

macro_rules! causes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $status:literal, $q850:literal, $blame:ident, $text:literal;)+) => {
        /// Why a call was refused or ended.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum HangupCause {
            $($(#[$doc])* $name,)+
        }

        const ROWS: &[Row] = &[
            $(Row {
                cause: HangupCause::$name,
                code: $code,
                status: $status,
                q850: $q850,
                blame: Blame::$blame,
                text: $text,
            },)+
        ];
    };
}

causes! {
    /// A party hung up in the ordinary way.
    Normal = "normal", 200, 16, Nobody, "Normal call clearing";
    /// The call goes on elsewhere: its carrier connected it with somebody else.
    Transferred = "transferred", 200, 16, Nobody, "Call transferred";
    /// The caller gave up while it rang.
    CallerCancelled = "caller_cancelled", 487, 16, Nobody, "Caller cancelled";
    /// The called party is busy.
    Busy = "busy", 486, 17, Nobody, "Busy";
    /// Nobody answered in time.
    NoAnswer = "no_answer", 480, 19, Nobody, "No answer";
    /// The called party refused.
    Rejected = "rejected", 603, 21, Nobody, "Declined";
    /// No number of ours matches what was dialled.
    UnknownNumber = "unknown_number", 404, 1, Caller, "Number not known here";
    /// What was dialled is no number by the trunk's rules.
    NotANumber = "not_a_number", 404, 28, Caller, "Not a number";
    /// The number exists but belongs to another trunk.
    NumberNotOnTrunk = "number_not_on_trunk", 404, 3, Configuration, "Number not on this trunk";
    /// The number is switched off.
    NumberInactive = "number_inactive", 404, 22, Configuration, "Number not in service";
    /// The tenant is suspended.
    TenantSuspended = "tenant_suspended", 403, 21, Configuration, "Service suspended";
    /// The tenant of the number is no more.
    TenantDeleted = "tenant_deleted", 404, 1, Configuration, "Number not assigned";
    /// The number has no usable AI profile.
    NoAgent = "no_agent", 480, 31, Configuration, "No agent assigned";
    /// No trunk matches the source of the request.
    UnknownSource = "unknown_source", 403, 21, Caller, "Source not allowed";
    /// The trunk matched but its credentials were wrong.
    BadCredentials = "bad_credentials", 403, 21, Caller, "Not authorised";
    /// The trunk wants credentials and the caller gave none in time.
    CredentialsRequired = "credentials_required", 401, 21, Caller, "Credentials required";
    /// The trunk does not accept this call by policy.
    Policy = "policy", 403, 21, Configuration, "Refused by policy";
    /// The node carries as many calls as it may.
    NodeLimit = "node_limit", 503, 42, Switch, "Node at its limit";
    /// The tenant has as many calls, or calls per second, as it may.
    TenantLimit = "tenant_limit", 503, 34, Configuration, "Tenant at its limit";
    /// The trunk has as many calls, or calls per second, as it may.
    TrunkLimit = "trunk_limit", 503, 34, Configuration, "Trunk at its limit";
    /// No RTP port is free.
    NoPorts = "no_ports", 503, 47, Switch, "No media resources";
    /// The node is shutting down.
    Draining = "draining", 503, 41, Switch, "Node is draining";
    /// A queue was full or a part of the switch is overloaded.
    Overload = "overload", 503, 42, Switch, "Overloaded";
    /// Offer and answer have no codec in common.
    NoCommonCodec = "no_common_codec", 488, 65, Caller, "No common codec";
    /// The session description cannot be used.
    BadSdp = "bad_sdp", 488, 127, Caller, "Session description not usable";
    /// One side wants media encrypted in a way the other does not allow.
    SrtpMismatch = "srtp_mismatch", 488, 88, Caller, "Media encryption not agreed";
    /// The caller never acknowledged our answer (RFC 3261 §13.3.1.4).
    AckTimeout = "ack_timeout", 408, 102, Caller, "Answer never acknowledged";
    /// The acknowledgement of a delayed offer brought no usable answer.
    NoSdpAnswer = "no_sdp_answer", 488, 127, Caller, "No session description in ACK";
    /// The peer stopped answering within a dialog.
    PeerTimeout = "peer_timeout", 408, 102, Caller, "Peer does not answer";
    /// No refresh came in time (RFC 4028 §10).
    SessionExpired = "session_expired", 408, 102, Caller, "Session timer expired";
    /// No media came for as long as the trunk allows.
    MediaTimeout = "media_timeout", 408, 102, Caller, "No media received";
    /// The longest allowed duration was reached.
    MaxDuration = "max_duration", 200, 102, Configuration, "Maximum duration reached";
    /// The agent could not be reached.
    AgentUnreachable = "agent_unreachable", 480, 31, Agent, "Agent not reachable";
    /// The agent's connection was lost during the call.
    AgentLost = "agent_lost", 500, 41, Agent, "Agent connection lost";
    /// The agent sent nothing but garbage.
    AgentGarbage = "agent_garbage", 500, 111, Agent, "Agent protocol error";
    /// The switch itself went wrong.
    SwitchFault = "switch_fault", 500, 41, Switch, "Internal error";
    /// The node was killed while the call ran; the record was closed at the next start.
    Interrupted = "interrupted", 500, 41, Switch, "Node was interrupted";
}

impl HangupCause {
    /// Every cause, in the order of the table.
    pub fn all() -> impl Iterator<Item = Self> {
        ROWS.iter().map(|row| row.cause)
    }

    fn row(self) -> &'static Row {
        // The macro writes one row for each variant, in declaration order.
        &ROWS[self as usize]
    }

    /// The spelling of records, metrics, APIs and of the `text` of a `Reason` header.
    #[must_use]
    pub fn code(self) -> &'static str {
        self.row().code
    }

    /// The SIP status with which a call is refused for this cause (RFC 3398 §8.2.6.1 and our own
    /// choices), before a trunk's `response_map`.
    #[must_use]
    pub fn sip_status(self) -> u16 {
        self.row().status
    }

    /// The Q.850 cause, 1 to 127, for `Reason` headers (RFC 3326).
    #[must_use]
    pub fn q850(self) -> u8 {
        self.row().q850
    }

    /// What the peer may read: no names of ours, nothing about the inside.
    #[must_use]
    pub fn text(self) -> &'static str {
        self.row().text
    }

    /// Whose doing it is.
    #[must_use]
    pub fn blame(self) -> Blame {
        self.row().blame
    }

    /// Seconds after which the peer may try again; `None` where trying again is senseless.
    #[must_use]
    pub const fn retry_after_s(self) -> Option<u32> {
        match self {
            Self::NodeLimit | Self::TenantLimit | Self::TrunkLimit | Self::NoPorts => Some(5),
            Self::Overload => Some(2),
            Self::Draining => Some(30),
            _ => None,
        }
    }
}

impl fmt::Display for HangupCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// The text is no cause of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a hang-up cause")]
pub struct NotACause;

impl FromStr for HangupCause {
    type Err = NotACause;

    fn from_str(text: &str) -> Result<Self, NotACause> {
        ROWS.iter().find(|row| row.code == text).map(|row| row.cause).ok_or(NotACause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn each_cause_has_its_own_row_and_code() {
        let mut codes = HashSet::new();
        for cause in HangupCause::all() {
            assert_eq!(cause.row().cause, cause);
            assert_eq!(cause.code().parse(), Ok(cause));
            assert!(codes.insert(cause.code()), "{cause} twice");
            assert!((1..=127).contains(&cause.q850()));
            assert!((200..700).contains(&cause.sip_status()));
        }
    }

    #[test]
    fn only_503_asks_to_come_back() {
        for cause in HangupCause::all() {
            assert_eq!(cause.retry_after_s().is_some(), cause.sip_status() == 503, "{cause}");
        }
    }
}
