#!/usr/bin/env bash
# Runs replicas of the program on one PostgreSQL, lets processes, networks and disks fail, and checks that nothing is
# lost, counted twice or answered wrongly. Needs postgresql, pgbouncer, haproxy, a C compiler and python3.
#   tests/cluster.sh [--sqlite] [--size N] [SCENARIO...]
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build
python3 tests/cluster target/debug/bipedalnet "$@"
