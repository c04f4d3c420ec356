"""The figures of a run that was stopped: of the attacks that had been through, and of no other.

An attack in progress is left out altogether, or at the budgets at which it is. The images that it
has answered so far are no sample: those that fall early answer early. Nor are the clean images
that were read first, which are those of the first classes. Of a time budget the blocks that were
through are a sample, but no upper bound of what the others would have made of it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from advcli.audit import waivers
from advcli.audit.directory import RunDirectory
from advcli.audit.ledger import Ledger
from advcli.audit.natural import NaturalPhase, missing_natural
from advcli.audit.plan import AuditConfig, Phase
from advcli.audit.shards import shard_of
from advcli.audit.soundness import finding
from advcli.audit.summary import missing, summarise
from advcli.threats.budget import format_eps

__all__ = ["summary_of"]


def summary_of(directory: RunDirectory) -> dict[str, Any]:
    """summary.json, or what can be said without it: suspect, and without a verdict unless a gate
    fails already. Raises RunError where there is no run."""
    run = directory.read_run()
    if directory.summary_file.exists():
        return directory.read_summary()
    ledger = directory.ledger()
    complete = run["images"].get("complete", True)
    counted = ledger.restricted(run["images"]["selected"] if complete else ())
    phases, left_out = _finished(run, counted, complete=complete)
    threats = []
    for stored in run.get("natural", ()):
        threat = NaturalPhase.from_dict(stored)
        if not complete or missing_natural(counted, [threat]):
            left_out.append(threat.spec)
        else:
            threats.append(stored)
    seen = sum(1 for _ in (counted if complete else ledger).evaluated())
    detail = f"the run was stopped after {seen} of {_asked(run)} images were "
    blocks = run["config"].get("time_budget") is not None
    detail += "through" if blocks and complete and not left_out else "read"
    if left_out:
        detail += f"; left out, as they had not been through: {', '.join(left_out)}"
    stopped = finding("unfinished", "suspect", detail + "; --out DIR --resume goes on with it")
    reduced = run | {
        "phases": [phase.as_dict() for phase in phases],
        "natural": threats,
        "findings": [*run["findings"], stopped],
        "judged_on": waivers.today().isoformat(),
    }
    summary = summarise(reduced, ledger if complete else counted)
    if blocks or not complete:
        summary["gates"] = [_undecided(row) for row in summary["gates"]]
    if summary["verdict"] != "fail" or blocks or not complete:
        summary |= {"verdict": "inconclusive", "exit_code": 3}
    return summary


def _asked(run: dict[str, Any]) -> int:
    """How many images the run was to have."""
    config, count = AuditConfig.model_validate(run["config"]), run["images"]["count"]
    return shard_of(config).share(min(count, config.limit or count))


def _undecided(row: dict[str, Any]) -> dict[str, Any]:
    """A gate's row without a verdict."""
    waiver = row["waiver"]
    if waiver is not None and waiver["state"] != "expired":
        waiver = waiver | {"state": "undecided"}
    doubt = row["doubt"] or "unfinished"
    return row | {"verdict": "inconclusive", "doubt": doubt, "waiver": waiver}


def _finished(
    run: dict[str, Any], ledger: Ledger, *, complete: bool
) -> tuple[list[Phase], list[str]]:
    """(attacks at the budgets at which they have an answer for every image, the others' names)"""
    done: list[Phase] = []
    left_out: list[str] = []
    for phase in map(Phase.from_dict, run["phases"]):
        at = [replace(phase, eps=(eps,)) for eps in phase.eps] if phase.norm else [phase]
        through = [one for one in at if complete and not missing(ledger, [*done, one])]
        if through:
            done.append(replace(phase, eps=tuple(eps for one in through for eps in one.eps)))
            waiting = [format_eps(eps) for eps in phase.eps if eps not in done[-1].eps]
            left_out += [f"{phase.spec} at {phase.norm} {', '.join(waiting)}"] if waiting else []
        else:
            left_out.append(phase.spec)
    return done, left_out
