#!/usr/bin/env bash
# Checks the monitoring: that the rules are valid, that each alert fires when it should, that every panel of
# the dashboard shows data of a real server under load, and that each alert's link leads to its part of the
# runbook, and that alerts arrive. Needs prometheus, promtool, alertmanager, amtool, curl, openssl and python3.
set -euo pipefail
cd "$(dirname "$0")/.."

promtool check config docker/prometheus/prometheus.yml
promtool test rules docker/prometheus/tests.yml
python3 tests/monitoring/runbook_page.py
python3 tests/monitoring/dashboard.py

cargo build
# The limit below is not for the build.
SECONDS=0
program=target/debug/bipedalnet
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; wait; rm -rf "$folder"' EXIT

# Waits until a command succeeds. Fails if one of the started processes ends.
until_it_works() {
    until "$@"; do
        for process in $(jobs -p); do
            kill -0 "$process" 2>/dev/null || { cat "$folder"/*.log; exit 1; }
        done
        ((SECONDS < 300)) || { echo "not within 300 s: $*"; cat "$folder"/*.log; exit 1; }
        sleep 0.1
    done
}

# Sets $address from the server's log.
address_of() {
    address=$(sed -n "s/.* $1=\([0-9.:]*\).*/\1/p" "$folder/server.log") && [[ $address ]]
}

# With TLS, so that there are metrics of the certificate.
openssl req -x509 -newkey rsa:2048 -nodes -days 90 -subj /CN=test -addext subjectAltName=IP:127.0.0.1 \
    -keyout "$folder/tls.key" -out "$folder/tls.crt" 2>"$folder/openssl.log"
"$program" serve --listen 127.0.0.1:0 --metrics-listen 127.0.0.1:0 --keep-recordings-days 1 \
    --tls-certificate "$folder/tls.crt" --tls-key "$folder/tls.key" \
    --database "$folder/test.db" 2>"$folder/server.log" &
until_it_works address_of address
url=https://$address
until_it_works address_of metrics
metrics=$address

# Send requests of each kind, so that all metrics change: walks, a walk with a stop, standing still.
send() { curl --cacert "$folder/tls.crt" --silent --show-error -H 'content-type: application/json' "$@" >/dev/null; }
for walker in 1 2 3; do
    send -X PUT "$url/v1/users/user$walker"
    for walk in 1 2 3; do
        "$program" simulate --walker "$walker" --walk "$walk" >"$folder/$walker-$walk.json"
        ((walk == 3)) || send --data-binary @"$folder/$walker-$walk.json" "$url/v1/users/user$walker/enrollments"
    done
done
python3 - "$folder" <<'PYTHON'
import json, random, sys

def write(name, still_from_second):
    walk = json.load(open(f"{sys.argv[1]}/1-1.json"))
    for sample, second in enumerate(walk["time_seconds"]):
        if second >= still_from_second:
            noise = [random.uniform(-0.02, 0.02) for _ in range(3)]
            walk["acceleration"][sample] = [noise[0], noise[1], 9.81 + noise[2]]
            walk["angular_rate"][sample] = [0.0, 0.0, noise[0]]
    json.dump(walk, open(f"{sys.argv[1]}/{name}.json", "w"))

random.seed(1)
write("halt", 10.0)
write("still", 0.0)
PYTHON
send --data '{"activate": false}' "$url/v1/training-jobs"

# Go on, so that rates are not 0. A walk that is verified twice would be a replay.
for ((walk = 4; ; walk++)); do
    for walker in 1 2 3; do
        "$program" simulate --walker "$walker" --walk "$walk" \
            | send --data-binary @- "$url/v1/users/user$walker/verify"
        for name in 1-3 2-3 3-3 halt; do send --data-binary @"$folder/$name.json" "$url/v1/identify"; done
    done
    send --data-binary @"$folder/still.json" "$url/v1/identify"
    sleep 0.2
done 2>"$folder/requests.log" &

# Start Prometheus as in docker/, but with a shorter interval.
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cp docker/prometheus/rules.yml "$folder"
sed "s/bipedalnet:9464/$metrics/; s/interval: 15s/interval: 1s/" docker/prometheus/prometheus.yml \
    >"$folder/prometheus.yml"
prometheus --config.file="$folder/prometheus.yml" --storage.tsdb.path="$folder/data" \
    --web.console.templates=docker/prometheus/consoles \
    --web.listen-address="127.0.0.1:$port" 2>"$folder/prometheus.log" &

python3 tests/monitoring/alertmanager.py "$program"
python3 tests/monitoring/live.py "$port" || { cat "$folder"/*.log; exit 1; }
