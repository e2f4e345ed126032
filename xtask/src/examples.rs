//! `cargo xtask examples`: builds the programs outside the workspace, each as its user would.

use std::{fs, path::Path};

use crate::{Command, failure::Outcome, process, workspace};

pub(crate) const COMMAND: Command = Command {
    name: "examples",
    arguments: "",
    about: "build the programs below examples/, which use a crate of ours as a stranger would",
    details: "\
Each is a workspace of its own, built in release into target/examples; the size of what comes out is printed, of a program
or of a library that is named as its directory.",
    run: |_| check(),
};

pub(crate) fn check() -> Outcome {
    let target = workspace::target().join("examples");
    for manifest in workspace::example_manifests()? {
        let arguments = [
            "build",
            "--release",
            "--quiet",
            "--manifest-path",
            &manifest,
        ];
        process::run(process::cargo(&arguments).env("CARGO_TARGET_DIR", &target))?;
        println!("{manifest}{}", size(&target.join("release"), &manifest));
    }
    Ok(())
}

/// How large the outcome is, for people; nothing if it is not where it is expected.
fn size(directory: &Path, manifest: &str) -> String {
    let name = Path::new(manifest)
        .parent()
        .and_then(Path::file_name)
        .unwrap_or_default()
        .to_string_lossy();
    // Linked, a library holds what is used of it alone; an archive holds everything.
    let library = format!("lib{}", name.replace('-', "_"));
    let (linked, archive) = (format!("{library}.so"), format!("{library}.a"));
    let found = [name.as_ref(), &linked, &archive]
        .into_iter()
        .find_map(|file| fs::metadata(directory.join(file)).ok());
    found.map_or_else(String::new, |file| format!(": {} KiB", file.len() / 1024))
}
