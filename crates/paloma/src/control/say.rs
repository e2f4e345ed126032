//! Traced events as lines of text. Names and topics are the peers' own words, so their debug form is printed.

use std::fmt::Write;
use std::time::SystemTime;

use paloma_broker::{Notice, TraceEvent, Traced, Verdict};

use crate::utc::Utc;

/// One event, with its time.
pub(super) fn traced(traced: &Traced, wants_payloads: bool) -> String {
    let mut line = Utc::new(SystemTime::now()).date_time();
    line.push('Z');
    // Writing to a string cannot fail.
    let _ = match &traced.client_id {
        Some(client) => write!(line, " client {:?}: ", &**client),
        None => write!(line, " the broker: "),
    };
    event(&mut line, &traced.event, wants_payloads);
    line
}

fn event(line: &mut String, event: &TraceEvent, wants_payloads: bool) {
    let _ = match event {
        TraceEvent::Notice(notice) => write!(line, "{}", notice_text(notice)),
        TraceEvent::Received { packet } => write!(line, "sent {packet}"),
        TraceEvent::Subscribed { filter, reason } => {
            write!(line, "subscribed to {:?}: {reason}", &**filter)
        }
        TraceEvent::Published {
            topic,
            qos,
            retain,
            payload_bytes,
            payload,
            verdict,
        } => {
            let retained = if *retain { ", to be retained" } else { "" };
            let verdict = match verdict {
                Verdict::Routed(1) => "for 1 session".to_owned(),
                Verdict::Routed(count) => format!("for {count} sessions"),
                Verdict::NotAuthorized => "refused: the rules forbid it".to_owned(),
                Verdict::QuotaExceeded => "refused: a limit is reached".to_owned(),
            };
            let payload = payload.as_ref().filter(|_| wants_payloads);
            let payload = payload.map_or_else(String::new, |payload| {
                format!(" {:?}", String::from_utf8_lossy(payload))
            });
            let qos = qos.bits();
            write!(
                line,
                "published {:?} (QoS {qos}, {payload_bytes} bytes{retained}){payload}: {verdict}",
                &**topic
            )
        }
        TraceEvent::Queued {
            topic,
            qos,
            is_in_store,
        } => {
            let place = if *is_in_store { " in the store" } else { "" };
            write!(
                line,
                "{:?} waits for it{place} (QoS {})",
                &**topic,
                qos.bits()
            )
        }
        TraceEvent::Dropped { topic, cause } => {
            write!(line, "{:?} does not reach it: {}", &**topic, cause.label())
        }
        TraceEvent::Acknowledged { topic } => write!(line, "has taken {:?}", &**topic),
        other => write!(line, "{other:?}"),
    };
}

fn notice_text(notice: &Notice) -> String {
    match notice {
        Notice::Connected {
            user,
            address,
            is_resumed,
            ..
        } => {
            let user = user.as_ref().map(|user| format!(" as {:?}", &**user));
            let address = address.map(|address| format!(" from {address}"));
            let resumed = if *is_resumed { ", to its session" } else { "" };
            let (user, address) = (user.unwrap_or_default(), address.unwrap_or_default());
            format!("connected{user}{address}{resumed}")
        }
        Notice::Disconnected {
            cause,
            offence: Some(offence),
            ..
        } => format!("disconnected: {cause}: {offence}"),
        Notice::Disconnected { cause, .. } => format!("disconnected: {cause}"),
        Notice::Refused { reason, .. } => format!("was refused: {reason}"),
        Notice::QueueFull { .. } => "its queue is full".to_owned(),
        Notice::RetainedFull { .. } => "retained messages have reached a limit".to_owned(),
        other @ (Notice::Unopened { .. } | _) => format!("{other:?}"),
    }
}
