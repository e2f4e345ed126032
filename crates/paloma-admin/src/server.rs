//! The HTTP side: few connections, small requests, short answers.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::metrics::{self, MEDIA_TYPE};
use crate::source::{Health, Source};

/// Connections at a time; further ones wait in the system's backlog.
const CONNECTIONS_MAX: usize = 16;

/// Longest that a connection lives, from its first byte to its last.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a request's header may take.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// Largest header of a request. hyper accepts nothing smaller.
const HEADER_BYTES_MAX: usize = 8 * 1024;

/// How long accepting rests when there is no descriptor for another connection.
const REST: Duration = Duration::from_millis(100);

/// Answers requests for as long as it is polled. Connections are tasks of their own on the current runtime.
pub async fn serve(listener: TcpListener, source: Arc<dyn Source>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // The semaphore is never closed, so a place always comes.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let source = Arc::clone(&source);
                tokio::spawn(async move {
                    // What a scraper does wrong is nobody else's business.
                    drop(timeout(CONNECTION_TIMEOUT, answer_all(stream, source)).await);
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "administration connection lost");
                sleep(REST).await;
            }
        }
    }
}

async fn answer_all(stream: TcpStream, source: Arc<dyn Source>) -> io::Result<()> {
    let service = service_fn(|request: Request<Incoming>| {
        let answer = answer(&request, &*source);
        async move { Ok::<_, Infallible>(answer) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .await
        .map_err(io::Error::other)
}

fn answer<B>(request: &Request<B>, source: &dyn Source) -> Response<Full<Bytes>> {
    let text = "text/plain; charset=utf-8";
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return response(
            StatusCode::METHOD_NOT_ALLOWED,
            text,
            "only GET\n".to_owned(),
        );
    }
    let said = |status, word: &str| response(status, text, format!("{word}\n"));
    match (request.uri().path(), source.health()) {
        ("/metrics", _) => {
            let body = metrics::encode(source.snapshot());
            response(StatusCode::OK, MEDIA_TYPE, body)
        }
        ("/healthz", Health::Failed) => said(StatusCode::SERVICE_UNAVAILABLE, "failed"),
        ("/healthz", Health::Ready | Health::NotReady) => said(StatusCode::OK, "ok"),
        ("/readyz", Health::Ready) => said(StatusCode::OK, "ready"),
        ("/readyz", Health::NotReady | Health::Failed) => {
            said(StatusCode::SERVICE_UNAVAILABLE, "not ready")
        }
        _ => said(
            StatusCode::NOT_FOUND,
            "there are /metrics, /healthz and /readyz",
        ),
    }
}

fn response(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let nosniff = HeaderValue::from_static("nosniff");
    headers.insert(X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}
