//! The one task behind a client: connects, drives the connection, and connects again.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use paloma_codec::{
    ConnAck, DecodeLimits, Disconnect, DisconnectReason, Message, MessageParts, PubAckReason, Qos,
    ReceiveMaximum,
};
use paloma_session::{
    Connection, Event, Gate, Leftover, Options as SessionOptions, Outbound, Pushed, Session,
    Timeout, TimeoutReason, TransmitStatus,
};
use paloma_topic::TopicLimits;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::backoff::Waits;
use crate::client::{Command, State, Token};
use crate::clock::Clock;
use crate::connector::Connector;
use crate::error::{ConnectionError, PublishError};
use crate::link::Link;
use crate::message::{Publication, Received};
use crate::options::Options;
use crate::pending::{Pending, answer};

/// How long a PINGRESP may still take once the program takes messages again.
const GRACE: Duration = Duration::from_secs(5);

/// The task's ends of the channels to the handles.
#[derive(Debug)]
pub(crate) struct Ends {
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) stop: mpsc::Receiver<Disconnect>,
    pub(crate) inbox: mpsc::Sender<Received>,
    pub(crate) state: watch::Sender<State>,
}

#[derive(Debug)]
pub(crate) struct Task<C: Connector> {
    connector: C,
    options: Options,
    ends: Ends,
    clock: Clock,
    session: Session,
    pending: Pending,
    waits: Waits,
    next_message: u64,
    /// A message that waits for room in the queue; no command is taken meanwhile.
    held: Option<(Outbound, Token)>,
    /// The client is to leave, at the latest then.
    leaving: Option<(Disconnect, Instant)>,
    /// A PUBLISH waits for room in the inbox.
    is_inbox_full: bool,
    /// Before this, a missing PINGRESP may be the program's fault.
    ping_grace: Option<Instant>,
    scratch: Vec<u8>,
}

/// What woke the task.
enum Step {
    Stop(Option<Disconnect>),
    Command(Option<Command>),
    Stream(Result<(), ConnectionError>),
    Room,
    Timer,
}

impl<C: Connector> Task<C> {
    pub(crate) fn new(connector: C, options: Options, ends: Ends, seed: u64) -> Self {
        let mut session = Session::new(options.queue);
        if !options.connect.clean_start {
            // An earlier run of the program may have left a session at the broker.
            session.set_established();
        }
        Self {
            connector,
            waits: Waits::new(options.reconnect.unwrap_or_default(), seed),
            options,
            ends,
            clock: Clock::new(),
            session,
            pending: Pending::default(),
            next_message: 0,
            held: None,
            leaving: None,
            is_inbox_full: false,
            ping_grace: None,
            scratch: Vec::new(),
        }
    }

    /// Connects, and connects again, until told to leave or there is no point in it.
    pub(crate) async fn run(mut self, mut link: Option<Link<C::Stream>>) {
        let error = loop {
            let outcome = match link.take() {
                Some(link) => self.drive(link).await,
                None => match self.open_unless_stopped().await {
                    Ok(opened) => {
                        link = Some(opened);
                        continue;
                    }
                    Err(error) => error,
                },
            };
            let wait = match self.options.reconnect {
                Some(_) if outcome.may_pass() && self.leaving.is_none() => self.waits.next_wait(),
                Some(_) | None => None,
            };
            let Some(wait) = wait else {
                break outcome;
            };
            self.ends.state.send_replace(State::Waiting {
                error: outcome,
                wait,
            });
            if self.pause(wait).await {
                break ConnectionError::Requested;
            }
        };
        self.ends.state.send_replace(State::Ended(error));
    }

    /// One attempt to connect, within the connect timeout.
    pub(crate) async fn open(&mut self) -> Result<Link<C::Stream>, ConnectionError> {
        self.ends.state.send_replace(State::Connecting);
        let mut lost = Vec::new();
        let limits = DecodeLimits {
            packet_bytes_max: self.options.packet_bytes_max,
            topic: TopicLimits::STANDARD,
            ..DecodeLimits::UNLIMITED
        };
        let options = SessionOptions {
            in_flight_max: ReceiveMaximum::new(self.options.in_flight_max).unwrap_or_default(),
            ..SessionOptions::default()
        };
        let attempt = async {
            let stream = self.connector.connect().await?;
            let connect = &self.options.connect;
            let session = &mut self.session;
            let lost = |leftover| lost.push(leftover);
            let clock = &mut self.clock;
            Link::open(stream, connect, limits, options, clock, session, lost).await
        };
        let attempt = tokio::time::timeout(self.options.connect_timeout, attempt).await;
        let (mut link, conn_ack) = attempt.unwrap_or(Err(ConnectionError::TimedOut))?;
        self.connected(conn_ack, lost);
        self.pending
            .send_requests(&mut link.connection, &mut self.session);
        Ok(link)
    }

    async fn open_unless_stopped(&mut self) -> Result<Link<C::Stream>, ConnectionError> {
        // The borrow of the attempt is the whole task, so the end of the channel steps aside for it.
        let (_, nobody) = mpsc::channel(1);
        let mut stop = std::mem::replace(&mut self.ends.stop, nobody);
        let outcome = tokio::select! {
            outcome = self.open() => outcome,
            _ = stop.recv() => Err(ConnectionError::Requested),
        };
        self.ends.stop = stop;
        outcome
    }

    /// A CONNACK came: what it changes for later connections, and what is left of the old one.
    fn connected(&mut self, conn_ack: ConnAck, lost: Vec<Leftover>) {
        self.waits.reset();
        self.is_inbox_full = false;
        if let Some(id) = &conn_ack.assigned_client_id {
            self.options.connect.client_id = id.clone();
        }
        if !self.options.is_session_brief() {
            self.options.connect.clean_start = false;
        }
        if !conn_ack.session_present {
            self.queue_again(lost);
        }
        self.ends
            .state
            .send_replace(State::Connected(Arc::new(conn_ack)));
    }

    /// The broker has no session. QoS 1 may be sent twice, so what was in flight goes first again; a QoS 2 message that
    /// was sent may have been published, and is given up.
    fn queue_again(&mut self, lost: Vec<Leftover>) {
        let waiting = self.session.queue().iter();
        let mut queued: HashSet<_> = waiting.map(|outbound| outbound.message().id()).collect();
        for Leftover { outbound, .. } in lost.into_iter().rev() {
            if outbound.qos() != Qos::ExactlyOnce {
                queued.insert(outbound.message().id());
                self.session.put_back(outbound);
            }
        }
        self.pending
            .session_lost(|message| queued.contains(&message));
    }

    /// Drives an open connection to its end, and says why it ended.
    async fn drive(&mut self, mut link: Link<C::Stream>) -> ConnectionError {
        let error = loop {
            if let Err(error) = self.take_packets(&mut link) {
                break error;
            }
            if self.leave_if_done(&mut link) {
                let finish = link.wire.finish();
                drop(tokio::time::timeout(self.options.connect_timeout, finish).await);
                break ConnectionError::Requested;
            }
            match self.next_step(&mut link).await {
                Step::Stop(disconnect) => self.stop(disconnect.unwrap_or_default()),
                Step::Command(Some(command)) => self.take_command(command, Some(&mut link)),
                Step::Command(None) => self.stop(Disconnect::default()),
                Step::Stream(Ok(())) => {}
                Step::Stream(Err(error)) => break error,
                Step::Room => {
                    self.is_inbox_full = false;
                    self.ping_grace = Some(Instant::now() + GRACE);
                }
                Step::Timer => {
                    let timeout = link.connection.handle_timeout(self.clock.now().monotonic);
                    if timeout == Timeout::Expired {
                        break ConnectionError::KeepAlive;
                    }
                }
            }
        };
        self.tell_why(&error, &mut link).await;
        let _ = link.connection.handle_closed(&mut self.session);
        self.pending.connection_lost();
        error
    }

    /// Acts on every packet that is complete, as long as the inbox has room.
    fn take_packets(&mut self, link: &mut Link<C::Stream>) -> Result<(), ConnectionError> {
        while !self.is_inbox_full && link.connection.may_read() {
            let is_publish = link.wire.is_publish_next();
            let permit = self.ends.inbox.try_reserve();
            let is_full = matches!(permit, Err(mpsc::error::TrySendError::Full(())));
            if is_full && is_publish && self.leaving.is_none() {
                self.is_inbox_full = true;
                return Ok(());
            }
            // What comes while the client leaves is not acknowledged: a session gets it again.
            let is_kept = self.leaving.is_none();
            let permit = permit.ok().filter(|_| is_kept);
            let now = self.clock.now();
            let Some((packet, used)) = link.wire.next_packet()? else {
                return Ok(());
            };
            let event = link
                .connection
                .handle_packet(now, &mut self.session, packet, Gate::Open)
                .map_err(ConnectionError::Violation)?;
            if let Event::Publish(inbound) = event {
                if let Some(permit) = permit {
                    permit.send(Received::new(&inbound));
                }
                if let Some(receipt) = inbound.receipt.filter(|_| is_kept) {
                    let (session, success) = (&mut self.session, PubAckReason::Success);
                    link.connection
                        .acknowledge(session, receipt, success, Gate::Open);
                }
            } else {
                handle_event(event, &mut self.pending)?;
            }
            bytes::Buf::advance(&mut link.wire.input, used);
        }
        Ok(())
    }

    /// Hands bytes to the stream; once the client may leave, sends the DISCONNECT, and says so.
    fn leave_if_done(&mut self, link: &mut Link<C::Stream>) -> bool {
        if self.held.is_some() {
            self.push_held();
        }
        self.pending
            .send_requests(&mut link.connection, &mut self.session);
        if link.wire.is_written() {
            let _ = self.fill(link);
        }
        let Some((disconnect, deadline)) = &self.leaving else {
            return false;
        };
        let is_empty = self.session.queue().is_empty()
            && self.session.window().is_empty()
            && self.held.is_none();
        if !is_empty && Instant::now() < *deadline {
            return false;
        }
        link.connection.disconnect(disconnect);
        self.fill(link) == TransmitStatus::Close
    }

    fn fill(&mut self, link: &mut Link<C::Stream>) -> TransmitStatus {
        let pending = &mut self.pending;
        let filled = link.fill(self.clock.now(), &mut self.session, |dropped| {
            pending.transmitted(0, dropped);
        });
        pending.transmitted(filled.sent_qos0, &[]);
        filled.status
    }

    async fn next_step(&mut self, link: &mut Link<C::Stream>) -> Step {
        let timer = self.next_timer(&link.connection);
        let accepts = self.accepts_commands();
        let is_leaving = self.leaving.is_some();
        let may_read = !self.is_inbox_full && link.connection.may_read();
        let Ends {
            commands,
            stop,
            inbox,
            ..
        } = &mut self.ends;
        let others = async {
            tokio::select! {
                command = commands.recv(), if accepts => Step::Command(command),
                outcome = link.wire.step(may_read) => Step::Stream(outcome),
                _ = inbox.reserve(), if self.is_inbox_full => Step::Room,
                () = sleep_until(timer) => Step::Timer,
            }
        };
        tokio::select! {
            // First: no message is acknowledged for a program that takes no more.
            biased;
            disconnect = stop.recv(), if !is_leaving => Step::Stop(disconnect),
            step = others => step,
        }
    }

    fn next_timer(&self, connection: &Connection) -> Option<Instant> {
        let keep_alive = connection.poll_timeout().and_then(|(point, reason)| {
            let point = self.clock.instant(point);
            match (reason, self.ping_grace) {
                (TimeoutReason::PingResponse, _) if self.is_inbox_full => None,
                (TimeoutReason::PingResponse, Some(grace)) => Some(point.max(grace)),
                (TimeoutReason::PingResponse, None)
                | (TimeoutReason::PingDue | TimeoutReason::KeepAlive, _) => Some(point),
            }
        });
        let deadline = self.leaving.as_ref().map(|(_, deadline)| *deadline);
        keep_alive.into_iter().chain(deadline).min()
    }

    fn accepts_commands(&self) -> bool {
        let requests_max = self.options.requests_max;
        self.held.is_none() && self.leaving.is_none() && self.pending.requests() < requests_max
    }

    /// Waits before the next attempt, and takes commands meanwhile. Says whether the client is to end.
    async fn pause(&mut self, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        loop {
            let accepts = self.accepts_commands();
            let Ends { commands, stop, .. } = &mut self.ends;
            tokio::select! {
                () = tokio::time::sleep_until(until) => return false,
                _ = stop.recv() => return true,
                command = commands.recv(), if accepts => match command {
                    Some(command) => self.take_command(command, None),
                    None => return true,
                },
            }
        }
    }

    fn take_command(&mut self, command: Command, link: Option<&mut Link<C::Stream>>) {
        match command {
            Command::Publish { publication, token } => self.publish(&publication, token),
            Command::Request(request) => {
                self.pending.add_request(request);
                if let Some(link) = link {
                    self.pending
                        .send_requests(&mut link.connection, &mut self.session);
                }
            }
        }
    }

    fn publish(&mut self, publication: &Publication, token: Token) {
        self.next_message += 1;
        let parts = MessageParts {
            id: self.next_message,
            stamp: self.clock.now().wall.as_millis(),
            topic: publication.topic.borrowed(),
            properties: &publication.properties,
            payload: &publication.payload,
        };
        match Message::new(&parts, &mut self.scratch) {
            Ok(message) => {
                let outbound = Outbound::new(message, publication.qos);
                self.held = Some((outbound.with_retain(publication.retain), token));
                self.push_held();
            }
            Err(error) => answer(token, Err(PublishError::Invalid(error))),
        }
    }

    /// Queues the message that waits for room, if there is room.
    fn push_held(&mut self) {
        let Some((outbound, token)) = self.held.take() else {
            return;
        };
        if !self.session.has_room_for(&outbound) {
            if self.session.queue().is_empty() {
                answer(token, Err(PublishError::LargerThanQueue));
            } else {
                self.held = Some((outbound, token));
            }
            return;
        }
        self.pending
            .add_token(outbound.message(), outbound.qos(), token);
        match self.session.enqueue(outbound, &[], drop) {
            Pushed::Stored => {}
            Pushed::Full(outbound) => self
                .pending
                .acknowledged(outbound.message().id(), PubAckReason::QuotaExceeded),
        }
    }

    /// The client is to leave: nothing new is accepted, and what was accepted is still sent.
    fn stop(&mut self, disconnect: Disconnect) {
        let deadline = Instant::now() + self.options.connect_timeout;
        self.is_inbox_full = false;
        self.ends.commands.close();
        while self.held.is_none()
            && let Ok(command) = self.ends.commands.try_recv()
        {
            self.take_command(command, None);
        }
        self.leaving = Some((disconnect, deadline));
    }

    /// Tells the broker what it did wrong, as far as that can be written at once. [MQTT-4.13.1-1] [MQTT-4.12.1-2]
    async fn tell_why(&mut self, error: &ConnectionError, link: &mut Link<C::Stream>) {
        match error {
            ConnectionError::Invalid(error) => link.connection.handle_invalid(*error),
            ConnectionError::Violation(violation) => link.connection.abort(violation.reason()),
            ConnectionError::KeepAlive => {
                link.connection.abort(DisconnectReason::UnspecifiedError);
            }
            ConnectionError::AuthenticationAsked => {
                link.connection.abort(DisconnectReason::ProtocolError);
            }
            ConnectionError::Io(_)
            | ConnectionError::Closed
            | ConnectionError::TimedOut
            | ConnectionError::Refused { .. }
            | ConnectionError::Disconnected { .. }
            | ConnectionError::Options(_)
            | ConnectionError::Requested => return,
        }
        let _ = self.fill(link);
        drop(tokio::time::timeout(Duration::from_millis(100), link.wire.finish()).await);
    }
}

/// Acts on what needs neither the inbox nor the connection.
fn handle_event(event: Event<'_>, pending: &mut Pending) -> Result<(), ConnectionError> {
    match event {
        Event::Acknowledged {
            outbound, reason, ..
        } => {
            pending.acknowledged(outbound.message().id(), reason);
        }
        Event::Completed {
            message, reason, ..
        } => pending.completed(message, reason),
        Event::SubAck(ack) => pending.sub_ack(*ack),
        Event::UnsubAck(ack) => pending.unsub_ack(*ack),
        Event::Disconnect(disconnect) => return Err((*disconnect).into()),
        Event::Auth(_) => return Err(ConnectionError::AuthenticationAsked),
        Event::None
        | Event::Publish(_)
        | Event::Released(_)
        | Event::Received { .. }
        | Event::Subscribe(_)
        | Event::Unsubscribe(_) => {}
    }
    Ok(())
}

async fn sleep_until(point: Option<Instant>) {
    match point {
        Some(point) => tokio::time::sleep_until(point).await,
        None => std::future::pending().await,
    }
}
