//! What the real binary says is done lies on the disk, names and all: every call that writes or syncs is looked at.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test all through: a panic is how it reports"
)]

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use paloma_crash::process::calls::{OPTIONS, Unsynced};
use paloma_crash::process::{Server, ServerSpec};
use paloma_interop::broker::paloma;
use paloma_interop::peer::Version::{V5, V311};
use paloma_interop::raw::RawClient;
use paloma_interop::tools::{REQUIRE, in_path, say};
use paloma_interop::wire::Connect;

/// What a broker says once clients may come.
const LISTENS: &str = " listening on ";

/// Found again in the store's file.
const PAYLOAD: [u8; 400] = [b'Q'; 400];

/// A directory, and how its programs are traced.
struct Site {
    strace: PathBuf,
    directory: PathBuf,
}

impl Site {
    /// `None` after a printed line where there is no `strace`.
    fn new(name: &str) -> Option<Self> {
        let Some(strace) = in_path("strace") else {
            let required = env::var_os(REQUIRE).is_some_and(|value| value == "1");
            assert!(!required, "strace is missing and {REQUIRE}=1");
            say("skipped: strace is missing");
            return None;
        };
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("syncs-{name}"));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        let directory = directory.canonicalize().unwrap();
        Some(Self { strace, directory })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn trace(&self) -> PathBuf {
        self.path("trace")
    }

    fn spec(&self, durability: &str) -> ServerSpec {
        ServerSpec::new(paloma(), &self.directory, durability)
    }

    /// Runs a command of the binary to its end, and says what it left unsynced below `watched`, and whether it succeeded.
    fn run(&self, watched: &Path, arguments: &[&str], input: &str) -> (Vec<String>, bool) {
        let mut unsynced = Unsynced::new(watched);
        let mut command = Command::new(&self.strace);
        command.args(OPTIONS).arg(self.trace()).arg(paloma());
        command.args(arguments).current_dir("/");
        let given = self.path("input");
        fs::write(&given, input).unwrap();
        command.stdin(fs::File::open(given).unwrap());
        let status = command.stdout(Stdio::null()).status().unwrap();
        unsynced.follow(&fs::read_to_string(self.trace()).unwrap(), None);
        (unsynced.left(), status.success())
    }

    fn check(&self, watched: &Path, arguments: &[&str], input: &str) {
        let (left, is_well) = self.run(watched, arguments, input);
        assert!(is_well, "{arguments:?}");
        assert!(left.is_empty(), "{arguments:?}: {left:#?}");
    }

    /// Runs `paloma store …` on the directory `data`; [`check`](Self::check) does the rest.
    fn check_store(&self, command: &str, file: &[&str]) {
        let data = self.path("data");
        let data = data.to_str().unwrap();
        let arguments = [&["store", command, "--data", data], file].concat();
        self.check(&self.directory.join("data"), &arguments, "");
    }

    /// Starts a broker that is traced.
    fn serve(&self, durability: &str) -> Server {
        let mut spec = self.spec(durability);
        let strace = self.strace.to_string_lossy().into_owned();
        let trace = self.trace().to_string_lossy().into_owned();
        let options = OPTIONS.map(str::to_owned);
        spec.wrapper = [strace].into_iter().chain(options).chain([trace]).collect();
        Server::start(&spec)
    }

    /// Asks a broker that is traced to stop, and waits.
    fn stop(&self, mut server: Server) {
        let trace = fs::read_to_string(self.trace()).unwrap();
        let process = trace.split_whitespace().next().unwrap();
        let kill = Command::new("kill").args(["-TERM", process]).status();
        assert!(kill.unwrap().success());
        assert!(server.process.wait().success());
    }

    /// A store that waits for a client, clean or as a kill leaves it.
    fn fill(&self, is_killed: bool) {
        let server = Server::start(&self.spec("ack"));
        subscribe_and_publish(&server);
        if is_killed {
            server.kill();
        } else {
            assert!(server.terminate().success());
        }
    }
}

fn subscribe_and_publish(server: &Server) {
    let connect = Connect::persistent(V5, "subscriber");
    let (mut client, _) = RawClient::connect_as(server.address(), V5, &connect);
    assert_eq!(client.subscribe(&[("t", 1)]), [1]);
    client.leave();
    let mut publisher = RawClient::connect(server.address(), V311, "publisher");
    for _ in 0..10 {
        publisher.publish_fully(1, 1, "t", &PAYLOAD);
    }
}

#[test]
fn a_broker_listens_when_all_that_its_store_is_made_of_is_on_disk() {
    let Some(site) = Site::new("start") else {
        return;
    };
    let check = |doubted: Option<&Path>, what: &str| {
        let mut unsynced = Unsynced::new(&site.directory);
        if let Some(doubted) = doubted {
            unsynced.doubt_names(doubted);
        }
        let server = site.serve("ack");
        let trace = fs::read_to_string(site.trace()).unwrap();
        assert!(unsynced.follow(&trace, Some(LISTENS)), "{what}");
        site.stop(server);
        let own = ["trace", "paloma.toml"].map(|name| site.path(name).display().to_string());
        let mut left = unsynced.left();
        left.retain(|words| !own.iter().any(|path| words.ends_with(path)));
        assert!(left.is_empty(), "{what}: {left:#?}");
    };
    let data = site.path("data");
    check(None, "where there was nothing");
    check(Some(&data), "where another process may have been killed");
    fs::remove_file(data.join("paloma.redb")).unwrap();
    fs::write(data.join("paloma.log"), [7; 9_000]).unwrap();
    check(None, "beside the log of another store");
    fs::remove_file(data.join("paloma.log")).unwrap();
    check(None, "without a log");
}

#[test]
fn a_clean_stop_leaves_nothing_unsynced_at_any_level() {
    for durability in ["ack", "os", "interval", "none"] {
        let Some(site) = Site::new(&format!("stop-{durability}")) else {
            return;
        };
        let data = site.path("data");
        let mut unsynced = Unsynced::new(&data);
        let server = site.serve(durability);
        subscribe_and_publish(&server);
        site.stop(server);
        unsynced.follow(&fs::read_to_string(site.trace()).unwrap(), None);
        let left = unsynced.left();
        assert!(left.is_empty(), "{durability}: {left:#?}");
    }
}

#[test]
fn what_tools_do_to_a_store_is_on_disk_when_they_say_so() {
    let Some(site) = Site::new("tools") else {
        return;
    };
    for (number, command) in ["check", "stats", "compact", "export", "repair"]
        .into_iter()
        .enumerate()
    {
        // With a log that has to be taken over first.
        site.fill(true);
        let file = site.path(&format!("export-{number}"));
        let file = [file.to_str().unwrap()];
        site.check_store(command, if command == "export" { &file } else { &[] });
    }
}

#[test]
fn a_store_carried_elsewhere_is_there_when_the_tools_say_so() {
    let Some(site) = Site::new("carried") else {
        return;
    };
    site.fill(false);
    let (file, elsewhere) = (site.path("exported/lines"), site.path("elsewhere"));
    fs::create_dir(site.path("exported")).unwrap();
    let data = site.path("data");
    let [from, to, file] = [&data, &elsewhere, &file].map(|path| path.to_str().unwrap());
    let arguments = ["store", "export", "--data", from, file];
    site.check(&site.path("exported"), &arguments, "");
    // The directory itself is new.
    let arguments = ["store", "import", "--data", to, file];
    let (left, is_well) = site.run(&site.directory, &arguments, "");
    let left: Vec<_> = left.iter().filter(|words| words.contains(to)).collect();
    assert!(is_well && left.is_empty(), "{left:#?}");
    assert!(elsewhere.join("paloma.redb").exists());
}

#[test]
fn a_repaired_store_has_its_place_when_the_repair_says_so() {
    let Some(site) = Site::new("repaired") else {
        return;
    };
    let (data, file) = (site.path("data"), site.path("data/paloma.redb"));
    let repair = |what: &str, is_well: bool| {
        let arguments = ["store", "repair", "--data", data.to_str().unwrap()];
        let set_aside = || {
            let names = fs::read_dir(&data).unwrap();
            let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            names.filter(|name| name.contains("damaged")).count()
        };
        let before = set_aside();
        let (left, was_well) = site.run(&data, &arguments, "");
        assert!(left.is_empty(), "{what}: {left:#?}");
        assert_eq!(was_well, is_well, "{what}");
        assert!(set_aside() > before, "{what}: nothing was set aside");
    };
    for is_killed in [false, true] {
        site.fill(is_killed);
        if is_killed {
            // The next start takes over what the log has, and another kill leaves a file that has to be mended.
            site.fill(true);
        }
        let mut bytes = fs::read(&file).unwrap();
        let places = bytes.windows(PAYLOAD.len()).enumerate();
        let places: Vec<usize> = places
            .filter(|(_, window)| *window == PAYLOAD)
            .map(|(place, _)| place)
            .collect();
        assert!(!places.is_empty());
        for place in places {
            bytes[place] ^= 1;
        }
        fs::write(&file, bytes).unwrap();
        repair("a damaged message", false);
    }
    fs::write(&file, [7; 100_000]).unwrap();
    repair("a file that cannot be read", false);
}

#[test]
fn a_password_file_is_replaced_by_one_that_is_on_disk() {
    let Some(site) = Site::new("passwords") else {
        return;
    };
    let file = site.path("users/file");
    fs::create_dir(site.path("users")).unwrap();
    let path = file.to_str().unwrap();
    for arguments in [
        &["passwd", path, "one"][..],
        // It keeps the mode that it had.
        &["passwd", path, "two"],
        &["passwd", path, "one", "--delete"],
    ] {
        site.check(&site.path("users"), arguments, "secret\n");
    }
}
