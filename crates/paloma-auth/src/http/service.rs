//! The service behind a URL: what is posted to it, and the connections to it that are kept.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ureq_proto::BodyMode;
use ureq_proto::client::state::{Prepare, RecvBody, RecvResponse};
use ureq_proto::client::{Call, RecvBodyResult, RecvResponseResult, SendRequestResult};
use ureq_proto::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, USER_AGENT};
use ureq_proto::http::{HeaderValue, Request, Uri};

use super::dial::{Dialled, dial};
use super::tls::Tls;
use crate::{HttpHookConfig, HttpHookError};

/// Largest answer, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Largest head of an answer, in bytes.
const HEAD_BYTES_MAX: usize = 8 * 1024;
/// What is read at once, in bytes.
const READ_BYTES: usize = 4 * 1024;
/// Beside URL and token, what a request's head has at most, in bytes.
const HEAD_BYTES_MORE: usize = 512;
/// How long a connection without requests is of use; services close theirs after some time.
const IDLE_MAX: Duration = Duration::from_secs(15);
const AGENT: &str = concat!("paloma/", env!("CARGO_PKG_VERSION"));

/// Posts questions, on connections that are kept for the next one where the service lets them live.
pub(super) struct Service {
    uri: Uri,
    host: String,
    port: u16,
    tls: Option<Tls>,
    authorization: Option<HeaderValue>,
    idle: Mutex<Vec<Idle>>,
    idle_max: usize,
}

struct Idle {
    connection: Box<dyn Dialled>,
    since: Instant,
}

/// What a service says.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

impl Service {
    /// # Errors
    /// A URL, a token or roots that no service could be asked with.
    pub(super) fn new(config: &HttpHookConfig) -> Result<Self, HttpHookError> {
        let uri: Uri = config.url.parse().map_err(|_| HttpHookError::Url)?;
        let (is_https, port) = match uri.scheme_str() {
            Some("http") => (false, 80),
            Some("https") if cfg!(feature = "https") => (true, 443),
            Some(_) | None => return Err(HttpHookError::Url),
        };
        let host = uri.host().filter(|host| !host.is_empty());
        let host = host.ok_or(HttpHookError::Url)?;
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let authorization = config.bearer_token.as_deref().map(authorization);
        let roots = config.roots.as_deref();
        // Roots have to be sound even where nobody needs them.
        let tls = (is_https || roots.is_some()).then(|| Tls::new(&host, roots));
        Ok(Self {
            port: uri.port_u16().unwrap_or(port),
            tls: tls.transpose()?.filter(|_| is_https),
            authorization: authorization.transpose()?,
            uri,
            host,
            idle: Mutex::default(),
            idle_max: config.requests_max,
        })
    }

    /// Whether the same certificates would vouch for it; without TLS none have to.
    pub(super) fn trusts_like(&self, other: &Self) -> bool {
        match (&self.tls, &other.tls) {
            (Some(tls), Some(other)) => tls.trusts_like(other),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        }
    }

    /// Asks, and waits for the whole answer until the deadline.
    ///
    /// # Errors
    /// No answer in time, or none that HTTP knows.
    pub(super) fn post(&self, question: &str, deadline: Instant) -> io::Result<Answer> {
        // A service may end a kept connection at the moment at which a question goes out on it. Nothing is wrong then with
        // either, so it is asked again, once, where nothing has been kept. It may have seen the question all the same:
        // these POSTs only ask, and asked twice they are answered as when asked once.
        let mut kept = self.kept_connection(deadline);
        loop {
            let is_kept = kept.is_some();
            let connection = match kept.take() {
                Some(connection) => connection,
                None => self.new_connection(deadline)?,
            };
            match self.ask(question, connection)? {
                Some(answer) => return Ok(answer),
                None if is_kept => {}
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }

    /// Asks on this connection; none if it ends before the first byte of an answer.
    fn ask(&self, question: &str, mut connection: Box<dyn Dialled>) -> io::Result<Option<Answer>> {
        let call = self.call(question).map_err(io::Error::other)?;
        let mut line = Line {
            connection: &mut *connection,
            unread: Vec::new(),
            has_heard: false,
        };
        match line.exchange(call, self.head_bytes_max(), question) {
            Ok((answer, may_live)) => {
                if may_live {
                    self.keep(connection);
                }
                Ok(Some(answer))
            }
            Err(error) if !line.has_heard && is_end(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn call(&self, question: &str) -> Result<Call<Prepare>, ureq_proto::Error> {
        let mut request = Request::post(&self.uri)
            .header(CONTENT_TYPE, "application/json")
            .header(CONTENT_LENGTH, question.len())
            .header(USER_AGENT, AGENT);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(());
        Call::new(request.map_err(|error| ureq_proto::Error::BadHeader(error.to_string()))?)
    }

    /// The URL may be in it twice, in the line and as a user with a password.
    fn head_bytes_max(&self) -> usize {
        let token = self.authorization.as_ref().map_or(0, HeaderValue::len);
        HEAD_BYTES_MORE + 3 * self.uri.to_string().len() + token
    }

    /// One that is kept and that the service has not closed.
    fn kept_connection(&self, deadline: Instant) -> Option<Box<dyn Dialled>> {
        while let Some(mut connection) = self.kept() {
            if connection.tcp().is_idle() {
                connection.tcp().set_deadline(deadline);
                return Some(connection);
            }
        }
        None
    }

    fn new_connection(&self, deadline: Instant) -> io::Result<Box<dyn Dialled>> {
        let tcp = dial(&self.host, self.port, deadline)?;
        match &self.tls {
            None => Ok(Box::new(tcp)),
            Some(tls) => tls.wrap(tcp),
        }
    }

    fn kept(&self) -> Option<Box<dyn Dialled>> {
        self.idle().pop().map(|idle| idle.connection)
    }

    fn keep(&self, connection: Box<dyn Dialled>) {
        let now = Instant::now();
        let mut idle = self.idle();
        idle.retain(|idle| now.saturating_duration_since(idle.since) < IDLE_MAX);
        if idle.len() < self.idle_max {
            idle.push(Idle {
                connection,
                since: now,
            });
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        // No code of others runs under the lock.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A header that no log shows.
fn authorization(token: &str) -> Result<HeaderValue, HttpHookError> {
    let value = HeaderValue::from_str(&format!("Bearer {token}"));
    let mut value = value.map_err(|_| HttpHookError::Token)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Whether this is how an end looks that the other side made.
fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
    )
}

/// A connection with a question on it.
struct Line<'a> {
    connection: &'a mut dyn Dialled,
    /// Has come, and is not taken yet.
    unread: Vec<u8>,
    /// Whether anything has come.
    has_heard: bool,
}

impl Line<'_> {
    /// Sends the question and reads the answer; says with it whether the connection may be used again.
    fn exchange(
        &mut self,
        call: Call<Prepare>,
        head_bytes_max: usize,
        question: &str,
    ) -> io::Result<(Answer, bool)> {
        let mut call = call.proceed();
        let mut out = vec![0; head_bytes_max];
        let length = call.write(&mut out).map_err(io::Error::other)?;
        out.truncate(length);
        // Together, so that the service has all of it at once.
        out.extend(question.as_bytes());
        self.connection.write_all(&out)?;
        self.connection.flush()?;
        let Some(SendRequestResult::SendBody(mut call)) =
            call.proceed().map_err(io::Error::other)?
        else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        call.consume_direct_write(question.len())
            .map_err(io::Error::other)?;
        let call = call.proceed().ok_or(io::ErrorKind::InvalidData)?;
        let (status, call) = self.head(call)?;
        let (body, may_live) = match call {
            RecvResponseResult::RecvBody(call) => self.body(call)?,
            RecvResponseResult::Cleanup(call) => (Vec::new(), !call.must_close_connection()),
            RecvResponseResult::Redirect(call) => (Vec::new(), !call.must_close_connection()),
        };
        // What nobody asked for belongs to no answer.
        let may_live = may_live && self.unread.is_empty();
        Ok((Answer { status, body }, may_live))
    }

    /// The status, and how it goes on.
    fn head(&mut self, mut call: Call<RecvResponse>) -> io::Result<(u16, RecvResponseResult)> {
        loop {
            let (used, answer) = call
                .try_response(&self.unread, false)
                .map_err(io::Error::other)?;
            if used.max(if answer.is_none() {
                self.unread.len()
            } else {
                0
            }) > HEAD_BYTES_MAX
            {
                return Err(io::ErrorKind::InvalidData.into());
            }
            self.unread.drain(..used);
            if let Some(answer) = answer {
                let call = call.proceed().ok_or(io::ErrorKind::InvalidData)?;
                return Ok((answer.status().as_u16(), call));
            }
            // Behind an interim answer there may be another one.
            if used == 0 && !self.more()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn body(&mut self, mut call: Call<RecvBody>) -> io::Result<(Vec<u8>, bool)> {
        let is_until_closed = call.body_mode() == BodyMode::CloseDelimited;
        let mut body = Vec::new();
        let mut part = [0; READ_BYTES];
        while is_until_closed || !call.can_proceed() {
            let (used, made) = call
                .read(&self.unread, &mut part)
                .map_err(io::Error::other)?;
            self.unread.drain(..used);
            body.extend(part.iter().take(made));
            if body.len() > ANSWER_BYTES_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if used == 0 && !self.more()? {
                if is_until_closed {
                    break;
                }
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let may_live = match call.proceed() {
            Some(RecvBodyResult::Cleanup(call)) => !call.must_close_connection(),
            Some(RecvBodyResult::Redirect(call)) => !call.must_close_connection(),
            None => false,
        };
        Ok((body, may_live))
    }

    /// Waits for bytes; `false` if no more will come.
    fn more(&mut self) -> io::Result<bool> {
        let mut part = [0; READ_BYTES];
        match self.connection.read(&mut part) {
            Ok(0) => Ok(false),
            Ok(length) => {
                self.has_heard = true;
                self.unread.extend(part.iter().take(length));
                Ok(true)
            }
            // A service behind TLS that goes without a word: what it said has to be whole by itself.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }
}
