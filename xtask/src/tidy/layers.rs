//! Arrows between the crates of the workspace point down only, and siblings do not know each other.

use crate::workspace::Package;

/// Each crate and the crates of ours it may use.
const ARROWS: &[(&str, &[&str])] = &[
    ("paloma-topic", &[]),
    ("paloma-codec", &["paloma-topic"]),
    ("paloma-session", &["paloma-topic", "paloma-codec"]),
    ("paloma-broker", CORES),
    (
        "paloma-record",
        &[
            "paloma-topic",
            "paloma-codec",
            "paloma-session",
            "paloma-broker",
        ],
    ),
    (
        "paloma-tokio",
        &[
            "paloma-topic",
            "paloma-codec",
            "paloma-session",
            "paloma-broker",
            "paloma-record",
        ],
    ),
    (
        "paloma-auth",
        &[
            "paloma-topic",
            "paloma-codec",
            "paloma-session",
            "paloma-broker",
        ],
    ),
    (
        "paloma-admin",
        &[
            "paloma-topic",
            "paloma-codec",
            "paloma-session",
            "paloma-broker",
        ],
    ),
    (
        "paloma-store-redb",
        &[
            "paloma-topic",
            "paloma-codec",
            "paloma-session",
            "paloma-broker",
        ],
    ),
    ("paloma-client", CORES),
    // It meets brokers over the network only.
    ("paloma-load", &[]),
    (
        "paloma",
        &[
            "paloma-topic",
            "paloma-codec",
            "paloma-session",
            "paloma-broker",
            "paloma-record",
            "paloma-tokio",
            "paloma-auth",
            "paloma-admin",
            "paloma-store-redb",
            "paloma-client",
            "paloma-load",
        ],
    ),
    (
        "paloma-bench",
        &[
            "paloma-topic",
            "paloma-codec",
            "paloma-session",
            "paloma-broker",
            "paloma-record",
            "paloma-tokio",
            "paloma-store-redb",
        ],
    ),
    ("paloma-sim", SIM),
    // They meet a broker over the network only, as anybody's client would.
    ("paloma-interop", &["paloma-client"]),
    ("paloma-hostile", &["paloma-load", "paloma-interop"]),
    ("paloma-conformance", &["paloma-topic", "paloma-codec"]),
    // It drives core and store in its own process too, beside the real binary.
    (
        "paloma-crash",
        &[
            "paloma-topic",
            "paloma-codec",
            "paloma-session",
            "paloma-broker",
            "paloma-store-redb",
            "paloma-interop",
        ],
    ),
    ("xtask", &[]),
];

/// The cores, and the store on a disk of its own: a simulated world drives them by itself.
const SIM: &[&str] = &[
    "paloma-topic",
    "paloma-codec",
    "paloma-session",
    "paloma-broker",
    "paloma-store-redb",
];

const CORES: &[&str] = &["paloma-topic", "paloma-codec", "paloma-session"];

/// What a crate may use in its tests besides: its own layer, to talk to the other end, or an oracle.
const TEST_ARROWS: &[(&str, &[&str])] = &[
    // The authorisation matrix is played by the rules that are really used.
    ("paloma-broker", &["paloma-auth"]),
    ("paloma-client", &["paloma-broker", "paloma-tokio"]),
    ("paloma-load", &["paloma-codec"]),
    ("paloma-conformance", &["paloma-interop"]),
];

pub(super) fn check(packages: &[Package]) -> Vec<String> {
    let members: Vec<&Package> = packages
        .iter()
        .filter(|package| package.is_member)
        .collect();
    let mut findings = Vec::new();
    for package in &members {
        let Some(allowed) = allowed(ARROWS, &package.name) else {
            findings.push(format!(
                "{} has no line in xtask/src/tidy/layers.rs",
                package.name
            ));
            continue;
        };
        let in_tests = self::allowed(TEST_ARROWS, &package.name).unwrap_or_default();
        for dependency in &package.dependencies {
            let name = dependency.name.as_str();
            let is_ours = members.iter().any(|member| member.name == name);
            let is_allowed =
                allowed.contains(&name) || dependency.is_dev && in_tests.contains(&name);
            if is_ours && !is_allowed {
                findings.push(format!(
                    "{} must not depend on {name}: arrows point down only",
                    package.name
                ));
            }
        }
    }
    findings
}

fn allowed(
    table: &[(&str, &'static [&'static str])],
    name: &str,
) -> Option<&'static [&'static str]> {
    table
        .iter()
        .find(|(crate_name, _)| *crate_name == name)
        .map(|(_, allowed)| *allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Dependency;

    fn member(name: &str, dependencies: &[(&str, bool)]) -> Package {
        Package {
            name: name.to_owned(),
            version: String::new(),
            licence: None,
            source: None,
            is_member: true,
            features: Vec::new(),
            dependencies: dependencies
                .iter()
                .map(|(name, is_dev)| Dependency {
                    name: (*name).to_owned(),
                    is_dev: *is_dev,
                })
                .collect(),
        }
    }

    fn check_dependency(from: &str, to: &str, is_dev: bool, findings: usize) {
        let packages = [member(from, &[(to, is_dev)]), member(to, &[])];
        assert_eq!(check(&packages).len(), findings, "{from} -> {to}");
    }

    #[test]
    fn downward_arrows_pass() {
        check_dependency("paloma-broker", "paloma-topic", false, 0);
        check_dependency("paloma", "paloma-tokio", false, 0);
    }

    #[test]
    fn upward_and_sideward_arrows_are_found() {
        check_dependency("paloma-topic", "paloma-codec", false, 1);
        check_dependency("paloma-client", "paloma-broker", false, 1);
        check_dependency("paloma-tokio", "paloma-client", false, 1);
        check_dependency("paloma-topic", "paloma-broker", true, 1);
    }

    #[test]
    fn tests_may_talk_to_the_other_end() {
        check_dependency("paloma-client", "paloma-tokio", true, 0);
    }

    #[test]
    fn unknown_crates_are_found() {
        assert_eq!(check(&[member("paloma-new", &[])]).len(), 1);
    }

    #[test]
    fn the_table_itself_points_down() {
        for (place, (_, allowed)) in ARROWS.iter().enumerate() {
            for name in *allowed {
                let below = ARROWS
                    .iter()
                    .position(|(crate_name, _)| crate_name == name)
                    .unwrap();
                assert!(below < place, "{name}");
            }
        }
    }
}
