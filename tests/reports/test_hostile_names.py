"""Names of files and classes are an attacker's choice; what advcli prints stays what it is."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from advcli.images.text import printable
from advcli.reports import inspection, terminal
from advcli.reports.csv_report import guarded
from advcli.reports.evidence import MANIFEST
from advcli.reports.markdown import escaped

from . import test_html
from .hostile import GATED, LABELS, NAMES, SLASHED, commands
from .standards import check_cyclonedx, check_junit, check_sarif, check_summary

CODES = dict.fromkeys(
    ("mismatch", "no output", "no class", "no attack", "no option", "no model", "no images"), 2
)
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
PLAIN_MARKDOWN = frozenset(
    {"heading", "paragraph", "blockquote", "bullet_list", "list_item", "inline", "strong", "text"}
    | {"table", "thead", "tbody", "tr", "th", "td", "text_special"}
)
FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\r")


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hostile")
    subprocess.run([sys.executable, "-m", "tests.reports.hostile", root], check=True, timeout=170)
    return root


def hidden(text: str) -> set[str]:
    """Characters that move a cursor, hide, or turn the reading direction."""
    return {c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")} - {"\n"}


@pytest.mark.parametrize("name", commands(Path()))
@pytest.mark.parametrize("stream", ["out", "err"])
def test_no_control_character_reaches_the_terminal(ran: Path, name: str, stream: str) -> None:
    text = (ran / f"{name}.{stream}").read_bytes().decode("utf-8")
    assert hidden(text) == set()
    assert (ran / f"{name}.code").read_text() == str(CODES.get(name, 0))
    if stream == "out":
        assert bool(text) == (name not in CODES)
    elif name in CODES:
        assert text.splitlines()[-2].startswith("error: ")
        assert text.splitlines()[-1].startswith("hint: ")


def test_the_names_were_there(ran: Path) -> None:
    """So that what is proven here is not proven of nothing."""
    shown = (ran / "attack.out").read_text(encoding="utf-8")
    for name in GATED:
        assert f"class:{printable(name)}=10" in shown
    assert printable("j\x1b[2J|[x](y)@team.png") in shown
    inspected = (ran / "inspect.out").read_text(encoding="utf-8")
    assert ", ".join(map(printable, sorted(NAMES))) in inspected
    assert "a|b|c" in (ran / "aimed.out").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["attack", "aimed"])
@pytest.mark.parametrize("width", [80, None])
def test_colours_are_the_reports_own(ran: Path, name: str, width: int | None) -> None:
    summary = json.loads((ran / f"{name}.json").read_text())
    coloured = terminal.render(summary, width=width, color=True)
    bare = COLOUR.sub("", coloured)
    assert hidden(bare) == set()
    plain = terminal.render(summary, width=width)
    assert [line.rstrip() for line in bare.splitlines()] == plain.splitlines()
    assert "[red]rich[bold]" in plain or name == "aimed"


def test_inspected_names_bring_no_colours() -> None:
    facts: dict[str, Any] = {
        "model": dict.fromkeys(("path", "sha256", "keras_version", "format"), NAMES[0])
        | {"layers": 1, "parameters": 1, "optimizer_steps": None},
        "input": {"shape": [1, 1, 1], "layout": "channels-last"},
        "safety": {"runs_code": list(NAMES)},
        "rules": list(NAMES),
        "head": {"ending": "softmax", "classes": 2, "name": NAMES[0], "output": NAMES[1]},
    }
    assert hidden(inspection.render(facts)) == set()


def test_a_mismatch_lists_the_classes_of_both(ran: Path) -> None:
    error, hint = (ran / "mismatch.err").read_text(encoding="utf-8").splitlines()[-2:]
    folder = ", ".join(printable(name, 40) for name in sorted(NAMES[:2]))
    assert f"2 classes ({folder}), but the model has {len(NAMES)} (0 to {len(NAMES) - 1})" in error
    assert "--classes FILE" in hint


# --- XML and SARIF


@pytest.mark.parametrize("name", ["attack", "aimed"])
def test_xml_keeps_its_shape(ran: Path, name: str) -> None:
    text = (ran / f"{name}.junit.xml").read_text(encoding="utf-8")
    check_junit(text)
    assert hidden(text) == set()
    root = ElementTree.fromstring(text)
    assert {element.tag for element in root.iter()} <= {
        *("testsuites", "testsuite", "properties", "property", "testcase"),
        *("failure", "error", "system-out"),
    }
    summary = json.loads((ran / f"{name}.json").read_text())
    gates, *threats = root
    asked = [printable(gate["gate"]) for gate in summary["gates"]] or ["run"]
    assert [case.get("name") for case in gates.iter("testcase")] == asked
    classes = [printable(row["class"]) for row in summary["per_class"]]
    assert len(threats) == len(summary["worst_case"])
    for suite in threats:
        assert [case.get("name") for case in suite.iter("testcase")] == classes


@pytest.mark.parametrize("name", ["attack", "aimed"])
def test_sarif_names_the_model_by_a_uri(ran: Path, name: str) -> None:
    text = (ran / f"{name}.sarif").read_text(encoding="utf-8")
    check_sarif(text)
    assert hidden(text) == set()
    summary = json.loads((ran / f"{name}.json").read_text())
    failed = [gate for gate in summary["gates"] if gate["verdict"] == "fail"]
    results = json.loads(text)["runs"][0]["results"]
    assert len(results) == len(failed)
    for gate, result in zip(failed, results, strict=True):
        assert hidden(result["message"]["text"]) == set()
        assert result["partialFingerprints"]["gate/v1"] == printable(gate["gate"])
        uri = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        assert re.fullmatch(r"file:///[A-Za-z0-9/._~%-]+", uri)
        assert unquote(uri, errors="surrogateescape") == f"file://{summary['model']['path']}"


# --- HTML


@pytest.mark.parametrize("name", ["attack", "aimed"])
def test_html_keeps_its_shape_and_reads_as_the_names(ran: Path, name: str) -> None:
    page = test_html.Parsed((ran / f"{name}.html").read_text(encoding="utf-8"))
    assert hidden(page.text) == set()
    summary = json.loads((ran / f"{name}.json").read_text())
    assert not page.of("script")
    shown = {text.strip() for text in page.texts}
    for label in (row["class"] for row in summary["per_class"]):
        assert printable(label).strip() in shown
    for gate in summary["gates"]:
        assert printable(gate["gate"]).strip() in shown
    assert len(page.of("img")) == 3 * 12
    assert all(attrs["src"].startswith("data:image/png;base64,") for attrs in page.of("img"))
    assert all(
        json.loads(value) == test_html.at(summary, pointer) for pointer, value, _ in page.figures
    )


def test_a_report_of_the_run_is_the_runs_report(ran: Path) -> None:
    assert (ran / "again.html").read_bytes() == (ran / "attack.html").read_bytes()


# --- Markdown


def tokens(text: str) -> Iterator[Token]:
    for token in MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text):
        yield token
        yield from token.children or ()


def words(text: str) -> str:
    """What a reader sees."""
    return "".join(token.content for token in tokens(text) if token.type.startswith("text"))


# What GitHub makes a link, a mention or a reference of, in finished text.
LINKED = re.compile(r"(?i)www\.|://|mailto:|xmpp:|@\w|#\d|\bGH-\d")


@pytest.mark.parametrize("name", ["attack", "aimed"])
def test_markdown_keeps_its_shape(ran: Path, name: str) -> None:
    text = (ran / f"{name}.md").read_text(encoding="utf-8")
    assert hidden(text) == set()
    kinds = {re.sub("_(open|close)$", "", token.type) for token in tokens(text)}
    assert kinds <= PLAIN_MARKDOWN
    assert not LINKED.search(words(text))
    summary = json.loads((ran / f"{name}.json").read_text())
    rows = list(table_rows(text))
    assert len(rows) == 1 + len(summary["attacks"]) + len(summary["worst_case"]) + len(
        summary["gates"]
    )
    for row, gate in zip(rows[::-1], summary["gates"][::-1], strict=False):
        assert (row[0], row[-1]) == (printable(gate["gate"]), gate["verdict"])


def table_rows(text: str) -> Iterator[list[str]]:
    """The cells of all tables, their headings aside."""
    row: list[str] | None = None
    for token in MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text):
        if token.type == "td_open" and row is None:
            row = []
        elif token.type == "inline" and row is not None:
            row.append("".join(child.content for child in token.children or ()))
        elif token.type == "tr_close" and row is not None:
            yield [cell.replace("\u200b", "") for cell in row]
            row = None


@pytest.mark.parametrize("name", [*NAMES, *SLASHED])
def test_a_name_in_markdown_reads_as_itself(name: str) -> None:
    shown = escaped(name)
    (cell,) = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parseInline(f"x{shown}x")
    assert {token.type for token in cell.children or ()} <= {"text", "text_special"}
    seen = words(f"x{shown}x")
    assert seen.replace("\u200b", "") == f"x{printable(name)}x"
    assert not LINKED.search(seen)


ANY_NAME = st.text(
    st.sampled_from("\\`*_{}[]()<>#+!|~&:;$-@=\"'/.wgh1 \t\n,＝")
    | st.characters(exclude_categories=[]),
    max_size=25,
)


@settings(deadline=None, max_examples=300)
@given(ANY_NAME)
def test_any_name_is_text_in_markdown_and_in_csv(name: str) -> None:
    (cell,) = (
        MarkdownIt("commonmark")
        .enable(["table", "strikethrough"])
        .parseInline(f"x{escaped(name)}x")
    )
    assert {token.type for token in cell.children or ()} <= {"text", "text_special"}
    assert not LINKED.search("".join(token.content for token in cell.children or ()))
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(["a", guarded(name), "b"])
    for delimiter in ",;\t":
        for row in csv.reader(io.StringIO(line.getvalue(), newline=""), delimiter=delimiter):
            assert not [cell for cell in row if cell.lstrip(' "').startswith(FORMULA)]


# --- CSV


@pytest.mark.parametrize("name", ["attack", "aimed"])
def test_csv_keeps_its_columns_and_runs_nothing(ran: Path, name: str) -> None:
    text = (ran / f"{name}.csv").read_bytes().decode("utf-8")
    assert hidden(text) == set()
    rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    assert {len(row) for row in rows} == {len(rows[0])}
    assert len(rows) == text.count("\n")
    for delimiter in ",;\t":
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
            assert not [cell for cell in row if cell.lstrip(' "').startswith(FORMULA)]
    expected = sorted(NAMES) if name == "attack" else sorted(label.strip() for label in LABELS)
    named = [row[2] for row in rows if row[0] == "class" and row[1] == "clean"]
    assert named == [guarded(label) for label in expected]


# --- evidence


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from (text for item in value.items() for part in item for text in strings(part))
    elif isinstance(value, list):
        yield from (text for part in value for text in strings(part))


def test_evidence_keeps_its_shape_and_its_names(ran: Path) -> None:
    folder = ran / "evidence"
    listed = [line.split("  ")[1] for line in (folder / MANIFEST).read_text().splitlines()]
    assert {*listed, MANIFEST} == {path.name for path in folder.iterdir()}
    text = (folder / "evidence.md").read_text(encoding="utf-8")
    assert hidden(text) == set()
    kinds = {re.sub("_(open|close)$", "", token.type) for token in tokens(text)}
    assert kinds <= PLAIN_MARKDOWN | {"code_inline"}
    code = {token.content for token in tokens(text) if token.type == "code_inline"}
    assert code == {f"sha256sum -c {MANIFEST}", "hashes.written"}
    assert not LINKED.search(words(text))
    headings = [token.map for token in tokens(text) if token.type == "heading_open"]
    assert len(headings) == 10
    assert (folder / "figures.md").read_bytes() == (ran / "attack.md").read_bytes()
    table = (folder / "images.csv").read_bytes().decode("utf-8")
    assert hidden(table) == set()
    for delimiter in ",;\t":
        for row in csv.reader(io.StringIO(table, newline=""), delimiter=delimiter):
            assert not [cell for cell in row if cell.lstrip(' "').startswith(FORMULA)]
    rows = list(csv.DictReader(io.StringIO(table, newline=""), strict=True))
    assert len(rows) == table.count("\n") - 1
    facts = json.loads((folder / "evidence.json").read_bytes())
    assert [row["image"] for row in rows][: len(facts["hashes"]["pixels"])] == [
        guarded(name) for name in facts["hashes"]["pixels"]
    ]
    written = {f"{name}/{name}.png" for name in NAMES}
    assert written <= set(facts["hashes"]["pixels"])
    card = (folder / "model-card.cdx.json").read_text(encoding="utf-8")
    check_cyclonedx(card)
    assert not {sign for part in strings(json.loads(card)) for sign in hidden(part)}
    assert f"class {printable(NAMES[0])}, unperturbed" in set(strings(json.loads(card)))


# --- JSON and files


def test_json_gives_every_name_back(ran: Path) -> None:
    data = (ran / "json.out").read_bytes()
    assert data.isascii()
    check_summary(data.decode())
    printed = json.loads(data)
    assert printed == json.loads(next(ran.glob("run*/summary.json")).read_text())
    assert printed["model"]["classes"] == sorted(NAMES)
    assert [entry["class"] for entry in printed["per_class"]] == sorted(NAMES)
    assert printed["images"]["skipped"][0]["file"] == "+1/=k\x1b[2J<b>.txt"
    json.loads((ran / "attack.json").read_text())


def test_written_images_lie_in_the_run(ran: Path) -> None:
    (run,) = ran.glob("run*")
    written = sorted(path for path in run.rglob("*") if path.is_file())
    assert all(path.resolve().is_relative_to(run.resolve()) for path in written)
    lines = [json.loads(line) for line in (run / "results.jsonl").read_text().splitlines()]
    named = {run / line["file"] for line in lines if line.get("file")}
    assert len(named) == len(NAMES)
    assert named <= set(written)
    for path in written:
        assert not {
            c for c in str(path.relative_to(run)) if unicodedata.category(c) in ("Cc", "Cs")
        }
    assert {path.name for path in ran.iterdir() if path.is_dir()} == {
        *("flat", "two", "evidence", run.name, "images\x1b[2J|`[x](y)\udcfe"),
    }
