use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Access, access};

use super::report::Report;
use crate::config::Config;
use crate::store::{beside, database_files, folder_of};

const AREA: &str = "permissions";

pub fn check(report: &mut Report, config: &Config) {
    let database = config.database.file();
    if let Some(database) = database {
        check_folder(report, folder_of(database));
        for path in database_files(database) {
            check_database_file(report, &path, folder_of(database));
        }
    }
    let secrets = [
        (&config.master_key_file, true),
        (&config.metrics_key_file, false),
        (&config.connections.tls_key, false),
        (&database.map(|database| beside(database, "-master-key")), true),
    ];
    for (path, is_checked_by_server) in secrets {
        if let Some(path) = path {
            check_secret(report, path, is_checked_by_server);
        }
    }
    if report.is_clean(AREA) {
        report.ok(AREA, "only their owner can read the files, and they can be written");
    }
}

fn check_folder(report: &mut Report, folder: &Path) {
    // A missing folder is a finding of the disk.
    let Ok(metadata) = folder.metadata() else { return };
    let shown = folder.display();
    if access(folder, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        report.problem(
            AREA,
            format!("this user cannot write to {shown}, where the database makes its log"),
            format!("run this as the service's user, or `chown` {shown} to it"),
        );
    }
    let is_sticky = metadata.mode() & 0o1000 != 0;
    if metadata.mode() & 0o022 != 0 && !is_sticky {
        report.problem(
            AREA,
            format!(
                "others can replace the files in {shown} (mode {:o})",
                metadata.mode() & 0o7777
            ),
            format!("run `chmod go-w {shown}`"),
        );
    }
}

fn check_database_file(report: &mut Report, path: &Path, folder: &Path) {
    let Ok(metadata) = path.metadata() else { return };
    let shown = path.display();
    if others_may_read(&metadata) {
        report.warning(
            AREA,
            format!("others can read {shown} (mode {:o})", metadata.mode() & 0o777),
            format!("run `chmod go= {shown}`; the next start does so too"),
        );
    }
    if access(path, Access::READ_OK | Access::WRITE_OK).is_err() {
        report.problem(
            AREA,
            format!("this user cannot write {shown}"),
            "run this as the service's user, or `chown` the file to it",
        );
    }
    if let Ok(folder) = folder.metadata()
        && folder.uid() != metadata.uid()
        && folder.mode() & 0o1000 == 0
    {
        report.problem(
            AREA,
            format!(
                "{shown} belongs to user {}, and its folder to user {}",
                metadata.uid(),
                folder.uid()
            ),
            format!("run `chown {} {shown}`; run commands as the service's user", folder.uid()),
        );
    }
}

/// `is_refused`: the server does not start if everybody can read it.
fn check_secret(report: &mut Report, path: &Path, is_refused: bool) {
    let metadata = match path.metadata() {
        Ok(metadata) => metadata,
        // Files that are needed have findings of their own.
        Err(_) => return,
    };
    let finding =
        format!("others can read {} (mode {:o})", path.display(), metadata.mode() & 0o777);
    let cure = format!("run `chmod 600 {}`", path.display());
    if is_refused && metadata.mode() & 0o007 != 0 {
        report.problem(AREA, finding, cure);
    } else if metadata.mode() & 0o007 != 0 {
        report.warning(AREA, finding, cure);
    }
}

fn others_may_read(metadata: &Metadata) -> bool {
    metadata.mode() & 0o077 != 0
}
