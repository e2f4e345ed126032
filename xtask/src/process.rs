//! Running other programs.

use std::{
    env,
    process::{Command, Output, Stdio},
};

use crate::{
    failure::{Failure, Outcome},
    workspace,
};

/// The cargo that runs this program, in the root of the workspace.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(workspace::root());
    command
}

/// Runs to the end with the caller's output; anything but success is a failure.
pub(crate) fn run(command: &mut Command) -> Outcome {
    let line = line_of(command);
    match command.stdin(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::Program {
            line,
            problem: status.to_string(),
        }),
        Err(error) => Err(Failure::Program {
            line,
            problem: error.to_string(),
        }),
    }
}

/// Runs to the end and returns what it wrote, whether or not it succeeded.
pub(crate) fn capture(command: &mut Command) -> Outcome<Output> {
    let line = line_of(command);
    command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Failure::Program {
            line,
            problem: error.to_string(),
        })
}

/// Runs to the end and returns its standard output; anything but success is a failure.
pub(crate) fn stdout(command: &mut Command) -> Outcome<String> {
    let line = line_of(command);
    let output = capture(command)?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(Failure::Program {
            line,
            problem: format!("{}\n{stderr}", output.status),
        });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether `tool` can be started. Without it the caller skips its check; under `PALOMA_REQUIRE_TOOLS=1` that is a failure.
pub(crate) fn has_tool(tool: &'static str) -> Outcome<bool> {
    let probe = Command::new(tool)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if probe.is_ok_and(|status| status.success()) {
        return Ok(true);
    }
    if env::var_os("PALOMA_REQUIRE_TOOLS").is_some_and(|value| value == "1") {
        return Err(Failure::MissingTool { tool });
    }
    Ok(false)
}

fn line_of(command: &Command) -> String {
    let words = [command.get_program()]
        .into_iter()
        .chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}
