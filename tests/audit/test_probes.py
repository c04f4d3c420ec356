"""`--soundness full` on a linear model, where what a budget can break is known in closed form."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
import pytest

from advcli.audit.ledger import Ledger
from advcli.audit.probes import key_of, probe
from advcli.engine.run import Engine
from advcli.images.folder import ImageRef
from advcli.images.stream import LoadedImage, pixel_hash
from tests.support.linear import LinearModel, exact_distance, images

from .support import Watcher, answer, clean, phase

MODEL = LinearModel((6, 6, 1), 4, seed=3)
EPS = 6 / 255
WEAK = "pgd:rel-step=0.02,schedule=constant,random-start=false,scouts=0,steps=1"


class Stream:
    """Stands in for an ImageStream."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.images = [
            LoadedImage(ImageRef(f"{i}.png", 0), image, pixel_hash(image), None, None)
            for i, image in enumerate(pixels)
        ]

    def subset(self, paths: Collection[str]) -> Iterator[LoadedImage]:
        return (image for image in self.images if image.ref.path in paths)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(MODEL, batch_size=32, pixels="uint8", seed=0)


def withstood(pixels: np.ndarray, spec: str) -> tuple[Stream, Ledger]:
    """A journal that says that `spec` broke none of these images."""
    stream = Stream(pixels)
    labels = MODEL.confirm(pixels / np.float32(255)).prediction
    lines = [
        clean(image.ref.path, int(label), int(label), sha256=image.sha256)
        for image, label in zip(stream.images, labels, strict=True)
    ]
    lines += [
        answer(line["image"], line["label"], success=False, attack=spec, eps=EPS) for line in lines
    ]
    return stream, Ledger.read(lines)


def sorted_by_distance() -> tuple[np.ndarray, np.ndarray]:
    """(images that the budget breaks easily, images that it cannot break)"""
    pixels = images(MODEL.input_shape, 160, low=40, high=216)
    far = np.array([exact_distance(MODEL, image, "linf") for image in pixels])
    return pixels[far < 0.8 * EPS][:20], pixels[far > 1.05 * EPS][:20]


def test_what_a_weak_attack_left_is_suspect_and_what_nothing_can_break_is_not(
    engine: Engine,
) -> None:
    """One engine, one set of probes: the images alone decide."""
    breakable, robust = sorted_by_distance()
    phases = [phase(WEAK, eps=(EPS,))]
    verdicts = []
    for pixels in (breakable, robust):
        stream, ledger = withstood(pixels, phases[0].spec)
        found = probe(engine, stream, ledger, phases, Watcher())  # type: ignore[arg-type]
        verdicts.append({finding["check"]: finding["verdict"] for finding in found})
        assert all(
            "16 images that withstood everything at linf 6/255" in finding["detail"]
            for finding in found
        )
    weak, sound = verdicts
    assert weak["scale-free loss"] == weak["no gradient"] == "suspect"
    assert sound == {
        "more steps": "ok",
        "largest budget": "suspect",  # one step of 0.02 reaches nothing: the attack does not work
        "no gradient": "ok",
        "scale-free loss": "ok",
        "8-bit grid": "ok",
    }


def test_nothing_is_asked_where_nothing_stands(engine: Engine) -> None:
    stream, _ = withstood(images(MODEL.input_shape, 3), "pgd")
    lines = [clean(f"{i}.png", 0, 0, sha256=str(i)) for i in range(3)]
    lines += [answer(f"{i}.png", 1, success=True, eps=EPS) for i in range(3)]
    ledger = Ledger.read(lines)
    assert probe(engine, stream, ledger, [phase(eps=(EPS,))], Watcher()) == []  # type: ignore[arg-type]


def test_the_key_changes_with_whatever_the_findings_depend_on() -> None:
    _, few = withstood(images(MODEL.input_shape, 3), "pgd")
    _, more = withstood(images(MODEL.input_shape, 4), "pgd")
    phases = [phase()]
    assert key_of(few, phases) == key_of(few, phases)
    assert key_of(few, phases) != key_of(more, phases)
    assert key_of(few, phases) != key_of(few, [phase(eps=(0.2,))])
