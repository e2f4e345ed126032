//! Who an MQTT client is and what it may do.
//!
#![doc = include_str!("../README.md")]

mod acl;
mod certificate;
mod chain;
#[cfg(any(feature = "http", feature = "jwt"))]
mod claim;
mod file;
mod gate;
#[cfg(feature = "http")]
mod http;
#[cfg(not(feature = "http"))]
#[path = "no_http.rs"]
mod http;
mod http_config;
#[cfg(feature = "jwt")]
mod jwt;
#[cfg(not(feature = "jwt"))]
#[path = "no_jwt.rs"]
mod jwt;
mod jwt_rules;
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
pub use http::HttpHook;
pub use http_config::{HttpHookConfig, HttpHookError};
pub use jwt::{Jwt, JwtKeys};
pub use jwt_rules::JwtRules;
pub use limiter::LoginLimiter;
pub use method::{Last, Method, Verdict};
pub use password::{PasswordFile, PasswordWork, Passwords, remove_user, set_password};
pub use problem::{Fault, Problem, Problems};
pub use scram::{Scram, ScramFile, set_scram_password};
