"""Whether the attacks can be believed: what was found before and during a run, and the verdict.

Findings come from the model (its head, its gradient), from the choice of preprocessing, and from
the journal. One `suspect` makes the run suspect: its robust figures may be too high.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from advcli.audit.contradictions import contradictions
from advcli.audit.ledger import Ledger
from advcli.audit.plan import Phase
from advcli.images.text import printable

__all__ = ["BUDGET", "PRESET", "finding", "from_fits", "from_journal", "unreadable", "verdict"]

PRESET = "preset"  # the check that says what a preset leaves out
BUDGET = "budget"  # the check that says what an eps means; asked anew when a run goes on
_STALLED_SHARE = 0.01
_UNREADABLE_SHARE = 0.05
_NAMED = 3


def finding(check: str, verdict: str, detail: str) -> dict[str, str]:
    """One check's result: `ok`, `note` or `suspect`."""
    return {"check": check, "verdict": verdict, "detail": detail}


def verdict(findings: Iterable[dict[str, str]], *, off: bool = False) -> str:
    """`sound` or `suspect`; `unchecked` where the checks were `off` and the run itself met nothing
    that is suspect."""
    if any(f["verdict"] == "suspect" for f in findings):
        return "suspect"
    return "unchecked" if off else "sound"


def from_journal(
    ledger: Ledger, phases: Sequence[Phase], *, transfer: bool
) -> list[dict[str, str]]:
    """What the attacks themselves met: gradients of exactly zero, NaN and infinities, and answers
    that contradict one another (not of a `transfer`, which follows another model's gradient)."""
    findings: list[dict[str, str]] = []
    for phase in phases:
        if phase.attack.access == "gradient":
            findings += _stalled(ledger, phase)
    if not transfer:
        findings += [
            finding(check, "suspect", detail) for check, detail in contradictions(ledger, phases)
        ]
    unusable = {
        image
        for phase in phases
        for eps in phase.rows
        for image, answer in ledger.of(phase, eps).items()
        if answer.nonfinite
    }
    unusable |= {i for i, clean in ledger.evaluated() if clean.prediction is None}
    if unusable:
        findings.append(
            finding(
                "finite",
                "suspect",
                f"NaN or infinity in the logits or gradients of {len(unusable)} image(s): "
                "attacks are blind there; look at the model's weights and its preprocessing",
            )
        )
    return findings


def from_fits(records: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    """What the figures of fitted attacks rest on and nobody can check."""
    return [
        finding(
            "generator",
            "note",
            f"{printable(str(record['given']), 60)} was given, and nothing beside it says what it "
            "was trained on: if these images were among it, its figures flatter it",
        )
        for record in records
        if record.get("given") and record.get("seed") is None
    ]


def unreadable(
    ledger: Ledger, names: Sequence[str], in_folder: Mapping[str, int]
) -> list[dict[str, str]]:
    """Images that could not be read: too many of them, or all of a class, and the figures are
    those of another set of images than the folder's.

    `names`: the classes in index order. `in_folder`: how many images the folder has of each
    class, by its index as text (as JSON holds it).
    """
    lost = [(image, clean.label) for image, clean in ledger.clean.items() if clean.sha256 is None]
    if not lost:
        return []
    per_class = Counter(label for _, label in lost if label is not None)
    emptied = [
        label for label, count in sorted(per_class.items()) if count == in_folder.get(str(label))
    ]
    shown = ", ".join(printable(image, 60) for image, _ in lost[:_NAMED])
    detail = (
        f"{len(lost)} of {len(ledger.clean)} images could not be read ({shown}"
        + (f" and {len(lost) - _NAMED} more" if len(lost) > _NAMED else "")
        + "): the figures are those of the others"
    )
    if emptied:
        classes = ", ".join(
            printable(names[label] if label < len(names) else str(label), 40)
            for label in emptied[:_NAMED]
        )
        more = f" and {len(emptied) - _NAMED} more" if len(emptied) > _NAMED else ""
        detail += f", and no image is left of {len(emptied)} class(es): {classes}{more}"
    heavy = bool(emptied) or len(lost) > _UNREADABLE_SHARE * len(ledger.clean)
    return [finding("unreadable-images", "suspect" if heavy else "note", detail)]


def _stalled(ledger: Ledger, phase: Phase) -> list[dict[str, str]]:
    """Images that stand because their gradient was zero, not because the search failed."""
    standing: set[str] = set()
    stalled: set[str] = set()
    for eps in phase.rows:
        for image, answer in ledger.of(phase, eps).items():
            if not answer.success and not answer.error:
                standing.add(image)
                if answer.stalled:
                    stalled.add(image)
    if not stalled:
        return []
    heavy = len(stalled) > _STALLED_SHARE * len(standing)
    return [
        finding(
            "zero gradient",
            "suspect" if heavy else "note",
            f"{phase.spec}: {len(stalled)} of {len(standing)} images that withstood it had a "
            "gradient of exactly zero in most steps: masked, not robust; try an attack that "
            "needs no gradient (-a random-search, -a hopskipjump)",
        )
    ]
