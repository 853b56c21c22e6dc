"""One page of HTML that needs nothing else: no network, no other file; pure.

Texts, hosts and reasons are what others wrote, so every one is escaped here, and the page allows
no script but those that it names by their sums.
"""

from __future__ import annotations

import json
import re
from html import escape
from typing import TYPE_CHECKING, Any

from ddmq.clock import date
from ddmq.hpc.report.sections import Blocks, CommandLine, Share
from ddmq.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ddmq.hpc.report.sections import Cell, Section, Source, Table

#: Characters of a word of a command that stands in one line.
_SHORT = 30
#: The space between a number and its unit, at which no line ends.
_unit = re.compile(r"(?<=[0-9]) (?=%|[KMG]iB\b|(?:s|min|h|d)\b)")
_code = re.compile("`([^`]*)`")
NO_CHARTS = (
    "This page has tables alone: to have charts in it too, install plotly where it is made, by "
    "`pip install 'ddmq[report]'`, and make it once more."
)
_STYLE = """
:root { color-scheme: light dark; --back: #fff; --text: #1c2126; --soft: #59636e;
  --line: #d8dde3; --mark: #3a86c8; --fill: #3a86c833; --code: #f3f5f7 }
@media (prefers-color-scheme: dark) { :root { --back: #14171a; --text: #e4e7ea;
  --soft: #9aa4af; --line: #343b42; --fill: #3a86c855; --code: #1f2429 } }
* { box-sizing: border-box }
html { -webkit-text-size-adjust: 100%; scroll-padding-top: 1rem }
body { margin: 0; background: var(--back); color: var(--text);
  font: 16px/1.5 system-ui, sans-serif }
header, main, footer { max-width: 68rem; margin: 0 auto; padding: 0 1rem }
header { padding-top: 2rem }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .5rem; overflow-wrap: anywhere }
h2 { font-size: 1.2rem; margin: 0 0 .5rem }
p { max-width: 46rem; margin: 0 0 .75rem; overflow-wrap: anywhere }
.lead { font-size: 1.1rem }
.soft, footer { color: var(--soft); font-size: .9rem }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1rem; list-style: none; margin: 1rem 0 0;
  padding: .5rem 0; border-block: 1px solid var(--line); font-size: .9rem }
a { color: inherit; text-underline-offset: .2em }
:focus-visible { outline: 3px solid var(--mark); outline-offset: 2px }
.skip { position: absolute; left: -99rem }
.skip:focus { left: 1rem; top: .5rem; background: var(--back); padding: .25rem .5rem }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr));
  gap: .75rem 1.5rem; margin: 1rem 0 }
.facts div { border-top: 2px solid var(--line); padding-top: .25rem }
.facts dt { color: var(--soft); font-size: .85rem }
.facts dd { margin: 0; font-size: 1.35rem; font-variant-numeric: tabular-nums }
section { padding: 1.5rem 0; border-bottom: 1px solid var(--line) }
.chart { min-height: 320px; width: 100%; overflow: hidden }
.wide { overflow-x: auto }
.long { max-height: 34rem; overflow-y: auto }
table { border-collapse: collapse; font-size: .85rem; line-height: 1.35; min-width: 50% }
caption { text-align: left; font-weight: 600; padding: .5rem 0; white-space: nowrap }
th, td { text-align: right; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; font-variant-numeric: tabular-nums; white-space: nowrap }
th { color: var(--soft); font-weight: 500; position: sticky; top: 0; background: var(--back) }
.text { text-align: left }
td.text { white-space: normal; overflow-wrap: anywhere; min-width: 7rem; max-width: 22rem }
td.command { min-width: 16rem }
code { font: .8rem/1.4 ui-monospace, monospace; background: var(--code); padding: .1rem .3rem;
  overflow-wrap: anywhere; user-select: all }
code span { white-space: nowrap }
.bar { display: inline-block; min-width: 6rem; padding-right: .25rem;
  background: linear-gradient(var(--fill), var(--fill)) no-repeat right / var(--w) 100% }
.blocks { font: .7rem/1 ui-monospace, monospace; color: var(--mark); white-space: pre }
details { margin: .5rem 0 }
summary { cursor: pointer; padding: .35rem 0; font-size: .9rem }
.main-svg text:not(.hovertext text, .legend.hover text) { fill: var(--text) !important }
.hoverlayer .bg { fill: var(--back) !important; stroke: var(--line) !important }
.hoverlayer text { fill: var(--text) !important }
footer { padding: 1rem 1rem 3rem }
@media (max-width: 40rem) { td, th, caption { white-space: normal; padding-right: .4rem }
  .bar { min-width: 3.5rem } }
@media print { :root { --back: #fff; --text: #000; --soft: #444; --line: #bbb }
  body { font-size: 11pt } nav, .skip, .modebar { display: none !important }
  header, main, footer { max-width: none; padding: 0 } section { break-inside: auto }
  .chart, tr { break-inside: avoid } .wide, .long { max-height: none; overflow: visible }
  table { font-size: 7.5pt } td, th { white-space: normal; padding-right: .5em }
  td.text, td.command, .bar { min-width: 0 } .blocks { font-size: 3.5pt } code { font-size: 7pt }
  th { position: static } details:not([open]) { display: none } }
"""
#: Draws the charts, and draws them anew as wide as paper is while the page is printed.
_DRAW = """
(function () {
  var charts = JSON.parse(document.getElementById("charts").textContent);
  var drawn = [];
  Object.keys(charts).forEach(function (name) {
    var place = document.getElementById("chart-" + name);
    if (!place) { return; }
    Plotly.newPlot(place, charts[name].data, charts[name].layout,
      {displaylogo: false, displayModeBar: false});
    drawn.push(place);
    // Before it is painted: `Plotly.Plots.resize` would leave it cut off for a while.
    new ResizeObserver(function () { fit(place); }).observe(place);
  });
  function fit(place) {
    if (place.clientWidth) { Plotly.relayout(place, {width: place.clientWidth}); }
  }
  window.addEventListener("beforeprint", function () {
    drawn.forEach(function (place) { Plotly.relayout(place, {width: 660}); });
  });
  window.addEventListener("afterprint", function () {
    drawn.forEach(fit);
  });
})();
"""


def page(
    source: Source,
    parts: Sequence[Section],
    charts: Mapping[str, Any],
    plotly: str | None,
) -> str:
    """Return the page; `plotly` is the text of plotly.js, None where there is none."""
    title = "ddmq report: " + ", ".join(map(printable, source.queues))
    scripts = []
    if plotly is not None:
        # Nothing in it ends the element that it stands in.
        harmless = plotly.replace("</script", "<\\/script").replace("<!--", "<\\!--")
        scripts = [harmless, _DRAW]
    return "".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
            f'<meta http-equiv="Content-Security-Policy" content="{_policy(scripts)}">\n',
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
            '<link rel="icon" href="data:,">\n',
            f"<title>{_text(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n",
            '<a class="skip" href="#what">Skip to what it was</a>\n',
            *_header(title, parts, has_charts=plotly is not None),
            "<main>\n",
            *(
                piece
                for part in parts
                for piece in _section(part, charts if scripts else None)
            ),
            "</main>\n",
            f"<footer>Made {_text(date(source.made))} by <code>ddmq report</code> from "
            f"{_text(source.root)}. All times are local to where it was made.</footer>\n",
            *_scripts(scripts, charts),
            "</body>\n</html>\n",
        ]
    )


def _policy(scripts: Sequence[str]) -> str:
    """Return what the page may do: run these scripts, and load nothing at all."""
    import base64  # only this needs them
    import hashlib

    sums = [
        base64.b64encode(hashlib.sha256(each.encode()).digest()).decode()
        for each in scripts
    ]
    allowed = " ".join(f"'sha256-{sum_}'" for sum_ in sums) or "'none'"
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def _scripts(scripts: Sequence[str], charts: Mapping[str, Any]) -> Iterator[str]:
    if scripts:
        data = json.dumps(charts, separators=(",", ":"), allow_nan=False)
        data = data.replace("<", "\\u003c").replace("\u2028", "\\u2028")
        yield f'<script type="application/json" id="charts">{data}</script>\n'
        yield from (f"<script>{script}</script>\n" for script in scripts)


def _header(
    title: str,
    parts: Sequence[Section],
    *,
    has_charts: bool,
) -> Iterator[str]:
    yield f"<header>\n<h1>{_text(title)}</h1>\n"
    if not has_charts:
        yield f'<p class="soft">{_typed(NO_CHARTS)}</p>\n'
    yield '<nav aria-label="Parts of this page"><ul>'
    yield from (
        f'<li><a href="#{part.name}">{_text(part.title)}</a></li>' for part in parts
    )
    yield "</ul></nav>\n</header>\n"


def _section(part: Section, charts: Mapping[str, Any] | None) -> Iterator[str]:
    yield f'<section id="{part.name}" aria-labelledby="title-{part.name}">\n'
    yield f'<h2 id="title-{part.name}">{_text(part.title)}</h2>\n'
    for number, words in enumerate(part.words):
        kind = ' class="lead"' if part.name == "what" and number == 0 else ""
        yield f"<p{kind}>{_typed(words)}</p>\n"
        if number == 0 and part.facts:
            yield '<dl class="facts">'
            for name, fact in part.facts:
                yield f"<div><dt>{_text(name)}</dt><dd>{_text(fact)}</dd></div>"
            yield "</dl>\n"
    if charts is not None and part.name in charts:
        label = f"{part.chart}; its numbers are in the table below"
        yield f'<div class="chart" id="chart-{part.name}" role="img" aria-label="{_text(label)}">'
        yield "</div>\n"
    for table in part.tables:
        if table.rows:
            yield from _table(table, folded=table.folded and charts is not None)
    yield "</section>\n"


def _table(table: Table, *, folded: bool) -> Iterator[str]:
    if folded:
        yield f"<details><summary>Numbers: {_text(table.title)}</summary>\n"
    # What may be wider than a phone is scrolled by itself, by the keyboard too.
    kind = "wide long" if table.folded else "wide"
    yield f'<div class="{kind}" tabindex="0" role="region" aria-label="{_text(table.title)}">'
    yield f"<table><caption>{_text(table.title)}</caption>\n<thead><tr>"
    texts = [_is_text(table, column) for column in range(len(table.header))]
    for name, is_text in zip(table.header, texts):
        yield f'<th scope="col"{" class=text" if is_text else ""}>{_text(name)}</th>'
    yield "</tr></thead>\n<tbody>\n"
    for row in table.rows:
        cells = (_cell(cell, is_text=is_text) for cell, is_text in zip(row, texts))
        yield f"<tr>{''.join(cells)}</tr>\n"
    yield "</tbody></table></div>\n"
    if folded:
        yield "</details>\n"


def _is_text(table: Table, column: int) -> bool:
    """Tell whether a column holds words, which are written to the left."""
    first = table.rows[0][column]
    named = table.header[column] in _WORDS
    return named or isinstance(first, (CommandLine, Blocks))


#: The columns that hold words.
_WORDS = frozenset(
    [
        "result",
        "it means",
        "queue",
        "message",
        "host",
        "ended with",
        "last line",
        "a message",
        "look at",
        "redrive",
        "it redrives",
        "worker",
        "job",
    ]
)


def _cell(cell: Cell, *, is_text: bool) -> str:
    if isinstance(cell, Share):
        wide = min(max(cell.share, 0.0), 1.0)
        return f'<td><span class="bar" style="--w:{wide:.1%}">{_text(cell.text)}</span></td>'
    if isinstance(cell, CommandLine):
        return f'<td class="text command"><code>{_words(cell.text)}</code></td>'
    if isinstance(cell, Blocks):
        return f'<td><span class="blocks" aria-hidden="true">{_text(cell.text)}</span></td>'
    return f"<td{' class=text' if is_text else ''}>{_text(cell)}</td>"


def _words(command: str) -> str:
    """Return a command of which no short word is broken."""
    words = (_text(word) for word in command.split(" "))
    return " ".join(f"<span>{w}</span>" if len(w) <= _SHORT else w for w in words)


def _typed(words: str) -> str:
    """Return a paragraph, in which what stands between backticks is code."""
    text = _unit.sub("\u00a0", _text(words))
    return _code.sub(r"<code>\1</code>", text)


def _text(text: str) -> str:
    return escape(printable(text))
