//! A WebSocket as a stream of bytes.

use std::fmt;
use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::WebSocket;
use super::frame::{End, FrameDecoder, write_header};
use super::upgrade::{HEADER_BYTES_MAX, UpgradeError, read_request};
use crate::lane::wake_behind_sockets;

const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PONG: u8 = 10;

/// Bytes of a header that are read at a time.
const PIECE_BYTES: usize = 1_024;

/// Most pieces in one vectored write, the frame's header included.
const PIECES_MAX: usize = 65;

/// Longest frame that we write of our own: a pong.
const OWN_BYTES_MAX: usize = 2 + 125;

/// Why there is no WebSocket.
#[derive(Debug)]
pub(crate) enum ServeError {
    Io(io::Error),
    Upgrade(UpgradeError),
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Upgrade(error) => error.fmt(f),
        }
    }
}

/// Answers a request over `stream`; gives whom proxies say that they forward for, the nearest last.
pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    listener: &WebSocket,
    message_bytes_max: u64,
) -> Result<(WebSocketStream<S>, Vec<IpAddr>), ServeError> {
    let mut bytes = Vec::new();
    let (request, end) = loop {
        let len = bytes.len();
        bytes.resize((len + PIECE_BYTES).min(HEADER_BYTES_MAX), 0);
        let room = bytes.get_mut(len..).unwrap_or(&mut []);
        let count = stream.read(room).await.map_err(ServeError::Io)?;
        bytes.truncate(len + count);
        if count == 0 {
            return Err(ServeError::Io(io::ErrorKind::UnexpectedEof.into()));
        }
        match read_request(&bytes, listener) {
            Ok(Some(request)) => break request,
            Ok(None) => {}
            Err(error) => {
                refuse(&mut stream, error).await.map_err(ServeError::Io)?;
                return Err(ServeError::Upgrade(error));
            }
        }
    };
    let answer = request.answer();
    stream
        .write_all(answer.as_bytes())
        .await
        .map_err(ServeError::Io)?;
    stream.flush().await.map_err(ServeError::Io)?;
    let early = bytes.get(end..).unwrap_or(&[]).to_vec();
    Ok((
        WebSocketStream::new(stream, early, message_bytes_max),
        request.forwarded_for,
    ))
}

/// Says why, and waits for the peer's end, or it might lose the answer; the time for handshakes bounds this.
async fn refuse<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    error: UpgradeError,
) -> io::Result<()> {
    stream.write_all(error.answer().as_bytes()).await?;
    stream.shutdown().await?;
    let mut sink = [0; 256];
    while stream.read(&mut sink).await? > 0 {}
    Ok(())
}

/// The server's side of a WebSocket. What is written goes out as one binary message a write.
#[derive(Debug)]
pub(crate) struct WebSocketStream<S> {
    stream: S,
    /// What came behind the request.
    early: Vec<u8>,
    decoder: FrameDecoder,
    /// What is left of a header or of a frame of our own.
    own: Own,
    /// Payload bytes that the frame under way still lacks.
    promised: usize,
    has_closed: bool,
}

/// Bytes that go out before anything else.
#[derive(Debug)]
struct Own {
    bytes: [u8; OWN_BYTES_MAX],
    written: usize,
    len: usize,
}

impl Own {
    fn left(&self) -> &[u8] {
        self.bytes.get(self.written..self.len).unwrap_or(&[])
    }

    fn set(&mut self, header: &[u8], payload: &[u8]) {
        self.written = 0;
        self.len = header.len() + payload.len();
        let bytes = header.iter().chain(payload);
        for (slot, byte) in self.bytes.iter_mut().zip(bytes) {
            *slot = *byte;
        }
    }

    fn set_frame(&mut self, opcode: u8, payload: &[u8]) {
        let mut header = [0; 10];
        let len = write_header(opcode, payload.len(), &mut header);
        self.set(header.get(..len).unwrap_or(&[]), payload);
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocketStream<S> {
    fn new(stream: S, early: Vec<u8>, message_bytes_max: u64) -> Self {
        Self {
            stream,
            early,
            decoder: FrameDecoder::new(message_bytes_max),
            own: Own {
                bytes: [0; OWN_BYTES_MAX],
                written: 0,
                len: 0,
            },
            promised: 0,
            has_closed: false,
        }
    }

    fn poll_own(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.own.left().is_empty() {
            let count = ready!(Pin::new(&mut self.stream).poll_write(cx, self.own.left()))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.own.written += count;
        }
        Poll::Ready(Ok(()))
    }

    /// Answers a ping, between frames; one that finds no room waits for the next write.
    fn poll_pong(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_own(cx))?;
        if self.promised == 0
            && !self.has_closed
            && let Some(payload) = self.decoder.take_pong()
        {
            self.own.set_frame(PONG, payload);
            ready!(self.poll_own(cx))?;
            return Pin::new(&mut self.stream).poll_flush(cx);
        }
        Poll::Ready(Ok(()))
    }

    /// Says goodbye, if no frame is under way; whoever takes nothing does not hear it.
    fn poll_close(&mut self, cx: &mut Context<'_>, code: u16) -> Poll<io::Result<()>> {
        if !self.has_closed && self.promised == 0 {
            ready!(self.poll_own(cx))?;
            self.own.set_frame(CLOSE, &code.to_be_bytes());
            self.has_closed = true;
        }
        ready!(self.poll_own(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_raw(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if !self.early.is_empty() {
            let count = self.early.len().min(buffer.len());
            for (slot, byte) in buffer.iter_mut().zip(self.early.drain(..count)) {
                *slot = byte;
            }
            if self.early.is_empty() {
                self.early = Vec::new();
            }
            return Poll::Ready(Ok(count));
        }
        let mut buffer = ReadBuf::new(buffer);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocketStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if let Some(end) = this.decoder.end() {
                // A peer that takes nothing is not waited for.
                let _ = this.poll_close(cx, end.code())?;
                if let End::Violation(violation) = end {
                    tracing::debug!(?violation, "WebSocket closed");
                }
                return Poll::Ready(Ok(()));
            }
            let room = buffer.initialize_unfilled();
            let count = ready!(this.poll_raw(cx, room))?;
            if count == 0 {
                return Poll::Ready(Ok(()));
            }
            let is_full = count == room.len();
            let kept = this
                .decoder
                .decode(room.get_mut(..count).unwrap_or(&mut []));
            let _ = this.poll_pong(cx)?;
            if kept > 0 {
                buffer.advance(kept);
                return Poll::Ready(Ok(()));
            }
            if is_full && this.decoder.end().is_none() {
                // Frames without a byte of a packet may come without end: the others are not to wait for that.
                wake_behind_sockets(cx.waker());
                return Poll::Pending;
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocketStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.has_closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let slices = slices.get(..PIECES_MAX - 1).unwrap_or(slices);
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        if total == 0 {
            return Poll::Ready(Ok(0));
        }
        if this.promised == 0 {
            ready!(this.poll_pong(cx))?;
            let mut header = [0; 10];
            let len = write_header(BINARY, total, &mut header);
            this.own.set(header.get(..len).unwrap_or(&[]), &[]);
            // From here on the caller has to come back with the same bytes, as it does: what a socket did not take
            // is kept and written first.
            this.promised = total;
        }
        loop {
            let mut pieces = [IoSlice::new(&[]); PIECES_MAX];
            let mut left = this.promised;
            let own = this.own.left();
            let payload = slices.iter().map(|slice| {
                let part = slice.get(..left.min(slice.len())).unwrap_or(&[]);
                left -= part.len();
                part
            });
            let mut count = 0;
            for (slot, piece) in pieces.iter_mut().zip([own].into_iter().chain(payload)) {
                *slot = IoSlice::new(piece);
                count += 1;
            }
            let pieces = pieces.get(..count).unwrap_or(&[]);
            let taken = ready!(Pin::new(&mut this.stream).poll_write_vectored(cx, pieces))?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let of_own = taken.min(this.own.left().len());
            this.own.written += of_own;
            if taken > of_own {
                this.promised -= taken - of_own;
                return Poll::Ready(Ok(taken - of_own));
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_pong(cx))?;
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_close(cx, 1000))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}
