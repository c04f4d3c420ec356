"""`advcli merge`: the runs of all shards as one, and proof that no image is missing or twice."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from advcli.audit import regression, waivers
from advcli.audit.directory import RunDirectory
from advcli.audit.gates import check_classes, check_planned, gates_of
from advcli.audit.journal import read_lines
from advcli.audit.natural import NaturalPhase
from advcli.audit.plan import Phase
from advcli.audit.probed import merged_probes
from advcli.audit.resume import different
from advcli.audit.shards import listing, parse_shard
from advcli.audit.soundness import finding
from advcli.audit.summary import summarise
from advcli.errors import RunError
from advcli.images.text import printable

__all__ = ["merge_runs"]

_PICTURES = ("images", "gallery")
# what a run may change when it goes on, and all of one division must share
_ASKED_ALIKE = (
    *("limit", "soundness"),
    *("fail_under", "gates", "confident", "baseline", "max_drop", "exit_zero"),
)
_HOW = "finish it with --out {} --resume"


def merge_runs(
    roots: Sequence[Path],
    out: Path,
    *,
    fail_under: Sequence[str] | None = None,
    confident: bool | None = None,
    exit_zero: bool | None = None,
) -> dict[str, Any]:
    """Writes the run that the shards in `roots` are parts of into `out`; returns its summary.

    The gates are those of the first shard's run unless others are given. Its journal has the lines
    of all, its images are theirs (linked where the file system can), so that it can be verified,
    extended and reported like any other.

    Raises RunError, before anything is written, where the runs do not belong together, a shard is
    missing, twice or unfinished, or an image is in none or in two of them.
    """
    shards = _in_order([RunDirectory(root) for root in roots])
    runs = [directory.read_run() for directory in shards]
    _check_alike(shards, runs)
    images = _check_coverage(shards, runs)
    merged = _merged(shards, runs, images)
    merged["findings"] += _replaced(shards, runs)
    if fail_under is not None:
        merged["config"] |= {"fail_under": list(fail_under), "gates": []}
    given = {"confident": confident, "exit_zero": exit_zero}
    merged["config"] |= {name: flag for name, flag in given.items() if flag is not None}
    _check_gates(merged)
    target = RunDirectory(out)
    target.check_usable(resume=False)
    with target.lock():
        with target.journal() as journal:
            for directory in shards:
                for line in read_lines(directory.journal_file):
                    journal.append(line)
        for directory in shards:
            for folder in _PICTURES:
                _link_files(directory.root / folder, out / folder)
        ledger = target.ledger()
        if any(run.get("probes") for run in runs):
            parts = [
                (run, directory.ledger().restricted(run["images"]["selected"]))
                for directory, run in zip(shards, runs, strict=True)
            ]
            phases = [Phase.from_dict(stored) for stored in merged["phases"]]
            merged["probes"] = merged_probes(parts, ledger.restricted(images), phases)
        baseline = regression.stored(shards[0]) if merged["config"].get("baseline") else None
        if baseline is not None:
            target.write_baseline(baseline.as_dict())
        summary = summarise(merged, ledger, regression.section(baseline, merged, ledger))
        target.write_run(merged)
        target.write_summary(summary)
    return summary


def _in_order(directories: Sequence[RunDirectory]) -> list[RunDirectory]:
    """By the number of the shard; raises RunError unless each part is there once."""
    found: dict[int, RunDirectory] = {}
    parts = 0
    for directory in directories:
        run, shown = directory.read_run(), printable(str(directory.root))
        if run["config"].get("shard") is None:
            raise RunError(f"{shown}: is no shard, but a whole run", "merge runs with --shard i/n")
        if not directory.summary_file.exists():
            raise RunError(f"{shown}: the run is not finished", _HOW.format(shown))
        budget = run["images"]["time_budget"]
        if budget is not None and budget["images"] < budget["of"]:
            raise RunError(f"{shown}: a time budget left images out", _HOW.format(shown))
        shard = parse_shard(run["config"]["shard"])
        parts = parts or shard.parts
        if shard.parts != parts:
            raise RunError(
                f"{shown}: is part of {shard.parts}, the first run of {parts}",
                "give all parts of one division",
            )
        if shard.number in found:
            other = printable(str(found[shard.number].root))
            raise RunError(
                f"{shown} and {other}: both are shard {shard.number}/{parts}", "give one"
            )
        found[shard.number] = directory
    missing = [f"{number}/{parts}" for number in range(1, parts + 1) if number not in found]
    if missing:
        raise RunError(
            f"{len(missing)} of {parts} shards are missing: {', '.join(missing[:8])}"
            + (", …" if len(missing) > 8 else ""),
            "give the run of each shard",
        )
    return [found[number] for number in sorted(found)]


def _check_alike(shards: Sequence[RunDirectory], runs: Sequence[dict[str, Any]]) -> None:
    """Raises RunError where a shard was computed in another way than the first one."""
    first = runs[0]
    for directory, run in zip(shards[1:], runs[1:], strict=True):
        unlike = different(run["identity"], first["identity"], leaving_out=("shard", "batch_size"))
        if _rows_asked(run) != _rows_asked(first):
            unlike.append(f"batch_size is {_rows_asked(first)} there, {_rows_asked(run)} now")
        unlike += [
            f"{name} differ" for name in ("phases", "natural") if run.get(name) != first.get(name)
        ]
        if run["images"]["listing"] != first["images"]["listing"]:
            unlike.append("the folder's images differ")
        unlike += [
            f"{name.replace('_', '-')} differ"
            for name in _ASKED_ALIKE
            if run["config"].get(name) != first["config"].get(name)
        ]
        if unlike:
            raise RunError(
                f"{printable(str(directory.root))} differs from {printable(str(shards[0].root))}: "
                + "; ".join(unlike),
                "run all shards with the same options, on the same images",
            )


def _rows_asked(run: dict[str, Any]) -> int:
    """The batch size that a run began with, before memory ran out."""
    return int([*run.get("shrunk_from", ()), run["identity"]["batch_size"]][0])


def _check_coverage(
    shards: Sequence[RunDirectory], runs: Sequence[dict[str, Any]]
) -> list[str] | None:
    """The images that count, None for all; raises RunError for one that is twice or missing."""
    owner: dict[str, RunDirectory] = {}
    selected = False
    readable = 0
    for directory, run in zip(shards, runs, strict=True):
        ledger = directory.ledger()
        beyond = run["images"]["selected"]
        selected = selected or beyond is not None
        for image in ledger.clean if beyond is None else beyond:
            if image in owner:
                raise RunError(
                    f"{printable(image, 60)} is in {printable(str(owner[image].root))} and in "
                    f"{printable(str(directory.root))}",
                    "run the shards again on one and the same folder",
                )
            owner[image] = directory
            readable += ledger.clean[image].sha256 is not None
    limit, images = runs[0]["config"]["limit"], runs[0]["images"]
    if limit is None or limit >= images["count"]:
        if listing(owner) != images["listing"]:
            raise RunError(
                f"the shards cover {len(owner)} images, and not just the {images['count']} that "
                "the folder had",
                "run the shards again on one and the same folder",
            )
    elif readable < limit and len(owner) < images["count"]:
        raise RunError(
            f"the shards cover {readable} images of --limit {limit}", "finish each with --resume"
        )
    return list(owner) if selected else None


def _merged(
    shards: Sequence[RunDirectory], runs: Sequence[dict[str, Any]], images: list[str] | None
) -> dict[str, Any]:
    """run.json of the whole."""
    first = runs[0]
    resized = [run["images"]["resized"] for run in runs if run["images"]["resized"]]
    timings: dict[str, dict[str, float]] = {}
    for run in runs:
        for name, timing in run["timings"].items():
            sums = timings.setdefault(name, dict.fromkeys(timing, 0.0))
            for key, value in timing.items():
                sums[key] = sums.get(key, 0.0) + value
    return first | {
        "config": first["config"] | {"shard": None},
        "identity": first["identity"] | {"shard": None},
        "images": first["images"]
        | {
            "shard": None,
            "time_budget": None,
            "selected": images,
            "resized": resized[0] | {"count": sum(r["count"] for r in resized)}
            if resized
            else None,
        },
        "findings": _once(found for run in runs for found in run["findings"]),
        # every size that may have given an answer; a replay tries them all
        "shrunk_from": sorted(
            {
                rows
                for run in runs
                for rows in (*run.get("shrunk_from", ()), run["identity"]["batch_size"])
            }
            - {first["identity"]["batch_size"]}
        ),
        "starts": {key: value for run in runs for key, value in run.get("starts", {}).items()},
        "timings": timings,
        "judged_on": waivers.today().isoformat(),
        "provenance": first["provenance"]
        | {
            "started": min(run["provenance"]["started"] for run in runs),
            "finished": max(run["provenance"]["finished"] for run in runs),
            "merged": [
                {"run": str(directory.root), "shard": run["config"]["shard"]}
                | {key: run["provenance"].get(key) for key in ("started", "finished", "platform")}
                for directory, run in zip(shards, runs, strict=True)
            ],
        },
    }


def _replaced(
    shards: Sequence[RunDirectory], runs: Sequence[dict[str, Any]]
) -> list[dict[str, str]]:
    """Of a limited run, that images which could not be read were replaced shard by shard."""
    limit, images = runs[0]["config"]["limit"], runs[0]["images"]
    unread = sum(clean.sha256 is None for d in shards for clean in d.ledger().clean.values())
    if limit is None or limit >= images["count"] or not unread:
        return []
    detail = (
        f"{unread} image(s) could not be read; each was replaced by the next of its own shard, so "
        "that a run without shards may have other images"
    )
    return [finding("shards", "note", detail)]


def _once(found: Iterator[dict[str, str]]) -> list[dict[str, str]]:
    """Without repetitions, in order."""
    kept: list[dict[str, str]] = []
    for one in found:
        if one not in kept:
            kept.append(one)
    return kept


def _check_gates(run: dict[str, Any]) -> None:
    gates = gates_of(run["config"]["fail_under"], run["config"].get("gates", ()))
    check_planned(
        gates,
        [Phase.from_dict(stored) for stored in run["phases"]],
        [NaturalPhase.from_dict(stored) for stored in run.get("natural", ())],
        targeted=run["config"]["targeted"] is not None,
    )
    check_classes(gates, run["model"]["classes"])


def _link_files(source: Path, target: Path) -> None:
    """Every file below `source` below `target` too; lists in lines are put together."""

    def placed(origin: str, copy: str) -> str:
        if origin.endswith(".jsonl") and os.path.exists(copy):
            with open(origin, "rb") as more, open(copy, "ab") as file:
                shutil.copyfileobj(more, file)
        elif origin.endswith(".jsonl"):
            shutil.copyfile(origin, copy)
        elif not os.path.exists(copy):
            try:
                os.link(origin, copy)
            except OSError:  # another file system, or one without links
                shutil.copyfile(origin, copy)
        return copy

    if source.is_dir():
        shutil.copytree(source, target, copy_function=placed, dirs_exist_ok=True)
