"""A few pictures of a run for a report to show: an image, what an attack made of it, how sure the
model was of both.

Which images is decided by their content and the seed, whatever their order, a subset or a resumed
run. While a run goes on `Keeper` puts them into RUN/gallery; of a run that wrote its perturbed
images anyway they can be had later as well. Nothing in a summary rests on them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from advcli.attacks.natural import Question
from advcli.audit.directory import CLEAN, RunDirectory
from advcli.audit.journal import drop_torn_line, dumps, read_lines
from advcli.audit.ledger import Ledger
from advcli.audit.lines import Line
from advcli.audit.natural import NaturalPhase
from advcli.errors import RunError
from advcli.images.decode import ImageReadError
from advcli.images.writer import read_back, write_png
from advcli.threats.grid import from_bytes

if TYPE_CHECKING:
    from advcli.images.stream import ImageStream
    from advcli.models.classifier import Classifier

__all__ = ["SIZE", "Keeper", "Picture", "pictures", "sample"]

SIZE = 12  # images that are kept
_FOLDER = "gallery"
_INDEX = "gallery/index.jsonl"
_FACTS = ("image", "attack", "norm", "eps", "success", "adversarial_prediction", "distance")


@dataclass(frozen=True)
class Picture:
    """One image under one attack. `facts`: a line of the index; `clean`, `adversarial`: uint8
    [H, W, C], C in {1, 3, 4}."""

    facts: dict[str, Any]
    clean: np.ndarray
    adversarial: np.ndarray


def sample(ledger: Ledger, seed: int, selected: Collection[str] | None = None) -> list[str]:
    """The `SIZE` images that stand first by hash of seed and content, of those attacked."""
    ranked = sorted(
        (hashlib.sha256(f"{seed} {clean.sha256}".encode()).digest(), image)
        for image, clean in ledger.evaluated()
        if clean.attacked and (selected is None or image in selected)
    )
    return [image for _, image in ranked[:SIZE]]


# --- while a run goes on ---------------------------------------------------------------------


class Keeper:
    """Keeps what the attacks of a run make of the sample.

    An answer is written at once, so that a killed run loses none, and again at the end of its pass
    with the model's confidence; the later line counts.
    """

    def __init__(
        self,
        directory: RunDirectory,
        classifier: Classifier,
        stream: ImageStream,
        ledger: Ledger,
        seed: int,
    ) -> None:
        self._directory = directory
        self._classifier = classifier
        self._stream = stream
        self._ledger = ledger
        self._seed = seed
        self._places: dict[str, int] = {}
        self._clean: dict[str, dict[str, Any]] = {}
        self._held: list[tuple[dict[str, Any], np.ndarray]] = []

    def begin(self, selected: Collection[str]) -> None:
        """Chooses the sample; the clean pass is over."""
        drop_torn_line(self._directory.root / _INDEX)
        chosen = sample(self._ledger, self._seed, selected)
        self._places = {image: place for place, image in enumerate(chosen)}
        found = {i.ref.path: i.pixels for i in self._stream.subset(chosen) if i.pixels is not None}
        sure = self._confidences(list(found.values()))
        for (image, pixels), confidence in zip(found.items(), sure, strict=True):
            self._clean[image] = {
                "label": self._ledger.clean[image].label,
                "clean_prediction": self._ledger.clean[image].prediction,
                "clean_confidence": confidence,
                "clean": self._write(pixels),
            }

    def take(self, line: Line, point: np.ndarray) -> None:
        """An answer of an attack; `point` as in `Outcome`."""
        clean = self._clean.get(line["image"])
        if clean is None:
            return
        facts = _facts(line) | clean | {"adversarial_confidence": None}
        facts["adversarial"] = self._write(_bytes(point))
        self._append(facts)
        self._held.append((facts, np.array(point)))

    def take_natural(self, line: Line, point: np.ndarray, questions: Sequence[Question]) -> None:
        """The answer to one of the `questions`; `point` as in `NaturalOutcome`."""
        place = self._places.get(line["image"])
        if place is not None and _shows(place, line, questions):
            self.take(line, point)

    def flush(self) -> None:
        """Asks the model, once, how sure it is of what was taken."""
        held, self._held = self._held, []
        sure = self._confidences([point for _, point in held])
        for (facts, _), confidence in zip(held, sure, strict=True):
            self._append(facts | {"adversarial_confidence": confidence})

    def _confidences(self, points: list[np.ndarray]) -> list[float | None]:
        if not points:
            return []
        x = np.stack([from_bytes(p) if p.dtype == np.uint8 else p for p in points])
        answer = self._classifier.confirm(x)
        ending = self._classifier.head.ending
        return [
            confidence(logits, int(prediction), ending)
            for logits, prediction in zip(answer.logits, answer.prediction, strict=True)
        ]

    def _write(self, pixels: np.ndarray) -> str:
        """Named by content: what several lines share is one file, and no user names it."""
        mark = hashlib.sha256(str(pixels.shape).encode() + pixels.tobytes()).hexdigest()
        file = f"{_FOLDER}/{mark}.png"
        path = self._directory.root / file
        if not path.exists():
            write_png(path, pixels)
        return file

    def _append(self, facts: dict[str, Any]) -> None:
        with (self._directory.root / _INDEX).open("ab") as index:
            index.write(dumps(facts).encode() + b"\n")


def _facts(line: Line) -> dict[str, Any]:
    natural = {key: line[key] for key in ("kind", "severity") if key in line}
    return {key: line[key] for key in _FACTS} | natural


def _shows(place: int, line: Line, questions: Sequence[Question]) -> bool:
    """Whether the image at this place of the sample shows this question: each shows one, so that
    together they go from the first to the last."""
    question = questions[place * len(questions) // SIZE]
    return (line["kind"], line["severity"]) == (question.kind, question.severity)


def confidence(logits: np.ndarray, prediction: int, ending: str) -> float | None:
    """The probability that a model gives its prediction; None where its output is not finite.

    Softmax of the logits [K], but the class's own sigmoid where each class has one (tanh is the
    sigmoid of twice its argument, stretched to [-1, 1]).
    """
    z = np.asarray(logits, np.float64)
    if not np.isfinite(z).all():
        return None
    if ending in ("sigmoids", "tanh"):
        own = z[prediction] * (2 if ending == "tanh" else 1)
        return float(0.5 * (1 + np.tanh(own / 2)))
    shares = np.exp(z - z.max())
    return float(shares[prediction] / shares.sum())


def _bytes(point: np.ndarray) -> np.ndarray:
    """The picture that can be shown: float pixels in [0, 1] rounded to 8 bits."""
    if point.dtype == np.uint8:
        return point
    rounded: np.ndarray = np.rint(np.clip(point, 0, 1) * 255).astype(np.uint8)
    return rounded


# --- afterwards ------------------------------------------------------------------------------


def pictures(directory: RunDirectory) -> tuple[Picture, ...]:
    """What the run in `directory` has to show, in the order of its attacks; empty: nothing.

    From RUN/gallery, else from the images that the run wrote; then nobody knows how sure the
    model was. A picture that is missing or damaged is left out.
    """
    try:
        run = directory.read_run()
    except RunError:
        return ()
    selected = run["images"]["selected"]
    latest: dict[tuple[Any, ...], dict[str, Any]] = {}
    for facts in list(_kept(directory)) or _written(directory, run):
        if selected is None or facts["image"] in selected:
            key = ("image", "attack", "norm", "eps", "kind", "severity")
            latest[tuple(facts.get(k) for k in key)] = facts
    found = []
    for facts in latest.values():
        clean, adversarial = (_read(directory, facts[key]) for key in ("clean", "adversarial"))
        if clean is not None and adversarial is not None and clean.shape == adversarial.shape:
            found.append(Picture(facts, clean, adversarial))
    return tuple(found)


def _kept(directory: RunDirectory) -> Iterator[dict[str, Any]]:
    index = directory.root / _INDEX
    for line in index.read_bytes().splitlines() if index.is_file() else ():
        with suppress(ValueError):  # torn by a crash
            facts = json.loads(line)
            if isinstance(facts, dict) and facts.keys() >= {*_FACTS, "clean", "adversarial"}:
                yield facts


def _written(directory: RunDirectory, run: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The journal's lines about the sample that have a file, as lines of the index."""
    if not (directory.root / CLEAN).is_dir():
        return
    ledger = directory.ledger()
    chosen = sample(ledger, run["config"]["seed"], run["images"]["selected"])
    places = {image: place for place, image in enumerate(chosen)}
    threats = [NaturalPhase.from_dict(stored) for stored in run.get("natural", ())]
    questions = {threat.spec: threat.attack.questions() for threat in threats}
    for line in read_lines(directory.journal_file):
        place = places.get(line["image"])
        if place is None or not line.get("file"):
            continue
        if "kind" in line and not _shows(place, line, questions[line["attack"]]):
            continue
        clean = ledger.clean[line["image"]]
        yield _facts(line) | {
            "label": clean.label,
            "clean_prediction": clean.prediction,
            "clean_confidence": None,
            "clean": directory.clean_file(line["image"]),
            "adversarial_confidence": None,
            "adversarial": line["file"],
        }


def _read(directory: RunDirectory, file: str) -> np.ndarray | None:
    """The pixels of a file of the run, which no link or name leads out of."""
    path = directory.root / Path(file)
    try:
        if not path.resolve().is_relative_to(directory.root.resolve()):
            return None
        return _bytes(read_back(path))
    except (ImageReadError, OSError):
        return None
