//! The broker's side of the control socket.

use std::io;
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use paloma_broker::TraceTarget;
use paloma_tokio::{Control, SocketFile, bind_unix};
use paloma_topic::TopicFilter;
use rustix::process::geteuid;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use super::{END_AFFECTED, END_FAILED, END_WELL, END_WRONG, say};
use crate::reload::{Rehearsed, Reloader};

/// Questions at a time; further ones wait.
const QUESTIONS_MAX: usize = 16;
/// Longest question, in bytes.
const QUESTION_BYTES_MAX: u64 = 16 * 1024;
/// Time for a question to come, and for a line of the answer to be taken.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// A control socket that is listened on.
#[derive(Debug)]
pub(crate) struct Bound {
    listener: StdListener,
    /// Goes with the broker.
    file: SocketFile,
}

/// Something that only whoever reloads the configuration can answer.
#[derive(Debug)]
pub(crate) struct Request {
    /// The configuration that might come into force.
    config: PathBuf,
    answer: oneshot::Sender<Rehearsed>,
}

impl Request {
    /// Answers it.
    pub(crate) fn answer(self, reloader: &Reloader) {
        // Whoever asked may have gone.
        drop(self.answer.send(reloader.rehearse(self.config)));
    }
}

/// Listens on the socket, which its owner alone may use.
///
/// # Errors
/// Somebody else listens there, or the file cannot be made.
pub(crate) fn bind(path: &Path) -> io::Result<Bound> {
    let bound = bind_unix(path, 0o600);
    let (listener, file) = bound.map_err(|error| {
        let message = format!(
            "cannot listen on {} ([admin] control): {error}",
            path.display()
        );
        io::Error::new(error.kind(), message)
    })?;
    Ok(Bound { listener, file })
}

/// Answers on the socket, as a task of the current runtime; gives the questions that the caller has to answer.
///
/// # Errors
/// The socket cannot be made the runtime's.
pub(crate) fn start(bound: Bound, control: Control) -> io::Result<mpsc::Receiver<Request>> {
    let listener = UnixListener::from_std(bound.listener)?;
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(accept(listener, bound.file, control, sender));
    Ok(receiver)
}

async fn accept(
    listener: UnixListener,
    _file: SocketFile,
    control: Control,
    requests: mpsc::Sender<Request>,
) {
    let places = Arc::new(Semaphore::new(QUESTIONS_MAX));
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (control, requests) = (control.clone(), requests.clone());
                tokio::spawn(async move {
                    // Whoever asked may have gone.
                    drop(answer(stream, &control, &requests).await);
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the control socket accepts nobody for a while");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn answer(
    mut stream: UnixStream,
    control: &Control,
    requests: &mpsc::Sender<Request>,
) -> io::Result<()> {
    // The file's mode keeps others out already; a directory that was moved or a mode that was changed must not let them in.
    let peer = stream.peer_cred()?.uid();
    if peer != 0 && peer != geteuid().as_raw() {
        return Ok(());
    }
    let mut line = String::new();
    let (read, _) = stream.split();
    let mut reader = BufReader::new(read.take(QUESTION_BYTES_MAX));
    timeout(WAIT_MAX, reader.read_line(&mut line)).await??;
    drop(reader);
    let Ok(question) = serde_json::from_str::<Value>(&line) else {
        return end(&mut stream, END_FAILED).await;
    };
    let text = |name: &str| question.get(name).and_then(Value::as_str);
    if let Some(config) = text("rehearse") {
        return rehearse(&mut stream, config.into(), requests).await;
    }
    if let (Some(client), Some(topic)) = (text("why"), text("topic")) {
        return why(&mut stream, control, (client, topic)).await;
    }
    let target = match (text("client"), text("topic")) {
        (Some(client), _) => Some(TraceTarget::Client(client.into())),
        (None, Some(topic)) => TopicFilter::new(topic).ok().map(TraceTarget::Topic),
        (None, None) => None,
    };
    let wants_payloads = question.get("payloads").and_then(Value::as_bool) == Some(true);
    match target {
        Some(target) => trace(stream, control, target, wants_payloads).await,
        None => {
            tell(&mut stream, "neither a client nor a sound filter").await?;
            end(&mut stream, END_FAILED).await
        }
    }
}

async fn rehearse(
    stream: &mut UnixStream,
    config: PathBuf,
    requests: &mpsc::Sender<Request>,
) -> io::Result<()> {
    let (answer, rehearsed) = oneshot::channel();
    let gone = |_| io::ErrorKind::BrokenPipe;
    let request = Request { config, answer };
    requests
        .send(request)
        .await
        .map_err(|_| io::ErrorKind::BrokenPipe)?;
    let rehearsed = rehearsed.await.map_err(gone)?;
    let (lines, code) = match rehearsed {
        Rehearsed::Wrong(lines) => (lines, END_WRONG),
        Rehearsed::Affected(lines) => (lines, END_AFFECTED),
        Rehearsed::Nobody(lines) => (lines, END_WELL),
    };
    for line in lines {
        tell(stream, &line).await?;
    }
    end(stream, code).await
}

/// Tells why a client gets what is published on a topic, or does not.
async fn why(
    stream: &mut UnixStream,
    control: &Control,
    (client, topic): (&str, &str),
) -> io::Result<()> {
    let Some(explanation) = control.explain(client, topic) else {
        tell(stream, "nothing can be published on such a topic").await?;
        return end(stream, END_FAILED).await;
    };
    for line in explanation.to_string().lines() {
        tell(stream, line).await?;
    }
    end(stream, END_WELL).await
}

/// Tells what happens until whoever asked has gone.
async fn trace(
    mut stream: UnixStream,
    control: &Control,
    target: TraceTarget,
    wants_payloads: bool,
) -> io::Result<()> {
    let Some(mut trace) = control.trace(target, wants_payloads) else {
        tell(&mut stream, "as many traces as there may be are under way").await?;
        return end(&mut stream, END_FAILED).await;
    };
    tell(&mut stream, "tracing").await?;
    let mut byte = [0; 1];
    loop {
        let traced = tokio::select! {
            traced = trace.next() => traced,
            // Nothing more is asked: what comes is the end.
            _ = stream.read(&mut byte) => return Ok(()),
        };
        let Some(traced) = traced else {
            return end(&mut stream, END_WELL).await;
        };
        tell(&mut stream, &say::traced(&traced, wants_payloads)).await?;
        let lost = trace.take_lost();
        if lost > 0 {
            tell(&mut stream, &format!("{lost} events were too many to tell")).await?;
        }
    }
}

async fn tell(stream: &mut UnixStream, text: &str) -> io::Result<()> {
    write(stream, &json!({ "say": text })).await
}

async fn end(stream: &mut UnixStream, code: u64) -> io::Result<()> {
    write(stream, &json!({ "end": code })).await
}

async fn write(stream: &mut UnixStream, line: &Value) -> io::Result<()> {
    let line = format!("{line}\n");
    timeout(WAIT_MAX, stream.write_all(line.as_bytes())).await?
}
