//! How `paloma-load` finds the programs that its options name.

use std::process::{Command, Output};

const PROGRAM: &str = env!("CARGO_BIN_EXE_paloma-load");

fn paloma_load(search: &str, arguments: &[&str]) -> Output {
    let system = std::env::var("PATH").unwrap_or_default();
    Command::new(PROGRAM)
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("PALOMA_LOAD", PROGRAM)
        .env("PATH", format!("{search}:{system}"))
        .output()
        .expect("it was built")
}

/// Opens a connection to the broker that this names, which is started in another directory.
#[track_caller]
fn check_starts(search: &str, paloma: &str) {
    let output = paloma_load(search, &["idle", "--connections", "1", "--paloma", paloma]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{paloma}: {said}");
}

#[track_caller]
fn check_refused(arguments: &[&str], missing: &str) {
    let output = paloma_load("tests", arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    let expected = format!("there is no program {missing}");
    assert!(!output.status.success(), "{arguments:?}");
    assert!(said.contains(&expected), "{arguments:?}: {said}");
}

#[test]
fn a_relative_path_names_a_program() {
    check_starts("/", "tests/floor.sh");
    check_starts("/", "./tests/../tests/floor.sh");
}

#[test]
fn a_bare_name_is_looked_up_in_path() {
    check_starts(concat!(env!("CARGO_MANIFEST_DIR"), "/tests"), "floor.sh");
    check_starts("tests", "floor.sh");
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let missing = "nowhere/broker";
    for option in ["--paloma", "--mosquitto", "--rumqttd", "--mqttv5"] {
        check_refused(&["compare", option, missing], missing);
    }
    check_refused(&["compare", "--broker", "x=nowhere/broker {port}"], missing);
    check_refused(&["idle", "--paloma", missing], missing);
    for command in ["durable", "scale"] {
        check_refused(
            &[command, "--directory", "tests", "--paloma", missing],
            missing,
        );
    }
    let peer = [
        "durable",
        "--directory",
        "tests",
        "--paloma",
        "floor.sh",
        "--mosquitto",
        missing,
    ];
    check_refused(&peer, missing);
}

#[test]
fn what_cannot_be_run_is_no_program() {
    check_refused(&["idle", "--paloma", "tests/engine.rs"], "tests/engine.rs");
    check_refused(&["idle", "--paloma", "./tests"], "./tests");
    // It is in this directory, which is not where bare names are looked up.
    check_refused(&["idle", "--paloma", "Cargo.toml"], "Cargo.toml");
}
