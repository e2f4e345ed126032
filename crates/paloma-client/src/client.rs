//! The handle that a program holds.

use std::future::Future;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use paloma_codec::{
    ConnAck, Disconnect, PacketId, PubAckReason, SubAck, Subscribe, SubscribeFilter, UnsubAck,
    Unsubscribe,
};
use paloma_topic::Target;
use tokio::sync::{mpsc, oneshot, watch};

use crate::connector::{Connector, Tcp};
use crate::error::{ConnectionError, PublishError, RequestError};
use crate::message::{Publication, Received};
use crate::options::Options;
use crate::pending::Request;
use crate::task::{Ends, Task};

/// Commands that may wait for the task.
const COMMANDS_MAX: usize = 32;

/// A client. Clones share it; when the last is gone, it leaves in good order.
#[derive(Clone, Debug)]
pub struct Client {
    commands: mpsc::Sender<Command>,
    stop: mpsc::Sender<Disconnect>,
    state: watch::Receiver<State>,
}

/// The messages that come in. Once they are dropped, what comes is acknowledged and forgotten.
///
/// A message is acknowledged when it is put here. While this is full nothing is read from the broker, its
/// acknowledgements included: a program that waits for those has to take messages meanwhile.
#[derive(Debug)]
pub struct Messages {
    pub(crate) inbox: mpsc::Receiver<Received>,
}

/// What a client is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It opens a stream, or waits for the CONNACK.
    Connecting,
    /// It is connected; the broker's terms are in the CONNACK.
    Connected(Arc<ConnAck>),
    /// It lost its connection, or got none, and waits before it tries again.
    Waiting {
        /// Why.
        error: ConnectionError,
        /// How long.
        wait: Duration,
    },
    /// It has ended and will not try again.
    Ended(ConnectionError),
}

/// What became of a published message, once that is known.
///
/// At QoS 0 it is ready when the message is handed to the connection, at QoS 1 and 2 when the broker has acknowledged
/// it. It may be dropped; the message is published all the same.
#[derive(Debug)]
#[must_use = "nothing else says whether the broker took the message"]
pub struct Acknowledgement(oneshot::Receiver<Result<PubAckReason, PublishError>>);

/// What a handle asks of the task.
#[derive(Debug)]
pub(crate) enum Command {
    Publish {
        publication: Publication,
        token: Token,
    },
    Request(Request),
}

pub(crate) type Token = oneshot::Sender<Result<PubAckReason, PublishError>>;

impl Client {
    /// Connects to `host:port` by TCP.
    ///
    /// # Errors
    /// The first attempt failed. Later ones follow [`Options::reconnect`].
    pub async fn connect(
        address: impl Into<String>,
        options: Options,
    ) -> Result<(Self, Messages), ConnectionError> {
        Self::connect_with(Tcp::new(address), options).await
    }

    /// Connects over whatever `connector` makes.
    ///
    /// # Errors
    /// The first attempt failed. Later ones follow [`Options::reconnect`].
    pub async fn connect_with<C: Connector>(
        connector: C,
        options: Options,
    ) -> Result<(Self, Messages), ConnectionError> {
        let (client, messages, mut task) = Self::new(connector, options);
        let link = task.open().await?;
        drop(tokio::spawn(task.run(Some(link))));
        Ok((client, messages))
    }

    /// Starts a client that connects by itself, the first time too; [`Client::watch`] shows how it goes.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start<C: Connector>(connector: C, options: Options) -> (Self, Messages) {
        let (client, messages, task) = Self::new(connector, options);
        drop(tokio::spawn(task.run(None)));
        (client, messages)
    }

    fn new<C: Connector>(connector: C, options: Options) -> (Self, Messages, Task<C>) {
        let (commands, commands_end) = mpsc::channel(COMMANDS_MAX);
        let (stop, stop_end) = mpsc::channel(1);
        let (inbox_end, inbox) = mpsc::channel(options.inbox_max.max(1));
        let (state_end, state) = watch::channel(State::Connecting);
        let seed = RandomState::new().build_hasher().finish();
        let ends = Ends {
            commands: commands_end,
            stop: stop_end,
            inbox: inbox_end,
            state: state_end,
        };
        let task = Task::new(connector, options, ends, seed);
        (
            Self {
                commands,
                stop,
                state,
            },
            Messages { inbox },
            task,
        )
    }

    /// Publishes a message. Waits while the client holds as many as [`Options::queue`] allows; while there is no connection,
    /// what it holds waits for the next.
    ///
    /// # Errors
    /// [`PublishError::Ended`].
    pub async fn publish(&self, publication: Publication) -> Result<Acknowledgement, PublishError> {
        let (token, acknowledgement) = oneshot::channel();
        let command = Command::Publish { publication, token };
        self.commands
            .send(command)
            .await
            .map_err(|_| PublishError::Ended)?;
        Ok(Acknowledgement(acknowledgement))
    }

    /// Subscribes to all of these filters with one packet.
    ///
    /// A broker answers each filter by itself: look at the reasons, which are in the same order. Granted subscriptions are
    /// made again when the broker has lost the session.
    ///
    /// # Errors
    /// There is no answer. A connection that is lost meanwhile is none: the request is repeated.
    pub async fn subscribe(&self, filters: Vec<SubscribeFilter>) -> Result<SubAck, RequestError> {
        self.subscribe_with(Subscribe::new(PacketId::MIN, filters))
            .await
    }

    /// As [`Client::subscribe`], with properties. The packet's id is not used.
    ///
    /// # Errors
    /// As [`Client::subscribe`].
    pub async fn subscribe_with(&self, packet: Subscribe) -> Result<SubAck, RequestError> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Subscribe {
            packet,
            reply: Some(reply),
        };
        self.request(request).await?;
        answer.await.unwrap_or(Err(RequestError::Ended))
    }

    /// Ends these subscriptions. Before 5.0 the answer has no reasons.
    ///
    /// # Errors
    /// As [`Client::subscribe`].
    pub async fn unsubscribe(&self, targets: Vec<Target>) -> Result<UnsubAck, RequestError> {
        self.unsubscribe_with(Unsubscribe::new(PacketId::MIN, targets))
            .await
    }

    /// As [`Client::unsubscribe`], with properties. The packet's id is not used.
    ///
    /// # Errors
    /// As [`Client::subscribe`].
    pub async fn unsubscribe_with(&self, packet: Unsubscribe) -> Result<UnsubAck, RequestError> {
        let (reply, answer) = oneshot::channel();
        self.request(Request::Unsubscribe { packet, reply }).await?;
        answer.await.unwrap_or(Err(RequestError::Ended))
    }

    /// Leaves in good order: what was published is sent and acknowledged if that takes no longer than
    /// [`Options::connect_timeout`], then the DISCONNECT is sent. Returns when the client has ended.
    pub async fn disconnect(&self) {
        self.disconnect_with(Disconnect::default()).await;
    }

    /// As [`Client::disconnect`], with a reason and properties.
    pub async fn disconnect_with(&self, packet: Disconnect) {
        // A second one is too late to say anything.
        drop(self.stop.try_send(packet));
        let mut state = self.state.clone();
        // It fails only if the runtime has dropped the task.
        drop(
            state
                .wait_for(|state| matches!(state, State::Ended(_)))
                .await,
        );
    }

    /// What the client is doing at this moment.
    #[must_use]
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// Shows each change of [`Client::state`]; one that lasts too shortly may be missed.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    async fn request(&self, request: Request) -> Result<(), RequestError> {
        self.commands
            .send(Command::Request(request))
            .await
            .map_err(|_| RequestError::Ended)
    }
}

impl Messages {
    /// The next message; `None` once the client has ended and all are taken.
    pub async fn recv(&mut self) -> Option<Received> {
        self.inbox.recv().await
    }
}

impl Future for Acknowledgement {
    type Output = Result<PubAckReason, PublishError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = Pin::new(&mut self.0).poll(context);
        outcome.map(|outcome| outcome.unwrap_or(Err(PublishError::Ended)))
    }
}
