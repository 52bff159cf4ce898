#!/usr/bin/env bash
# Builds the JavaScript client and tests it in Node and Chromium against a server. Needs node, npm and chromium.
set -euo pipefail
cd "$(dirname "$0")/.."

if [[ -z ${BIPEDALNET_PROGRAM:-} ]]; then
    cargo build
    export BIPEDALNET_PROGRAM=$PWD/target/debug/bipedalnet
fi
if [[ -z ${BIPEDALNET_REFERENCE:-} ]]; then
    cargo build --example reference
    export BIPEDALNET_REFERENCE=$PWD/target/debug/examples/reference
fi
package=$PWD/clients/js
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

step() {
    echo "-- $*"
}

step "the pinned tools"
npm ci --silent --no-audit --no-fund --prefix "$package"

step "build and types"
rm -rf "$package/dist"
npm run --silent build --prefix "$package"

step "tests"
[[ -n ${BIPEDALNET_WASM:-} ]] || echo "SKIPPED: tests of a fresh build of WebAssembly; see crates/wasm/build.sh"
[[ -d ${WALKING_DATA:-../shared/data} ]] || echo "SKIPPED: tests with real recordings, because there is no ../shared/data"
npm test --silent --prefix "$package"

step "the package works where it is installed"
npm pack --silent --pack-destination "$folder" "$package"
tar --list --file "$folder"/bipedalnet-*.tgz | sort >"$folder/files"
for file in README.md LICENSE-APACHE LICENSE-MIT package.json dist/index.js dist/index.d.ts wasm/bipedalnet.wasm; do
    grep -qx "package/$file" "$folder/files" || { echo "$file is not in the package" >&2; exit 1; }
done
if grep -vE '^package/(wasm/bipedalnet\.wasm|dist/[a-z0-9_]+(\.d)?\.[jt]s|README\.md|LICENSE-[A-Z]+|package\.json)$' "$folder/files"; then
    echo "these files do not belong in the package" >&2
    exit 1
fi
npm install --silent --no-audit --no-fund --prefix "$folder/page" "$folder"/bipedalnet-*.tgz
cd "$folder/page"
node --input-type=module --eval 'import { Client, Queue, Recorder } from "bipedalnet"; new Recorder(); new Queue(new Client()).close()'
echo "the JavaScript client passed"
