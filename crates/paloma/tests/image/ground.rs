//! Directories that stand for images: what a kernel allows of a container, without a container engine.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::tools::{find, has, say};

/// Who no user of this machine is, and most images' user without rights.
const NOBODY: (u32, u32) = (65532, 65532);

/// How long an installation may take; half a minute where nothing else runs.
const SECONDS_MAX: &str = "120";

/// Where programs are found outside and inside; containers begin with the same.
const SEARCHED: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How much of a container there can be here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ground {
    /// No root directory and no user of its own: nothing can be run as an image has it.
    Directory,
    /// The machine's own shell and tools with their libraries, and nothing else.
    Tools,
    /// The distribution that the image begins with, installed by debootstrap.
    Distribution,
}

/// A root directory with what the image begins with.
#[derive(Debug)]
pub(crate) struct Root {
    pub(crate) path: PathBuf,
    pub(crate) ground: Ground,
}

impl Root {
    /// A root like `image` at `path`, for steps that call these `tools`; says what it lacks.
    pub(crate) fn like(image: &str, tools: &[&str], path: &Path) -> Self {
        let _ = fs::remove_dir_all(path);
        fs::create_dir_all(path).unwrap();
        let mut root = Self {
            path: path.to_owned(),
            ground: Ground::Tools,
        };
        root.add_tools(tools);
        let mut probe = root.command(Some(NOBODY), &["/bin/sh", "-c", "exit 0"]);
        if !probe.output().is_ok_and(|output| output.status.success()) {
            say(
                "no chroot is allowed here: steps of the image are not run, and its user is whoever runs this test",
            );
            root.ground = Ground::Directory;
            return root;
        }
        match distribution(image) {
            Ok(base) => {
                fs::remove_dir_all(path).unwrap();
                let copied = Command::new("cp").arg("-a").args([&base, path]).status();
                assert!(copied.unwrap().success(), "{base:?}");
                root.ground = Ground::Distribution;
            }
            Err(why) => say(&format!(
                "{image} cannot be had, its steps are run with this machine's tools: {why}"
            )),
        }
        root
    }

    /// Where a path of the image is outside of it.
    pub(crate) fn outside(&self, inside: &str) -> PathBuf {
        self.path.join(inside.trim_start_matches('/'))
    }

    /// A command in the image, as root or as this user, with a container's environment.
    pub(crate) fn command(&self, user: Option<(u32, u32)>, words: &[&str]) -> Command {
        let mut command = Command::new("chroot");
        if let Some((user, group)) = user {
            command.arg(format!("--userspec={user}:{group}"));
            command.arg("--groups=");
        }
        command.arg(&self.path).args(words);
        contained(&mut command);
        command
    }

    /// The machine's shell and these programs, each with its libraries, where they are on the machine.
    fn add_tools(&self, programs: &[&str]) {
        // As Debian has it: a library's path may begin with either.
        for directory in ["bin", "lib", "lib64", "sbin"] {
            fs::create_dir_all(self.path.join("usr").join(directory)).unwrap();
            symlink(format!("usr/{directory}"), self.path.join(directory)).unwrap();
        }
        for program in ["sh"].iter().chain(programs) {
            let path = find(program).unwrap_or_else(|| panic!("{program}"));
            self.add(&path, &Path::new("/usr/bin").join(program));
        }
    }

    /// A program of the machine with its libraries.
    pub(crate) fn add(&self, program: &Path, to: &Path) {
        let linked = Command::new("ldd").arg(program).output().unwrap();
        let linked = String::from_utf8(linked.stdout).unwrap();
        let libraries = linked
            .split_whitespace()
            .filter(|word| word.starts_with('/'));
        let libraries = libraries.map(|path| (Path::new(path), Path::new(path)));
        for (path, to) in libraries.chain([(program, to)]) {
            let to = self.outside(to.to_str().unwrap());
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(path, to).unwrap();
        }
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.path));
    }
}

/// Gives a command what a container's first process has: nothing of whoever starts it.
pub(crate) fn contained(command: &mut Command) {
    command.env_clear().env("PATH", SEARCHED);
    command.stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
}

/// Debian as it was installed once in this target directory; or why it cannot be.
fn distribution(image: &str) -> Result<PathBuf, String> {
    let suite = suite(image).ok_or("only Debian can be installed")?;
    if !has(&["debootstrap"]) {
        return Err("there is no debootstrap".to_owned());
    }
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("image-{suite}"));
    if kept.exists() {
        return Ok(kept);
    }
    let archive = archive(suite).ok_or("apt knows no archive of it")?;
    let fresh = kept.with_extension(std::process::id().to_string());
    let mut install = Command::new("timeout");
    install.arg(SECONDS_MAX);
    // What it mounts is to end with it, however it ends.
    let apart = ["unshare", "--mount", "--propagation", "private"];
    let mut probe = Command::new(apart[0]);
    if probe
        .args(&apart[1..])
        .arg("true")
        .status()
        .unwrap()
        .success()
    {
        install.args(apart);
    }
    install.args(["debootstrap", "--variant=minbase", suite]);
    install.arg(&fresh).arg(&archive).stdin(Stdio::null());
    let output = install.output().unwrap();
    if !output.status.success() {
        drop(fs::remove_dir_all(&fresh));
        let said = String::from_utf8_lossy(&output.stdout);
        let last = said.lines().last().unwrap_or("it says nothing");
        return Err(format!("debootstrap: {last}"));
    }
    // What it was installed from; images do not have that either.
    fs::remove_dir_all(fresh.join("var/cache/apt/archives")).unwrap();
    fs::rename(&fresh, &kept).unwrap();
    Ok(kept)
}

/// `bookworm` of `debian:bookworm-slim`, or of another image's tag that ends so.
pub(crate) fn suite(image: &str) -> Option<&str> {
    let (_, tag) = image.split_once(':')?;
    let tag = tag.strip_suffix("-slim").unwrap_or(tag);
    let suite = tag.rsplit('-').next()?;
    suite
        .chars()
        .all(|c| c.is_ascii_lowercase())
        .then_some(suite)
}

/// Where this machine has packages of a suite from.
fn archive(suite: &str) -> Option<String> {
    let mut list = Command::new("apt-get");
    list.args(["indextargets", "--format", "$(RELEASE) $(REPO_URI)"]);
    let listed = String::from_utf8(list.output().ok()?.stdout).ok()?;
    let of_it = |line: &str| {
        let (release, archive) = line.split_once(' ')?;
        (release == suite).then(|| archive.to_owned())
    };
    listed.lines().find_map(of_it)
}
