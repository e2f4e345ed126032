//! A web server for the pages of one test, and the browser that opens them.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{env, fs, thread};

use serde_json::Value;

use crate::process::Process;
use crate::tools::Tool;

/// How long a page may take: a browser's first start on a busy machine is by far the most of it.
const PATIENCE: Duration = Duration::from_secs(240);
/// The largest body that a page may post.
const BODY_BYTES_MAX: usize = 1 << 20;

/// Serves the page with MQTT.js at both of loopback's names, which are two origins to a browser.
#[derive(Debug)]
pub struct Pages {
    address: SocketAddr,
    /// Where each page that has told its outcome sends the browser.
    next: Arc<Mutex<VecDeque<String>>>,
    outcomes: Receiver<Value>,
}

impl Pages {
    /// Serves what is installed; `None` after a printed line if something is missing.
    ///
    /// # Panics
    /// If the system has no port.
    #[must_use]
    pub fn start() -> Option<Self> {
        let script = Tool::MqttJs.find()?.join("mqtt/dist/mqtt.min.js");
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/browser/index.html");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let next = Arc::new(Mutex::new(VecDeque::new()));
        let (sender, outcomes) = channel();
        let site = Site {
            files: [
                ("/page", "text/html; charset=utf-8", page),
                ("/mqtt.min.js", "text/javascript", script),
            ],
            next: Arc::clone(&next),
            outcomes: sender,
        };
        thread::spawn(move || {
            let site = Arc::new(site);
            for stream in listener.incoming().flatten() {
                let site = Arc::clone(&site);
                thread::spawn(move || site.answer(stream));
            }
        });
        Some(Self {
            address,
            next,
            outcomes,
        })
    }

    /// The origin of pages that are opened under this name of loopback.
    #[must_use]
    pub fn origin(&self, host: &str) -> String {
        format!("http://{host}:{}", self.address.port())
    }

    /// Opens the page for each pair of a loopback name and a broker's URL, one after the other in one browser, and
    /// returns what each told.
    ///
    /// # Panics
    /// If one tells nothing in time.
    #[must_use]
    pub fn open(&self, browser: &Path, visits: &[(&str, String)]) -> Vec<Value> {
        let mut urls = visits
            .iter()
            .map(|(host, broker)| format!("{}/page?broker={broker}", self.origin(host)));
        let first = urls.next().expect("at least one visit");
        *self.next.lock().unwrap() = urls.collect();
        let profile = env::temp_dir().join(format!("paloma-browser-{}", std::process::id()));
        fs::create_dir(&profile).unwrap();
        let mut running = Process::start(
            Command::new(browser)
                .args(FLAGS)
                .args([&format!("--user-data-dir={}", profile.display()), &first]),
        );
        let outcomes = visits.iter().map(|visit| {
            let outcome = self.outcomes.recv_timeout(PATIENCE);
            outcome.unwrap_or_else(|error| panic!("{visit:?}: {error}"))
        });
        let outcomes = outcomes.collect();
        running.kill();
        // Its children may still write for a moment.
        let _ = fs::remove_dir_all(&profile);
        outcomes
    }
}

/// Nothing but the page: no sandbox, which root has none of, and no word to anybody but loopback.
const FLAGS: &[&str] = &[
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
];

/// What the server's threads share.
struct Site {
    files: [(&'static str, &'static str, PathBuf); 2],
    next: Arc<Mutex<VecDeque<String>>>,
    outcomes: Sender<Value>,
}

impl Site {
    /// Answers one request. A browser that goes away meanwhile is no failure.
    fn answer(&self, mut stream: TcpStream) {
        let Some((line, body)) = request(&stream) else {
            return;
        };
        let mut words = line.split(' ');
        let (method, target) = (words.next(), words.next().unwrap_or(""));
        let path = target.split('?').next().unwrap_or("");
        let file = self.files.iter().find(|(name, ..)| *name == path);
        let (status, kind, text) = match (method, file) {
            (Some("GET"), Some((_, kind, file))) => ("200 OK", *kind, fs::read(file).unwrap()),
            (Some("POST"), None) if path == "/outcome" => {
                let next = self.next.lock().unwrap().pop_front();
                let outcome = serde_json::from_slice(&body).unwrap();
                let _ = self.outcomes.send(outcome);
                ("200 OK", "text/plain", next.unwrap_or_default().into())
            }
            _ => ("404 Not Found", "text/plain", Vec::new()),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            text.len()
        );
        let _ = stream.write_all(&[head.as_bytes(), &text].concat());
    }
}

/// A request's first line and its body.
fn request(stream: &TcpStream) -> Option<(String, Vec<u8>)> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        if line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; BODY_BYTES_MAX.min(length)];
    reader.read_exact(&mut body).ok()?;
    Some((first, body))
}
