//! Rules that come as JSON, with a token or from a hook.

use std::sync::Arc;

use paloma_broker::Authorizer;
use serde_json::Value;

use crate::ClientRules;

/// Rules from an array of strings; `None` if one of them is unsound.
pub(crate) fn client_rules(acl: &Value) -> Option<Arc<dyn Authorizer>> {
    let texts: Option<Vec<&str>> = acl.as_array()?.iter().map(Value::as_str).collect();
    let rules = ClientRules::new(texts?).ok()?;
    Some(Arc::new(rules))
}
