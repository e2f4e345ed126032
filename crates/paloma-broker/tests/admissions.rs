//! Admissions that hold for a time, and what happens when it is over or may not be waited for.
mod support;

use std::time::Duration;

use paloma_broker::{Admission, AuthOutcome, Identity};
use paloma_codec::{
    Auth, AuthReason, Authentication, ConnAckReason, Connect, DisconnectReason, Packet, Secret,
};
use support::{Handle, World, v5};

/// Lets somebody in for so many seconds.
fn for_seconds(user: &str, seconds: u64) -> AuthOutcome {
    AuthOutcome::Allow(Box::new(Admission {
        valid_for: Some(Duration::from_secs(seconds)),
        ..Admission::of(named(user))
    }))
}

fn named(user: &str) -> Identity {
    Identity {
        user: Some(user.into()),
    }
}

fn log_in(world: &mut World, connect: Connect, outcome: AuthOutcome) -> Handle {
    world.authenticates = false;
    let version = connect.version;
    let client = world.open(version);
    world.send(client, Packet::Connect(Box::new(connect)));
    world.answer(outcome);
    let Some(Packet::ConnAck(ack)) = world.next(client) else {
        panic!("not let in");
    };
    assert_eq!(ack.reason, ConnAckReason::Success);
    client
}

#[test]
fn an_admission_is_renewed_before_its_end_and_a_refusal_ends_the_connection() {
    let mut world = World::new();
    let ann = log_in(&mut world, v5("a"), for_seconds("ann", 100));
    world.advance(89);
    assert!(world.asked.is_empty());
    world.advance(1);
    world.answer(for_seconds("ann", 100));
    world.advance(90);
    world.answer(AuthOutcome::Deny(ConnAckReason::NotAuthorized));
    assert_eq!(world.farewell(ann), Some(DisconnectReason::NotAuthorized));
}

#[test]
fn no_answer_until_the_end_ends_the_connection() {
    let mut world = World::new();
    let ann = log_in(&mut world, v5("a"), for_seconds("ann", 100));
    world.advance(99);
    assert_eq!(world.asked.len(), 1);
    assert_eq!(world.closed(ann), None);
    world.advance(1);
    assert_eq!(world.farewell(ann), Some(DisconnectReason::NotAuthorized));
}

#[test]
fn when_the_authorities_have_changed_everybody_they_spoke_for_is_asked_about() {
    let mut world = World::new();
    let ann = log_in(&mut world, v5("a"), for_seconds("ann", 100));
    let bob = log_in(&mut world, v5("b"), for_seconds("bob", 100));
    let cyd = log_in(&mut world, v5("c"), AuthOutcome::allow(named("cyd")));
    world.broker.renew_admissions(world.now);
    world.advance(0);
    let asked: Vec<&str> = world.asked.iter().map(|(_, ask)| &*ask.client_id).collect();
    assert_eq!(asked, ["a", "b"]);
    world.answer(AuthOutcome::Deny(ConnAckReason::BadUserNameOrPassword));
    assert_eq!(world.farewell(ann), Some(DisconnectReason::NotAuthorized));
    // Nobody answers about bob: what was said of him holds until its end.
    world.advance(99);
    assert_eq!(world.closed(bob), None);
    world.advance(1);
    assert_eq!(world.farewell(bob), Some(DisconnectReason::NotAuthorized));
    assert_eq!(world.closed(cyd), None);
}

#[test]
fn a_renewal_waits_for_a_reauthentication_that_is_under_way() {
    let mut world = World::new();
    let authentication = || Authentication {
        method: "M".into(),
        data: Some(Secret::default()),
    };
    let connect = Connect {
        authentication: Some(authentication()),
        ..v5("a")
    };
    let ann = log_in(&mut world, connect, for_seconds("ann", 100));
    let auth = Auth {
        reason: AuthReason::ReAuthenticate,
        authentication: Some(authentication()),
        ..Auth::default()
    };
    world.send(ann, Packet::Auth(Box::new(auth)));
    assert_eq!(world.asked.len(), 1);
    // Its time comes while she is asked for something else; the timer does not stay due.
    world.advance(95);
    assert_eq!(world.asked.len(), 1);
    let due = world.broker.poll_timeout();
    assert!(due.is_some_and(|due| due > world.now.monotonic), "{due:?}");
    world.answer(for_seconds("ann", 100));
    world.advance(89);
    assert!(world.asked.is_empty());
    assert_eq!(world.closed(ann), None);
}

#[test]
fn a_reauthentication_that_comes_while_a_renewal_is_under_way_is_asked_about_after_it() {
    let mut world = World::new();
    let authentication = |data: &'static str| Authentication {
        method: "M".into(),
        data: Some(data.into()),
    };
    let connect = Connect {
        authentication: Some(authentication("at first")),
        ..v5("a")
    };
    let ann = log_in(&mut world, connect, for_seconds("ann", 100));
    world.advance(90);
    assert_eq!(world.asked.len(), 1, "the renewal");
    let auth = Auth {
        reason: AuthReason::ReAuthenticate,
        authentication: Some(authentication("once more")),
        ..Auth::default()
    };
    world.send(ann, Packet::Auth(Box::new(auth)));
    assert_eq!(world.asked.len(), 1, "one question at a time");
    world.answer(for_seconds("ann", 100));
    assert!(world.next(ann).is_none(), "nobody has judged her proof yet");
    let data = world.asked.front().and_then(|(_, ask)| ask.method.clone());
    assert_eq!(data.map(|(_, data)| data), Some("once more".into()));
    world.answer(for_seconds("ann", 100));
    match world.next(ann) {
        Some(Packet::Auth(auth)) => assert_eq!(auth.reason, AuthReason::Success),
        other => panic!("expected AUTH, got {other:?}"),
    }
}
