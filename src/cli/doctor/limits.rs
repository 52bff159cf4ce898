use std::fs;
use std::path::{Path, PathBuf};

use super::super::descriptors;
use super::report::Report;
use crate::config::Config;
use crate::store::Inspection;

const AREA: &str = "limits";

/// Code, threads and caches under load.
const BASE_MIB: u64 = 64;

/// Bodies, and responses that wait for their clients, at most.
const BUFFERS_MIB: u64 = 256;

/// A user's templates, and those of a second model while it is activated.
const USER_BYTES: u64 = 12_300;

/// `server`: the process, if one runs. Its limits differ from those of this command.
pub fn check(
    report: &mut Report,
    config: &Config,
    inspection: Option<&Inspection>,
    server: Option<u32>,
) {
    let process = Path::new("/proc").join(server.map_or("self".to_owned(), |id| id.to_string()));
    let whose = if server.is_some() { "the server" } else { "this shell" };
    check_files(report, config, &process, whose);
    let users = inspection.map_or(0, |inspection| inspection.users);
    let training = config.service.training_memory_mib as u64;
    let needed = BASE_MIB + ((users * USER_BYTES) >> 20) + training;
    if let Some(group) = cgroup_of(&process, Path::new("/sys/fs/cgroup")) {
        check_cgroup(report, &group, needed, whose);
    }
    if report.is_clean(AREA) {
        report.ok(AREA, format!("{whose} has enough files, and room for {needed} MiB of memory"));
    }
}

fn check_files(report: &mut Report, config: &Config, process: &Path, whose: &str) {
    let wanted = descriptors::wanted(config.connections.max_connections);
    let limits = fs::read_to_string(process.join("limits")).unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let hard = line.and_then(|line| line.split_whitespace().nth(1));
    if let Some(hard) = hard.and_then(|hard| hard.parse::<u64>().ok())
        && hard < wanted
    {
        report.warning(
            AREA,
            format!("{whose} may open {hard} files, and max-connections needs {wanted}"),
            "raise LimitNOFILE (ulimit -n), or lower max-connections",
        );
    }
}

/// The control group (version 2) of a process, with all above it.
fn cgroup_of(process: &Path, root: &Path) -> Option<Vec<PathBuf>> {
    let groups = fs::read_to_string(process.join("cgroup")).ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let own = root.join(path);
    Some(own.ancestors().take_while(|path| path.starts_with(root)).map(Path::to_owned).collect())
}

fn check_cgroup(report: &mut Report, groups: &[PathBuf], needed_mib: u64, whose: &str) {
    let numbers = |group: &PathBuf, file: &str| -> Option<Vec<u64>> {
        let text = fs::read_to_string(group.join(file)).ok()?;
        text.split_whitespace().map(|word| word.parse().ok()).collect()
    };
    let memory =
        groups.iter().filter_map(|group| Some(numbers(group, "memory.max")?[0] >> 20)).min();
    let most_mib = needed_mib + BUFFERS_MIB;
    let cure = "raise MemoryMax or the container's limit, or lower training-memory-mib";
    if let Some(memory) = memory.filter(|memory| *memory < most_mib) {
        let finding = format!(
            "{whose} may use {memory} MiB of memory, and needs {needed_mib} MiB, under attack {most_mib} MiB"
        );
        match memory < needed_mib {
            true => report.problem(AREA, finding, cure),
            false => report.warning(AREA, finding, cure),
        }
    }
    let quota = |group| match numbers(group, "cpu.max")?[..] {
        [quota, period] if period > 0 => Some(quota as f64 / period as f64),
        _ => None,
    };
    let cores = groups.iter().filter_map(quota).min_by(f64::total_cmp);
    if let Some(cores) = cores.filter(|cores| *cores < 1.0) {
        report.warning(
            AREA,
            format!(
                "{whose} may use {cores:.2} of a processor, so requests wait when it is used up"
            ),
            "allow one processor or more (CPUQuota, the container's limit)",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)], needed_mib: u64) -> String {
        let folder = tempfile::tempdir().unwrap();
        let (process, root) = (folder.path().join("process"), folder.path().join("cgroup"));
        fs::create_dir_all(&process).unwrap();
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(process.join("cgroup"), "4:memory:/x\n0::/a/b\n").unwrap();
        for (path, text) in files {
            fs::write(root.join(path), text).unwrap();
        }
        let mut report = Report::default();
        check_cgroup(&mut report, &cgroup_of(&process, &root).unwrap(), needed_mib, "the server");
        format!("{report:?}")
    }

    #[test]
    fn the_tightest_limit_of_all_groups_counts() {
        let limits = [("a/memory.max", "268435456\n"), ("a/b/memory.max", "max\n")];
        assert!(
            found(&limits, 300)
                .contains("Problem, area: \"limits\", finding: \"the server may use 256 MiB")
        );
        assert!(found(&limits, 256).contains("Warning"));
        assert!(!found(&limits, 0).contains("memory"));
        let quotas = [("a/cpu.max", "50000 100000\n"), ("a/b/cpu.max", "max 100000\n")];
        assert!(found(&quotas, 1).contains("0.50 of a processor"));
        assert!(!found(&[("a/cpu.max", "100000 100000\n")], 1).contains("processor"));
    }
}
