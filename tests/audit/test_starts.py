"""Targeted attacks that start from another image: the same one whatever else a run is about."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from advcli.audit.directory import RunDirectory
from advcli.audit.run import execute
from advcli.audit.starts import Starts
from advcli.audit.verify import verify
from advcli.errors import RunError
from advcli.images.folder import open_folder
from advcli.images.stream import ImageStream

from .support import Watcher
from .test_run import lines_of
from .test_shards import config

ASKED = {
    "attacks": ("hopskipjump:iterations=1,initial-queries=16",),
    "norm": "l2",
    "eps": (2.0,),
    "targeted": "3",
}


def answers(root: Path) -> dict[str, Any]:
    return {line["image"]: line for line in lines_of(root) if line["attack"] != "clean"}


def test_a_run_that_goes_on_answers_like_one_at_once_and_is_replayed(tmp_path: Path) -> None:
    once, twice = tmp_path / "once", tmp_path / "twice"
    execute(config(limit=12, **ASKED), Watcher(), out=once)
    execute(config(limit=4, **ASKED), Watcher(), out=twice)
    grown = {"limit": 12, **ASKED}
    execute(config(**grown), Watcher(), out=twice, resume=True, given=frozenset({"limit"}))
    assert answers(once) == answers(twice)
    assert any(line["success"] for line in answers(once).values())
    start = RunDirectory(once).read_run()["starts"]["3"]
    assert Path(start["file"]).parent.name == "3"
    found = verify(once, replay=4)
    assert (found.mismatches, found.replayed) == ([], 4)


def folder_of(root: Path, names: list[str]) -> Path:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4), number, np.uint8)).save(root / name)
    return root


def predict(pixels: np.ndarray) -> Any:
    """A picture's class is its gray value in sixths."""
    return SimpleNamespace(prediction=pixels[:, 0, 0, 0] // 6)


def starts(root: Path, known: dict[str, Any], **sample: Any) -> Starts:
    return Starts(ImageStream(open_folder(root), (4, 4, 1), **sample), predict, known)


def test_the_sample_does_not_decide_and_what_is_known_is_kept(tmp_path: Path) -> None:
    root = folder_of(tmp_path, [f"a/{n}.png" for n in range(9)] + [f"b/{n}.png" for n in range(9)])
    known: dict[str, Any] = {}
    whole = starts(root, known)
    chosen = {target: whole.of(target) for target in range(4)}
    assert [pixels is None for pixels in chosen.values()] == [False, False, False, True]
    assert {predict(chosen[target][None]).prediction[0] for target in range(3)} == {0, 1, 2}
    assert whole.of(None) is None
    for sample in ({"limit": 1}, {"limit": 17}):
        other: dict[str, Any] = {}
        few = starts(root, other, **sample)
        assert all(np.array_equal(few.of(n), chosen[n]) for n in range(3))
        assert few.of(3) is None
        assert other == known
    # kept where new images would come first, and refused where it is gone or another
    (root / known["0"]["file"]).unlink()
    with pytest.raises(RunError, match="is gone or another one now"):
        starts(root, known).of(0)
    Image.fromarray(np.full((4, 4), 99, np.uint8)).save(root / known["1"]["file"])
    with pytest.raises(RunError, match="is gone or another one now"):
        starts(root, known).of(1)
    assert np.array_equal(starts(root, known).of(2), chosen[2])
