//! Imports within `src/` run one way. Cargo keeps the packages apart; this keeps the modules.

use std::fs;
use std::path::{Path, PathBuf};

/// The modules of `src/`. Each may import those after it.
const MODULES: [&str; 8] =
    ["cli", "field_trial", "http", "service", "store", "telemetry", "access", "config"];

#[test]
fn imports_run_one_way() {
    let mut files = Vec::new();
    for module in MODULES {
        let before = files.len();
        collect(&Path::new("src").join(module), &mut files);
        collect(&Path::new("src").join(module).with_extension("rs"), &mut files);
        assert!(files.len() > before, "src/ has no module {module}");
    }
    let upward: Vec<String> = files.iter().flat_map(|file| upward_imports(file)).collect();
    assert!(upward.is_empty(), "\n{}", upward.join("\n"));
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            collect(&entry.unwrap().path(), files);
        }
    } else if path.is_file() && path.extension().is_some_and(|it| it == "rs") {
        files.push(path.to_owned());
    }
}

/// A line for each import of a module that stands before the file's own.
fn upward_imports(file: &Path) -> Vec<String> {
    let module = file.iter().nth(1).unwrap().to_str().unwrap().trim_end_matches(".rs");
    let place = MODULES.iter().position(|name| *name == module).unwrap();
    let text = fs::read_to_string(file).unwrap();
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for path in line.split("crate::").skip(1) {
            let name: String =
                path.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if MODULES[..place].contains(&name.as_str()) {
                let (file, line) = (file.display(), number + 1);
                found.push(format!("{file}:{line}: {module} may not import {name}"));
            }
        }
    }
    found
}
