//! What the two ends of a connection told each other, and what the caller sets for itself.

use paloma_codec::{ConnAck, Connect, ProtocolVersion, Qos, ReceiveMaximum};

/// Which end of the connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// It sent CONNECT.
    Client,
    /// It answered with CONNACK.
    Server,
}

/// Limits of one end that the peer is not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Most unanswered QoS 1 and 2 PUBLISHes towards the peer, if its Receive Maximum is not lower. Default 32.
    pub in_flight_max: ReceiveMaximum,
    /// Most bytes of messages unanswered towards the peer; one larger message goes alone. Default 1 MiB.
    pub in_flight_bytes_max: u32,
    /// Most topics that get an alias towards the peer, if its Topic Alias Maximum is not lower. Default 16.
    pub aliases_max: u16,
    /// Most bytes of topics that the peer's aliases may stand for in all. Default 64 KiB. Passing it is 0x94.
    pub alias_bytes_max: u32,
    /// Answers that may wait for a commit or for the socket before
    /// [`Connection::may_read`](crate::Connection::may_read) says no. Default 65,536: what one 3.1.1 client may have open.
    pub answers_max: u32,
    /// Client role: seconds to wait for PINGRESP, if the keep alive is not shorter. Default 20.
    pub ping_wait_seconds: u16,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            in_flight_max: ReceiveMaximum::new(32).unwrap_or_default(),
            in_flight_bytes_max: 1024 * 1024,
            aliases_max: 16,
            alias_bytes_max: 64 * 1024,
            answers_max: 65_536,
            ping_wait_seconds: 20,
        }
    }
}

/// What one end said that it accepts; the defaults of the standard where it said nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How many unanswered QoS 1 and 2 PUBLISHes it takes. Before 5.0 there is no such limit.
    pub receive_maximum: ReceiveMaximum,
    /// The largest packet that it takes, in bytes.
    pub packet_bytes_max: u32,
    /// The largest topic alias that it takes; 0 for none.
    pub alias_maximum: u16,
    /// The highest QoS that it takes in PUBLISH.
    pub maximum_qos: Qos,
    /// Whether it takes PUBLISHes with RETAIN.
    pub retain_available: bool,
    /// Whether it wants Reason Strings and User Properties on every packet. [MQTT-3.1.2-29]
    pub problem_information: bool,
}

impl Terms {
    /// What holds where nothing can be said: before 5.0.
    pub const UNSAID: Self = Self {
        receive_maximum: ReceiveMaximum::MAX,
        packet_bytes_max: paloma_codec::PACKET_BYTES_MAX,
        alias_maximum: 0,
        maximum_qos: Qos::ExactlyOnce,
        retain_available: true,
        problem_information: true,
    };

    /// What a client accepts by its CONNECT.
    #[must_use]
    pub fn of_client(connect: &Connect) -> Self {
        if !connect.version.is_v5() {
            return Self::UNSAID;
        }
        Self {
            receive_maximum: connect.receive_maximum,
            packet_bytes_max: connect
                .maximum_packet_size
                .map_or(Self::UNSAID.packet_bytes_max, core::num::NonZeroU32::get),
            alias_maximum: connect.topic_alias_maximum,
            problem_information: connect.request_problem_information,
            ..Self::UNSAID
        }
    }

    /// What a server accepts by its CONNACK.
    #[must_use]
    pub fn of_server(conn_ack: &ConnAck, version: ProtocolVersion) -> Self {
        if !version.is_v5() {
            return Self::UNSAID;
        }
        Self {
            receive_maximum: conn_ack.receive_maximum,
            packet_bytes_max: conn_ack
                .maximum_packet_size
                .map_or(Self::UNSAID.packet_bytes_max, core::num::NonZeroU32::get),
            alias_maximum: conn_ack.topic_alias_maximum,
            maximum_qos: conn_ack.maximum_qos,
            retain_available: conn_ack.retain_available,
            ..Self::UNSAID
        }
    }
}
