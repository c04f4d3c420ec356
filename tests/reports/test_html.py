"""The HTML report: its figures are the summary's, its markup its own, and a browser agrees."""

from __future__ import annotations

import base64
import copy
import html.parser
import io
import itertools
import json
import re
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from advcli.audit.gallery import Picture
from advcli.audit.natural import NaturalPhase
from advcli.audit.statistics import wilson
from advcli.audit.summary import summarise
from advcli.images.text import printable
from advcli.reports import figures, html_chart, html_pictures
from advcli.reports.html_figures import Reader
from advcli.reports.html_report import _tiles, render
from advcli.threats.budget import format_eps

from ..audit.support import Ledger, answer, clean, phase, run_of, summary_of
from . import chromium
from .hostile import NAMES, SLASHED

VOID = {"meta", "link", "img", "br", "rect", "line", "polyline", "polygon", "circle"}
HOSTILE = [
    *("</script><img src=x onerror=alert(1)>", "</title></style>", "javascript:alert(1)"),
    *("{{7*7}}{% raw %}", '" onload="x', "' style='x", "</td></table>", "<!--", "&lt;i&gt;&#39;"),
    *SLASHED,
    *NAMES,
]


class Parsed(html.parser.HTMLParser):
    """A page as elements; raises where a tag is not closed in its turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.figures: list[tuple[str, str, str]] = []  # pointer, value, text
        self._open: list[tuple[str, dict[str, str]]] = []
        self._figure: str | None = None
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        assert len(found) == len(attrs)
        self.elements.append((tag, found))
        if tag not in VOID:
            self._open.append((tag, found))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        opened, _ = self._open.pop()
        assert opened == tag

    def handle_data(self, data: str) -> None:
        tag, attrs = self._open[-1] if self._open else ("", {})
        if tag != "style":
            self.texts.append(data)
        if tag == "data" and "data-at" in attrs:
            self.figures.append((attrs["data-at"], attrs["value"], data))

    @property
    def shape(self) -> list[tuple[str, tuple[str, ...]]]:
        return [(tag, tuple(attrs)) for tag, attrs in self.elements]

    def of(self, tag: str) -> list[dict[str, str]]:
        return [attrs for found, attrs in self.elements if found == tag]

    @property
    def text(self) -> str:
        return "\n".join(self.texts)


# --- summaries of every kind


def picture(image: str, pixels: np.ndarray, changed: np.ndarray, **more: Any) -> Picture:
    facts = {
        "image": image,
        "attack": "pgd",
        "norm": "linf",
        "eps": 8 / 255,
        "success": True,
        "label": 0,
        "clean_prediction": 0,
        "clean_confidence": 0.75,
        "adversarial_prediction": 1,
        "adversarial_confidence": 0.5,
        "distance": {"linf": 8 / 255, "l2": 0.5, "l1": 3.0, "l0": 9.0},
    }
    return Picture(facts | more, pixels, changed)


def grey(value: int, channels: int = 3, side: int = 4) -> np.ndarray:
    return np.full((side, side, channels), value, np.uint8)


def lines_of(count: int = 60, classes: int = 3) -> list[dict[str, Any]]:
    """A clean mistake in ten; pgd and cw break some, at two budgets; one answer is an error."""
    lines = [
        clean(f"{i}", i % classes, i % classes if i % 10 else (i + 1) % classes)
        for i in range(count)
    ]
    for i in range(count):
        if i % 10 == 0:
            continue
        wrong = (i + 1 + i % 2) % classes
        for eps, lost in ((4 / 255, i % 4 == 0), (8 / 255, i % 4 < 2)):
            lines.append(answer(f"{i}", wrong if lost else i % classes, success=lost, eps=eps))
        lines.append(
            answer(f"{i}", wrong, success=i % 5 == 0, attack="cw", eps=None, distance=i / 1000)
        )
    failed = answer("11", None, success=False, attack="fgsm", eps=8 / 255, distance=None)
    return [*lines, failed | {"error": "unreadable"}]


def rich(classes: int = 3, **config: Any) -> dict[str, Any]:
    budgets = (4 / 255, 8 / 255)
    asked = [phase(eps=budgets), phase("cw", eps=budgets), phase("fgsm", eps=budgets[1:])]
    run = run_of(asked, classes, **config)
    threats = [
        NaturalPhase.from_dict({"attack": spec}) for spec in ("corruption:kinds=snow", "contrast")
    ]
    run["natural"] = [threat.as_dict() for threat in threats]
    lines = lines_of(classes=classes)
    for threat in threats:
        for question in threat.attack.questions():
            lines += [
                answer(f"{i}", 0, success=i % 6 < (question.severity or 2), attack=threat.spec)
                | {"norm": None, "eps": None, "distance": None, "found": 0.5 + i}
                | {"kind": question.kind, "severity": question.severity}
                for i in range(60)
            ]
    return summarise(run, Ledger.read(lines))


def targeted() -> dict[str, Any]:
    lines = [clean(i, 0, 0, target=1) for i in "abc"] + [clean("d", 1, 1, target=1)]
    lines += [answer("a", 1, success=True), answer("b", 2, success=False)]
    lines += [answer("c", 0, success=False)]
    found = summary_of(lines, [phase()], targeted="c1")
    found["provenance"] = {"targeted": "c1", "cascade": False}
    return found


def natural_only() -> dict[str, Any]:
    found = rich()
    return found | {"attacks": [], "worst_case": [], "curve": [], "confusion": []}


def suspect() -> dict[str, Any]:
    found = rich(fail_under=("40", "clean=99"))
    finding = {"check": "zero gradient", "verdict": "suspect", "detail": "masked <&>"}
    return found | {"soundness": {"verdict": "suspect", "findings": [finding]}}


def nothing() -> dict[str, Any]:
    return summary_of([], [phase()], fail_under=("40",))


def curve() -> dict[str, Any]:
    lines = [clean(f"{i}", 0, 0) for i in range(80)]
    for i in range(80):
        lines.append(
            answer(f"{i}", 1, success=True, attack="fmn", eps=None, distance=(i % 40) / 255)
        )
        lines.append(answer(f"{i}", int(i < 20), success=i < 20, eps=20 / 255, distance=20 / 255))
    asked = [phase("fmn", eps=(20 / 255,)), phase(eps=(20 / 255,))]
    return summary_of(lines, asked, curve=True)


def many_classes() -> dict[str, Any]:
    return rich(classes=40)


ALL = {
    function.__name__: function
    for function in (rich, targeted, natural_only, suspect, nothing, curve, many_classes)
}


# --- the figures


def at(summary: dict[str, Any], pointer: str) -> Any:
    value: Any = summary
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        value = value[int(key) if isinstance(value, list) else key]
    return value


def readings(value: Any) -> set[str]:
    """All that a figure may be read as."""
    if value is None:
        return {"–"}
    if isinstance(value, list):
        return {figures.interval(value)}
    found = {figures.distance(value, "linf"), figures.distance(value, "l2"), f"{value:,}"}
    return found | ({figures.percent(value)} if 0 <= value <= 1 else set())


@pytest.mark.parametrize("name", ALL)
def test_every_figure_is_the_summarys(name: str) -> None:
    summary = json.loads(json.dumps(ALL[name]()))
    page = Parsed(render(summary))
    assert page.figures
    for pointer, value, text in page.figures:
        assert json.loads(value) == at(summary, pointer), pointer
        assert text in readings(json.loads(value)), pointer
    expected = {"/clean/accuracy", "/clean/ci95", "/images/evaluated"}
    for part, keys in {
        "attacks": ("robust_accuracy", "ci95", "success_rate", "attempted", "median_distance"),
        "worst_case": ("robust_accuracy", "ci95"),
        "natural": ("accuracy",),
        "natural_means": ("accuracy",),
        "per_class": ("total", "clean_accuracy"),
        "gates": ("threshold", "value", "ci95"),
    }.items():
        expected |= {f"/{part}/{i}/{key}" for i in range(len(summary[part])) for key in keys}
    for i, row in enumerate(summary["per_class"]):
        expected |= {
            f"/per_class/{i}/worst_case/{j}/robust_accuracy" for j in range(len(row["worst_case"]))
        }
    assert expected <= {pointer for pointer, _, _ in page.figures}


def test_the_verdict_is_said_in_words() -> None:
    for asked, word, kind in (
        (("1",), "PASS", "pass"),
        (("99",), "FAIL", "fail"),
        ((), "NO GATE", "none"),
    ):
        lines = [clean("a", 0, 0), answer("a", 0, success=False), clean("b", 0, 1)]
        page = Parsed(render(summary_of(lines, [phase()], fail_under=asked)))
        (verdict,) = [a for a in page.of("p") if a.get("class", "").startswith("verdict")]
        assert verdict["class"] == f"verdict {kind}"
        assert f" {word}" in page.texts
    assert " SUSPECT" in Parsed(render(suspect())).texts
    assert "masked <&>" in Parsed(render(suspect())).text


def test_a_gates_waiver_is_shown() -> None:
    summary = rich(fail_under=("99",))
    text = Parsed(render(summary)).text
    assert "waived" not in text
    waiver = {"state": "accepted", "reason": "known <b>", "until": "2027-01-31"}
    summary["gates"][0]["waiver"] = waiver
    text = Parsed(render(summary)).text
    assert "failure waived until 2027-01-31: known <b>" in text


def test_the_page_begins_with_the_lowest_worst_cases() -> None:
    summary = rich()
    first = summary["worst_case"][0]
    shares = (0.5, None, 0.1, 0.9, 0.2, 0.3, 0.8)
    summary["worst_case"] = [
        first | {"eps": (n + 1) / 255, "robust_accuracy": share} for n, share in enumerate(shares)
    ]
    begin = list(_tiles(summary, Reader(summary)))
    worst = [tile["title"] for tile in begin if tile["title"].startswith("worst case")]
    assert worst == [f"worst case, linf {n}/255" for n in (1, 3, 5, 6)]


def test_the_confusions_are_those_of_the_summary() -> None:
    summary = rich()
    text = render(summary)
    for place, entry in enumerate(summary["confusion"]):
        table = re.search(rf'data-confusion="{place}".*?</table>', text, re.DOTALL)
        rows = re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)</tr>', table.group())
        seen = sorted({c for pair in entry["counts"] for c in pair[:2] if c is not None})
        columns = [*seen, None] if any(None in pair[:2] for pair in entry["counts"]) else seen
        counts = {(label, found): n for label, found, n in entry["counts"]}
        assert len(rows) == 3
        for label, (name, cells) in enumerate(rows):
            assert name == f"c{label}"
            shown = re.findall(r"<td[^>]*>(.*?)</td>", cells)
            assert shown == [str(counts.get((label, c), "·")) for c in columns]
    # too many for a matrix: the commonest mistakes, each with its class's size
    summary = many_classes()
    page = Parsed(render(summary))
    wrong = Counter(
        {tuple(e[:2]): e[2] for e in summary["confusion"][-1]["counts"] if e[0] != e[1]}
    )
    assert f"{sum(wrong.values()) - sum(sorted(wrong.values())[-15:])} more image(s)" in page.text
    assert len(page.of("table")) > 5


# --- the picture of the curve


def test_points_lie_where_their_figures_say() -> None:
    for summary in (rich(), curve(), targeted()):
        for chart in html_chart.charts(summary):
            frame = html_chart.FRAME
            end = max(p.eps for series in chart.series for p in series.points)
            for p in itertools.chain.from_iterable(s.points for s in chart.series):
                assert p.share == at(summary, p.at)
                assert (p.y - frame.bottom) / (frame.top - frame.bottom) == pytest.approx(p.share)
                assert (p.x - frame.left) / (frame.right - frame.left) == pytest.approx(p.eps / end)
                assert p.low <= p.share <= p.high
            assert [x for x, _ in chart.ticks] == sorted(x for x, _ in chart.ticks)
            assert chart.ticks[-1][1] == format_eps(end)


def test_the_worst_case_has_its_interval_and_no_twin() -> None:
    (chart,) = html_chart.charts(rich())
    main = chart.series[-1]
    assert (main.name, main.dash) == ("worst case", "")
    summary = rich()
    for point, row in zip(main.points[1:], summary["worst_case"], strict=True):
        assert (point.low, point.high) == row["ci95"]
    assert (main.points[0].low, main.points[0].high) == summary["clean"]["ci95"]
    (chart,) = html_chart.charts(curve())
    for series in chart.series:
        for p in series.points:
            assert (p.low, p.high) == wilson(round(80 * p.share), 80)
    lines = [clean("a", 0, 0), answer("a", 1, success=True)]
    lines.append(answer("a", 0, success=False, attack="fgsm"))
    (chart,) = html_chart.charts(summary_of(lines, [phase(), phase("fgsm")]))
    assert chart.same == ["pgd"]
    assert [series.name for series in chart.series] == ["fgsm", "worst case"]
    assert html_chart.charts(nothing()) == []


# --- names


def named(names: list[str], summary: dict[str, Any]) -> tuple[dict[str, Any], list[Picture]]:
    """The summary with these names wherever a name from outside stands, and pictures of them."""
    names = [*names, *names]
    found = copy.deepcopy(summary)
    for entry, name in zip(found["per_class"], names, strict=False):
        entry["class"] = name
    found["model"] |= {
        "path": names[0],
        "classes": names[: len(found["model"]["classes"])],
        "preprocessing": {"flag": names[1], "evidence": names[2]},
        "rules": names[:3],
    }
    found["images"] |= {
        "root": names[3],
        "skipped": [{"file": name, "reason": name} for name in names],
        "resized": {"count": 3, "example": names[4], "from": [9, 9], "to": [4, 4]},
    }
    for gate, name in zip(found["gates"], names, strict=False):
        waiver = {"state": "expired", "reason": name, "until": "2026-01-01"}
        gate |= {"gate": name, "waiver": waiver}
    found["soundness"]["findings"] = [
        {"check": name, "verdict": "note", "detail": name} for name in names
    ]
    found["provenance"] = {"command": names[5], "folder": names[6], "cascade": False}
    return found, [picture(name, grey(9), grey(10)) for name in names[:12]]


@pytest.mark.parametrize("start", range(0, len(HOSTILE), 40))
def test_no_name_brings_markup(start: int) -> None:
    summary = rich(classes=40, fail_under=("40", "clean=90"))
    chosen = (HOSTILE[start:] + HOSTILE)[:40]
    harmless, bad = named([f"name {i}" for i in range(40)], summary), named(chosen, summary)
    page = Parsed(render(*bad))
    assert page.shape == Parsed(render(*harmless)).shape
    for name in chosen:
        assert printable(name) in page.text
    assert not {c for c in page.text if unicodedata.category(c) in ("Cc", "Cf", "Cs")} - {"\n"}
    for _, attrs in page.elements:
        assert not [key for key in attrs if key.startswith("on")]
        assert attrs.get("href", "#").startswith(("#", "data:,"))
        assert attrs.get("src", "data:").startswith("data:")
        assert re.fullmatch(
            r"|--name: \d+ch|background:color-mix\(in srgb, var\(--accent\) [\d.]+%, "
            r"var\(--paper\)\)",
            attrs.get("style", ""),
        )
    assert not page.of("script")


# --- the markup


@pytest.mark.parametrize("name", ALL)
def test_the_page_can_be_read_without_eyes(name: str) -> None:
    gallery = [picture("a", grey(9), grey(10)), picture("b", grey(9), grey(9), success=False)]
    page = Parsed(render(ALL[name](), gallery))
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert len(page.of("caption")) == len(page.of("table"))
    assert all("scope" in attrs for attrs in page.of("th"))
    assert all(attrs["alt"] for attrs in page.of("img"))
    assert len(page.of("img")) == 6
    for attrs in page.of("svg"):
        assert attrs.get("aria-hidden") == "true" or attrs["role"] == "img"
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    used = {attrs["href"][1:] for attrs in page.of("a")}
    used |= {attrs["aria-labelledby"] for attrs in page.of("section")}
    assert used <= set(ids)
    assert page.of("html") == [{"lang": "en"}]


def luminance(colour: str) -> float:
    parts = [int(c * (2 if len(colour) == 4 else 1), 16) / 255 for c in digits(colour)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return float(np.dot((0.2126, 0.7152, 0.0722), linear))


def digits(colour: str) -> list[str]:
    step = (len(colour) - 1) // 3
    return [colour[1 + i * step : 1 + (i + 1) * step] for i in range(3)]


def test_words_stand_out_from_what_is_behind_them() -> None:
    """WCAG 2.2, 1.4.3: 4.5 to 1; 1.4.11: 3 to 1 for bars and lines."""
    themes = re.findall(r":root \{(.*?)\}", render(nothing()), re.DOTALL)
    assert len(themes) == 2
    for theme in themes:
        colours = dict(re.findall(r"--(\w+): (#\w+);", theme))
        for behind in ("paper", "raised"):
            for word in ("ink", "muted", "accent", "pass", "fail", "warn"):
                high, low = sorted(map(luminance, (colours[word], colours[behind])), reverse=True)
                assert (high + 0.05) / (low + 0.05) >= 4.5, (word, behind)


def test_the_policy_lets_nothing_in() -> None:
    (policy,) = [
        attrs["content"]
        for attrs in Parsed(render(rich())).of("meta")
        if attrs.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy == (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )


# --- pictures


def pixels_of(address: str) -> np.ndarray:
    head, data = address.split(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_perturbation_fills_the_range(channels: int) -> None:
    before, after = grey(100, channels), grey(100, channels)
    after[0, 0], after[1, 1], after[2, 2] = 108, 92, 104
    (shot,) = html_pictures.shots(rich(), [picture("a", before, after)])
    drawn = pixels_of(shot.difference)
    assert drawn.shape == ((4, 4) if channels == 1 else (4, 4, 3))
    assert shot.factor == "15.9"
    values = {0: 255, 1: 1, 2: 192, 3: 128}
    assert {i: int(np.atleast_1d(drawn[i, i])[0]) for i in values} == values
    expected = before[..., 0] if channels == 1 else before
    np.testing.assert_array_equal(pixels_of(shot.clean), expected)
    np.testing.assert_array_equal(
        pixels_of(shot.adversarial), after[..., 0] if channels == 1 else after
    )
    assert (shot.before, shot.after) == (("c0", "75.0 %"), ("c1", "50.0 %"))


def test_no_change_is_said_and_large_pictures_shrink() -> None:
    large = np.zeros((300, 600, 3), np.uint8)
    (shot,) = html_pictures.shots(rich(), [picture("a", large, large)])
    assert shot.factor == ""
    assert set(np.unique(pixels_of(shot.difference))) == {128}
    assert pixels_of(shot.clean).shape == (80, 160, 3)
    assert (shot.label, shot.after.name) == ("c0", "c1")


def test_each_image_shows_the_smallest_budget_that_broke_it() -> None:
    def rows(image: str, broken: dict[float, bool], **more: Any) -> list[Picture]:
        return [
            picture(image, grey(1), grey(2), eps=eps, success=lost, attack=name, **more)
            for name in ("fgsm", "pgd")
            for eps, lost in broken.items()
        ]

    gallery = [
        *rows("broken", {0.1: False, 0.25: True, 0.3: True}),
        *rows("stood", {0.1: False, 0.25: False}, adversarial_prediction=0),
    ]
    gallery += [picture("search", grey(1), grey(2), eps=None, attack="fmn")]
    found = html_pictures.shots(rich(), gallery)
    assert [shot.threat for shot in found] == ["fgsm, linf 0.25", "pgd, linf 0.25", "fmn, linf"]
    assert [shot.outcome for shot in found] == ["fooled", "withstood", "fooled"]
    many = [picture(f"{i}", grey(1), grey(2)) for i in range(30)]
    assert len(html_pictures.shots(rich(), many)) == 12
    (aimed,) = html_pictures.shots(targeted(), [picture("a", grey(1), grey(2))])
    assert (aimed.outcome, aimed.status) == ("target hit", "fail")
    distance = dict.fromkeys(("linf", "l2"), 9 / 255)
    far = picture("a", grey(1), grey(2), eps=None, attack="cw", distance=distance)
    (beyond,) = html_pictures.shots(rich(), [far])
    assert (beyond.outcome, beyond.status) == ("fooled, but beyond every eps", "note")
    # of two norms, the one that broke it within a budget, whichever has its turn
    near = picture("a", grey(1), grey(2), eps=0.1, attack="pgd", norm="l2")
    for pair in ([far, near], [near, far]):
        (shot,) = html_pictures.shots(rich(), pair)
        assert (shot.threat, shot.outcome) == ("pgd, l2 0.1", "fooled")


def test_a_run_without_pictures_says_how_to_have_them() -> None:
    page = Parsed(render(rich()))
    assert not page.of("img")
    assert "--save-images" in page.text


# --- in a browser


@pytest.mark.skipif(chromium.found() is None, reason="Chromium is not installed")
def test_a_browser_shows_it_and_asks_for_nothing(tmp_path: Path) -> None:
    summary, gallery = named(HOSTILE[:40], rich(classes=40, fail_under=("40", "clean=90")))
    summary = json.loads(json.dumps(summary))
    file = tmp_path / "report.html"
    file.write_text(render(summary, gallery), encoding="utf-8")
    with chromium.Page(tmp_path / "profile") as page:
        page(
            "Emulation.setDeviceMetricsOverride",
            width=390,
            height=844,
            deviceScaleFactor=1,
            mobile=True,
        )
        papers = []
        for mode in ("light", "dark"):
            theme = {"name": "prefers-color-scheme", "value": mode}
            page("Emulation.setEmulatedMedia", features=[theme])
            page.open(file)
            papers.append(page.value("getComputedStyle(document.body).backgroundColor"))
            assert page.value("document.documentElement.scrollWidth") == 390
        assert papers == ["rgb(255, 255, 255)", "rgb(16, 20, 24)"]
        asked = [
            event["params"]["request"]["url"]
            for event in page.events
            if event.get("method") == "Network.requestWillBeSent"
        ]
        assert [url for url in asked if not url.startswith("data:")] == [file.as_uri()]
        loud = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
        assert [event for event in page.events if event.get("method") in loud] == []
        shown = page.value(
            "[...document.querySelectorAll('data[data-at]')]"
            ".map(e => [e.dataset.at, e.value, e.textContent])"
        )
        assert len(shown) > 200
        for pointer, value, text in shown:
            assert json.loads(value) == at(summary, pointer)
            assert text in readings(json.loads(value))
        assert page.value("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
        assert page.value("document.images.length") == 36
        names = page.value("[...document.querySelectorAll('tbody th')].map(e => e.textContent)")
        assert {printable(name) for name in HOSTILE[:40]} <= set(names)
        page("Emulation.setEmulatedMedia", media="print")
        hidden = page.value(
            "[...document.querySelectorAll('details')].filter(d => "
            "d.getBoundingClientRect().height < 2 * d.firstElementChild.getBoundingClientRect()"
            ".height).length"
        )
        assert hidden == 0
        assert page.value("document.querySelectorAll('details:not([open])').length") > 0
