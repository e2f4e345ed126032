//! What a decoder accepts, checked before anything is reserved.

use paloma_topic::TopicLimits;

/// Bounds on what a peer may send. Sizes are bytes on the wire.
///
/// The default is what a broker should allow strangers; [`DecodeLimits::UNLIMITED`] is the protocol's own
/// limits, for tools that read what they trust.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Largest packet, fixed header included. Default 2 MiB. Passing it is 0x95.
    pub packet_bytes_max: u32,
    /// Largest CONNECT, fixed header included. Default 64 KiB. Holds until a CONNECT was decoded; passing it is 0x95.
    pub connect_bytes_max: u32,
    /// Longest client identifier. Default 256. Passing it is 0x85.
    pub client_id_bytes_max: u16,
    /// Largest will payload. Default 32 KiB. Passing it is 0x95.
    pub will_payload_bytes_max: u16,
    /// Longest and deepest topic name and filter. Passing it is 0x90 and 0x8F.
    pub topic: TopicLimits,
    /// Most user properties in one packet; a will has a share of its own. Default 64. Passing it is 0x97.
    pub user_properties_max: u32,
    /// Most bytes of user properties in one packet, as encoded. Default 16 KiB. Passing it is 0x97.
    pub user_properties_bytes_max: u32,
    /// Most filters of a SUBSCRIBE that are stored. Default 1,024. Filters above it are counted in
    /// [`Subscribe::filters_excess`](crate::Subscribe::filters_excess) and owed 0x97 each.
    pub filters_per_subscribe_max: u32,
    /// Most filters in an UNSUBSCRIBE. Default 10,000, the subscriptions one client may have. Passing it is 0x97.
    pub filters_per_unsubscribe_max: u32,
}

impl DecodeLimits {
    /// Nothing but the limits of the protocol itself.
    pub const UNLIMITED: Self = Self {
        packet_bytes_max: crate::PACKET_BYTES_MAX,
        connect_bytes_max: crate::PACKET_BYTES_MAX,
        client_id_bytes_max: u16::MAX,
        will_payload_bytes_max: u16::MAX,
        topic: TopicLimits::STANDARD,
        user_properties_max: u32::MAX,
        user_properties_bytes_max: u32::MAX,
        filters_per_subscribe_max: u32::MAX,
        filters_per_unsubscribe_max: u32::MAX,
    };
}

impl Default for DecodeLimits {
    fn default() -> Self {
        Self {
            packet_bytes_max: 2 * 1024 * 1024,
            connect_bytes_max: 64 * 1024,
            client_id_bytes_max: 256,
            will_payload_bytes_max: 32 * 1024,
            topic: TopicLimits::DEFAULT,
            user_properties_max: 64,
            user_properties_bytes_max: 16 * 1024,
            filters_per_subscribe_max: 1024,
            filters_per_unsubscribe_max: 10_000,
        }
    }
}
