//! Notes the commit that the program is built from, for `bipedalnet_build_info` and `/debug`.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=BIPEDALNET_COMMIT");
    println!("cargo::rustc-env=BUILT_FROM_COMMIT={}", commit());
}

/// What the environment says, for builds without a repository, such as that of the image. Otherwise what
/// git says, but not in debug builds: each commit would compile the whole package again.
fn commit() -> String {
    if let Ok(commit) = env::var("BIPEDALNET_COMMIT") {
        return commit;
    }
    if env::var("PROFILE").as_deref() == Ok("release")
        && let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"])
        && let Some(commit) =
            git(&["describe", "--always", "--abbrev=12", "--dirty", "--exclude=*"])
    {
        println!("cargo::rerun-if-changed={log}");
        return commit;
    }
    "unknown".to_owned()
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
