//! The command line is read as mosquitto's clients read theirs.

use super::*;

fn parsed(line: &[&str]) -> Result<Parsed, clap::Error> {
    parse(
        std::iter::once("paloma")
            .chain(line.iter().copied())
            .map(OsString::from),
    )
}

fn publish(line: &[&str]) -> PublishArgs {
    let line: Vec<&str> = std::iter::once("pub").chain(line.iter().copied()).collect();
    let Command::Pub(arguments) = parsed(&line).unwrap().cli.command else {
        panic!("another command");
    };
    *arguments
}

fn subscribe(line: &[&str]) -> SubscribeArgs {
    let line: Vec<&str> = std::iter::once("sub").chain(line.iter().copied()).collect();
    let Command::Sub(arguments) = parsed(&line).unwrap().cli.command else {
        panic!("another command");
    };
    *arguments
}

fn refused(line: &str, expected: &str) {
    let words: Vec<&str> = line.split(' ').collect();
    let message = parsed(&words).unwrap_err().to_string();
    assert!(message.contains(expected), "{line}: {message}");
}

#[test]
fn the_definition_holds_together() {
    Cli::command().debug_assert();
}

#[test]
fn publish_takes_mosquittos_short_flags() {
    let arguments = publish(&[
        "-h", "broker", "-p", "1884", "-t", "a/b", "-m", "-5", "-q", "2", "-r", "-i", "me", "-u",
        "user", "-P", "-secret", "-k", "10", "-V", "mqttv5", "-c", "-x", "-1", "-d",
    ]);
    assert_eq!(
        (
            arguments.topic.as_deref().unwrap(),
            arguments.qos,
            arguments.retain
        ),
        ("a/b", 2, true)
    );
    assert_eq!(arguments.message, Some("-5".into()));
    let connect = arguments.connect;
    assert_eq!(
        (
            connect.broker.host.as_str(),
            connect.broker.port,
            connect.keepalive
        ),
        ("broker", Some(1884), 10)
    );
    assert_eq!(connect.id.as_deref(), Some("me"));
    assert_eq!(connect.broker.username.as_deref(), Some("user"));
    assert_eq!(connect.broker.password, Some("-secret".into()));
    assert_eq!(connect.broker.protocol_version, Version::V5);
    assert_eq!(connect.session_expiry_interval, Some(u32::MAX));
    assert!(connect.disable_clean_session && connect.debug);
}

#[test]
fn publish_takes_one_of_five_payloads() {
    for what in [
        ["-m", "x"],
        ["-f", "x"],
        ["-l", "-r"],
        ["-s", "-r"],
        ["-n", "-r"],
    ] {
        publish(&["-t", "a", what[0], what[1]]);
    }
    refused("pub -t a", "required");
    refused("pub -t a -n -l", "cannot be used with");
    refused("pub -m x", "--topic");
}

#[test]
fn defaults_are_mosquittos() {
    let arguments = subscribe(&["-t", "a"]);
    let connect = arguments.connect;
    assert_eq!(
        (
            connect.broker.host.as_str(),
            connect.broker.port,
            connect.keepalive
        ),
        ("localhost", None, 60)
    );
    assert_eq!(connect.broker.protocol_version, Version::V311);
    assert_eq!(
        (arguments.qos, arguments.count, arguments.timeout),
        (0, None, None)
    );
    assert!(!connect.disable_clean_session && !arguments.verbose && !arguments.no_newline);
}

#[test]
fn subscribe_takes_mosquittos_flags() {
    let arguments = subscribe(&[
        "-t", "a/#", "-t", "b", "-U", "c", "-T", "a/x", "-q", "1", "-C", "3", "-W", "5", "-v",
        "-N", "-R", "-E", "-F", "%t", "-I", "pre",
    ]);
    assert_eq!(arguments.topic, ["a/#", "b"]);
    assert_eq!(
        (arguments.unsubscribe, arguments.filter_out),
        (vec!["c".into()], vec!["a/x".into()])
    );
    assert_eq!(
        (arguments.qos, arguments.count, arguments.timeout),
        (1, Some(3), Some(5))
    );
    assert!(arguments.verbose && arguments.no_newline && arguments.no_retained);
    assert!(arguments.exit_after_subscribing && arguments.format.is_some());
    assert_eq!(arguments.connect.id_prefix.as_deref(), Some("pre"));
    assert!(subscribe(&["-U", "c"]).topic.is_empty());
    assert!(subscribe(&["-t", "c", "--retained-only"]).retained_only);
}

#[test]
fn versions_have_both_names() {
    for (name, version) in [
        ("5", Version::V5),
        ("mqttv5", Version::V5),
        ("311", Version::V311),
        ("mqttv311", Version::V311),
        ("31", Version::V31),
        ("mqttv31", Version::V31),
    ] {
        let arguments = subscribe(&["-t", "a", "-V", name]);
        assert_eq!(arguments.connect.broker.protocol_version, version, "{name}");
    }
}

#[test]
fn mistakes_are_named() {
    refused("pub -t a -n -q 3", "3 is not in 0..=2");
    refused("pub -t a -n -p 65536", "65536 is not in 0..=65535");
    refused("pub -t a -n -V 4", "invalid value '4'");
    refused("pub -t a -n -x never", "-1 for never");
    refused("pub -t a -n -i a -I b", "cannot be used with");
    refused("pub -t a -n --will-payload x", "--will-topic");
    refused("pub -t a -n --repeat 0", "0 is not in 1..");
    refused("pub -t a -n -D publish", "not enough arguments");
    refused(
        "pub -t a -n -D publish nonsense 1",
        "no property `nonsense`",
    );
    refused("pub -t a -n --nonsense", "unexpected argument");
    refused("sub", "--topic");
    refused("sub -t a -C 0", "0 is not in 1..");
    refused("sub -t a -W x", "invalid value 'x'");
    refused("sub -t a -F %y", "invalid format specifier '%y'");
    refused("sub -t a -R --retained-only", "cannot be used with");
    refused("check --in-memory --data x", "cannot be used with");
}

#[test]
fn properties_are_read_beside_the_rest() {
    let line = "pub -t a -D publish user-property k v -n -D publish content-type text";
    let words: Vec<&str> = line.split(' ').collect();
    let properties = parsed(&words).unwrap().properties.unwrap();
    assert_eq!(properties.publish.user, [("k".to_owned(), "v".to_owned())]);
    assert_eq!(properties.publish.content_type.as_deref(), Some("text"));
    assert_eq!(parsed(&["sub", "-t", "a"]).unwrap().properties, None);
    let message = publish(&["-t", "a", "-m", "-D"]).message;
    assert_eq!(message, Some("-D".into()));
}

#[test]
fn help_names_every_flag_and_the_exit_codes() {
    for (name, flags) in [
        (
            "pub",
            "-h -p -t -m -f -l -n -s -q -r -i -I -u -P -k -V -c -x -D -d",
        ),
        (
            "sub",
            "-h -p -t -q -i -I -u -P -k -V -c -x -C -W -v -F -D -T -U -R -N -E -d",
        ),
    ] {
        let error = parsed(&[name, "--help"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DisplayHelp);
        let help = error.to_string();
        assert!(help.contains("Exit codes"));
        for flag in flags.split(' ') {
            assert!(help.contains(&format!("  {flag}")), "{name} {flag}");
        }
    }
}

/// Commands in the pages, up to where each ends.
#[cfg(all(
    feature = "bench",
    feature = "control",
    feature = "replay",
    feature = "store"
))]
fn shown(page: &str) -> Vec<Vec<&str>> {
    let ends = ["&&", "|", ">", "2>", "<", "&", "#", "||", "\\"];
    let texts = page.lines().flat_map(|line| line.split('`'));
    let commands = texts.filter_map(|text| {
        // A word on what it does stands behind a gap.
        let command = text.trim_start().split("  ").next()?;
        let mut words = command
            .split_whitespace()
            .skip_while(|word| word.contains('='));
        let words = words
            .next()
            .filter(|first| *first == "paloma")
            .map(|_| words)?;
        Some(words.take_while(|word| !ends.contains(word)).collect())
    });
    commands.collect()
}

/// A flag that goes, or gets another name, leaves no sentence behind.
#[cfg(all(
    feature = "bench",
    feature = "control",
    feature = "replay",
    feature = "store"
))]
#[test]
fn the_pages_show_flags_that_there_are() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let mut seen = 0;
    for page in [
        "README.md",
        "docs/operating.md",
        "docs/performance.md",
        "docs/durability.md",
        "docs/simulation.md",
        "crates/paloma/README.md",
        "crates/paloma-load/README.md",
    ] {
        let text = std::fs::read_to_string(format!("{root}/{page}")).unwrap();
        for words in shown(&text) {
            let mut command = Cli::command();
            command.build();
            let mut command = &command;
            let names = words.iter().take_while(|word| !word.starts_with('-'));
            for name in names {
                let Some(inner) = command.find_subcommand(name) else {
                    break;
                };
                command = inner;
            }
            for flag in words.iter().filter_map(|word| word.strip_prefix("--")) {
                let name = flag.split('=').next().unwrap();
                let is_known = command
                    .get_arguments()
                    .any(|argument| argument.get_long() == Some(name));
                assert!(is_known, "{page}: paloma {}", words.join(" "));
                seen += 1;
            }
        }
    }
    assert!(seen > 20, "{seen}");
}
