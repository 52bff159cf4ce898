use std::path::Path;
use std::process::{Command, Stdio};
use std::time::UNIX_EPOCH;

use super::report::Report;
use crate::config::Config;
use crate::store::{DAY_SECONDS, Inspection, unix_seconds};

const AREA: &str = "clock";

/// Clocks of network file systems and of machines before NTP differ by less.
const TOLERANCE_SECONDS: i64 = 60;

pub fn check(report: &mut Report, config: &Config, inspection: Option<&Inspection>) {
    let now = unix_seconds();
    let seen = inspection.and_then(|inspection| inspection.clock_seen_at_unix_seconds);
    let leapt = inspection.and_then(|inspection| inspection.clock_leapt_from_unix_seconds);
    let written = config.database.file().and_then(written_at);
    let last = seen.into_iter().chain(written).max();
    let cure = "set the clock (`timedatectl set-ntp true`) before the server starts: it deletes old data by the clock";
    if let Some(last) = last.filter(|last| now + TOLERANCE_SECONDS < *last) {
        let behind = last - now;
        report.problem(
            AREA,
            format!("it is {behind} s behind the last change of the database"),
            cure,
        );
    } else if let Some(ahead) = seen.map(|seen| (now - seen) / DAY_SECONDS).filter(|days| *days > 0)
    {
        report.warning(
            AREA,
            format!("the server last saw it {ahead} days ago: it leapt, or the server did not run"),
            "compare it with another clock; `bipedalnet confirm-clock` says that it is right",
        );
    }
    if leapt.is_some() {
        report.warning(
            AREA,
            "it leapt while the server ran, so no data past its time is deleted",
            "compare it with another clock, then run `bipedalnet confirm-clock`",
        );
    }
    match is_synchronised() {
        Some(true) => report.ok(AREA, "NTP sets it"),
        Some(false) => report.warning(
            AREA,
            "NTP does not set it",
            "run `timedatectl set-ntp true`: certificates, keys and retention need the right time",
        ),
        None if report.is_clean(AREA) => {
            report.ok(AREA, "it fits the database; whether NTP sets it is not known here");
        }
        None => {}
    }
}

fn written_at(path: &Path) -> Option<i64> {
    let modified = path.metadata().and_then(|file| file.modified()).ok()?;
    Some(modified.duration_since(UNIX_EPOCH).ok()?.as_secs() as i64)
}

/// What systemd says. It asks the kernel, so this holds for every NTP program.
fn is_synchronised() -> Option<bool> {
    let mut command = Command::new("timedatectl");
    command.args(["show", "--property=NTPSynchronized", "--value"]).stderr(Stdio::null());
    let output = command.output().ok().filter(|output| output.status.success())?;
    match output.stdout.trim_ascii() {
        b"yes" => Some(true),
        b"no" => Some(false),
        _ => None,
    }
}
