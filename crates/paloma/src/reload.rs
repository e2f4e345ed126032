//! SIGHUP: everything that can change while the broker runs is read again, and comes into force together or not at all.

#[cfg(feature = "control")]
mod rehearse;

use std::fmt::Display;
use std::io;

use paloma_tokio::{Control, ListenAddress, Listeners, Running};

#[cfg(feature = "control")]
pub(crate) use self::rehearse::Rehearsed;
use crate::auth::{Expulsions, Gatekeeper, Prepared};
use crate::cli::ConfigArgs;
use crate::config::Config;
use crate::few::Few;
use crate::listeners::{Wanted, announce, warn_of_certificates};
use crate::log::Log;

/// A broker that runs, and what it runs with.
#[derive(Debug)]
pub(crate) struct Reloader {
    arguments: ConfigArgs,
    /// In force; what needs a restart stays as it was at the start.
    config: Config,
    gatekeeper: Gatekeeper,
    log: Log,
    control: Control,
    listeners: Listeners,
    /// By the number under which each is open.
    open: Few<u16, Wanted>,
    /// For the next listener; none is used twice, since connections outlive their listener.
    next_number: u16,
}

/// What has to happen to the listeners.
#[derive(Debug, Default)]
struct Plan {
    /// Those that stay, each with what it is to be.
    kept: Few<u16, Wanted>,
    /// Those that are new, each with the open one whose address it has and whose socket it takes over, if there is one.
    added: Vec<(Wanted, Option<u16>)>,
    /// Open ones that nobody wants as they are, and whose address is needed.
    in_the_way: Vec<u16>,
    /// What is opened once those are closed, with nothing to take over.
    in_their_place: Vec<(Wanted, Option<u16>)>,
}

/// Listeners of which those that are new are bound.
#[derive(Debug, Default)]
struct Bound {
    open: Few<u16, Wanted>,
    /// Where those listen that were not open before.
    new: Vec<(&'static str, ListenAddress)>,
}

impl Reloader {
    pub(crate) fn new(
        arguments: &ConfigArgs,
        config: &Config,
        gatekeeper: Gatekeeper,
        log: Log,
        open: Vec<Wanted>,
        running: &Running,
    ) -> Self {
        let open: Few<u16, Wanted> = (0..).zip(open).collect();
        Self {
            arguments: arguments.clone(),
            config: config.clone(),
            gatekeeper,
            log,
            control: running.control(),
            listeners: running.listeners().clone(),
            next_number: open.keys().last().map_or(0, |last| last + 1),
            open,
        }
    }

    /// Reads everything again. What is wrong is logged, all of it, and then nothing has changed.
    pub(crate) async fn reload(&mut self) {
        let (config, security) = match crate::read_configuration(&self.arguments) {
            Ok(read) => read,
            Err(problems) => {
                for problem in &problems.0 {
                    tracing::error!("{problem}");
                }
                return stays("the configuration is wrong");
            }
        };
        let wanted = match Wanted::all(&config) {
            Ok(wanted) => wanted,
            Err(error) => return stays(error),
        };
        let prepared = match self.gatekeeper.prepare(security) {
            Ok(prepared) => prepared,
            Err(error) => return stays(error),
        };
        let plan = self.plan(wanted);
        let closed = plan.closed(&self.open);
        match self.bind_listeners(plan).await {
            Ok(bound) => self.switch_over(config, prepared, bound, closed).await,
            Err(error) => stays(error),
        }
    }

    /// The second half of a reload, in which nothing fails: rules before the listeners that need them.
    async fn switch_over(
        &mut self,
        config: Config,
        prepared: Prepared,
        bound: Bound,
        closed: Vec<u16>,
    ) {
        let Bound { open, new } = bound;
        prepared.warn(&config);
        warn_of_certificates(open.values());
        let doors = open.iter().map(|(number, wanted)| (*number, wanted.place));
        let expulsions = self.gatekeeper.apply(prepared, &doors.collect());
        self.control.rules_changed();
        self.control.set_limits(&config.limits);
        self.log.set_level(config.log_level);
        for (number, wanted) in &open {
            if let (Some(old), Some(new)) = (self.tls(*number), &wanted.listener.tls) {
                old.adopt(new);
            }
            self.listeners.rename(*number, &wanted.settings.name);
            self.listeners.accept(*number);
        }
        for number in closed {
            self.listeners.remove(number).await;
        }
        self.keep(open);
        let sent_away = self.send_away(&expulsions);
        if expulsions.concern_admissions {
            self.control.renew_admissions();
        }
        self.take_over(config);
        for (scheme, address) in new {
            announce(scheme, &address, &self.config.store);
        }
        tracing::info!(
            listeners = self.open.len(),
            sent_away,
            "SIGHUP: the configuration has been read again"
        );
    }

    fn plan(&self, wanted: Vec<Wanted>) -> Plan {
        Plan::new(&self.open, &self.listeners.addresses(), wanted)
    }

    fn tls(&self, number: u16) -> Option<&paloma_tokio::Tls> {
        self.open.get(&number)?.listener.tls.as_ref()
    }

    /// Binds what is new, which takes nobody in yet. If one cannot be bound, all are as before.
    async fn bind_listeners(&mut self, plan: Plan) -> io::Result<Bound> {
        let Plan {
            kept,
            added,
            in_the_way,
            in_their_place,
        } = plan;
        let replaced: Vec<u16> = added.iter().filter_map(|(_, from)| *from).collect();
        let mut bound = Bound::default();
        let mut outcome = self.bind_all(added, &mut bound);
        let mut closed = Vec::new();
        if outcome.is_ok() {
            for number in &in_the_way {
                self.listeners.remove(*number).await;
            }
            closed = in_the_way;
            outcome = self.bind_all(in_their_place, &mut bound);
        }
        if let Err(error) = outcome {
            self.undo(bound, closed).await;
            return Err(error);
        }
        // Who comes from here on waits for the new rules.
        for number in replaced {
            self.listeners.remove(number).await;
        }
        bound.open.extend(kept);
        Ok(bound)
    }

    /// Binds these; when one cannot be bound, those before it are.
    fn bind_all(
        &mut self,
        wanted: Vec<(Wanted, Option<u16>)>,
        bound: &mut Bound,
    ) -> io::Result<()> {
        for (wanted, from) in wanted {
            let number = self.next_number;
            let exhausted = || io::Error::other("no numbers for listeners are left: restart");
            self.next_number = number.checked_add(1).ok_or_else(exhausted)?;
            let listener = wanted.listener.clone();
            let address = match from {
                Some(from) => self.listeners.take_over(from, number, listener)?,
                None => self.listeners.bind(number, listener)?,
            };
            bound.new.push((wanted.scheme(), address));
            bound.open.insert(number, wanted);
        }
        Ok(())
    }

    async fn undo(&mut self, bound: Bound, closed: Vec<u16>) {
        for (number, _) in bound.open {
            self.listeners.remove(number).await;
        }
        for number in closed {
            if let Some(wanted) = self.open.get(&number)
                && let Err(error) = self.listeners.add(number, wanted.listener.clone())
            {
                tracing::error!(%error, "a listener cannot be opened again until the next SIGHUP");
                // Or the next SIGHUP would keep it as one that is open.
                self.open.remove(&number);
            }
        }
    }

    /// Notes what is open. Listeners that stay keep the certificates that they were opened with, which have taken over
    /// what was loaded.
    fn keep(&mut self, mut open: Few<u16, Wanted>) {
        for (number, wanted) in open.entries_mut() {
            if let Some(tls) = self.tls(*number) {
                wanted.listener.tls = Some(tls.clone());
            }
        }
        self.open = open;
    }

    /// Ends the connections of clients who would not be let in any more.
    fn send_away(&self, expulsions: &Expulsions) -> usize {
        let clients = self.control.clients().into_iter();
        let expelled =
            clients.filter(|client| expulsions.concern(client.listener, &client.identity));
        expelled
            .filter(|client| self.control.disconnect(&client.client_id))
            .count()
    }

    /// Notes what is in force, and says what is not until the next start.
    fn take_over(&mut self, config: Config) {
        let old = &self.config;
        let (limits, old_limits) = (&config.limits, &old.limits);
        let changed = [
            ("node.name", config.node_name != old.node_name),
            ("node.threads", config.threads != old.threads),
            ("store", config.store != old.store),
            (
                "limits.store_bytes_max",
                limits.store_bytes_max != old_limits.store_bytes_max,
            ),
            (
                "behaviour",
                config.upgrade_outgoing_qos != old.upgrade_outgoing_qos
                    || config.check_retain_source != old.check_retain_source,
            ),
            (
                "sys.interval_seconds",
                config.sys_interval_seconds != old.sys_interval_seconds,
            ),
            ("admin.address, admin.control", config.admin != old.admin),
            ("record", config.record != old.record),
            ("log.format", config.log_format != old.log_format),
            (
                "limits.outbound_buffer_bytes_max",
                limits.outbound_buffer_bytes_max != old_limits.outbound_buffer_bytes_max,
            ),
            (
                "limits.stall_timeout_ms",
                limits.stall_timeout_ms != old_limits.stall_timeout_ms,
            ),
        ];
        for (key, _) in changed.iter().filter(|(_, has_changed)| *has_changed) {
            tracing::warn!(key, "SIGHUP: this takes a restart");
        }
        // Compared with the start each time, so that it is said until it is done.
        self.config.log_level = config.log_level;
    }
}

impl Plan {
    /// From what is open, and where each of it listens: port 0 was another there.
    fn new(
        open: &Few<u16, Wanted>,
        addresses: &[(u16, ListenAddress)],
        wanted: Vec<Wanted>,
    ) -> Self {
        let mut left: Vec<&(u16, Wanted)> = open.iter().collect();
        let mut plan = Self::default();
        let mut unserved = Vec::new();
        for wanted in wanted {
            if let Some(at) = left.iter().position(|(_, open)| wanted.is_served_by(open)) {
                let (number, _) = *left.remove(at);
                plan.kept.insert(number, wanted);
            } else {
                unserved.push(wanted);
            }
        }
        let mut homeless = Vec::new();
        for wanted in unserved {
            let has_its_address = |(number, open): &&(u16, Wanted)| {
                let place = addresses.iter().find(|(other, _)| other == number);
                let address = &wanted.listener.address;
                place.is_some_and(|(_, place)| place == address)
                    || open.listener.address == *address
            };
            if let Some(at) = left.iter().position(has_its_address) {
                plan.added.push((wanted, Some(left.remove(at).0)));
            } else {
                homeless.push(wanted);
            }
        }
        for wanted in homeless {
            let is_left = |number: &u16| left.iter().any(|(open, _)| open == number);
            let before = addresses
                .iter()
                .filter(|(number, address)| is_left(number) && wanted.excludes(address));
            let before: Vec<u16> = before.map(|(number, _)| *number).collect();
            if before.is_empty() {
                plan.added.push((wanted, None));
            } else {
                for number in before {
                    if !plan.in_the_way.contains(&number) {
                        plan.in_the_way.push(number);
                    }
                }
                plan.in_their_place.push((wanted, None));
            }
        }
        plan
    }

    /// Those of the open ones that nobody wants any more.
    fn closed(&self, open: &Few<u16, Wanted>) -> Vec<u16> {
        let is_replaced = |number| self.added.iter().any(|(_, from)| *from == Some(number));
        let is_closed = |number: &u16| {
            !self.kept.contains_key(number)
                && !self.in_the_way.contains(number)
                && !is_replaced(*number)
        };
        open.keys().copied().filter(is_closed).collect()
    }
}

fn stays(reason: impl Display) {
    tracing::error!("SIGHUP: {reason}; everything stays as it was");
}
