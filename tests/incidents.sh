#!/usr/bin/env bash
# Causes incidents on running servers, and checks that the right alert fires in time. Durations in the
# rules are scaled: one minute takes one second. Needs prometheus, openssl, a C compiler and python3.
#   tests/incidents.sh [NAME...]
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build
python3 tests/incidents target/debug/bipedalnet "$@"
