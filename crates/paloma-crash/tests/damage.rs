//! Damaged files under the real binary: it says what is lost or why it does not start, and gives nobody anything that was not sent.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test all through: a panic is how it reports, and it prints figures"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use paloma_crash::message::Label;
use paloma_crash::process::server::listens_on;
use paloma_crash::process::{Server, ServerSpec};
use paloma_interop::PATIENCE;
use paloma_interop::broker::paloma;
use paloma_interop::peer::Version::V5;
use paloma_interop::process::{Process, Stream};
use paloma_interop::random::Random;
use paloma_interop::raw::RawClient;
use paloma_interop::wire::{self, Connect, PUBACK};
use redb::{Database, TableDefinition};

/// Messages that wait for the subscriber, and retained ones.
const QUEUED: u32 = 150;
const RETAINED: u32 = 50;

fn spec(name: &str) -> ServerSpec {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("damage-{name}"));
    let _ = fs::remove_dir_all(&directory);
    ServerSpec::new(paloma(), &directory, "ack")
}

fn file(spec: &ServerSpec) -> PathBuf {
    spec.data.join("paloma.redb")
}

fn log(spec: &ServerSpec) -> PathBuf {
    spec.data.join("paloma.log")
}

/// The files of a store.
#[derive(Clone)]
struct Files {
    file: Vec<u8>,
    /// None is no such file.
    log: Option<Vec<u8>>,
}

impl Files {
    fn read(spec: &ServerSpec) -> Self {
        Self {
            file: fs::read(file(spec)).unwrap(),
            log: fs::read(log(spec)).ok(),
        }
    }

    fn write(&self, spec: &ServerSpec) {
        fs::write(file(spec), &self.file).unwrap();
        match &self.log {
            Some(bytes) => fs::write(log(spec), bytes).unwrap(),
            None => drop(fs::remove_file(log(spec))),
        }
    }
}

fn place_of(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes
        .windows(needle.len())
        .position(|found| found == needle)
}

/// What the payload of a queued message ends with.
fn needle(number: u32) -> Vec<u8> {
    label(0, number).payload(50 + number as usize * 20)[10..].to_vec()
}

fn label(stream: u16, number: u32) -> Label {
    Label { stream, number }
}

fn connect(address: SocketAddr, name: &str) -> (RawClient, bool) {
    RawClient::connect_as(address, V5, &Connect::persistent(V5, name))
}

/// What is in the log of a store that was killed, and nowhere else.
const IN_LOG: u32 = 130;

/// A store with a queue and retained messages, as a stop or a kill leaves it. After a kill, half of it is in the log.
fn original(spec: &ServerSpec, is_clean: bool) -> Files {
    let deadline = Instant::now() + PATIENCE * 5;
    loop {
        let files = left(spec, is_clean);
        // Where the broker had a second to itself before the kill, the engine's file has taken over all of it.
        if is_clean || place_of(&files.file, &needle(IN_LOG)).is_none() {
            return files;
        }
        assert!(Instant::now() < deadline, "the log is always taken over");
        fs::remove_dir_all(&spec.data).unwrap();
    }
}

fn left(spec: &ServerSpec, is_clean: bool) -> Files {
    let server = Server::start(spec);
    let (mut subscriber, _) = connect(server.address(), "subscriber");
    assert_eq!(subscriber.subscribe(&[("t", 2), ("end", 1)]), [2, 1]);
    subscriber.leave();
    let mut publisher = RawClient::connect(server.address(), V5, "publisher");
    let queued = (0..QUEUED).map(|number| {
        let payload = label(0, number).payload(50 + number as usize * 20);
        (0x32, "t".to_owned(), payload)
    });
    let retained = (0..RETAINED).map(|number| {
        let payload = label(1, number).payload(300);
        (0x33, format!("kept/{number}"), payload)
    });
    let all: Vec<_> = queued.chain(retained).collect();
    for (number, some) in all.chunks(16).enumerate() {
        // What is seen in the file may wait for the end of its transaction. The next one begins behind that.
        match number {
            5 => wait_for_checkpoint(spec, &needle(77)),
            6 => wait_for_checkpoint(spec, &needle(90)),
            _ => {}
        }
        for (id, (first, topic, payload)) in (1..).zip(some) {
            let block = wire::empty_properties(V5);
            publisher.send(&wire::publish_with(
                &block,
                *first,
                id,
                topic.as_bytes(),
                payload,
            ));
        }
        for id in 1..=some.len() as u16 {
            publisher.skip_to(PUBACK, id);
        }
    }
    // One that has its packet id in the store.
    publisher.publish_fully(2, 1, "t", &label(0, QUEUED).payload(50));
    if is_clean {
        assert!(server.terminate().success());
    } else {
        server.kill();
    }
    Files::read(spec)
}

/// Returns once the engine's file is taking over what ends so.
fn wait_for_checkpoint(spec: &ServerSpec, needle: &[u8]) {
    let deadline = Instant::now() + PATIENCE;
    while place_of(&fs::read(file(spec)).unwrap(), needle).is_none() {
        assert!(Instant::now() < deadline, "the log is never taken over");
        thread::sleep(Duration::from_millis(50));
    }
}

/// What a broker on a damaged file came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// It does not start, and says why.
    Refused,
    /// It serves, and says that something is lost.
    Reported,
    /// It serves all that there was.
    Whole,
}

/// No panic, whatever else is said.
fn check_said(what: &str, said: &str) {
    assert!(!said.contains("panicked"), "{what}: {said}");
}

/// What `paloma store check` says of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Whole,
    /// Something of the broker's is lost.
    Lost,
    /// Pages of the engine are wrong, which need not hold anything of the broker's.
    Pages,
}

/// Has `paloma store check` look at the bytes.
fn checked(spec: &ServerSpec, what: &str) -> Verdict {
    let output = Command::new(paloma())
        .args(["store", "check", "--data"])
        .arg(&spec.data)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    check_said(what, &said);
    match output.status.code() {
        Some(0) => Verdict::Whole,
        Some(1) if said.contains("lost:") => Verdict::Lost,
        Some(1) if said.contains("paloma store repair") => Verdict::Pages,
        code => panic!("{what}: {code:?}, {said}"),
    }
}

/// Starts a broker on the bytes and takes what it has. What was not synced in the end may be gone without a word unless it
/// was stopped.
fn serve(spec: &ServerSpec, is_clean: bool, what: &str) -> Outcome {
    let mut process = Process::start(&mut spec.command());
    let deadline = Instant::now() + PATIENCE;
    let mut said = String::new();
    let mut address = None;
    // What it has recovered stands in its log, which may come later.
    while (address.is_none() || !said.contains(" ready "))
        && let Some((_, line)) = process.next_line(deadline)
    {
        address = address.or_else(|| listens_on(&line));
        said += &line;
        said.push('\n');
    }
    let Some(address) = address else {
        assert!(!process.wait().success(), "{what}: {said}");
        check_said(what, &said);
        assert!(said.contains("paloma store repair"), "{what}: {said}");
        return Outcome::Refused;
    };
    let mut found = BTreeSet::new();
    let (mut subscriber, present) = connect(address, "subscriber");
    if present {
        // What it sends to itself comes behind all that waits.
        subscriber.send(&wire::subscribe(V5, 1, &[("end", 1)]));
        subscriber.publish(1, 2, "end", b"");
        while let Some(label) = taken(&mut subscriber, what) {
            found.insert(label);
        }
    }
    let retained = retained_of(&said);
    let mut reader = RawClient::connect(address, V5, "reader");
    reader.send(&wire::subscribe(V5, 1, &[("kept/#", 1)]));
    for _ in 0..retained {
        found.extend(taken(&mut reader, what));
    }
    assert!(process.terminate().success(), "{what}: {said}");
    said += &process.rest_of(Stream::Err).join("\n");
    check_said(what, &said);
    if said.contains("lost from the store") {
        return Outcome::Reported;
    }
    let missing = (QUEUED + 1 + RETAINED) as usize - found.len();
    assert!(
        missing <= usize::from(!is_clean),
        "{what}: {missing} are missing, and nothing was said: {said}"
    );
    Outcome::Whole
}

/// The next message, which has to be one that was sent; `None` is the one at the end.
fn taken(client: &mut RawClient, what: &str) -> Option<Label> {
    let publish = client.message();
    if publish.topic == "end" {
        return None;
    }
    let label = Label::of(&publish.payload);
    Some(label.unwrap_or_else(|| panic!("{what}: a payload that nobody sent: {publish:?}")))
}

/// How many retained messages the broker says that it has recovered.
fn retained_of(said: &str) -> u32 {
    let Some((_, after)) = said.split_once("retained=") else {
        return 0;
    };
    let end = after
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(after.len());
    after[..end].parse().unwrap()
}

/// A place that holds something.
fn place(bytes: &[u8], random: &mut Random) -> usize {
    loop {
        let at = random.between(0, bytes.len());
        if bytes[at] != 0 {
            return at;
        }
    }
}

fn check_damages(is_clean: bool, seed: u64) {
    let spec = spec(&format!("{seed}"));
    let original = original(&spec, is_clean);
    let mut random = Random::new(seed);
    let mut outcomes = BTreeMap::new();
    let mut damaged = |files: &Files, what: &str| {
        files.write(&spec);
        let verdict = checked(&spec, what);
        // The check may have mended something.
        files.write(&spec);
        let outcome = serve(&spec, is_clean, what);
        let agree = match verdict {
            Verdict::Whole => outcome == Outcome::Whole,
            Verdict::Lost => outcome != Outcome::Whole,
            // Where the pages hold the engine's own affairs, the broker serves all there was.
            Verdict::Pages => true,
        };
        assert!(agree || !is_clean, "{what}: {verdict:?}, but {outcome:?}");
        *outcomes.entry(outcome).or_insert(0) += 1;
        outcome
    };
    assert_eq!(damaged(&original, "no damage"), Outcome::Whole);
    for _ in 0..6 {
        let mut files = original.clone();
        let bytes = &mut files.file;
        let (at, bit) = (place(bytes, &mut random), random.between(0, 8));
        bytes[at] ^= 1 << bit;
        damaged(&files, &format!("bit {bit} of byte {at}"));
    }
    // In the middle of a payload, of which there is one copy.
    let mut files = original.clone();
    let at = place_of(&files.file, &needle(77));
    files.file[at.unwrap() + 100] ^= 1;
    let outcome = damaged(&files, "a payload");
    // After a kill the engine looks at all its pages' checksums, and gives up at the first that is wrong.
    assert!(outcome == Outcome::Reported || !is_clean && outcome == Outcome::Refused);
    for _ in 0..2 {
        let mut files = original.clone();
        let len = place(&files.file, &mut random);
        files.file.truncate(len);
        let outcome = damaged(&files, &format!("cut at {len}"));
        assert_ne!(outcome, Outcome::Whole);
    }
    let mut files = original.clone();
    files.file.clear();
    assert_eq!(damaged(&files, "cut at 0"), Outcome::Refused);
    if is_clean {
        // Nothing is in the log then.
        for log in [None, Some(vec![7; 10_000])] {
            let file = original.file.clone();
            let outcome = damaged(&Files { file, log }, "another log");
            assert_eq!(outcome, Outcome::Whole);
        }
    } else {
        damage_log(&original, &mut random, &mut damaged);
    }
    println!("clean {is_clean}: {outcomes:?}");
}

/// The log, which has half of everything.
fn damage_log(
    original: &Files,
    random: &mut Random,
    damaged: &mut dyn FnMut(&Files, &str) -> Outcome,
) {
    let whole = original.log.as_deref().unwrap();
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut files = original.clone();
        change(files.log.as_mut().unwrap());
        files
    };
    for _ in 0..4 {
        let (at, bit) = (place(whole, random), random.between(0, 8));
        let files = with(&|log| log[at] ^= 1 << bit);
        damaged(&files, &format!("bit {bit} of byte {at} of the log"));
    }
    let at = place_of(whole, &needle(130)).unwrap();
    let files = with(&|log| log[at + 100] ^= 1);
    assert_eq!(damaged(&files, "a payload of the log"), Outcome::Reported);
    let files = with(&|log| log[at..at + 4_096].fill(0));
    assert_eq!(damaged(&files, "a page of the log"), Outcome::Reported);
    for files in [
        with(&|log| log.truncate(at)),
        with(&Vec::clear),
        Files {
            log: None,
            ..original.clone()
        },
    ] {
        assert_eq!(damaged(&files, "the log cut off"), Outcome::Refused);
    }
}

#[test]
fn damage_after_a_stop_is_reported_or_refused_and_gives_nobody_anything_wrong() {
    check_damages(true, 1);
}

#[test]
fn damage_after_a_kill_is_reported_or_refused_and_gives_nobody_anything_wrong() {
    check_damages(false, 2);
}

#[test]
fn a_refused_store_serves_again_after_a_repair() {
    let spec = spec("repair");
    let original = original(&spec, true);
    for len in [original.file.len() / 3, 0] {
        fs::write(file(&spec), &original.file[..len]).unwrap();
        assert_eq!(serve(&spec, true, "cut"), Outcome::Refused);
        let repair = Command::new(paloma())
            .args(["store", "repair", "--data"])
            .arg(&spec.data)
            .output()
            .unwrap();
        let said = String::from_utf8(repair.stdout).unwrap();
        assert!(said.contains("the damaged file is"), "{said}");
        // What it has then depends on the damage; that it serves does not.
        let server = Server::start(&spec);
        let mut client = RawClient::connect(server.address(), V5, "client");
        client.ping();
        assert!(server.terminate().success());
    }
}

#[test]
fn a_repair_saves_what_the_log_holds() {
    let spec = spec("repair-log");
    let mut files = original(&spec, false);
    // A record in the middle.
    let log = files.log.as_mut().unwrap();
    let at = place_of(log, &needle(IN_LOG)).unwrap();
    log[at + 100] ^= 1;
    files.write(&spec);
    assert_eq!(checked(&spec, "a record"), Verdict::Lost);
    let export = Command::new(paloma())
        .args(["store", "export", "--data"])
        .arg(&spec.data)
        .output()
        .unwrap();
    let said = String::from_utf8(export.stderr).unwrap();
    assert!(!export.status.success() && said.contains("its log is damaged"));
    let repair = Command::new(paloma())
        .args(["store", "repair", "--data"])
        .arg(&spec.data)
        .output()
        .unwrap();
    assert_eq!(repair.status.code(), Some(1));
    let said = String::from_utf8(repair.stderr).unwrap();
    assert!(said.contains("lost: 1 log records"), "{said}");
    let aside = spec.data.join("paloma.redb.damaged-1.log");
    assert_eq!(fs::read(aside).ok(), files.log);
    // All but what one record held is there.
    let server = Server::start(&spec);
    let (mut subscriber, present) = connect(server.address(), "subscriber");
    assert!(present);
    subscriber.send(&wire::subscribe(V5, 1, &[("end", 1)]));
    subscriber.publish(1, 2, "end", b"");
    let mut found = BTreeSet::new();
    while let Some(label) = taken(&mut subscriber, "repaired") {
        found.insert(label);
    }
    let missing = QUEUED + 1 - found.len() as u32;
    assert!((1..=16).contains(&missing), "{missing}");
    assert!(!found.contains(&label(0, IN_LOG)) && found.contains(&label(0, QUEUED)));
    assert!(server.terminate().success());
}

#[test]
fn a_store_of_a_later_version_is_refused_by_its_number_and_left_alone() {
    const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
    let spec = spec("later");
    original(&spec, true);
    let database = Database::open(file(&spec)).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut meta = transaction.open_table(META).unwrap();
        let format = meta.insert("format", 99).unwrap();
        assert_eq!(format.map(|format| format.value()), Some(3));
    }
    transaction.commit().unwrap();
    drop(database);
    let before = fs::read(file(&spec)).unwrap();
    let expected = "the store has format 99, and this version reads up to 5";
    let mut process = Process::start(&mut spec.command());
    assert!(!process.wait().success());
    let said = process.rest_of(Stream::Err).join("\n");
    assert!(said.contains(expected), "{said}");
    for tool in ["check", "stats", "export", "repair", "compact"] {
        let output = Command::new(paloma())
            .args(["store", tool, "--data"])
            .arg(&spec.data)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            !output.status.success() && said.contains(expected),
            "{tool}: {said}"
        );
    }
    assert!(
        fs::read(file(&spec)).unwrap() == before,
        "the file is not what it was"
    );
}
