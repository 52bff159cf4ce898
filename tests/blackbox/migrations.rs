//! `bipedalnet migrate`.

use std::fs;
use std::path::Path;

use crate::support::{Server, database_in, postgres, printed, program, run_sql, simulated};

pub fn migrate(database: &Path) -> Result<String, String> {
    printed(program().args(["migrate", "--database"]).arg(database))
}

#[tokio::test]
async fn migrate_makes_and_upgrades_tables_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let database = database_in(folder.path());
    if postgres().is_none() {
        assert!(migrate(&database).unwrap_err().contains("does not exist"));
        fs::write(&database, "").unwrap();
    }
    let made = migrate(&database).unwrap();
    assert!(made.starts_with("made the tables of "), "{made}");
    let again = migrate(&database).unwrap();
    assert!(again.contains(" already"), "{again}");
    assert_eq!(run_sql(&database, "SELECT count(*) FROM models"), "0");
    assert!(!folder.path().join("test.db-keyring").exists());
    let server = Server::start_in(folder);
    server.add_user("ann", &[simulated(11, 1)]).await;
    match postgres() {
        None => assert!(migrate(&database).unwrap_err().contains("stop it first")),
        Some(_) => assert!(migrate(&database).unwrap().contains(" already")),
    }
    assert_eq!(server.identified(&simulated(11, 2)).await.as_deref(), Some("ann"));
}
