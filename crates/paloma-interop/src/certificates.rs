//! A new certificate authority, what it has signed for this machine, and clients that trust it.

use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// Texts of PEM files.
#[derive(Debug, Clone)]
pub struct Certificates {
    /// The authority's certificate.
    pub authority: String,
    /// The broker's certificate, for `localhost` and 127.0.0.1.
    pub certificate: String,
    /// The broker's key.
    pub key: String,
}

impl Certificates {
    /// New ones.
    ///
    /// # Panics
    /// If the system has no random numbers.
    #[must_use]
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = named("Paloma's test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().unwrap();
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).unwrap();
        // Another name than the authority's: OpenSSL takes a certificate for self-signed whose issuer is its subject.
        params.distinguished_name = named("localhost");
        let certificate = params.signed_by(&key, &issuer).unwrap().pem();
        Self {
            authority,
            certificate,
            key: key.serialize_pem(),
        }
    }

    /// The files that a broker and its clients need: `ca.pem`, `server.pem` and `server.key`.
    #[must_use]
    pub fn files(&self) -> Vec<(&'static str, String)> {
        vec![
            ("ca.pem", self.authority.clone()),
            ("server.pem", self.certificate.clone()),
            ("server.key", self.key.clone()),
        ]
    }

    /// What a client needs that trusts the authority and nobody else.
    ///
    /// # Panics
    /// If the certificates are not what [`new`](Self::new) makes.
    #[must_use]
    pub fn trust(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_slice(self.authority.as_bytes()).unwrap();
        roots.add(authority).unwrap();
        let config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(config)
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

impl Default for Certificates {
    fn default() -> Self {
        Self::new()
    }
}

/// A client's side of a handshake with this machine that has not begun.
///
/// # Panics
/// If the configuration cannot be used.
#[must_use]
pub fn client(trust: &Arc<ClientConfig>) -> ClientConnection {
    let name = ServerName::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST).into());
    ClientConnection::new(Arc::clone(trust), name).unwrap()
}

/// TLS over a socket; hands are shaken with the first bytes.
#[must_use]
pub fn secure(
    trust: &Arc<ClientConfig>,
    socket: TcpStream,
) -> StreamOwned<ClientConnection, TcpStream> {
    StreamOwned::new(client(trust), socket)
}
