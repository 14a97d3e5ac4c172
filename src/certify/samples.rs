//! What an admin fills into a shipped profile, with sample values: to try it before there is a contract.

/// What is filled in, for each shipped profile that cannot be enabled as it is.
const FILLED: &[(&str, &str)] = &[
    (
        "generic",
        "[network]\nremote_media_cidrs = [\"192.0.2.0/24\"]\n[outbound]\nenabled = true\n\
         [security]\nallow_destinations = [\"+1\"]\n",
    ),
    ("twilio", "[vars]\ntrunk_domain = \"acme.pstn.twilio.com\"\nusername = \"sbc\"\n"),
    ("telnyx", "[vars]\nusername = \"acme\"\n[network]\nremote_media_cidrs = [\"192.0.2.0/24\"]\n"),
    ("tata-ip-auth", "[caller_id]\ndefault = \"+918068167000\"\n"),
    ("tata-registered", "[caller_id]\ndefault = \"+918068167000\"\n"),
    ("airtel-ims", "[vars]\npilot = \"+918068167000\"\n[caller_id]\ndefault = \"+918068167000\"\n"),
    ("smartflo", "[network]\nremote_media_cidrs = [\"192.0.2.0/24\"]\n"),
];

/// The text of a profile of the id `own` that extends a shipped one and fills it in.
#[must_use]
pub fn filled_in(profile: &str, own: &str) -> String {
    let filled = FILLED.iter().find(|(name, _)| *name == profile).map_or("", |(_, text)| text);
    format!(
        "schema_version = 1\nid = \"{own}\"\nextends = [\"{profile}\"]\nenabled = true\n{filled}"
    )
}
