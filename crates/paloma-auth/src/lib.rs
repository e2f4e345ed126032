//! Who an MQTT client is and what it may do.
//!
#![doc = include_str!("../README.md")]

mod acl;
mod certificate;
mod chain;
mod file;
mod gate;
mod http;
mod jwt;
mod limiter;
mod lines;
mod method;
mod password;
mod problem;
mod random;
mod scram;

pub use acl::{AclRules, ClientRules, LostRight, OpenTopics, ReloadableRules};
pub use certificate::Certificates;
pub use chain::{Chain, ListenerAuth};
pub use http::{HttpHook, HttpHookConfig, HttpHookError};
pub use jwt::{Jwt, JwtKeys, JwtRules};
pub use limiter::LoginLimiter;
pub use method::{Last, Method, Verdict};
pub use password::{PasswordFile, PasswordWork, Passwords, remove_user, set_password};
pub use problem::{Fault, Problem, Problems};
pub use scram::{Scram, ScramFile, set_scram_password};
