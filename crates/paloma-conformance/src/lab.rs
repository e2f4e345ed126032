//! Where one test works: names of its own, clients, and what it leaves behind.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use bytes::Bytes;
use paloma_codec::{
    ConnAck, ConnAckReason, Connect, Delivery, Packet, PacketId, ProtocolVersion, Publish,
    PublishTopic, Qos, UserProperties, Will,
};
use paloma_topic::TopicName;

use crate::client::{Client, Found, Patience};
use crate::target::Target;
use crate::verdict::{Stop, Verdict, same};

/// What all tests of a run share.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The broker.
    pub target: Target,
    /// Tells this run's topics and clients from those of others.
    pub run: String,
    /// For an answer that is owed.
    pub answer: Duration,
    /// For something that must not come.
    pub quiet: Duration,
    /// For a whole test.
    pub test: Duration,
}

/// One test's place.
#[derive(Debug)]
pub struct Lab<'a> {
    setting: &'a Setting,
    /// What the broker declares of itself, in the CONNACK of a 5.0 client.
    declared: &'a ConnAck,
    version: ProtocolVersion,
    prefix: String,
    deadline: Instant,
    left: RefCell<Left>,
}

/// What has to be cleaned up.
#[derive(Debug, Default)]
struct Left {
    retained: Vec<String>,
    sessions: Vec<String>,
}

impl<'a> Lab<'a> {
    /// The place of test `number`.
    #[must_use]
    pub fn new(
        setting: &'a Setting,
        declared: &'a ConnAck,
        version: ProtocolVersion,
        number: usize,
    ) -> Self {
        Self {
            setting,
            declared,
            version,
            prefix: format!("{}v{}n{number}", setting.run, version.level()),
            deadline: Instant::now() + setting.test,
            left: RefCell::default(),
        }
    }

    /// The version under test.
    #[must_use]
    pub fn version(&self) -> ProtocolVersion {
        self.version
    }

    /// Whether it is 5.0.
    #[must_use]
    pub fn is_v5(&self) -> bool {
        self.version.is_v5()
    }

    /// What the broker declares of itself.
    #[must_use]
    pub fn declared(&self) -> &ConnAck {
        self.declared
    }

    /// The broker.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.setting.target
    }

    /// A topic that only this test uses.
    #[must_use]
    pub fn topic(&self, name: &str) -> String {
        format!("{}/{name}", self.prefix)
    }

    /// A topic that only this test uses, for retained messages: cleared afterwards.
    ///
    /// # Errors
    /// The broker retains nothing.
    pub fn retained_topic(&self, name: &str) -> Verdict<String> {
        if !self.declared.retain_available {
            return not_applicable("the broker retains no messages");
        }
        let topic = self.topic(name);
        self.left.borrow_mut().retained.push(topic.clone());
        Ok(topic)
    }

    /// A client identifier that only this test uses, of at most 23 digits and letters.
    #[must_use]
    pub fn id(&self, name: &str) -> String {
        let kept: String = name
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .take(8)
            .collect();
        format!("{}{kept}", self.prefix)
    }

    /// Stops the test as not applicable if the broker declares a lower maximum QoS.
    ///
    /// # Errors
    /// It does.
    pub fn needs_qos(&self, qos: u8) -> Verdict {
        if self.declared.maximum_qos.bits() < qos {
            return not_applicable("the broker's maximum QoS is lower");
        }
        Ok(())
    }

    /// Stops the test if the broker declares that it has no wildcards.
    ///
    /// # Errors
    /// It does.
    pub fn needs_wildcards(&self) -> Verdict {
        if !self.declared.wildcard_subscriptions_available {
            return not_applicable("the broker has no wildcard subscriptions");
        }
        Ok(())
    }

    /// Stops the test if the broker declares that it has no shared subscriptions.
    ///
    /// # Errors
    /// It does.
    pub fn needs_shared(&self) -> Verdict {
        if !self.declared.shared_subscriptions_available {
            return not_applicable("the broker has no shared subscriptions");
        }
        Ok(())
    }

    /// Stops the test if the broker declares that it has no subscription identifiers.
    ///
    /// # Errors
    /// It does.
    pub fn needs_subscription_ids(&self) -> Verdict {
        if !self.declared.subscription_ids_available {
            return not_applicable("the broker has no subscription identifiers");
        }
        Ok(())
    }

    /// The broker's Topic Alias Maximum, which must not be 0.
    ///
    /// # Errors
    /// It is.
    pub fn needs_aliases(&self) -> Verdict<u16> {
        match self.declared.topic_alias_maximum {
            0 => not_applicable("the broker takes no topic aliases"),
            maximum => Ok(maximum),
        }
    }

    /// A connection on which nothing has been said.
    ///
    /// # Errors
    /// The broker is not there.
    #[track_caller]
    pub fn open(&self) -> Verdict<Client> {
        self.open_as(self.version)
    }

    /// A silent connection of another version.
    ///
    /// # Errors
    /// The broker is not there.
    #[track_caller]
    pub fn open_as(&self, version: ProtocolVersion) -> Verdict<Client> {
        let patience = Patience {
            answer: self.setting.answer,
            quiet: self.setting.quiet,
            deadline: self.deadline,
        };
        let stream = self.setting.target.open()?;
        Ok(Client::new(stream, version, patience))
    }

    /// A clean CONNECT of this test.
    #[must_use]
    pub fn clean(&self, name: &str) -> Connect {
        Connect {
            version: self.version,
            client_id: self.id(name).into(),
            keep_alive_seconds: 60,
            ..Connect::default()
        }
    }

    /// A CONNECT that resumes its session, or begins one that outlives the connection; ended afterwards.
    #[must_use]
    pub fn lasting(&self, name: &str) -> Connect {
        self.left.borrow_mut().sessions.push(self.id(name));
        Connect {
            clean_start: false,
            session_expiry_seconds: if self.is_v5() { 300 } else { u32::MAX },
            ..self.clean(name)
        }
    }

    /// Sends a CONNECT and returns its CONNACK, whatever it says.
    ///
    /// # Errors
    /// Another packet, or none, comes.
    #[track_caller]
    pub fn attempt(&self, connect: &Connect) -> Verdict<(Client, ConnAck)> {
        let mut client = self.open_as(connect.version)?;
        client.send(connect)?;
        let ack = conn_ack(&mut client)?;
        Ok((client, ack))
    }

    /// Connects, which has to succeed.
    ///
    /// # Errors
    /// It does not.
    #[track_caller]
    pub fn connect(&self, connect: &Connect) -> Verdict<(Client, ConnAck)> {
        let (client, ack) = self.attempt(connect)?;
        same("CONNACK's reason", ack.reason, ConnAckReason::Success)?;
        Ok((client, ack))
    }

    /// A connected client with a clean session.
    ///
    /// # Errors
    /// The broker refuses it.
    #[track_caller]
    pub fn client(&self, name: &str) -> Verdict<Client> {
        Ok(self.connect(&self.clean(name))?.0)
    }

    /// A connected client whose session outlives the connection, and whether it was there.
    ///
    /// # Errors
    /// The broker refuses it.
    #[track_caller]
    pub fn resume(&self, name: &str) -> Verdict<(Client, bool)> {
        let (client, ack) = self.connect(&self.lasting(name))?;
        Ok((client, ack.session_present))
    }

    /// A connected client whose session must have been there.
    ///
    /// # Errors
    /// It was not.
    #[track_caller]
    pub fn back(&self, name: &str) -> Verdict<Client> {
        let (client, present) = self.resume(name)?;
        same("Session Present", present, true)?;
        Ok(client)
    }

    /// Ends the sessions and deletes the retained messages of this test. A broker that fails here fails elsewhere too.
    pub fn clean_up(&self) {
        let left = self.left.take();
        for id in left.sessions {
            let connect = Connect {
                version: self.version,
                client_id: id.into(),
                ..Connect::default()
            };
            if let Ok((client, _)) = self.attempt(&connect) {
                let _gone = client.disconnect();
            }
        }
        if left.retained.is_empty() {
            return;
        }
        let Ok(mut client) = self.client("cleaner") else {
            return;
        };
        for topic in left.retained {
            if let Ok(empty) = message(&topic, 0, "") {
                let _sent = client.publish_for_reason(&retained(empty));
            }
        }
        let _gone = client.disconnect();
    }
}

/// The CONNACK that has to come first.
///
/// # Errors
/// Another packet, or none, comes.
#[track_caller]
pub fn conn_ack(client: &mut Client) -> Verdict<ConnAck> {
    match client.packet()? {
        Packet::ConnAck(ack) => Ok(*ack),
        other => Err(Stop::failed(format!("wanted CONNACK, got {other:?}"))),
    }
}

/// What the broker declares of itself: the CONNACK of a 5.0 client, or the standard's defaults if it speaks no 5.0.
///
/// # Errors
/// The broker is not there.
pub fn declared(setting: &Setting) -> Verdict<ConnAck> {
    let nothing = ConnAck::default();
    let lab = Lab::new(setting, &nothing, ProtocolVersion::V5, 0);
    let mut client = lab.open()?;
    client.send(&lab.clean("probe"))?;
    match client.read_within(setting.answer) {
        Ok(Found::Packet(Packet::ConnAck(ack))) => {
            let _gone = client.disconnect();
            Ok(if ack.reason.is_error() { nothing } else { *ack })
        }
        Ok(Found::Packet(_) | Found::End | Found::Nothing) | Err(_) => Ok(nothing),
    }
}

/// Stops a test because of what the broker has declared.
///
/// # Errors
/// Always.
pub fn not_applicable<T>(reason: &str) -> Verdict<T> {
    Err(Stop::NotApplicable(reason.to_owned()))
}

/// A topic name of the suite's.
///
/// # Errors
/// The suite has written it wrong.
#[track_caller]
pub fn name(text: &str) -> Verdict<TopicName> {
    TopicName::new(text).map_err(|error| Stop::failed(format!("the suite's topic {text}: {error}")))
}

/// A PUBLISH; above QoS 0 with the smallest identifier.
///
/// # Errors
/// The suite has written the topic wrong.
#[track_caller]
pub fn message(topic: &str, qos: u8, payload: &str) -> Verdict<Publish> {
    let mut publish = Publish::new(name(topic)?, Bytes::from(payload.to_owned()));
    publish.delivery = delivery(qos, 1, false);
    Ok(publish)
}

/// The same with RETAIN.
#[must_use]
pub fn retained(publish: Publish) -> Publish {
    Publish {
        retain: true,
        ..publish
    }
}

/// A PUBLISH under an alias that it defines.
#[must_use]
pub fn aliased(mut publish: Publish, alias: paloma_codec::TopicAlias) -> Publish {
    if let PublishTopic::Name(name) = publish.topic {
        publish.topic = PublishTopic::Define { name, alias };
    }
    publish
}

/// QoS, identifier and DUP of a PUBLISH.
#[must_use]
pub fn delivery(qos: u8, id: u16, dup: bool) -> Delivery {
    let id = PacketId::new(id).unwrap_or(PacketId::MIN);
    match qos {
        0 => Delivery::AtMostOnce,
        1 => Delivery::AtLeastOnce { id, dup },
        _ => Delivery::ExactlyOnce { id, dup },
    }
}

/// A will of this QoS.
///
/// # Errors
/// The suite has written the topic wrong.
#[track_caller]
pub fn will(topic: &str, qos: u8, payload: &str) -> Verdict<Will> {
    Ok(Will {
        qos: Qos::from_bits(qos).unwrap_or(Qos::AtMostOnce),
        ..Will::new(name(topic)?, Bytes::from(payload.to_owned()))
    })
}

/// User properties in this order.
///
/// # Errors
/// The suite has written them wrong.
#[track_caller]
pub fn user_properties(pairs: &[(&str, &str)]) -> Verdict<UserProperties> {
    let mut properties = UserProperties::new();
    for (name, value) in pairs {
        properties.push(name, value)?;
    }
    Ok(properties)
}

/// The payload as text.
#[must_use]
pub fn text(publish: &Publish) -> String {
    String::from_utf8_lossy(&publish.payload).into_owned()
}

/// The topic as text; empty if only an alias stands for it.
#[must_use]
pub fn topic_of(publish: &Publish) -> &str {
    publish.topic.name().map_or("", TopicName::as_str)
}
