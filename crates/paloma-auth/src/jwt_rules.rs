//! What is asked of tokens besides a good signature.

use std::time::Duration;

/// What a token has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtRules {
    /// `iss` has to be this.
    pub issuer: Option<String>,
    /// `aud` has to be or hold this. Without it a token that names an audience is refused, since it is for somebody
    /// else. (RFC 7519, section 4.1.3)
    pub audience: Option<String>,
    /// The claim that holds the user name.
    pub user_claim: String,
    /// The claim that holds the client's rules: strings as they stand behind `pattern` in an ACL file. A token without it
    /// leaves the rules to the listener.
    pub acl_claim: String,
    /// How far the issuer's clock may be off.
    pub leeway: Duration,
}

impl Default for JwtRules {
    /// The user in `sub`, the rules in `acl`, clocks that agree within ten seconds.
    fn default() -> Self {
        Self {
            issuer: None,
            audience: None,
            user_claim: "sub".to_owned(),
            acl_claim: "acl".to_owned(),
            leeway: Duration::from_secs(10),
        }
    }
}
