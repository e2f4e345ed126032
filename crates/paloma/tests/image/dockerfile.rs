//! A Dockerfile's text as what it has done.

use std::fmt::Debug;

/// What a build does from one FROM to the next.
#[derive(Debug)]
pub(crate) struct Stage {
    /// What it begins with, such as `debian:bookworm-slim`.
    pub(crate) image: String,
    pub(crate) name: Option<String>,
    pub(crate) steps: Vec<Step>,
}

/// One instruction, of those that ours have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// `from` is the name of an earlier stage; without it, sources lie in the build's context.
    Copy {
        from: Option<String>,
        sources: Vec<String>,
        to: String,
    },
    /// A line for `/bin/sh -c`.
    Run(String),
    Workdir(String),
    /// User and group, as numbers: names would have to be in the image.
    User(u32, u32),
    Expose(Vec<u16>),
    StopSignal(String),
    Entrypoint(Vec<String>),
    Cmd(Vec<String>),
}

impl Step {
    /// What the shell is given.
    pub(crate) fn line(&self) -> Option<&str> {
        if let Self::Run(line) = self {
            Some(line)
        } else {
            None
        }
    }
}

/// The stages of a file.
///
/// # Panics
/// If it has an instruction, or a form of one, that has not been thought of here.
pub(crate) fn parse(text: &str) -> Vec<Stage> {
    let mut stages: Vec<Stage> = Vec::new();
    for line in instructions(text) {
        let (name, rest) = line.split_once(char::is_whitespace).expect(&line);
        let rest = rest.trim();
        if name == "FROM" {
            stages.push(stage(rest));
        } else {
            let stage = stages.last_mut().expect("FROM comes first");
            stage.steps.push(step(name, rest));
        }
    }
    stages
}

/// Lines without comments, with those that a backslash continues joined.
fn instructions(text: &str) -> Vec<String> {
    let mut whole: Vec<String> = Vec::new();
    let mut is_continued = false;
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let part = line.strip_suffix('\\');
        match whole.last_mut().filter(|_| is_continued) {
            Some(last) => last.push_str(part.unwrap_or(line)),
            None => whole.push(part.unwrap_or(line).to_owned()),
        }
        is_continued = part.is_some();
    }
    whole
}

fn stage(rest: &str) -> Stage {
    let words: Vec<&str> = rest.split_whitespace().collect();
    let name = match words[1..] {
        [] => None,
        ["AS", name] => Some(name.to_owned()),
        _ => panic!("FROM {rest}"),
    };
    Stage {
        image: words[0].to_owned(),
        name,
        steps: Vec::new(),
    }
}

fn step(name: &str, rest: &str) -> Step {
    match name {
        "COPY" => copy(rest),
        "RUN" => {
            assert!(!rest.starts_with(['[', '-', '<']), "RUN {rest}");
            Step::Run(rest.to_owned())
        }
        "WORKDIR" => {
            assert!(rest.starts_with('/'), "WORKDIR {rest}");
            Step::Workdir(rest.to_owned())
        }
        "USER" => {
            let (user, group) = rest.split_once(':').expect(rest);
            Step::User(number(user), number(group))
        }
        "EXPOSE" => Step::Expose(rest.split_whitespace().map(number).collect()),
        "STOPSIGNAL" => Step::StopSignal(rest.to_owned()),
        "ENTRYPOINT" => Step::Entrypoint(words(rest)),
        "CMD" => Step::Cmd(words(rest)),
        other => panic!("nobody has said what {other} does in this test"),
    }
}

fn copy(rest: &str) -> Step {
    let (flags, mut paths): (Vec<&str>, Vec<&str>) = rest
        .split_whitespace()
        .partition(|word| word.starts_with("--"));
    let from = match flags[..] {
        [] => None,
        [flag] => Some(flag.strip_prefix("--from=").expect(flag).to_owned()),
        _ => panic!("COPY {rest}"),
    };
    let to = paths.pop().expect(rest).to_owned();
    Step::Copy {
        from,
        sources: paths.into_iter().map(str::to_owned).collect(),
        to,
    }
}

/// The exec form: what it names is started without a shell, and so gets signals itself.
fn words(rest: &str) -> Vec<String> {
    serde_json::from_str(rest).unwrap_or_else(|error| panic!("{rest}: {error}"))
}

fn number<N: std::str::FromStr<Err: Debug>>(text: &str) -> N {
    text.parse().expect(text)
}

#[test]
fn lines_are_joined_and_comments_left_out() {
    let [stage] = &parse("# x\nFROM a:b AS c\nRUN one \\\n  # not this\n  && two\nUSER 1:2\n")[..]
    else {
        panic!("one stage")
    };
    assert_eq!(
        (&stage.image[..], stage.name.as_deref()),
        ("a:b", Some("c"))
    );
    let expected = [Step::Run("one && two".to_owned()), Step::User(1, 2)];
    assert_eq!(stage.steps, expected);
}

#[test]
#[should_panic(expected = "HEALTHCHECK")]
fn what_is_not_known_is_not_passed_over() {
    parse("FROM a\nHEALTHCHECK CMD true\n");
}
