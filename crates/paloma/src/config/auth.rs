//! The keys that say who may come in and what they may do there: `[auth]`, and a listener's own.

use std::path::PathBuf;

use super::problem::Fault;
use super::value::Value;

/// Files of users and rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AuthFiles {
    pub(crate) password_file: Option<PathBuf>,
    pub(crate) acl_file: Option<PathBuf>,
}

impl AuthFiles {
    /// Each of these files, and in place of those that are not there the others.
    pub(crate) fn or(&self, others: &Self) -> Self {
        let or = |own: &Option<PathBuf>, other: &Option<PathBuf>| {
            own.as_ref().or(other.as_ref()).cloned()
        };
        Self {
            password_file: or(&self.password_file, &others.password_file),
            acl_file: or(&self.acl_file, &others.acl_file),
        }
    }

    /// Whether a client can prove who it is.
    pub(crate) const fn knows_names(&self) -> bool {
        self.password_file.is_some()
    }
}

/// The path of a file; an empty one is none.
pub(super) fn path(value: &Value<'_>) -> Result<Option<PathBuf>, Fault> {
    let text = value.text()?;
    if text.contains('\0') {
        let rule = "a path has no NUL character";
        return Err(Fault::Text { rule });
    }
    Ok((!text.is_empty()).then(|| PathBuf::from(text)))
}
