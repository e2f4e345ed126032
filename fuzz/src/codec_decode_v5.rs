//! A choice of side and limits, then a stream in 5.0: each packet decodes to a rule, or round-trips.

use paloma_codec::ProtocolVersion;

use crate::codec::check_stream;

/// Decodes the stream.
pub fn run(data: &[u8]) {
    if let Some((&choice, input)) = data.split_first() {
        check_stream(choice, ProtocolVersion::V5, input);
    }
}
