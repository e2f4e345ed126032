#!/bin/sh
# Installs the pinned Python and Node clients that the interop tests drive, under target/interop.
# Running it again does nothing unless a pin changed. The mosquitto command line comes from the system's packages.
set -eu

crate=$(cd "$(dirname "$0")" && pwd)
target=${CARGO_TARGET_DIR:-$crate/../../target}/interop
mkdir -p "$target"

requirements=$crate/clients/python/requirements.txt
if ! cmp -s "$requirements" "$target/python/requirements.txt"; then
    rm -rf "$target/python"
    python3 -m venv "$target/python"
    "$target/python/bin/pip" install --quiet --disable-pip-version-check --requirement "$requirements"
    cp "$requirements" "$target/python/requirements.txt"
fi

lock=$crate/clients/node/package-lock.json
if ! cmp -s "$lock" "$target/node/installed.json"; then
    rm -rf "$target/node"
    mkdir -p "$target/node"
    cp "$crate/clients/node/package.json" "$lock" "$target/node/"
    (cd "$target/node" && npm ci --ignore-scripts --no-audit --no-fund --silent)
    cp "$lock" "$target/node/installed.json"
fi

echo "interop clients are ready in $target"
