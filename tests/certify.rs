//! The certification sheets: every shipped profile passes, and every seeded fault is found.

#![expect(clippy::unwrap_used, reason = "a failed check may panic")]

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use tandem::certify::FAULTS;
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

#[test]
fn every_shipped_profile_passes_the_sheet_of_its_carrier() {
    let mut wrong = String::new();
    for profile in shipped() {
        let trial = trial(&profile);
        let sheet = certify(&trial, None, None).unwrap();
        assert_eq!(sheet.outcomes.len(), checks().count());
        assert_eq!(sheet.carrier, profile, "a shipped profile has a model of its own");
        if sheet.failures().count() > 0 {
            wrong.push_str(&format!("\n{profile}\n{sheet}\n"));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn every_seeded_fault_is_found_on_every_profile_it_concerns() {
    let mut wrong = String::new();
    for profile in shipped() {
        let trial = trial(&profile);
        for fault in FAULTS {
            let sheet = certify(&trial, Some(fault), Some(fault.found_by)).unwrap();
            let outcome = sheet.outcomes.first().unwrap();
            if outcome.verdict == Verdict::Passed {
                wrong.push_str(&format!("\n{profile}: {} is not found", fault.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn every_check_finds_a_fault_somewhere() {
    for check in checks() {
        let faults: Vec<_> = FAULTS.iter().filter(|fault| fault.found_by == check).collect();
        assert!(!faults.is_empty(), "nothing is seeded for `{check}`");
        let found = shipped().iter().any(|profile| {
            let trial = trial(profile);
            faults.iter().any(|fault| {
                let sheet = certify(&trial, Some(fault), Some(check)).unwrap();
                sheet.failures().count() == 1
            })
        });
        assert!(found, "`{check}` applies to no shipped profile");
    }
    for fault in FAULTS {
        assert!(checks().any(|check| check == fault.found_by), "{}", fault.name);
    }
}
