//! `packaging/Dockerfile`, step by step, with a chroot in the place of a container.
//!
//! The first stage is read and not run: what it would build is the binary under test. The second is run as it is written, in the
//! distribution that it names if debootstrap can install that here, else among tools of this machine.
#![cfg(all(feature = "admin", feature = "clients", feature = "store"))]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a broken image ends the test"
)]

mod dockerfile;
mod ground;
#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::io::BufReader;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Child, Command, Output};

use dockerfile::{Stage, Step, parse};
use ground::{Ground, Root, contained, suite};
use support::tools::{has, say};
use support::{Lines, signal};

const DOCKERFILE: &str = include_str!("../../../../packaging/Dockerfile");

/// What steps and this test call.
const TOOLS: &[&str] = &["chroot", "ip", "ldd", "nsenter", "timeout", "unshare"];

/// Where a broker without configuration listens.
const DEFAULT_PORTS: [u16; 2] = [1883, 18083];

/// What the second stage leaves: a root directory and how a process in it begins.
struct Image {
    root: Root,
    user: Option<(u32, u32)>,
    directory: String,
    entrypoint: Vec<String>,
    arguments: Vec<String>,
    stop_signal: String,
}

impl Image {
    /// Does a stage's steps. What is copied from the stage `build` is the binary under test.
    fn of(stage: &Stage, built: &str, at: &Path) -> Self {
        let runs = stage.steps.iter().filter_map(Step::line);
        let words = runs.flat_map(|line| line.split_whitespace());
        let tools: Vec<&str> = words
            .filter(|word| support::tools::find(word).is_some())
            .collect();
        let mut image = Self {
            root: Root::like(&stage.image, &tools, at),
            user: None,
            directory: "/".to_owned(),
            entrypoint: Vec::new(),
            arguments: Vec::new(),
            stop_signal: String::new(),
        };
        for step in &stage.steps {
            image.take(step, built);
        }
        image
    }

    fn take(&mut self, step: &Step, built: &str) {
        match step {
            Step::Copy { from, sources, to } => {
                assert_eq!(from.as_deref(), Some("build"));
                assert_eq!(sources, &[built], "the build makes one file");
                let binary = Path::new(env!("CARGO_BIN_EXE_paloma"));
                match self.root.ground {
                    Ground::Tools => self.root.add(binary, Path::new(to)),
                    Ground::Directory | Ground::Distribution => {
                        let to = self.root.outside(to);
                        fs::create_dir_all(to.parent().unwrap()).unwrap();
                        fs::copy(binary, to).unwrap();
                    }
                }
            }
            Step::Run(line) if self.root.ground > Ground::Directory => {
                let mut run = self.root.command(self.user, &["/bin/sh", "-c", line]);
                let output = run.output().unwrap();
                assert!(output.status.success(), "{line}: {output:?}");
            }
            Step::Run(_) => {}
            Step::Workdir(path) => {
                fs::create_dir_all(self.root.outside(path)).unwrap();
                self.directory.clone_from(path);
            }
            Step::User(user, group) => self.user = Some((*user, *group)),
            Step::Expose(ports) => assert_eq!(ports[..], DEFAULT_PORTS),
            Step::StopSignal(name) => self.stop_signal.clone_from(name),
            Step::Entrypoint(words) => self.entrypoint.clone_from(words),
            Step::Cmd(words) => self.arguments.clone_from(words),
        }
    }

    /// What a container runs with these arguments, or with those of the image.
    fn command(&self, arguments: Option<&[&str]>) -> Command {
        let given = arguments.map(|words| words.iter().map(|word| (*word).to_owned()).collect());
        let words = [
            self.entrypoint.clone(),
            given.unwrap_or_else(|| self.arguments.clone()),
        ]
        .concat();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        if self.root.ground == Ground::Directory {
            let mut command = Command::new(self.root.outside(words[0]));
            command.args(&words[1..]);
            command.current_dir(self.root.outside(&self.directory));
            contained(&mut command);
            return command;
        }
        let enter = format!("cd {} && exec \"$@\"", self.directory);
        let start = [&["/bin/sh", "-c", &enter, "sh"][..], &words].concat();
        self.root.command(self.user, &start)
    }
}

/// The broker of a container.
struct Running {
    child: Child,
    log: Lines,
    /// HOST:PORT of its only listener.
    address: String,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let log = Lines::of(BufReader::new(child.stderr.take().unwrap()));
        let said = log.until(&["listening on tcp://"]);
        let (_, rest) = said.split_once("listening on tcp://").unwrap();
        let address = rest.split_whitespace().next().unwrap().to_owned();
        Self {
            child,
            log,
            address,
        }
    }

    /// Sends the image's signal, and gives what is said until the end.
    fn stop(mut self, image: &Image) -> String {
        let name = image.stop_signal.strip_prefix("SIG").unwrap();
        signal(&self.child, &format!("-{name}"));
        let said = self.log.rest();
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "{said}");
        said
    }

    /// The user and the group that the process has.
    fn user(&self) -> (u32, u32) {
        let process = fs::metadata(format!("/proc/{}", self.child.id())).unwrap();
        (process.uid(), process.gid())
    }
}

/// What a command prints that ends well.
fn out(mut command: Command) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let said = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{command:?}: {said}");
    String::from_utf8(stdout).unwrap()
}

/// The path that the file's own `docker run` line mounts a configuration at, and the arguments that it gives.
fn documented_run() -> (String, Vec<&'static str>) {
    let line = DOCKERFILE
        .lines()
        .find(|line| line.contains("docker run "))
        .unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    let mount = words.iter().position(|word| *word == "-v").unwrap();
    let image = words.iter().position(|word| *word == "paloma").unwrap();
    let inside = words[mount + 1].split(':').nth(1).unwrap();
    (inside.to_owned(), words[image + 1..].to_vec())
}

#[test]
fn the_binary_is_built_where_it_is_copied_from() {
    let stages = parse(DOCKERFILE);
    let [build, image] = &stages[..] else {
        panic!("{stages:?}")
    };
    assert_eq!(build.name.as_deref(), Some("build"));
    assert_eq!(built_by(build), "/src/target/dist/paloma");
    // Not older than the sources want, and its C library not newer than the image's.
    let (_, tag) = build.image.split_once(':').unwrap();
    assert!(tag.starts_with(env!("CARGO_PKG_RUST_VERSION")), "{tag}");
    assert_eq!(suite(&build.image), suite(&image.image));
}

/// What is built or left behind beside the sources is no part of the build's context.
#[test]
fn what_git_leaves_out_is_left_out() {
    let left_out = include_str!("../../../../packaging/Dockerfile.dockerignore");
    for pattern in include_str!("../../../../.gitignore").lines() {
        let name = pattern.trim_matches('/');
        let deep = format!("**/{name}");
        let is_left_out = left_out.lines().any(|line| line == name || line == deep);
        assert!(is_left_out, "{pattern}");
    }
}

/// The file that the first stage leaves, by its three steps.
fn built_by(build: &Stage) -> String {
    let [
        Step::Workdir(directory),
        Step::Copy {
            from: None,
            sources,
            to,
        },
        Step::Run(line),
    ] = &build.steps[..]
    else {
        panic!("{build:?}")
    };
    assert_eq!((&sources[..], &to[..]), (&[".".to_owned()][..], "."));
    assert_eq!(line, "cargo build --profile dist --locked -p paloma");
    format!("{directory}/target/dist/paloma")
}

#[test]
fn the_image_serves_as_the_dockerfile_says() {
    if !has(TOOLS) {
        return;
    }
    let stages = parse(DOCKERFILE);
    let at = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("image-{}", std::process::id()));
    let image = Image::of(&stages[1], &built_by(&stages[0]), &at);
    say(&format!("the image's ground is {:?}", image.root.ground));
    let (user, group) = image.user.unwrap();
    assert!(user > 0 && group > 0, "root is not needed");
    check_as_it_is(&image);
    check_configured(&image);
}

/// Without arguments: on the container's loopback, with a store of its own, which the next container with it has too.
fn check_as_it_is(image: &Image) {
    let has_network = Command::new("unshare")
        .args(["--net", "ip", "link", "set", "lo", "up"])
        .output();
    let has_network = has_network.is_ok_and(|output| output.status.success());
    let is_taken = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_err();
    if !has_network && DEFAULT_PORTS.iter().any(is_taken) {
        return say(
            "skipped: no network of its own is allowed here, and the default ports are taken",
        );
    }
    for expected in ["first", "second"] {
        let mut command = image.command(None);
        if has_network {
            let enter = "ip link set lo up && exec \"$@\"";
            command = inside(&["unshare", "--net", "sh", "-c", enter, "sh"], &command);
        }
        let running = Running::start(command);
        assert_eq!(running.address, "127.0.0.1:1883");
        if image.root.ground > Ground::Directory {
            assert_eq!(Some(running.user()), image.user);
        }
        // What `docker exec` does.
        let network = format!("--net=/proc/{}/ns/net", running.child.id());
        let client = |arguments: &[&str]| {
            let command = image.command(Some(arguments));
            if has_network {
                out(inside(&["nsenter", &network], &command))
            } else {
                out(command)
            }
        };
        // By number: names are looked up in files that not every ground has.
        let words = ["-h", "127.0.0.1", "-q", "1", "-t", "kept"];
        if expected == "first" {
            client(&[&["pub", "-m", "by the store", "-r"], &words[..]].concat());
        }
        let kept = client(&[&["sub", "-C", "1", "-W", "60"], &words[..]].concat());
        assert_eq!(kept, "by the store\n", "{expected}");
        let said = running.stop(image);
        assert!(said.contains("SIGTERM: stopping"), "{said}");
    }
    let store = image.root.outside(&image.directory).join("paloma-data");
    let store = fs::metadata(store).unwrap();
    assert_eq!(store.permissions().mode() & 0o777, 0o700);
    if image.root.ground > Ground::Directory {
        assert_eq!(Some((store.uid(), store.gid())), image.user);
    }
}

/// A command that another one leads to.
fn inside(words: &[&str], command: &Command) -> Command {
    let mut outer = Command::new(words[0]);
    outer.args(&words[1..]).arg(command.get_program());
    outer.args(command.get_args());
    if let Some(directory) = command.get_current_dir() {
        outer.current_dir(directory);
    }
    contained(&mut outer);
    outer
}

/// With a configuration, as the file's first lines say: clients of other machines come in.
fn check_configured(image: &Image) {
    let (configuration, arguments) = documented_run();
    let outside = image.root.outside(&configuration);
    fs::create_dir_all(outside.parent().unwrap()).unwrap();
    let text = "[admin]\naddress = ''\n[[listener]]\naddress = '127.0.0.1:0'\n";
    fs::write(&outside, text).unwrap();
    // As a mounted file is: root's, and readable.
    fs::set_permissions(&outside, fs::Permissions::from_mode(0o644)).unwrap();
    let mut arguments: Vec<&str> = arguments;
    if image.root.ground == Ground::Directory {
        let path = arguments.iter_mut().find(|word| **word == configuration);
        *path.unwrap() = outside.to_str().unwrap();
    }
    let running = Running::start(image.command(Some(&arguments)));
    let (host, port) = running.address.rsplit_once(':').unwrap();
    let client = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_paloma"));
        command.args(arguments).args(["-h", host, "-p", port]);
        contained(&mut command);
        out(command)
    };
    client(&["pub", "-q", "1", "-r", "-t", "hall/light", "-m", "on"]);
    let received = client(&["sub", "-t", "hall/+", "-C", "1", "-v", "-W", "60"]);
    assert_eq!(received, "hall/light on\n");
    running.stop(image);
}
