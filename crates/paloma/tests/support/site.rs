//! A broker with files of its own, and a client that is made of packets.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, SerialNumber, date_time_ymd,
};

use super::tools::skip;
use super::{Lines, paloma, signal, start_command};

/// Time for what must happen; far more than it takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How a client's CONNECT was answered in 3.1.1.
pub(crate) const ACCEPTED: u8 = 0;
pub(crate) const WRONG_PASSWORD: u8 = 4;
pub(crate) const NOT_AUTHORIZED: u8 = 5;
pub(crate) const BUSY: u8 = 3;

/// A broker with files of its own, in a directory that goes with it.
pub(crate) struct Site {
    pub(crate) directory: PathBuf,
    pub(crate) child: Option<Child>,
    pub(crate) log: Option<Lines>,
    pub(crate) addresses: Vec<String>,
}

impl Site {
    pub(crate) fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("paloma-{name}-{}", std::process::id()));
        // What an earlier run has left.
        drop(fs::remove_dir_all(&directory));
        fs::create_dir_all(&directory).unwrap();
        Self {
            directory,
            child: None,
            log: None,
            addresses: Vec::new(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.directory.join(name).to_str().unwrap().to_owned()
    }

    /// Writes a file; `DIR` in it stands for the directory.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let directory = self.directory.to_str().unwrap();
        fs::write(self.path(name), text.replace("DIR", directory)).unwrap();
    }

    /// `paloma passwd` with this on its standard input.
    pub(crate) fn passwd(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = paloma(&["passwd"])
            .args(arguments)
            .current_dir(&self.directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that asks for nothing reads nothing.
        drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
        child.wait_with_output().unwrap()
    }

    pub(crate) fn user(&self, file: &str, user: &str, password: &str) {
        let output = self.passwd(&[file, user], password);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }

    /// An authority in `ca.pem`, and certificates of it for these names, `NAME.pem` with `NAME.key`.
    pub(crate) fn certify(&self, names: &[&str]) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let authority = params.self_signed(&key).unwrap();
        fs::write(self.path("ca.pem"), authority.pem()).unwrap();
        let issuer = Issuer::new(params, key);
        let nobody = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(3000, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let nobody = nobody.signed_by(&issuer).unwrap();
        fs::write(self.path("crl.pem"), nobody.pem().unwrap()).unwrap();
        for name in names {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            params.distinguished_name.push(DnType::CommonName, *name);
            let certificate = params.signed_by(&key, &issuer).unwrap();
            fs::write(self.path(&format!("{name}.pem")), certificate.pem()).unwrap();
            let key_file = format!("{name}.key");
            fs::write(self.path(&key_file), key.serialize_pem()).unwrap();
            self.keep_private(&key_file);
        }
    }

    /// Nobody else may use this file.
    pub(crate) fn keep_private(&self, name: &str) {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Starts the broker with `paloma.toml`, which has so many listeners. Its system trusts what is in `system.pem`.
    pub(crate) fn start(&mut self, listeners: usize) {
        let config = self.path("paloma.toml");
        let arguments = ["serve", "--config", &config, "--log", "trace"];
        let mut command = paloma(&arguments);
        command
            .env("SSL_CERT_FILE", self.path("system.pem"))
            .env_remove("SSL_CERT_DIR");
        let (child, log, addresses) = start_command(&mut command, listeners);
        self.child = Some(child);
        self.log = Some(Lines::of(log));
        self.addresses = addresses;
    }

    /// With a listener, passwords and, if there are any, rules.
    pub(crate) fn with(name: &str, users: &[(&str, &str)], rules: Option<&str>) -> Self {
        let mut site = Self::new(name);
        let mut config = "[admin]\naddress = ''\n[[listener]]\naddress = '127.0.0.1:0'\n\
                          [auth]\npassword_file = 'DIR/passwords'\n"
            .to_owned();
        for (user, password) in users {
            site.user("passwords", user, password);
        }
        if let Some(rules) = rules {
            site.write("rules", rules);
            config.push_str("acl_file = 'DIR/rules'\n");
        }
        site.write("paloma.toml", &config);
        site.start(1);
        site
    }

    /// Has the broker read its files again; gives what it says about that.
    pub(crate) fn reload(&mut self) -> String {
        signal(self.child.as_ref().unwrap(), "-HUP");
        self.until(&[
            "SIGHUP: the configuration has been read again",
            "everything stays as it was",
        ])
    }

    /// What the broker says up to a line with one of these words.
    pub(crate) fn until(&self, words: &[&str]) -> String {
        self.log.as_ref().unwrap().until(words)
    }

    pub(crate) fn client(&self, id: &str, user: Option<(&str, &str)>) -> (Client, u8) {
        Client::connect(&self.addresses[0], id, user, true)
    }

    pub(crate) fn check(&self, user: Option<(&str, &str)>, expected: u8) {
        let (_, code) = self.client("probe", user);
        assert_eq!(code, expected, "{user:?}");
    }

    /// One of mosquitto's clients; `None`, and a printed line, where there are none.
    pub(crate) fn mosquitto(&self, program: &str, arguments: &[&str]) -> Option<Child> {
        let (host, port) = self.addresses[0].rsplit_once(':').unwrap();
        let child = Command::new(program)
            .args(["-h", host, "-p", port, "-V", "5"])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        match child {
            Ok(child) => Some(child),
            Err(_) => {
                skip(program);
                None
            }
        }
    }

    /// Stops the broker; gives the rest of its log.
    pub(crate) fn stop(&mut self) -> String {
        let mut child = self.child.take().unwrap();
        signal(&child, "-TERM");
        let log = self.log.take().unwrap().rest();
        assert_eq!(child.wait().unwrap().code(), Some(0));
        log
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            drop(child.kill());
            drop(child.wait());
        }
        drop(fs::remove_dir_all(&self.directory));
    }
}

/// A 3.1.1 client, packet by packet.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    /// What came before the answer to something else, as `received` gives it.
    early: Vec<String>,
}

impl Client {
    pub(crate) fn connect(
        address: &str,
        id: &str,
        user: Option<(&str, &str)>,
        is_clean: bool,
    ) -> (Self, u8) {
        let mut body = b"\x00\x04MQTT\x04".to_vec();
        let flags = u8::from(is_clean) << 1 | if user.is_some() { 0xC0 } else { 0 };
        body.extend([flags, 0, 60]);
        let names = user.map(|(user, password)| [user, password]);
        for text in [id].into_iter().chain(names.into_iter().flatten()) {
            body.extend((text.len() as u16).to_be_bytes());
            body.extend(text.as_bytes());
        }
        let mut client = Self {
            stream: TcpStream::connect(address).unwrap(),
            early: Vec::new(),
        };
        client.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        client.send(0x10, &body);
        let (kind, answer) = client.read();
        assert_eq!(kind, 0x20);
        (client, answer[1])
    }

    pub(crate) fn send(&mut self, kind: u8, body: &[u8]) {
        let mut packet = vec![kind];
        let mut length = body.len();
        while length >= 128 {
            packet.push((length % 128) as u8 | 0x80);
            length /= 128;
        }
        packet.push(length as u8);
        packet.extend(body);
        self.stream.write_all(&packet).unwrap();
    }

    /// The next packet.
    pub(crate) fn read(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head).unwrap();
        let mut body = vec![0; head[1].into()];
        self.stream.read_exact(&mut body).unwrap();
        (head[0], body)
    }

    /// Subscribes at QoS 0; gives the SUBACK's code.
    pub(crate) fn subscribe(&mut self, filter: &str) -> u8 {
        let length = (filter.len() as u16).to_be_bytes();
        self.send(
            0x82,
            &[&[0, 1], &length[..], filter.as_bytes(), &[0]].concat(),
        );
        let (kind, body) = self.read();
        assert_eq!(kind, 0x90);
        body[2]
    }

    /// Publishes at QoS 1 and waits until that is acknowledged.
    pub(crate) fn publish(&mut self, topic: &str, payload: &str) {
        let length = (topic.len() as u16).to_be_bytes();
        let body = [&length[..], topic.as_bytes(), &[0, 9], payload.as_bytes()].concat();
        self.send(0x32, &body);
        self.take_until(0x40);
    }

    /// Everything that came before the answer to a PINGREQ, as `topic payload` without a blank.
    pub(crate) fn received(&mut self) -> Vec<String> {
        self.send(0xC0, &[]);
        self.take_until(0xD0);
        std::mem::take(&mut self.early)
    }

    pub(crate) fn take_until(&mut self, answer: u8) {
        loop {
            match self.read() {
                (kind, _) if kind == answer => return,
                (_, body) => self
                    .early
                    .push(String::from_utf8(body[2..].to_vec()).unwrap()),
            }
        }
    }

    pub(crate) fn is_closed(&mut self) -> bool {
        match self.stream.read(&mut [0; 1]) {
            Ok(length) => length == 0,
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        }
    }
}
