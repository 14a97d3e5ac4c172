//! `tandem certify`: a trunk profile tried against a simulation of its carrier.

use crate::certify;
use crate::certify::Fault;
use crate::certify::filled_in;
use crate::cli::configuration;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::config::files::Disk;
use crate::config::files::Files as _;
use crate::config::files::Memory;
use crate::config::profile::Profiles;
use crate::config::profile::Trial;
use crate::config::secret::Secrets;
use crate::types::secret::Secret;
use clap::Args;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

/// The id under which a shipped profile is filled in.
const FILLED_ID: &str = "certified";
/// What stands for every secret: the carrier is simulated, and agrees on whatever it is.
const STAND_IN: &str = "certified";
/// The folder of profiles beside the configuration file.
const FOLDER: &str = "sip-profiles";

/// What to certify.
#[derive(Args, Clone, Debug)]
pub(crate) struct CertifyArgs {
    /// A profile file, or the id of a profile; one that is shipped is filled in with samples
    #[arg(value_name = "PROFILE")]
    profile: String,
    /// Try one check only, by its name
    #[arg(long, value_name = "CHECK")]
    only: Option<String>,
    /// Make the switch wrong in one way, to see that the sheet finds it; `list` names the ways
    #[arg(long, value_name = "FAULT")]
    seed_fault: Option<String>,
    /// The folder of profiles, where PROFILE is an id [default: ./sip-profiles if it is there]
    #[arg(long, value_name = "FOLDER")]
    profiles: Option<PathBuf>,
}

/// Prints the sheet.
///
/// # Errors
///
/// When a check fails, or the profile cannot be tried.
pub(crate) fn run(args: &CertifyArgs) -> Result<(), Failure> {
    if args.seed_fault.as_deref() == Some("list") {
        for fault in certify::FAULTS {
            output::line(&format!("{:<30} found by {}", fault.name, fault.found_by));
        }
        return Ok(());
    }
    let fault = args.seed_fault.as_deref().map(named).transpose()?;
    if let Some(only) = args.only.as_deref().filter(|only| !certify::checks().any(|c| c == *only)) {
        return Err(Failure::configuration(format!("there is no check `{only}`")));
    }
    let trial = trial(args)?;
    let sheet = certify::certify(&trial, fault, args.only.as_deref());
    let Some(sheet) = sheet else {
        return Err(Failure::configuration("the profile leads to no number to try it with"));
    };
    output::line(&format!("{:<9} {}", "profile", args.profile));
    output::line(&sheet.to_string());
    match sheet.failures().count() {
        0 => Ok(()),
        1 => Err(Failure::failed("1 check failed")),
        failed => Err(Failure::failed(format!("{failed} checks failed"))),
    }
}

fn named(name: &str) -> Result<&'static Fault, Failure> {
    let none = || Failure::configuration(format!("there is no fault `{name}`: try `list`"));
    Fault::named(name).ok_or_else(none)
}

/// The profile, by file or by id.
fn trial(args: &CertifyArgs) -> Result<Trial, Failure> {
    let path = Path::new(&args.profile);
    if path.extension().is_some_and(|extension| extension == "toml") {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let profiles = read(folder.unwrap_or(Path::new(".")))?;
        return of(&profiles, &id_in(path)?);
    }
    let folder =
        args.profiles.clone().or_else(|| Some(FOLDER.into()).filter(|f: &PathBuf| f.is_dir()));
    let own = folder.as_deref().map(read).transpose()?;
    if let Some(profiles) = own.filter(|profiles| profiles.is_own(&args.profile)) {
        return of(&profiles, &args.profile);
    }
    let dir = PathBuf::from(FOLDER);
    let text = filled_in(&args.profile, FILLED_ID);
    let files = Memory([(dir.join("certified.toml"), text)].into());
    let profiles = Profiles::of_folder(&files, &dir, Arc::new(StandIns));
    let profiles = profiles.map_err(|problems| configuration::refuse(&problems))?;
    if !profiles.ids().any(|id| id == args.profile) {
        let others = profiles.ids().filter(|id| *id != FILLED_ID && !profiles.is_template(id));
        let others = others.collect::<Vec<_>>().join(", ");
        return Err(Failure::configuration(format!(
            "there is no profile `{}`: give the path of a file, or one of {others}",
            args.profile
        )));
    }
    // Of a template it is said that it is one, and not what the profile made of it here lacks.
    let is_template = profiles.is_template(&args.profile);
    of(&profiles, if is_template { args.profile.as_str() } else { FILLED_ID })
}

fn read(folder: &Path) -> Result<Profiles, Failure> {
    let profiles = Profiles::of_folder(&Disk, folder, Arc::new(StandIns));
    profiles.map_err(|problems| configuration::refuse(&problems))
}

fn of(profiles: &Profiles, id: &str) -> Result<Trial, Failure> {
    profiles.trial(id).map_err(|problems| configuration::refuse(&problems))
}

/// The id a profile file gives itself.
fn id_in(path: &Path) -> Result<String, Failure> {
    let name = path.display();
    let text = Disk.read(path);
    let text =
        text.map_err(|e| Failure::configuration(format!("cannot read {name}")).because(e))?;
    let table: toml::Table = text
        .parse()
        .map_err(|error| Failure::configuration(format!("cannot read {name}")).because(error))?;
    let id = table.get("id").and_then(toml::Value::as_str);
    id.map(str::to_owned).ok_or_else(|| Failure::configuration(format!("{name} has no `id`")))
}

/// Secrets that stand for the real ones: nothing is asked of the environment or the disk.
struct StandIns;

impl Secrets for StandIns {
    fn env(&self, _: &str) -> Option<String> {
        Some(STAND_IN.to_owned())
    }

    fn file(&self, _: &str) -> Result<String, String> {
        Ok(STAND_IN.to_owned())
    }

    fn public_file(&self, path: &str) -> Result<String, String> {
        // Certificates are checked for what they are; they are no secret.
        Disk.read(Path::new(path)).map_err(|error| error.to_string())
    }

    fn sealed(&self, _: &str) -> Option<Secret<String>> {
        Some(Secret::new(STAND_IN.to_owned()))
    }
}
