//! The certification sheets: every shipped profile passes, and every seeded fault is found.

#![expect(clippy::unwrap_used, reason = "a failed check may panic")]

use std::collections::HashSet;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use tandem::certify::FAULTS;
use tandem::certify::Sheet;
use tandem::certify::Verdict;
use tandem::certify::certify;
use tandem::certify::checks;
use tandem::certify::filled_in;
use tandem::config::files::Memory;
use tandem::config::profile::Profiles;
use tandem::config::profile::Trial;
use tandem::config::secret::LocalSecrets;

/// Every shipped profile that is no template.
fn shipped() -> Vec<String> {
    let profiles = Profiles::built_in(Arc::new(LocalSecrets::new([], None)));
    profiles.ids().filter(|id| !["_base", "in-plan"].contains(id)).map(str::to_owned).collect()
}

fn trial_of(text: String) -> Trial {
    let names = [
        "TWILIO_TRUNK_PASSWORD",
        "TWILIO_ORIG_TOKEN",
        "TELNYX_PASSWORD",
        "TATA_SIP_PASSWORD",
        "AIRTEL_SIP_PASSWORD",
    ];
    let secrets = LocalSecrets::new(names.map(|name| (name.into(), "s3cret".into())), None);
    let files = Memory([(PathBuf::from("p/own.toml"), text)].into());
    let profiles = Profiles::of_folder(&files, Path::new("p"), Arc::new(secrets)).unwrap();
    match profiles.trial("own") {
        Ok(trial) => trial,
        Err(problems) => panic!("{problems}"),
    }
}

fn trial(profile: &str) -> Trial {
    trial_of(filled_in(profile, "own"))
}

/// The same, of a carrier that transfers calls by REFER.
fn referring(profile: &str) -> Trial {
    let text = filled_in(profile, "own");
    trial_of(format!("{text}[calls]\nrefer_out = \"blind\"\n"))
}

#[test]
fn every_shipped_profile_passes_the_sheet_of_its_carrier() {
    let mut wrong = String::new();
    for profile in shipped() {
        for (trial, transfers) in [(trial(&profile), false), (referring(&profile), true)] {
            let sheet = certify(&trial, None, None).unwrap();
            assert_eq!(sheet.outcomes.len(), checks().count());
            assert_eq!(sheet.carrier, profile, "a shipped profile has a model of its own");
            assert_eq!(passed(&sheet).contains(&"transfer-out"), transfers, "{profile}\n{sheet}");
            if sheet.failures().count() > 0 {
                wrong.push_str(&format!("\n{profile}\n{sheet}\n"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// The checks of a sheet that a carrier and a profile without faults pass; the others have nothing to do with them.
fn passed(sheet: &Sheet) -> Vec<&'static str> {
    let passed = sheet.outcomes.iter().filter(|outcome| outcome.verdict == Verdict::Passed);
    passed.map(|outcome| outcome.name).collect()
}

#[test]
fn every_seeded_fault_fails_its_check_on_every_profile_that_has_it() {
    let mut wrong = String::new();
    let mut applied = HashSet::new();
    for profile in shipped() {
        let trial = referring(&profile);
        let checks = passed(&certify(&trial, None, None).unwrap());
        for fault in FAULTS {
            let sheet = certify(&trial, Some(fault), Some(fault.found_by)).unwrap();
            let [outcome] = &sheet.outcomes[..] else {
                panic!("{}: `{}` is no check", fault.name, fault.found_by)
            };
            let is_of_profile = checks.contains(&fault.found_by);
            match &outcome.verdict {
                Verdict::Failed(_) => {
                    applied.insert(fault.name);
                }
                // A fault that has a check left out is not found by it.
                Verdict::Skipped(_) if !is_of_profile => (),
                Verdict::Passed | Verdict::Skipped(_) => {
                    wrong.push_str(&format!("\n{profile}: {} is not found", fault.name));
                }
            }
        }
    }
    for fault in FAULTS.iter().filter(|fault| !applied.contains(fault.name)) {
        wrong.push_str(&format!("\n{}: `{}` is of no profile", fault.name, fault.found_by));
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn every_check_has_a_fault_that_it_finds() {
    for check in checks() {
        let seeded = FAULTS.iter().any(|fault| fault.found_by == check);
        assert!(seeded, "nothing is seeded for `{check}`");
    }
}

#[test]
fn a_copy_of_an_indian_profile_is_called_with_indian_numbers() {
    let text = include_str!("../sip-profiles/smartflo.toml");
    let text = text.replace("id = \"smartflo\"", "id = \"own\"");
    let text = text.replace("enabled = false", "enabled = true");
    let sheet = certify(&trial_of(text), None, None).unwrap();
    assert_eq!(sheet.carrier, "in-plan");
    assert_eq!(sheet.failures().count(), 0, "{sheet}");
}

/// What a trunk of an admin's own may demand of a carrier that keeps to the standards.
const DEMANDS: [(&str, &str); 6] = [
    (
        "keys that anybody reads",
        "transports = [\"udp\"]\n[srtp]\npolicy = \"required\"\nneeds_tls_signalling = false\n",
    ),
    (
        "a password",
        "transports = [\"udp\"]\n[inbound.digest]\nmode = \"required\"\nusername = \"sbc\"\n\
      password_ref = \"env:TATA_SIP_PASSWORD\"\nrealm = \"ours\"\nalgorithms = [\"SHA-256\", \"MD5\"]\n",
    ),
    ("keys over TLS", "transports = [\"udp\", \"tls\"]\n[srtp]\npolicy = \"required\"\n"),
    (
        "keys of one suite",
        "transports = [\"tls\"]\n[srtp]\npolicy = \"required\"\n\
      offer_suites = [\"AEAD_AES_128_GCM\"]\naccept_suites = [\"AEAD_AES_128_GCM\"]\n",
    ),
    (
        "a certificate",
        "transports = [\"tls\"]\n[inbound.tls_client]\nrequired = true\n\
      san = [\"sbc.carrier.example\"]\n",
    ),
    (
        "all of it",
        "transports = [\"tls\"]\n[inbound.digest]\nmode = \"required\"\nusername = \"sbc\"\n\
      password_ref = \"env:TATA_SIP_PASSWORD\"\nrealm = \"ours\"\n[inbound.tls_client]\nrequired = true\n\
      san = [\"sbc.carrier.example\"]\n[srtp]\npolicy = \"required\"\n",
    ),
];

/// A profile for a carrier nobody knows, both ways over TLS, that makes a demand.
fn demanding(demand: &str) -> Trial {
    let text = format!(
        "schema_version = 1\nid = \"own\"\nextends = [\"generic\"]\nenabled = true\n\
         [network]\nremote_media_cidrs = [\"192.0.2.0/24\"]\n\
         [outbound]\nenabled = true\n[[outbound.gateway]]\nname = \"a\"\n\
         uri = \"sip:sip.carrier.example;transport=tls\"\n\
         [security]\nallow_destinations = [\"+1\"]\n[inbound]\n{demand}"
    );
    trial_of(text)
}

#[test]
fn a_profile_that_demands_more_of_callers_passes_with_a_carrier_of_the_standards() {
    let mut wrong = String::new();
    for (what, demand) in DEMANDS {
        let sheet = certify(&demanding(demand), None, None).unwrap();
        assert_eq!(sheet.carrier, "generic");
        if sheet.failures().count() > 0 {
            wrong.push_str(&format!("\n{what}\n{sheet}\n"));
        }
        let calls_in = sheet.outcomes.iter().find(|outcome| outcome.name == "call-in").unwrap();
        assert_eq!(calls_in.verdict, Verdict::Passed, "{what}");
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn the_sheet_names_the_key_that_lets_media_in_from_anywhere() {
    let fault = FAULTS.iter().find(|fault| fault.name == "media-from-anywhere").unwrap();
    let sheet = certify(&trial("smartflo"), Some(fault), Some("media-sources")).unwrap();
    let (_, why) = sheet.failures().next().unwrap();
    assert!(why.contains("`network.remote_media_cidrs`"), "{why}");
}

#[test]
fn the_sheet_says_how_a_carrier_wants_whom_it_is_to_transfer_to_written() {
    for (profile, name, words) in [
        ("twilio", "refer-to-address", "the host of the Refer-To header is"),
        ("tata-ip-auth", "refer-without-prefix", "the number in the Refer-To header is"),
        ("airtel-ims", "refer-no-user-phone", "no user=phone in the Refer-To header"),
        ("generic", "bye-before-notify", "BYE came before the NOTIFY"),
    ] {
        let fault = FAULTS.iter().find(|fault| fault.name == name).unwrap();
        let sheet = certify(&referring(profile), Some(fault), Some(fault.found_by)).unwrap();
        let (_, why) = sheet.failures().next().unwrap();
        assert!(why.contains(words), "{profile}: {why}");
    }
}

#[test]
fn a_demand_that_is_wrong_or_not_made_fails_the_sheet_of_a_demanding_profile() {
    let (_, demand) = DEMANDS.last().unwrap();
    let trial = demanding(demand);
    for (name, check) in [("carrier-challenged", "call-in"), ("media-not-as-agreed", "media-offer")]
    {
        let fault = FAULTS.iter().find(|fault| fault.name == name).unwrap();
        let sheet = certify(&trial, Some(fault), Some(check)).unwrap();
        assert_eq!(sheet.failures().count(), 1, "{name}\n{sheet}");
    }
}
