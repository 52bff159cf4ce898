//! Rooms of `src/` import one way. Reads the sources and fails on an arrow that runs up.

use std::fs;
use std::path::{Path, PathBuf};

/// Each room and the rooms that it may import, which all stand below it.
const ROOMS: &[(&str, &[&str])] = &[
    (
        "cli",
        &[
            "field_trial",
            "client",
            "http",
            "api",
            "service",
            "store",
            "training",
            "identity",
            "gait",
            "bnn",
            "telemetry",
            "access",
            "config",
        ],
    ),
    ("field_trial", &["client", "api", "service", "training", "gait"]),
    ("client", &["api", "gait"]),
    ("http", &["api", "service", "identity", "gait", "telemetry", "access", "config"]),
    ("api", &["gait"]),
    ("service", &["store", "training", "identity", "gait", "bnn", "telemetry", "access", "config"]),
    ("store", &["identity", "gait", "bnn", "access"]),
    ("training", &["gait", "bnn"]),
    ("identity", &["gait", "bnn"]),
    ("gait", &[]),
    ("bnn", &[]),
    ("telemetry", &[]),
    ("access", &[]),
    ("config", &[]),
];

/// Rooms that `main.rs` may import.
const MAIN_MAY_IMPORT: &[&str] = &["cli"];

#[test]
fn imports_run_one_way() {
    let sources = sources(Path::new("src"));
    assert!(sources.len() > ROOMS.len(), "read only {} files of src/", sources.len());
    let defects: Vec<String> = sources
        .iter()
        .flat_map(|path| {
            let text = fs::read_to_string(path).unwrap();
            defects(path.strip_prefix("src").unwrap(), &text)
        })
        .collect();
    assert!(defects.is_empty(), "\n{}", defects.join("\n"));
}

#[test]
fn the_table_runs_down() {
    for (index, (room, may_import)) in ROOMS.iter().enumerate() {
        for import in *may_import {
            let below = ROOMS[index + 1..].iter().any(|(name, _)| name == import);
            assert!(below, "{room} may import {import}, which does not stand below it");
        }
    }
}

/// Rust files under a folder; Cargo runs tests in the package's root.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// What is wrong with the imports of a file, given its path inside `src/`.
fn defects(path: &Path, source: &str) -> Vec<String> {
    let modules = modules(path);
    let (room, may_import) = match modules.first() {
        Some(room) => match ROOMS.iter().find(|(name, _)| name == room) {
            Some((room, may_import)) => (*room, *may_import),
            None => return vec![format!("src/{}: `{room}` is not in ROOMS", path.display())],
        },
        None if path == Path::new("main.rs") => ("main", MAIN_MAY_IMPORT),
        None => return Vec::new(),
    };
    arrows(&modules, source)
        .into_iter()
        .filter(|(_, to)| to != room && !may_import.contains(&to.as_str()))
        .map(|(line, to)| format!("src/{}:{line}: {room} may not import `{to}`", path.display()))
        .collect()
}

/// The modules that lead to a file: `bnn/model_file.rs` is `bnn`, `model_file`.
fn modules(path: &Path) -> Vec<String> {
    let mut modules: Vec<String> =
        path.with_extension("").iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    let folder_itself = modules.last().is_some_and(|name| name == "mod");
    if folder_itself || path == Path::new("lib.rs") || path == Path::new("main.rs") {
        modules.pop();
    }
    modules
}

/// Every place that names a child of the crate's root: its line and that child, or `*` for all of
/// them, or `crate` for the root itself, behind whose alias anything could be reached.
fn arrows(modules: &[String], source: &str) -> Vec<(usize, String)> {
    let tokens = tokens(source);
    let mut modules = modules.to_vec();
    let mut depth = 0;
    let mut inline_modules = Vec::new();
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        match (text(&tokens, at), text(&tokens, at + 1)) {
            ("mod", name) if text(&tokens, at + 2) == "{" => {
                modules.push(name.to_owned());
                inline_modules.push(depth);
                at += 2;
            }
            ("{", _) => {
                depth += 1;
                at += 1;
            }
            ("}", _) => {
                depth -= 1;
                at += 1;
                if inline_modules.last() == Some(&depth) {
                    inline_modules.pop();
                    modules.pop();
                }
            }
            ("self", "::") | ("super", "::" | "as") => {
                at = follow(&tokens, at, modules.clone(), &mut found);
            }
            ("crate" | "bipedalnet", "::" | "as") => {
                at = follow(&tokens, at, Vec::new(), &mut found);
            }
            _ => at += 1,
        }
    }
    found
}

/// Follows the path that starts at token `at`, group and all, from the module `base`. Returns
/// where it ends.
fn follow(
    tokens: &[Token],
    mut at: usize,
    mut base: Vec<String>,
    found: &mut Vec<(usize, String)>,
) -> usize {
    loop {
        match text(tokens, at) {
            "{" => {
                at += 1;
                loop {
                    at = match text(tokens, at) {
                        "}" | "" => return at + 1,
                        "," => at + 1,
                        "as" => at + 2,
                        _ => follow(tokens, at, base.clone(), found),
                    };
                }
            }
            "super" => drop(base.pop()),
            "self" | "crate" | "bipedalnet" => {}
            name => {
                if base.is_empty() {
                    found.push((tokens[at].line, name.to_owned()));
                }
                base.push(name.to_owned());
            }
        }
        if text(tokens, at + 1) != "::" {
            break;
        }
        at += 2;
    }
    if base.is_empty() {
        found.push((tokens[at].line, "crate".to_owned()));
    }
    at + 1
}

struct Token {
    line: usize,
    text: String,
}

/// Text of a token, empty past the end.
fn text(tokens: &[Token], at: usize) -> &str {
    tokens.get(at).map_or("", |token| &token.text)
}

/// Words and punctuation of a source; no comments, strings or characters.
fn tokens(source: &str) -> Vec<Token> {
    let characters: Vec<char> = source.chars().collect();
    let mut rest = characters.as_slice();
    let mut line = 1;
    let mut tokens = Vec::new();
    while !rest.is_empty() {
        let (length, is_code) = first_token(rest);
        let (token, after) = rest.split_at(length.min(rest.len()));
        if is_code {
            tokens.push(Token { line, text: token.iter().collect() });
        }
        line += token.iter().filter(|character| **character == '\n').count();
        rest = after;
    }
    tokens
}

/// Length of the first token, and whether it is a word or punctuation.
fn first_token(rest: &[char]) -> (usize, bool) {
    let is_word = |character: &char| character.is_alphanumeric() || *character == '_';
    match rest {
        ['/', '/', ..] => (count(rest, |character| *character != '\n'), false),
        ['/', '*', ..] => (block_comment(rest), false),
        ['"', ..] | ['\'', '\\', ..] | ['\'', _, '\'', ..] => (quoted(rest), false),
        [':', ':', ..] => (2, true),
        [first, ..] if is_word(first) => {
            let length = count(rest, is_word);
            let hashes = count(&rest[length..], |character| *character == '#');
            let word: String = rest[..length].iter().collect();
            let opens_string = rest.get(length + hashes) == Some(&'"');
            if opens_string && matches!(word.as_str(), "r" | "br" | "cr") {
                return (
                    length + hashes + 1 + raw_string(&rest[length + hashes + 1..], hashes),
                    false,
                );
            }
            (length, true)
        }
        _ => (1, !rest[0].is_whitespace()),
    }
}

/// Characters at the start that `matches`.
fn count(rest: &[char], matches: impl Fn(&char) -> bool) -> usize {
    rest.iter().take_while(|character| matches(character)).count()
}

/// Length of a comment that may hold others.
fn block_comment(rest: &[char]) -> usize {
    let (mut at, mut depth) = (0, 0);
    while at < rest.len() {
        match rest[at..] {
            ['/', '*', ..] => (at, depth) = (at + 2, depth + 1),
            ['*', '/', ..] => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// Length of a string or a character, up to the quote that it starts with.
fn quoted(rest: &[char]) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != rest[0] {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// Length of the rest of a raw string, after its opening quote.
fn raw_string(rest: &[char], hashes: usize) -> usize {
    let ends = |at: &usize| {
        rest[*at] == '"' && count(&rest[at + 1..], |character| *character == '#') >= hashes
    };
    (0..rest.len()).find(ends).map_or(rest.len(), |at| at + 1 + hashes)
}

mod the_check {
    use super::*;

    #[track_caller]
    fn assert_found(path: &str, source: &str, expected: &[&str]) {
        assert_eq!(defects(Path::new(path), source), expected);
    }

    #[test]
    fn finds_an_arrow_that_runs_up() {
        assert_found(
            "gait/window.rs",
            "//! Windows.\nuse crate::service::Pool;\n",
            &["src/gait/window.rs:2: gait may not import `service`"],
        );
        assert_found(
            "bnn/mod.rs",
            "pub(crate) use super::gait::Recording;",
            &["src/bnn/mod.rs:1: bnn may not import `gait`"],
        );
        assert_found(
            "config.rs",
            "use crate::http;",
            &["src/config.rs:1: config may not import `http`"],
        );
    }

    #[test]
    fn finds_one_in_a_group() {
        assert_found(
            "training/train.rs",
            "use crate::{\n    bnn::{self, Network as N},\n    gait as g,\n    store::{users::{A, B}, C},\n};",
            &["src/training/train.rs:4: training may not import `store`"],
        );
        assert_found(
            "store/users.rs",
            "use {std::fs, super::{super::{http, identity}, rows}};",
            &["src/store/users.rs:1: store may not import `http`"],
        );
    }

    #[test]
    fn finds_one_in_a_path() {
        assert_found(
            "identity/gallery.rs",
            "fn f<'a>(x: &'a str) -> char { crate::cli::demo::run(x); 'a' }",
            &["src/identity/gallery.rs:1: identity may not import `cli`"],
        );
        assert_found(
            "bnn/network/tests.rs",
            "use super::super::super::gait::cut;\nuse super::super::kernels;",
            &["src/bnn/network/tests.rs:1: bnn may not import `gait`"],
        );
        assert_found(
            "gait/window.rs",
            "macro_rules! m { () => { $crate::training::x() } }",
            &["src/gait/window.rs:1: gait may not import `training`"],
        );
    }

    #[test]
    fn counts_inline_modules() {
        let source = "mod tests {\n    use super::super::orientation;\n    mod inner { use super::super::super::super::http; }\n}\nuse super::super::cli;";
        assert_found(
            "gait/window.rs",
            source,
            &[
                "src/gait/window.rs:3: gait may not import `http`",
                "src/gait/window.rs:5: gait may not import `cli`",
            ],
        );
    }

    #[test]
    fn finds_the_root_and_a_glob_of_it() {
        assert_found(
            "cli/demo.rs",
            "use crate as root;\nuse super::super::*;\nuse crate::{self as root};\nuse super::super as root;",
            &[
                "src/cli/demo.rs:1: cli may not import `crate`",
                "src/cli/demo.rs:2: cli may not import `*`",
                "src/cli/demo.rs:3: cli may not import `crate`",
                "src/cli/demo.rs:4: cli may not import `crate`",
            ],
        );
    }

    #[test]
    fn finds_an_unknown_room() {
        assert_found("utils/mod.rs", "", &["src/utils/mod.rs: `utils` is not in ROOMS"]);
        assert_found("helpers.rs", "", &["src/helpers.rs: `helpers` is not in ROOMS"]);
    }

    #[test]
    fn holds_main_to_the_command_line() {
        assert_found(
            "main.rs",
            "use bipedalnet::{cli, http};\nfn main() { bipedalnet::cli::run() }",
            &["src/main.rs:1: main may not import `http`"],
        );
    }

    #[test]
    fn passes_what_runs_down() {
        let source = "use std::fmt;\nuse super::{Pool, pool::Job};\nuse crate::{bnn::Network, gait, store::Store};\npub(crate) struct X;\npub(super) fn f(self, y: crate::identity::UserId) -> usize { self as usize }\nmod tests { use super::*; use crate::service::Pool; }";
        assert_found("service/pool/queue.rs", source, &[]);
        assert_found("lib.rs", "pub mod http; pub use crate::http::Server;", &[]);
    }

    #[test]
    fn passes_comments_and_strings() {
        let source = r####"
            //! See [`crate::service`].
            /* crate::http /* crate::http */ crate::http */
            const A: &str = "crate::http \" crate::http";
            const B: &str = r#"crate::http " crate::http"#;
            const C: &[u8] = br"crate::http\";
            const D: [char; 3] = ['"', '\'', '\u{22}'];
            fn f<'a>(r#type: &'a str) {} // crate::http
        "####;
        assert_found("bnn/kernels.rs", source, &[]);
        let after = format!("{source}\nuse crate::http;");
        assert_found(
            "bnn/kernels.rs",
            &after,
            &["src/bnn/kernels.rs:10: bnn may not import `http`"],
        );
    }
}
