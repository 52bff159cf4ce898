#!/usr/bin/env bash
# Sends the real server requests that its OpenAPI description allows and forbids
# (https://schemathesis.io), first without API keys and then with them. Needs python3 with venv, and
# curl.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=target/schemathesis
if [[ ! -x $venv/bin/st ]]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet 'schemathesis~=4.32' 'openapi-spec-validator~=0.9' 'cbor2~=6.0'
fi

cargo build
program=target/debug/bipedalnet
folder=$(mktemp -d)
server=
stop() {
    if [[ $server ]]; then kill "$server" && wait "$server" || true; fi
    server=
}
trap 'stop; rm -rf "$folder"' EXIT

# Starts a server with the database $database. Sets $server and $url.
start() {
    local log=$folder/log
    : >"$log"
    "$program" serve --listen 127.0.0.1:0 --database "$database" --address-requests-per-second 0 --metrics-listen '' \
        --key-requests-per-second 0 2>"$log" &
    server=$!
    local address=
    while [[ -z $address ]]; do
        kill -0 "$server" 2>/dev/null || { cat "$log"; exit 1; }
        address=$(sed -n 's/.*address=\([0-9.:]*\).*/\1/p' "$log")
    done
    url=http://$address
}

# Creates users for the requests to find.
enroll() {
    for user in ann bob; do
        curl --silent --show-error --fail "$@" -X PUT "$url/v1/users/$user" >/dev/null
        curl --silent --show-error --fail "$@" -H 'content-type: application/json' \
            --data-binary @src/http/description/example_walk.json "$url/v1/users/$user/enrollments" >/dev/null
    done
}

try() {
    SCHEMATHESIS_HOOKS=tests/schemathesis_hooks.py "$venv/bin/st" --config-file \
        tests/schemathesis.toml run "$url/openapi.json" "$@"
}

echo "-- without keys"
database=$folder/open.db
start
curl --silent --show-error --fail "$url/openapi.json" >"$folder/openapi.json"
"$venv/bin/python" -m openapi_spec_validator "$folder/openapi.json"
enroll
# Without keys, the server requires none.
try --exclude-checks ignored_auth
stop

echo "-- with keys"
database=$folder/keys.db
key=$("$program" keys --database "$database" create --name test --scopes identify,enroll,extend,features,admin,train,scores)
start
enroll -H "authorization: Bearer $key"
try --header "Authorization: Bearer $key"
