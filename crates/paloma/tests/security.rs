//! Passwords, rules and their reload, through the real binary.
#![cfg(all(feature = "clients", feature = "websocket"))]
#![expect(clippy::unwrap_used, reason = "a broken process ends the test")]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use support::site::{ACCEPTED, BUSY, Client, NOT_AUTHORIZED, PATIENCE, Site, WRONG_PASSWORD};
use support::tools::skip;
use support::{Lines, paloma, start};

/// What `paloma check` and `paloma serve` say about a configuration that is refused.
#[track_caller]
fn check_refused(site: &Site, expected: &[&str]) {
    for command in ["check", "serve"] {
        let output = paloma(&[command, "--config", &site.path("paloma.toml")])
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        let directory = site.directory.to_str().unwrap();
        let said = said.replace(directory, "DIR");
        for line in expected {
            assert!(
                said.lines().any(|said| said.starts_with(line)),
                "{line}: {said}"
            );
        }
    }
}

#[test]
fn passwd_makes_changes_checks_and_removes_users() {
    let site = Site::new("passwd");
    let code = |arguments: &[&str], input| site.passwd(arguments, input).status.code();
    assert_eq!(code(&["file", "ann"], "first\n"), Some(0));
    let mode = fs::metadata(site.path("file"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(code(&["file", "bob"], "other"), Some(0));
    assert_eq!(code(&["--check", "file", "ann"], "first"), Some(0));
    assert_eq!(code(&["--check", "file", "ann"], "other"), Some(1));
    assert_eq!(code(&["--check", "file", "eve"], "first"), Some(1));
    assert_eq!(code(&["file", "ann"], "second\r\n"), Some(0));
    assert_eq!(code(&["--check", "file", "ann"], "second"), Some(0));
    assert_eq!(code(&["--delete", "file", "ann"], ""), Some(0));
    assert_eq!(code(&["--delete", "file", "ann"], ""), Some(1));
    assert_eq!(code(&["--check", "file", "bob"], "other"), Some(0));
    for (user, password) in [("a:b", "x"), ("", "x"), ("ann", "")] {
        assert_eq!(
            code(&["file", user], password),
            Some(1),
            "{user:?} {password:?}"
        );
    }
    assert_eq!(code(&["no/such/file", "ann"], "x"), Some(1));
    assert_eq!(code(&["file"], ""), Some(2));
    let text = fs::read_to_string(site.path("file")).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.starts_with("bob:$argon2id$"), "{text}");
}

#[test]
fn real_clients_log_in_with_passwords_of_both_tools() {
    let mut site = Site::new("tools");
    let made = Command::new("mosquitto_passwd")
        .args(["-c", "-b", &site.path("passwords"), "old", "mosquitto's"])
        .status();
    if made.is_err() {
        return skip("mosquitto_passwd");
    }
    site.user("passwords", "new", "paloma's");
    site.write(
        "rules",
        "user old\ntopic write from/old\nuser new\ntopic read from/#\n",
    );
    let config = "[admin]\naddress = ''\n[[listener]]\naddress = '127.0.0.1:0'\n\
                  [auth]\npassword_file = 'DIR/passwords'\nacl_file = 'DIR/rules'\n";
    site.write("paloma.toml", config);
    site.start(1);
    let reader = [
        "-u", "new", "-P", "paloma's", "-t", "from/#", "-C", "1", "-W", "30", "-v",
    ];
    let Some(reader) = site.mosquitto("mosquitto_sub", &reader) else {
        return;
    };
    // Retained, so that it does not matter who is first.
    let writer = [
        "-u",
        "old",
        "-P",
        "mosquitto's",
        "-t",
        "from/old",
        "-m",
        "hi",
        "-q",
        "1",
        "-r",
    ];
    let writer = site.mosquitto("mosquitto_pub", &writer).unwrap();
    let writer = writer.wait_with_output().unwrap();
    assert!(writer.status.success(), "{writer:?}");
    let reader = reader.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&reader.stdout), "from/old hi\n");

    let denied = [
        "-u", "new", "-P", "paloma's", "-t", "from/new", "-m", "x", "-q", "1",
    ];
    let denied = site.mosquitto("mosquitto_pub", &denied).unwrap();
    let denied = denied.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&denied.stderr);
    assert!(said.contains("Not authorized"), "{said}");
    let wrong = ["-u", "new", "-P", "wrong", "-t", "a", "-m", "x"];
    let wrong = site.mosquitto("mosquitto_pub", &wrong).unwrap();
    assert!(!wrong.wait_with_output().unwrap().status.success());
}

#[test]
fn a_login_is_answered_by_what_was_wrong_with_it() {
    let site = Site::with("codes", &[("ann", "right")], None);
    site.check(Some(("ann", "right")), ACCEPTED);
    site.check(Some(("ann", "wrong")), WRONG_PASSWORD);
    site.check(Some(("ann", "")), WRONG_PASSWORD);
    site.check(Some(("eve", "right")), WRONG_PASSWORD);
    site.check(None, NOT_AUTHORIZED);
}

#[test]
fn who_fails_too_often_has_to_wait() {
    let mut site = Site::new("floods");
    site.user("passwords", "ann", "right");
    let config = "[admin]\naddress = ''\n[[listener]]\naddress = '127.0.0.1:0'\n\
                  [auth]\npassword_file = 'DIR/passwords'\n\
                  [limits]\nfailed_logins_per_minute_max = 2\n";
    site.write("paloma.toml", config);
    site.start(1);
    site.check(Some(("ann", "wrong")), WRONG_PASSWORD);
    site.check(Some(("ann", "wrong")), WRONG_PASSWORD);
    site.check(Some(("ann", "right")), BUSY);
}

#[test]
fn rules_allow_deny_and_hold_names() {
    let rules = "topic read public/#\n\
                 user ann\ntopic readwrite a/#\ntopic deny a/secret\n\
                 pattern readwrite home/%u/%c\n";
    let site = Site::with("rules", &[("ann", "a"), ("bob", "b")], Some(rules));
    let (mut ann, _) = site.client("kitchen", Some(("ann", "a")));
    let (mut bob, _) = site.client("cellar", Some(("bob", "b")));
    assert_eq!(ann.subscribe("a/#"), 0);
    assert_eq!(ann.subscribe("home/ann/kitchen"), 0);
    for filter in [
        "b/#",
        "home/ann/cellar",
        "home/bob/kitchen",
        "public/x",
        "$SYS/#",
    ] {
        assert_eq!(ann.subscribe(filter), 0x80, "{filter}");
    }
    assert_eq!(bob.subscribe("a/#"), 0x80);
    bob.publish("a/x", "no");
    bob.publish("home/ann/kitchen", "no");
    ann.publish("a/secret", "no");
    ann.publish("home/ann/kitchen", "yes");
    ann.publish("a/x", "yes");
    assert_eq!(ann.received(), ["home/ann/kitchenyes", "a/xyes"]);
}

#[test]
fn passwords_without_rules_open_all_but_reserved_topics() {
    let mut site = Site::with("open", &[("ann", "a")], None);
    let (mut ann, _) = site.client("ann", Some(("ann", "a")));
    assert_eq!(ann.subscribe("#"), 0);
    assert_eq!(ann.subscribe("$SYS/#"), 0x80);
    ann.publish("x", "y");
    assert_eq!(ann.received(), ["xy"]);
    assert!(site.reload().contains("there is no acl_file"));
}

/// Case D8.
#[test]
fn a_broken_security_file_stops_the_start() {
    let site = Site::new("broken");
    let config = "[auth]\npassword_file = 'DIR/passwords'\nacl_file = 'DIR/rules'\n";
    site.write("paloma.toml", config);
    let (passwords, rules) = (
        "DIR/passwords: auth.password_file: ",
        "DIR/rules: auth.acl_file: ",
    );
    check_refused(
        &site,
        &[
            &format!("{passwords}No such file"),
            &format!("{rules}No such file"),
        ],
    );
    for empty in ["", "# nobody\n\n", "   \n"] {
        site.write("passwords", empty);
        site.write("rules", empty);
        let empty = "empty, or comments only";
        check_refused(
            &site,
            &[&format!("{passwords}{empty}"), &format!("{rules}{empty}")],
        );
    }
    site.write("passwords", "# users\nann:secret\nbob\n");
    site.write("rules", "topic read a/#\ntopik read b\ntopic write c/#/d\n");
    check_refused(
        &site,
        &[
            "DIR/passwords:2: auth.password_file: no hash of a known kind",
            "DIR/passwords:3: auth.password_file: no `:` between user name and hash",
            "DIR/rules:2: auth.acl_file: neither `user`, `topic` nor `pattern`",
            "DIR/rules:3: auth.acl_file: ",
        ],
    );
    fs::remove_file(site.path("passwords")).unwrap();
    site.user("passwords", "ann", "a");
    site.write("rules", "topic read a/#\n");
    for name in ["passwords", "rules"] {
        fs::set_permissions(site.path(name), fs::Permissions::from_mode(0o666)).unwrap();
    }
    check_refused(
        &site,
        &[
            &format!("{passwords}its mode is 0666"),
            &format!("{rules}its mode is 0666"),
        ],
    );
    // A directory cannot be read, not even by root.
    fs::remove_file(site.path("rules")).unwrap();
    fs::create_dir(site.path("rules")).unwrap();
    check_refused(&site, &[&format!("{rules}Is a directory")]);
}

/// Case D8.
#[test]
fn a_broken_reload_keeps_the_old_rules_and_says_all_that_is_wrong() {
    let rules = "user ann\ntopic readwrite a/#\n";
    let mut site = Site::with("stays", &[("ann", "a")], Some(rules));
    let (mut ann, _) = site.client("ann", Some(("ann", "a")));
    assert_eq!(ann.subscribe("a/#"), 0);
    for broken in ["", "# nothing\n", "topik x\ntopic\n"] {
        site.write("rules", broken);
        // Half of it would be right.
        site.user("passwords", "bob", "b");
        let said = site.reload();
        assert!(said.contains("everything stays as it was"), "{said}");
        if broken.starts_with("topik") {
            assert!(said.contains("rules:1: auth.acl_file:"), "{said}");
            assert!(said.contains("rules:2: auth.acl_file:"), "{said}");
        }
        site.check(Some(("bob", "b")), WRONG_PASSWORD);
        ann.publish("a/x", "still");
        assert_eq!(ann.received(), ["a/xstill"]);
    }
    site.write("rules", rules);
    site.write(
        "paloma.toml",
        "[limits]\nqos_max = 7\n[log]\nlevel = 'loud'\n",
    );
    let said = site.reload();
    assert!(said.contains("limits.qos_max: 7 is out of range"), "{said}");
    assert!(said.contains("log.level: `loud`"), "{said}");
    ann.publish("a/x", "still");
    assert_eq!(ann.received(), ["a/xstill"]);
}

#[test]
fn a_reload_takes_a_right_from_a_client_that_is_connected() {
    let mut site = Site::with(
        "revoked",
        &[("ann", "a"), ("bob", "b")],
        Some("user ann\ntopic read a/#\nuser bob\ntopic write a/#\n"),
    );
    let (mut ann, _) = site.client("ann", Some(("ann", "a")));
    let (mut bob, _) = site.client("bob", Some(("bob", "b")));
    assert_eq!(ann.subscribe("a/#"), 0);
    bob.publish("a/x", "1");
    assert_eq!(ann.received(), ["a/x1"]);
    site.write(
        "rules",
        "user ann\ntopic read a/public\nuser bob\ntopic write a/#\n",
    );
    site.reload();
    bob.publish("a/x", "2");
    bob.publish("a/public", "3");
    assert_eq!(ann.received(), ["a/public3"]);
    assert_eq!(ann.subscribe("a/x"), 0x80);
    site.write("rules", "user ann\ntopic read a/#\n");
    site.reload();
    bob.publish("a/x", "4");
    assert_eq!(
        ann.received(),
        Vec::<String>::new(),
        "bob may not write any more"
    );
}

#[test]
fn a_reload_sends_away_whose_password_is_gone_or_changed() {
    let users = [("ann", "a"), ("bob", "b"), ("cyd", "c")];
    let mut site = Site::with("expelled", &users, None);
    let clients = users.map(|user| site.client(user.0, Some(user)).0);
    let [mut ann, mut bob, mut cyd] = clients;
    site.user("passwords", "ann", "other");
    site.passwd(&["--delete", "passwords", "bob"], "");
    let said = site.reload();
    assert!(said.contains("sent_away=2"), "{said}");
    assert!(ann.is_closed());
    assert!(bob.is_closed());
    assert_eq!(cyd.received(), Vec::<String>::new());
    site.check(Some(("ann", "a")), WRONG_PASSWORD);
    site.check(Some(("ann", "other")), ACCEPTED);
    site.check(Some(("bob", "b")), WRONG_PASSWORD);
}

#[test]
fn a_reload_adds_and_removes_listeners_and_changes_limits() {
    let mut site = Site::new("listeners");
    let listener = |name: &str, path: &str| {
        format!("[[listener]]\nname = '{name}'\naddress = 'unix:DIR/{path}'\n")
    };
    let base = "[admin]\naddress = ''\n[[listener]]\naddress = '127.0.0.1:0'\n";
    site.write("paloma.toml", &format!("{base}{}", listener("a", "a.sock")));
    site.start(2);
    let (mut stays, code) = site.client("stays", None);
    assert_eq!(code, ACCEPTED);
    let text = format!("# moved by a line\n{base}{}", listener("b", "b.sock"));
    let text = format!("{text}[limits]\nclient_id_bytes_max = 23\n[node]\nthreads = 2\n");
    site.write("paloma.toml", &text);
    let said = site.reload();
    assert!(said.contains("listening on unix://"), "{said}");
    assert!(said.contains("key=\"node.threads\""), "{said}");
    assert!(!fs::exists(site.path("a.sock")).unwrap());
    assert!(fs::exists(site.path("b.sock")).unwrap());
    assert_eq!(stays.received(), Vec::<String>::new());
    let long = "x".repeat(24);
    assert_eq!(site.client(&long, None).1, 2);

    // One that cannot be opened: nothing changes, and nobody is told otherwise.
    let broken = listener("c", "no/such/directory/c.sock");
    let text = format!("{base}{}{broken}", listener("d", "d.sock"));
    site.write("paloma.toml", &text);
    let said = site.reload();
    assert!(said.contains("everything stays as it was"), "{said}");
    assert!(!said.contains("listening on"), "{said}");
    assert!(!fs::exists(site.path("d.sock")).unwrap());
    assert!(fs::exists(site.path("b.sock")).unwrap());
    assert_eq!(site.client(&long, None).1, 2);
    assert_eq!(stays.received(), Vec::<String>::new());
}

#[test]
fn a_reload_opens_a_port_wider_and_narrower() {
    let mut site = Site::new("wider");
    let config = |address: &str| {
        format!(
            "[admin]\naddress = ''\n[[listener]]\naddress = '{address}'\nallow_anonymous = true\n"
        )
    };
    site.write("paloma.toml", &config("127.0.0.1:0"));
    site.start(1);
    let port = site.addresses[0].rsplit(':').next().unwrap().to_owned();
    for host in ["0.0.0.0", "127.0.0.1", "0.0.0.0"] {
        // The first listener was given its port, so that it is another address than the one that has it in the file.
        let address = format!("{host}:{port}");
        site.write("paloma.toml", &config(&address));
        let said = site.reload();
        assert!(
            said.contains(&format!("listening on tcp://{address}")),
            "{said}"
        );
        site.check(None, ACCEPTED);
    }
}

#[test]
fn nobody_is_refused_while_a_reload_replaces_a_listener() {
    let mut site = Site::new("replaced");
    let config = |address: &str, connections_max: usize| {
        format!(
            "[admin]\naddress = ''\n\
             [[listener]]\naddress = '{address}'\nconnections_max = {connections_max}\n\
             [[listener]]\nname = 'unix'\naddress = 'unix:DIR/a.sock'\nconnections_max = {connections_max}\n"
        )
    };
    // More than can come at once: the limit refuses nobody here.
    site.write("paloma.toml", &config("127.0.0.1:0", 20_000));
    site.start(2);
    let address = site.addresses[0].clone();
    let socket = site.path("a.sock");
    let file = fs::metadata(&socket).unwrap().ino();
    let is_over = AtomicBool::new(false);
    let connections = thread::scope(|scope| {
        let client = scope.spawn(|| {
            let mut connections = 0_u32;
            while !is_over.load(Ordering::SeqCst) {
                TcpStream::connect(&address).expect("somebody listens");
                UnixStream::connect(&socket).expect("somebody listens");
                connections += 1;
            }
            connections
        });
        for round in 0..20 {
            // From the second on the port is the one that the first was given.
            let wanted = if round == 0 { "127.0.0.1:0" } else { &address };
            site.write("paloma.toml", &config(wanted, 20_001 + round));
            let said = site.reload();
            assert!(
                said.contains(&format!("listening on tcp://{address}")),
                "{said}"
            );
            assert!(said.contains("has been read again"), "{said}");
        }
        is_over.store(true, Ordering::SeqCst);
        client.join().unwrap()
    });
    assert!(connections > 20, "{connections}");
    assert_eq!(fs::metadata(&socket).unwrap().ino(), file);
    site.check(None, ACCEPTED);
    site.stop();
    assert!(!fs::exists(&socket).unwrap());
}

#[test]
fn a_listener_that_could_not_be_replaced_serves_as_before() {
    let mut site = Site::new("not-replaced");
    let config = |connections_max: usize| {
        format!(
            "[admin]\naddress = ''\n[[listener]]\naddress = '127.0.0.1:0'\n\
             [[listener]]\nname = 'unix'\naddress = 'unix:DIR/sockets/a'\nconnections_max = {connections_max}\n"
        )
    };
    fs::create_dir(site.path("sockets")).unwrap();
    site.write("paloma.toml", &config(500));
    site.start(2);
    // The file is not where it was, and there is no place for another.
    fs::rename(site.path("sockets"), site.path("elsewhere")).unwrap();
    site.write("paloma.toml", &config(501));
    let said = site.reload();
    assert!(said.contains("everything stays as it was"), "{said}");
    UnixStream::connect(site.path("elsewhere/a")).unwrap();
    // One whose file is gone is made again.
    fs::create_dir(site.path("sockets")).unwrap();
    let said = site.reload();
    assert!(said.contains("listening on unix://"), "{said}");
    UnixStream::connect(site.path("sockets/a")).unwrap();
    assert!(UnixStream::connect(site.path("elsewhere/a")).is_err());
}

#[test]
fn a_listener_that_could_not_be_opened_again_is_opened_by_the_next_reload() {
    let mut site = Site::new("again");
    let config = |mode: &str| {
        format!(
            "[admin]\naddress = ''\n[[listener]]\naddress = '127.0.0.1:0'\n\
             [[listener]]\nname = 'unix'\naddress = 'unix:DIR/sockets/a'\nsocket_mode = '{mode}'\n"
        )
    };
    fs::create_dir(site.path("sockets")).unwrap();
    site.write("paloma.toml", &config("0600"));
    site.start(2);
    // It has to be closed for another mode, and there is no place for either.
    fs::rename(site.path("sockets"), site.path("elsewhere")).unwrap();
    site.write("paloma.toml", &config("0660"));
    let said = site.reload();
    assert!(said.contains("cannot be opened again"), "{said}");
    assert!(said.contains("everything stays as it was"), "{said}");
    site.check(None, ACCEPTED);
    fs::create_dir(site.path("sockets")).unwrap();
    site.write("paloma.toml", &config("0600"));
    let said = site.reload();
    assert!(said.contains("listening on unix://"), "{said}");
    assert!(fs::exists(site.path("sockets/a")).unwrap());
}

#[test]
fn a_reload_changes_how_much_is_logged() {
    let mut site = Site::new("levels");
    let listener = "[admin]\naddress = ''\n[[listener]]\naddress = '127.0.0.1:0'\n";
    let level = |site: &Site, level: &str| {
        let log = format!("[log]\nlevel = '{level}'\n");
        site.write("paloma.toml", &format!("{listener}{log}"));
    };
    level(&site, "warn");
    let config = site.path("paloma.toml");
    let (child, log, addresses) = start(&["serve", "--config", &config], 1);
    (site.child, site.addresses) = (Some(child), addresses);
    site.log = Some(Lines::of(log));
    site.check(None, ACCEPTED);
    level(&site, "info");
    let said = site.reload();
    assert!(!said.contains("client connected"), "{said}");
    site.check(None, ACCEPTED);
    site.until(&["client connected"]);
    level(&site, "loud");
    site.reload();
    site.check(None, ACCEPTED);
    site.until(&["client connected"]);
}

/// Case D9.
#[test]
fn every_listener_applies_its_own_rules() {
    let mut site = Site::new("each");
    site.user("passwords", "ann", "a");
    site.user("others", "bob", "b");
    site.write(
        "rules",
        "user ann\ntopic readwrite a/#\nuser bob\ntopic readwrite a/#\n",
    );
    site.write(
        "own",
        "user ann\ntopic readwrite b/#\nuser bob\ntopic readwrite b/#\n",
    );
    site.write(
        "paloma.toml",
        "[admin]\naddress = ''\n\
         [auth]\npassword_file = 'DIR/passwords'\nacl_file = 'DIR/rules'\n\
         [[listener]]\nname = '0'\naddress = '127.0.0.1:0'\n\
         [[listener]]\nname = '1'\naddress = '127.0.0.1:0'\npassword_file = 'DIR/others'\n\
         [[listener]]\nname = '2'\naddress = '127.0.0.1:0'\nacl_file = 'DIR/own'\n\
         [[listener]]\nname = '3'\naddress = '127.0.0.1:0'\nallow_anonymous = true\n\
         [[listener]]\nname = '4'\naddress = '127.0.0.1:0'\ntransport = 'websocket'\n",
    );
    site.start(5);
    let (ann, bob) = (Some(("ann", "a")), Some(("bob", "b")));
    // Who is let in through which listener, and which filter is granted there.
    for (listener, user, expected, filter) in [
        (0, ann, ACCEPTED, "a/x"),
        (0, bob, WRONG_PASSWORD, ""),
        (0, None, NOT_AUTHORIZED, ""),
        (1, ann, WRONG_PASSWORD, ""),
        (1, bob, ACCEPTED, "a/x"),
        (1, None, NOT_AUTHORIZED, ""),
        (2, ann, ACCEPTED, "b/x"),
        (2, bob, WRONG_PASSWORD, ""),
        (2, None, NOT_AUTHORIZED, ""),
        (3, ann, ACCEPTED, "a/x"),
        (3, bob, WRONG_PASSWORD, ""),
        (3, None, ACCEPTED, ""),
    ] {
        let address = &site.addresses[listener];
        let (mut client, code) = Client::connect(address, "c", user, true);
        assert_eq!(code, expected, "listener {listener} {user:?}");
        if code == ACCEPTED {
            for tried in ["a/x", "b/x"] {
                let granted = client.subscribe(tried) == 0;
                assert_eq!(
                    granted,
                    tried == filter,
                    "listener {listener} {user:?} {tried}"
                );
            }
        }
    }
    let output = |user: &[&str]| {
        let url = format!("{}/mqtt", site.addresses[4]);
        let arguments = ["pub", "-L", &url, "-t", "t", "-m", "x"];
        paloma(&[&arguments[..], user].concat()).output().unwrap()
    };
    let named = output(&["-u", "ann", "-P", "a"]);
    assert!(named.status.success(), "{named:?}");
    assert!(!output(&[]).status.success());
    assert!(!output(&["-u", "bob", "-P", "b"]).status.success());
}

/// A 5.0 CONNECT without a client id; the CONNACK's body.
fn connect_v5(address: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
        .write_all(b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x00")
        .unwrap();
    let mut head = [0; 2];
    stream.read_exact(&mut head).unwrap();
    let mut body = vec![0; head[1].into()];
    stream.read_exact(&mut body).unwrap();
    body
}

#[test]
fn every_listener_speaks_its_own_protocols_and_gives_its_own_client_ids() {
    let mut site = Site::new("terms");
    let listener = |name: &str, keys: &str| {
        format!("[[listener]]\nname = '{name}'\naddress = '127.0.0.1:0'\n{keys}\n")
    };
    site.write(
        "paloma.toml",
        &[
            "[admin]\naddress = ''\n".to_owned(),
            listener("new", "protocols = ['5.0']\nclient_id_prefix = 'door-'"),
            listener("old", "protocols = ['3.1.1', '3.1']"),
            listener("named", "allow_empty_client_id = false"),
        ]
        .concat(),
    );
    site.start(3);
    let v3 =
        |listener: usize, id: &str| Client::connect(&site.addresses[listener], id, None, true).1;
    // [MQTT-3.1.2-2]
    assert_eq!(
        (v3(0, "c"), v3(1, "c"), v3(2, "c")),
        (1, ACCEPTED, ACCEPTED)
    );
    assert_eq!((v3(1, ""), v3(2, "")), (ACCEPTED, 2));
    let assigned = connect_v5(&site.addresses[0]);
    assert_eq!(assigned[1], 0);
    let assigned = String::from_utf8_lossy(&assigned).into_owned();
    assert!(assigned.contains("door-"), "{assigned}");
    assert_eq!(connect_v5(&site.addresses[1])[1], 0x84);
    assert_eq!(connect_v5(&site.addresses[2])[1], 0x85);
}

/// Case D10.
#[test]
fn a_failed_login_changes_nothing() {
    let site = Site::with("unchanged", &[("ann", "a")], None);
    let address = &site.addresses[0];
    let (mut victim, _) = Client::connect(address, "victim", Some(("ann", "a")), false);
    assert_eq!(victim.subscribe("x"), 0);
    for is_clean in [true, false] {
        for login in [Some(("ann", "wrong")), Some(("eve", "a")), None] {
            let (_, code) = Client::connect(address, "victim", login, is_clean);
            assert_ne!(code, ACCEPTED);
        }
    }
    let (mut other, _) = site.client("other", Some(("ann", "a")));
    other.publish("x", "live");
    assert_eq!(victim.received(), ["xlive"]);
    drop(victim);
    // The session is there still, with its subscription.
    let (mut victim, code) = Client::connect(address, "victim", Some(("ann", "a")), false);
    assert_eq!(code, ACCEPTED);
    other.publish("x", "again");
    assert_eq!(victim.received(), ["xagain"]);
}

/// Case D11.
#[test]
fn a_session_belongs_to_whoever_made_it() {
    let mut site = Site::new("owners");
    site.user("passwords", "ann", "a");
    site.user("passwords", "bob", "b");
    let config = "[admin]\naddress = ''\n[[listener]]\naddress = '127.0.0.1:0'\n\
                  allow_anonymous = true\n[auth]\npassword_file = 'DIR/passwords'\n";
    site.write("paloma.toml", config);
    site.start(1);
    let address = &site.addresses[0];
    let users = [Some(("ann", "a")), Some(("bob", "b")), None];
    for (index, owner) in users.into_iter().enumerate() {
        let id = format!("c{index}");
        let (mut client, code) = Client::connect(address, &id, owner, false);
        assert_eq!(code, ACCEPTED);
        assert_eq!(client.subscribe(&id), 0);
        for other in users.into_iter().filter(|other| *other != owner) {
            for is_clean in [true, false] {
                let (_, code) = Client::connect(address, &id, other, is_clean);
                assert_ne!(code, ACCEPTED, "{owner:?} {other:?}");
            }
        }
        client.publish(&id, "mine");
        assert_eq!(client.received(), [format!("{id}mine")]);
    }
}

/// Case E2.
#[test]
fn no_password_and_no_payload_is_in_any_log() {
    let mut site = Site::with("silence", &[("ann", "Xyzzy-right")], None);
    site.check(Some(("ann", "Xyzzy-wrong")), WRONG_PASSWORD);
    let (mut ann, _) = site.client("ann", Some(("ann", "Xyzzy-right")));
    assert_eq!(ann.subscribe("#"), 0);
    ann.publish("t", "Xyzzy-payload");
    assert_eq!(ann.received(), ["tXyzzy-payload"]);
    let said = site.reload() + &site.stop();
    assert!(!said.contains("Xyzzy"), "{said}");
}

#[test]
fn a_listener_for_strangers_asks_for_passwords_or_says_that_it_does_not() {
    let site = Site::new("strangers");
    site.user("passwords", "ann", "a");
    site.write("rules", "topic read a\n");
    let listener = "[[listener]]\naddress = '0.0.0.0:0'\n";
    let check = |text: &str| {
        site.write("paloma.toml", &format!("{listener}{text}"));
        let output = paloma(&["check", "--config", &site.path("paloma.toml")]).output();
        output.unwrap().status.code()
    };
    assert_eq!(check(""), Some(2));
    // Rules alone make nobody say who he is.
    assert_eq!(check("acl_file = 'DIR/rules'\n"), Some(2));
    assert_eq!(check("password_file = 'DIR/passwords'\n"), Some(0));
    assert_eq!(check("[auth]\npassword_file = 'DIR/passwords'\n"), Some(0));
    assert_eq!(check("allow_anonymous = true\n"), Some(0));
}
