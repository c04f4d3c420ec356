"""What the benchmarks measure on: a model, its images, its preprocessing and a budget.

    digits/cnn, digits/robust, signs/cnn      the samples
    resnet/plain, resnet/robust               trained once into the folder of --nets (resnet.py)
    resnet/random                             the same net with random weights, for speed alone
    FILE.h5,IMAGES[,PREPROCESS[,EPS]]         anything else

Everybody attacks images that the model, as Keras loads it, classifies correctly.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "sample_models"
NETS = Path("build") / "nets"
# L∞, whole 8-bit levels; where the robust accuracy is neither all nor nothing
_EPS = {
    "digits/cnn": 15 / 255,
    "digits/robust": 38 / 255,
    "signs/cnn": 2 / 255,
    "resnet/plain": 8 / 255,
    "resnet/robust": 8 / 255,
    "resnet/random": 1 / 255,
}
_RAW = ("signs",)  # families that take pixels from 0 to 255


@dataclass(frozen=True)
class Case:
    """A model file, a folder of class sub-folders, and the L∞ budget in pixel space."""

    name: str
    model: Path
    images: Path
    preprocess: str
    eps: float


def find(text: str, nets: Path = NETS, eps: float | None = None) -> Case:
    """The case that `text` names; a net that is not there yet is made, by another process."""
    if text in _EPS:
        family, _, name = text.partition("/")
        place = (nets if family == "resnet" else SAMPLES) / family
        case = Case(
            text,
            place / f"{name}.h5",
            place / ("noise" if name == "random" else "images"),
            "raw" if family in _RAW else "unit",
            _EPS[text] if eps is None else eps,
        )
        if not case.model.is_file():
            _make(text, nets)
        return case
    model, _, rest = text.partition(",")
    images, _, rest = rest.partition(",")
    preprocess, _, budget = rest.partition(",")
    if not images:
        raise SystemExit(f"{text}: write FILE.h5,IMAGES or one of {', '.join(_EPS)}")
    asked = float(Fraction(budget or "8/255")) if eps is None else eps
    return Case(Path(model).stem, Path(model), Path(images), preprocess or "unit", asked)


def _make(name: str, nets: Path) -> None:
    module = ["resnet", str(nets)]
    if name == "resnet/random":
        place = nets / "resnet"
        module = ["nets", "resnet20:32", str(place / "random.h5"), str(place / "noise")]
    say(f"{name}: making it in {nets}")
    subprocess.run(
        [sys.executable, "-m", f"tests.benchmarks.{module[0]}", *module[1:]],
        cwd=ROOT,
        stdout=sys.stderr,
        check=True,
    )


@dataclass(frozen=True)
class Opened:
    """A case with everything loaded, as an audit loads it. `pixels` uint8 [N, H, W, C], `labels`
    int64 [N]: images that the model classifies correctly; where the folder has no classes, as the
    model labels them."""

    case: Case
    bench: Any
    judge: Any  # Keras, as loaded
    pixels: np.ndarray
    labels: np.ndarray

    @property
    def classifier(self) -> Any:
        return self.bench.classifier

    @property
    def x(self) -> np.ndarray:
        """Float32 in [0, 1], as a user divides them."""
        return self.pixels.astype(np.float32) / np.float32(255)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Plain Keras at float32 images in [0, 1]: classes [N]."""
        fed = self.classifier.preprocessing.apply_exactly(images)
        return np.asarray(self.judge.predict(fed, verbose=0)).argmax(axis=1)

    def robust(self, images: np.ndarray) -> int:
        """How many of `images` [N, H, W, C] are still classified correctly, or lie outside."""
        far = np.abs(images.astype(np.float64) - self.x).max(axis=(1, 2, 3))
        inside = (images.min(axis=(1, 2, 3)) >= -1e-6) & (images.max(axis=(1, 2, 3)) <= 1 + 1e-6)
        inside &= far <= self.case.eps * (1 + 1e-4) + 1e-6
        return int((~inside | (self.predict(images) == self.labels)).sum())

    def engine(self, pixels: str, seed: int) -> Any:
        """The engine as an audit sets it up."""
        from advcli.engine.run import Engine, auto_lanes

        model = self.classifier
        return Engine(
            model,
            batch_size=self.bench.batch_size,
            pixels=pixels,
            seed=seed,
            lanes=auto_lanes(self.bench.batch_size, model.row_bytes),
        )

    def subjects(self, eps: float | None = None) -> list[Any]:
        """The images as the engine takes them; keys are their numbers."""
        from advcli.engine.jobs import Subject

        budget = (self.case.eps if eps is None else eps,)
        return [
            Subject(str(i), image, int(label), hashlib.sha256(image).hexdigest(), budget)
            for i, (image, label) in enumerate(zip(self.pixels, self.labels, strict=True))
        ]


def open_case(case: Case, count: int, seed: int) -> Opened:
    """Loads the model for advcli and for the judge, and chooses `count` images by `seed`."""
    from advcli.audit.plan import AuditConfig
    from advcli.audit.setup import build, open_cheaply, stream_of

    config = AuditConfig(
        command="evaluate",
        model=str(case.model),
        images=str(case.images),
        preprocess=case.preprocess,
        limit=8 * count,
        seed=seed,
        allow_chance=True,
    )
    folder = open_cheaply(config)[1]
    bench = build(config, folder)
    import keras  # only now: `build` settles how TensorFlow starts

    judge = keras.models.load_model(case.model, compile=False)
    stream = stream_of(config, folder, bench.input_shape)
    found = [(image.pixels, image.ref.label) for image in stream if image.pixels is not None]
    pixels = np.stack([pixels for pixels, _ in found])
    labels = np.array([-1 if label is None else label for _, label in found], np.int64)
    opened = Opened(case, bench, judge, pixels, labels)
    predicted = opened.predict(opened.x)
    labels = np.where(labels < 0, predicted, labels)
    chosen = np.flatnonzero(predicted == labels)[:count]
    return Opened(case, bench, judge, pixels[chosen], labels[chosen])


def logits_model(opened: Opened) -> Any:
    """Keras, float32 images in [0, 1] -> logits: the model for everybody but advcli, who finds
    the way past the softmax alone."""
    import keras

    model = keras.models.load_model(opened.case.model, compile=False)
    model.layers[-1].activation = keras.activations.linear
    wanted = opened.classifier.preprocessing
    if wanted.formula != (1.0, (0.0,), (1.0,), "rgb"):
        inputs = keras.Input(opened.classifier.input_shape)
        x = inputs[..., ::-1] if wanted.channels == "bgr" else inputs
        mean, std = (np.float32(values) for values in (wanted.mean, wanted.std))
        model = keras.Model(inputs, model((x * wanted.scale - mean) / std))
    expected = opened.judge(wanted.apply_exactly(opened.x[:8]))
    if not np.allclose(keras.ops.softmax(model(opened.x[:8])), expected, atol=1e-5):
        raise SystemExit(f"{opened.case.model}: does not end in a softmax layer")
    return model


def say(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)
