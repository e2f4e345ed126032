//! An ACL file and a question about it: what is said of a filter holds for a topic that it matches.

use std::path::Path;

use paloma_auth::AclRules;
use paloma_broker::{Action, Authorizer, Grant, Identity};
use paloma_topic::{TopicFilterRef, TopicNameRef};

/// The file's text, a user (empty: anonymous), a client id, a topic and a filter, with null bytes between them.
pub fn run(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let mut parts = text.split('\0');
    let Ok(rules) = AclRules::parse(Path::new("acl"), parts.next().unwrap_or_default()) else {
        return;
    };
    let mut next = || parts.next().unwrap_or_default();
    let (user, client_id, topic, filter) = (next(), next(), next(), next());
    let identity = Identity {
        user: (!user.is_empty()).then(|| user.into()),
    };
    let Ok(topic) = TopicNameRef::new(topic) else {
        return;
    };
    let may_read = rules.is_allowed(&identity, client_id, Action::Read, topic);
    let may_write = rules.is_allowed(&identity, client_id, Action::Write, topic);
    assert!(!(may_write && topic.is_reserved()));
    check_grant(
        &rules,
        &identity,
        client_id,
        topic.as_str(),
        topic,
        may_read,
    );
    check_grant(&rules, &identity, client_id, filter, topic, may_read);
}

fn check_grant(
    rules: &AclRules,
    identity: &Identity,
    client_id: &str,
    filter: &str,
    topic: TopicNameRef<'_>,
    may_read: bool,
) {
    let Ok(filter) = TopicFilterRef::new(filter) else {
        return;
    };
    let grant = rules.grant(identity, client_id, filter);
    if filter.matches(topic) {
        assert!(grant != Grant::AllAllowed || may_read, "{filter} {topic}");
        assert!(grant != Grant::Denied || !may_read, "{filter} {topic}");
    }
}
