"""The charts of the page, as plotly draws them; only `script` needs plotly, and that is optional.

A figure is what plotly.js takes, in JSON types. Plotly reads tags in all texts, so each is escaped.
"""

from __future__ import annotations

from contextlib import suppress
from html import escape
from typing import TYPE_CHECKING, Any

from ddmq.hpc.report.gather import PIECES, rows
from ddmq.hpc.report.sections import length, rate_unit, short_date, size, worker_name
from ddmq.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from ddmq.hpc.report.binned import Histogram
    from ddmq.hpc.report.gather import Gathered

#: Colours that all people tell apart, on white and on black (after Okabe and Ito).
BLUE, ORANGE, GREY = "#3a86c8", "#d9822b", "#8c939c"
_FONT = "system-ui, sans-serif"
#: Cells of the chart of workers, of which each takes some three bytes.
_CELLS = 150_000
_HEIGHT = 320
#: How high a worker is drawn, and what is the least and the most for all of them.
_ROW, _LEAST, _MOST = 14, 140, 900
#: Characters of a worker's name that are drawn.
_NAME = 24


def script() -> str | None:
    """Return the text of plotly.js; None: plotly is not installed."""
    from importlib import util  # only this needs it

    try:
        found = util.find_spec(
            "plotly"
        )  # its package is large, and need not be imported
    except (ImportError, ValueError):
        return None
    for place in (found and found.submodule_search_locations) or ():
        with (
            suppress(OSError),
            open(f"{place}/package_data/plotly.min.js", encoding="utf-8") as file,
        ):
            return file.read()
    return None


def figures(found: Gathered) -> dict[str, dict[str, Any]]:
    """Return the charts that there is something to show for, by the names of their sections."""
    charts: dict[str, dict[str, Any]] = {}
    if found.span is not None:
        charts["slots"] = _slots(found)
        charts["throughput"] = _throughput(found)
    if found.durations.number:
        charts["durations"] = _bars(found.durations, length, "runs")
    if found.memory.number:
        charts["memory"] = _bars(found.memory, size, "runs")
    if found.span is not None and found.workers:
        charts["workers"] = _workers(found)
    return charts


def _dates(found: Gathered) -> list[str]:
    """Return the beginnings of all pieces, as the local time that plotly takes as it is."""
    return [short_date(piece.start, found.width) for piece in found.busy]


def _slots(found: Gathered) -> dict[str, Any]:
    ends = found.busy[-1].start + found.width
    x = [*_dates(found), short_date(ends, found.width)]
    there = [round(each, 2) for each in found.there]
    busy = [round(piece.busy, 2) for piece in found.busy]
    line = {"shape": "hv", "width": 1.5}
    return _over_time(
        [
            {
                "type": "scatter",
                "mode": "lines",
                "name": "there",
                "x": x,
                "y": [*there, there[-1]],
                "line": {**line, "color": GREY, "dash": "dot"},
            },
            {
                "type": "scatter",
                "mode": "lines",
                "name": "busy",
                "x": x,
                "y": [*busy, busy[-1]],
                "line": {**line, "color": BLUE},
                "fill": "tozeroy",
                "fillcolor": _faint(BLUE),
            },
        ],
        y="slots",
        hovermode="x unified",
    )


def _throughput(found: Gathered) -> dict[str, Any]:
    unit, seconds = rate_unit(found)
    per, x = seconds / found.width, _dates(found)
    ends = [piece.start + found.width for piece in found.busy]
    data = []
    for name, colour, values in (
        ("done", BLUE, [piece.done for piece in found.busy]),
        ("failed", ORANGE, [piece.failed for piece in found.busy]),
    ):
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": name,
                "x": [*x, short_date(ends[-1], found.width)],
                "y": [round(value * per, 3) for value in (*values, values[-1])],
                "line": {
                    "shape": "hv",
                    "width": 1.5,
                    "color": colour,
                    "dash": "solid" if name == "done" else "dash",
                },
                "fill": "tozeroy" if name == "done" else "none",
                "fillcolor": _faint(colour),
            }
        )
    return _over_time(data, y=f"messages a {unit}", hovermode="x unified")


def _bars(
    histogram: Histogram, shown: Callable[[float], str], what: str
) -> dict[str, Any]:
    bars = histogram.bars()
    texts = [f"{shown(bar.low)} to {shown(bar.high)}" for bar in bars]
    step = max(len(bars) // 6, 1)
    ticks = list(range(0, len(bars), step))
    return _figure(
        [
            {
                "type": "bar",
                "x": [n + 0.5 for n in range(len(bars))],
                "y": [bar.number for bar in bars],
                "customdata": texts,
                "hovertemplate": f"%{{customdata}}<br>%{{y:,}} {what}<extra></extra>",
                "marker": {"color": BLUE},
            }
        ],
        y=what,
        x={
            "tickvals": ticks,
            "ticktext": [shown(bars[n].low) for n in ticks],
            "range": [0, len(bars)],
        },
        bargap=0.08,
    )


def _workers(found: Gathered) -> dict[str, Any]:
    number = len(found.workers)
    together = 1
    while number * (len(found.busy) // together) > _CELLS:
        together *= 2
    cells, names = [], []
    for count, (worker, shares) in enumerate(rows(found, PIECES), 1):
        names.append(escape(worker_name(count, worker)[:_NAME]))
        cells.append(
            [_mean(shares[n : n + together]) for n in range(0, len(shares), together)]
        )
    # The colours go from a faint one to the full one, and so fit to white and to black.
    faint = _faint(BLUE, 0.1)
    figure = _over_time(
        [
            {
                "type": "heatmap",
                "x": _dates(found)[::together],
                "y": names,
                "z": cells,
                "zmin": 0,
                "zmax": 100,
                "colorscale": [[0, faint], [1, BLUE]],
                "colorbar": {
                    "title": {"text": "busy, %", "side": "top"},
                    "orientation": "h",
                    "thickness": 8,
                    "len": 0.5,
                    "x": 0,
                    "xanchor": "left",
                    "y": 1,
                    "yanchor": "bottom",
                },
                "hovertemplate": "%{y}<br>%{x}<br>%{z} % busy<extra></extra>",
            }
        ],
        y="",
    )
    layout = figure["layout"]
    layout["height"] = min(max(number * _ROW, _LEAST), _MOST) + 80
    layout["yaxis"].update(type="category", autorange="reversed", nticks=25)
    layout["margin"]["t"] = 60
    del layout["yaxis"]["rangemode"]
    return figure


def _mean(shares: list[float | None]) -> int | None:
    there = [share for share in shares if share is not None]
    return round(100 * sum(there) / len(there)) if there else None


def _faint(colour: str, share: float = 0.25) -> str:
    red, green, blue = (int(colour[n : n + 2], 16) for n in (1, 3, 5))
    return f"rgba({red},{green},{blue},{share})"


def _over_time(data: list[dict[str, Any]], **layout: Any) -> dict[str, Any]:
    """Return a figure with dates below, which stand upright.

    What makes room for itself on several sides at once never finds its place on a phone.
    """
    figure = _figure(data, x={"tickangle": 0, "automargin": False}, **layout)
    figure["layout"]["margin"]["b"] = 40
    return figure


def _figure(
    data: list[dict[str, Any]],
    *,
    y: str,
    x: dict[str, Any] | None = None,
    **layout: Any,
) -> dict[str, Any]:
    """Return a figure; its colours of text and lines are those of the page."""
    return {
        "data": data,
        "layout": {
            "height": _HEIGHT,
            "margin": {"l": 10, "r": 10, "t": 10, "b": 10},
            "font": {"family": _FONT, "size": 12, "color": GREY},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "xaxis": {
                "automargin": True,
                "showgrid": False,
                "zeroline": False,
                **(x or {}),
            },
            "yaxis": {
                "automargin": True,
                "title": {"text": escape(printable(y))},
                "rangemode": "tozero",
                "gridcolor": _faint(GREY),
                "zeroline": False,
            },
            "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
            "hoverlabel": {"font": {"family": _FONT}},
            "dragmode": False,
            **layout,
        },
    }
