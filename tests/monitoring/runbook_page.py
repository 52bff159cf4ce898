"""The runbook as a page of Prometheus, docker/prometheus/consoles/runbook.html.

    python3 tests/monitoring/runbook_page.py          # fails if the page is not that of docs/runbook.md
    python3 tests/monitoring/runbook_page.py --renew  # writes it
"""

import html
import pathlib
import posixpath
import re
import sys

SOURCE = pathlib.Path("docs/runbook.md")
PAGE = pathlib.Path("docker/prometheus/consoles/runbook.html")

STYLE = """
body { margin: 0 auto; padding: 1rem; max-width: 44rem; font: 1rem/1.5 system-ui, sans-serif; color-scheme: light dark; }
h2:target { background: #ffe08a; color: #000; }
code { font-size: .9em; overflow-wrap: anywhere; }
pre { overflow-x: auto; }
td, th { padding: .2rem .6rem; text-align: left; vertical-align: top; }
"""


def inline(text):
    """Code, bold text and links. Links to other documents become their names: Prometheus has only this page."""
    codes = []

    def keep(found):
        codes.append(f"<code>{html.escape(found[1])}</code>")
        return f"\0{len(codes) - 1}\0"

    def link(found):
        label, target = found[1], found[2]
        if target.startswith("#") or "://" in target:
            return f'<a href="{target}">{label}</a>'
        return f"{label} ({posixpath.normpath(SOURCE.parent / target)})"

    text = html.escape(re.sub(r"`([^`]+)`", keep, text), quote=False)
    text = re.sub(r"\*\*([^*]+)\*\*", r"<b>\1</b>", text)
    text = re.sub(r"\[([^]]+)\]\(([^)\s]+)\)", link, text)
    return re.sub("\0(\\d+)\0", lambda found: codes[int(found[1])], text)


def anchor(heading):
    """As GitHub makes it."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def anchors():
    return {anchor(heading) for heading in re.findall(r"^#+ (.+)$", SOURCE.read_text(), re.M)}


def table(lines):
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]
    head = "".join(f"<th>{inline(cell)}</th>" for cell in rows[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{inline(cell)}</td>" for cell in row) + "</tr>\n" for row in rows[2:]
    )
    return f"<table>\n<tr>{head}</tr>\n{body}</table>"


def block(text):
    lines = text.split("\n")
    if heading := re.fullmatch(r"(#+) (.+)", text):
        level, title = len(heading[1]), heading[2]
        # The dashboard links to the alert's name as it is.
        exact = f'<a id="{title}"></a>' if title.isalnum() else ""
        return f'<h{level} id="{anchor(title)}">{exact}{inline(title)}</h{level}>'
    if text.startswith("```"):
        return f"<pre><code>{html.escape(chr(10).join(lines[1:-1]))}</code></pre>"
    if all(line.startswith("    ") for line in lines):
        return f"<pre><code>{html.escape(chr(10).join(line[4:] for line in lines))}</code></pre>"
    if lines[0].startswith("|"):
        return table(lines)
    for mark, tag in ((r"- ", "ul"), (r"\d+\. ", "ol")):
        if re.match(mark, text):
            items = re.split(rf"\n{mark}", "\n" + text)[1:]
            body = "\n".join(f"<li>{inline(item)}</li>" for item in items)
            return f"<{tag}>\n{body}\n</{tag}>"
    return f"<p>{inline(text)}</p>"


def page():
    text = SOURCE.read_text().strip()
    # A fenced block may contain empty lines.
    blocks = re.findall(r"^```.*?^```$|(?:^(?!```).+\n?)+", text, re.M | re.S)
    blocks = [part for found in blocks for part in ([found] if found.startswith("```") else found.split("\n\n"))]
    body = "\n".join(block(part.strip("\n")) for part in blocks if part.strip())
    # Prometheus reads the page as a template.
    body = body.replace("{{", '{{"{{"}}')
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Runbook of bipedalnet</title>
<style>{STYLE}</style>
{body}
</html>
"""


if __name__ == "__main__":
    if "--renew" in sys.argv:
        PAGE.write_text(page())
    elif PAGE.read_text() != page():
        sys.exit(f"{PAGE} is not {SOURCE}: run python3 {sys.argv[0]} --renew")
