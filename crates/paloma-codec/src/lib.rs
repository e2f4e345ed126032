//! MQTT 3.1.1 and 5.0 packets, to bytes and back, without I/O.
#![doc = include_str!("../README.md")]
#![cfg_attr(not(feature = "std"), no_std)]

extern crate alloc;

mod ack;
mod auth;
mod connack;
mod connect;
mod decoder;
mod disconnect;
mod display;
mod encode;
mod error;
mod frame;
mod head;
mod ids;
mod limits;
mod message;
mod message_pool;
mod packet;
mod properties;
mod publish;
mod publish_properties;
mod read;
mod reason;
mod secret;
mod subscribe;
mod unsubscribe;
mod user_properties;
mod write;

pub use ack::{Ack, AckKind, PubAck, PubComp, PubRec, PubRel, ack_len, encode_ack};
pub use auth::Auth;
pub use connack::ConnAck;
pub use connect::{Authentication, Connect, Will};
pub use decoder::{Decoder, DecoderState};
pub use disconnect::Disconnect;
pub use encode::Encode;
pub use error::{DecodeError, EncodeError};
pub use frame::{PACKET_BYTES_MAX, frame_len};
pub use head::{Head, TopicForm};
pub use ids::{
    IdOutOfRange, PacketId, ProtocolVersion, Qos, ReceiveMaximum, SubscriptionId, TopicAlias,
};
pub use limits::DecodeLimits;
pub use message::{Message, MessageError, MessageParts, SHORT_PACKET_LEN_MAX};
pub use message_pool::MessagePool;
pub use packet::{Packet, PacketRef, PacketType};
pub use publish::{Delivery, Publish, PublishRef, PublishTopic};
pub use publish_properties::{PayloadFormat, PropertiesRef, PublishProperties, SubscriptionIds};
pub use reason::{
    AuthReason, ConnAckReason, DisconnectReason, PubAckReason, PubCompReason, PubRecReason,
    PubRelReason, SubAckReason, UnknownReason, UnsubAckReason,
};
pub use secret::Secret;
pub use subscribe::{RetainHandling, SubAck, Subscribe, SubscribeFilter, SubscribeOptions};
pub use unsubscribe::{UnsubAck, Unsubscribe};
pub use user_properties::{UserProperties, UserPropertyIter};
