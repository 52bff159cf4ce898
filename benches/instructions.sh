#!/usr/bin/env bash
# Counts the instructions of one window of BiPedalNet and of the network that ships, with each kind of
# kernels that valgrind can run. Fails if a count is more than 5 % above benches/instructions.txt.
# `--record` updates that file.
set -euo pipefail
cd "$(dirname "$0")/.."
baseline=benches/instructions.txt

# Instructions of a run of network $1 with kernels $2 and $3 windows.
collected() {
    local runner="target.'cfg(all())'.runner=['valgrind', '--tool=callgrind', '--callgrind-out-file=/dev/null']"
    cargo bench --quiet -p bipedalnet-core --bench inference --config "$runner" -- count "$1" "$2" "$3" 2>&1 |
        sed -n 's/.*Collected : //p'
}

failed=0
counts=()
for network in bipedalnet openset; do
    for kernels in avx2 portable; do
        few=$(collected "$network" "$kernels" 100)
        many=$(collected "$network" "$kernels" 300)
        count=$(((many - few) / 200))
        counts+=("$network $kernels $count")
        most=$(awk -v key="$network $kernels" '$1 " " $2 == key { print int($3 * 1.05) }' "$baseline" || true)
        echo "$network, $kernels: $count instructions per window, limit ${most:-?}"
        ((count > 0 && count <= ${most:-0})) || failed=1
    done
done
if [[ ${1:-} == --record ]]; then
    printf '%s\n' "${counts[@]}" >"$baseline"
else
    exit "$failed"
fi
