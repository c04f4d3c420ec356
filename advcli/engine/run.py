"""The engine: any attack over a stream of images, in a fixed number of slots that are refilled."""

from __future__ import annotations

import gc
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from typing import Any, Protocol

import numpy as np

from advcli.attacks.base import Attack
from advcli.engine.feed import Backlog, Crew, Feed
from advcli.engine.jobs import EngineStats, Outcome, Subject, combined
from advcli.engine.lane import Lane
from advcli.engine.memory import free, installed
from advcli.engine.slots import ROWS, Slots
from advcli.errors import NoVerdictError
from advcli.lazy import Tensor
from advcli.models.runtime import cores, out_of_memory, side_by_side
from advcli.threats.budget import Norm
from advcli.threats.grid import Pixels, from_bytes
from advcli.threats.space import Space

# Bytes of all batches' layers from which more rows bring under 5 % (on a GPU a guess)
_KNEE = 192 * 2**20
_KNEE_GPU = 8 * 2**30


class Model(Protocol):
    """What the engine needs of a classifier; `advcli.models.classifier.Classifier` is one."""

    @property
    def input_shape(self) -> tuple[int, int, int]: ...
    @property
    def class_count(self) -> int: ...
    @property
    def jit_compile(self) -> bool | None: ...
    @property
    def threads_at_once(self) -> bool: ...
    def logits(self, x: Tensor) -> Tensor: ...
    def confirm(self, x: np.ndarray) -> Any: ...


def rounded_batch(batch_size: int) -> int:
    """The compiled number of rows: `batch_size`, brought up to a multiple of 8 unless it is 1.

    With odd sizes the last rows of a matrix product go through another kernel and the last values
    of a tensor through another exponential, and an image's result would depend on its place.
    """
    return batch_size if batch_size == 1 else -(-batch_size // ROWS) * ROWS


def halved(batch_size: int) -> int:
    """The next smaller batch to try: about half as many rows, below eight of them one."""
    return max(ROWS, batch_size // 2 // ROWS * ROWS) if batch_size > ROWS else 1


def row_count(batch_size: int, width: int) -> int:
    """How many images at once where each asks about `width` points: 1, or a multiple of 8.

    Half of eight is brought up to eight, which at most doubles the batch; less is brought down.
    """
    rows = batch_size // width
    return rows // ROWS * ROWS if rows >= ROWS else ROWS if 2 * rows >= ROWS else 1


def auto_batch_size(
    input_shape: tuple[int, int, int], device: str = "cpu", row_bytes: int | None = None
) -> int:
    """Rows beyond which more of them bring little, as far as memory suffices.

    `row_bytes`: what an image costs (`Classifier.row_bytes`); None: as a usual network's does.
    The machine and the model decide, never a clock: another size may change an image's last bits.
    What is free just now only counts where it is tight.
    """
    row_bytes = row_bytes or _bytes_per_row(input_shape)
    gpu = device.startswith("gpu")
    lanes = side_by_side()
    # a lane that splits its operations among several cores needs more rows than one that does not
    share = min(1.0, cores() // lanes / lanes)
    worth, most = (_KNEE_GPU, 1024) if gpu else (int(share * _KNEE), 128)
    rows = max(ROWS, min(most, worth // row_bytes // ROWS * ROWS))
    room = min(installed(device) // 2, free(device))
    while rows > 1 and rows * row_bytes > room:
        rows = halved(rows)
    return rows


def auto_lanes(batch_size: int, row_bytes: int) -> int:
    """How many batches side by side, as far as memory suffices. It changes no result."""
    return max(1, min(side_by_side(), free() // 2 // (batch_size * row_bytes)))


def _bytes_per_row(input_shape: tuple[int, int, int]) -> int:
    """Per value of the image it is 196 bytes in the digits' CNN, 507 in MobileNet, 926 in a
    ResNet-20, 1046 in ResNet-50."""
    return 1024 * int(np.prod(input_shape))


class Engine:
    """Runs attacks on one classifier; every run has one compiled shape.

    `lanes`: batches side by side, each with a compiled graph of its own where threads may not share
    one.

    With a `surrogate` (same input shape, same classes) attacks are crafted on that: each runs its
    whole schedule, and `classifier` judges the finished image, once.

    `seed` and an image's content decide its random numbers; order, subset and the other images
    do not change its outcome.

    Where memory does not suffice it goes on with half of `batch_size`, for this and every later
    run, and tells `on_shrink`, if it is set, which attack it was.
    """

    def __init__(
        self,
        classifier: Model,
        *,
        batch_size: int,
        pixels: Pixels,
        seed: int,
        lanes: int = 1,
        surrogate: Model | None = None,
    ) -> None:
        self.classifier = classifier
        self.surrogate = surrogate
        self.batch_size = rounded_batch(batch_size)
        self.lanes = lanes
        self.pixels: Pixels = pixels
        self.seed = seed
        self.stats = EngineStats()
        self.on_shrink: Callable[[Attack], None] | None = None
        self._compiled: dict[tuple[Attack, Norm, int], Slots] = {}

    def predict(self, pixels: np.ndarray) -> Any:
        """The model as loaded on uint8 [N, H, W, C]: `.prediction` [N], `.logits` [N, K]."""
        return self.classifier.confirm(from_bytes(pixels))

    def run(
        self,
        attack: Attack,
        norm: Norm,
        subjects: Iterable[Subject],
        *,
        progress: Callable[[float], None] | None = None,
    ) -> Iterator[Outcome]:
        """Outcomes as they are known: per subject one for each eps, or one (minimum-norm).

        `progress` is called after every tick with how many images' worth of steps the jobs in the
        slots have behind them.
        """
        backlog = Backlog(subjects)
        self.stats = EngineStats()
        while True:
            try:
                with closing(self._pass(attack, norm, backlog, progress)) as outcomes:
                    for outcome in outcomes:
                        backlog.settle(outcome)
                        yield outcome
                return
            except Exception as error:
                if backlog.broken or not out_of_memory(error):
                    raise
                if not self._shrink(attack, norm):
                    raise NoVerdictError(
                        f"out of memory with one image at once, in {attack.spec}",
                        "what was finished is kept: go on with --resume where there is more memory",
                    ) from error
            # Only here, where the error is forgotten, is what it holds on to set free
            gc.collect()
            backlog.reopen()
            if self.on_shrink is not None:
                self.on_shrink(attack)

    def _pass(
        self,
        attack: Attack,
        norm: Norm,
        backlog: Backlog,
        progress: Callable[[float], None] | None,
    ) -> Generator[Outcome, None, None]:
        """All of the backlog, unless memory runs out."""
        earlier = self.stats
        slots = [self.slots_for(attack, norm, number) for number in range(self.lanes)]
        feed = Feed(backlog, self.lanes, sum(each.slots for each in slots))
        lanes = [
            Lane(number, self.classifier, each, attack, norm, self.pixels, self.seed, feed)
            for number, each in enumerate(slots)
        ]
        for lane in lanes:
            lane.begin()
        self.stats = combined(lane.stats for lane in lanes).after(earlier)
        ticks = lanes[0].ticks() if len(lanes) == 1 else Crew(feed, lanes).outcomes()
        with closing(ticks):  # whatever ends this loop, no lane goes on
            for outcomes in ticks:
                self.stats = combined(lane.stats for lane in lanes).after(earlier)
                yield from outcomes
                if progress is not None:
                    progress(sum(lane.under_way for lane in lanes))
        self.stats = combined(lane.stats for lane in lanes).after(earlier)

    def _shrink(self, attack: Attack, norm: Norm) -> bool:
        """Settles for fewer rows at once; False if there is only one left.

        Eight rows are first tried one batch at a time, which changes no bit.
        """
        rows = self._rows(attack, norm)
        if rows <= ROWS and self.lanes > 1:
            self.lanes = 1
        elif rows == 1:
            return False
        else:
            while self._rows(attack, norm) == rows:
                self.batch_size = halved(self.batch_size)
        if (self.surrogate or self.classifier).jit_compile:
            self._compiled.clear()  # XLA compiles one shape
        for (kind, within, _), slots in self._compiled.items():
            slots.resize(self._rows(kind, within))
        return True

    def _rows(self, attack: Attack, norm: Norm) -> int:
        return row_count(self.batch_size, attack.width(Space(norm, self.classifier.input_shape)))

    def slots_for(self, attack: Attack, norm: Norm, lane: int = 0) -> Slots:
        """The compiled tick for `attack` in `norm`: traced once, kept for the engine's life."""
        crafting = self.surrogate or self.classifier
        # what XLA compiles keeps nothing between two calls
        shared = crafting.threads_at_once or bool(crafting.jit_compile)
        key = (attack, norm, 0 if shared else lane)
        if key not in self._compiled:
            self._compiled[key] = Slots(
                crafting.logits,
                attack,
                norm,
                self.classifier.input_shape,
                self._rows(attack, norm),
                self.pixels,
                bool(crafting.jit_compile),
                transfer=self.surrogate is not None,
            )
        return self._compiled[key]
