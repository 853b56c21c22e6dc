"""The page of `ddmq report`, looked at in a browser: it shows what the journals say."""

from __future__ import annotations

import json
import random
from importlib import util

import pytest

from ddmq import Broker
from ddmq.cli.main import main

pytestmark = pytest.mark.chromium
needs_plotly = pytest.mark.skipif(
    util.find_spec("plotly") is None, reason="plotly is not installed: ddmq[report]"
)
BEGAN, WORKERS, SLOTS, EACH = 1_790_000_000, 200, 4, 100
SECONDS = {"second": 1, "minute": 60, "hour": 3600}
BLUE = (0x3A, 0x86, 0xC8)
HOSTILE = (
    "</script><script>window.owned = 1</script><img src=x onerror=window.owned=1>"
    "<a href=javascript:window.owned=1>x</a>\"'&<b>\u202e"
)
FAILURES = (
    ("exit 2", {"exit": 2}, "bad header"),
    ("SIGKILL", {"exit": None, "signal": "SIGKILL"}, "killed"),
    ("exit 1", {"exit": 1}, "No space left on device"),
)


def runs_of(worker):
    """Yield runs of one worker: each slot is always busy, but for a straggler at its end."""
    chance = random.Random(worker)
    for slot in range(1, SLOTS + 1):
        at = BEGAN + chance.random() * 60
        for n in range(EACH // SLOTS):
            is_straggler = worker % 50 == 0 and slot == 1 and n == EACH // SLOTS - 1
            long = 3000.0 if is_straggler else chance.uniform(10, 50)
            run = {
                "id": f"{worker:016x}0000-{slot}{n:03d}",
                "start": at,
                "duration": long,
                "result": "acked",
                "exit": 0,
                "signal": None,
                "host": f"n{worker:03d}",
                "job": f"1_{worker}",
                "slot": slot,
                "peak_kib": 500_000,
                "cpu": long,
                "log": "",
                "text": f"sample-{worker}-{slot}-{n}.txt",
            }
            kind = (
                None
                if n != 3
                else 2
                if worker == 7
                else worker % 2
                if slot == 1
                else None
            )
            if kind is not None:
                run = {**run, "result": "dead", **FAILURES[kind][1]}
            yield run, kind
            at += long


def write(root, name, lines):
    with open(root / "jobs" / "journal" / name, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def bury(root, run, number, kind):
    """Make a dead letter of a run."""
    name = f"5.{number + 10**18}.{run['id']}.1-0.{number:016x}"
    note = {"stderr": f"reading\n{FAILURES[kind][2]}\n", "host": run["host"]}
    note.update({key: run[key] for key in ("exit", "signal")})
    note["reason"] = f"{FAILURES[kind][0]} on {run['host']}"
    dead = root / "jobs" / "dead"
    (dead / f"{name}.failed").write_text(json.dumps({"message": run["text"]}))
    (dead / f"{run['id']}.{number:016x}.failed.note").write_text(json.dumps(note))


def queue_at(path):
    root = path / "mq"
    Broker(root, create=True).create_queue("jobs")
    (root / "jobs" / "journal").mkdir()
    return root


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The directory of three pages, and the numbers of the first one."""
    directory = tmp_path_factory.mktemp("pages")
    root, number = queue_at(directory), 0
    for worker in range(WORKERS):
        runs = []
        for run, kind in runs_of(worker):
            runs.append(run)
            if kind is not None:
                number += 1
                bury(root, run, number, kind)
        write(root, f"n{worker:03d}-{worker}-{worker:016x}.1.jsonl", runs)
    page = str(directory / "page.html")
    assert main(["report", str(root), "jobs", "-o", page]) == 0

    (directory / "hostile").mkdir()
    other = queue_at(directory / "hostile")
    [run, *_] = next(zip(*runs_of(1)))
    texts = {"host": HOSTILE, "job": HOSTILE, "text": HOSTILE, "signal": HOSTILE}
    write(other, f"{HOSTILE.replace('/', '')}.jsonl", [run, {**run, **texts}])
    write(other, "n2-2-3.1.jsonl", [{**run, **texts, "result": "failed"}])
    assert (
        main(["report", str(other), "jobs", "-o", str(directory / "hostile.html")]) == 0
    )

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(__import__("sys").modules, "plotly", None)
        assert (
            main(["report", str(root), "jobs", "-o", str(directory / "plain.html")])
            == 0
        )
    return directory


@pytest.fixture(scope="module")
def numbers(pages):
    """What `ddmq report --format json` tells of the first page."""
    from ddmq.cli.commands.report import Arguments, report
    from ddmq.cli.spec import Context
    from ddmq.storage.filesystem import FileSystem

    told = Arguments(str(pages / "mq"), ["jobs"], None, None)
    return report(told, Context(FileSystem(), lambda _: None, is_typed=False)).value


@pytest.fixture(autouse=True)
def _nothing_went_wrong(browser):
    """Whatever a test opens, the page complains of nothing and asks the network for nothing."""
    browser.complaints.clear()
    browser.requests.clear()
    yield
    assert browser.complaints == []
    assert {url.partition(":")[0] for url in browser.requests} <= {"file", "data"}


def far(one, other):
    return max(abs(a - b) for a, b in zip(one, other))


@pytest.mark.parametrize(
    "name", [pytest.param("page", marks=needs_plotly), "plain", "hostile"]
)
def test_nothing_is_wider_than_the_window(browser, pages, name):
    browser.open(pages / f"{name}.html", 390)
    for width, scheme in (
        (390, "light"),
        (390, "dark"),
        (1440, "dark"),
        (1440, "light"),
    ):
        browser.resize(width, scheme=scheme)
        charts = "[...document.querySelectorAll('.chart')]"
        if name == "page":
            assert browser.value(f"{charts}.length") == 5
        assert browser.becomes_true(
            f"{charts}.every(each => each.clientWidth === "
            "each.querySelector('.main-svg').clientWidth)"
        )
        assert browser.value("document.documentElement.scrollWidth") == width
        back = browser.value("getComputedStyle(document.body).backgroundColor")
        text = browser.value("getComputedStyle(document.body).color")
        light, dark = "rgb(255, 255, 255)", "rgb(20, 23, 26)"
        assert back == (light if scheme == "light" else dark)
        assert text not in (light, dark)


@needs_plotly
def test_charts_are_as_wide_as_a_narrow_window_whenever_it_is_painted(browser, pages):
    for before in (390, 1440):
        browser.open(pages / "page.html", before)
        size = {"width": 390, "height": 900, "deviceScaleFactor": 1, "mobile": True}
        browser.do("Emulation.setDeviceMetricsOverride", **size)
        told = browser.value(
            "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done("
            "[...document.querySelectorAll('.chart')].map(each => [each, "
            "each.querySelector('.main-svg'), each.querySelector('.nsewdrag')]"
            ".map(x => x.getBoundingClientRect().right))))))"
        )
        assert len(told) == 5
        for chart, drawing, lines in told:
            assert lines < drawing == chart < 390
        assert browser.value("document.documentElement.scrollWidth") == 390


def test_bars_in_tables_are_seen_in_a_narrow_window(browser, pages):
    browser.open(pages / "plain.html", 390)
    right = browser.value(
        "Math.max(...[...document.querySelectorAll('section:not(#workers, #failures) .bar')]"
        ".map(each => each.getBoundingClientRect().right))"
    )
    assert right < 390


def test_what_others_wrote_is_not_obeyed(browser, pages):
    browser.open(pages / "hostile.html", 1440)
    assert browser.value("window.owned") is None
    assert browser.value("document.images.length") == 0
    assert "onerror=window.owned" in browser.value("document.body.innerText")
    links = browser.value(
        "[...document.querySelectorAll('a')].map(a => a.getAttribute('href'))"
    )
    svg = browser.value("document.querySelectorAll('svg a').length")
    assert all(link.startswith("#") for link in links)
    assert svg == 0


def test_the_sentence_is_what_happened(browser, pages):
    browser.open(pages / "plain.html", 1440)
    lead = browser.value("document.querySelector('.lead').innerText")
    failed = sum(kind is not None for w in range(WORKERS) for _, kind in runs_of(w))
    done = WORKERS * EACH - failed
    assert lead.startswith(
        f"{WORKERS * EACH:,} messages of queue jobs: {done:,} done, {failed}"
    )
    assert "by 200 workers on 200 hosts (n000, n001, n002, n003, …) in 200 jobs" in lead
    assert browser.value("document.querySelectorAll('details').length") == 0


def test_failures_are_told_by_their_kind(browser, pages):
    browser.open(pages / "plain.html", 1440)
    rows = browser.value(
        "[...document.querySelectorAll('#failures table')[0].tBodies[0].rows].map("
        "row => [...row.cells].map(cell => cell.innerText))"
    )
    kinds = {(row[0], row[1]): row for row in rows}
    assert set(kinds) == {(how, line) for how, _, line in FAILURES}
    assert kinds["exit 2", "bad header"][5] == "the messages: 100 of 200 hosts"
    assert kinds["SIGKILL", "killed"][6].endswith(" jobs --code 137")
    node = kinds["exit 1", "No space left on device"]
    assert (node[2], node[5]) == ("4", "the node: n007 alone")


def box_of(browser, name):
    """Return where the lines of a chart are drawn: left, top, width and height."""
    return browser.value(
        f"(() => {{ const b = document.querySelector('#chart-{name} .nsewdrag')"
        ".getBoundingClientRect();"
        "return [b.left + scrollX, b.top + scrollY, b.width, b.height] })()"
    )


@needs_plotly
def test_busy_slots_are_drawn_as_the_numbers_say(browser, pages, numbers):
    browser.open(pages / "page.html", 1440)
    layout = "document.getElementById('chart-slots')._fullLayout"
    left, top, width, height = box_of(browser, "slots")
    low, high = browser.value(f"{layout}.yaxis.range")
    first, last = browser.value(f"{layout}.xaxis.range.map(x => Date.parse(x))")
    pieces, wide = numbers["timeline"], numbers["piece"]
    begin, end = pieces[0]["start"], pieces[-1]["start"] + wide
    assert (last - first) / 1000 == pytest.approx(end - begin)

    def place(piece, slots):
        middle = (piece["start"] + wide / 2 - begin) / (end - begin)
        return (
            left + middle * width,
            top + height * (1 - (slots - low) / (high - low)),
        )

    looked = [piece for piece in pieces if piece["busy"] > 60][1:-1:3]
    assert len(looked) > 5
    points = [place(piece, piece["busy"] - 40) for piece in looked]
    points += [
        place(piece, max(piece["busy"], piece["slots"]) + 30) for piece in looked
    ]
    colours = browser.colours(points)
    white = (255, 255, 255)
    assert min(far(each, white) for each in colours[: len(looked)]) > 20
    assert max(far(each, white) for each in colours[len(looked) :]) < 40


@needs_plotly
def test_each_worker_is_drawn_as_the_numbers_say(browser, pages, numbers):
    browser.open(pages / "page.html", 1440)
    left, top, width, height = box_of(browser, "workers")
    full, none, workers = [], [], numbers["workers"]
    for row, worker in enumerate(workers):
        shares = worker["shares"]
        for column in range(1, len(shares) - 1):
            x = left + width * (column + 0.5) / len(shares)
            y = top + height * (row + 0.5) / len(workers)
            around = shares[column - 1 : column + 2]
            if around == [1.0] * 3:
                full.append((x, y))
            elif around == [None] * 3:
                none.append((x, y))
    assert len(full) > 1000
    assert len(none) > 1000
    colours = browser.colours(full + none)
    assert max(far(each, BLUE) for each in colours[: len(full)]) < 30
    # Lines of the grid are seen where nothing is.
    assert max(far(each, (255, 255, 255)) for each in colours[len(full) :]) < 60


@needs_plotly
def test_every_chart_has_its_numbers_in_a_table(browser, pages, numbers):
    browser.open(pages / "page.html", 1440)
    tables = browser.value(
        "Object.fromEntries([...document.querySelectorAll('.chart')].map(chart => {"
        "const rows = chart.parentElement.querySelector('details table').tBodies[0].rows;"
        "return [chart.id, [...rows].map(row => [...row.cells].map(c => c.textContent))] }))"
    )
    assert len(tables) == 5

    def column(name, place):
        cells = (row[place] for row in tables[f"chart-{name}"])
        return [float(cell.replace(",", "")) for cell in cells]

    pieces = numbers["timeline"]
    head = browser.value(
        "document.querySelector('#throughput details thead').textContent"
    )
    unit = next(n for word, n in SECONDS.items() if f"done a {word}" in head)
    for place, name in ((1, "busy"), (2, "slots")):
        told = [piece[name] for piece in pieces]
        assert column("slots", place) == pytest.approx(told, abs=0.06)
    for place, name in ((1, "done"), (2, "failed")):
        told = [piece[name] * unit / numbers["piece"] for piece in pieces]
        assert column("throughput", place) == pytest.approx(told, abs=0.06)
    for name in ("durations", "memory"):
        bars = [bar["number"] for bar in numbers[name]["bars"]]
        assert column(name, 1) == bars
    workers = numbers["workers"]
    assert column("workers", 5) == [each["done"] for each in workers]
    drawn = "document.getElementById('chart-{}').data[{}].y"
    for name, trace, place in (("slots", 0, 2), ("slots", 1, 1), ("throughput", 0, 1)):
        heights = browser.value(drawn.format(name, trace))
        assert heights[:-1] == pytest.approx(column(name, place), abs=0.06)
    assert browser.value(drawn.format("durations", 0)) == column("durations", 1)


def test_the_keyboard_is_enough(browser, pages):
    browser.open(pages / "page.html", 1440)
    browser.press("Tab", 9)
    assert browser.value("document.activeElement.className") == "skip"
    browser.press("Enter", 13, "\r")
    assert browser.value("location.hash") == "#what"
    for _ in range(200):
        browser.press("Tab", 9)
        name = browser.value("document.activeElement.tagName")
        if name == "BODY":
            break
        reached = browser.value(
            "const e = document.activeElement; "
            "[e.tagName, getComputedStyle(e).outlineStyle]".replace("const e", "var e")
        )
        assert reached[1] == "solid"
        if name == "SUMMARY":
            browser.press("Enter", 13, "\r")
            assert browser.value("document.activeElement.parentElement.open")
            break
    focusable = "document.querySelectorAll('.wide[tabindex=\"0\"]').length"
    assert browser.value(focusable) == browser.value(
        "document.querySelectorAll('.wide').length"
    )


@pytest.mark.parametrize("name", ["page", "plain"])
def test_it_can_be_printed(browser, pages, name):
    browser.open(pages / f"{name}.html", 718, media="print", scheme="dark")
    assert browser.becomes_true("document.documentElement.scrollWidth === 718")
    assert (
        browser.value("getComputedStyle(document.querySelector('nav')).display")
        == "none"
    )
    assert browser.value("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert len(browser.do("Page.printToPDF", printBackground=True)["data"]) > 10_000


@needs_plotly
def test_a_page_is_small(pages):
    assert (pages / "page.html").stat().st_size < 6_000_000
    assert (pages / "plain.html").stat().st_size < 600_000
