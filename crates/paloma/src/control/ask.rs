//! The operator's side of the control socket: `paloma trace`, `paloma why` and `paloma check --against-running`.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use paloma_topic::TopicNameRef;
use serde_json::{Value, json};

use super::{END_FAILED, END_WELL};
use crate::cli::{ControlArgs, TraceArgs, WhyArgs};
use crate::config::Config;
use crate::{fail, usage_error};

/// Prints what happens to a client or on a topic.
pub(crate) fn trace(arguments: &TraceArgs) -> ExitCode {
    let question = json!({
        "client": arguments.client,
        "topic": arguments.topic,
        "payloads": arguments.payloads,
    });
    put(&arguments.at, &question, arguments.count)
}

/// Prints why a client gets what is published on a topic, or does not.
pub(crate) fn why(arguments: &WhyArgs) -> ExitCode {
    let (client, topic) = (&arguments.client, &arguments.topic);
    if let Err(error) = TopicNameRef::new(topic) {
        return usage_error(&format_args!("{topic:?}: {error}"));
    }
    put(
        &arguments.at,
        &json!({ "why": client, "topic": topic }),
        None,
    )
}

/// Asks the broker that runs what this configuration, which is sound, would change for its clients.
pub(crate) fn check(file: Option<&Path>, config: &Config) -> ExitCode {
    let Some(file) = file else {
        return usage_error(&"--against-running needs --config FILE");
    };
    let Some(socket) = &config.admin.control else {
        return usage_error(&"the configuration names no control socket ([admin] control)");
    };
    let file = match std::path::absolute(file) {
        Ok(file) => file,
        Err(error) => return fail(&error),
    };
    let Some(name) = file.to_str() else {
        return fail(&"the configuration's path is not UTF-8");
    };
    finish(socket, ask(socket, &json!({ "rehearse": name }), None))
}

/// Puts a question to the broker, and prints at most so many lines of its answer.
fn put(at: &ControlArgs, question: &Value, count: Option<u64>) -> ExitCode {
    let socket = match (&at.control, &at.config) {
        (Some(socket), _) => Ok(socket.clone()),
        (None, config) => socket_of(config.as_deref()),
    };
    match socket {
        Ok(socket) => finish(&socket, ask(&socket, question, count)),
        Err(code) => code,
    }
}

/// The control socket that a configuration names.
fn socket_of(file: Option<&Path>) -> Result<PathBuf, ExitCode> {
    let config = crate::control_socket(file)?;
    config.ok_or_else(|| {
        usage_error(&"name the control socket with --control, or a configuration that has one with --config")
    })
}

fn finish(socket: &Path, answered: io::Result<u64>) -> ExitCode {
    match answered {
        Ok(code) => u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from),
        Err(error) => fail(&format_args!("{}: {error}", socket.display())),
    }
}

/// Prints the answer, at most so many lines of it; gives the code at its end.
fn ask(socket: &Path, question: &Value, count: Option<u64>) -> io::Result<u64> {
    let mut stream = UnixStream::connect(socket)?;
    writeln!(stream, "{question}")?;
    let mut left = count;
    for line in BufReader::new(stream).lines() {
        let line: Value = serde_json::from_str(&line?)?;
        if let Some(code) = line.get("end").and_then(Value::as_u64) {
            return Ok(code);
        }
        let text = line.get("say").and_then(Value::as_str).unwrap_or_default();
        if text == "tracing" {
            eprintln!("paloma: {text}");
            continue;
        }
        writeln!(io::stdout(), "{text}")?;
        left = left.map(|left| left.saturating_sub(1));
        if left == Some(0) {
            return Ok(END_WELL);
        }
    }
    Ok(END_FAILED)
}
