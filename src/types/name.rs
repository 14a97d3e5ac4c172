//! Names that people give: profiles, listeners, gateways. Charset and length are checked once, here.

use std::fmt;
use std::str::FromStr;

/// The text is not a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a name has 1 to 64 of the characters a-z, 0-9 and -, or begins with _ for a template")]
pub struct NotAName;

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The name itself.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NotAName;

            fn from_str(text: &str) -> Result<Self, NotAName> {
                if is_name(text) { Ok(Self(text.to_owned())) } else { Err(NotAName) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )+};
}

fn is_name(text: &str) -> bool {
    let body = text.strip_prefix('_').unwrap_or(text);
    (1..=64).contains(&text.len())
        && !body.is_empty()
        && body.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

names! {
    /// A bound address of `tandem.toml`, with its transports.
    ListenerName;
    /// A trunk profile: `id` of a file in `sip-profiles/`.
    ProfileName;
    /// A gateway of a trunk.
    GatewayName;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_lower_case_digits_and_hyphens() {
        for good in ["twilio", "tata-ip-auth", "_base", "a1"] {
            assert_eq!(good.parse::<ProfileName>().map(|n| n.to_string()), Ok(good.to_owned()));
        }
        for bad in ["", "_", "Twilio", "a b", "a_b", "ä"] {
            assert_eq!(bad.parse::<ProfileName>(), Err(NotAName), "{bad:?}");
        }
    }
}
