//! What differs from receiver to receiver of one message.

use crate::{Delivery, SubscriptionId, TopicAlias};

/// What is a receiver's own in a PUBLISH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// QoS, identifier and DUP.
    pub delivery: Delivery,
    /// The RETAIN flag. [MQTT-3.3.1-12]
    pub retain: bool,
    /// How the topic is named. Before 5.0 it is always by name.
    pub topic: TopicForm,
    /// What is left of the lifetime, in seconds. [MQTT-3.3.2-6]
    pub expiry_seconds: Option<u32>,
    /// The receiver's subscriptions that the message matched. [MQTT-3.3.4-4]
    pub subscription_ids: &'a [SubscriptionId],
}

/// How a PUBLISH to one receiver names its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TopicForm {
    /// By name.
    Name,
    /// By name, and the alias stands for it from then on.
    Define(TopicAlias),
    /// By an alias that was defined before.
    Alias(TopicAlias),
}
