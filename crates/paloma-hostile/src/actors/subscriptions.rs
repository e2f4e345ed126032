//! Filters: too many, and too deep.

use paloma_interop::peer::Version::{V5, V311};
use paloma_interop::raw::RawClient;
use paloma_interop::wire;

use crate::answer::{ANSWER_MAX, Answer};
use crate::attack::Attack;

/// Limits as they are unless configured otherwise.
const FILTERS_PER_SUBSCRIBE_MAX: usize = 1_024;
const SUBSCRIPTIONS_PER_CLIENT_MAX: usize = 10_000;
const LEVELS_MAX: usize = 128;
const WILDCARD_LEVELS_MAX: usize = 16_384;

/// One client that asks for more and more; and packets with more filters than a packet may have.
pub(super) fn bombs(attack: &mut Attack<'_>) {
    for round in 0.. {
        if !attack.goes_on(round, 1) {
            return;
        }
        let Some(mut client) = attack.connect(V5, "bomber") else {
            return;
        };
        let mut granted = 0;
        for packet in 0..12 {
            let filters: Vec<String> = (0..1_000)
                .map(|number| format!("bomb/{packet}/{number}"))
                .collect();
            granted += subscribe(attack, &mut client, &filters);
        }
        attack
            .tally
            .require(granted == SUBSCRIPTIONS_PER_CLIENT_MAX, || {
                format!("{granted} filters of one client granted")
            });
        let Some(mut client) = attack.connect(V5, "bomber") else {
            return;
        };
        for count in [1, 127, 128, 1_000, 5_000, 21_845] {
            let filters: Vec<String> = (0..count).map(|number| format!("{number:x}")).collect();
            let granted = subscribe(attack, &mut client, &filters);
            attack
                .tally
                .require(granted == count.min(FILTERS_PER_SUBSCRIBE_MAX), || {
                    format!("{granted} of {count} filters in a packet granted")
                });
            let names: Vec<&str> = filters.iter().map(String::as_str).collect();
            for chunk in names.chunks(1_000) {
                let _ = client.try_send(&wire::unsubscribe(V5, 1, chunk));
                let answer = Answer::next(&mut client);
                attack
                    .tally
                    .expect("UNSUBSCRIBE", answer, &[Answer::Packet(0xB0)]);
            }
        }
    }
}

/// Subscribes and counts what was granted; the rest must have been refused with 0x97.
fn subscribe(attack: &mut Attack<'_>, client: &mut RawClient, filters: &[String]) -> usize {
    attack.tally.attempts += 1;
    let filters: Vec<(&str, u8)> = filters.iter().map(|filter| (filter.as_str(), 0)).collect();
    let _ = client.try_send(&wire::subscribe(V5, 1, &filters));
    let Some(frame) = client.frame_within(ANSWER_MAX).flatten() else {
        attack.tally.complain("no SUBACK".to_owned());
        return 0;
    };
    if frame.first != 0x90 {
        attack
            .tally
            .complain(format!("{:02x} for SUBACK", frame.first));
        return 0;
    }
    let codes = frame.codes(V5);
    for code in codes {
        let allowed = [Answer::SubAck(0), Answer::SubAck(0x97)];
        attack
            .tally
            .expect("a filter", Answer::SubAck(*code), &allowed);
    }
    codes.iter().filter(|code| **code == 0).count()
}

/// Filters as deep as allowed and publishes that meet all of them; then deeper ones.
pub(super) fn deep(attack: &mut Attack<'_>) {
    for round in 0.. {
        if !attack.goes_on(round, 1) {
            return;
        }
        let Some(mut client) = attack.connect(V5, "deep") else {
            return;
        };
        let count = attack.size(150, 1_000);
        let allowed = count.min(WILDCARD_LEVELS_MAX / LEVELS_MAX);
        let filters: Vec<String> = (0..count).map(deep_filter).collect();
        let granted = subscribe(attack, &mut client, &filters);
        attack.tally.require(granted == allowed, || {
            format!("{granted} of {count} granted")
        });
        match_them(attack, attack.size(20, 500));
        attack.ping(&mut client, |tally, answer| {
            tally.expect("a deep topic", answer, &[Answer::Publish]);
        });
        for levels in [LEVELS_MAX + 1, 1_000, 65_535] {
            too_deep(attack, &"/".repeat(levels - 1));
            too_deep(attack, &"+/".repeat((levels - 1).min(32_000)));
        }
        too_deep(attack, &"x".repeat(65_535));
    }
}

/// Single-level wildcards all the way, with one level by name.
fn deep_filter(number: usize) -> String {
    let mut levels = vec!["+"; LEVELS_MAX];
    let name = format!("{}", number / LEVELS_MAX);
    levels[number % LEVELS_MAX] = &name;
    levels.join("/")
}

fn match_them(attack: &mut Attack<'_>, count: usize) {
    let Some(mut publisher) = attack.connect(V311, "deep-publisher") else {
        return;
    };
    for number in 0..count {
        attack.tally.attempts += 1;
        let name = format!("{}", number % 10);
        let topic = vec![name.as_str(); LEVELS_MAX].join("/");
        let _ = publisher.try_send(&wire::publish(V311, 0, 0, &topic, b"x"));
    }
    attack.ping(&mut publisher, |tally, answer| {
        tally.expect("PUBLISH", answer, &[]);
    });
}

fn too_deep(attack: &mut Attack<'_>, name: &str) {
    for version in [V311, V5] {
        attack.tally.attempts += 2;
        if let Some(mut client) = attack.connect(version, "too-deep") {
            let _ = client.try_send(&wire::subscribe(version, 1, &[(name, 0)]));
            attack.expect_end("a filter too deep or long", &mut client, &[0x8F]);
        }
        let topic = name.replace('+', "x");
        if let Some(mut client) = attack.connect(version, "too-deep") {
            let _ = client.try_send(&wire::publish(version, 0, 0, &topic, b""));
            attack.expect_end("a topic too deep or long", &mut client, &[0x90]);
        }
    }
}
