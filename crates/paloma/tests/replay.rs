//! `paloma serve --record` and `paloma replay`: the two ends of a record.
#![cfg(all(feature = "clients", feature = "record", feature = "replay"))]
#![expect(
    clippy::unwrap_used,
    reason = "what should not happen may panic in a test"
)]

mod support;

use std::path::PathBuf;
use std::process::Output;

use support::{paloma, signal, start};

fn replay(arguments: &[&str]) -> Output {
    let mut line = vec!["replay"];
    line.extend(arguments);
    paloma(&line).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Records a broker whose one client gets one message; gives the file.
fn recorded(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_file(&path);
    let file = path.to_str().unwrap().to_owned();
    let line = ["serve", "--listen", "tcp://127.0.0.1:0", "--record", &file];
    let (mut child, _lines, addresses) = start(&line, 1);
    let url = format!("mqtt://{}/a/b", addresses.first().unwrap());
    let sent = paloma(&["pub", "-L", &url, "-r", "-q", "1", "-m", "the-payload"]).status();
    assert!(sent.unwrap().success());
    let got = paloma(&["sub", "-L", &url, "-i", "reader", "-C", "1", "-W", "60"]).output();
    assert_eq!(stdout(&got.unwrap()), "the-payload\n");
    signal(&child, "-TERM");
    assert!(child.wait().unwrap().success());
    file
}

#[test]
fn what_was_recorded_is_told_step_by_step_and_compared() {
    let file = recorded("told.record");
    let output = replay(&[&file]);
    let text = stdout(&output);
    assert!(output.status.success(), "{text}");
    for part in [
        "> CONNECT \"reader\" MQTT 3.1.1",
        "> PUBLISH \"a/b\" 11 bytes AtLeastOnce id=1 retain",
        "< PUBACK 1 ",
        "> SUBSCRIBE 1 \"a/b\"",
        "< PUBLISH \"a/b\" 11 bytes AtMostOnce retain",
        "the broker is to stop",
        ", compared ",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let last = text.lines().last().unwrap();
    let quiet = stdout(&replay(&[&file, "--quiet"]));
    assert_eq!(quiet.lines().collect::<Vec<_>>(), [last]);
    let begun = stdout(&replay(&[&file, "--until", "3"]));
    assert!(begun.lines().last().unwrap().starts_with("3 steps, trace "));
    let record = std::fs::read(&file).unwrap();
    let mut words = record.windows("the-payload".len());
    assert!(!words.any(|word| word == b"the-payload"));
}

#[test]
fn a_replay_answers_why_a_client_got_nothing() {
    let file = recorded("asked.record");
    let steps = stdout(&replay(&[&file]));
    let sent = steps.lines().find(|line| line.contains("< PUBLISH"));
    let step = sent.unwrap().split_whitespace().next().unwrap();
    let text = stdout(&replay(&[
        &file,
        "--until",
        step,
        "--why-not",
        "reader",
        "a/b",
    ]));
    let verdict = "\"reader\" gets what is published on \"a/b\"";
    assert!(text.contains(verdict), "{text}");
    assert!(
        text.contains("- its filter \"a/b\" matches, at QoS 0"),
        "{text}"
    );
    // Its session ends with its connection.
    let text = stdout(&replay(&[&file, "--why-not", "reader", "a/b"]));
    assert!(text.contains("- it has no session"), "{text}");
    let output = replay(&[&file, "--why-not", "reader", "a/+"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_damaged_record_is_told_with_the_place() {
    let file = recorded("damaged.record");
    let mut record = std::fs::read(&file).unwrap();
    let cut = record.len() - 1;
    std::fs::write(&file, &record[..cut]).unwrap();
    let output = replay(&[&file]);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        errors.contains("is cut short in the block at byte "),
        "{errors}"
    );
    record.truncate(4);
    std::fs::write(&file, &record).unwrap();
    let output = replay(&[&file]);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(errors.contains("not a record of this version"), "{errors}");
}

#[test]
fn a_broker_that_cannot_record_where_it_is_told_does_not_start() {
    let line = [
        "serve",
        "--listen",
        "tcp://127.0.0.1:0",
        "--record",
        "/dev/null/x",
    ];
    let output = paloma(&line).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(errors.contains("cannot record to /dev/null/x"), "{errors}");
}
