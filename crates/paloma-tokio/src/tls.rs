//! TLS for listeners: certificates from files, checked at once and replaced while everything runs.

mod error;
mod subject;

use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytestring::ByteString;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use webpki::{EndEntityCert, KeyUsage};

pub use error::TlsError;

use crate::certificate_name::NameError;
use crate::establish::{Application, Failure};
use crate::raw::Raw;
use crate::tls_files::{CertificateIdentity, ClientCertificates, TlsFiles};

/// Largest file of certificates, keys or revocations.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Permissions that let everybody read, write or execute.
#[cfg(unix)]
const MODE_OF_OTHERS: u32 = 0o007;

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
    /// The listener's own.
    certificate: CertificateDer<'static>,
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

    /// Whether the listener's own certificate is within its time then. Nobody is turned away for one that is not, except by
    /// clients.
    #[must_use]
    pub fn is_valid_at(&self, at: SystemTime) -> bool {
        let since_epoch = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        !matches!(
            self.fault_at(since_epoch),
            Some(webpki::Error::CertExpired { .. } | webpki::Error::CertNotValidYet { .. })
        )
    }

    /// The last moment of the listener's own certificate; `None` if it cannot be read.
    #[must_use]
    pub fn expires_at(&self) -> Option<SystemTime> {
        // Every certificate is over by then, and webpki says since when.
        let fault = self.fault_at(Duration::from_secs(u64::MAX))?;
        let webpki::Error::CertExpired { not_after, .. } = fault else {
            return None;
        };
        UNIX_EPOCH.checked_add(Duration::from_secs(not_after.as_secs()))
    }

    /// What is wrong with the listener's own certificate at a moment since 1970.
    fn fault_at(&self, since_epoch: Duration) -> Option<webpki::Error> {
        let loaded = self.loaded.read().unwrap_or_else(PoisonError::into_inner);
        let certificate = EndEntityCert::try_from(&loaded.certificate).ok()?;
        let time = UnixTime::since_unix_epoch(since_epoch);
        let usage = KeyUsage::server_auth();
        // It trusts nobody, so that this looks at the certificate itself and fails behind that.
        let outcome = certificate.verify_for_usage(&[], &[], &[], time, usage, None, None);
        outcome.err()
    }

    /// What it is loaded from.
    #[must_use]
    pub fn files(&self) -> &TlsFiles {
        &self.files
    }

    /// TLS over a socket, and the name of the peer if its certificate gives it one.
    pub(crate) async fn accept(
        &self,
        application: Application,
        raw: Raw,
    ) -> Result<(TlsStream<Raw>, Option<ByteString>), Failure> {
        let acceptor = TlsAcceptor::from(self.config(application));
        let stream = acceptor.accept(raw).await.map_err(Failure::Tls)?;
        let (_, session) = stream.get_ref();
        let name = self.name_of(session.peer_certificates());
        let name = name.map_err(Failure::Name)?;
        Ok((stream, name))
    }

    fn config(&self, application: Application) -> Arc<ServerConfig> {
        let loaded = self.loaded.read().unwrap_or_else(PoisonError::into_inner);
        match application {
            Application::Mqtt => Arc::clone(&loaded.mqtt),
            Application::Http => Arc::clone(&loaded.http),
        }
    }

    /// The name of a client that showed these certificates, its own first; they have been verified.
    fn name_of(
        &self,
        certificates: Option<&[CertificateDer<'_>]>,
    ) -> Result<Option<ByteString>, NameError> {
        let Some(certificate) = certificates.and_then(<[_]>::first) else {
            return Ok(None);
        };
        match self.files.identity {
            CertificateIdentity::None => Ok(None),
            CertificateIdentity::CommonName => subject::common_name(certificate).map(Some),
            CertificateIdentity::Subject => subject::subject(certificate).map(Some),
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
        let certificate = certificates.first().cloned();
        let certificate =
            certificate.ok_or_else(|| TlsError::NoCertificate(files.certificate.clone()))?;
        if let Err(webpki::Error::UnsupportedCertVersion) = EndEntityCert::try_from(&certificate) {
            return Err(TlsError::OldCertificate(files.certificate.clone()));
        }
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
            certificate,
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
