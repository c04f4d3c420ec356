"""Adversarial patch: a round sticker that makes the model err wherever it is put.

Claims: a few square centimetres of print can outweigh the rest of a scene. One patch is learned
from a part of the images, at random places, sizes and rotations (expectation over transformation),
and then put once on each of the others, at a place that its content and the seed decide. What it
covers is gone; nothing else of the image changes, so this threat has no norm, and no worst case
with those that have one.

The patch is a disc. Its diameter lies between `scale-min` and `scale-max` of the image's shorter
side (0.3 to 0.5: 7 % to 20 % of a square image), all of it inside the image, turned by up to
`rotation` degrees either way. The run keeps it as `patch.png`, large, at 300 dots per inch and
transparent outside of the disc, to be printed, and as `patch.npy`, the values that were applied.

Misleads: a disc of noise hides things too. Compare with `patch:steps=0`, the random patch that the
learning starts from, at the same places. Print, camera and light are not modelled, so a
success on screen need not be one on paper. One place per image is tried: an attacker who may choose
the place does better.

Cost: `steps` × `batch` gradients once; then one forward per image.

Brown et al., "Adversarial patch", 1712.09665.
"""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from PIL import Image, ImageDraw
from pydantic import Field, model_validator

from advcli.attacks.fitted import (
    Fitted,
    FittedAttack,
    Task,
    Trainer,
    array_bytes,
    read_array,
)
from advcli.lazy import Tensor, tf
from advcli.threats.budget import Norm
from advcli.threats.randomness import Random, row_key

FILE = "patch.npy"
_PRINTED = 1024  # pixels of the picture's side; at 300 dots per inch nearly 9 cm
_INCH = 300
_LEAST = 16  # texels of a patch's side
_DECAY = (0.9, 0.999)  # Adam's


class Sticker(Fitted):
    """`texture`: float32 [P, P, C] in [0, 1], of which the inscribed disc is used."""

    def __init__(self, texture: np.ndarray, settings: Patch) -> None:
        self.texture = texture
        self._settings = settings

    def apply(self, x: Tensor, eps: Tensor, random: Random) -> Tensor:
        return put(tf.constant(self.texture), x, random, self._settings)

    def files(self) -> dict[str, bytes]:
        return {FILE: array_bytes(self.texture), "patch.png": picture(self.texture)}


class Patch(FittedAttack):
    name: ClassVar[str] = "patch"
    summary: ClassVar[str] = "a printable sticker for any place, learned from a part of the images"
    norms: ClassVar[tuple[Norm, ...]] = ()
    reference: ClassVar[str] = "Brown et al., 1712.09665"

    steps: int = Field(500, ge=0, le=1_000_000, description="batches that it learns from")
    scale_min: float = Field(
        0.3, gt=0, le=1, description="least diameter, as a share of the image's shorter side"
    )
    scale_max: float = Field(0.5, gt=0, le=1, description="largest diameter")
    rotation: float = Field(22.5, ge=0, le=180, description="degrees it is turned by, at most")
    learning_rate: float = Field(0.05, gt=0, le=1, description="Adam's, falling to 0")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.scale_min > self.scale_max:
            raise ValueError("scale-min lies above scale-max")
        return self

    def trainer(self, task: Task) -> Trainer:
        return _Trainer(self, task)

    def load(self, folder: Path, shape: tuple[int, int, int]) -> Fitted:
        side = self.texels(shape)
        return Sticker(read_array(folder / FILE, (side, side, shape[2])), self)

    def fit_cost(self) -> tuple[int, int]:
        return self.steps * self.batch, self.steps * self.batch

    def texels(self, shape: tuple[int, int, int]) -> int:
        """The texture's side: a texel for each pixel that the patch covers at its largest."""
        return max(_LEAST, math.ceil(self.scale_max * min(shape[:2])))


class _Trainer(Trainer):
    """Adam on the texture, kept within [0, 1]."""

    def __init__(self, settings: Patch, task: Task) -> None:
        self._settings, self._task = settings, task
        side, channels = settings.texels(task.shape), task.shape[2]
        start = np.random.default_rng((task.seed, side)).random((side, side, channels))
        self._texture = tf.Variable(start.astype(np.float32))
        self._moments = [tf.Variable(tf.zeros_like(self._texture)) for _ in _DECAY]
        self._count = tf.Variable(0)
        keys = [row_key(task.seed, "patch", row) for row in range(settings.batch)]
        self._keys = tf.constant(np.array(keys, np.uint32))

    def step(self, x: Tensor, label: Tensor, done: Tensor) -> Tensor:
        settings = self._settings
        k = self._count.assign_add(1)
        random = Random(self._keys, tf.fill([settings.batch], k))
        with tf.GradientTape() as tape:
            point = put(self._texture, x, random, settings)
            loss, fooled = self._task.loss(point, label)
            value = tf.reduce_mean(loss)
        g = tape.gradient(value, self._texture)
        g = tf.where(tf.math.is_finite(g), g, 0.0)
        time = tf.cast(k, tf.float32)
        mean, square = (
            moment.assign(decay * moment + (1.0 - decay) * part) / (1.0 - decay**time)
            for moment, decay, part in zip(self._moments, _DECAY, (g, g * g), strict=True)
        )
        length = settings.learning_rate * 0.5 * (1.0 + tf.cos(math.pi * done))
        moved = self._texture + length * tf.math.divide_no_nan(mean, tf.sqrt(square))
        self._texture.assign(tf.clip_by_value(moved, 0.0, 1.0))
        return fooled

    def fitted(self) -> Fitted:
        return Sticker(self._texture.numpy(), self._settings)


def put(texture: Tensor, x: Tensor, random: Random, settings: Patch) -> Tensor:
    """Images [S, H, W, C] with the disc of `texture` [P, P, C] on each, at a place of its own."""
    height, width = int(x.shape[1]), int(x.shape[2])
    spread = settings.scale_max - settings.scale_min
    radius = 0.5 * min(height, width) * (settings.scale_min + spread * random.uniform((), 0))
    row = radius + (height - 2.0 * radius) * random.uniform((), 1)
    column = radius + (width - 2.0 * radius) * random.uniform((), 2)
    turn = (2.0 * random.uniform((), 3) - 1.0) * settings.rotation * math.pi / 180.0

    def per_pixel(value: Tensor) -> Tensor:
        return value[:, None, None]

    down = tf.range(height, dtype=tf.float32)[None, :, None] + 0.5 - per_pixel(row)
    right = tf.range(width, dtype=tf.float32)[None, None, :] + 0.5 - per_pixel(column)
    sine, cosine = per_pixel(tf.sin(turn)), per_pixel(tf.cos(turn))
    # the pixel's place on the patch, whose disc is the unit circle
    v = (cosine * down - sine * right) / per_pixel(radius)
    u = (sine * down + cosine * right) / per_pixel(radius)
    edge = (1.0 - tf.sqrt(u * u + v * v)) * per_pixel(radius) + 0.5
    mask = tf.clip_by_value(edge, 0.0, 1.0)[..., None]
    return x + mask * (_sampled(texture, v, u) - x)


def _sampled(texture: Tensor, v: Tensor, u: Tensor) -> Tensor:
    """`texture` [P, P, C] at places v, u [S, H, W] between −1 and 1, bilinear: [S, H, W, C]."""
    side = int(texture.shape[0])
    flat = tf.reshape(texture, [side * side, -1])
    places = [
        tf.clip_by_value((place + 1.0) * 0.5 * side - 0.5, 0.0, side - 1.0) for place in (v, u)
    ]
    floors = [tf.minimum(tf.floor(place), side - 2.0) for place in places]
    parts = [place - floor for place, floor in zip(places, floors, strict=True)]
    first = tf.cast(floors[0] * side + floors[1], tf.int32)
    down, right = (part[..., None] for part in parts)
    upper = (1.0 - right) * tf.gather(flat, first) + right * tf.gather(flat, first + 1)
    lower = (1.0 - right) * tf.gather(flat, first + side) + right * tf.gather(
        flat, first + side + 1
    )
    return (1.0 - down) * upper + down * lower


def picture(texture: np.ndarray) -> bytes:
    """A PNG for the printer: the disc, transparent around it."""
    levels = np.rint(255.0 * texture).astype(np.uint8)
    channels = texture.shape[2]
    image = Image.fromarray(levels[:, :, 0] if channels == 1 else levels[:, :, :3])
    image = image.resize((_PRINTED, _PRINTED), Image.Resampling.BICUBIC)
    disc = Image.new("L", image.size, 0)
    ImageDraw.Draw(disc).ellipse((0, 0, _PRINTED - 1, _PRINTED - 1), fill=255)
    image.putalpha(disc)
    data = io.BytesIO()
    image.save(data, "PNG", dpi=(_INCH, _INCH))
    return data.getvalue()
