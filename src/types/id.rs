//! Identities: distinct types over UUIDv7, so that no two kinds can be confused.

use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

/// The text is not a UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a UUID")]
pub struct NotAnId;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// Takes a UUID minted by `clock` or read from the database.
            #[must_use]
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The UUID itself.
            #[must_use]
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;

            fn from_str(text: &str) -> Result<Self, NotAnId> {
                Uuid::parse_str(text).map(Self).map_err(|_| NotAnId)
            }
        }
    )+};
}

ids! {
    /// An AI profile: how an agent is reached and how it behaves.
    AiProfileId;
    /// An API key.
    ApiKeyId;
    /// A campaign of a tenant: calls out for one purpose.
    CampaignId;
    /// One call; the primary key of its record.
    CallId;
    /// One row of `phone_numbers`: a number or a range of numbers.
    NumberId;
    /// A node, for as long as it has its data directory.
    NodeId;
    /// A recording of a call.
    RecordingId;
    /// A routing profile: which trunks numbers of a plan and country use.
    RoutingProfileId;
    /// A tenant.
    TenantId;
    /// A trunk: a row of `trunks`, or a profile file under an identity derived from its name.
    TrunkId;
}

impl CallId {
    /// The call's identity as bots of Twilio's protocol expect it: `CA` and 32 hex digits.
    #[must_use]
    pub fn call_sid(self) -> String {
        format!("CA{}", self.0.simple())
    }

    /// The call of such an identity.
    #[must_use]
    pub fn from_call_sid(sid: &str) -> Option<Self> {
        from_sid("CA", sid).map(Self)
    }

    /// The media stream's identity in the same form: `MZ` and 32 hex digits.
    #[must_use]
    pub fn stream_sid(self) -> String {
        format!("MZ{}", self.0.simple())
    }
}

impl TenantId {
    /// The tenant as bots of Twilio's protocol expect it: `AC` and 32 hex digits.
    #[must_use]
    pub fn account_sid(self) -> String {
        format!("AC{}", self.0.simple())
    }

    /// The tenant of such an identity.
    #[must_use]
    pub fn from_account_sid(sid: &str) -> Option<Self> {
        from_sid("AC", sid).map(Self)
    }
}

/// What stands in hex after the prefix.
fn from_sid(prefix: &str, sid: &str) -> Option<Uuid> {
    // A UUID may be written in longer forms; a SID is not.
    let hex = sid.strip_prefix(prefix).filter(|hex| hex.len() == 32)?;
    Uuid::try_parse(hex).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_prints_as_it_parses() {
        let id = CallId::from_uuid(Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0001));
        assert_eq!(id.to_string().parse::<CallId>(), Ok(id));
        assert_eq!("nonsense".parse::<CallId>(), Err(NotAnId));
        assert_eq!(id.call_sid(), "CA01920000000070008000000000000001");
        assert_eq!(CallId::from_call_sid(&id.call_sid()), Some(id));
        let tenant = TenantId::from_uuid(id.uuid());
        assert_eq!(TenantId::from_account_sid(&tenant.account_sid()), Some(tenant));
        assert_eq!(TenantId::from_account_sid(&id.call_sid()), None);
        for bad in ["", "CA", "CA1", "CA01920000-0000-7000-8000-000000000001", "\u{e4}"] {
            assert_eq!(CallId::from_call_sid(bad), None, "{bad}");
        }
    }
}
