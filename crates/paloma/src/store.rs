//! The durable store of a broker, and `paloma store`: looking at one, and mending it, while no broker runs.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use paloma_broker::Store;
use paloma_broker::store::Loss;
pub(crate) use paloma_store_redb::Durability;
use paloma_store_redb::tools::{
    ImportError, Report, Stats, check, compact, export, export_to_file, import, repair, stats,
};
use paloma_store_redb::{OpenError, Options, RedbStore};

use crate::cli::{StoreCommand, TransferArgs};
use crate::config::Config;
use crate::{fail, print};

/// Opens the store of a broker, or makes one.
///
/// # Errors
/// It cannot be opened or made.
pub(crate) fn open(config: &Config) -> io::Result<Box<dyn Store>> {
    let settings = &config.store;
    let options = Options {
        durability: settings.durability,
        interval: Duration::from_millis(settings.interval_ms.into()),
        store_bytes_max: config.limits.store_bytes_max,
        ..Options::default()
    };
    let path = settings.path.display();
    let store = RedbStore::open(&settings.path, &options).map_err(|error| {
        if matches!(error, OpenError::Io { .. }) {
            let message = format!("cannot keep a store in {path} ([store] path): {error}");
            return io::Error::other(message);
        }
        io::Error::other(error)
    })?;
    tracing::info!(%path, durability = %settings.durability, "store opened");
    Ok(Box::new(store))
}

/// Runs a subcommand.
pub(crate) fn run(command: &StoreCommand) -> ExitCode {
    match command {
        StoreCommand::Check(arguments) => done(check(&arguments.data).map(|report| {
            let code = print(report_text(&report).as_bytes());
            tell_lost(&report.lost, code)
        })),
        StoreCommand::Stats(arguments) => {
            done(stats(&arguments.data).map(|stats| print(stats_text(&stats).as_bytes())))
        }
        StoreCommand::Export(arguments) => export_to(arguments),
        StoreCommand::Import(arguments) => import_from(arguments),
        StoreCommand::Repair(arguments) => repair_in(&arguments.data),
        StoreCommand::Compact(arguments) => done(compact(&arguments.data).map(|compacted| {
            let text = format!("{} bytes, before {}\n", compacted.after, compacted.before);
            print(text.as_bytes())
        })),
    }
}

fn done(outcome: Result<ExitCode, OpenError>) -> ExitCode {
    outcome.unwrap_or_else(|error| fail(&error))
}

fn stats_text(stats: &Stats) -> String {
    let rows = [
        ("format", stats.format),
        ("sessions", stats.sessions),
        ("subscriptions", stats.subscriptions),
        ("wills", stats.wills),
        ("queue entries", stats.entries),
        ("messages", stats.messages),
        ("retained messages", stats.retained),
        ("unfinished fan-outs", stats.fan_outs),
        ("journal bytes", stats.journal_bytes),
        ("file bytes", stats.file_bytes),
    ];
    let mut text = String::new();
    for (name, value) in rows {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "{name:<20}{value:>16}");
    }
    text
}

fn report_text(report: &Report) -> String {
    let mut text = stats_text(&report.stats);
    if report.is_mended {
        text.push_str("the engine mended its own records; nothing is lost by that\n");
    }
    if report.orphans > 0 {
        let orphans = report.orphans;
        let _ = writeln!(
            text,
            "{orphans} messages that nobody needs: see `paloma store repair`"
        );
    }
    if report.is_whole() {
        text.push_str("everything is as it was written\n");
    }
    text
}

/// Says on stderr what is lost; the exit code is a failure's then.
fn tell_lost(lost: &[Loss], code: ExitCode) -> ExitCode {
    for Loss { what, count } in lost {
        eprintln!("paloma: lost: {count} {what}");
    }
    if lost.is_empty() {
        code
    } else {
        ExitCode::FAILURE
    }
}

fn export_to(arguments: &TransferArgs) -> ExitCode {
    let directory = &arguments.data.data;
    let exported = match &arguments.file {
        Some(file) => export_to_file(directory, file),
        None => export(directory, &mut BufWriter::new(io::stdout().lock())),
    };
    match exported {
        Ok(lost) => tell_lost(&lost, ExitCode::SUCCESS),
        Err(error) => fail(&error),
    }
}

fn import_from(arguments: &TransferArgs) -> ExitCode {
    let mut lines: Box<dyn BufRead> = match &arguments.file {
        Some(path) => match File::open(path) {
            Ok(file) => Box::new(BufReader::new(file)),
            Err(error) => return fail(&at(path, &error)),
        },
        None => Box::new(io::stdin().lock()),
    };
    let imported: Result<u64, ImportError> = import(&arguments.data.data, &mut lines);
    match imported {
        Ok(count) => print(format!("{count} lines\n").as_bytes()),
        Err(error) => fail(&error),
    }
}

fn repair_in(directory: &Path) -> ExitCode {
    let repaired = match repair(directory) {
        Ok(repaired) => repaired,
        Err(error) => return fail(&error),
    };
    let Some(set_aside) = &repaired.set_aside else {
        return print(b"there is nothing to repair\n");
    };
    let mut text = if repaired.is_unreadable {
        "nothing of the store can be read: the next start makes a new one\n".to_owned()
    } else {
        format!("{} things were carried over\n", repaired.kept)
    };
    let _ = writeln!(text, "the damaged file is {}", set_aside.display());
    let code = print(text.as_bytes());
    if repaired.is_unreadable {
        return ExitCode::FAILURE;
    }
    tell_lost(&repaired.lost, code)
}

fn at(path: &Path, error: &io::Error) -> impl fmt::Display {
    format!("{}: {error}", path.display())
}
