//! Fuzz targets: each module has a `run` that takes the fuzzer's bytes and panics on a finding.
//!
//! A target named `x` is five small things; `tests/replay.rs` fails if one is missing:
//! a module `src/x.rs` with `pub fn run(data: &[u8])`, its `pub mod` line and its line in [`TARGETS`] below,
//! `fuzz_targets/x.rs`, a `[[bin]]` in `Cargo.toml`, and at least one seed in `corpus/x/`.

pub mod adapter_duplex;
pub mod auth_acl;
pub mod auth_files;
pub mod broker_ops;
mod codec;
pub mod codec_decode_v3;
pub mod codec_decode_v5;
pub mod codec_message;
pub mod codec_round_trip;
pub mod codec_split;
#[allow(
    dead_code,
    unused_imports,
    reason = "the binary's own module: targets use a part of it"
)]
#[path = "../../crates/paloma/src/config/mod.rs"]
mod config;
pub mod config_file;
#[allow(dead_code, reason = "likewise")]
#[path = "../../crates/paloma/src/few.rs"]
mod few;
#[allow(dead_code, reason = "likewise")]
#[path = "../../crates/paloma/src/memory.rs"]
mod memory;
#[allow(dead_code, reason = "likewise")]
#[path = "../../crates/paloma/src/parts.rs"]
mod parts;
pub mod proxy_headers;
pub mod record_events;
pub mod session_ops;
pub mod session_packets;
/// What the configuration knows of the binary's module of this name.
mod store {
    pub(crate) use paloma_store_redb::Durability;
}
pub mod store_recover;
pub mod topic_map;
pub mod topic_matches;
pub mod topic_target;
pub mod topic_trie;
pub mod websocket_frames;
pub mod websocket_upgrade;

/// What a fuzz target is: a function that panics when the bytes uncover a fault.
pub type Target = fn(&[u8]);

/// Every target by name, for the replay of the corpora.
pub const TARGETS: &[(&str, Target)] = &[
    ("topic_matches", topic_matches::run),
    ("topic_trie", topic_trie::run),
    ("topic_map", topic_map::run),
    ("topic_target", topic_target::run),
    ("codec_decode_v3", codec_decode_v3::run),
    ("codec_decode_v5", codec_decode_v5::run),
    ("codec_split", codec_split::run),
    ("codec_message", codec_message::run),
    ("codec_round_trip", codec_round_trip::run),
    ("session_ops", session_ops::run),
    ("session_packets", session_packets::run),
    ("adapter_duplex", adapter_duplex::run),
    ("broker_ops", broker_ops::run),
    ("auth_acl", auth_acl::run),
    ("auth_files", auth_files::run),
    ("store_recover", store_recover::run),
    ("record_events", record_events::run),
    ("websocket_frames", websocket_frames::run),
    ("websocket_upgrade", websocket_upgrade::run),
    ("proxy_headers", proxy_headers::run),
    ("config_file", config_file::run),
];
