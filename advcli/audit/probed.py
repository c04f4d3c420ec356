"""What the probes of `--soundness full` found: judged, put together from shards, and outdated.

run.json keeps their counts (`asked`), and under `key` what they were asked of. A run that went on
without asking again has other attacks or images: what was found says nothing about those, and is
said to be of before. What was suspect stays so until it is asked again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

from advcli.audit.journal import dumps
from advcli.audit.ledger import Ledger
from advcli.audit.plan import Phase
from advcli.audit.soundness import finding
from advcli.audit.statistics import wilson
from advcli.threats.budget import format_eps

__all__ = ["findings_of", "judged", "key_of", "merged_probes"]

_SEVERAL, _CLEAR = 3, 0.02  # images, and a share that the sample's lower bound has to exceed
_COUNTS = ("wrong", "total")
_OLD = "asked before other attacks or images were added: --resume --soundness full asks again"
_LEFT_OUT = "left out: --time-budget leaves no time for them"


def key_of(ledger: Ledger, phases: Sequence[Phase]) -> str:
    """What the answers depend on: the same key, the same answers."""
    images = sorted(str(clean.sha256) for _, clean in ledger.evaluated())
    known = dumps([[phase.as_dict() for phase in phases], images])
    return hashlib.sha256(known.encode()).hexdigest()


def findings_of(
    run: dict[str, Any], ledger: Ledger, phases: Sequence[Phase]
) -> list[dict[str, str]]:
    """The findings for a run (run.json) with these answers."""
    probes = run.get("probes") or {}
    found = [*judged(probes.get("asked", ())), *probes.get("findings", ())]
    if probes and probes.get("key") == key_of(ledger, phases):
        return found
    old = [
        finding(
            one["check"],
            "note" if one["verdict"] == "ok" else one["verdict"],
            f"{one['detail']} ({_OLD})",
        )
        for one in found
    ]
    cut = run["config"].get("soundness") == "full" and run["images"].get("time_budget") is not None
    return [*old, finding("probes", "note", _LEFT_OUT)] if cut else old


def judged(asked: Iterable[dict[str, Any]]) -> list[dict[str, str]]:
    """A finding for each probe: `{check, norm, eps, what, advice, expected, wrong, total}`.

    Of `total` images that withstood everything at (norm, eps) `wrong` were fooled by `what`, or
    were not where that was `expected`.
    """
    return [_judged(one) for one in asked]


def _judged(one: dict[str, Any]) -> dict[str, str]:
    wrong, total = one["wrong"], one["total"]
    at = f"of {total} images that withstood everything at {one['norm']} {format_eps(one['eps'])}"
    bounds = wilson(wrong, total)
    clear = wrong >= _SEVERAL and bounds is not None and bounds[0] > _CLEAR
    does = f"leaves {wrong} {at}" if one["expected"] else f"fools {wrong} {at}"
    verdict = "ok" if not wrong else "suspect" if clear and one["advice"] else "note"
    advice = f": {one['advice']}" if verdict == "suspect" else ""
    return finding(one["check"], verdict, f"{one['what']} {does}{advice}")


def merged_probes(
    shards: Sequence[tuple[dict[str, Any], Ledger]], whole: Ledger, phases: Sequence[Phase]
) -> dict[str, Any]:
    """`probes` of the run that these shards, (run.json, its images' answers), are parts of: each
    probe's counts over all of them."""
    stored = [run.get("probes") or {} for run, _ in shards]
    if not any(stored):
        return {}
    sums: dict[str, dict[str, Any]] = {}
    findings: list[dict[str, str]] = []
    for probes in stored:
        for one in probes.get("asked", ()):
            alike = dumps({name: value for name, value in one.items() if name not in _COUNTS})
            known = sums.setdefault(alike, one | dict.fromkeys(_COUNTS, 0))
            for name in _COUNTS:
                known[name] += one[name]
        findings += [found for found in probes.get("findings", ()) if found not in findings]
    current = all(
        probes and probes.get("key") == key_of(ledger, phases)
        for probes, (_, ledger) in zip(stored, shards, strict=True)
    )
    key = key_of(whole, phases) if current else None
    return {"key": key, "asked": [*sums.values()], "findings": findings}
