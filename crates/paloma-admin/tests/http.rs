//! What a scraper sees, over a real socket.
#![expect(
    clippy::unwrap_used,
    reason = "what should not happen may panic in a test"
)]

use std::sync::Arc;

use paloma_admin::{Health, Snapshot, Source, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[derive(Debug)]
struct Fixed(Health);

impl Source for Fixed {
    fn snapshot(&self) -> Snapshot {
        Snapshot {
            node: "n\"1\n".to_owned(),
            version: "1.2.3".to_owned(),
            panics: 7,
            certificates: vec![
                ("house".to_owned(), 1_798_761_599),
                ("garden".to_owned(), 7),
            ],
            ..Snapshot::default()
        }
    }

    fn health(&self) -> Health {
        self.0
    }
}

async fn ask(health: Health, request: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut stream = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let server = tokio::spawn(serve(listener, Arc::new(Fixed(health))));
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A connection that is cut in the middle of a request is an answer too.
    let _ = stream.read_to_end(&mut answer).await;
    server.abort();
    String::from_utf8(answer).unwrap()
}

async fn check(health: Health, path: &str, status: u16, body: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let answer = ask(health, &request).await;
    let found = answer.split(' ').nth(1).map(str::parse::<u16>);
    assert_eq!(found, Some(Ok(status)), "{path} {health:?}: {answer}");
    assert!(answer.contains(body), "{path} {health:?}: {answer}");
}

#[tokio::test]
async fn health_and_readiness_follow_the_broker() {
    check(Health::Ready, "/healthz", 200, "ok").await;
    check(Health::NotReady, "/healthz", 200, "ok").await;
    check(Health::Failed, "/healthz", 503, "failed").await;
    check(Health::Ready, "/readyz", 200, "ready").await;
    check(Health::NotReady, "/readyz", 503, "not ready").await;
    check(Health::Failed, "/readyz", 503, "not ready").await;
    check(Health::Ready, "/", 404, "/metrics").await;
}

#[tokio::test]
async fn metrics_have_their_type_and_their_values() {
    let media = "content-type: application/openmetrics-text; version=1.0.0";
    check(Health::Ready, "/metrics", 200, media).await;
    let path = "/metrics?x=y";
    check(Health::Ready, path, 200, "\npaloma_panics_total 7\n").await;
    let name = "paloma_tls_certificate_expiry_timestamp_seconds";
    let kind = format!("\n# TYPE {name} gauge\n# UNIT {name} seconds\n");
    check(Health::Ready, path, 200, &kind).await;
    for (listener, expires_at) in [("house", 1_798_761_599), ("garden", 7)] {
        let line = format!("\n{name}{{listener=\"{listener}\"}} {expires_at}\n");
        check(Health::Ready, path, 200, &line).await;
    }
}

#[tokio::test]
async fn only_reading_is_allowed() {
    let answer = ask(
        Health::Ready,
        "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
}

#[tokio::test]
async fn a_header_above_the_bound_is_refused() {
    let long = "x".repeat(20_000);
    let answer = ask(Health::Ready, &format!("GET /{long} HTTP/1.1\r\n\r\n")).await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
        "{answer}"
    );
}

#[test]
fn every_metric_is_ours_has_help_and_ends_the_text() {
    let text = paloma_admin::encode(Fixed(Health::Ready).snapshot());
    assert!(text.ends_with("# EOF\n"), "{text}");
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        assert!(line.starts_with("paloma_"), "{line}");
    }
    let build = r#"paloma_build_info{node="n\"1\n",version="1.2.3"} 1"#;
    assert!(text.contains(build), "{text}");
    for name in [
        "paloma_received_bytes_total 0",
        "paloma_sent_bytes_total 0",
        "paloma_retained_bytes 0",
        "paloma_uncommitted_bytes 0",
        r#"paloma_message_copies_dropped_total{reason="queue_full"} 0"#,
        r#"paloma_connections_closed_total{cause="malformed"} 0"#,
        r#"paloma_connections_refused_total{cause="listener_full"} 0"#,
        r#"paloma_publish_to_deliver_seconds_bucket{le="0.001"} 0"#,
        r#"paloma_publish_to_deliver_seconds_bucket{le="+Inf"} 0"#,
        r#"paloma_store_commit_seconds_bucket{le="0.001"} 0"#,
        "paloma_store_commit_seconds_count 0",
        "paloma_store_written_bytes_total 0",
        "paloma_store_unreadable_total 0",
        "paloma_store_file_bytes 0",
        "paloma_store_full 0",
        "paloma_store_refused_total 0",
    ] {
        assert!(text.lines().any(|line| line == name), "{name} in {text}");
    }
    let helps = text.lines().filter(|line| line.starts_with("# HELP"));
    let types = text.lines().filter(|line| line.starts_with("# TYPE"));
    assert_eq!(helps.count(), types.count());
}
