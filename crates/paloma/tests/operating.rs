//! `docs/operating.md`, run as it is written: in a network and a file system of its own.
#![expect(clippy::unwrap_used, reason = "a broken process ends the test")]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

const PAGE: &str = include_str!("../../../docs/operating.md");

/// What every block is run after: loopback, and an /etc, a /run and a /usr/local that may be written to.
const PROLOGUE: &str = r#"
set -euo pipefail
ip link set lo up
mkdir etc local run
for file in hosts nsswitch.conf passwd group ld.so.cache; do cp /etc/$file etc || true; done
cp -r /etc/ssl etc
mount --bind etc /etc
mount --bind run /run
mount --bind local /usr/local
trap 'kill $(jobs -p) 2> /dev/null || true' EXIT
PATH=/usr/local/bin:$PATH
"#;

/// The page's code blocks, with what stands behind their three ticks.
fn blocks(page: &str) -> Vec<(&str, String)> {
    let mut blocks: Vec<(&str, String)> = Vec::new();
    let mut is_inside = false;
    for line in page.lines() {
        match line.strip_prefix("```") {
            Some(_) if is_inside => is_inside = false,
            Some(info) => {
                is_inside = true;
                blocks.push((info, String::new()));
            }
            None if is_inside => {
                let (_, block) = blocks.last_mut().unwrap();
                block.push_str(line);
                block.push('\n');
            }
            None => {}
        }
    }
    blocks
}

/// A command in namespaces of its own.
fn apart(script: &str, directory: &Path) -> Command {
    let mut command = Command::new("timeout");
    command
        .args(["120", "unshare"])
        .args(["--mount", "--net", "--pid", "--fork", "--kill-child"])
        .args(["--map-root-user", "--propagation", "private"])
        .args(["bash", "-c", script])
        .current_dir(directory)
        .stdin(Stdio::null());
    command
}

#[test]
fn only_what_a_test_cannot_do_is_not_run() {
    for (info, block) in blocks(PAGE) {
        match info {
            "sh" => assert!(!block.contains("systemctl"), "{block}"),
            "sh not run in the test" => assert!(
                block
                    .lines()
                    .all(|line| line.starts_with("systemctl ") || line.starts_with("cargo build ")),
                "{block}"
            ),
            other => panic!("a block is `sh`, run or not: {other}"),
        }
    }
}

#[test]
fn every_command_does_what_the_page_says() {
    let directory = std::env::temp_dir().join(format!("paloma-operating-{}", std::process::id()));
    fs::create_dir(&directory).unwrap();
    let can = apart(
        "ip link set lo up && curl --version && openssl version",
        &directory,
    )
    .output();
    if !can.is_ok_and(|output| output.status.success()) {
        println!("skipped: unshare, ip, curl or openssl is missing here, or may not be used");
        fs::remove_dir_all(&directory).unwrap();
        return;
    }
    fs::create_dir_all(directory.join("target/release")).unwrap();
    let binary = env!("CARGO_BIN_EXE_paloma");
    fs::copy(binary, directory.join("target/release/paloma")).unwrap();
    fs::create_dir(directory.join("packaging")).unwrap();
    for (name, text) in [
        (
            "paloma.service",
            include_str!("../../../packaging/paloma.service"),
        ),
        (
            "paloma.sysusers",
            include_str!("../../../packaging/paloma.sysusers"),
        ),
    ] {
        fs::write(directory.join("packaging").join(name), text).unwrap();
    }
    let run = blocks(PAGE).into_iter().filter(|(info, _)| *info == "sh");
    let run: String = run.map(|(_, block)| block).collect();
    let output = apart(&format!("{PROLOGUE}set -x\n{run}"), &directory)
        .output()
        .unwrap();
    fs::remove_dir_all(&directory).unwrap();
    let trace = String::from_utf8_lossy(&output.stderr);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{trace}\n{said}");
    assert!(said.contains("paloma version "), "{said}");
}
