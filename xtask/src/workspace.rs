//! Where the workspace is, what files it has, and what `cargo metadata` says about it.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{
    failure::{Failure, Outcome},
    process,
};

/// The root of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask is a directory of the workspace")
}

/// Where cargo puts what it builds.
pub(crate) fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// A package, of the workspace or from elsewhere.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    /// The licence expression of its manifest.
    pub(crate) licence: Option<String>,
    /// Where it comes from; none for a path.
    pub(crate) source: Option<String>,
    pub(crate) is_member: bool,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) features: Vec<String>,
}

/// What a manifest says about one dependency.
#[derive(Debug)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    pub(crate) is_dev: bool,
}

/// Every package in the dependency graph of the workspace whose manifest is `manifest`, relative to the root.
pub(crate) fn packages(manifest: &str) -> Outcome<Vec<Package>> {
    let arguments = [
        "metadata",
        "--format-version=1",
        "--manifest-path",
        manifest,
    ];
    let text = process::stdout(&mut process::cargo(&arguments))?;
    parse(&text).map_err(|problem| Failure::Format {
        what: "cargo metadata",
        problem,
    })
}

fn parse(text: &str) -> Result<Vec<Package>, String> {
    let metadata: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let members: Vec<&str> = array(&metadata, "workspace_members")?
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let packages = array(&metadata, "packages")?;
    packages
        .iter()
        .map(|package| parse_package(package, &members))
        .collect()
}

fn parse_package(package: &Value, members: &[&str]) -> Result<Package, String> {
    let mut dependencies = Vec::new();
    for dependency in array(package, "dependencies")? {
        let is_dev = dependency.get("kind").and_then(Value::as_str) == Some("dev");
        dependencies.push(Dependency {
            name: string(dependency, "name")?,
            is_dev,
        });
    }
    let id = string(package, "id")?;
    Ok(Package {
        name: string(package, "name")?,
        version: string(package, "version")?,
        licence: string(package, "license").ok(),
        source: string(package, "source").ok(),
        is_member: members.contains(&id.as_str()),
        dependencies,
        features: package
            .get("features")
            .and_then(Value::as_object)
            .map(|features| features.keys().cloned().collect())
            .unwrap_or_default(),
    })
}

fn array<'a>(value: &'a Value, key: &str) -> Result<&'a Vec<Value>, String> {
    value
        .get(key)
        .and_then(Value::as_array)
        .ok_or_else(|| format!("no list `{key}`"))
}

fn string(value: &Value, key: &str) -> Result<String, String> {
    value
        .get(key)
        .and_then(Value::as_str)
        .map(str::to_owned)
        .ok_or_else(|| format!("no text `{key}`"))
}

/// What tools made, not what people wrote.
const SKIPPED: &[&str] = &[
    "target",
    "node_modules",
    "__pycache__",
    "paloma-data",
    "corpus",
    "artifacts",
    "coverage",
    ".git",
    ".venv",
];

/// All files that people wrote, relative to the root, sorted.
pub(crate) fn files() -> Outcome<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(directory) = pending.pop() {
        let path = root().join(&directory);
        for entry in fs::read_dir(&path).map_err(Failure::file(&path))? {
            let entry = entry.map_err(Failure::file(&path))?;
            let kind = entry.file_type().map_err(Failure::file(&path))?;
            let relative = directory.join(entry.file_name());
            if SKIPPED.iter().any(|skipped| entry.file_name() == *skipped) {
                continue;
            }
            if kind.is_file() {
                found.push(relative);
            } else if kind.is_dir() {
                pending.push(relative);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The text of a file given relative to the root; none if it is not text.
pub(crate) fn text(relative: &Path) -> Outcome<Option<String>> {
    let path = root().join(relative);
    let bytes = fs::read(&path).map_err(Failure::file(&path))?;
    Ok(String::from_utf8(bytes).ok())
}

/// Manifests of the workspaces of their own below `examples/`, relative to the root, sorted.
pub(crate) fn example_manifests() -> Outcome<Vec<String>> {
    let mut manifests: Vec<String> = files()?
        .into_iter()
        .filter(|path| path.starts_with("examples") && path.ends_with("Cargo.toml"))
        .map(|path| path.display().to_string())
        .collect();
    manifests.sort();
    Ok(manifests)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_read() {
        let text = r#"{"workspace_members": ["a 1"], "packages": [
            {"id": "a 1", "name": "a", "version": "1.0.0", "license": "MIT", "source": null, "features": {"f": ["dep:b"], "g": []}, "dependencies": [
                {"name": "b", "kind": null}, {"name": "c", "kind": "dev"}]},
            {"id": "b 2", "name": "b", "version": "2.0.0", "license": null, "source": "registry+x", "dependencies": []}]}"#;
        let packages = parse(text).unwrap();
        assert!(packages[0].is_member && !packages[1].is_member);
        assert!(!packages[0].dependencies[0].is_dev && packages[0].dependencies[1].is_dev);
        assert_eq!(packages[0].features, ["f", "g"]);
        assert!(packages[1].features.is_empty());
        assert_eq!(packages[1].licence, None);
        assert_eq!(packages[1].source.as_deref(), Some("registry+x"));
    }

    #[test]
    fn metadata_without_packages_is_refused() {
        assert!(parse(r#"{"workspace_members": []}"#).is_err());
        assert!(parse("not json").is_err());
    }
}
