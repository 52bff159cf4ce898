#!/usr/bin/env bash
# Builds the fuzz targets and runs each for some seconds, as many at a time as there are processors:
#     fuzz/run.sh SECONDS [TARGET...]
# A failing input is left in target/fuzz/failures.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"

export seconds=$1
shift
targets=("$@")
((${#targets[@]})) || targets=(json cbor compact csv model bodies http)

# The profile `dev` checks overflows. Dependencies are shared with the build of the tests.
RUSTC_WORKSPACE_WRAPPER=$PWD/fuzz/rustc_with_coverage.sh cargo build -p bipedalnet-fuzz --bins

export programs=${CARGO_TARGET_DIR:-target}/debug
rm -rf target/fuzz/failures
mkdir -p target/fuzz/failures

run() {
    local target=$1 found dictionary=()
    found=$(mktemp -d)
    # Limits memory that nothing touches, too. The program itself needs half of this.
    ulimit -v $((2 << 20))
    [[ ! -e fuzz/dictionaries/$target ]] || dictionary=("-dict=fuzz/dictionaries/$target")
    if "$programs/$target" -seed=1 -max_total_time="$seconds" -max_len=8192 -timeout=60 -rss_limit_mb=256 \
        -artifact_prefix="target/fuzz/failures/$target-" -print_final_stats=1 \
        "${dictionary[@]}" "$found" "fuzz/corpus/$target" >"$found.log" 2>&1; then
        echo "-- $target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$found.log") inputs"
        rm -r "$found" "$found.log"
    else
        cat "$found.log"
        rm -r "$found" "$found.log"
        return 1
    fi
}
export -f run
printf '%s\0' "${targets[@]}" | xargs -0 -P "$(nproc)" -I{} bash -c 'run {}'
