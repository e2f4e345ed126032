//! What can be wrong with the files of TLS.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;

use rustls::pki_types::pem;
use rustls::server::VerifierBuilderError;

/// Why TLS cannot be set up; says which file is to blame.
#[derive(Debug)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    Unreadable(PathBuf, io::Error),
    /// A file is not PEM where it should be.
    Pem(PathBuf, pem::Error),
    /// A file has no certificate.
    NoCertificate(PathBuf),
    /// A server's certificate of X.509 version 1 or 2, which clients do not take.
    OldCertificate(PathBuf),
    /// A file has no private key that is not encrypted.
    NoKey(PathBuf),
    /// A file has no revocation list.
    NoRevocations(PathBuf),
    /// A private key that everybody on the machine may use; with its permissions.
    KeyOpenToOthers(PathBuf, u32),
    /// The key is not the certificate's, or one of them is of a kind that is not supported.
    CertificateAndKey {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What does not fit.
        error: rustls::Error,
    },
    /// A root of clients' certificates is not usable.
    ClientCa(PathBuf, rustls::Error),
    /// A revocation list is not usable, or there is no root.
    Verifier(VerifierBuilderError),
    /// The cryptography does not support what is asked of it.
    Setup(rustls::Error),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Pem(path, error) => write!(f, "{}: not PEM: {error}", path.display()),
            Self::NoCertificate(path) => write!(f, "{}: holds no certificate", path.display()),
            Self::OldCertificate(path) => write!(
                f,
                "{}: an X.509 certificate without extensions, of version 1; it has to be one of version 3",
                path.display()
            ),
            Self::NoKey(path) => write!(
                f,
                "{}: holds no private key, or an encrypted one",
                path.display()
            ),
            Self::NoRevocations(path) => {
                write!(
                    f,
                    "{}: holds no certificate revocation list",
                    path.display()
                )
            }
            Self::KeyOpenToOthers(path, mode) => write!(
                f,
                "{}: everybody may use this private key (mode {mode:04o}); set it to 0600",
                path.display()
            ),
            Self::CertificateAndKey {
                certificate,
                key,
                error,
            } => write!(
                f,
                "{} and {} do not fit: {error}",
                certificate.display(),
                key.display()
            ),
            Self::ClientCa(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Verifier(error) => write!(f, "clients' certificates: {error}"),
            Self::Setup(error) => write!(f, "TLS: {error}"),
        }
    }
}

impl Error for TlsError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unreadable(_, error) => Some(error),
            Self::Pem(_, error) => Some(error),
            Self::CertificateAndKey { error, .. }
            | Self::ClientCa(_, error)
            | Self::Setup(error) => Some(error),
            Self::Verifier(error) => Some(error),
            Self::NoCertificate(_)
            | Self::OldCertificate(_)
            | Self::NoKey(_)
            | Self::NoRevocations(_)
            | Self::KeyOpenToOthers(..) => None,
        }
    }
}

impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> Self {
        Self::new(io::ErrorKind::InvalidInput, error)
    }
}
