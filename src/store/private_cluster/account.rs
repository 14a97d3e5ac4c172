//! As whom PostgreSQL runs: never as root.

use crate::store::private_cluster::ClusterError;
use crate::store::private_cluster::io_error;
use crate::store::private_cluster::is_root;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The account PostgreSQL runs as.
#[derive(Debug)]
pub(super) struct Account {
    /// User and group, where it is not that of this process.
    pub(super) other: Option<(u32, u32)>,
}

impl Account {
    pub(super) fn of_this_process() -> Result<Self, ClusterError> {
        if !is_root()? {
            return Ok(Self { other: None });
        }
        let path = Path::new("/etc/passwd");
        let users = std::fs::read_to_string(path).map_err(io_error("read", path))?;
        ["postgres", "nobody"]
            .into_iter()
            .find_map(|name| account(&users, name))
            .map(|account| Self { other: Some(account) })
            .ok_or(ClusterError::NoAccount)
    }

    pub(super) fn own(&self, path: &Path) -> Result<(), ClusterError> {
        let Some((uid, gid)) = self.other else { return Ok(()) };
        std::os::unix::fs::chown(path, Some(uid), Some(gid)).map_err(io_error("give away", path))
    }

    /// Lets the account through to what lies in `dir`: passing is not reading.
    pub(super) fn let_pass(&self, dir: &Path) -> Result<(), ClusterError> {
        if self.other.is_none() {
            return Ok(());
        }
        let mode = std::fs::metadata(dir).map_err(io_error("look at", dir))?.mode();
        let passing = std::fs::Permissions::from_mode((mode & 0o7777) | 0o011);
        std::fs::set_permissions(dir, passing).map_err(io_error("open up", dir))?;
        // What lies above is not ours to open.
        let closed = dir.ancestors().skip(1).find(|above| !self.may_pass(above));
        closed.map_or(Ok(()), |above| Err(ClusterError::NotReachable(above.to_owned())))
    }

    fn may_pass(&self, dir: &Path) -> bool {
        let (Some((uid, gid)), Ok(found)) = (self.other, std::fs::metadata(dir)) else {
            return true;
        };
        let needed = if found.uid() == uid {
            0o100
        } else if found.gid() == gid {
            0o010
        } else {
            0o001
        };
        found.mode() & needed != 0
    }
}

/// User and group of `name` in the text of `/etc/passwd`.
fn account(users: &str, name: &str) -> Option<(u32, u32)> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then_some(())?;
        let uid = fields.nth(1)?.parse().ok()?;
        Some((uid, fields.next()?.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_by_its_whole_name() {
        let users = "root:x:0:0::/root:/bin/sh\npostgresql:x:7:7::/:\npostgres:x:101:104:,,,:/:\n";
        assert_eq!(account(users, "postgres"), Some((101, 104)));
        assert_eq!(account(users, "nobody"), None);
    }
}
