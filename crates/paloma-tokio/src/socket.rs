//! A connection's two directions of bytes, whatever carries them.

use std::fmt;
use std::io::{self, IoSlice, Read};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use paloma_codec::Message;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;

/// Most pieces in one vectored write.
const PIECES_MAX: usize = 64;

/// Whether a read that did not fill its buffer has emptied the socket, as edge-triggered selectors promise.
const SHORT_READ_DRAINS: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// Anything that carries a connection's bytes.
pub trait Stream: AsyncRead + AsyncWrite + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + 'static> Stream for T {}

/// A transport that its owner reads and that either its owner or its thread's flusher writes.
pub(crate) enum Socket {
    /// Read and written through a shared reference, without a lock.
    Tcp(TcpStream),
    /// Likewise.
    #[cfg(unix)]
    Unix(UnixStream),
    /// Everything else.
    Stream(Mutex<Pin<Box<dyn Stream>>>),
}

impl Socket {
    pub(crate) fn stream(stream: impl Stream) -> Self {
        Self::Stream(Mutex::new(Box::pin(stream)))
    }

    /// Reads into `buffer`; 0 is the end.
    ///
    /// After a short read the next call waits for the selector instead of asking the socket for `WouldBlock`.
    pub(crate) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => kernel_read(stream, cx, buffer),
            #[cfg(unix)]
            Self::Unix(stream) => kernel_read(stream, cx, buffer),
            Self::Stream(stream) => {
                let mut buffer = ReadBuf::new(buffer);
                ready!(lock(stream).as_mut().poll_read(cx, &mut buffer))?;
                Poll::Ready(Ok(buffer.filled().len()))
            }
        }
    }

    /// Writes what is left behind `written` of `bytes` with the payloads of `large` at their offsets, as far as `end`,
    /// and counts `written` up. `Pending` when the socket takes no more.
    pub(crate) fn poll_write(
        &self,
        cx: &mut Context<'_>,
        pieces: Pieces<'_>,
        written: &mut usize,
        end: usize,
    ) -> Poll<io::Result<()>> {
        while *written < end {
            let mut slices = [IoSlice::new(&[]); PIECES_MAX];
            let count = pieces.slices(*written, end, &mut slices);
            let slices = slices.get(..count).unwrap_or(&[]);
            match ready!(self.poll_write_slices(cx, slices))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                taken => *written += taken,
            }
        }
        match self {
            Self::Tcp(_) => Poll::Ready(Ok(())),
            #[cfg(unix)]
            Self::Unix(_) => Poll::Ready(Ok(())),
            Self::Stream(stream) => lock(stream).as_mut().poll_flush(cx),
        }
    }

    fn poll_write_slices(
        &self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => kernel_write(stream, cx, slices),
            #[cfg(unix)]
            Self::Unix(stream) => kernel_write(stream, cx, slices),
            Self::Stream(stream) => lock(stream).as_mut().poll_write_vectored(cx, slices),
        }
    }

    /// Ends the writing direction, so that the peer sees everything written and then the end.
    pub(crate) fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => Poll::Ready(SockRef::from(stream).shutdown(Shutdown::Write)),
            #[cfg(unix)]
            Self::Unix(stream) => Poll::Ready(SockRef::from(stream).shutdown(Shutdown::Write)),
            Self::Stream(stream) => lock(stream).as_mut().poll_shutdown(cx),
        }
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(stream) => stream.fmt(f),
            #[cfg(unix)]
            Self::Unix(stream) => stream.fmt(f),
            Self::Stream(_) => f.write_str("Stream"),
        }
    }
}

/// A panic inside a transport ends its connection; the lock it leaves behind guards nothing then.
fn lock(stream: &Mutex<Pin<Box<dyn Stream>>>) -> MutexGuard<'_, Pin<Box<dyn Stream>>> {
    stream.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A socket of the operating system that can be used through a shared reference.
trait Kernel {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    fn try_read_io(&self, read: impl FnMut() -> io::Result<usize>) -> io::Result<usize>;
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;
    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize>;
    fn raw(&self) -> SockRef<'_>;
}

macro_rules! kernel {
    ($stream:ty) => {
        impl Kernel for $stream {
            fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.poll_read_ready(cx)
            }

            fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.poll_write_ready(cx)
            }

            fn try_read_io(&self, read: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
                self.try_io(Interest::READABLE, read)
            }

            fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
                self.try_write(bytes)
            }

            fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
                self.try_write_vectored(slices)
            }

            fn raw(&self) -> SockRef<'_> {
                SockRef::from(self)
            }
        }
    };
}

kernel!(TcpStream);
#[cfg(unix)]
kernel!(UnixStream);

fn kernel_read(
    stream: &impl Kernel,
    cx: &mut Context<'_>,
    buffer: &mut [u8],
) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_read_ready(cx))?;
        match read_ready(stream, buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return Poll::Ready(result),
        }
    }
}

fn kernel_write(
    stream: &impl Kernel,
    cx: &mut Context<'_>,
    slices: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    loop {
        let result = match slices {
            [piece] => stream.try_write(piece),
            pieces => stream.try_write_vectored(pieces),
        };
        match result {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                ready!(stream.poll_write_ready(cx))?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return Poll::Ready(result),
        }
    }
}

fn read_ready(stream: &impl Kernel, buffer: &mut [u8]) -> io::Result<usize> {
    let mut taken = None;
    // `try_io` looks at the readiness before it calls, and takes it back on `WouldBlock` only if nothing has come
    // since: saying so after a short read saves the call that would have said it, and loses no event.
    let result = stream.try_read_io(|| {
        let count = (&*stream.raw()).read(buffer)?;
        taken = Some(count);
        if SHORT_READ_DRAINS && (1..buffer.len()).contains(&count) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(count)
    });
    taken.map_or(result, Ok)
}

/// Bytes to write: small ones in one slice, large payloads by reference at their offsets in it.
#[derive(Clone, Copy)]
pub(crate) struct Pieces<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) large: &'a [(usize, Message)],
}

impl<'a> Pieces<'a> {
    pub(crate) fn len(self) -> usize {
        self.bytes.len()
            + self
                .large
                .iter()
                .map(|(_, message)| message.payload().len())
                .sum::<usize>()
    }

    fn iter(self) -> impl Iterator<Item = &'a [u8]> {
        let mut from = 0;
        let large = self
            .large
            .iter()
            .map(|(offset, message)| (*offset, message.payload()));
        large
            .chain([(self.bytes.len(), [].as_slice())])
            .flat_map(move |(to, payload)| {
                let small = self.bytes.get(from..to).unwrap_or(&[]);
                from = to;
                [small, payload]
            })
    }

    /// Fills `slices` with what lies behind the first `skip` bytes and before `end`, and says how many it took.
    fn slices(self, mut skip: usize, end: usize, slices: &mut [IoSlice<'a>]) -> usize {
        let mut room = end.saturating_sub(skip);
        let rest = self.iter().filter_map(|piece| {
            let skipped = skip.min(piece.len());
            skip -= skipped;
            let rest = piece.get(skipped..)?;
            let rest = rest.get(..room.min(rest.len()))?;
            room -= rest.len();
            (!rest.is_empty()).then_some(rest)
        });
        let mut count = 0;
        for (slot, piece) in slices.iter_mut().zip(rest) {
            *slot = IoSlice::new(piece);
            count += 1;
        }
        count
    }
}

/// What a full socket did not take.
#[derive(Debug)]
pub(crate) struct Backlog {
    bytes: Vec<u8>,
    large: Vec<(usize, Message)>,
    written: usize,
}

impl Backlog {
    /// Keeps what lies behind the first `written` bytes; small bytes are copied, so that the thread's buffer stays.
    pub(crate) fn new(pieces: Pieces<'_>, written: usize) -> Self {
        let mut small_end = 0;
        let mut large_bytes = 0;
        for (index, (offset, message)) in pieces.large.iter().enumerate() {
            small_end = *offset;
            let payload_end = small_end + large_bytes + message.payload().len();
            if written < payload_end {
                let from = written.saturating_sub(large_bytes).min(small_end);
                return Self::rest(pieces, from, index, written - large_bytes - from);
            }
            large_bytes += message.payload().len();
        }
        debug_assert!(
            written - large_bytes >= small_end,
            "everything before was written"
        );
        Self::rest(pieces, written - large_bytes, pieces.large.len(), 0)
    }

    fn rest(pieces: Pieces<'_>, from: usize, first_large: usize, written: usize) -> Self {
        let large = pieces.large.iter().skip(first_large);
        Self {
            bytes: pieces.bytes.get(from..).unwrap_or(&[]).to_vec(),
            large: large
                .map(|(offset, message)| (offset - from, message.clone()))
                .collect(),
            written,
        }
    }

    /// Bytes that it keeps in memory, payloads that others hold too included.
    pub(crate) fn memory_bytes(&self) -> usize {
        let large = self.large.iter().map(|(_, message)| message.len());
        self.bytes.capacity() + large.sum::<usize>()
    }

    /// Goes on writing, at most `bytes_max` bytes; the flag says whether the socket took anything.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        socket: &Socket,
        bytes_max: usize,
    ) -> (Poll<io::Result<()>>, bool) {
        let before = self.written;
        let pieces = Pieces {
            bytes: &self.bytes,
            large: &self.large,
        };
        let end = pieces.len().min(before.saturating_add(bytes_max));
        let result = socket.poll_write(cx, pieces, &mut self.written, end);
        (result, self.written != before)
    }

    /// Whether all is written.
    pub(crate) fn is_written(&self) -> bool {
        let pieces = Pieces {
            bytes: &self.bytes,
            large: &self.large,
        };
        self.written >= pieces.len()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use paloma_codec::{MessageParts, PublishProperties};
    use paloma_topic::TopicNameRef;
    use tokio::io::{AsyncReadExt, duplex};

    use super::*;

    fn message(payload: &[u8]) -> Message {
        let properties = PublishProperties::default();
        let topic = TopicNameRef::new("t").unwrap();
        let parts = MessageParts {
            id: 1,
            stamp: 0,
            topic,
            properties: &properties,
            payload,
        };
        Message::new(&parts, &mut Vec::new()).unwrap()
    }

    /// Writes the first `cut` bytes by hand and the rest as a backlog through a narrow pipe.
    async fn check_cut(bytes: &[u8], large: &[(usize, Message)], cut: usize) {
        // The waker below wakes nobody, so tokio's budget must not end a write.
        tokio::task::unconstrained(write_rest(bytes, large, cut)).await;
    }

    async fn write_rest(bytes: &[u8], large: &[(usize, Message)], cut: usize) {
        let pieces = Pieces { bytes, large };
        let whole: Vec<u8> = pieces.iter().flatten().copied().collect();
        assert_eq!(whole.len(), pieces.len());
        let mut backlog = Backlog::new(pieces, cut);
        let (mut here, there) = duplex(3);
        let socket = Socket::stream(there);
        let mut cx = Context::from_waker(Waker::noop());
        let mut arrived = whole[..cut].to_vec();
        loop {
            let (result, _) = backlog.poll_write(&mut cx, &socket, 5);
            if let Poll::Ready(result) = result {
                result.unwrap();
                if backlog.is_written() {
                    break;
                }
                continue;
            }
            here.read_buf(&mut arrived).await.unwrap();
        }
        drop(socket);
        here.read_to_end(&mut arrived).await.unwrap();
        assert_eq!(arrived, whole, "cut at {cut}");
    }

    #[tokio::test]
    async fn backlog_goes_on_wherever_the_socket_stopped() {
        let large = [
            (0, message(b"first")),
            (4, message(b"second")),
            (4, message(b"third")),
        ];
        for large in [&large[..], &large[1..], &[]] {
            let len = Pieces {
                bytes: b"abcdefgh",
                large,
            }
            .len();
            for cut in 0..=len {
                check_cut(b"abcdefgh", large, cut).await;
            }
        }
    }

    #[tokio::test]
    async fn more_pieces_than_one_write_takes_all_go_out() {
        let large: Vec<_> = (0..3 * PIECES_MAX)
            .map(|at| (at, message(b"pay")))
            .collect();
        check_cut(&[b'.'; 3 * PIECES_MAX], &large, 0).await;
    }

    #[tokio::test]
    async fn short_read_is_followed_by_waiting_not_by_asking() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut here = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let socket = Socket::Tcp(listener.accept().await.unwrap().0);
        let mut buffer = [0; 64];
        for text in ["one", "two", "three"] {
            tokio::io::AsyncWriteExt::write_all(&mut here, text.as_bytes())
                .await
                .unwrap();
            let count = std::future::poll_fn(|cx| socket.poll_read(cx, &mut buffer))
                .await
                .unwrap();
            assert_eq!(&buffer[..count], text.as_bytes());
            let Socket::Tcp(stream) = &socket else {
                panic!("it is one");
            };
            let asked = stream.try_io(Interest::READABLE, || Ok(()));
            assert_eq!(asked.is_err(), SHORT_READ_DRAINS, "the readiness is gone");
        }
        drop(here);
        let count = std::future::poll_fn(|cx| socket.poll_read(cx, &mut buffer))
            .await
            .unwrap();
        assert_eq!(count, 0);
    }
}
