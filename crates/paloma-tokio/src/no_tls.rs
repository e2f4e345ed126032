//! In place of TLS where a build has none.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::io;
use std::time::SystemTime;

use bytestring::ByteString;

use crate::establish::{Application, Failure};
use crate::raw::Raw;
use crate::tls_files::TlsFiles;

/// The TLS side of a listener, of which there is none without the feature `tls`.
#[derive(Clone, Debug)]
pub struct Tls(Infallible);

/// This is a build without the feature `tls`.
#[derive(Debug)]
pub struct TlsError(());

impl Tls {
    /// # Errors
    /// Always: built without `tls`.
    pub fn load(_: TlsFiles) -> Result<Self, TlsError> {
        Err(TlsError(()))
    }

    /// # Errors
    /// None.
    pub fn reload(&self) -> Result<(), TlsError> {
        match self.0 {}
    }

    /// Takes over what another one has loaded.
    pub fn adopt(&self, _: &Self) {
        match self.0 {}
    }

    /// Whether the listener's own certificate is within its time then.
    #[must_use]
    pub fn is_valid_at(&self, _: SystemTime) -> bool {
        match self.0 {}
    }

    /// The last moment of the listener's own certificate.
    #[must_use]
    pub fn expires_at(&self) -> Option<SystemTime> {
        match self.0 {}
    }

    /// What it is loaded from.
    #[must_use]
    pub fn files(&self) -> &TlsFiles {
        match self.0 {}
    }

    pub(crate) async fn accept(
        &self,
        _: Application,
        _: Raw,
    ) -> Result<(Raw, Option<ByteString>), Failure> {
        match self.0 {}
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("built without `tls`")
    }
}

impl Error for TlsError {}

impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> Self {
        Self::new(io::ErrorKind::Unsupported, error)
    }
}
