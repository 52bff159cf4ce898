use std::path::{Path, PathBuf};

use rustix::fs::{Access, StatVfsMountFlags, access, statvfs};

use super::report::Report;
use crate::store::{DiskSpace, beside, folder_of, network_file_system};

const AREA: &str = "disk";

/// Below this, the next hour may fill it.
const LEAST_BYTES: u64 = 64 << 20;

/// The alert for the log has the same limit.
const LONG_LOG_BYTES: u64 = 64 << 20;

pub fn check(report: &mut Report, database: &Path) {
    let folder = folder_of(database);
    check_folder(report, folder, database);
    let log = beside(database, "-wal").metadata().map_or(0, |file| file.len());
    if log > LONG_LOG_BYTES {
        report.warning(
            AREA,
            format!("the write-ahead log has {} MiB", log >> 20),
            format!(
                "find the program that reads the database for long: `lsof {}`",
                database.display()
            ),
        );
    }
    let temporary = temporary_folder();
    if access(&temporary, Access::WRITE_OK).is_err() {
        report.problem(
            AREA,
            format!("temporary files cannot be written to {}", temporary.display()),
            "make it writable, or set TMPDIR: backups and large sorts need it",
        );
    }
}

fn check_folder(report: &mut Report, folder: &Path, database: &Path) {
    let shown = folder.display();
    if let Some(kind) = network_file_system(folder) {
        report.problem(
            AREA,
            format!("{shown} is on {kind}; its locks do not protect a database"),
            "move the database to a local disk",
        );
    }
    let system = match statvfs(folder) {
        Ok(system) => system,
        Err(error) => {
            report.problem(
                AREA,
                format!("{shown}: {error}"),
                "create the folder for the service's user",
            );
            return;
        }
    };
    if system.f_flag.contains(StatVfsMountFlags::RDONLY) {
        report.problem(
            AREA,
            format!("{shown} is on a read-only file system"),
            "mount it writable; after a failing disk, check it first (`journalctl -k`)",
        );
    }
    let DiskSpace { free_bytes: free, bytes: all } = (&system).into();
    let database_bytes = database.metadata().map_or(0, |file| file.len());
    let what = format!("{} MiB of {} MiB are free at {shown}", free >> 20, all >> 20);
    let cure = "free some, or make the disk larger; deletions still work on a full disk";
    if free < LEAST_BYTES {
        report.problem(AREA, what, cure);
    } else if free < all / 10 || free < 2 * database_bytes {
        report.warning(AREA, what, format!("{cure}, and a backup needs the size of the database"));
    } else {
        report.ok(AREA, what);
    }
    if system.f_files > 0 && system.f_favail < 1000 {
        report.warning(
            AREA,
            format!("only {} more files can be made at {shown}", system.f_favail),
            "delete files that nobody needs",
        );
    }
}

/// Where SQLite and this program put temporary files.
fn temporary_folder() -> PathBuf {
    std::env::var_os("SQLITE_TMPDIR").map_or_else(std::env::temp_dir, PathBuf::from)
}
