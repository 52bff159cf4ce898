#!/usr/bin/env bash
# Checks the monitoring: that the rules are valid, that each alert fires when it should, and that the
# real server has all metrics that the rules and the dashboard use. Needs prometheus, promtool, curl,
# openssl and python3.
set -euo pipefail
cd "$(dirname "$0")/.."

promtool check config docker/prometheus/prometheus.yml
promtool test rules docker/prometheus/tests.yml

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
"$program" serve --listen 127.0.0.1:0 --metrics-listen 127.0.0.1:0 \
    --tls-certificate "$folder/tls.crt" --tls-key "$folder/tls.key" \
    --database "$folder/test.db" 2>"$folder/server.log" &
until_it_works address_of address
url=https://$address
until_it_works address_of metrics
metrics=$address

# Send a request of each kind, so that all metrics exist: walks, a walk with a stop, standing still.
send() { curl --cacert "$folder/tls.crt" --silent --show-error -H 'content-type: application/json' "$@" >/dev/null; }
for walk in 1 2 3; do "$program" simulate --walker 7 --walk "$walk" >"$folder/$walk.json"; done
python3 - "$folder" <<'PYTHON'
import json, random, sys

def write(name, still_from_second):
    walk = json.load(open(f"{sys.argv[1]}/1.json"))
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
send -X PUT "$url/v1/users/ann"
send --data-binary @"$folder/1.json" "$url/v1/users/ann/enrollments"
send --data-binary @"$folder/3.json" "$url/v1/users/ann/verify"
for walk in 2 halt still; do send --data-binary @"$folder/$walk.json" "$url/v1/identify"; done

# Start Prometheus as in docker/, but with a shorter interval.
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cp docker/prometheus/rules.yml "$folder"
sed "s/bipedalnet:9464/$metrics/; s/interval: 15s/interval: 1s/" docker/prometheus/prometheus.yml \
    >"$folder/prometheus.yml"
prometheus --config.file="$folder/prometheus.yml" --storage.tsdb.path="$folder/data" \
    --web.listen-address="127.0.0.1:$port" 2>"$folder/prometheus.log" &

# Once all rules have run after a scrape, check the names in the rules and the dashboard.
cat >"$folder/check.py" <<'PYTHON'
import json, re, sys, urllib.error, urllib.parse, urllib.request

def ask(path):
    with urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/api/v1/{path}") as answer:
        return json.load(answer)["data"]

try:
    scraped = ask("query?query=up%3D%3D1")["result"]
    rules = [rule for group in ask("rules")["groups"] for rule in group["rules"]]
except OSError:
    sys.exit(1)
if not scraped or any(rule["health"] == "unknown" for rule in rules):
    sys.exit(1)

read = lambda path: open(path, encoding="utf-8").read()
rules_text = read("docker/prometheus/rules.yml")
named = rules_text + read("docker/grafana/dashboards/bipedalnet.json")
runbook = read("docs/runbook.md")
there = set(ask("label/__name__/values"))
recorded = set(re.findall(r"record: (\S+)", rules_text))
alerts = re.findall(r"alert: (\S+)", rules_text)
metrics = set(re.findall(r"\b(?:bipedalnet|process)_[a-z_]+\b", named))
defects = [f"rule {rule['name']}: {rule['lastError']}" for rule in rules if rule["health"] != "ok"]
defects += [f"the server has no metric {name}" for name in sorted(metrics - there)]
defects += [
    f"no rule records {name}"
    for name in sorted(set(re.findall(r"\bbipedalnet:[a-z0-9_:]+\b", named)) - recorded)
]
defects += [
    f"the runbook or the alert's link lacks {name}"
    for name in alerts
    if f"\n## {name}\n" not in runbook or f"docs/runbook.md#{name.lower()}\n" not in rules_text
]
defects += [f"the runbook has {name}, but there is no such alert" for name in
            sorted(set(re.findall(r"^## (Bipedalnet\S+)", runbook, re.M)) - set(alerts))]
for panel in json.loads(read("docker/grafana/dashboards/bipedalnet.json"))["panels"]:
    for target in panel.get("targets", []):
        query = target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*")
        try:
            ask("query?query=" + urllib.parse.quote(query))
        except urllib.error.HTTPError as error:
            defects.append(f"dashboard, {panel['title']}: {json.load(error)['error']}")
print("\n".join(defects) or f"{len(metrics)} metrics, {len(rules)} rules, {len(alerts)} alerts")
open(sys.argv[2], "w").write(str(len(defects)))
PYTHON
until_it_works python3 "$folder/check.py" "$port" "$folder/defects"
[[ $(<"$folder/defects") == 0 ]]
