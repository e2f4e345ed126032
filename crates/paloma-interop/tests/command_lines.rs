//! The command-line clients, with the flags people type.

use paloma_interop::broker::Broker;
use paloma_interop::commands::{Commands, Family};
use paloma_interop::process::Stream;
use paloma_interop::transport::Endpoint;

/// Runs `test` with one family's commands before a broker of its own.
fn check(family: Family, test: impl FnOnce(&Commands)) {
    let broker = Broker::start();
    if let Some(commands) = Commands::find(family, broker.endpoint()) {
        test(&commands);
    }
    broker.stop();
}

fn messages_arrive_at_each_qos_in_each_version(family: Family) {
    check(family, |commands| {
        for version in ["mqttv311", "mqttv5"] {
            for qos in ["0", "1", "2"] {
                let mut subscriber = commands
                    .subscribe(&["-V", version, "-q", qos, "-t", "plain/+", "-C", "3", "-v"]);
                commands.publish(&["-V", version, "-q", qos, "-t", "plain/a", "-m", "one"]);
                commands.publish(&["-V", version, "-q", qos, "-t", "plain/b", "-n"]);
                assert_eq!(
                    subscriber.rest_of(Stream::Out),
                    ["plain/a one", "plain/b (null)"],
                    "{version} at QoS {qos}"
                );
                assert!(subscriber.wait().success());
            }
        }
    });
}

fn a_retained_message_waits_for_its_subscriber(family: Family) {
    check(family, |commands| {
        commands.publish(&["-t", "kept", "-m", "value", "-r", "-q", "1"]);
        let shown = commands.collect(&["-t", "kept", "-C", "1", "-F", "%t|%p|%q|%r|%l", "-q", "1"]);
        assert_eq!(shown, (vec!["kept|value|1|1|5".to_owned()], Some(0)));
        commands.publish(&["-t", "kept", "-r", "-n", "-q", "1"]);
        let (lines, code) = commands.collect(&["-t", "kept", "-C", "1", "-W", "1"]);
        assert_eq!(
            (lines, code),
            (vec![], Some(27)),
            "nothing came within a second"
        );
    });
}

fn lines_and_whole_files_are_published(family: Family) {
    check(family, |commands| {
        let mut subscriber = commands.subscribe(&["-t", "input", "-q", "2", "-C", "5"]);
        let lines = commands.try_publish(&["-t", "input", "-l", "-q", "2"], b"one\ntwo\nthree\n");
        assert!(lines.status.success());
        let whole = commands.try_publish(&["-t", "input", "-s", "-q", "2"], b"four\nfive");
        assert!(whole.status.success());
        assert_eq!(
            subscriber.rest_of(Stream::Out),
            ["one", "two", "three", "four", "five"]
        );
    });
}

fn an_empty_payload_is_an_empty_line_to_nobody(family: Family) {
    check(family, |commands| {
        let mut subscriber = commands.subscribe(&["-t", "empty", "-q", "1", "-C", "3"]);
        commands.publish(&["-t", "empty", "-n", "-q", "1"]);
        commands.publish(&["-t", "empty", "-m", "full", "-q", "1"]);
        assert_eq!(subscriber.rest_of(Stream::Out), ["full"]);
    });
}

fn a_persistent_subscriber_gets_what_it_missed(family: Family) {
    check(family, |commands| {
        for version in ["mqttv311", "mqttv5"] {
            let session = ["-V", version, "-c", "-i", version, "-q", "1", "-x", "600"];
            // Session expiry is a flag of 5.0 only.
            let session = if version == "mqttv5" {
                &session[..]
            } else {
                &session[..7]
            };
            let mut first = commands.subscribe(&[session, &["-t", "missed", "-C", "1"]].concat());
            assert!(first.wait().success());
            for number in ["1", "2", "3"] {
                commands.publish(&["-t", "missed", "-m", number, "-q", "1"]);
            }
            let resumed = commands.collect(&[session, &["-t", "missed", "-C", "3"]].concat());
            assert_eq!(
                resumed,
                (["1", "2", "3"].map(str::to_owned).to_vec(), Some(0)),
                "{version}"
            );
        }
    });
}

fn a_killed_subscriber_leaves_its_will(family: Family) {
    check(family, |commands| {
        let mut witness = commands.subscribe(&["-t", "wills/#", "-v", "-C", "2"]);
        let mut mortal = commands.subscribe(&[
            "-t",
            "nothing",
            "--will-topic",
            "wills/one",
            "--will-payload",
            "gone",
            "--will-qos",
            "1",
        ]);
        mortal.kill();
        assert_eq!(witness.rest_of(Stream::Out), ["wills/one gone"]);
    });
}

fn properties_are_sent_and_shown(family: Family) {
    check(family, |commands| {
        let mut subscriber = commands.subscribe(&[
            "-V",
            "mqttv5",
            "-t",
            "rich",
            "-C",
            "2",
            "-F",
            "%t %p %P %R %D %C",
        ]);
        commands.publish(&[
            "-V",
            "mqttv5",
            "-t",
            "rich",
            "-m",
            "text",
            "-D",
            "publish",
            "user-property",
            "name",
            "value",
            "-D",
            "publish",
            "response-topic",
            "answer/here",
            "-D",
            "publish",
            "correlation-data",
            "42",
            "-D",
            "publish",
            "content-type",
            "text/plain",
        ]);
        let lines = subscriber.rest_of(Stream::Out);
        assert_eq!(lines, ["rich text name:value answer/here 42 text/plain"]);
    });
}

fn a_shared_subscription_is_shared(family: Family) {
    check(family, |commands| {
        let member = [
            "-V",
            "mqttv5",
            "-t",
            "$share/crew/work",
            "-t",
            "stop",
            "-q",
            "1",
        ];
        let mut members = [commands.subscribe(&member), commands.subscribe(&member)];
        for number in 0..10 {
            commands.publish(&["-t", "work", "-m", &number.to_string(), "-q", "1"]);
        }
        commands.publish(&["-t", "stop", "-m", "stop", "-q", "1"]);
        let mut received = Vec::new();
        for member in &mut members {
            member.find_line("the end", |line| {
                received.push(line.to_owned());
                (line == "stop").then(|| received.pop())
            });
        }
        received.sort();
        let expected: Vec<String> = (0..10).map(|number| number.to_string()).collect();
        assert_eq!(received, expected);
    });
}

fn a_closed_port_is_a_failure(family: Family) {
    if let Some(commands) = Commands::find(family, &Endpoint::of_nobody()) {
        let output = commands.try_publish(&["-t", "any", "-m", "any"], b"");
        assert!(!output.status.success());
        assert!(!output.stderr.is_empty(), "it says why");
    }
}

/// One test a behaviour for a family; a macro because the test harness wants a function of its own for each.
macro_rules! tests_of {
    ($module:ident, $family:expr) => {
        tests_of!(
            $module, $family;
            messages_arrive_at_each_qos_in_each_version,
            a_retained_message_waits_for_its_subscriber,
            lines_and_whole_files_are_published,
            an_empty_payload_is_an_empty_line_to_nobody,
            a_persistent_subscriber_gets_what_it_missed,
            a_killed_subscriber_leaves_its_will,
            properties_are_sent_and_shown,
            a_shared_subscription_is_shared,
            a_closed_port_is_a_failure
        );
    };
    ($module:ident, $family:expr; $($behaviour:ident),+) => {
        mod $module {
            use super::Family;
            $(#[test]
            fn $behaviour() {
                super::$behaviour($family);
            })+
        }
    };
}

tests_of!(mosquitto, Family::Mosquitto);
tests_of!(paloma, Family::Paloma);
