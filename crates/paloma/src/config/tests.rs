//! What a configuration says, and everything that can be wrong with one.

use proptest::prelude::*;

use super::*;
use crate::parts::Part;

/// Loads a file with this text, and gives what is wrong, a line each, without the file's directory.
fn problems(text: &str, environment: &[(&str, &str)], flags: &Flags) -> Vec<String> {
    load_text(text, environment, flags)
        .err()
        .map_or_else(Vec::new, |problems| {
            problems.0.iter().map(ToString::to_string).collect()
        })
}

pub(super) fn load_text(
    text: &str,
    environment: &[(&str, &str)],
    flags: &Flags,
) -> Result<Config, Problems> {
    let mut problems = Problems::default();
    let mut config = Config::default();
    apply_text(Path::new("p.toml"), text, &mut config, &mut problems);
    let environment = environment
        .iter()
        .map(|(name, text)| (name.into(), text.into()));
    apply_environment(environment, &mut config, &mut problems);
    apply_flags(flags, &mut config, &mut problems);
    super::check(&mut config, &mut problems);
    problems.tidy();
    if problems.0.is_empty() {
        Ok(config)
    } else {
        Err(problems)
    }
}

fn check(text: &str, expected: &[&str]) {
    assert_eq!(problems(text, &[], &Flags::default()), expected, "{text}");
}

fn accepted(text: &str) -> Config {
    load_text(text, &[], &Flags::default()).unwrap()
}

#[test]
fn a_listener_speaks_what_it_says() {
    let config = accepted("[[listener]]\nprotocols = ['5.0', '3.1.1', '5.0']\n");
    let listener = &config.listeners[0];
    assert_eq!(listener.protocols.len(), 2);
    assert!(show(&config).contains("\nprotocols = [\"3.1.1\", \"5.0\"]\n"));
    check(
        "[[listener]]\nprotocols = ['4.0']\n",
        &["p.toml:2:13: listener[0].protocols: `4.0` is not one of 3.1, 3.1.1, 5.0"],
    );
    check(
        "[[listener]]\nprotocols = []\n",
        &["p.toml:2:13: listener[0].protocols: a listener speaks one protocol at least"],
    );
}

#[test]
fn an_empty_file_is_the_default() {
    assert_eq!(accepted(""), Config::default());
    assert_eq!(
        Config::default().listeners[0].address.to_string(),
        "127.0.0.1:1883"
    );
}

#[cfg(all(feature = "admin", feature = "store"))]
#[test]
fn the_example_says_the_defaults() {
    let example = include_str!("../../paloma.toml");
    let mut config = accepted(example);
    let mut default = Config::default();
    assert_eq!(config.listeners.len(), 1);
    assert_eq!(config.listeners[0].address, default.listeners[0].address);
    assert_eq!(config.listeners[0].name, default.listeners[0].name);
    config.listeners.clear();
    default.listeners.clear();
    default.admin.is_explicit = true;
    assert_eq!(config, default);
}

#[test]
fn the_example_has_every_key_that_is_supported() {
    let (example, errors) = DeTable::parse_recoverable(include_str!("../../paloma.toml"));
    assert!(errors.is_empty());
    for (section, keys) in SECTIONS {
        for key in keys.names() {
            let table = example
                .get_ref()
                .get(*section)
                .and_then(|table| table.get_ref().as_table());
            let is_there = table.is_some_and(|table| table.contains_key(key));
            let is_refused = accepts_nothing(key, section);
            assert!(is_there || is_refused, "{section}.{key}");
        }
    }
}

#[cfg(all(feature = "http", feature = "jwt", feature = "tls"))]
#[test]
fn the_example_says_the_defaults_of_the_tables_that_are_off() {
    let example = include_str!("../../paloma.toml");
    let lines = example
        .lines()
        .skip_while(|line| !line.starts_with("# [auth.certificate]"));
    let lines = lines.take_while(|line| *line != "[limits]");
    let text: String = lines
        .map(|line| format!("{}\n", line.strip_prefix("# ").unwrap_or(line)))
        .collect();
    let asking = "[[listener]]\n[listener.tls]\ncertificate = 'c'\nkey = 'k'\nclient_ca = 'a'\n\
                  client_certificate = 'optional'\n";
    let mut config = Config::default();
    let mut problems = Problems::default();
    apply_text(
        Path::new("p.toml"),
        &format!("{text}{asking}"),
        &mut config,
        &mut problems,
    );
    assert_eq!(problems, Problems::default());
    let auth = &config.auth;
    let jwt = auth.jwt.clone().unwrap();
    assert_eq!(jwt.rules, paloma_auth::JwtRules::default());
    assert_eq!(
        (jwt.secret_file, jwt.key_file),
        (None, Some("keys.json".into()))
    );
    let http = HttpSettings {
        url: "http://127.0.0.1:8080/mqtt".to_owned(),
        ..HttpSettings::default()
    };
    assert_eq!(auth.http, Some(http));
    assert_eq!(auth.scram.clone().unwrap().file, Some("scram".into()));
    assert_eq!(auth.certificate, Some(auth::CertificateSettings::default()));
    // Every key is there.
    let page = show(&config);
    let shown = page
        .split("[auth]")
        .nth(1)
        .unwrap()
        .split("[limits]")
        .next()
        .unwrap();
    for line in shown.lines() {
        let key = line.split(" = ").next().unwrap();
        assert!(example.contains(key), "{key}");
    }
}

/// Whether this build refuses the key whatever its value is.
fn accepts_nothing(name: &str, section: &str) -> bool {
    let values = ["1", "1024", "65536", "\"\"", "true", "\"ack\""];
    values.iter().all(|value| {
        load_text(
            &format!("[{section}]\n{name} = {value}"),
            &[],
            &Flags::default(),
        )
        .is_err()
    })
}

#[cfg(all(feature = "admin", feature = "json-logs"))]
#[test]
fn values_are_read() {
    let config = accepted(
        "[node]\nname = 'kitchen'\nthreads = 2\n\
         [store]\nin_memory = true\n\
         [limits]\npacket_bytes_max = 1_000_000\nqos_max = 1\nretain_available = false\n\
         queue_when_full = 'drop_oldest'\nqueue_messages_max = 'unlimited'\n\
         receive_maximum = 0xFFFF\n\
         [behaviour]\nupgrade_outgoing_qos = true\ncheck_retain_source = true\n\
         [log]\nlevel = 'debug'\nformat = 'json'\n\
         [[listener]]\nname = 'a'\naddress = '[::1]:0'\n\
         [[listener]]\nname = 'b'\naddress = '0.0.0.0:1884'\nallow_anonymous = true\n",
    );
    assert_eq!((config.node_name.as_str(), config.threads), ("kitchen", 2));
    assert_eq!(config.limits.packet_bytes_max, 1_000_000);
    assert_eq!(config.limits.qos_max, 1);
    assert!(!config.limits.retain_available);
    assert_eq!(
        config.limits.queue_when_full,
        paloma_broker::QueueWhenFull::DropOldest
    );
    assert_eq!(config.limits.queue_messages_max, u32::MAX);
    assert_eq!(config.limits.receive_maximum, 65_535);
    assert!(config.upgrade_outgoing_qos);
    assert_eq!(
        (config.log_level, config.log_format),
        (LogLevel::Debug, LogFormat::Json)
    );
    assert_eq!(config.listeners.len(), 2);
    assert_eq!(config.listeners[1].name, "b");
    assert!(config.listeners[1].allow_anonymous);
}

#[test]
fn everything_wrong_is_said_at_once_in_order() {
    check(
        "[limits]\nreceive_maximum = 0\npacket_byte_max = 5\nqos_max = 3\n\n\
         [behavior]\n[log]\nlevel = 'loud'\nformat = 7\n",
        &[
            "p.toml:2:19: limits.receive_maximum: 0 is not a limit; it must be between 1 and 65535",
            "p.toml:3:1: limits.packet_byte_max: unknown key; did you mean `packet_bytes_max`?",
            "p.toml:4:11: limits.qos_max: 3 is out of range; it must be between 0 and 2",
            "p.toml:6:2: behavior: unknown key; did you mean `behaviour`?",
            "p.toml:8:9: log.level: `loud` is not one of off, error, warn, info, debug, trace",
            "p.toml:9:10: log.format: expected a string, found a whole number",
        ],
    );
}

#[test]
fn columns_count_characters() {
    check(
        "log = { level = 'ö', formt = 'text' }",
        &[
            "p.toml:1:17: log.level: `ö` is not one of off, error, warn, info, debug, trace",
            "p.toml:1:22: log.formt: unknown key; did you mean `format`?",
        ],
    );
}

#[test]
fn broken_toml_is_named_with_its_line_and_hides_nothing_elsewhere() {
    check(
        "[limits]\nqos_max = = 1\nreceive_maximum = 0\n",
        &[
            "p.toml:2:11: not valid TOML: extra `=`, expected nothing",
            "p.toml:3:19: limits.receive_maximum: 0 is not a limit; it must be between 1 and 65535",
        ],
    );
    check(
        "[log]\nlevel = 'info'\nlevel = 'warn'\n",
        &["p.toml:3:1: not valid TOML: duplicate key"],
    );
}

#[test]
fn numbers_have_ranges_and_no_other_types() {
    let number = |value: &str| {
        problems(
            &format!("limits.inflight_max = {value}"),
            &[],
            &Flags::default(),
        )
    };
    assert!(number("1").is_empty());
    assert!(number("65_535").is_empty());
    for wrong in [
        "0",
        "-1",
        "65_536",
        "99999999999999999999",
        "-99999999999999999999",
    ] {
        assert_eq!(number(wrong).len(), 1, "{wrong}");
        assert!(
            number(wrong)[0].contains("must be between 1 and 65535"),
            "{wrong}"
        );
    }
    for wrong in [
        "1.0",
        "'1'",
        "true",
        "[1]",
        "2020-01-01",
        "{ a = 1 }",
        "inf",
    ] {
        assert!(
            number(wrong)[0].contains("expected a whole number, found"),
            "{wrong}"
        );
    }
}

#[test]
fn every_limit_of_the_broker_has_its_key_and_no_key_has_no_limit() {
    let limits = format!("{:#?}", Limits::default());
    let fields = limits
        .lines()
        .filter_map(|line| line.trim().split_once(": "));
    let mut fields: Vec<&str> = fields.map(|(field, _)| field).collect();
    assert!(fields.len() > 30);
    // This one sets `memory_bytes_max`.
    fields.retain(|field| *field != "memory_bytes_max");
    fields.push("memory_percent_max");
    fields.sort_unstable();
    let mut keys: Vec<&str> = limits::LIMITS.iter().map(|key| key.name).collect();
    keys.sort_unstable();
    assert_eq!(keys, fields);
}

#[test]
fn unlimited_is_spelled_out_where_it_exists() {
    let config = accepted("limits.session_expiry_seconds_max = 'unlimited'");
    assert_eq!(config.limits.session_expiry_seconds_max, u32::MAX);
    check(
        "limits.session_expiry_seconds_max = 0",
        &[
            "p.toml:1:37: limits.session_expiry_seconds_max: 0 is not a limit; \
           it must be between 1 and 4294967294",
        ],
    );
    check(
        "limits.queue_bytes_max = 'lots'",
        &[
            "p.toml:1:26: limits.queue_bytes_max: expected a whole number or \"unlimited\", \
           found a string",
        ],
    );
    check(
        "limits.packet_bytes_max = 'unlimited'",
        &["p.toml:1:27: limits.packet_bytes_max: expected a whole number, found a string"],
    );
}

#[test]
fn every_limit_survives_every_edge() {
    for key in limits::LIMITS {
        for value in [
            "0",
            "1",
            "2",
            "65535",
            "65536",
            "4294967295",
            "4294967296",
            "18446744073709551616",
            "-1",
            "true",
            "'unlimited'",
            "''",
            "[]",
        ] {
            let found = problems(
                &format!("limits.{} = {value}", key.name),
                &[],
                &Flags::default(),
            );
            assert!(found.len() <= 1, "{found:?}");
        }
    }
}

#[cfg(feature = "store")]
#[test]
fn without_a_word_about_it_what_is_acknowledged_is_kept() {
    let store = accepted("").store;
    assert_eq!(store, StoreSettings::default());
    assert!(!store.in_memory);
    assert_eq!(store.path, Path::new("paloma-data"));
    assert_eq!(store.durability, Durability::Ack);
    let store = accepted(
        "[store]\npath = '/srv/x'\ndurability = 'interval'\ninterval_ms = 250\nin_memory = true",
    )
    .store;
    assert!(store.in_memory);
    assert_eq!(store.path, Path::new("/srv/x"));
    assert_eq!(
        (store.durability, store.interval_ms),
        (Durability::Interval, 250)
    );
    check(
        "[store]\npath = ''\ndurability = 'always'\ninterval_ms = 0\n",
        &[
            "p.toml:2:8: store.path: a directory has a name",
            "p.toml:3:14: store.durability: `always` is not one of ack, os, interval, none",
            "p.toml:4:15: store.interval_ms: 0 is not a limit; it must be between 1 and 3600000",
        ],
    );
}

#[cfg(feature = "store")]
#[test]
fn the_flags_of_the_store_win() {
    let data = Flags {
        data: Some("elsewhere".into()),
        ..Flags::default()
    };
    let config = load_text("[store]\nin_memory = true", &[], &data).unwrap();
    assert!(!config.store.in_memory);
    assert_eq!(config.store.path, Path::new("elsewhere"));
    let in_memory = Flags {
        in_memory: true,
        ..Flags::default()
    };
    let config = load_text("[store]\npath = 'x'", &[], &in_memory).unwrap();
    assert!(config.store.in_memory);
}

/// Each with what asks for it, and where and under which key that stands.
#[test]
fn what_a_build_is_without_is_named_with_line_and_key() {
    let check = |part: Part, text: &str, key: &str| {
        let found = problems(text, &[], &Flags::default());
        let refused = format!("p.toml:{key}: built without `{}`", part.feature);
        let is_refused = found.iter().any(|line| line.contains("built without"));
        assert_eq!(is_refused, !part.is_built, "{text}: {found:?}");
        if is_refused {
            assert_eq!(found, [refused], "{text}");
        }
    };
    let store = parts::STORE;
    check(store, "[store]\nin_memory = false", "2:13: store.in_memory");
    check(store, "[store]\npath = '/srv/x'", "2:8: store.path");
    check(
        store,
        "[store]\ndurability = 'os'",
        "2:14: store.durability",
    );
    check(
        parts::ADMIN,
        "[admin]\naddress = '127.0.0.1:9000'",
        "2:11: admin.address",
    );
    check(
        parts::CONTROL,
        "[admin]\ncontrol = '/run/c'",
        "2:11: admin.control",
    );
    check(
        parts::RECORD,
        "[record]\nfile = '/srv/r'",
        "2:8: record.file",
    );
    check(
        parts::JSON_LOGS,
        "[log]\nformat = 'json'",
        "2:10: log.format",
    );
    check(
        parts::JWT,
        "[auth.jwt]\nkey_file = 'keys.json'",
        "1:7: auth.jwt",
    );
    check(
        parts::HTTP,
        "[auth.http]\nurl = 'http://127.0.0.1/'",
        "1:7: auth.http",
    );
    if parts::HTTP.is_built {
        check(
            parts::HTTPS,
            "[auth.http]\nurl = 'https://127.0.0.1/'",
            "2:7: auth.http.url",
        );
    }
    check(
        parts::WEBSOCKET,
        "[[listener]]\ntransport = 'websocket'",
        "2:13: listener[0].transport",
    );
    check(
        parts::TLS,
        "[[listener]]\n[listener.tls]\ncertificate = 'c'",
        "2:11: listener[0].tls",
    );
    let environment = [("PALOMA__AUTH__JWT__KEY_FILE", "keys.json")];
    let found = problems("", &environment, &Flags::default());
    let refused = "PALOMA__AUTH__JWT__KEY_FILE: auth.jwt.key_file: built without `jwt`";
    assert_eq!(
        found.iter().any(|line| line == refused),
        !parts::JWT.is_built
    );
}

/// Every build accepts what asks for nothing that it is without.
#[test]
fn what_asks_for_nothing_is_accepted_by_every_build() {
    accepted(
        "[store]\nin_memory = true\n[admin]\naddress = ''\ncontrol = ''\n[record]\nfile = ''\n\
         [log]\nformat = 'text'\n[[listener]]\ntransport = 'tcp'\n[listener.websocket]\npath = '/mqtt'\n",
    );
}

#[test]
fn a_mount_point_is_a_prefix_of_whole_levels() {
    for (text, expected) in [
        ("house", "a mount point ends with /"),
        ("$SYS/", "does not begin with $"),
        ("a/#/", "no wildcards"),
    ] {
        let listener = format!("[[listener]]\nmount_point = '{text}'");
        let found = problems(&listener, &[], &Flags::default());
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains(expected), "{found:?}");
    }
    let listener = &accepted("[[listener]]\nmount_point = 'house/'").listeners[0];
    assert_eq!(listener.terms().mount_point.as_str(), "house/");
}

#[test]
fn empty_values_are_none() {
    accepted(
        "[auth]\npassword_file = ''\n[sys]\ninterval_seconds = 0\n[admin]\naddress = ''\n\
         [[listener]]\ntransport = 'tcp'\nprotocols = ['5.0', '3.1', '3.1.1']\nmount_point = ''\n",
    );
}

#[cfg(feature = "admin")]
#[test]
fn an_administration_listener_that_somebody_chose_must_be_had() {
    let admin = accepted("").admin;
    assert!(!admin.is_explicit);
    assert_eq!(admin.address.unwrap().to_string(), "127.0.0.1:18083");
    let admin = accepted("[admin]\naddress = '[::1]:9000'").admin;
    assert!(admin.is_explicit);
    assert_eq!(admin.address.unwrap().to_string(), "[::1]:9000");
    assert_eq!(accepted("[admin]\naddress = ''").admin.address, None);
    assert_eq!(
        accepted("[sys]\ninterval_seconds = 0").sys_interval_seconds,
        0
    );
}

#[test]
fn strangers_are_let_in_only_when_it_is_spelled_out() {
    let text = "[[listener]]\nname = 'lan'\naddress = '0.0.0.0:1883'\n";
    let found = problems(text, &[], &Flags::default());
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("p.toml:3:11: listener[0].address: 0.0.0.0:1883 can be reached"));
    accepted(&format!("{text}allow_anonymous = true\n"));

    let mut flags = Flags {
        listen: vec!["tcp://[::]:1883".to_owned()],
        ..Flags::default()
    };
    let found = problems("", &[], &flags);
    assert_eq!(found.len(), 1);
    assert!(
        found[0].starts_with("--listen: [::]:1883 can be reached"),
        "{found:?}"
    );
    flags.allow_anonymous = true;
    assert!(load_text("", &[], &flags).unwrap().listeners[0].allow_anonymous);
}

#[test]
fn listeners_do_not_share_an_address_or_a_name() {
    check(
        "[[listener]]\naddress = '127.0.0.1:1883'\n[[listener]]\nname = 'b'\naddress = '127.0.0.1:1883'\n\
         [[listener]]\naddress = '127.0.0.1:1884'\nname = 'b'\n\
         [[listener]]\naddress = '0.0.0.0:1884'\nallow_anonymous = true\n",
        &[
            "p.toml:5:11: listener[1].address: the address `127.0.0.1:1883` is used by an earlier \
             listener too",
            "p.toml:8:8: listener[2].name: the name `b` is used by an earlier listener too",
            "p.toml:10:11: listener[3].address: the address `0.0.0.0:1884` is used by an earlier \
             listener too",
        ],
    );
    accepted(
        "[[listener]]\nname='a'\naddress = '127.0.0.1:0'\n[[listener]]\nname='b'\naddress = '127.0.0.1:0'\n",
    );
}

#[test]
fn a_listener_without_a_name_is_called_by_its_address() {
    let text = "[[listener]]\naddress = '127.0.0.1:1883'\n[[listener]]\naddress = 'unix:/run/p'\n";
    let listeners = accepted(text).listeners;
    let names: Vec<&str> = listeners.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["127.0.0.1:1883", "unix:/run/p"]);
}

#[test]
fn what_is_no_address_is_in_no_listeners_way() {
    check(
        "[[listener]]\naddress = 'x'\n[[listener]]\naddress = '127.0.0.1:1883'\n\
         [[listener]]\naddress = 7\n",
        &[
            "p.toml:2:11: listener[0].address: `x` is not an address of the form host:port, [v6]:port \
             or unix:/path",
            "p.toml:6:11: listener[2].address: expected a string, found a whole number",
        ],
    );
}

#[cfg(feature = "record")]
#[test]
fn a_record_is_asked_for_by_file_or_flag() {
    assert_eq!(accepted("").record, RecordSettings::default());
    let text = "[record]\nfile = '/srv/r'\nbytes_max = 1_000_000\nwith_secrets = true";
    let record = accepted(text).record;
    assert_eq!(record.file.as_deref(), Some(Path::new("/srv/r")));
    assert_eq!((record.bytes_max, record.with_secrets), (1_000_000, true));
    let flags = Flags {
        record: Some("x".into()),
        ..Flags::default()
    };
    let config = load_text(text, &[], &flags).unwrap();
    assert_eq!(config.record.file.as_deref(), Some(Path::new("x")));
    check(
        "[record]\nbytes_max = 1\n",
        &[
            "p.toml:2:13: record.bytes_max: 1 is out of range; it must be between 65536 and 1099511627776",
        ],
    );
}

#[test]
fn the_environment_wins_over_the_file() {
    let text = "[limits]\npacket_bytes_max = 5000\nqos_max = 1\n[log]\nlevel = 'warn'\n";
    let environment = [
        ("PALOMA__LIMITS__PACKET_BYTES_MAX", "1_000_000"),
        ("PALOMA__LIMITS__RETAIN_AVAILABLE", "false"),
        ("PALOMA__LIMITS__QUEUE_BYTES_MAX", "unlimited"),
        ("PALOMA__NODE__NAME", "17"),
        ("HOME", "/"),
        ("PALOMA_SOMETHING_ELSE", "x"),
    ];
    let config = load_text(text, &environment, &Flags::default()).unwrap();
    assert_eq!(config.limits.packet_bytes_max, 1_000_000);
    assert_eq!(config.limits.qos_max, 1);
    assert!(!config.limits.retain_available);
    assert_eq!(config.limits.queue_bytes_max, u32::MAX);
    assert_eq!(config.node_name, "17");
    assert_eq!(config.log_level, LogLevel::Warn);
}

#[test]
fn wrong_variables_are_named() {
    let environment = [
        ("PALOMA__LIMITS__PACKET_BYTES_MAX", "many"),
        ("PALOMA__LIMITS__QOS_MAXI", "1"),
        ("PALOMA__LIMIT__QOS_MAX", "1"),
        ("PALOMA__LOG__LEVEL", ""),
        ("PALOMA__LISTENER__0__ADDRESS", "127.0.0.1:1"),
        ("PALOMA__", ""),
    ];
    let mut found = problems("", &environment, &Flags::default());
    found.sort();
    assert_eq!(
        found,
        [
            "PALOMA__: : unknown key",
            "PALOMA__LIMITS__PACKET_BYTES_MAX: limits.packet_bytes_max: expected a whole number, \
             found other text",
            "PALOMA__LIMITS__QOS_MAXI: limits.qos_maxi: unknown key; did you mean `qos_max`?",
            "PALOMA__LIMIT__QOS_MAX: limit.qos_max: unknown key; did you mean `limits`?",
            "PALOMA__LISTENER__0__ADDRESS: listener.0.address: not supported yet: this build takes \
             listeners from the file and from --listen only",
            "PALOMA__LOG__LEVEL: log.level: `` is not one of off, error, warn, info, debug, trace",
        ]
        .map(|line| line.replace(": : ", ": "))
    );
}

#[test]
fn flags_win_over_everything() {
    let flags = Flags {
        listen: vec!["tcp://127.0.0.1:0".to_owned(), "tcp://[::1]:0".to_owned()],
        log: Some("trace".to_owned()),
        ..Flags::default()
    };
    let text = "[[listener]]\naddress = '0.0.0.0:1'\n[log]\nlevel = 'warn'\n";
    let config = load_text(text, &[("PALOMA__LOG__LEVEL", "error")], &flags).unwrap();
    let addresses: Vec<_> = config
        .listeners
        .iter()
        .map(|l| l.address.to_string())
        .collect();
    assert_eq!(addresses, ["127.0.0.1:0", "[::1]:0"]);
    assert_eq!(config.log_level, LogLevel::Trace);
}

#[cfg(feature = "tls")]
#[test]
fn wrong_flags_are_named() {
    let flags = Flags {
        listen: vec!["tls://h:1".to_owned(), "nonsense".to_owned()],
        log: Some("loud".to_owned()),
        ..Flags::default()
    };
    assert_eq!(
        problems("", &[], &flags),
        [
            "--listen: TLS needs --cert FILE and --key FILE beside it",
            "--listen: `nonsense` is not a URL of the form tcp://host:port, tls://, ws://, wss:// or unix:///path",
            "--log: `loud` is not one of off, error, warn, info, debug, trace",
        ]
    );
    let flags = Flags {
        allow_anonymous: true,
        ..Flags::default()
    };
    assert_eq!(problems("", &[], &flags).len(), 1);
}

#[test]
fn a_missing_file_is_an_error_with_its_name() {
    let missing = Path::new("no/such/paloma.toml");
    let mut problems = Problems::default();
    load(Some(missing), [], &Flags::default(), &mut problems);
    assert!(
        problems
            .to_string()
            .starts_with("no/such/paloma.toml: cannot be read: ")
    );
}

#[cfg(feature = "websocket")]
#[test]
fn listeners_are_carried_by_what_their_tables_say() {
    let config = accepted(
        "[[listener]]\naddress = 'unix:/run/paloma.sock'\nsocket_mode = '0660'\n\
         [[listener]]\nname = 'web'\naddress = '127.0.0.1:80'\ntransport = 'websocket'\n\
         [listener.websocket]\npath = '/x'\norigins = ['https://app.example']\n\
         [listener.proxy_protocol]\nversion = 2\ntrusted = ['10.0.0.0/8', '::1']\n",
    );
    let [unix, web] = &config.listeners[..] else {
        panic!("{config:?}");
    };
    assert_eq!(unix.socket_mode, 0o660);
    assert_eq!(unix.transport.scheme(true), "unix");
    assert_eq!(web.transport.scheme(false), "ws");
    let websocket = web.transport.websocket().unwrap();
    assert_eq!(websocket.path, "/x");
    assert_eq!(web.transport.trusted.len(), 2);
}

#[cfg(all(feature = "tls", feature = "websocket"))]
#[test]
fn transports_that_contradict_themselves_are_refused() {
    let check = |keys: &str, expected: &str| {
        let found = problems(&format!("[[listener]]\n{keys}"), &[], &Flags::default());
        assert_eq!(found.len(), 1, "{keys}: {found:?}");
        assert!(found[0].contains(expected), "{keys}: {found:?}");
    };
    check("tls = 1", "listener[0].tls: expected a table");
    check(
        "[listener.tls]\ncertificate = 'x'",
        "needs `certificate` and `key`",
    );
    check(
        "[listener.tls]\ncertificate = 'no/such.pem'\nkey = 'y'",
        "listener[0].tls: no/such.pem: ",
    );
    check(
        "[listener.proxy_protocol]\ntruste = []",
        "listener[0].proxy_protocol.truste: unknown key; did you mean `trusted`?",
    );
    check(
        "[listener.websocket]\npath = 'mqtt'",
        "a path begins with `/`",
    );
    check(
        "[listener.websocket]\norigins = ['app.example']",
        "an origin is written as",
    );
    check(
        "transport = 'websocket'\n[listener.websocket]\norigins = ['*']",
        "lets every web page in",
    );
    check(
        "[listener.proxy_protocol]\nversion = '1'",
        "name them in `trusted`",
    );
    check(
        "[listener.proxy_protocol]\nversion = '3'",
        "is not one of off, 1, 2",
    );
    check(
        "[listener.proxy_protocol]\ntrusted = ['10.0.0.1/8']",
        "trusted peers are",
    );
    check("socket_mode = '0999'", "octal");
    check("address = 'unix:relative'", "is not an address");
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC*|([\\[\\]=.,'\"{}\n a-z0-9_-]{0,80})") {
        let _ = problems(&text, &[("PALOMA__LIMITS__QOS_MAX", &text)], &Flags::default());
    }

    #[test]
    fn no_value_of_a_known_key_makes_it_panic(
        section in 0..SECTIONS.len(),
        key in 0_usize..64,
        value in "[\\PC\n]{0,40}",
    ) {
        let (section, keys) = SECTIONS[section];
        let names = keys.names();
        let name = names[key % names.len()];
        let _ = problems(&format!("{section}.{name} = {value}"), &[], &Flags::default());
        let variable = format!("PALOMA__{section}__{name}").to_uppercase();
        let found = problems("", &[(&variable, &value)], &Flags::default());
        prop_assert!(found.len() <= 1);
    }

    #[test]
    fn no_address_makes_it_panic(text in "\\PC{0,40}") {
        let _ = Address::parse(&text);
        let _ = Address::parse_url(&format!("tcp://{text}"));
    }
}
