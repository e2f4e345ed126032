//! Plays a script to one broker and writes down how it reacts.

use std::collections::BTreeMap;
use std::time::Duration;

use paloma_codec::{
    ConnAck, Connect, Delivery, Disconnect, DisconnectReason, Packet, PacketId, ProtocolVersion,
    Publish, Subscribe, Unsubscribe, Will,
};
use paloma_topic::Target as Filter;

use super::script::{CLIENTS, Op, Script, illegal};
use crate::client::{Client, Found};
use crate::lab::{Lab, Setting, delivery, message, topic_of, will};
use crate::requests::filter;
use crate::verdict::{Stop, Verdict};
use crate::wire;

/// How often all clients ask for PINGRESP before a step counts as over: what one causes reaches the others in the first round,
/// their acknowledgements cause more in the second.
const ROUNDS: usize = 3;

/// One client of a script.
struct Player {
    client: Option<Client>,
    holds: bool,
}

struct Play<'a> {
    lab: &'a Lab<'a>,
    players: Vec<Player>,
    /// What happened in this step, by who saw it.
    seen: BTreeMap<usize, Vec<Seen>>,
}

/// A reaction without what the standards leave free. Ordered by kind and topic, so that a stable sort keeps the order of
/// messages of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    key: (u8, String),
    text: String,
    /// For copies of one message: topic and payload, and how strong this one is. Overlapping subscriptions may differ in
    /// Retain As Published too.
    copy: Option<(String, (u8, bool))>,
}

/// The reactions to each step, a line a client.
///
/// # Errors
/// The broker is not there, or sends what is malformed.
pub fn play(script: &Script, setting: &Setting) -> Verdict<Vec<String>> {
    let declared = ConnAck::default();
    let number = usize::try_from(script.seed % 1_000_000).unwrap_or_default();
    let lab = Lab::new(setting, &declared, script.version, number);
    let mut play = Play {
        lab: &lab,
        players: (0..CLIENTS)
            .map(|_| Player {
                client: None,
                holds: false,
            })
            .collect(),
        seen: BTreeMap::new(),
    };
    let mut lines = Vec::new();
    for (number, op) in script.ops.iter().enumerate() {
        play.step(script.version, op)?;
        for round in 0..ROUNDS {
            for client in 0..CLIENTS {
                play.settle(client, round)?;
            }
        }
        for (client, seen) in std::mem::take(&mut play.seen) {
            let seen = normal(seen);
            if !seen.is_empty() {
                lines.push(format!("{number} {op:?} -> {client}: {}", seen.join(", ")));
            }
        }
    }
    drop(play);
    lab.clean_up();
    Ok(lines)
}

impl Play<'_> {
    fn step(&mut self, version: ProtocolVersion, op: &Op) -> Verdict {
        match op {
            Op::Connect {
                client,
                clean,
                will,
            } => self.connect(*client, *clean, *will),
            Op::Subscribe {
                client,
                filter: text,
                options,
            } => {
                let text = self.lab.topic(text);
                let filters = vec![filter(&text, *options)?];
                self.with(*client, |client| {
                    let id = client.fresh_id();
                    client.send(&Subscribe::new(id, filters))
                })
            }
            Op::Unsubscribe {
                client,
                filter: text,
            } => {
                let target = Filter::parse(self.lab.topic(text))
                    .map_err(|error| Stop::failed(error.to_string()))?;
                self.with(*client, |client| {
                    let id = client.fresh_id();
                    client.send(&Unsubscribe::new(id, vec![target]))
                })
            }
            Op::Publish {
                client,
                topic,
                qos,
                retain,
                payload,
            } => {
                let payload = payload.map_or(String::new(), |number| number.to_string());
                let mut publish = message(&self.lab.topic(topic), *qos, &payload)?;
                publish.retain = *retain;
                self.with(*client, |client| {
                    publish.delivery = delivery(*qos, client.fresh_id().get(), false);
                    client.send(&Packet::Publish(Box::new(publish)))
                })
            }
            Op::Hold { client, hold } => {
                self.set_holds(*client, *hold);
                Ok(())
            }
            Op::Disconnect { client } => {
                let leave = Disconnect::new(DisconnectReason::NormalDisconnection);
                match self.take(*client) {
                    Some(client) => client.disconnect_with(&leave),
                    None => Ok(()),
                }
            }
            Op::Cut { client } => {
                self.cut(*client);
                Ok(())
            }
            Op::Illegal { client, number } => {
                let all = illegal(version, &self.lab.topic("illegal"));
                let bytes = all.get(*number).map(|(_, bytes)| bytes.clone());
                self.with(*client, |client| {
                    client.send_bytes(&bytes.unwrap_or_default())
                })
            }
        }
    }

    fn connect(&mut self, client: usize, clean: bool, bequest: Option<(u8, bool)>) -> Verdict {
        let name = format!("c{client}");
        let mut connect = if clean {
            self.lab.clean(&name)
        } else {
            self.lab.lasting(&name)
        };
        if let Some((qos, retain)) = bequest {
            connect.will = Some(Will {
                retain,
                ..will(&self.lab.topic("a/b"), qos, &format!("will of {client}"))?
            });
        }
        let earlier = self.take(client);
        let (opened, ack) = self.attempt(&connect)?;
        let text = format!("CONNACK {} {}", ack.reason.code(), ack.session_present);
        self.note(client, 0, "", text);
        if let Some(mut earlier) = earlier {
            // The end of the connection that was taken over, and what it was sent before.
            while let Found::Packet(_) = earlier.read_within(Duration::from_secs(10))? {}
        }
        if let Some(player) = self.players.get_mut(client) {
            player.client = Some(opened);
        }
        self.set_holds(client, false);
        Ok(())
    }

    fn attempt(&self, connect: &Connect) -> Verdict<(Client, ConnAck)> {
        self.lab.attempt(connect)
    }

    fn take(&mut self, client: usize) -> Option<Client> {
        self.players.get_mut(client)?.client.take()
    }

    fn with(&mut self, client: usize, act: impl FnOnce(&mut Client) -> Verdict) -> Verdict {
        match self
            .players
            .get_mut(client)
            .map(|player| &mut player.client)
        {
            Some(Some(client)) => act(client),
            Some(None) | None => Ok(()),
        }
    }

    fn set_holds(&mut self, client: usize, holds: bool) {
        if let Some(player) = self.players.get_mut(client) {
            player.holds = holds;
        }
    }

    fn cut(&mut self, client: usize) {
        if let Some(client) = self.take(client) {
            client.hang_up();
        }
    }

    /// Reads everything up to the answer to a ping.
    fn settle(&mut self, number: usize, round: usize) -> Verdict {
        let Some(mut client) = self.take(number) else {
            return Ok(());
        };
        let holds = self.players.get(number).is_some_and(|player| player.holds);
        client.send_bytes(&wire::PINGREQ)?;
        loop {
            match client.read_within(Duration::from_secs(10))? {
                Found::Packet(Packet::PingResp) => break,
                Found::Packet(packet) => self.react(number, &mut client, packet, holds)?,
                Found::End => {
                    self.note(number, 9, "", "closed".to_owned());
                    return Ok(());
                }
                Found::Nothing => {
                    return Err(Stop::failed(format!("no PINGRESP in round {round}")));
                }
            }
        }
        if let Some(player) = self.players.get_mut(number) {
            player.client = Some(client);
        }
        Ok(())
    }

    fn react(
        &mut self,
        number: usize,
        client: &mut Client,
        packet: Packet,
        holds: bool,
    ) -> Verdict {
        match packet {
            Packet::Publish(publish) => {
                self.note_publish(number, &publish);
                match publish.delivery {
                    _ if holds => {}
                    Delivery::AtMostOnce => {}
                    Delivery::AtLeastOnce { id, .. } => {
                        client.send_bytes(&wire::ack(0x40, id.get()))?;
                    }
                    Delivery::ExactlyOnce { id, .. } => {
                        client.send_bytes(&wire::ack(0x50, id.get()))?;
                    }
                }
            }
            Packet::PubRel(ack) => {
                self.seen.entry(number).or_default().push(Seen {
                    key: (5, String::new()),
                    text: "PUBREL".to_owned(),
                    copy: Some(("PUBREL".to_owned(), (0, false))),
                });
                if !holds {
                    client.send_bytes(&wire::ack(0x70, ack.id.get()))?;
                }
            }
            Packet::PubRec(ack) => {
                self.note_answer(number, "PUBREC", ack.id, ack.reason.code());
                if ack.reason.code() < 0x80 {
                    client.send_bytes(&wire::ack(0x62, ack.id.get()))?;
                }
            }
            Packet::PubAck(ack) => self.note_answer(number, "PUBACK", ack.id, ack.reason.code()),
            Packet::PubComp(ack) => self.note_answer(number, "PUBCOMP", ack.id, ack.reason.code()),
            Packet::SubAck(ack) => {
                let codes: Vec<u8> = ack.reasons.iter().map(|reason| reason.code()).collect();
                self.note(number, 1, "", format!("SUBACK {} {codes:?}", ack.id));
            }
            Packet::UnsubAck(ack) => {
                let codes: Vec<u8> = ack.reasons.iter().map(|reason| reason.code()).collect();
                self.note(number, 2, "", format!("UNSUBACK {} {codes:?}", ack.id));
            }
            // Whether a closed connection is told why is free.
            Packet::Disconnect(_) => {}
            other => self.note(number, 8, "", format!("{other:?}")),
        }
        Ok(())
    }

    fn note_answer(&mut self, number: usize, what: &str, id: PacketId, code: u8) {
        // 0x10 is success that says a little more.
        let code = if code == 0x10 { 0 } else { code };
        self.note(number, 3, "", format!("{what} {id} {code}"));
    }

    fn note_publish(&mut self, number: usize, publish: &Publish) {
        let topic = topic_of(publish).to_owned();
        let payload = String::from_utf8_lossy(&publish.payload).into_owned();
        let qos = publish.delivery.qos().bits();
        let text = format!(
            "PUBLISH {topic} qos {qos} retain {} dup {} {payload:?}",
            publish.retain,
            publish.delivery.is_dup()
        );
        self.seen.entry(number).or_default().push(Seen {
            key: (6, topic.clone()),
            text,
            copy: Some((format!("{topic} {payload}"), (qos, publish.retain))),
        });
    }

    fn note(&mut self, number: usize, kind: u8, detail: &str, text: String) {
        self.seen.entry(number).or_default().push(Seen {
            key: (kind, detail.to_owned()),
            text,
            copy: None,
        });
    }
}

/// In an order that both brokers have, and of several copies of a message the strongest alone.
fn normal(mut seen: Vec<Seen>) -> Vec<String> {
    seen.sort_by(|a, b| a.key.cmp(&b.key));
    let mut kept: Vec<Seen> = Vec::new();
    for one in seen {
        let Some((message, strength)) = &one.copy else {
            kept.push(one);
            continue;
        };
        // Of several copies at QoS 2 each has its PUBREL.
        let same = kept
            .iter_mut()
            .find(|other| matches!(&other.copy, Some((earlier, _)) if earlier == message));
        match same {
            Some(earlier) => {
                if earlier
                    .copy
                    .as_ref()
                    .is_some_and(|(_, earlier)| strength > earlier)
                {
                    *earlier = one;
                }
            }
            None => kept.push(one),
        }
    }
    kept.into_iter().map(|one| one.text).collect()
}
