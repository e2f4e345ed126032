//! The authorisation matrix: what is done × the way it takes × what the rules say, in both versions, by rules made for it
//! and by those of ACL files.
//!
//! One client, the subject, has its right to one topic judged: to write it (publish, will, retained set) or to read it
//! (subscribe, retained read). Everybody else may do everything. A revoked right is taken away as late as the way allows:
//! after the client has connected, subscribed, or been sent what it did not acknowledge.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "the whole file is a test: what should not happen may panic"
)]

mod support;

use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use paloma_auth::AclRules;
use paloma_broker::{Action, Authorizer, Grant, Identity};
use paloma_codec::{
    ConnAckReason, Connect, Delivery, ProtocolVersion, Publish, Qos, SubscribeOptions, Will,
};
use paloma_topic::{TopicFilterRef, TopicNameRef};
use support::{Handle, World, id, message, pub_comp, pub_rel, publish_packet, qos1, v3, v5, will};

/// What the subject does, or what is done for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Publish,
    Subscribe,
    Will,
    RetainedSet,
    RetainedRead,
}

/// The way that the message takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Live,
    RetainedAtSubscribe,
    OfflineQueue,
    ReplayAfterResume,
    Qos2Release,
    Shared,
    OverlappingWildcard,
    SessionRestore,
    DelayedWill,
    Sys,
    Template,
    NoUserName,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Allow,
    Deny,
    /// The right goes while the subject is there, with a reload.
    RevokedByReload,
    /// The right is not among the rules that the subject gets at its next login.
    RevokedAtLogin,
}

const DEEDS: [Deed; 5] = [
    Deed::Publish,
    Deed::Subscribe,
    Deed::Will,
    Deed::RetainedSet,
    Deed::RetainedRead,
];
const WAYS: [Way; 12] = [
    Way::Live,
    Way::RetainedAtSubscribe,
    Way::OfflineQueue,
    Way::ReplayAfterResume,
    Way::Qos2Release,
    Way::Shared,
    Way::OverlappingWildcard,
    Way::SessionRestore,
    Way::DelayedWill,
    Way::Sys,
    Way::Template,
    Way::NoUserName,
];
const VERDICTS: [Verdict; 4] = [
    Verdict::Allow,
    Verdict::Deny,
    Verdict::RevokedByReload,
    Verdict::RevokedAtLogin,
];
/// Who says what the subject may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// Rules that are nothing but the right in question.
    Script,
    /// An ACL file, in which the right is a line that is there or not.
    FileThatAllows,
    /// An ACL file, which takes the right out of what a wildcard allows.
    FileThatDenies,
}

const VERSIONS: [ProtocolVersion; 2] = [ProtocolVersion::V3_1_1, ProtocolVersion::V5];

#[derive(Clone, Copy, Debug)]
struct Case {
    source: Source,
    deed: Deed,
    way: Way,
    verdict: Verdict,
    version: ProtocolVersion,
}

/// Why there is no such case; `None` if there is.
fn impossible(case: Case) -> Option<&'static str> {
    match (case.deed, case.way) {
        (Deed::Publish, Way::RetainedAtSubscribe) => {
            Some("a PUBLISH without RETAIN is not kept for later subscribers")
        }
        (Deed::Publish, Way::DelayedWill) => Some("a will is a deed of its own"),
        (Deed::RetainedRead, Way::Shared) => {
            Some("a shared subscription brings no retained messages")
        }
        (Deed::RetainedRead, Way::Sys) => Some("no client can put a retained message there"),
        (Deed::Will | Deed::RetainedSet, Way::DelayedWill) if !case.version.is_v5() => {
            Some("3.1.1 has no will delay")
        }
        (
            Deed::Publish | Deed::Subscribe | Deed::Will | Deed::RetainedSet | Deed::RetainedRead,
            Way::Live
            | Way::RetainedAtSubscribe
            | Way::OfflineQueue
            | Way::ReplayAfterResume
            | Way::Qos2Release
            | Way::Shared
            | Way::OverlappingWildcard
            | Way::SessionRestore
            | Way::DelayedWill
            | Way::Sys
            | Way::Template
            | Way::NoUserName,
        ) => None,
    }
}

/// Rules that judge the subject's right to what is below `topic`'s parent, and let everybody else do everything.
#[derive(Debug)]
struct Script {
    source: Source,
    topic: String,
    action: Action,
    by: By,
    has_right: Mutex<bool>,
    epoch: AtomicU16,
}

/// How the rules know the subject.
#[derive(Clone, Copy, Debug)]
enum By {
    User,
    NoUser,
    /// `home/%u/%c/…`, for every name: the right is the template's presence.
    Template,
}

const SUBJECT: &str = "subject";
const PARTNER: &str = "partner";

impl Script {
    fn is_subject(&self, identity: &Identity) -> bool {
        match self.by {
            By::User | By::Template => identity.user.as_deref() == Some(SUBJECT),
            By::NoUser => identity.user.is_none(),
        }
    }

    fn has_right(&self, identity: &Identity, client_id: &str) -> bool {
        let user = identity.user.as_deref().unwrap_or_default();
        let is_of_template = match self.by {
            By::Template => self.topic == format!("home/{user}/{client_id}/t"),
            By::User | By::NoUser => true,
        };
        is_of_template && *self.has_right.lock().unwrap()
    }

    /// The same as an ACL file says it.
    fn file(&self) -> AclRules {
        let has_right = *self.has_right.lock().unwrap();
        let (right, rest) = match self.action {
            Action::Read => ("read", "write"),
            Action::Write => ("write", "read"),
        };
        let topic = &self.topic;
        let (mut own, mut everybodys) = (String::new(), String::new());
        match (self.source, self.by, has_right) {
            (_, By::Template, has_right) => {
                own = format!("topic {rest} #\ntopic {right} filler\n");
                if has_right {
                    everybodys = format!("pattern {right} home/%u/%c/t\n");
                }
            }
            (Source::FileThatDenies, By::User | By::NoUser, has_right) => {
                own.push_str("topic readwrite #\ntopic readwrite $SYS/#\n");
                if !has_right {
                    own.push_str(&format!("topic deny {topic}\n"));
                }
            }
            (Source::Script | Source::FileThatAllows, By::User | By::NoUser, has_right) => {
                own = format!("topic {rest} #\ntopic {right} filler\n");
                if has_right {
                    own.push_str(&format!("topic {right} {topic}\n"));
                }
            }
        }
        let user = match self.by {
            By::User | By::Template => format!("user {SUBJECT}\n"),
            // Before any user.
            By::NoUser => String::new(),
        };
        let partner = format!("user {PARTNER}\ntopic readwrite #\ntopic readwrite $SYS/#\n");
        let text = format!("{user}{own}{partner}{everybodys}");
        AclRules::parse(Path::new("acl"), &text).unwrap()
    }

    fn revoke(&self) {
        *self.has_right.lock().unwrap() = false;
        self.epoch.fetch_add(1, Ordering::Relaxed);
    }
}

impl Authorizer for Script {
    fn is_allowed(
        &self,
        identity: &Identity,
        client_id: &str,
        action: Action,
        topic: TopicNameRef<'_>,
    ) -> bool {
        if self.source != Source::Script {
            return self.file().is_allowed(identity, client_id, action, topic);
        }
        !self.is_subject(identity)
            || action != self.action
            || topic.as_str() != self.topic
            || self.has_right(identity, client_id)
    }

    fn grant(&self, identity: &Identity, client_id: &str, filter: TopicFilterRef<'_>) -> Grant {
        if self.source != Source::Script {
            return self.file().grant(identity, client_id, filter);
        }
        let topic = TopicNameRef::new(&self.topic).unwrap();
        let is_free = !self.is_subject(identity)
            || self.action != Action::Read
            || !filter.matches(topic)
            || self.has_right(identity, client_id);
        if is_free {
            Grant::AllAllowed
        } else if filter.as_str() == self.topic {
            Grant::Denied
        } else {
            Grant::CheckEach
        }
    }

    fn epoch(&self) -> u16 {
        self.epoch.load(Ordering::Relaxed)
    }
}

/// One case being played.
struct Play {
    case: Case,
    world: World,
    topic: String,
    rules: Arc<Script>,
    reader: Option<Handle>,
    writer: Option<Handle>,
    /// What the reader was sent on the topic since the right was last changed.
    seen: usize,
}

impl Play {
    fn new(case: Case) -> Self {
        let action = match case.deed {
            Deed::Publish | Deed::Will | Deed::RetainedSet => Action::Write,
            Deed::Subscribe | Deed::RetainedRead => Action::Read,
        };
        let client = match action {
            Action::Write => "writer",
            Action::Read => "reader",
        };
        let topic = match (case.way, case.verdict) {
            (Way::Sys, _) => "$SYS/a/t".to_owned(),
            // The template is there, but it means somebody else.
            (Way::Template, Verdict::Deny) => "home/subject/other/t".to_owned(),
            (Way::Template, _) => format!("home/subject/{client}/t"),
            _ => "a/t".to_owned(),
        };
        let by = match case.way {
            Way::Template => By::Template,
            Way::NoUserName => By::NoUser,
            _ => By::User,
        };
        let rules = Arc::new(Script {
            source: case.source,
            topic: topic.clone(),
            action,
            by,
            has_right: Mutex::new(case.verdict != Verdict::Deny || case.way == Way::Template),
            epoch: AtomicU16::new(0),
        });
        let authorizer: Arc<Script> = Arc::clone(&rules);
        let mut world = World::with(|config| {
            config.authorizer = authorizer;
            config.limits.inflight_max = 1;
        });
        if case.verdict == Verdict::RevokedAtLogin {
            world.own_rules.insert(client.to_owned(), rules.clone());
        }
        Self {
            case,
            world,
            topic,
            rules,
            reader: None,
            writer: None,
            seen: 0,
        }
    }

    fn subject_writes(&self) -> bool {
        self.rules.action == Action::Write
    }

    /// A durable client of the case's version, known by name where the way wants one.
    fn terms(&self, client_id: &str, is_subject: bool) -> Connect {
        let connect = if self.case.version.is_v5() {
            Connect {
                clean_start: false,
                session_expiry_seconds: 3_600,
                ..v5(client_id)
            }
        } else {
            v3(client_id, false)
        };
        let user = match (is_subject, self.case.way) {
            (true, Way::NoUserName) => None,
            (true, _) => Some(SUBJECT.into()),
            (false, _) => Some(PARTNER.into()),
        };
        Connect {
            username: user,
            ..connect
        }
    }

    fn log_in(&mut self, connect: Connect) -> Option<Handle> {
        let (client, ack) = self.world.connect(connect);
        (ack.reason == ConnAckReason::Success).then_some(client)
    }

    fn log_reader_in(&mut self) {
        let connect = self.terms("reader", !self.subject_writes());
        self.reader = self.log_in(connect);
        assert!(self.reader.is_some(), "{:?}", self.case);
        self.count();
    }

    /// The writer, with its will if a will is what this is about; refused if it may not have that.
    fn log_writer_in(&mut self) {
        let mut connect = self.terms("writer", self.subject_writes());
        if self.case.way == Way::DelayedWill {
            connect.version = ProtocolVersion::V5;
            connect.session_expiry_seconds = 3_600;
        }
        let is_will = self.case.deed == Deed::Will || self.case.way == Way::DelayedWill;
        connect.will = is_will.then(|| Will {
            qos: Qos::ExactlyOnce,
            retain: self.is_retained(),
            delay_seconds: if self.case.way == Way::DelayedWill {
                10
            } else {
                0
            },
            ..will(&self.topic, "m")
        });
        self.writer = self.log_in(connect);
    }

    fn log_writer_in_again(&mut self) {
        let connect = self.terms("writer", self.subject_writes());
        self.writer = self.log_in(connect);
    }

    fn is_retained(&self) -> bool {
        let is_read_later =
            self.case.deed == Deed::Will && self.case.way == Way::RetainedAtSubscribe;
        matches!(self.case.deed, Deed::RetainedSet | Deed::RetainedRead)
            || is_read_later
            || (self.case.deed == Deed::Subscribe && self.case.way == Way::RetainedAtSubscribe)
    }

    fn is_revoked(&self) -> bool {
        match self.case.verdict {
            Verdict::Allow | Verdict::Deny => false,
            Verdict::RevokedByReload | Verdict::RevokedAtLogin => true,
        }
    }

    /// Takes the right away without a login.
    fn revoke_quietly(&mut self) {
        match self.case.verdict {
            Verdict::Allow | Verdict::Deny => {}
            Verdict::RevokedByReload => {
                self.rules.revoke();
                self.world.broker.handle_rules_changed(self.world.now);
                self.world.settle();
            }
            Verdict::RevokedAtLogin => {
                let without = Script {
                    source: self.case.source,
                    topic: self.topic.clone(),
                    action: self.rules.action,
                    by: self.rules.by,
                    has_right: Mutex::new(false),
                    epoch: AtomicU16::new(0),
                };
                let client = if self.subject_writes() {
                    "writer"
                } else {
                    "reader"
                };
                self.world
                    .own_rules
                    .insert(client.to_owned(), Arc::new(without));
            }
        }
        if self.is_revoked() {
            self.seen = 0;
        }
    }

    /// Takes the right away, by a login if the verdict says so.
    fn revoke(&mut self) {
        self.count();
        self.revoke_quietly();
        if self.case.verdict == Verdict::RevokedAtLogin {
            if self.subject_writes() {
                self.log_writer_in_again();
            } else {
                self.log_reader_in();
                self.seen = 0;
            }
        }
    }

    fn filters(&self) -> Vec<String> {
        match self.case.way {
            Way::Shared => vec![format!("$share/g/{}", self.topic)],
            Way::OverlappingWildcard => vec!["a/+".to_owned(), "a/#".to_owned()],
            Way::RetainedAtSubscribe if self.case.deed == Deed::RetainedRead => {
                vec!["a/#".to_owned()]
            }
            _ => vec![self.topic.clone()],
        }
    }

    /// The reader subscribes; says whether it was granted anything.
    fn subscribe(&mut self) -> bool {
        let mut is_granted = false;
        for filter in self.filters() {
            let options = SubscribeOptions::new(Qos::ExactlyOnce);
            let reasons = self
                .world
                .subscribe_with(self.reader.unwrap(), &filter, options, |_| {});
            is_granted |= !reasons[0].is_error();
        }
        is_granted
    }

    /// Sees what the reader has got, and leaves it unacknowledged.
    fn count(&mut self) {
        let Some(reader) = self.reader else {
            return;
        };
        let got = self.world.publishes(reader);
        let got = got.iter().filter(|publish| {
            publish
                .topic
                .name()
                .is_some_and(|name| name.as_str() == self.topic)
        });
        self.seen += got.count();
    }

    /// The deed itself, at this QoS.
    fn act(&mut self, delivery: Delivery) {
        let Some(writer) = self.writer else {
            return;
        };
        if self.case.deed == Deed::Will || self.case.way == Way::DelayedWill {
            return self.world.cut(writer);
        }
        let publish = Publish {
            retain: self.is_retained(),
            delivery,
            ..message(&self.topic, "m")
        };
        self.world.send(writer, publish_packet(publish));
    }

    fn cut_reader(&mut self) {
        self.count();
        self.world.cut(self.reader.unwrap());
    }

    // ---- the ways ----

    fn live(&mut self) {
        self.log_reader_in();
        self.subscribe();
        self.log_writer_in();
        self.revoke();
        self.act(qos1(1));
    }

    fn retained_at_subscribe(&mut self) {
        self.log_reader_in();
        if self.subject_writes() {
            self.log_writer_in();
            if self.case.deed == Deed::Will {
                self.revoke();
                self.act(qos1(1));
            } else {
                // What was retained while its author might do so goes nowhere once it may not.
                self.act(qos1(1));
                self.revoke();
            }
        } else {
            self.log_writer_in();
            self.act(qos1(1));
            self.subscribe();
            self.revoke();
        }
        self.subscribe();
    }

    fn offline_queue(&mut self) {
        self.log_reader_in();
        if self.case.deed == Deed::RetainedRead {
            return self.retained_in_queue();
        }
        self.subscribe();
        self.log_writer_in();
        self.cut_reader();
        if self.subject_writes() {
            self.revoke();
            self.act(qos1(1));
        } else {
            self.act(qos1(1));
            self.revoke_quietly();
        }
        self.log_reader_in();
    }

    /// A retained message that waits behind a full window when its reader goes.
    fn retained_in_queue(&mut self) {
        let reader = self.reader.unwrap();
        self.log_writer_in();
        self.act(qos1(1));
        self.world.subscribe(reader, "filler", Qos::AtLeastOnce);
        let filler = Publish {
            delivery: qos1(2),
            ..message("filler", "")
        };
        self.world
            .send(self.writer.unwrap(), publish_packet(filler));
        let filler = self.world.publishes(reader).remove(0);
        self.subscribe();
        self.cut_reader();
        assert_eq!(self.seen, 0, "it waits: {:?}", self.case);
        self.revoke_quietly();
        self.log_reader_in();
        self.world.acknowledge(self.reader.unwrap(), &filler);
    }

    fn replay(&mut self, delivery: Delivery) {
        self.log_reader_in();
        self.log_writer_in();
        if self.case.deed == Deed::RetainedRead {
            self.act(delivery);
            self.subscribe();
        } else {
            self.subscribe();
            if self.subject_writes() {
                self.revoke();
            }
            self.act(delivery);
        }
        self.cut_reader();
        if !self.subject_writes() {
            self.revoke_quietly();
        }
        let before = self.seen;
        self.log_reader_in();
        if self.case.verdict == Verdict::Allow {
            assert!(self.seen > before, "it is sent again: {:?}", self.case);
        }
    }

    /// QoS 2 to its end: whatever the rules say, no id stays in use.
    fn release(&mut self) {
        let delivery = Delivery::ExactlyOnce {
            id: id(7),
            dup: false,
        };
        self.replay(delivery);
        if let Some(writer) = self.writer.take()
            && self.case.deed != Deed::Will
        {
            self.world.cut(writer);
            self.log_writer_in();
            self.world.send(self.writer.unwrap(), pub_rel(id(7)));
        }
        let reader = self.reader.unwrap();
        for packet_id in 1..8 {
            self.world.send(reader, support::pub_rec(id(packet_id)));
            self.world.send(reader, pub_comp(id(packet_id)));
        }
        assert_eq!(self.world.broker.queued(), 0, "{:?}", self.case);
    }

    fn restore(&mut self) {
        self.log_reader_in();
        let is_granted = self.subscribe();
        self.log_writer_in();
        if self.subject_writes() {
            if let Some(writer) = self.writer.take()
                && self.case.deed != Deed::Will
            {
                self.world.cut(writer);
            }
            self.revoke_quietly();
            self.log_writer_in();
        } else {
            self.cut_reader();
            self.revoke_quietly();
            self.log_reader_in();
        }
        self.act(qos1(1));
        if self.case.deed == Deed::RetainedRead && is_granted {
            self.count();
            self.subscribe();
        }
    }

    fn delayed(&mut self) {
        self.log_reader_in();
        self.subscribe();
        self.log_writer_in();
        self.act(qos1(1));
        self.revoke();
        self.world.advance(11);
        if self.is_retained() {
            self.count();
            self.subscribe();
        }
    }

    fn sys(&mut self) {
        if self.case.deed == Deed::Subscribe {
            self.log_reader_in();
            self.revoke();
            self.seen = usize::from(self.subscribe());
        } else {
            self.live();
        }
    }

    fn run(mut self) -> usize {
        match self.case.way {
            Way::Live => self.live(),
            Way::OverlappingWildcard | Way::Template | Way::NoUserName => match self.case.deed {
                Deed::RetainedRead => self.retained_at_subscribe(),
                Deed::Publish | Deed::Subscribe | Deed::Will | Deed::RetainedSet => self.live(),
            },
            Way::Shared => self.live(),
            Way::RetainedAtSubscribe => self.retained_at_subscribe(),
            Way::OfflineQueue => self.offline_queue(),
            Way::ReplayAfterResume => self.replay(qos1(1)),
            Way::Qos2Release => self.release(),
            Way::SessionRestore => self.restore(),
            Way::DelayedWill => self.delayed(),
            Way::Sys => self.sys(),
        }
        self.count();
        self.seen
    }
}

/// Plays every case by these rules.
#[track_caller]
fn check(source: Source) {
    let mut wrong = Vec::new();
    let (mut played, mut left_out) = (0, 0);
    for deed in DEEDS {
        for way in WAYS {
            for verdict in VERDICTS {
                for version in VERSIONS {
                    let case = Case {
                        source,
                        deed,
                        way,
                        verdict,
                        version,
                    };
                    if let Some(reason) = impossible(case) {
                        assert!(!reason.is_empty());
                        left_out += 1;
                        continue;
                    }
                    played += 1;
                    let seen = Play::new(case).run();
                    let is_allowed =
                        verdict == Verdict::Allow && (way != Way::Sys || deed == Deed::Subscribe);
                    if (seen > 0) != is_allowed {
                        wrong.push((case, seen));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong: {wrong:#?}", wrong.len());
    assert_eq!((played, left_out), (440, 40));
}

/// Cases D1 to D4, D6, D7; invariant I4.
#[test]
fn every_deed_on_every_way_follows_the_rules() {
    check(Source::Script);
}

/// Cases D1 to D4, D6, D7; invariant I4.
#[test]
fn every_deed_on_every_way_follows_an_acl_file() {
    check(Source::FileThatAllows);
}

/// Cases D1 to D4, D7; invariant I4.
#[test]
fn every_deed_on_every_way_follows_a_denial_inside_an_allowed_wildcard() {
    check(Source::FileThatDenies);
}
