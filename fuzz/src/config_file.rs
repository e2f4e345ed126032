//! Configuration files, and mosquitto's: read or refused line by line, and what is in force is shown as a file that says the same.

use std::path::Path;

use crate::config::{Config, Fault, Flags, Problems, import, load_text, show};

/// The text as a file of ours, and as one of mosquitto's.
pub fn run(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let (config, problems) = load(text);
    let lines = text.lines().count() + 1;
    for problem in &problems.0 {
        let line = problem.place.line();
        assert!(
            line.is_none_or(|line| (1..=lines).contains(&line)),
            "{problem:?}"
        );
    }
    if problems == Problems::default() {
        let page = show(&config);
        let (again, problems) = load(&page);
        check_form(&page, &problems);
        // The query of a URL is hidden.
        if !page.contains('?') {
            assert_eq!(problems, Problems::default(), "{page}");
            assert_eq!(show(&again), page);
        }
    }
    let imported = import(text).text;
    check_form(&imported, &load(&imported).1);
}

fn load(text: &str) -> (Config, Problems) {
    let mut problems = Problems::default();
    let file = Some((Path::new("paloma.toml"), text));
    let config = load_text(file, [], &Flags::default(), &mut problems);
    problems.tidy();
    (config, problems)
}

/// What was written by us is well formed, and has no key that we do not know.
fn check_form(text: &str, problems: &Problems) {
    for problem in &problems.0 {
        let is_form = matches!(problem.fault, Fault::Syntax(_) | Fault::UnknownKey { .. });
        assert!(!is_form, "{problem:?} in {text}");
    }
}
