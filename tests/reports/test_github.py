"""Annotations and the step summary of GitHub Actions."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advcli.images.text import printable
from advcli.reports import files, markdown, step_summary, terminal
from advcli.reports.github_report import annotation, render

from ..audit.test_deciding import summary as of
from .hostile import NAMES, SLASHED
from .test_reports import summary

LINE = re.compile(r"::(error|warning|notice) title=([^:,\r\n]*)::([^\r\n]*)")


def read(text: str) -> list[tuple[str, str, str]]:
    """The commands that a runner finds: level, title, message, unescaped in its order."""
    found = []
    assert text.endswith("\n")
    for line in text[:-1].split("\n"):
        match = LINE.fullmatch(line)
        assert match, line
        found.append((match[1], unescaped(match[2], title=True), unescaped(match[3])))
    return found


def unescaped(text: str, *, title: bool = False) -> str:
    for code, sign in {"%2C": ",", "%3A": ":"}.items() if title else ():
        text = text.replace(code, sign)
    for code, sign in {"%0A": "\n", "%0D": "\r", "%25": "%"}.items():
        text = text.replace(code, sign)
    return text


COMMANDS = (
    "::set-output name=a::b",
    "\n::error::x",
    "##[error]x",
    "%0A::stop-commands::t",
    "a,b:c",
)


@pytest.mark.parametrize("name", [*NAMES, *SLASHED, *COMMANDS])
def test_no_name_is_a_command(name: str) -> None:
    text = annotation("error", name, name) + "\n"
    assert read(text) == [("error", printable(name), printable(name))]


@given(
    st.text(st.characters(exclude_categories=[]) | st.sampled_from("%:,\r\n0ADC23"), max_size=30)
)
def test_any_text_comes_back(text: str) -> None:
    shown = printable(text)
    (found,) = read(annotation("warning", text, text) + "\n")
    assert found == ("warning", shown, shown)


def test_failed_gates_are_errors_and_come_first() -> None:
    found = summary(fail_under=("10", "clean=90", "linf@0.1=80", "43"), confident=True)
    found["soundness"] = {
        "verdict": "suspect",
        "findings": [
            {"check": "zero gradient", "verdict": "suspect", "detail": "100 % masked"},
            {"check": "fine", "verdict": "ok", "detail": "unimportant"},
        ],
    }
    notes = read(render(found))
    assert [(level, title) for level, title, _ in notes] == [
        ("error", "advcli: gate linf@0.1=80: fail"),
        ("warning", "advcli: gate worst case=43: inconclusive"),
        ("warning", "advcli: suspect: zero gradient"),
    ]
    assert notes[0][2] == "42.9 %, at least 80.0 % wanted"
    assert "more images would settle it" in notes[1][2]
    assert notes[2][2] == "100 % masked"


def test_a_run_without_complaint_has_one_notice() -> None:
    ((level, _, message),) = read(render(summary(fail_under=("40",))))
    assert level == "notice"
    assert message.startswith("PASS: every gate holds; worst case linf 0.1: 42.9 % (95 %: ")
    ((level, _, message),) = read(files.render(summary(), "github"))
    assert "no gate was set" in message


def test_errors_on_images_are_a_warning() -> None:
    found = summary()
    found["attacks"][0]["errors"] = 3
    assert read(render(found)) == [("warning", "advcli: no verdict", "3 error(s) on images")]


def test_there_are_at_most_ten_and_the_worst_stay() -> None:
    found = summary(fail_under=tuple(f"clean={i}" for i in range(80, 92)))
    for gate in found["gates"][:4]:
        gate["verdict"] = "inconclusive"
    for gate in found["gates"][4:]:
        gate["verdict"] = "fail"
    notes = read(render(found))
    assert [level for level, *_ in notes] == ["error"] * 8 + ["warning"] * 2
    assert "and 3 more" in notes[-1][2]
    for gate in found["gates"][:10]:
        gate["verdict"] = "pass"
    assert len(read(render(found))) == 2


# --- how many more images, in every format


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("43", "42.9 % (95 %: 40.2–45.7) against 43.0 %; about 3,800,000 more"),
        ("44", "42.9 % (95 %: 40.2–45.7) against 44.0 %; about 7,400 more"),
    ],
)
def test_every_format_says_how_many_would_settle_it(asked: str, said: str) -> None:
    found = summary(fail_under=(asked,), confident=True)
    (gate,) = found["gates"]
    assert gate["verdict"] == "inconclusive"
    texts = [terminal.render(found), render(found).replace("%25", "%")]
    texts += [files.render(found, name).replace("\\", "") for name in ("markdown", "junit")]
    texts.append(files.render(found, "sarif").encode().decode("unicode_escape"))
    for text in texts:
        assert said in text
        assert "more images would settle it" in text
    plain = summary(fail_under=(asked,))
    assert plain["gates"][0]["images_needed"] == gate["images_needed"] > 0
    assert "settle" not in terminal.render(plain)
    assert f"inconclusive,{gate['images_needed']}," in files.render(found, "csv")


def test_at_the_threshold_itself() -> None:
    found = of({0.1: 80}, 200, fail_under=("40",), confident=True)
    assert "no number of images would settle it" in terminal.render(found)
    found = of({0.1: 41}, 100, fail_under=("class:c0=40",), confident=True)
    assert "about 9,200 more images of that class would settle it" in terminal.render(found)


# --- the step summary


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "page.md"))
    return tmp_path / "page.md"


def test_without_the_variable_nothing_is_rendered() -> None:
    def never() -> str:
        raise AssertionError

    assert step_summary.append(never, never) == ""


def test_a_page_is_added_to(page: Path) -> None:
    page.write_text("before\n")
    assert step_summary.append(lambda: "# whole\n", str) == ""
    assert page.read_text() == "before\n\n# whole\n"


def test_a_page_stays_within_its_limit(page: Path) -> None:
    page.write_bytes(b"x" * (2**20 - 10))
    assert step_summary.append(lambda: "y" * 100, lambda: "short\n") == ""
    assert page.read_bytes().endswith(b"\nshort\n")
    assert page.stat().st_size <= 2**20
    refused = step_summary.append(lambda: "y" * 100, lambda: "z" * 100)
    assert "does not fit" in refused
    page.unlink()
    assert step_summary.append(lambda: "y" * (2**20 - 1), str) == ""
    assert page.stat().st_size == 2**20


def test_a_page_that_cannot_be_written_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in (tmp_path, tmp_path / "no" / "folder", "/proc/x\x1b", "x" * 5000):
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(name))
        said = step_summary.append(lambda: "a", str)
        assert "could not be written" in said
        assert "\x1b" not in said


def test_a_shortened_report_keeps_what_matters() -> None:
    names = tuple(f"class:c{i % 3}={i % 40}" for i in range(300))
    found: dict[str, Any] = summary(fail_under=(*names, "99"))
    found["soundness"]["findings"] = [
        {"check": "many", "verdict": "note", "detail": "n" * 300} for _ in range(5000)
    ] + [{"check": "masked", "verdict": "suspect", "detail": "gradient"}]
    assert len(markdown.render(found).encode()) > 2**20
    text = markdown.shortened(found)
    assert len(text.encode()) < 2**18
    assert "FAIL" in text
    assert "was shortened" in text
    assert "| linf 0.1 | 42.9 % |" in text
    assert "| worst case=99 | 99.0 % | 42.9 % | fail |" in text
    assert "**suspect** masked" in text
