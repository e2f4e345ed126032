//! Retained messages: what storing them costs, what they take, and what replaying them to a new subscriber costs.

use std::io::Read;
use std::time::Instant;

use hdrhistogram::Histogram;

use crate::engine::{Growth, Load, Outcome, run};
use crate::error::LoadError;
use crate::frames::each_frame;
use crate::packet::{self, Qos, first_byte};
use crate::plan::Shape;
use crate::{probe, setup};

/// Stores one retained message on each topic of `load`, which must be of [`Shape::Store`], and waits for every
/// acknowledgement.
///
/// # Errors
/// As [`run`].
pub fn store(load: &Load) -> Result<Outcome, LoadError> {
    let Shape::Store { topics, publishers } = load.shape else {
        return Err(LoadError::Scenario("only a Store has retained messages"));
    };
    let before = load.pid.map(probe::memory_bytes).transpose()?;
    let mut load = load.clone();
    load.retain = true;
    load.qos = load.qos.max(Qos::AtLeastOnce);
    load.messages_max = Some(u64::from(
        topics.div_ceil(publishers.clamp(1, topics.max(1))),
    ));
    let mut outcome = run(&load)?;
    outcome.messages = outcome.sent;
    outcome.delivered = outcome.sent;
    let after = load.pid.map(probe::memory_bytes).transpose()?;
    let count = u64::from(topics);
    outcome.memory = before.zip(after).map(|(before, after)| Growth {
        before,
        after,
        count,
    });
    Ok(outcome)
}

/// Subscribes to everything that [`store`] stored and counts until all of it has arrived.
///
/// # Errors
/// If the connection fails, or nothing arrives for 30 s while some are missing.
pub fn replay(load: &Load) -> Result<Outcome, LoadError> {
    let Shape::Store { topics, .. } = load.shape else {
        return Err(LoadError::Scenario("only a Store has retained messages"));
    };
    let version = load.target.version;
    let mut link = setup::connect(&load.target, "replay")?.link;
    let cpu_before = load.pid.map(probe::cpu_time).transpose()?;
    let own_before = probe::own_cpu_time();
    let begin = Instant::now();
    let filter = ["load/retained/#".to_owned()];
    let subscribe = packet::subscribe(version, 1, &filter, Qos::AtMostOnce);
    setup::write(&mut link, &subscribe)?;
    let wanted = u64::from(topics);
    let mut delivered = 0;
    let mut input = vec![0; 256 * 1024];
    let mut kept = 0;
    while delivered < wanted {
        let free = input.get_mut(kept..).unwrap_or(&mut []);
        let read = link.read(free)?;
        if read == 0 {
            return Err(LoadError::Closed);
        }
        let filled = kept + read;
        let rest = each_frame(input.get(..filled).unwrap_or(&[]), |frame| {
            match frame.first & 0xF0 {
                first_byte::PUBLISH => delivered += 1,
                first_byte::SUBACK if frame.body.last().is_some_and(|code| *code < 3) => {}
                _ => return Err(LoadError::Protocol),
            }
            Ok(())
        })?;
        kept = rest.len();
        input.copy_within(filled - kept..filled, 0);
    }
    let span = begin.elapsed();
    let cpu_after = load.pid.map(probe::cpu_time).transpose()?;
    Ok(Outcome {
        span,
        messages: delivered,
        sent: wanted,
        delivered,
        lost: 0,
        repeated: delivered - wanted,
        broker_cpu: cpu_before
            .zip(cpu_after)
            .map(|(before, after)| after.saturating_sub(before)),
        broker_bytes: load.pid.map(probe::memory_bytes).transpose()?,
        own_cpu: probe::own_cpu_time().saturating_sub(own_before),
        threads: 1,
        latency: Histogram::new(3).map_err(|_| LoadError::Scenario("no histogram"))?,
        exchange: Histogram::new(3).map_err(|_| LoadError::Scenario("no histogram"))?,
        memory: None,
    })
}

/// Takes the stored messages back with empty retained ones, so that a broker is left as it was.
///
/// # Errors
/// If the connection fails.
pub fn clear(load: &Load) -> Result<(), LoadError> {
    let plans = load.shape.plans(&load.topic, 1)?;
    let mut link = setup::connect(&load.target, "clear")?.link;
    let topics = plans
        .iter()
        .flat_map(|plan| &plan.publishers)
        .flat_map(|p| &p.topics);
    let mut output = Vec::new();
    for topic in topics {
        output.extend(packet::publish(load.target.version, topic, Qos::AtMostOnce, true, 0).bytes);
    }
    output.extend_from_slice(&[first_byte::PINGREQ, 0]);
    setup::write(&mut link, &output)?;
    let mut answer = [0; 2];
    link.read_exact(&mut answer)?;
    Ok(())
}
