//! A choice of side and limits, then a stream in 3.1 or 3.1.1: each packet decodes to a rule, or round-trips.

use paloma_codec::ProtocolVersion;

use crate::codec::check_stream;

/// Decodes the stream; bit 3 of the first byte chooses between the two versions.
pub fn run(data: &[u8]) {
    let Some((&choice, input)) = data.split_first() else {
        return;
    };
    let version = if choice & 8 == 0 {
        ProtocolVersion::V3_1
    } else {
        ProtocolVersion::V3_1_1
    };
    check_stream(choice, version, input);
}
