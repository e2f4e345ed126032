//! Some cycles on one directory: start, load, kill; at the end everybody comes to rest and the history is judged.

use std::cell::{Cell, RefCell};
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use paloma_interop::process::Process;
use paloma_interop::random::Random;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep};

use super::drive::{Shared, converse, keep};
use super::{Plan, Server, ServerSpec};
use crate::cast::{Cast, Size};
use crate::check::{Verdict, check};
use crate::client::Client;
use crate::history::{Event, History};
use crate::publisher::Publisher;
use crate::subscriber::Subscriber;
use crate::watcher::Watcher;

/// How long a broker lives after it is ready, in milliseconds.
const LIFE_MILLIS: (usize, usize) = (50, 2_000);

/// Rest is given up on when nothing has happened for so long.
const SILENCE: Duration = Duration::from_secs(15);

/// How long retained messages may take to come.
const WATCH: Duration = Duration::from_secs(30);

/// What a series has shown.
#[derive(Debug)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// Kills.
    pub cycles: u64,
    /// The judgement.
    pub verdict: Verdict,
    /// The time from the start of the process to its listening, of each restart.
    pub restarts: Vec<Duration>,
    /// Directory and trace, which are left behind if something is wrong.
    pub directory: PathBuf,
}

/// Runs one series.
///
/// # Panics
/// If the broker does not come up.
#[must_use]
pub fn run_series(plan: &Plan, seed: u64, cycles: u64) -> Outcome {
    let name = format!("crash-{}-{}-{seed}", std::process::id(), plan.durability);
    let directory = plan.root.join(name);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let spec = ServerSpec::new(&plan.program, &directory, &plan.durability);
    let series = Series::new(spec, seed);
    let (history, restarts) = LocalSet::new().block_on(&runtime, series.run(cycles));
    let cast = Cast::new(seed, Size::FULL);
    let verdict = check(&cast, &history);
    if verdict.is_clean() {
        let _ = fs::remove_dir_all(&directory);
    } else {
        let cast = format!("{cast:#?}\n");
        fs::write(directory.join("trace.txt"), cast + &history.trace()).unwrap();
    }
    Outcome {
        seed,
        cycles,
        verdict,
        restarts,
        directory,
    }
}

struct Series {
    spec: ServerSpec,
    cast: Cast,
    shared: Rc<Shared>,
    /// What the harness itself decides by.
    random: Random,
    clients: Vec<Rc<RefCell<dyn Client>>>,
    broker: watch::Sender<Option<SocketAddr>>,
    watches: u32,
    restarts: Vec<Duration>,
}

impl Series {
    fn new(spec: ServerSpec, seed: u64) -> Self {
        let cast = Cast::new(seed, Size::FULL);
        let mut clients: Vec<Rc<RefCell<dyn Client>>> = Vec::new();
        for index in 0..cast.publishers.len() as u16 {
            clients.push(Rc::new(RefCell::new(Publisher::new(&cast, index))));
        }
        for index in 0..cast.subscribers.len() as u16 {
            clients.push(Rc::new(RefCell::new(Subscriber::new(&cast, index))));
        }
        Self {
            spec,
            cast,
            shared: Rc::new(Shared {
                history: RefCell::new(History::new()),
                random: RefCell::new(Random::new(seed ^ 0xC11E_4175)),
                open: Cell::new(0),
            }),
            random: Random::new(seed ^ 0xD00D),
            clients,
            broker: watch::Sender::new(None),
            watches: 0,
            restarts: Vec::new(),
        }
    }

    async fn run(mut self, cycles: u64) -> (History, Vec<Duration>) {
        for client in &self.clients {
            let task = keep(
                Rc::clone(client),
                Rc::clone(&self.shared),
                self.broker.subscribe(),
            );
            tokio::task::spawn_local(task);
        }
        for cycle in 1..=cycles as u32 {
            let server = self.start(cycle).await;
            let life = self.random.between(LIFE_MILLIS.0, LIFE_MILLIS.1);
            sleep(Duration::from_millis(life as u64)).await;
            self.broker.send_replace(None);
            server.kill();
            // What the broker had sent still comes.
            while self.shared.open.get() > 0 {
                sleep(Duration::from_millis(1)).await;
            }
            self.add(Event::Crashed(cycle));
            if self.random.between(0, 6) == 0 {
                self.kill_while_it_recovers().await;
            }
        }
        for client in &self.clients {
            client.borrow_mut().calm();
        }
        let server = self.start(cycles as u32 + 1).await;
        self.come_to_rest().await;
        self.watch(server.address()).await;
        self.broker.send_replace(None);
        let status = server.terminate();
        if !status.success() {
            self.add(Event::Foul(format!("the broker ended with {status}")));
        }
        (self.shared.history.take(), self.restarts)
    }

    /// Starts the broker, looks at the retained messages while nobody publishes, and lets the clients in.
    async fn start(&mut self, cycle: u32) -> Server {
        let before = Instant::now();
        let server = Server::start(&self.spec);
        self.restarts.push(before.elapsed());
        self.add(Event::Recovered(cycle));
        self.watch(server.address()).await;
        self.broker.send_replace(Some(server.address()));
        server
    }

    async fn kill_while_it_recovers(&mut self) {
        let mut process = Process::start(&mut self.spec.command());
        let life = self.random.between(0, 60);
        sleep(Duration::from_millis(life as u64)).await;
        process.kill();
    }

    async fn watch(&mut self, address: SocketAddr) {
        self.watches += 1;
        let watcher = Watcher::new(&self.cast, &self.shared.history.borrow(), self.watches);
        let watcher = RefCell::new(watcher);
        if let Ok(stream) = TcpStream::connect(address).await {
            converse(&watcher, &self.shared, stream, Some(Instant::now() + WATCH)).await;
        }
        watcher
            .borrow()
            .finish(&mut self.shared.history.borrow_mut());
    }

    /// Waits until nobody owes or is owed anything, or nothing happens any more.
    async fn come_to_rest(&mut self) {
        let mut seen = 0;
        let mut changed = Instant::now();
        loop {
            sleep(Duration::from_millis(100)).await;
            let len = self.shared.history.borrow().events().len();
            if len != seen {
                (seen, changed) = (len, Instant::now());
                continue;
            }
            let is_at_rest = self
                .clients
                .iter()
                .all(|client| client.borrow().is_at_rest());
            if changed.elapsed() > SILENCE {
                let mut restless = self
                    .clients
                    .iter()
                    .filter(|client| !client.borrow().is_at_rest());
                if let Some(client) = restless.next() {
                    let name = client.borrow().name().to_owned();
                    self.add(Event::Foul(format!("{name} never comes to rest")));
                }
                return;
            }
            if is_at_rest && check(&self.cast, &self.shared.history.borrow()).lost == 0 {
                return;
            }
        }
    }

    fn add(&self, event: Event) {
        self.shared.history.borrow_mut().add(event);
    }
}
