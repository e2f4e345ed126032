//! What a peer does wrong beyond the form of a single packet.

use core::fmt;

use paloma_codec::DisconnectReason;

// The table keeps each rule beside its reason code, so that neither can be forgotten.
macro_rules! violations {
    ($($(#[$meta:meta])* $variant:ident, $reason:ident, $text:literal;)+) => {
        /// A packet that its role, direction or phase forbids. The connection has to end, with
        /// [`Violation::reason`] where the peer speaks 5.0.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Violation {
            $($(#[$meta])* $variant,)+
        }

        impl Violation {
            /// The code for DISCONNECT.
            #[must_use]
            pub const fn reason(self) -> DisconnectReason {
                match self {
                    $(Self::$variant => DisconnectReason::$reason,)+
                }
            }
        }

        impl fmt::Display for Violation {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => $text,)+
                })
            }
        }
    };
}

violations! {
    /// The client's first packet is not CONNECT. [MQTT-3.1.0-1] [MQTT311-3.1.0-1]
    ConnectExpected, ProtocolError, "the first packet is not CONNECT";
    /// A second CONNECT. [MQTT-3.1.0-2] [MQTT311-3.1.0-2]
    ConnectRepeated, ProtocolError, "a second CONNECT";
    /// The server's first packet is neither CONNACK nor AUTH. [MQTT-3.2.0-1] [MQTT311-3.2.0-1]
    ConnAckExpected, ProtocolError, "the server's first packet is not CONNACK";
    /// A second CONNACK. [MQTT-3.2.0-2]
    ConnAckRepeated, ProtocolError, "a second CONNACK";
    /// A packet that only the other side may send.
    WrongDirection, ProtocolError, "a packet that only the other side may send";
    /// Before CONNACK, a client that authenticates sent something other than AUTH or DISCONNECT. [MQTT-3.1.2-30]
    BeforeConnAck, ProtocolError, "a packet other than AUTH and DISCONNECT before CONNACK";
    /// AUTH without an Authentication Method in CONNECT. [MQTT-4.12.0-6] [MQTT-4.12.0-7]
    AuthNotNegotiated, ProtocolError, "AUTH without an authentication method in CONNECT";
    /// AUTH or CONNACK with another method than CONNECT's. [MQTT-4.12.0-5] [MQTT-4.12.1-1]
    AuthMethodChanged, BadAuthenticationMethod, "an authentication method other than CONNECT's";
    /// AUTH with a reason that is not the sender's to give at this step. [MQTT-4.12.0-2] [MQTT-4.12.0-3]
    AuthOutOfStep, ProtocolError, "AUTH with a reason that this step does not allow";
    /// Session Present although the client has no session. [MQTT-3.2.2-4]
    SessionUnknown, ProtocolError, "session present, but the client has none";
    /// More unanswered QoS 1 and 2 PUBLISHes than the announced Receive Maximum. [MQTT-3.3.4-7] [MQTT-3.3.4-9]
    ReceiveMaximumExceeded, ReceiveMaximumExceeded, "more open PUBLISHes than the receive maximum";
    /// A topic alias above the announced maximum. [MQTT-3.3.2-9] [MQTT-3.3.2-11]
    AliasTooLarge, TopicAliasInvalid, "a topic alias above the maximum";
    /// Aliased topics that need more bytes than [`Options::alias_bytes_max`](crate::Options::alias_bytes_max).
    AliasBytesExceeded, TopicAliasInvalid, "topic aliases use too many bytes";
    /// An empty topic with an alias that stands for nothing yet.
    AliasUnknown, ProtocolError, "a topic alias that was not defined";
    /// A PUBLISH above the announced Maximum QoS. [MQTT-3.2.2-11]
    QosNotSupported, QosNotSupported, "a PUBLISH above the maximum QoS";
    /// RETAIN although retained messages were announced as not available. [MQTT-3.2.2-14]
    RetainNotSupported, RetainNotSupported, "RETAIN, which is not available";
    /// An acknowledgement of a kind that does not belong to the exchange of its id.
    AckOfWrongKind, ProtocolError, "an acknowledgement that does not belong to its exchange";
    /// SUBACK or UNSUBACK without as many reason codes as there were filters. [MQTT-3.8.4-6] [MQTT-3.11.3-1]
    AckCountWrong, ProtocolError, "not as many reason codes as filters";
    /// A Session Expiry Interval in DISCONNECT although CONNECT gave none or zero.
    SessionExpiryFromZero, ProtocolError, "a session expiry set in DISCONNECT after zero in CONNECT";
    /// DISCONNECT from a 3.1.1 server, which has none.
    DisconnectFromServer, ProtocolError, "DISCONNECT from a server before 5.0";
}

impl core::error::Error for Violation {}
