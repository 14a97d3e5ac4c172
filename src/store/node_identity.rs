//! Which node this is: the same after each start, as long as its data directory is.

use crate::clock;
use crate::types::id::NodeId;
use std::fs;
use std::io;
use std::path::Path;

/// The file in the data directory.
const NAME: &str = "node-id";

/// The identity of the node with this data directory, and whether it is new. Blocks.
///
/// # Errors
///
/// When the system refuses to write the file.
pub fn of(data_dir: &Path) -> io::Result<(NodeId, bool)> {
    let file = data_dir.join(NAME);
    let known = fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok());
    if let Some(id) = known {
        return Ok((id, false));
    }
    let id = clock::new_node_id();
    fs::write(&file, format!("{id}\n"))?;
    Ok((id, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_stays_who_it_is_and_one_without_a_file_is_new() {
        let dir = std::env::temp_dir().join(format!("tandem-node-{:016x}", clock::random_u64()));
        assert!(of(&dir).is_err(), "there is no such folder");
        fs::create_dir(&dir).unwrap();
        let (id, is_new) = of(&dir).unwrap();
        assert!(is_new);
        assert_eq!(of(&dir).unwrap(), (id, false));
        fs::write(dir.join(NAME), "nonsense").unwrap();
        let (other, is_new) = of(&dir).unwrap();
        assert!(is_new && other != id);
        fs::remove_dir_all(&dir).unwrap();
    }
}
