//! The documents: their shell blocks work as they stand and give the JSON shown, links resolve, and the
//! example of the compact form is what the client sends.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bipedalnet_core::cbor;
use bipedalnet_core::gait::{Precision, Recording, RecordingDocument, compact};
use serde_json::{Deserializer, Value};

use crate::support::Server;

const END_OF_BLOCK: &str = "= end of block =";

/// A document's blocks of code, each with its language.
fn blocks(document: &str) -> Vec<(&str, &str)> {
    let fenced = document.split("```").skip(1).step_by(2);
    fenced.filter_map(|block| block.split_once('\n')).collect()
}

/// The shell blocks that need a server, each with the JSON block that follows.
fn examples(document: &str) -> Vec<(String, Vec<Value>)> {
    let blocks = blocks(document);
    let uses_server = |block: &str| block.contains("curl ");
    let following = |at: usize| blocks.get(at + 1).filter(|(language, _)| *language == "json");
    let shell = blocks.iter().enumerate().filter(|(_, (language, _))| *language == "sh");
    let examples = shell.filter(|(_, (_, block))| uses_server(block)).map(|(at, (_, block))| {
        let (_, shown) = following(at).unwrap_or_else(|| panic!("no JSON follows {block}"));
        ((*block).to_owned(), documents(shown))
    });
    examples.collect()
}

fn documents(text: &str) -> Vec<Value> {
    let values = Deserializer::from_str(text).into_iter();
    values.map(|value| value.unwrap_or_else(|error| panic!("{text}\n{error}"))).collect()
}

/// A document without what differs from run to run, or with each rewording.
fn shape(value: &Value) -> Value {
    match value {
        Value::Number(_) => Value::from(0),
        Value::Array(items) => items.iter().map(shape).collect(),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| {
                let varies = ["challenge", "detail", "model", "request_id", "title"];
                let is_any_text = value.is_string() && varies.contains(&name.as_str());
                (name.clone(), if is_any_text { Value::from("") } else { shape(value) })
            });
            fields.collect()
        }
        other => other.clone(),
    }
}

fn is_there(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).status().is_ok()
}

#[test]
fn shell_blocks_give_the_json_shown() {
    if let Some(missing) = ["bash", "curl", "gzip"].into_iter().find(|name| !is_there(name)) {
        // Not by `eprintln!`, which a test that passes keeps to itself.
        let message = format!(
            "skipped: the shell blocks of README.md and docs/api.md, as there is no {missing}\n"
        );
        return io::stderr().write_all(message.as_bytes()).unwrap();
    }
    let server = Server::start();
    // One shell for all, as a reader has one.
    let mut script = "set -euo pipefail\n\
        curl() { command curl --silent --show-error --write-out '\\n' \"$@\"; }\n"
        .to_owned();
    let mut shown = Vec::new();
    for document in [include_str!("../../README.md"), include_str!("../../docs/api.md")] {
        for (block, json) in examples(document) {
            script += &block.replace("localhost:8080", &server.address);
            script += &format!("echo '{END_OF_BLOCK}'\n");
            shown.push((block, json));
        }
    }
    assert!(shown.len() >= 2, "{shown:?}");
    let program = Path::new(env!("CARGO_BIN_EXE_bipedalnet"));
    let path =
        format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let output = Command::new("bash")
        .args(["-c", &script])
        .env("PATH", path)
        .current_dir(server.folder.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(output.status.success(), "{out}\n{err}");
    for ((block, shown), out) in shown.iter().zip(out.split(END_OF_BLOCK)) {
        let came = documents(out);
        let shapes = |values: &[Value]| values.iter().map(shape).collect::<Vec<_>>();
        assert_eq!(shapes(&came), shapes(shown), "{block}\n{out}");
    }
}

/// Markdown files in a folder and below, without those of builds and tools.
fn markdown_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let mut files = Vec::new();
    for entry in entries {
        let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
        if name.starts_with('.') || ["target", "node_modules"].contains(&name.as_str()) {
            continue;
        }
        match entry.file_type().unwrap().is_dir() {
            true => files.extend(markdown_files(&path)),
            false if name.ends_with(".md") => files.push(path),
            false => {}
        }
    }
    files
}

/// What `#...` can name in a document.
fn anchors(document: &str) -> BTreeSet<String> {
    let headings = document.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| -> String {
        let text = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        text.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn links_between_documents_resolve() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut broken = Vec::new();
    for file in markdown_files(root) {
        let document = fs::read_to_string(&file).unwrap();
        // Without blocks of code, where brackets are no links.
        let text: String = document.split("```").step_by(2).collect();
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.contains("://")) {
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let linked = match path {
                "" => file.clone(),
                path => file.parent().unwrap().join(path),
            };
            let has_anchor =
                || anchors(&fs::read_to_string(&linked).unwrap_or_default()).contains(anchor);
            if !linked.exists() || !(anchor.is_empty() || has_anchor()) {
                broken.push(format!("{}: {target}", file.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn the_example_of_the_compact_form_is_what_the_client_sends() {
    let blocks = blocks(include_str!("../../docs/clients.md"));
    let hex_at = blocks.iter().position(|(language, _)| *language == "hex").unwrap();
    let digits: String =
        blocks[hex_at].1.lines().filter_map(|line| line.split('#').next()).collect();
    let digits: Vec<char> = digits.chars().filter(|digit| !digit.is_whitespace()).collect();
    let shown: Vec<u8> = digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(&String::from_iter(pair), 16).unwrap())
        .collect();
    let recording = |document: RecordingDocument| Recording::try_from(document).unwrap();
    let walk = recording(serde_json::from_str(blocks[hex_at - 1].1).unwrap());
    assert_eq!(compact(&walk, &Precision::default()).unwrap(), shown);

    let sent = recording(cbor::from_slice(&shown).unwrap());
    let values = |walk: &Recording| walk.acceleration_m_s2().as_flattened().to_vec();
    for (sent, value) in values(&sent).into_iter().zip(values(&walk)) {
        assert!((sent - value).abs() <= 0.125, "{sent} {value}");
    }
}
