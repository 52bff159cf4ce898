#!/usr/bin/env bash
# Opens the page /docs of a real server in Chromium, on a phone's and a desk's screen, light and dark. Runs
# axe, uses the forms, and runs every curl line. Needs node, npm, curl and Debian's chromium.
set -euo pipefail
cd "$(dirname "$0")/.."

npm ci --silent --no-audit --no-fund --prefix tests/docs_page
cargo build
node tests/docs_page/check.js target/debug/bipedalnet
