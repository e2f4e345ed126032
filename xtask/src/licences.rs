//! `cargo xtask licences`: what we depend on may be used as we use it.

use std::collections::BTreeSet;

use crate::{
    Command,
    failure::{Failure, Outcome},
    workspace::{self, Package},
};

pub(crate) const COMMAND: Command = Command {
    name: "licences",
    arguments: "",
    about: "every dependency comes from the registry under a licence we accept, and none is banned",
    details: "Reads `cargo metadata` of the workspace, fuzz/ and examples/. The lists are in xtask/src/licences.rs.",
    run: |_| check(),
};

/// Permissive licences, compatible with MIT and Apache-2.0 both.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "NCSA",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Crates that must not come in, even through others, each with its reason.
const BANNED: &[(&str, &str)] = &[
    ("async-std", "discontinued; tokio is our runtime"),
    (
        "native-tls",
        "its behaviour differs by platform; rustls is our TLS",
    ),
    ("openssl", "C code on the network's edge; rustls is our TLS"),
    (
        "openssl-sys",
        "C code on the network's edge; rustls is our TLS",
    ),
];

pub(crate) fn check() -> Outcome {
    let mut manifests = workspace::example_manifests()?;
    manifests.extend(["Cargo.toml".to_owned(), "fuzz/Cargo.toml".to_owned()]);
    let mut findings = BTreeSet::new();
    for manifest in &manifests {
        let packages = workspace::packages(manifest)?;
        findings.extend(packages.iter().flat_map(judge));
    }
    Failure::unless_empty("licences", findings.into_iter().collect())
}

fn judge(package: &Package) -> Vec<String> {
    let name = format!("{} {}", package.name, package.version);
    let mut findings = Vec::new();
    if let Some((_, reason)) = BANNED.iter().find(|(banned, _)| *banned == package.name) {
        findings.push(format!("{name} is banned: {reason}"));
    }
    match &package.licence {
        None => findings.push(format!("{name} states no licence")),
        Some(licence) if !is_allowed(licence) => {
            findings.push(format!("{name}: licence {licence} is not accepted"))
        }
        Some(_) => {}
    }
    if package
        .source
        .as_ref()
        .is_some_and(|source| !source.starts_with("registry+"))
    {
        findings.push(format!(
            "{name} does not come from the registry, so it cannot be published against"
        ));
    }
    findings
}

/// Whether some way to satisfy the SPDX expression uses accepted licences alone. The old `A/B` means `A OR B`.
fn is_allowed(expression: &str) -> bool {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let mut tokens: Vec<&str> = spaced.split_whitespace().collect();
    tokens.reverse();
    let allowed = any_of(&mut tokens);
    allowed && tokens.is_empty()
}

/// `tokens` is a stack, the next token last.
fn any_of(tokens: &mut Vec<&str>) -> bool {
    let mut allowed = all_of(tokens);
    while tokens.last() == Some(&"OR") {
        tokens.pop();
        allowed |= all_of(tokens);
    }
    allowed
}

fn all_of(tokens: &mut Vec<&str>) -> bool {
    let mut allowed = one(tokens);
    while tokens.last() == Some(&"AND") {
        tokens.pop();
        allowed &= one(tokens);
    }
    allowed
}

fn one(tokens: &mut Vec<&str>) -> bool {
    match tokens.pop() {
        Some("(") => {
            let allowed = any_of(tokens);
            tokens.pop() == Some(")") && allowed
        }
        Some(licence) if tokens.last() == Some(&"WITH") => {
            tokens.pop();
            let exception = tokens.pop().unwrap_or_default();
            ALLOWED.contains(&format!("{licence} WITH {exception}").as_str())
        }
        Some(licence) => ALLOWED.contains(&licence),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, licence: Option<&str>, source: Option<&str>) -> Package {
        Package {
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            licence: licence.map(str::to_owned),
            source: source.map(str::to_owned),
            is_member: false,
            features: Vec::new(),
            dependencies: Vec::new(),
        }
    }

    #[test]
    fn expressions_that_offer_an_accepted_licence_pass() {
        for expression in [
            "MIT",
            "MIT OR GPL-3.0",
            "GPL-3.0/MIT",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0",
        ] {
            assert!(is_allowed(expression), "{expression}");
        }
    }

    #[test]
    fn expressions_that_demand_another_licence_fail() {
        for expression in [
            "",
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "(MIT OR Apache-2.0) AND OpenSSL",
            "(MIT",
            "MIT MIT",
            "GPL-2.0 WITH LLVM-exception",
        ] {
            assert!(!is_allowed(expression), "{expression}");
        }
    }

    #[test]
    fn banned_unlicensed_and_foreign_packages_are_found() {
        let registry = Some("registry+x");
        assert_eq!(
            judge(&package("a", Some("MIT"), registry)),
            Vec::<String>::new()
        );
        assert_eq!(
            judge(&package("openssl", Some("Apache-2.0"), registry)).len(),
            1
        );
        assert_eq!(judge(&package("a", None, registry)).len(), 1);
        assert_eq!(judge(&package("a", Some("MIT"), Some("git+x"))).len(), 1);
    }
}
