"""Checks the dashboard without running it. Also breaks copies of it, and checks that this is noticed.

    python3 tests/monitoring/dashboard.py
"""

import copy
import json
import pathlib
import re
import sys

import runbook_page

DASHBOARD = pathlib.Path("docker/grafana/dashboards/bipedalnet.json")
RULES = pathlib.Path("docker/prometheus/rules.yml")
METRICS = pathlib.Path("src/telemetry/metrics")

# Of Grafana.
UNITS = {"bytes", "cps", "none", "percentunit", "reqps", "s", "short"}

STRING = r'"(?:[^"\\]|\\.)*"'
SELECTOR = re.compile(rf"(?<![\w:$])((?:bipedalnet|process)[_:][\w:]+|up|ALERTS)\b(\{{(?:[^}}\"]|{STRING})*\}})?")
WANTED = ('job=~"$job"', 'instance=~"$instance"')
AGGREGATION = r"\b(?:sum|avg|min|max|count|topk|quantile|group)\b"

# What the library `prometheus` exports of a process.
PROCESS = {
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_threads",
    "process_virtual_memory_bytes",
}


def exported():
    """Names that the code or a rule makes."""
    code = "".join(file.read_text() for file in METRICS.glob("*.rs"))
    own = {f"bipedalnet_{suffix}" for suffix in re.findall(r'"([a-z][a-z0-9_]+)"', code)}
    parts = {f"{name}_{part}" for name in own for part in ("bucket", "sum", "count")}
    return own | parts | PROCESS | {"up", "ALERTS", *re.findall(r"record: (\S+)", RULES.read_text())}


def selectors(query):
    """Metrics of a query with their matchers."""
    # A name in a string is none.
    strings = [found.span() for found in re.finditer(STRING, query)]
    inside = lambda at: any(start < at < end for start, end in strings)
    return [(f[1], f[2] or "") for f in SELECTOR.finditer(query) if not inside(f.start())]


def kept_labels(query):
    """Labels that a query keeps. `None` means all."""
    by = re.findall(r"\bby\s*\(([^)]*)\)", query)
    if by:
        return {label.strip() for labels in by for label in labels.split(",")} - {"le"}
    return set() if re.search(AGGREGATION, query) else None


def query_defects(query, known):
    for metric, matchers in selectors(query):
        for wanted in WANTED:
            if wanted not in matchers:
                yield f"{metric} has no {wanted}"
        if metric not in known:
            yield f"no code and no rule exports {metric}"
    if not selectors(query):
        yield "a query without a metric"
    if re.search(r"\b(?:rate|irate)\([^\[]*\[(?!\$__rate_interval\])", query):
        yield "a rate over a fixed time: use $__rate_interval"
    if "histogram_quantile(" in query and not re.search(r"\bby\s*\([^)]*\ble\b", query):
        yield "histogram_quantile without le"


def legend_defects(panel):
    legends = [target.get("legendFormat") for target in panel["targets"]]
    if len(set(legends)) < len(legends):
        yield "two queries with the same legend"
    for target in panel["targets"]:
        legend, kept = target.get("legendFormat"), kept_labels(target["expr"])
        if legend is None:
            if target.get("format") != "table":
                yield "a query without a legend"
            continue
        used = set(re.findall(r"{{\s*(\w+)\s*}}", legend)) - {"le"}
        if kept is None and "instance" not in used:
            yield f"the legend {legend} does not tell instances apart"
        if kept is not None and (lost := used - kept):
            yield f"the legend {legend} uses labels that the query drops: {sorted(lost)}"
        if kept and (missing := kept - used):
            yield f"the legend {legend} does not tell apart: {sorted(missing)}"


def unit_defects(panel):
    unit = panel.get("fieldConfig", {}).get("defaults", {}).get("unit")
    if unit not in UNITS:
        yield f"no known unit: {unit}"
    for target in panel["targets"]:
        query = target["expr"]
        # What a quotient or a count has for a unit, nobody can tell from the names.
        if re.search(r"\s/\s|\s\*\s|\bcount\b|\bincrease\b", query) or panel["type"] == "table":
            continue
        metric = selectors(query)[0][0] if selectors(query) else ""
        is_rate = "rate(" in query and "histogram_quantile" not in query
        wanted = (
            {"percentunit", "short"} if is_rate and metric.endswith("_seconds_total")
            else {"reqps", "cps", "short"} if is_rate
            else {"bytes"} if metric.endswith("_bytes")
            else {"percentunit"} if "_ratio" in metric or ":ratio" in metric or metric.endswith("_fmr")
            else {"s"} if "_seconds" in metric
            else UNITS - {"bytes", "s", "reqps", "cps"} | ({"cps"} if "per_second" in metric else set())
        )
        if unit not in wanted:
            yield f"the unit of {metric} is one of {sorted(wanted)}, not {unit}"


def threshold_defects(panel):
    steps = panel.get("fieldConfig", {}).get("defaults", {}).get("thresholds", {}).get("steps")
    if not steps:
        yield "no thresholds"
        return
    values = [step["value"] for step in steps]
    if values[0] is not None or None in values[1:] or values[1:] != sorted(set(values[1:])):
        yield f"thresholds are not in order: {values}"


def link_defects(links, anchors):
    for link in links:
        base, _, anchor = link["url"].partition("#")
        if base != "${runbook}":
            yield f"a link to {link['url']}; expected ${{runbook}}#..."
        elif anchor and anchor not in anchors:
            yield f"the runbook has no #{anchor}"


def panel_defects(panel, known, anchors):
    if not panel.get("description", "").endswith("."):
        yield "no description that ends with a full stop"
    yield from threshold_defects(panel)
    yield from link_defects(panel.get("links", []), anchors)
    if not panel.get("targets"):
        yield "no query"
        return
    for part in (panel, *panel["targets"]):
        if part.get("datasource") != {"type": "prometheus", "uid": "${datasource}"}:
            yield "a data source that is not ${datasource}"
    for target in panel["targets"]:
        yield from query_defects(target["expr"], known)
    yield from unit_defects(panel)
    yield from legend_defects(panel)


def layout_defects(panels):
    for kind in ("id", "title"):
        seen = [panel[kind] for panel in panels]
        yield from (f"two panels with the {kind} {one}" for one in set(seen) if seen.count(one) > 1)
    taken = {}
    for panel in panels:
        at = panel["gridPos"]
        if at["x"] < 0 or at["x"] + at["w"] > 24:
            yield f"{panel['title']}: beyond the grid of 24 columns"
        for cell in ((x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])):
            if taken.setdefault(cell, panel["title"]) != panel["title"]:
                yield f"{panel['title']}: overlaps {taken[cell]}"
                break


def defects(dashboard):
    known, anchors = exported(), runbook_page.anchors()
    found = list(layout_defects(dashboard["panels"]))
    for panel in dashboard["panels"]:
        if panel["type"] != "row":
            found += [f"{panel['title']}: {defect}" for defect in panel_defects(panel, known, anchors)]
    linked = {link["url"] for panel in dashboard["panels"] for link in panel.get("links", [])}
    alerts = sorted(set(re.findall(r"alert: (\w+)", RULES.read_text())))
    found += [f"no panel links to {name}" for name in alerts if f"${{runbook}}#{name.lower()}" not in linked]
    found += [f"the dashboard: {defect}" for defect in link_defects(dashboard["links"], anchors)]
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    found += [f"no variable {name}" for name in ("datasource", "job", "instance", "runbook") if name not in variables]
    for part in (*dashboard["annotations"]["list"], *variables.values()):
        if part.get("datasource", {}).get("uid", "${datasource}") != "${datasource}":
            found.append(f"{part['name']}: a data source that is not ${{datasource}}")
    for annotation in dashboard["annotations"]["list"]:
        found += [f"{annotation['name']}: {defect}" for defect in query_defects(annotation["expr"], known)]
    return found


# What somebody may do to a dashboard, with a part of the complaint.
def broken(dashboard):
    def changed(change):
        copied = copy.deepcopy(dashboard)
        plots = [panel for panel in copied["panels"] if panel["type"] == "timeseries"]
        change(plots[0], plots[1], copied)
        return copied

    def query(text):
        return changed(lambda one, *_: one["targets"][0].update(expr=text, legendFormat="{{instance}}"))

    good = '{job=~"$job", instance=~"$instance"}'
    yield "description", changed(lambda one, *_: one.pop("description"))
    yield "no thresholds", changed(lambda one, *_: one["fieldConfig"]["defaults"].pop("thresholds"))
    yield "not in order", changed(
        lambda one, *_: one["fieldConfig"]["defaults"]["thresholds"]["steps"].extend(
            [{"color": "red", "value": 2}, {"color": "orange", "value": 1}]))
    yield "no known unit", changed(lambda one, *_: one["fieldConfig"]["defaults"].pop("unit"))
    yield "${datasource}", changed(lambda one, *_: one["targets"][0]["datasource"].update(uid="prometheus"))
    yield "${datasource}", changed(lambda *all: all[2]["annotations"]["list"][0]["datasource"].update(uid="x"))
    yield "overlaps", changed(lambda one, other, _: other.update(gridPos=one["gridPos"]))
    yield "beyond the grid", changed(lambda one, *_: one["gridPos"].update(x=20, w=8))
    yield "with the id", changed(lambda one, other, _: other.update(id=one["id"]))
    yield "with the title", changed(lambda one, other, _: other.update(title=one["title"]))
    yield "the runbook has no", changed(lambda one, *_: one["links"][0].update(url="${runbook}#nothing"))
    yield "no panel links to BipedalnetLogGrows", changed(
        lambda *all: [panel.pop("links") for panel in all[2]["panels"] if "loggrows" in str(panel.get("links"))])
    yield "expected ${runbook}", changed(lambda one, *_: one["links"][0].update(url="docs/runbook.md#x"))
    yield "no query", changed(lambda one, *_: one.update(targets=[]))
    yield "no variable job", changed(
        lambda *all: all[2]["templating"].update(
            list=[variable for variable in all[2]["templating"]["list"] if variable["name"] != "job"]))
    yield 'no instance=~"$instance"', query('bipedalnet_users{job=~"$job"}')
    yield 'no job=~"$job"', query("bipedalnet_users")
    yield "exports bipedalnet_walkers", query(f"bipedalnet_walkers{good}")
    yield "exports bipedalnet:users", query(f"bipedalnet:users{good}")
    yield "fixed time", query(f"rate(bipedalnet_enrollments_total{good}[5m])")
    yield "without le", query(
        f"histogram_quantile(0.5, sum by (instance) (rate(bipedalnet_decision_score_bucket{good}[$__rate_interval])))")
    yield "the query drops", query(f"sum by (job) (bipedalnet_users{good})")
    yield "tell apart", query(f"sum by (instance, job) (bipedalnet_users{good})")
    yield "the unit of", query(f"bipedalnet_database_bytes{good}")
    yield "tell instances apart", changed(
        lambda one, *_: one["targets"][0].update(expr=f"bipedalnet_users{good}", legendFormat="users"))
    yield "same legend", changed(
        lambda one, *_: one["targets"].append({**one["targets"][0], "refId": "Z"}))


if __name__ == "__main__":
    dashboard = json.loads(DASHBOARD.read_text())
    if found := defects(dashboard):
        sys.exit("\n".join(found))
    missed = [wanted for wanted, copied in broken(dashboard) if not any(wanted in d for d in defects(copied))]
    if missed:
        sys.exit(f"the check of the dashboard does not notice: {missed}")
