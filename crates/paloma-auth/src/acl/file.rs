//! One line of an ACL file.

use bytestring::ByteString;
use paloma_topic::TopicError;

use super::pattern::Pattern;
use super::rules::Access;
use crate::Fault;

/// What a line says. No access means that it denies.
#[derive(Debug)]
pub(super) enum Line {
    /// Nothing, or a comment.
    Blank,
    /// The `topic` lines below are for this user.
    User(ByteString),
    /// A rule of the section's user.
    Topic(Option<Access>, Pattern),
    /// A rule of everybody.
    Pattern(Option<Access>, Pattern),
}

pub(super) fn parse_line(line: &str) -> Result<Line, Fault> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(Line::Blank);
    }
    let (directive, rest) = split_word(line);
    match directive {
        "user" if rest.is_empty() => Err(Fault::MissingUser),
        "user" => Ok(Line::User(rest.into())),
        "topic" => parse_rule(rest, Pattern::plain).map(|(access, rule)| Line::Topic(access, rule)),
        "pattern" => {
            parse_rule(rest, Pattern::template).map(|(access, rule)| Line::Pattern(access, rule))
        }
        _ => Err(Fault::UnknownDirective),
    }
}

/// `[read|write|readwrite|deny] filter`. The filter may hold spaces if the access is spelled out, and a word alone is
/// a filter, whatever it is.
pub(super) fn parse_rule(
    rule: &str,
    compile: fn(&str) -> Result<Pattern, TopicError>,
) -> Result<(Option<Access>, Pattern), Fault> {
    let (word, rest) = split_word(rule.trim());
    let (access, filter) = match (word, rest) {
        ("", _) => return Err(Fault::MissingTopic),
        (filter, "") => (Some(Access::ReadWrite), filter),
        ("read", filter) => (Some(Access::Read), filter),
        ("write", filter) => (Some(Access::Write), filter),
        ("readwrite", filter) => (Some(Access::ReadWrite), filter),
        ("deny", filter) => (None, filter),
        (_, _) => return Err(Fault::UnknownAccess),
    };
    let pattern = compile(filter).map_err(Fault::Topic)?;
    Ok((access, pattern))
}

fn split_word(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_once([' ', '\t']).unwrap_or((text, ""));
    (word, rest.trim())
}
