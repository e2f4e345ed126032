//! The client and the real broker over every transport.
#![cfg(all(feature = "tls", feature = "websocket", unix))]
#![expect(clippy::unwrap_used, reason = "whatever fails ends the test")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use paloma_client::codec::{Qos, SubscribeFilter, SubscribeOptions};
use paloma_client::topic::{Target, TopicName};
use paloma_client::{Client, ConnectionError, Options, Publication, Remote, Tls, TlsFiles};
use paloma_tokio::websocket::WebSocket;
use paloma_tokio::{Broker, Config, ListenAddress, Listener, Running};
use rcgen::{CertificateParams, IsCa, Issuer, KeyPair};

struct World {
    directory: PathBuf,
    running: Running,
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl World {
    /// A broker with all listeners, and certificates for `host`.
    async fn new(name: &str, host: &str) -> Self {
        let directory =
            std::env::temp_dir().join(format!("paloma-client-{}-{name}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        fs::write(
            directory.join("ca.pem"),
            params.self_signed(&key).unwrap().pem(),
        )
        .unwrap();
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        fs::write(directory.join("server.pem"), certificate.pem()).unwrap();
        let key_path = directory.join("server.key");
        fs::write(&key_path, key.serialize_pem()).unwrap();
        fs::set_permissions(&key_path, fs::Permissions::from_mode(0o600)).unwrap();
        let files = paloma_tokio::TlsFiles::new(directory.join("server.pem"), key_path);
        let tls = paloma_tokio::Tls::load(files).unwrap();
        let tcp = || Listener::tcp(([127, 0, 0, 1], 0).into());
        let mut config = Config::new();
        config.listeners = vec![
            tcp(),
            tcp().with_tls(tls.clone()),
            tcp().with_websocket(WebSocket::new()),
            tcp().with_tls(tls).with_websocket(WebSocket::new()),
            Listener::unix(directory.join("s")),
        ];
        let running = Broker::start(config).await.unwrap();
        Self { directory, running }
    }

    fn urls(&self) -> Vec<String> {
        let schemes = ["mqtt", "mqtts", "ws", "wss", "unix"];
        let addresses = self.running.listeners().addresses().into_iter();
        addresses
            .zip(schemes)
            .map(|((_, address), scheme)| match address {
                ListenAddress::Tcp(address) => format!("{scheme}://localhost:{}", address.port()),
                ListenAddress::Unix { path, .. } => format!("{scheme}://{}", path.display()),
            })
            .collect()
    }

    fn remote(&self, url: &str, is_any_host: bool) -> Remote {
        let remote = Remote::new(url).unwrap();
        if !remote.is_secure() {
            return remote;
        }
        let files = TlsFiles {
            ca: self.directory.join("ca.pem"),
            is_any_host,
            ..TlsFiles::default()
        };
        remote.with_tls(Tls::load(&files).unwrap())
    }

    async fn check(&self, url: &str, is_any_host: bool) -> Result<(), ConnectionError> {
        let remote = self.remote(url, is_any_host);
        let (client, mut messages) = Client::connect_with(remote, Options::default()).await?;
        let filter = SubscribeFilter {
            target: Target::parse("t").unwrap(),
            options: SubscribeOptions::new(Qos::ExactlyOnce),
        };
        client.subscribe(vec![filter]).await.unwrap();
        for len in [0, 10, 5_000, 500_000] {
            let message = Publication::new(TopicName::new("t").unwrap(), vec![7; len]);
            let done = client
                .publish(message.with_qos(Qos::ExactlyOnce))
                .await
                .unwrap();
            assert_eq!(messages.recv().await.unwrap().payload.len(), len, "{url}");
            done.await.unwrap();
        }
        client.disconnect().await;
        Ok(())
    }
}

/// [MQTT-4.2-1] [MQTT-6.0.0-1] [MQTT-6.0.0-2] [MQTT-6.0.0-3] [MQTT311-7.1.2-1] [MQTT311-6.0.0-1] [MQTT311-6.0.0-2]
/// [MQTT311-6.0.0-3]
#[tokio::test]
async fn messages_go_over_every_transport() {
    let world = World::new("all", "localhost").await;
    for url in world.urls() {
        world.check(&url, false).await.unwrap();
    }
}

#[tokio::test]
async fn another_host_is_accepted_only_if_that_is_said() {
    let world = World::new("host", "broker.example").await;
    for url in world.urls().iter().filter(|url| url.contains("s://")) {
        if url.starts_with("ws:") {
            continue;
        }
        assert!(world.check(url, false).await.is_err(), "{url}");
        world.check(url, true).await.unwrap();
    }
}

#[tokio::test]
async fn other_authorities_are_refused_even_then() {
    let world = World::new("ours", "localhost").await;
    let others = World::new("others", "localhost").await;
    let urls = world.urls();
    let secure = urls.iter().find(|url| url.starts_with("mqtts")).unwrap();
    assert!(others.check(secure, true).await.is_err());
}
