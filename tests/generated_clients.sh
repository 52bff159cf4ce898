#!/usr/bin/env bash
# Lints the API's description, makes clients from it with five generators and a mock server, and runs
# each. Needs python3 with venv, node, npm, java, go and its package gopkg.in/validator.v2, and curl.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=target/generated_clients/tools
if [[ ! -e $tools/complete ]]; then
    rm -rf "$tools"
    mkdir -p "$tools"
    python3 -m venv "$tools/python"
    "$tools/python/bin/pip" install --quiet 'openapi-python-client==0.29.1' 'openapi-generator-cli==7.26.0'
    npm install --silent --no-audit --no-fund --prefix "$tools" @redocly/cli@2.77.0 \
        @hey-api/openapi-ts@0.99.0 @stoplight/prism-cli@5.16.0 typescript@5.9.3 @types/node@20
    touch "$tools/complete"
fi
tools=$PWD/$tools
export PATH=$tools/node_modules/.bin:$tools/python/bin:$PATH

cargo build
program=$PWD/target/debug/bipedalnet
sources=$PWD/tests/generated_clients
description=$PWD/docs/openapi.json
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait; rm -rf "$folder"' EXIT
cd "$folder"

step() {
    echo "-- $*"
}

# Prints the address in a program's log as soon as it is there: address_in PROCESS LOG WORDS_BEFORE.
address_in() {
    local address=
    while [[ -z $address ]]; do
        kill -0 "$1" 2>/dev/null || { cat "$2" >&2; exit 1; }
        address=$(sed -n "s/.*$3\(127[0-9.:]*\).*/\1/p" "$2")
    done
    echo "$address"
}

step "Redocly lints the description"
redocly lint --extends recommended --skip-rule operation-4xx-response --skip-rule no-server-example.com \
    "$description"

step "Prism answers plain curl from the examples"
prism mock --host 127.0.0.1 --port 0 "$description" >prism.log 2>&1 &
mock=http://$(address_in $! prism.log 'listening on http:\/\/')
for path in livez v1/users v1/users/ann v1/models; do
    curl --silent --show-error --fail -H 'authorization: Bearer any' "$mock/$path" >/dev/null
done
curl --silent --show-error --fail -H 'authorization: Bearer any' -H 'content-type: application/json' \
    --data-binary "@$OLDPWD/src/http/description/example_walk.json" "$mock/v1/identify" | grep -q '"decision"'

step "a server for the clients"
key=$("$program" keys --database clients.db create --name clients --scopes identify,enroll)
"$program" serve --listen 127.0.0.1:0 --database clients.db --metrics-listen '' 2>server.log &
url=http://$(address_in $! server.log 'address=')
# Each client has a person of its own.
for client in 1 2 3 4; do
    for walk in 1 2 3; do
        "$program" simulate --walker "$client" --walk "$walk" --seconds 35 >"walk-$client-$walk.json"
    done
done

step "openapi-python-client"
openapi-python-client generate --path "$description" --meta none --output-path bipedalnet_client >python.log 2>&1 \
    || { cat python.log; exit 1; }
cp "$sources/client.py" .
python client.py "$url" "$key" walk-1-*.json

step "@hey-api/openapi-ts"
mkdir -p typescript
cp "$sources"/*.ts typescript
openapi-ts --silent --input "$description" --output typescript/hey_api_client

step "openapi-generator: typescript-fetch"
generate() {
    openapi-generator-cli generate --input-spec "$description" "$@" >generator.log 2>&1 || { cat generator.log; exit 1; }
}
generate --generator-name typescript-fetch --output typescript/fetch_client
ln -s "$tools/node_modules" typescript/node_modules
tsc --strict --skipLibCheck --target es2022 --lib es2022,dom,dom.iterable --module commonjs --esModuleInterop --typeRoots typescript/node_modules/@types --types node \
    --outDir compiled typescript/*.ts
node compiled/hey_api.js "$url" "$key" walk-2-*.json
node compiled/typescript_fetch.js "$url" "$key" walk-3-*.json

step "openapi-generator: go"
generate --generator-name go --output go/src/bipedalnet_client --additional-properties=withGoMod=false
rm -r go/src/bipedalnet_client/test
mkdir go/src/client
cp "$sources/client.go" go/src/client
GO111MODULE=off GOPATH=$folder/go:/usr/share/gocode go build -o client client
./client "$url" "$key" walk-4-*.json
echo "1 description, 4 clients and 1 mock server passed"
