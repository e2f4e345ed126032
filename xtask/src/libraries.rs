//! `cargo xtask libraries`: instructions of the codec and the trie beside those of other libraries.

use std::process::Command as Process;

use crate::{
    Command,
    bench_gate::{self, Counts},
    failure::{Failure, Outcome},
    process,
};

pub(crate) const COMMAND: Command = Command {
    name: "libraries",
    arguments: "[PREFIX]",
    about: "count instructions of our codec and trie beside those of other libraries",
    details: "\
PREFIX     only rows whose name begins so, for instance `decode`

Counts each row of `cargo bench -p paloma-bench --bench libraries` under callgrind and prints a table in markdown:
instructions for each packet or topic. Needs valgrind.",
    run: |arguments| compare(arguments.first().map_or("", String::as_str)),
};

fn compare(prefix: &str) -> Outcome {
    if !process::has_tool("valgrind")? {
        println!("SKIPPED: valgrind is not installed");
        return Ok(());
    }
    let program = build()?;
    let mut work = bench_gate::list_scenarios(Process::new(&program).arg("--list-work"))?;
    work.retain(|work| work.name.starts_with(prefix));
    let counts = bench_gate::count_all(&work, || {
        let mut command = Process::new(&program);
        command.arg("--work");
        command
    })?;
    let names: Vec<&str> = work.iter().map(|work| work.name.as_str()).collect();
    println!("{}\n\n{}", bench_gate::compiler()?, table(&names, &counts));
    Ok(())
}

/// Builds the bench and returns its program.
fn build() -> Outcome<String> {
    let output = process::stdout(&mut process::cargo(&[
        "bench",
        "--locked",
        "-p",
        "paloma-bench",
        "--bench",
        "libraries",
        "--no-run",
        "--message-format=json",
    ]))?;
    let program = output.lines().rev().find_map(|line| {
        let (_, rest) = line.split_once("\"executable\":\"")?;
        rest.split_once('"').map(|(program, _)| program.to_owned())
    });
    program.ok_or_else(|| Failure::Format {
        what: "cargo bench",
        problem: "it names no program that it has built".to_owned(),
    })
}

/// A line for each `row`, a column for each library of `row|library`, in the order in which they first come.
fn table(names: &[&str], counts: &Counts) -> String {
    let split = |name: &'_ str| {
        name.split_once('|')
            .map(|(r, l)| (r.to_owned(), l.to_owned()))
    };
    let (mut text, mut heads) = (String::new(), Vec::new());
    let (mut rows, mut libraries): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    for (row, library) in names.iter().filter_map(|name| split(name)) {
        if !rows.contains(&row) {
            rows.push(row);
        }
        if !libraries.contains(&library) {
            libraries.push(library);
        }
    }
    for row in rows {
        let cells: Vec<(&String, f64)> = libraries
            .iter()
            .filter_map(|library| Some((library, *counts.get(&format!("{row}|{library}"))?)))
            .collect();
        let head: Vec<&String> = cells.iter().map(|(library, _)| *library).collect();
        if heads != head {
            let columns = "---|".repeat(head.len() + 1);
            let names: Vec<&str> = head.iter().map(|name| name.as_str()).collect();
            text.push_str(&format!("\n| | {} |\n|{columns}\n", names.join(" | ")));
            heads = head;
        }
        text.push_str(&format!("| {row} |"));
        for (_, count) in cells {
            text.push_str(&format!(" {count:.0} |"));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_libraries_make_a_table_and_others_a_new_one() {
        let counts = [("decode x|a", 1.2), ("decode x|b", 2.6), ("match|c", 100.0)];
        let names: Vec<&str> = counts.iter().map(|(name, _)| *name).collect();
        let counts = counts.map(|(name, count)| (name.to_owned(), count));
        let text = table(&names, &Counts::from(counts));
        assert_eq!(
            text,
            "\n| | a | b |\n|---|---|---|\n| decode x | 1 | 3 |\n\n| | c |\n|---|---|\n| match | 100 |\n"
        );
    }
}
