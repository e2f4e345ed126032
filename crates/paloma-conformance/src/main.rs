//! The command line of the conformance suite.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use paloma_codec::ProtocolVersion;
use paloma_conformance::{Plan, Setting, Target, report, run, run_name, sections};

/// Judges an MQTT broker by its address: every normative statement that can be seen from outside.
///
/// Exit codes: 0 every test has passed or does not apply, 1 a test has failed, 2 the broker is not there or the command line
/// is wrong.
#[derive(Debug, Parser)]
#[command(name = "paloma-conformance")]
struct Arguments {
    /// The broker's host.
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// Its port; 8883 with --tls and 1883 otherwise if left out.
    #[arg(long)]
    port: Option<u16>,
    /// Over a WebSocket in place of host and port.
    #[arg(long, value_name = "ws://HOST:PORT/PATH", conflicts_with_all = ["tls", "unix"])]
    ws: Option<String>,
    /// Over TLS, trusting the authorities of --cafile.
    #[arg(long, requires = "cafile", conflicts_with = "unix")]
    tls: bool,
    /// PEM file of the authorities behind the broker's certificate.
    #[arg(long, value_name = "FILE")]
    cafile: Option<PathBuf>,
    /// Over a Unix socket in place of host and port.
    #[arg(long, value_name = "PATH")]
    unix: Option<PathBuf>,
    /// One version; both if left out.
    #[arg(long, value_parser = ["3.1.1", "5.0"])]
    version: Option<String>,
    /// One test by its name, or those of one statement by its id.
    #[arg(long, value_name = "ID")]
    only: Option<String>,
    /// Also writes the result there.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// How many tests run at a time.
    #[arg(long, default_value_t = 48)]
    parallel: usize,
    /// Seconds that an answer may take.
    #[arg(long, default_value_t = 10)]
    patience: u64,
    /// Milliseconds without a packet that count as "nothing comes".
    #[arg(long, default_value_t = 150)]
    quiet: u64,
    /// Prints the tests and what each proves.
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    match act(&Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            let _closed = writeln!(io::stderr(), "paloma-conformance: {error}");
            ExitCode::from(2)
        }
    }
}

fn act(arguments: &Arguments) -> io::Result<ExitCode> {
    let sections = sections();
    let mut out = io::stdout();
    if arguments.list {
        for section in &sections {
            writeln!(out, "{}", section.name)?;
            for test in &section.tests {
                writeln!(out, "  {} {}", test.name, test.proves)?;
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    let plan = Plan {
        setting: Setting {
            target: target(arguments)?,
            run: run_name(),
            answer: Duration::from_secs(arguments.patience),
            quiet: Duration::from_millis(arguments.quiet),
            test: Duration::from_secs(60 + arguments.patience),
        },
        version: arguments.version.as_deref().map(|version| match version {
            "5.0" => ProtocolVersion::V5,
            _ => ProtocolVersion::V3_1_1,
        }),
        only: arguments.only.clone(),
        parallel: arguments.parallel,
    };
    let records = run(&plan, &sections, |done, total, record| {
        let line = report::line(record);
        let _closed = writeln!(io::stdout(), "{done:>4}/{total} {line}");
    })
    .map_err(|stop| io::Error::other(stop.to_string()))?;
    write!(out, "\n{}", report::table(&records))?;
    if let Some(path) = &arguments.json {
        let value = report::json(&plan.setting.target.to_string(), &records);
        fs::write(path, format!("{value:#}\n"))?;
    }
    let (_, failed, _) = report::counts(records.iter());
    if records.is_empty() {
        return Err(io::Error::other("no test is called so, or proves that"));
    }
    Ok(ExitCode::from(u8::from(failed > 0)))
}

fn target(arguments: &Arguments) -> io::Result<Target> {
    if let Some(url) = &arguments.ws {
        return Target::web_socket(url);
    }
    if let Some(path) = &arguments.unix {
        return Ok(Target::Unix(path.clone()));
    }
    match &arguments.cafile {
        Some(ca) if arguments.tls => {
            Target::tls(&arguments.host, arguments.port.unwrap_or(8883), ca)
        }
        _ => Ok(Target::Tcp(format!(
            "{}:{}",
            arguments.host,
            arguments.port.unwrap_or(1883)
        ))),
    }
}
