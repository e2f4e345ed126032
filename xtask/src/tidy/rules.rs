//! What no Rust file of ours may lack or hold.
#![expect(
    clippy::indexing_slicing,
    reason = "offsets come from searches in the same text"
)]

use super::source::{Source, is_word};

/// Crates without clock, socket, file, thread or task.
const PURE_CRATES: &[&str] = &[
    "paloma-topic",
    "paloma-codec",
    "paloma-session",
    "paloma-broker",
];

/// Modules of std that a pure crate does not name, apart from [`PLAIN_DATA`].
const IMPURE_MODULES: &[&str] = &["time", "net", "fs", "thread", "process", "env", "io"];

/// What those modules have that does nothing by itself.
const PLAIN_DATA: &[&str] = &[
    "time::Duration",
    "net::IpAddr",
    "net::Ipv4Addr",
    "net::Ipv6Addr",
    "net::SocketAddr",
    "io::Error",
    "io::ErrorKind",
];

/// Words that no code of ours holds, each with its reason.
const BANNED: &[(&str, &str)] = &[
    ("#[ignore", "a test that does not run proves nothing"),
    ("todo!", "unfinished work belongs on a branch"),
    ("unimplemented!", "unfinished work belongs on a branch"),
    ("unbounded_channel", "every queue has a bound"),
    ("UnboundedSender", "every queue has a bound"),
    ("UnboundedReceiver", "every queue has a bound"),
    (
        "mpsc::channel()",
        "every queue has a bound: std's `sync_channel`",
    ),
];

pub(super) fn check(source: &Source) -> Vec<String> {
    let mut findings = Vec::new();
    let path = source.path.display();
    if !has_module_doc(&source.text) {
        findings.push(format!(
            "{path} does not begin with a `//!` line that says what it is for"
        ));
    }
    for (word, reason) in BANNED {
        for line in lines_with(&source.code, word) {
            findings.push(format!("{path}:{line} `{word}`: {reason}"));
        }
    }
    let is_pure = PURE_CRATES
        .iter()
        .any(|name| source.path.starts_with(format!("crates/{name}/src")));
    if is_pure && !source.is_test {
        let code = source.production_code();
        for (line, name) in impure_names(&code) {
            findings.push(format!(
                "{path}:{line} names {name}, but the cores own no clock, socket, file or thread"
            ));
        }
    }
    findings
}

/// Whether the first thing that is not an attribute or a plain comment is `//!`.
fn has_module_doc(text: &str) -> bool {
    let is_filler = |line: &str| {
        let line = line.trim_start();
        line.is_empty()
            || line.starts_with("#!")
            || line.starts_with("//") && !line.starts_with("//!")
    };
    text.lines()
        .find(|line| !is_filler(line))
        .is_some_and(|line| line.starts_with("//! "))
}

/// One-based numbers of the lines where `word` stands by itself.
fn lines_with(code: &str, word: &str) -> Vec<usize> {
    let begins_as_word = word.bytes().next().is_some_and(is_word);
    code.match_indices(word)
        .filter(|(at, _)| !begins_as_word || *at == 0 || !is_word(code.as_bytes()[at - 1]))
        .map(|(at, _)| line_at(code, at))
        .collect()
}

fn line_at(code: &str, at: usize) -> usize {
    code.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

/// Uses of tokio and of std's impure modules, also inside `use std::{…}`, with their lines.
fn impure_names(code: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = lines_with(code, "tokio::")
        .into_iter()
        .map(|line| (line, "tokio".to_owned()))
        .collect();
    for (at, _) in code.match_indices("std::") {
        if at > 0 && is_word(code.as_bytes()[at - 1]) {
            continue;
        }
        let rest = &code[at + "std::".len()..];
        for path in paths(rest) {
            let module = path.split("::").next().unwrap_or_default();
            if IMPURE_MODULES.contains(&module) && !PLAIN_DATA.contains(&path.as_str()) {
                found.push((line_at(code, at), format!("std::{path}")));
            }
        }
    }
    found
}

/// The paths behind `std::`: one, or each entry of a group in braces; an inner group ends its path.
fn paths(rest: &str) -> Vec<String> {
    let is_path = |byte: &u8| is_word(*byte) || *byte == b':';
    let word = |text: &str| -> String {
        let text = text.trim_start();
        text.bytes().take_while(is_path).map(char::from).collect()
    };
    let Some(group) = rest.strip_prefix('{') else {
        return vec![word(rest)];
    };
    let mut names = vec![word(group)];
    let mut depth = 0_usize;
    for (at, byte) in group.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 0 => break,
            b'}' => depth -= 1,
            b',' if depth == 0 => names.push(word(&group[at + 1..])),
            _ => {}
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn check_text(path: &str, text: &str, findings: usize) {
        let source = Source::new(PathBuf::from(path), text);
        assert_eq!(check(&source).len(), findings, "{path}: {text}");
    }

    const CORE: &str = "crates/paloma-codec/src/a.rs";
    const SHELL: &str = "crates/paloma-tokio/src/a.rs";

    #[test]
    fn module_doc_is_required_before_anything_else() {
        check_text(SHELL, "//! What it is for.\nuse x;", 0);
        check_text(SHELL, "#![no_main]\n// note\n//! What it is for.\n", 0);
        check_text(SHELL, "use x;\n//! Late.", 1);
        check_text(SHELL, "//!\n", 1);
        check_text(SHELL, "", 1);
    }

    #[test]
    fn banned_words_are_found_in_code_only() {
        check_text(SHELL, "//! todo! later\nlet a = \"todo!\";", 0);
        check_text(SHELL, "//! x\nfn f() { todo!() }", 1);
        check_text(SHELL, "//! x\n#[test]\n#[ignore = \"slow\"]\nfn f() {}", 1);
        check_text(SHELL, "//! x\nlet (a, b) = mpsc::unbounded_channel();", 1);
        check_text(SHELL, "//! x\nlet (a, b) = mpsc::channel();", 1);
        check_text(SHELL, "//! x\nlet (a, b) = mpsc::channel(16);", 0);
    }

    #[test]
    fn cores_name_no_clock_socket_file_or_thread() {
        for text in [
            "use std::time::Instant;",
            "use std::time::{Duration, Instant};",
            "let x = std::io::stdin();",
            "use std::{collections::HashMap, fs};",
            "use std::{collections::{HashMap, BTreeMap}, net::TcpStream};",
            "std::thread::spawn(f)",
            "use tokio::sync::Mutex;",
        ] {
            check_text(CORE, &format!("//! x\n{text}"), 1);
            check_text(SHELL, &format!("//! x\n{text}"), 0);
        }
    }

    #[test]
    fn cores_may_name_plain_data_and_test_with_anything() {
        check_text(
            CORE,
            "//! x\nuse core::time::Duration;\nuse std::{sync::Arc, net::IpAddr};\nIo(std::io::Error),",
            0,
        );
        check_text(CORE, "//! x, unlike std::fs\nmystd::fs::x();", 0);
        check_text(
            CORE,
            "//! x\n#[cfg(test)]\nmod tests { use std::time::Instant; }",
            0,
        );
    }
}
