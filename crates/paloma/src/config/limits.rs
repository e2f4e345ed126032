//! The keys of `[limits]`.

use paloma_broker::{Limits, QueueWhenFull};

use super::keys::{Key, put};
use super::problem::Fault;
use super::value::Value;
use crate::memory;

const PACKET_BYTES: u64 = 268_435_455;
const U16: u64 = 65_535;
const U32: u64 = 4_294_967_295;
const BYTES: u64 = 1 << 62;
const MILLISECONDS: u64 = 3_600_000;
/// Below this a store has no room for its own pages.
const STORE_BYTES_LEAST: u64 = 1_048_576;

const WHEN_FULL: &[(&str, QueueWhenFull)] = &[
    ("drop_newest", QueueWhenFull::DropNewest),
    ("drop_oldest", QueueWhenFull::DropOldest),
];

/// Each key has the name of the field that it sets, and its range is what the field can hold or the
/// standard allows. Zero is accepted only where the standard gives it a meaning of its own.
pub(super) const LIMITS: &[Key<Limits>] = &[
    limit("packet_bytes_max", |limits, value| {
        put(
            &mut limits.packet_bytes_max,
            value.number(1_024, PACKET_BYTES),
        )
    }),
    limit("connect_bytes_max", |limits, value| {
        put(
            &mut limits.connect_bytes_max,
            value.number(256, PACKET_BYTES),
        )
    }),
    limit("connect_timeout_ms", |limits, value| {
        put(
            &mut limits.connect_timeout_ms,
            value.number(100, MILLISECONDS),
        )
    }),
    limit("keep_alive_seconds_max", |limits, value| {
        put(&mut limits.keep_alive_seconds_max, value.number(1, U16))
    }),
    limit("keep_alive_enforce_v3", |limits, value| {
        put(&mut limits.keep_alive_enforce_v3, value.switch())
    }),
    limit("receive_maximum", |limits, value| {
        put(&mut limits.receive_maximum, value.number(1, U16))
    }),
    limit("inflight_max", |limits, value| {
        put(&mut limits.inflight_max, value.number(1, U16))
    }),
    limit("inflight_bytes_max", |limits, value| {
        put(
            &mut limits.inflight_bytes_max,
            value.number_or_unlimited(1_024, U32, u32::MAX),
        )
    }),
    limit("topic_alias_maximum", |limits, value| {
        put(&mut limits.topic_alias_maximum, value.number(0, U16))
    }),
    limit("topic_alias_bytes_max", |limits, value| {
        put(
            &mut limits.topic_alias_bytes_max,
            value.number_or_unlimited(1_024, U32, u32::MAX),
        )
    }),
    limit("client_id_bytes_max", |limits, value| {
        put(&mut limits.client_id_bytes_max, value.number(23, U16))
    }),
    limit("will_bytes_max", |limits, value| {
        put(&mut limits.will_bytes_max, value.number(1, U16))
    }),
    limit("user_properties_max", |limits, value| {
        put(
            &mut limits.user_properties_max,
            value.number_or_unlimited(1, U16, u16::MAX),
        )
    }),
    limit("user_properties_bytes_max", |limits, value| {
        put(
            &mut limits.user_properties_bytes_max,
            value.number_or_unlimited(1, PACKET_BYTES, u32::MAX),
        )
    }),
    limit("connections_max", |limits, value| {
        put(
            &mut limits.connections_max,
            value.number_or_unlimited(1, U32, u32::MAX),
        )
    }),
    limit("qos_max", |limits, value| {
        put(&mut limits.qos_max, value.number(0, 2))
    }),
    limit("retain_available", |limits, value| {
        put(&mut limits.retain_available, value.switch())
    }),
    limit("queue_messages_max", |limits, value| {
        put(
            &mut limits.queue_messages_max,
            value.number_or_unlimited(1, U32, u32::MAX),
        )
    }),
    limit("queue_bytes_max", |limits, value| {
        put(
            &mut limits.queue_bytes_max,
            value.number_or_unlimited(1_024, U32, u32::MAX),
        )
    }),
    limit("queue_qos0", |limits, value| {
        put(&mut limits.queue_qos0, value.switch())
    }),
    limit("queue_when_full", |limits, value| {
        put(&mut limits.queue_when_full, value.choice(WHEN_FULL))
    }),
    limit("queue_memory_messages_max", |limits, value| {
        put(
            &mut limits.queue_memory_messages_max,
            value.number_or_unlimited(1, U32, u32::MAX),
        )
    }),
    limit("session_expiry_seconds_max", |limits, value| {
        put(
            &mut limits.session_expiry_seconds_max,
            value.number_or_unlimited(1, U32 - 1, u32::MAX),
        )
    }),
    limit("sessions_max", |limits, value| {
        put(
            &mut limits.sessions_max,
            value.number_or_unlimited(1, U32, u32::MAX),
        )
    }),
    limit("subscriptions_per_client_max", |limits, value| {
        put(
            &mut limits.subscriptions_per_client_max,
            value.number_or_unlimited(1, U32, u32::MAX),
        )
    }),
    limit("wildcard_levels_per_client_max", |limits, value| {
        put(
            &mut limits.wildcard_levels_per_client_max,
            value.number_or_unlimited(1, U32, u32::MAX),
        )
    }),
    limit("filters_per_subscribe_max", |limits, value| {
        put(
            &mut limits.filters_per_subscribe_max,
            value.number_or_unlimited(1, U16, u16::MAX),
        )
    }),
    limit("topic_levels_max", |limits, value| {
        put(
            &mut limits.topic_levels_max,
            value.number_or_unlimited(1, U16, u16::MAX),
        )
    }),
    limit("topic_bytes_max", |limits, value| {
        put(&mut limits.topic_bytes_max, value.number(1, U16))
    }),
    limit("retained_messages_max", |limits, value| {
        put(
            &mut limits.retained_messages_max,
            value.number_or_unlimited(1, U32, u32::MAX),
        )
    }),
    limit("retained_bytes_max", |limits, value| {
        put(
            &mut limits.retained_bytes_max,
            value.number_or_unlimited(1_024, BYTES, u64::MAX),
        )
    }),
    limit("outbound_buffer_bytes_max", |limits, value| {
        put(
            &mut limits.outbound_buffer_bytes_max,
            value.number(4_096, U32),
        )
    }),
    limit("stall_timeout_ms", |limits, value| {
        put(
            &mut limits.stall_timeout_ms,
            value.number(100, MILLISECONDS),
        )
    }),
    limit("will_delay_seconds_max", |limits, value| {
        put(
            &mut limits.will_delay_seconds_max,
            value.number_or_unlimited(1, U32, u32::MAX),
        )
    }),
    limit("connections_per_second_max", |limits, value| {
        put(
            &mut limits.connections_per_second_max,
            value.number_or_unlimited(1, U32, u32::MAX),
        )
    }),
    limit("connections_per_second_per_address_max", |limits, value| {
        put(
            &mut limits.connections_per_second_per_address_max,
            value.number_or_unlimited(1, U32, u32::MAX),
        )
    }),
    limit("rate_limit_loopback", |limits, value| {
        put(&mut limits.rate_limit_loopback, value.switch())
    }),
    limit("uncommitted_bytes_max", |limits, value| {
        put(
            &mut limits.uncommitted_bytes_max,
            value.number_or_unlimited(1_024, BYTES, u64::MAX),
        )
    }),
    limit("failed_logins_per_minute_max", |limits, value| {
        put(
            &mut limits.failed_logins_per_minute_max,
            value.number_or_unlimited(1, U32, u32::MAX),
        )
    }),
    limit("store_bytes_max", |limits, value| {
        put(
            &mut limits.store_bytes_max,
            value.number_or_unlimited(STORE_BYTES_LEAST, BYTES, u64::MAX),
        )
    }),
    // A file is written for machines of different sizes: it sets `memory_bytes_max` as a share.
    limit("memory_percent_max", |limits, value| {
        let percent = value.number_or_unlimited(1, 100, u64::MAX)?;
        limits.memory_bytes_max = memory::share(percent);
        Ok(())
    }),
];

const fn limit(
    name: &'static str,
    set: fn(&mut Limits, &Value<'_>) -> Result<(), Fault>,
) -> Key<Limits> {
    Key { name, set }
}
