//! A durable broker as a process.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use paloma_interop::process::Process;

/// How a broker is started on a directory of its own.
#[derive(Clone, Debug)]
pub struct ServerSpec {
    /// The binary.
    pub program: PathBuf,
    /// What stands before it on the command line: a tracer, a limit.
    pub wrapper: Vec<String>,
    /// The directory of its configuration; its data are in `data` inside unless `data` says otherwise.
    pub directory: PathBuf,
    /// The store's directory.
    pub data: PathBuf,
    /// Lines of `[store]`; `None` is a broker without a store.
    pub store: Option<String>,
    /// Lines of `[limits]`.
    pub limits: String,
}

/// Roomy enough that nothing of a run is dropped for want of room.
const LIMITS: &str = "queue_messages_max = 1_000_000\nqueue_bytes_max = 1_073_741_824\n\
    connections_per_second_max = 100_000\nconnections_per_second_per_address_max = 100_000\n";

impl ServerSpec {
    /// One with this level of durability; `memory` is a broker without a store.
    #[must_use]
    pub fn new(program: &Path, directory: &Path, durability: &str) -> Self {
        Self {
            program: program.to_owned(),
            wrapper: Vec::new(),
            directory: directory.to_owned(),
            data: directory.join("data"),
            store: (durability != "memory").then(|| format!("durability = \"{durability}\"\n")),
            limits: LIMITS.to_owned(),
        }
    }

    /// The command that runs it.
    ///
    /// # Panics
    /// If its configuration cannot be written.
    #[must_use]
    pub fn command(&self) -> Command {
        fs::create_dir_all(&self.directory).unwrap();
        let file = self.directory.join("paloma.toml");
        let store = self.store.as_deref().unwrap_or("in_memory = true\n");
        let limits = &self.limits;
        let text = format!("[store]\n{store}[limits]\n{limits}[admin]\naddress = \"\"\n");
        fs::write(&file, text).unwrap();
        let mut words = self.wrapper.iter();
        let mut command = match words.next() {
            None => Command::new(&self.program),
            Some(first) => {
                let mut command = Command::new(first);
                command.args(words).arg(&self.program);
                command
            }
        };
        command.current_dir(&self.directory);
        command.args(["serve", "--listen", "tcp://127.0.0.1:0", "--config"]);
        command.arg(file);
        if self.store.is_some() {
            command.arg("--data").arg(&self.data);
        }
        command
    }
}

/// A running broker; killed when dropped.
#[derive(Debug)]
pub struct Server {
    /// The process, for its lines.
    pub process: Process,
    address: SocketAddr,
}

impl Server {
    /// Starts it and waits until it listens.
    ///
    /// # Panics
    /// If it does not.
    #[must_use]
    pub fn start(spec: &ServerSpec) -> Self {
        let mut process = Process::start(&mut spec.command());
        let address = process.find_line("the address it listens on", listens_on);
        Self { process, address }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it as a crash does.
    pub fn kill(mut self) {
        self.process.kill();
    }

    /// Asks it to end, and waits.
    #[must_use]
    pub fn terminate(mut self) -> ExitStatus {
        self.process.terminate()
    }
}

/// The address in the line that says it.
#[must_use]
pub fn listens_on(line: &str) -> Option<SocketAddr> {
    let (_, after) = line.split_once("listening on tcp://")?;
    let end = after.find(|c: char| !(c.is_ascii_digit() || ".:".contains(c)));
    after[..end.unwrap_or(after.len())].parse().ok()
}
