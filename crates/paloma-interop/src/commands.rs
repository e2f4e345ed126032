//! The command-line publishers and subscribers, which share their flags.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::broker::paloma;
use crate::process::{Process, Stream};
use crate::tools::{Tool, say};
use crate::transport::{Endpoint, Transport};

/// Whose commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// `mosquitto_pub` and `mosquitto_sub`.
    Mosquitto,
    /// `paloma pub` and `paloma sub`.
    Paloma,
}

/// A family's two commands with the broker's address filled in.
#[derive(Debug)]
pub struct Commands {
    publish: Vec<PathBuf>,
    subscribe: Vec<PathBuf>,
    place: Vec<String>,
}

impl Commands {
    /// The commands of `family`, or `None` after a printed line.
    #[must_use]
    pub fn find(family: Family, endpoint: &Endpoint) -> Option<Self> {
        let Some(place) = place(family, endpoint) else {
            say(&format!(
                "skipped: {family:?} has no commands for {endpoint}"
            ));
            return None;
        };
        let (publish, subscribe) = match family {
            Family::Mosquitto => (
                vec![Tool::MosquittoPub.find()?],
                vec![Tool::MosquittoSub.find()?],
            ),
            Family::Paloma => (
                vec![paloma().into(), "pub".into()],
                vec![paloma().into(), "sub".into()],
            ),
        };
        Some(Self {
            publish,
            subscribe,
            place,
        })
    }

    /// Publishes, asserting success.
    ///
    /// # Panics
    /// If the command fails.
    pub fn publish(&self, arguments: &[&str]) {
        let output = self.try_publish(arguments, b"");
        assert!(output.status.success(), "publish {arguments:?}: {output:?}");
    }

    /// Runs the publisher to its end with some standard input.
    ///
    /// # Panics
    /// If it cannot be run.
    #[must_use]
    pub fn try_publish(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut child = self
            .command(&self.publish, arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Dropped at the end of the statement, which ends the child's input.
        let _ = child.stdin.take().unwrap().write_all(input);
        child.wait_with_output().unwrap()
    }

    /// Starts a subscriber and returns when its subscription is in force.
    #[must_use]
    pub fn subscribe(&self, arguments: &[&str]) -> Process {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let ready = &format!("commands/ready/{}", COUNT.fetch_add(1, Ordering::Relaxed));
        self.publish(&["-t", ready, "-m", ready, "-r", "-q", "1"]);
        // One SUBSCRIBE holds all filters, so the retained message of the last says that all are there.
        let arguments = [arguments, &["-t", ready]].concat();
        let mut subscriber = Process::start(&mut self.command(&self.subscribe, &arguments));
        subscriber.find_line("the retained mark", |line| {
            line.contains(ready).then_some(())
        });
        subscriber
    }

    /// Runs a subscriber to its end, and returns its lines and its exit code.
    ///
    /// # Panics
    /// If it does not end.
    #[must_use]
    pub fn collect(&self, arguments: &[&str]) -> (Vec<String>, Option<i32>) {
        let mut subscriber = Process::start(&mut self.command(&self.subscribe, arguments));
        let lines = subscriber.rest_of(Stream::Out);
        (lines, subscriber.wait().code())
    }

    fn command(&self, program: &[PathBuf], arguments: &[&str]) -> Command {
        let mut command = Command::new(&program[0]);
        command.args(&program[1..]);
        command.args(&self.place).args(arguments);
        command
    }
}

/// The arguments that name a broker, if the commands of `family` speak its transport.
fn place(family: Family, endpoint: &Endpoint) -> Option<Vec<String>> {
    let mut place: Vec<String> = match (family, endpoint.transport) {
        (_, Transport::Tcp) | (Family::Mosquitto, Transport::Tls) => {
            let port = endpoint.port.to_string();
            vec![
                "-h".to_owned(),
                "127.0.0.1".to_owned(),
                "-p".to_owned(),
                port,
            ]
        }
        (Family::Mosquitto, Transport::Unix) => {
            vec!["--unix".to_owned(), endpoint.socket.display().to_string()]
        }
        (Family::Mosquitto, Transport::WebSocket | Transport::SecureWebSocket) => return None,
        (Family::Paloma, _) => vec!["-L".to_owned(), endpoint.url.clone()],
    };
    if let Some(authority) = &endpoint.authority {
        place.extend(["--cafile".to_owned(), authority.display().to_string()]);
    }
    Some(place)
}
