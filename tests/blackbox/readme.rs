//! What the README tells people to type works as it stands.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::Server;

/// The README's shell blocks that call curl, in their order.
fn curl_blocks() -> Vec<String> {
    let readme = include_str!("../../README.md");
    let blocks = readme.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.filter(|block| block.contains("curl ")).map(str::to_owned).collect()
}

#[test]
fn curl_examples_do_what_they_say() {
    let server = Server::start();
    let blocks = curl_blocks();
    assert!(blocks.len() >= 2, "{blocks:?}");
    let mut answers = Vec::new();
    for block in blocks {
        // Fails on any status but success, and ends each answer with a line of its own.
        let script = format!(
            "set -euo pipefail\n\
             curl() {{ command curl -sS --fail-with-body -w '\\n' \"$@\"; }}\n{}",
            block.replace("localhost:8080", &server.address)
        );
        let program = std::path::Path::new(env!("CARGO_BIN_EXE_bipedalnet"));
        let path =
            format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap());
        let output = Command::new("bash")
            .args(["-c", &script])
            .env("PATH", path)
            .current_dir(server.folder.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let [out, err] =
            [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        assert!(output.status.success(), "{block}\n{out}\n{err}");
        answers.extend(out.lines().filter(|line| !line.is_empty()).map(|line| {
            serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{line}: {error}"))
        }));
    }
    let decisions: Vec<&str> =
        answers.iter().filter_map(|answer| answer["decision"].as_str()).collect();
    assert_eq!(decisions, ["identified", "accept", "unknown"], "{answers:#?}");
}
