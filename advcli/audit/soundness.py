"""Whether the attacks can be believed: what was found before and during a run, and the verdict.

Findings come from the model (its head, its gradient), from the choice of preprocessing, and from
the journal. One `suspect` makes the run suspect: its robust figures may be too high.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from advcli.audit.ledger import Ledger
from advcli.audit.plan import Phase

__all__ = ["finding", "from_journal", "verdict"]

_STALLED_SHARE = 0.01


def finding(check: str, verdict: str, detail: str) -> dict[str, str]:
    """One check's result: `ok`, `note` or `suspect`."""
    return {"check": check, "verdict": verdict, "detail": detail}


def verdict(findings: Iterable[dict[str, str]]) -> str:
    """`sound` or `suspect`."""
    return "suspect" if any(f["verdict"] == "suspect" for f in findings) else "sound"


def from_journal(ledger: Ledger, phases: Sequence[Phase]) -> list[dict[str, str]]:
    """What the attacks themselves met: gradients of exactly zero, NaN and infinities."""
    findings: list[dict[str, str]] = []
    for phase in phases:
        if phase.attack.access == "gradient":
            findings += _stalled(ledger, phase)
    unusable = {
        image
        for phase in phases
        for eps in phase.eps
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


def _stalled(ledger: Ledger, phase: Phase) -> list[dict[str, str]]:
    """Images that stand because their gradient was zero, not because the search failed."""
    standing: set[str] = set()
    stalled: set[str] = set()
    for eps in phase.eps:
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
