//! A text as a password file, a SCRAM file and a file of keys: it is read or refused, and refusals repeat nothing of it.

use std::path::Path;

use paloma_auth::{JwtKeys, PasswordFile, Problems, ScramFile};

/// Reads the text in every way.
pub fn run(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let path = Path::new("file");
    match PasswordFile::parse(path, text) {
        Ok(file) => assert!(!file.users().is_empty()),
        Err(problems) => check(text, &problems),
    }
    if let Err(problems) = ScramFile::parse(path, text) {
        check(text, &problems);
    }
    if let Err(problems) = JwtKeys::parse(path, text) {
        check(text, &problems);
    }
}

fn check(text: &str, problems: &Problems) {
    assert!(!problems.as_slice().is_empty());
    let lines = text.lines().count();
    for problem in problems.as_slice() {
        assert!(problem.line.is_none_or(|line| (1..=lines).contains(&line)));
    }
}
