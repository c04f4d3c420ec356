"""`--baseline`: a real run against one that was made better, or otherwise changed, by hand."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from advcli.audit import run as running
from advcli.audit.directory import RunDirectory
from advcli.audit.journal import dumps, read_lines
from advcli.audit.plan import AuditConfig
from advcli.audit.run import execute
from advcli.audit.summary import summarise
from advcli.audit.verify import verify
from advcli.errors import AdvcliError, RunError, UsageError

from ..reports.standards import check_summary
from .support import SAMPLES, Watcher

COUNT = 24
BETTER = 4  # images that stood in the baseline and fall now


def config(**more: Any) -> AuditConfig:
    settings = {
        "command": "evaluate",
        "model": str(SAMPLES / "cnn.h5"),
        "images": str(SAMPLES / "images"),
        "attacks": ("fgsm",),
        "eps": (0.1,),
        "preprocess": "unit",
        "limit": COUNT,
        "batch_size": 16,
    }
    return AuditConfig.model_validate(settings | more)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("base") / "run"
    assert execute(config(), Watcher(), out=root).summary["baseline"] is None
    assert not (root / "baseline.json").exists()
    return root


def changed(base: Path, root: Path, change: Any) -> Path:
    """A copy of `base` with `change` applied to every journal line."""
    shutil.copytree(base, root)
    lines = list(read_lines(root / "results.jsonl"))
    (root / "results.jsonl").write_text("".join(dumps(change(line)) + "\n" for line in lines))
    directory = RunDirectory(root)
    directory.write_summary(summarise(directory.read_run(), directory.ledger()))
    return root


@pytest.fixture(scope="module")
def better(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`BETTER` of the images that fgsm fooled stood."""
    fooled = [line["image"] for line in read_lines(base / "results.jsonl") if line.get("success")]
    spared = set(fooled[:BETTER])
    assert len(spared) == BETTER

    def change(line: dict[str, Any]) -> dict[str, Any]:
        if line["image"] in spared and line["attack"] == "fgsm":
            return line | {"success": False}
        return line

    return changed(base, tmp_path_factory.mktemp("better") / "run", change)


@pytest.fixture(scope="module")
def fallen(better: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The same model as in `base` beside a baseline that was better, which is gone afterwards."""
    root = tmp_path_factory.mktemp("fallen")
    gone = shutil.copytree(better, root / "gone")
    found = execute(config(baseline=str(gone), max_drop=5.0), Watcher(), out=root / "run")
    shutil.rmtree(gone)
    check_summary(found.summary)
    return root / "run", found.summary


def test_a_drop_fails_the_run(fallen: tuple[Path, dict[str, Any]]) -> None:
    _, summary = fallen
    assert (summary["verdict"], summary["exit_code"]) == ("fail", 1)
    (gate,) = summary["gates"]
    assert (gate["gate"], gate["threshold"], gate["value"]) == ("baseline", -0.05, -BETTER / COUNT)
    worst = next(r for r in summary["baseline"]["threats"] if r["scope"] == "worst case")
    assert (worst["newly_broken"], worst["fixed"], worst["paired"]) == (BETTER, 0, COUNT)
    assert worst["new_accuracy"] == summary["worst_case"][0]["robust_accuracy"]
    assert "newly_broken_images" not in worst
    assert summary["baseline"]["images"]["paired"] == COUNT


def test_it_is_verified_without_the_baseline(fallen: tuple[Path, dict[str, Any]]) -> None:
    root, _ = fallen
    assert verify(root).mismatches == []
    kept = (root / "baseline.json").read_text()
    stored = json.loads(kept)
    stored["standing"][-1]["standing"] = "0" * COUNT
    (root / "baseline.json").write_text(json.dumps(stored))
    try:
        assert "baseline" in verify(root).mismatches[0]["detail"]
        (root / "baseline.json").unlink()
        assert verify(root).mismatches[0]["file"] == "baseline.json"
    finally:
        (root / "baseline.json").write_text(kept)


def test_the_gate_may_change_when_a_run_goes_on(
    fallen: tuple[Path, dict[str, Any]], base: Path, tmp_path: Path
) -> None:
    """With the baseline that the run keeps, or with another one; nothing is computed again."""
    root = shutil.copytree(fallen[0], tmp_path / "run")
    before = (root / "results.jsonl").read_bytes()

    def again(**more: Any) -> dict[str, Any]:
        asked = config(attacks=(), **more)
        given = frozenset(more)
        return execute(asked, Watcher(), out=root, resume=True, given=given).summary

    found = again(max_drop=20.0)
    assert (found["verdict"], found["gates"][0]["threshold"]) == ("pass", -0.2)
    found = again(confident=True)
    assert (found["verdict"], found["gates"][0]["threshold"]) == ("inconclusive", -0.2)
    found = again(baseline=str(base), confident=False, max_drop=0.0)
    assert (found["verdict"], found["gates"][0]["value"]) == ("pass", 0.0)
    assert any("same model" in note for note in found["baseline"]["notes"])
    assert (root / "results.jsonl").read_bytes() == before


def refused(tmp_path: Path, match: str, error: type[AdvcliError] = RunError, **more: Any) -> None:
    with pytest.raises(error, match=match) as caught:
        execute(config(**more), Watcher(), out=tmp_path / "out")
    assert caught.value.hint
    assert not (tmp_path / "out").exists()


def test_what_options_tell_is_refused_before_the_model_is_loaded(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(running, "build", never)
    asked = {"baseline": str(base)}
    refused(tmp_path, "No such file", baseline=str(tmp_path / "none"))
    refused(tmp_path, "add|compares with an earlier run", UsageError, max_drop=1.0)
    refused(
        tmp_path, "--pixels is uint8 in the baseline, float in this run", pixels="float", **asked
    )
    refused(tmp_path, "--resize is stretch in the baseline, crop", resize="crop", **asked)
    refused(tmp_path, "--targeted is none in the baseline, next", targeted="next", **asked)
    refused(tmp_path, "share no threat.*51/255", eps=(0.2,), **asked)
    refused(tmp_path, "share no threat", attacks=("fgsm", "noise"), **asked)
    names = tmp_path / "names.txt"
    names.write_text("".join(f"{i}\n" for i in [*range(1, 10), 0]))
    refused(
        tmp_path, "class 0 is '0' in the baseline, '1' in this run", classes=str(names), **asked
    )
    unfinished = shutil.copytree(base, tmp_path / "unfinished")
    (unfinished / "summary.json").unlink()
    refused(tmp_path, "not finished", baseline=str(unfinished))
    with pytest.raises(UsageError, match="are one folder"):
        execute(config(**asked), Watcher(), out=base, resume=True, given=frozenset({"baseline"}))


def test_another_preprocessing_is_refused_before_an_attack(base: Path, tmp_path: Path) -> None:
    said = "the preprocessing is scale=1.0.* in the baseline, scale=0.9"
    refused(tmp_path, said, baseline=str(base), preprocess="scale=0.9")


def test_other_images_are_refused_before_an_attack(base: Path, tmp_path: Path) -> None:
    def change(line: dict[str, Any]) -> dict[str, Any]:
        return line | {"sha256": "0" + line["sha256"][1:][::-1]} if "sha256" in line else line

    other = changed(base, tmp_path / "other", change)
    refused(tmp_path, "none of its images is among this run's", baseline=str(other))
