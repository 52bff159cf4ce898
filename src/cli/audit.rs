//! `bipedalnet audit`

use std::io::{Write, stdout};

use bipedalnet_client::api;
use bipedalnet_core::identity::CollectionId;

use super::Failure;
use super::server_database::EncryptedDatabase;
use crate::store::Store;

/// Entries in memory at a time.
const PAGE: u32 = 1000;

/// Print the audit trail as JSON lines, or check it
///
/// An entry says who did what and when. It names no user: `--user` finds the entries about one.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    database: EncryptedDatabase,
    /// Print only entries after this number
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    after: i64,
    /// Print only entries about this user, who may be deleted
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// The collection of that user
    #[arg(long, default_value_t, value_name = "ID", requires = "user")]
    collection: CollectionId,
    /// Check that no entry was changed, left out or moved. Prints the number and the hash of the newest
    /// entry; note them elsewhere to see later that none was cut off at the end
    #[arg(long, conflicts_with_all = ["after", "user"])]
    verify: bool,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (database, master_key_file) = arguments.database.existing()?;
        let store = Store::open(database, master_key_file).await?;
        let result =
            if arguments.verify { verify(&store).await } else { print(&store, arguments).await };
        store.close().await;
        result
    })
}

async fn verify(store: &Store) -> Result<(), Failure> {
    match store.check_audit().await?.map(api::AuditEntry::from) {
        Some(newest) => println!("whole up to entry {} {}", newest.number, newest.hash),
        None => println!("there are no entries"),
    }
    Ok(())
}

async fn print(store: &Store, arguments: Arguments) -> Result<(), Failure> {
    let mut after = arguments.after;
    let user = arguments.user.map(|name| arguments.collection.user(&name)).transpose()?;
    loop {
        let entries = store.audit_entries(after, user.as_ref(), PAGE).await?;
        let Some(last) = entries.last() else { return Ok(()) };
        after = last.number;
        let mut stdout = stdout().lock();
        for entry in entries {
            serde_json::to_writer(&mut stdout, &api::AuditEntry::from(entry))?;
            writeln!(stdout)?;
        }
    }
}
