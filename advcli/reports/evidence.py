"""Evidence of a finished run for an auditor, as files: name -> bytes. No model, no clock, no path
of this machine: the same run gives the same bytes.

evidence.md, .json     what was done, in force, tested and not tested; what it is relevant to
figures.md, .csv       the figures
images.csv             every image with the hash of its pixels
model-card.cdx.json    the model and its figures as a CycloneDX bill of materials
run.json, summary.json as the run has them
MANIFEST.sha256        of all of these, for `sha256sum -c`
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator
from typing import Any

from advcli.audit.journal import dumps
from advcli.audit.record import Answers, Record
from advcli.reports import csv_report, evidence_document, markdown, model_card
from advcli.reports.csv_report import guarded
from advcli.reports.evidence_mapping import SOURCES, requirements, techniques
from advcli.reports.evidence_scope import LIMITS, not_tested, tested

__all__ = ["MANIFEST", "evidence_files"]

MANIFEST = "MANIFEST.sha256"
_VERSIONS = ("advcli", "python", "tensorflow", "keras", "numpy", "pillow", "platform")


def evidence_files(record: Record) -> dict[str, bytes]:
    """Every file of the folder; the manifest is the last."""
    summary = record.summary
    facts = _facts(record)
    missing = [f"Not tested: {row['topic']}: {row['detail']}" for row in facts["not_tested"]]
    files = {
        "evidence.md": evidence_document.render(facts, summary).encode(),
        "evidence.json": dumps(facts, indent=2).encode() + b"\n",
        "figures.md": markdown.render(summary).encode(),
        "figures.csv": csv_report.render(summary).encode(),
        "images.csv": _images(record).encode(),
        "model-card.cdx.json": model_card.render(
            summary, record.sha256, [*LIMITS, *missing]
        ).encode(),
        **record.files,
    }
    lines = [f"{hashlib.sha256(data).hexdigest()}  {name}" for name, data in sorted(files.items())]
    return files | {MANIFEST: ("\n".join(lines) + "\n").encode()}


def _facts(record: Record) -> dict[str, Any]:
    run, summary = record.run, record.summary
    known = summary["provenance"]
    return {
        "schema_version": 1,
        "verdict": summary["verdict"],
        "exit_code": summary["exit_code"],
        "soundness": summary["soundness"]["verdict"],
        "test_log": {
            "started": known.get("started"),
            "finished": known.get("finished"),
            "command": known.get("command"),
            "folder": known.get("folder"),
            "device": summary["engine"]["device"],
            "seconds": summary["engine"]["seconds"],
            "phases": list(_phases(record)),
            "merged": known.get("merged"),
            "versions": {name: known[name] for name in _VERSIONS if name in known},
        },
        "configuration": run["config"],
        "model": summary["model"],
        "surrogate": run.get("surrogate"),
        "hashes": {
            "model": summary["model"]["sha256"],
            "run": record.sha256,
            "pixels": {line["image"]: line["sha256"] for line in record.images},
            "written": record.written,
        },
        "tested": tested(run, summary),
        "not_tested": not_tested(run, summary),
        "gates": summary["gates"],
        "findings": summary["soundness"]["findings"],
        "limits": list(LIMITS),
        "sources": SOURCES,
        "requirements": requirements(summary),
        "techniques": techniques(run["phases"], transfer=bool(run.get("surrogate"))),
    }


def _phases(record: Record) -> Iterator[dict[str, Any]]:
    """What was run, in order: `seconds` are null where the time was not kept."""
    timings = record.run["timings"]
    asked = [(phase["attack"], phase["norm"], phase["eps"]) for phase in record.run["phases"]]
    asked += [(threat["attack"], None, []) for threat in record.run.get("natural", ())]
    for attack, norm, eps in asked:
        timing = timings.get(f"{attack} {norm}") or timings.get(attack) or {}
        answers = record.answers.get((attack, norm), Answers())
        yield {
            "attack": attack,
            "norm": norm,
            "eps": eps,
            "seconds": timing.get("seconds"),
            "trace_seconds": timing.get("trace_seconds"),
            "model_seconds": timing.get("model_seconds"),
            "answers": answers.count,
            "errors": answers.errors,
        }


def _images(record: Record) -> str:
    """Every file that was looked at: `status` says whether it counts."""
    classes = record.summary["model"]["classes"]
    chosen = record.run["images"]["selected"]
    selected = None if chosen is None else set(chosen)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "sha256_of_pixels", "label", "class", "clean_prediction", "status"])
    for line in record.images:
        label = line["label"]
        name = classes[label] if label is not None and label < len(classes) else ""
        status = "evaluated"
        if line["sha256"] is None:
            status = f"not read: {line['error']}"
        elif selected is not None and line["image"] not in selected:
            status = "not counted: outside the sample"
        elif line["error"] is not None:
            status = f"error: {line['error']}"
        row = [line["image"], line["sha256"], label, name, line["clean_prediction"], status]
        writer.writerow(["" if value is None else guarded(value) for value in row])
    for skipped in record.run["images"]["skipped"]:
        writer.writerow(
            [guarded(skipped["file"]), "", "", "", "", guarded(f"skipped: {skipped['reason']}")]
        )
    return text.getvalue()
