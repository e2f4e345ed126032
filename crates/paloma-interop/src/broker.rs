//! The broker under test, as a process on a free port.
//!
//! `PALOMA_TEST_BROKER=mosquitto` runs the suite against mosquitto instead of Paloma: that is how the suite itself
//! is checked, since a test that also fails there is more likely wrong than right.

use std::env;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::process::Process;
use crate::tools::{in_path, profile_directory};
use crate::transport::{Endpoint, Transport, Tunnel};

/// Which program is under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The `paloma` binary of this workspace.
    Paloma,
    /// The mosquitto broker of the system.
    Mosquitto,
}

impl Kind {
    /// As the environment says; Paloma unless told otherwise.
    ///
    /// # Panics
    /// If the environment names an unknown broker.
    #[must_use]
    pub fn under_test() -> Self {
        match env::var("PALOMA_TEST_BROKER").as_deref() {
            Err(_) | Ok("paloma") => Self::Paloma,
            Ok("mosquitto") => Self::Mosquitto,
            Ok(other) => panic!("PALOMA_TEST_BROKER is {other}, neither paloma nor mosquitto"),
        }
    }
}

/// True after a printed line if another broker than Paloma is under test, of which `reason` cannot be asked.
#[must_use]
pub fn skips_other_brokers(reason: &str) -> bool {
    let other = Kind::under_test() != Kind::Paloma;
    if other {
        println!("skipped: {:?} under test, and {reason}", Kind::under_test());
    }
    other
}

/// What a `paloma` is started with, beside the program itself.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// The text of its `paloma.toml`, where DIRECTORY stands for its directory. Without a listener it gets a plain one.
    pub configuration: String,
    /// Names and texts of the files beside it, which nobody else may read.
    pub files: Vec<(&'static str, String)>,
    /// How many files it may have open.
    pub files_max: Option<u32>,
}

/// A broker that listens on free loopback ports and keeps everything in memory.
#[derive(Debug)]
pub struct Broker {
    process: Process,
    /// Where the first listener is found by who speaks its transport.
    endpoint: Endpoint,
    /// The way there for all others.
    tunnel: Option<Tunnel>,
    /// Every listener's address in the order of the configuration, as `SCHEME://PLACE`.
    listeners: Vec<String>,
    directory: PathBuf,
}

impl Broker {
    /// Starts one with default limits.
    #[must_use]
    pub fn start() -> Self {
        Self::with_limits(&[])
    }

    /// Starts one with some limits changed, named as in the configuration file.
    ///
    /// # Panics
    /// If the broker does not start.
    #[must_use]
    pub fn with_limits(limits: &[(&str, u64)]) -> Self {
        match Kind::under_test() {
            Kind::Paloma => {
                let configuration = limits_section(limits);
                Self::with(Setup {
                    configuration,
                    ..Setup::default()
                })
            }
            Kind::Mosquitto => {
                let directory = fresh_directory();
                let (process, address) = start_mosquitto(&directory, limits);
                Self {
                    process,
                    endpoint: Endpoint::tcp(address),
                    tunnel: None,
                    listeners: vec![format!("tcp://{address}")],
                    directory,
                }
            }
        }
    }

    /// Starts a Paloma with one listener of the transport under test, and with more in its configuration and more files.
    #[must_use]
    pub fn with(more: Setup) -> Self {
        let mut setup = Transport::under_test().setup();
        setup.configuration += &more.configuration;
        setup.files.extend(more.files);
        Self::of_program(paloma(), &setup)
    }

    /// Starts a `paloma` binary as told.
    ///
    /// # Panics
    /// If the broker does not start.
    #[must_use]
    pub fn of_program(program: &Path, setup: &Setup) -> Self {
        let directory = fresh_directory();
        for (name, text) in &setup.files {
            let mut options = fs::OpenOptions::new();
            let mut file = options
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(directory.join(name))
                .unwrap();
            file.write_all(text.as_bytes()).unwrap();
        }
        let command = match setup.files_max {
            None => Command::new(program),
            Some(files) => {
                // The hard limit too, since the broker raises the soft one as far as it may.
                let mut command = Command::new("sh");
                command.args(["-c", &format!("ulimit -n {files}; exec \"$0\" \"$@\"")]);
                command.arg(program);
                command
            }
        };
        let place = directory.display().to_string();
        let configuration = setup.configuration.replace("DIRECTORY", &place);
        Self::of_paloma(command, directory, &configuration)
    }

    /// `command` is the program, or what ends by becoming it.
    fn of_paloma(command: Command, directory: PathBuf, configuration: &str) -> Self {
        let (process, listeners) = start_paloma(command, &directory, configuration);
        let endpoint = Endpoint::announced(&listeners[0], &directory);
        let is_plain = endpoint.transport == Transport::Tcp;
        let tunnel = (!is_plain).then(|| Tunnel::start(&endpoint));
        Self {
            process,
            endpoint,
            tunnel,
            listeners,
            directory,
        }
    }

    /// Where its first listener is reached by TCP, if need be through a tunnel.
    ///
    /// # Panics
    /// Never: a listener without an address has a tunnel.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        match &self.tunnel {
            Some(tunnel) => tunnel.address,
            None => self.listener(0),
        }
    }

    /// Where its first listener is reached over its own transport.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Where a listener is, by its place in the configuration.
    ///
    /// # Panics
    /// If there is none, or it has no address of the network.
    #[must_use]
    pub fn listener(&self, place: usize) -> SocketAddr {
        let (_, address) = self.listeners[place].split_once("://").unwrap();
        address.parse().unwrap()
    }

    /// Every listener as `SCHEME://PLACE`, in the order of the configuration.
    #[must_use]
    pub fn listeners(&self) -> &[String] {
        &self.listeners
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Resident memory in bytes, as the system counts it.
    ///
    /// # Panics
    /// If the system does not tell.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Waits until the broker has said that many times that it knows of no connection of this client any more.
    ///
    /// A client is done when it has closed its socket; until its broker has read that, deliveries to it go on. Each end
    /// counts, so `count` is a connection's number among those of its client id.
    ///
    /// # Panics
    /// If the broker does not say so.
    pub fn await_departure(&self, client_id: &str, count: usize) {
        let words = match Kind::under_test() {
            Kind::Paloma => (
                format!("client={client_id:?}"),
                &["client disconnected"][..],
            ),
            Kind::Mosquitto => (
                format!("Client {client_id} "),
                &["disconnected", "closed its connection"][..],
            ),
        };
        let what = format!("{client_id} is gone");
        self.process.await_lines(count, &what, |line| {
            line.contains(&words.0) && words.1.iter().any(|word| line.contains(word))
        });
    }

    /// Whether it still lives.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// Asks it to end, and returns how it did; how it had ended already, if so.
    pub fn terminate(mut self) -> ExitStatus {
        if self.is_running() {
            self.process.terminate()
        } else {
            self.process.wait()
        }
    }

    /// Asserts that it still lives.
    ///
    /// # Panics
    /// If it has ended.
    pub fn assert_alive(&mut self) {
        assert!(self.process.is_running(), "the broker has ended");
    }

    /// Ends a test: the broker lives, and on SIGTERM it ends with success.
    ///
    /// # Panics
    /// If either is not so.
    pub fn stop(mut self) {
        self.assert_alive();
        if Kind::under_test() == Kind::Mosquitto {
            // It sleeps through a SIGTERM that comes right after its start.
            return;
        }
        let status = self.process.terminate();
        assert!(status.success(), "the broker ended with {status}");
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.process.kill();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn start_paloma(
    mut command: Command,
    directory: &Path,
    configuration: &str,
) -> (Process, Vec<String>) {
    command
        .current_dir(directory)
        .args(["serve", "--in-memory"]);
    let own = configuration.matches("[[listener]]").count();
    if own == 0 {
        command.args(["--listen", "tcp://127.0.0.1:0"]);
    }
    if !configuration.is_empty() {
        fs::write(directory.join("paloma.toml"), configuration).unwrap();
        command.args(["--config", "paloma.toml"]);
    }
    let mut process = Process::start(&mut command);
    let listeners = (0..own.max(1)).map(|_| {
        process.find_line("the address it listens on", |line| {
            let (_, after) = line.split_once("listening on ")?;
            let end = after.find(char::is_whitespace);
            Some(after[..end.unwrap_or(after.len())].to_owned())
        })
    });
    let listeners = listeners.collect();
    (process, listeners)
}

fn limits_section(limits: &[(&str, u64)]) -> String {
    let mut section = String::new();
    if !limits.is_empty() {
        section.push_str("[limits]\n");
    }
    for (name, value) in limits {
        writeln!(section, "{name} = {value}").unwrap();
    }
    section
}

fn start_mosquitto(directory: &Path, limits: &[(&str, u64)]) -> (Process, SocketAddr) {
    let program = in_path("mosquitto").expect("mosquitto is installed where it is asked for");
    // Ports of the system's choice: one that was free a moment ago is not handed out again at once.
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let mut configuration = format!("listener {} 127.0.0.1\nallow_anonymous true\n", free.port());
    configuration
        .push_str("log_dest stderr\nlog_type all\nset_tcp_nodelay true\nmax_packet_size 2097152\n");
    for (name, value) in limits {
        match *name {
            "queue_messages_max" => writeln!(configuration, "max_queued_messages {value}").unwrap(),
            "inflight_max" => writeln!(configuration, "max_inflight_messages {value}").unwrap(),
            _ => {}
        }
    }
    let file = directory.join("mosquitto.conf");
    fs::write(&file, configuration).unwrap();
    let mut process = Process::start(Command::new(program).arg("-c").arg(file));
    process.find_line("it runs", |line| line.ends_with("running").then_some(()));
    (process, free)
}

/// The path of the `paloma` binary, built first unless `PALOMA_BIN` names one.
///
/// # Panics
/// If it does not build.
pub fn paloma() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(named) = env::var_os("PALOMA_BIN") {
            return named.into();
        }
        let profile = profile_directory();
        let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
        let mut build = Command::new(cargo);
        // With the features of the whole workspace, as `cargo xtask ci` has built it just before.
        build.args(["build", "--quiet", "--workspace", "--bin", "paloma"]);
        if profile.ends_with("release") {
            build.arg("--release");
        }
        build.arg("--target-dir").arg(profile.parent().unwrap());
        assert!(
            build.status().unwrap().success(),
            "the paloma binary does not build"
        );
        profile.join("paloma")
    })
}

fn fresh_directory() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("paloma-interop-{}-{number}", std::process::id());
    let directory = env::temp_dir().join(name);
    fs::create_dir_all(&directory).unwrap();
    directory
}
