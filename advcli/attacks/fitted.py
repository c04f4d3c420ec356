"""Attacks that are fitted once, on a part of the images, and then applied to the others.

`Attack` searches for each image anew; a `FittedAttack` learns one thing (a perturbation, a patch,
a generator) that needs no search any more. The images are split by content and seed, so that none
is judged that was learned from. An attack of this kind says how a batch is learned from, what was
learned, and how that changes an image; the engine draws the batches, applies and judges.
"""

from __future__ import annotations

import hashlib
import io
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import Field

from advcli.attacks.base import Settings
from advcli.errors import RunError
from advcli.images.text import printable
from advcli.lazy import Tensor, tf
from advcli.threats.budget import Norm
from advcli.threats.losses import Goal, log_odds, margin
from advcli.threats.randomness import Random
from advcli.threats.space import Space

__all__ = [
    "Fitted",
    "FittedAttack",
    "Task",
    "Trainer",
    "array_bytes",
    "place_in_split",
    "read_array",
]

_SOFTNESS = 0.25  # of the model's scale: found on the sample models
_MOST = 12.0  # of the loss that counts per image


@dataclass(frozen=True)
class Task:
    """What is fitted, to which model.

    `logits`: float32 [B, H, W, C] in [0, 1] -> [B, K], for use inside a graph. `shape`: (H, W, C).
    `eps`: the ball that the graph works in. `target`: the class to be hit, −1 for any wrong one.
    `scale`: the size of the model's log-odds on the images to be learned from.
    """

    logits: Callable[[Tensor], Tensor]
    classes: int
    shape: tuple[int, int, int]
    norm: Norm | None
    eps: float
    target: int
    seed: int
    scale: float = 1.0

    def goal(self, label: Tensor) -> Goal:
        return Goal(label, tf.fill(tf.shape(label), self.target))

    def loss(self, x: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """(what is ascended [B], whether the goal is met, bool [B]) at images x with labels [B].

        A cross-entropy, cut off so that fooled images do not outweigh the others (Shafahi et al.,
        1811.11304, section 3). It weighs least those that are far from the boundary, which no
        common perturbation reaches anyway; how far that is goes by the model's own scale, so a
        network whose logits are multiplied by 60 is no harder to learn from.
        """
        logits, goal = self.logits(x), self.goal(label)
        soft = tf.nn.softplus(log_odds(logits, goal) / (_SOFTNESS * self.scale))
        return tf.minimum(soft, _MOST), margin(logits, goal) > 0.0


class Fitted(ABC):
    """What was learned."""

    @abstractmethod
    def apply(self, x: Tensor, eps: Tensor, random: Random) -> Tensor:
        """The perturbed images; float32 [S, H, W, C], eps [S]. The engine projects and rounds."""

    @abstractmethod
    def files(self) -> dict[str, bytes]:
        """What is kept of it, by file name; `FittedAttack.load` reads it back."""


class Trainer(ABC):
    """Learns from one batch after another; its variables are TensorFlow's."""

    enough: float = math.inf
    """The share of images fooled as a pass meets them, at which the fit ends early."""

    @abstractmethod
    def step(self, x: Tensor, label: Tensor, done: Tensor) -> Tensor:
        """Learns from clean images x [B, H, W, C] with labels [B]; traced once.

        `done`: the share of all steps that lies behind, in [0, 1). Returns bool [B]: which images
        were fooled by what was learned before.
        """

    @abstractmethod
    def fitted(self) -> Fitted:
        """What has been learned so far."""


class FittedAttack(Settings):
    """The settings of an attack that is fitted; a subclass is final."""

    kind: ClassVar = "budget"
    access: ClassVar = "gradient"

    share: float = Field(
        0.5, gt=0, lt=1, description="share of the images to learn from; the others are judged"
    )
    images: int = Field(2000, ge=1, le=1_000_000, description="images to learn from, at most")
    batch: int = Field(32, ge=1, le=4096, description="images a step learns from")
    jitter: float = Field(
        0.04,
        ge=0,
        le=0.5,
        description="share of its sides that an image is moved by, at most, to learn from it",
    )

    @abstractmethod
    def trainer(self, task: Task) -> Trainer:
        """A fresh one; equal tasks make equal ones."""

    @abstractmethod
    def load(self, folder: Path, shape: tuple[int, int, int]) -> Fitted:
        """What `Fitted.files` left in `folder`; raises RunError where it is not that."""

    @abstractmethod
    def fit_cost(self) -> tuple[int, int]:
        """(forwards, gradients) of one fit at most."""

    def cost(self, space: Space) -> tuple[int, int]:
        return 1, 0

    @property
    def rounds(self) -> int:
        """Batches that are learned from."""
        return int(getattr(self, "steps", 0))


def place_in_split(seed: int, sha256: str) -> float:
    """Where an image stands between 0 and 1; below `FittedAttack.share` it is learned from.

    By content and seed, so that neither order, nor names, nor the other images change it, and two
    copies of an image stand on the same side.
    """
    digest = hashlib.sha256(f"fitted split\x1f{seed}\x1f{sha256}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2.0**48


def array_bytes(value: np.ndarray) -> bytes:
    """float32 in NumPy's format, for any `np.load`."""
    data = io.BytesIO()
    np.save(data, np.ascontiguousarray(value, np.float32), allow_pickle=False)
    return data.getvalue()


def read_array(file: Path, shape: tuple[int, ...]) -> np.ndarray:
    """float32 of `shape`, finite; raises RunError for anything else."""
    try:
        value: np.ndarray = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise RunError(
            f"{printable(str(file))}: cannot be read ({printable(str(error), 100)})",
            "restore the file, or start a new run",
        ) from error
    fits = isinstance(value, np.ndarray) and value.dtype == np.float32 and value.shape == shape
    if not fits or not np.isfinite(value).all():
        raise RunError(
            f"{printable(str(file))}: is not the float32 array {shape} that was written",
            "restore the file, or start a new run",
        )
    return value
