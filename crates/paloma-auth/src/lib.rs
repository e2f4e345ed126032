//! Who an MQTT client is and what it may do.
//!
#![doc = include_str!("../README.md")]

mod acl;
mod file;
mod gate;
mod lines;
mod method;
mod password;
mod problem;
mod random;

pub use acl::{AclRules, ClientRules, OpenTopics, ReloadableRules};
pub use method::{Last, Method, Verdict};
pub use password::{PasswordFile, PasswordWork, Passwords, remove_user, set_password};
pub use problem::{Fault, Problem, Problems};
