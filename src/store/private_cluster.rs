//! A private PostgreSQL: a cluster of the installed PostgreSQL in the data directory, reached by a
//! unix socket only.

mod account;

use crate::clock;
use crate::store::database::Database;
use crate::store::private_cluster::account::Account;
use socket2::Domain;
use socket2::SockAddr;
use socket2::Socket;
use socket2::Type;
use sqlx::postgres::PgConnectOptions;
use std::ffi::OsString;
use std::fs::DirBuilder;
use std::fs::File;
use std::fs::OpenOptions;
use std::fs::TryLockError;
use std::hash::DefaultHasher;
use std::hash::Hasher;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

/// The only database of a private cluster that is ours.
const DATABASE: &str = "tandem";
/// The cluster's superuser, and the owner of its tables.
const OWNER: &str = "tandem";
/// A cluster that is in recovery or held by a dying process gets this long to start.
const START_LIMIT: Duration = Duration::from_secs(10);
const START_PAUSE: Duration = Duration::from_millis(250);
/// Holds the lock: whose it is, the cluster is.
const LOCK_FILE: &str = "postgres.lock";
/// The name of the socket directory, so that a cluster left by a crash is found again.
const SOCKET_FILE: &str = "postgres.socket";
/// PostgreSQL's own note of its process, in the cluster. A stop takes it away; a kill leaves it there.
const PROCESS_FILE: &str = "postmaster.pid";
const PORT: u16 = 5432;

/// A running private cluster. Dropping it leaves PostgreSQL running, to be adopted by the next
/// start; [`PrivateCluster::stop`] ends it.
#[derive(Debug)]
pub struct PrivateCluster {
    programs: Programs,
    owner: Account,
    cluster_dir: PathBuf,
    socket_dir: PathBuf,
    /// It was stopped by us, and is not to be started again.
    over: Mutex<bool>,
    /// Held for as long as this process uses the cluster.
    _lock: File,
}

/// How sure a commit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// A commit survives a loss of power.
    Safe,
    /// A commit survives the process, not the machine. For tests.
    Fast,
}

/// Why there is no private cluster.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// PostgreSQL is not installed.
    #[error(
        "no PostgreSQL server is installed (looked where pg_config says, in PATH and in \
         /usr/lib/postgresql): install the package `postgresql`, or give `database` an address"
    )]
    NotInstalled,
    /// The data directory belongs to another version: a configuration fault.
    #[error(
        "{dir} was made by PostgreSQL {found}, but {installed} is installed: install that version \
         or choose another data directory"
    )]
    OtherVersion {
        /// The cluster.
        dir: PathBuf,
        /// Its version.
        found: String,
        /// The version of the programs.
        installed: String,
    },
    /// Another process uses the data directory: it may be one that is about to end.
    #[error("{0} is in use by another process; give this one its own data directory")]
    InUse(PathBuf),
    /// Root may not run PostgreSQL, and there is no one to run it as.
    #[error("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")]
    NoAccount,
    /// The account may not pass a directory above the cluster: a configuration fault.
    #[error(
        "PostgreSQL does not run as root but as its own user, which may not pass {0}: choose a data \
         directory elsewhere"
    )]
    NotReachable(PathBuf),
    /// A file could not be used.
    #[error("cannot {what} {path}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A program of PostgreSQL failed.
    #[error("{program} failed: {message}")]
    Program {
        /// Which.
        program: &'static str,
        /// What it said.
        message: String,
    },
}

impl ClusterError {
    /// True when only the operator can help, by another configuration or installation.
    #[must_use]
    pub const fn is_configuration(&self) -> bool {
        match self {
            Self::NotInstalled
            | Self::OtherVersion { .. }
            | Self::NoAccount
            | Self::NotReachable(_) => true,
            // The directory may be free the next time.
            Self::InUse(_) | Self::Io { .. } | Self::Program { .. } => false,
        }
    }
}

impl PrivateCluster {
    /// Starts the cluster of `data_dir`, made at the first time, or adopts it when a crash left it
    /// running. Blocks, up to ten seconds and more at the first time: not for a runtime's thread.
    ///
    /// # Errors
    ///
    /// See [`ClusterError`].
    pub fn start(data_dir: &Path, durability: Durability) -> Result<Self, ClusterError> {
        let programs = Programs::find()?;
        let owner = Account::of_this_process()?;
        if let Some(parent) = data_dir.parent() {
            std::fs::create_dir_all(parent).map_err(io_error("make the directory", parent))?;
        }
        make_dir(data_dir, None)?;
        // pg_ctl runs in `/`, so a relative path would lead elsewhere.
        let data_dir = data_dir.canonicalize().map_err(io_error("find", data_dir))?;
        let lock = lock(&data_dir)?;
        owner.let_pass(&data_dir)?;
        let cluster_dir = data_dir.join("postgres");
        let is_made = Self::is_made(&data_dir);
        if is_made {
            programs.check_version(&cluster_dir)?;
        }
        let socket_dir = socket_dir(&data_dir, &owner)?;
        let over = Mutex::new(false);
        let cluster = Self { programs, owner, cluster_dir, socket_dir, over, _lock: lock };
        if !is_made {
            cluster.init(durability)?;
        }
        if !cluster.answers() {
            cluster.launch(durability)?;
        }
        cluster.create_database()?;
        Ok(cluster)
    }

    /// Whether `data_dir` holds a cluster, running or not.
    #[must_use]
    pub fn is_made(data_dir: &Path) -> bool {
        data_dir.join("postgres/PG_VERSION").exists()
    }

    /// The database of the cluster of `data_dir` while another process runs it; `None` when it does
    /// not run.
    #[must_use]
    pub fn running(data_dir: &Path) -> Option<Database> {
        let owner = Account::of_this_process().ok()?;
        let socket_dir = noted_socket_dir(&data_dir.canonicalize().ok()?, &owner)?;
        socket_answers(&socket_dir).then(|| Database::new(login(&socket_dir, DATABASE)))
    }

    /// Its database.
    #[must_use]
    pub fn database(&self) -> Database {
        Database::new(self.options(DATABASE))
    }

    /// How to log in to one of its databases as the owner.
    #[must_use]
    pub fn options(&self, database: &str) -> PgConnectOptions {
        login(&self.socket_dir, database)
    }

    /// Stops PostgreSQL after its running statements were cancelled. Blocks.
    ///
    /// # Errors
    ///
    /// When it does not stop within a minute.
    pub fn stop(self) -> Result<(), ClusterError> {
        self.end()
    }

    /// The same where others look after the cluster too: from now on [`PrivateCluster::revive`] does nothing.
    /// Blocks, for as long as it is being started, too.
    ///
    /// # Errors
    ///
    /// When it does not stop within a minute.
    pub fn end(&self) -> Result<(), ClusterError> {
        let mut over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
        *over = true;
        self.pg_ctl("stop", &["-m".into(), "fast".into(), "-t".into(), "60".into()])?;
        match std::fs::remove_dir_all(&self.socket_dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(io_error("remove", &self.socket_dir)(error))
            }
            Err(_) | Ok(()) => Ok(()),
        }
    }

    /// Starts PostgreSQL again where its process was killed; who stopped it on purpose is obeyed. True where
    /// it was started. Blocks, up to ten seconds.
    ///
    /// # Errors
    ///
    /// See [`ClusterError`].
    pub fn revive(&self, durability: Durability) -> Result<bool, ClusterError> {
        let over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
        let is_killed = || !self.answers() && self.cluster_dir.join(PROCESS_FILE).exists();
        if *over || !is_killed() {
            return Ok(false);
        }
        // One that is being stopped no longer answers a moment before its file is gone.
        std::thread::sleep(START_PAUSE);
        if !is_killed() {
            return Ok(false);
        }
        self.launch(durability)?;
        Ok(true)
    }

    /// Stops PostgreSQL as a crash would, without a word to its clients. For tests.
    ///
    /// # Errors
    ///
    /// When `pg_ctl` fails.
    pub fn crash(&self) -> Result<(), ClusterError> {
        self.pg_ctl("stop", &["-m".into(), "immediate".into()])
    }

    /// Starts PostgreSQL again after [`PrivateCluster::crash`]. For tests.
    ///
    /// # Errors
    ///
    /// See [`ClusterError`].
    pub fn restart(&self) -> Result<(), ClusterError> {
        self.launch(Durability::Fast)
    }

    /// Makes the cluster under another name and renames it, so that a crash leaves no half of one.
    fn init(&self, durability: Durability) -> Result<(), ClusterError> {
        let draft = self.cluster_dir.with_extension("draft");
        for left_over in [&draft, &self.cluster_dir] {
            match std::fs::remove_dir_all(left_over) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(io_error("remove", left_over)(error));
                }
                Err(_) | Ok(()) => {}
            }
        }
        make_dir(&draft, Some(&self.owner))?;
        let mut initdb = self.command("initdb");
        initdb.arg("-D").arg(&draft).args(["-U", OWNER, "-A", "trust", "-E", "UTF8"]);
        initdb.args(["--locale", "C", "--no-instructions"]);
        if durability == Durability::Fast {
            initdb.arg("--no-sync");
        }
        output("initdb", &mut initdb)?;
        std::fs::rename(&draft, &self.cluster_dir).map_err(io_error("rename", &draft))
    }

    fn launch(&self, durability: Durability) -> Result<(), ClusterError> {
        // Everything else stays as it is by default: the socket alone, for nobody else, no TCP.
        let mut options = format!(
            "-c listen_addresses= -c port={PORT} -c unix_socket_permissions=0700 \
             -c unix_socket_directories={} -c max_connections=100 -c shared_buffers=32MB \
             -c logging_collector=off",
            self.socket_dir.display()
        );
        if durability == Durability::Fast {
            options.push_str(" -c fsync=off -c full_page_writes=off");
        }
        let log = self.cluster_dir.join("server.log");
        let arguments: Vec<OsString> = vec![
            "-w".into(),
            "-t".into(),
            START_LIMIT.as_secs().to_string().into(),
            "-l".into(),
            log.clone().into(),
            "-o".into(),
            options.into(),
        ];
        let deadline = clock::now() + START_LIMIT;
        loop {
            let Err(error) = self.pg_ctl("start", &arguments) else { return Ok(()) };
            if self.answers() {
                return Ok(());
            }
            if clock::now() >= deadline {
                return Err(with_log(error, &log));
            }
            std::thread::sleep(START_PAUSE);
        }
    }

    fn pg_ctl(&self, action: &str, arguments: &[OsString]) -> Result<(), ClusterError> {
        let mut command = self.command("pg_ctl");
        command.arg(action).arg("-D").arg(&self.cluster_dir).arg("-s").args(arguments);
        run("pg_ctl", &mut command)
    }

    /// A server process that is gone leaves its socket file, so the file alone proves nothing.
    fn answers(&self) -> bool {
        socket_answers(&self.socket_dir)
    }

    fn create_database(&self) -> Result<(), ClusterError> {
        let query = |sql: &str| {
            let mut psql = self.command("psql");
            psql.args(["-X", "-q", "-A", "-t", "-U", OWNER, "-d", "postgres", "-h"]);
            psql.arg(&self.socket_dir).args(["-p", &PORT.to_string(), "-c", sql]);
            output("psql", &mut psql)
        };
        let count = format!("SELECT count(*) FROM pg_database WHERE datname = '{DATABASE}'");
        // One that was adopted may still be recovering from the crash that left it.
        let deadline = clock::now() + START_LIMIT;
        let found = loop {
            match query(&count) {
                Err(_) if clock::now() < deadline => std::thread::sleep(START_PAUSE),
                answer => break answer?,
            }
        };
        if found.trim() == "0" {
            query(&format!("CREATE DATABASE {DATABASE}"))?;
        }
        Ok(())
    }

    /// A program of PostgreSQL, as the cluster's owner, in a session of its own: a Ctrl-C at the
    /// terminal must not reach the server before the calls have drained.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.dir.join(program));
        command.current_dir("/").stdin(Stdio::null()).process_group(0);
        for name in ["PGDATA", "PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "PGOPTIONS"] {
            command.env_remove(name);
        }
        command.env("LC_ALL", "C");
        if let Some((uid, gid)) = self.owner.other {
            command.uid(uid).gid(gid);
        }
        command
    }
}

fn with_log(error: ClusterError, log: &Path) -> ClusterError {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let last: Vec<&str> = text.lines().rev().take(3).collect();
    let last: Vec<&str> = last.into_iter().rev().collect();
    match error {
        ClusterError::Program { program, message } => {
            let message = format!("{message}; {} ends with: {}", log.display(), last.join(" | "));
            ClusterError::Program { program, message }
        }
        other => other,
    }
}

/// Where PostgreSQL's programs are.
#[derive(Debug)]
struct Programs {
    dir: PathBuf,
}

impl Programs {
    fn find() -> Result<Self, ClusterError> {
        let by_config = Command::new("pg_config").arg("--bindir").stderr(Stdio::null()).output();
        let by_config = by_config.ok().filter(|output| output.status.success());
        let by_config =
            by_config.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        let in_path = std::env::var_os("PATH").unwrap_or_default();
        let mut dirs: Vec<PathBuf> = by_config.map(|dir| dir.trim().into()).into_iter().collect();
        dirs.extend(std::env::split_paths(&in_path));
        dirs.extend(debian_dirs());
        // All from one place: programs of two versions do not work together.
        let all_in = |dir: &PathBuf| {
            ["initdb", "pg_ctl", "postgres", "psql"].iter().all(|name| dir.join(name).is_file())
        };
        dirs.into_iter().find(all_in).map(|dir| Self { dir }).ok_or(ClusterError::NotInstalled)
    }

    fn check_version(&self, cluster_dir: &Path) -> Result<(), ClusterError> {
        let path = cluster_dir.join("PG_VERSION");
        let found = std::fs::read_to_string(&path).map_err(io_error("read", &path))?;
        let found = found.trim().to_owned();
        let installed = self.major_version()?;
        if found == installed {
            return Ok(());
        }
        Err(ClusterError::OtherVersion { dir: cluster_dir.to_owned(), found, installed })
    }

    fn major_version(&self) -> Result<String, ClusterError> {
        let said = output("postgres", Command::new(self.dir.join("postgres")).arg("--version"))?;
        // postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)
        let number = said.split_whitespace().nth(2).unwrap_or_default();
        Ok(number.split('.').next().unwrap_or_default().to_owned())
    }
}

/// Debian keeps each version in a directory of its own, outside PATH; the newest first.
fn debian_dirs() -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir("/usr/lib/postgresql") else { return Vec::new() };
    let version = |path: &PathBuf| {
        path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok()).unwrap_or(0)
    };
    let mut dirs: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    dirs.sort_by_key(|path| std::cmp::Reverse(version(path)));
    dirs.into_iter().map(|dir| dir.join("bin")).collect()
}

/// True when this process runs as root, as which PostgreSQL does not run.
///
/// # Errors
/// As the system says.
pub fn is_root() -> Result<bool, ClusterError> {
    let path = Path::new("/proc/self");
    Ok(std::fs::metadata(path).map_err(io_error("look at", path))?.uid() == 0)
}

/// Takes the lock of the data directory; the kernel lets it go when this process ends, however.
fn lock(data_dir: &Path) -> Result<File, ClusterError> {
    let path = data_dir.join(LOCK_FILE);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(io_error("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ClusterError::InUse(data_dir.to_owned())),
        Err(TryLockError::Error(error)) => Err(io_error("lock", &path)(error)),
    }
}

fn login(socket_dir: &Path, database: &str) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .socket(socket_dir)
        .port(PORT)
        .username(OWNER)
        .database(database)
}

/// Whether somebody listens there. That is not waited for: a server that hangs takes nobody any more once its queue is
/// full, and who looked would hang with it.
fn socket_answers(socket_dir: &Path) -> bool {
    let connect = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.connect(&SockAddr::unix(socket_dir.join(format!(".s.PGSQL.{PORT}")))?)
    };
    connect().map_or_else(|error| error.kind() == io::ErrorKind::WouldBlock, |()| true)
}

/// The directory of the socket: a short one, for a socket's path has at most 107 bytes, and the same
/// at each start, for who has it in his own configuration. Its name is kept in the data directory.
fn socket_dir(data_dir: &Path, owner: &Account) -> Result<PathBuf, ClusterError> {
    if let Some(dir) = noted_socket_dir(data_dir, owner) {
        return Ok(dir);
    }
    let mut dir = short_temp_dir().join(socket_name(data_dir));
    let made = DirBuilder::new().mode(0o700).create(&dir);
    if made.is_err() && !is_private(&dir, owner) {
        // Somebody else has it, perhaps lying in wait: one whose name nobody knows.
        dir.as_mut_os_string().push(format!("-{:08x}", clock::random_u64() >> 32));
        make_dir(&dir, None)?;
    }
    owner.own(&dir)?;
    let note = data_dir.join(SOCKET_FILE);
    std::fs::write(&note, dir.as_os_str().as_encoded_bytes()).map_err(io_error("write", &note))?;
    Ok(dir)
}

/// The directory that `data_dir`, an absolute path, has noted, if it is there and nobody else's. A note
/// that came with a copy of another data directory leads to that one's database.
fn noted_socket_dir(data_dir: &Path, owner: &Account) -> Option<PathBuf> {
    let note = std::fs::read_to_string(data_dir.join(SOCKET_FILE)).ok()?;
    let dir = PathBuf::from(note.trim());
    let name = dir.file_name()?.to_str()?;
    (name.starts_with(&socket_name(data_dir)) && is_private(&dir, owner)).then_some(dir)
}

fn socket_name(data_dir: &Path) -> String {
    let mut hasher = DefaultHasher::new();
    hasher.write(data_dir.as_os_str().as_encoded_bytes());
    format!("tandem-{:016x}", hasher.finish())
}

/// Where temporary files go, unless that is too long for a socket or needs quoting.
fn short_temp_dir() -> PathBuf {
    let dir = std::env::temp_dir();
    let plain = |text: &str| {
        text.len() <= 56 && text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c))
    };
    if dir.is_absolute() && dir.to_str().is_some_and(plain) { dir } else { "/tmp".into() }
}

/// True for a directory, no link, that is `owner`'s alone.
fn is_private(dir: &Path, owner: &Account) -> bool {
    let uid = |path: &Path| std::fs::symlink_metadata(path).ok();
    let Some(found) = uid(dir).filter(std::fs::Metadata::is_dir) else { return false };
    let own =
        owner.other.map(|(uid, _)| uid).or_else(|| uid(Path::new("/proc/self")).map(|m| m.uid()));
    found.mode() & 0o077 == 0 && Some(found.uid()) == own
}

fn make_dir(dir: &Path, owner: Option<&Account>) -> Result<(), ClusterError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(io_error("make the directory", dir))?;
    owner.map_or(Ok(()), |owner| owner.own(dir))
}

fn run(program: &'static str, command: &mut Command) -> Result<(), ClusterError> {
    // The server inherits what pg_ctl has; a pipe would stay open for as long as the server runs.
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(ClusterError::Program { program, message: status.to_string() }),
        Err(error) => Err(ClusterError::Program { program, message: error.to_string() }),
    }
}

fn output(program: &'static str, command: &mut Command) -> Result<String, ClusterError> {
    let failed = |message: String| ClusterError::Program { program, message };
    let Output { status, stdout, stderr } =
        command.output().map_err(|error| failed(error.to_string()))?;
    if status.success() {
        Ok(String::from_utf8_lossy(&stdout).into_owned())
    } else {
        Err(failed(String::from_utf8_lossy(&stderr).trim().to_owned()))
    }
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ClusterError {
    let path = path.to_owned();
    move |source| ClusterError::Io { what, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_hangs_holds_nobody_up_who_looks_whether_it_is_there() {
        let dir = std::env::temp_dir().join(format!("tandem-hangs-{:016x}", clock::random_u64()));
        std::fs::create_dir(&dir).unwrap();
        assert!(!socket_answers(&dir));
        let server = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        server.bind(&SockAddr::unix(dir.join(format!(".s.PGSQL.{PORT}"))).unwrap()).unwrap();
        server.listen(1).unwrap();
        // More than wait to be taken.
        assert!((0..8).all(|_| socket_answers(&dir)));
        drop(server);
        assert!(!socket_answers(&dir), "its file is still there");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
