#!/usr/bin/env bash
# Compiles a crate of this project with coverage counters for libFuzzer. Meant for RUSTC_WORKSPACE_WRAPPER.
set -euo pipefail

options=(-Cpasses=sancov-module)
for option in level=4 inline-8bit-counters pc-table trace-compares stack-depth; do
    options+=("-Cllvm-args=-sanitizer-coverage-$option")
done
# Build scripts run without libFuzzer.
[[ " $* " != *" build_script_build "* ]] || options=()
exec "$@" "${options[@]}"
