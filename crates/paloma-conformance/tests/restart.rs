//! What a session keeps when the broker is stopped and started again, asked on the wire.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use paloma_codec::{ConnAck, ProtocolVersion, PubCompReason, Subscribe, SubscriptionId};
use paloma_conformance::client::Client;
use paloma_conformance::lab::{Lab, delivery, message, retained, text};
use paloma_conformance::requests::filter;
use paloma_conformance::{Setting, Target, Verdict, run_name, wire};
use paloma_interop::broker::paloma;
use paloma_interop::process::Process;
use support::free_port;

/// A broker with a store, which comes back at the same address.
struct Broker {
    directory: PathBuf,
    port: u16,
    process: Process,
}

impl Broker {
    fn start(name: &str) -> Self {
        let directory =
            std::env::temp_dir().join(format!("paloma-conformance-{}-{name}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory");
        let port = free_port();
        fs::write(
            directory.join("paloma.toml"),
            format!("[admin]\naddress = \"\"\n[[listener]]\naddress = \"127.0.0.1:{port}\"\n"),
        )
        .expect("a file");
        let process = serve(&directory);
        Self {
            directory,
            port,
            process,
        }
    }

    fn restart(&mut self) {
        assert!(self.process.terminate().success());
        self.process = serve(&self.directory);
    }

    fn setting(&self) -> Setting {
        Setting {
            target: Target::Tcp(format!("127.0.0.1:{}", self.port)),
            run: run_name(),
            answer: Duration::from_secs(60),
            quiet: Duration::from_millis(150),
            test: Duration::from_secs(300),
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.process.kill();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn serve(directory: &Path) -> Process {
    let mut command = Command::new(paloma());
    command.current_dir(directory);
    command.args(["serve", "--config", "paloma.toml"]);
    let mut process = Process::start(&mut command);
    process.find_line("it listens", |line| {
        line.contains("listening on").then_some(())
    });
    process
}

/// Plays `before`, starts the broker again, and plays `after`, in both versions.
fn check(name: &str, before: fn(&Lab<'_>) -> Verdict<Vec<Client>>, after: fn(&Lab<'_>) -> Verdict) {
    for version in [ProtocolVersion::V3_1_1, ProtocolVersion::V5] {
        let mut broker = Broker::start(name);
        let setting = broker.setting();
        let declared = ConnAck::default();
        let lab = Lab::new(&setting, &declared, version, 1);
        // Those who are there see it go.
        let present = before(&lab).unwrap_or_else(|stop| panic!("{version:?} before: {stop}"));
        broker.restart();
        drop(present);
        after(&lab).unwrap_or_else(|stop| panic!("{version:?} after: {stop}"));
    }
}

/// [MQTT-3.1.2-5] [MQTT-3.1.2-23] [MQTT-3.3.4-3] [MQTT-4.6.0-5] [MQTT311-3.1.2-5] [MQTT311-4.6.0-6]
#[test]
fn sessions_come_back_with_their_subscriptions_and_what_waits_in_order() {
    check(
        "sessions",
        |lab| {
            let (mut reader, _) = lab.resume("reader")?;
            let mut subscribe =
                Subscribe::new(reader.fresh_id(), vec![filter(&lab.topic("t"), 2)?]);
            if lab.is_v5() {
                subscribe.subscription_id = SubscriptionId::new(42);
            }
            reader.subscribe_with(subscribe)?;
            reader.disconnect()?;
            let mut writer = lab.client("writer")?;
            for (qos, payload) in [(1, "1"), (2, "2"), (1, "3")] {
                writer.publish(&message(&lab.topic("t"), qos, payload)?)?;
            }
            Ok(vec![writer])
        },
        |lab| {
            let mut reader = lab.back("reader")?;
            for payload in ["1", "2", "3"] {
                let got = reader.message()?;
                assert_eq!(text(&got), payload);
                let ids: Vec<u32> = got
                    .properties
                    .subscription_ids
                    .iter()
                    .map(|id| id.get())
                    .collect();
                assert_eq!(ids, if lab.is_v5() { vec![42] } else { vec![] });
            }
            reader.publish(&message(&lab.topic("t"), 1, "live")?)?;
            reader.payloads(&["live"])?;
            reader.quiet()
        },
    );
}

/// [MQTT-3.3.2-5] [MQTT-3.3.2-6]
#[test]
fn message_expiry_counts_the_time_in_which_the_broker_was_away() {
    check(
        "expiry",
        |lab| {
            let (mut reader, _) = lab.resume("reader")?;
            reader.subscribe(&[(&lab.topic("t"), 1)])?;
            reader.disconnect()?;
            let mut writer = lab.client("writer")?;
            for (payload, seconds) in [("expires", 2), ("ages", 600)] {
                let mut publish = message(&lab.topic("t"), 1, payload)?;
                publish.properties.message_expiry_seconds = Some(seconds);
                writer.publish(&publish)?;
                let mut publish = retained(message(&lab.topic(payload), 1, payload)?);
                publish.properties.message_expiry_seconds = Some(seconds);
                writer.publish(&publish)?;
            }
            Ok(vec![writer])
        },
        |lab| {
            std::thread::sleep(Duration::from_millis(3_200));
            let mut reader = lab.back("reader")?;
            let check = |got: paloma_codec::Publish| {
                if lab.is_v5() {
                    // 3.1.1 publishers have no expiry, so theirs stay.
                    assert_eq!(text(&got), "ages");
                    let left = got.properties.message_expiry_seconds;
                    assert!(
                        left.is_some_and(|seconds| (300..=597).contains(&seconds)),
                        "{left:?} of 600 after three seconds"
                    );
                }
            };
            let count = if lab.is_v5() { 1 } else { 2 };
            for _ in 0..count {
                check(reader.message()?);
            }
            reader.quiet()?;
            reader.subscribe(&[(&lab.topic("expires"), 1), (&lab.topic("ages"), 1)])?;
            for _ in 0..count {
                check(reader.message()?);
            }
            reader.quiet()
        },
    );
}

/// [MQTT-4.4.0-1] [MQTT-4.3.3-6] [MQTT-4.3.3-10] [MQTT-3.3.1-1] [MQTT311-4.4.0-1] [MQTT311-4.3.3-1] [MQTT311-4.3.3-2]
#[test]
fn open_exchanges_go_on_where_they_were() {
    check(
        "exchanges",
        |lab| {
            let (mut reader, _) = lab.resume("reader")?;
            reader.subscribe(&[(&lab.topic("t"), 2)])?;
            let (mut writer, _) = lab.resume("writer")?;
            // The broker is the sender of one that waits for PUBREC and of one that waits for PUBCOMP.
            for payload in ["open", "released"] {
                writer.publish(&message(&lab.topic("t"), 2, payload)?)?;
            }
            reader.unacknowledged()?;
            let second = reader.unacknowledged()?;
            let id = second.delivery.id().expect("QoS 2");
            reader.send_bytes(&wire::ack(0x50, id.get()))?;
            reader.pub_rel(id)?;
            // And the receiver of one that waits for PUBREL.
            let mut publish = message(&lab.topic("t"), 2, "once")?;
            publish.delivery = delivery(2, 77, false);
            writer.send(&paloma_codec::Packet::Publish(Box::new(publish)))?;
            writer.pub_rec(paloma_codec::PacketId::new(77).expect("not 0"))?;
            Ok(vec![reader, writer])
        },
        |lab| {
            let id = paloma_codec::PacketId::new(77).expect("not 0");
            let mut writer = lab.back("writer")?;
            let mut publish = message(&lab.topic("t"), 2, "once")?;
            publish.delivery = delivery(2, 77, true);
            writer.send(&paloma_codec::Packet::Publish(Box::new(publish)))?;
            writer.pub_rec(id)?;
            writer.send_bytes(&wire::ack(0x62, 77))?;
            assert_eq!(writer.pub_comp(id)?, PubCompReason::Success);
            let mut reader = lab.back("reader")?;
            let again = reader.unacknowledged()?;
            assert_eq!(
                (text(&again), again.delivery.is_dup()),
                ("open".into(), true)
            );
            reader.answer("PUBREL", |packet| {
                matches!(packet, paloma_codec::Packet::PubRel(_)).then_some(())
            })?;
            reader.acknowledge(&again)?;
            reader.payloads(&["once"])?;
            reader.quiet()
        },
    );
}

/// [MQTT-3.3.1-5] [MQTT-3.3.1-6] [MQTT311-3.1.2-7] [MQTT311-3.3.1-5]
#[test]
fn retained_messages_come_back_and_deleted_ones_do_not() {
    check(
        "retained",
        |lab| {
            let mut writer = lab.client("writer")?;
            for (topic, payload) in [
                ("kept", "old"),
                ("kept", "new"),
                ("gone", "x"),
                ("gone", ""),
            ] {
                writer.publish(&retained(message(&lab.topic(topic), 1, payload)?))?;
            }
            Ok(vec![writer])
        },
        |lab| {
            let mut reader = lab.client("reader")?;
            reader.subscribe(&[(&lab.topic("gone"), 1), (&lab.topic("kept"), 1)])?;
            let got = reader.message()?;
            assert_eq!((text(&got), got.retain), ("new".into(), true));
            reader.quiet()
        },
    );
}
