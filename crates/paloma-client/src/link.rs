//! One connection: its stream, and the bytes on their way in and out.

use std::io;

use bytes::BytesMut;
use paloma_codec::{ConnAck, Connect, DecodeLimits, Decoder, Disconnect, PacketRef, PacketType};
use paloma_session::client::{Handshake, HandshakeEvent};
use paloma_session::{
    Connection, Leftover, LogSeq, Now, Options as SessionOptions, Session, Transmit, TransmitStatus,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};

use crate::clock::Clock;
use crate::error::ConnectionError;

/// Room that is made for each read.
const READ_BYTES: usize = 16 * 1024;

/// An open connection on its stream.
#[derive(Debug)]
pub(crate) struct Link<S> {
    pub(crate) connection: Connection,
    pub(crate) wire: Wire<S>,
    transmit: Transmit,
}

/// A stream with the bytes that are not decoded, and those that are not written.
#[derive(Debug)]
pub(crate) struct Wire<S> {
    read: ReadHalf<S>,
    write: WriteHalf<S>,
    decoder: Decoder,
    pub(crate) input: BytesMut,
    output: Vec<u8>,
    written: usize,
    /// The stream may keep something of what was written.
    is_unflushed: bool,
}

/// What came of asking the connection for bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Filled {
    pub(crate) status: TransmitStatus,
    pub(crate) sent_qos0: u32,
}

impl<S: AsyncRead + AsyncWrite> Link<S> {
    /// Sends the CONNECT and waits for the CONNACK.
    ///
    /// # Errors
    /// There is no connection, and why. The session is as it was.
    pub(crate) async fn open(
        stream: S,
        connect: &Connect,
        limits: DecodeLimits,
        options: SessionOptions,
        clock: &mut Clock,
        session: &mut Session,
        lost: impl FnMut(Leftover),
    ) -> Result<(Self, ConnAck), ConnectionError> {
        let mut handshake = Handshake::new(connect).map_err(ConnectionError::Options)?;
        let mut transmit = Transmit::default();
        let _ = handshake.poll_transmit(&mut transmit);
        let mut wire = Wire::new(stream, Decoder::client(connect.version, limits));
        wire.write.write_all(transmit.bytes()).await?;
        wire.write.flush().await?;
        transmit.clear();
        let conn_ack = loop {
            let Some((packet, used)) = wire.next_packet()? else {
                if wire.read().await? == 0 {
                    return Err(ConnectionError::Closed);
                }
                continue;
            };
            let event = handshake
                .handle_packet(packet)
                .map_err(ConnectionError::Violation)?;
            drop(wire.input.split_to(used));
            match event {
                HandshakeEvent::Accepted(conn_ack) => break conn_ack,
                HandshakeEvent::Refused(conn_ack) => {
                    return Err(ConnectionError::Refused {
                        reason: conn_ack.reason,
                        reason_string: conn_ack.reason_string,
                    });
                }
                HandshakeEvent::Auth(_) => return Err(ConnectionError::AuthenticationAsked),
                HandshakeEvent::Disconnect(disconnect) => return Err((*disconnect).into()),
            }
        };
        let connection = handshake
            .open(clock.now(), session, &conn_ack, options, lost)
            .map_err(ConnectionError::Violation)?;
        Ok((
            Self {
                connection,
                wire,
                transmit,
            },
            *conn_ack,
        ))
    }

    /// Takes bytes from the connection if none wait to be written; deliveries that ended unsent go to `transmit`'s list,
    /// which `dropped` sees.
    pub(crate) fn fill(
        &mut self,
        now: Now,
        session: &mut Session,
        dropped: impl FnOnce(&[paloma_session::Dropped]),
    ) -> Filled {
        let status = self.connection.poll_transmit(
            now,
            // Nothing is stored: every gate is open.
            LogSeq::ZERO,
            session,
            &mut self.transmit,
        );
        for piece in self.transmit.pieces() {
            self.wire.output.extend_from_slice(piece);
        }
        dropped(self.transmit.dropped());
        let sent_qos0 = self.transmit.sent().qos0;
        self.transmit.clear();
        Filled { status, sent_qos0 }
    }
}

impl<S: AsyncRead + AsyncWrite> Wire<S> {
    fn new(stream: S, decoder: Decoder) -> Self {
        let (read, write) = tokio::io::split(stream);
        Self {
            read,
            write,
            decoder,
            input: BytesMut::new(),
            output: Vec::new(),
            written: 0,
            is_unflushed: false,
        }
    }

    /// Whether a PUBLISH stands at the start of the input.
    pub(crate) fn is_publish_next(&self) -> bool {
        let first = self
            .input
            .first()
            .and_then(|first| PacketType::of_first_byte(*first));
        first == Some(PacketType::Publish)
    }

    /// The packet at the start of the input, and how many bytes it has, once it is complete.
    pub(crate) fn next_packet(
        &mut self,
    ) -> Result<Option<(PacketRef<'_>, usize)>, ConnectionError> {
        self.decoder
            .decode(&self.input)
            .map_err(ConnectionError::Invalid)
    }

    /// Whether everything is written.
    pub(crate) const fn is_written(&self) -> bool {
        self.output.is_empty()
    }

    /// Reads, writes or flushes, whatever is possible first; reads only if told so. Nothing is lost if this is dropped
    /// unfinished.
    ///
    /// # Errors
    /// The stream broke, or the broker closed it.
    pub(crate) async fn step(&mut self, may_read: bool) -> Result<(), ConnectionError> {
        let Self {
            read,
            write,
            input,
            output,
            written,
            is_unflushed,
            ..
        } = self;
        let rest = output.get(*written..).unwrap_or(&[]);
        let has_output = !rest.is_empty();
        tokio::select! {
            count = write_some(write, rest), if has_output || *is_unflushed => {
                let count = count?;
                if has_output && count == 0 {
                    return Err(io::Error::from(io::ErrorKind::WriteZero).into());
                }
                *is_unflushed = has_output;
                *written += count;
                if *written >= output.len() {
                    output.clear();
                    *written = 0;
                }
            }
            count = read_some(read, input), if may_read => {
                if count? == 0 {
                    return Err(ConnectionError::Closed);
                }
            }
            else => std::future::pending().await,
        }
        Ok(())
    }

    /// Writes what waits, and says that nothing more comes. [MQTT-3.14.4-2] [MQTT-4.13.2-1]
    pub(crate) async fn finish(&mut self) -> io::Result<()> {
        let rest = self.output.get(self.written..).unwrap_or(&[]);
        self.write.write_all(rest).await?;
        self.write.shutdown().await
    }

    async fn read(&mut self) -> io::Result<usize> {
        read_some(&mut self.read, &mut self.input).await
    }
}

/// Writes some of the bytes, or flushes what was written before if there are none.
async fn write_some<W: AsyncWrite + Unpin>(write: &mut W, rest: &[u8]) -> io::Result<usize> {
    if rest.is_empty() {
        write.flush().await?;
        return Ok(0);
    }
    write.write(rest).await
}

async fn read_some<R: AsyncRead + Unpin>(read: &mut R, input: &mut BytesMut) -> io::Result<usize> {
    input.reserve(READ_BYTES);
    read.read_buf(input).await
}

impl From<Disconnect> for ConnectionError {
    fn from(disconnect: Disconnect) -> Self {
        Self::Disconnected {
            reason: disconnect.reason,
            reason_string: disconnect.reason_string,
        }
    }
}
