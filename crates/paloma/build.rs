//! Has the linker make a build for size smaller, by what this linker and this machine's loader know.

use std::{
    env,
    ffi::OsString,
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

/// Functions and constants of the same bytes become one. lld, mold and gold know it, and spare functions that differ in how they
/// unwind. No code here, ours or others', takes two of them for different by their addresses.
const FOLD: &str = "-Wl,--icf=all";
/// Relocations take an eighth. The loader of glibc 2.36 and later knows them; an older one refuses the binary, which
/// names the version that it wants.
const PACK: &str = "-Wl,-z,pack-relative-relocs";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let level = env::var_os("OPT_LEVEL");
    if !level.is_some_and(|level| level == "z" || level == "s") {
        return;
    }
    let Some(probe) = Probe::new() else {
        return;
    };
    if probe.links(FOLD) {
        println!("cargo::rustc-link-arg-bins={FOLD}");
    }
    let is_native = env::var_os("HOST") == env::var_os("TARGET");
    if is_native && probe.links(PACK) && probe.starts() {
        println!("cargo::rustc-link-arg-bins={PACK}");
    }
}

/// A program that does nothing, linked as the binary will be.
struct Probe {
    compiler: OsString,
    /// Target, linker and `RUSTFLAGS`.
    arguments: Vec<OsString>,
    source: PathBuf,
    binary: PathBuf,
}

impl Probe {
    /// `None` where cargo does not say how it builds, or the program cannot be written.
    fn new() -> Option<Self> {
        let directory = PathBuf::from(env::var_os("OUT_DIR")?);
        let mut arguments = vec!["--target".into(), env::var_os("TARGET")?];
        if let Some(linker) = env::var_os("RUSTC_LINKER") {
            arguments.push("-C".into());
            let mut option = OsString::from("linker=");
            option.push(linker);
            arguments.push(option);
        }
        let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
        let flags = flags.split('\u{1f}').filter(|flag| !flag.is_empty());
        arguments.extend(flags.map(OsString::from));
        let probe = Self {
            compiler: env::var_os("RUSTC")?,
            arguments,
            source: directory.join("probe.rs"),
            binary: directory.join("probe"),
        };
        fs::write(&probe.source, "fn main() {}\n").ok()?;
        Some(probe)
    }

    fn links(&self, argument: &str) -> bool {
        let mut command = Command::new(&self.compiler);
        command.args(&self.arguments);
        command.arg("-C").arg(format!("link-arg={argument}"));
        command.arg("-o").arg(&self.binary).arg(&self.source);
        succeeds(&mut command)
    }

    fn starts(&self) -> bool {
        succeeds(&mut Command::new(&self.binary))
    }
}

fn succeeds(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let status = command.stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}
