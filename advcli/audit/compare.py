"""Two runs on the same images: what broke, what got fixed, and whether that is more than chance.

Images are paired by what they show (the sha256 of their pixels) and their label, whatever their
files are called. A difference is one of pairs, so its interval and its p value rest on the images
that changed alone. Runs whose figures are not about the same are refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import advcli
from advcli.audit.drop import drop_gate
from advcli.audit.gates import concluded
from advcli.audit.side import FAILED, FALLS, STANDS, ImageKey, Side, Threat
from advcli.audit.statistics import mcnemar, paired_difference, proportion
from advcli.errors import RunError
from advcli.images.text import printable

__all__ = [
    "Names",
    "check_conditions",
    "check_threats",
    "compare",
    "paired",
    "with_gate",
]

Names = tuple[str, str]  # what messages call the two runs

SCHEMA_VERSION = 1
_NAMED = 3
_BOTH, _BROKEN = STANDS + STANDS, STANDS + FALLS
_FIXED, _NEITHER = FALLS + STANDS, FALLS + FALLS


def compare(
    base: Side, new: Side, *, gate: bool = False, names: Names = ("BASE", "NEW")
) -> dict[str, Any]:
    """What `advcli compare --format json` prints, but for the gate; `gate`: there will be one.

    Raises RunError where the two cannot be compared.
    """
    check_conditions(base.conditions, new.conditions, names)
    check_threats(base, list(new.standing), new.options, names, gate=gate)
    pairs = paired(base.images, new.images)
    if not pairs:
        raise RunError(
            f"{printable(base.run)} and {printable(new.run)}: no image is in both",
            "compare runs on the same images: they are paired by their pixels and labels",
        )
    theirs = {threat.key: letters for threat, letters in base.standing.items()}
    common = [threat for threat in new.standing if threat.key in theirs]
    targeted = new.conditions["--targeted"] is not None
    rows = [
        _row(threat, theirs[threat.key], new.standing[threat], pairs, base, new)
        | {"gated": gated(threat, targeted=targeted)}
        for threat in common
    ]
    return {
        "schema_version": SCHEMA_VERSION,
        "advcli_version": advcli.__version__,
        "base": _facts(base),
        "new": _facts(new),
        "images": {
            "paired": len(pairs),
            "only_base": len(base.images) - len(pairs),
            "only_new": len(new.images) - len(pairs),
            "relabelled": _relabelled(base, new),
            "repeated": base.repeated + new.repeated,
        },
        "threats": rows,
        "left_out": list(_left_out(base, new, names)),
        "notes": list(_notes(base, new, names)),
        "gates": [],
        "verdict": "none",
        "exit_code": 0,
    }


def paired(
    base: Sequence[tuple[ImageKey, str]], new: Sequence[tuple[ImageKey, str]]
) -> list[tuple[int, int]]:
    """(place in `base`, place in `new`) of each image that is in both, in the order of `new`."""
    places = {key: place for place, (key, _) in enumerate(base)}
    return [(places[key], place) for place, (key, _) in enumerate(new) if key in places]


def gated(threat: Threat, *, targeted: bool) -> bool:
    """Whether a drop there is one of robustness: in a worst case, or where there is none."""
    alone = threat.scope == "attack" and (targeted or threat.norm is None)
    return alone or threat.scope in ("worst case", "natural")


def _row(
    threat: Threat,
    before: str,
    after: str,
    pairs: Sequence[tuple[int, int]],
    base: Side,
    new: Side,
) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    changed: dict[str, list[dict[str, str]]] = {_BROKEN: [], _FIXED: []}
    for there, here in pairs:
        change = before[there] + after[here]
        counts[change] += 1
        if change in changed:
            (sha256, _), name = new.images[here]
            entry = {"image": name, "sha256": sha256}
            changed[change].append(entry | {"base_image": base.images[there][1]})
    broken, fixed = counts[_BROKEN], counts[_FIXED]
    total = broken + fixed + counts[_BOTH] + counts[_NEITHER]
    return {
        "threat": threat.name,
        "scope": threat.scope,
        "attack": threat.attack or None,
        "norm": threat.norm,
        "eps": threat.eps,
        "kind": threat.kind,
        "severity": threat.severity,
        "paired": total,
        "errors": sum(n for change, n in counts.items() if FAILED in change),
        "both_robust": counts[_BOTH],
        "newly_broken": broken,
        "fixed": fixed,
        "both_broken": counts[_NEITHER],
        "base_accuracy": proportion(counts[_BOTH] + broken, total),
        "new_accuracy": proportion(counts[_BOTH] + fixed, total),
        "difference": (fixed - broken) / total if total else None,
        "ci95": paired_difference(broken, fixed, total),
        "p": mcnemar(broken, fixed),
        "newly_broken_images": changed[_BROKEN],
        "fixed_images": changed[_FIXED],
    }


def _facts(side: Side) -> dict[str, Any]:
    return {
        "run": side.run,
        "model": side.model,
        "seed": side.seed,
        "advcli_version": side.advcli_version,
        "finished": side.finished,
        "soundness": "suspect" if side.suspect else "sound",
        "images": len(side.images),
    }


def _relabelled(base: Side, new: Side) -> int:
    """Images whose pixels both runs have, but under other labels: they are in neither's pairs."""
    before, after = {key for key, _ in base.images}, {key for key, _ in new.images}
    known = {sha256 for sha256, _ in before}
    return len({sha256 for sha256, _ in after - before} & known - {s for s, _ in after & before})


def _left_out(base: Side, new: Side, names: Names) -> Iterator[str]:
    """Figures that one run has alone, or both after other attacks."""
    before = {threat.key: threat for threat in base.standing}
    after = {threat.key: threat for threat in new.standing}
    for key, threat in before.items():
        if key not in after:
            other = next((t for t in new.standing if t.name == threat.name), None)
            yield f"{threat.name}: {_unlike(threat, other, names)}"
    for key, threat in after.items():
        if key not in before and not any(t.name == threat.name for t in base.standing):
            yield f"{threat.name}: only in {names[1]}"


def _unlike(threat: Threat, other: Threat | None, names: Names) -> str:
    if other is None:
        return f"only in {names[0]}"
    what = "of" if threat.scope == "worst case" else "after"
    shown = [", ".join(t.among) or "nothing" for t in (threat, other)]
    return f"{what} {shown[0]} in {names[0]}, {what} {shown[1]} in {names[1]}"


def _notes(base: Side, new: Side, names: Names) -> Iterator[str]:
    if base.model["sha256"] == new.model["sha256"]:
        yield "both runs are of the same model: what differs is chance, or the tool"
    if base.seed != new.seed:
        yield (
            f"the seeds differ ({base.seed} in {names[0]}, {new.seed} in {names[1]}): some "
            "changes are chance"
        )
    if base.advcli_version != new.advcli_version:
        yield f"made by advcli {base.advcli_version} and {new.advcli_version}"
    if new.conditions["the reference"] == "the model":
        yield "no labels were given: each model's own clean prediction is its reference"
    for side, name in zip((base, new), names, strict=True):
        if side.suspect:
            yield f"the figures of {name} are suspect: its robust accuracy may be too high"


# --- what cannot be compared -----------------------------------------------------------------


def check_conditions(base: Mapping[str, Any], new: Mapping[str, Any], names: Names) -> None:
    """Raises RunError with every difference between the conditions that `new` names."""
    different = [
        _classes(base[name], value, names)
        if name == "classes"
        else f"{name} is {_shown(base[name])} in {names[0]}, {_shown(value)} in {names[1]}"
        for name, value in new.items()
        if base[name] != value
    ]
    if different:
        raise RunError(
            f"the runs cannot be compared: {'; '.join(different)}",
            "run both models under the same conditions, on the same images",
        )


def _shown(value: object) -> str:
    return "none" if value is None else printable(str(value), 60)


def _classes(base: Sequence[str], new: Sequence[str], names: Names) -> str:
    if len(base) != len(new):
        return f"there are {len(base)} classes in {names[0]}, {len(new)} in {names[1]}"
    place = next(i for i, (a, b) in enumerate(zip(base, new, strict=True)) if a != b)
    before, after = printable(base[place], 40), printable(new[place], 40)
    return f"class {place} is '{before}' in {names[0]}, '{after}' in {names[1]}"


def check_threats(
    base: Side,
    threats: Sequence[Threat],
    options: Mapping[str, Any],
    names: Names,
    *,
    gate: bool,
) -> None:
    """Raises RunError where both runs have no threat but the clean images in common (`gate`: none
    that a gate judges), or where an attack of one name has other options in each."""
    for attack in sorted(options.keys() & base.options.keys()):
        before, after = base.options[attack], options[attack]
        differ = {key: (before.get(key), after.get(key)) for key in sorted({*before, *after})}
        changes = [
            f"{key} is {_shown(a)} in {names[0]}, {_shown(b)} in {names[1]}"
            for key, (a, b) in differ.items()
            if a != b
        ]
        if changes:
            raise RunError(
                f"the runs cannot be compared: '{attack}' means two things: {'; '.join(changes)}",
                "run both with one version of advcli, or state these options",
            )
    targeted = base.conditions["--targeted"] is not None

    def counts(threat: Threat) -> bool:
        return gated(threat, targeted=targeted) if gate else threat.scope != "clean"

    known = {threat.key for threat in base.standing if counts(threat)}
    if not known & {threat.key for threat in threats}:
        shown = [_listed(filter(counts, side)) for side in (base.standing, threats)]
        raise RunError(
            "the runs cannot be compared: they share no threat with the same attacks: "
            f"{shown[0]} in {names[0]}, {shown[1]} in {names[1]}",
            "run the same attacks at the same eps, or the same preset, in both",
        )


def _listed(threats: Iterable[Threat]) -> str:
    shown = [
        threat.name + (f" ({', '.join(threat.among)})" if threat.among else "")
        for threat in threats
    ]
    more = f" and {len(shown) - _NAMED} more" if len(shown) > _NAMED else ""
    return (", ".join(shown[:_NAMED]) or "nothing") + more


# --- the gate --------------------------------------------------------------------------------


def with_gate(
    comparison: dict[str, Any], max_drop: float | None, *, confident: bool
) -> dict[str, Any]:
    """The comparison with a gate and its verdict; None sets none."""
    if max_drop is None:
        return comparison
    suspect = comparison["new"]["soundness"] == "suspect"
    row = drop_gate(comparison, max_drop, confident=confident, suspect=suspect)
    return comparison | {"gates": [row]} | concluded([row], errors=False)
