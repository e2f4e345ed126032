//! Rules about topics: ACL files in mosquitto's format, and the same rules from claims.

mod file;
mod filter;
mod pattern;
mod reload;
mod rules;

pub use reload::ReloadableRules;
pub use rules::{AclRules, ClientRules, OpenTopics};
