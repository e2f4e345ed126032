//! Brokers that keep what they took: started in a directory that outlives their process, stopped, killed and looked into.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::error::LoadError;
use crate::packet::Version;
use crate::target::Target;
use crate::{probe, setup};

/// How long a broker may take until it answers a CONNECT, with a full store to open.
const START_PATIENCE: Duration = Duration::from_secs(120);

/// How long it may take to end when it is asked to.
const STOP_PATIENCE: Duration = Duration::from_secs(60);

/// A broker with storage.
#[derive(Clone, Debug)]
pub(crate) enum Keeper {
    /// `paloma serve`.
    Paloma {
        program: PathBuf,
        /// A level of `[store] durability`; none at all: everything stays in memory.
        durability: Option<&'static str>,
        /// Lines of `[limits]`.
        limits: String,
    },
    /// Eclipse Mosquitto, which writes everything out every so many seconds and at its end.
    Mosquitto {
        program: PathBuf,
        autosave_seconds: u32,
    },
}

/// A broker that runs; dropping it kills it and leaves its files.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
    /// Where paloma has its metrics.
    admin: Option<SocketAddr>,
    /// From the start of its process to its first CONNACK.
    pub(crate) ready_after: Duration,
}

impl Keeper {
    /// Starts it over what is in `directory` and waits until a client is accepted.
    pub(crate) fn start(&self, directory: &Path) -> Result<Server, LoadError> {
        fs::create_dir_all(directory)?;
        // A path in a configuration stands for itself wherever the program is started.
        let directory = directory.canonicalize()?;
        let [address, admin] = free_addresses()?;
        let mut command = self.command(&directory, address, admin)?;
        command.stdin(Stdio::null());
        command.stdout(Stdio::null());
        command.stderr(fs::File::create(directory.join("stderr"))?);
        let begin = Instant::now();
        let mut server = Server {
            child: command.spawn()?,
            address,
            admin: matches!(self, Self::Paloma { .. }).then_some(admin),
            ready_after: Duration::ZERO,
        };
        server.wait_until_ready(begin)?;
        Ok(server)
    }

    fn command(
        &self,
        directory: &Path,
        address: SocketAddr,
        admin: SocketAddr,
    ) -> Result<Command, LoadError> {
        let text = directory
            .to_str()
            .ok_or(LoadError::Scenario("the directory's name is no text"))?;
        Ok(match self {
            Self::Paloma {
                program,
                durability,
                limits,
            } => {
                let store = durability.map_or("in_memory = true".to_owned(), |level| {
                    format!("path = '{text}/store'\ndurability = '{level}'")
                });
                let configuration = format!(
                    "[store]\n{store}\n\
                     [[listener]]\naddress = '{address}'\n\
                     [admin]\naddress = '{admin}'\n\
                     [limits]\n{limits}\n\
                     [sys]\ninterval_seconds = 0\n\
                     [log]\nlevel = 'error'\n"
                );
                let path = directory.join("paloma.toml");
                fs::write(&path, configuration)?;
                let mut command = Command::new(program);
                command.args(["serve", "--config"]).arg(path);
                command
            }
            Self::Mosquitto {
                program,
                autosave_seconds,
            } => {
                let port = address.port();
                let configuration = format!(
                    "listener {port} 127.0.0.1\n\
                     allow_anonymous true\n\
                     persistence true\n\
                     persistence_location {text}/\n\
                     autosave_interval {autosave_seconds}\n\
                     set_tcp_nodelay true\n\
                     log_dest none\n\
                     sys_interval 0\n\
                     max_queued_messages 0\n\
                     max_inflight_messages 1000\n"
                );
                let path = directory.join("mosquitto.conf");
                fs::write(&path, configuration)?;
                let mut command = Command::new(program);
                command.arg("-c").arg(path);
                command
            }
        })
    }
}

impl Server {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whom a load connects to.
    pub(crate) fn target(&self) -> Target {
        Target::new(self.address, Version::V311)
    }

    fn wait_until_ready(&mut self, begin: Instant) -> Result<(), LoadError> {
        let mut target = self.target();
        "ready".clone_into(&mut target.id_prefix);
        while setup::connect(&target, "probe").is_err() {
            if self.child.try_wait()?.is_some() {
                return Err(LoadError::Scenario("the broker ended while it started"));
            }
            if begin.elapsed() > START_PATIENCE {
                return Err(LoadError::Stalled("waiting for the broker's first CONNACK"));
            }
            thread::sleep(Duration::from_millis(5));
        }
        self.ready_after = begin.elapsed();
        Ok(())
    }

    /// Asks it to end, and says how long that took.
    pub(crate) fn stop(mut self) -> Result<Duration, LoadError> {
        let begin = Instant::now();
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        kill_process(
            pid.ok_or(LoadError::Scenario("a process has a number"))?,
            Signal::TERM,
        )?;
        while self.child.try_wait()?.is_none() {
            if begin.elapsed() > STOP_PATIENCE {
                return Err(LoadError::Stalled("waiting for the broker to end"));
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(begin.elapsed())
    }

    /// Ends it as `kill -9` does.
    pub(crate) fn kill(mut self) -> Result<(), LoadError> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    pub(crate) const fn has_metrics(&self) -> bool {
        self.admin.is_some()
    }

    /// One of its metrics, by its whole name.
    pub(crate) fn metric(&self, name: &str) -> Result<f64, LoadError> {
        let admin = self.admin;
        let admin = admin.ok_or(LoadError::Scenario("this broker has no metrics"))?;
        let text = fetch(admin, "/metrics")?;
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
            .and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok())
            .ok_or(LoadError::Scenario("the broker has no such metric"))
    }

    /// Bytes that it had the system write to disks.
    pub(crate) fn written_bytes(&self) -> Result<u64, LoadError> {
        Ok(probe::written_bytes(self.pid())?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Whatever fails here, the process is gone.
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

fn fetch(address: SocketAddr, path: &str) -> Result<String, LoadError> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// Two ports that nobody has, held at once so that they differ.
fn free_addresses() -> io::Result<[SocketAddr; 2]> {
    let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let second = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok([first.local_addr()?, second.local_addr()?])
}
