//! Password files: logins, reload, the tool's side, and what strangers learn.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use paloma_auth::{Method, PasswordFile, Passwords, Verdict, remove_user, set_password};
use paloma_broker::AuthRequest;
use support::{Answer, BAD, allow, answer, at, judge, login, request, scratch};

/// A password file with two users, whose hashes cost the same.
fn passwords(directory: &str) -> Passwords {
    let path = scratch(directory).join("passwords");
    set_password(&path, "ann", b"secret").unwrap();
    set_password(&path, "bob", b"other").unwrap();
    Passwords::read(&path).unwrap()
}

#[track_caller]
fn check_problems(text: &str, expected: &[&str]) {
    let problems = PasswordFile::parse(Path::new("users"), text).unwrap_err();
    let lines: Vec<String> = problems.to_string().lines().map(str::to_owned).collect();
    assert_eq!(lines, expected, "{text:?}");
}

#[test]
fn the_right_password_lets_in_and_a_wrong_one_does_not() {
    let passwords = passwords("passwords-login");
    assert_eq!(judge(&passwords, 0, &login("ann", "secret")), allow("ann"));
    assert_eq!(judge(&passwords, 0, &login("ann", "other")), BAD);
    assert_eq!(judge(&passwords, 0, &login("ann", "")), BAD);
    assert_eq!(judge(&passwords, 0, &request(Some("ann"), None)), BAD);
    assert_eq!(
        judge(&passwords, 0, &login("Ann", "secret")),
        Answer::NotMine
    );
    assert_eq!(judge(&passwords, 0, &request(None, None)), Answer::NotMine);
    assert_eq!(
        judge(&passwords, 0, &request(None, Some("secret"))),
        Answer::NotMine
    );
}

#[test]
fn e1_a_stranger_costs_what_a_wrong_password_costs() {
    let passwords = passwords("passwords-strangers");
    let work_of = |request| {
        let before = passwords.work();
        let _ = judge(&passwords, 0, &request);
        let after = passwords.work();
        (after.hashes - before.hashes, after.units - before.units)
    };
    let wrong = work_of(login("ann", "wrong"));
    assert_eq!(wrong, (1, 2 * 19 * 1024));
    assert_eq!(work_of(login("nobody", "wrong")), wrong);
    // Not even a password that fits somebody else's hash makes a difference.
    assert_eq!(work_of(login("nobody", "secret")), wrong);
    assert_eq!(work_of(login("nobody", "secret")), wrong);
    assert_eq!(work_of(login("", "")), wrong);
    // On a machine that does other things the time is a record, and no more.
    let time_of = |user: &str| {
        let begin = Instant::now();
        for _ in 0..20 {
            let _ = judge(&passwords, 0, &login(user, "wrong"));
        }
        begin.elapsed().as_secs_f64()
    };
    let (user, stranger) = (time_of("ann"), time_of("nobody"));
    println!(
        "time of a stranger's login / a user's: {:.3}",
        stranger / user
    );
}

#[test]
fn e5_a_remembered_login_waits_for_no_hash_and_a_stranger_always_does() {
    let passwords = passwords("passwords-at-once");
    let at_once = |request: AuthRequest| passwords.judge_at_once(at(0), &request);
    assert!(at_once(login("ann", "secret")).is_none());
    assert_eq!(judge(&passwords, 0, &login("ann", "secret")), allow("ann"));
    for other in [
        login("ann", "wrong"),
        login("eve", "secret"),
        login("ann", &"x".repeat(5_000)),
    ] {
        assert!(at_once(other).is_none());
    }
    let Some(Verdict::Decided(outcome)) = at_once(login("ann", "secret")) else {
        panic!("it is remembered");
    };
    assert_eq!(answer(&outcome), allow("ann"));
    assert!(matches!(
        at_once(request(None, None)),
        Some(Verdict::NotMine)
    ));
    assert_eq!(passwords.work().hashes, 1);
    // Another password ends what is remembered.
    let changed = scratch("passwords-at-once-changed").join("passwords");
    set_password(&changed, "ann", b"other").unwrap();
    passwords.replace(PasswordFile::read(&changed).unwrap());
    assert!(
        passwords
            .judge_at_once(at(0), &login("ann", "secret"))
            .is_none()
    );
}

#[test]
fn right_credentials_are_remembered_for_a_minute() {
    let passwords = passwords("passwords-cache");
    for (seconds, hashes, remembered) in [(0, 1, 0), (59, 1, 1), (60, 2, 1), (119, 2, 2)] {
        assert_eq!(
            judge(&passwords, seconds, &login("ann", "secret")),
            allow("ann")
        );
        let work = passwords.work();
        assert_eq!(
            (work.hashes, work.remembered),
            (hashes, remembered),
            "{seconds} s"
        );
    }
    assert_eq!(judge(&passwords, 119, &login("ann", "secre")), BAD);
    assert_eq!(judge(&passwords, 119, &login("ann", "secre")), BAD);
    assert_eq!(passwords.work().hashes, 4);
}

#[test]
fn a_changed_password_ends_what_was_remembered() {
    let path = scratch("passwords-change").join("passwords");
    set_password(&path, "ann", b"old").unwrap();
    let passwords = Passwords::read(&path).unwrap();
    assert_eq!(judge(&passwords, 0, &login("ann", "old")), allow("ann"));
    set_password(&path, "ann", b"new").unwrap();
    passwords.reload().unwrap();
    assert_eq!(judge(&passwords, 0, &login("ann", "old")), BAD);
    assert_eq!(judge(&passwords, 0, &login("ann", "new")), allow("ann"));
}

#[test]
fn d8_a_broken_file_leaves_the_users_in_force() {
    let path = scratch("passwords-reload").join("passwords");
    set_password(&path, "ann", b"secret").unwrap();
    let passwords = Passwords::read(&path).unwrap();
    for broken in ["", "# nobody\n", "ann:plain\n"] {
        fs::write(&path, broken).unwrap();
        assert!(passwords.reload().is_err());
        assert_eq!(judge(&passwords, 0, &login("ann", "secret")), allow("ann"));
    }
    fs::remove_file(&path).unwrap();
    assert!(passwords.reload().is_err());
    assert!(Passwords::read(&path).is_err());
}

#[test]
fn all_problems_are_told_with_their_lines() {
    check_problems("", &["users: empty, or comments only"]);
    check_problems("\n# ann:x\n", &["users: empty, or comments only"]);
    let hash = "$6$3NgyJ6e1R2JHnx60$eTUp7YlIYwK68u0s1rjmAqGvV3cHA+yhXvltVEeZ7ae3Oo2NcbEIGzsPBEkcxfpUwPehhcz2MBRLMNQjrD3d5Q==";
    check_problems(
        &format!(
            "# users\nann\nbob:secret\ncid:{hash}\n\ncid:{hash}\n:{hash}\ndan:$7$2000000$AAAA$AAAA\n"
        ),
        &[
            "users:2: no `:` between user name and hash",
            "users:3: no hash of a known kind",
            "users:6: the user is on line 4 already",
            "users:7: the user name is empty, too long or has a character that it may not have",
            "users:8: the hash's parameters are above what is allowed",
        ],
    );
}

#[test]
fn e2_problems_and_debug_output_hold_no_secret() {
    let path = Path::new("users");
    let problems = PasswordFile::parse(path, "ann:hunter2\nhunter3\n").unwrap_err();
    let shown = format!("{problems} {problems:?}");
    assert!(!shown.contains("hunter"), "{shown}");
    let passwords = passwords("passwords-debug");
    assert_eq!(judge(&passwords, 0, &login("ann", "secret")), allow("ann"));
    let shown = format!("{passwords:?} {:?}", login("ann", "secret"));
    assert!(!shown.contains("secret"), "{shown}");
}

#[test]
fn changing_a_line_leaves_the_others_and_makes_the_file_private() {
    let path = scratch("passwords-edit").join("passwords");
    set_password(&path, "ann", b"1").unwrap();
    let ann = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("# ours\n\n{ann}")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    set_password(&path, "bob", b"2").unwrap();
    set_password(&path, "bob", b"3").unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert!(
        text.starts_with(&format!("# ours\n\n{ann}bob:$argon2id$")),
        "{text}"
    );
    assert_eq!(text.lines().count(), 4);
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o640
    );
    remove_user(&path, "bob").unwrap();
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        format!("# ours\n\n{ann}")
    );
    assert!(remove_user(&path, "bob").is_err());
    for user in ["", "a:b", "a\nb", "#a", " a"] {
        assert!(set_password(&path, user, b"x").is_err(), "{user:?}");
    }
    let files = fs::read_dir(path.parent().unwrap()).unwrap();
    assert_eq!(files.count(), 1);
}

#[test]
fn files_of_mosquitto_passwd_work_as_they_are() {
    let path = scratch("passwords-mosquitto").join("passwords");
    let tool = |arguments: &[&str]| {
        let mut command = Command::new("mosquitto_passwd");
        command.args(arguments).arg("-b").arg(&path);
        command
    };
    let is_there = Command::new("mosquitto_passwd").arg("-h").output().is_ok();
    if !is_there {
        assert!(
            std::env::var_os("PALOMA_REQUIRE_TOOLS").is_none(),
            "mosquitto_passwd is missing"
        );
        println!("skipped: mosquitto_passwd is missing");
        return;
    }
    for (arguments, user, password) in [
        (&["-c"][..], "ann", "secret"),
        (&["-H", "sha512"], "bob", "pass word"),
        (&["-I", "3000"], "cid", "päss:$wörd"),
    ] {
        let output = tool(arguments).args([user, password]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    let passwords = Passwords::read(&path).unwrap();
    for (user, password) in [
        ("ann", "secret"),
        ("bob", "pass word"),
        ("cid", "päss:$wörd"),
    ] {
        assert_eq!(judge(&passwords, 0, &login(user, password)), allow(user));
        assert_eq!(judge(&passwords, 0, &login(user, "wrong")), BAD);
    }
}
