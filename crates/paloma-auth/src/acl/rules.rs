//! The rules of all users, and of one client.

use std::collections::HashMap;
use std::path::Path;

use bytestring::ByteString;
use paloma_broker::{Action, Authorizer, Grant, Identity};
use paloma_topic::{TopicFilterRef, TopicNameRef};

use super::file::{self, Line};
use super::filter::{self, Segment};
use super::pattern::{Names, Pattern};
use crate::{Fault, Problems};

/// Most rules in the claims or the answer about one client.
const CLIENT_RULES_MAX: usize = 1_024;

/// The rules of an ACL file: those of each user, those of clients without a user name, and those of everybody.
///
/// What no rule allows is denied, and a `deny` wins over whatever allows. Nobody may write to a topic that begins with
/// `$`. A question costs time linear in the rules of that user and the file's patterns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AclRules {
    anonymous: RuleSet,
    users: HashMap<ByteString, RuleSet>,
    patterns: RuleSet,
}

/// The rules of one client, which came with its identity from claims or a hook.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientRules(RuleSet);

/// Every topic that does not begin with `$`: what authenticated users may use where there is no ACL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenTopics;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RuleSet {
    pub(super) deny: Vec<Pattern>,
    pub(super) allow: Vec<(Access, Pattern)>,
}

/// What a rule allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
    ReadWrite,
}

impl AclRules {
    /// Reads an ACL file.
    ///
    /// # Errors
    /// Everything that is wrong with the file, by line. A file without any rule is refused too.
    pub fn read(path: &Path) -> Result<Self, Problems> {
        Self::parse(path, &crate::file::read(path)?)
    }

    /// Reads the text of an ACL file; `path` is for messages only.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn parse(path: &Path, text: &str) -> Result<Self, Problems> {
        let mut rules = Self::default();
        let mut faults = Vec::new();
        let mut user: Option<ByteString> = None;
        let mut is_empty = true;
        for (number, line) in text.lines().enumerate() {
            match file::parse_line(line) {
                Ok(Line::Blank) => continue,
                Ok(Line::User(name)) => {
                    rules.users.entry(name.clone()).or_default();
                    user = Some(name);
                }
                Ok(Line::Topic(access, pattern)) => {
                    rules.of_mut(user.as_ref()).push(access, pattern)
                }
                Ok(Line::Pattern(access, pattern)) => rules.patterns.push(access, pattern),
                Err(fault) => faults.push((Some(number + 1), fault)),
            }
            is_empty = false;
        }
        if is_empty {
            faults.push((None, Fault::Empty));
        }
        if faults.is_empty() {
            Ok(rules)
        } else {
            Err(Problems::of(path, faults))
        }
    }

    /// Rules that say what [`OpenTopics`] says, to be compared with others.
    #[must_use]
    pub fn open() -> Self {
        let mut rules = Self::default();
        if let Ok(all) = Pattern::plain("#") {
            rules.patterns.push(Some(Access::ReadWrite), all);
        }
        rules
    }

    fn of_mut(&mut self, user: Option<&ByteString>) -> &mut RuleSet {
        match user {
            None => &mut self.anonymous,
            Some(user) => self.users.entry(user.clone()).or_default(),
        }
    }

    /// The rules that concern an identity.
    pub(super) fn of(&self, identity: &Identity) -> [&RuleSet; 2] {
        const NONE: &RuleSet = &RuleSet {
            deny: Vec::new(),
            allow: Vec::new(),
        };
        let own = match &identity.user {
            None => &self.anonymous,
            Some(user) => self.users.get(user).unwrap_or(NONE),
        };
        [own, &self.patterns]
    }
}

impl Authorizer for AclRules {
    fn is_allowed(
        &self,
        identity: &Identity,
        client_id: &str,
        action: Action,
        topic: TopicNameRef<'_>,
    ) -> bool {
        let names = names(identity, client_id);
        is_allowed(&self.of(identity), names, action, topic)
    }

    fn grant(&self, identity: &Identity, client_id: &str, filter: TopicFilterRef<'_>) -> Grant {
        grant(&self.of(identity), names(identity, client_id), filter)
    }
}

impl ClientRules {
    /// Rules as they stand behind `pattern` in an ACL file: `read sensors/#`, `deny %u/secret`, `own/%c`.
    ///
    /// # Errors
    /// What is wrong with the first unsound one.
    pub fn new<'a>(rules: impl IntoIterator<Item = &'a str>) -> Result<Self, Fault> {
        let mut set = RuleSet::default();
        for (count, rule) in rules.into_iter().enumerate() {
            if count == CLIENT_RULES_MAX {
                return Err(Fault::TooManyEntries(CLIENT_RULES_MAX));
            }
            let (access, pattern) = file::parse_rule(rule, Pattern::template)?;
            set.push(access, pattern);
        }
        Ok(Self(set))
    }
}

impl Authorizer for ClientRules {
    fn is_allowed(
        &self,
        identity: &Identity,
        client_id: &str,
        action: Action,
        topic: TopicNameRef<'_>,
    ) -> bool {
        is_allowed(&[&self.0], names(identity, client_id), action, topic)
    }

    fn grant(&self, identity: &Identity, client_id: &str, filter: TopicFilterRef<'_>) -> Grant {
        grant(&[&self.0], names(identity, client_id), filter)
    }
}

impl Authorizer for OpenTopics {
    fn is_allowed(&self, _: &Identity, _: &str, _: Action, topic: TopicNameRef<'_>) -> bool {
        !topic.is_reserved()
    }

    fn grant(&self, _: &Identity, _: &str, filter: TopicFilterRef<'_>) -> Grant {
        if filter.as_str().starts_with('$') {
            Grant::Denied
        } else {
            Grant::AllAllowed
        }
    }
}

impl RuleSet {
    fn push(&mut self, access: Option<Access>, pattern: Pattern) {
        match access {
            Some(access) => self.allow.push((access, pattern)),
            None => self.deny.push(pattern),
        }
    }
}

impl Access {
    pub(super) fn includes(self, action: Action) -> bool {
        match action {
            Action::Read => matches!(self, Self::Read | Self::ReadWrite),
            Action::Write => matches!(self, Self::Write | Self::ReadWrite),
        }
    }
}

pub(super) fn names<'a>(identity: &'a Identity, client_id: &'a str) -> Names<'a> {
    Names {
        user: identity.user.as_deref(),
        client_id,
    }
}

fn is_allowed(
    sets: &[&RuleSet],
    names: Names<'_>,
    action: Action,
    topic: TopicNameRef<'_>,
) -> bool {
    if action == Action::Write && topic.is_reserved() {
        return false;
    }
    let is_denied = |set: &&RuleSet| set.deny.iter().any(|rule| rule.matches(names, topic));
    let is_granted = |set: &&RuleSet| {
        let mut rules = set.allow.iter();
        rules.any(|(access, rule)| access.includes(action) && rule.matches(names, topic))
    };
    !sets.iter().any(is_denied) && sets.iter().any(is_granted)
}

fn grant(sets: &[&RuleSet], names: Names<'_>, filter: TopicFilterRef<'_>) -> Grant {
    let wanted = filter::segments(filter);
    let denied = || sets.iter().flat_map(|set| &set.deny);
    let readable = || {
        let allow = sets.iter().flat_map(|set| &set.allow);
        allow.filter_map(|(access, rule)| access.includes(Action::Read).then_some(rule))
    };
    let some = |rule: &Pattern, test: fn(&[Segment<'_>], &[Segment<'_>]) -> bool| {
        let levels = rule.segments(names);
        levels.is_some_and(|levels| test(&levels, &wanted))
    };
    let is_reachable = readable().any(|rule| some(rule, filter::intersects));
    if !is_reachable || denied().any(|rule| some(rule, filter::covers)) {
        return Grant::Denied;
    }
    let is_covered = readable().any(|rule| some(rule, filter::covers));
    if is_covered && !denied().any(|rule| some(rule, filter::intersects)) {
        return Grant::AllAllowed;
    }
    Grant::CheckEach
}
