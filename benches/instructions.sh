#!/usr/bin/env bash
# Counts the instructions of one window of BiPedalNet on the kernels that valgrind can run, and
# fails where they are over 5 % more than benches/instructions.txt says. `--record` rewrites it.
set -euo pipefail
cd "$(dirname "$0")/.."
baseline=benches/instructions.txt

# Instructions of a whole run of so many windows.
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
    echo "$kernels: $count instructions a window, at most ${most:-?}"
    ((count > 0 && count <= ${most:-0})) || failed=1
done
if [[ ${1:-} == --record ]]; then
    printf '%s\n' "${counts[@]}" >"$baseline"
else
    exit "$failed"
fi
