//! Records of brokers that were kept: each replays to the outputs that it was recorded with, and to the answer it was kept for.

use paloma_broker::{DropCause, Explanation, Obstacle};
use paloma_record::Replay;
use paloma_topic::TopicNameRef;

/// Replays a record to its `until`th step, or to its end, and asks.
fn explain(record: &[u8], until: u64, client_id: &str, topic: &str) -> Explanation {
    let mut replay = Replay::new(record).unwrap_or_else(|error| panic!("{error}"));
    replay.watch(client_id, topic);
    let mut last = 0;
    while last < until {
        let step = replay.step().unwrap_or_else(|error| panic!("{error}"));
        let Some(step) = step else {
            break;
        };
        last = step.number;
    }
    let topic = TopicNameRef::new(topic).expect("a topic");
    let explanation = replay.explain(client_id, topic).0;
    // The rest of it has the hashes.
    while replay
        .step()
        .unwrap_or_else(|error| panic!("{error}"))
        .is_some()
    {}
    assert!(replay.checks() > 0, "no hash was compared");
    explanation
}

/// A meter's messages were missing: its reader was away, and its queue of three was full.
#[test]
fn a_queue_was_full_while_its_reader_was_away() {
    let record = include_bytes!("incidents/queue-full.record");
    let found = explain(record, u64::MAX, "reader", "meter/1");
    assert_eq!(found.dropped, [(DropCause::QueueFull, 2)]);
    let is_full = |obstacle: &Obstacle| matches!(obstacle, Obstacle::QueueFull { messages: 3, .. });
    assert!(found.obstacles.iter().any(is_full), "{found}");
}
