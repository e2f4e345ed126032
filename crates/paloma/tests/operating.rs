//! `docs/operating.md`, run as it is written: in a network and a file system of its own.
#![cfg(all(
    feature = "admin",
    feature = "clients",
    feature = "control",
    feature = "json-logs",
    feature = "manual",
    feature = "store"
))]
#![expect(clippy::unwrap_used, reason = "a broken process ends the test")]

mod support;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::tools::{has, say};

const PAGE: &str = include_str!("../../../docs/operating.md");

/// What the page's commands and this test call.
const TOOLS: &[&str] = &[
    "bash", "curl", "ip", "mount", "openssl", "timeout", "unshare",
];

/// What every block is run after: a clean end, and the way to what has been installed.
const PROLOGUE: &str = r#"
set -euo pipefail
trap 'kill $(jobs -p) 2> /dev/null || true' EXIT
PATH=/usr/local/bin:$PATH
"#;

/// Before that, where a test may have namespaces: loopback, and an /etc, a /run and a /usr/local that may be written to.
const APART: &str = r#"
set -euo pipefail
ip link set lo up
mkdir etc local run
for file in hosts nsswitch.conf passwd group ld.so.cache; do cp /etc/$file etc || true; done
cp -r /etc/ssl etc
mount --bind etc /etc
mount --bind run /run
mount --bind local /usr/local
"#;

/// Where the page writes; elsewhere if the test has no file system of its own.
const WRITTEN: [&str; 3] = ["/etc/", "/run/", "/usr/local/"];

/// Where the page's brokers listen.
const PORTS: [u16; 4] = [1883, 1899, 8883, 18083];

/// As whom a test may have namespaces: as the root of a user namespace, or as who runs it.
const WAYS: [&[&str]; 2] = [&["--map-root-user"], &[]];

/// How much the kernel lets the page be kept apart from the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ground {
    /// Namespaces of its own, in one of `WAYS`.
    Namespaces(&'static [&'static str]),
    /// A directory: the page's paths are changed to lie in it, and its ports are the machine's.
    Directory,
}

impl Ground {
    fn of_this_machine(directory: &Path) -> Self {
        let mut ways = WAYS.into_iter().map(Self::Namespaces);
        // What the prologue does first, and what it does most.
        let probe = "ip link set lo up && mount --bind . /run";
        ways.find(|ground| {
            let tried = ground.command(probe, directory).output();
            tried.unwrap().status.success()
        })
        .unwrap_or(Self::Directory)
    }

    /// A command on this ground, with an end.
    fn command(self, script: &str, directory: &Path) -> Command {
        let mut command = Command::new("timeout");
        command.arg("120");
        if let Self::Namespaces(user) = self {
            command
                .args(["unshare", "--mount", "--net", "--pid"])
                .args(["--fork", "--kill-child", "--propagation", "private"])
                .args(user);
        }
        command
            .args(["bash", "-c", script])
            .current_dir(directory)
            .stdin(Stdio::null());
        command
    }

    /// What is run of these blocks.
    fn script(self, blocks: &str, directory: &Path) -> String {
        let script = format!("{PROLOGUE}set -x\n{blocks}");
        match self {
            Self::Namespaces(_) => format!("{APART}{script}"),
            Self::Directory => WRITTEN.iter().fold(script, |script, place| {
                script.replace(place, &format!("{}{place}", directory.display()))
            }),
        }
    }
}

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

/// A directory that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    /// With what the page expects of the repository's root.
    fn like_the_repository() -> Self {
        let path = std::env::temp_dir().join(format!("paloma-operating-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        let scratch = Self(path);
        fs::create_dir_all(scratch.0.join("target/release")).unwrap();
        let binary = env!("CARGO_BIN_EXE_paloma");
        fs::copy(binary, scratch.0.join("target/release/paloma")).unwrap();
        let unit = include_str!("../../../packaging/paloma.service");
        let user = include_str!("../../../packaging/paloma.sysusers");
        fs::create_dir(scratch.0.join("packaging")).unwrap();
        fs::write(scratch.0.join("packaging/paloma.service"), unit).unwrap();
        fs::write(scratch.0.join("packaging/paloma.sysusers"), user).unwrap();
        scratch
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

#[test]
fn every_command_does_what_the_page_says() {
    if !has(TOOLS) {
        return;
    }
    let scratch = Scratch::like_the_repository();
    let ground = Ground::of_this_machine(&scratch.0);
    if ground == Ground::Directory {
        say("no namespaces are allowed here: the page is run with its paths below a directory");
        let taken = |port: &&u16| TcpListener::bind(("127.0.0.1", **port)).is_err();
        if let Some(port) = PORTS.iter().find(taken) {
            return say(&format!("skipped: port {port} of the page is taken"));
        }
    }
    let run = blocks(PAGE).into_iter().filter(|(info, _)| *info == "sh");
    let run: String = run.map(|(_, block)| block).collect();
    let script = ground.script(&run, &scratch.0);
    let output = ground.command(&script, &scratch.0).output().unwrap();
    let trace = String::from_utf8_lossy(&output.stderr);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{trace}\n{said}");
    assert!(said.contains("paloma version "), "{said}");
}
