//! TLS for listeners: certificates from files, checked at once and replaced while everything runs.

mod error;
mod name;

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use bytestring::ByteString;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};

pub use error::TlsError;
pub use name::NameError;
pub(crate) use name::checked;

/// Largest file of certificates, keys or revocations.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Permissions that let everybody read, write or execute.
#[cfg(unix)]
const MODE_OF_OTHERS: u32 = 0o007;

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

/// The TLS side of a listener. Clones share what is loaded, so that [`reload`](Self::reload) reaches all of them.
#[derive(Clone, Debug)]
pub struct Tls {
    files: Arc<TlsFiles>,
    loaded: Arc<RwLock<Loaded>>,
}

/// What new connections are made with; those that are there keep what they were made with.
#[derive(Clone, Debug)]
struct Loaded {
    mqtt: Arc<ServerConfig>,
    http: Arc<ServerConfig>,
}

/// What is spoken within TLS, as its application protocol says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Application {
    Mqtt,
    Http,
}

impl Tls {
    /// Reads and checks the files.
    ///
    /// # Errors
    /// A file cannot be read, holds something else, does not fit the others, or is a key that everybody may read.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let loaded = Loaded::read(&files)?;
        Ok(Self {
            files: Arc::new(files),
            loaded: Arc::new(RwLock::new(loaded)),
        })
    }

    /// Reads the files again. New connections use what they hold then, tickets of before are void; nobody who is
    /// connected notices.
    ///
    /// # Errors
    /// As for [`load`](Self::load); what was loaded before stays in force.
    pub fn reload(&self) -> Result<(), TlsError> {
        let loaded = Loaded::read(&self.files)?;
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        Ok(())
    }

    /// Takes over what another one has loaded from the same files: the second half of a reload of several things, all of
    /// which have been read.
    pub fn adopt(&self, other: &Self) {
        let theirs = other.loaded.read().unwrap_or_else(PoisonError::into_inner);
        let loaded = theirs.clone();
        drop(theirs);
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = loaded;
    }

    /// What it is loaded from.
    #[must_use]
    pub fn files(&self) -> &TlsFiles {
        &self.files
    }

    pub(crate) fn config(&self, application: Application) -> Arc<ServerConfig> {
        let loaded = self.loaded.read().unwrap_or_else(PoisonError::into_inner);
        match application {
            Application::Mqtt => Arc::clone(&loaded.mqtt),
            Application::Http => Arc::clone(&loaded.http),
        }
    }

    /// The name of a client that showed these certificates, its own first; they have been verified.
    pub(crate) fn name_of(
        &self,
        certificates: Option<&[CertificateDer<'_>]>,
    ) -> Result<Option<ByteString>, NameError> {
        let Some(certificate) = certificates.and_then(<[_]>::first) else {
            return Ok(None);
        };
        match self.files.identity {
            CertificateIdentity::None => Ok(None),
            CertificateIdentity::CommonName => name::common_name(certificate).map(Some),
            CertificateIdentity::Subject => name::subject(certificate).map(Some),
        }
    }
}

impl Loaded {
    fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let certificates = certificates(&files.certificate)?;
        let key = private_key(&files.key)?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(TlsError::Setup)?;
        let builder = match verifier(&files.clients, &provider)? {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut mqtt = builder
            .with_single_cert(certificates, key)
            .map_err(|error| TlsError::CertificateAndKey {
                certificate: files.certificate.clone(),
                key: files.key.clone(),
                error,
            })?;
        // Of what both can do, the server takes what it thinks best.
        mqtt.ignore_client_order = true;
        let mut http = mqtt.clone();
        mqtt.alpn_protocols = vec![b"mqtt".to_vec()];
        http.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            mqtt: Arc::new(mqtt),
            http: Arc::new(http),
        })
    }
}

fn verifier(
    clients: &ClientCertificates,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
    let (authority, is_required) = match clients {
        ClientCertificates::None => return Ok(None),
        ClientCertificates::Optional(authority) => (authority, false),
        ClientCertificates::Required(authority) => (authority, true),
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&authority.ca)? {
        roots
            .add(certificate)
            .map_err(|error| TlsError::ClientCa(authority.ca.clone(), error))?;
    }
    let mut builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    if let Some(crl) = &authority.crl {
        builder = builder
            .with_crls(revocations(crl)?)
            .enforce_revocation_expiration();
    }
    if !is_required {
        builder = builder.allow_unauthenticated();
    }
    let verifier = builder.build().map_err(TlsError::Verifier)?;
    Ok(Some(verifier))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(path)?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| TlsError::Pem(path.to_owned(), error))?;
    if certificates.is_empty() {
        return Err(TlsError::NoCertificate(path.to_owned()));
    }
    Ok(certificates)
}

fn revocations(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let pem = read(path)?;
    let lists: Vec<_> = CertificateRevocationListDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| TlsError::Pem(path.to_owned(), error))?;
    if lists.is_empty() {
        return Err(TlsError::NoRevocations(path.to_owned()));
    }
    Ok(lists)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;

        let metadata =
            fs::metadata(path).map_err(|error| TlsError::Unreadable(path.to_owned(), error))?;
        let mode = metadata.permissions().mode() & 0o777;
        if mode & MODE_OF_OTHERS != 0 {
            return Err(TlsError::KeyOpenToOthers(path.to_owned(), mode));
        }
    }
    match PrivateKeyDer::from_pem_slice(&read(path)?) {
        Ok(key) => Ok(key),
        Err(rustls::pki_types::pem::Error::NoItemsFound) => Err(TlsError::NoKey(path.to_owned())),
        Err(error) => Err(TlsError::Pem(path.to_owned(), error)),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let unreadable = |error| TlsError::Unreadable(path.to_owned(), error);
    let file = fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(unreadable(io::ErrorKind::FileTooLarge.into()));
    }
    Ok(bytes)
}
