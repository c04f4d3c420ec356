"""The figures of a run that was stopped: of the attacks that had been through, and of no other.

An attack in progress is left out altogether. The images that it has answered so far are no sample:
those that fall early answer early.
"""

from __future__ import annotations

from typing import Any

from advcli.audit import waivers
from advcli.audit.directory import RunDirectory
from advcli.audit.ledger import Ledger
from advcli.audit.natural import NaturalPhase, missing_natural
from advcli.audit.plan import Phase
from advcli.audit.soundness import finding
from advcli.audit.summary import missing, summarise

__all__ = ["summary_of"]


def summary_of(directory: RunDirectory) -> dict[str, Any]:
    """summary.json, or what can be said without it: suspect, and without a verdict unless a gate
    fails already. Raises RunError where there is no run."""
    run = directory.read_run()
    if directory.summary_file.exists():
        return directory.read_summary()
    ledger = directory.ledger()
    # before it is, the images are those of the first classes, and no sample
    complete = run["images"].get("complete", True)
    counted = ledger.restricted(run["images"]["selected"])
    phases, left_out = _finished(run, counted, complete=complete)
    threats = []
    for stored in run.get("natural", ()):
        threat = NaturalPhase.from_dict(stored)
        if not complete or missing_natural(counted, [threat]):
            left_out.append(threat.spec)
        else:
            threats.append(stored)
    seen = sum(1 for _ in counted.evaluated())
    detail = f"the run was stopped after {seen} of {run['images']['count']} images were read"
    if left_out:
        detail += f"; left out, as they had not been through: {', '.join(left_out)}"
    stopped = finding("unfinished", "suspect", detail + "; --out DIR --resume goes on with it")
    reduced = run | {
        "phases": [phase.as_dict() for phase in phases],
        "natural": threats,
        "findings": [*run["findings"], stopped],
        "judged_on": waivers.today().isoformat(),
    }
    summary = summarise(reduced, ledger)
    if summary["verdict"] != "fail" or not complete:
        summary |= {"verdict": "inconclusive", "exit_code": 3}
    return summary


def _finished(
    run: dict[str, Any], ledger: Ledger, *, complete: bool
) -> tuple[list[Phase], list[str]]:
    """(attacks that have an answer for every image, names of the others)"""
    phases = [Phase.from_dict(stored) for stored in run["phases"]]
    done: list[Phase] = []
    left_out: list[str] = []
    for phase in phases:
        if not complete or missing(ledger, [*done, phase]):
            left_out.append(phase.spec)
        else:
            done.append(phase)
    return done, left_out
