//! Requests for a WebSocket: granted once they are whole and not before, whatever follows, and refused with a word of HTTP.

use paloma_tokio::websocket::{Origins, WebSocket, read_request};

/// How many places a granted request is cut at.
const CUTS: usize = 32;

/// The first byte chooses whose pages may connect.
pub fn run(data: &[u8]) {
    let Some((&kind, bytes)) = data.split_first() else {
        return;
    };
    let mut listener = WebSocket::new();
    listener.origins = match kind % 3 {
        0 => Origins::SameHost,
        1 => Origins::Listed(vec!["https://app.example:8443".to_owned()]),
        _ => Origins::Any,
    };
    match read_request(bytes, &listener) {
        Ok(None) => assert!(bytes.len() < 8 * 1024, "a header that is too long waits"),
        Ok(Some((request, end))) => {
            let again = read_request(&bytes[..end], &listener);
            assert_eq!(
                again,
                Ok(Some((request.clone(), end))),
                "what follows counts"
            );
            for cut in (0..end).step_by(end / CUTS + 1) {
                assert_eq!(read_request(&bytes[..cut], &listener), Ok(None), "{cut}");
            }
            let answer = request.answer();
            assert!(answer.starts_with("HTTP/1.1 101 "));
            assert_eq!(answer.find("\r\n\r\n"), Some(answer.len() - 4));
        }
        Err(error) => {
            let answer = error.answer();
            assert!(answer.starts_with("HTTP/1.1 4"));
            assert!(answer.contains("\r\n\r\n"));
        }
    }
}
