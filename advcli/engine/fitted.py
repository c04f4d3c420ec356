"""Attacks that are fitted once: the batches they learn from, and the judgement of the result.

Learning sees images that are never judged; judging is one forward pass of the model as loaded, at
exactly the bytes that a file would hold.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np

from advcli.attacks.fitted import Fitted, FittedAttack, Task
from advcli.engine.jobs import EngineStats, Outcome, Subject
from advcli.engine.run import Engine, Model
from advcli.lazy import Tensor, tf
from advcli.threats.budget import Norm, same_eps
from advcli.threats.grid import Grid, decode, from_bytes, to_bytes
from advcli.threats.losses import Goal, log_odds
from advcli.threats.randomness import Random, row_key
from advcli.threats.space import Space, distances

__all__ = ["MAX_BYTES", "FitReport", "Lesson", "fit", "judge"]

MAX_BYTES = 256 * 2**20
"""Of the pixels to be learned from: what stays in memory during a fit."""
_ASKED = 256  # images that the scale of a model's logits is taken from


@dataclass(frozen=True)
class Lesson:
    """What is learned from: uint8 [N, H, W, C], int [N], and the class to be hit, if one is."""

    pixels: np.ndarray
    labels: np.ndarray
    target: int | None = None


@dataclass(frozen=True)
class FitReport:
    """What a fit cost: `steps` batches; a gradient counts as one forward and one gradient.

    `fooled`: the share of the images it learned from that were fooled as its last pass met them.
    """

    images: int
    steps: int
    forwards: int
    gradients: int
    seconds: float
    fooled: float


def fit(
    engine: Engine,
    attack: FittedAttack,
    norm: Norm | None,
    eps: float | None,
    lesson: Lesson,
    *,
    progress: Callable[[float, float], None] | None = None,
) -> tuple[Fitted, FitReport]:
    """Learns from `lesson`; `progress` is told the share done, and the share fooled of late."""
    model = engine.surrogate or engine.classifier
    task = Task(
        logits=model.logits,
        classes=engine.classifier.class_count,
        shape=engine.classifier.input_shape,
        norm=norm,
        eps=_grid(norm, engine).inner(eps),
        target=-1 if lesson.target is None else lesson.target,
        seed=engine.seed,
        scale=_scale(model, lesson),
    )
    began = time.perf_counter()
    trainer = attack.trainer(task)
    jit = True if model.jit_compile else None

    def learn(pixels: Tensor, label: Tensor, done: Tensor) -> Tensor:
        return trainer.step(decode(pixels), label, done)

    compiled = tf.function(learn, autograph=False, jit_compile=jit)
    count = len(lesson.pixels)
    shifts = np.random.default_rng((engine.seed, count, attack.batch, 1))
    pass_length = -(-count // attack.batch)
    met: deque[float] = deque(maxlen=pass_length)
    steps = 0
    for step, rows in zip(
        range(attack.rounds), _orders(count, attack.batch, engine.seed), strict=False
    ):
        fooled = compiled(
            tf.constant(moved(lesson.pixels[rows], attack.jitter, shifts)),
            tf.constant(lesson.labels[rows], tf.int32),
            tf.constant(step / attack.rounds, tf.float32),
        )
        met.append(float(np.mean(fooled)))
        steps = step + 1
        share = sum(met) / len(met)
        if progress is not None:
            progress(steps / attack.rounds, share)
        if len(met) == pass_length and share >= trainer.enough:
            break
    forwards, gradients = attack.fit_cost()
    report = FitReport(
        images=count,
        steps=steps,
        forwards=forwards * steps // max(1, attack.rounds),
        gradients=gradients * steps // max(1, attack.rounds),
        seconds=time.perf_counter() - began,
        fooled=sum(met) / len(met) if met else 0.0,
    )
    return trainer.fitted(), report


def _orders(count: int, batch: int, seed: int) -> Iterator[np.ndarray]:
    """Index batches, each pass over the images in a new order, the seams not cut off."""
    random = np.random.default_rng((seed, count, batch))
    left = np.zeros(0, np.int64)
    while True:
        while len(left) < batch:
            left = np.concatenate([left, random.permutation(count)])
        yield left[:batch]
        left = left[batch:]


def moved(pixels: np.ndarray, share: float, random: np.random.Generator) -> np.ndarray:
    """Images [N, H, W, C], each moved by up to `share` of its sides, the edge repeated."""
    most = [round(share * side) for side in pixels.shape[1:3]]
    if not any(most):
        return pixels
    height, width = pixels.shape[1:3]
    rows, columns = (
        np.clip(np.arange(side) + random.integers(-far, far + 1, (len(pixels), 1)), 0, side - 1)
        for side, far in zip((height, width), most, strict=True)
    )
    return pixels[np.arange(len(pixels))[:, None, None], rows[:, :, None], columns[:, None, :]]


def _scale(model: Model, lesson: Lesson) -> float:
    """The median distance of the clean log-odds from 0: 1 where there is none."""
    some = slice(0, _ASKED)
    logits = model.confirm(from_bytes(lesson.pixels[some])).logits
    target = -1 if lesson.target is None else lesson.target
    labels = lesson.labels[some].astype(np.int32)
    goal = Goal(tf.constant(labels), tf.fill(labels.shape, target))
    found = float(np.median(np.abs(log_odds(tf.constant(logits, tf.float32), goal).numpy())))
    return found if np.isfinite(found) and found > 0 else 1.0


def judge(
    engine: Engine,
    attack: FittedAttack,
    norm: Norm | None,
    learned: Mapping[float | None, Fitted],
    subjects: Iterable[Subject],
) -> Iterator[Outcome]:
    """Outcomes for subjects that were not learned from; `learned` by eps, ascending.

    As with every other attack an image that is fooled at one eps is fooled at every larger one.
    """
    engine.stats = stats = EngineStats()
    appliers = {eps: _Applier(engine, attack, norm, eps, fitted) for eps, fitted in learned.items()}
    waiting = iter(subjects)
    while chunk := tuple(islice(waiting, engine.batch_size)):
        began = time.perf_counter()
        outcomes: list[Outcome] = []
        fooled: dict[str, Outcome] = {}
        for eps, applier in appliers.items():
            asked = [subject for subject in chunk if _asks(subject, eps)]
            outcomes += [
                replace(fooled[s.key], eps=eps, forwards=0, steps=0, same_as=fooled[s.key].eps)
                for s in asked
                if s.key in fooled
            ]
            new = applier.outcomes([s for s in asked if s.key not in fooled])
            fooled |= {outcome.key: outcome for outcome in new if outcome.success}
            outcomes += new
        stats.forwards += sum(outcome.forwards for outcome in outcomes)
        stats.seconds += time.perf_counter() - began
        yield from outcomes


def _asks(subject: Subject, eps: float | None) -> bool:
    if eps is None:
        return True
    return any(same_eps(eps, asked) for asked in subject.eps)


class _Applier:
    """One thing that was learned, applied in batches of one shape."""

    def __init__(
        self,
        engine: Engine,
        attack: FittedAttack,
        norm: Norm | None,
        eps: float | None,
        fitted: Fitted,
    ) -> None:
        self._engine, self._attack, self._norm, self._eps = engine, attack, norm, eps
        self._fitted = fitted
        self._grid = _grid(norm, engine)
        self._compiled = tf.function(self._apply, autograph=False)

    def _apply(self, pixels: Tensor, keys: Tensor) -> Tensor:
        x0 = self._grid.decode(pixels)
        eps = tf.fill([x0.shape[0]], tf.constant(self._grid.inner(self._eps), tf.float32))
        random = Random(keys, tf.zeros([x0.shape[0]], tf.int32))
        x = self._fitted.apply(x0, eps, random)
        x = tf.clip_by_value(tf.where(tf.math.is_finite(x), x, x0), 0.0, 1.0)
        if self._norm is not None:
            x = Space(self._norm, self._engine.classifier.input_shape).project(x, x0, eps)
        return self._grid.round(x, x0, eps)

    def outcomes(self, subjects: Sequence[Subject]) -> list[Outcome]:
        if not subjects:
            return []
        engine = self._engine
        rows = np.arange(engine.batch_size) % len(subjects)
        clean = np.stack([subject.pixels for subject in subjects])
        keys = [row_key(engine.seed, s.sha256, self._attack.name, 0) for s in subjects]
        given = clean if engine.pixels == "uint8" else from_bytes(clean)
        x = self._compiled(
            tf.constant(given[rows]), tf.constant(np.array(keys, np.uint32)[rows])
        ).numpy()[: len(subjects)]
        points = to_bytes(x) if engine.pixels == "uint8" else x
        began = time.perf_counter()
        answer = engine.classifier.confirm(from_bytes(points) if points.dtype == np.uint8 else x)
        engine.stats.model_seconds += time.perf_counter() - began
        return [
            self._outcome(subject, point, int(prediction), logits)
            for subject, point, prediction, logits in zip(
                subjects, points, answer.prediction, answer.logits, strict=True
            )
        ]

    def _outcome(
        self, subject: Subject, point: np.ndarray, prediction: int, logits: Any
    ) -> Outcome:
        origin = subject.pixels if point.dtype == np.uint8 else from_bytes(subject.pixels)
        distance = distances(point, origin)
        met = (
            prediction != subject.label if subject.target is None else prediction == subject.target
        )
        finite = bool(np.isfinite(logits).all())
        within = (
            self._eps is None
            or self._norm is None
            or distance[self._norm] <= self._eps * (1.0 + 1e-6)
        )
        return Outcome(
            key=subject.key,
            eps=self._eps,
            success=met and finite and within,
            prediction=prediction,
            distance=distance,
            point=point,
            forwards=1,
            gradients=0,
            steps=1,
            seed=self._engine.seed,
            nonfinite=not finite,
        )


def _grid(norm: Norm | None, engine: Engine) -> Grid:
    # without a norm a value is rounded to the nearest level, as in L0
    return Grid(engine.pixels, norm or "l0")
