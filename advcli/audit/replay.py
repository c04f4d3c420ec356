"""Attacks of a finished run, run again: the same image, seed and batch shape must answer alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from advcli.attacks.fitted import FittedAttack
from advcli.audit.directory import RunDirectory
from advcli.audit.fitting import fitted_folder, load
from advcli.audit.ledger import Ledger
from advcli.audit.lines import Line
from advcli.audit.natural import NaturalPhase, transformer_of
from advcli.audit.plan import AuditConfig, Phase
from advcli.audit.setup import Bench, stream_of
from advcli.audit.starts import Starts
from advcli.engine.fitted import judge
from advcli.engine.jobs import Outcome, Subject
from advcli.engine.run import Engine, auto_lanes
from advcli.engine.transform import NaturalOutcome, NaturalSubject

__all__ = ["replayed"]


def replayed(
    directory: RunDirectory,
    config: AuditConfig,
    bench: Bench,
    ledger: Ledger,
    lines: Mapping[str, Sequence[Line]],
    phases: Sequence[Phase],
    images: Sequence[str],
    known_starts: dict[str, Any],
    batch_size: int,
) -> Iterator[tuple[Phase, Line, Outcome]]:
    """Every answer that the journal has on these images, beside a new one; `known_starts` as in
    run.json.

    Answers that were copied from a smaller eps are left out: they were never run.
    """
    stream = stream_of(
        config.model_copy(update={"limit": None, "shard": None}), bench.folder, bench.input_shape
    )
    pixels = {i.ref.path: i.pixels for i in stream.subset(images) if i.pixels is not None}
    engine = Engine(
        bench.classifier,
        batch_size=batch_size,
        pixels=config.pixels,
        seed=config.seed,
        lanes=auto_lanes(batch_size, bench.crafting.row_bytes),
        surrogate=None if bench.surrogate is None else bench.surrogate.classifier,
    )
    starts = Starts(stream, engine.predict, known_starts)
    for phase in phases:
        asked = {
            f"{line['image']}\0{line['eps']}": line
            for image in images
            if image in pixels
            for line in lines[image]
            if (line["attack"], line["norm"]) == phase.key and line["forwards"] > 0
        }
        wanted = starts if phase.attack.wants_start else None
        subjects = [_subject(key, line, ledger, pixels, wanted) for key, line in asked.items()]
        if subjects:
            for outcome in _outcomes(directory, engine, phase, subjects):
                yield phase, asked[outcome.key], outcome


def _outcomes(
    directory: RunDirectory, engine: Engine, phase: Phase, subjects: Sequence[Subject]
) -> Iterator[Outcome]:
    attack, norm = phase.attack, phase.norm
    if isinstance(attack, FittedAttack):  # what it learned is part of the run
        shape = engine.classifier.input_shape
        learned = {
            eps: load(fitted_folder(directory, phase, eps), attack, shape)
            for eps in phase.questions
        }
        yield from judge(engine, attack, norm, learned, subjects)
    elif norm is not None:
        yield from engine.run(attack, norm, subjects)


def replayed_natural(
    config: AuditConfig,
    bench: Bench,
    ledger: Ledger,
    lines: Mapping[str, Sequence[Line]],
    phases: Sequence[NaturalPhase],
    images: Sequence[str],
) -> Iterator[tuple[NaturalPhase, Line, NaturalOutcome]]:
    """The same for natural threats: every picture made and judged again."""
    stream = stream_of(
        config.model_copy(update={"limit": None, "shard": None}), bench.folder, bench.input_shape
    )
    transformer = transformer_of(
        Engine(
            bench.classifier, batch_size=bench.batch_size, pixels=config.pixels, seed=config.seed
        )
    )
    for phase in phases:
        asked = {
            (line["image"], line["kind"], line["severity"]): line
            for image in images
            for line in lines[image]
            if line["attack"] == phase.spec and "kind" in line and line["forwards"] > 0
        }
        subjects = (
            NaturalSubject(
                loaded.ref.path,
                loaded.pixels,
                ledger.clean[loaded.ref.path].label or 0,
                ledger.clean[loaded.ref.path].sha256 or "",
                tuple(
                    question
                    for question in phase.attack.questions()
                    if (loaded.ref.path, question.kind, question.severity) in asked
                ),
            )
            for loaded in stream.subset(images)
            if loaded.pixels is not None
        )
        for outcome in transformer.run(phase.attack, subjects):
            kind, severity = outcome.question.kind, outcome.question.severity
            yield phase, asked[outcome.key, kind, severity], outcome


def _subject(
    key: str,
    line: Line,
    ledger: Ledger,
    pixels: Mapping[str, np.ndarray],
    starts: Starts | None,
) -> Subject:
    clean = ledger.clean[line["image"]]
    return Subject(
        key=key,
        pixels=pixels[line["image"]],
        label=-1 if clean.label is None else clean.label,
        sha256=clean.sha256 or "",
        eps=() if line["eps"] is None else (line["eps"],),
        target=clean.target,
        start=None if starts is None else starts.of(clean.target),
    )
