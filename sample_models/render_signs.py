"""Draws road signs with Pillow: shapes, colours and glyphs in weather, clutter and bad light.

An image depends on the seed, the split, the class and its number alone, so any one of them can be
drawn again without the others. Signs follow the Vienna Convention loosely; none is a photograph.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

SIDE = 48
CANVAS = 4 * SIDE  # drawn four times larger, then averaged: smooth edges
CLASSES = (
    "crossing",
    "danger",
    "give_way",
    "no_entry",
    "parking",
    "priority",
    "speed_30",
    "speed_50",
    "speed_80",
    "stop",
    "turn_left",
    "turn_right",
)
SPLITS = ("train", "test")

RED, BLUE, YELLOW = (196, 30, 38), (24, 84, 168), (244, 196, 32)
WHITE, BLACK = (244, 244, 240), (24, 24, 26)
Colour = tuple[int, int, int]
Point = tuple[float, float]


class Pen:
    """Draws on a canvas whose coordinates run from −1 to 1, x to the right and y downwards."""

    def __init__(self, image: Image.Image) -> None:
        self.draw = ImageDraw.Draw(image)
        self.half = image.width / 2

    def _pixels(self, points: Sequence[Point]) -> list[Point]:
        return [(self.half * (1 + x), self.half * (1 + y)) for x, y in points]

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        """Fill a polygon."""
        self.draw.polygon(self._pixels(points), fill=colour)

    def regular(self, sides: int, radius: float, turn: float, colour: Colour) -> None:
        """Fill a regular polygon about the centre, its first corner `turn` degrees from right."""
        angles = [math.radians(turn + 360 * k / sides) for k in range(sides)]
        self.polygon([(radius * math.cos(a), radius * math.sin(a)) for a in angles], colour)

    def disc(self, radius: float, colour: Colour, centre: Point = (0, 0)) -> None:
        """Fill a circle."""
        (x, y), r = centre, radius
        self.draw.ellipse(
            [*self._pixels([(x - r, y - r)])[0], *self._pixels([(x + r, y + r)])[0]], colour
        )

    def text(self, text: str, height: float, colour: Colour, y: float = 0.0) -> None:
        """Write bold text about (0, y), `height` being the font's size."""
        font = ImageFont.load_default(size=height * self.half)
        place = self._pixels([(0, y)])[0]
        stroke = self.half * height / 30
        self.draw.text(
            place,
            text,
            fill=colour,
            font=font,
            anchor="mm",
            stroke_width=stroke,
            stroke_fill=colour,
        )


def _draw_disc_sign(pen: Pen, name: str) -> None:
    if name.startswith("speed_"):
        pen.disc(0.95, RED)
        pen.disc(0.72, WHITE)
        pen.text(name.removeprefix("speed_"), 0.85, BLACK)
    elif name == "no_entry":
        pen.disc(0.95, RED)
        pen.polygon([(-0.7, -0.17), (0.7, -0.17), (0.7, 0.17), (-0.7, 0.17)], WHITE)
    else:
        side = 1 if name == "turn_right" else -1
        pen.disc(0.95, WHITE)
        pen.disc(0.88, BLUE)
        shaft = [(-0.55, 0.6), (-0.55, -0.15), (0.15, -0.15), (0.15, -0.45), (0.7, 0.05)]
        shaft += [(0.15, 0.5), (0.15, 0.22), (-0.2, 0.22), (-0.2, 0.6)]
        pen.polygon([(side * x, y) for x, y in shaft], WHITE)


def _draw_walker(pen: Pen) -> None:
    pen.disc(0.09, BLACK, centre=(0.03, -0.22))
    pen.polygon([(-0.07, -0.1), (0.1, -0.1), (0.08, 0.17), (-0.07, 0.17)], BLACK)
    pen.polygon([(-0.07, 0.12), (0.04, 0.15), (-0.12, 0.5), (-0.24, 0.5)], BLACK)
    pen.polygon([(-0.03, 0.15), (0.09, 0.12), (0.24, 0.5), (0.13, 0.5)], BLACK)


def _draw_cornered_sign(pen: Pen, name: str) -> None:
    if name == "stop":
        pen.regular(8, 0.99, 22.5, WHITE)
        pen.regular(8, 0.92, 22.5, RED)
        pen.text("STOP", 0.58, WHITE)
    elif name == "give_way":
        pen.regular(3, 1.0, 90, RED)
        pen.regular(3, 0.58, 90, WHITE)
    elif name == "danger":
        pen.regular(3, 1.0, -90, RED)
        pen.regular(3, 0.66, -90, WHITE)
        pen.text("!", 0.8, BLACK, y=0.02)
    elif name == "priority":
        pen.regular(4, 0.99, 0, WHITE)
        pen.regular(4, 0.7, 0, YELLOW)
    else:
        pen.regular(4, 1.15, 45, WHITE)
        pen.regular(4, 1.06, 45, BLUE)
        if name == "parking":
            pen.text("P", 1.25, WHITE)
        else:
            pen.regular(3, 0.78, -90, WHITE)
            _draw_walker(pen)


@cache
def sign(name: str) -> Image.Image:
    """Return a clean sign on a transparent canvas, filling it, seen from the front."""
    image = Image.new("RGBA", (CANVAS, CANVAS))
    is_disc = name.startswith(("speed_", "turn_")) or name == "no_entry"
    (_draw_disc_sign if is_disc else _draw_cornered_sign)(Pen(image), name)
    return image


def _colour(rng: np.random.Generator, low: int = 20, high: int = 230) -> Colour:
    red, green, blue = (int(value) for value in rng.integers(low, high, 3))
    return red, green, blue


def background(rng: np.random.Generator) -> Image.Image:
    """Return a street of sorts: sky to ground, then blocks, blobs and lines of any colour."""
    top, bottom = np.array(_colour(rng, 90)), np.array(_colour(rng, 20, 150))
    ramp = np.linspace(0, 1, CANVAS)[:, np.newaxis, np.newaxis]
    rows = np.broadcast_to(top + ramp * (bottom - top), (CANVAS, CANVAS, 3))
    image = Image.fromarray(rows.astype(np.uint8))
    pen = Pen(image)
    for _ in range(int(rng.integers(3, 10))):
        x, y = rng.uniform(-1, 1, 2)
        width, height = rng.uniform(0.1, 0.6, 2)
        kind = rng.integers(3)
        if kind == 0:
            corners = [(x - width, y - height), (x + width, y - height)]
            pen.polygon([*corners, (x + width, y + height), (x - width, y + height)], _colour(rng))
        elif kind == 1:
            pen.disc(height, _colour(rng), centre=(x, y))
        else:
            slant = rng.uniform(-1, 1)
            line = [(x, -1), (x + 0.1 * width, -1), (x + slant, 1), (x + slant - 0.1 * width, 1)]
            pen.polygon(line, _colour(rng))
    return image


def placed(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Return a sign turned, sheared, shrunk, moved and seen from a little aside."""
    turn, shear = math.radians(rng.uniform(-18, 18)), rng.uniform(-0.15, 0.15)
    size, squeeze = rng.uniform(0.55, 0.95), rng.uniform(0.75, 1.0)
    rotate = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    forward = size * rotate @ np.array([[squeeze, shear], [0.0, 1.0]])
    inverse = np.linalg.inv(forward)  # Pillow asks where each output pixel comes from
    centre = CANVAS / 2
    moved = centre * (1 + rng.uniform(-1, 1, 2) * (1 - size) * 0.7)
    offset = centre - inverse @ moved
    rows = (*inverse[0], offset[0], *inverse[1], offset[1])
    return image.transform(image.size, Image.Transform.AFFINE, rows, Image.Resampling.BILINEAR)


def lit(pixels: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Return an image (values 0 to 255) in other light: exposure, contrast, cast, a shadow."""
    contrast, exposure = rng.uniform(0.5, 1.1), rng.uniform(0.4, 1.25)
    pixels = (128 + contrast * (pixels - 128)) * exposure * rng.uniform(0.85, 1.15, 3)
    if rng.random() < 0.4:
        angle, edge = rng.uniform(0, 2 * math.pi), rng.uniform(-0.5, 0.5)
        y, x = np.mgrid[-1 : 1 : CANVAS * 1j, -1 : 1 : CANVAS * 1j]
        dark = x * math.cos(angle) + y * math.sin(angle) > edge
        pixels = np.where(dark[..., np.newaxis], rng.uniform(0.4, 0.8) * pixels, pixels)
    return pixels


def render(name: str, split: str, number: int, seed: int) -> NDArray[np.uint8]:
    """Return sign `number` of a class and split: (48, 48, 3)."""
    rng = np.random.default_rng([seed, SPLITS.index(split), CLASSES.index(name), number])
    scene = background(rng)
    front = placed(sign(name), rng)
    scene.paste(front, mask=front)
    if rng.random() < 0.3:  # a branch or a lamp post in the way
        x, slant, width = rng.uniform(-0.6, 0.6), rng.uniform(-0.8, 0.8), rng.uniform(0.05, 0.25)
        line = [(x, -1), (x + width, -1), (x + width + slant, 1), (x + slant, 1)]
        Pen(scene).polygon(line, _colour(rng, 20, 120))
    scene = Image.fromarray(
        np.clip(lit(np.asarray(scene, np.float64), rng), 0, 255).astype(np.uint8)
    )
    scene = scene.filter(ImageFilter.GaussianBlur(rng.uniform(0, 6)))
    small = np.asarray(scene.resize((SIDE, SIDE), Image.Resampling.BOX), np.float64)
    noisy = small + rng.normal(0, rng.uniform(0, 12), small.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
