//! `paloma pub`.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::process::ExitCode;

use bytes::Bytes;
use paloma_client::codec::PACKET_BYTES_MAX;
use paloma_client::{Acknowledgement, Backoff, Client, Publication, PublishError};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

use super::connect::{Common, bytes, publish_properties, qos, topic_name};
use super::property::Properties;
use super::{Failure, Talk, Usage, acknowledged, run};
use crate::cli::PublishArgs;

/// Attempts in a row to find a broker that was lost before everything was published.
const ATTEMPTS_MAX: u32 = 5;

/// Messages whose acknowledgement is not looked at yet.
const UNSEEN_MAX: usize = 1_000;

/// Publishes what the arguments say.
pub(crate) fn publish(arguments: &PublishArgs, properties: Option<Properties>) -> ExitCode {
    let connect = &arguments.connect;
    let talk = Talk {
        is_debug: connect.debug,
        is_quiet: connect.quiet,
    };
    match Common::new(connect, properties) {
        Ok(common) => run(talk, common.is_v5, publish_all(arguments, common)),
        Err(usage) => {
            talk.error(&Failure::Usage(usage));
            ExitCode::FAILURE
        }
    }
}

async fn publish_all(arguments: &PublishArgs, mut common: Common) -> Result<(), Failure> {
    let topic = arguments.topic.as_ref().or(common.topic.as_ref());
    let topic = topic_name(topic.ok_or(Usage::NoTopic)?)?;
    let message = Publication {
        qos: qos(arguments.qos),
        retain: arguments.retain,
        properties: publish_properties(&common.properties.publish)?,
        ..Publication::new(topic, Bytes::new())
    };
    // Before connecting: a file that cannot be read is no reason to bother the broker.
    let payload = payload(arguments).await?;
    common.options.in_flight_max = arguments.max_inflight;
    common.options.reconnect = Some(Backoff {
        attempts_max: Some(ATTEMPTS_MAX),
        ..Backoff::default()
    });
    let (client, messages) = common.connect().await?;
    // A session that is resumed may bring messages; nobody here wants them.
    drop(messages);
    let mut publisher = Publisher {
        client: &client,
        talk: common.talk,
        unseen: VecDeque::new(),
    };
    match payload {
        Some(payload) => {
            for round in 0..arguments.repeat {
                if round > 0 {
                    tokio::time::sleep(arguments.repeat_delay).await;
                }
                let payload = payload.clone();
                publisher
                    .publish(Publication {
                        payload,
                        ..message.clone()
                    })
                    .await?;
            }
        }
        None => publish_lines(&mut publisher, &message).await?,
    }
    publisher.finish().await?;
    common.disconnect(&client).await
}

/// The one payload that is to be sent; none if each line of the standard input is one.
async fn payload(arguments: &PublishArgs) -> Result<Option<Bytes>, Failure> {
    if let Some(message) = &arguments.message {
        return Ok(Some(bytes(message)));
    }
    if let Some(path) = &arguments.file {
        return Ok(Some(read_file(path)?));
    }
    if arguments.stdin_line {
        return Ok(None);
    }
    if arguments.stdin_file {
        let mut payload = Vec::new();
        let limit = u64::from(PACKET_BYTES_MAX);
        tokio::io::stdin()
            .take(limit)
            .read_to_end(&mut payload)
            .await?;
        return Ok(Some(checked(payload)?));
    }
    Ok(Some(Bytes::new()))
}

fn read_file(path: &Path) -> Result<Bytes, Failure> {
    let context = |error: io::Error| {
        io::Error::new(
            error.kind(),
            format!("cannot read {}: {error}", path.display()),
        )
    };
    let mut payload = Vec::new();
    let file = File::open(path).map_err(context)?;
    file.take(u64::from(PACKET_BYTES_MAX))
        .read_to_end(&mut payload)
        .map_err(context)?;
    Ok(checked(payload)?)
}

/// A payload that was read up to the limit may be only a part.
fn checked(payload: Vec<u8>) -> Result<Bytes, Usage> {
    if payload.len() >= PACKET_BYTES_MAX as usize {
        return Err(Usage::TooLarge);
    }
    Ok(payload.into())
}

async fn publish_lines(
    publisher: &mut Publisher<'_>,
    message: &Publication,
) -> Result<(), Failure> {
    let mut input = BufReader::new(tokio::io::stdin());
    loop {
        let mut line = Vec::new();
        let limit = u64::from(PACKET_BYTES_MAX);
        if (&mut input)
            .take(limit)
            .read_until(b'\n', &mut line)
            .await?
            == 0
        {
            return Ok(());
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        let payload = checked(line)?;
        publisher
            .publish(Publication {
                payload,
                ..message.clone()
            })
            .await?;
    }
}

/// Publishes, and looks at the acknowledgements.
struct Publisher<'a> {
    client: &'a Client,
    talk: Talk,
    unseen: VecDeque<Acknowledgement>,
}

impl Publisher<'_> {
    async fn publish(&mut self, message: Publication) -> Result<(), Failure> {
        self.talk.debug(format_args!(
            "sending PUBLISH (q{}, r{}, '{}', ... ({} bytes))",
            message.qos.bits(),
            u8::from(message.retain),
            message.topic.as_str(),
            message.payload.len()
        ));
        let acknowledgement = self.client.publish(message).await;
        let acknowledgement = acknowledgement.map_err(|error| self.failure(error))?;
        self.unseen.push_back(acknowledgement);
        if self.unseen.len() >= UNSEEN_MAX {
            self.see_one().await?;
        }
        Ok(())
    }

    async fn finish(&mut self) -> Result<(), Failure> {
        while !self.unseen.is_empty() {
            self.see_one().await?;
        }
        Ok(())
    }

    async fn see_one(&mut self) -> Result<(), Failure> {
        let Some(acknowledgement) = self.unseen.pop_front() else {
            return Ok(());
        };
        let reason = acknowledgement.await.map_err(|error| self.failure(error))?;
        self.talk.debug(format_args!("{}", acknowledged(reason)));
        Ok(())
    }

    /// A client that has ended says why.
    fn failure(&self, error: PublishError) -> Failure {
        match error {
            PublishError::Ended => Failure::of_ended(self.client),
            PublishError::Refused(_)
            | PublishError::Unknown(_)
            | PublishError::Invalid(_)
            | PublishError::LargerThanQueue
            | PublishError::Dropped(_)
            | PublishError::SessionLost => Failure::Publish(error),
        }
    }
}
