"""Fitted attacks in a run: which images are learned from, what is kept of it, when it is reused.

RUN/fitted/<attack>/<norm>-<eps>/ holds what was learned, and `fitted.json`, written last: what it
was learned from, and the hashes of the files. A run that goes on uses it again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from advcli.attacks.fitted import Fitted, FittedAttack, place_in_split
from advcli.audit.directory import RunDirectory, attack_folder, budget_folder
from advcli.audit.journal import dumps
from advcli.audit.ledger import Ledger
from advcli.audit.meter import Watcher
from advcli.audit.plan import AuditConfig, Phase
from advcli.engine.fitted import MAX_BYTES, Lesson, fit
from advcli.engine.run import Engine
from advcli.errors import ModelError, RunError, UsageError
from advcli.images.folder import ImageFolder
from advcli.images.stream import ImageStream
from advcli.images.text import printable
from advcli.images.writer import write_bytes
from advcli.threats.budget import format_eps

__all__ = ["Fitter", "check_enough", "check_generator", "fitted_folder"]

RECORD = "fitted.json"
_GENERATOR = "advgan"  # the attack that --generator is for


def check_enough(config: AuditConfig, folder: ImageFolder, phases: Sequence[Phase]) -> None:
    """Raises UsageError where a folder is too small to be learned from and judged on."""
    count = len(folder.refs) if config.limit is None else min(len(folder.refs), config.limit)
    for phase in phases:
        if isinstance(phase.attack, FittedAttack) and count < 2:
            raise UsageError(
                f"'{phase.attack.name}' learns from one part of the images and is judged on the "
                f"others: {count} image is too few",
                "give a folder of more images (better some hundreds), or an attack that needs no "
                "others, e.g. -a pgd",
            )


def check_generator(config: AuditConfig, phases: Sequence[Phase]) -> str | None:
    """The SHA-256 of --generator's file, which is safe to load; None without one. No TensorFlow.

    Raises UsageError where nothing uses it, or where it was trained on images that this run would
    judge; ModelError for an unsafe or damaged file.
    """
    if config.generator is None:
        return None
    users = [phase.attack for phase in phases if phase.attack.name == _GENERATOR]
    if not users:
        raise UsageError("--generator is for advgan", f"add -a {_GENERATOR}")
    file = Path(config.generator)
    shown = printable(str(file))
    if not file.exists():
        raise ModelError(f"{shown}: no such file", "check the path of --generator")
    from advcli.models.header import read_header
    from advcli.models.safety import scan

    header = read_header(file)
    try:
        scan(header)
    except ModelError as error:  # --allow-unsafe-model speaks of MODEL alone
        raise ModelError(
            error.message, "a generator that advcli trained runs no code: give such a one"
        ) from None
    trained = _read_record(file.parent / RECORD) or {}
    for attack in users:
        if not isinstance(attack, FittedAttack) or trained.get("seed") is None:
            continue
        if (trained["seed"], trained["share"]) != (config.seed, attack.share):
            raise UsageError(
                f"{shown}: was trained with seed {trained['seed']} on a share of "
                f"{trained['share']:g} of its images, and another split would judge some of them",
                f"add --seed {trained['seed']}, and -a {_GENERATOR}:share={trained['share']:g}",
            )
    return header.sha256


def fitted_folder(directory: RunDirectory, phase: Phase, eps: float | None) -> Path:
    """Where what `phase` learned for `eps` is kept."""
    return directory.root / "fitted" / attack_folder(phase.spec) / budget_folder(phase, eps)


class Fitter:
    """Gets what a fitted attack of this run applies: from the run's folder, or by a fit."""

    def __init__(
        self,
        config: AuditConfig,
        engine: Engine,
        stream: ImageStream,
        directory: RunDirectory,
        ledger: Ledger,
        watcher: Watcher,
    ) -> None:
        self._config = config
        self._engine = engine
        self._stream = stream
        self._directory = directory
        self._ledger = ledger
        self._watcher = watcher

    def check(self, phase: Phase, selected: set[str]) -> None:
        """Raises UsageError where one of the two parts would be empty, ModelError where the
        generator that the user gave cannot be used."""
        if not isinstance(phase.attack, FittedAttack):
            return
        kept = (fitted_folder(self._directory, phase, eps) / RECORD for eps in phase.questions)
        if self._given(phase) and not all(record.exists() for record in kept):
            self._read()
        learned = len(self._lesson_of(phase, selected))
        judged = sum(
            clean.attacked and phase.judges(clean.sha256)
            for image, clean in self._ledger.evaluated()
            if image in selected
        )
        if judged and (learned or self._given(phase)):
            return
        raise UsageError(
            f"'{phase.attack.name}' would learn from {learned} images and be judged on {judged}: "
            "both need some that the model gets right",
            f"give more images, another --seed, or another share (-a {phase.attack.name}:share="
            f"{0.3 if learned else 0.7:g})",
        )

    def learned(
        self, phase: Phase, attack: FittedAttack, selected: set[str]
    ) -> dict[float | None, Fitted]:
        """What `attack` applies at each of the phase's eps, ascending."""
        return {eps: self._one(phase, attack, eps, selected) for eps in phase.questions}

    def _one(
        self, phase: Phase, attack: FittedAttack, eps: float | None, selected: set[str]
    ) -> Fitted:
        folder = fitted_folder(self._directory, phase, eps)
        if (folder / RECORD).exists():
            return load(folder, attack, self._engine.classifier.input_shape)
        if self._ledger.of(phase, eps):
            raise RunError(
                f"{printable(str(folder / RECORD))}: is missing, and answers of this run rest "
                "on what was learned",
                "restore the folder, or start a new run",
            )
        if self._given(phase):
            return self._adopted(folder, phase, eps)
        return self._fitted(folder, phase, attack, eps, selected)

    def _given(self, phase: Phase) -> bool:
        return phase.attack.name == _GENERATOR and self._config.generator is not None

    def _read(self) -> tuple[Path, Fitted]:
        from advcli.attacks.advgan import read_generator

        file = Path(str(self._config.generator))
        return file, read_generator(file, self._engine.classifier.input_shape)

    def _adopted(self, folder: Path, phase: Phase, eps: float | None) -> Fitted:
        """The generator that the user gave, kept in the run from now on."""
        file, fitted = self._read()
        trained = _read_record(file.parent / RECORD) or {}
        known = {key: trained.get(key) for key in ("seed", "share", "images")}
        keep(folder, fitted, self._identity(phase, eps) | known | {"given": str(file)})
        return fitted

    def _fitted(
        self,
        folder: Path,
        phase: Phase,
        attack: FittedAttack,
        eps: float | None,
        selected: set[str],
    ) -> Fitted:
        lesson = self._lesson(phase, selected)
        count = len(lesson.pixels)
        at = "" if phase.norm is None or eps is None else f" {phase.norm} {format_eps(eps)}"
        self._watcher.begin(f"{phase.spec}{at} learns", count)
        fitted, report = fit(
            self._engine,
            attack,
            phase.norm,
            eps,
            lesson,
            progress=lambda share, fooled: self._watcher.advance(
                share * count, round((1.0 - fooled) * count)
            ),
        )
        self._watcher.end()
        split = {"seed": phase.seed, "share": attack.share}
        keep(folder, fitted, self._identity(phase, eps) | split | asdict(report))
        return fitted

    def _identity(self, phase: Phase, eps: float | None) -> dict[str, Any]:
        return {"attack": phase.spec, "norm": phase.norm, "eps": eps}

    def _lesson_of(self, phase: Phase, selected: set[str]) -> list[str]:
        """The images to be learned from, by their place in the split."""
        places = {
            image: place_in_split(phase.seed, clean.sha256)
            for image, clean in self._ledger.evaluated()
            if image in selected
            and clean.attacked
            and clean.sha256 is not None
            and not phase.judges(clean.sha256)
        }
        return sorted(places, key=lambda image: (places[image], image))

    def _lesson(self, phase: Phase, selected: set[str]) -> Lesson:
        most = getattr(phase.attack, "images", 0)
        room = MAX_BYTES // int(np.prod(self._engine.classifier.input_shape))
        wanted = self._lesson_of(phase, selected)[: max(1, min(most, room))]
        found = {
            image.ref.path: image.pixels
            for image in self._stream.subset(wanted)
            if image.pixels is not None
        }
        usable = [image for image in wanted if image in found]
        if not usable:
            raise RunError(
                f"none of the images that '{phase.attack.name}' is to learn from can be read",
                "give a folder whose files do not change meanwhile",
            )
        clean = [self._ledger.clean[image] for image in usable]
        return Lesson(
            np.stack([found[image] for image in usable]),
            np.array([c.label for c in clean], np.int64),
            clean[0].target,
        )


def keep(folder: Path, fitted: Fitted, record: dict[str, Any]) -> None:
    """Writes what was learned, and then the record that makes it count."""
    files = {name: write_bytes(folder / name, data) for name, data in fitted.files().items()}
    record = record | {"files": files}
    write_bytes(folder / RECORD, dumps(record, indent=2).encode() + b"\n")


def load(folder: Path, attack: FittedAttack, shape: tuple[int, int, int]) -> Fitted:
    """What `keep` wrote; raises RunError where it is not that any more."""
    record = _read_record(folder / RECORD)
    files = record.get("files") if record else None
    if not isinstance(files, dict):
        raise RunError(
            f"{printable(str(folder / RECORD))}: is damaged", "restore it, or start a new run"
        )
    for name, stated in files.items():
        file = folder / Path(str(name)).name
        if not file.is_file() or _sha256(file) != stated:
            raise RunError(
                f"{printable(str(file))}: is not the file that was written",
                "restore it, or start a new run",
            )
    return attack.load(folder, shape)


def records(directory: RunDirectory, phases: Sequence[Phase]) -> list[dict[str, Any]]:
    """What run.json says of everything that was learned."""
    found = []
    for phase in phases:
        if isinstance(phase.attack, FittedAttack):
            for eps in phase.questions:
                folder = fitted_folder(directory, phase, eps)
                record = _read_record(folder / RECORD)
                if record is not None:
                    place = folder.relative_to(directory.root).as_posix()
                    found.append(record | {"folder": place})
    return found


def _read_record(file: Path) -> dict[str, Any] | None:
    try:
        record = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
