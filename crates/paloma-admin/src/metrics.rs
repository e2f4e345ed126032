//! A snapshot as text that Prometheus reads.

use std::fmt;

use paloma_broker::{CloseCause, DropCause, Histogram, Refusal};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use crate::source::Snapshot;

/// The media type of what [`encode`] writes.
pub(crate) const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Writes the snapshot in the OpenMetrics text format, which Prometheus reads. Counters end in `_total`; times are in
/// seconds and sizes in bytes; labels are causes, reasons and names of listeners, never clients, their addresses or topics.
#[must_use]
pub fn encode(snapshot: Snapshot) -> String {
    let mut registry = Registry::with_prefix("paloma");
    registry.register_collector(Box::new(Metrics(snapshot)));
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = text::encode(&mut out, &registry);
    out
}

#[derive(Debug)]
struct Metrics(Snapshot);

impl Collector for Metrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut writer = Writer(encoder);
        self.encode_build(&mut writer)?;
        self.encode_traffic(&mut writer)?;
        self.encode_connections(&mut writer)?;
        self.encode_certificates(&mut writer)?;
        self.encode_tables(&mut writer)?;
        self.encode_messages(&mut writer)?;
        let latency = Seconds(&self.0.statistics.latency);
        let help =
            "Time from a PUBLISH to its being written for one receiver, of one message in 16";
        latency.encode(writer.0.encode_descriptor(
            "publish_to_deliver",
            help,
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?)?;
        self.encode_store(&mut writer)
    }
}

impl Metrics {
    fn encode_build(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let labels = [
            ("node", self.0.node.as_str()),
            ("version", self.0.version.as_str()),
        ];
        let help = "The broker's name and version";
        let mut encoder = writer
            .0
            .encode_descriptor("build", help, None, MetricType::Info)?;
        encoder.encode_info(&labels)
    }

    fn encode_traffic(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let traffic = &self.0.statistics.traffic;
        writer.counter(
            "packets_received",
            "MQTT packets taken from connections",
            traffic.packets_received,
        )?;
        writer.counter(
            "packets_sent",
            "MQTT packets written for connections",
            traffic.packets_sent,
        )?;
        writer.bytes(
            "received",
            "Bytes of packets taken from connections",
            traffic.bytes_received,
        )?;
        writer.bytes(
            "sent",
            "Bytes of packets written for connections",
            traffic.bytes_sent,
        )?;
        writer.counter(
            "publish_received",
            "PUBLISH packets taken from clients",
            traffic.publish_received,
        )?;
        writer.counter(
            "publish_sent",
            "PUBLISH packets written, repeats included",
            traffic.publish_sent,
        )?;
        writer.bytes(
            "payload_received",
            "Payload bytes of PUBLISH packets taken from clients",
            traffic.publish_bytes_received,
        )?;
        writer.bytes(
            "payload_sent",
            "Payload bytes of PUBLISH packets written",
            traffic.publish_bytes_sent,
        )
    }

    fn encode_connections(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let traffic = &self.0.statistics.traffic;
        writer.counter(
            "connections_opened",
            "Connections that were opened",
            traffic.connections_opened,
        )?;
        writer.counter(
            "clients_accepted",
            "Clients that were let in",
            traffic.clients_accepted,
        )?;
        let closed = CloseCause::ALL.map(|cause| (cause.label().to_owned(), traffic.closed(cause)));
        let help = "Connections that ended, by cause";
        writer.family("connections_closed", help, "cause", closed)?;
        let refused = Refusal::ALL.map(|cause| (cause.label().to_owned(), traffic.refused(cause)));
        let listener = ("listener_full".to_owned(), self.0.listener_full);
        let help = "Connections closed before anything was read, by cause";
        let refused = refused.into_iter().chain([listener]);
        writer.family("connections_refused", help, "cause", refused)?;
        let reasons = traffic.connect_refused();
        let reasons = reasons.map(|(reason, count)| (reason.to_string().replace(' ', "_"), count));
        let help = "CONNECT packets answered with a refusal, by reason";
        writer.family("connect_refused", help, "reason", reasons)?;
        writer.counter(
            "sessions_expired",
            "Sessions that ended because their expiry passed",
            traffic.sessions_expired,
        )?;
        let help = "Times that accepting had to rest, for want of descriptors or memory";
        writer.counter("accept_errors", help, self.0.accept_errors)?;
        let help = "Panics that ended one connection or one login";
        writer.counter("panics", help, self.0.panics)?;
        let help = "Connections that ended in the handshake of their transport";
        writer.counter("handshakes_failed", help, self.0.handshakes_failed)?;
        let help = "Records of what the broker takes in that ended before it did";
        writer.counter("records_ended", help, self.0.records_ended)?;
        let help = "Connections cut because their socket took nothing for too long";
        writer.counter("connections_stalled", help, self.0.stalled)
    }

    fn encode_certificates(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let certificates = &self.0.certificates;
        if certificates.is_empty() {
            return Ok(());
        }
        let help = "When a listener's own certificate expires, in seconds since 1970";
        let (name, unit) = ("tls_certificate_expiry_timestamp", Some(&Unit::Seconds));
        let gauge = MetricType::Gauge;
        let mut encoder = writer.0.encode_descriptor(name, help, unit, gauge)?;
        for (listener, expires_at) in certificates {
            let value = i64::try_from(*expires_at).unwrap_or(i64::MAX);
            let labels = [("listener", listener.as_str())];
            ConstGauge::new(value).encode(encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn encode_tables(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let tables = &self.0.statistics.tables;
        let queued = self.0.statistics.accounting.queued();
        let gauges = [
            ("connections", "Open connections", tables.connections as u64),
            (
                "clients_connected",
                "Clients that are let in and connected",
                tables.connected as u64,
            ),
            (
                "sessions",
                "Sessions, connected or not",
                tables.sessions as u64,
            ),
            (
                "subscriptions",
                "Subscriptions, those of share groups included",
                tables.subscriptions as u64,
            ),
            (
                "shared_subscriptions",
                "Memberships in share groups",
                tables.groups as u64,
            ),
            (
                "retained_messages",
                "Retained messages",
                tables.retained as u64,
            ),
            (
                "queued_messages",
                "Copies waiting or unacknowledged in sessions",
                queued,
            ),
            ("timers", "Timers armed", tables.timers as u64),
        ];
        for (name, help, value) in gauges {
            writer.gauge(name, help, None, value)?;
        }
        let bytes = Some(&Unit::Bytes);
        let help = "Bytes of retained messages";
        writer.gauge("retained", help, bytes, tables.retained_bytes)?;
        let help = "Bytes that wait for a commit of the store";
        writer.gauge("uncommitted", help, bytes, tables.uncommitted_bytes)
    }

    fn encode_messages(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let accounting = &self.0.statistics.accounting;
        let counters = [
            (
                "messages_published",
                "Messages from clients, wills included",
                accounting.published,
            ),
            (
                "messages_unmatched",
                "Of those, the ones that no subscription matched",
                accounting.unmatched,
            ),
            (
                "messages_refused",
                "Of those, the ones refused by the rules or a limit",
                accounting.refused,
            ),
            (
                "message_copies",
                "Copies made, one for each session that a message was for",
                accounting.copies,
            ),
            (
                "message_copies_delivered",
                "Copies written (QoS 0) or acknowledged (QoS 1 and 2)",
                accounting.delivered,
            ),
            (
                "retained_refused",
                "Retained messages refused because a limit was reached",
                accounting.retained_refused,
            ),
            (
                "memory_refused",
                "Publishes refused because memory_bytes_max was reached",
                accounting.memory_refused,
            ),
            (
                "store_refused",
                "Publishes refused or held back because the store was full",
                accounting.store_refused,
            ),
        ];
        for (name, help, value) in counters {
            writer.counter(name, help, value)?;
        }
        let dropped =
            DropCause::ALL.map(|cause| (cause.label().to_owned(), accounting.dropped(cause)));
        let help = "Copies that were not delivered, by reason";
        writer.family("message_copies_dropped", help, "reason", dropped)
    }
}

impl Metrics {
    fn encode_store(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let store = &self.0.statistics.store;
        let help = "Time that the store took for one commit of a group";
        let time = Seconds(&store.commit_time);
        writer.put("store_commit", help, Some(&Unit::Seconds), &time)?;
        let help = "Turns' batches that were committed";
        writer.counter("store_batches", help, store.batches)?;
        let help = "Changes that were committed";
        writer.counter("store_operations", help, store.operations)?;
        let help = "Bytes of messages and changes that the store was given";
        writer.bytes("store_given", help, store.bytes)?;
        let help = "Bytes that the store wrote to its files";
        writer.bytes("store_written", help, store.usage.written_bytes)?;
        let help = "Messages that were wanted and are damaged in the store";
        writer.counter("store_unreadable", help, store.usage.unreadable)?;
        let gauges = [
            (
                "store_group_max",
                "Batches in the largest commit so far",
                store.group_max,
            ),
            (
                "store_messages",
                "Messages that the store holds for queues",
                store.usage.messages,
            ),
            (
                "store_entries",
                "Entries of queues that the store holds",
                store.usage.entries,
            ),
            (
                "store_full",
                "1 while the store takes nothing that is to be kept",
                u64::from(store.is_full),
            ),
        ];
        for (name, help, value) in gauges {
            writer.gauge(name, help, None, value)?;
        }
        let (help, bytes) = ("Bytes of the store's files", Some(&Unit::Bytes));
        writer.gauge("store_file", help, bytes, store.usage.file_bytes)
    }
}

struct Writer<'a>(DescriptorEncoder<'a>);

impl Writer<'_> {
    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.put(name, help, None, &ConstCounter::new(value))
    }

    fn bytes(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.put(name, help, Some(&Unit::Bytes), &ConstCounter::new(value))
    }

    fn gauge(&mut self, name: &str, help: &str, unit: Option<&Unit>, value: u64) -> fmt::Result {
        // The library's gauges are signed; none of these comes near the end of the range.
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        self.put(name, help, unit, &ConstGauge::new(value))
    }

    fn family(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (String, u64)>,
    ) -> fmt::Result {
        let counter = MetricType::Counter;
        let mut encoder = self.0.encode_descriptor(name, help, None, counter)?;
        for (value, count) in values {
            let labels = [(label, value.as_str())];
            ConstCounter::new(count).encode(encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn put(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        metric: &impl EncodeMetric,
    ) -> fmt::Result {
        let kind = metric.metric_type();
        metric.encode(self.0.encode_descriptor(name, help, unit, kind)?)
    }
}

/// A histogram of nanoseconds, told in seconds.
struct Seconds<'a>(&'a Histogram);

impl EncodeMetric for Seconds<'_> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let bounds = Histogram::BOUNDS_NS.into_iter().map(seconds);
        let counts = self.0.counts().iter().copied();
        // The last bucket of the library's is the one without an end.
        let buckets: Vec<_> = bounds.chain([f64::INFINITY]).zip(counts).collect();
        let (sum, count) = (seconds(self.0.sum_ns()), self.0.count());
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a sum of seconds needs no more than 53 bits"
)]
fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}
