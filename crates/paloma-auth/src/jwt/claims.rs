//! From a token's claims to what its bearer is and may do.

use std::time::Duration;

use bytestring::ByteString;
use paloma_broker::{Admission, Identity};
use paloma_session::Wall;
use serde_json::{Map, Value};

use crate::JwtRules;
use crate::claim::client_rules;

/// Longest user name, in bytes.
const USER_BYTES_MAX: usize = 4_096;

/// What a verified token allows at this time; `None` if nothing.
pub(super) fn admission(
    claims: &Map<String, Value>,
    rules: &JwtRules,
    now: Wall,
) -> Option<Admission> {
    let now = Duration::from_millis(now.as_millis());
    let until = date(claims.get("exp")?)?.checked_add(rules.leeway)?;
    let valid_for = until.checked_sub(now).filter(|left| !left.is_zero())?;
    if let Some(begin) = claims.get("nbf")
        && date(begin)? > now.checked_add(rules.leeway)?
    {
        return None;
    }
    let is_issuer = |issuer: &String| claims.get("iss").and_then(Value::as_str) == Some(issuer);
    if !rules.issuer.as_ref().is_none_or(is_issuer) || !is_for_us(claims, rules) {
        return None;
    }
    let user = claims.get(&rules.user_claim)?.as_str()?;
    let is_name =
        !user.is_empty() && user.len() <= USER_BYTES_MAX && !user.contains(char::is_control);
    if !is_name {
        return None;
    }
    let client_rules = match claims.get(&rules.acl_claim) {
        None => None,
        Some(acl) => Some(client_rules(acl)?),
    };
    Some(Admission {
        rules: client_rules,
        valid_for: Some(valid_for),
        ..Admission::of(Identity {
            user: Some(ByteString::from(user)),
        })
    })
}

fn is_for_us(claims: &Map<String, Value>, rules: &JwtRules) -> bool {
    match (claims.get("aud"), &rules.audience) {
        (None, None) => true,
        (None, Some(_)) | (Some(_), None) => false,
        (Some(Value::Array(all)), Some(wanted)) => {
            all.iter().any(|one| one.as_str() == Some(wanted))
        }
        (Some(one), Some(wanted)) => one.as_str() == Some(wanted),
    }
}

/// Seconds since the epoch, which may have a fraction.
fn date(value: &Value) -> Option<Duration> {
    match value.as_u64() {
        Some(seconds) => Some(Duration::from_secs(seconds)),
        None => Duration::try_from_secs_f64(value.as_f64()?).ok(),
    }
}
