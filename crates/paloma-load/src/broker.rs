//! Brokers under test as child processes: started on a free port of the loopback interface, ended when dropped.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::LoadError;
use crate::packet::Version;

/// How long a broker may take until it accepts connections.
const START_PATIENCE: Duration = Duration::from_secs(10);

/// A broker that can be started any number of times.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its column in the tables.
    pub name: String,
    /// What it is.
    pub kind: Kind,
}

/// How a candidate is started, in a directory of its own: paths of binaries are absolute, or looked up in `PATH`.
#[derive(Clone, Debug)]
pub enum Kind {
    /// This program's reference server.
    Floor {
        /// This program.
        program: PathBuf,
    },
    /// Eclipse Mosquitto.
    Mosquitto {
        /// Its binary.
        program: PathBuf,
    },
    /// `paloma serve`.
    Paloma {
        /// Its binary.
        program: PathBuf,
    },
    /// rumqttd, which has a listener for each protocol version.
    Rumqttd {
        /// Its binary.
        program: PathBuf,
    },
    /// The broker of mqttv5-cli.
    Mqttv5 {
        /// Its binary.
        program: PathBuf,
    },
    /// Anything else.
    Command {
        /// Its binary.
        program: PathBuf,
        /// In these `{port}` stands for the port.
        arguments: Vec<String>,
    },
}

impl Candidate {
    /// Whether it can do more than forward by exact topic.
    #[must_use]
    pub const fn is_broker(&self) -> bool {
        !matches!(self.kind, Kind::Floor { .. })
    }

    /// Starts it on the cores this thread is bound to and waits until it accepts connections.
    ///
    /// # Errors
    /// If it does not start, or ends at once.
    pub fn start(&self, version: Version) -> Result<RunningBroker, LoadError> {
        let port = free_port()?;
        let directory = std::env::temp_dir().join(format!("paloma-load-{port}"));
        fs::create_dir_all(&directory)?;
        let mut command = self.command(port, version, &directory)?;
        command.current_dir(&directory).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut running = RunningBroker {
            child: command.spawn()?,
            address,
            directory,
        };
        running.wait_until_ready()?;
        Ok(running)
    }

    fn command(&self, port: u16, version: Version, directory: &Path) -> io::Result<Command> {
        let configured = |name: &str, text: String| {
            let path = directory.join(name);
            fs::write(&path, text).map(|()| path)
        };
        Ok(match &self.kind {
            Kind::Floor { program } => {
                let mut command = Command::new(program);
                command.args(["floor", "--listen", &format!("127.0.0.1:{port}")]);
                command
            }
            Kind::Mosquitto { program } => {
                let path = configured("mosquitto.conf", mosquitto_configuration(port))?;
                let mut command = Command::new(program);
                command.arg("-c").arg(path);
                command
            }
            Kind::Paloma { program } => {
                let path = configured("paloma.toml", paloma_configuration(port))?;
                let mut command = Command::new(program);
                command.args(["serve", "--in-memory", "--config"]).arg(path);
                command
            }
            Kind::Rumqttd { program } => {
                let path = configured("rumqttd.toml", rumqttd_configuration(port, version))?;
                let mut command = Command::new(program);
                command.arg("-q").arg("-c").arg(path);
                command
            }
            Kind::Mqttv5 { program } => {
                let mut command = Command::new(program);
                command.args(["broker", "--host", &format!("127.0.0.1:{port}")]);
                command.args(["--allow-anonymous", "--storage-backend", "memory"]);
                command
            }
            Kind::Command { program, arguments } => {
                let port = port.to_string();
                let mut command = Command::new(program);
                command.args(arguments.iter().map(|word| word.replace("{port}", &port)));
                command
            }
        })
    }
}

/// Limits are raised where a scenario would meet them: what is compared is work, not refusals.
fn mosquitto_configuration(port: u16) -> String {
    format!(
        "listener {port} 127.0.0.1\n\
         allow_anonymous true\n\
         persistence false\n\
         set_tcp_nodelay true\n\
         log_dest none\n\
         sys_interval 0\n\
         max_queued_messages 0\n\
         max_inflight_messages 1000\n"
    )
}

fn paloma_configuration(port: u16) -> String {
    format!(
        "[store]\n\
         in_memory = true\n\
         [[listener]]\n\
         address = \"127.0.0.1:{port}\"\n\
         [limits]\n\
         connections_max = 19000\n\
         sessions_max = 1_100_000\n\
         retained_messages_max = 2_000_000\n\
         inflight_max = 1000\n\
         receive_maximum = 1000\n\
         queue_messages_max = 100_000\n\
         subscriptions_per_client_max = 100_000\n\
         wildcard_levels_per_client_max = 400_000\n\
         [sys]\n\
         interval_seconds = 0\n\
         [log]\n\
         level = \"error\"\n"
    )
}

/// Its connections wait a millisecond for each other by default; here they do not.
fn rumqttd_configuration(port: u16, version: Version) -> String {
    let section = match version {
        Version::V311 => "v4",
        Version::V5 => "v5",
    };
    format!(
        "id = 0\n\
         [router]\n\
         id = 0\n\
         max_connections = 20010\n\
         max_outgoing_packet_count = 200\n\
         max_segment_size = 104857600\n\
         max_segment_count = 10\n\
         [{section}.1]\n\
         name = \"load\"\n\
         listen = \"127.0.0.1:{port}\"\n\
         next_connection_delay_ms = 0\n\
         [{section}.1.connections]\n\
         connection_timeout_ms = 60000\n\
         max_payload_size = 20480000\n\
         max_inflight_count = 1000\n\
         dynamic_filters = true\n"
    )
}

/// A broker that runs; dropping it kills it.
#[derive(Debug)]
pub struct RunningBroker {
    child: Child,
    address: SocketAddr,
    directory: PathBuf,
}

impl RunningBroker {
    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn wait_until_ready(&mut self) -> Result<(), LoadError> {
        let begin = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            if self.child.try_wait()?.is_some() {
                return Err(LoadError::Scenario("the broker ended while it started"));
            }
            if begin.elapsed() > START_PATIENCE {
                return Err(LoadError::Stalled("waiting for the broker's listener"));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for RunningBroker {
    fn drop(&mut self) {
        // Whatever fails here, the process is gone or was never ours.
        let _gone = self.child.kill();
        let _status = self.child.wait();
        let _left = fs::remove_dir_all(&self.directory);
    }
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}
