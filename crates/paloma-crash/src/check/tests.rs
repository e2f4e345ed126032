//! Doctored histories, each with one thing wrong.

use super::*;
use crate::cast::{Filter, Publisher, Stream, Subscriber};
use paloma_interop::peer::Version;

const COUNT: u32 = 20;

/// One publisher at both QoS and with a retained topic, one subscriber to the first two.
fn cast() -> Cast {
    let stream = |topic: &str, qos, kind| Stream {
        publisher: 0,
        topic: topic.to_owned(),
        qos,
        kind,
        lifetime_seconds: None,
    };
    Cast {
        streams: vec![
            stream("load/0/one", 1, Kind::Plain),
            stream("load/0/two", 2, Kind::Plain),
            stream("kept/0", 1, Kind::Retained),
        ],
        publishers: vec![Publisher {
            version: Version::V5,
            window: 1,
            streams: vec![0, 1, 2],
            will: None,
        }],
        subscribers: vec![Subscriber {
            version: Version::V5,
            receive_maximum: 10,
            filters: vec![Filter {
                filter: "load/#".to_owned(),
                qos: 2,
                is_fickle: true,
            }],
            is_lazy: false,
            wipes: false,
        }],
        payload_bytes_max: 100,
    }
}

fn received(label: Label, qos: u8) -> Event {
    Event::Received {
        subscriber: 0,
        label,
        qos,
        dup: false,
        retain: false,
    }
}

fn label(stream: u16, number: u32) -> Label {
    Label { stream, number }
}

fn subscribe(history: &mut History) {
    history.add(Event::Subscribing(0, 0));
    history.add(Event::Subscribed(0, 0));
}

fn subscribe_anew(history: &mut History) {
    history.add(Event::Unsubscribing(0, 0));
    history.add(Event::Unsubscribed(0, 0));
    subscribe(history);
}

/// Everything in order, with a crash in the middle and a look at the retained message at the end.
fn good() -> History {
    let mut history = History::new();
    subscribe(&mut history);
    for number in 0..COUNT {
        if number == COUNT / 2 {
            history.add(Event::Crashed(1));
            history.add(Event::Recovered(1));
        }
        for (stream, qos) in [(0, 1), (1, 2)] {
            history.add(Event::Sent(label(stream, number)));
            history.add(received(label(stream, number), qos));
            history.add(Event::Acknowledged(label(stream, number)));
        }
    }
    for number in 0..3 {
        history.add(Event::Sent(label(2, number)));
        history.add(Event::Acknowledged(label(2, number)));
    }
    history.add(Event::Watching(1));
    history.add(Event::Watched(1, label(2, 2)));
    history.add(Event::WatchEnded(1));
    history
}

/// Judges the good history after a change: lost, duplicated, reordered, wrong.
fn check_doctored(change: impl FnOnce(&mut Vec<Event>), expected: [u64; 4]) {
    let mut history = good();
    change(history.events_mut());
    let verdict = check(&cast(), &history);
    let found = [
        verdict.lost,
        verdict.duplicated,
        verdict.reordered,
        verdict.wrong,
    ];
    assert_eq!(found, expected, "{:#?}", verdict.words);
    assert_eq!(verdict.is_clean(), expected == [0; 4]);
}

fn place(events: &[Event], wanted: &Event) -> usize {
    events.iter().position(|event| event == wanted).unwrap()
}

#[test]
fn a_good_history_passes() {
    check_doctored(|_| {}, [0; 4]);
    let verdict = check(&cast(), &good());
    assert_eq!((verdict.acknowledged, verdict.received), (43, 40));
}

#[test]
fn one_lost_message_is_caught_at_either_qos() {
    for (stream, qos) in [(0, 1), (1, 2)] {
        for number in 0..COUNT {
            let gone = received(label(stream, number), qos);
            check_doctored(|events| events.retain(|event| *event != gone), [1, 0, 0, 0]);
        }
    }
}

#[test]
fn a_message_that_nobody_acknowledged_may_be_lost() {
    let (gone, silent) = (received(label(1, 5), 2), Event::Acknowledged(label(1, 5)));
    check_doctored(
        |events| events.retain(|event| *event != gone && *event != silent),
        [0; 4],
    );
}

/// Judges a history without one message, the clock having been set behind its acknowledgement or before it was sent: how many are lost.
fn lost_of_one(lifetime_seconds: Option<u32>, set_by: &[i64], is_before: bool) -> u64 {
    let mut cast = cast();
    cast.streams[1].lifetime_seconds = lifetime_seconds;
    let mut history = good();
    let events = history.events_mut();
    events.retain(|event| *event != received(label(1, 5), 2));
    let at = if is_before {
        place(events, &Event::Sent(label(1, 5)))
    } else {
        place(events, &Event::Acknowledged(label(1, 5))) + 1
    };
    events.splice(at..at, set_by.iter().map(|by| Event::ClockSet(*by)));
    check(&cast, &history).lost
}

#[test]
fn a_message_may_be_gone_only_by_a_clock_that_is_believed_and_has_passed_its_lifetime() {
    const HOUR: i64 = 3_600;
    const TEN_YEARS: i64 = 315_576_000;
    let short = Some(crate::cast::LIFETIME_SHORT);
    assert_eq!(lost_of_one(short, &[HOUR], false), 0);
    assert_eq!(
        lost_of_one(Some(7_000), &[HOUR, -TEN_YEARS, HOUR], false),
        0
    );
    for by in [-HOUR, TEN_YEARS, -TEN_YEARS] {
        assert_eq!(lost_of_one(short, &[by], false), 1, "{by}");
    }
    assert_eq!(lost_of_one(short, &[], false), 1);
    assert_eq!(lost_of_one(short, &[HOUR], true), 1);
    assert_eq!(lost_of_one(Some(7_000), &[HOUR], false), 1);
    assert_eq!(lost_of_one(None, &[HOUR], false), 1);
}

#[test]
fn an_hour_that_was_set_with_ten_years_counts_when_they_are_gone_again() {
    let lost = |after: i64| {
        let mut cast = cast();
        cast.streams[1].lifetime_seconds = Some(crate::cast::LIFETIME_SHORT);
        let mut history = good();
        let events = history.events_mut();
        events.retain(|event| *event != received(label(1, 15), 2));
        let at = place(events, &Event::Recovered(1));
        events.splice(at..at, [315_576_000, 3_600].map(Event::ClockSet));
        let at = place(events, &Event::Acknowledged(label(1, 15))) + 1;
        let off = [
            Event::Crashed(2),
            Event::ClockSet(after),
            Event::Recovered(2),
        ];
        events.splice(at..at, off);
        check(&cast, &history).lost
    };
    assert_eq!(lost(-315_576_000), 0);
    assert_eq!((lost(3_600), lost(-315_576_000 - 3_600)), (1, 1));
}

#[test]
fn one_duplicate_is_caught_at_qos_2_even_over_a_crash_or_with_dup() {
    check_doctored(|events| events.push(received(label(1, 3), 2)), [0, 1, 0, 0]);
    let again = Event::Received {
        subscriber: 0,
        label: label(1, 19),
        qos: 2,
        dup: true,
        retain: false,
    };
    check_doctored(|events| events.push(again), [0, 1, 0, 0]);
}

#[test]
fn a_duplicate_at_qos_1_needs_a_reason() {
    check_doctored(
        |events| events.push(received(label(0, 19), 1)),
        [0, 1, 0, 0],
    );
    // The broker was killed since.
    check_doctored(|events| events.push(received(label(0, 3), 1)), [0; 4]);
    // The publisher had sent it again.
    let resent = [Event::Sent(label(0, 19)), received(label(0, 19), 1)];
    check_doctored(|events| events.extend(resent), [0; 4]);
}

#[test]
fn one_reordered_message_is_caught() {
    for (stream, qos) in [(0, 1), (1, 2)] {
        check_doctored(
            |events| {
                let one = place(events, &received(label(stream, 14), qos));
                let other = place(events, &received(label(stream, 15), qos));
                let (moved, at) = (events.remove(one), other);
                events.insert(at, moved);
            },
            [0, 0, 1, 0],
        );
    }
}

#[test]
fn a_repeated_message_may_come_late_to_who_was_not_subscribed_when_it_was_sent() {
    let late = |is_repeated: bool| {
        let mut history = History::new();
        history.add(Event::Sent(label(0, 0)));
        subscribe(&mut history);
        history.add(Event::Sent(label(0, 1)));
        history.add(received(label(0, 1), 1));
        history.add(Event::Crashed(1));
        if is_repeated {
            history.add(Event::Sent(label(0, 0)));
        }
        history.add(received(label(0, 0), 1));
        check(&cast(), &history).reordered
    };
    assert_eq!((late(true), late(false)), (0, 1));
}

#[test]
fn a_repeated_message_may_come_late_to_who_was_not_subscribed_all_the_time() {
    // Sent before the subscription ends, taken while there is none, and repeated after the next has brought a later one.
    let late = |has_a_gap: bool, is_repeated: bool| {
        let mut history = History::new();
        subscribe(&mut history);
        history.add(Event::Sent(label(0, 0)));
        history.add(Event::Sent(label(0, 1)));
        if has_a_gap {
            subscribe_anew(&mut history);
        }
        history.add(received(label(0, 1), 1));
        history.add(Event::Crashed(1));
        if is_repeated {
            history.add(Event::Sent(label(0, 0)));
        }
        // A gap behind the later one explains nothing.
        subscribe_anew(&mut history);
        history.add(received(label(0, 0), 1));
        check(&cast(), &history).reordered
    };
    assert_eq!((late(true, true), late(true, false)), (0, 1));
    assert_eq!((late(false, true), late(false, false)), (1, 1));
}

#[test]
fn what_has_expired_may_come_late_at_qos_1_behind_a_crash() {
    let late = |stream: u16, set_by: i64, is_killed: bool| {
        let mut cast = cast();
        cast.streams[usize::from(stream)].lifetime_seconds = Some(crate::cast::LIFETIME_SHORT);
        let qos = cast.streams[usize::from(stream)].qos;
        let mut history = History::new();
        subscribe(&mut history);
        history.add(Event::Sent(label(stream, 0)));
        history.add(Event::ClockSet(set_by));
        history.add(Event::Sent(label(stream, 1)));
        history.add(received(label(stream, 1), qos));
        if is_killed {
            history.add(Event::Crashed(1));
            history.add(Event::Recovered(1));
        }
        history.add(received(label(stream, 0), qos));
        check(&cast, &history).reordered
    };
    assert_eq!(late(0, 3_600, true), 0);
    assert_eq!((late(0, 3_600, false), late(0, 600, true)), (1, 1));
    assert_eq!(late(1, 3_600, true), 1, "QoS 2 waits for the commit");
}

#[test]
fn a_message_that_came_at_qos_1_may_come_at_qos_2_after_a_crash() {
    // It went out before its commit, which was lost, and its publisher repeats it when the subscription is another.
    let twice = |first: u8, is_killed: bool| {
        let mut history = History::new();
        subscribe(&mut history);
        history.add(Event::Sent(label(1, 0)));
        history.add(received(label(1, 0), first));
        if is_killed {
            history.add(Event::Crashed(1));
        }
        history.add(Event::Sent(label(1, 0)));
        history.add(received(label(1, 0), 2));
        check(&cast(), &history).duplicated
    };
    assert_eq!((twice(1, true), twice(2, true)), (0, 1));
    assert_eq!((twice(1, false), twice(2, false)), (1, 1));
}

#[test]
fn a_lost_or_an_invented_session_is_caught() {
    let connected = |present, expected| Event::Connected {
        client: "p0".to_owned(),
        present,
        expected,
    };
    check_doctored(|events| events.push(connected(false, true)), [1, 0, 0, 0]);
    check_doctored(|events| events.push(connected(true, false)), [0, 0, 0, 1]);
    check_doctored(|events| events.push(connected(true, true)), [0; 4]);
}

#[test]
fn a_retained_message_that_is_gone_or_old_is_caught() {
    let seen = Event::Watched(1, label(2, 2));
    check_doctored(|events| events.retain(|event| *event != seen), [1, 0, 0, 0]);
    check_doctored(
        |events| {
            let at = place(events, &seen);
            events[at] = Event::Watched(1, label(2, 1));
        },
        [1, 0, 0, 0],
    );
}

#[test]
fn a_deleted_retained_message_that_comes_back_is_caught() {
    let delete = |events: &mut Vec<Event>| {
        let at = place(events, &Event::Watching(1));
        let more = (3..7).flat_map(|number| {
            [
                Event::Sent(label(2, number)),
                Event::Acknowledged(label(2, number)),
            ]
        });
        events.splice(at..at, more);
    };
    check_doctored(delete, [1, 0, 0, 0]);
    check_doctored(
        |events| {
            delete(events);
            events.retain(|event| *event != Event::Watched(1, label(2, 2)));
        },
        [0; 4],
    );
}

/// A subscriber asks for what is retained, the broker is killed meanwhile, and the message comes so often.
fn check_kept(came: u32, change: impl FnOnce(&mut Vec<Event>), expected: [u64; 2]) {
    let mut cast = cast();
    cast.subscribers[0].filters.push(Filter {
        filter: "kept/#".to_owned(),
        qos: 2,
        is_fickle: true,
    });
    let mut history = History::new();
    history.add(Event::Sent(label(2, 0)));
    history.add(Event::Acknowledged(label(2, 0)));
    history.add(Event::Subscribing(0, 1));
    history.add(Event::Subscribed(0, 1));
    history.add(Event::Crashed(1));
    for _ in 0..came {
        history.add(Event::Received {
            subscriber: 0,
            label: label(2, 0),
            qos: 2,
            dup: false,
            retain: true,
        });
    }
    change(history.events_mut());
    cast.streams[2].qos = 2;
    let verdict = check(&cast, &history);
    let found = [verdict.lost, verdict.duplicated];
    assert_eq!(found, expected, "{:#?}", verdict.words);
}

#[test]
fn a_retained_message_that_a_subscription_never_brings_is_caught() {
    check_kept(1, |_| {}, [0, 0]);
    check_kept(0, |_| {}, [1, 0]);
    // What came before it was asked for is not what was asked for.
    check_kept(1, |events| events.rotate_right(1), [1, 0]);
    // It was not acknowledged, or the subscription was not.
    check_kept(0, |events| drop(events.remove(1)), [0, 0]);
    check_kept(0, |events| drop(events.remove(3)), [0, 0]);
    // The client does not want it any more.
    check_kept(0, |events| events.push(Event::Unsubscribing(0, 1)), [0, 0]);
    check_kept(0, |events| events.push(Event::Wiping(0)), [0, 0]);
    // It may have been deleted before its turn came.
    let deleted = (1..7).map(|number| Event::Sent(label(2, number)));
    check_kept(0, |events| events.extend(deleted), [0, 0]);
}

#[test]
fn a_retained_message_that_comes_twice_at_qos_2_for_one_subscribe_is_caught() {
    check_kept(2, |_| {}, [0, 1]);
    check_kept(
        2,
        |events| events.insert(2, Event::Subscribing(0, 1)),
        [0, 0],
    );
}

#[test]
fn messages_without_a_subscription_or_from_before_a_clean_start_are_caught() {
    let end = [Event::Unsubscribing(0, 0), Event::Unsubscribed(0, 0)];
    let late = [Event::Sent(label(0, 20)), received(label(0, 20), 1)];
    check_doctored(
        |events| events.extend(end.clone().into_iter().chain(late.clone())),
        [0, 0, 0, 1],
    );
    // A subscriber that begins anew is owed nothing from before, and must not get it.
    let gone = received(label(1, 19), 2);
    let wiped = [Event::Wiping(0), Event::Wiped(0)];
    check_doctored(
        |events| {
            events.retain(|event| *event != gone);
            events.extend(wiped.clone());
        },
        [0; 4],
    );
    check_doctored(
        |events| {
            events.retain(|event| *event != gone);
            events.extend(wiped);
            events.push(gone.clone());
        },
        [0, 0, 0, 1],
    );
}

#[test]
fn what_nobody_sent_and_what_is_foul_is_caught() {
    check_doctored(
        |events| events.push(received(label(0, 99), 1)),
        [0, 0, 0, 1],
    );
    check_doctored(
        |events| events.push(Event::Foul("it".to_owned())),
        [0, 0, 0, 1],
    );
}
