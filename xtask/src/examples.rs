//! `cargo xtask examples`: builds the programs outside the workspace, each as its user would.

use crate::{Command, failure::Outcome, process, workspace};

pub(crate) const COMMAND: Command = Command {
    name: "examples",
    arguments: "",
    about: "build the programs below examples/, which depend on a crate of ours as a stranger would",
    details: "Each is a workspace of its own, built in release. Their target directory is target/examples.",
    run: |_| check(),
};

pub(crate) fn check() -> Outcome {
    let target = workspace::target().join("examples");
    for manifest in workspace::example_manifests()? {
        println!("{manifest}");
        let arguments = ["build", "--release", "--manifest-path", &manifest];
        process::run(process::cargo(&arguments).env("CARGO_TARGET_DIR", &target))?;
    }
    Ok(())
}
