//! WebSocket clients: one by an independent library, and one that writes its bytes by hand.

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;

/// What a client says first.
pub(crate) const REQUEST: &str = "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Protocol: mqtt\r\n\r\n";

/// A client of the library's, as a stream of bytes: what is written goes out as one message.
pub(crate) async fn library<S>(stream: S) -> DuplexStream
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut request = "ws://localhost/mqtt".into_client_request().expect("a URL");
    let protocol = HeaderValue::from_static("mqtt");
    request
        .headers_mut()
        .insert("Sec-WebSocket-Protocol", protocol);
    let (mut socket, _) = client_async(request, stream)
        .await
        .expect("the broker agrees");
    let (ours, theirs) = duplex(1 << 16);
    tokio::spawn(async move {
        let mut ours = ours;
        let mut buffer = vec![0; 1 << 16];
        loop {
            tokio::select! {
                read = ours.read(&mut buffer) => match read {
                    Ok(count @ 1..) => {
                        let message = Message::binary(buffer[..count].to_vec());
                        socket.send(message).await.expect("the broker reads");
                    }
                    Ok(0) | Err(_) => {
                        let _ = socket.close(None).await;
                        while let Some(Ok(_)) = socket.next().await {}
                        return;
                    }
                },
                message = socket.next() => match message {
                    Some(Ok(Message::Binary(bytes))) => {
                        if ours.write_all(&bytes).await.is_err() {
                            return;
                        }
                    }
                    Some(Ok(other)) => assert!(!other.is_text(), "{other:?}"),
                    None | Some(Err(_)) => return,
                },
            }
        }
    });
    theirs
}

/// A client that has been let in and writes frames by hand.
pub(crate) async fn by_hand<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> S {
    stream
        .write_all(REQUEST.as_bytes())
        .await
        .expect("the broker reads");
    let answer = answer(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    stream
}

/// The header of the answer.
pub(crate) async fn answer<S: AsyncRead + Unpin>(stream: &mut S) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => bytes.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(bytes).expect("text")
}

/// A frame with a mask.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [1, 2, 3, 4];
    let mut bytes = vec![first];
    match u16::try_from(payload.len()) {
        Ok(len @ 0..=125) => bytes.push(0x80 | u8::try_from(len).expect("small")),
        Ok(len) => {
            bytes.push(0xFE);
            bytes.extend(len.to_be_bytes());
        }
        Err(_) => {
            bytes.push(0xFF);
            bytes.extend((payload.len() as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(
        payload
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    bytes
}
