//! TLS to a service, and whom it trusts.

use std::io;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::dial::{Dialled, Tcp};
use crate::HttpHookError;

/// How a service shows who it is.
pub(super) struct Tls {
    config: Arc<ClientConfig>,
    /// Also in `config`, which does not show them.
    roots: Arc<RootCertStore>,
    name: ServerName<'static>,
}

impl Tls {
    /// Trusts these certificates, in PEM, in place of what the system trusts.
    ///
    /// # Errors
    /// No certificate in them, or none on the system; or a host that no certificate could name.
    pub(super) fn new(host: &str, roots: Option<&[u8]>) -> Result<Self, HttpHookError> {
        let (certificates, none) = match roots {
            Some(pem) => {
                let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
                let certificates = certificates.map_err(|_| HttpHookError::Roots)?;
                (certificates, HttpHookError::Roots)
            }
            // What of it cannot be read vouches for nobody.
            None => {
                let certificates = rustls_native_certs::load_native_certs().certs;
                (certificates, HttpHookError::NoRoots)
            }
        };
        let mut store = RootCertStore::empty();
        if store.add_parsable_certificates(certificates).0 == 0 {
            return Err(none);
        }
        let roots = Arc::new(store);
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|_| none)?
            .with_root_certificates(Arc::clone(&roots))
            .with_no_client_auth();
        Ok(Self {
            config: Arc::new(config),
            roots,
            name: ServerName::try_from(host.to_owned()).map_err(|_| HttpHookError::Url)?,
        })
    }

    /// Whether the same certificates vouch for services.
    pub(super) fn trusts_like(&self, other: &Self) -> bool {
        self.roots.roots == other.roots.roots
    }

    /// Shakes hands when the first bytes are written.
    pub(super) fn wrap(&self, tcp: Tcp) -> io::Result<Box<dyn Dialled>> {
        let session = ClientConnection::new(Arc::clone(&self.config), self.name.clone());
        let session = session.map_err(io::Error::other)?;
        Ok(Box::new(StreamOwned::new(session, tcp)))
    }
}

impl Dialled for StreamOwned<ClientConnection, Tcp> {
    fn tcp(&mut self) -> &mut Tcp {
        &mut self.sock
    }
}
