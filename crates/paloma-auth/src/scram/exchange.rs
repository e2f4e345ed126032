//! The two messages of each side. (RFC 5802, section 5)

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytestring::ByteString;
use subtle::ConstantTimeEq;

use super::credential::{Credential, sha256, sign};

/// Longest first message of a client, in bytes.
const MESSAGE_BYTES_MAX: usize = 8_192;

/// What is kept between a client's first and last message.
pub(super) struct Exchange {
    user: ByteString,
    credential: Credential,
    /// A user that does not exist goes through the same steps, and fails at the end.
    is_user: bool,
    /// What the client's last message has to begin with, up to the proof.
    last_expected: String,
    /// Both first messages, as they go into the signatures.
    first_messages: String,
}

impl Exchange {
    /// Reads the client's first message and gives the server's. `None` if it is malformed or wants what is not offered.
    pub(super) fn begin(
        message: &str,
        nonce: &[u8],
        credential: impl FnOnce(&str) -> (Credential, bool),
    ) -> Option<(Self, String)> {
        Self::begin_with(message, &STANDARD.encode(nonce), credential)
    }

    fn begin_with(
        message: &str,
        nonce: &str,
        credential: impl FnOnce(&str) -> (Credential, bool),
    ) -> Option<(Self, String)> {
        if message.len() > MESSAGE_BYTES_MAX {
            return None;
        }
        // `n` and `y`: the client uses no channel binding, and none is offered here.
        let (flag, rest) = message.split_once(',')?;
        let (authorization, bare) = rest.split_once(',')?;
        if !matches!(flag, "n" | "y") {
            return None;
        }
        let mut fields = bare.split(',');
        // A field `m=` in front would be an extension that has to be understood.
        let user = decode_name(fields.next()?.strip_prefix("n=")?)?;
        let client_nonce = fields.next()?.strip_prefix("r=")?;
        let is_printable = |byte: u8| byte.is_ascii_graphic();
        if client_nonce.is_empty() || !client_nonce.bytes().all(is_printable) {
            return None;
        }
        // Nobody acts for somebody else.
        if let Some(name) = authorization.strip_prefix("a=") {
            decode_name(name).filter(|name| *name == user)?;
        } else if !authorization.is_empty() {
            return None;
        }
        let (credential, is_user) = credential(&user);
        let (salt, iterations) = (STANDARD.encode(&credential.salt), credential.iterations);
        let server_first = format!("r={client_nonce}{nonce},s={salt},i={iterations}");
        let binding = STANDARD.encode(format!("{flag},{authorization},"));
        let exchange = Self {
            user: user.into(),
            credential,
            is_user,
            last_expected: format!("c={binding},r={client_nonce}{nonce}"),
            first_messages: format!("{bare},{server_first}"),
        };
        Some((exchange, server_first))
    }

    /// Checks the proof in the client's last message; gives the user and the server's own proof.
    pub(super) fn finish(self, message: &str) -> Option<(ByteString, String)> {
        let (without_proof, proof) = message.rsplit_once(",p=")?;
        let extensions = without_proof.strip_prefix(&self.last_expected)?;
        if !extensions.is_empty() && !extensions.starts_with(',') {
            return None;
        }
        let proof: [u8; 32] = STANDARD.decode(proof).ok()?.try_into().ok()?;
        let signed = format!("{},{without_proof}", self.first_messages);
        let mut client_key = sign(&self.credential.stored_key, signed.as_bytes());
        for (byte, proof) in client_key.iter_mut().zip(proof) {
            *byte ^= proof;
        }
        let is_right = bool::from(sha256(&client_key).ct_eq(&self.credential.stored_key));
        let signature = sign(&self.credential.server_key, signed.as_bytes());
        (is_right & self.is_user).then(|| (self.user, format!("v={}", STANDARD.encode(signature))))
    }
}

/// A name in which `,` and `=` are written as `=2C` and `=3D`.
fn decode_name(text: &str) -> Option<String> {
    let mut parts = text.split('=');
    let mut name = parts.next()?.to_owned();
    for part in parts {
        let (letter, rest) = match (part.strip_prefix("2C"), part.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (None, Some(rest)) => ('=', rest),
            (None, None) => return None,
        };
        name.push(letter);
        name.push_str(rest);
    }
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The exchange of RFC 7677, section 3.
    const CLIENT_FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const SERVER_FIRST: &str =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const CLIENT_LAST: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                               p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    const SERVER_LAST: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    fn begin(message: &str, is_user: bool) -> Option<(Exchange, String)> {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let credential = Credential::derive("pencil", &salt, 4_096);
        Exchange::begin_with(message, SERVER_NONCE, |_| (credential, is_user))
    }

    #[test]
    fn the_exchange_of_rfc_7677_comes_out_as_printed() {
        let (exchange, challenge) = begin(CLIENT_FIRST, true).unwrap();
        assert_eq!(challenge, SERVER_FIRST);
        let (user, proof) = exchange.finish(CLIENT_LAST).unwrap();
        assert_eq!((&*user, proof.as_str()), ("user", SERVER_LAST));
    }

    #[test]
    fn a_stranger_fails_even_with_a_fitting_proof() {
        let (exchange, challenge) = begin(CLIENT_FIRST, false).unwrap();
        assert_eq!(challenge, SERVER_FIRST);
        assert!(exchange.finish(CLIENT_LAST).is_none());
    }

    #[test]
    fn any_change_to_the_last_message_fails() {
        let nonce = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        for message in [
            CLIENT_LAST.replace("dHzb", "dHzc"),
            CLIENT_LAST.replace("c=biws", "c=eSws"),
            CLIENT_LAST.replace("hNlF$k0", "hNlF$k1"),
            CLIENT_LAST.replace("k0,p=", "k0x,p="),
            CLIENT_LAST.replace("k0,p=", "k0,x=1,p="),
            CLIENT_LAST.replace(nonce, "r=rOprNGfwEbeRWgbNEkqO"),
            format!("c=biws,{nonce},p="),
            format!("c=biws,{nonce}"),
            String::new(),
        ] {
            let (exchange, _) = begin(CLIENT_FIRST, true).unwrap();
            assert!(exchange.finish(&message).is_none(), "{message}");
        }
    }

    #[test]
    fn malformed_first_messages_are_refused() {
        for message in [
            "",
            "n",
            "n,,",
            "n,,n=user",
            "n,,n=,r=x",
            "n,,n=user,r=",
            "n,,r=x,n=user",
            "n,,m=x,n=user,r=x",
            "p=tls-unique,,n=user,r=x",
            "n,a=other,n=user,r=x",
            "n,x,n=user,r=x",
            "n,,n=us=2Xer,r=x",
            "n,,n=user,r=a b",
        ] {
            assert!(begin(message, true).is_none(), "{message}");
        }
        assert!(begin(&format!("n,,n=user,r={}", "x".repeat(8_192)), true).is_none());
        assert!(begin("y,a=user,n=user,r=x,e=later", true).is_some());
    }

    #[test]
    fn separators_in_names_are_decoded() {
        assert_eq!(decode_name("a=2Cb=3D=2C").as_deref(), Some("a,b=,"));
        assert_eq!(decode_name("a=2c"), None);
        assert_eq!(decode_name("="), None);
    }
}
