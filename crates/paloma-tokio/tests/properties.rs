//! What holds for any bytes in any pieces at any pace, over seeds.
#![allow(dead_code, reason = "each suite uses its part of the support module")]

mod support;

use paloma_codec::{Delivery, ProtocolVersion, Qos};
use paloma_tokio::Running;
use support::{PATIENCE, Peer, Seeded, config, duplex, publish, roomy, start};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

const V5: ProtocolVersion = ProtocolVersion::V5;

async fn stop(running: Running) {
    timeout(PATIENCE, running.stop())
        .await
        .expect("it stops")
        .expect("it has not failed");
}

#[tokio::test]
async fn any_split_of_the_bytes_gives_the_same_packets() {
    for seed in 0..20 {
        let mut random = Seeded::new(seed);
        let running = start(roomy(config())).await;
        let mut subscriber = Peer::join(duplex(&running), ProtocolVersion::V5, "s").await;
        subscriber.subscribe("#", Qos::AtMostOnce).await;
        let mut publisher = Peer::join(duplex(&running), ProtocolVersion::V5, "p").await;
        let payloads: Vec<Vec<u8>> = (0..60_u8)
            .map(|fill| {
                vec![
                    fill;
                    if random.below(10) == 0 {
                        70_000
                    } else {
                        random.below(200)
                    }
                ]
            })
            .collect();
        let bytes: Vec<u8> = payloads
            .iter()
            .flat_map(|payload| {
                publisher.encode(&publish("t", payload.clone(), Delivery::AtMostOnce))
            })
            .collect();
        let sender = tokio::spawn(async move {
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let longest = if random.below(4) == 0 { 60_000 } else { 100 };
                let (chunk, tail) = rest.split_at(rest.len().min(1 + random.below(longest)));
                publisher
                    .stream
                    .write_all(chunk)
                    .await
                    .expect("the broker reads");
                rest = tail;
                if random.below(3) == 0 {
                    tokio::task::yield_now().await;
                }
            }
            publisher
        });
        for payload in payloads {
            assert_eq!(
                subscriber.message().await.expect("a message")[..],
                payload,
                "seed {seed}"
            );
        }
        drop((sender.await.expect("it sent everything"), subscriber));
        stop(running).await;
    }
}

#[tokio::test]
async fn large_payloads_reach_a_reader_that_stops_and_goes() {
    for seed in 0..10 {
        let mut random = Seeded::new(seed);
        let running = start(config()).await;
        let mut reader = Peer::join(duplex(&running), V5, "reader").await;
        reader.subscribe("t", Qos::AtMostOnce).await;
        let mut publisher = Peer::join(duplex(&running), V5, "publisher").await;
        let payloads: Vec<Vec<u8>> = (0..40_u8)
            .map(|fill| {
                (0..random.below(40_000))
                    .map(|at| fill ^ at.to_le_bytes()[0])
                    .collect()
            })
            .collect();
        for payload in &payloads {
            publisher
                .send(&publish("t", payload.clone(), Delivery::AtMostOnce))
                .await;
            if random.below(5) == 0 {
                tokio::task::yield_now().await;
            }
        }
        for payload in &payloads {
            assert_eq!(
                reader.message().await.expect("a message")[..],
                *payload,
                "seed {seed}"
            );
            if random.below(5) == 0 {
                tokio::task::yield_now().await;
            }
        }
        drop((reader, publisher));
        stop(running).await;
    }
}
