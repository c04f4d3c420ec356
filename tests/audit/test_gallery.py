"""The pictures that a run keeps for its report."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from advcli.attacks.natural import Question
from advcli.audit.directory import RunDirectory
from advcli.audit.gallery import SIZE, Keeper, confidence, pictures, sample
from advcli.audit.journal import dumps
from advcli.audit.ledger import Ledger
from advcli.images.folder import open_folder
from advcli.images.stream import ImageStream
from advcli.images.writer import write_png

from .support import SAMPLES, answer, clean, phase, run_of

SHAPE = (28, 28, 1)


class Linear:
    """Two classes: is the mean above a half? Counts how often it is asked."""

    head = SimpleNamespace(ending="softmax")

    def __init__(self) -> None:
        self.asked = 0

    def confirm(self, x: np.ndarray) -> Any:
        self.asked += 1
        mean = x.reshape(len(x), -1).mean(axis=1)
        logits = np.stack([np.full_like(mean, 0.5), mean], axis=1)
        return SimpleNamespace(prediction=logits.argmax(axis=1), logits=logits)


@pytest.fixture
def stream() -> ImageStream:
    return ImageStream(open_folder(SAMPLES / "images"), SHAPE, limit=40)


def ledger_of(stream: ImageStream) -> Ledger:
    """Every fifth image is a clean mistake."""
    return Ledger.read(
        clean(image.ref.path, 0, int(number % 5 == 0), sha256=image.sha256)
        for number, image in enumerate(stream)
    )


def keeper_of(root: Path, stream: ImageStream, ledger: Ledger) -> Keeper:
    directory = RunDirectory(root)
    root.mkdir(exist_ok=True)
    directory.write_run(run_of([phase()]))
    found = Keeper(directory, Linear(), stream, ledger, 0)  # type: ignore[arg-type]
    found.begin(set(ledger.clean))
    return found


def test_the_sample_is_of_the_attacked_and_stays(stream: ImageStream) -> None:
    ledger = ledger_of(stream)
    chosen = sample(ledger, 0)
    assert len(chosen) == SIZE
    assert all(ledger.clean[image].attacked for image in chosen)
    backwards = Ledger(dict(reversed(ledger.clean.items())))
    assert sample(backwards, 0) == chosen
    assert sample(ledger, 1) != chosen
    some = set(list(ledger.clean)[:20])
    part = sample(ledger, 0, some)
    assert [image for image in chosen if image in some] == part[: len(some & set(chosen))]


def test_what_was_taken_is_read_back(tmp_path: Path, stream: ImageStream) -> None:
    ledger = ledger_of(stream)
    keeper = keeper_of(tmp_path / "run", stream, ledger)
    chosen = sample(ledger, 0)
    other = next(image for image in ledger.clean if image not in chosen)
    white = np.full(SHAPE, 255, np.uint8)
    for image in (*chosen, other):
        for eps in (0.1, 0.2):
            keeper.take(answer(image, 1, success=True, eps=eps), white)
    unsure = pictures(RunDirectory(tmp_path / "run"))  # as a kill would leave it
    keeper.flush()
    found = pictures(RunDirectory(tmp_path / "run"))
    assert [p.facts["image"] for p in found] == [i for i in chosen for _ in range(2)]
    originals = {image.ref.path: image.pixels for image in stream}
    for before, after in zip(unsure, found, strict=True):
        np.testing.assert_array_equal(after.clean, originals[after.facts["image"]])
        np.testing.assert_array_equal(after.adversarial, white)
        assert before.facts["adversarial_confidence"] is None
        assert after.facts == before.facts | {"adversarial_confidence": pytest.approx(0.6225, 1e-4)}
        mean = after.clean.mean() / 255
        assert after.facts["clean_confidence"] == pytest.approx(
            1 / (1 + math.exp(-abs(mean - 0.5))), rel=1e-5
        )
    assert keeper._classifier.asked == 2  # type: ignore[attr-defined]
    files = [path.name for path in (tmp_path / "run/gallery").glob("*.png")]
    assert len(files) == SIZE + 1  # one for each original, one for what all became
    assert all(len(name) == 64 + 4 for name in files)


def test_float_pixels_are_rounded_to_be_shown(tmp_path: Path, stream: ImageStream) -> None:
    ledger = ledger_of(stream)
    keeper = keeper_of(tmp_path / "run", stream, ledger)
    point = np.full(SHAPE, 0.5, np.float32)
    keeper.take(answer(sample(ledger, 0)[0], 1, success=True), point)
    keeper.flush()
    (found,) = pictures(RunDirectory(tmp_path / "run"))
    assert set(np.unique(found.adversarial)) == {128}
    assert found.facts["adversarial_confidence"] == 0.5


def test_each_image_shows_one_natural_question(tmp_path: Path, stream: ImageStream) -> None:
    ledger = ledger_of(stream)
    keeper = keeper_of(tmp_path / "run", stream, ledger)
    questions = [Question(kind, severity, 1) for kind in "abc" for severity in range(1, 9)]
    for image in sample(ledger, 0):
        for kind, severity, _ in questions:
            line = answer(image, 1, success=True, attack="corruption") | {
                "norm": None,
                "eps": None,
                "kind": kind,
                "severity": severity,
            }
            keeper.take_natural(line, np.zeros(SHAPE, np.uint8), questions)
    found = pictures(RunDirectory(tmp_path / "run"))
    assert [(p.facts["kind"], p.facts["severity"]) for p in found] == [
        (kind, severity) for kind in "abc" for severity in (1, 3, 5, 7)
    ]


def test_a_run_that_wrote_its_images_has_a_gallery(tmp_path: Path, stream: ImageStream) -> None:
    directory = RunDirectory(tmp_path / "run")
    ledger = ledger_of(stream)
    chosen = sample(ledger, 0)[:3]
    lines = [clean(i, c.label, c.prediction, sha256=c.sha256) for i, c in ledger.clean.items()]
    black, white = np.zeros(SHAPE, np.uint8), np.full(SHAPE, 255, np.uint8)
    write_png(tmp_path / "outside.png", white)
    for image in chosen:
        write_png(directory.root / directory.clean_file(image), black)
        write_png(directory.root / f"images/pgd/{image}.png", white)
    files = [f"images/pgd/{chosen[0]}.png", "../outside.png", "images/gone.png"]
    lines += [
        answer(image, 1, success=True, file=file) for image, file in zip(chosen, files, strict=True)
    ]
    directory.journal_file.write_text("".join(dumps(line) + "\n" for line in lines))
    directory.write_run(run_of([phase()]))
    (found,) = pictures(directory)
    assert found.facts["image"] == chosen[0]
    assert found.facts["adversarial_confidence"] is None
    np.testing.assert_array_equal(found.adversarial, white)
    run = directory.read_run()
    run["images"]["selected"] = [image for image in ledger.clean if image != chosen[0]]
    directory.write_run(run)
    assert pictures(directory) == ()


def test_a_damaged_gallery_loses_only_what_is_damaged(tmp_path: Path, stream: ImageStream) -> None:
    ledger = ledger_of(stream)
    keeper = keeper_of(tmp_path / "run", stream, ledger)
    chosen = sample(ledger, 0)
    for number, image in enumerate(chosen):
        keeper.take(answer(image, 1, success=True), np.full(SHAPE, number, np.uint8))
    index = tmp_path / "run/gallery/index.jsonl"
    first, *others = index.read_text().splitlines()
    facts = json.loads(first)
    index.write_text("\n".join([*others, dumps(facts | {"clean": "../../x.png"}), first[:40]]))
    (tmp_path / "run" / json.loads(others[0])["adversarial"]).write_bytes(b"no image")
    found = pictures(RunDirectory(tmp_path / "run"))
    assert [p.facts["image"] for p in found] == chosen[2:]
    assert pictures(RunDirectory(tmp_path / "none")) == ()


@pytest.mark.parametrize(
    ("logits", "ending", "expected"),
    [
        ([0.0, math.log(3)], "softmax", 0.75),
        ([math.log(0.25), math.log(0.75)], "probabilities", 0.75),
        ([0.0, math.log(3)], "sigmoid unit", 0.75),
        ([5.0, math.log(3)], "sigmoids", 0.75),
        ([5.0, math.log(3) / 2], "tanh", 0.75),
        ([1000.0, 2000.0], "logits", 1.0),
        ([math.nan, 1.0], "softmax", None),
    ],
)
def test_confidence(logits: list[float], ending: str, expected: float | None) -> None:
    found = confidence(np.array(logits, np.float32), 1, ending)
    assert found == (expected if expected is None else pytest.approx(expected, rel=1e-6))
