"""A finished run against its files and its model: does everything that was reported hold?

Clean images and perturbed files against the journal's hashes, the latter also against their eps
and their distance, predictions against the model as loaded, the summary against the journal; with
`replay` also the attack itself, bit for bit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from advcli.audit.directory import RunDirectory
from advcli.audit.journal import finite, read_lines
from advcli.audit.ledger import Ledger
from advcli.audit.lines import Line, outcome_line
from advcli.audit.natural import NaturalPhase, natural_line
from advcli.audit.plan import AuditConfig, Phase
from advcli.audit.record import added_up
from advcli.audit.replay import replayed, replayed_natural
from advcli.audit.setup import Bench, build, open_cheaply, stored_preprocessing, stream_of
from advcli.errors import RunError
from advcli.images.decode import ImageReadError
from advcli.images.stream import pixel_hash
from advcli.images.text import printable
from advcli.images.writer import read_back
from advcli.models.header import read_header
from advcli.threats.grid import from_bytes
from advcli.threats.space import distances

__all__ = ["Verification", "verify"]

_BATCH = 64
_TOLERANCE = 1 + 1e-6
_CLOSE = 1e-9
_REPLAYED = (
    "success",
    "adversarial_prediction",
    "distance",
    "forwards",
    "gradients",
    "steps",
)


@dataclass
class Verification:
    """What was checked, and each thing that does not hold: `{image, file, detail}`.

    `replayed` counts answers: an image at one eps of one attack.
    """

    clean: int = 0
    files: int = 0
    predictions: int = 0
    replayed: int = 0
    mismatches: list[dict[str, str | None]] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        return 3 if self.mismatches else 0

    def as_dict(self) -> dict[str, Any]:
        return {
            "clean_images": self.clean,
            "perturbed_files": self.files,
            "predictions": self.predictions,
            "replayed": self.replayed,
            "mismatches": self.mismatches,
            "exit_code": self.exit_code,
        }

    def complain(self, image: str, file: str | None, detail: str) -> None:
        self.mismatches.append({"image": image, "file": file, "detail": detail})


def verify(
    root: Path,
    *,
    replay: int = 0,
    device: str = "auto",
    allow_unsafe: bool = False,
    custom_objects: tuple[str, ...] = (),
    model: str | None = None,
    images: str | None = None,
) -> Verification:
    """Checks the run in `root`; raises an AdvcliError where it, or its model, cannot be read.

    `model`, `images`: where they are now, if not where they were. Both are held against the hashes
    of the run.
    """
    directory = RunDirectory(root)
    run = directory.read_run()
    config = _located(
        AuditConfig.model_validate(run["config"]).model_copy(
            update={
                "device": device,
                "allow_unsafe_model": allow_unsafe,
                "allow_chance": True,
                "custom_objects": custom_objects,
            }
        ),
        run["provenance"].get("folder"),
    )
    moved = {"model": model, "images": images}
    config = config.model_copy(update={name: path for name, path in moved.items() if path})
    found = Verification()
    ledger = directory.ledger()
    _check_summary(directory, run, ledger, found)
    for name in moved:
        path = getattr(config, name)
        if not Path(path).exists():
            raise RunError(
                f"{printable(path)}: of this path the run had its {name}, and nothing is there",
                f"say where it is now: --{name} PATH",
            )
    if not replay:  # only crafting needs it
        config = config.model_copy(update={"surrogate": None})
    header, folder = open_cheaply(config)
    if header.sha256 != run["identity"]["model"]:
        detail = f"the model is another file: sha256 {header.sha256[:12]}… now"
        found.complain("", config.model, detail)
        return found
    if config.surrogate is not None:
        sha256 = read_header(config.surrogate).sha256
        if sha256 != run["surrogate"]["sha256"]:
            detail = f"the surrogate is another file: sha256 {sha256[:12]}… now"
            found.complain("", config.surrogate, detail)
            return found
    bench = build(
        config,
        folder,
        batch_size=run["engine"]["batch_size"],
        preprocessing=stored_preprocessing(run["model"]["preprocessing"]),
        surrogate_preprocessing=stored_preprocessing(run["surrogate"]["preprocessing"])
        if config.surrogate is not None
        else None,
        check_gradient=False,
    )
    bench.fix_compilation(run["engine"]["compiled"])
    checker = _Checker(directory, config, bench, ledger, found)
    checker.check_images()
    if replay:
        again = [image for image in ledger.clean if image in checker.lines][:replay]
        checker.replay(run, again)
    return found


def _located(config: AuditConfig, folder: str | None) -> AuditConfig:
    """Relative paths mean what they meant where the run was started."""
    changes = {}
    for name in ("model", "surrogate", "images", "classes", "labels"):
        value = getattr(config, name)
        if value is not None and folder is not None and not Path(value).exists():
            changes[name] = str(Path(folder, value))
    return config.model_copy(update=changes)


def _check_summary(
    directory: RunDirectory, run: dict[str, Any], ledger: Ledger, found: Verification
) -> None:
    if not directory.summary_file.exists():
        raise RunError(
            f"{printable(str(directory.root))}: the run is not finished", "finish it with --resume"
        )
    stored = directory.read_summary()
    try:
        expected = added_up(directory, run, ledger)
    except RunError as error:
        found.complain("", directory.baseline_file.name, error.message)
        return
    different = [key for key in expected if stored.get(key) != expected[key]]
    if different:
        detail = f"is not what the journal adds up to: {', '.join(different)} differ"
        found.complain("", directory.summary_file.name, detail)


class _Checker:
    def __init__(
        self,
        directory: RunDirectory,
        config: AuditConfig,
        bench: Bench,
        ledger: Ledger,
        found: Verification,
    ) -> None:
        self._directory = directory
        self._config = config
        self._bench = bench
        self._ledger = ledger
        self._found = found
        self._queue: list[tuple[str, str | None, np.ndarray, int]] = []
        self.lines: dict[str, list[Line]] = {}
        for line in read_lines(directory.journal_file):
            if line["attack"] != "clean":
                self.lines.setdefault(line["image"], []).append(line)

    def check_images(self) -> None:
        """Every clean image that the journal knows, and every file of every attack."""
        for image, source, pixels in self._clean_images():
            clean = self._ledger.clean[image]
            self._found.clean += 1
            real = pixel_hash(pixels)
            if real != clean.sha256:
                detail = (
                    f"the clean image is not the one that was attacked: sha256 {real[:12]}… of its "
                )
                detail += f"pixels, {str(clean.sha256)[:12]}… in the journal"
                self._found.complain(image, source, detail)
                continue
            if clean.prediction is not None:
                self._ask(image, None, from_bytes(pixels), clean.prediction)
            for line in self.lines.get(image, ()):
                if line["file"] is not None:
                    self._check_file(line, pixels)
        self._answer()

    def _clean_images(self) -> Iterator[tuple[str, str | None, np.ndarray]]:
        """(image, the run's own copy of it or None, pixels): without one the folder's file,
        decoded again."""
        elsewhere: list[str] = []
        for image, _ in self._ledger.evaluated():
            file = self._directory.clean_file(image)
            if not (self._directory.root / file).exists():
                if self._config.command == "attack" or self._config.save_images:
                    self._found.complain(image, file, "the clean image's file is missing")
                elsewhere.append(image)
                continue
            pixels = self._read(image, file)
            if pixels is not None:
                yield image, file, pixels
        config = self._config.model_copy(update={"limit": None, "shard": None})
        stream = stream_of(config, self._bench.folder, self._bench.input_shape)
        missing = set(elsewhere)
        for loaded in stream.subset(elsewhere):
            missing.discard(loaded.ref.path)
            if loaded.pixels is None:
                self._found.complain(loaded.ref.path, None, str(loaded.error))
            else:
                yield loaded.ref.path, None, loaded.pixels
        for image in missing:
            self._found.complain(image, None, "the image is no longer in the folder")

    def _read(self, image: str, file: str) -> np.ndarray | None:
        try:
            return read_back(self._directory.root / file)
        except ImageReadError as error:
            self._found.complain(image, file, str(error))
            return None

    def _check_file(self, line: Line, clean: np.ndarray) -> None:
        image, file = line["image"], line["file"]
        point = self._read(image, file)
        if point is None:
            return
        self._found.files += 1
        self._check_bytes(line)
        if point.shape != clean.shape:
            detail = f"has the shape {point.shape}, the clean image {clean.shape}"
            self._found.complain(image, file, detail)
            return
        if point.dtype != np.uint8 and not (point.min() >= 0 and point.max() <= 1):
            self._found.complain(image, file, "has values outside [0, 1]")
        origin = clean if point.dtype == np.uint8 else from_bytes(clean)
        measured = distances(point, origin)
        if line["eps"] is not None and measured[line["norm"]] > line["eps"] * _TOLERANCE:
            detail = f"lies {line['norm']} {measured[line['norm']]:.6g} away from the clean image, "
            detail += f"over its eps of {line['eps']:.6g}"
            self._found.complain(image, file, detail)
        different = [
            f"{norm} {measured[norm]:.6g} (journal: {line['distance'][norm]:.6g})"
            for norm in measured
            if abs(measured[norm] - line["distance"][norm]) > _CLOSE * max(1, measured[norm])
        ]
        if different:
            detail = f"is not as far from the clean image as stated: {', '.join(different)}"
            self._found.complain(image, file, detail)
        prediction = line["adversarial_prediction"]
        known = self._ledger.clean[image]
        fooled = prediction != known.label if known.target is None else prediction == known.target
        if bool(line["success"]) != fooled:
            called = "a success" if line["success"] else "no success"
            goal = f"target {known.target}" if known.target is not None else f"label {known.label}"
            detail = f"the journal calls it {called}, at {goal} and prediction {prediction}"
            self._found.complain(image, file, detail)
        self._ask(image, file, point if point.dtype != np.uint8 else from_bytes(point), prediction)

    def _check_bytes(self, line: Line) -> None:
        """The file against its hash; a journal of an earlier version has none."""
        stated = line.get("file_sha256")
        if stated is None:
            return
        with (self._directory.root / line["file"]).open("rb") as file:
            real = hashlib.file_digest(file, "sha256").hexdigest()
        if real != stated:
            detail = f"was changed after it was written: sha256 {real[:12]}…, {stated[:12]}… then"
            self._found.complain(line["image"], line["file"], detail)

    def _ask(self, image: str, file: str | None, x: np.ndarray, prediction: int) -> None:
        self._queue.append((image, file, x, prediction))
        if len(self._queue) >= _BATCH:
            self._answer()

    def _answer(self) -> None:
        if not self._queue:
            return
        answer = self._bench.classifier.confirm(np.stack([x for _, _, x, _ in self._queue]))
        for (image, file, _, stated), real in zip(self._queue, answer.prediction, strict=True):
            self._found.predictions += 1
            if int(real) != stated:
                detail = f"the model predicts class {int(real)}, the journal says {stated}"
                self._found.complain(image, file, detail)
        self._queue.clear()

    def replay(self, run: dict[str, Any], images: Sequence[str]) -> None:
        """Every attack on these images once more; with the batch sizes, too, that the run had
        before memory ran out, of which any may have given an answer."""
        known = self._config, self._bench, self._ledger, self.lines
        phases = [Phase.from_dict(stored) for stored in run["phases"]]
        unlike: dict[tuple[Any, ...], tuple[Line, list[str]]] = {}
        for turn, batch_size in enumerate((self._bench.batch_size, *run.get("shrunk_from", ()))):
            left = {image for image, *_ in unlike}
            asked = [image for image in images if not turn or image in left]
            starts = run.get("starts", {})
            answers = (
                replayed(self._directory, *known, phases, asked, starts, batch_size)
                if asked
                else ()
            )
            for phase, line, outcome in answers:
                key = line["image"], phase.key, line["eps"]
                if turn and key not in unlike:
                    continue
                self._found.replayed += not turn
                different = self._differing(outcome_line(phase, outcome), line, outcome.point)
                if different:
                    unlike[key] = line, different
                else:
                    unlike.pop(key, None)
        threats = [NaturalPhase.from_dict(stored) for stored in run.get("natural", ())]
        for threat, line, picture in replayed_natural(*known, threats, images):
            self._found.replayed += 1
            different = self._differing(natural_line(threat, picture), line, picture.point)
            if different:
                unlike[line["image"], threat, picture.question] = line, different
        for line, different in unlike.values():
            detail = f"{line['attack']} again differs in {', '.join(different)}"
            self._found.complain(line["image"], line["file"], detail)

    def _differing(self, again: Line, line: Line, point: np.ndarray) -> list[str]:
        """In what the journal's answer and its file differ from the same attack's second answer."""
        different = [key for key in _REPLAYED if finite(again[key]) != line[key]]
        if line["file"] is not None:
            written = self._read(line["image"], line["file"])
            if written is None or not np.array_equal(written, point):
                different.append("pixels")
        return different
