//! What a node has on its disk of a person whose data are erased in the database: records that it refused, records on
//! their way there, and those that its journal has not let go of yet.

use crate::store::database::Database;
use crate::store::database::within;
use crate::store::erasures;
use crate::store::erasures::Erasure;
use crate::store::journal::Journal;
use crate::store::journal::Progress;
use crate::store::journal::REJECTED;
use crate::store::privacy;
use crate::store::wire::Entry;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// How often is looked whether what was on its way is in the database.
const PERIOD: Duration = Duration::from_millis(500);
/// How often it is tried to erase it there.
const RETRY: Duration = Duration::from_secs(10);
/// Longest time for that.
const ERASE_MAX: Duration = Duration::from_secs(300);

/// Erases what this node has of each number, until nobody tells any more. What is not done when the node ends is told
/// again after its next start.
pub async fn erase(journal: Arc<Journal>, database: Database, mut told: mpsc::Receiver<Erasure>) {
    while let Some(erasure) = told.recv().await {
        // One after the other would hold up those that come next. The database tells so many at once.
        tokio::spawn(erase_one(Arc::clone(&journal), database.clone(), erasure));
    }
}

async fn erase_one(journal: Arc<Journal>, database: Database, erasure: Erasure) {
    while !erase_rejected(&journal, &erasure).await {
        tokio::time::sleep(RETRY).await;
    }
    // What is in the file goes with it once all of it is in the database. Some may have come there after the number
    // was erased, so it is erased once more even where nothing waits.
    let from = journal.renew();
    let mut progress = journal.progress();
    let is_renewed = |progress: &Progress| progress.segment > from || progress.closed;
    if progress.wait_for(is_renewed).await.is_err() {
        return;
    }
    while journal.has_segment_up_to(from) {
        tokio::time::sleep(PERIOD).await;
    }
    while !erase_late(&database, &erasure).await {
        tokio::time::sleep(RETRY).await;
    }
}

/// True once no refused record of the number is left.
async fn erase_rejected(journal: &Journal, erasure: &Erasure) -> bool {
    let (dir, of) = (journal.dir().join(REJECTED), erasure.clone());
    let removed = tokio::task::spawn_blocking(move || remove_rejected(&dir, &of)).await;
    match removed {
        Ok(Ok(0)) => true,
        Ok(Ok(count)) => {
            tracing::info!(count, "refused records of an erased number are deleted");
            true
        }
        Ok(Err(error)) => {
            tracing::error!(%error, "refused records of an erased number are left for now");
            false
        }
        Err(_) => {
            tracing::error!("deleting refused records panicked");
            false
        }
    }
}

/// Erases a number again, now that what was on its way is in the database; true once the node is done with it.
async fn erase_late(database: &Database, erasure: &Erasure) -> bool {
    let work = async {
        // While a call with it runs, or ended a moment ago, its record is still written.
        if !privacy::erase_again(database, erasure).await? {
            return Ok(false);
        }
        erasures::done(database, erasure).await.map(|()| true)
    };
    within(ERASE_MAX, work).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "late records of an erased number are left for now");
        false
    })
}

/// Deletes the refused records of the erasure's tenant in which its number stands; how many.
fn remove_rejected(dir: &Path, number: &Erasure) -> io::Result<usize> {
    let files = match std::fs::read_dir(dir) {
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut removed = 0;
    for file in files {
        let path = file?.path();
        if path.extension().is_none_or(|end| end != "json") {
            continue;
        }
        let text = std::fs::read(&path)?;
        let is_its = serde_json::from_slice::<Entry>(&text).is_ok_and(|entry| {
            let tenant = entry.record.get("tenant_id").and_then(|tenant| tenant.as_str());
            tenant == Some(&*number.tenant.to_string())
        });
        if is_its && names(&text, number.digits.as_bytes()) {
            std::fs::remove_file(&path)?;
            // Why it was refused is worth nothing without it.
            drop(std::fs::remove_file(path.with_extension("why")));
            removed += 1;
        }
    }
    Ok(removed)
}

/// Whether `digits` stand in `text` as a whole number, behind what is dialled before it at most; else it is another
/// number (as `tandem_number_pattern` of the database).
fn names(text: &[u8], digits: &[u8]) -> bool {
    text.windows(digits.len()).enumerate().any(|(at, part)| {
        let (before, rest) = text.split_at_checked(at).unwrap_or_default();
        let end = before.iter().rposition(|byte| !byte.is_ascii_digit()).map_or(0, |last| last + 1);
        let is_first = matches!(before.get(end..), Some(b"" | b"0" | b"00" | b"011"));
        part == digits && is_first && !rest.get(digits.len()).is_some_and(u8::is_ascii_digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::types::id::TenantId;
    use serde_json::json;

    #[test]
    fn only_refused_records_of_the_tenant_that_name_the_number_go() {
        let dir = std::env::temp_dir().join(format!("tandem-left-{:016x}", clock::random_u64()));
        let tenant = TenantId::from_uuid(clock::new_uuid());
        let (id, node, digits) = (clock::new_uuid(), clock::new_node_id(), "15550177".to_owned());
        let erasure = Erasure { id, node, tenant, digits, calls: Vec::new() };
        assert_eq!(remove_rejected(&dir, &erasure).unwrap(), 0);
        std::fs::create_dir(&dir).unwrap();
        let put = |name: &str, tenant: TenantId, caller: &str| {
            let entry = json!({
                "id": clock::new_uuid(), "rev": 1, "closed": true, "events": [],
                "record": {"tenant_id": tenant.to_string(), "caller": caller},
            });
            std::fs::write(dir.join(format!("{name}.json")), entry.to_string()).unwrap();
            std::fs::write(dir.join(format!("{name}.why")), "whimsical").unwrap();
        };
        put("its", tenant, "+15550177");
        put("dialled", tenant, "0015550177");
        put("longer", tenant, "+155501771");
        put("ending", tenant, "+4915550177");
        put("others", TenantId::from_uuid(clock::new_uuid()), "+15550177");
        std::fs::write(dir.join("segment-1-0.rotten"), "15550177").unwrap();
        assert_eq!(remove_rejected(&dir, &erasure).unwrap(), 2);
        let mut left: Vec<_> = std::fs::read_dir(&dir)
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        let expected = [
            "ending.json",
            "ending.why",
            "longer.json",
            "longer.why",
            "others.json",
            "others.why",
            "segment-1-0.rotten",
        ];
        assert_eq!(left, expected);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
