"""Folders that hold no run, or a damaged one: exit 2 and a reason, whatever the command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from advcli.cli.exits import run

from ..audit.support import answer, clean, finished, phase
from .support import shell

DAMAGES = {
    "empty": "",
    "torn": None,  # the first half of what is there
    "another object": "{}",
    "a list": "[1, 2]",
    "text": "no JSON at all",
    "null inside": '{"schema_version": 1, "config": null, "verdict": null}',
    "of a later format": None,
}
READERS = (
    "report {run}",
    "report {run} --evidence {new}",
    "compare {whole} {run}",
    "compare {run} {whole}",
    "verify {run}",
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs") / "whole"
    lines = [clean(f"{i}", 0, 0) for i in range(20)]
    lines += [answer(f"{i}", int(i < 5), success=i < 5, eps=0.1) for i in range(20)]
    finished(root, lines, [phase(eps=(0.1,))])
    return root


def damaged(whole: Path, root: Path, name: str, damage: str) -> Path:
    shutil.copytree(whole, root)
    file = root / name
    text = DAMAGES[damage]
    if damage == "torn":
        text = file.read_text()[: file.stat().st_size // 2]
    elif damage == "of a later format":
        text = json.dumps(json.loads(file.read_text()) | {"schema_version": 2})
    assert text is not None
    file.write_text(text)
    return root


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    ("args", "name"),
    [
        *((args, name) for args in READERS for name in ("run.json", "summary.json")),
        ("merge {run} --out {new}", "run.json"),  # it adds the summary up anew
    ],
)
def test_a_damaged_file_is_refused(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    whole: Path,
    args: str,
    name: str,
    damage: str,
) -> None:
    root, new = damaged(whole, tmp_path / "run", name, damage), tmp_path / "new"
    code = run(args.format(run=root, whole=whole, new=new).split())
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    error, hint = err.splitlines()
    assert error.startswith("error: ")
    assert name in error
    assert hint.startswith("hint: ")
    assert not new.exists()


@pytest.mark.parametrize("name", ["run.json", "summary.json", "baseline.json"])
@pytest.mark.parametrize(
    "args",
    ["report {run}", "merge {run} --out {run}", "evaluate {run}/m.h5 {run} --out {run} --resume"],
)
def test_no_report_replaces_a_file_of_the_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, whole: Path, name: str, args: str
) -> None:
    root = shutil.copytree(whole, tmp_path / "run")
    before = {file: file.read_bytes() for file in root.iterdir()}
    link = tmp_path / "elsewhere.json"
    link.symlink_to(root / name)
    for target in (root / name, root / "images" / ".." / name, link):
        assert run([*args.format(run=root).split(), "-r", str(target)]) == 2
        assert "would replace a file that the run keeps" in capsys.readouterr().err
    assert before == {file: file.read_bytes() for file in root.iterdir()}


def test_a_new_run_keeps_its_names_too(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    args = ["evaluate", str(tmp_path / "m.h5"), str(tmp_path), "--out", str(out)]
    assert run([*args, "-r", str(out / "summary.json")]) == 2
    assert "would replace" in capsys.readouterr().err
    assert run([*args, "-r", str(tmp_path / "summary.json")]) == 2
    assert "m.h5: no such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("report {run} >&-", 3),
        ("--version >&-", 3),
        ("report {run} >&- 2>&-", 3),
        ("report {run} -q -r {new} >&-", 0),
        ("report {run} <&- 2>&-", 0),
        ("report {run}/none 2>&-", 2),
    ],
)
def test_closed_standard_streams(whole: Path, tmp_path: Path, command: str, code: int) -> None:
    """What is written to a closed output is lost, which is no verdict; nothing else depends on it,
    and an error is never printed in a result's place."""
    command = command.format(run=whole, new=tmp_path / "new.md")
    done = shell(f"code=0; advcli {command} || code=$?; exit $code")
    assert done.returncode == code
    assert bool(done.stdout) == ("<&-" in command)
    assert done.stderr.count("error: ") == (code == 3 and "2>&-" not in command)
    assert "Traceback" not in done.stderr
    assert "defect" not in done.stderr
