//! The private cluster: made, adopted, refused, stopped.

use crate::postgres::Scratch;
use std::path::Path;
use std::time::Duration;
use tandem::store::migrate;
use tandem::store::private_cluster::ClusterError;
use tandem::store::private_cluster::Durability;
use tandem::store::private_cluster::PrivateCluster;

fn start(dir: &Path) -> Result<PrivateCluster, ClusterError> {
    PrivateCluster::start(dir, Durability::Fast)
}

/// The process of the server, from its own file.
fn server_pid(dir: &Path) -> Option<String> {
    let text = std::fs::read_to_string(dir.join("postgres/postmaster.pid")).ok()?;
    text.lines().next().map(str::to_owned)
}

#[tokio::test]
async fn a_cluster_is_made_adopted_and_stopped() {
    let scratch = Scratch::new();
    let dir = scratch.path().join("new/data");
    let first = start(&dir).unwrap();
    let database = first.database();
    migrate::apply(&database).await.unwrap();
    assert!(database.answers(Duration::from_secs(10)).await);
    let pid = server_pid(&dir).unwrap();
    // One process at a time: two would write one journal.
    assert!(matches!(start(&dir), Err(ClusterError::InUse(_))));
    // It may be free a moment later, so that a service is to try again.
    assert!(!start(&dir).unwrap_err().is_configuration());
    database.close().await;
    // Gone without a stop, as after a kill: the server is still there and is taken over.
    drop(first);
    let second = start(&dir).unwrap();
    assert_eq!(server_pid(&dir).unwrap(), pid);
    second.stop().unwrap();
    assert_eq!(server_pid(&dir), None);
    // What was stopped starts again.
    let third = start(&dir).unwrap();
    let database = third.database();
    assert!(database.answers(Duration::from_secs(10)).await);
    third.crash().unwrap();
    assert!(!database.answers(Duration::from_secs(10)).await);
    third.restart().unwrap();
    assert!(database.answers(Duration::from_secs(10)).await);
    database.close().await;
    third.stop().unwrap();
}

#[tokio::test]
async fn the_socket_stays_where_it_was_and_a_copy_of_the_data_has_its_own() {
    let scratch = Scratch::new();
    let dir = scratch.path().join("data");
    let noted = |dir: &Path| std::fs::read_to_string(dir.join("postgres.socket")).unwrap();
    start(&dir).unwrap().stop().unwrap();
    let first = noted(&dir);
    assert!(!Path::new(&first).exists(), "a stop leaves no folder behind");
    let second = start(&dir).unwrap();
    assert_eq!(noted(&dir), first);
    // With the note of another, running cluster, as in a copy of its folder.
    let copy = scratch.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    std::fs::write(copy.join("postgres.socket"), &first).unwrap();
    assert!(PrivateCluster::running(&dir).is_some());
    assert!(PrivateCluster::running(&copy).is_none());
    second.stop().unwrap();
    // Where somebody lies in wait at the name, another is taken.
    std::fs::write(&first, "").unwrap();
    let third = start(&dir).unwrap();
    assert!(noted(&dir).len() > first.len() && noted(&dir).starts_with(&first));
    third.stop().unwrap();
    std::fs::remove_file(&first).unwrap();
}

#[tokio::test]
async fn the_server_listens_on_a_private_socket_alone_and_not_as_root() {
    let database = crate::postgres::database().await;
    let mut connection = crate::postgres::owner(&database).await;
    let show = "SELECT current_setting('listen_addresses'), \
         current_setting('unix_socket_directories'), current_setting('data_directory')";
    let (addresses, socket, data): (String, String, String) =
        sqlx::query_as(show).fetch_one(&mut connection).await.unwrap();
    assert_eq!(addresses, "");
    use std::os::unix::fs::MetadataExt;
    let socket = std::fs::metadata(socket).unwrap();
    assert_eq!(socket.mode() & 0o777, 0o700);
    assert_ne!(socket.uid(), 0);
    assert_eq!(std::fs::metadata(data).unwrap().uid(), socket.uid());
}

#[test]
fn the_data_of_another_version_are_refused() {
    let scratch = Scratch::new();
    let dir = scratch.path().join("data");
    std::fs::create_dir_all(dir.join("postgres")).unwrap();
    std::fs::write(dir.join("postgres/PG_VERSION"), "9.6\n").unwrap();
    let error = start(&dir).unwrap_err();
    assert!(error.is_configuration());
    let ClusterError::OtherVersion { found, installed, .. } = error else { panic!("{error}") };
    assert_eq!(found, "9.6");
    assert!(installed.parse::<u32>().unwrap() >= 13, "{installed}");
}

#[test]
fn half_a_cluster_left_by_a_crash_is_made_anew() {
    let scratch = Scratch::new();
    let dir = scratch.path().join("data");
    std::fs::create_dir_all(dir.join("postgres.draft/base")).unwrap();
    std::fs::create_dir_all(dir.join("postgres")).unwrap();
    let cluster = start(&dir).unwrap();
    assert!(!dir.join("postgres.draft").exists());
    cluster.stop().unwrap();
}
