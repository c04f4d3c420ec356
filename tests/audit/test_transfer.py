"""--surrogate through a whole audit: what is refused, what is kept, what can be repeated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from advcli.audit.plan import AuditConfig
from advcli.audit.run import execute
from advcli.audit.verify import verify
from advcli.errors import AdvcliError, RunError
from advcli.reports import files, terminal
from tests.models.support import saved, small_cnn

from .support import SAMPLES, Watcher


def config(**more: Any) -> AuditConfig:
    settings = {
        "command": "attack",
        "model": str(SAMPLES / "cnn.h5"),
        "images": str(SAMPLES / "images"),
        "attacks": ("pgd:steps=6",),
        "eps": (0.1, 0.2),
        "preprocess": "unit",
        "surrogate": str(SAMPLES / "robust.h5"),
        "limit": 16,
        "batch_size": 16,
    }
    return AuditConfig.model_validate(settings | more)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    root = tmp_path_factory.mktemp("transfer") / "run"
    return root, execute(config(), Watcher(), out=root).summary


def test_what_was_crafted_where_is_told(run: tuple[Path, dict[str, Any]]) -> None:
    root, summary = run
    stored = json.loads((root / "run.json").read_text())
    known = stored["surrogate"]
    assert known["sha256"] == stored["identity"]["surrogate"] != stored["identity"]["model"]
    assert known["preprocessing"]["flag"] == "unit"  # chosen from the images
    assert summary["provenance"]["surrogate"] == known
    for text in (terminal.render(summary), files.render(summary, "markdown").replace("\\", "")):
        assert "ransfer: crafted on " in text
        assert f"robust.h5 (sha256 {known['sha256'][:12]}, preprocessing unit)" in text
    weak = execute(
        config(surrogate=None, command="evaluate"),
        Watcher(),
    ).summary
    assert weak["provenance"]["surrogate"] is None
    for direct, transferred in zip(weak["attacks"], summary["attacks"], strict=True):
        assert direct["robust"] <= transferred["robust"]
    assert summary["attacks"][1]["broken"] > 0


def test_it_can_be_verified_replayed_and_resumed(run: tuple[Path, dict[str, Any]]) -> None:
    root, summary = run
    assert verify(root, replay=3).mismatches == []
    again = execute(config(surrogate=None), Watcher(), out=root, resume=True).summary
    assert again["attacks"] == summary["attacks"]
    other = config(surrogate=str(SAMPLES / "keras2.h5"))
    with pytest.raises(RunError, match=r"surrogate is .* there"):
        execute(other, Watcher(), out=root, resume=True, given=frozenset({"surrogate"}))


def test_a_surrogate_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    narrow = saved(small_cnn(classes=3, shape=(28, 28, 1)), tmp_path / "narrow.h5")
    for path, message, hint in (
        (
            SAMPLES.parent / "signs/cnn.h5",
            "takes images of 48×48×3, MODEL of 28×28×1",
            "input size",
        ),
        (narrow, "knows 3 classes, MODEL 10", "MODEL's classes"),
    ):
        with pytest.raises(AdvcliError, match=message) as caught:
            execute(config(surrogate=str(path)), Watcher(), out=tmp_path / "run")
        assert caught.value.exit_code == 2
        assert hint in caught.value.hint
    flat = config(surrogate_preprocess="scale=0.000001")
    with pytest.raises(AdvcliError, match=r"the surrogate gets .* than guessing") as caught:
        execute(flat, Watcher(), out=tmp_path / "run")
    assert "--surrogate-preprocess" in caught.value.hint
    with pytest.raises(AdvcliError, match="--surrogate-preprocess is for a surrogate"):
        execute(config(surrogate=None, surrogate_preprocess="unit"), Watcher(), out=tmp_path / "r")
    assert not (tmp_path / "run").exists()
