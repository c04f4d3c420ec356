"""A model file and a folder, opened and matched: what every command that runs the model needs.

`open_cheaply` answers all that a header and a listing can, without TensorFlow; `build` loads the
model, chooses the preprocessing on a fixed sample of the whole folder, and checks the gradient.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from advcli.attacks.registry import is_fitted
from advcli.audit import soundness
from advcli.audit.plan import AuditConfig
from advcli.audit.shards import shard_of
from advcli.engine.run import auto_batch_size, halved, rounded_batch
from advcli.errors import UsageError
from advcli.images.folder import ImageFolder, check_classes, open_folder
from advcli.images.stream import ImageStream
from advcli.images.text import printable
from advcli.models.header import Header, read_header

if TYPE_CHECKING:
    from advcli.models.auto import PreprocessingChoice
    from advcli.models.classifier import Classifier
    from advcli.models.findings import Finding
    from advcli.models.gradient import CompilePath
    from advcli.models.loader import LoadedModel
    from advcli.models.preprocessing import Preprocessing

__all__ = [
    "Bench",
    "Sample",
    "build",
    "input_size_of",
    "open_cheaply",
    "open_images",
    "open_model",
    "sample_of",
    "scanned",
    "stated_preprocessing",
    "stored_preprocessing",
    "stream_of",
    "versions",
]

SAMPLE_IMAGES = 256
_SAMPLE_BYTES = 256 * 2**20
_SAMPLE_SEED = 0  # never the user's: two runs on one folder must choose alike
_GRADIENT_IMAGES = 8
_LONGEST_SIDE = 8192


@dataclass(frozen=True)
class Sample:
    """Decoded images of a folder: uint8 [n, H, W, C], class indices [n] or None."""

    pixels: np.ndarray
    labels: np.ndarray | None


@dataclass(frozen=True)
class Bench:
    """Everything that is ready before the first attack."""

    loaded: LoadedModel
    classifier: Classifier
    folder: ImageFolder
    class_names: tuple[str, ...]
    sample: Sample
    preprocessing: Preprocessing
    findings: tuple[dict[str, str], ...]
    device: str
    batch_size: int
    surrogate: Surrogate | None = None

    @property
    def input_shape(self) -> tuple[int, int, int]:
        return self.classifier.input_shape

    @property
    def crafting(self) -> Classifier:
        """The model that attacks are crafted on."""
        return self.classifier if self.surrogate is None else self.surrogate.classifier

    @property
    def compiled(self) -> str:
        """How attacks are compiled: `graph` or `xla`."""
        return "xla" if self.crafting.jit_compile else "graph"

    def fix_compilation(self, compiled: str) -> None:
        """The way of compiling that run.json states, for whatever attacks are crafted on."""
        self.crafting.jit_compile = compiled == "xla"

    def model_section(self) -> dict[str, Any]:
        """summary.json's `model`."""
        return {
            "path": str(self.loaded.header.path),
            "sha256": self.loaded.header.sha256,
            "keras_version": self.loaded.header.keras_version,
            "rules": list(self.loaded.rules),
            "input_shape": list(self.input_shape),
            "classes": list(self.class_names),
            "preprocessing": _described(self.preprocessing),
        }


@dataclass(frozen=True)
class Surrogate:
    """The model that a transfer attack is crafted on."""

    path: str
    sha256: str
    classifier: Classifier
    preprocessing: Preprocessing

    def section(self) -> dict[str, Any]:
        """What run.json and the summary's provenance say of it."""
        return {
            "path": self.path,
            "sha256": self.sha256,
            "preprocessing": _described(self.preprocessing),
        }


def _described(chosen: Preprocessing) -> dict[str, Any]:
    return {
        "name": chosen.name,
        "scale": chosen.scale,
        "mean": list(chosen.mean),
        "std": list(chosen.std),
        "channels": chosen.channels,
        "evidence": chosen.evidence,
        "flag": chosen.flag,
    }


def open_cheaply(config: AuditConfig) -> tuple[Header, ImageFolder]:
    """The model's header (scanned for unsafe code) and the folder's layout; no TensorFlow.

    Raises ModelError or ImagesError for what can be refused already.
    """
    header, _ = scanned(config, config.model)
    if config.surrogate is not None:
        scanned(config, config.surrogate)
    return header, open_images(config)


def scanned(config: AuditConfig, path: str) -> tuple[Header, tuple[str, ...]]:
    """A model file's header, and what of the file's own code a load will run."""
    from advcli.models.custom import custom_names
    from advcli.models.safety import scan

    custom = custom_names(config.custom_objects)
    input_size_of(config)
    header = read_header(path)
    return header, scan(header, allow_unsafe=config.allow_unsafe_model, custom=custom)


def open_images(config: AuditConfig) -> ImageFolder:
    """The folder of images, no pixels read."""
    return open_folder(
        Path(config.images),
        classes=Path(config.classes) if config.classes else None,
        labels=Path(config.labels) if config.labels else None,
    )


def open_model(config: AuditConfig) -> LoadedModel:
    """MODEL, loaded as the configuration says; `runtime.prepare` comes before."""
    from advcli.models import loader
    from advcli.models.custom import load_objects

    size = input_size_of(config)
    loaded = loader.load(
        config.model,
        output=config.output,
        input_size=size,
        custom=load_objects(config.custom_objects),
        allow_unsafe=config.allow_unsafe_model,
    )
    height, width, _ = loaded.image.shape
    if size not in (None, (height, width)):
        raise UsageError(
            f"--input-size {config.input_size}: the model takes images of {height}x{width} alone",
            "leave --input-size away: it is for models that take images of any size",
        )
    return loaded


def input_size_of(config: AuditConfig) -> tuple[int, int] | None:
    """(height, width) of `--input-size`; raises UsageError."""
    if config.input_size is None:
        return None
    sides = config.input_size.strip().lower().replace("×", "x").split("x")
    if len(sides) != 2 or not all(
        s.isdecimal() and len(s) < 6 and 0 < int(s) <= _LONGEST_SIDE for s in sides
    ):
        raise UsageError(
            f"--input-size {printable(config.input_size)}: is no size",
            f"write height x width in pixels, {_LONGEST_SIDE} at most: --input-size 224x224",
        )
    return int(sides[0]), int(sides[1])


def stream_of(config: AuditConfig, folder: ImageFolder, shape: tuple[int, int, int]) -> ImageStream:
    """The images of a run, in its order."""
    return ImageStream(
        folder,
        shape,
        limit=config.limit,
        seed=config.seed,
        shard=shard_of(config),
        resize=config.resize,
        resample=config.resample,
        exif=config.exif,
    )


def sample_of(
    config: AuditConfig,
    folder: ImageFolder,
    shape: tuple[int, int, int],
    *,
    limited: bool = False,
) -> Sample:
    """A fixed sample of the whole folder, whatever the run's own limit and seed are.

    `limited`: where the configuration has a limit, the images that a run with it would take, as
    far as they fit into memory.
    """
    room = max(16, _SAMPLE_BYTES // int(np.prod(shape)))
    limit, seed = SAMPLE_IMAGES, _SAMPLE_SEED
    if limited and config.limit is not None:
        limit, seed = config.limit, config.seed
    stream = ImageStream(
        folder,
        shape,
        limit=min(limit, room),
        seed=seed,
        resize=config.resize,
        resample=config.resample,
        exif=config.exif,
        cache_bytes=0,
    )
    found = [(image.pixels, image.ref.label) for image in stream if image.pixels is not None]
    if not found:
        raise UsageError(
            f"{printable(str(folder.root))}: none of its images can be read",
            "open one in an image viewer; `advcli inspect` lists why each was skipped",
        )
    pixels = np.stack([pixels for pixels, _ in found])
    known = [label for _, label in found if label is not None]
    labels = np.array(known, np.int64) if len(known) == len(found) else None
    return Sample(pixels, labels)


def build(
    config: AuditConfig,
    folder: ImageFolder,
    *,
    batch_size: int | None = None,
    compiled: CompilePath | None = None,
    preprocessing: Preprocessing | None = None,
    surrogate_preprocessing: Preprocessing | None = None,
    check_gradient: bool = True,
) -> Bench:
    """Loads the model and gets it ready; raises an AdvcliError that ends in exit 2.

    `batch_size`, `compiled` and the preprocessings are those of a run that goes on, and override
    the configuration's. The gradient is checked at the batch size that will be compiled, of the
    model that attacks are crafted on.
    """
    from advcli.models import classifier as classifiers
    from advcli.models import runtime

    # what an attack learns on sample images is learnt by one thread
    runtime.prepare(config.device, one_thread=any(is_fitted(spec) for spec in config.attacks))
    loaded = open_model(config)
    check_classes(folder, loaded.head.class_count)
    shape = loaded.image.shape
    if preprocessing is None:
        preprocessing = stated_preprocessing(loaded, config.preprocess)
    sample = sample_of(config, folder, shape)
    findings: list[dict[str, str]] = []
    if preprocessing is None:
        preprocessing, findings = _preprocessing(loaded, sample, "--preprocess")
    classifier = classifiers.build(loaded, preprocessing)
    findings += _chance(config, classifier, sample, "the model", "--preprocess")
    surrogate = None
    if config.surrogate is not None:
        surrogate, found = _surrogate(config, classifier, sample, surrogate_preprocessing)
        findings += found
    device = runtime.describe_device()
    crafting = classifier if surrogate is None else surrogate.classifier
    rows = rounded_batch(
        batch_size
        or config.batch_size
        or auto_batch_size(shape, device.split(" ")[0], crafting.row_bytes)
    )
    remarks = [*classifier.findings]
    if config.soundness == "off" and config.compile != "xla":
        crafting.jit_compile = False
    elif check_gradient:
        checked, noticed = _check_gradient(crafting, sample, rows, compiled or config.compile)
        remarks += noticed
        rows = rows if batch_size is not None else checked
    findings += [soundness.finding(f.check, f.verdict, f.detail) for f in remarks]
    names = folder.class_names or tuple(str(i) for i in range(classifier.class_count))
    return Bench(
        loaded,
        classifier,
        folder,
        names,
        sample,
        preprocessing,
        tuple(findings),
        device,
        rows,
        surrogate,
    )


def _surrogate(
    config: AuditConfig,
    model: Classifier,
    sample: Sample,
    preprocessing: Preprocessing | None,
) -> tuple[Surrogate, list[dict[str, str]]]:
    """The surrogate, ready, and what was found about it; its images are the model's."""
    from advcli.models import classifier as classifiers
    from advcli.models import loader
    from advcli.models.custom import load_objects

    path = str(config.surrogate)
    loaded = loader.load(
        path,
        input_size=model.input_shape[:2],
        custom=load_objects(config.custom_objects),
        allow_unsafe=config.allow_unsafe_model,
    )
    shape, classes = loaded.image.shape, loaded.head.class_count
    shown = printable(path)
    if shape != model.input_shape:
        wanted, has = ("×".join(map(str, size)) for size in (model.input_shape, shape))
        raise UsageError(
            f"--surrogate {shown}: takes images of {has}, MODEL of {wanted}",
            "give a surrogate with MODEL's input size: one image is shown to both",
        )
    if classes != model.class_count:
        raise UsageError(
            f"--surrogate {shown}: knows {classes} classes, MODEL {model.class_count}",
            "give a surrogate that was trained on MODEL's classes, in the same order",
        )
    findings: list[dict[str, str]] = []
    if preprocessing is None:
        preprocessing = stated_preprocessing(loaded, config.surrogate_preprocess)
    if preprocessing is None:
        preprocessing, findings = _preprocessing(loaded, sample, "--surrogate-preprocess")
    classifier = classifiers.build(loaded, preprocessing)
    findings += _chance(config, classifier, sample, "the surrogate", "--surrogate-preprocess")
    header = loaded.header
    return Surrogate(str(header.path), header.sha256, classifier, preprocessing), findings


def stated_preprocessing(loaded: LoadedModel, flag: str) -> Preprocessing | None:
    """What `--preprocess` says, else the file beside the model; None: the evidence decides."""
    from advcli.models.preprocessing import parse
    from advcli.models.sidecar import read_sidecar

    channels = loaded.image.shape[2]
    if flag == "auto":
        return read_sidecar(loaded.header, channels)
    stated = parse(flag, channels)
    stated.check(channels)
    return stated


def stored_preprocessing(stored: dict[str, Any]) -> Preprocessing:
    """The preprocessing that run.json or a summary holds, to the last digit."""
    from advcli.models.preprocessing import Preprocessing

    return Preprocessing(
        stored["name"],
        stored["scale"],
        tuple(stored["mean"]),
        tuple(stored["std"]),
        stored["channels"],
        stored["evidence"],
    )


def _preprocessing(
    loaded: LoadedModel, sample: Sample, flag: str
) -> tuple[Preprocessing, list[dict[str, str]]]:
    from advcli.models import auto

    choice = auto.choose_preprocessing(loaded, sample.pixels, sample.labels)
    if not choice.suspect:
        chosen = choice.preprocessing
        return chosen, [
            soundness.finding("preprocessing", "note", f"'{chosen.flag}': {choice.reason}")
        ]
    return choice.preprocessing, [
        soundness.finding("preprocessing", "suspect", doubt(choice, flag)),
    ]


def doubt(choice: PreprocessingChoice, option: str = "--preprocess") -> str:
    """What to say where more than one preprocessing is left, with the flags to paste."""
    flag = choice.preprocessing.flag
    others = [
        candidate.preprocessing.flag
        for candidate in choice.candidates
        if not candidate.excluded_because and candidate.preprocessing.flag != flag
    ]
    return (
        f"'{flag}' was chosen, but the images do not exclude {', '.join(others)}: "
        f"look up how the model was trained, then say {option} {flag}, or another"
    )


def _chance(
    config: AuditConfig, classifier: Classifier, sample: Sample, who: str, option: str
) -> list[dict[str, str]]:
    """A note of a model that only guesses, where that is allowed; else raises UsageError."""
    from advcli.models.auto import near_chance

    if sample.labels is None:
        return []
    prediction = classifier.confirm(sample.pixels.astype(np.float32) / np.float32(255)).prediction
    correct, total = int((prediction == sample.labels).sum()), len(prediction)
    if not near_chance(correct, total, classifier.class_count):
        return []
    detail = (
        f"{who} gets {correct} of {total} clean images right, no more than guessing "
        f"among {classifier.class_count} classes"
    )
    if not config.allow_chance:
        raise UsageError(
            detail,
            f"check {option} and the order of the classes (--classes FILE; `advcli inspect` "
            "shows both), or go on with --allow-chance",
        )
    return [soundness.finding("chance", "note", f"{detail} (--allow-chance)")]


def _check_gradient(
    classifier: Classifier, sample: Sample, rows: int, path: CompilePath
) -> tuple[int, list[Finding]]:
    """(rows that fit into memory, what was found)."""
    from advcli.models.findings import Finding
    from advcli.models.gradient import check_gradient
    from advcli.models.runtime import out_of_memory

    count = min(_GRADIENT_IMAGES, len(sample.pixels))
    pixels = sample.pixels[:count].astype(np.float32) / np.float32(255)
    labels = classifier.confirm(pixels).prediction
    asked = rows
    while True:
        try:
            findings = list(check_gradient(classifier, pixels, labels, rows, path))
            break
        except Exception as error:
            if rows == 1 or not out_of_memory(error):
                raise
        rows = halved(rows)
    if rows < asked:
        detail = f"memory does not suffice for {asked} images at once: {rows} are computed"
        findings.append(Finding("memory", "note", detail))
    return rows, findings


def versions() -> dict[str, str]:
    """What computed the figures: this tool, Python, the libraries and the platform."""
    from importlib.metadata import version

    import advcli

    return {
        "advcli": advcli.__version__,
        "python": platform.python_version(),
        **{name: version(name) for name in ("tensorflow", "keras", "numpy", "pillow")},
        "platform": platform.platform(),
    }
