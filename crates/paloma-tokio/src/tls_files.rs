//! What TLS on a listener is made of.

use std::path::PathBuf;

/// What a listener with TLS is made of. Files are PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsFiles {
    /// The server's certificate, then what leads from it towards its root.
    pub certificate: PathBuf,
    /// The private key of the first certificate: PKCS #8, PKCS #1 or SEC1, not encrypted, not open to everybody.
    pub key: PathBuf,
    /// Whether clients show certificates, and who signs them.
    pub clients: ClientCertificates,
    /// What of a client's certificate becomes its name.
    pub identity: CertificateIdentity,
}

impl TlsFiles {
    /// A server certificate; clients show none.
    #[must_use]
    pub fn new(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self {
            certificate: certificate.into(),
            key: key.into(),
            clients: ClientCertificates::None,
            identity: CertificateIdentity::None,
        }
    }
}

/// Whether clients show certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientCertificates {
    /// They are not asked.
    None,
    /// They are asked; one that is shown has to be good.
    Optional(ClientAuthority),
    /// Without a good one there is no connection.
    Required(ClientAuthority),
}

/// Who signs clients' certificates, and takes that back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAuthority {
    /// The roots.
    pub ca: PathBuf,
    /// Revocation lists. If there is one, every certificate of a chain needs one of its issuer's that has not expired.
    pub crl: Option<PathBuf>,
}

/// What of a client's certificate becomes its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CertificateIdentity {
    /// Nothing.
    #[default]
    None,
    /// The common name of its subject. A certificate has to have exactly one.
    CommonName,
    /// The whole subject, as RFC 4514 writes it: `CN=meter 7,O=Example`.
    Subject,
}
