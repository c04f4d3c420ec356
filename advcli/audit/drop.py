"""The gate on a drop: how much less robust than another run a model may be."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from advcli.audit.deciding import Figure, decide
from advcli.audit.statistics import paired_images_to_settle

__all__ = ["GATE", "UNPAIRED", "drop_gate"]

GATE = "baseline"
UNPAIRED = "few images in both"


def drop_gate(
    comparison: Mapping[str, Any],
    points: float,
    *,
    confident: bool,
    suspect: bool,
    errors: bool = False,
) -> dict[str, Any]:
    """The row of a gate on the largest drop: `value` is the difference, `threshold` what it may
    be at least, both as fractions. `comparison` has `threats` and `images`: where less than half of
    the smaller run is in both, a drop could pass unseen, and nothing does. `suspect`: the new run,
    whose accuracy may be too high.
    """
    judged = [row for row in comparison["threats"] if row["gated"]]
    threshold = -float(Fraction(str(points)) / 100) or 0.0  # rounded once, as the difference is
    row = {"gate": GATE, "threshold": threshold} | decide(
        [_figure(row) for row in judged if row["paired"]],
        threshold,
        confident=confident,
        suspect=suspect,
        errors=errors or any(row["errors"] for row in judged),
    )
    images = comparison["images"]
    few = images["paired"] < min(images["only_base"], images["only_new"])
    if row["verdict"] == "pass" and few:
        row |= {"verdict": "inconclusive", "doubt": UNPAIRED}
    return row


def _figure(row: Mapping[str, Any]) -> Figure:
    def to_settle(threshold: float) -> int | None:
        return paired_images_to_settle(row["newly_broken"], row["fixed"], row["paired"], threshold)

    count = row["paired"]
    return Figure(row["threat"], row["difference"], row["ci95"], count, count, to_settle)
