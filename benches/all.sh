#!/usr/bin/env bash
# Runs every command of the goals in docs/performance.md, one after the other, and prints what they print. Progress goes
# to stderr. Start it on a machine that does nothing else. Needs python3.11 with venv, node, npm and chromium. Takes
# about 20 minutes after the builds.
#   benches/all.sh >report.md
set -euo pipefail
cd "$(dirname "$0")/.."

run() {
    printf '\n## `%s`\n\n' "$*"
    "$@"
}

cargo build --release
cargo build --release --example speed
cargo bench --no-run
npm ci --silent --no-audit --no-fund --prefix clients/js
npm run --silent build --prefix clients/js

echo "# $(date -u +%F), $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1), $(nproc) processors, $(rustc --version)"
run cargo bench --bench inference
run cargo bench --bench path
run cargo bench --bench service
run node clients/js/bench/speed.js target/release/bipedalnet target/release/examples/speed
run python3.11 benches/peers/compare.py inference --rounds 3 --seconds 0.5
run python3.11 benches/peers/compare.py training --rounds 2 --seconds 1
