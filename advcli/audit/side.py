"""A finished run as a comparison sees it: which images stood under which threat, and under what
conditions that was found. Small enough to be kept in a run that has it as its baseline.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from advcli.audit.directory import RunDirectory
from advcli.audit.ledger import Clean, Ledger
from advcli.audit.natural import NaturalPhase
from advcli.audit.plan import Phase, budgets
from advcli.audit.summary import answers_at, robust_set
from advcli.errors import RunError
from advcli.images.text import printable
from advcli.threats.budget import format_eps, same_eps

__all__ = ["ImageKey", "Side", "Threat", "conditions_of", "keys_of", "threats_of"]

Scope = Literal["clean", "attack", "worst case", "natural"]
ImageKey = tuple[str, int | None]  # sha256 of the pixels; the label, None where the model gave it

STANDS, FALLS, FAILED, UNSEEN = "1", "0", "e", "-"


@dataclass(frozen=True)
class Threat:
    """What an accuracy is about. `among`: the attacks that make up a worst case, or those that a
    cascade ran before this one, without which its figure means something else."""

    scope: Scope
    attack: str = ""
    norm: str | None = None
    eps: float | None = None
    kind: str | None = None
    severity: int | None = None
    among: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """`clean`, `pgd linf 8/255`, `worst case linf 8/255`, `corruption snow 3`."""
        parts = [self.attack or self.scope, self.norm, self.kind, self.severity]
        parts += [None if self.eps is None else format_eps(self.eps)]
        return " ".join(str(part) for part in parts if part is not None)

    @property
    def key(self) -> tuple[str, tuple[str, ...]]:
        """Equal where two runs' figures are about the same."""
        return self.name, self.among


@dataclass(frozen=True)
class Side:
    """One run. `images` are (key, name); `standing` has a letter for each of them per threat:
    1 it stood, 0 it did not, e the model or the attack gave no answer, - it was not to see it.

    `repeated`: files whose content and label an earlier file has; they count once. `options` are
    those of each attack. `conditions`: what must be equal in two runs to be compared.
    """

    run: str
    model: dict[str, Any]
    seed: int
    advcli_version: str
    finished: str | None
    suspect: bool
    conditions: dict[str, Any]
    options: dict[str, Any]
    images: list[tuple[ImageKey, str]]
    repeated: int
    standing: dict[Threat, str]

    @classmethod
    def read(cls, root: Path) -> Side:
        """The run in `root`; raises RunError where there is none, or none that is finished."""
        directory = RunDirectory(root)
        shown = printable(str(root))
        run = directory.read_run()
        if not directory.summary_file.is_file():
            raise RunError(
                f"{shown}: the run is not finished", f"finish it: --out {shown} --resume"
            )
        try:
            suspect = directory.read_summary()["soundness"]["verdict"] == "suspect"
            return cls.of(str(root), run, directory.ledger(), suspect=suspect)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RunError(
                f"{shown}: is no run that this version can read ({type(error).__name__}: {error})",
                "give the folder that --out named",
            ) from error

    @classmethod
    def of(cls, root: str, run: dict[str, Any], ledger: Ledger, *, suspect: bool = False) -> Side:
        """A run whose answers are all there."""
        ledger = ledger.restricted(run["images"]["selected"])
        evaluated = dict(ledger.evaluated())
        keys = keys_of(run, ledger)
        return cls(
            run=root,
            model={"path": run["model"]["path"], "sha256": run["model"]["sha256"]},
            seed=run["config"]["seed"],
            advcli_version=run["provenance"]["advcli"],
            finished=run["provenance"]["finished"],
            suspect=suspect,
            conditions=conditions_of(run),
            options={
                f"{stored['attack']} {stored.get('norm')}": stored["options"]
                for stored in (*run["phases"], *run.get("natural", ()))
            },
            images=list(keys.items()),
            repeated=len(evaluated) - len(keys),
            standing={
                threat: "".join(letters[image] for image in keys.values())
                for threat, letters in _standing(run, ledger, evaluated)
            },
        )

    def as_dict(self) -> dict[str, Any]:
        """What `from_dict` reads."""
        threats = [vars(t) | {"standing": letters} for t, letters in self.standing.items()]
        return vars(self) | {"standing": threats}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Side:
        images = [((key[0], key[1]), name) for key, name in stored["images"]]
        standing = {}
        for row in stored["standing"]:
            fields = {key: value for key, value in row.items() if key != "standing"}
            threat = Threat(**fields | {"among": tuple(fields["among"])})
            standing[threat] = row["standing"]
        return cls(**stored | {"images": images, "standing": standing})


def keys_of(run: dict[str, Any], ledger: Ledger) -> dict[ImageKey, str]:
    """Key -> the first image that has it, of those that could be read."""
    given = run["images"]["labels"] != "model"
    found: dict[ImageKey, str] = {}
    for image, clean in ledger.restricted(run["images"]["selected"]).evaluated():
        if clean.sha256 is not None:
            found.setdefault((clean.sha256, clean.label if given else None), image)
    return found


def conditions_of(run: dict[str, Any]) -> dict[str, Any]:
    """What two runs must share for their figures to be about the same, by the name of its option.

    Pixels are compared image by image besides; a list is the classes' names.
    """
    identity, shape = run["identity"], run["model"]["input_shape"]
    return {
        "--pixels": identity["pixels"],
        "--resize": identity["resize"],
        "--resample": identity["resample"],
        "--exif": identity["exif"],
        "--targeted": identity["targeted"],
        "the input": "x".join(map(str, shape)),
        "the preprocessing": _formula(identity["preprocess"], shape[2]),
        "the reference": "the model" if identity["labels"] == "model" else "labels",
        "classes": identity["classes"],
        "the surrogate": identity.get("surrogate"),
        "the surrogate's preprocessing": _formula(identity.get("surrogate_preprocess"), shape[2]),
    }


def _formula(stored: Sequence[Any] | None, depth: int) -> str | None:
    """`scale=255.0,mean=0.0:0.0:0.0,std=1.0:1.0:1.0,channels=rgb`: equal for the same map, whether
    a number was given once or for each channel."""
    if stored is None:
        return None
    scale, mean, std, channels = stored
    parts = [f"scale={float(scale)!r}"]
    for name, values in (("mean", mean), ("std", std)):
        each = [*values] * depth if len(values) == 1 else values
        parts.append(f"{name}={':'.join(repr(float(value)) for value in each)}")
    return ",".join([*parts, f"channels={channels}"])


class _Row(NamedTuple):
    threat: Threat
    phase: Phase | None = None
    natural: tuple[str, str, int | None] | None = None


def threats_of(
    phases: Sequence[Phase], natural: Sequence[NaturalPhase], *, targeted: bool
) -> list[Threat]:
    """What a run with these phases has figures for."""
    return [row.threat for row in _rows(phases, natural, targeted=targeted)]


def _rows(
    phases: Sequence[Phase], natural: Sequence[NaturalPhase], *, targeted: bool
) -> Iterator[_Row]:
    yield _Row(Threat("clean"))
    for phase in phases:
        for eps in phase.rows:
            before = _before(phases, phase, eps)
            yield _Row(Threat("attack", phase.spec, phase.norm, eps, among=before), phase)
    for norm, eps in () if targeted else budgets(phases):
        among = tuple(sorted(phase.spec for phase, _ in answers_at(Ledger(), phases, norm, eps)))
        yield _Row(Threat("worst case", norm=norm, eps=eps, among=among))
    for threat in natural:
        for question in threat.attack.questions():
            asked = threat.spec, question.kind, question.severity
            yield _Row(
                Threat("natural", threat.spec, kind=question.kind, severity=question.severity),
                natural=asked,
            )


def _before(phases: Sequence[Phase], phase: Phase, eps: float | None) -> tuple[str, ...]:
    """The attacks of a cascade that decided what `phase` saw at `eps`."""
    before = []
    for earlier in phases if phase.cascade else ():
        if earlier.key == phase.key:
            break
        at = earlier.minimum or any(eps is not None and same_eps(eps, e) for e in earlier.eps)
        if earlier.cascade and earlier.norm == phase.norm and at:
            before.append(earlier.spec)
    return tuple(before)


def _standing(
    run: dict[str, Any], ledger: Ledger, evaluated: dict[str, Clean]
) -> Iterator[tuple[Threat, dict[str, str]]]:
    phases = [Phase.from_dict(stored) for stored in run["phases"]]
    natural = [NaturalPhase.from_dict(stored) for stored in run.get("natural", ())]
    for row in _rows(phases, natural, targeted=run["config"]["targeted"] is not None):
        threat = row.threat
        if threat.scope == "clean":
            letters = {i: _letter(clean.correct) for i, clean in evaluated.items()}
        elif row.phase is not None:
            letters = _under_attack(ledger, evaluated, phases, row.phase, threat.eps)
        elif row.natural is not None:
            letters = _under_natural(ledger, evaluated, row.natural)
        else:
            letters = _in_worst_case(ledger, evaluated, phases, threat)
        failed = {i: FAILED for i, clean in evaluated.items() if clean.error and i in letters}
        yield threat, dict.fromkeys(evaluated, UNSEEN) | letters | failed


def _letter(stands: bool) -> str:
    return STANDS if stands else FALLS


def _under_attack(
    ledger: Ledger,
    evaluated: dict[str, Clean],
    phases: Sequence[Phase],
    phase: Phase,
    eps: float | None,
) -> dict[str, str]:
    before, answers = ledger.before(phases, phase, eps), ledger.of(phase, eps)
    letters = {}
    for image, clean in evaluated.items():
        if (clean.target is not None and clean.target == clean.label) or not phase.judges(
            clean.sha256
        ):
            continue
        answer = answers.get(image)
        if not clean.correct or image in before:
            letters[image] = FALLS
        elif answer is None or answer.error:
            letters[image] = FAILED
        else:
            letters[image] = _letter(not answer.broken_at(eps, minimum=phase.minimum))
    return letters


def _in_worst_case(
    ledger: Ledger, evaluated: dict[str, Clean], phases: Sequence[Phase], threat: Threat
) -> dict[str, str]:
    norm, eps = threat.norm or "", threat.eps or 0.0
    robust = robust_set(ledger, phases, norm, eps)
    letters = {image: _letter(image in robust.standing) for image in robust.judged}
    failed: set[str] = set()
    broken: set[str] = set()
    for phase, answers in answers_at(ledger, phases, norm, eps):
        failed |= {i for i, answer in answers.items() if answer.error}
        broken |= {i for i, a in answers.items() if a.broken_at(eps, minimum=phase.minimum)}
    for image in (failed - broken) & letters.keys():
        letters[image] = FAILED if evaluated[image].correct else FALLS
    return letters


def _under_natural(
    ledger: Ledger, evaluated: dict[str, Clean], asked: tuple[str, str, int | None]
) -> dict[str, str]:
    answers = ledger.natural.get(asked, {})
    letters = {}
    for image in evaluated:
        answer = answers.get(image)
        known = answer is not None and not answer.error
        letters[image] = _letter(not answer.fooled) if answer is not None and known else FAILED
    return letters
