//! A store of gigabytes: how long a start takes after a kill, when the engine walks its whole file, and after a stop.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::Scratch;
use super::scale::{
    PUBLISHERS, Report, expect_entries, leave_sessions, load, mebibytes, mebibytes_of, rate, whole,
};
use super::server::{Keeper, Server};
use crate::engine::{self, Load};
use crate::error::LoadError;
use crate::plan::Shape;
use crate::probe;

/// How large a store to fill.
#[derive(Clone, Debug)]
pub struct Large {
    /// A `paloma` binary.
    pub paloma: PathBuf,
    /// A directory on the disk that counts.
    pub directory: PathBuf,
    /// About how long its file gets.
    pub bytes: u64,
}

/// Who the messages wait for.
const SESSIONS: u32 = 100;

/// What a message of 1,000 bytes takes of the file: three of them fill a page.
const BYTES_EACH: u64 = 4_096 / 3;

/// Fills, kills, stops and starts; the lines that say what came of it.
///
/// # Errors
/// If the broker or the disk fails, or a message is lost.
pub fn run(large: &Large, mut progress: impl FnMut(&str)) -> Result<String, LoadError> {
    let scratch = Scratch::new(&large.directory.join("large"))?;
    let store = scratch.0.join("store");
    let keeper = large.keeper();
    let mut report = Report::default();
    let server = keeper.start(&scratch.0)?;
    let sent = fill(large, &server, &mut report)?;
    progress("filled");
    server.kill()?;
    let server = keeper.start(&scratch.0)?;
    note_start(&mut report, "after `kill -9`", &server)?;
    expect_entries(&server, sent)?;
    progress("started after a kill");
    server.kill()?;
    if forget_pages(&store)? {
        let server = keeper.start(&scratch.0)?;
        note_start(
            &mut report,
            "after `kill -9`, no page of the file in memory",
            &server,
        )?;
        progress("started after a kill, from the disk");
        server.kill()?;
    }
    let server = keeper.start(&scratch.0)?;
    let stopped = server.stop()?;
    report.row("clean stop", &format!("{:.2} s", stopped.as_secs_f64()));
    let server = keeper.start(&scratch.0)?;
    note_start(&mut report, "after a clean stop", &server)?;
    expect_entries(&server, sent)?;
    Ok(report.text)
}

fn fill(large: &Large, server: &Server, report: &mut Report) -> Result<u32, LoadError> {
    leave_sessions(server, SESSIONS)?;
    let publishers = PUBLISHERS.min(SESSIONS);
    let messages = u32::try_from(large.bytes / BYTES_EACH)
        .map_err(|_| LoadError::Scenario("so many messages have no numbers"))?;
    let begin = Instant::now();
    let filled = engine::run(&Load {
        shape: Shape::Store {
            topics: SESSIONS,
            publishers,
        },
        messages_max: Some(u64::from(messages.div_ceil(publishers))),
        ..load(server)
    })?;
    let sent = whole(&filled)?;
    let per_second = rate(sent, begin.elapsed());
    report.row(
        "messages of 1,000 B queued for 100 clients",
        &format!("{sent}, at {per_second}"),
    );
    report.row("file", &mebibytes_of(server, "paloma_store_file_bytes")?);
    let commits = server.metric("paloma_store_commit_seconds_count")?;
    let seconds = server.metric("paloma_store_commit_seconds_sum")?;
    let mean = format!("{:.2} ms, {commits:.0} of them", seconds / commits * 1e3);
    report.row("a commit meanwhile", &mean);
    Ok(sent)
}

fn note_start(report: &mut Report, what: &str, server: &Server) -> Result<(), LoadError> {
    let ready = server.ready_after.as_secs_f64();
    report.row(&format!("first CONNACK {what}"), &format!("{ready:.2} s"));
    let memory = mebibytes(probe::resident_bytes(server.pid())?);
    report.row("resident memory then", &memory);
    Ok(())
}

impl Large {
    fn keeper(&self) -> Keeper {
        let bytes_max = self.bytes.saturating_mul(2).saturating_add(1 << 30);
        Keeper::Paloma {
            program: self.paloma.clone(),
            durability: Some("ack"),
            limits: format!("{}\nstore_bytes_max = {bytes_max}", super::LIMITS),
        }
    }
}

/// Has the system forget what it holds of a store's files; false where it cannot be asked.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn forget_pages(store: &Path) -> io::Result<bool> {
    use rustix::fs::{Advice, fadvise};

    for entry in fs::read_dir(store)? {
        let file = File::open(entry?.path())?;
        // What is not written yet would stay.
        file.sync_all()?;
        fadvise(&file, 0, None, Advice::DontNeed)?;
    }
    Ok(true)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn forget_pages(_store: &Path) -> io::Result<bool> {
    Ok(false)
}
