//! Where the bytes go.

use std::future::Future;
use std::io;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Makes a new stream to the broker, for the first connection and for each one after.
pub trait Connector: Send + 'static {
    /// A stream of bytes in both directions.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// Opens a stream. It may be dropped unfinished.
    ///
    /// # Errors
    /// Whatever keeps the stream from opening; the client tries again as its back-off says.
    fn connect(&mut self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

/// Connects by TCP, with small writes sent at once. [MQTT-4.2-1]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tcp {
    address: String,
}

impl Tcp {
    /// A broker at `host:port` or `[v6]:port`. Names are looked up at each attempt.
    #[must_use]
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
        }
    }
}

impl Connector for Tcp {
    type Stream = TcpStream;

    async fn connect(&mut self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}
