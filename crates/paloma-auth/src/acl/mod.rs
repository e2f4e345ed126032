//! Rules about topics: ACL files in mosquitto's format, and the same rules from claims.

mod compare;
mod file;
mod filter;
mod pattern;
mod reload;
mod rules;

pub use compare::LostRight;
pub use reload::ReloadableRules;
pub use rules::{AclRules, ClientRules, OpenTopics};
