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
    /// The side that is called: its carrier, or the person.
    Callee,
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
    /// Every party.
    pub const ALL: [Self; 5] = [Self::Caller, Self::Far, Self::Agent, Self::Switch, Self::Operator];

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
    /// Of several parties that were rung at once another answered first.
    AnsweredElsewhere = "answered_elsewhere", 487, 26, Nobody, "Call completed elsewhere";
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
    /// The Request-URI names a host that the trunk does not answer for.
    ForeignHost = "foreign_host", 404, 3, Caller, "Host not served here";
    /// The number is switched off.
    NumberInactive = "number_inactive", 404, 22, Configuration, "Number not in service";
    /// The tenant is suspended.
    TenantSuspended = "tenant_suspended", 403, 21, Configuration, "Service suspended";
    /// The tenant of the number is no more.
    TenantDeleted = "tenant_deleted", 404, 1, Configuration, "Number not assigned";
    /// The number has no usable AI profile.
    NoAgent = "no_agent", 480, 31, Configuration, "No agent assigned";
    /// The INVITE breaks a rule of SIP, or wants of the protocol what is not there (400, 405, 415, 420 ...).
    ProtocolError = "protocol_error", 400, 111, Caller, "Request not usable";
    /// The INVITE went in a circle, or reached us twice on two ways.
    Loop = "loop", 482, 25, Caller, "Call went in a circle";
    /// The INVITE is of a dialog, or wants the place of one, that is not here.
    UnknownDialog = "unknown_dialog", 481, 101, Caller, "Call does not exist";
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
    /// Neither the database nor the routing table's file has said which numbers there are.
    NoRoutingTable = "no_routing_table", 503, 41, Switch, "Numbers not known yet";
    /// No audio is offered, or none with a port.
    NoAudio = "no_audio", 488, 65, Caller, "No audio offered";
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
    /// The peer hung up since its network failed: its BYE says so by a cause of Q.850.
    PeerFailed = "peer_failed", 502, 41, Caller, "Network of the peer failed";
    /// No refresh came in time (RFC 4028 §10).
    SessionExpired = "session_expired", 408, 102, Caller, "Session timer expired";
    /// No media came for as long as the trunk allows.
    MediaTimeout = "media_timeout", 408, 102, Caller, "No media received";
    /// The longest allowed duration was reached.
    MaxDuration = "max_duration", 200, 102, Configuration, "Maximum duration reached";
    /// The agent could not be reached.
    AgentUnreachable = "agent_unreachable", 480, 31, Agent, "Agent not reachable";
    /// The agent's address leads into a network that agents are not reached in.
    AgentForbidden = "agent_forbidden", 480, 31, Configuration, "Agent's address not allowed";
    /// Calls to the agent failed too often lately: none is tried for a moment.
    AgentCircuitOpen = "agent_circuit_open", 480, 31, Agent, "Agent not reachable";
    /// The agent was there and said nothing for longer than its profile allows.
    AgentSilent = "agent_silent", 500, 31, Agent, "Agent says nothing";
    /// The agent's connection was lost during the call.
    AgentLost = "agent_lost", 500, 41, Agent, "Agent connection lost";
    /// The agent sent nothing but garbage.
    AgentGarbage = "agent_garbage", 500, 111, Agent, "Agent protocol error";
    /// Nothing says by which trunk the tenant calls out, or none of those it may use calls out.
    NoTrunk = "no_trunk", 404, 3, Configuration, "No route to destination";
    /// The destination is not on an allow list, or is on a deny list.
    DestinationDenied = "destination_denied", 403, 52, Configuration, "Destination not allowed";
    /// The destination was called as often in this minute as it may be.
    DestinationLimit = "destination_limit", 503, 42, Configuration, "Destination called too often";
    /// The caller ID is not one the tenant may show on this trunk.
    CallerIdDenied = "caller_id_denied", 403, 21, Configuration, "Caller ID not allowed";
    /// The trunk does not call out at this time of day.
    OutsideHours = "outside_hours", 403, 21, Configuration, "Outside calling hours";
    /// The tenant has no such campaign.
    CampaignUnknown = "campaign_unknown", 404, 3, Configuration, "No such campaign";
    /// The caller ID is not a number of the campaign, or the campaign has none.
    NumberNotInCampaign = "number_not_in_campaign", 403, 21, Configuration, "Number not of the campaign";
    /// The campaign is paused.
    CampaignPaused = "campaign_paused", 403, 21, Configuration, "Campaign paused";
    /// The campaign does not call on this day or at this time of it.
    CampaignClosed = "campaign_closed", 403, 21, Configuration, "Outside the campaign's window";
    /// The campaign has as many calls as it may.
    CampaignLimit = "campaign_limit", 503, 34, Configuration, "Campaign at its limit";
    /// Joining the two telephone legs would bypass a carrier's toll.
    TollBypass = "toll_bypass", 403, 57, Configuration, "Legs may not be connected";
    /// The minutes or the money of the day are used up.
    BudgetSpent = "budget_spent", 403, 21, Configuration, "Daily budget used up";
    /// Every gateway is down, resting or switched off.
    NoGateway = "no_gateway", 503, 38, Configuration, "No gateway available";
    /// The carrier wants fewer calls.
    CarrierThrottled = "carrier_throttled", 503, 42, Configuration, "Carrier at its limit";
    /// The carrier did not answer in time, or could not be reached.
    CarrierTimeout = "carrier_timeout", 504, 102, Callee, "Carrier does not answer";
    /// The carrier refused the call for a reason of its own.
    CarrierRefused = "carrier_refused", 502, 38, Callee, "Carrier refused";
    /// The carrier wanted credentials, and those of the trunk did not satisfy it.
    CarrierCredentials = "carrier_credentials", 502, 21, Configuration, "Carrier wants credentials";
    /// The carrier sent the call elsewhere, where it may not go.
    RedirectRefused = "redirect_refused", 502, 23, Callee, "Redirection not followed";
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

    /// What a final response to our INVITE means. Its own Q.850 cause, where it has one, beats the
    /// table of RFC 3398 §7.2.4.1. A 487 that no CANCEL of ours asked for is a refusal like any other: who
    /// cancelled knows that without it.
    #[must_use]
    pub const fn of_refusal(status: u16, q850: Option<u8>) -> Self {
        match (status, q850) {
            (_, Some(17)) | (486 | 600, _) => Self::Busy,
            (_, Some(1)) | (404 | 410 | 604, _) => Self::UnknownNumber,
            (_, Some(28)) | (484 | 485, _) => Self::NotANumber,
            (_, Some(18..=20)) | (480, _) => Self::NoAnswer,
            (401 | 407, _) => Self::CarrierCredentials,
            (408 | 504, _) => Self::CarrierTimeout,
            (603 | 607 | 608, _) => Self::Rejected,
            (482 | 483, _) => Self::Loop,
            (488 | 606 | 415, _) => Self::NoCommonCodec,
            (300..=399, _) => Self::RedirectRefused,
            (_, _) => Self::CarrierRefused,
        }
    }

    /// What a peer's BYE means, by the Q.850 cause of its Reason header. Those of the class "resource unavailable" (32 to
    /// 47: ITU-T Q.850 table 1), "destination out of order" (27) and "recovery on timer expiry" (102) are failures of its
    /// network; with every other one, and without any, somebody hung up.
    #[must_use]
    pub const fn of_hang_up(q850: Option<u8>) -> Self {
        match q850 {
            Some(27 | 32..=47 | 102) => Self::PeerFailed,
            Some(_) | None => Self::Normal,
        }
    }

    /// Whose doing it is.
    #[must_use]
    pub fn blame(self) -> Blame {
        self.row().blame
    }

    /// Seconds after which the peer may try again, at the earliest; `None` where trying again is senseless. SIP
    /// refusals spread them, so that who is turned away together does not come back together.
    #[must_use]
    pub const fn retry_after_s(self) -> Option<u32> {
        match self {
            Self::NodeLimit
            | Self::TenantLimit
            | Self::TrunkLimit
            | Self::CampaignLimit
            | Self::NoPorts
            | Self::NoRoutingTable => Some(5),
            Self::Overload => Some(2),
            Self::DestinationLimit => Some(60),
            Self::NoGateway | Self::CarrierThrottled => Some(10),
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
    fn a_refusal_of_the_carrier_means_what_its_reason_says() {
        use HangupCause as Cause;
        for (status, q850, cause) in [
            (486, None, Cause::Busy),
            (503, Some(17), Cause::Busy),
            (404, None, Cause::UnknownNumber),
            (480, Some(1), Cause::UnknownNumber),
            (480, None, Cause::NoAnswer),
            (603, Some(21), Cause::Rejected),
            (407, None, Cause::CarrierCredentials),
            (482, Some(25), Cause::Loop),
            (302, None, Cause::RedirectRefused),
            (503, None, Cause::CarrierRefused),
            (503, Some(34), Cause::CarrierRefused),
            // Nobody cancelled, whatever it is called.
            (487, None, Cause::CarrierRefused),
            (487, Some(16), Cause::CarrierRefused),
            (487, Some(17), Cause::Busy),
        ] {
            assert_eq!(HangupCause::of_refusal(status, q850), cause, "{status} {q850:?}");
        }
    }

    #[test]
    fn a_hang_up_is_a_failure_where_its_reason_names_one_of_the_network() {
        for q850 in [27, 34, 38, 41, 42, 44, 47, 102] {
            assert_eq!(HangupCause::of_hang_up(Some(q850)), HangupCause::PeerFailed, "{q850}");
        }
        // 127 says that nothing more is known.
        for q850 in [1, 16, 17, 19, 21, 26, 28, 31, 48, 65, 101, 111, 127] {
            assert_eq!(HangupCause::of_hang_up(Some(q850)), HangupCause::Normal, "{q850}");
        }
        assert_eq!(HangupCause::of_hang_up(None), HangupCause::Normal);
    }

    #[test]
    fn only_503_asks_to_come_back() {
        for cause in HangupCause::all() {
            assert_eq!(cause.retry_after_s().is_some(), cause.sip_status() == 503, "{cause}");
        }
    }
}
