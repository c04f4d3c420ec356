"""Natural threats in an audit: their phases, the pass over the images, the figures.

They have a section of their own: no norm, no cascade, no worst case with the others. Every image
is asked about, those that the model gets wrong unperturbed too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from advcli.attacks.natural import NaturalAttack, Question
from advcli.attacks.registry import is_natural, parse_natural
from advcli.audit.lines import Line, blank_line
from advcli.audit.presets import parse_preset
from advcli.audit.statistics import median_distance, proportion, wilson
from advcli.errors import RunError, UsageError
from advcli.threats.corruptions import BENCHMARK

if TYPE_CHECKING:
    from advcli.audit.directory import RunDirectory
    from advcli.audit.gallery import Keeper
    from advcli.audit.ledger import Ledger
    from advcli.audit.meter import Watcher
    from advcli.audit.plan import AuditConfig
    from advcli.engine.run import Engine
    from advcli.engine.transform import NaturalOutcome, NaturalSubject, Transformer
    from advcli.images.stream import ImageStream

__all__ = [
    "NaturalAnswer",
    "NaturalPhase",
    "answer_of",
    "draft_natural",
    "figures",
    "has_scope",
    "merged_natural",
    "missing_natural",
    "natural_line",
    "natural_means",
    "natural_pass",
    "natural_rows",
    "open_natural",
    "transformer_of",
]

_Record = Callable[["Future[str] | None", Line], None]


@dataclass(frozen=True)
class NaturalPhase:
    """One natural threat with its options."""

    attack: NaturalAttack

    @property
    def spec(self) -> str:
        return self.attack.spec

    def as_dict(self) -> dict[str, Any]:
        """What run.json keeps; `from_dict` reads it."""
        return {"attack": self.spec, "options": self.attack.model_dump(mode="json")}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> NaturalPhase:
        return cls(parse_natural(stored["attack"]))


class NaturalAnswer(NamedTuple):
    """One journal line. `size`: how strong the found picture is, infinite where none fooled."""

    fooled: bool
    error: bool
    size: float
    forwards: int


# --- what is run -----------------------------------------------------------------------------


def draft_natural(config: AuditConfig) -> tuple[NaturalPhase, ...]:
    """The natural threats that a configuration asks for; raises UsageError for a wrong one."""
    specs = [spec for spec in config.attacks if is_natural(spec)]
    if config.preset is not None:
        specs = list(parse_preset(config.preset)[0].natural)
    phases = {phase.spec: phase for phase in (NaturalPhase(parse_natural(spec)) for spec in specs)}
    if phases and config.targeted is not None:
        name = next(iter(phases.values())).attack.name
        raise UsageError(
            f"'{name}' has no targeted form: nobody chooses what happens to an image",
            "leave --targeted away, or name other attacks by -a",
        )
    return tuple(phases.values())


def merged_natural(
    config: AuditConfig, earlier: dict[str, Any], given: frozenset[str]
) -> tuple[NaturalPhase, ...]:
    """The natural threats of a run that goes on, and those asked for in addition."""
    phases: dict[str, NaturalPhase] = {}
    for stored in earlier.get("natural", ()):
        phase = NaturalPhase.from_dict(stored)
        if phase.as_dict() != stored:
            raise RunError(
                f"'{phase.spec}' meant something else when the run began",
                "go on with the version of advcli that began it, or give another --out",
            )
        phases[phase.spec] = phase
    for phase in draft_natural(config) if given & {"attacks", "preset"} else ():
        phases.setdefault(phase.spec, phase)
    return tuple(phases.values())


# --- the pass --------------------------------------------------------------------------------


def natural_pass(
    phase: NaturalPhase,
    config: AuditConfig,
    transformer: Transformer,
    stream: ImageStream,
    directory: RunDirectory,
    ledger: Ledger,
    selected: set[str],
    watcher: Watcher,
    record: _Record,
    drain: Callable[[], None],
    keeper: Keeper | None = None,
) -> dict[str, float] | None:
    """Asks what the journal does not know yet; returns the seconds, None where nothing was."""
    from advcli.images.writer import ImageWriter

    todo = {image: open_ for image, open_ in _open(ledger, phase) if image in selected}
    if not todo:
        return None
    left = {image: len(questions) for image, questions in todo.items()}
    asked = sum(left.values())
    answered = 0
    writes = config.command == "attack" or config.save_images
    watcher.begin(phase.spec, len(todo))

    def failed(image: str, reason: str) -> None:
        for question in todo[image]:
            record(None, _line(phase, image, question) | {"seed": config.seed, "error": reason})

    try:
        with ImageWriter() as writer:
            subjects = _subjects(todo, stream, ledger, failed)
            for outcome in transformer.run(phase.attack, subjects):
                line = natural_line(phase, outcome)
                if keeper is not None:
                    keeper.take_natural(line, outcome.point, phase.attack.questions())
                future = None
                wanted = outcome.success or not (config.only_fooled or outcome.nonfinite)
                if writes and wanted:
                    line["file"] = directory.natural_file(phase, outcome.question, outcome.key)
                    future = writer.submit(directory.root / line["file"], outcome.point)
                record(future, line)
                answered += 1
                watcher.advance(len(todo) * answered / asked, None)
    finally:
        drain()
    if keeper is not None:
        keeper.flush()
    watcher.end()
    stats = transformer.stats
    return {
        "seconds": stats.seconds,
        "trace_seconds": 0.0,
        "model_seconds": stats.model_seconds,
        "images": len(todo),
    }


def _subjects(
    todo: dict[str, tuple[Question, ...]],
    stream: ImageStream,
    ledger: Ledger,
    failed: Callable[[str, str], None],
) -> Iterator[NaturalSubject]:
    from advcli.engine.transform import NaturalSubject

    for image in stream.subset(todo):
        path = image.ref.path
        label = ledger.clean[path].label
        if image.pixels is None or image.sha256 is None or label is None:
            failed(path, image.error or "the file changed while it was being evaluated")
            continue
        yield NaturalSubject(path, image.pixels, label, image.sha256, todo[path])


def transformer_of(engine: Engine) -> Transformer:
    """Natural threats on the engine's model, in its batches and with its seed."""
    from advcli.engine.transform import Transformer

    return Transformer(engine.predict, batch_size=max(engine.batch_size, 64), seed=engine.seed)


def _open(ledger: Ledger, phase: NaturalPhase) -> Iterator[tuple[str, tuple[Question, ...]]]:
    """(image, the questions about it that have no answer)"""
    questions = phase.attack.questions()
    answers = [_answers(ledger, phase.spec, question) for question in questions]
    for image, clean in ledger.evaluated():
        if clean.prediction is None:
            continue
        missing = tuple(
            question
            for question, known in zip(questions, answers, strict=True)
            if image not in known
        )
        if missing:
            yield image, missing


def open_natural(ledger: Ledger, phases: Iterable[NaturalPhase]) -> set[str]:
    """Images that lack an answer."""
    return {image for phase in phases for image, _ in _open(ledger, phase)}


def missing_natural(ledger: Ledger, phases: Iterable[NaturalPhase]) -> int:
    """Answers still to be given."""
    return sum(len(questions) for phase in phases for _, questions in _open(ledger, phase))


# --- the journal -----------------------------------------------------------------------------


def natural_line(phase: NaturalPhase, outcome: NaturalOutcome) -> Line:
    """A line like those of the other attacks, with `kind`, `severity` and what was `found`."""
    error = "the model's output is not finite" if outcome.nonfinite else None
    return _line(phase, outcome.key, outcome.question) | {
        "success": outcome.success,
        "adversarial_prediction": outcome.prediction,
        "distance": outcome.distance,
        "forwards": outcome.forwards,
        "steps": outcome.forwards,
        "seed": outcome.seed,
        "found": outcome.found,
        "nonfinite": outcome.nonfinite,
        "error": error,
    }


def _line(phase: NaturalPhase, image: str, question: Question) -> Line:
    own = {"kind": question.kind, "severity": question.severity, "found": None}
    return blank_line(image, phase.spec, None, None) | own


def answer_of(line: Line) -> NaturalAnswer:
    """What the figures need of a line."""
    found = line["found"]
    size = abs(found) if isinstance(found, (int, float)) else math.inf
    error = line["error"] is not None
    return NaturalAnswer(bool(line["success"]), error, size, line["forwards"])


def _answers(ledger: Ledger, spec: str, question: Question) -> dict[str, NaturalAnswer]:
    return ledger.natural.get((spec, question.kind, question.severity), {})


# --- the figures -----------------------------------------------------------------------------


def natural_rows(ledger: Ledger, phases: Sequence[NaturalPhase]) -> Iterator[dict[str, Any]]:
    """summary.json's `natural`: a row per question."""
    evaluated = dict(ledger.evaluated())
    for phase in phases:
        for question in phase.attack.questions():
            answers = _answers(ledger, phase.spec, question)
            correct = sum(not a.fooled and not a.error for a in answers.values())
            search = question.pictures > 1
            yield {
                "attack": phase.spec,
                "kind": question.kind,
                "severity": question.severity,
                "accuracy": proportion(correct, len(evaluated)),
                "ci95": wilson(correct, len(evaluated)),
                "correct": correct,
                "total": len(evaluated),
                "errors": sum(answer.error for answer in answers.values()),
                # of the images that the model gets right unperturbed, as for the other attacks
                "median_severity": median_distance(
                    answers[image].size
                    for image, clean in evaluated.items()
                    if clean.correct and image in answers
                )
                if search
                else None,
                "forwards": sum(answer.forwards for answer in answers.values()),
            }


def natural_means(
    rows: Sequence[dict[str, Any]], shape: Sequence[int] | None = None
) -> list[dict[str, Any]]:
    """summary.json's `natural_means`: of each threat with severities, as in ImageNet-C.

    A kind's figure is the mean over its severities, the threat's the mean over its kinds: over the
    fifteen of the benchmark where all of those were run, else over what was. The interval takes an
    image's share of right answers for one answer, so it is rather too wide than too narrow.
    `shape`: the model's input, which decides whose constants were used.
    """
    means = []
    for spec in dict.fromkeys(row["attack"] for row in rows if row["severity"] is not None):
        own = [row for row in rows if row["attack"] == spec]
        ran = list(dict.fromkeys(row["kind"] for row in own))
        counted = list(BENCHMARK) if set(BENCHMARK) <= set(ran) else ran
        kinds = {kind: _mean(row for row in own if row["kind"] == kind) for kind in ran}
        accuracy = _mean_of([kinds[kind] for kind in counted])
        total = own[0]["total"]
        means.append(
            {
                "attack": spec,
                "accuracy": accuracy,
                "error": None if accuracy is None else 1 - accuracy,
                "ci95": None if accuracy is None else wilson(accuracy * total, total),
                "total": total,
                "over": counted,
                "constants": _constants(spec, shape),
                "kinds": kinds,
                "severities": {
                    str(severity): _mean(
                        row for row in own if row["severity"] == severity and row["kind"] in counted
                    )
                    for severity in dict.fromkeys(row["severity"] for row in own)
                },
            }
        )
    return means


def _constants(spec: str, shape: Sequence[int] | None) -> str | None:
    from advcli.threats.corruptions.apply import constants_for

    asked: str = getattr(parse_natural(spec), "constants", "auto")
    if asked != "auto":
        return asked
    return None if shape is None else constants_for(shape[0], shape[1])


def _mean(rows: Iterable[dict[str, Any]]) -> float | None:
    return _mean_of([row["accuracy"] for row in rows])


def _mean_of(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


# --- gates -----------------------------------------------------------------------------------


def has_scope(subject: str, severity: float | None, phases: Iterable[NaturalPhase]) -> bool:
    """Whether `corruption`, `corruption:snow` or `spatial`, at a severity or not, is run."""
    return any(
        _named(subject, phase.spec, question.kind) and severity in (None, question.severity)
        for phase in phases
        for question in phase.attack.questions()
    )


def _named(subject: str, spec: str, kind: str) -> bool:
    name = spec.partition(":")[0]
    return subject in (spec, name, f"{name}:{kind}")


def figures(
    subject: str, severity: float | None, summary: dict[str, Any]
) -> list[tuple[str, float | None, Any, int]]:
    """What a gate compares, (name, accuracy, interval, images): the mean of a threat with
    severities, the row of a search."""
    found: list[tuple[str, float | None, Any, int]] = []
    rows = summary["natural"]
    for spec in dict.fromkeys(row["attack"] for row in rows):
        own = [row for row in rows if row["attack"] == spec]
        chosen = [
            row
            for row in own
            if _named(subject, spec, row["kind"]) and severity in (None, row["severity"])
        ]
        means = natural_means(chosen)
        if means:
            found.append((subject, means[0]["accuracy"], means[0]["ci95"], means[0]["total"]))
        else:
            found += [
                (f"{spec} {row['kind']}", row["accuracy"], row["ci95"], row["total"])
                for row in chosen
            ]
    return found
