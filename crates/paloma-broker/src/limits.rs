//! Every bound of the broker in one value.

/// What a full session queue does with the next QoS 1 or 2 message. QoS 0 gives way first under both policies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueueWhenFull {
    /// The arriving message is dropped and counted.
    #[default]
    DropNewest,
    /// The oldest message that has not been sent is dropped and counted. While the client is connected, QoS 2 messages that are next
    /// and have their packet ids, 64 at most, count as sent; in a queue of nothing else half of them do.
    DropOldest,
}

/// Bounds on everything a peer can make the broker hold or do. Each field is a key of the same name in the `[limits]`
/// section of the configuration file; `docs/limits.md` says what happens at each of them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Largest packet accepted, in bytes; announced as Maximum Packet Size. At most 268,435,455.
    pub packet_bytes_max: u32,
    /// Largest CONNECT, in bytes, before anybody has logged in.
    pub connect_bytes_max: u32,
    /// Time from accepting a connection to its full CONNECT, in milliseconds.
    pub connect_timeout_ms: u32,
    /// Longest keep alive a 5.0 client may have, in seconds; a longer one, or none, is replaced by Server Keep Alive.
    pub keep_alive_seconds_max: u16,
    /// Whether a 3.1.1 client that asked for a longer keep alive, or none, is held to the maximum too.
    pub keep_alive_enforce_v3: bool,
    /// QoS 1 and 2 messages that a 5.0 client may have unacknowledged towards the broker; announced.
    pub receive_maximum: u16,
    /// QoS 1 and 2 messages that the broker has unacknowledged towards one client.
    pub inflight_max: u16,
    /// Bytes of messages unacknowledged towards one client.
    pub inflight_bytes_max: u32,
    /// Largest topic alias accepted from a client; announced. 0 forbids aliases.
    pub topic_alias_maximum: u16,
    /// Bytes of topics behind one connection's inbound aliases.
    pub topic_alias_bytes_max: u32,
    /// Longest client id, in bytes.
    pub client_id_bytes_max: u16,
    /// Largest will payload, in bytes.
    pub will_bytes_max: u32,
    /// User properties in one packet.
    pub user_properties_max: u16,
    /// Bytes of user properties in one packet.
    pub user_properties_bytes_max: u32,
    /// Open connections.
    pub connections_max: u32,
    /// Highest QoS accepted in a PUBLISH: 0, 1 or 2; announced as Maximum QoS.
    pub qos_max: u8,
    /// Whether retained messages are accepted; announced as Retain Available.
    pub retain_available: bool,
    /// Messages waiting for one session.
    pub queue_messages_max: u32,
    /// Bytes of messages waiting for one session.
    pub queue_bytes_max: u32,
    /// Whether QoS 0 messages are queued for absent clients too.
    pub queue_qos0: bool,
    /// What a full queue does.
    pub queue_when_full: QueueWhenFull,
    /// Messages of a durable session's queue that are kept in memory; the rest is read from the store when its turn comes.
    pub queue_memory_messages_max: u32,
    /// Longest session expiry, in seconds; a longer one is capped and the cap announced.
    pub session_expiry_seconds_max: u32,
    /// Sessions, connected or not.
    pub sessions_max: u32,
    /// Subscriptions of one client.
    pub subscriptions_per_client_max: u32,
    /// Levels of one client's filters with wildcards, all taken together: what one match can cost because of it.
    pub wildcard_levels_per_client_max: u32,
    /// Filters in one SUBSCRIBE or UNSUBSCRIBE.
    pub filters_per_subscribe_max: u16,
    /// Levels of a topic or filter.
    pub topic_levels_max: u16,
    /// Bytes of a topic or filter.
    pub topic_bytes_max: u16,
    /// Retained messages in all.
    pub retained_messages_max: u32,
    /// Bytes of retained messages in all.
    pub retained_bytes_max: u64,
    /// Bytes encoded and waiting for one socket.
    pub outbound_buffer_bytes_max: u32,
    /// How long one socket's buffer may stay full before it is cut, in milliseconds.
    pub stall_timeout_ms: u32,
    /// Longest will delay, in seconds.
    pub will_delay_seconds_max: u32,
    /// New connections per second, in all.
    pub connections_per_second_max: u32,
    /// New connections per second from one address.
    pub connections_per_second_per_address_max: u32,
    /// Whether the connection rates hold for loopback addresses too.
    pub rate_limit_loopback: bool,
    /// Failed logins per minute, of one address, and of one user name at one address, before they are delayed. Kept by the
    /// authenticator.
    pub failed_logins_per_minute_max: u32,
    /// Bytes that the store's files may take. Above it the store is full: what would have to be stored is refused. Kept by the
    /// store.
    pub store_bytes_max: u64,
    /// Bytes that wait for a commit before publishers are no longer read. A quarter of what the store keeps in reserve: what was taken
    /// when its disk turns out to be full has to fit, on pages that are not full and beside what is to be deleted.
    pub uncommitted_bytes_max: u64,
    /// Bytes of memory in all, by [`Broker::memory_bytes`](crate::Broker::memory_bytes). Above it nothing new is published, and
    /// 5 % above it nobody new is let in; `u64::MAX` is unlimited.
    pub memory_bytes_max: u64,
}

impl Limits {
    /// Shows every bound to `each` by its name, as a number, and takes over what it makes of that; a number that is none of the
    /// bound's is not taken. For writing limits down and reading them again.
    pub fn visit(&mut self, each: &mut dyn FnMut(&'static str, &mut u64)) {
        self.visit_u32(each);
        visit_all(
            [
                ("keep_alive_seconds_max", &mut self.keep_alive_seconds_max),
                ("receive_maximum", &mut self.receive_maximum),
                ("inflight_max", &mut self.inflight_max),
                ("topic_alias_maximum", &mut self.topic_alias_maximum),
                ("client_id_bytes_max", &mut self.client_id_bytes_max),
                ("user_properties_max", &mut self.user_properties_max),
                (
                    "filters_per_subscribe_max",
                    &mut self.filters_per_subscribe_max,
                ),
                ("topic_levels_max", &mut self.topic_levels_max),
                ("topic_bytes_max", &mut self.topic_bytes_max),
            ],
            each,
        );
        visit_all(
            [
                ("retained_bytes_max", &mut self.retained_bytes_max),
                ("store_bytes_max", &mut self.store_bytes_max),
                ("uncommitted_bytes_max", &mut self.uncommitted_bytes_max),
                ("memory_bytes_max", &mut self.memory_bytes_max),
            ],
            each,
        );
        visit_all([("qos_max", &mut self.qos_max)], each);
        for (name, switch) in [
            ("keep_alive_enforce_v3", &mut self.keep_alive_enforce_v3),
            ("retain_available", &mut self.retain_available),
            ("queue_qos0", &mut self.queue_qos0),
            ("rate_limit_loopback", &mut self.rate_limit_loopback),
        ] {
            let mut number = u64::from(*switch);
            each(name, &mut number);
            *switch = number != 0;
        }
        let mut number = u64::from(self.queue_when_full == QueueWhenFull::DropOldest);
        each("queue_when_full", &mut number);
        self.queue_when_full = if number == 0 {
            QueueWhenFull::DropNewest
        } else {
            QueueWhenFull::DropOldest
        };
    }

    fn visit_u32(&mut self, each: &mut dyn FnMut(&'static str, &mut u64)) {
        visit_all(
            [
                ("packet_bytes_max", &mut self.packet_bytes_max),
                ("connect_bytes_max", &mut self.connect_bytes_max),
                ("connect_timeout_ms", &mut self.connect_timeout_ms),
                ("inflight_bytes_max", &mut self.inflight_bytes_max),
                ("topic_alias_bytes_max", &mut self.topic_alias_bytes_max),
                ("will_bytes_max", &mut self.will_bytes_max),
                (
                    "user_properties_bytes_max",
                    &mut self.user_properties_bytes_max,
                ),
                ("connections_max", &mut self.connections_max),
                ("queue_messages_max", &mut self.queue_messages_max),
                ("queue_bytes_max", &mut self.queue_bytes_max),
                (
                    "queue_memory_messages_max",
                    &mut self.queue_memory_messages_max,
                ),
                (
                    "session_expiry_seconds_max",
                    &mut self.session_expiry_seconds_max,
                ),
                ("sessions_max", &mut self.sessions_max),
                (
                    "subscriptions_per_client_max",
                    &mut self.subscriptions_per_client_max,
                ),
                (
                    "wildcard_levels_per_client_max",
                    &mut self.wildcard_levels_per_client_max,
                ),
                ("retained_messages_max", &mut self.retained_messages_max),
                (
                    "outbound_buffer_bytes_max",
                    &mut self.outbound_buffer_bytes_max,
                ),
                ("stall_timeout_ms", &mut self.stall_timeout_ms),
                ("will_delay_seconds_max", &mut self.will_delay_seconds_max),
                (
                    "connections_per_second_max",
                    &mut self.connections_per_second_max,
                ),
                (
                    "connections_per_second_per_address_max",
                    &mut self.connections_per_second_per_address_max,
                ),
                (
                    "failed_logins_per_minute_max",
                    &mut self.failed_logins_per_minute_max,
                ),
            ],
            each,
        );
    }
}

fn visit_all<T: Copy + Into<u64> + TryFrom<u64>, const N: usize>(
    bounds: [(&'static str, &mut T); N],
    each: &mut dyn FnMut(&'static str, &mut u64),
) {
    for (name, bound) in bounds {
        let mut number = (*bound).into();
        each(name, &mut number);
        if let Ok(read) = T::try_from(number) {
            *bound = read;
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            packet_bytes_max: 2_097_152,
            connect_bytes_max: 65_536,
            connect_timeout_ms: 10_000,
            keep_alive_seconds_max: 3_600,
            keep_alive_enforce_v3: false,
            receive_maximum: 32,
            inflight_max: 32,
            inflight_bytes_max: 1_048_576,
            topic_alias_maximum: 16,
            topic_alias_bytes_max: 65_536,
            client_id_bytes_max: 256,
            will_bytes_max: 32_768,
            user_properties_max: 64,
            user_properties_bytes_max: 16_384,
            connections_max: 10_000,
            qos_max: 2,
            retain_available: true,
            queue_messages_max: 1_000,
            queue_bytes_max: 8_388_608,
            queue_qos0: false,
            queue_when_full: QueueWhenFull::DropNewest,
            queue_memory_messages_max: 256,
            session_expiry_seconds_max: 2_592_000,
            sessions_max: 100_000,
            subscriptions_per_client_max: 10_000,
            wildcard_levels_per_client_max: 16_384,
            filters_per_subscribe_max: 1_024,
            topic_levels_max: 128,
            topic_bytes_max: 4_096,
            retained_messages_max: 100_000,
            retained_bytes_max: 268_435_456,
            outbound_buffer_bytes_max: 262_144,
            stall_timeout_ms: 30_000,
            will_delay_seconds_max: 3_600,
            connections_per_second_max: 1_000,
            connections_per_second_per_address_max: 100,
            rate_limit_loopback: false,
            failed_logins_per_minute_max: 10,
            store_bytes_max: 8_589_934_592,
            uncommitted_bytes_max: 16_777_216,
            memory_bytes_max: u64::MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bound_is_visited_and_comes_back() {
        let mut numbers = Vec::new();
        let mut written = Limits {
            qos_max: 1,
            queue_when_full: QueueWhenFull::DropOldest,
            queue_qos0: true,
            memory_bytes_max: 7,
            ..Limits::default()
        };
        let before = written.clone();
        written.visit(&mut |_, number| numbers.push(*number));
        assert_eq!(written, before, "being looked at changes nothing");
        let mut numbers = numbers.into_iter();
        let mut read = Limits::default();
        read.visit(&mut |_, number| *number = numbers.next().unwrap());
        assert_eq!(read, written);
        assert_eq!(numbers.next(), None);
    }

    #[test]
    fn no_bound_is_left_out() {
        let mut limits = Limits::default();
        let text = format!("{limits:?}");
        let mut count = 0;
        limits.visit(&mut |name, _| {
            assert!(text.contains(&format!(" {name}: ")), "{name}");
            count += 1;
        });
        assert_eq!(text.matches(": ").count(), count);
    }
}
