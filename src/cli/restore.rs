//! `bipedalnet restore`

use std::path::PathBuf;

use super::Failure;
use super::server_database::EncryptedDatabase;
use crate::store::{self, RestoreRequest, Restored};

/// Put a backup in place of the database
///
/// Stop the server first. Users who were deleted after the backup are deleted again, and so are
/// enrollments and models; API keys that were revoked or created after it are revoked. The database that
/// is replaced tells which, as far as it can be read, and so does the keyring in place. What was added
/// after the backup is lost. The replaced database is kept beside the new one.
///
/// If the backup is damaged, nothing is changed. If the program ends at any point, the next start finds
/// the old database or the new one.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    database: EncryptedDatabase,
    /// The newest copy of the keyring, if the one in place is lost [default: the keyring in place, or
    /// FILE-keyring]
    #[arg(long, value_name = "FILE")]
    keyring: Option<PathBuf>,
    /// Go on if nothing tells which users were deleted after the backup. They come back: delete them
    /// again
    #[arg(long)]
    accept_unknown_erasures: bool,
    /// Backup to restore. It is not changed
    #[arg(value_name = "FILE")]
    backup: PathBuf,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let (database, master_key_file) = arguments.database.parts()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let restored = runtime.block_on(store::restore(RestoreRequest {
        database,
        backup: &arguments.backup,
        keyring: arguments.keyring.as_deref(),
        master_key_file,
        accept_unknown_erasures: arguments.accept_unknown_erasures,
    }))?;
    println!(
        "restored {} from {}, a backup of {}",
        database.display(),
        arguments.backup.display(),
        restored.backup_at
    );
    print(&restored);
    Ok(())
}

fn print(restored: &Restored) {
    println!("it has {} users and {} enrollments", restored.users, restored.enrollments);
    println!(
        "deleted again: {} users, {} enrollments, {} models; revoked: {} API keys",
        restored.erased_users,
        restored.erased_enrollments,
        restored.deleted_models,
        restored.revoked_keys
    );
    if restored.renewed_templates {
        println!("renewed the templates again");
    }
    match restored.lost {
        Some((users, enrollments)) => {
            println!("lost, as they were added after it: {users} users, {enrollments} enrollments");
        }
        None => println!("lost: all users and enrollments that were added after it"),
    }
    if let Some(keyring) = &restored.keyring {
        println!("the keyring is that of {}", keyring.display());
    }
    for file in &restored.kept {
        println!("what was replaced is now {}; delete it if you do not need it", file.display());
    }
    if restored.users_without_key > 0 {
        println!(
            "warning: {} users were deleted, as no keyring has their key; restore again with a newer \
             keyring, or enroll them again",
            restored.users_without_key
        );
    }
    if let Some(until) = &restored.erasures_known_until {
        println!("warning: users who were deleted after {until} may be back; delete them again");
    }
    if !restored.unknown.is_empty() {
        println!(
            "warning: not known after {}, so look and do it again: {}",
            restored.backup_at,
            restored.unknown.join(", ")
        );
    }
    if let Some(reason) = &restored.broken_audit {
        println!("warning: the backup was changed after it was made: {reason}");
    }
}
