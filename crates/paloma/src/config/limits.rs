//! The keys of `[limits]`.

use super::Config;
use super::keys::{Key, put};
use super::problem::Fault;
use paloma_broker::QueueWhenFull;

const PACKET_BYTES: u64 = 268_435_455;
const U16: u64 = 65_535;
const U32: u64 = 4_294_967_295;
const BYTES: u64 = 1 << 62;
const MILLISECONDS: u64 = 3_600_000;

const WHEN_FULL: &[(&str, QueueWhenFull)] = &[
    ("drop_newest", QueueWhenFull::DropNewest),
    ("drop_oldest", QueueWhenFull::DropOldest),
];

/// Each key has the name of the field that it sets, and its range is what the field can hold or the
/// standard allows. Zero is accepted only where the standard gives it a meaning of its own.
pub(super) const LIMITS: &[Key<Config>] = &[
    Key {
        name: "packet_bytes_max",
        set: |config, value| {
            put(
                &mut config.limits.packet_bytes_max,
                value.number(1_024, PACKET_BYTES),
            )
        },
    },
    Key {
        name: "connect_bytes_max",
        set: |config, value| {
            put(
                &mut config.limits.connect_bytes_max,
                value.number(256, PACKET_BYTES),
            )
        },
    },
    Key {
        name: "connect_timeout_ms",
        set: |config, value| {
            put(
                &mut config.limits.connect_timeout_ms,
                value.number(100, MILLISECONDS),
            )
        },
    },
    Key {
        name: "keep_alive_seconds_max",
        set: |config, value| {
            put(
                &mut config.limits.keep_alive_seconds_max,
                value.number(1, U16),
            )
        },
    },
    Key {
        name: "keep_alive_enforce_v3",
        set: |config, value| put(&mut config.limits.keep_alive_enforce_v3, value.switch()),
    },
    Key {
        name: "receive_maximum",
        set: |config, value| put(&mut config.limits.receive_maximum, value.number(1, U16)),
    },
    Key {
        name: "inflight_max",
        set: |config, value| put(&mut config.limits.inflight_max, value.number(1, U16)),
    },
    Key {
        name: "inflight_bytes_max",
        set: |config, value| {
            put(
                &mut config.limits.inflight_bytes_max,
                value.number_or_unlimited(1_024, U32, u32::MAX),
            )
        },
    },
    Key {
        name: "topic_alias_maximum",
        set: |config, value| put(&mut config.limits.topic_alias_maximum, value.number(0, U16)),
    },
    Key {
        name: "topic_alias_bytes_max",
        set: |config, value| {
            put(
                &mut config.limits.topic_alias_bytes_max,
                value.number_or_unlimited(1_024, U32, u32::MAX),
            )
        },
    },
    Key {
        name: "client_id_bytes_max",
        set: |config, value| {
            put(
                &mut config.limits.client_id_bytes_max,
                value.number(23, U16),
            )
        },
    },
    Key {
        name: "will_bytes_max",
        set: |config, value| put(&mut config.limits.will_bytes_max, value.number(1, U16)),
    },
    Key {
        name: "user_properties_max",
        set: |config, value| {
            put(
                &mut config.limits.user_properties_max,
                value.number_or_unlimited(1, U16, u16::MAX),
            )
        },
    },
    Key {
        name: "user_properties_bytes_max",
        set: |config, value| {
            put(
                &mut config.limits.user_properties_bytes_max,
                value.number_or_unlimited(1, PACKET_BYTES, u32::MAX),
            )
        },
    },
    Key {
        name: "connections_max",
        set: |config, value| {
            put(
                &mut config.limits.connections_max,
                value.number_or_unlimited(1, U32, u32::MAX),
            )
        },
    },
    Key {
        name: "qos_max",
        set: |config, value| put(&mut config.limits.qos_max, value.number(0, 2)),
    },
    Key {
        name: "retain_available",
        set: |config, value| put(&mut config.limits.retain_available, value.switch()),
    },
    Key {
        name: "queue_messages_max",
        set: |config, value| {
            put(
                &mut config.limits.queue_messages_max,
                value.number_or_unlimited(1, U32, u32::MAX),
            )
        },
    },
    Key {
        name: "queue_bytes_max",
        set: |config, value| {
            put(
                &mut config.limits.queue_bytes_max,
                value.number_or_unlimited(1_024, U32, u32::MAX),
            )
        },
    },
    Key {
        name: "queue_qos0",
        set: |config, value| put(&mut config.limits.queue_qos0, value.switch()),
    },
    Key {
        name: "queue_when_full",
        set: |config, value| put(&mut config.limits.queue_when_full, value.choice(WHEN_FULL)),
    },
    Key {
        name: "queue_memory_messages_max",
        set: |config, value| {
            put(
                &mut config.limits.queue_memory_messages_max,
                value.number_or_unlimited(1, U32, u32::MAX),
            )
        },
    },
    Key {
        name: "session_expiry_seconds_max",
        set: |config, value| {
            put(
                &mut config.limits.session_expiry_seconds_max,
                value.number_or_unlimited(1, U32 - 1, u32::MAX),
            )
        },
    },
    Key {
        name: "sessions_max",
        set: |config, value| {
            put(
                &mut config.limits.sessions_max,
                value.number_or_unlimited(1, U32, u32::MAX),
            )
        },
    },
    Key {
        name: "subscriptions_per_client_max",
        set: |config, value| {
            put(
                &mut config.limits.subscriptions_per_client_max,
                value.number_or_unlimited(1, U32, u32::MAX),
            )
        },
    },
    Key {
        name: "filters_per_subscribe_max",
        set: |config, value| {
            put(
                &mut config.limits.filters_per_subscribe_max,
                value.number_or_unlimited(1, U16, u16::MAX),
            )
        },
    },
    Key {
        name: "topic_levels_max",
        set: |config, value| {
            put(
                &mut config.limits.topic_levels_max,
                value.number_or_unlimited(1, U16, u16::MAX),
            )
        },
    },
    Key {
        name: "topic_bytes_max",
        set: |config, value| put(&mut config.limits.topic_bytes_max, value.number(1, U16)),
    },
    Key {
        name: "retained_messages_max",
        set: |config, value| {
            put(
                &mut config.limits.retained_messages_max,
                value.number_or_unlimited(1, U32, u32::MAX),
            )
        },
    },
    Key {
        name: "retained_bytes_max",
        set: |config, value| {
            put(
                &mut config.limits.retained_bytes_max,
                value.number_or_unlimited(1_024, BYTES, u64::MAX),
            )
        },
    },
    Key {
        name: "outbound_buffer_bytes_max",
        set: |config, value| {
            put(
                &mut config.limits.outbound_buffer_bytes_max,
                value.number(4_096, U32),
            )
        },
    },
    Key {
        name: "stall_timeout_ms",
        set: |config, value| {
            put(
                &mut config.limits.stall_timeout_ms,
                value.number(100, MILLISECONDS),
            )
        },
    },
    Key {
        name: "will_delay_seconds_max",
        set: |config, value| {
            put(
                &mut config.limits.will_delay_seconds_max,
                value.number_or_unlimited(1, U32, u32::MAX),
            )
        },
    },
    Key {
        name: "connections_per_second_max",
        set: |config, value| {
            put(
                &mut config.limits.connections_per_second_max,
                value.number_or_unlimited(1, U32, u32::MAX),
            )
        },
    },
    Key {
        name: "connections_per_second_per_address_max",
        set: |config, value| {
            put(
                &mut config.limits.connections_per_second_per_address_max,
                value.number_or_unlimited(1, U32, u32::MAX),
            )
        },
    },
    Key {
        name: "rate_limit_loopback",
        set: |config, value| put(&mut config.limits.rate_limit_loopback, value.switch()),
    },
    Key {
        name: "uncommitted_bytes_max",
        set: |config, value| {
            put(
                &mut config.limits.uncommitted_bytes_max,
                value.number_or_unlimited(1_024, BYTES, u64::MAX),
            )
        },
    },
    Key {
        name: "failed_logins_per_minute_max",
        set: |_, value| not_yet(value.number_or_unlimited(1, U32, U32), "has no logins"),
    },
    Key {
        name: "store_bytes_max",
        set: |_, value| {
            not_yet(
                value.number_or_unlimited(1_024, BYTES, BYTES),
                "has no store",
            )
        },
    },
    Key {
        name: "memory_percent_max",
        set: |_, value| not_yet(value.number(1, 100), "does not watch the machine's memory"),
    },
];

fn not_yet(value: Result<u64, Fault>, instead: &'static str) -> Result<(), Fault> {
    value.and(Err(Fault::NotSupportedYet { instead }))
}
