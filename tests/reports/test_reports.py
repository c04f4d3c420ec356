import csv
import io
import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from advcli.errors import UsageError
from advcli.reports import files, terminal
from advcli.reports.csv_report import guarded
from advcli.reports.figures import distance, percent
from advcli.reports.markdown import escaped

from ..audit.support import answer, clean, phase, summary_of

ANSI = re.compile(r"\x1b\[")


def summary(**config: Any) -> dict[str, Any]:
    lines = [clean(f"{i}", i % 3, i % 3) for i in range(1234)]
    lines += [answer(f"{i}", (i + (i % 7 > 2)) % 3, success=i % 7 > 2) for i in range(1234)]
    return summary_of(lines, [phase()], **config)


def test_the_table_fits_80_columns() -> None:
    text = terminal.render(summary(fail_under=("40", "clean=90")), width=80)
    table = [line for line in text.splitlines() if line.startswith(("attack", "pgd", "worst"))]
    assert len(table) == 3
    assert max(map(len, text.splitlines())) <= 80
    assert "704/1234" in text
    assert "57.1 %" in text
    assert "42.9 %" in text
    assert "gate pass  worst case=40: 42.9 %, at least 40.0 % wanted" in text
    assert not ANSI.search(text)


def test_long_names_do_not_crop_figures() -> None:
    long = "pgd:loss=dlr,random-start=false,rel-step=0.0125,restarts=10,sparsity=0.1,steps=1000"
    lines = [clean("a", 0, 0), answer("a", 1, success=True, attack=long, distance=0.1)]
    found = summary_of(lines, [phase(long)])
    for width in (80, 60, None):
        text = terminal.render(found, width=width)
        assert "…" not in text
        for option in ("rel-step=0.0125", "restarts=10", "steps=1000"):  # never half a number
            assert option in text
        assert "100.0 %" in text
        assert "1/1" in text
    row = next(line for line in terminal.render(found).splitlines() if line.startswith("pgd"))
    assert long in row
    assert "20.7–100.0" in row or "0.0–79.3" in row


def test_colour_only_when_asked() -> None:
    assert ANSI.search(terminal.render(summary(), width=80, color=True))
    assert not ANSI.search(terminal.render(summary(), width=80, color=False))


def test_what_a_reader_must_not_miss() -> None:
    found = summary()
    found["soundness"] = {
        "verdict": "suspect",
        "findings": [
            {"check": "zero gradient", "verdict": "suspect", "detail": "masked"},
            {"check": "fine", "verdict": "ok", "detail": "unimportant"},
        ],
    }
    found["images"] |= {
        "labels": "model",
        "skipped": [{"file": "bad\x1b[2J.png", "reason": "truncated"}],
        "resized": {"count": 3, "example": "a.jpg", "from": [480, 640], "to": [32, 48]},
    }
    for text in (terminal.render(found), files.render(found, "markdown")):
        assert "suspect" in text
        assert "masked" in text
        assert "unimportant" not in text
        assert "model's own prediction" in text
        assert "48×32" in text
        assert "640×480" in text
        assert "\x1b" not in text
    assert r"bad\x1b[2J.png: truncated" in terminal.render(found)


def test_csv_holds_every_figure_unrounded() -> None:
    rows = list(csv.DictReader(io.StringIO(files.render(summary(fail_under=("40",)), "csv"))))
    attack = next(row for row in rows if row["section"] == "attack")
    assert float(attack["robust_accuracy"]) == 530 / 1234
    assert float(attack["eps"]) == 0.1
    assert {row["section"] for row in rows} == {"clean", "attack", "worst case", "class", "gate"}


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", " =1", "＝1"])
def test_csv_runs_no_formula(text: str) -> None:
    assert guarded(text) == "'" + text


def test_csv_shows_control_characters_escaped() -> None:
    assert guarded("\t=1\x1b[2J") == r"'\t=1\x1b[2J"
    assert guarded("a\rb\u202e") == r"a\rb\u202e"


def test_csv_spells_a_class_in_one_way() -> None:
    names = ["=cmd()", "b\x1b[2J\nc", "c2"]
    found = summary()
    for entry, name in zip(found["per_class"], names, strict=True):
        entry["class"] = name
    text = files.render(found, "csv")
    assert "\x1b" not in text
    rows = [row for row in csv.DictReader(io.StringIO(text)) if row["section"] == "class"]
    spelt = ["'=cmd()", r"b\x1b[2J\nc", "c2"]
    assert [(row["kind"], row["name"]) for row in rows] == [
        (kind, name) for name in spelt for kind in ("clean", "worst case")
    ]
    assert float(rows[0]["robust_accuracy"]) == 1


def targeted_summary() -> dict[str, Any]:
    lines = [clean("a", 0, 0, target=1), clean("b", 1, 1, target=1), clean("c", 0, 0, target=1)]
    lines += [clean("d", 2, 2, target=1)]
    lines += [answer("a", 1, success=True), answer("c", 2, success=False)]  # c: another class
    lines += [answer("d", 2, success=False)]
    found = summary_of(lines, [phase()], targeted="c1")
    found["provenance"] = {"targeted": "c1", "cascade": False}
    return found


def test_a_targeted_run_says_what_its_figures_mean() -> None:
    found = targeted_summary()
    for name in ("table", "markdown"):
        text = terminal.render(found) if name == "table" else files.render(found, name)
        text = text.replace("\\", "")
        assert "argeted at class 'c1': success and hits = the target was hit" in text
        assert "robust = the label was kept; 1 image(s) skipped" in text
        row = next(line for line in text.splitlines() if line.lstrip("| ").startswith("pgd"))
        assert "33.3 %" in row
        assert "1/3" in row  # hits, not the two labels lost
        assert "2/3" not in row
        assert "hits" in text
        assert "fooled" not in text
    assert "of i, targeted at c1 (" in terminal.render(found)
    rows = list(csv.DictReader(io.StringIO(files.render(found, "csv"))))
    assert [row["kind"] for row in rows if row["section"] == "attack"] == ["targeted"]
    for aim, shown in (("least-likely", "least likely class"), ("next", "the class after")):
        found["provenance"]["targeted"] = aim
        assert shown in terminal.render(found)


def test_the_table_explains_a_cascade_and_the_median() -> None:
    found = summary()
    cascade = "each attack saw only the images still standing"
    assert cascade not in terminal.render(found)
    found["provenance"]["cascade"] = True
    for text in (terminal.render(found), files.render(found, "markdown")):
        assert cascade in text
        assert "those that withstood counting as infinitely far" in text


def test_a_sweep_says_why_its_figures_are_not_those_of_one_eps() -> None:
    lines = [clean("a", 0, 0)]
    budgets = [phase(eps=(0.1, 0.2)), phase("cw", "l2", (1.0, 2.0))]
    assert "sweep: " in terminal.render(summary_of(lines, budgets))
    assert "smallest-perturbation search whatever the budget" in terminal.render(
        summary_of(lines, budgets)
    )
    assert "whatever the budget" not in terminal.render(summary_of(lines, budgets[:1]))
    assert "sweep: " not in terminal.render(summary_of(lines, [phase(), budgets[1]]))


def test_numbers_are_no_formulas() -> None:
    assert guarded(-0.5) == -0.5


def test_markdown_cannot_be_broken_out_of() -> None:
    found = summary(fail_under=("class:c0=1",))
    found["model"]["path"] = "a|b\n# c <img src=x> [x](y) @team `d` https://e"
    text = files.render(found, "markdown")
    line = next(line for line in text.splitlines() if "sha256" in line)
    expected = r"a\|b\\n#! c \<img src=x\> \[x\]\(y\) @!team \`d\` https\:!//e"
    assert expected.replace("!", "&#8203;") in line  # a space without width: test_hostile_names
    assert escaped("a_b*c") == r"a\_b\*c"
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table[:5]}) == 1


def test_json_is_the_summary() -> None:
    found = summary()
    assert json.loads(files.render(found, "json")) == json.loads(json.dumps(found))


def test_rounding_never_reaches_a_bound_that_was_not_reached() -> None:
    assert percent(1.0) == "100.0 %"
    assert percent(0.0) == "0.0 %"
    assert percent(9999 / 10000) == "99.9+ %"
    assert percent(1 / 10000) == "<0.1 %"
    assert percent(None) == "–"
    assert distance(8 / 255, "linf") == "8/255"
    assert distance(0.51, "l2") == "0.51"


def test_report_files_are_checked_before_work(tmp_path: Path) -> None:
    for name in ("a.json", "a.csv", "a.md", "a.html", "new/deep/a.JSON"):
        files.check_target(tmp_path / name)
    for name in ("a.mdd", "a", "a.htm", "a.pdf"):
        with pytest.raises(UsageError, match="no report has the extension"):
            files.check_target(tmp_path / name)
    (tmp_path / "folder.md").mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        files.check_target(tmp_path / "folder.md")
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file/deeper", Path("/proc"), Path("/proc/new")):
        with pytest.raises(UsageError, match="cannot be written"):
            files.check_target(place / "a.md")
    assert {path.name for path in tmp_path.iterdir()} == {"folder.md", "file"}


def test_reports_are_written(tmp_path: Path) -> None:
    found = summary()
    for name, format_name in files.EXTENSIONS.items():
        path = tmp_path / "new" / f"report{name}"
        files.write_report(path, found)
        assert path.read_text() == files.render(found, format_name)


def curve_summary() -> dict[str, Any]:
    lines = [clean(f"{i}", 0, 0) for i in range(80)]
    for i in range(80):
        lines.append(
            answer(f"{i}", 1, success=True, attack="hopskipjump", eps=None, distance=i / 255)
        )
        lines.append(answer(f"{i}", int(i < 20), success=i < 20, eps=20 / 255, distance=20 / 255))
    asked = [phase("hopskipjump", eps=(20 / 255,)), phase(eps=(20 / 255,))]
    return summary_of(lines, asked, curve=True)


def test_a_curve_in_80_columns_in_a_pipe_and_without_colour() -> None:
    found = curve_summary()
    for width in (80, None):
        text = terminal.render(found, width=width)
        lines = text.splitlines()
        head = next(i for i, line in enumerate(lines) if line.startswith("robust at linf"))
        table = lines[head : head + 5]
        assert max(map(len, table)) <= 80
        assert [line.split()[0] for line in table[2:]] == ["hopskipjump", "pgd", "worst"]
        columns = re.findall(r"(\d+)/255", table[0])[:-1]
        assert len(columns) == 5
        shares = re.findall(r"([\d.]+) %", table[2])
        assert shares == [f"{100 * max(0, 79 - int(eps)) / 80:.1f}" for eps in columns]
        assert re.search("█▇+▆+▅+▄+▃+▂+▁+$", table[2])
        assert not ANSI.search(text)
        assert "…" not in text.replace("0 … ", "")
    assert ANSI.search(terminal.render(found, width=80, color=True))


def test_a_curve_in_csv_and_markdown() -> None:
    found = curve_summary()
    rows = [
        r
        for r in csv.DictReader(io.StringIO(files.render(found, "csv")))
        if r["section"] == "curve"
    ]
    points = {
        (c["attack"], p["eps"]): p["robust_accuracy"] for c in found["curve"] for p in c["points"]
    }
    assert {(r["name"], float(r["eps"])): float(r["robust_accuracy"]) for r in rows} == points
    text = files.render(found, "markdown")
    assert "Robust accuracy over eps in linf:" in text
    head = next(
        line
        for line in text.splitlines()
        if line.startswith("| attack | ") and "budget" not in line
    )
    assert head.count("|") == 12
    assert "\n| worst case | " in text


def test_what_an_attack_cost_per_image() -> None:
    found = summary()
    assert "forwards / gradients: pgd 3 / 2" in terminal.render(found)
    markdown = files.render(found, "markdown")
    assert next(line for line in markdown.splitlines() if line.startswith("| pgd")).endswith(
        "| 3 / 2 |"
    )
    (row,) = [
        r
        for r in csv.DictReader(io.StringIO(files.render(found, "csv")))
        if r["section"] == "attack"
    ]
    assert (float(row["forwards_per_image"]), float(row["gradients_per_image"])) == (3, 2)
    none = summary_of([clean("a", 0, 1)], [phase()])
    assert "model calls" not in terminal.render(none)
    assert files.render(none, "markdown")


def cases_of(found: dict[str, Any]) -> dict[str, str]:
    """Case -> what is wrong with it."""
    root = ElementTree.fromstring(files.render(found, "junit"))
    for suite in root:
        kinds = [case[0].tag for case in suite.iter("testcase") if len(case)]
        assert suite.get("tests") == str(len(suite.findall("testcase")))
        assert suite.get("failures") == str(kinds.count("failure"))
        assert suite.get("errors") == str(kinds.count("error"))
    return {
        f"{suite.get('name')}: {case.get('name')}": case[0].tag if len(case) else "passed"
        for suite in root
        for case in suite.iter("testcase")
    }


def test_junit_has_a_case_for_each_gate_and_class() -> None:
    found = summary(fail_under=("40", "clean=90", "linf@0.1=80"))
    assert cases_of(found) == {
        "gates: worst case=40": "passed",
        "gates: clean=90": "passed",
        "gates: linf@0.1=80": "failure",
        **{f"linf 0.1: {row['class']}": "system-out" for row in found["per_class"]},
    }
    assert len(found["per_class"]) == 3
    assert cases_of(summary())["gates: run"] == "passed"


def suspicious(**config: Any) -> dict[str, Any]:
    found = summary(**config)
    finding = {"check": "zero gradient", "verdict": "suspect", "detail": "masked <&>"}
    found["soundness"] = {"verdict": "suspect", "findings": [finding]}
    for gate in found["gates"]:
        gate["verdict"] = "inconclusive"
    return found | {"exit_code": 3, "verdict": "inconclusive"}


def test_what_has_no_verdict_is_an_error_in_junit() -> None:
    assert cases_of(suspicious(fail_under=("40",)))["gates: worst case=40"] == "error"
    text = files.render(suspicious(), "junit")
    assert cases_of(suspicious())["gates: run"] == "error"
    assert ElementTree.fromstring(text).findtext(".//error") == "masked <&>"


def test_sarif_has_a_result_for_each_gate_that_did_not_pass() -> None:
    asked = ("40", "clean=90", "linf@0.1=80")
    run = json.loads(files.render(summary(fail_under=asked), "sarif"))["runs"][0]
    (result,) = run["results"]
    assert (result["level"], result["ruleId"]) == ("error", run["tool"]["driver"]["rules"][0]["id"])
    assert result["message"]["text"] == (
        "linf@0.1=80: 42.9 % measured on 1234 images, 80.0 % asked"
    )
    assert run["invocations"] == [{"executionSuccessful": True, "exitCode": 1}]
    run = json.loads(files.render(suspicious(fail_under=asked), "sarif"))["runs"][0]
    assert [result["level"] for result in run["results"]] == ["warning"] * 3
    assert run["invocations"] == [{"executionSuccessful": False, "exitCode": 3}]
    assert json.loads(files.render(summary(), "sarif"))["runs"][0]["results"] == []


@pytest.mark.parametrize(
    ("path", "uri"),
    [("m.h5", "m.h5"), ("a b/c:d.h5", "a%20b/c%3Ad.h5"), ("/x/ü.h5", "file:///x/%C3%BC.h5")],
)
def test_the_model_in_sarif(path: str, uri: str) -> None:
    found = summary(fail_under=("99",))
    found["model"]["path"] = path
    (result,) = json.loads(files.render(found, "sarif"))["runs"][0]["results"]
    assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == uri


@pytest.mark.parametrize(
    ("name", "near"),
    [("a.xml", ".junit.xml"), ("a.sarf", ".sarif"), ("a.mdx", ".md"), ("a.htm", ".html")],
)
def test_an_unknown_extension_is_told_the_nearest(tmp_path: Path, name: str, near: str) -> None:
    with pytest.raises(UsageError) as refused:
        files.check_target(tmp_path / name)
    assert refused.value.hint.startswith(f"did you mean '{near}'?")
    files.check_target(tmp_path / "A.JUnit.XML")
