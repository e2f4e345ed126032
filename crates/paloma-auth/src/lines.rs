//! Files of `user:secret` lines: reading them and changing one line.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::Path;

use bytestring::ByteString;

use crate::{Fault, Problem, Problems, file};

/// Longest user name, in bytes.
const USER_BYTES_MAX: usize = 4_096;

/// What each user's line says; `parse` reads what stands behind the colon.
pub(crate) fn parse<T>(
    path: &Path,
    text: &str,
    parse: impl Fn(&str) -> Result<T, Fault>,
) -> Result<HashMap<ByteString, T>, Problems> {
    let mut users = HashMap::new();
    let mut faults = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let (number, line) = (index + 1, line.trim());
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match parse_line(line, &parse) {
            Err(fault) => faults.push((Some(number), fault)),
            Ok((user, value)) => {
                if let Some((first, _)) = users.insert(user, (number, value)) {
                    faults.push((Some(number), Fault::DuplicateUser { first }));
                }
            }
        }
    }
    if users.is_empty() && faults.is_empty() {
        faults.push((None, Fault::Empty));
    }
    if !faults.is_empty() {
        return Err(Problems::of(path, faults));
    }
    let strip = |(user, (_, value))| (user, value);
    Ok(users.into_iter().map(strip).collect())
}

fn parse_line<T>(
    line: &str,
    parse: impl Fn(&str) -> Result<T, Fault>,
) -> Result<(ByteString, T), Fault> {
    let (user, secret) = line.split_once(':').ok_or(Fault::MissingColon)?;
    check_user(user)?;
    Ok((user.into(), parse(secret)?))
}

/// Sets the user's line, in a file that is made if there is none. The rest of the file stays as it is.
pub(crate) fn set(path: &Path, user: &str, secret: &str) -> Result<(), Problems> {
    check_user(user).map_err(|fault| Problems::one(path, fault))?;
    let text = match file::read(path) {
        Err(problems) if is_missing(&problems) => String::new(),
        read => read?,
    };
    let mut line = Some(format!("{user}:{secret}"));
    let mut lines = Vec::new();
    for old in text.lines() {
        if is_of(old, user) {
            lines.extend(line.take());
        } else {
            lines.push(old.to_owned());
        }
    }
    lines.extend(line);
    file::replace(path, &(lines.join("\n") + "\n"))
}

/// Removes the user's line.
pub(crate) fn remove(path: &Path, user: &str) -> Result<(), Problems> {
    let text = file::read(path)?;
    let kept: Vec<&str> = text.lines().filter(|line| !is_of(line, user)).collect();
    if kept.len() == text.lines().count() {
        return Err(Problems::one(path, Fault::NoSuchUser));
    }
    let mut text = kept.join("\n");
    if !text.is_empty() {
        text.push('\n');
    }
    file::replace(path, &text)
}

fn is_of(line: &str, user: &str) -> bool {
    let line = line.trim();
    !line.starts_with('#') && line.split_once(':').is_some_and(|(name, _)| name == user)
}

fn is_missing(problems: &Problems) -> bool {
    let is_missing = |problem: &Problem| matches!(&problem.fault, Fault::Io(error) if error.kind() == ErrorKind::NotFound);
    problems.as_slice().iter().any(is_missing)
}

fn check_user(user: &str) -> Result<(), Fault> {
    let is_sound = !user.is_empty()
        && user.len() <= USER_BYTES_MAX
        && user.trim() == user
        && !user.starts_with('#')
        && !user.contains(|c: char| c == ':' || c.is_control());
    if is_sound {
        Ok(())
    } else {
        Err(Fault::UserName)
    }
}
