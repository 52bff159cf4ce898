#!/usr/bin/env bash
# Counts the instructions of one BiPedalNet window with each kind of kernels that valgrind can run.
# Fails if a count is more than 5 % above benches/instructions.txt. `--record` updates that file.
set -euo pipefail
cd "$(dirname "$0")/.."
baseline=benches/instructions.txt

# Instructions of a run with kernels $1 and $2 windows.
collected() {
    local runner="target.'cfg(all())'.runner=['valgrind', '--tool=callgrind', '--callgrind-out-file=/dev/null']"
    cargo bench --quiet --bench inference --config "$runner" -- count "$1" "$2" 2>&1 |
        sed -n 's/.*Collected : //p'
}

failed=0
counts=()
for kernels in avx2 portable; do
    few=$(collected "$kernels" 100)
    many=$(collected "$kernels" 300)
    count=$(((many - few) / 200))
    counts+=("$kernels $count")
    most=$(awk -v kernels="$kernels" '$1 == kernels { print int($2 * 1.05) }' "$baseline" || true)
    echo "$kernels: $count instructions per window, limit ${most:-?}"
    ((count > 0 && count <= ${most:-0})) || failed=1
done
if [[ ${1:-} == --record ]]; then
    printf '%s\n' "${counts[@]}" >"$baseline"
else
    exit "$failed"
fi
