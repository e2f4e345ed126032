//! What an operator does with a store that no broker uses.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    reason = "a failed test is what a panic is for"
)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use paloma_broker::store::Store;
use paloma_store_redb::disk::FileDisk;
use paloma_store_redb::tools::{Fault, ImportError, check, compact, export, import, repair, stats};
use paloma_store_redb::{OpenError, RedbStore};
use support::{Pair, contents, small, steps};

/// A directory that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let name = format!("paloma-tools-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("paloma.redb")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn open(path: &Path) -> RedbStore {
    RedbStore::open(path, &small()).unwrap()
}

/// A store with something of everything.
fn filled(name: &str) -> (Scratch, Pair) {
    let scratch = Scratch::new(name);
    let mut pair = Pair::default();
    let mut store = open(&scratch.0);
    for seed in 0..20 {
        store.commit(&mut pair.group(&steps(seed, 60))).unwrap();
    }
    store.close().unwrap();
    (scratch, pair)
}

fn exported(path: &Path) -> Vec<u8> {
    let mut lines = Vec::new();
    assert_eq!(export(path, &mut lines).unwrap(), []);
    lines
}

#[test]
fn only_its_owner_may_read_it() {
    let (scratch, _) = filled("modes");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&scratch.0), 0o700);
    for entry in fs::read_dir(&scratch.0).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[test]
fn a_second_user_is_refused_by_name() {
    let (scratch, _) = filled("lock");
    let first = open(&scratch.0);
    let refused = RedbStore::open(&scratch.0, &small())
        .unwrap_err()
        .to_string();
    let process = std::process::id();
    assert!(
        refused.ends_with(&format!("is in use by process {process}")),
        "{refused}"
    );
    assert!(matches!(check(&scratch.0), Err(OpenError::InUse { .. })));
    drop(first);
    drop(open(&scratch.0));
}

#[test]
fn a_later_format_is_refused_and_left_alone() {
    let (scratch, _) = filled("format");
    set_format(&scratch.file(), 6);
    let is_refused = |refused: OpenError| {
        let is_newer = matches!(refused, OpenError::NewerFormat { found: 6, known: 5 });
        assert!(is_newer, "{refused}");
        assert!(refused.to_string().contains("a later version wrote it"));
    };
    is_refused(RedbStore::open(&scratch.0, &small()).unwrap_err());
    is_refused(check(&scratch.0).unwrap_err());
    // Not even a repair touches it.
    is_refused(repair(&scratch.0).unwrap_err());
    is_refused(stats(&scratch.0).unwrap_err());
}

/// A store that was killed with something in its log.
fn killed(name: &str) -> (Scratch, Pair) {
    let (scratch, mut pair) = filled(name);
    let mut store = open(&scratch.0);
    // The first group goes to the file and begins the log.
    store.commit(&mut pair.group(&steps(20, 60))).unwrap();
    for _ in 0..6 {
        store.commit(&mut pair.group(&[(0, 0, 0)])).unwrap();
    }
    drop(store);
    (scratch, pair)
}

/// A store that was killed while its file was taking over what one half of the log had, with more in the other one.
fn killed_between(name: &str) -> (Scratch, Pair) {
    let (scratch, mut pair) = filled(name);
    let disk = |name: &str| Arc::new(FileDisk::open(&scratch.0.join(name)).unwrap());
    let (file, log) = (disk("paloma.redb"), disk("paloma.log"));
    let mut store = RedbStore::on_disk(file, Some(log), &small()).unwrap();
    let mut since_turn = 0;
    for seed in 0..100 {
        store.commit(&mut pair.group(&steps(seed, 6))).unwrap();
        let log = fs::read(scratch.0.join("paloma.log")).unwrap();
        // Of the first record of a half: what it is on top of, and how many records of the other half.
        let head = |at: usize| {
            let base = u64::from_le_bytes(log[at + 8..at + 16].try_into().unwrap());
            let after = u32::from_le_bytes(log[at + 28..at + 32].try_into().unwrap());
            (base, after)
        };
        let (_, after) = head(0).max(head(64 << 10));
        since_turn = if after > 0 { since_turn + 1 } else { 0 };
        if since_turn == 4 {
            break;
        }
    }
    assert_eq!(since_turn, 4, "both halves were never in use");
    drop(store);
    (scratch, pair)
}

#[test]
fn a_store_of_an_earlier_format_is_read_as_it_is_and_gets_this_ones_number() {
    let (closed, filled) = filled("earlier");
    let (logged, killed) = killed("earlier-logged");
    for (scratch, pair, before, while_open) in [(closed, filled, 1, 3), (logged, killed, 2, 5)] {
        set_format(&scratch.file(), before);
        let mut store = open(&scratch.0);
        assert_eq!(contents(&mut store), pair.now());
        drop(store);
        assert_eq!(format(&scratch.file()), while_open);
        let mut store = open(&scratch.0);
        assert_eq!(contents(&mut store), pair.now());
        store.close().unwrap();
        drop(store);
        assert_eq!(format(&scratch.file()), 3);
    }
    // Before anything is written: this level has no log whose beginning would say so.
    let (scratch, _) = self::filled("earlier-none");
    set_format(&scratch.file(), 1);
    let options = paloma_store_redb::Options {
        durability: paloma_store_redb::Durability::Interval,
        ..small()
    };
    drop(RedbStore::open(&scratch.0, &options).unwrap());
    assert_eq!(format(&scratch.file()), 3);
}

fn set_format(path: &Path, format: u64) {
    let meta = redb::TableDefinition::<&str, u64>::new("meta");
    let database = redb::Database::open(path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction
        .open_table(meta)
        .unwrap()
        .insert("format", format)
        .unwrap();
    transaction.commit().unwrap();
}

fn format(path: &Path) -> u64 {
    let meta = redb::TableDefinition::<&str, u64>::new("meta");
    let database = redb::Database::open(path).unwrap();
    let transaction = redb::ReadableDatabase::begin_read(&database).unwrap();
    let meta = transaction.open_table(meta).unwrap();
    meta.get("format").unwrap().unwrap().value()
}

#[test]
fn a_version_without_a_log_refuses_a_store_whose_log_is_in_use_and_no_other() {
    let (scratch, _) = killed("in-use");
    assert_eq!(format(&scratch.file()), 5);
    let mut store = open(&scratch.0);
    store.close().unwrap();
    drop(store);
    assert_eq!(format(&scratch.file()), 3);
}

#[test]
fn tools_see_what_the_log_holds() {
    see_what_the_log_holds("log", killed);
}

#[test]
fn tools_see_what_both_halves_of_the_log_hold() {
    see_what_the_log_holds("halves", killed_between);
}

fn see_what_the_log_holds(prefix: &str, killed: fn(&str) -> (Scratch, Pair)) {
    let killed = |name: &str| killed(&format!("{prefix}-{name}"));
    let (scratch, pair) = killed("stats");
    let found = stats(&scratch.0).unwrap();
    assert_eq!(found.format, 3, "the file has taken it over");
    assert_eq!(found.entries, open(&scratch.0).usage().entries);
    assert_eq!(contents(&mut open(&scratch.0)), pair.now());

    let (scratch, pair) = killed("export");
    let other = Scratch::new(&format!("{prefix}-import"));
    import(&other.0, &mut exported(&scratch.0).as_slice()).unwrap();
    assert_eq!(contents(&mut open(&other.0)), pair.now());

    let (scratch, pair) = killed("check");
    let report = check(&scratch.0).unwrap();
    assert!(report.is_whole() && report.orphans == 0, "{report:?}");
    assert_eq!(contents(&mut open(&scratch.0)), pair.now());

    for name in ["repair", "compact"] {
        let (scratch, pair) = killed(name);
        if name == "repair" {
            assert_eq!(repair(&scratch.0).unwrap().set_aside, None);
        } else {
            compact(&scratch.0).unwrap();
        }
        assert_eq!(contents(&mut open(&scratch.0)), pair.now(), "{name}");
    }
}

/// How much of what was there a store still says.
fn kept(scratch: &Scratch, pair: &Pair) -> usize {
    let found = contents(&mut open(&scratch.0));
    let lines = pair.now();
    lines.iter().filter(|line| found.contains(line)).count()
}

#[test]
fn a_repair_does_what_the_log_says_behind_what_the_file_has() {
    let (scratch, pair) = killed("log-missing");
    let log = scratch.0.join("paloma.log");
    let mut damaged = fs::read(&log).unwrap();
    // The first record of the half that is in use, on top of the later number. It begins with its length.
    let number = |at: usize| u64::from_le_bytes(damaged[at + 8..at + 16].try_into().unwrap());
    let half = damaged.len() / 2;
    let at = if number(0) > number(half) { 0 } else { half };
    let len = u32::from_le_bytes(damaged[at..at + 4].try_into().unwrap()) as usize;
    damaged[at + 32 + len - 1] ^= 1;
    fs::write(&log, &damaged).unwrap();
    assert!(matches!(
        export(&scratch.0, &mut Vec::new()),
        Err(OpenError::Store(_))
    ));
    assert_eq!(check(&scratch.0).unwrap().lost.len(), 1);
    let repaired = repair(&scratch.0).unwrap();
    assert_eq!(repaired.lost.iter().map(|loss| loss.count).sum::<u64>(), 1);
    let aside = repaired.set_aside.unwrap().with_extension("damaged-1.log");
    assert_eq!(fs::read(aside).unwrap(), damaged);
    assert!(!log.exists());
    let kept = kept(&scratch, &pair);
    assert!(
        kept * 10 > pair.now().len() * 9,
        "{kept} of {}",
        pair.now().len()
    );

    // Without a log there is only what the file has.
    let (scratch, _) = killed("log-gone");
    fs::remove_file(scratch.0.join("paloma.log")).unwrap();
    let refused = RedbStore::open(&scratch.0, &small())
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("its log is missing") && refused.contains("repair"),
        "{refused}"
    );
    let repaired = repair(&scratch.0).unwrap();
    assert_eq!(repaired.lost.len(), 1);
    assert!(open(&scratch.0).losses().is_empty());
}

#[test]
fn the_log_of_a_store_that_was_taken_away_is_not_read_for_another() {
    let (scratch, _) = killed("another");
    fs::remove_file(scratch.file()).unwrap();
    let mut store = open(&scratch.0);
    assert_eq!(contents(&mut store).len(), 1, "the mark");
    assert_eq!(store.usage().entries, 0);
}

#[test]
fn tools_make_no_store() {
    let scratch = Scratch::new("missing");
    assert!(matches!(stats(&scratch.0), Err(OpenError::Missing(_))));
    assert!(matches!(repair(&scratch.0), Err(OpenError::Missing(_))));
    assert!(!scratch.0.exists());
}

#[test]
fn a_whole_store_is_found_whole() {
    let (scratch, pair) = filled("whole");
    let report = check(&scratch.0).unwrap();
    assert!(report.is_whole() && report.orphans == 0, "{report:?}");
    let mut seen = stats(&scratch.0).unwrap();
    seen.file_bytes = report.stats.file_bytes;
    assert_eq!(report.stats, seen);
    assert!(report.stats.sessions > 0 && report.stats.entries > 0 && report.stats.wills > 0);
    let repaired = repair(&scratch.0).unwrap();
    assert_eq!(repaired.set_aside, None);
    assert_eq!(contents(&mut open(&scratch.0)), pair.now());
}

#[test]
fn an_export_imported_is_the_same_store() {
    let (scratch, pair) = filled("export");
    let lines = exported(&scratch.0);
    let other = Scratch::new("import");
    let count = import(&other.0, &mut lines.as_slice()).unwrap();
    assert_eq!(
        count,
        lines.iter().filter(|byte| **byte == b'\n').count() as u64
    );
    assert_eq!(contents(&mut open(&other.0)), pair.now());
    assert_eq!(exported(&other.0), lines);
}

#[test]
fn an_import_says_which_line_is_wrong() {
    let (scratch, _) = filled("lines");
    let text = String::from_utf8(exported(&scratch.0)).unwrap();
    let refused = |text: &str| {
        let other = Scratch::new("wrong");
        match import(&other.0, &mut text.as_bytes()) {
            Err(ImportError::Line { number, fault }) => (number, fault),
            outcome => panic!("{outcome:?}"),
        }
    };
    let first = text.lines().next().unwrap();
    assert_eq!(refused(&format!("{first}\nwhat\n")), (2, Fault::NoJson));
    assert_eq!(refused("[1]\n"), (1, Fault::NoObject));
    assert_eq!(refused("{\"type\":\"x\"}\n"), (1, Fault::Field("type")));
    let entry = text
        .lines()
        .find(|line| line.contains("\"type\":\"entry\""))
        .unwrap();
    assert_eq!(refused(&format!("{entry}\n")), (1, Fault::NoMessage));
    for name in ["session", "qos", "bytes", "share", "packet"] {
        let without = entry.replace(&format!("\"{name}\":"), "\"else\":");
        assert!(matches!(refused(&without), (1, Fault::Field(_))), "{name}");
    }
    let again = import(&scratch.0, &mut text.as_bytes());
    assert!(matches!(again, Err(ImportError::NotEmpty)), "{again:?}");
}

#[test]
fn a_damaged_message_is_found_and_repaired_away() {
    let (scratch, pair) = filled("repair");
    let mut bytes = fs::read(scratch.file()).unwrap();
    // Payloads are runs in which each byte is 31 more than the one before.
    let mut runs = bytes.windows(64).enumerate().filter(|(_, run)| {
        run.windows(2)
            .all(|pair| pair[1] == pair[0].wrapping_add(31))
    });
    let at = runs.next().unwrap().0 + 30;
    bytes[at] ^= 1;
    fs::write(scratch.file(), &bytes).unwrap();

    let refused = check(&scratch.0);
    let is_found = match &refused {
        // The engine's own checksums see it as well.
        Err(OpenError::Store(_)) => true,
        Ok(report) => !report.is_whole(),
        Err(_) => false,
    };
    assert!(is_found, "{refused:?}");
    let repaired = repair(&scratch.0).unwrap();
    assert!(repaired.set_aside.unwrap().exists());
    assert!(!repaired.is_unreadable);
    assert_eq!(
        repaired.lost.iter().map(|loss| loss.count).sum::<u64>(),
        1,
        "{:?}",
        repaired.lost
    );
    let report = check(&scratch.0).unwrap();
    assert!(report.is_whole() && report.orphans == 0, "{report:?}");
    let kept = kept(&scratch, &pair);
    assert!(
        kept + 10 > pair.now().len(),
        "{kept} of {}",
        pair.now().len()
    );
}

#[test]
fn a_file_that_cannot_be_read_at_all_is_set_aside() {
    let (scratch, _) = filled("lost");
    fs::write(scratch.file(), [7; 10_000]).unwrap();
    assert!(RedbStore::open(&scratch.0, &small()).is_err());
    let repaired = repair(&scratch.0).unwrap();
    assert!(repaired.is_unreadable);
    assert_eq!(fs::read(repaired.set_aside.unwrap()).unwrap(), [7; 10_000]);
    drop(open(&scratch.0));
}

#[test]
fn any_damage_ends_with_a_store_that_opens() {
    let (scratch, _) = filled("any");
    let bytes = fs::read(scratch.file()).unwrap();
    for seed in 0..30_usize {
        let mut damaged = bytes.clone();
        let mut at = seed * 7_919 * 13 % damaged.len();
        while damaged[at] == 0 {
            at = (at + 61) % damaged.len();
        }
        let until = (at + 600).min(damaged.len());
        damaged[at..until].fill(0xa5);
        fs::write(scratch.file(), &damaged).unwrap();
        repair(&scratch.0).unwrap();
        let report = open(&scratch.0).losses();
        assert_eq!(report, [], "damage at {at}");
    }
}

#[test]
fn a_drained_store_is_compacted() {
    let scratch = Scratch::new("compact");
    let mut store = open(&scratch.0);
    let session = paloma_broker::store::SessionId(1);
    let commit = |store: &mut RedbStore, ops| {
        let batch = paloma_broker::store::StoreBatch {
            ops,
            ..Default::default()
        };
        store.commit(&mut vec![batch]).unwrap();
    };
    use paloma_broker::store::StoreOp;
    let mut ops = vec![StoreOp::PutSession(session, support::session_record("a"))];
    for id in 1..2_000 {
        let message = support::message(id, "a", &[1; 2_000]);
        ops.push(StoreOp::PutMessage(message.clone()));
        let entry = support::entry(&message, paloma_codec::Qos::AtLeastOnce);
        ops.push(StoreOp::Enqueue(session, entry));
    }
    commit(&mut store, ops);
    let full = store.usage().file_bytes;
    commit(&mut store, vec![StoreOp::DeleteSession(session)]);
    store.close().unwrap();
    drop(store);
    let compacted = compact(&scratch.0).unwrap();
    assert!(compacted.after < full / 3, "{full} {compacted:?}");
    assert!(check(&scratch.0).unwrap().is_whole());
}
