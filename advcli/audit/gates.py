"""Gates: the least robustness that a model must show, and the verdict on it.

40, 40%          every worst case (the lowest over all norms and eps that were run)
clean=90         accuracy on the clean images
pgd=40           the lowest robust accuracy of an attack;  pgd@8/255=40 at one eps
linf@8/255=40    the worst case there
corruption=40    the mean corruption accuracy;  corruption@3=40 at one severity;
                 corruption:snow=40, corruption:snow@3=40 of one kind;  spatial=40 of a search
class:cat=30     the lowest worst case of one class
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal

from advcli.audit import natural, waivers
from advcli.audit.deciding import Figure, decide, share_figure
from advcli.audit.drop import drop_gate
from advcli.audit.natural import NaturalPhase
from advcli.audit.plan import Phase
from advcli.audit.waivers import StatedGate, Waiver
from advcli.errors import UsageError
from advcli.threats.budget import NORMS, format_eps, parse_eps, same_eps

__all__ = [
    "Gate",
    "check_classes",
    "check_planned",
    "concluded",
    "gates_of",
    "judge",
    "parse_gate",
    "parse_points",
]

# no exponent: Fraction would write out what 1e-30000000 is
_PERCENT = re.compile(r"[+-]?([0-9]{1,9}(\.[0-9]{0,20})?|\.[0-9]{1,20})\s*%?")

Kind = Literal["worst", "clean", "attack", "norm", "class"]
_HOW = (
    "write --fail-under 40, clean=90, pgd=40, pgd@8/255=40, linf@8/255=40, corruption=50 or "
    "class:NAME=30"
)


@dataclass(frozen=True)
class Gate:
    """`text` as given; `threshold` a fraction in [0, 1]; `subject` an attack, norm or class.

    `where` it was stated; `waiver` accepts its failure for a time.
    """

    text: str
    kind: Kind
    threshold: float
    subject: str = ""
    eps: float | None = None
    where: str = "--fail-under"
    waiver: Waiver | None = None


def gates_of(fail_under: Iterable[str], stated: Iterable[Any] = ()) -> list[Gate]:
    """The gates of the option, and in addition those of the configuration file (StatedGate, or
    one as JSON)."""
    gates = [parse_gate(text) for text in fail_under]
    for entry in map(StatedGate.model_validate, stated):
        gates.append(replace(parse_gate(entry.gate), where=entry.where, waiver=entry.accept))
    return gates


def parse_gate(text: str) -> Gate:
    """Raises UsageError for what is no gate, or could be meant in two ways."""
    scope, scoped, percent = text.strip().rpartition("=")
    threshold = _threshold(percent, text)
    scope = scope.strip()
    if not scoped:
        return Gate(text, "worst", threshold)
    if scope == "clean":
        return Gate(text, "clean", threshold)
    if scope.startswith("class:") and len(scope) > len("class:"):
        return Gate(text, "class", threshold, scope.removeprefix("class:"))
    subject, at, budget = scope.partition("@")
    eps = parse_eps(budget) if at else None
    if subject in NORMS:
        if eps is None:
            raise UsageError(
                f"--fail-under {text}: a norm needs its eps", f"e.g. {subject}@8/255=40"
            )
        return Gate(text, "norm", threshold, subject, eps)
    if not subject:
        raise UsageError(f"--fail-under {text}: the scope names nothing", _HOW)
    return Gate(text, "attack", threshold, subject, eps)


def _threshold(percent: str, text: str) -> float:
    if _PERCENT.fullmatch(percent.strip()) is None:
        raise UsageError(f"--fail-under {text}: '{percent}' is no percentage", _HOW)
    exact = Fraction(percent.strip().removesuffix("%"))
    value = float(exact)
    if 0 < value < 1 and not percent.strip().endswith("%"):
        raise UsageError(
            f"--fail-under {text}: {value:g} could mean {value:g} % or {100 * value:g} %",
            f"write {100 * value:g} for {100 * value:g} %, or {value:g}% for less than one percent",
        )
    if not 0 <= value <= 100:
        raise UsageError(f"--fail-under {text}: {percent} is not between 0 and 100", _HOW)
    return float(exact / 100)  # rounded once, as count / total is: 33.3 % of 1000 is equality


def parse_points(text: str) -> float:
    """Percentage points of `--max-drop`, from 0 to 100."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100:
        raise UsageError(
            f"--max-drop {text}: is no number of percentage points from 0 to 100",
            "write --max-drop 2 to allow 80 % to become 78 %",
        )
    return value


def check_planned(
    gates: Iterable[Gate],
    phases: Sequence[Phase],
    threats: Sequence[NaturalPhase] = (),
    *,
    targeted: bool,
) -> None:
    """Raises UsageError for a gate on what will not be run.

    A phase whose eps is still unknown may turn out to have any.
    """
    for gate in gates:
        if gate.kind == "clean":
            continue
        if gate.kind != "attack" and targeted:
            raise UsageError(
                f"{gate.where} {gate.text}: targeted attacks have no worst case",
                "gate on an attack by name, e.g. pgd=40",
            )
        if gate.kind == "attack" and natural.has_scope(gate.subject, gate.eps, threats):
            continue
        if gate.kind == "attack":
            chosen = [p for p in phases if gate.subject in (p.spec, p.attack.name)]
        elif gate.kind == "norm":
            chosen = [p for p in phases if p.norm == gate.subject]
        else:
            chosen = [p for p in phases if p.norm is not None]
        if gate.eps is not None:
            wanted = gate.eps
            chosen = [
                p
                for p in chosen
                if p.norm is not None and (not p.eps or any(same_eps(eps, wanted) for eps in p.eps))
            ]
        if not chosen:
            raise UsageError(
                f"{gate.where} {gate.text}: that is not run here",
                "planned: "
                + "; ".join(
                    [
                        *(_planned(phase) for phase in phases),
                        *(f"{threat.spec}, a natural threat" for threat in threats),
                    ]
                )
                + "; a gate without a scope is on every worst case",
            )


def check_classes(gates: Iterable[Gate], names: Sequence[str]) -> None:
    """Raises UsageError for a gate on a class that the folder does not name."""
    for gate in gates:
        if gate.kind == "class" and gate.subject not in names:
            raise UsageError(
                f"{gate.where} {gate.text}: there is no class '{gate.subject}'",
                "classes: " + ", ".join(names[:12]) + (", …" if len(names) > 12 else ""),
            )


def _planned(phase: Phase) -> str:
    if phase.norm is None:
        return f"{phase.spec}, a threat without a norm and so without a worst case"
    at = ",".join(format_eps(eps) for eps in phase.eps) or "its default eps"
    return f"{phase.spec} in {phase.norm} at {at}"


def judge(
    gates: Sequence[Gate],
    summary: dict[str, Any],
    *,
    exit_zero: bool,
    day: datetime.date | None = None,
    confident: bool = False,
    max_drop: float | None = None,
) -> dict[str, Any]:
    """`{gates, verdict, exit_code}` for a summary that has its figures and its soundness.

    `day` decides which waivers hold; None is today.

    A gate that fails on suspect figures still fails, because those are upper bounds; one that
    would pass on them is inconclusive. Errors on images leave no verdict. `confident`: see
    `deciding`. Where the summary has a `baseline`, a gate on the drop is the last.
    """
    rows_with_errors = [*summary["attacks"], *summary["natural"]]
    errors = any(row["errors"] for row in rows_with_errors) or bool(summary["clean"]["errors"])
    suspect = summary["soundness"]["verdict"] == "suspect"
    rows: list[dict[str, Any]] = [
        {"gate": gate.text, "threshold": gate.threshold}
        | decide(
            _figures(gate, summary),
            gate.threshold,
            confident=confident,
            suspect=suspect,
            errors=errors,
        )
        for gate in gates
    ]
    for gate, row in zip(gates, rows, strict=True):
        row["waiver"] = waivers.settled(gate.waiver, row["verdict"], day or waivers.today())
    baseline = summary.get("baseline")
    if baseline is not None:
        drop = max_drop or 0.0
        row = drop_gate(baseline, drop, confident=confident, suspect=suspect, errors=errors)
        rows.append(row | {"waiver": None})
    return {"gates": rows} | concluded(rows, errors=errors, exit_zero=exit_zero)


def concluded(
    rows: Iterable[dict[str, Any]], *, errors: bool, exit_zero: bool = False
) -> dict[str, Any]:
    """`{verdict, exit_code}` of all gates together."""
    verdicts = {"pass" if waivers.accepted(row) else row["verdict"] for row in rows}
    if errors:
        verdict, code = "inconclusive", 3
    elif not verdicts:
        verdict, code = "none", 0
    elif "fail" in verdicts:
        verdict, code = "fail", 0 if exit_zero else 1
    elif "inconclusive" in verdicts:
        verdict, code = "inconclusive", 3
    else:
        verdict, code = "pass", 0
    return {"verdict": verdict, "exit_code": code}


def _figures(gate: Gate, summary: dict[str, Any]) -> list[Figure]:
    return [figure for figure in _all_figures(gate, summary) if figure is not None]


def _all_figures(gate: Gate, summary: dict[str, Any]) -> list[Figure | None]:
    evaluated = summary["clean"]["total"]

    def at(row: dict[str, Any]) -> bool:
        return gate.eps is None or (row["eps"] is not None and same_eps(row["eps"], gate.eps))

    def figure(name: str, row: dict[str, Any], images: int = evaluated) -> Figure | None:
        where = name if row["eps"] is None else f"{name} {row['norm']} {format_eps(row['eps'])}"
        return share_figure(where, row["robust_accuracy"], row["ci95"], row["total"], images)

    if gate.kind == "clean":
        clean = summary["clean"]
        return [share_figure("clean", clean["accuracy"], clean["ci95"], evaluated, evaluated)]
    if gate.kind == "attack":
        return [
            figure(row["attack"], row)
            for row in summary["attacks"]
            if gate.subject in (row["attack"], row["attack"].partition(":")[0]) and at(row)
        ] + [
            share_figure(*found, evaluated)
            for found in natural.figures(gate.subject, gate.eps, summary)
        ]
    if gate.kind == "class":
        return [
            figure(f"class {gate.subject}", row, entry["total"])
            for entry in summary["per_class"]
            if entry["class"] == gate.subject
            for row in entry["worst_case"]
        ]
    # beside a fitted attack the worst case is that of fewer images, and may be above one attack's
    untargeted = summary["attacks"] if summary["worst_case"] else []
    return [
        figure(row.get("attack", "worst case"), row)
        for row in (*summary["worst_case"], *untargeted)
        if None not in (row["norm"], row["eps"])
        and (gate.kind == "worst" or row["norm"] == gate.subject)
        and at(row)
    ]
