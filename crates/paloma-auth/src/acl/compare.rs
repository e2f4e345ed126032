//! What somebody loses when other rules come into force.

use paloma_broker::{Action, Identity};

use super::filter::{self, Segment};
use super::pattern::{Names, Pattern};
use super::rules::{AclRules, RuleSet, names};

/// Something that a client may do under some rules and, in whole or in part, not under others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostRight {
    /// What with the topics.
    pub action: Action,
    /// The topics, with the client's names filled in.
    pub filter: String,
    /// Nothing of it is left; else a part may be.
    pub is_whole: bool,
}

impl AclRules {
    /// What `identity` under `client_id` may do by these rules and not, or not everywhere, by those that come after.
    ///
    /// Errs on the side of naming too much: a right that several narrower rules give together counts as lost in part.
    #[must_use]
    pub fn lost(&self, after: &Self, identity: &Identity, client_id: &str) -> Vec<LostRight> {
        let names = names(identity, client_id);
        let (before, after) = (self.of(identity), after.of(identity));
        let mut lost = Vec::new();
        for action in [Action::Read, Action::Write] {
            for rule in allowing(&before, action) {
                let Some(right) = rule.segments(names) else {
                    continue;
                };
                // Nobody writes there, whatever the rules say.
                let is_void =
                    action == Action::Write && right.first().is_some_and(Segment::is_reserved);
                if is_void || denials(&before, names).any(|denial| filter::covers(&denial, &right))
                {
                    continue;
                }
                let Some(is_whole) = is_lost(&before, &after, names, action, &right) else {
                    continue;
                };
                let right = LostRight {
                    action,
                    filter: text(&right),
                    is_whole,
                };
                if !lost.contains(&right) {
                    lost.push(right);
                }
            }
        }
        lost
    }
}

/// Whether a right is lost, and if so, whether the whole of it is.
fn is_lost(
    before: &[&RuleSet],
    after: &[&RuleSet],
    names: Names<'_>,
    action: Action,
    right: &[Segment<'_>],
) -> Option<bool> {
    let (mut is_covered, mut is_touched) = (false, false);
    for rule in allowing(after, action).filter_map(|rule| rule.segments(names)) {
        is_covered |= filter::covers(&rule, right);
        is_touched |= filter::intersects(&rule, right);
    }
    let (mut is_narrowed, mut is_denied) = (false, false);
    for denial in denials(after, names) {
        let is_old = denials(before, names).any(|old| filter::covers(&old, &denial));
        is_narrowed |= !is_old && filter::intersects(&denial, right);
        is_denied |= filter::covers(&denial, right);
    }
    (!is_covered || is_narrowed).then_some(!is_touched || is_denied)
}

fn allowing<'a>(sets: &'a [&'a RuleSet], action: Action) -> impl Iterator<Item = &'a Pattern> {
    let allow = sets.iter().flat_map(|set| &set.allow);
    allow.filter_map(move |(access, rule)| access.includes(action).then_some(rule))
}

fn denials<'a>(
    sets: &'a [&'a RuleSet],
    names: Names<'a>,
) -> impl Iterator<Item = Vec<Segment<'a>>> {
    let deny = sets.iter().flat_map(|set| &set.deny);
    deny.filter_map(move |rule| rule.segments(names))
}

fn text(segments: &[Segment<'_>]) -> String {
    let levels = segments.iter().map(|segment| match segment {
        Segment::Any => "+",
        Segment::Rest => "#",
        Segment::Text(text) => text,
    });
    levels.collect::<Vec<&str>>().join("/")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Ann's losses, as `read a/#` or `write a/# in part`.
    #[track_caller]
    fn check(before: &str, after: &str, expected: &[&str]) {
        let parse = |text: &str| AclRules::parse(Path::new("acl"), text).unwrap();
        let ann = Identity {
            user: Some("ann".into()),
        };
        let lost = parse(before).lost(&parse(after), &ann, "c1");
        let lost = lost.iter().map(|right| {
            let action = match right.action {
                Action::Read => "read",
                Action::Write => "write",
            };
            let part = if right.is_whole { "" } else { " in part" };
            format!("{action} {}{part}", right.filter)
        });
        assert_eq!(lost.collect::<Vec<String>>(), expected, "{before} {after}");
    }

    #[test]
    fn what_is_as_wide_or_wider_is_kept() {
        check("user ann\ntopic a/#", "user ann\ntopic a/#", &[]);
        check("user ann\ntopic read a/b", "user ann\ntopic a/+", &[]);
        check("user ann\ntopic a/b", "pattern #", &[]);
        check("user ann\ntopic home/ann/c1", "pattern home/%u/%c", &[]);
        check("user bob\ntopic a", "user ann\ntopic b", &[]);
    }

    #[test]
    fn what_is_gone_or_narrower_is_lost() {
        check(
            "user ann\ntopic a/#",
            "user bob\ntopic a/#",
            &["read a/#", "write a/#"],
        );
        check("user ann\ntopic a", "user ann\ntopic read a", &["write a"]);
        check(
            "user ann\ntopic read a/#",
            "user ann\ntopic read a/b",
            &["read a/# in part"],
        );
        check(
            "pattern read home/%u/#",
            "pattern read home/%c/#",
            &["read home/ann/#"],
        );
    }

    #[test]
    fn a_denial_counts_if_it_is_new() {
        let all = "user ann\ntopic read #\n";
        check(all, &format!("{all}topic deny a/b"), &["read # in part"]);
        check(all, &format!("{all}topic deny #"), &["read #"]);
        let but = format!("{all}topic deny a/#");
        check(&but, &but, &[]);
        check(&but, &format!("{all}topic deny a/b"), &[]);
        check(&format!("{all}topic deny #"), "user ann\ntopic read x", &[]);
    }

    #[test]
    fn nobody_loses_what_nobody_has() {
        check("user ann\ntopic write $SYS/#", "user ann\ntopic a", &[]);
    }
}
