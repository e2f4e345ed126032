//! What can be wrong with bytes, and with packets that are to become bytes.

use core::fmt;

use crate::{ConnAckReason, DisconnectReason, ProtocolVersion};

// The table keeps each rule beside its reason code, so that neither can be forgotten.
macro_rules! decode_errors {
    ($($(#[$meta:meta])* $variant:ident, $reason:ident, $text:literal;)+) => {
        /// The rule that a peer's bytes broke. One byte, `Copy`; the connection it came from has to end.
        ///
        /// Malformed packets answer with 0x81 and protocol errors with 0x82 unless the standard or a limit of
        /// ours names a better code; see [`DecodeError::reason`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum DecodeError {
            $($(#[$meta])* $variant,)+
        }

        impl DecodeError {
            /// Every rule.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The code for DISCONNECT once a connection is open.
            pub const fn reason(self) -> DisconnectReason {
                match self {
                    $(Self::$variant => DisconnectReason::$reason,)+
                }
            }
        }

        impl fmt::Display for DecodeError {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => $text,)+
                })
            }
        }
    };
}

decode_errors! {
    /// A field runs past the end of its packet or property block. [PALOMA-5.0-prop-length] [PALOMA-5.0-prop-value-cut]
    Truncated, MalformedPacket, "a field runs past the end of its packet";
    /// The fields end before the Remaining Length does.
    TrailingBytes, MalformedPacket, "bytes left over at the end of the packet";
    /// A variable byte integer is longer than four bytes.
    VariableIntTooLong, MalformedPacket, "variable byte integer longer than four bytes";
    /// A variable byte integer has more bytes than its value needs. [MQTT-1.5.5-1] [PALOMA-5.0-integer-minimal]
    VariableIntNotMinimal, MalformedPacket, "variable byte integer not in its shortest form";
    /// Packet type 0, or 15 before 5.0.
    PacketTypeReserved, MalformedPacket, "reserved packet type";
    /// The four low bits of the first byte are not what the type demands. [MQTT-2.1.3-1] [MQTT311-2.2.2-1]
    /// [MQTT-3.6.1-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1] [MQTT-3.14.1-1] [MQTT-3.15.1-1] [MQTT311-2.2.2-2]
    /// [MQTT311-3.6.1-1] [MQTT311-3.8.1-1] [MQTT311-3.10.1-1] [MQTT311-3.14.1-1]
    FixedHeaderFlags, MalformedPacket, "fixed header flags not as the packet type demands";
    /// The packet is larger than the limit.
    PacketTooLarge, PacketTooLarge, "packet larger than the limit";
    /// The first packet from a client is no CONNECT. [MQTT-3.1.0-1]
    ConnectExpected, ProtocolError, "first packet is not CONNECT";
    /// A client sent CONNECT twice. [MQTT-3.1.0-2]
    ConnectRepeated, ProtocolError, "second CONNECT";
    /// A packet that only the other role sends.
    WrongDirection, ProtocolError, "packet type that only the other side may send";
    /// Ill-formed UTF-8, surrogates and overlong forms included. [MQTT-1.5.4-1] [MQTT311-1.5.3-1]
    Utf8Invalid, MalformedPacket, "string is not well-formed UTF-8";
    /// A string holds U+0000. [MQTT-1.5.4-2] [MQTT311-1.5.3-2]
    Utf8Null, MalformedPacket, "string holds U+0000";
    /// A packet identifier is 0. [MQTT-2.2.1-3] [MQTT311-2.3.1-1]
    PacketIdZero, ProtocolError, "packet identifier is zero";

    /// A property that no packet has. [PALOMA-5.0-prop-unknown]
    PropertyUnknown, MalformedPacket, "unknown property";
    /// A property of another packet type. [PALOMA-5.0-prop-table]
    PropertyNotAllowed, MalformedPacket, "property does not belong to this packet type";
    /// A property that may stand once stands twice. [PALOMA-5.0-prop-twice]
    PropertyRepeated, ProtocolError, "property stands twice";
    /// A property is 0 where the standard forbids it (Receive Maximum, Maximum Packet Size, Subscription Identifier).
    /// [PALOMA-5.0-zero-receive-maximum] [PALOMA-5.0-zero-maximum-packet-size]
    /// [PALOMA-5.0-zero-subscription-identifier]
    PropertyZero, ProtocolError, "property is zero where that is forbidden";
    /// A property that is a flag is neither 0 nor 1. [PALOMA-5.0-prop-flag] [PALOMA-5.0-payload-format]
    PropertyNotFlag, ProtocolError, "flag property is neither 0 nor 1";
    /// Topic Alias is 0. [MQTT-3.3.2-8] [PALOMA-5.0-zero-topic-alias]
    TopicAliasZero, TopicAliasInvalid, "topic alias is zero";
    /// Authentication Data without Authentication Method, or an AUTH with properties and no method.
    /// [PALOMA-5.0-auth-data-alone]
    AuthenticationMethodMissing, ProtocolError, "authentication method missing";
    /// More user properties, or more bytes of them, than the limit.
    UserPropertiesTooMany, QuotaExceeded, "too many user properties";

    /// The protocol name of CONNECT is neither `MQTT` nor `MQIsdp`. [MQTT-3.1.2-1]
    ProtocolName, ProtocolError, "unknown protocol name";
    /// The protocol level of CONNECT is not 3, 4 or 5 under the right name. [MQTT-3.1.2-2] [MQTT311-3.1.2-2]
    ProtocolLevel, ProtocolError, "unsupported protocol level";
    /// The reserved connect flag is 1. [MQTT-3.1.2-3]
    ConnectFlagReserved, MalformedPacket, "reserved connect flag is set";
    /// Will QoS is 3. [MQTT-3.1.2-12]
    WillQosThree, MalformedPacket, "will QoS is 3";
    /// Will QoS or Will Retain without a will. [MQTT-3.1.2-11] [MQTT-3.1.2-13]
    WillFlagsWithoutWill, MalformedPacket, "will QoS or retain without a will";
    /// A password without a user name before 5.0. [MQTT311-3.1.2-22]
    PasswordWithoutUsername, MalformedPacket, "password without user name";
    /// An empty client identifier in 3.1, or with Clean Session 0 in 3.1.1. [MQTT311-3.1.3-8]
    ClientIdEmpty, ProtocolError, "empty client identifier";
    /// The client identifier is longer than the limit.
    ClientIdTooLong, QuotaExceeded, "client identifier longer than the limit";
    /// The will payload is larger than the limit.
    WillTooLarge, PacketTooLarge, "will payload larger than the limit";

    /// Bits 7 to 1 of the connect acknowledge flags are not 0. [MQTT-3.2.2-1]
    ConnAckFlags, MalformedPacket, "reserved connect acknowledge flags are set";
    /// Session Present with a refusal. [MQTT-3.2.2-6] [MQTT311-3.2.2-4]
    SessionPresentWithError, ProtocolError, "session present although refused";
    /// Maximum QoS is neither 0 nor 1.
    MaximumQosInvalid, ProtocolError, "maximum QoS is neither 0 nor 1";
    /// A reason code that this packet, or its sender, may not use. [PALOMA-5.0-reason-acks]
    /// [PALOMA-5.0-reason-disconnect] [PALOMA-5.0-reason-auth]
    ReasonCodeInvalid, ProtocolError, "reason code does not belong to this packet";

    /// QoS 3 in PUBLISH. [MQTT-3.3.1-4]
    QosThree, MalformedPacket, "QoS is 3";
    /// DUP on a QoS 0 PUBLISH. [MQTT-3.3.1-2]
    DupWithoutQos, MalformedPacket, "DUP with QoS 0";
    /// An empty topic name, without an alias that stands for one.
    TopicEmpty, ProtocolError, "topic name is empty";
    /// A wildcard in a topic name or Response Topic. [MQTT-3.3.2-2] [MQTT-3.3.2-14]
    TopicWildcard, MalformedPacket, "wildcard in a topic name";
    /// A topic name longer or deeper than the limit.
    TopicTooLarge, TopicNameInvalid, "topic name longer or deeper than the limit";
    /// A client's PUBLISH has a Subscription Identifier. [MQTT-3.3.4-6]
    SubscriptionIdFromClient, ProtocolError, "subscription identifier in a client's PUBLISH";

    /// SUBSCRIBE or UNSUBSCRIBE without a filter. [MQTT-3.8.3-2] [MQTT-3.10.3-2]
    FiltersEmpty, ProtocolError, "no topic filter";
    /// More filters than the limit.
    FiltersTooMany, QuotaExceeded, "more topic filters than the limit";
    /// A filter is empty or misplaces a wildcard. [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.3-1]
    FilterInvalid, MalformedPacket, "topic filter is malformed";
    /// A shared subscription without share name or filter, or with a wildcard in the name. [MQTT-4.8.2-1] [MQTT-4.8.2-2]
    ShareInvalid, MalformedPacket, "shared subscription is malformed";
    /// A filter longer or deeper than the limit.
    FilterTooLarge, TopicFilterInvalid, "topic filter longer or deeper than the limit";
    /// QoS 3 in a subscription's options.
    SubscriptionQosThree, ProtocolError, "subscription asks for QoS 3";
    /// Reserved bits of the subscription options are set. [MQTT-3.8.3-5] [PALOMA-5.0-options-reserved]
    SubscriptionOptionsReserved, MalformedPacket, "reserved subscription option bits are set";
    /// Retain Handling is 3. [PALOMA-5.0-options-retain-handling]
    RetainHandlingThree, ProtocolError, "retain handling is 3";
    /// No Local on a shared subscription. [MQTT-3.8.3-4]
    NoLocalOnShared, ProtocolError, "no local on a shared subscription";
    /// A server sent Session Expiry Interval in DISCONNECT. [MQTT-3.14.2-2]
    SessionExpiryFromServer, ProtocolError, "session expiry interval in a server's DISCONNECT";
}

impl DecodeError {
    /// The code for CONNACK when the packet that failed was CONNECT.
    #[must_use]
    pub fn conn_ack_reason(self) -> ConnAckReason {
        if matches!(self, Self::ProtocolName | Self::ProtocolLevel) {
            return ConnAckReason::UnsupportedProtocolVersion;
        }
        if matches!(self, Self::ClientIdEmpty | Self::ClientIdTooLong) {
            return ConnAckReason::ClientIdentifierNotValid;
        }
        ConnAckReason::from_code(self.reason().code()).unwrap_or(ConnAckReason::MalformedPacket)
    }

    /// The CONNACK to send when the first packet of a connection failed, `None` where it closes in silence.
    ///
    /// 3.1.1 answers a level it does not know with code 1 and an identifier it refuses with code 2, and closes
    /// on anything else. Whoever does not begin with an MQTT CONNECT gets no answer in either version.
    /// [MQTT-3.1.2-1] [MQTT311-3.1.2-2] [MQTT311-3.1.3-8] [MQTT311-3.1.4-1]
    #[must_use]
    pub fn conn_ack(self, version: ProtocolVersion) -> Option<ConnAckReason> {
        let is_stranger = matches!(
            self,
            Self::ConnectExpected | Self::FixedHeaderFlags | Self::ProtocolName
        );
        if is_stranger {
            return None;
        }
        let reason = self.conn_ack_reason();
        let told = version.is_v5()
            || matches!(
                self,
                Self::ProtocolLevel | Self::ClientIdEmpty | Self::ClientIdTooLong
            );
        told.then_some(reason)
    }
}

impl core::error::Error for DecodeError {}

/// Why a packet cannot be written. Always a mistake, or an oversight, of the program that built it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EncodeError {
    /// A string or binary field is longer than 65,535 bytes.
    FieldTooLong,
    /// A string holds U+0000. [MQTT-1.5.4-2]
    StringNull,
    /// The packet would pass 268,435,455 bytes of Remaining Length.
    PacketTooLarge,
    /// The packet would pass the receiver's Maximum Packet Size even without what may be left out. [MQTT-3.1.2-24]
    MaximumPacketSize,
    /// The packet, or the reason it gives, does not exist in this version.
    NotInVersion,
    /// SUBSCRIBE, UNSUBSCRIBE or their answer without an entry. [MQTT-3.8.3-2] [MQTT-3.10.3-2]
    Empty,
    /// A password without a user name before 5.0. [MQTT311-3.1.2-22]
    PasswordWithoutUsername,
    /// An AUTH with properties, or a reason other than success, but no authentication method.
    AuthenticationMethodMissing,
    /// Session Present with a refusal. [MQTT-3.2.2-6]
    SessionPresentWithError,
    /// No Local on a shared subscription. [MQTT-3.8.3-4]
    NoLocalOnShared,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FieldTooLong => "field longer than 65,535 bytes",
            Self::StringNull => "string holds U+0000",
            Self::PacketTooLarge => "packet larger than the protocol allows",
            Self::MaximumPacketSize => "packet larger than the receiver accepts",
            Self::NotInVersion => "not part of this protocol version",
            Self::Empty => "no entries",
            Self::PasswordWithoutUsername => "password without user name",
            Self::AuthenticationMethodMissing => "authentication method missing",
            Self::SessionPresentWithError => "session present although refused",
            Self::NoLocalOnShared => "no local on a shared subscription",
        })
    }
}

impl core::error::Error for EncodeError {}
