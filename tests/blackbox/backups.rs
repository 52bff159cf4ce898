//! `bipedalnet backup` on a schedule: names, rotation, and what the server tells of it.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::support::{Server, printed, program, run_sql, simulated};

fn back_up(database: &Path, arguments: &[&str]) -> Result<String, String> {
    printed(program().args(["backup", "--database"]).arg(database).args(arguments))
}

fn names_in(folder: &Path) -> Vec<String> {
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name());
    let mut names: Vec<String> = files.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_folder_keeps_the_newest_copies_and_everything_else() {
    let server = Server::with_users(&[], &[("ann", 11)]).await;
    let folder = server.folder.path().join("backups");
    fs::create_dir(&folder).unwrap();
    let stay = ["other-20260101T000000Z.db", "test-20260101.db", "test-20260103T000000Z.db"];
    for name in stay.into_iter().chain(["test-20260101T000000Z.db", "test-20260102T000000Z.db"]) {
        fs::write(folder.join(name), "").unwrap();
    }
    // Of backups that were killed.
    for (name, hours) in [(".backup-old", 25), (".backup-old-journal", 25), (".backup-new", 23)] {
        let at = SystemTime::now() - Duration::from_secs(hours * 3600);
        File::create(folder.join(name)).unwrap().set_modified(at).unwrap();
    }
    let keyring = server.folder.path().join("newest-keyring");
    let arguments = ["--keyring", keyring.to_str().unwrap(), "--keep", "2"];
    let said = back_up(&server.database(), &[&arguments[..], &[folder.to_str().unwrap()]].concat());
    assert!(said.unwrap().contains("deleted 2 older copies"));
    let names = names_in(&folder);
    let [first, .., new] = &names[..] else { panic!("{names:?}") };
    assert_eq!(first, ".backup-new");
    assert_eq!(names[1..4], stay);
    assert_eq!(names.len(), 5, "{names:?}");
    assert_eq!(run_sql(&folder.join(new), "SELECT count(*) FROM users"), "1");
    assert_eq!(run_sql(&keyring, "SELECT count(*) FROM keys"), "1");
    // It would keep nothing, or copies of the keyring.
    for arguments in [&["--keep", "2", "x.db"][..], &[&arguments[..], &["x.db"]].concat()] {
        assert!(back_up(&server.database(), arguments).is_err(), "{arguments:?}");
    }
}

#[tokio::test]
async fn the_keyring_alone_can_be_copied() {
    let server = Server::with_users(&[], &[("ann", 11)]).await;
    let keyring = server.folder.path().join("newest-keyring");
    for keys in ["1", "2"] {
        let said = back_up(&server.database(), &["--keyring", keyring.to_str().unwrap()]).unwrap();
        assert_eq!(said.lines().count(), 1, "{said}");
        assert_eq!(run_sql(&keyring, "SELECT count(*) FROM keys"), keys);
        server.put_user("bob").await;
    }
    assert_eq!(server.scrape().await["bipedalnet_backup_last_success_timestamp_seconds"], 0.0);
}

#[tokio::test]
async fn the_server_tells_when_backups_were_made_and_failed() {
    let server = Server::with_users(&[], &[("ann", 11)]).await;
    let times = async || {
        let metrics = server.scrape().await;
        ["success", "failure"]
            .map(|outcome| metrics[&format!("bipedalnet_backup_last_{outcome}_timestamp_seconds")])
    };
    let began = server.scrape().await["bipedalnet_database_created_timestamp_seconds"];
    assert!(began > 1.7e9);
    assert_eq!(times().await, [0.0, 0.0]);
    let copy = server.folder.path().join("copy.db");
    let nowhere = server.folder.path().join("none/copy.db");
    back_up(&server.database(), &[nowhere.to_str().unwrap()]).unwrap_err();
    let [never, failed] = times().await;
    assert!(never == 0.0 && failed >= began, "{never} {failed}");
    back_up(&server.database(), &[copy.to_str().unwrap()]).unwrap();
    let [succeeded, failed] = times().await;
    assert!(succeeded >= failed && failed >= began, "{succeeded} {failed}");
    // The copy has its own time.
    let noted = "SELECT succeeded_at_unix_seconds FROM backup_times";
    assert_eq!(run_sql(&copy, noted), succeeded.to_string());
    assert_eq!(server.identified(&simulated(11, 2)).await.as_deref(), Some("ann"));
}
