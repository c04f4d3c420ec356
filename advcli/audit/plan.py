"""From what was asked to what is run: the configuration, its phases and its targets.

A phase is one attack in one norm at some budgets over a stream of images. The phases of a preset
form a cascade: each sees only the images that the ones before it left standing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from advcli.attacks.base import Attack
from advcli.attacks.fitted import FittedAttack, place_in_split
from advcli.attacks.registry import is_natural, parse_spec
from advcli.audit.presets import check_attack, parse_preset, preset_specs
from advcli.audit.waivers import StatedGate
from advcli.errors import UsageError
from advcli.threats.budget import Norm, check_eps, default_eps, format_eps, same_eps, whole_levels

__all__ = [
    "CURVE_ATTACKS",
    "AuditConfig",
    "Phase",
    "Target",
    "budget_notes",
    "budgets",
    "check_targets",
    "draft_phases",
    "merge",
    "parse_target",
    "pick_target",
    "preset_of",
    "resolve",
]

_LEVEL_SLACK = 1e-3  # of an 8-bit level: how far a rounded decimal may lie over a whole one

# What --curve runs unless told otherwise: a minimum-norm attack that does well in its norm
CURVE_ATTACKS: dict[Norm, str] = {"linf": "fmn", "l2": "ddn", "l1": "pdpgd", "l0": "sigma-zero"}

DEFAULT_PRESET = "audit"  # of `evaluate`, where nothing else is asked for

Target = int | Literal["least-likely", "next"]


class AuditConfig(BaseModel):
    """Every option of `attack` and `evaluate`, resolved; what run.json keeps of the request.

    `eps` is in pixel space, empty for the norm's default; `batch_size` None is `auto`;
    `time_budget` is in seconds; `max_drop` is in percentage points, None for 0 where there is a
    `baseline`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    command: Literal["attack", "evaluate"]
    model: str
    images: str
    attacks: tuple[str, ...] = ()
    preset: str | None = None
    norm: Norm | None = None
    eps: tuple[float, ...] = ()
    targeted: str | None = None
    surrogate: str | None = None
    surrogate_preprocess: str = "auto"
    preprocess: str = "auto"
    resize: Literal["stretch", "crop", "pad"] = "stretch"
    resample: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bilinear"
    exif: Literal["apply", "ignore"] = "apply"
    classes: str | None = None
    labels: str | None = None
    limit: int | None = None
    shard: str | None = None
    time_budget: float | None = None
    seed: int = 0
    batch_size: int | None = None
    compile: Literal["auto", "graph", "xla"] = "auto"
    device: str = "auto"
    pixels: Literal["uint8", "float"] = "uint8"
    output: str | None = None
    input_size: str | None = None
    custom_objects: tuple[str, ...] = ()
    fail_under: tuple[str, ...] = ()
    gates: tuple[StatedGate, ...] = ()
    confident: bool = False
    baseline: str | None = None
    max_drop: float | None = None
    exit_zero: bool = False
    allow_unsafe_model: bool = False
    allow_chance: bool = False
    save_images: bool = False
    only_fooled: bool = False
    include_misclassified: bool = False
    curve: bool = False
    soundness: Literal["off", "fast", "full"] = "fast"
    generator: str | None = None


@dataclass(frozen=True)
class Phase:
    """One attack in one norm. `eps` ascends; empty until the norm's default is known.

    A minimum-norm attack runs once, whatever `eps`: each budget is a row of the summary. A threat
    without a norm has none, and one row. `seed` decides which images a fitted attack judges.
    """

    attack: Attack | FittedAttack
    norm: Norm | None
    eps: tuple[float, ...]
    cascade: bool = False
    seed: int = 0

    @property
    def spec(self) -> str:
        return self.attack.spec

    @property
    def key(self) -> tuple[str, Norm | None]:
        return self.attack.spec, self.norm

    @property
    def minimum(self) -> bool:
        return self.attack.kind == "minimum-norm"

    @property
    def rows(self) -> tuple[float | None, ...]:
        """What the summary has a row for: each eps, or None of a threat without a norm."""
        return self.eps if self.norm is not None else (None,)

    @property
    def questions(self) -> tuple[float | None, ...]:
        """What an image has a line for."""
        return (None,) if self.minimum else self.rows

    def judges(self, sha256: str | None) -> bool:
        """Whether an image with these pixels enters the figures: a fitted attack is not judged
        on what it may have learned from."""
        if sha256 is None or not isinstance(self.attack, FittedAttack):
            return True
        return place_in_split(self.seed, sha256) >= self.attack.share

    def as_dict(self) -> dict[str, Any]:
        """What run.json keeps; `from_dict` reads it."""
        return {
            "attack": self.spec,
            "norm": self.norm,
            "eps": list(self.eps),
            "kind": self.attack.kind,
            "access": self.attack.access,
            "options": self.attack.model_dump(mode="json"),
            "cascade": self.cascade,
            "seed": self.seed,
        }

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Phase:
        request = parse_spec(stored["attack"], stored["norm"])
        eps, cascade = tuple(stored["eps"]), stored["cascade"]
        return cls(request.attack, request.norm, eps, cascade, stored.get("seed", 0))


def draft_phases(config: AuditConfig) -> tuple[Phase, ...]:
    """The phases, with `eps` empty where it is a default that depends on the input's size.

    Raises UsageError for whatever a command line can get wrong about attacks and budgets.
    """
    if config.preset is not None and config.attacks:
        raise UsageError(
            "--preset and --attack exclude each other",
            "a preset is a cascade; repeat -a for attacks that each see every image",
        )
    preset = preset_of(config)
    attacks = tuple(spec for spec in config.attacks if not is_natural(spec))
    natural = tuple(filter(is_natural, config.attacks))
    if preset is not None:
        natural = parse_preset(preset)[0].natural
    if natural and not attacks and not config.curve:
        if config.norm is not None or config.eps:
            raise UsageError(
                "--norm and --eps say nothing about natural threats, and nothing else is run",
                "leave them away, or add an attack with a norm, e.g. -a pgd",
            )
        if config.surrogate is not None:
            _check_transferable(natural, ())
        return ()
    if preset is None and not attacks and config.curve:
        attacks = (CURVE_ATTACKS[config.norm or "linf"],)
    if preset is not None:
        specs, cascade = preset_specs(preset, config.norm)
        phases = [_phase(config, spec, cascade=cascade) for spec in specs]
    else:
        phases = [_phase(config, spec, cascade=False) for spec in attacks or ("pgd",)]
    if config.targeted is not None:
        _check_targetable(phases, preset)
    if config.surrogate is not None:
        _check_transferable(natural, phases)
    merged = merge(phases)
    if config.curve and not any(phase.minimum or len(phase.eps) > 1 for phase in merged):
        raise UsageError(
            "--curve: a curve needs distances, and these attacks are run at one eps",
            "add a minimum-norm attack (-a fmn), or several budgets (--eps 1/255,2/255,4/255)",
        )
    return merged


def resolve(phases: Iterable[Phase], input_shape: Sequence[int]) -> tuple[Phase, ...]:
    """Every budget filled in, for images of `input_shape` (H, W, C)."""
    filled = [
        phase
        if phase.eps or phase.norm is None
        else replace(phase, eps=(default_eps(phase.norm, input_shape),))
        for phase in phases
    ]
    return merge(filled)


def preset_of(config: AuditConfig) -> str | None:
    """The preset that is run: the one asked for, or `evaluate`'s own where nothing is."""
    if config.preset or config.attacks or config.curve or config.command != "evaluate":
        return config.preset
    return DEFAULT_PRESET


def budget_notes(config: AuditConfig, phases: Iterable[Phase]) -> list[str]:
    """What a reader of the figures must know about the budgets that were asked for."""
    phases = tuple(phases)
    notes = []
    norms = sorted({phase.norm for phase in phases if phase.norm is not None})
    without = sorted({phase.attack.name for phase in phases if phase.norm is None})
    if config.eps and without:
        notes.append(f"--eps does not concern {', '.join(without)}: a threat without a norm")
    if config.eps and len(norms) > 1:
        notes.append(
            f"--eps means another size in each of {', '.join(norms)}: give an attack its own "
            "(-a pgd:eps=8/255), or all of them one --norm"
        )
    if config.pixels == "uint8":
        asked = sorted({eps for phase in phases if phase.norm == "linf" for eps in phase.eps})
        uneven = [eps for eps in asked if eps * 255 - whole_levels(eps) > _LEVEL_SLACK]
        if uneven:
            allow = "allows" if len(uneven) == 1 else "allow"
            notes.append(
                f"linf {', '.join(map(format_eps, uneven))} {allow} "
                f"{', '.join(str(whole_levels(eps)) for eps in uneven)} of 255 levels, not "
                f"{', '.join(f'{eps * 255:.5g}' for eps in uneven)}: 8-bit images differ by "
                "whole ones"
            )
    return notes


def budgets(phases: Iterable[Phase]) -> list[tuple[Norm, float]]:
    """Every (norm, eps) that is run, a norm's together, in order of first appearance."""
    found: dict[Norm, list[float]] = {}
    for phase in phases:
        if phase.norm is not None:
            known = found.setdefault(phase.norm, [])
            known += [eps for eps in phase.eps if not any(same_eps(eps, old) for old in known)]
    return [(norm, eps) for norm, known in found.items() for eps in known]


def merge(phases: Iterable[Phase]) -> tuple[Phase, ...]:
    """One phase per attack and norm, in order of first appearance, with all of its budgets."""
    merged: dict[tuple[str, Norm | None, bool], Phase] = {}
    for phase in phases:
        key = (*phase.key, bool(phase.eps))
        before = merged.get(key)
        if before is None:
            merged[key] = phase
            continue
        eps = list(before.eps)
        eps += [new for new in phase.eps if not any(same_eps(new, old) for old in eps)]
        merged[key] = replace(before, eps=tuple(sorted(eps)))
    return tuple(merged.values())


def _phase(config: AuditConfig, spec: str, *, cascade: bool) -> Phase:
    check_attack(spec.partition(":")[0].strip().lower())
    request = parse_spec(spec, config.norm)
    if request.norm is None:
        return Phase(request.attack, None, (), cascade, config.seed)
    if request.eps is not None:
        eps: tuple[float, ...] = (request.eps,)
    elif config.eps:
        eps = config.eps
    else:
        eps = (default_eps("linf", (1, 1, 1)),) if request.norm == "linf" else ()
    for value in eps:
        if request.norm == "l0" and config.norm != "l0" and value < 1:
            name = request.attack.name
            raise UsageError(
                f"--eps {value:g} is no count of pixels, which '{name}' (L0) wants",
                f"give it its own, e.g. -a {name}:eps=10, or run it by itself",
            )
        check_eps(value, request.norm)
        if config.pixels == "uint8" and request.norm != "l0" and not whole_levels(value):
            raise UsageError(
                f"{request.norm} eps {value:g} changes nothing: no 8-bit image differs from "
                "another by less than 1/255 (0.00392157)",
                "give a larger --eps, e.g. 1/255, or --pixels float",
            )
    return Phase(request.attack, request.norm, eps, cascade, config.seed)


def _check_targetable(phases: Sequence[Phase], preset: str | None) -> None:
    for phase in phases:
        if not phase.attack.targetable:
            where = f" (in the preset '{preset}')" if preset else ""
            raise UsageError(
                f"'{phase.attack.name}'{where} has no targeted form",
                "leave --targeted away, or name other attacks by -a",
            )


def _check_transferable(natural: Iterable[str], phases: Iterable[Phase]) -> None:
    names = [*natural]
    names += [phase.attack.name for phase in phases if not isinstance(phase.attack, Attack)]
    if names:
        raise UsageError(
            f"'{names[0]}' is not crafted by a model for one image, and takes no surrogate",
            "leave --surrogate away, or name other attacks by -a, e.g. -a pgd",
        )


def check_targets(phases: Iterable[Phase], target: Target | None) -> None:
    """Raises UsageError where one thing is to be learned for targets that differ by image."""
    for phase in phases:
        if isinstance(phase.attack, FittedAttack) and isinstance(target, str):
            raise UsageError(
                f"'{phase.attack.name}' learns one thing for all images, and --targeted {target} "
                "is another class for each",
                "give one class, e.g. --targeted 0",
            )


def parse_target(text: str, class_names: Sequence[str], class_count: int) -> Target:
    """A class's name or index, `least-likely` or `next`."""
    if text in class_names:
        return class_names.index(text)
    if text == "least-likely" or text == "next":
        return "least-likely" if text == "least-likely" else "next"
    if text.isdecimal() and int(text) < class_count:
        return int(text)
    names = ", ".join(class_names[:12]) + (", …" if len(class_names) > 12 else "")
    raise UsageError(
        f"--targeted {text}: no such class",
        f"give an index from 0 to {class_count - 1}"
        + (f", a name ({names})" if names else "")
        + ", least-likely or next",
    )


def pick_target(target: Target, label: int, scores: Sequence[float]) -> int:
    """The class to be hit for one image; `scores` are its clean logits."""
    if target == "next":
        return (label + 1) % len(scores)
    if target == "least-likely":
        return min(range(len(scores)), key=lambda index: scores[index])
    return target
