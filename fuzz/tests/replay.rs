//! Runs every target over its corpus, and checks that no target lacks a part.

use std::{
    collections::BTreeSet,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use paloma_fuzz::TARGETS;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Files or directories directly below `directory`, sorted; none if it does not exist.
fn entries(directory: &Path) -> Vec<PathBuf> {
    let Ok(listing) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = listing.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// The stems of all files with extension `rs`, or of all directories, below `directory`.
fn names(directory: &str, extension: Option<&str>) -> BTreeSet<String> {
    entries(&root().join(directory))
        .into_iter()
        .filter(|path| path.extension().and_then(|e| e.to_str()) == extension)
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect()
}

fn targets() -> BTreeSet<String> {
    TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect()
}

#[test]
fn every_input_in_the_corpora_passes() {
    let mut failures = Vec::new();
    let mut inputs = 0;
    for (name, run) in TARGETS {
        for path in entries(&root().join("corpus").join(name)) {
            let data = fs::read(&path).unwrap();
            inputs += 1;
            if catch_unwind(AssertUnwindSafe(|| run(&data))).is_err() {
                failures.push(path);
            }
        }
    }
    println!("{inputs} inputs over {} targets", TARGETS.len());
    assert!(failures.is_empty(), "inputs that fail: {failures:#?}");
}

#[test]
fn every_target_has_a_fuzz_target_file() {
    assert_eq!(names("fuzz_targets", Some("rs")), targets());
}

#[test]
fn every_target_has_a_corpus_with_a_seed() {
    assert_eq!(names("corpus", None), targets());
    for name in targets() {
        assert!(
            !entries(&root().join("corpus").join(&name)).is_empty(),
            "corpus/{name} is empty"
        );
    }
}

#[test]
fn every_target_has_a_binary() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    for name in targets() {
        let path = format!("path = \"fuzz_targets/{name}.rs\"");
        assert!(manifest.contains(&path), "no [[bin]] with {path}");
    }
    let gated = manifest
        .matches("required-features = [\"libfuzzer\"]")
        .count();
    assert_eq!(
        gated,
        TARGETS.len(),
        "each [[bin]] requires the feature `libfuzzer`"
    );
}
