"""`advcli compare` as a shell script in CI has it: real processes on runs made by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ..audit.support import answer, clean, finished, phase
from .support import shell
from .test_startup import HEAVY, child


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`base` stands on 100 images, `worse` on 88; `other` was run at another eps."""
    root = tmp_path_factory.mktemp("runs")
    for name, broken, eps in (("base", 0, 0.1), ("worse", 12, 0.1), ("other", 0, 0.2)):
        lines = [clean(f"{i}", 0, 0) for i in range(100)]
        lines += [answer(f"{i}", int(i < broken), success=i < broken, eps=eps) for i in range(100)]
        finished(root / name, lines, [phase(eps=(eps,))])
    return root


@pytest.mark.parametrize(
    ("args", "code"),
    [
        ("base worse", 0),
        ("base base --max-drop 0", 0),
        ("base worse --max-drop 12", 0),
        ("base worse --max-drop 11.9", 1),
        ("base worse --max-drop 4 --confident", 1),
        ("base worse --max-drop 10 --confident", 3),
        ("base other", 2),
    ],
)
def test_exit_codes(runs: Path, args: str, code: int) -> None:
    done = shell(f"cd {runs}; PYTHONPATH={Path.cwd()} advcli compare {args}")
    assert done.returncode == code, done.stderr
    assert bool(done.stdout) == (code != 2)
    assert done.stderr.startswith("error: ") == (code == 2)


def test_it_needs_no_tensorflow(runs: Path) -> None:
    for kind in ("table", "markdown", "json"):
        args = ["compare", str(runs / "base"), str(runs / "worse"), "--format", kind]
        code, out, err, loaded = child(*args)
        assert (code, err) == (0, "")
        assert "12" in out
        assert not loaded & set(HEAVY)
    assert json.loads(out)["verdict"] == "none"


def test_the_difference_is_shown(runs: Path) -> None:
    done = shell(f"advcli compare {runs}/base {runs}/other")
    assert "worst case linf 0.1 (pgd) in BASE" in done.stderr
    assert "worst case linf 51/255 (pgd) in NEW" in done.stderr


def test_the_step_summary(runs: Path, tmp_path: Path) -> None:
    script = f"advcli compare {runs}/base {runs}/worse --max-drop 1 --format github"
    done = shell(script, GITHUB_STEP_SUMMARY=str(tmp_path / "page.md"))
    assert done.returncode == 1
    assert done.stdout.startswith("::error title=advcli%3A gate baseline%3A fail::−12.0 points")
    assert "**FAIL: the model got worse**" in (tmp_path / "page.md").read_text()
    done = shell(script, GITHUB_STEP_SUMMARY=str(tmp_path))
    assert done.returncode == 1
    assert "could not be written" in done.stderr
