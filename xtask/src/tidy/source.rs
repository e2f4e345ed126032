//! A Rust file as tidy sees it: code without comments and strings, and which lines of it are tests.
#![expect(
    clippy::indexing_slicing,
    reason = "offsets come from searches in the same text"
)]

use std::path::{Path, PathBuf};

/// A Rust file, prepared for the checks.
#[derive(Debug)]
pub(crate) struct Source {
    /// Relative to the root of the workspace.
    pub(crate) path: PathBuf,
    /// The text as written.
    pub(crate) text: String,
    /// The text with comments, strings and characters blanked out; the same length and the same lines.
    pub(crate) code: String,
    /// Whether the whole file is tests.
    pub(crate) is_test: bool,
    /// Byte ranges of `code` that are compiled for tests only.
    test_ranges: Vec<(usize, usize)>,
}

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    /// Lines from `fn` to the closing brace.
    pub(crate) lines: usize,
}

impl Source {
    pub(crate) fn new(path: PathBuf, text: &str) -> Self {
        let code = blank(text);
        let test_ranges = test_ranges(&code);
        let is_test =
            path.components().any(|part| part.as_os_str() == "tests") || path.ends_with("tests.rs");
        Self {
            path,
            text: text.to_owned(),
            code,
            is_test,
            test_ranges,
        }
    }

    /// Lines that are not tests.
    pub(crate) fn lines(&self) -> usize {
        let tests: usize = self
            .test_ranges
            .iter()
            .map(|(start, end)| lines_in(&self.code, *start, *end))
            .sum();
        self.text.lines().count().saturating_sub(tests)
    }

    /// The code that is not tests, with its lines where they were.
    pub(crate) fn production_code(&self) -> String {
        let mut bytes = self.code.clone().into_bytes();
        for (start, end) in &self.test_ranges {
            for byte in bytes.iter_mut().take(*end).skip(*start) {
                if *byte != b'\n' {
                    *byte = b' ';
                }
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Whether this byte is compiled for tests only.
    pub(crate) fn is_test_at(&self, offset: usize) -> bool {
        let mut ranges = self.test_ranges.iter();
        self.is_test || ranges.any(|(start, end)| (*start..*end).contains(&offset))
    }

    /// All functions that are not tests.
    pub(crate) fn functions(&self) -> Vec<Function> {
        functions(&self.production_code())
    }

    /// Paths, without extension, of the modules that this file declares for tests only.
    pub(crate) fn test_modules(&self) -> Vec<PathBuf> {
        let stem = self.path.with_extension("");
        let is_root = ["lib", "main", "mod"]
            .iter()
            .any(|name| stem.ends_with(name));
        let directory = if is_root {
            stem.parent().unwrap_or(Path::new(""))
        } else {
            &stem
        };
        let items = self
            .test_ranges
            .iter()
            .filter_map(|(start, end)| self.code.get(*start..*end));
        items
            .filter_map(|item| item.strip_suffix(';')?.rsplit_once("mod "))
            .map(|(_, name)| directory.join(name.trim()))
            .collect()
    }
}

/// Blanks comments, strings and characters with spaces, byte for byte; newlines stay.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let after_word = at > 0 && is_word(bytes[at - 1]);
        let length = blank_length(rest, after_word);
        if length == 0 {
            out.push(if rest[0].is_ascii() { rest[0] } else { b' ' });
            at += 1;
        } else {
            let end = (at + length).min(bytes.len());
            out.extend(
                bytes[at..end]
                    .iter()
                    .map(|byte| if *byte == b'\n' { b'\n' } else { b' ' }),
            );
            at = end;
        }
    }
    String::from_utf8(out).expect("only ASCII was written")
}

/// How many bytes at the start of `rest` are a comment, a string or a character; 0 if it begins with code.
fn blank_length(rest: &[u8], after_word: bool) -> usize {
    match rest {
        [b'/', b'/', ..] => rest
            .iter()
            .position(|byte| *byte == b'\n')
            .unwrap_or(rest.len()),
        [b'/', b'*', ..] => block_comment(rest),
        [b'"', ..] => quoted(rest, b'"'),
        [b'\'', ..] => character(rest),
        [b'r' | b'b' | b'c', ..] if !after_word => prefixed(rest),
        _ => 0,
    }
}

fn block_comment(rest: &[u8]) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += 1;
        }
    }
    at
}

fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    at + 1
}

/// A lifetime or a loop label is code, not a character.
fn character(rest: &[u8]) -> usize {
    let is_escape = rest.get(1) == Some(&b'\\');
    let width = match rest.get(1) {
        Some(0xF0..) => 4,
        Some(0xE0..) => 3,
        Some(0xC0..) => 2,
        _ => 1,
    };
    if is_escape || rest.get(1 + width) == Some(&b'\'') {
        quoted(rest, b'\'')
    } else {
        0
    }
}

/// `b"…"`, `c"…"`, `b'…'`, `r"…"`, `br#"…"#` and the like.
fn prefixed(rest: &[u8]) -> usize {
    let letters = rest
        .iter()
        .take(2)
        .take_while(|byte| matches!(byte, b'r' | b'b' | b'c'))
        .count();
    let is_raw = rest[..letters].contains(&b'r');
    let hashes = rest[letters..]
        .iter()
        .take_while(|byte| **byte == b'#')
        .count();
    match rest.get(letters + hashes) {
        Some(b'"') if is_raw => {
            let end: Vec<u8> = [b'"'].into_iter().chain([b'#'].repeat(hashes)).collect();
            let body = letters + hashes + 1;
            let found = rest[body..]
                .windows(end.len())
                .position(|window| window == end);
            found.map_or(rest.len(), |at| body + at + end.len())
        }
        Some(b'"') if hashes == 0 => letters + quoted(&rest[letters..], b'"'),
        Some(b'\'') if hashes == 0 && rest[0] == b'b' => letters + quoted(&rest[letters..], b'\''),
        _ => 0,
    }
}

/// Ranges of items behind `#[cfg(test)]` or `#[cfg(all(test, …`, attributes included.
fn test_ranges(code: &str) -> Vec<(usize, usize)> {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for (start, _) in code.match_indices("#[cfg(") {
        let inside_another = ranges.last().is_some_and(|(_, end)| start < *end);
        let condition = &code[start + "#[cfg(".len()..];
        if !inside_another
            && ["test)", "all(test,", "all(test)"]
                .iter()
                .any(|text| condition.starts_with(text))
        {
            ranges.push((start, item_end(code, start)));
        }
    }
    ranges
}

/// Where the item that begins at `start` ends: behind its body or its semicolon, whichever comes first.
fn item_end(code: &str, start: usize) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in code.bytes().enumerate().skip(start) {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth = depth.saturating_sub(1),
            b'{' if depth == 0 => return body_end(code, at),
            b';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

/// Where the body whose `{` is at `open` ends, its `}` included.
fn body_end(code: &str, open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    code.len()
}

fn functions(code: &str) -> Vec<Function> {
    let mut found = Vec::new();
    for (start, _) in code.match_indices("fn ") {
        if start > 0 && is_word(code.as_bytes()[start - 1]) {
            continue;
        }
        let rest = code[start + 3..].trim_start();
        let name: String = rest
            .bytes()
            .take_while(|byte| is_word(*byte))
            .map(char::from)
            .collect();
        let end = item_end(code, start);
        let has_body = code.get(..end).is_some_and(|text| text.ends_with('}'));
        if !name.is_empty() && has_body {
            found.push(Function {
                name,
                lines: lines_in(code, start, end),
            });
        }
    }
    found
}

fn lines_in(code: &str, start: usize, end: usize) -> usize {
    code.get(start..end)
        .unwrap_or_default()
        .matches('\n')
        .count()
        + 1
}

/// Whether the byte can be part of an identifier.
pub(crate) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::new(PathBuf::from("crates/x/src/a.rs"), text)
    }

    fn check_blank(text: &str, expected: &str) {
        assert_eq!(blank(text), expected, "{text}");
    }

    #[test]
    fn comments_and_strings_are_blanked() {
        check_blank("a // b\nc", "a     \nc");
        check_blank("a /* b /* c */ d */ e", "a                   e");
        check_blank(r#"f("a\"b", c)"#, "f(      , c)");
        check_blank(r##"f(r#"a"b"#, br"c", b'"')"##, "f(        ,      ,     )");
        check_blank("x('\"', '\\'', 'é')", "x(   ,     ,     )");
    }

    #[test]
    fn lifetimes_and_identifiers_stay() {
        check_blank("fn f<'a>(bar: &'a r) {}", "fn f<'a>(bar: &'a r) {}");
        check_blank("'outer: loop {}", "'outer: loop {}");
        check_blank("r#type + number", "r#type + number");
    }

    #[test]
    fn functions_are_measured_from_fn_to_brace() {
        let functions =
            source("pub fn a(x: [u8; 2])\nwhere\n{\n  y;\n}\nfn b() {}\nfn c();\ntype F = fn(u8);")
                .functions();
        let expected = [("a", 5), ("b", 1)].map(|(name, lines)| Function {
            name: name.to_owned(),
            lines,
        });
        assert_eq!(functions, expected);
    }

    #[test]
    fn tests_do_not_count() {
        let text = "fn a() {}\n\n#[cfg(test)]\nmod tests {\n  fn long() {\n  }\n}\nfn b() {}\n";
        let source = source(text);
        assert_eq!(source.lines(), 3);
        assert_eq!(source.functions().len(), 2);
    }

    #[test]
    fn test_modules_in_other_files_are_known() {
        let tester = source("#[cfg(test)]\nmod tester;\nmod other;");
        assert_eq!(
            tester.test_modules(),
            [PathBuf::from("crates/x/src/a/tester")]
        );
        let root = Source::new(
            PathBuf::from("crates/x/src/lib.rs"),
            "#[cfg(test)]\npub(crate) mod tester;",
        );
        assert_eq!(root.test_modules(), [PathBuf::from("crates/x/src/tester")]);
    }

    #[test]
    fn files_of_tests_are_known_by_their_path() {
        for (path, is_test) in [
            ("crates/x/tests/a.rs", true),
            ("crates/x/src/a/tests.rs", true),
            ("crates/x/src/a.rs", false),
        ] {
            assert_eq!(
                Source::new(PathBuf::from(path), "").is_test,
                is_test,
                "{path}"
            );
        }
    }
}
