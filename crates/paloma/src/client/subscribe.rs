//! `paloma sub`.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use paloma_client::codec::{
    PacketId, PayloadFormat, Qos, RetainHandling, Subscribe, SubscribeFilter, SubscribeOptions,
    SubscriptionId, Unsubscribe,
};
use paloma_client::topic::{Target, TopicFilter};
use paloma_client::{Backoff, Client, Messages, Publication, Received, RequestError};
use tokio::signal::unix::{SignalKind, signal};

use super::connect::{Common, qos, user_properties};
use super::format::{Format, PayloadNotJson, Printed};
use super::property::Properties;
use super::{Failure, Talk, Usage, run};
use crate::cli::SubscribeArgs;

/// Subscribes and prints, as the arguments say.
pub(crate) fn subscribe(arguments: &SubscribeArgs, properties: Option<Properties>) -> ExitCode {
    let connect = &arguments.connect;
    let talk = Talk {
        is_debug: connect.debug,
        is_quiet: connect.quiet,
    };
    let common = Common::new(connect, properties);
    let job = common.and_then(|common| Job::new(arguments, common));
    match job {
        Ok(job) => run(talk, job.common.is_v5, job.run()),
        Err(usage) => {
            talk.error(&Failure::Usage(usage));
            ExitCode::FAILURE
        }
    }
}

/// What is to be done, with everything checked.
struct Job<'a> {
    arguments: &'a SubscribeArgs,
    common: Common,
    /// As they were written.
    topics: Vec<String>,
    filters: Vec<SubscribeFilter>,
    unsubscribe: Vec<Target>,
    filter_out: Vec<TopicFilter>,
    format: Format,
}

/// Whether to go on after a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    More,
    Enough,
}

impl<'a> Job<'a> {
    fn new(arguments: &'a SubscribeArgs, mut common: Common) -> Result<Self, Usage> {
        if arguments.retain_as_published && !common.is_v5 {
            return Err(Usage::NotInVersion("--retain-as-published"));
        }
        let options = SubscribeOptions {
            qos: qos(arguments.qos),
            no_local: false,
            retain_as_published: arguments.retain_as_published,
            retain_handling: RetainHandling::Send,
        };
        let target = |filter: &String| {
            Target::parse(filter.as_str()).map_err(|error| Usage::Filter(filter.clone(), error))
        };
        let topics: Vec<String> = arguments
            .topic
            .iter()
            .chain(&common.topic)
            .cloned()
            .collect();
        if topics.is_empty() && arguments.unsubscribe.is_empty() {
            return Err(Usage::NoTopic);
        }
        let filters = topics.iter().map(|filter| {
            let target = target(filter)?;
            Ok(SubscribeFilter { target, options })
        });
        let filter_out = arguments.filter_out.iter().map(|filter| {
            let parsed = TopicFilter::new(filter.as_str());
            parsed.map_err(|error| Usage::Filter(filter.clone(), error))
        });
        if arguments.count.is_some() {
            // What is put into the inbox is acknowledged: nothing may be that is not printed.
            common.options.inbox_max = 1;
        }
        common.options.reconnect = Some(Backoff::default());
        let plain = if arguments.verbose {
            Format::verbose()
        } else {
            Format::payload()
        };
        Ok(Self {
            filters: filters.collect::<Result<_, _>>()?,
            unsubscribe: arguments
                .unsubscribe
                .iter()
                .map(target)
                .collect::<Result<_, _>>()?,
            topics,
            filter_out: filter_out.collect::<Result<_, _>>()?,
            format: arguments.format.clone().unwrap_or(plain),
            arguments,
            common,
        })
    }

    async fn run(self) -> Result<(), Failure> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let (client, mut messages) = self.common.connect().await?;
        let timeout = self
            .arguments
            .timeout
            .map(|seconds| Duration::from_secs(seconds.into()));
        let outcome = tokio::select! {
            outcome = self.work(&client, &mut messages) => outcome,
            () = wait(timeout) => Err(Failure::TimedOut),
            _ = interrupt.recv() => Ok(()),
            _ = terminate.recv() => Ok(()),
        };
        self.common.disconnect(&client).await?;
        outcome
    }

    /// Subscribes, and prints meanwhile: messages may come before the answer.
    async fn work(&self, client: &Client, messages: &mut Messages) -> Result<(), Failure> {
        let mut printed = 0;
        {
            let mut requests = std::pin::pin!(self.requests(client));
            loop {
                tokio::select! {
                    biased;
                    message = messages.recv() => {
                        let next = self.take(message, client, &mut printed).await?;
                        if next == Next::Enough {
                            return Ok(());
                        }
                    }
                    outcome = &mut requests => {
                        outcome?;
                        break;
                    }
                }
            }
        }
        if self.arguments.exit_after_subscribing {
            return Ok(());
        }
        loop {
            let message = messages.recv().await;
            if self.take(message, client, &mut printed).await? == Next::Enough {
                return Ok(());
            }
        }
    }

    async fn requests(&self, client: &Client) -> Result<(), Failure> {
        if !self.filters.is_empty() {
            self.subscribe(client).await?;
        }
        if !self.unsubscribe.is_empty() {
            let user_properties = user_properties(&self.common.properties.unsubscribe_user)?;
            let mut packet = Unsubscribe::new(PacketId::MIN, self.unsubscribe.clone());
            packet.user_properties = user_properties;
            let ack = client.unsubscribe_with(packet).await;
            let ack = ack.map_err(|error| request_failure(error, client))?;
            self.common
                .talk
                .debug(format_args!("received UNSUBACK {:?}", ack.reasons));
        }
        Ok(())
    }

    async fn subscribe(&self, client: &Client) -> Result<(), Failure> {
        let properties = &self.common.properties;
        let mut packet = Subscribe::new(PacketId::MIN, self.filters.clone());
        packet.subscription_id = properties
            .subscription_id
            .and_then(|id| SubscriptionId::new(id.get()));
        packet.user_properties = user_properties(&properties.subscribe_user)?;
        let ack = client.subscribe_with(packet).await;
        let ack = ack.map_err(|error| request_failure(error, client))?;
        let mut is_any_granted = false;
        for (filter, reason) in self.topics.iter().zip(&ack.reasons) {
            let talk = self.common.talk;
            if reason.is_error() && !talk.is_quiet {
                eprintln!("Warning: the subscription to '{filter}' was refused: {reason}.");
            } else {
                talk.debug(format_args!("subscribed to '{filter}': {reason}"));
            }
            is_any_granted |= !reason.is_error();
        }
        match ack.reasons.first() {
            Some(first) if !is_any_granted => Err(Failure::AllRefused(*first)),
            Some(_) | None => Ok(()),
        }
    }

    /// Deals with one message, or with the end of the client.
    async fn take(
        &self,
        message: Option<Received>,
        client: &Client,
        printed: &mut u64,
    ) -> Result<Next, Failure> {
        let Some(message) = message else {
            return Err(Failure::of_ended(client));
        };
        debug_received(self.common.talk, &message);
        if self.arguments.retained_only && !message.retain {
            return Ok(Next::Enough);
        }
        if self
            .filter_out
            .iter()
            .any(|filter| filter.matches(message.topic.borrowed()))
        {
            return Ok(Next::More);
        }
        if self.arguments.remove_retained && message.retain && !message.payload.is_empty() {
            let clear = Publication::new(message.topic.clone(), "").with_retain(true);
            let clear = client.publish(clear.with_qos(Qos::AtLeastOnce)).await;
            // Leaving waits for the acknowledgement.
            drop(clear.map_err(Failure::Publish)?);
        }
        if self.arguments.no_retained && message.retain {
            return Ok(Next::More);
        }
        self.print(&message)?;
        *printed += 1;
        Ok(
            if self.arguments.count.is_some_and(|count| *printed >= count) {
                Next::Enough
            } else {
                Next::More
            },
        )
    }

    fn print(&self, message: &Received) -> io::Result<()> {
        let arguments = &self.arguments;
        // As mosquitto_sub does: an empty payload is nothing, unless a line says whose it is.
        let shows_empty = arguments.format.is_some() || arguments.verbose && !arguments.no_newline;
        if message.payload.is_empty() && !shows_empty {
            return Ok(());
        }
        let mut out = Vec::new();
        let written = self
            .format
            .write(&printable(message), SystemTime::now(), &mut out);
        if written == Err(PayloadNotJson) {
            if !self.common.talk.is_quiet {
                let topic = message.topic.as_str();
                eprintln!("Error: Message payload is not valid JSON on topic {topic}");
            }
            return Ok(());
        }
        if !self.arguments.no_newline {
            out.push(b'\n');
        }
        let mut stdout = io::stdout().lock();
        stdout.write_all(&out)?;
        stdout.flush()
    }
}

fn printable(message: &Received) -> Printed<'_> {
    let properties = &message.properties;
    Printed {
        topic: message.topic.as_str(),
        payload: &message.payload,
        qos: message.qos.bits(),
        retain: message.retain,
        id: message.id.map_or(0, PacketId::get),
        payload_format: (properties.payload_format == PayloadFormat::Utf8).then_some(1),
        expiry_seconds: properties.message_expiry_seconds,
        content_type: properties.content_type.as_deref(),
        response_topic: properties
            .response_topic
            .as_ref()
            .map(|topic| topic.as_str()),
        correlation_data: properties.correlation_data.as_deref(),
        subscription_ids: properties
            .subscription_ids
            .iter()
            .map(|id| id.get())
            .collect(),
        user_properties: properties.user_properties.iter().collect(),
    }
}

fn debug_received(talk: Talk, message: &Received) {
    talk.debug(format_args!(
        "received PUBLISH (d{}, q{}, r{}, m{}, '{}', ... ({} bytes))",
        u8::from(message.dup),
        message.qos.bits(),
        u8::from(message.retain),
        message.id.map_or(0, PacketId::get),
        message.topic.as_str(),
        message.payload.len()
    ));
}

/// A client that has ended says why.
fn request_failure(error: RequestError, client: &Client) -> Failure {
    match error {
        RequestError::Ended => Failure::of_ended(client),
        RequestError::Unsent(_) => Failure::Request(error),
    }
}

async fn wait(timeout: Option<Duration>) {
    match timeout {
        Some(timeout) => tokio::time::sleep(timeout).await,
        None => std::future::pending().await,
    }
}
