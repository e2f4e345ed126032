//! Rules on what is not Rust: READMEs, links, the table of tests, and paths of somebody's machine.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use crate::{
    failure::{Failure, Outcome},
    workspace,
};

/// The rows of the README's table of tests.
const CORE_CRATES: &[&str] = &[
    "paloma-topic",
    "paloma-codec",
    "paloma-session",
    "paloma-broker",
    "paloma-tokio",
];
/// Its columns.
const LAYERS: &[&str] = &["unit", "property", "fuzz", "criterion"];
/// Cells that say nothing.
const EMPTY: &[&str] = &["", "-", "–", "—", "no", "none", "n/a"];

/// Where home and work directories begin. Spelled in two halves, or this file would name them itself.
const MACHINE_PATHS: &[&str] = &[
    concat!("/ro", "ot/"),
    concat!("/wo", "rk/"),
    concat!("/Us", "ers/"),
    concat!("C:\\", "Users"),
];

pub(super) fn check() -> Outcome<Vec<String>> {
    let files = workspace::files()?;
    let mut findings = Vec::new();
    for manifest in files
        .iter()
        .filter(|path| path.ends_with("Cargo.toml") && path.components().count() > 1)
    {
        let readme = manifest.with_file_name("README.md");
        if !files.contains(&readme) {
            findings.push(format!("{} is missing", readme.display()));
        }
    }
    let mut linked = BTreeSet::new();
    for path in &files {
        let Some(text) = workspace::text(path)? else {
            continue;
        };
        findings.extend(
            machine_paths(&text)
                .into_iter()
                .map(|found| format!("{} {found}", path.display())),
        );
        if path.extension().is_some_and(|extension| extension == "md") {
            for (link, anchor) in relative_links(&text) {
                let target = if link.is_empty() {
                    path.clone()
                } else {
                    resolve(path, &link)
                };
                let problem = if !workspace::root().join(&target).exists() {
                    "which does not exist"
                } else if !anchor.is_empty() && !has_heading(&target, &anchor)? {
                    "where no such heading is"
                } else {
                    linked.insert(target);
                    continue;
                };
                let path = path.display();
                findings.push(format!("{path} links to {link}#{anchor}, {problem}"));
            }
        }
    }
    let is_unlinked = |path: &&PathBuf| {
        let is_page = path.extension().is_some_and(|extension| extension == "md");
        is_page && path.starts_with("docs") && !linked.contains(*path)
    };
    let unlinked = files.iter().filter(is_unlinked);
    findings.extend(unlinked.map(|path| format!("no page links to {}", path.display())));
    findings.extend(untested_readmes(&files)?);
    let readme = workspace::text(Path::new("README.md"))?;
    let readme = readme.ok_or(Failure::Format {
        what: "README.md",
        problem: "not UTF-8".to_owned(),
    })?;
    findings.extend(table_of_tests(&readme));
    Ok(findings)
}

/// Published libraries whose README holds no example, or is not part of the doc tests, and examples that are no whole programs.
fn untested_readmes(files: &[PathBuf]) -> Outcome<Vec<String>> {
    let mut findings = Vec::new();
    for root in files
        .iter()
        .filter(|path| path.starts_with("crates") && path.ends_with("src/lib.rs"))
    {
        let directory = root.parent().and_then(Path::parent).unwrap_or(root);
        let manifest = workspace::text(&directory.join("Cargo.toml"))?.unwrap_or_default();
        let is_published = !manifest.lines().any(|line| line == "publish = false");
        let readme = workspace::text(&directory.join("README.md"))?.unwrap_or_default();
        let library = workspace::text(root)?.unwrap_or_default();
        if is_published && !is_tested(&readme, &library) {
            findings.push(format!(
                "{}: the README has no example that runs as a doc test",
                directory.display()
            ));
        }
        findings.extend(partial_examples(&readme).into_iter().map(|begin| {
            let page = directory.join("README.md");
            format!("{}:{begin} is no whole program", page.display())
        }));
    }
    Ok(findings)
}

fn is_tested(readme: &str, library: &str) -> bool {
    // Fences come in pairs; each first one opens a block and names its language.
    let mut opening = readme
        .lines()
        .filter(|line| line.starts_with("```"))
        .step_by(2);
    let has_example = opening.any(|line| line == "```" || line.starts_with("```rust"));
    has_example && library.contains("include_str!(\"../README.md\")")
}

/// The lines where examples begin that do not compile as they stand there: without `fn main`, or with lines that rustdoc hides and
/// every other reader of the page copies.
fn partial_examples(readme: &str) -> Vec<usize> {
    let mut found = Vec::new();
    let mut lines = (1..).zip(readme.lines());
    while let Some((begin, line)) = lines.next() {
        let Some(language) = line.strip_prefix("```") else {
            continue;
        };
        let block = lines.by_ref().map(|(_, line)| line);
        let block: Vec<_> = block.take_while(|line| !line.starts_with("```")).collect();
        let has_main = block.iter().any(|line| line.contains("fn main()"));
        let is_hidden = |line: &&str| line.starts_with("# ") || *line == "#";
        let is_rust = language.is_empty() || language.starts_with("rust");
        if is_rust && (!has_main || block.iter().any(is_hidden)) {
            found.push(begin);
        }
    }
    found
}

/// What is wrong with the table of core crates × kinds of tests.
fn table_of_tests(readme: &str) -> Vec<String> {
    let rows: Vec<Vec<&str>> = readme
        .lines()
        .filter(|line| line.trim_start().starts_with('|'))
        .map(cells)
        .collect();
    let is_header = |row: &&Vec<&str>| LAYERS.iter().all(|layer| row.contains(layer));
    let Some(header) = rows.iter().find(is_header) else {
        return vec![format!(
            "README.md has no table with the columns {}",
            LAYERS.join(", ")
        )];
    };
    let mut findings = Vec::new();
    for name in CORE_CRATES {
        let is_row = |row: &&Vec<&str>| {
            row.len() == header.len() && row.first().is_some_and(|cell| cell.contains(name))
        };
        let Some(row) = rows.iter().find(is_row) else {
            findings.push(format!(
                "README.md: the table of tests has no row for {name}"
            ));
            continue;
        };
        for (column, cell) in header
            .iter()
            .zip(row)
            .filter(|(_, cell)| EMPTY.contains(cell))
        {
            findings.push(format!(
                "README.md: {name} has nothing under {column} (`{cell}`)"
            ));
        }
    }
    findings
}

fn cells(line: &str) -> Vec<&str> {
    line.trim()
        .trim_matches('|')
        .split('|')
        .map(str::trim)
        .collect()
}

/// Whether a page has a heading that is linked to by this.
fn has_heading(page: &Path, anchor: &str) -> Outcome<bool> {
    let text = workspace::text(page)?.unwrap_or_default();
    let mut headings = text.lines().filter(|line| line.starts_with('#'));
    Ok(headings.any(|line| slug(line.trim_start_matches('#').trim()) == anchor))
}

/// A heading as links spell it.
fn slug(heading: &str) -> String {
    heading
        .chars()
        .filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter))
        .flat_map(char::to_lowercase)
        .map(|letter| if letter == ' ' { '-' } else { letter })
        .collect()
}

/// Targets of relative links outside code, each with its anchor; one within the page has no path.
fn relative_links(text: &str) -> Vec<(String, String)> {
    let mut links = Vec::new();
    let mut in_code = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code || line.starts_with("    ") {
            continue;
        }
        for part in line.split("](").skip(1) {
            let target = part.split([')', ' ']).next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:") {
                let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
                links.push((path.to_owned(), anchor.to_owned()));
            }
        }
    }
    links
}

/// The path that `link` means in the file `from`, both relative to the root.
fn resolve(from: &Path, link: &str) -> PathBuf {
    let mut target = from.parent().unwrap_or(Path::new("")).to_owned();
    for component in Path::new(link).components() {
        match component {
            Component::ParentDir => {
                target.pop();
            }
            Component::Normal(part) => target.push(part),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    target
}

/// Lines that name a path of somebody's machine: one that begins there, not one that merely contains it.
fn machine_paths(text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for prefix in MACHINE_PATHS {
            let begins = |at: usize| {
                let before = line.get(..at).and_then(|text| text.chars().next_back());
                before.is_none_or(|before| {
                    !before.is_alphanumeric()
                        && !['/', '.', '_', '-', '+', '#', '}'].contains(&before)
                })
            };
            if line.match_indices(prefix).any(|(at, _)| begins(at)) {
                findings.push(format!(
                    "line {} names a path of one machine: {prefix}",
                    number + 1
                ));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(cell: &str) -> String {
        let rows: String = CORE_CRATES
            .iter()
            .map(|name| format!("| [{name}](x) | yes | yes | {cell} | yes |\n"))
            .collect();
        format!("| crate | unit | property | fuzz | criterion |\n|---|---|---|---|---|\n{rows}")
    }

    #[test]
    fn full_table_of_tests_passes() {
        assert_eq!(table_of_tests(&table("`filter`")), Vec::<String>::new());
    }

    #[test]
    fn missing_table_row_or_cell_is_found() {
        assert_eq!(table_of_tests("no table").len(), 1);
        assert_eq!(table_of_tests(&table("")).len(), CORE_CRATES.len());
        assert_eq!(table_of_tests(&table("–")).len(), CORE_CRATES.len());
        assert_eq!(
            table_of_tests(&table("x").replace("paloma-codec", "other")).len(),
            1
        );
    }

    #[test]
    fn readme_without_an_example_or_outside_the_doc_tests_is_found() {
        let included = "#![doc = include_str!(\"../README.md\")]";
        assert!(is_tested("```rust\nx();\n```\n", included));
        assert!(!is_tested("# x\n", included));
        assert!(!is_tested("```sh\nx\n```\n", included));
        assert!(!is_tested("```rust\nx();\n```\n", "mod a;"));
    }

    #[test]
    fn examples_that_are_no_whole_programs_are_found() {
        let whole = "# Title\n```rust\n#[test]\nfn main() {}\n```\n# Below\n";
        assert_eq!(partial_examples(whole), [0_usize; 0]);
        assert_eq!(partial_examples("```sh\n# a comment\n```\n"), [0_usize; 0]);
        assert_eq!(partial_examples("x\n```rust\nx();\n```\n"), [2]);
        let hidden = "```\n# fn main() {\nx();\n# }\n```\n```rust\nfn main() {}\n```\n";
        assert_eq!(partial_examples(hidden), [1]);
    }

    #[test]
    fn links_are_found_and_resolved() {
        let text = "[a](../b.md#c) [d](https://x) [e](#f)\n```\n[g](h)\n```\n    [i](j)\n";
        let expected = [("../b.md", "c"), ("", "f")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(relative_links(text), expected);
        assert_eq!(slug("What it `costs`, in µs"), "what-it-costs-in-µs");
        assert_eq!(
            resolve(Path::new("docs/adr/x.md"), "../b.md"),
            Path::new("docs/b.md")
        );
        assert_eq!(
            resolve(Path::new("README.md"), "docs/x.md"),
            Path::new("docs/x.md")
        );
    }

    #[test]
    fn paths_of_one_machine_are_found_and_topics_are_not() {
        for prefix in MACHINE_PATHS {
            assert_eq!(
                machine_paths(&format!("see `{prefix}x`")).len(),
                1,
                "{prefix}"
            );
        }
        assert_eq!(
            machine_paths(concat!("home/wo", "rk/lamp")),
            Vec::<String>::new()
        );
    }
}
