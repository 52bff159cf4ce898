#!/usr/bin/env bash
# Runs a command beside a PostgreSQL server of its own, which is deleted afterwards. Tests find it by the URL in
# BIPEDALNET_TEST_POSTGRES, and create databases of their own in it. Needs postgresql and python3.
#   tests/postgres.sh cargo test --test blackbox
set -euo pipefail

exec python3 "$(dirname "$0")/cluster/postgres.py" "$@"
