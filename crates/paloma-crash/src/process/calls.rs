//! What a power cut could take of what a program has written, by the calls that `strace` saw it make.
//!
//! A file's contents are safe once it is synced, and its name once its directory is. So is that it has another name or none.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What `strace` has to be told; the file that it is to write comes behind it, and then the command.
pub const OPTIONS: [&str; 8] = [
    "-f",
    "-y",
    "-qq",
    "-s",
    "64",
    "-e",
    "trace=open,openat,creat,mkdir,mkdirat,rename,renameat,renameat2,unlink,unlinkat,link,linkat,\
     truncate,ftruncate,fallocate,write,pwrite64,writev,pwritev,pwritev2,fsync,fdatasync,fchmod,fchown",
    "-o",
];

/// What is not on the disk for certain, of all that lies below one directory.
#[derive(Debug)]
pub struct Unsynced {
    root: PathBuf,
    present: BTreeSet<PathBuf>,
    /// Files that were written, and whether only a sync of all there is to them is enough.
    contents: BTreeMap<PathBuf, bool>,
    /// Directories, and the names in them that have come or gone.
    names: BTreeMap<PathBuf, BTreeSet<PathBuf>>,
    fouls: Vec<String>,
}

impl Unsynced {
    /// Takes what lies below a directory for safe.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        let mut present = BTreeSet::new();
        list(root, &mut present);
        Self {
            root: root.to_owned(),
            present,
            contents: BTreeMap::new(),
            names: BTreeMap::new(),
            fouls: Vec::new(),
        }
    }

    /// Takes all names in a directory for unsafe: whoever made them may have been killed before it was synced.
    pub fn doubt_names(&mut self, directory: &Path) {
        let inside = self.present.iter();
        let inside = inside.filter(|path| path.parent() == Some(directory));
        let names = inside.cloned().collect();
        self.names.insert(directory.to_owned(), names);
    }

    /// Follows a trace up to a write that has these words, or to its end. True if there is such a write.
    ///
    /// # Panics
    /// If a path in it is relative: nobody could say what it is.
    pub fn follow(&mut self, trace: &str, until: Option<&str>) -> bool {
        let mut begun: BTreeMap<&str, &str> = BTreeMap::new();
        for line in trace.lines() {
            let Some((process, call)) = line.trim_start().split_once(' ') else {
                continue;
            };
            let call = call.trim_start();
            if let Some(call) = call.strip_suffix("<unfinished ...>") {
                begun.insert(process, call);
                continue;
            }
            let resumed = call
                .strip_prefix("<... ")
                .and_then(|call| call.split_once(" resumed>"));
            let whole = match resumed {
                Some((_, end)) => begun.remove(process).unwrap_or_default().to_owned() + end,
                None => call.to_owned(),
            };
            if until.is_some_and(|words| whole.starts_with("write(") && whole.contains(words)) {
                return true;
            }
            self.take(&whole);
        }
        false
    }

    /// What a power cut could take, in words.
    #[must_use]
    pub fn left(&self) -> Vec<String> {
        let contents = self
            .contents
            .keys()
            .map(|path| format!("in {}", path.display()));
        let names = self.names.values().flatten();
        let names = names.map(|path| format!("the name of {}", path.display()));
        self.fouls
            .iter()
            .cloned()
            .chain(contents)
            .chain(names)
            .collect()
    }

    fn take(&mut self, call: &str) {
        let Some((name, rest)) = call.split_once('(') else {
            return;
        };
        let Some((arguments, returned)) = rest.rsplit_once(" = ") else {
            return;
        };
        if returned.starts_with('-') || returned.starts_with('?') {
            return;
        }
        match name {
            "open" | "openat" | "creat" => {
                if let Some(path) = self.own(descriptor(returned)) {
                    if name == "creat" || arguments.contains("O_CREAT") {
                        self.appear(&path);
                    }
                    if name == "creat" || arguments.contains("O_TRUNC") {
                        self.write(path, false);
                    }
                }
            }
            "mkdir" | "mkdirat" => {
                for path in self.named(arguments) {
                    self.appear(&path);
                }
            }
            "write" | "pwrite64" | "writev" | "pwritev" | "pwritev2" | "ftruncate"
            | "fallocate" => {
                if let Some(path) = self.own(descriptor(arguments)) {
                    self.write(path, false);
                }
            }
            "truncate" => {
                for path in self.named(arguments) {
                    self.write(path, false);
                }
            }
            "fchmod" | "fchown" => {
                if let Some(path) = self.own(descriptor(arguments)) {
                    self.write(path, true);
                }
            }
            "fsync" | "fdatasync" => {
                if let Some(path) = self.own(descriptor(arguments)) {
                    self.sync(&path, name == "fsync");
                }
            }
            "rename" | "renameat" | "renameat2" => {
                if let [from, to] = &*self.named(arguments) {
                    self.rename(from, to);
                }
            }
            "unlink" | "unlinkat" => {
                for path in self.named(arguments) {
                    self.vanish(&path);
                }
            }
            other => panic!("{other} is not followed: {call}"),
        }
    }

    fn appear(&mut self, path: &Path) {
        if self.present.insert(path.to_owned()) {
            self.note_name(path);
        }
    }

    fn vanish(&mut self, path: &Path) {
        self.contents.remove(path);
        self.present.remove(path);
        let inside = path.parent().and_then(|parent| self.names.get_mut(parent));
        // What has come since the last sync and is gone again has never been.
        if !inside.is_some_and(|names| names.remove(path)) {
            self.note_name(path);
        }
    }

    fn rename(&mut self, from: &Path, to: &Path) {
        if let Some(is_all) = self.contents.remove(from) {
            let (old, new) = (from.display(), to.display());
            self.fouls
                .push(format!("{old} is called {new} before it is synced"));
            self.contents.insert(to.to_owned(), is_all);
        }
        self.present.remove(from);
        self.present.insert(to.to_owned());
        self.note_name(from);
        self.note_name(to);
    }

    fn note_name(&mut self, path: &Path) {
        let parent = path.parent();
        if let Some(parent) = parent.filter(|parent| parent.starts_with(&self.root)) {
            let names = self.names.entry(parent.to_owned()).or_default();
            names.insert(path.to_owned());
        }
    }

    fn write(&mut self, path: PathBuf, is_all: bool) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // The number of a process that is there no more, and space without anything in it.
        if name == "lock" || name.ends_with(".reserve") {
            return;
        }
        *self.contents.entry(path).or_default() |= is_all;
    }

    fn sync(&mut self, path: &Path, is_all: bool) {
        if is_all || self.contents.get(path) == Some(&false) {
            self.contents.remove(path);
        }
        self.names.remove(path);
    }

    /// The path if it lies below the root.
    fn own(&self, path: Option<&str>) -> Option<PathBuf> {
        let path = path.map(Path::new)?;
        let is_own = path == self.root || path.starts_with(&self.root);
        is_own.then(|| path.to_owned())
    }

    /// Paths that are given by name.
    fn named(&self, arguments: &str) -> Vec<PathBuf> {
        let quoted = arguments.split('"').skip(1).step_by(2);
        let paths = quoted.inspect(|path| assert!(path.starts_with('/'), "{path} is relative"));
        paths.filter_map(|path| self.own(Some(path))).collect()
    }
}

/// The path of the descriptor that these words begin with.
fn descriptor(words: &str) -> Option<&str> {
    let (number, rest) = words.split_once('<')?;
    number.parse::<u32>().ok()?;
    rest.split_once('>').map(|(path, _)| path)
}

fn list(directory: &Path, into: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            list(&path, into);
        }
        into.insert(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is left behind these calls of one thread.
    fn check(calls: &[&str], expected: &[&str]) {
        let mut unsynced = Unsynced::new(Path::new("/nowhere"));
        let lines: String = calls.iter().map(|call| format!("12  {call}\n")).collect();
        assert!(!unsynced.follow(&lines, None));
        assert_eq!(unsynced.left(), expected, "{calls:?}");
    }

    const MAKE: &str = "openat(AT_FDCWD</>, \"/nowhere/a\", O_RDWR|O_CREAT, 0600) = 3</nowhere/a>";
    const WRITE: &str = "write(3</nowhere/a>, \"x\", 1) = 1";
    const SYNC: &str = "fdatasync(3</nowhere/a>) = 0";
    const SYNC_NAMES: &str = "fsync(4</nowhere>) = 0";

    #[test]
    fn a_file_needs_its_contents_and_its_name() {
        check(&[MAKE, WRITE, SYNC, SYNC_NAMES], &[]);
        check(&[MAKE, WRITE, SYNC_NAMES], &["in /nowhere/a"]);
        check(&[MAKE, WRITE, SYNC], &["the name of /nowhere/a"]);
        check(&[MAKE, SYNC, WRITE, SYNC_NAMES], &["in /nowhere/a"]);
        let failed = "fdatasync(3</nowhere/a>) = -1 EIO (Input/output error)";
        check(&[MAKE, WRITE, failed, SYNC_NAMES], &["in /nowhere/a"]);
        let mode = "fchmod(3</nowhere/a>, 0640) = 0";
        check(&[MAKE, mode, SYNC, SYNC_NAMES], &["in /nowhere/a"]);
        check(&[MAKE, WRITE, "unlink(\"/nowhere/a\") = 0"], &[]);
        check(&["unlink(\"/nowhere/a\") = 0"], &["the name of /nowhere/a"]);
    }

    #[test]
    fn what_gets_another_name_has_to_be_synced_before() {
        let rename = "rename(\"/nowhere/a\", \"/nowhere/b\") = 0";
        check(&[MAKE, WRITE, SYNC, rename, SYNC_NAMES], &[]);
        check(
            &[MAKE, WRITE, rename, "fsync(3</nowhere/b>) = 0", SYNC_NAMES],
            &["/nowhere/a is called /nowhere/b before it is synced"],
        );
        check(
            &[MAKE, WRITE, SYNC, rename],
            &["the name of /nowhere/a", "the name of /nowhere/b"],
        );
    }

    #[test]
    fn calls_of_several_threads_count_when_they_return() {
        let trace = "1  openat(AT_FDCWD</>, \"/nowhere/a\", O_CREAT) = 3</nowhere/a>\n\
             1  fdatasync(3</nowhere/a> <unfinished ...>\n\
             2  write(3</nowhere/a>, \"x\", 1) = 1\n\
             1  <... fdatasync resumed>) = 0\n\
             2  write(2</dev/null>, \"ready\", 5) = 5\n\
             1  fsync(4</nowhere>) = 0\n";
        let mut unsynced = Unsynced::new(Path::new("/nowhere"));
        assert!(unsynced.follow(trace, Some("ready")));
        assert_eq!(unsynced.left(), ["the name of /nowhere/a"]);
    }
}
