//! What a packager takes: the unit, completions, manual pages.
#![cfg(feature = "manual")]
#![expect(clippy::unwrap_used, reason = "a broken process ends the test")]

mod support;

use std::process::Command;

use support::paloma;
use support::tools::has;

fn output_of(arguments: &[&str]) -> String {
    let output = paloma(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_shell_has_its_completions() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = output_of(&["completions", shell]);
        for word in ["serve", "--config", "--listen"] {
            assert!(
                script.contains(word.trim_start_matches('-')),
                "{shell}: {word}"
            );
        }
    }
}

#[test]
fn bash_takes_its_completions() {
    if !has(&["bash"]) {
        return;
    }
    let script = output_of(&["completions", "bash"]);
    let checked = Command::new("bash").args(["-n", "-c", &script]).status();
    assert!(checked.unwrap().success());
}

#[test]
fn every_command_has_a_manual_page() {
    let page = output_of(&["man"]);
    assert!(page.contains(".TH paloma 1"), "{page}");
    let dir = std::env::temp_dir().join(format!("paloma-man-{}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    output_of(&["man", "--dir", dir.to_str().unwrap()]);
    for name in [
        "paloma",
        "paloma-serve",
        "paloma-check",
        "paloma-pub",
        "paloma-sub",
    ] {
        let page = std::fs::read_to_string(dir.join(format!("{name}.1"))).unwrap();
        assert!(page.contains(".SH SYNOPSIS"), "{name}: {page}");
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn systemd_accepts_the_unit() {
    let unit = include_str!("../../../packaging/paloma.service");
    for line in [
        "Type=notify",
        "WatchdogSec=",
        "NoNewPrivileges=yes",
        "DynamicUser=yes",
    ] {
        assert!(unit.contains(line), "{line}");
    }
    if !has(&["systemd-analyze"]) {
        return;
    }
    // The verifier wants to find the program.
    let unit = unit.replace("/usr/local/bin/paloma", env!("CARGO_BIN_EXE_paloma"));
    let dir = std::env::temp_dir().join(format!("paloma-unit-{}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    let file = dir.join("paloma.service");
    std::fs::write(&file, unit).unwrap();
    let verified = Command::new("systemd-analyze")
        .arg("verify")
        .arg(&file)
        .output()
        .unwrap();
    let said = String::from_utf8(verified.stderr).unwrap();
    assert!(verified.status.success(), "{said}");
    assert!(!said.contains("paloma.service"), "{said}");
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn what_is_in_force_can_be_shown() {
    let output = paloma(&["config", "show", "--listen", "tcp://127.0.0.1:0"])
        .env("PALOMA__LIMITS__QOS_MAX", "1")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("\nqos_max = 1\n"), "{said}");
    assert!(said.contains("\naddress = \"127.0.0.1:0\"\n"), "{said}");
}
