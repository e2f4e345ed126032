//! PROXY headers of both versions: read whole or refused, and never in two ways.

use paloma_tokio::proxy::{read_v1, read_v2, v2_len};

/// The bytes as a header of each version.
pub fn run(data: &[u8]) {
    if let Ok(header) = read_v1(data) {
        assert!(data.len() <= 107 && data.ends_with(b"\r\n"));
        assert!(header.certificate_name.is_none());
        // One more byte is part of no header.
        for byte in [b' ', b'1', b'\n', 0] {
            let longer = [data, &[byte]].concat();
            assert!(read_v1(&longer).is_err());
        }
        for cut in 0..data.len() {
            assert!(read_v1(&data[..cut]).is_err(), "{cut}");
        }
    }
    match (v2_len(data), read_v2(data)) {
        (Ok(len), Ok(header)) => {
            assert_eq!(data.len(), 16 + len);
            assert!(len <= 16 * 1024);
            let is_local = data[12] & 0x0F == 0;
            assert!(!is_local || header.source.is_none() && header.certificate_name.is_none());
            let longer = [data, &[0]].concat();
            assert!(read_v2(&longer).is_err());
            assert!(read_v2(&data[..data.len() - 1]).is_err());
        }
        (Err(_), Ok(_)) => panic!("a header without a length is read"),
        (_, Err(_)) => {}
    }
}
