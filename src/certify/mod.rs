//! `tandem certify`: a trunk profile tried against the model of its carrier, check by check.
//!
//! The switch's own cores run here - endpoint, call, routing in and out, and the engine's glue between
//! them - with a simulated carrier in place of the network, in virtual time: no socket is opened, and the
//! fifteen minutes until a carrier's refresh take none. What the sheet does not try is what lies outside
//! these cores: DNS, connections and certificates, and sockets of media.

mod answer_checks;
mod bench;
mod calls;
mod check;
mod fault;
mod inbound_checks;
mod live;
mod media_checks;
mod outbound_checks;
mod registering;
mod registration_checks;
mod samples;
mod session_checks;
mod setting_faults;
mod subject;
mod transfer_checks;
mod transfer_faults;

pub use crate::certify::check::Outcome;
pub use crate::certify::check::Sheet;
pub use crate::certify::check::Verdict;
pub use crate::certify::fault::FAULTS;
pub use crate::certify::fault::Fault;
pub use crate::certify::samples::filled_in;

use crate::certify::bench::Bench;
use crate::certify::check::CHECKS;
use crate::certify::check::Check;
use crate::certify::subject::Subject;
use crate::config::profile::Trial;

/// Tries a profile: all checks, or the one of this name. `None`: no number could be made for it.
#[must_use]
pub fn certify(trial: &Trial, fault: Option<&'static Fault>, only: Option<&str>) -> Option<Sheet> {
    let subject = Subject::new(trial, fault)?;
    let chosen = CHECKS.iter().filter(|check| only.is_none_or(|name| name == check.name));
    let outcomes = chosen.map(|check| run(&subject, fault, check)).collect();
    let model = subject.model;
    Some(Sheet { carrier: model.name, title: model.title, outcomes })
}

/// The names of all checks.
pub fn checks() -> impl Iterator<Item = &'static str> {
    CHECKS.iter().map(|check| check.name)
}

fn run(subject: &Subject, fault: Option<&'static Fault>, check: &Check) -> Outcome {
    let verdict = check.verdict(&mut Bench::new(subject, fault));
    Outcome { name: check.name, sentence: check.sentence, verdict }
}
