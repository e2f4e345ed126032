//! `paloma replay`: what a recorded broker took in and did, step by step.

use std::fmt;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::process::ExitCode;

use paloma_record::{Replay, ReplayError, Step};
use paloma_topic::TopicNameRef;

use crate::cli::ReplayArgs;
use crate::{fail, usage_error};

/// Why a replay did not come to its end.
enum Trouble {
    /// What it says cannot be printed.
    Output(io::Error),
    /// The record, or what the core makes of it.
    Replay(ReplayError),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// A replay so far, in a line.
struct Summary<'a>(&'a Replay<'a>, u64);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(replay, steps) = self;
        let (hash, checks) = (replay.hash(), replay.checks());
        write!(
            f,
            "{steps} steps, trace {hash:016x}, compared {checks} times"
        )
    }
}

/// Replays a record and prints it.
pub(crate) fn run(arguments: &ReplayArgs) -> ExitCode {
    let question = match arguments.why_not.as_slice() {
        [client, topic] => match TopicNameRef::new(topic) {
            Ok(topic) => Some((client.as_str(), topic)),
            Err(error) => return usage_error(&format_args!("{topic:?}: {error}")),
        },
        _ => None,
    };
    let path = arguments.file.display();
    let record = match std::fs::read(&arguments.file) {
        Ok(record) => record,
        Err(error) => return fail(&format_args!("{path}: {error}")),
    };
    let mut replay = match Replay::new(&record) {
        Ok(replay) => replay,
        Err(error) => return fail(&format_args!("{path}: {error}")),
    };
    if replay.version() != env!("CARGO_PKG_VERSION") {
        let version = replay.version();
        eprintln!("paloma: recorded by version {version}, which may have done otherwise");
    }
    let mut out = BufWriter::new(io::stdout().lock());
    let told = tell(&mut replay, arguments, question, &mut out);
    let told = told.and_then(|()| Ok(out.flush()?));
    match told {
        Ok(()) => ExitCode::SUCCESS,
        // Who reads only the beginning of it has what he wants.
        Err(Trouble::Output(error)) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(Trouble::Output(error)) => fail(&error),
        Err(Trouble::Replay(error)) => fail(&format_args!("{path}: {error}")),
    }
}

fn tell(
    replay: &mut Replay<'_>,
    arguments: &ReplayArgs,
    question: Option<(&str, TopicNameRef<'_>)>,
    out: &mut impl Write,
) -> Result<(), Trouble> {
    if let Some((client, topic)) = question {
        replay.watch(client, topic.as_str());
    }
    let mut steps = 0;
    let end = loop {
        if arguments.until == Some(steps) {
            break Ok(());
        }
        match replay.step() {
            Ok(Some(step)) => {
                steps = step.number;
                print(&step, arguments, out)?;
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(Trouble::Replay(error)),
        }
    };
    if let Some((client, topic)) = question {
        let (explanation, is_certain) = replay.explain(client, topic);
        write!(out, "{explanation}")?;
        if !is_certain {
            writeln!(
                out,
                "- the record does not say what the rules say of this topic; taken as allowed"
            )?;
        }
    }
    if let Some(ended) = replay.ended() {
        writeln!(out, "the record ends before its broker did: {ended}")?;
    }
    writeln!(out, "{}", Summary(replay, steps))?;
    out.flush()?;
    end
}

/// Prints a step; for a question only what it is about.
fn print(step: &Step, arguments: &ReplayArgs, out: &mut impl Write) -> io::Result<()> {
    let is_asked = !arguments.why_not.is_empty();
    for line in &step.lines {
        if arguments.quiet || (is_asked && !is_answer(line)) {
            continue;
        }
        writeln!(out, "{:>6} {line}", step.number)?;
    }
    Ok(())
}

/// Whether a line says what became of a message for the client that was asked about.
fn is_answer(line: &str) -> bool {
    let rest = line.split_once(' ').map_or("", |(_, rest)| rest);
    rest.starts_with("  given to it") || rest.starts_with("  not given to it")
}
