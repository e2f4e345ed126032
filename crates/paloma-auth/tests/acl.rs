//! ACL files: what they say, what is refused, and reload.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

use std::fs;
use std::path::{Path, PathBuf};

use paloma_auth::{AclRules, ClientRules, OpenTopics, ReloadableRules};
use paloma_broker::Action::{self, Read, Write};
use paloma_broker::{Authorizer, Grant, Identity};
use paloma_topic::{TopicFilterRef, TopicNameRef};

fn rules(text: &str) -> AclRules {
    AclRules::parse(Path::new("acl"), text).unwrap()
}

fn identity(user: &str) -> Identity {
    Identity {
        user: (!user.is_empty()).then(|| user.into()),
    }
}

/// An empty `user` is an anonymous client; the client id is `c1`.
#[track_caller]
fn check(rules: &dyn Authorizer, user: &str, action: Action, topic: &str, expected: bool) {
    let name = TopicNameRef::new(topic).unwrap();
    let answer = rules.is_allowed(&identity(user), "c1", action, name);
    assert_eq!(answer, expected, "{user} {action:?} {topic}");
}

#[track_caller]
fn check_grant(rules: &dyn Authorizer, user: &str, filter: &str, expected: Grant) {
    let filter = TopicFilterRef::new(filter).unwrap();
    let answer = rules.grant(&identity(user), "c1", filter);
    assert_eq!(answer, expected, "{user} {filter}");
}

#[track_caller]
fn check_problems(text: &str, expected: &[&str]) {
    let problems = AclRules::parse(Path::new("acl"), text).unwrap_err();
    let lines: Vec<String> = problems.to_string().lines().map(str::to_owned).collect();
    assert_eq!(lines, expected, "{text:?}");
}

const HOME: &str = "
# Everybody without a name.
topic read public/#
topic lobby/+

user ann
topic read home/#
topic write home/ann/set
topic deny home/safe/#
topic readwrite notes of ann
topic read\t$SYS/#

user bob smith
topic read
pattern read mail/%u/#
pattern readwrite devices/%c/#
pattern deny devices/%c/secret

user ann
topic write later
";

#[test]
fn a_rule_allows_what_it_says_and_nothing_else() {
    let rules = rules(HOME);
    check(&rules, "ann", Read, "home/hall", true);
    check(&rules, "ann", Write, "home/hall", false);
    check(&rules, "ann", Write, "home/ann/set", true);
    check(&rules, "ann", Write, "notes of ann", true);
    check(&rules, "ann", Read, "elsewhere", false);
    check(&rules, "ann", Write, "later", true);
    check(&rules, "bob smith", Read, "read", true);
    check(&rules, "bob smith", Write, "read", true);
    check(&rules, "eve", Read, "home/hall", false);
}

#[test]
fn lines_before_the_first_user_are_for_anonymous_clients_only() {
    let rules = rules(HOME);
    check(&rules, "", Read, "public/x", true);
    check(&rules, "", Write, "lobby/x", true);
    check(&rules, "ann", Read, "public/x", false);
}

#[test]
fn deny_wins_wherever_it_stands() {
    let rules = rules(HOME);
    check(&rules, "ann", Read, "home/safe/code", false);
    check(&rules, "ann", Read, "home/safe", false);
    check(&rules, "ann", Write, "devices/c1/on", true);
    check(&rules, "ann", Write, "devices/c1/secret", false);
}

#[test]
fn patterns_are_for_everybody_and_stand_for_the_clients_names() {
    let rules = rules(HOME);
    check(&rules, "ann", Read, "mail/ann/1", true);
    check(&rules, "ann", Read, "mail/bob smith/1", false);
    check(&rules, "eve", Read, "mail/eve", true);
    check(&rules, "", Read, "mail//1", false);
    check(&rules, "", Write, "devices/c1/on", true);
    check(&rules, "", Write, "devices/c2/on", false);
}

#[test]
fn nobody_writes_below_a_dollar_and_reading_needs_a_rule() {
    let rules = rules("user ann\ntopic readwrite #\nuser bob\ntopic readwrite $SYS/#\n");
    check(&rules, "ann", Read, "$SYS/uptime", false);
    check(&rules, "bob", Read, "$SYS/uptime", true);
    check(&rules, "bob", Write, "$SYS/uptime", false);
    check_grant(&rules, "ann", "$SYS/#", Grant::Denied);
    check_grant(&rules, "bob", "$SYS/#", Grant::AllAllowed);
}

#[test]
fn a_filter_is_granted_whole_in_part_or_not_at_all() {
    let rules = rules(HOME);
    check_grant(&rules, "ann", "home/hall/+", Grant::AllAllowed);
    check_grant(&rules, "ann", "home/#", Grant::CheckEach);
    check_grant(&rules, "ann", "home/safe/#", Grant::Denied);
    check_grant(&rules, "ann", "#", Grant::CheckEach);
    check_grant(&rules, "ann", "later", Grant::Denied);
    check_grant(&rules, "ann", "garden/#", Grant::Denied);
    check_grant(&rules, "ann", "mail/+/#", Grant::CheckEach);
    check_grant(&rules, "ann", "mail/ann/#", Grant::AllAllowed);
    check_grant(&rules, "ann", "mail/eve/#", Grant::Denied);
    check_grant(&rules, "", "public/#", Grant::AllAllowed);
}

#[test]
fn all_problems_are_told_with_their_lines() {
    check_problems(
        "topic\nuser\n\n# fine\ntopic sideways a/b\nuser ann\ntopic read a/#/b\nfriend bob\npattern read %u+\n",
        &[
            "acl:1: no topic filter",
            "acl:2: no user name",
            "acl:5: the access is none of `read`, `write`, `readwrite` and `deny`",
            &format!("acl:7: {}", TopicFilterRef::new("a/#/b").unwrap_err()),
            "acl:8: neither `user`, `topic` nor `pattern`",
            &format!("acl:9: {}", TopicFilterRef::new("x+").unwrap_err()),
        ],
    );
}

#[test]
fn d8_a_file_without_rules_is_refused() {
    for text in ["", "\n \n", "# nothing\n   # here\n"] {
        check_problems(text, &["acl: empty, or comments only"]);
    }
}

#[test]
fn d8_files_that_cannot_be_read_are_refused() {
    let directory = scratch("acl-unreadable");
    assert!(AclRules::read(&directory.join("missing")).is_err());
    assert!(AclRules::read(&directory).is_err());
    let binary = directory.join("binary");
    fs::write(&binary, b"topic read \xff\n").unwrap();
    let problems = AclRules::read(&binary).unwrap_err();
    assert!(problems.to_string().ends_with("binary: not UTF-8"));
}

#[test]
fn d8_a_broken_file_leaves_the_rules_in_force() {
    let path = scratch("acl-reload").join("acl");
    fs::write(&path, "user ann\ntopic read a\n").unwrap();
    let rules = ReloadableRules::read(&path).unwrap();
    for broken in [
        "",
        "# only this\n",
        "user ann\ntopic read a/#/b\n",
        "nonsense",
    ] {
        fs::write(&path, broken).unwrap();
        assert!(rules.reload().is_err());
        check(&rules, "ann", Read, "a", true);
        assert_eq!(rules.epoch(), 0);
    }
    fs::remove_file(&path).unwrap();
    assert!(rules.reload().is_err());
    fs::write(&path, "user ann\ntopic read b\n").unwrap();
    rules.reload().unwrap();
    assert_eq!(rules.epoch(), 1);
    check(&rules, "ann", Read, "a", false);
    check(&rules, "ann", Read, "b", true);
}

#[test]
fn rules_of_one_client_use_its_names() {
    let rules = ClientRules::new(["read news/#", "own/%u/%c", "deny news/late"]).unwrap();
    check(&rules, "ann", Read, "news/early", true);
    check(&rules, "ann", Read, "news/late", false);
    check(&rules, "ann", Write, "own/ann/c1", true);
    check(&rules, "bob", Write, "own/ann/c1", false);
    check_grant(&rules, "ann", "news/#", Grant::CheckEach);
    assert!(ClientRules::new(["peek a"]).is_err());
    assert!(ClientRules::new(vec!["a"; 1_025]).is_err());
    assert!(ClientRules::new(vec!["a"; 1_024]).is_ok());
    check(&ClientRules::new([]).unwrap(), "ann", Read, "a", false);
}

#[test]
fn without_an_acl_everything_but_reserved_topics_is_open() {
    check(&OpenTopics, "ann", Write, "a/$b", true);
    check(&OpenTopics, "ann", Read, "$SYS/uptime", false);
    check_grant(&OpenTopics, "ann", "#", Grant::AllAllowed);
    check_grant(&OpenTopics, "ann", "$SYS/#", Grant::Denied);
}

fn scratch(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}
