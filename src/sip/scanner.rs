//! Programs known to look for open switches, by the name they give themselves.
//!
//! A hint for counters only: most scanners give another name, and anybody may give one of these.

use crate::sip::message::peek;

/// Beginnings of names, in lower case, as honeypots report them.
const SIGNATURES: [&str; 11] = [
    "friendly-scanner",
    "iwar",
    "pplsip",
    "sip-scan",
    "sipcli",
    "sipsak",
    "sipvicious",
    "siparmyknife",
    "sundayddr",
    "vaxsipuseragent",
    "voxalot",
];

/// The scanner that a message says it is from.
#[must_use]
pub fn signature_of(datagram: &[u8]) -> Option<&'static str> {
    let agent = peek::user_agent_of(datagram)?;
    SIGNATURES.into_iter().find(|name| {
        agent.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name.as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scanners_are_known_by_the_name_they_give() {
        for (agent, expected) in [
            ("friendly-scanner", Some("friendly-scanner")),
            ("sipcli/v1.8", Some("sipcli")),
            ("VaxSIPUserAgent/3.1", Some("vaxsipuseragent")),
            ("Asterisk PBX", None),
            ("not sipcli", None),
            ("", None),
        ] {
            let text = format!("OPTIONS sip:100@h SIP/2.0\r\nUser-Agent: {agent}\r\n\r\n");
            assert_eq!(signature_of(text.as_bytes()), expected, "{agent}");
        }
        assert_eq!(signature_of(b"OPTIONS sip:100@h SIP/2.0\r\n\r\n"), None);
        assert_eq!(signature_of(b"\0\0"), None);
    }
}
