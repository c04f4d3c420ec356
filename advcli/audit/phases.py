"""The passes of a run: every image once unperturbed, then each attack over those still standing."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any

import numpy as np

from advcli.attacks.fitted import FittedAttack
from advcli.audit.directory import RunDirectory
from advcli.audit.fitting import Fitter
from advcli.audit.gallery import Keeper
from advcli.audit.journal import Journal, read_lines
from advcli.audit.ledger import Ledger
from advcli.audit.lines import Line, clean_line, failed_line, outcome_line
from advcli.audit.meter import Meter, Watcher
from advcli.audit.natural import NaturalPhase, natural_pass, transformer_of
from advcli.audit.plan import AuditConfig, Phase, Target, pick_target
from advcli.audit.probed import key_of
from advcli.audit.probes import probe
from advcli.audit.soundness import finding
from advcli.audit.starts import Starts
from advcli.engine.fitted import judge
from advcli.engine.jobs import Outcome, Subject
from advcli.engine.run import Engine
from advcli.errors import RunError
from advcli.images.stream import ImageStream, LoadedImage
from advcli.images.text import printable
from advcli.images.writer import ImageWriter
from advcli.threats.budget import same_eps

__all__ = ["Worker", "open_images", "open_questions"]

Runner = Callable[[Iterable[Subject], Callable[[float], None]], Iterator[Outcome]]


class Worker:
    """Carries out the passes of one run; every answer goes to the journal and into the ledger."""

    def __init__(
        self,
        config: AuditConfig,
        engine: Engine,
        stream: ImageStream,
        directory: RunDirectory,
        journal: Journal,
        ledger: Ledger,
        watcher: Watcher,
        starts: Starts,
        keeper: Keeper | None = None,
    ) -> None:
        self._config = config
        self._engine = engine
        self._stream = stream
        self._directory = directory
        self._journal = journal
        self._ledger = ledger
        self._watcher = watcher
        self._keeper = keeper
        self._writes = config.command == "attack" or config.save_images
        self._suffix = ".npy" if config.pixels == "float" else ".png"
        self._pending: deque[tuple[Future[str] | None, Line]] = deque()
        self._hashes: dict[str, str] = {}  # of files that larger budgets may share
        self._seen: list[str] = []
        self._resized = 0
        self._resized_example: dict[str, Any] | None = None
        self._starts = starts
        self._fitter = Fitter(config, engine, stream, directory, ledger, watcher)
        self.timings: dict[str, dict[str, float]] = {}

    # --- unperturbed -------------------------------------------------------------------------

    def clean_pass(self, target: Target | None) -> None:
        """Asks the model about every image that the journal does not know yet.

        Raises RunError for an image that the journal knows as another one.
        """
        known = self._ledger.clean
        # with a limit an unreadable image is replaced by the next, so it is no step of the way
        replaced = self._stream.replaces
        passed = 0
        self._watcher.begin("clean", self._stream.count)
        batch: list[LoadedImage] = []
        with ImageWriter() as writer:
            try:
                for image in self._stream:
                    self._note_size(image)
                    path = image.ref.path
                    self._seen.append(path)
                    passed += image.pixels is not None or not replaced
                    if path in known:
                        self._check_known(image)
                    elif image.pixels is None:
                        self._record(None, clean_line(image, image.ref.label, None, image.error))
                    else:
                        batch.append(image)
                    if len(batch) >= self._engine.batch_size * self._engine.lanes:
                        self._predict(batch, target, writer)
                    self._watcher.advance(passed - len(batch), None)
                self._predict(batch, target, writer)
                self._watcher.advance(passed, None)
            finally:
                self._drain(wait=True)
        self._watcher.end()

    @property
    def seen(self) -> tuple[str, ...]:
        """The images of the clean pass."""
        return tuple(self._seen)

    @property
    def resized(self) -> dict[str, Any] | None:
        """How many of them had not the model's size, and one of those; None: all had."""
        if self._resized_example is None:
            return None
        return {"count": self._resized, **self._resized_example}

    def _predict(
        self, batch: list[LoadedImage], target: Target | None, writer: ImageWriter
    ) -> None:
        if not batch:
            return
        answer = self._engine.predict(
            np.stack([image.pixels for image in batch if image.pixels is not None])
        )
        for image, prediction, logits in zip(batch, answer.prediction, answer.logits, strict=True):
            finite = bool(np.isfinite(logits).all())
            guess = int(prediction) if finite else None
            label = image.ref.label if image.ref.label is not None else guess
            wanted = None
            if target is not None and label is not None and finite:
                wanted = pick_target(target, label, logits.tolist())
            error = None if finite else "the model's output is not finite"
            future = None
            if self._writes and image.pixels is not None:
                path = self._directory.root / self._directory.clean_file(image.ref.path)
                future = writer.submit(path, image.pixels)
            line = clean_line(image, label, guess, error)
            self._record(future, line if target is None else line | {"target": wanted})
        batch.clear()

    def _check_known(self, image: LoadedImage) -> None:
        before = self._ledger.clean[image.ref.path]
        shown = printable(image.ref.path, 60)
        if before.sha256 != image.sha256:
            raise RunError(
                f"{shown} is another image than in the run: sha256 "
                f"{str(before.sha256)[:12]} there, {str(image.sha256)[:12]} now",
                "give another --out, or the images that the run began with",
            )
        if image.ref.label is not None and before.label != image.ref.label:
            raise RunError(
                f"{shown} has label {before.label} in the run, {image.ref.label} now",
                "give another --out, or the labels that the run began with",
            )

    def _note_size(self, image: LoadedImage) -> None:
        size = image.original_size
        if size is None or size == self._stream.shape[:2]:
            return
        self._resized += 1
        if self._resized_example is None:
            self._resized_example = {
                "example": image.ref.path,
                "from": list(size),
                "to": list(self._stream.shape[:2]),
            }

    # --- attacks -----------------------------------------------------------------------------

    def attack_pass(self, phase: Phase, phases: tuple[Phase, ...]) -> None:
        """Runs `phase` on every image that it is to see and has no answer for."""
        selected = set(self._seen)
        todo, repeats = open_questions(
            self._ledger,
            phase,
            phases,
            selected,
            misclassified=self._config.include_misclassified,
        )
        self._copy_repeats(phase, repeats)
        if not todo:
            return
        run = self._runner(phase, selected)
        meter = Meter(self._watcher, self._ledger, phase, phases, todo)
        self._watcher.begin(phase.spec, len(todo))
        try:
            with ImageWriter() as writer:
                try:
                    subjects = self._subjects(phase, todo, meter)
                    for outcome in run(subjects, meter.under_way):
                        self._take(phase, outcome, writer)
                        meter.answered(outcome.key, outcome.eps, fooled=_counts(phase, outcome))
                        self._drain(wait=False)
                finally:
                    self._drain(wait=True)
        finally:
            self._hashes.clear()
            stats = self._engine.stats
            self.timings[f"{phase.spec} {phase.norm}"] = {
                "seconds": stats.seconds,
                "trace_seconds": stats.trace_seconds,
                "model_seconds": stats.model_seconds,
                "images": meter.done,
            }
        if self._keeper is not None:
            self._keeper.flush()
        self._watcher.end()

    def check(self, phases: tuple[Phase, ...]) -> None:
        """Before the first attack; see `Fitter.check` for what it raises."""
        for phase in phases:
            self._fitter.check(phase, set(self._seen))

    def begin_gallery(self) -> None:
        """Chooses the pictures that are kept, if any are; before the first attack."""
        if self._keeper is not None:
            self._keeper.begin(set(self._seen))

    def _runner(self, phase: Phase, selected: set[str]) -> Runner:
        """The way from subjects to outcomes; a fitted attack learns before it is returned."""
        attack, norm, engine = phase.attack, phase.norm, self._engine
        if isinstance(attack, FittedAttack):
            learned = self._fitter.learned(phase, attack, selected)
            return lambda subjects, _: judge(engine, attack, norm, learned, subjects)
        if norm is None:
            raise TypeError(f"'{attack.name}' searches for each image, and has no norm")
        return lambda subjects, progress: engine.run(attack, norm, subjects, progress=progress)

    def _subjects(
        self, phase: Phase, todo: dict[str, tuple[float, ...]], meter: Meter
    ) -> Iterator[Subject]:
        for image in self._stream.subset(todo):
            path = image.ref.path
            clean = self._ledger.clean[path]
            sha256 = image.sha256
            if image.pixels is None or sha256 is None or clean.label is None:
                reason = image.error or "the file changed while it was being evaluated"
                for eps in todo[path] or (None,):
                    self._record(None, failed_line(phase, path, eps, self._config.seed, reason))
                    meter.answered(path, eps, fooled=False)
                continue
            yield Subject(
                key=path,
                pixels=image.pixels,
                label=clean.label,
                sha256=sha256,
                eps=todo[path],
                target=clean.target,
                start=self._starts.of(clean.target) if phase.attack.wants_start else None,
            )

    def _take(self, phase: Phase, outcome: Outcome, writer: ImageWriter) -> None:
        line = outcome_line(phase, outcome)
        if self._keeper is not None:
            self._keeper.take(line, outcome.point)
        future = None
        if self._writes and (outcome.success or not self._config.only_fooled):
            eps = outcome.eps if outcome.same_as is None else outcome.same_as
            line["file"] = self._directory.perturbed_file(phase, eps, outcome.key, self._suffix)
            if outcome.same_as is None:
                future = writer.submit(self._directory.root / line["file"], outcome.point)
        self._record(future, line)

    def _copy_repeats(self, phase: Phase, repeats: dict[tuple[str, float], float]) -> None:
        """An image fooled at one eps is fooled at every larger one: the lines that say so."""
        if not repeats:
            return
        sources = {image: smaller for (image, _), smaller in repeats.items()}
        found: dict[str, Line] = {}
        for line in read_lines(self._directory.journal_file):
            smaller = sources.get(line["image"])
            if smaller is None or (line["attack"], line.get("norm")) != phase.key:
                continue
            if same_eps(line["eps"], smaller):
                found[line["image"]] = line
        unpaid = {"forwards": 0, "gradients": 0, "steps": 0, "stalled": 0}
        for image, eps in repeats:
            self._record(None, found[image] | unpaid | {"eps": eps})

    def natural_pass(self, phase: NaturalPhase) -> None:
        """Asks about every image what `phase` asks, as far as the journal has no answer."""
        try:
            timing = natural_pass(
                phase,
                self._config,
                transformer_of(self._engine),
                self._stream,
                self._directory,
                self._ledger,
                set(self._seen),
                self._watcher,
                self._record,
                lambda: self._drain(wait=True),
                self._keeper,
            )
        finally:
            self._hashes.clear()
        if timing is not None:
            self.timings[phase.spec] = timing

    def probe(self, ledger: Ledger, phases: tuple[Phase, ...], run: dict[str, Any]) -> None:
        """`--soundness full`: attacks what stands once more; what is found goes into `run`."""
        key = key_of(ledger, phases)
        if run.get("probes", {}).get("key") == key:
            return
        probes: dict[str, Any] = {"key": key, "asked": [], "findings": []}
        if self._config.surrogate is not None or self._config.targeted is not None:
            kind = "transfers" if self._config.surrogate is not None else "targeted attacks"
            nothing = f"--soundness full has nothing to ask of {kind}"
            probes["findings"] = [finding("probes", "note", nothing)]
        else:
            began = time.perf_counter()
            probes["asked"] = probe(self._engine, self._stream, ledger, phases, self._watcher)
            self.timings["soundness"] = {
                "seconds": time.perf_counter() - began,
                "trace_seconds": 0.0,
                "model_seconds": 0.0,
                "images": 0,
            }
        run["probes"] = probes

    # --- the journal -------------------------------------------------------------------------

    def _record(self, future: Future[str] | None, line: Line) -> None:
        """Queues a line behind its image: a line in the journal has its file on disk."""
        self._pending.append((future, line))
        self._drain(wait=False)

    def _drain(self, *, wait: bool) -> None:
        while self._pending:
            future, line = self._pending[0]
            if future is not None:
                if not wait and not future.done():
                    return
                sha256 = future.result()
                if line.get("file") is not None:
                    line["file_sha256"] = sha256
                    if line["success"]:
                        self._hashes[line["file"]] = sha256
            elif line.get("file") is not None and line["file_sha256"] is None:
                line["file_sha256"] = self._hashes.get(line["file"])
            self._pending.popleft()
            self._journal.append(line)
            self._ledger.add(line)


def open_questions(
    ledger: Ledger,
    phase: Phase,
    phases: tuple[Phase, ...],
    selected: set[str],
    *,
    misclassified: bool,
) -> tuple[dict[str, tuple[float, ...]], dict[tuple[str, float], float]]:
    """(image -> budgets to be answered; (image, larger eps) -> smaller eps that answers it).

    A minimum-norm attack answers every budget at once (its images have no budgets), so in a cascade
    it sees whatever still stands at one of them.
    """
    before = {eps: ledger.before(phases, phase, eps) for eps in phase.rows}
    answers = {eps: ledger.of(phase, eps) for eps in phase.rows}
    todo: dict[str, tuple[float, ...]] = {}
    repeats: dict[tuple[str, float], float] = {}
    for image, clean in ledger.evaluated():
        if image not in selected or clean.prediction is None or not phase.judges(clean.sha256):
            continue
        wrong = misclassified and clean.label != clean.target
        if not clean.attacked and not (wrong and not clean.correct):
            continue
        standing = [eps for eps in phase.rows if image not in before[eps]]
        missing: list[float | None] = []
        fooled_at: float | None = None
        for eps in standing:
            answer = answers[eps].get(image)
            if answer is None and fooled_at is not None and eps is not None:
                repeats[image, eps] = fooled_at
            elif answer is None:
                missing.append(eps)
            elif answer.success and not phase.minimum and fooled_at is None:
                fooled_at = eps
        if missing:
            todo[image] = () if phase.minimum else tuple(e for e in missing if e is not None)
    return todo, repeats


def open_images(ledger: Ledger, phases: tuple[Phase, ...], *, misclassified: bool) -> set[str]:
    """Images that an attack is still to be run on, among those that the journal knows."""
    known = set(ledger.clean)
    return {
        image
        for phase in phases
        for image in open_questions(ledger, phase, phases, known, misclassified=misclassified)[0]
    }


def _counts(phase: Phase, outcome: Outcome) -> bool:
    """Whether an answer breaks its image at the phase's largest eps."""
    if phase.minimum and phase.norm is not None:
        return outcome.success and outcome.distance[phase.norm] <= phase.eps[-1]
    return outcome.success
