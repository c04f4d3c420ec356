"""Natural threats over a stream of images: pictures are made in threads, the model is asked about
full batches of them.

A question with several pictures goes on in small portions until one is misclassified; portions of
many images and questions share a batch. What an image is answered depends on the image alone.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from advcli.attacks.natural import NaturalAttack, Question
from advcli.engine.jobs import EngineStats
from advcli.threats.space import distances

__all__ = ["NaturalOutcome", "NaturalSubject", "Transformer", "image_random"]

_PORTION = 16  # pictures of one search that are asked about before its answer is looked at


@dataclass(frozen=True, slots=True)
class NaturalSubject:
    """One image and what is still to be asked about it. `pixels`: uint8 [H, W, C], clean."""

    key: str
    pixels: np.ndarray
    label: int
    sha256: str
    questions: tuple[Question, ...]


@dataclass(frozen=True, slots=True)
class NaturalOutcome:
    """What became of one question about one image.

    `success`: a picture was misclassified. `point` is the first such picture, or the last one that
    was tried, uint8 [H, W, C]; `prediction` the model's own, as loaded, of exactly that.
    `found`: what that picture did, in a search that ended in a success. `forwards`: pictures that
    had to be looked at. `nonfinite`: the model's output was not finite there.
    """

    key: str
    question: Question
    success: bool
    prediction: int
    found: Any
    distance: dict[str, float]
    point: np.ndarray
    forwards: int
    seed: int
    nonfinite: bool = False


@dataclass(slots=True)
class _Open:
    """A question under way; `place` is the next picture to be made."""

    subject: NaturalSubject
    question: Question
    place: int = 0


def image_random(attack: NaturalAttack, kind: str, sha256: str, seed: int) -> np.random.Generator:
    """An image's own numbers: they depend on nothing but these arguments."""
    text = "\x1f".join((attack.name, kind, sha256, str(seed)))
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big"))


class Transformer:
    """Runs natural threats on one model. `predict`: uint8 [N, H, W, C] -> `.prediction` [N] and
    `.logits` [N, K]."""

    def __init__(
        self,
        predict: Callable[[np.ndarray], Any],
        *,
        batch_size: int,
        seed: int,
        threads: int | None = None,
    ) -> None:
        self._predict = predict
        self._batch_size = batch_size
        self._seed = seed
        self._threads = threads or min(8, os.cpu_count() or 1)
        self.stats = EngineStats()

    def run(
        self, attack: NaturalAttack, subjects: Iterable[NaturalSubject]
    ) -> Iterator[NaturalOutcome]:
        """Outcomes as they are known: one for each question of each subject."""
        self.stats = EngineStats()
        began = time.perf_counter()
        coming = (_Open(s, question) for s in subjects for question in s.questions)
        waiting: deque[_Open] = deque()
        flying: deque[list[tuple[_Open, int, Future[np.ndarray]]]] = deque()
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="advcli-transform")
        try:
            while True:
                while len(flying) < 2:  # the next batch is made while the model looks at this one
                    batch = self._launch(attack, pool, waiting, coming)
                    if not batch:
                        break
                    flying.append(batch)
                if not flying:
                    return
                for answered in self._settle(attack, flying.popleft(), waiting):
                    self.stats.seconds = time.perf_counter() - began
                    yield answered
        finally:
            self.stats.seconds = time.perf_counter() - began
            pool.shutdown(wait=False, cancel_futures=True)

    def _launch(
        self,
        attack: NaturalAttack,
        pool: ThreadPoolExecutor,
        waiting: deque[_Open],
        coming: Iterator[_Open],
    ) -> list[tuple[_Open, int, Future[np.ndarray]]]:
        batch: list[tuple[_Open, int, Future[np.ndarray]]] = []
        while len(batch) < self._batch_size:
            task = waiting.popleft() if waiting else next(coming, None)
            if task is None:
                break
            room = min(_PORTION, self._batch_size - len(batch), task.question.pictures - task.place)
            for place in range(task.place, task.place + room):
                made = pool.submit(self._make, attack, task.subject, task.question, place)
                batch.append((task, place, made))
            task.place += room
        return batch

    def _make(
        self, attack: NaturalAttack, subject: NaturalSubject, question: Question, place: int
    ) -> np.ndarray:
        random = image_random(attack, question.kind, subject.sha256, self._seed)
        return attack.make(subject.pixels, question, place, random)

    def _settle(
        self,
        attack: NaturalAttack,
        batch: list[tuple[_Open, int, Future[np.ndarray]]],
        waiting: deque[_Open],
    ) -> Iterator[NaturalOutcome]:
        """Answers of a batch; what is still open goes back to the front of the queue."""
        pictures = np.stack([made.result() for _, _, made in batch])
        asked = time.perf_counter()
        answer = self._predict(pictures)
        self.stats.model_seconds += time.perf_counter() - asked
        self.stats.forwards += len(batch)
        by_task: dict[int, list[int]] = {}
        for row, (task, _, _) in enumerate(batch):
            by_task.setdefault(id(task), []).append(row)
        still_open = []
        for rows in by_task.values():
            task = batch[rows[0]][0]
            finite = [bool(np.isfinite(answer.logits[row]).all()) for row in rows]
            wrong = [
                row
                for row, known in zip(rows, finite, strict=True)
                if not known or int(answer.prediction[row]) != task.subject.label
            ]
            if not wrong and task.place < task.question.pictures:
                still_open.append(task)
                continue
            row = wrong[0] if wrong else rows[-1]
            nonfinite = not finite[rows.index(row)]
            place, subject = batch[row][1], task.subject
            yield NaturalOutcome(
                key=subject.key,
                question=task.question,
                success=bool(wrong) and not nonfinite,
                prediction=int(answer.prediction[row]),
                found=attack.strength(subject.pixels.shape, place) if wrong else None,
                distance=distances(pictures[row], subject.pixels),
                point=pictures[row],
                forwards=place + 1,
                seed=self._seed,
                nonfinite=nonfinite,
            )
        waiting.extendleft(reversed(still_open))
