//! How long a full store takes to be ready after a clean stop and after a kill, and in how much memory:
//! `cargo bench -p paloma-bench --bench store_scale -- 1000000 100000` for so many queued messages of 200 bytes and sessions.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use paloma_broker::store::{
    LoadRequest, MessageId, Owner, QueueEntry, Recovered, SessionId, SessionRecord, Store,
    StoreBatch, StoreOp, SubscriptionRecord,
};
use paloma_codec::{Message, MessageParts, PublishProperties, Qos};
use paloma_store_redb::{Options, RedbStore};
use paloma_topic::TopicNameRef;

const OPEN: &str = "open";
const GROUP: u64 = 512;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let [OPEN, path, end] = words.as_slice() {
        return open(Path::new(path), *end == "close");
    }
    let mut numbers = words.iter().filter_map(|word| word.parse().ok());
    let messages = numbers.next().unwrap_or(20_000);
    let sessions = numbers.next().unwrap_or(2_000);
    let path = std::env::temp_dir().join(format!("paloma-scale-{}", std::process::id()));
    fill(&path, messages, sessions);
    for (what, end) in [
        ("after a kill", "kill"),
        ("after a kill", "close"),
        ("after a clean stop", "kill"),
    ] {
        print(&format!("{what}: "));
        let program = std::env::current_exe().expect("this program has a path");
        let status = Command::new(program).arg(OPEN).arg(&path).arg(end).status();
        assert!(status.is_ok_and(|status| status.success()));
    }
    drop(std::fs::remove_dir_all(&path));
}

#[expect(clippy::print_stdout, reason = "it is what this program is for")]
fn print(text: &str) {
    use std::io::Write;
    print!("{text}");
    drop(std::io::stdout().flush());
}

fn fill(path: &Path, messages: u64, sessions: u64) {
    let mut store = RedbStore::open(path, &Options::default()).expect("a store can be made");
    let mut commit = |ops| {
        let batch = StoreBatch {
            ops,
            ..StoreBatch::default()
        };
        store.commit(&mut vec![batch]).expect("the disk works");
    };
    let begun = Instant::now();
    for first in (1..=sessions).step_by(1_000) {
        let ids = first..(first + 1_000).min(sessions + 1);
        commit(ids.flat_map(session).collect());
    }
    let filled = Instant::now();
    for first in (1..=messages).step_by(512) {
        let ids = first..(first + GROUP).min(messages + 1);
        commit(ids.flat_map(|id| publish(id, sessions)).collect());
    }
    let rate = messages as f64 / filled.elapsed().as_secs_f64();
    let written = store.usage().written_bytes / messages;
    let file = store.usage().file_bytes >> 20;
    print(&format!(
        "{sessions} sessions in {:.1?}, {messages} messages at {rate:.0}/s, {written} B written each, file {file} MiB\n",
        filled - begun
    ));
}

fn session(id: u64) -> [StoreOp; 2] {
    let record = SessionRecord {
        owner: Owner {
            client_id: format!("client-{id}").into(),
            ..Owner::default()
        },
        expiry_seconds: u32::MAX,
        disconnected_at: None,
        maybe_sent: MessageId(0),
    };
    let subscription = SubscriptionRecord {
        filter: format!("sensors/{id}/#").into(),
        options: 1,
        id: None,
        replay_after: None,
    };
    [
        StoreOp::PutSession(SessionId(id), record),
        StoreOp::PutSubscription(SessionId(id), subscription),
    ]
}

fn publish(id: u64, sessions: u64) -> [StoreOp; 2] {
    let parts = MessageParts {
        id,
        stamp: 1_700_000_000_000,
        topic: TopicNameRef::new("sensors/17/temperature").expect("it is a topic"),
        properties: &PublishProperties::default(),
        payload: &[7; 200],
    };
    let message = Message::new(&parts, &mut Vec::new()).expect("it has no properties");
    let entry = QueueEntry {
        message: MessageId(id),
        bytes: u32::try_from(message.len()).unwrap_or(u32::MAX),
        qos: Qos::AtLeastOnce,
        retain: false,
        subscription_ids: Vec::new(),
        share: None,
    };
    [
        StoreOp::PutMessage(message),
        StoreOp::Enqueue(SessionId(id * 7_919 % sessions + 1), entry),
    ]
}

/// Opens and recovers, reads one session's queue, and ends as told.
fn open(path: &Path, is_clean: bool) {
    let begun = Instant::now();
    let mut store = RedbStore::open(path, &Options::default()).expect("the store can be opened");
    let opened = begun.elapsed();
    let (mut sessions, mut queued) = (0_u64, 0);
    store
        .recover(&mut |recovered| match recovered {
            Recovered::Session(..) => sessions += 1,
            Recovered::Queue(_, summary) => queued += summary.count,
            Recovered::Mark(_)
            | Recovered::Will(..)
            | Recovered::Subscription(..)
            | Recovered::Received(..)
            | Recovered::Flight(..)
            | Recovered::Retained(_)
            | Recovered::FanOut(..)
            | Recovered::Lost(_) => {}
        })
        .expect("the store can be read");
    let ready = begun.elapsed();
    let request = LoadRequest {
        session: SessionId(1),
        after: MessageId(0),
        count: 1_000,
        bytes: u32::MAX,
    };
    let loading = Instant::now();
    let loaded = store.read_queue(&request).expect("the queue can be read");
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find(|line| line.starts_with("VmHWM"));
    print(&format!(
        "opened in {opened:.2?}, ready in {ready:.2?} with {sessions} sessions and {queued} entries; index {} MiB, {}; \
         {} entries of one queue in {:.2?}\n",
        store.memory_bytes() >> 20,
        peak.unwrap_or_default(),
        loaded.entries.len(),
        loading.elapsed(),
    ));
    if is_clean {
        store.close().expect("the store can be closed");
    }
}
