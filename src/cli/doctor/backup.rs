use super::report::Report;
use crate::store::{Inspection, unix_seconds};

const AREA: &str = "backup";

/// As the alert.
const OLD_HOURS: i64 = 26;

pub fn check(report: &mut Report, inspection: &Inspection) {
    let Some(times) = inspection.backup_times.filter(|_| inspection.users > 0) else {
        return report.ok(AREA, "none is needed: there are no users");
    };
    let hours = |since: i64| (unix_seconds() - since) / 3600;
    let is_young = hours(times.database_created_at_unix_seconds) < OLD_HOURS;
    let cure = "install the timers of packaging/ (docs/backup.md), or run `bipedalnet backup`";
    if times.failed_at_unix_seconds > times.succeeded_at_unix_seconds {
        report.problem(
            AREA,
            format!("the last one failed, {} hours ago", hours(times.failed_at_unix_seconds)),
            "read `journalctl -u bipedalnet-backup`, and run `bipedalnet backup`",
        );
    } else if times.succeeded_at_unix_seconds == 0 {
        match is_young {
            true => report.ok(AREA, "there is none yet; the database is young"),
            false => report.warning(AREA, "there is none", cure),
        }
    } else {
        let age = hours(times.succeeded_at_unix_seconds);
        let finding = format!("the newest is {age} hours old");
        match age < OLD_HOURS {
            true => report.ok(AREA, finding),
            false => report.warning(AREA, finding, cure),
        }
    }
}
