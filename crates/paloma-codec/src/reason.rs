//! Reason codes: one enum for each packet that carries one.

use core::fmt;

use crate::Qos;

/// A byte that is no reason code of the packet it stood in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownReason(pub u8);

impl fmt::Display for UnknownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown reason code {:#04x}", self.0)
    }
}

impl core::error::Error for UnknownReason {}

// Nine tables of the same shape; the macro keeps code, text and conversions of a row together.
macro_rules! reason_codes {
    ($(#[$meta:meta])* $name:ident {
        $($(#[$row:meta])* $variant:ident = $code:literal, $text:literal;)+
    }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name {
            $(#[doc = concat!("`", stringify!($code), "`: ", $text, ".")] $(#[$row])* $variant = $code,)+
        }

        impl $name {
            /// All codes, in ascending order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The byte on the wire.
            pub const fn code(self) -> u8 {
                self as u8
            }

            /// The reason of a byte, if this packet may carry it.
            pub const fn from_code(code: u8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)+
                    _ => None,
                }
            }

            /// Whether the code reports a failure, which is 0x80 and above.
            pub const fn is_error(self) -> bool {
                self.code() >= 0x80
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => $text,)+
                })
            }
        }

        impl From<$name> for u8 {
            fn from(reason: $name) -> Self {
                reason.code()
            }
        }

        impl TryFrom<u8> for $name {
            type Error = UnknownReason;

            fn try_from(code: u8) -> Result<Self, UnknownReason> {
                Self::from_code(code).ok_or(UnknownReason(code))
            }
        }
    };
}

reason_codes! {
    /// Why a server accepted or refused a connection. [MQTT-3.2.2-8]
    #[derive(Default)]
    ConnAckReason {
        #[default]
        Success = 0x00, "success";
        UnspecifiedError = 0x80, "unspecified error";
        MalformedPacket = 0x81, "malformed packet";
        ProtocolError = 0x82, "protocol error";
        ImplementationSpecificError = 0x83, "implementation specific error";
        UnsupportedProtocolVersion = 0x84, "unsupported protocol version";
        ClientIdentifierNotValid = 0x85, "client identifier not valid";
        BadUserNameOrPassword = 0x86, "bad user name or password";
        NotAuthorized = 0x87, "not authorized";
        ServerUnavailable = 0x88, "server unavailable";
        ServerBusy = 0x89, "server busy";
        Banned = 0x8A, "banned";
        BadAuthenticationMethod = 0x8C, "bad authentication method";
        TopicNameInvalid = 0x90, "topic name invalid";
        PacketTooLarge = 0x95, "packet too large";
        QuotaExceeded = 0x97, "quota exceeded";
        PayloadFormatInvalid = 0x99, "payload format invalid";
        RetainNotSupported = 0x9A, "retain not supported";
        QosNotSupported = 0x9B, "QoS not supported";
        UseAnotherServer = 0x9C, "use another server";
        ServerMoved = 0x9D, "server moved";
        ConnectionRateExceeded = 0x9F, "connection rate exceeded";
    }
}

reason_codes! {
    /// What became of a QoS 1 PUBLISH. [MQTT-3.4.2-1]
    #[derive(Default)]
    PubAckReason {
        #[default]
        Success = 0x00, "success";
        NoMatchingSubscribers = 0x10, "no matching subscribers";
        UnspecifiedError = 0x80, "unspecified error";
        ImplementationSpecificError = 0x83, "implementation specific error";
        NotAuthorized = 0x87, "not authorized";
        TopicNameInvalid = 0x90, "topic name invalid";
        PacketIdentifierInUse = 0x91, "packet identifier in use";
        QuotaExceeded = 0x97, "quota exceeded";
        PayloadFormatInvalid = 0x99, "payload format invalid";
    }
}

reason_codes! {
    /// What became of a QoS 2 PUBLISH. [MQTT-3.5.2-1]
    #[derive(Default)]
    PubRecReason {
        #[default]
        Success = 0x00, "success";
        NoMatchingSubscribers = 0x10, "no matching subscribers";
        UnspecifiedError = 0x80, "unspecified error";
        ImplementationSpecificError = 0x83, "implementation specific error";
        NotAuthorized = 0x87, "not authorized";
        TopicNameInvalid = 0x90, "topic name invalid";
        PacketIdentifierInUse = 0x91, "packet identifier in use";
        QuotaExceeded = 0x97, "quota exceeded";
        PayloadFormatInvalid = 0x99, "payload format invalid";
    }
}

reason_codes! {
    /// Whether the sender of a PUBREL knows the exchange. [MQTT-3.6.2-1]
    #[derive(Default)]
    PubRelReason {
        #[default]
        Success = 0x00, "success";
        PacketIdentifierNotFound = 0x92, "packet identifier not found";
    }
}

reason_codes! {
    /// Whether the sender of a PUBCOMP knew the exchange. [MQTT-3.7.2-1]
    #[derive(Default)]
    PubCompReason {
        #[default]
        Success = 0x00, "success";
        PacketIdentifierNotFound = 0x92, "packet identifier not found";
    }
}

reason_codes! {
    /// The answer to one filter of a SUBSCRIBE. [MQTT-3.9.3-2]
    SubAckReason {
        GrantedQos0 = 0x00, "granted QoS 0";
        GrantedQos1 = 0x01, "granted QoS 1";
        GrantedQos2 = 0x02, "granted QoS 2";
        UnspecifiedError = 0x80, "unspecified error";
        ImplementationSpecificError = 0x83, "implementation specific error";
        NotAuthorized = 0x87, "not authorized";
        TopicFilterInvalid = 0x8F, "topic filter invalid";
        PacketIdentifierInUse = 0x91, "packet identifier in use";
        QuotaExceeded = 0x97, "quota exceeded";
        SharedSubscriptionsNotSupported = 0x9E, "shared subscriptions not supported";
        SubscriptionIdentifiersNotSupported = 0xA1, "subscription identifiers not supported";
        WildcardSubscriptionsNotSupported = 0xA2, "wildcard subscriptions not supported";
    }
}

reason_codes! {
    /// The answer to one filter of an UNSUBSCRIBE. [MQTT-3.11.3-2]
    #[derive(Default)]
    UnsubAckReason {
        #[default]
        Success = 0x00, "success";
        NoSubscriptionExisted = 0x11, "no subscription existed";
        UnspecifiedError = 0x80, "unspecified error";
        ImplementationSpecificError = 0x83, "implementation specific error";
        NotAuthorized = 0x87, "not authorized";
        TopicFilterInvalid = 0x8F, "topic filter invalid";
        PacketIdentifierInUse = 0x91, "packet identifier in use";
    }
}

reason_codes! {
    /// Why a connection ends. [MQTT-3.14.2-1]
    #[derive(Default)]
    DisconnectReason {
        #[default]
        NormalDisconnection = 0x00, "normal disconnection";
        DisconnectWithWillMessage = 0x04, "disconnect with will message";
        UnspecifiedError = 0x80, "unspecified error";
        MalformedPacket = 0x81, "malformed packet";
        ProtocolError = 0x82, "protocol error";
        ImplementationSpecificError = 0x83, "implementation specific error";
        NotAuthorized = 0x87, "not authorized";
        ServerBusy = 0x89, "server busy";
        ServerShuttingDown = 0x8B, "server shutting down";
        BadAuthenticationMethod = 0x8C, "bad authentication method";
        KeepAliveTimeout = 0x8D, "keep alive timeout";
        SessionTakenOver = 0x8E, "session taken over";
        TopicFilterInvalid = 0x8F, "topic filter invalid";
        TopicNameInvalid = 0x90, "topic name invalid";
        ReceiveMaximumExceeded = 0x93, "receive maximum exceeded";
        TopicAliasInvalid = 0x94, "topic alias invalid";
        PacketTooLarge = 0x95, "packet too large";
        MessageRateTooHigh = 0x96, "message rate too high";
        QuotaExceeded = 0x97, "quota exceeded";
        AdministrativeAction = 0x98, "administrative action";
        PayloadFormatInvalid = 0x99, "payload format invalid";
        RetainNotSupported = 0x9A, "retain not supported";
        QosNotSupported = 0x9B, "QoS not supported";
        UseAnotherServer = 0x9C, "use another server";
        ServerMoved = 0x9D, "server moved";
        SharedSubscriptionsNotSupported = 0x9E, "shared subscriptions not supported";
        ConnectionRateExceeded = 0x9F, "connection rate exceeded";
        MaximumConnectTime = 0xA0, "maximum connect time";
        SubscriptionIdentifiersNotSupported = 0xA1, "subscription identifiers not supported";
        WildcardSubscriptionsNotSupported = 0xA2, "wildcard subscriptions not supported";
    }
}

reason_codes! {
    /// The step of an authentication exchange. [MQTT-3.15.2-1]
    #[derive(Default)]
    AuthReason {
        #[default]
        Success = 0x00, "success";
        ContinueAuthentication = 0x18, "continue authentication";
        ReAuthenticate = 0x19, "re-authenticate";
    }
}

impl ConnAckReason {
    /// The return code of 3.1.1, or `None` where none fits and the connection closes without CONNACK.
    ///
    /// Codes that 3.1.1 lacks fall to the nearest one it has. [MQTT311-3.2.2-6]
    #[must_use]
    pub const fn v3_code(self) -> Option<u8> {
        match self {
            Self::Success => Some(0),
            Self::UnsupportedProtocolVersion => Some(1),
            Self::ClientIdentifierNotValid => Some(2),
            Self::UnspecifiedError
            | Self::ImplementationSpecificError
            | Self::ServerUnavailable
            | Self::ServerBusy
            | Self::QuotaExceeded
            | Self::UseAnotherServer
            | Self::ServerMoved
            | Self::ConnectionRateExceeded => Some(3),
            Self::BadUserNameOrPassword => Some(4),
            Self::NotAuthorized | Self::Banned => Some(5),
            Self::MalformedPacket
            | Self::ProtocolError
            | Self::BadAuthenticationMethod
            | Self::TopicNameInvalid
            | Self::PacketTooLarge
            | Self::PayloadFormatInvalid
            | Self::RetainNotSupported
            | Self::QosNotSupported => None,
        }
    }

    /// The reason of a 3.1.1 return code, 0 to 5.
    #[must_use]
    pub const fn from_v3_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Success),
            1 => Some(Self::UnsupportedProtocolVersion),
            2 => Some(Self::ClientIdentifierNotValid),
            3 => Some(Self::ServerUnavailable),
            4 => Some(Self::BadUserNameOrPassword),
            5 => Some(Self::NotAuthorized),
            _ => None,
        }
    }
}

impl SubAckReason {
    /// The code that grants this QoS. [MQTT-3.8.4-7]
    #[must_use]
    pub const fn granted(qos: Qos) -> Self {
        match qos {
            Qos::AtMostOnce => Self::GrantedQos0,
            Qos::AtLeastOnce => Self::GrantedQos1,
            Qos::ExactlyOnce => Self::GrantedQos2,
        }
    }

    /// The QoS this code grants, `None` if it reports a failure.
    #[must_use]
    pub const fn granted_qos(self) -> Option<Qos> {
        Qos::from_bits(self.code())
    }

    /// The return code of 3.1.1, where every failure is 0x80. [MQTT311-3.9.3-2]
    #[must_use]
    pub const fn v3_code(self) -> u8 {
        if self.is_error() { 0x80 } else { self.code() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_converts_back_to_itself_or_is_refused() {
        for code in 0..=u8::MAX {
            assert_eq!(
                DisconnectReason::try_from(code).map_or(code, u8::from),
                code
            );
            assert_eq!(
                ConnAckReason::from_code(code).map_or(code, ConnAckReason::code),
                code
            );
        }
        assert_eq!(DisconnectReason::try_from(0x01), Err(UnknownReason(0x01)));
    }

    #[test]
    fn a_v3_return_code_survives_both_ways() {
        for code in 0..=5 {
            assert_eq!(
                ConnAckReason::from_v3_code(code).unwrap().v3_code(),
                Some(code)
            );
        }
        assert_eq!(ConnAckReason::from_v3_code(6), None);
    }

    #[test]
    fn suback_grants_what_was_granted() {
        for qos in [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce] {
            assert_eq!(SubAckReason::granted(qos).granted_qos(), Some(qos));
        }
        assert_eq!(SubAckReason::QuotaExceeded.granted_qos(), None);
        assert_eq!(SubAckReason::QuotaExceeded.v3_code(), 0x80);
    }
}
