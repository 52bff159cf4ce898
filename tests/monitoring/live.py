"""Checks rules, dashboard and runbook with a running Prometheus: python3 tests/monitoring/live.py PORT

Every query must give data, and every link of an alert must lead to its section. It waits a while for that.
"""

import json
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

import dashboard

# Queries without data in this test, and why.
EMPTY = {
    "bipedalnet_model_validation_accuracy_ratio": "the shipped model has no classes",
    "bipedalnet_training_loss": "the shipped model is refitted in closed form",
    "bipedalnet_training_validation_accuracy_ratio": "so there is no epoch after which it is known",
    "bipedalnet:unmatched_before:ratio_rate1w": "the server has no past",
    "bipedalnet_backup_last_failure_timestamp_seconds": "no backup has failed",
    "(ALERTS{": "no alert fires",
}

WAIT_SECONDS = 90

ADDRESS = f"http://127.0.0.1:{sys.argv[1]}"


def ask(path):
    with urllib.request.urlopen(f"{ADDRESS}/api/v1/{path}") as answer:
        return json.load(answer)["data"]


def is_ready():
    try:
        groups = ask("rules")["groups"]
        evaluated = all(rule["health"] != "unknown" for group in groups for rule in group["rules"])
        return evaluated and ask("query?query=up%3D%3D1")["result"]
    except OSError:
        return False


def name_defects(rules):
    """Rules that fail, and names that do not exist."""
    text = dashboard.RULES.read_text()
    named = text + dashboard.DASHBOARD.read_text()
    there = set(ask("label/__name__/values"))
    recorded = set(re.findall(r"record: (\S+)", text))
    metrics = set(re.findall(r"\b(?:bipedalnet|process)_[a-z_]+\b", named))
    yield from (f"rule {rule['name']}: {rule['lastError']}" for rule in rules if rule["health"] != "ok")
    yield from (f"the server has no metric {name}" for name in sorted(metrics - there))
    used = set(re.findall(r"\bbipedalnet:[a-z0-9_:]+\b", named))
    yield from (f"no rule records {name}" for name in sorted(used - recorded))
    once = [name for name in recorded if len(re.findall(rf"{re.escape(name)}\b", named)) == 1]
    yield from (f"nothing uses {name}" for name in sorted(once))


def runbook_defects(rules):
    """Alerts whose link leads nowhere, and sections without an alert."""
    with urllib.request.urlopen(f"{ADDRESS}/consoles/runbook.html") as answer:
        page = answer.read().decode()
    alerts = [rule for rule in rules if rule["type"] == "alerting"]
    for alert in alerts:
        name = alert["name"]
        wanted = f"{{{{ $externalURL }}}}/consoles/runbook.html#{name.lower()}"
        if alert["annotations"].get("runbook_url") != wanted:
            yield f"the link of {name} is not {wanted}"
        section = re.search(rf'<h2 id="{name.lower()}">.*?(?=<h2|\Z)', page, re.S)
        if section is None or "<p>First: " not in section[0]:
            yield f"the runbook has no section {name} with a paragraph that begins with First:"
    named = {alert["name"] for alert in alerts}
    yield from (f"the runbook has {name}, but there is no such alert"
                for name in re.findall(r'<a id="(Bipedalnet\w+)">', page) if name not in named)


def panel_defects(panel):
    legends = []
    for target in panel.get("targets", []):
        query = target["expr"].replace("$__rate_interval", "1m")
        query = query.replace("$instance", ".*").replace("$job", ".*")
        try:
            found = ask("query?query=" + urllib.parse.quote(query))["result"]
        except urllib.error.HTTPError as error:
            yield json.load(error)["error"]
            continue
        excused = any(part in target["expr"] for part in EMPTY)
        if not excused and all(series["value"][1] == "NaN" for series in found):
            yield f"no data: {target['expr']}"
        legend = target.get("legendFormat", "")
        for series in found if legend else ():
            labels = series["metric"]
            missing = [label for label in re.findall(r"{{\s*(\w+)\s*}}", legend) if label not in labels]
            if missing:
                yield f"the legend {legend} uses labels that are not there: {missing}"
            legends.append(re.sub(r"{{\s*(\w+)\s*}}", lambda found: labels.get(found[1], ""), legend))
    yield from (f"two lines are named {one}" for one in sorted({one for one in legends if legends.count(one) > 1}))


def defects():
    rules = [rule for group in ask("rules")["groups"] for rule in group["rules"]]
    found = [*name_defects(rules), *runbook_defects(rules)]
    panels = json.loads(dashboard.DASHBOARD.read_text())["panels"]
    for panel in panels:
        found += [f"dashboard, {panel['title']}: {defect}" for defect in panel_defects(panel)]
    firing = [alert for alert in ask("alerts")["alerts"] if alert["state"] == "firing"]
    found += [f"{alert['labels']['alertname']} fires" for alert in firing]
    slowest = max(rules, key=lambda rule: rule["evaluationTime"])
    figures = f"{len(rules)} rules, {len(panels)} panels; the slowest rule, {slowest['name']}, takes " \
        f"{slowest['evaluationTime'] * 1000:.1f} ms"
    return found, figures


if __name__ == "__main__":
    end = time.monotonic() + WAIT_SECONDS
    while not is_ready() or (result := defects())[0]:
        if time.monotonic() > end:
            sys.exit("\n".join(result[0]) if is_ready() else "Prometheus does not evaluate the rules")
        time.sleep(1)
    print(result[1])
