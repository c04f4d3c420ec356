"""Two runs compared, in every format."""

import csv
import io
import json
import re
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from advcli.audit.compare import compare, with_gate
from advcli.audit.side import Side
from advcli.reports import comparison
from advcli.reports.figures import points
from advcli.reports.github_report import render_comparison
from advcli.reports.pairs import p_value

from ..audit.support import answer, clean, finished, phase

HOSTILE = "a\x1b[2J|[x](y)\n::set-output name=x::y\u202e@team.png"


def compared(tmp_path: Path, broken: int = 12, fixed: int = 3, **gate: Any) -> dict[str, Any]:
    """200 images, the first `broken` newly so, the last `fixed` fixed."""
    for name in ("base", "new"):
        lines = [clean(f"{i} {HOSTILE}", 0, 0, sha256=f"{i}") for i in range(200)]
        for i in range(200):
            falls = i < broken if name == "new" else i >= 200 - fixed
            lines.append(answer(f"{i} {HOSTILE}", int(falls), success=falls))
        finished(tmp_path / name, lines, [phase()])
    found = compare(Side.read(tmp_path / "base"), Side.read(tmp_path / "new"))
    return with_gate(found, gate.get("max_drop"), confident=gate.get("confident", False))


def hidden(text: str) -> set[str]:
    return {c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")} - {"\n"}


def test_the_terminal_says_what_broke(tmp_path: Path) -> None:
    text = comparison.render(compared(tmp_path))
    assert "worst case linf 0.1: 12 newly broken, 3 fixed, p = 0.035" in text
    listed = [line for line in text.splitlines() if re.match(r"  \d+ a", line)]
    assert len(listed) == 10
    assert "and 2 more (--format json)" in text
    row = next(line for line in text.splitlines() if line.startswith("worst case linf 0.1 "))
    for figure in ("98.5 %", "94.0 %", "−4.5", "0.035"):
        assert figure in row
    assert "same model" in text
    assert text.rstrip().endswith("no gate was set")
    assert hidden(text) == set()


def test_the_table_fits_80_columns_and_a_pipe_crops_nothing(tmp_path: Path) -> None:
    found = compared(tmp_path)
    lines = comparison.render(found, width=80).splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in "".join(line for line in lines if "%" in line)
    assert "\x1b[" in comparison.render(found, width=80, color=True)


def test_every_image_is_in_the_json(tmp_path: Path) -> None:
    found = compared(tmp_path)
    text = comparison.FORMATS["json"](found)
    worst = json.loads(text)["threats"][-1]
    assert len(worst["newly_broken_images"]) == worst["newly_broken"] == 12
    assert len(worst["fixed_images"]) == worst["fixed"] == 3
    assert worst["newly_broken_images"][0] == {
        "image": f"0 {HOSTILE}",
        "sha256": "0",
        "base_image": f"0 {HOSTILE}",
    }


def test_csv_has_a_row_for_each_threat(tmp_path: Path) -> None:
    found = compared(tmp_path)
    rows = list(csv.DictReader(io.StringIO(comparison.FORMATS["csv"](found))))
    assert [row["threat"] for row in rows] == ["clean", "pgd linf 0.1", "worst case linf 0.1"]
    assert float(rows[2]["difference"]) == -9 / 200
    assert float(rows[2]["p"]) == pytest.approx(0.03515625)


def test_markdown_keeps_its_shape(tmp_path: Path) -> None:
    found = compared(tmp_path, max_drop=2.0)
    text = comparison.markdown(found)
    assert hidden(text) == set()
    assert "**FAIL: the model got worse**" in text
    assert len([line for line in text.splitlines() if line.startswith("- ")]) == 12
    assert "@team" not in text
    assert "](y)" not in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1
    short = comparison.markdown(found, short=True)
    assert not [line for line in short.splitlines() if line.startswith("- ")]
    assert "**FAIL: the model got worse**" in short


@pytest.mark.parametrize(
    ("more", "level", "said"),
    [
        ({}, "notice", "worst case linf 0.1: 12 newly broken, 3 fixed, p = 0.035"),
        ({"max_drop": 5.0}, "notice", "12 newly broken"),
        ({"max_drop": 2.0}, "error", "−4.5 points in worst case linf 0.1"),
        ({"max_drop": 2.0, "confident": True}, "warning", "more images would settle it"),
    ],
)
def test_annotations(tmp_path: Path, more: dict[str, Any], level: str, said: str) -> None:
    found = compared(tmp_path, **more)
    (line,) = render_comparison(found).splitlines()
    assert line.startswith(f"::{level} title=")
    assert said in line
    assert said in comparison.render(found) + comparison.markdown(found).replace("\\", "")


def test_a_suspect_run_is_a_warning(tmp_path: Path) -> None:
    found = compared(tmp_path)
    found["new"]["soundness"] = "suspect"
    first, second = render_comparison(found).splitlines()
    assert first == "::warning title=advcli compare::the figures of NEW are suspect"
    assert second.startswith("::notice")


def test_no_drop_at_all(tmp_path: Path) -> None:
    text = comparison.render(compared(tmp_path, 3, 3, max_drop=0.0))
    assert "gate pass  0.0 points in worst case linf 0.1 (95 %: " in text
    assert "a drop of at most 0 allowed" in text


def test_differences_in_points() -> None:
    assert [points(x) for x in (0.0, -0.045, 0.5, -0.0004, None)] == [
        *("0.0", "−4.5", "+50.0", "−0.04", "–"),
    ]


def test_p_values() -> None:
    assert [p_value(p) for p in (1.0, 0.5, 0.03515, 0.00101, 0.00099, 0.0)] == [
        *("1", "0.5", "0.035", "0.001", "< 0.001", "< 0.001"),
    ]
